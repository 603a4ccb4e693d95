"""MS rasters on another map, turned or mirrored against PAN, seen on PAN's coarse grid.

GDAL's warper is not used: its antialiased cubic kernel depends on the chunk that is warped and moves a plane by up to a
fifth of a PAN pixel on turned grids.  Here a pixel is a function of its position alone.
"""

from __future__ import annotations

import numpy as np

from ..resampling import cubic_taps
from .alignment import TIE
from .filling import fill_invalid
from .georeference import PixelMap
from .stack import RasterStack
from .window import Window

LATTICE = 16
"""Coarse pixels between positions that are transformed; in between they are interpolated, to far less than a pixel."""

BLOCK = 256
"""Side of the blocks that are resampled at once: a long strip of a turned raster would span most of it."""

NO_STRETCH = 1.05
"""Coarse pixels that are larger than MS pixels by less than this factor need no antialiasing."""


class ReprojectedStack:
    """A raster stack resampled (cubic, antialiased where coarser) to a coarse grid of PAN.

    Attributes:
        label: short name for messages.
        rows: rows of the coarse grid.
        cols: columns of the coarse grid.
        bands: number of bands.
        may_have_invalid: True, for the grid may reach beyond the raster.
    """

    may_have_invalid = True

    def __init__(
        self,
        stack: RasterStack,
        to_ms: PixelMap,
        jacobian: np.ndarray,
        ratio: int,
        margin: int,
        size: tuple[int, int],
    ) -> None:
        """View a stack on another grid.

        Args:
            stack: the MS raster.
            to_ms: from PAN pixels to MS pixels.
            jacobian: MS pixels (column, row) a PAN pixel (column, row), 2 x 2.
            ratio: PAN pixels a coarse pixel.
            margin: coarse pixels that the grid starts above and left of PAN.
            size: rows and columns of the grid.
        """
        self._stack = stack
        self._to_ms = to_ms
        self._ratio = ratio
        self._margin = margin
        self.label = stack.label
        self.rows, self.cols = size
        self.bands = stack.bands
        lengths = np.linalg.norm(jacobian, axis=1) * ratio
        col_stretch, row_stretch = (
            float(length) if length > NO_STRETCH else 1.0 for length in lengths
        )
        self._stretch = (row_stretch, col_stretch)

    def read(self, window: Window, bands: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Read pixels; arguments, results and errors as ``RasterSource.read``."""
        count = len(range(*bands.indices(self.bands)))
        values = np.zeros((count, window.height, window.width), np.float32)
        valid = np.zeros(values.shape, bool)
        for row in range(window.row, window.bottom, BLOCK):
            for col in range(window.col, window.right, BLOCK):
                block = window.intersect(Window(row, col, BLOCK, BLOCK))
                rows, cols = block.slices_in(window)
                self._resample(block, bands, values[:, rows, cols], valid[:, rows, cols])
        return values, valid

    def _resample(self, block: Window, bands: slice, values: np.ndarray, valid: np.ndarray) -> None:
        stack = self._stack
        positions = self._positions(block)
        owners = np.floor(positions + 0.5 + TIE)
        inside = ((owners >= 0) & (owners < [stack.rows, stack.cols])).all(axis=-1)
        if not inside.any():
            return
        positions = positions[inside]
        owners = owners[inside].astype(np.int64)
        row_taps, row_weights = cubic_taps(positions[:, 0], stack.rows, self._stretch[0])
        col_taps, col_weights = cubic_taps(positions[:, 1], stack.cols, self._stretch[1])
        top, left = int(row_taps.min()), int(col_taps.min())
        reach = max(row_taps.shape[1], col_taps.shape[1]) // 2
        region = Window(
            top, left, int(row_taps.max()) - top + 1, int(col_taps.max()) - left + 1
        ).grown(reach)
        region = region.intersect(Window(0, 0, stack.rows, stack.cols))
        source, holds = stack.read(region, bands)
        if holds is not None:
            for band, band_holds in zip(source, holds):
                # Taps of a pixel that lies on valid data are at most the reach away from it.
                fill_invalid(band, band_holds, reach, 0.0)
        corner = np.array([region.row, region.col])
        row_taps -= corner[0]
        col_taps -= corner[1]
        total = np.zeros((len(source), len(positions)))
        for row in range(row_taps.shape[1]):
            for col in range(col_taps.shape[1]):
                weights = row_weights[:, row] * col_weights[:, col]
                total += source[:, row_taps[:, row], col_taps[:, col]] * weights
        values[:, inside] = total
        owners -= corner
        valid[:, inside] = True if holds is None else holds[:, owners[:, 0], owners[:, 1]]

    def _positions(self, block: Window) -> np.ndarray:
        """MS positions (row, column), pixel centres whole numbers, of coarse pixel centres, (h, w, 2)."""
        lattice = Window(
            block.row // LATTICE,
            block.col // LATTICE,
            (block.bottom - 1) // LATTICE - block.row // LATTICE + 2,
            (block.right - 1) // LATTICE - block.col // LATTICE + 2,
        )
        rows, cols = np.mgrid[
            lattice.row : lattice.bottom, lattice.col : lattice.right
        ] * LATTICE + (0.5 - self._margin)
        points = np.stack([cols.ravel(), rows.ravel()], axis=1) * self._ratio
        nodes = self._to_ms(points)[:, ::-1].reshape(lattice.height, lattice.width, 2) - 0.5

        down, row_share = _lattice_steps(block.row, block.bottom, lattice.row)
        across, col_share = _lattice_steps(block.col, block.right, lattice.col)
        row_share, col_share = row_share[:, None, None], col_share[:, None]
        lines = nodes[down] * (1 - row_share) + nodes[down + 1] * row_share
        return lines[:, across] * (1 - col_share) + lines[:, across + 1] * col_share

    def close(self) -> None:
        """Release the files."""
        self._stack.close()


def _lattice_steps(start: int, stop: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    """The node before each coarse pixel, counted from ``first``, and how far it is on the way to the next."""
    pixels = np.arange(start, stop)
    return pixels // LATTICE - first, (pixels % LATTICE) / LATTICE
