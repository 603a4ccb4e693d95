"""Whole rasters in memory, for training, samples and tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from osgeo import gdal

from ..errors import FusionError
from .colours import COLOURS
from .formats import GDAL_TYPES, geotiff_options
from .gdal_calls import gdal_errors_as
from .georeference import Geotransform, srs_from_wkt, wkt_of
from .partial import PartialOutput
from .source import RasterSource
from .window import Window


@dataclass(frozen=True)
class RasterInfo:
    """What lies around the pixels of a raster.

    Attributes:
        geotransform: GDAL geotransform, None where there is none.
        crs_wkt: coordinate system, "" where there is none.
        band_names: descriptions of the bands, "" where there is none.
        nodata: nodata value of the first band, None where there is none.
    """

    geotransform: Geotransform | None
    crs_wkt: str
    band_names: tuple[str, ...]
    nodata: float | None


def read_bands(path: str) -> tuple[np.ndarray, RasterInfo]:
    """Read a whole raster, an alpha band left out.

    Returns:
        Pixels (C, H, W) in the raster's own type, and what lies around them.

    Raises:
        FusionError: it cannot be read.
    """
    source = RasterSource(path)
    try:
        pixels = source.read_raw(Window(0, 0, source.rows, source.cols)).copy()
    finally:
        source.close()
    names = tuple(profile.name for profile in source.profiles)
    return pixels, RasterInfo(source.geotransform, wkt_of(source.srs), names, source.nodata[0])


def write_geotiff(
    path: str,
    array: np.ndarray,
    geotransform: Geotransform | None,
    crs_wkt: str,
    band_names: Sequence[str] = (),
    nodata: float | None = None,
    creation_options: Sequence[str] = (),
) -> None:
    """Write a raster that is in memory as GeoTIFF; it appears under its name when whole.

    Args:
        path: the file.
        array: pixels (C, H, W).
        geotransform: GDAL geotransform, None for none.
        crs_wkt: coordinate system as WKT or "EPSG:...", "" for none.
        band_names: descriptions of the bands.
        nodata: nodata value, None for none.
        creation_options: of GDAL's GeoTIFF driver, "KEY=VALUE".

    Raises:
        FusionError: it cannot be written.
    """
    if array.dtype.name not in GDAL_TYPES:
        raise FusionError(f"Rasters of {array.dtype.name} cannot be written: choose float32.")
    bands, height, width = array.shape
    gdal_type = GDAL_TYPES[array.dtype.name]
    options = geotiff_options(bands, width * array.dtype.itemsize, creation_options)
    problem = f"{path} cannot be written: check the space on the disk and the creation options"
    partial = PartialOutput(path)
    dataset = None
    try:
        with gdal_errors_as(problem) as messages:
            dataset = gdal.GetDriverByName("GTiff").Create(
                partial.path, width, height, bands, gdal_type, options
            )
            messages.require(dataset)
            if geotransform is not None:
                dataset.SetGeoTransform(geotransform)
            srs = srs_from_wkt(crs_wkt)
            if srs is not None:
                dataset.SetSpatialRef(srs)
            for index in range(bands):
                band = dataset.GetRasterBand(index + 1)
                if index < len(band_names) and band_names[index]:
                    band.SetDescription(band_names[index])
                    if band_names[index].lower() in COLOURS:
                        band.SetColorInterpretation(COLOURS[band_names[index].lower()])
                if nodata is not None:
                    band.SetNoDataValue(nodata)
            dataset.WriteRaster(
                0, 0, width, height, np.ascontiguousarray(array).data, buf_type=gdal_type
            )
            dataset.FlushCache()
            dataset = None
    except BaseException:
        # An open file could not be removed on Windows, and the traceback would keep it open.
        dataset = None
        partial.discard()
        raise
    partial.publish()
