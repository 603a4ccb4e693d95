"""Which tiles a job computes: plain data, no image and no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import FusionError


@dataclass(frozen=True)
class Axis:
    """Tiles along one axis of the PAN grid.

    Tile k covers PAN pixels ``origin + k * stride`` to that plus ``tile``; neighbours share ``2 * margin`` pixels.

    Attributes:
        first, last: the tiles a job needs, last included.
        start, stop: the PAN pixels the job writes.
    """

    origin: int
    tile: int
    margin: int
    first: int
    last: int
    start: int
    stop: int

    @property
    def stride(self) -> int:
        """Distance between neighbouring tiles."""
        return self.tile - 2 * self.margin

    def position(self, index: int) -> int:
        """First PAN pixel of tile ``index``."""
        return self.origin + index * self.stride

    def first_after(self, done: int) -> int:
        """The tile to begin with where the first ``done`` pixels of the job are finished; ``last + 1`` if all are."""
        if self.start + done >= self.stop:
            return self.last + 1
        unfinished = (self.start + done - self.origin) // self.stride
        # The tile before reaches into what it finishes, and is blended with it.
        return max(self.first, unfinished - (self.margin > 0))

    def up_to(self, done: int) -> Axis:
        """What a job computes that ends after the first ``done`` pixels of this one."""
        stop = self.start + done
        return replace(self, last=(stop - 1 - self.origin) // self.stride, stop=stop)

    @property
    def count(self) -> int:
        """Number of tiles."""
        return self.last - self.first + 1

    @property
    def covered(self) -> tuple[int, int]:
        """First PAN pixel of the first tile, and one past the last of the last tile."""
        return self.position(self.first), self.position(self.last) + self.tile


@dataclass(frozen=True)
class TilePlan:
    """Tiles of a job: every row of tiles times every column of tiles."""

    rows: Axis
    cols: Axis

    @property
    def count(self) -> int:
        """Number of tiles."""
        return self.rows.count * self.cols.count


def plan_tiles(
    window: tuple[int, int, int, int], phase: tuple[int, int], tile: int, margin: int
) -> TilePlan:
    """Plan the tiles for a window of the PAN grid.

    The tile grid hangs on the PAN raster's own origin (and the phase of the coarse grid on it), never on the window, so
    any part of a scene is computed from the same tiles as the whole.

    Args:
        window: row, col, height, width to be written, in PAN pixels.
        phase: row and column of the first coarse pixel on the PAN grid.
        tile: tile size in PAN pixels, a multiple of the ratio.
        margin: PAN pixels of a tile's edge that are blended with the neighbour's, a multiple of the ratio.

    Raises:
        FusionError: an empty window, or a margin above a quarter of the tile, where three tiles would meet.
    """
    row, col, height, width = window
    if height < 1 or width < 1:
        raise FusionError("There is nothing to fuse: choose an area inside both images.")
    if not 0 <= 4 * margin <= tile:
        raise FusionError(f"A margin of {margin} is too wide for a tile of {tile} pixels.")
    return TilePlan(
        _axis(row, height, phase[0], tile, margin), _axis(col, width, phase[1], tile, margin)
    )


def _axis(start: int, length: int, phase: int, tile: int, margin: int) -> Axis:
    stride = tile - 2 * margin
    # Tile 0 starts 2 * margin before the phase: a pixel p belongs to every tile that covers it, so that all of them are
    # there to be blended, whatever the window.
    origin = phase - 2 * margin
    first = -((origin + tile - 1 - start) // stride)
    last = (start + length - 1 - origin) // stride
    return Axis(origin, tile, margin, first, last, start, start + length)
