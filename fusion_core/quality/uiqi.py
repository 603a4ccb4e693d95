"""Universal image quality index."""

from __future__ import annotations

import numpy as np

from .blocks import cut_blocks, usable_blocks
from .images import as_pair, valid_pixels


def uiqi(
    first: np.ndarray, second: np.ndarray, block: int = 32, mask: np.ndarray | None = None
) -> np.ndarray:
    """Q = 4 cov mean_x mean_y / ((var_x + var_y) (mean_x^2 + mean_y^2)) per band, 1 is best (Wang and Bovik 2002).

    Means over non-overlapping blocks; symmetric in its images.

    Args:
        first: image (C, H, W).
        second: image (C, H, W).
        block: side of a block in pixels, at most the image's smaller side; blocks are mirrored where they pass the
            edge.
        mask: pixels to use (H, W), None for all; blocks less than half valid are left out.

    Returns:
        Index of each band, (C,).

    Raises:
        FusionError: the shapes differ or no pixel is valid.
    """
    first, second = as_pair(first, second)
    valid = valid_pixels(mask, first, second)
    block = min(block, *valid.shape)
    weights = cut_blocks(valid[None].astype(np.float64), block)
    usable = usable_blocks(weights)
    weights = weights[usable]
    x, y = (cut_blocks(np.where(valid, image, 0), block)[usable] for image in (first, second))
    count = weights.sum(axis=2)
    mean_x, mean_y = (weights * x).sum(axis=2) / count, (weights * y).sum(axis=2) / count
    dx, dy = weights * (x - mean_x[..., None]), weights * (y - mean_y[..., None])
    freedom = np.maximum(count - 1, 1)
    covariance = (dx * dy).sum(axis=2) / freedom
    variances = ((dx * dx).sum(axis=2) + (dy * dy).sum(axis=2)) / freedom
    levels = mean_x**2 + mean_y**2
    # Flat blocks have no contrast to compare, black ones no level: the other factor decides.
    contrast = np.divide(2 * covariance, variances, out=np.ones_like(levels), where=variances > 0)
    level = np.divide(2 * mean_x * mean_y, levels, out=np.ones_like(levels), where=levels > 0)
    return (contrast * level).mean(axis=0)


def uiqi_mean(
    reference: np.ndarray, fused: np.ndarray, block: int = 32, mask: np.ndarray | None = None
) -> float:
    """Mean of ``uiqi`` over the bands."""
    return float(uiqi(reference, fused, block, mask).mean())
