"""Spectral distortion without a reference."""

from __future__ import annotations

import numpy as np

from .q2n import q2n


def d_lambda_khan(
    ms: np.ndarray, fused_low: np.ndarray, block: int = 32, mask: np.ndarray | None = None
) -> float:
    """1 - Q2n of the MS image and the fused one seen through the MS sensor; 0 is best (Khan et al. 2009).

    Args:
        ms: MS image (C, h, w).
        fused_low: fused image on the MS grid (C, h, w), as ``lowpass`` gives it.
        block: side of a block in MS pixels.
        mask: MS pixels to use (h, w), None for all.

    Raises:
        FusionError: the shapes differ or no pixel is valid.
    """
    return 1.0 - q2n(ms, fused_low, block, mask)
