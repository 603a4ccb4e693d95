"""What runs a checked job: reading, computing, blending and writing at the same time.

A reader thread takes strips from the scene; as many threads as keep the executor busy take batches from the strips and
have them computed; a writer thread blends the strips whose tiles are all there and writes their rows.  The caller's own
thread tells of the progress and asks whether to stop.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .batches import Batch, take_batches
from .errors import Cancelled
from .execution.blending import RowBlender, blend_columns
from .execution.executor import Executor, FusedTiles
from .execution.stages import Stages, StopSignal
from .fuse_plan import FusePlan
from .strips import Strip, read_strips, strip_bytes

if TYPE_CHECKING:
    from .raster.mosaic import Mosaic
    from .raster.side_file import SideFile

LOOK_AHEAD_BYTES = 1 << 24
"""Strips that are read ahead where fewer would do to keep the executor busy."""

CACHE_BYTES = 1 << 19
"""What is converted at once; half of a processor core's second cache."""


def run_plan(
    plan: FusePlan,
    computer: Executor,
    mosaics: Sequence[Mosaic],
    batch_size: int | None,
    progress: Callable[[float], None],
    stop: StopSignal,
    side_file: SideFile | None = None,
) -> None:
    """Compute, blend and write all tiles of a job.

    Memory depends on the sizes of tile and batch and on the scene's width, never on its height.

    Args:
        plan: the job.
        computer: computes the tiles.
        mosaics: where the fused image goes and, if the plan draws several samples, perhaps their standard deviation.
        batch_size: tiles computed at once; the executor's own choice if None.
        progress: told the share done, 0 to 1, at least once for each network call, in this thread.
        stop: the executor's too; set when the job fails.
        side_file: where finished rows are kept; those that it and the mosaics hold already are left out.

    Raises:
        FusionError: pixels cannot be read, computed or written.
        Cancelled: ``stop`` said so.
    """
    _Pipeline(plan, computer, mosaics, batch_size, stop, side_file).run(progress)


class _StripAtWork:
    """A strip on its way from the reader to the writer.

    Attributes:
        strip: its pixels.
        results: first tile and results of each piece that was computed, in any order.
        missing: how many tiles are not computed yet.
    """

    def __init__(self, strip: Strip) -> None:
        self.strip = strip
        self.results: list[tuple[int, FusedTiles]] = []
        self.missing = len(strip.wanted)


class _Pipeline:
    def __init__(
        self,
        plan: FusePlan,
        computer: Executor,
        mosaics: Sequence[Mosaic],
        batch_size: int | None,
        stop: StopSignal,
        side_file: SideFile | None,
    ) -> None:
        self.plan, self.computer = plan, computer
        self.writer = _RowWriter(plan, mosaics, side_file)
        self.stages = Stages(stop)
        self.changed = self.stages.changed
        size, in_flight = batch_size or computer.info.batch_size, computer.info.in_flight
        per_strip, spare = plan.tiles.cols.count, LOOK_AHEAD_BYTES // strip_bytes(plan)
        # A batch begins and ends anywhere in a strip.
        most_strips = max(-(-size // per_strip) + 1, spare)
        # Beside those of all batches one strip is read and one is written.
        self.most_read = max(-(-(in_flight + 1) * size // per_strip) + 3, most_strips + 2)
        self.batches = take_batches(plan, self._next_strip, size, most_strips)
        self.taking = threading.Lock()
        # Strips for the batches, and for the writer; None follows the last.
        self.fresh: deque[_StripAtWork | None] = deque()
        self.written_next: deque[_StripAtWork | None] = deque()
        self.at_work: dict[int, _StripAtWork] = {}
        self.calls = plan.steps * plan.samples
        self.done: deque[int] = deque()

    def run(self, progress: Callable[[float], None]) -> None:
        rows = self.plan.tiles.rows
        total = self.plan.tiles.count * self.calls
        told = (self.writer.first_strip - rows.first) * self.plan.tiles.cols.count * self.calls

        def tell() -> None:
            nonlocal told
            while self.done:
                told += self.done.popleft()
                progress(told / total)

        progress(told / total)
        # Measured here, for only one thread at a time may read the scene.
        _ = self.plan.pan_scale, self.plan.ms_scale
        self.stages.start("read", self._read)
        for number in range(self.computer.info.in_flight):
            self.stages.start(f"compute {number}", self._compute)
        self.stages.start("write", self._write)
        self.stages.finish(tell)

    def _read(self) -> None:
        for strip in read_strips(self.plan, self.writer.first_strip):
            work = _StripAtWork(strip)
            self.done.append((self.plan.tiles.cols.count - work.missing) * self.calls)
            with self.changed:
                self.at_work[strip.index] = work
                self.fresh.append(work)
                self.written_next.append(work)
                self.changed.notify_all()
                self.stages.wait_for(lambda: len(self.at_work) < self.most_read)
        with self.changed:
            self.fresh.append(None)
            self.written_next.append(None)
            self.changed.notify_all()

    def _next_strip(self) -> Strip | None:
        with self.changed:
            self.stages.wait_for(lambda: self.fresh)
            work = self.fresh.popleft()
        return None if work is None else work.strip

    def _compute(self) -> None:
        while True:
            with self.taking:
                batch = next(self.batches, None)
            if batch is None:
                return
            self._deliver(batch, self._computed(batch))

    def _computed(self, batch: Batch) -> FusedTiles:
        left = len(batch.tiles.origins) * self.calls
        counting = threading.Lock()

        def on_call(tiles: int) -> None:
            nonlocal left
            with counting:
                # Where memory runs out some calls are made twice.
                counted = min(tiles, left)
                left -= counted
            self.done.append(counted)
            if self.stages.stop():
                raise Cancelled

        result = self.computer.run(batch.tiles, on_call)
        self.done.append(left)
        return result

    def _deliver(self, batch: Batch, result: FusedTiles) -> None:
        """Hand the parts of a batch to their strips."""
        with self.changed:
            for run in batch.runs:
                part = slice(run.start, run.stop)
                spread = None if result.spread is None else result.spread[part]
                work = self.at_work[run.strip.index]
                work.results.append((run.first, FusedTiles(result.residual[part], spread)))
                work.missing -= run.stop - run.start
            self.changed.notify_all()

    def _write(self) -> None:
        while (work := self._next_finished()) is not None:
            self.writer.write(work.strip, work.results)
            with self.changed:
                del self.at_work[work.strip.index]
                self.changed.notify_all()

    def _next_finished(self) -> _StripAtWork | None:
        with self.changed:
            self.stages.wait_for(lambda: self.written_next)
            work = self.written_next.popleft()
            if work is not None:
                self.stages.wait_for(lambda: not work.missing)
        return work


class _RowWriter:
    """Blends strips, from top to bottom, and writes what no later strip can touch.

    Attributes:
        first_strip: the strip to begin with; one after the last where all rows are there.
    """

    def __init__(
        self, plan: FusePlan, mosaics: Sequence[Mosaic], side_file: SideFile | None
    ) -> None:
        self.plan, self.mosaics, self.side_file = plan, mosaics, side_file
        self.next_row = 0 if side_file is None else side_file.rows
        self.first_strip = plan.tiles.rows.first_after(self.next_row)
        self.blenders = [RowBlender(plan.tiles.rows.margin) for _ in mosaics]

    def write(self, strip: Strip, results: list[tuple[int, FusedTiles]]) -> None:
        """Add the next strip.

        Args:
            strip: its pixels.
            results: first tile and results of each piece that was computed, in any order.
        """
        rows = self._rows(strip)
        blended = [
            self._blended(strip, results, blender, "spread" if number else "residual")
            for number, blender in enumerate(self.blenders)
        ]
        if rows.start == rows.stop:
            return
        stored = [
            self._stored(strip, rows, mosaic, image, residual=not number)
            for number, (mosaic, image) in enumerate(zip(self.mosaics, blended))
        ]
        for mosaic, block in zip(self.mosaics, stored):
            mosaic.restore(self.next_row, block)
        if self.side_file is not None:
            self.side_file.add(self.next_row, stored)
        self.next_row += rows.stop - rows.start

    def _rows(self, strip: Strip) -> slice:
        """What the strip finishes of the window: rows before the next strip's first that are not written yet."""
        axis = self.plan.tiles.rows
        top = axis.position(strip.index)
        start = min(axis.stride, max(0, axis.start + self.next_row - top))
        return slice(start, max(start, min(axis.stride, axis.stop - top)))

    def _cols(self) -> slice:
        left = self.plan.window.col - self.plan.tiles.cols.covered[0]
        return slice(left, left + self.plan.window.width)

    def _blended(
        self,
        strip: Strip,
        results: list[tuple[int, FusedTiles]],
        blender: RowBlender,
        image: str,
    ) -> np.ndarray | None:
        """Rows that no later strip can touch at scene scale, (C, h, W); None where no pixel is wanted."""
        if not strip.wanted.size:
            blender.skip()
            return None
        pieces = _in_order(self.plan, results, image)
        return blender.add(blend_columns(pieces, self.plan.tiles.cols.margin))

    def _stored(
        self, strip: Strip, rows: slice, mosaic: Mosaic, blended: np.ndarray | None, residual: bool
    ) -> np.ndarray:
        """Rows of the fused image or of the samples' spread as the file holds them, bands in the scene's order."""
        plan, cols, upper = self.plan, self._cols(), strip.slabs[0]
        bands, height, width = plan.scene.ms_bands, rows.stop - rows.start, plan.window.width
        stored = np.empty((bands, height, width), mosaic.layout.dtype)
        # A few rows at a time stay in the processor's cache from one step to the next.
        step = max(1, CACHE_BYTES // (bands * width * 4))
        values = np.zeros((bands, step, width), np.float32)
        for start in range(rows.start, rows.stop, step):
            part = slice(start, min(start + step, rows.stop))
            block = values[:, : part.stop - part.start]
            if blended is not None:
                for channel, band in enumerate(plan.bands.order):
                    fine = blended[channel, part, cols]
                    np.multiply(fine, plan.ms_scale[band], out=block[band])
                if residual:
                    block += upper.pixels.lms[:, part, cols]
            at = start - rows.start
            stored[:, at : at + block.shape[1]] = mosaic.stored(block, upper.valid[part, cols])
        return stored


def _in_order(
    plan: FusePlan, results: list[tuple[int, FusedTiles]], image: str
) -> list[np.ndarray]:
    """Tiles (n, C, tile, tile) of a whole strip, in pieces; zeros where none was wanted."""
    pieces: list[np.ndarray] = []
    reached, count = 0, plan.tiles.cols.count
    for first, tiles in sorted(results, key=lambda result: result[0]):
        if first > reached:
            pieces.append(_zeros(plan, first - reached))
        pieces.append(getattr(tiles, image))
        reached = first + len(tiles.residual)
    if reached < count:
        pieces.append(_zeros(plan, count - reached))
    return pieces


def _zeros(plan: FusePlan, count: int) -> np.ndarray:
    tile = plan.model.card.tile
    return np.broadcast_to(np.float32(0), (count, len(plan.bands.order), tile, tile))
