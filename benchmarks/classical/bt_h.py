"""BT-H: Brovey with haze correction."""

from __future__ import annotations

import numpy as np

from fusion_core.bands import canonical_band
from fusion_core.quality.mtf_glp import modulated

from .pair import Pair

HAZE_SHARE = {"blue": 0.95, "green": 0.45, "red": 0.40, "nir": 0.05}
"""Of a band's first percentile, for sensors with just these bands; path radiance falls with the wavelength."""


def bt_h(pair: Pair) -> np.ndarray:
    """(LMS - haze) * (PAN - haze of PAN) / (I - haze of PAN) + haze, I a regression of PAN on MS; (C, H, W).

    Lolli et al., IEEE Geoscience and Remote Sensing Letters 14(12), 2017.
    """
    haze = _haze(pair)
    constant, weights = pair.panchromatic_weights[0], pair.panchromatic_weights[1:]
    intensity = constant + np.tensordot(weights, pair.lms, axes=1)[None]
    dark = constant + weights @ haze[:, 0, 0]
    return modulated(pair.lms - haze, pair.pan - dark, intensity - dark) + haze


def _haze(pair: Pair) -> np.ndarray:
    """The level of black ground in each band (C, 1, 1)."""
    names = [canonical_band(name) for name in pair.band_names]
    if sorted(names) == sorted(HAZE_SHARE):
        share = np.array([HAZE_SHARE[name] for name in names])[:, None, None]
        return share * np.percentile(pair.lms, 1, axis=(1, 2), keepdims=True)
    return pair.lms.min(axis=(1, 2), keepdims=True)
