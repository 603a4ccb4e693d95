"""Output on the grid of one raster, where there is no scene."""

from __future__ import annotations

from dataclasses import dataclass

from .georeference import Geotransform, shifted
from .source import BandProfile
from .window import Window


@dataclass(frozen=True)
class LikeRaster:
    """What ``Mosaic`` asks of a scene, said of a single grid; the names are those of ``Scene``.

    Attributes:
        overlap: the pixels of the grid.
        geotransform: of the grid, None where it has none.
        crs_wkt: coordinate system, "" for none.
        pixel_is_point: whether the pixels are points.
        may_have_invalid: whether any pixel can be invalid.
        files: absolute paths of the files that must not be overwritten.
        band_profiles: what the bands of the output say about themselves.
    """

    overlap: Window
    geotransform: Geotransform | None
    crs_wkt: str
    pixel_is_point: bool
    may_have_invalid: bool
    files: frozenset[str]
    band_profiles: tuple[BandProfile, ...]

    @property
    def ms_bands(self) -> int:
        """Number of bands of the output."""
        return len(self.band_profiles)

    def geotransform_at(self, window: Window) -> Geotransform | None:
        """The geotransform of a raster that covers ``window``."""
        if self.geotransform is None:
            return None
        return shifted(self.geotransform, window.row, window.col)
