"""Values for pixels that hold none, so that interpolation and networks meet nothing odd at the edge of the data."""

from __future__ import annotations

import numpy as np


def fill_invalid(values: np.ndarray, valid: np.ndarray, radius: int, far: float) -> None:
    """Replace invalid pixels by the weighted mean of the valid ones nearby, in place.

    The result at a pixel depends on the pixels at most ``radius`` away and on nothing else.

    Args:
        values: one band (h, w), finite or not where invalid.
        valid: bool (h, w).
        radius: how far to look, in pixels; the weights are Gaussian with half of it as standard deviation.
        far: value where there is no valid pixel within the radius.
    """
    invalid = ~valid
    values[invalid] = far
    rows, cols = np.nonzero(invalid & _dilated(valid, radius))
    if not rows.size:
        return
    # With a frame around everything, pixels at an offset are found by one addition.
    framed, known = (np.pad(image, radius) for image in (values, valid))
    line = framed.shape[1]
    places = (rows + radius) * line + cols + radius
    total = np.zeros(rows.size)
    weight = np.zeros(rows.size)
    for down in range(-radius, radius + 1):
        for right in range(-radius, radius + 1):
            near = places + (down * line + right)
            share = known.take(near) * float(
                np.exp(-2.0 * (down * down + right * right) / radius**2)
            )
            total += share * framed.take(near)
            weight += share
    values[rows, cols] = total / weight


def _dilated(mask: np.ndarray, radius: int) -> np.ndarray:
    """Whether the square of ``radius`` around a pixel holds a set one."""
    for axis in (0, 1):
        spread = mask.copy()
        lines, grown = (mask, spread) if axis == 0 else (mask.T, spread.T)
        for step in range(1, radius + 1):
            grown[step:] |= lines[:-step]
            grown[:-step] |= lines[step:]
        mask = spread
    return mask
