"""The Wald protocol: what a sensor with lower resolution would have seen.

Wald et al., Photogrammetric Engineering & Remote Sensing 63(6), 1997; MTF-matched filters after Aiazzi et al., 2006.
"""

from __future__ import annotations

import numpy as np


def gaussian_matrix(positions: np.ndarray, size: int, sigma: float) -> np.ndarray:
    """Weights of Gaussian samples at ``positions`` of a line of ``size`` pixels.

    Args:
        positions: sample centres in pixels, pixel centres being whole numbers, (n,).
        size: pixels of the line; what reaches beyond it is left out.
        sigma: standard deviation in pixels, above 0.

    Returns:
        float64 (n, size), rows sum to 1.
    """
    distance = np.arange(size)[None, :] - np.asarray(positions, dtype=np.float64)[:, None]
    # Subtracting the nearest pixel's distance keeps narrow Gaussians from underflowing everywhere.
    exponent = -0.5 * (distance / sigma) ** 2
    weights = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def block_centres(count: int, ratio: int, shift: float = 0.0) -> np.ndarray:
    """Fine coordinates of the centres of ``count`` blocks of ``ratio`` pixels, moved by ``shift`` fine pixels."""
    return ratio * np.arange(count) + (ratio - 1) / 2 + shift
