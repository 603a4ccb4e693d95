"""Cutting images into square blocks, and moments inside them."""

from __future__ import annotations

import numpy as np


def cut_blocks(image: np.ndarray, block: int) -> np.ndarray:
    """Non-overlapping blocks (n, C, block * block) of an image (C, H, W), mirrored at the far edges to fill them."""
    channels, height, width = image.shape
    padding = ((0, 0), (0, -height % block), (0, -width % block))
    # An image smaller than its padding cannot be mirrored in one go: numpy reflects as often as needed.
    filled = np.pad(image, padding, mode="symmetric")
    rows, cols = filled.shape[1] // block, filled.shape[2] // block
    split = filled.reshape(channels, rows, block, cols, block)
    return split.transpose(1, 3, 0, 2, 4).reshape(rows * cols, channels, block * block)


def usable_blocks(weights: np.ndarray) -> np.ndarray:
    """Blocks (n,) of which at least half the pixels are valid, from weights (n, 1, pixels); the fullest if none is."""
    share = weights[:, 0].mean(axis=1)
    return share >= min(0.5, share.max())
