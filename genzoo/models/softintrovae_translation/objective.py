"""Soft-IntroVAE with two encoders (Daniel & Tamar, CVPR 2021, their application to image translation): its objective
on the joined posterior, whose KL is the sum of both encoders'.
"""

from torch import nn

from genzoo.errors import UsageError
from genzoo.models.softintrovae.objective import SoftIntroVAE, SoftIntroVAEObjective
from genzoo.models.softintrovae_translation.presets import TranslationArch
from genzoo.models.translating import Translating
from genzoo.nn.adain import build_adain_decoder, build_two_encoders

__all__ = ["SoftIntroVAEObjective", "SoftIntroVAETranslation"]


class SoftIntroVAETranslation(Translating, SoftIntroVAE):
    """A class encoder, a content encoder, and a decoder of z = [class, content]: the content becomes the smallest map,
    the class modulates the blocks by AdaIN. Nothing but this asymmetry tells the two apart: training is unsupervised.
    """

    model_name = "softintrovae-translation"
    arch_class = TranslationArch
    arch: TranslationArch
    learns_prior = False
    passes_labels = False

    @property
    def z_class(self) -> int:
        return self.arch.class_size

    def networks(self) -> dict[str, nn.Module]:
        if not self.is_image:
            raise UsageError(
                f"{self.model_name} decodes a map, and these data are vectors {self.shape}: give images, or train "
                "softintrovae."
            )
        if not 0 < self.z_class < self.arch.z_dim:
            raise UsageError(
                f"arch.z_class={self.z_class} of arch.z_dim={self.arch.z_dim} leaves one encoder nothing: set "
                "arch.z_class between them, arch.z_dim to 2 or more."
            )
        return {
            "encoder": build_two_encoders(self.shape, self.arch, self.z_class),
            "decoder": build_adain_decoder(self.shape, self.arch, self.z_class),
        }
