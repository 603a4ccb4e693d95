"""Spatial distortion without a reference."""

from __future__ import annotations

import numpy as np

from .uiqi import uiqi


def d_s(
    fused: np.ndarray,
    pan: np.ndarray,
    ms: np.ndarray,
    pan_low: np.ndarray,
    ratio: int,
    block: int = 32,
    mask: np.ndarray | None = None,
    ms_mask: np.ndarray | None = None,
) -> float:
    """Mean over the bands of |Q(fused, PAN) - Q(MS, PAN on the MS grid)|; 0 is best (Alparone et al. 2008).

    Both Q (``uiqi``) are taken over the same blocks of ground.

    Args:
        fused: fused image (C, H, W).
        pan: panchromatic image (1, H, W) or (C, H, W), then band by band.
        ms: MS image (C, h, w).
        pan_low: PAN on the MS grid (1 or C, h, w), seen through each band's transfer function.
        ratio: PAN pixels per MS pixel along an axis.
        block: side of a block in PAN pixels.
        mask: PAN pixels to use (H, W), None for all.
        ms_mask: MS pixels to use (h, w), None for all.

    Raises:
        FusionError: shapes differ or no pixel is valid.
    """
    coarse = max(2, block // ratio)
    fine_q = _index(fused, np.broadcast_to(pan, fused.shape), coarse * ratio, mask)
    coarse_q = _index(ms, np.broadcast_to(pan_low, ms.shape), coarse, ms_mask)
    return float(np.abs(fine_q - coarse_q).mean())


def _index(image: np.ndarray, guide: np.ndarray, block: int, mask: np.ndarray | None) -> np.ndarray:
    """``uiqi`` over whole blocks only, where the image holds one."""
    height, width = (max(size // block * block, min(size, block)) for size in image.shape[1:])
    part = mask if mask is None else mask[:height, :width]
    return uiqi(image[:, :height, :width], guide[:, :height, :width], block, part)
