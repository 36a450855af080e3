"""The thing that is trained, saved and shared: an encoder and a decoder, with the interface of diffusers' autoencoders."""

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from pydantic import TypeAdapter
from torch import Tensor, nn

from genzoo import hub
from genzoo.errors import UsageError
from genzoo.losses import kl_to_prior, reparameterize, sse
from genzoo.nn import build_decoder, build_encoder
from genzoo.nn.checkpointing import checkpointed
from genzoo.spec import ArchConfig


@dataclass(frozen=True)
class Posterior:
    """The diagonal Gaussian N(mean, exp(logvar)) over flat latents, [N, Z]; diffusers' own class wants [N, Z, 1, 1] and clamps logvar."""

    mean: Tensor
    logvar: Tensor

    @property
    def std(self) -> Tensor:
        return torch.exp(0.5 * self.logvar)

    def mode(self) -> Tensor:
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draws one latent per item, [N, Z]; `generator` lives on the CPU."""
        eps = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype).to(self.mean.device)
        return reparameterize(self.mean, self.logvar, eps)

    def kl(self) -> Tensor:
        """KL to the prior N(0, I) in nats, [N]."""
        return kl_to_prior(self.mean, self.logvar)


class Autoencoder(ModelMixin, ConfigMixin):
    """Base of every model: networks `encoder` and `decoder`, data in [0, 1] (images, [N, C, H, W]) or points ([N, D])."""

    config_name = "config.json"
    _supports_gradient_checkpointing = True  # diffusers' switch; a property of a run, never saved with the model

    @register_to_config
    def __init__(
        self,
        preset: str = "",  # the registry's `model.preset`: which class reads the folder back, and where the settings come from
        shape: tuple[int, ...] = (3, 32, 32),  # of one item: (C, H, W) or (D,)
        arch: Mapping[str, Any] | None = None,  # fields of genzoo.spec.ArchConfig
    ):
        super().__init__()
        self.shape = tuple(shape)
        self.arch = TypeAdapter(ArchConfig).validate_python(dict(arch or {}))
        self.encoder = build_encoder(self.shape, self.arch)
        self.decoder = build_decoder(self.shape, self.arch)
        if self.arch.pretrained:  # what is saved has weights of its own, and loads without timm's hub
            self.register_to_config(arch={**self.config.arch, "pretrained": False})

    @property
    def is_image(self) -> bool:
        return len(self.shape) == 3

    def enable_gradient_checkpointing(self, gradient_checkpointing_func: Callable[[nn.Module, Tensor], Tensor] = checkpointed) -> None:
        """Lets the conv networks keep fewer activations and compute them again in backward; see `genzoo.nn.checkpointing`.

        Raises:
            UsageError: the model has no such network.
        """
        if not any(hasattr(net, "gradient_checkpointing") for net in self.modules()):
            raise UsageError("train.checkpointing needs a conv network, and this model has none: set train.checkpointing=false.")
        super().enable_gradient_checkpointing(gradient_checkpointing_func)

    def encode(self, x: Tensor) -> AutoencoderKLOutput:
        """Encodes [N, *shape] to a posterior: `encode(x).latent_dist.mean` is [N, Z].

        Raises:
            ValueError: x has another shape.
        """
        if tuple(x.shape[1:]) != self.shape:
            raise UsageError(f"This model takes items of shape {self.shape} and got {tuple(x.shape[1:])}: resize or convert them first.")
        return AutoencoderKLOutput(latent_dist=Posterior(*self.encoder(x)))

    def decode(self, z: Tensor) -> DecoderOutput:
        """Decodes [N, Z] to `.sample`: [N, *shape], not clamped (the decoder has no output activation)."""
        return DecoderOutput(sample=self.decoder(z))

    def forward(self, x: Tensor) -> DecoderOutput:
        """Reconstructs from the posterior's mode."""
        return self.decode(self.encode(x).latent_dist.mode())

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Decodes n draws of the prior: [n, *shape], images clamped to [0, 1]; `generator` lives on the CPU."""
        return self._shown(self.decoder(torch.randn(n, self.arch.z_dim, generator=generator).to(self.device, self.dtype)))

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Encodes and decodes [N, *shape] through the posterior's mode; images clamped to [0, 1]."""
        return self._shown(self(x).sample)

    @torch.no_grad()
    def interpolate(self, a: Tensor, b: Tensor, steps: int = 9) -> Tensor:
        """Walks from a to b, linearly in z as in IntroVAE's Figure 6: two [N, *shape] -> [N, steps, *shape], ends included."""
        ends = [self.encode(x).latent_dist.mode() for x in (a, b)]
        z = torch.stack([torch.lerp(*ends, weight) for weight in torch.linspace(0, 1, steps).tolist()], dim=1)
        return self._shown(self.decoder(z.flatten(0, 1))).unflatten(0, z.shape[:2])

    @torch.no_grad()
    def score(self, x: Tensor) -> dict[str, Tensor]:
        """What the encoder thinks of each item, without noise: `kl` (nats, the introspective score) and `sse`, [N] each."""
        posterior = self.encode(x).latent_dist
        return {"kl": posterior.kl(), "sse": sse(x, self.decoder(posterior.mode()))}

    def _shown(self, x: Tensor) -> Tensor:
        return x.clamp(0, 1) if self.is_image else x

    def save_pretrained(self, save_directory: str | os.PathLike, card: str | None = None, **kwargs: Any) -> None:
        """Writes config.json, the weights as safetensors, and a model card (`card`, or a short one made from the config)."""
        from genzoo.models.card import default_card

        super().save_pretrained(save_directory, **kwargs)
        (Path(save_directory) / "README.md").write_text(card or default_card(self))

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike, **kwargs: Any) -> "Autoencoder":
        """Reads a model from a `save_pretrained` folder, a run folder, or the hub (`owner/name`); never with pickle.

        Raises:
            UsageError: nothing loadable there; the message says what is missing.
        """
        folder, _ = find_config(path, **kwargs)
        return super().from_pretrained(folder, **({"use_safetensors": True, "low_cpu_mem_usage": False} | kwargs))

    def push_to_hub(
        self, repo_id: str, folder: str | os.PathLike | None = None, private: bool | None = None, token: str | None = None
    ) -> str:
        """Uploads a `save_pretrained` folder (or this model, saved to a temporary one) with its model card; returns the commit's address."""
        from huggingface_hub import HfApi

        if folder is None:
            with tempfile.TemporaryDirectory() as temporary:
                self.save_pretrained(temporary)
                return self.push_to_hub(repo_id, temporary, private, token)
        api = HfApi(token=token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        return str(api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=f"Upload {type(self).__name__}"))


def find_config(path: str | os.PathLike, **kwargs: Any) -> tuple[str, str]:
    """Finds what `from_pretrained` should read: (folder or hub id, path of its config.json).

    A run folder stands for its `model/`. A missing folder is never taken for a hub id and retried.
    """
    folder = Path(path).expanduser()
    for candidate in (folder, folder / "model"):
        if (candidate / "config.json").is_file():
            return str(candidate), str(candidate / "config.json")
    if folder.exists():
        raise UsageError(f"{path} holds no model yet (no config.json, no model/): is the run still before its first snapshot?")
    if not hub.is_id(str(path)):
        raise UsageError(f"{path} does not exist: give a run folder, a save_pretrained folder or a hub id (owner/name).")
    return str(path), hub.download(str(path), "config.json", revision=kwargs.get("revision"), token=kwargs.get("token"))
