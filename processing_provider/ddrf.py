"""DDRF as a Processing algorithm."""

from __future__ import annotations

from ..ui.translation import marked
from .fuse_algorithm import FuseAlgorithm


class DdrfAlgorithm(FuseAlgorithm):
    """Pansharpening with DDRF."""

    NAME = "ddrf"
    TITLE = marked("Pansharpening with DDRF")
    HELP = (
        marked(
            "Fuses a panchromatic (PAN) and a multispectral (MS) image with DDRF (Cao et al. 2023), "
            "a denoising diffusion model whose U-Net is steered at every scale by the wavelet "
            "detail of PAN and by the MS image."
        ),
        *FuseAlgorithm.HELP,
    )
