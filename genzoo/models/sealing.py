"""What config.json records of a saved folder: digests of the weights and of the fitted prior, and its own checksum."""

import json
import warnings
from pathlib import Path

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


def warn_of_changes(folder: Path) -> None:
    """Warns of each file of a saved model that is not what was saved. A folder without records brings no warning."""
    content = read_json(folder / CONFIG)
    recorded = content.get(FILES)
    changed = [] if as_written(content) else [CONFIG]
    for name, expected in recorded.items() if isinstance(recorded, dict) else ():
        path = folder / Path(name).name
        if path.is_file() and digest(path, HASH) != expected:
            changed.append(name)
        if name == FITTED_PRIOR and not path.exists():
            warnings.warn(
                f"{path} is missing, with which the model was saved: samples are drawn from the model's own prior. "
                f"To have those of the fitted one, {AGAIN}.",
                stacklevel=2,
            )
    if changed:
        warnings.warn(
            f"{', '.join(changed)} in {folder} is damaged, or was replaced after the model was saved: {AGAIN}.",
            stacklevel=2,
        )
