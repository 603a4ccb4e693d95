"""SSDiff as a Processing algorithm."""

from __future__ import annotations

from ..ui.translation import tr
from .fuse_algorithm import FuseAlgorithm


class SsdiffAlgorithm(FuseAlgorithm):
    """Pansharpening with SSDiff."""

    METHOD = "ssdiff"

    def displayName(self) -> str:
        """The name in the toolbox."""
        return tr("Pansharpening with SSDiff")

    def summary(self) -> str:
        """One paragraph on the method."""
        return tr(
            "Fuses a panchromatic (PAN) and a multispectral (MS) image with SSDiff (Zhong et al. "
            "2024), a diffusion model that treats pansharpening as a subspace decomposition: one "
            "branch of the network follows the spatial detail of PAN, the other the spectra of MS."
        )
