"""How the pixels of PAN, MS and the coarse grid lie on each other, along one axis at a time.

Three grids share each axis: the PAN pixels, the MS pixels and the *coarse* pixels, which are exactly ``ratio`` PAN
pixels wide and lie as near to the MS pixels as whole PAN pixels allow.  Everything is a function of absolute pixel
numbers, never of a window, so a pixel gets the same value whatever window asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SNAP = 0.01
"""MS pixels of misfit that are taken for rounding in the georeference rather than for a real shift."""

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


def interpolate(
    source: np.ndarray,
    rows: tuple[np.ndarray, np.ndarray],
    cols: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Weigh the taps of a separable interpolation, in an order that no window can change.

    Matrix products round differently for different shapes, so the taps are summed one by one in float64.

    Args:
        source: bands (C, h, w).
        rows: taps into h and weights, each (H, k).
        cols: taps into w and weights, each (W, k).

    Returns:
        float32 (C, H, W).
    """
    row_taps, row_weights = rows
    col_taps = np.ascontiguousarray(cols[0].T)
    col_weights = np.ascontiguousarray(cols[1].T)
    width = col_taps.shape[1]
    target = np.empty((source.shape[0], len(row_taps), width), np.float32)
    # One line at a time through the same buffers: lines stay in the cache, which is worth a factor of six.
    across = np.empty((source.shape[1], width))
    line = np.empty(width)
    part = np.empty(width)
    for band, result in zip(source, target):
        for values, wide in zip(band.astype(np.float64), across):
            # A mode other than "raise" lets take write into the buffer; all taps are inside.
            np.take(values, col_taps[0], out=wide, mode="clip")
            wide *= col_weights[0]
            for taps, weights in zip(col_taps[1:], col_weights[1:]):
                np.take(values, taps, out=part, mode="clip")
                part *= weights
                wide += part
        for row, (taps, weights) in enumerate(zip(row_taps, row_weights)):
            np.multiply(across[taps[0]], weights[0], out=line)
            for tap, weight in zip(taps[1:], weights[1:]):
                np.multiply(across[tap], weight, out=part)
                np.add(line, part, out=line)
            result[row] = line
    return target
