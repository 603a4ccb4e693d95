"""Pansharpening without learning, the line that a model has to beat: MTF-GLP-HPM."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..resampling import cubic_matrix
from .images import check_pair
from .lowpass import first_centre, gains_of_bands, lowpass

MOST_MODULATION = 10.0
"""Factor by which modulation may brighten a pixel at most; only dark pixels with tiny denominators ever reach it."""

FLAT = 1e-9
"""Contrast, as a part of the level, below which an image counts as constant."""


def mtf_glp_hpm(
    pan: np.ndarray,
    ms: np.ndarray,
    lms: np.ndarray,
    ratio: int,
    gains: Sequence[float] | None = None,
    offset: tuple[float, float] | None = None,
    enlarge: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Generalised Laplacian pyramid with MTF-matched filter and high-pass modulation.

    Aiazzi et al., Photogrammetric Engineering & Remote Sensing 72(5), 2006, with the histogram matching of Vivone et al.,
    IEEE Geoscience and Remote Sensing Magazine 9(1), 2021: band b of the result is

        LMS_b * P_b / L_b,   P_b = (PAN - mean(L)) * deviation(LMS_b) / deviation(L) + mean(LMS_b),

    where L is PAN seen through band b's transfer function on the MS grid and enlarged again, and L_b its match.

    Args:
        pan: panchromatic image (1, H, W), in its own numbers.
        ms: MS image (C, h, w); only its size is used.
        lms: MS interpolated to the PAN grid (C, H, W), in the numbers that the result shall have.
        ratio: PAN pixels per MS pixel along an axis.
        gains: MTF gains of the MS bands at their Nyquist frequency (C,), None for 0.3.
        offset: PAN row and column of the centre of the first MS pixel, whole numbers being pixel centres; None where
            MS pixels cover blocks of ratio x ratio PAN pixels.
        enlarge: the interpolation that made ``lms``, from (C, h, w) to (C, H, W); cubic convolution if None.

    Returns:
        float64 (C, H, W).

    Raises:
        FusionError: the shapes do not fit each other.
    """
    check_pair(pan, ms, lms, "the interpolated MS")
    gains = gains_of_bands(gains, len(ms))
    start = first_centre(offset, ratio)
    sharp, coloured = np.asarray(pan, np.float64), np.asarray(lms, np.float64)
    coarse = lowpass(np.broadcast_to(sharp, coloured.shape), ratio, ms.shape[1:], gains, start)
    smooth = (enlarge or _cubic(coloured.shape[1:], ms.shape[1:], ratio, start))(coarse)
    level = smooth.mean(axis=(1, 2), keepdims=True)
    contrast = smooth.std(axis=(1, 2), keepdims=True)
    flat = contrast <= FLAT * np.abs(level)
    gain = coloured.std(axis=(1, 2), keepdims=True) / np.where(flat, np.inf, contrast)
    target = coloured.mean(axis=(1, 2), keepdims=True)
    return modulated(coloured, (sharp - level) * gain + target, (smooth - level) * gain + target)


def modulated(image: np.ndarray, sharp: np.ndarray, smooth: np.ndarray) -> np.ndarray:
    """An image times sharp / smooth; unchanged where smooth is not above 0, where the quotient means nothing.

    Args:
        image: (C, H, W).
        sharp: with the detail to take over (1 or C, H, W).
        smooth: the same without that detail (1 or C, H, W).

    Returns:
        float64 (C, H, W); the factor is kept within 0 and ``MOST_MODULATION``.
    """
    usable = smooth > 0
    factor = np.clip(sharp / np.where(usable, smooth, 1), 0, MOST_MODULATION)
    return np.asarray(image, np.float64) * np.where(usable, factor, 1)


def _cubic(
    fine: tuple[int, int], coarse: tuple[int, int], ratio: int, offset: tuple[float, float]
) -> Callable[[np.ndarray], np.ndarray]:
    """Cubic convolution from the MS grid to the PAN grid."""
    rows, cols = (
        cubic_matrix((np.arange(size) - start) / ratio, count)
        for size, start, count in zip(fine, offset, coarse)
    )
    return lambda image: rows @ image @ cols.T
