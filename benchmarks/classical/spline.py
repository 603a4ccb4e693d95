"""Interpolation by a cubic spline, as a matrix."""

from __future__ import annotations

import numpy as np

PADDING = 12
"""Samples by which each end is repeated; the spline forgets a sample by a factor of 3.7 with every step away from it."""


def spline_matrix(positions: np.ndarray, size: int) -> np.ndarray:
    """Weights of the cubic spline through a line of samples.

    Unser et al., IEEE Transactions on Signal Processing 41(2), 1993: cubic B-splines whose coefficients make them pass
    through the samples.  Sharper than cubic convolution, and what comparisons of classical methods interpolate with.

    Args:
        positions: where to interpolate, sample centres being whole numbers, (n,).
        size: samples of the line; beyond the ends the edge sample repeats.

    Returns:
        float64 (n, size), each row summing to 1.
    """
    padded = size + 2 * PADDING
    through = (4 * np.eye(padded) + np.eye(padded, k=1) + np.eye(padded, k=-1)) / 6
    through[0, 0] = through[-1, -1] = 5 / 6
    places = np.clip(np.asarray(positions, np.float64) + PADDING, 1, padded - 2)
    distance = np.abs(places[:, None] - np.arange(padded))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.maximum(2 - distance, 0) ** 3 / 6
    weights = np.linalg.solve(through.T, np.where(distance < 1, near, far).T).T
    matrix = weights[:, PADDING : PADDING + size].copy()
    matrix[:, 0] += weights[:, :PADDING].sum(axis=1)
    matrix[:, -1] += weights[:, PADDING + size :].sum(axis=1)
    return matrix
