"""Spatial distortion by regression, without a reference."""

from __future__ import annotations

import numpy as np

from ..errors import FusionError
from .images import valid_pixels


def d_sr(fused: np.ndarray, pan: np.ndarray, mask: np.ndarray | None = None) -> float:
    """1 - R^2 of the regression (with intercept) of PAN on the fused bands; 0 is best (Alparone et al. 2018).

    Args:
        fused: fused image (C, H, W).
        pan: panchromatic image (1, H, W).
        mask: pixels to use (H, W), None for all.

    Raises:
        FusionError: the sizes differ or no pixel is valid.
    """
    if pan.shape[1:] != fused.shape[1:]:
        raise FusionError(
            f"PAN of {pan.shape[1:]} pixels and a fused image of {fused.shape[1:]} cannot be compared: "
            "give both on one grid."
        )
    valid = valid_pixels(mask, fused, pan)
    bands = np.asarray(fused, np.float64)[:, valid]
    bands = bands - bands.mean(axis=1, keepdims=True)
    target = np.asarray(pan[0], np.float64)[valid]
    target = target - target.mean()
    total = float(target @ target)
    if total == 0:
        return 0.0
    weights = np.linalg.lstsq(bands @ bands.T, bands @ target, rcond=None)[0]
    rest = target - weights @ bands
    return float(rest @ rest) / total
