"""MS rasters on another map or turned against PAN, seen on the coarse grid through a GDAL warped VRT."""

from __future__ import annotations

from xml.etree import ElementTree  # nosec B405 - builds a document, parses none

import numpy as np
from osgeo import osr

from .gdal_calls import gdal_errors_as
from .georeference import Geotransform, geotransform_of, matrix_of, wkt_of
from .source import RasterSource


def warped(
    source: RasterSource,
    srs: osr.SpatialReference | None,
    geotransform: Geotransform,
    rows: int,
    cols: int,
) -> RasterSource:
    """A raster resampled (cubic, antialiased where coarser) to another grid; pixels without data are NaN.

    The VRT is written by hand because ``gdal.Warp`` makes north-up grids only and PAN may be turned.  It transforms
    every pixel exactly: an approximation along each block of the VRT would make values depend on the block.

    Args:
        source: the raster; one whose coordinate system is None is taken to be on the target's map.
        srs: coordinate system of the target.
        geotransform: of the target grid.
        rows: rows of the target grid.
        cols: columns of the target grid.

    Returns:
        A float32 source with the bands of ``source``, its label in messages.

    Raises:
        FusionError: GDAL cannot warp it.
    """
    root = ElementTree.Element(
        "VRTDataset", subClass="VRTWarpedDataset", rasterXSize=str(cols), rasterYSize=str(rows)
    )
    if srs is not None:
        _add(root, "SRS", wkt_of(srs), dataAxisToSRSAxisMapping=_axes(srs))
    _add(root, "GeoTransform", _numbers(geotransform))
    for number in range(1, source.bands + 1):
        band = _add(
            root,
            "VRTRasterBand",
            dataType="Float32",
            band=str(number),
            subClass="VRTWarpedRasterBand",
        )
        _add(band, "NoDataValue", "nan")
    _add(root, "BlockXSize", str(min(cols, 512)))
    _add(root, "BlockYSize", str(min(rows, 128)))

    options = _add(root, "GDALWarpOptions")
    _add(options, "WarpMemoryLimit", "67108864")
    _add(options, "ResampleAlg", "Cubic")
    _add(options, "WorkingDataType", "Float32")
    _add(options, "Option", "NO_DATA", name="INIT_DEST")
    _add(options, "Option", "NO", name="UNIFIED_SRC_NODATA")
    _add(options, "SourceDataset", source.name, relativeToVRT="0")
    transformer = _add(_add(options, "Transformer"), "GenImgProjTransformer")
    for name, grid in (("Src", source.geotransform), ("Dst", geotransform)):
        inverse = geotransform_of(np.linalg.inv(matrix_of(grid)))
        _add(transformer, f"{name}GeoTransform", _numbers(grid))
        _add(transformer, f"{name}InvGeoTransform", _numbers(inverse))
    if srs is not None and source.srs is not None:
        reprojection = _add(
            _add(transformer, "ReprojectTransformer"),
            "ReprojectionTransformer",
        )
        for name, system in (("SourceSRS", source.srs), ("TargetSRS", srs)):
            _add(reprojection, name, wkt_of(system), dataAxisToSRSAxisMapping=_axes(system))
    mappings = _add(options, "BandList")
    for number, (stored, nodata) in enumerate(zip(source.band_numbers, source.nodata), 1):
        mapping = _add(mappings, "BandMapping", src=str(stored), dst=str(number))
        if nodata is not None:
            _add(mapping, "SrcNoDataReal", repr(nodata))
            _add(mapping, "SrcNoDataImag", "0")
        _add(mapping, "DstNoDataReal", "nan")
        _add(mapping, "DstNoDataImag", "0")
    if source.alpha_number is not None:
        _add(options, "SrcAlphaBand", str(source.alpha_number))

    with gdal_errors_as(
        f"{source.label} cannot be brought to the grid of the panchromatic raster: reproject it first"
    ):
        text = ElementTree.tostring(root, encoding="unicode")
        return RasterSource(text, source.label)


def _add(
    parent: ElementTree.Element, tag: str, text: str = "", **attributes: str
) -> ElementTree.Element:
    child = ElementTree.SubElement(parent, tag, attributes)
    child.text = text
    return child


def _numbers(geotransform: Geotransform) -> str:
    return ",".join(repr(float(number)) for number in geotransform)


def _axes(srs: osr.SpatialReference) -> str:
    return ",".join(str(axis) for axis in srs.GetDataAxisToSRSAxisMapping())
