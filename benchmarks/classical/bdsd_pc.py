"""BDSD-PC: band-dependent spatial detail with physical constraints."""

from __future__ import annotations

import numpy as np

from fusion_core.mtf import mtf_sigma
from fusion_core.quality.lowpass import gaussian_means

from .nonnegative import nonnegative_least_squares
from .pair import Pair


def bdsd_pc(pair: Pair) -> np.ndarray:
    """LMS_b + g PAN - sum of w LMS, where g and w, not negative, explain best what a band loses to its MTF; (C, H, W).

    Vivone, IEEE Transactions on Geoscience and Remote Sensing 57(9), 2019: what the same formula restores one scale
    lower, from PAN on the MS grid and MS through its own transfer function, is known, and the weights are fitted there.
    """
    bands = len(pair.ms)
    seen = np.stack([_through(band, gain, pair.ratio) for band, gain in zip(pair.ms, pair.gains)])
    low = pair.seen((pair.pan_gain,)).reshape(1, -1)
    terms = np.concatenate([-seen.reshape(bands, -1), low])
    lost = (pair.ms - seen).reshape(bands, -1)
    sources = np.concatenate([-pair.lms, pair.pan])
    details = [
        np.tensordot(nonnegative_least_squares(terms.T, target), sources, axes=1) for target in lost
    ]
    return pair.lms + np.stack(details)


def _through(band: np.ndarray, gain: float, ratio: int) -> np.ndarray:
    """A band (h, w) through its transfer function for a grid ``ratio`` times coarser, on its own grid."""
    sigma = mtf_sigma(gain, ratio)
    rows, cols = (np.arange(size) for size in band.shape)
    return gaussian_means(gaussian_means(band, rows, sigma).T, cols, sigma).T
