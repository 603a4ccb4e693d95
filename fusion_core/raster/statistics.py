"""Levels of a raster's bands, from a sample that its size alone decides.

Neither the file's blocks, nor overviews, nor an area of interest change the sample, so a crop that is fused alone and
a full run see the same levels.  All of them are values of the data or their mean: scaling the data scales them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import FusionError
from .window import Window

SAMPLE = 1 << 21
"""Most values that are kept of one band; smaller rasters are used whole."""

PATCH = 64
PATCHES = 256
ENOUGH = 4096
BANDS_AT_ONCE = 4
STRIP_VALUES = 1 << 22

ReadBands = Callable[[Window, slice], "tuple[np.ndarray, np.ndarray | None]"]


@dataclass(frozen=True)
class BandLevels:
    """Levels of each band, float32 (C,).

    Attributes:
        scale: 98th percentile of the valid values, or where that is not positive the nearest positive stand-in.
        mean: mean valid value.
        least: least valid value.
        greatest: greatest valid value.
    """

    scale: np.ndarray
    mean: np.ndarray
    least: np.ndarray
    greatest: np.ndarray


def band_levels(read: ReadBands, rows: int, cols: int, bands: int, name: str) -> BandLevels:
    """Sample a raster and measure its bands.

    Args:
        read: returns values (n, h, w) and valid (n, h, w), None for all, of a window of some bands.
        rows: rows of the raster.
        cols: columns of the raster.
        bands: number of bands.
        name: what to call the raster in a message.

    Raises:
        FusionError: a band has no valid pixel.
    """
    windows = _patches(rows, cols)
    whole = rows * cols <= SAMPLE
    levels = []
    for first in range(0, bands, BANDS_AT_ONCE):
        group = slice(first, min(bands, first + BANDS_AT_ONCE))
        if whole:
            samples = _sampled(read, _strips(rows, cols), group)
        else:
            samples = _sampled(read, windows, group)
            if min(len(sample) for sample in samples) < ENOUGH:
                samples = _sampled(read, _strips(rows, cols), group)
        for number, sample in enumerate(samples, group.start + 1):
            if not len(sample):
                raise FusionError(
                    f"Band {number} of {name} has no valid pixel: check its nodata value and mask, or choose"
                    " another raster."
                )
            levels.append(_levels(sample))
    table = np.array(levels, np.float32)
    return BandLevels(*np.ascontiguousarray(table.T))


def _levels(sample: np.ndarray) -> tuple[float, float, float, float]:
    least = float(sample.min())
    greatest = float(sample.max())
    scale = _percentile98(sample)
    if scale <= 0:
        scale = _percentile98(np.abs(sample)) or max(abs(least), abs(greatest)) or 1.0
    return scale, float(sample.mean(dtype=np.float64)), least, greatest


def _percentile98(sample: np.ndarray) -> float:
    # An order statistic, not an interpolated one: it is itself a value of the data, so it scales with them exactly.
    rank = int(np.ceil(0.98 * len(sample))) - 1
    return float(np.partition(sample, rank)[rank])


def _patches(rows: int, cols: int) -> list[Window]:
    """Small squares spread evenly over the raster."""
    step = np.sqrt(rows * cols / PATCHES)
    down = min(PATCHES, max(1, round(rows / step)))
    across = max(1, min(PATCHES // down, round(cols / step)))
    height = min(PATCH, rows)
    width = min(PATCH, cols)
    return [
        Window(
            min(rows - height, max(0, int((i + 0.5) * rows / down) - height // 2)),
            min(cols - width, max(0, int((j + 0.5) * cols / across) - width // 2)),
            height,
            width,
        )
        for i in range(down)
        for j in range(across)
    ]


def _strips(rows: int, cols: int) -> list[Window]:
    """The whole raster in full-width strips, from top to bottom."""
    height = max(1, STRIP_VALUES // cols)
    return [Window(row, 0, min(height, rows - row), cols) for row in range(0, rows, height)]


def _sampled(read: ReadBands, windows: list[Window], group: slice) -> list[np.ndarray]:
    """The valid values of each band of the group, thinned evenly to at most ``SAMPLE``."""
    thinned = [_Thinned() for _ in range(group.start, group.stop)]
    for window in windows:
        values, valid = read(window, group)
        for band, sample in enumerate(thinned):
            sample.add(values[band].ravel() if valid is None else values[band][valid[band]])
    return [sample.values() for sample in thinned]


class _Thinned:
    """Every n-th value of a stream, n doubling whenever too many are kept."""

    def __init__(self) -> None:
        self._kept: list[np.ndarray] = []
        self._count = 0
        self._stride = 1
        self._seen = 0

    def add(self, values: np.ndarray) -> None:
        kept = values[-self._seen % self._stride :: self._stride]
        self._seen += len(values)
        self._kept.append(np.array(kept))
        self._count += len(kept)
        while self._count > SAMPLE:
            # What is kept are the values number 0, stride, 2 stride ..., so dropping every other one keeps the order.
            self._kept = [self.values()[::2].copy()]
            self._count = len(self._kept[0])
            self._stride *= 2

    def values(self) -> np.ndarray:
        return np.concatenate(self._kept) if self._kept else np.empty(0, np.float32)
