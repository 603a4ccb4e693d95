"""What runs a checked job: strips of the scene in, finished rows out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .errors import Cancelled
from .execution.blending import RowBlender, blend_columns
from .execution.executor import Executor, FusedTiles, TileBatch
from .fuse_plan import FusePlan

if TYPE_CHECKING:
    from .raster.mosaic import Mosaic
    from .raster.scene import SceneWindow
    from .raster.window import Window


def run_plan(
    plan: FusePlan,
    computer: Executor,
    mosaics: Sequence[Mosaic],
    batch_size: int | None,
    progress: Callable[[float], None],
    stop: Callable[[], bool],
) -> None:
    """Compute, blend and write all tiles of a job.

    Args:
        plan: the job.
        computer: computes the tiles.
        mosaics: where the fused image goes and, if the plan draws several samples, perhaps their standard deviation.
        batch_size: tiles computed at once; the executor's own choice if None.
        progress: told the share done, 0 to 1, at least once for each network call.
        stop: asked often; when it says True the job stops.

    Raises:
        FusionError: pixels cannot be read, computed or written.
        Cancelled: ``stop`` said so.
    """
    axis, calls = plan.tiles.rows, plan.steps * plan.samples
    total = plan.tiles.count * calls
    done = 0

    def on_call(tiles: int) -> None:
        nonlocal done
        done += tiles
        progress(min(1.0, done / total))
        if stop():
            raise Cancelled

    progress(0.0)
    blenders = [RowBlender(axis.margin) for _ in mosaics]
    scale = plan.ms_scale
    left = plan.window.col - plan.tiles.cols.covered[0]
    cols = slice(left, left + plan.window.width)
    for index in range(axis.first, axis.last + 1):
        if stop():
            raise Cancelled
        strip = plan.scene.read(_strip_window(plan, index))
        fused = _fuse_strip(plan, computer, strip, index, batch_size, on_call)
        done = (index - axis.first + 1) * plan.tiles.cols.count * calls
        progress(done / total)
        top = axis.position(index)
        # What the strip finishes of the window: the rows before the next strip's first.
        first, end = max(0, axis.start - top), min(axis.stride, axis.stop - top)
        for mosaic, blender, tiles in zip(mosaics, blenders, (fused.residual, fused.spread)):
            finished = blender.add(blend_columns(tiles, axis.margin))
            if end <= first:
                continue
            values = finished[:, first:end, cols] * scale
            if tiles is fused.residual:
                values += strip.lms[:, first:end, cols]
            mosaic.write(top + first - axis.start, values, strip.valid[first:end, cols])


def _strip_window(plan: FusePlan, index: int) -> Window:
    from .raster.window import Window

    first, end = plan.tiles.cols.covered
    return Window(plan.tiles.rows.position(index), first, plan.tiles.rows.tile, end - first)


def _fuse_strip(
    plan: FusePlan,
    computer: Executor,
    strip: SceneWindow,
    index: int,
    batch_size: int | None,
    on_call: Callable[[int], None],
) -> FusedTiles:
    """The residual of a row of tiles, bands in the scene's order; tiles without a valid pixel stay zero."""
    cols, card, order = plan.tiles.cols, plan.model.card, list(plan.bands.order)
    guide = _cut(strip.pan / plan.pan_scale, cols.stride, card.tile)
    scaled_ms, scaled_lms = strip.ms / plan.ms_scale, strip.lms / plan.ms_scale
    ms = _cut(scaled_ms[order], cols.stride // card.ratio, card.tile // card.ratio)
    lms = _cut(scaled_lms[order], cols.stride, card.tile)
    wanted = np.flatnonzero(_cut(strip.valid[None], cols.stride, card.tile).any(axis=(1, 2, 3)))
    origins = np.stack(
        [
            np.full(cols.count, plan.tiles.rows.position(index)),
            cols.position(cols.first) + cols.stride * np.arange(cols.count),
        ],
        axis=1,
    ).astype(np.int64)
    shape = (cols.count, len(order), card.tile, card.tile)
    residual = np.zeros(shape, np.float32)
    spread = np.zeros(shape, np.float32) if plan.samples > 1 else None
    size = batch_size or computer.info.batch_size
    for start in range(0, len(wanted), size):
        part = wanted[start : start + size]
        batch = TileBatch(*(np.ascontiguousarray(a[part]) for a in (guide, ms, lms, origins)))
        tiles = computer.run(batch, on_call)
        residual[part[:, None], order] = tiles.residual
        if spread is not None:
            spread[part[:, None], order] = tiles.spread
    return FusedTiles(residual, spread)


def _cut(strip: np.ndarray, stride: int, tile: int) -> np.ndarray:
    """Tiles (n, C, tile, tile) of a strip (C, tile, W), as views."""
    windows = np.lib.stride_tricks.sliding_window_view(strip, tile, axis=2)[:, :, ::stride]
    return windows.transpose(2, 0, 1, 3)
