"""Relative dimensionless global error in synthesis."""

from __future__ import annotations

import numpy as np

from .images import as_pair, valid_pixels


def ergas(
    reference: np.ndarray, fused: np.ndarray, ratio: float, mask: np.ndarray | None = None
) -> float:
    """ERGAS = 100 / ratio * sqrt(mean over bands of (RMSE / mean)^2); 0 is best (Wald 2000).

    Args:
        reference: true image (C, H, W).
        fused: image under test (C, H, W).
        ratio: PAN pixels per MS pixel along an axis.
        mask: pixels to use (H, W), None for all.

    Raises:
        FusionError: the shapes differ or no pixel is valid.
    """
    reference, fused = as_pair(reference, fused)
    valid = valid_pixels(mask, reference, fused)
    x, y = reference[:, valid], fused[:, valid]
    squared = ((x - y) ** 2).mean(axis=1)
    level = x.mean(axis=1) ** 2
    dark = level == 0
    if dark.any():
        # A band of mean 0 has no relative error; it counts only if it was reproduced exactly.
        squared, level = np.where(dark & (squared > 0), np.inf, squared), np.where(dark, 1, level)
    return float(100 / ratio * np.sqrt((squared / level).mean()))
