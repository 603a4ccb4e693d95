"""Blending of overlapping tiles with a partition of unity, exact where the tiles agree.

Over the pixels that two neighbours a and b share the result is a + w (b - a), which gives back a bit for bit where both say
the same.  Neighbours in a row are blended first, then the rows.
"""

from __future__ import annotations

import numpy as np


def overlap_ramp(overlap: int) -> np.ndarray:
    """Weights of the later of two neighbours over the pixels they share, rising smoothly inside (0, 1), (overlap,)."""
    position = (np.arange(overlap, dtype=np.float32) + 0.5) / max(overlap, 1)
    return (0.5 - 0.5 * np.cos(np.pi * position)).astype(np.float32)


class ColumnBlender:
    """Joins the tiles of one row from left to right, some at a time.

    The last tile's right overlap is never asked for: a pixel there would have another tile to its right.

    Args:
        margin: as in the tile plan; neighbours share ``2 * margin`` columns, at most half a tile.
    """

    def __init__(self, margin: int) -> None:
        self._overlap = 2 * margin
        self._ramp = overlap_ramp(self._overlap)
        self._pending: np.ndarray | None = None

    def add(self, tiles: np.ndarray) -> np.ndarray:
        """Join the next tiles (n, C, H, W), and return the columns that no later tile can touch, (C, H, n * stride)."""
        count, bands, height, width = tiles.shape
        overlap, stride = self._overlap, width - self._overlap
        joined = np.empty((bands, height, count, stride), tiles.dtype)
        target = joined.transpose(2, 0, 1, 3)
        target[..., overlap:] = tiles[..., overlap:stride]
        if overlap:
            later = tiles[..., :overlap]
            earlier = np.empty(later.shape, tiles.dtype)
            earlier[0] = later[0] if self._pending is None else self._pending
            earlier[1:] = tiles[:-1, :, :, stride:]
            self._pending = tiles[-1, :, :, stride:]
            difference = later - earlier
            difference *= self._ramp
            np.add(earlier, difference, out=target[..., :overlap])
        return joined.reshape(bands, height, count * stride)


class RowBlender:
    """Joins rows of tiles from top to bottom; holds no more than the rows still to be blended.

    The last row's lower overlap is never asked for: a pixel there would have another row of tiles below it.

    Args:
        margin: as in the tile plan.
        width: columns of a row of tiles.
    """

    def __init__(self, margin: int, width: int) -> None:
        self._overlap, self._width = 2 * margin, width
        self._ramp = overlap_ramp(self._overlap)[:, None]
        self._pending: np.ndarray | None = None
        self._began = False

    def begin(self, wanted: bool = True) -> None:
        """Go on to the next row of tiles.

        Args:
            wanted: whether any of its pixels is; if not, it is not added, and the next one is not blended with it.
        """
        self._began = wanted and self._pending is not None
        if not wanted:
            self._pending = None

    def add(self, part: np.ndarray, first: int) -> np.ndarray:
        """Blend some columns of the row of tiles with those above.

        Args:
            part: (C, H, w); overwritten, and becomes what is returned.
            first: the first of these columns.

        Returns:
            The rows no later row of tiles can touch, (C, H - overlap, w).
        """
        bands, height, width = part.shape
        finished = height - self._overlap
        if self._pending is None:
            self._pending = np.empty((bands, self._overlap, self._width), part.dtype)
        pending = self._pending[:, :, first : first + width]
        if self._began:
            later = part[:, : self._overlap]
            later -= pending
            later *= self._ramp
            later += pending
        pending[...] = part[:, finished:]
        return part[:, :finished]
