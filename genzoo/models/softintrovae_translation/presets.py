"""The networks' settings and the presets of Soft-IntroVAE with two encoders; the objective's options are its own."""

from typing import Annotated

from pydantic import Field

from genzoo.spec import ArchConfig, Preset, config


@config
class TranslationArch(ArchConfig):
    """The networks: two encoders of the kind that `encoder` names, and a decoder whose blocks the class modulates."""

    z_class: Annotated[
        int | None,
        Field(gt=0, le=2**20, description="how many of z_dim are the class, the rest is the content; none: half"),
    ] = None

    @property
    def class_size(self) -> int:
        """How many of the latent's numbers are the class."""
        return self.z_dim // 2 if self.z_class is None else self.z_class


OURS = (
    "ours: the authors published neither code nor settings of their image translation; class and content latents have "
    "the sizes of LORD (Gabbay & Hoshen, ICLR 2020), the networks and weights are by Soft-IntroVAE's tables and rules"
)


def _images(data: str) -> Preset:
    return Preset(
        data={"size": (64, 64)},
        arch={"z_dim": 384, "z_class": 256, "channels": (64, 128, 256, 512)},
        objective={"beta_kl": 1, "beta_rec": 1, "beta_neg": 512},
        train={"batch": 32, "duration": "250ep", "ema": 0.0},
        source=OURS,
        deviations="not found: resolution, sizes of the latents, networks, weights and length of the paper's training; "
        + data,
    )


PRESETS = {
    "toyfaces32": Preset(
        data={"name": "toyfaces", "size": (32, 32)},
        arch={"z_dim": 32, "channels": (16, 32, 64)},
        objective={"beta_kl": 0.1, "beta_rec": 1, "beta_neg": 32, "warmup": "18k"},
        train={"batch": 16, "lr": 5e-4, "duration": "32k", "ema": 0.995},
        source="ours: the quick start",
    ),
    "cars3d": _images("Cars3D is on no hub: give --data FOLDER"),
    "kth": _images("which frames of KTH; they are on no hub and gray: give --data FOLDER --set data.channels=1"),
}
