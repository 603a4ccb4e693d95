"""Seeing a fine image through the transfer function of a coarser sensor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import FusionError
from ..mtf import mtf_sigma
from ..sensors import MS_GAIN


def gains_of_bands(gains: Sequence[float] | None, bands: int) -> list[float]:
    """The MTF gain of each band at its Nyquist frequency; None for a sensor that is not known.

    Raises:
        FusionError: there are not as many as bands.
    """
    found = [MS_GAIN] * bands if gains is None else list(gains)
    if len(found) != bands:
        raise FusionError(f"{len(found)} MTF gains do not fit {bands} bands: give one for each.")
    return found


def first_centre(offset: tuple[float, float] | None, ratio: int) -> tuple[float, float]:
    """Fine row and column of the centre of the first coarse pixel; None for blocks of ratio x ratio fine pixels."""
    return offset if offset is not None else ((ratio - 1) / 2, (ratio - 1) / 2)


def lowpass(
    image: np.ndarray,
    ratio: int,
    shape: tuple[int, int],
    gains: Sequence[float],
    offset: tuple[float, float] | None = None,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Samples a fine image on a coarse grid through a Gaussian transfer function for each band.

    Args:
        image: fine image (C, H, W).
        ratio: fine pixels per coarse pixel along an axis.
        shape: rows and columns of the coarse grid.
        gains: transfer of each band at the coarse Nyquist frequency, 0..1, (C,).
        offset: fine row and column of the centre of coarse pixel (0, 0), pixel centres being whole numbers; None
            where coarse pixels cover blocks of ratio x ratio fine ones.
        mask: fine pixels that are valid (H, W), None for all; others get no weight.

    Returns:
        (C, rows, columns) float64; NaN where nothing valid is in reach.  Edge pixels repeat beyond the image.
    """
    first = first_centre(offset, ratio)
    rows, cols = (start + ratio * np.arange(count) for start, count in zip(first, shape))
    valid = np.ones(image.shape[1:]) if mask is None else mask.astype(np.float64)
    result = np.empty((image.shape[0], *shape))
    for band, gain in enumerate(gains):
        sigma = mtf_sigma(gain, ratio)
        filled = np.where(valid > 0, image[band], 0)
        value = gaussian_means(gaussian_means(filled, rows, sigma).T, cols, sigma).T
        if mask is not None:
            weight = gaussian_means(gaussian_means(valid, rows, sigma).T, cols, sigma).T
            value = np.where(weight > 1e-3, value / np.maximum(weight, 1e-3), np.nan)
        result[band] = value
    return result


def reach(sigma: float) -> int:
    """Lines on either side that ``gaussian_means`` looks at."""
    return int(np.ceil(5 * sigma))


def gaussian_means(lines: np.ndarray, positions: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian means of lines around positions between them.

    Args:
        lines: (H, W); the first and last repeat beyond the image.
        positions: line positions, line centres being whole numbers, (n,).
        sigma: standard deviation in lines; nothing further away than ``reach(sigma)`` lines counts.

    Returns:
        (n, W) float64.
    """
    far = reach(sigma)
    nearest = np.rint(positions).astype(int)
    taps = np.arange(-far, far + 1)
    weights = np.exp(-0.5 * ((nearest[:, None] + taps - positions[:, None]) / sigma) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    result = np.zeros((len(positions), lines.shape[1]))
    for column, tap in enumerate(taps):
        result += weights[:, column, None] * lines[np.clip(nearest + tap, 0, len(lines) - 1)]
    return result
