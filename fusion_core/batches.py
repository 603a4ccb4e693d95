"""Batches of tiles, taken from the strips of a job in one stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .execution.executor import TileBatch
from .fuse_plan import FusePlan
from .strips import Strip


@dataclass(frozen=True)
class TileRun:
    """Neighbouring tiles of one strip that are neighbours in a batch too.

    Attributes:
        strip: where they lie.
        first: column of the first one, counted from the strip's first tile.
        start, stop: which tiles of the batch they are.
    """

    strip: Strip
    first: int
    start: int
    stop: int


@dataclass(frozen=True)
class Batch:
    """Tiles to compute, and where they belong."""

    tiles: TileBatch
    runs: tuple[TileRun, ...]


def take_batches(
    plan: FusePlan, strips: Iterable[Strip], size: int, most_strips: int
) -> Iterator[Batch]:
    """Batches of the wanted tiles, row after row; a batch may cross strips.

    What a batch holds follows from the scene alone, never from timing.

    Args:
        plan: the job.
        strips: in order.
        size: tiles of a batch.
        most_strips: how many strips a batch may come from; where tiles are scarce it is smaller.
    """
    runs: list[TileRun] = []
    count = come_from = 0
    for strip in strips:
        come_from = come_from + 1 if runs else 1
        for first, length in _neighbours(strip.wanted):
            while length:
                part = min(length, size - count)
                runs.append(TileRun(strip, first, count, count + part))
                first, length, count = first + part, length - part, count + part
                if count == size:
                    yield Batch(_assembled(plan, runs), tuple(runs))
                    runs, count, come_from = [], 0, 1
        if runs and come_from >= most_strips:
            yield Batch(_assembled(plan, runs), tuple(runs))
            runs, count = [], 0
    if runs:
        yield Batch(_assembled(plan, runs), tuple(runs))


def _neighbours(wanted: np.ndarray) -> Iterator[tuple[int, int]]:
    """First number and length of each run of successive numbers."""
    if wanted.size:
        for part in np.split(wanted, np.flatnonzero(np.diff(wanted) != 1) + 1):
            yield int(part[0]), len(part)


def _assembled(plan: FusePlan, runs: Sequence[TileRun]) -> TileBatch:
    """The pixels of tiles at scene scale, bands in the network's order."""
    rows, cols, card = plan.tiles.rows, plan.tiles.cols, plan.model.card
    count, order = runs[-1].stop, plan.bands.order
    tile, low = card.tile, card.tile // card.ratio
    pan_scale, ms_scale = plan.pan_scale, plan.ms_scale
    batch = TileBatch(
        guide=np.empty((count, len(pan_scale), tile, tile), np.float32),
        ms=np.empty((count, len(order), low, low), np.float32),
        lms=np.empty((count, len(order), tile, tile), np.float32),
        origins=np.empty((count, 2), np.int64),
    )
    images = (
        ("pan", batch.guide, range(len(pan_scale)), pan_scale, 1),
        ("ms", batch.ms, order, ms_scale, card.ratio),
        ("lms", batch.lms, order, ms_scale, 1),
    )
    for run in runs:
        part = slice(run.start, run.stop)
        numbers = cols.first + run.first + np.arange(run.stop - run.start)
        batch.origins[part, 0] = rows.position(run.strip.index)
        batch.origins[part, 1] = cols.position(numbers)
        for name, target, bands, scale, ratio in images:
            top = 0
            for slab in run.strip.slabs:
                if slab is None or top == target.shape[2]:
                    continue
                image = getattr(slab.pixels, name)
                view = _cut(image, run, target.shape[2] - top, cols.stride // ratio, tile // ratio)
                end = top + view.shape[2]
                for channel, band in enumerate(bands):
                    np.divide(view[:, band], scale[band], out=target[part, channel, top:end])
                top = end
    return batch


def _cut(image: np.ndarray, run: TileRun, most: int, stride: int, tile: int) -> np.ndarray:
    """The first rows, at most ``most``, of a run's tiles (n, C, h, tile) of a slab (C, h, W), as a view."""
    windows = np.lib.stride_tricks.sliding_window_view(image[:, :most], tile, axis=2)
    first = run.first * stride
    chosen = windows[:, :, first : first + (run.stop - run.start - 1) * stride + 1 : stride]
    return chosen.transpose(2, 0, 1, 3)
