"""Spectral angle."""

from __future__ import annotations

import numpy as np

from .images import as_pair, valid_pixels


def sam(reference: np.ndarray, fused: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean angle between the spectra of the pixels, in degrees; 0 is best (Yuhas et al. 1992).

    Pixels that are zero in all bands of either image have no angle and are left out.

    Args:
        reference: true image (C, H, W).
        fused: image under test (C, H, W).
        mask: pixels to use (H, W), None for all.

    Raises:
        FusionError: the shapes differ or no pixel is valid.
    """
    reference, fused = as_pair(reference, fused)
    valid = valid_pixels(mask, reference, fused)
    x, y = reference[:, valid], fused[:, valid]
    norms = np.sqrt((x * x).sum(axis=0) * (y * y).sum(axis=0))
    lit = norms > 0
    if not lit.any():
        return 0.0
    cosine = (x * y).sum(axis=0)[lit] / norms[lit]
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1)).mean()))
