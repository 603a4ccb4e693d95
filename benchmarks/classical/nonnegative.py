"""Least squares whose solution has no negative entry."""

from __future__ import annotations

import numpy as np

TOLERANCE = 1e-10
"""Part of the largest gradient at the start below which a gradient counts as zero."""


def nonnegative_least_squares(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The x with no negative entry that makes ``matrix @ x`` nearest to ``target``.

    Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23.

    Args:
        matrix: (n, k), k small.
        target: (n,).

    Returns:
        float64 (k,).
    """
    products, right = matrix.T @ matrix, matrix.T @ target
    count = len(right)
    solution, free = np.zeros(count), np.zeros(count, bool)
    enough = TOLERANCE * np.abs(right).max(initial=0)
    gradient = right.astype(np.float64)
    while not free.all() and gradient[~free].max() > enough:
        free[np.argmax(np.where(free, -np.inf, gradient))] = True
        trial = _solve(products, right, free)
        while trial[free].min() <= 0:
            # As far towards the trial as no entry turns negative; the one that stops it is fixed at zero.
            blocking = free & (trial <= 0)
            steps = solution[blocking] / (solution[blocking] - trial[blocking])
            solution = solution + steps.min() * (trial - solution)
            free &= solution > TOLERANCE * np.abs(solution).max(initial=0)
            solution[~free] = 0
            if not free.any():
                return solution
            trial = _solve(products, right, free)
        solution = trial
        gradient = right - products @ solution
    return solution


def _solve(products: np.ndarray, right: np.ndarray, free: np.ndarray) -> np.ndarray:
    solution = np.zeros(len(right))
    solution[free] = np.linalg.lstsq(products[np.ix_(free, free)], right[free], rcond=None)[0]
    return solution
