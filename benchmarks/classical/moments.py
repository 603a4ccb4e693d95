"""Means and covariances of whole images, band by band."""

from __future__ import annotations

import numpy as np


def mean(image: np.ndarray) -> np.ndarray:
    """Mean of each band of an image (C, H, W), as (C, 1, 1)."""
    return image.mean(axis=(1, 2), keepdims=True)


def covariance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Covariance of the bands of two images (C or 1, H, W) with one another, as (C, 1, 1)."""
    return mean((one - mean(one)) * (other - mean(other)))


def slope(values: np.ndarray, on: np.ndarray, per: np.ndarray | None = None) -> np.ndarray:
    """Covariance of ``values`` and ``on`` divided by that of ``per`` and ``on``, 0 where the latter vanishes.

    Args:
        values: (C, H, W).
        on: (C or 1, H, W).
        per: (C or 1, H, W), ``on`` itself if None: the regression slope of ``values`` on ``on``.

    Returns:
        (C, 1, 1).
    """
    other = on if per is None else per
    spread = covariance(other, on)
    # Rounding alone gives a constant image a spread of about 1e-32 times the square of its level.
    flat = np.abs(spread) <= 1e-18 * np.abs(mean(other) * mean(on))
    return np.where(flat, 0, covariance(values, on) / np.where(flat, 1, spread))
