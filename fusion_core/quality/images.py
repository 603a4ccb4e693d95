"""What every metric asks of its images."""

from __future__ import annotations

import numpy as np

from ..errors import FusionError


def as_pair(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two images (C, H, W) as float64.

    Raises:
        FusionError: the shapes differ or are not (C, H, W).
    """
    if first.shape != second.shape or first.ndim != 3:
        raise FusionError(
            f"Images of the shapes {first.shape} and {second.shape} cannot be compared: "
            "both need the same bands, rows and columns."
        )
    return np.asarray(first, np.float64), np.asarray(second, np.float64)


def check_pair(pan: np.ndarray, ms: np.ndarray, fine: np.ndarray, name: str) -> None:
    """Refuse images that are not PAN (1, H, W), MS (C, h, w) and something on PAN's grid with MS's bands (C, H, W).

    Args:
        pan, ms, fine: the images.
        name: of the third, such as "the fused image".

    Raises:
        FusionError: the shapes do not fit each other.
    """
    if pan.shape[0] != 1 or pan.shape[1:] != fine.shape[1:] or len(ms) != len(fine):
        raise FusionError(
            f"PAN {pan.shape}, MS {ms.shape} and {name} {fine.shape} do not belong together: "
            f"{name} needs PAN's rows and columns and MS's bands."
        )


def valid_pixels(mask: np.ndarray | None, *images: np.ndarray) -> np.ndarray:
    """Pixels (H, W) that are inside the mask (None: all) and finite in every band of every image.

    Raises:
        FusionError: the mask does not fit, or no such pixel exists.
    """
    shape = images[0].shape[1:]
    valid = np.ones(shape, bool) if mask is None else np.asarray(mask, bool).copy()
    if valid.shape != shape:
        raise FusionError(f"A mask of the shape {valid.shape} does not fit an image of {shape}.")
    for image in images:
        valid &= np.isfinite(image).all(axis=0)
    if not valid.any():
        raise FusionError("The images have no valid pixel in common: check extent and nodata.")
    return valid
