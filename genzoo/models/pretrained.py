"""Saving, loading and sharing of models, in the format and with the names of diffusers."""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin

from genzoo.files import apply_umask
from genzoo.fitted import FittedPrior, load_fitted
from genzoo.models.loading import read_model
from genzoo.models.options import LoadOptions, check_saving
from genzoo.models.sealing import seal, warn_of_changes
from genzoo.models.sharing import shared_config, upload, write_beside
from genzoo.models.sources import CONFIG, find_config, find_prior

if TYPE_CHECKING:
    from genzoo.models.generative import Generative


class Pretrained(ModelMixin, ConfigMixin):
    """What a model does with files and the hub. Nothing is read or written with pickle."""

    fitted_prior: FittedPrior | None = None  # what `sample` draws from, where there is one; saved with the model

    config_name = CONFIG

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Of one latent."""
        raise NotImplementedError

    def save_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]  (one format)
        self, save_directory: str | os.PathLike, is_main_process: bool = True, *, card: str | None = None, **kwargs: Any
    ) -> None:
        """Writes config.json, the weights and a fitted prior as safetensors, and a model card.

        Args:
            save_directory: a folder, which is created if need be.
            is_main_process: as in diffusers.
            card: the text of the model card; None for a short one from the config.
            **kwargs: `variant` and `max_shard_size`, as in diffusers.

        Raises:
            UsageError: the path is a file, an unknown keyword, or one that asks for pickle files.
        """
        check_saving(save_directory, kwargs)
        super().save_pretrained(save_directory, is_main_process, **kwargs)
        write_beside(cast("Generative", self), Path(save_directory), card, kwargs.get("variant"))
        if is_main_process:
            seal(Path(save_directory))
        apply_umask(*Path(save_directory).glob("*.safetensors"))

    def to_json_string(self) -> str:
        """Returns the text of config.json, without the path that the model was read from."""
        return shared_config(super().to_json_string(), type(self))

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]  (a path is required)
        cls, path: str | os.PathLike, **kwargs: Any
    ) -> Self:
        """Reads a model in eval mode from a `save_pretrained` folder, a run folder, or the hub (`owner/name`); never
        with pickle.

        All weights must be those of config.json, by name and shape; those that are not finite bring a warning, and so
        does a file that has changed since it was saved.

        Args:
            path: a folder or a hub id.
            **kwargs: `subfolder`, `variant`, `torch_dtype`, `device_map` (one device), `revision`, `token`,
                `cache_dir` and `local_files_only`, as in diffusers.

        Raises:
            UsageError: nothing loadable there, a damaged file, a model of another class, or an unknown keyword; the
                message says what is missing.
        """
        return cls.read(find_config(path, **kwargs)[0], **kwargs)

    @classmethod
    def read(cls, source: str, **kwargs: Any) -> Self:
        """Reads a model from the folder or hub id that `find_config` returned."""
        options = LoadOptions.of(kwargs)
        model = read_model(cls, source, options)
        if (path := find_prior(source, options)) is not None:
            model.fitted_prior = load_fitted(path, math.prod(model.latent_shape))
        if os.path.isdir(source):
            warn_of_changes(Path(source))
        return model

    def push_to_hub(  # pyright: ignore[reportIncompatibleMethodOverride]  (uploads a folder, with its card)
        self,
        repo_id: str,
        folder: str | Path | None = None,
        private: bool | None = None,
        token: str | None = None,
    ) -> str:
        """Uploads a model folder with its card, by default this model saved to a temporary one; returns the commit's
        address.

        Args:
            repo_id: `owner/name`.
            folder: a `save_pretrained` folder or a run folder, of which only `model/` is uploaded.
            private: whether a new repository is private; None: the owner's default.
            token: of the hub.

        Raises:
            UsageError: the folder holds no model, or `repo_id` is none.
        """
        return upload(cast("Generative", self), repo_id, folder, private, token)
