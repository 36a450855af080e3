"""What config.json records of a saved folder: digests of the weights and of the fitted prior, and its own checksum."""

import json
import warnings
from pathlib import Path

from genzoo.errors import UsageError
from genzoo.files import as_written, digest, sealed, write_text
from genzoo.fitted import FILE as FITTED_PRIOR
from genzoo.models.saved import AGAIN, read_json
from genzoo.models.sources import CONFIG

FILES, HASH = "_files", "blake2b"  # key of the digests by file name


def seal(folder: Path) -> None:
    """Records in config.json what the folder holds."""
    content = read_json(folder / CONFIG)
    content[FILES] = {path.name: digest(path, HASH) for path in sorted(folder.glob("*.safetensors"))}
    write_text(folder / CONFIG, json.dumps(sealed(content), indent=2, sort_keys=True) + "\n")


def is_intact(folder: Path) -> bool:
    """Whether a folder holds a model as it was saved, as far as its records say."""
    try:
        return any(folder.glob("*.safetensors")) and not any(_changed(folder))
    except UsageError:  # there is no config.json, or none that can be read
        return False


def warn_of_changes(folder: Path) -> None:
    """Warns of each file of a saved model that is not what was saved. A folder without records brings no warning."""
    changed, missing = _changed(folder)
    if FITTED_PRIOR in missing:
        warnings.warn(
            f"{folder / FITTED_PRIOR} is missing, with which the model was saved: samples are drawn from the model's "
            f"own prior. To have those of the fitted one, {AGAIN}.",
            stacklevel=2,
        )
    if changed:
        warnings.warn(
            f"{', '.join(changed)} in {folder} is damaged, or was replaced after the model was saved: {AGAIN}.",
            stacklevel=2,
        )


def _changed(folder: Path) -> tuple[list[str], list[str]]:
    """Names the files that are not what was saved, and those that are missing."""
    content = read_json(folder / CONFIG)
    recorded = content.get(FILES)
    paths = {folder / Path(name).name: value for name, value in recorded.items()} if isinstance(recorded, dict) else {}
    damaged = [path.name for path, expected in paths.items() if path.is_file() and digest(path, HASH) != expected]
    missing = [path.name for path in paths if not path.exists()]
    return [*([] if as_written(content) else [CONFIG]), *damaged], missing
