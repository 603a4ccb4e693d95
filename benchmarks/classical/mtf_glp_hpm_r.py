"""MTF-GLP-HPM-R: Laplacian pyramid with high-pass modulation by regression."""

from __future__ import annotations

import numpy as np

from fusion_core.quality.mtf_glp import modulated

from .moments import mean, slope
from .pair import Pair


def mtf_glp_hpm_r(pair: Pair) -> np.ndarray:
    """LMS * P / L, PAN and PAN seen by the band, both brought to the band by the regression of LMS on the latter; (C, H, W).

    Vivone et al., IEEE Geoscience and Remote Sensing Letters 15(5), 2018.  A band that falls where PAN rises takes no
    detail: modulation can only follow PAN.
    """
    gain = np.maximum(slope(pair.lms, pair.smooth), 0)
    level, target = mean(pair.smooth), mean(pair.lms)
    sharp, smooth = ((image - level) * gain + target for image in (pair.pan, pair.smooth))
    return modulated(pair.lms, sharp, smooth)
