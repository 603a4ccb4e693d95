"""What runs a checked job: reading, computing, blending and writing at the same time.

A reader thread takes strips from the scene; as many threads as keep the executor busy take batches from the strips and
have them computed; a thread blends the strips whose tiles are all there; one writes the outputs' rows, and one those of
the side file.  The caller's own thread tells of the progress and asks whether to stop.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from .batches import Batch, take_batches
from .errors import Cancelled
from .execution.blending import ColumnBlender, RowBlender
from .execution.executor import Executor, FusedTiles
from .execution.stages import Channel, Stages, StopSignal
from .fuse_plan import FusePlan
from .strips import Strip, read_strips, strip_bytes

if TYPE_CHECKING:
    from .raster.mosaic import Mosaic
    from .raster.side_file import SideFile

LOOK_AHEAD_BYTES = 1 << 24
"""Strips that are read ahead where fewer would do to keep the executor busy."""

WAITING_ROWS = 2
"""Strips that are finished and not yet written."""

CACHE_BYTES = 1 << 20
"""Of the tiles that are blended at once: about a processor core's second cache."""


_Rows = tuple[int, list[np.ndarray]]
"""First row of finished rows, and each output's pixels as they are stored, (C, h, W)."""


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
        self.mosaics, self.side_file = mosaics, side_file
        finished = 0 if side_file is None else side_file.rows
        self.first = plan.tiles.rows.first_after(finished)
        self.blender = _StripBlender(plan, mosaics, finished)
        self.calls = plan.steps * plan.samples
        self.done: deque[int] = deque()
        size, in_flight = batch_size or computer.info.batch_size, computer.info.in_flight
        per_strip, spare = plan.tiles.cols.count, LOOK_AHEAD_BYTES // strip_bytes(plan)
        # A batch begins and ends anywhere in a strip.
        most_strips = max(-(-size // per_strip) + 1, spare)
        # Beside those of all batches one strip is read and one is blended.
        most_read = max(-(-(in_flight + 1) * size // per_strip) + 3, most_strips + 2)
        self.stages = Stages(stop)
        self.changed = self.stages.changed
        self.at_work: dict[int, _StripAtWork] = {}
        self.to_compute: Channel[Strip] = Channel(self.stages, most_read)
        self.to_blend: Channel[_StripAtWork] = Channel(self.stages, most_read)
        self.outlets = [(self._write, Channel(self.stages, WAITING_ROWS))]
        if side_file is not None:
            self.outlets.append((self._keep, Channel(self.stages, WAITING_ROWS)))
        self.most_read = most_read
        self.taking = threading.Lock()
        self.batches = take_batches(plan, iter(self.to_compute), size, most_strips)

    def run(self, progress: Callable[[float], None]) -> None:
        rows, per_strip = self.plan.tiles.rows, self.plan.tiles.cols.count * self.calls
        total, told = rows.count * per_strip, (self.first - rows.first) * per_strip

        def tell() -> None:
            nonlocal told
            while self.done:
                told += self.done.popleft()
                progress(told / total)

        progress(told / total)
        # Measured here, for only one thread at a time may read the scene.
        _ = self.plan.pan_scale, self.plan.ms_scale
        self.stages.finish(tell, begin=self._start)

    def _start(self) -> None:
        self.stages.start("read", self._read)
        for number in range(self.computer.info.in_flight):
            self.stages.start(f"compute {number}", self._compute)
        self.stages.start("blend", self._blend)
        for work, channel in self.outlets:
            self.stages.start(work.__name__.strip("_"), partial(work, channel))

    def _read(self) -> None:
        for strip in read_strips(self.plan, self.first):
            work = _StripAtWork(strip)
            self.done.append((self.plan.tiles.cols.count - work.missing) * self.calls)
            with self.changed:
                self.at_work[strip.index] = work
            self.to_compute.put(strip)
            self.to_blend.put(work)
            with self.changed:
                self.stages.wait_for(lambda: len(self.at_work) < self.most_read)
        self.to_compute.close()
        self.to_blend.close()

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

    def _blend(self) -> None:
        for work in self.to_blend:
            with self.changed:
                self.stages.wait_for(lambda work=work: not work.missing)
            rows = self.blender.add(work.strip, work.results)
            with self.changed:
                del self.at_work[work.strip.index]
                self.changed.notify_all()
            if rows is not None:
                for _, channel in self.outlets:
                    channel.put(rows)
        for _, channel in self.outlets:
            channel.close()

    def _write(self, channel: Channel[_Rows]) -> None:
        for row, blocks in channel:
            for mosaic, block in zip(self.mosaics, blocks):
                mosaic.restore(row, block)

    def _keep(self, channel: Channel[_Rows]) -> None:
        for row, blocks in channel:
            self.side_file.add(row, blocks)


class _StripBlender:
    """Blends strips, from top to bottom, to what the outputs hold.

    Args:
        plan: the job.
        mosaics: the outputs, for the form of their pixels.
        finished: rows that are there already.
    """

    def __init__(self, plan: FusePlan, mosaics: Sequence[Mosaic], finished: int) -> None:
        self.plan, self.mosaics, self.next_row = plan, mosaics, finished
        cols = plan.tiles.cols
        self.blenders = [RowBlender(cols.margin, cols.count * cols.stride) for _ in mosaics]
        self.scale = plan.ms_scale
        # A few tiles at a time stay in the processor's cache from one step to the next.
        self.at_once = max(1, CACHE_BYTES // (plan.scene.ms_bands * cols.tile**2 * 4))

    def add(self, strip: Strip, results: list[tuple[int, FusedTiles]]) -> _Rows | None:
        """Blend the next strip in.

        Args:
            strip: its pixels.
            results: first tile and results of each piece that was computed, in any order.

        Returns:
            The rows that no later strip can touch, None where none is new.
        """
        rows = self._rows(strip)
        shape = (self.plan.scene.ms_bands, rows.stop - rows.start, self.plan.window.width)
        stored = []
        for number, (mosaic, blender) in enumerate(zip(self.mosaics, self.blenders)):
            stored.append(np.empty(shape, mosaic.layout.dtype))
            blender.begin(bool(strip.wanted.size))
            if strip.wanted.size:
                self._blend(strip, results, number, rows, stored[-1])
            else:
                valid = strip.slabs[0].valid[rows, : shape[2]]
                stored[-1][...] = mosaic.stored(np.zeros(shape, np.float32), valid)
        if not shape[1]:
            return None
        first = self.next_row
        self.next_row += shape[1]
        return first, stored

    def _rows(self, strip: Strip) -> slice:
        """What the strip finishes of the window: rows before the next strip's first that are not there yet."""
        axis = self.plan.tiles.rows
        top = axis.position(strip.index)
        start = min(axis.stride, max(0, axis.start + self.next_row - top))
        return slice(start, max(start, min(axis.stride, axis.stop - top)))

    def _blend(
        self,
        strip: Strip,
        results: list[tuple[int, FusedTiles]],
        number: int,
        rows: slice,
        stored: np.ndarray,
    ) -> None:
        """Fill rows of an output: number 0 is the fused image, 1 the samples' spread."""
        axis, mosaic, upper = self.plan.tiles.cols, self.mosaics[number], strip.slabs[0]
        left = axis.start - axis.covered[0]
        columns = ColumnBlender(axis.margin)
        first = 0
        for tiles in self._groups(results, "spread" if number else "residual"):
            joined = columns.add(tiles)
            finished = self.blenders[number].add(joined, first)
            start, stop = max(first, left), min(first + joined.shape[2], left + stored.shape[2])
            if start < stop and stored.shape[1]:
                inside = (rows, slice(start, stop))
                values = finished[:, rows, start - first : stop - first]
                values = self._in_numbers(values, None if number else upper.pixels.lms, inside)
                target = stored[:, :, start - left : stop - left]
                target[...] = mosaic.stored(values, upper.valid[inside])
            first += joined.shape[2]

    def _in_numbers(
        self, finished: np.ndarray, lms: np.ndarray | None, inside: tuple[slice, slice]
    ) -> np.ndarray:
        """Digital numbers in the scene's order of bands, of values at scene scale in the network's."""
        values = np.empty(finished.shape, np.float32)
        for channel, band in enumerate(self.plan.bands.order):
            np.multiply(finished[channel], self.scale[band], out=values[band])
        if lms is not None:
            values += lms[:, inside[0], inside[1]]
        return values

    def _groups(self, results: list[tuple[int, FusedTiles]], image: str) -> Iterator[np.ndarray]:
        """Tiles (n, C, tile, tile) of a whole strip in order, a few at a time; zeros where none was wanted."""
        plan, reached = self.plan, 0
        tile = plan.tiles.cols.tile
        zeros = np.broadcast_to(np.float32(0), (self.at_once, len(self.scale), tile, tile))
        ordered = sorted(results, key=lambda result: result[0])
        for first, tiles in (*ordered, (plan.tiles.cols.count, None)):
            while reached < first:
                yield zeros[: first - reached]
                reached = min(first, reached + self.at_once)
            if tiles is not None:
                pixels = getattr(tiles, image)
                for start in range(0, len(pixels), self.at_once):
                    yield pixels[start : start + self.at_once]
                reached += len(pixels)
