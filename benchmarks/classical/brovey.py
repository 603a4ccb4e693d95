"""Brovey: every band in proportion to PAN."""

from __future__ import annotations

import numpy as np

from fusion_core.quality.mtf_glp import FLAT, modulated
from fusion_core.sensors import MS_GAIN

from .pair import Pair


def brovey(pair: Pair) -> np.ndarray:
    """LMS * P / I, I the mean of the bands and P PAN matched to it; (C, H, W).

    Gillespie et al., Remote Sensing of Environment 22(3), 1987.
    """
    intensity = pair.lms.mean(axis=0, keepdims=True)
    smooth = pair.enlarged(pair.seen((MS_GAIN,)))
    contrast = smooth.std()
    gain = intensity.std() / contrast if contrast > FLAT * abs(smooth.mean()) else 0.0
    matched = (pair.pan - smooth.mean()) * gain + intensity.mean()
    return modulated(pair.lms, matched, intensity)
