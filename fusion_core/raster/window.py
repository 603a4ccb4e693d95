"""Rectangles of pixels."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """A rectangle of raster pixels; it may reach outside the raster.

    Attributes:
        row: first row.
        col: first column.
        height: number of rows.
        width: number of columns.
    """

    row: int
    col: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        """The row after the last one."""
        return self.row + self.height

    @property
    def right(self) -> int:
        """The column after the last one."""
        return self.col + self.width

    @property
    def empty(self) -> bool:
        """Whether the window holds no pixel."""
        return self.height <= 0 or self.width <= 0

    def intersect(self, other: Window) -> Window:
        """The pixels in both windows; check ``empty`` where they may not meet."""
        row = max(self.row, other.row)
        col = max(self.col, other.col)
        height = max(0, min(self.bottom, other.bottom) - row)
        width = max(0, min(self.right, other.right) - col)
        return Window(row, col, height, width)

    def grown(self, pixels: int) -> Window:
        """The window with ``pixels`` more on each side."""
        return Window(
            self.row - pixels,
            self.col - pixels,
            self.height + 2 * pixels,
            self.width + 2 * pixels,
        )

    def contains(self, other: Window) -> bool:
        """Whether every pixel of ``other`` is in this window."""
        return self.intersect(other) == other

    def slices_in(self, outer: Window) -> tuple[slice, slice]:
        """Row and column slices of this window in an array that holds ``outer``."""
        return (
            slice(self.row - outer.row, self.bottom - outer.row),
            slice(self.col - outer.col, self.right - outer.col),
        )
