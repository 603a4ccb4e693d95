"""Blending of overlapping tiles with a partition of unity, exact where the tiles agree."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np


def overlap_ramp(overlap: int) -> np.ndarray:
    """Weights of the later of two neighbours over the pixels they share, rising smoothly inside (0, 1), (overlap,)."""
    position = (np.arange(overlap, dtype=np.float32) + 0.5) / max(overlap, 1)
    return (0.5 - 0.5 * np.cos(np.pi * position)).astype(np.float32)


def blend_columns(pieces: Sequence[np.ndarray], margin: int) -> np.ndarray:
    """Join a row of neighbouring tiles.

    Args:
        pieces: the tiles in order, one or more at a time, (n, C, H, W); neighbours share ``2 * margin`` columns.
        margin: as in the tile plan; ``4 * margin <= W``, so that no three tiles meet.

    Returns:
        (C, H, N * (W - 2 * margin) + 2 * margin) of all N tiles.
    """
    count = sum(len(piece) for piece in pieces)
    bands, height, width = pieces[0].shape[1:]
    overlap = 2 * margin
    stride = width - overlap
    ramp = overlap_ramp(overlap)
    joined = np.empty((bands, height, count * stride + overlap), dtype=pieces[0].dtype)
    joined[:, :, :overlap] = pieces[0][0, :, :, :overlap]
    start = 0
    # Tile by tile: a tile and its place in the strip stay in the cache.
    for tile in chain.from_iterable(pieces):
        if start and overlap:
            shared = joined[:, :, start : start + overlap]
            # a + w (b - a) gives back a bit for bit where both tiles say the same.
            difference = tile[:, :, :overlap] - shared
            difference *= ramp
            shared += difference
        joined[:, :, start + overlap : start + width] = tile[:, :, overlap:]
        start += stride
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
        """Blend the next strip (C, H, W) in and return the rows no later strip can touch, (C, H - overlap, W).

        The strip is overwritten and becomes what is returned.
        """
        if self.pending is not None and self.overlap:
            later = strip[:, : self.overlap]
            later -= self.pending
            later *= self.ramp
            later += self.pending
        finished = strip.shape[1] - self.overlap
        self.pending = strip[:, finished:]
        return strip[:, :finished]

    def skip(self) -> None:
        """Leave out a strip of which no pixel is wanted."""
        self.pending = None
