"""Spatial correlation coefficient."""

from __future__ import annotations

import numpy as np

from ..errors import FusionError
from .images import as_pair, valid_pixels


def scc(reference: np.ndarray, fused: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Correlation of the Sobel gradient magnitudes over all bands together, 1 is best.

    The means are not removed, as in the toolbox that papers use; gradients that would need pixels from beyond the
    edge are left out, so the frame of the image does not count as structure.

    Args:
        reference: true image (C, H, W).
        fused: image under test (C, H, W).
        mask: pixels to use (H, W), None for all; gradients that touch others are left out.

    Raises:
        FusionError: the shapes differ or no pixel is valid.
    """
    reference, fused = as_pair(reference, fused)
    valid = valid_pixels(mask, reference, fused)
    height, width = valid.shape
    if min(height, width) < 3:
        raise FusionError(
            "An image smaller than 3 x 3 pixels has no gradients: choose a larger one."
        )
    sound = np.ones((height - 2, width - 2), bool)
    for row in range(3):
        for col in range(3):
            sound &= valid[row : row + height - 2, col : col + width - 2]
    product = power_x = power_y = 0.0
    for x, y in zip(reference, fused):
        gx = _gradient(np.where(valid, x, 0))[sound]
        gy = _gradient(np.where(valid, y, 0))[sound]
        product += float((gx * gy).sum())
        power_x += float((gx * gx).sum())
        power_y += float((gy * gy).sum())
    scale = np.sqrt(power_x * power_y)
    if scale == 0:
        return 1.0 if power_x == power_y else 0.0
    return float(product / scale)


def _gradient(band: np.ndarray) -> np.ndarray:
    """Sobel gradient magnitude of a band (H, W) at the pixels with eight neighbours, (H - 2, W - 2)."""
    smooth_down = band[:-2] + 2 * band[1:-1] + band[2:]
    smooth_right = band[:, :-2] + 2 * band[:, 1:-1] + band[:, 2:]
    return np.hypot(smooth_down[:, 2:] - smooth_down[:, :-2], smooth_right[2:] - smooth_right[:-2])
