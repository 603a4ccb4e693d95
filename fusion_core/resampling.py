"""Separable cubic resampling between pixel grids, half-pixel correct.

A resampling step is a matrix: one row of weights for each target sample.  Real scenes, the Wald protocol and the
synthetic scene all resample through these matrices, so a network is trained on exactly the interpolation it meets.
"""

from __future__ import annotations

import numpy as np

KEYS_A = -0.5
"""Free parameter of the cubic convolution kernel (Keys 1981, eq. 4); -0.5 makes it third-order accurate."""


def cubic_kernel(distance: np.ndarray) -> np.ndarray:
    """Cubic convolution kernel at ``distance`` source pixels (Keys 1981)."""
    d = np.abs(distance)
    near = ((KEYS_A + 2) * d - (KEYS_A + 3)) * d * d + 1
    far = ((KEYS_A * d - 5 * KEYS_A) * d + 8 * KEYS_A) * d - 4 * KEYS_A
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def cubic_matrix(positions: np.ndarray, size: int, stretch: float = 1.0) -> np.ndarray:
    """Weights that take ``size`` source samples to the given positions.

    Args:
        positions: target sample positions in source pixels, pixel centres being whole numbers, shape (n,).
        size: number of source samples; positions beyond the ends use the edge sample.
        stretch: widens the kernel, for targets coarser than the source by that factor (antialiasing); at least 1.

    Returns:
        float64 array (n, size) whose rows sum to 1; a position on a whole number gives an exact unit row.
    """
    positions = np.asarray(positions, dtype=np.float64)
    stretch = max(1.0, float(stretch))
    reach = int(np.ceil(2 * stretch))
    first = np.floor(positions).astype(np.int64) - reach + 1
    taps = first[:, None] + np.arange(2 * reach)
    weights = cubic_kernel((taps - positions[:, None]) / stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((len(positions), size))
    rows = np.broadcast_to(np.arange(len(positions))[:, None], taps.shape)
    np.add.at(matrix, (rows, np.clip(taps, 0, size - 1)), weights)
    return matrix


def upsampling_positions(count: int, ratio: int, first: int = 0) -> np.ndarray:
    """Positions of fine pixels ``first .. first + count - 1`` on a coarse grid of ``ratio`` fine pixels a pixel."""
    return (np.arange(first, first + count) - (ratio - 1) / 2) / ratio
