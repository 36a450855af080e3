"""What a shared folder holds: nothing private, and all that is needed to load and understand the model."""

import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from diffusers.utils.constants import SAFE_WEIGHTS_INDEX_NAME, SAFETENSORS_WEIGHTS_NAME

from genzoo import __version__, hub, plugins
from genzoo.errors import UsageError
from genzoo.files import write_text
from genzoo.fitted import FILE as FITTED_PRIOR
from genzoo.models.saved import VERSION, with_variant
from genzoo.models.sources import find_config

if TYPE_CHECKING:
    from genzoo.models.generative import Generative

PRIVATE = ("_name_or_path", "_commit_hash")  # diffusers' keys of where a model was read from
DISTRIBUTION = "_distribution"  # key of the distribution that a plugin's model needs


def shared_config(text: str, cls: type) -> str:
    """Returns a config.json without local paths, with genzoo's version and the distribution of a plugin's class."""
    config = {key: value for key, value in json.loads(text).items() if key not in PRIVATE} | {VERSION: __version__}
    if (name := distribution_of(cls)) is not None:
        config[DISTRIBUTION] = name
    return json.dumps(config, indent=2, sort_keys=True) + "\n"


def distribution_of(cls: type) -> str | None:
    """Names the distribution that offers a model from the package of this class; None where none does."""
    package = cls.__module__.partition(".")[0]
    for points in plugins.offers(plugins.MODELS).values():
        for point in points:
            if point.dist is not None and point.module.partition(".")[0] == package:
                return point.dist.name
    return None


def needed_distribution(config: dict[str, object]) -> str | None:
    """Reads the distribution that a config.json names, if it is the name of one."""
    name = config.get(DISTRIBUTION)
    return name if isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9._-]{1,100}", name) else None


def write_beside(model: "Generative", folder: Path, card: str | None, variant: str | None) -> None:
    """Writes fitted prior and card beside the weights, and removes what an earlier save left there."""
    from genzoo.models.card import default_card

    _drop_stale_weights(folder, variant)
    if model.fitted_prior is not None:
        model.fitted_prior.save(folder / FITTED_PRIOR)
    else:
        (folder / FITTED_PRIOR).unlink(missing_ok=True)
    write_text(folder / "README.md", card or default_card(model))


def _drop_stale_weights(folder: Path, variant: str | None) -> None:
    """Of weights in one file and in parts, keeps those that were written last: diffusers leaves the others.

    It removes the parts of an earlier save, so that an index whose parts are missing is an old one.
    """
    index, single = (
        folder / with_variant(name, variant) for name in (SAFE_WEIGHTS_INDEX_NAME, SAFETENSORS_WEIGHTS_NAME)
    )
    if index.is_file():
        parts = set(json.loads(index.read_bytes())["weight_map"].values())
        complete = all((folder / name).is_file() for name in parts)
        (single if complete else index).unlink(missing_ok=True)


def upload(
    model: "Generative", repo_id: str, folder: str | Path | None, private: bool | None, token: str | None
) -> str:
    """See `Generative.push_to_hub`."""
    from huggingface_hub import HfApi

    if not hub.is_id(repo_id):
        raise UsageError(f"{repo_id!r} is not a repository of the hub: write owner/name.")
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            model.save_pretrained(temporary)
            return upload(model, repo_id, temporary, private, token)
    if not Path(folder).expanduser().is_dir():
        raise UsageError(f"{folder} is not a folder: give a save_pretrained folder or a run folder.")
    source, _ = find_config(folder)
    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    commit_message = f"Upload {type(model).__name__}"
    return str(api.upload_folder(repo_id=repo_id, folder_path=source, commit_message=commit_message))
