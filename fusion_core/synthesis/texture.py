"""Random fields that surfaces are modulated with."""

from __future__ import annotations

import numpy as np

from ..resampling import cubic_matrix


def smooth_field(size: int, cell: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian-like field of unit variance that varies over about ``cell`` samples, (size, size) float32."""
    count = max(4, int(np.ceil(size / cell)) + 3)
    knots = rng.standard_normal((count, count))
    positions = np.arange(size) / max(cell, 1.0) + rng.uniform(0, 1)
    weights = cubic_matrix(positions, count).astype(np.float32)
    field = weights @ knots.astype(np.float32) @ weights.T
    return field / np.float32(field.std() + 1e-6)


def fractal_field(
    size: int, cell: float, rng: np.random.Generator, octaves: int = 3, gain: float = 0.55
) -> np.ndarray:
    """Sum of smooth fields, each octave half the size of the one before, unit variance, (size, size) float32."""
    total = np.zeros((size, size), np.float32)
    weight = 1.0
    for octave in range(octaves):
        scale = cell / 2**octave
        if scale < 2:
            break
        total += np.float32(weight) * smooth_field(size, scale, rng)
        weight *= gain
    return total / np.float32(total.std() + 1e-6)


def grain_field(size: int, rng: np.random.Generator) -> np.ndarray:
    """Fine grain: white noise averaged over 2 x 2 samples, unit variance, (size, size) float32."""
    white = rng.standard_normal((size + 1, size + 1), dtype=np.float32)
    grain = white[:-1, :-1] + white[1:, :-1] + white[:-1, 1:] + white[1:, 1:]
    return grain * np.float32(0.5)
