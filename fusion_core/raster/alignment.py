"""How the pixels of PAN, MS and the coarse grid lie on each other, along one axis at a time.

Three grids share each axis: the PAN pixels, the MS pixels and the *coarse* pixels, which are exactly ``ratio`` PAN
pixels wide and lie as near to the MS pixels as whole PAN pixels allow.  Everything is a function of absolute pixel
numbers, never of a window, so a pixel gets the same value whatever window asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..resampling import cubic_taps

SNAP = 0.01
"""MS pixels of misfit that are taken for rounding in the georeference rather than for a real shift."""

CACHED_VALUES = 1 << 16
"""Numbers of an array that fits into the processor's cache together with a few others."""

TIE = 1e-6
"""Part of a pixel by which positions on a pixel's very edge are pushed to one side, so that rounding cannot."""


@dataclass(frozen=True)
class AxisAlignment:
    """One axis of a PAN and an MS raster.

    Attributes:
        pan_size: number of PAN pixels.
        ms_size: number of MS pixels.
        ratio: PAN pixels a coarse pixel.
        scale: MS pixels a PAN pixel.
        offset: position of the PAN raster's first edge in MS pixels from the MS raster's first edge.
        phase: PAN pixel on which a coarse pixel starts, 0 .. ratio - 1.
        shift: MS pixel minus coarse pixel where the two grids coincide, None where they do not.
    """

    pan_size: int
    ms_size: int
    ratio: int
    scale: float
    offset: float
    phase: int
    shift: int | None

    @property
    def stretch(self) -> float:
        """Width of a coarse pixel in MS pixels, at least 1: what antialiasing needs."""
        return max(1.0, self.ratio * self.scale)

    def ms_positions(self, pan_pixels: np.ndarray) -> np.ndarray:
        """MS positions (pixel centres whole numbers) of the centres of PAN pixels."""
        return (pan_pixels + 0.5) * self.scale + (self.offset - 0.5)

    def pan_positions(self, ms_pixels: np.ndarray) -> np.ndarray:
        """PAN positions (pixel centres whole numbers) of the centres of MS pixels."""
        return (ms_pixels + 0.5 - self.offset) / self.scale - 0.5

    def coarse_ms_positions(self, coarse_pixels: np.ndarray) -> np.ndarray:
        """MS positions of the centres of coarse pixels."""
        centres = self.phase + (coarse_pixels + 0.5) * self.ratio
        return centres * self.scale + (self.offset - 0.5)

    def ms_pixels(self, pan_pixels: np.ndarray) -> np.ndarray:
        """Number of the MS pixel that holds the centre of each PAN pixel; may lie outside the raster."""
        edges = (pan_pixels + 0.5) * self.scale + self.offset
        return np.floor(edges + TIE).astype(np.int64)

    def overlap(self) -> tuple[int, int]:
        """First PAN pixel whose centre the MS raster covers, and the one after the last; equal where none is."""
        owners = self.ms_pixels(np.arange(self.pan_size))
        inside = np.flatnonzero((owners >= 0) & (owners < self.ms_size))
        return (int(inside[0]), int(inside[-1]) + 1) if inside.size else (0, 0)


def align_axis(
    pan_size: int, ms_size: int, scale: float, offset: float, ratio: int
) -> AxisAlignment:
    """Place the coarse grid of ``ratio`` PAN pixels on one axis.

    A scale or an offset that misses the ideal one by less than ``SNAP`` MS pixels over the whole raster is taken for
    the ideal one: georeferences are rounded, and an MS raster that is meant to lie on the grid is passed on as it is.

    Args:
        pan_size: number of PAN pixels.
        ms_size: number of MS pixels.
        scale: MS pixels a PAN pixel, greater than 0.
        offset: position of the PAN raster's first edge in MS pixels.
        ratio: PAN pixels a coarse pixel.
    """
    drift = abs(scale * ratio - 1) * max(ms_size, pan_size * scale)
    if drift < SNAP:
        scale = 1 / ratio
    # Where the ratio is not a whole number the grids drift apart: they meet in the middle.
    middle = 0 if drift < SNAP else ms_size // 2
    edge = (middle - offset) / scale
    phase = int(np.floor(edge + 0.5 + TIE)) % ratio
    shift = None
    if drift < SNAP:
        exact = phase / ratio + offset
        if abs(exact - round(exact)) < SNAP:
            shift = round(exact)
            offset = shift - phase / ratio
    return AxisAlignment(pan_size, ms_size, ratio, scale, offset, phase, shift)


@dataclass(frozen=True)
class AxisTaps:
    """What each of a row of targets is made of, along one axis.

    Attributes:
        taps: source samples, int64 (n, k).
        weights: of the taps, float64 (n, k).
        period: after so many targets the same weights come again, one source sample further; 0 if they never do.
    """

    taps: np.ndarray
    weights: np.ndarray
    period: int = 0

    @classmethod
    def of(cls, positions: np.ndarray, stretch: float = 1.0, period: int = 0) -> AxisTaps:
        """Cubic taps of targets at source positions; ``period`` is what may turn out to be one."""
        taps, weights = cubic_taps(positions, None, stretch)
        repeats = (
            period > 0
            and len(taps) % period == 0
            and np.array_equal(taps[period:], taps[:-period] + 1)
            and np.array_equal(weights[period:], weights[:-period])
        )
        return cls(taps, weights, period if repeats else 0)

    @property
    def reach(self) -> range:
        """All source samples from the first to the last."""
        return range(int(self.taps.min()), int(self.taps.max()) + 1)


def interpolate(source: np.ndarray, rows: AxisTaps, cols: AxisTaps) -> np.ndarray:
    """Weigh the taps of a separable interpolation, in an order that no window can change.

    Matrix products round differently for different shapes, so the taps are summed one by one in float64.

    Args:
        source: bands (C, h, w), from the first to the last sample that the taps reach.
        rows: taps into h.
        cols: taps into w.

    Returns:
        float32 (C, H, W).
    """
    width = len(cols.taps)
    target = np.empty((len(source), len(rows.taps), width), np.float32)
    # A few columns at a time stay in the processor's cache from one step to the next.
    lines = source.shape[1] if rows.period else rows.taps.shape[1]
    step = max(1, CACHED_VALUES // lines // max(cols.period, 1)) * max(cols.period, 1)
    row_taps, col_taps = rows.taps - rows.taps.min(), cols.taps - cols.taps.min()
    for band, result in zip(source, target):
        values = band.astype(np.float64)
        for start in range(0, width, step):
            part = slice(start, min(start + step, width))
            across = _across(values, col_taps[part], cols.weights[part], cols.period)
            _down(across, row_taps, rows.weights, rows.period, result[:, part])
    return target


def _across(values: np.ndarray, taps: np.ndarray, weights: np.ndarray, period: int) -> np.ndarray:
    """Interpolate along the second axis, (h, n)."""
    across = np.empty((len(values), len(taps)))
    if not period:
        _weigh([values.take(tap, axis=1) for tap in taps.T], weights.T, across)
        return across
    count = len(taps) // period
    for phase in range(period):
        parts = [values[:, tap : tap + count] for tap in taps[phase]]
        _weigh(parts, weights[phase], across[:, phase::period])
    return across


def _down(
    across: np.ndarray, taps: np.ndarray, weights: np.ndarray, period: int, target: np.ndarray
) -> None:
    """Interpolate along the first axis into ``target`` (H, n)."""
    if not period:
        for line, line_taps, line_weights in zip(target, taps, weights):
            _weigh([across[tap] for tap in line_taps], line_weights, line)
        return
    count = len(taps) // period
    for phase in range(period):
        parts = [across[tap : tap + count] for tap in taps[phase]]
        _weigh(parts, weights[phase], target[phase::period])


def _weigh(parts: Sequence[np.ndarray], weights: np.ndarray, target: np.ndarray) -> None:
    """The weighted sum, from the first part to the last."""
    total = parts[0] * weights[0]
    product = np.empty_like(total)
    for part, weight in zip(parts[1:], weights[1:]):
        np.multiply(part, weight, out=product)
        total += product
    target[...] = total
