"""Modulation transfer functions of sensors, modelled as Gaussians."""

from __future__ import annotations

import math


def mtf_sigma(gain: float, ratio: float) -> float:
    """Standard deviation of the Gaussian blur of a band, in fine pixels.

    Args:
        gain: the band's transfer at the coarse Nyquist frequency, between 0 and 1.
        ratio: fine pixels per coarse pixel along one axis.

    Returns:
        sigma with exp(-2 pi² sigma² f²) = gain at f = 1 / (2 ratio).
    """
    return ratio / math.pi * math.sqrt(-2 * math.log(gain))
