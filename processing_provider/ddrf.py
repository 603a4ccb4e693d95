"""DDRF as a Processing algorithm."""

from __future__ import annotations

from ..ui.translation import tr
from .fuse_algorithm import FuseAlgorithm


class DdrfAlgorithm(FuseAlgorithm):
    """Pansharpening with DDRF."""

    METHOD = "ddrf"

    def displayName(self) -> str:
        """The name in the toolbox."""
        return tr("Pansharpening with DDRF")

    def summary(self) -> str:
        """One paragraph on the method."""
        return tr(
            "Fuses a panchromatic (PAN) and a multispectral (MS) image with DDRF (Cao et al. 2023), "
            "a denoising diffusion model whose U-Net is steered at every scale by the wavelet "
            "detail of PAN and by the MS image."
        )
