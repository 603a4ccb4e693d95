"""SSDiff as a Processing algorithm."""

from __future__ import annotations

from ..ui.translation import marked
from .fuse_algorithm import FuseAlgorithm


class SsdiffAlgorithm(FuseAlgorithm):
    """Pansharpening with SSDiff."""

    NAME = "ssdiff"
    TITLE = marked("Pansharpening with SSDiff")
    HELP = (
        marked(
            "Fuses a panchromatic (PAN) and a multispectral (MS) image with SSDiff (Zhong et al. "
            "2024), a diffusion model that treats pansharpening as a subspace decomposition: one "
            "branch of the network follows the spatial detail of PAN, the other the spectra of MS."
        ),
        *FuseAlgorithm.HELP,
    )
