"""Blending of overlapping tiles with a partition of unity, exact where the tiles agree."""

from __future__ import annotations

import numpy as np


def overlap_ramp(overlap: int) -> np.ndarray:
    """Weights of the later of two neighbours over the pixels they share, rising smoothly inside (0, 1), (overlap,)."""
    position = (np.arange(overlap, dtype=np.float32) + 0.5) / max(overlap, 1)
    return (0.5 - 0.5 * np.cos(np.pi * position)).astype(np.float32)


def blend_columns(tiles: np.ndarray, margin: int) -> np.ndarray:
    """Join a row of neighbouring tiles.

    Args:
        tiles: (n, C, H, W), neighbours sharing ``2 * margin`` columns.
        margin: as in the tile plan; ``4 * margin <= W``, so that no three tiles meet.

    Returns:
        (C, H, n * (W - 2 * margin) + 2 * margin).
    """
    count, bands, height, width = tiles.shape
    overlap = 2 * margin
    stride = width - overlap
    ramp = overlap_ramp(overlap)
    joined = np.empty((bands, height, count * stride + overlap), dtype=tiles.dtype)
    joined[:, :, :width] = tiles[0]
    for index in range(1, count):
        start = index * stride
        shared = joined[:, :, start : start + overlap]
        # a + w (b - a) gives back a bit for bit where both tiles say the same.
        shared += ramp * (tiles[index, :, :, :overlap] - shared)
        joined[:, :, start + overlap : start + width] = tiles[index, :, :, overlap:]
    return joined


class RowBlender:
    """Joins strips, each one row of tiles, from top to bottom; holds no more than the rows still to be blended.

    The last strip's lower overlap is never asked for: a pixel there would have another row of tiles below it.

    Args:
        margin: as in the tile plan.
    """

    def __init__(self, margin: int) -> None:
        self.overlap = 2 * margin
        self.ramp = overlap_ramp(self.overlap)[:, None]
        self.pending: np.ndarray | None = None

    def add(self, strip: np.ndarray) -> np.ndarray:
        """Blend the next strip (C, H, W) in and return the rows no later strip can touch, (C, H - overlap, W)."""
        strip = strip.copy()
        if self.pending is not None and self.overlap:
            later = strip[:, : self.overlap]
            strip[:, : self.overlap] = self.pending + self.ramp * (later - self.pending)
        finished = strip.shape[1] - self.overlap
        self.pending = strip[:, finished:]
        return strip[:, :finished]
