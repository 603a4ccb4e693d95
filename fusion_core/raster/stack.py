"""Several rasters of one grid read as one: the bands of a scene that is delivered as a file a band."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import FusionError
from .georeference import same_srs
from .source import RasterSource
from .window import Window


class RasterStack:
    """Rasters on the same grid, their bands one after the other.

    The attributes are those of ``RasterSource``, over all bands.
    """

    def __init__(self, sources: Sequence[RasterSource]) -> None:
        """Stack opened rasters.

        Raises:
            FusionError: there is none, or they do not share a grid.
        """
        if not sources:
            raise FusionError("No multispectral raster was given: choose at least one.")
        first = sources[0]
        for other in sources[1:]:
            if not _same_grid(first, other):
                raise FusionError(
                    f"{first.label} and {other.label} lie on different grids: resample the bands to one size,"
                    " extent and coordinate system, or leave one out."
                )
        self.sources = tuple(sources)
        self.label = first.label
        self.rows = first.rows
        self.cols = first.cols
        self.bands = sum(source.bands for source in sources)
        self.all_bands = sum(source.all_bands for source in sources)
        self.dtype = np.result_type(*(source.dtype for source in sources)).name
        self.profiles = tuple(profile for source in sources for profile in source.profiles)
        self.nodata = tuple(value for source in sources for value in source.nodata)
        self.geotransform = first.geotransform
        self.has_gcps = first.has_gcps
        self.srs = first.srs
        self.point = first.point
        self.may_have_invalid = any(source.may_have_invalid for source in sources)
        self.files = frozenset().union(*(source.files for source in sources))

    @classmethod
    def open(cls, names: Sequence[str], bands: int | None = None) -> RasterStack:
        """Open rasters by their GDAL names and stack them; errors as ``RasterSource`` and the constructor.

        Args:
            names: GDAL names.
            bands: how many bands the user counts; where only all of them, transparencies too, are as many, they
                hold data.
        """
        stack = cls([RasterSource(name) for name in names])
        if stack.bands != bands == stack.all_bands:
            stack.close()
            stack = cls([RasterSource(name, alpha_is_data=True) for name in names])
        return stack

    def read(
        self, window: Window, bands: slice = slice(None)
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Read pixels; arguments, results and errors as ``RasterSource.read``."""
        if len(self.sources) == 1:
            return self.sources[0].read(window, bands)
        start, stop, _ = bands.indices(self.bands)
        values = np.empty((stop - start, window.height, window.width), np.float32)
        valid = np.ones(values.shape, bool)
        first = 0
        for source in self.sources:
            wanted = slice(max(start - first, 0), min(stop - first, source.bands))
            if wanted.start < wanted.stop:
                target = slice(first + wanted.start - start, first + wanted.stop - start)
                values[target], part = source.read(window, wanted)
                if part is not None:
                    valid[target] = part
            first += source.bands
        return values, None if valid.all() else valid

    def close(self) -> None:
        """Release the files."""
        for source in self.sources:
            source.close()


def _same_grid(first: RasterSource, other: RasterSource) -> bool:
    if (first.rows, first.cols) != (other.rows, other.cols):
        return False
    if first.srs is not None and other.srs is not None and not same_srs(first.srs, other.srs):
        return False
    if first.geotransform is None or other.geotransform is None:
        return first.geotransform is other.geotransform
    # A hundredth of a pixel at the far corner is rounding, not a shift.
    extent = np.array([1, first.cols, first.rows])
    ours = np.abs(np.reshape(first.geotransform, (2, 3)) - np.reshape(other.geotransform, (2, 3)))
    pixel = np.abs(np.reshape(first.geotransform, (2, 3))[:, 1:]).max(axis=1)
    return bool(np.all(ours @ extent < 0.01 * pixel))
