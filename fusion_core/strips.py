"""The rows of tiles of a job, read from the scene from top to bottom."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from .fuse_plan import FusePlan

if TYPE_CHECKING:
    from .raster.scene import PendingWindow, SceneWindow
    from .raster.window import Window


class Slab:
    """Rows of the scene from the top of one row of tiles to the top of the next.

    Attributes:
        valid: bool (h, W), over the columns that the job's tiles cover.
        pixels: None until ``load``.
    """

    def __init__(self, pending: PendingWindow) -> None:
        self.valid = pending.valid
        self.pixels: SceneWindow | None = None
        self._pending: PendingWindow | None = pending

    def load(self) -> None:
        """Fill and interpolate, unless done before."""
        if self._pending is not None:
            self.pixels = self._pending.complete()
            self._pending = None


class Strip:
    """One row of tiles.

    Its pixels are those of a slab and of the first rows of the next one, so that no row is read twice.

    Attributes:
        index: number of the row of tiles.
        slabs: the upper and the lower slab; the latter is None where tiles do not overlap.  Their pixels are there if
            any tile is wanted.
        wanted: which tiles of the row hold a valid pixel, counted from the first, (n,).
    """

    def __init__(self, plan: FusePlan, index: int, upper: Slab, lower: Slab | None) -> None:
        self.index = index
        self.slabs = (upper, lower)
        rows, cols = plan.tiles.rows, plan.tiles.cols
        known = upper.valid.any(axis=0)
        if lower is not None:
            known = known | lower.valid[: rows.tile - rows.stride].any(axis=0)
        before = np.concatenate([[0], np.cumsum(known)])
        starts = cols.stride * np.arange(cols.count)
        self.wanted = np.flatnonzero(before[starts + cols.tile] > before[starts])
        if self.wanted.size:
            for slab in self.slabs:
                if slab is not None:
                    slab.load()


def read_strips(plan: FusePlan, first: int) -> Iterator[Strip]:
    """Read the strips of a job in order; rows without a valid pixel are neither filled nor interpolated.

    Args:
        plan: the job.
        first: number of the row of tiles to begin with.

    Raises:
        FusionError: the pixels cannot be read.
    """
    rows = plan.tiles.rows
    upper = None
    for index in range(first, rows.last + 1):
        if upper is None:
            upper = Slab(plan.scene.begin(_window(plan, index, rows.stride)))
        # Below the last row of tiles only what it reaches into.
        height = rows.stride if index < rows.last else rows.tile - rows.stride
        lower = Slab(plan.scene.begin(_window(plan, index + 1, height))) if height else None
        yield Strip(plan, index, upper, lower)
        upper = lower


def strip_bytes(plan: FusePlan) -> int:
    """Memory that one strip takes until it is written, its tiles' residuals and spreads included."""
    rows, cols, scene = plan.tiles.rows, plan.tiles.cols, plan.scene
    read = (scene.pan_bands + scene.ms_bands * (1 + 1 / scene.ratio**2)) * 4 + 1
    first, end = cols.covered
    images = 1 if plan.samples == 1 else 2
    made = cols.count * cols.tile * rows.tile * scene.ms_bands * 4 * images
    return int(rows.stride * (end - first) * read) + made


def _window(plan: FusePlan, index: int, height: int) -> Window:
    from .raster.window import Window

    first, end = plan.tiles.cols.covered
    return Window(plan.tiles.rows.position(index), first, height, end - first)
