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


def cubic_taps(
    positions: np.ndarray, size: int | None, stretch: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """The source samples, and their weights, that make up samples at the given positions.

    Args:
        positions: target positions in source samples, sample centres being whole numbers, shape (n,).
        size: number of source samples, taps beyond the ends use the edge sample; None for a source without ends.
        stretch: widens the kernel, for targets coarser than the source by that factor (antialiasing); at least 1.

    Returns:
        Taps int64 (n, k) in 0 .. size - 1, if there is a size, and weights float64 (n, k), each row summing to 1; a position on a whole number
        gives that sample all the weight.
    """
    positions = np.asarray(positions, dtype=np.float64)
    reach = int(np.ceil(2 * stretch))
    taps = np.floor(positions).astype(np.int64)[:, None] + np.arange(1 - reach, reach + 1)
    weights = cubic_kernel((taps - positions[:, None]) / stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    return taps if size is None else np.clip(taps, 0, size - 1), weights


def cubic_matrix(positions: np.ndarray, size: int, stretch: float = 1.0) -> np.ndarray:
    """The same as ``cubic_taps`` as a matrix, float64 (n, size)."""
    taps, weights = cubic_taps(positions, size, stretch)
    matrix = np.zeros((len(taps), size))
    np.add.at(matrix, (np.arange(len(taps))[:, None], taps), weights)
    return matrix


def upsampling_positions(count: int, ratio: int, first: int = 0) -> np.ndarray:
    """Positions of fine pixels ``first .. first + count - 1`` on a coarse grid of ``ratio`` fine pixels a pixel."""
    return (np.arange(first, first + count) - (ratio - 1) / 2) / ratio
