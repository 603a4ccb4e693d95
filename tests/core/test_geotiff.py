"""Whole rasters to and from memory."""

from __future__ import annotations

import os

import numpy as np
import pytest

from fusion_core.errors import FusionError

pytest.importorskip("osgeo")
from fusion_core.raster.geotiff import read_bands, write_geotiff  # noqa: E402

GRID = (500000.0, 2.0, 0.0, 5000000.0, 0.0, -2.0)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "uint32", "float32", "float64"])
def test_round_trip(tmp_path, dtype):
    path = str(tmp_path / "a.tif")
    array = (np.random.default_rng(0).random((3, 20, 30)) * 200).astype(dtype)
    write_geotiff(path, array, GRID, "EPSG:32633", ("a", "", "c"), nodata=7)
    pixels, info = read_bands(path)
    assert pixels.dtype == dtype
    np.testing.assert_array_equal(pixels, array)
    assert info.geotransform == GRID
    assert info.band_names == ("a", "", "c")
    assert info.nodata == 7
    write_geotiff(path, pixels[:, ::2], info.geotransform, info.crs_wkt, nodata=info.nodata)
    assert read_bands(path)[1].crs_wkt == info.crs_wkt
    assert os.listdir(tmp_path) == ["a.tif"]


def test_no_georeference(tmp_path):
    path = str(tmp_path / "a.tif")
    write_geotiff(path, np.ones((4, 5, 6), np.uint8), None, "", creation_options=["COMPRESS=LZW"])
    pixels, info = read_bands(path)
    assert pixels.shape == (4, 5, 6)
    assert (info.geotransform, info.crs_wkt, info.nodata) == (None, "", None)


def test_failures_leave_nothing(tmp_path):
    array = np.ones((1, 5, 6), np.uint8)
    with pytest.raises(FusionError, match="complex128"):
        write_geotiff(str(tmp_path / "a.tif"), array.astype(complex), GRID, "")
    with pytest.raises(FusionError, match="cannot be written"):
        options = ["TILED=YES", "BLOCKXSIZE=17"]
        write_geotiff(str(tmp_path / "a.tif"), array, GRID, "", creation_options=options)
    with pytest.raises(FusionError, match="choose another folder"):
        write_geotiff(str(tmp_path / "none" / "a.tif"), array, GRID, "")
    with pytest.raises(FusionError, match="cannot be opened"):
        read_bands(str(tmp_path / "a.tif"))
    assert os.listdir(tmp_path) == []
