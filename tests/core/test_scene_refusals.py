"""Rasters that do not make a scene are refused with a sentence that says what to do."""

from __future__ import annotations

import os

import numpy as np
import pytest

from fusion_core.errors import FusionError

pytest.importorskip("osgeo")
from fusion_core.raster.scene import Scene  # noqa: E402
from fusion_core.raster.window import Window  # noqa: E402


def ones(bands, rows, cols, dtype="uint16"):
    return np.ones((bands, rows, cols), dtype)


def refusal(pan, ms, ratio=None):
    with pytest.raises(FusionError) as caught:
        Scene.open(pan, ms, ratio)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_not_a_raster(make_pair, tmp_path):
    pan, ms = make_pair()
    text = tmp_path / "notes.txt"
    text.write_text("no raster")
    assert "notes.txt cannot be opened as a raster" in refusal(str(text), ms)
    assert "missing.tif cannot be opened" in refusal(pan, str(tmp_path / "missing.tif"))
    assert "No multispectral raster" in refusal(pan, [])


def test_swapped(make_pair):
    pan, ms = make_pair()
    assert "swapped" in refusal(ms, pan)


def test_swapped_without_georeference(make_raster):
    pan = make_raster("pan.tif", ones(1, 48, 40), geotransform=False, crs=None)
    ms = make_raster("ms.tif", ones(3, 24, 20), geotransform=False, crs=None)
    assert "swapped" in refusal(ms, pan)


def test_ms_finer_or_as_fine(make_raster):
    coarse = make_raster("pan.tif", ones(1, 20, 20), pixel=4.0)
    ms = make_raster("ms.tif", ones(3, 80, 80))
    assert "finer" in refusal(coarse, ms)
    same = make_raster("same.tif", ones(1, 80, 80))
    assert "1.00 times as large" in refusal(same, ms)


@pytest.mark.parametrize("ratio", [1.4, 6.5, 30])
def test_unusable_ratio(make_raster, ratio):
    size = 120
    pan = make_raster("pan.tif", ones(1, size, size))
    ms = make_raster("ms.tif", ones(2, int(size / ratio), int(size / ratio)), pixel=ratio)
    assert f"{ratio:.2f} times as large" in refusal(pan, ms)


def test_ratio_asked_for_must_be_near(make_raster):
    pan = make_raster("pan.tif", ones(1, 60, 60))
    ms = make_raster("ms.tif", ones(2, 20, 20), pixel=3.0)
    assert Scene.open(pan, ms, 3).ratio == 3
    assert "3.00 times" in refusal(pan, ms, 6)


def test_one_band(make_raster):
    pan = make_raster("pan.tif", ones(1, 80, 80))
    ms = make_raster("ms.tif", ones(1, 20, 20), pixel=4.0)
    assert "ms.tif has one band" in refusal(pan, ms)


@pytest.mark.parametrize("move", [(1000.0, 0.0), (0.0, 80.0), (-80.0, 0.0)])
def test_no_overlap(make_raster, move):
    pan = make_raster("pan.tif", ones(1, 80, 80))
    origin = (500000.0 + move[0], 5000000.0 + move[1])
    ms = make_raster("ms.tif", ones(3, 20, 20), pixel=4.0, origin=origin)
    assert "do not overlap" in refusal(pan, ms)


def test_no_overlap_for_want_of_a_crs(make_raster):
    pan = make_raster("pan.tif", ones(1, 80, 80))
    ms = make_raster("ms.tif", ones(3, 20, 20), pixel=4e-5, origin=(15.0, 45.0), crs=None)
    assert "assign ms.tif the coordinate system" in refusal(pan, ms)


def test_crs_that_cannot_be_converted(make_raster):
    pan = make_raster("pan.tif", ones(1, 80, 80))
    moon = "+proj=longlat +R=1737400 +no_defs"
    ms = make_raster("ms.tif", ones(3, 20, 20), pixel=4e-5, origin=(15.0, 45.0), crs=moon)
    sentence = refusal(pan, ms)
    assert "There is no way from" in sentence or "do not overlap" in sentence


def test_georeference_missing_on_one(make_raster):
    pan = make_raster("pan.tif", ones(1, 80, 80))
    ms = make_raster("ms.tif", ones(3, 20, 20), geotransform=False, crs=None)
    assert "ms.tif is not georeferenced but pan.tif is" in refusal(pan, ms)


def test_no_georeference_and_odd_sizes(make_raster):
    pan = make_raster("pan.tif", ones(1, 81, 80), geotransform=False, crs=None)
    ms = make_raster("ms.tif", ones(3, 20, 20), geotransform=False, crs=None)
    assert "Neither pan.tif nor ms.tif" in refusal(pan, ms)


def test_ground_control_points_only(make_raster):
    from osgeo import gdal

    pan = make_raster("pan.tif", ones(1, 80, 80))
    ms = make_raster("ms.tif", ones(3, 20, 20), geotransform=False, crs=None)
    dataset = gdal.Open(ms, gdal.GA_Update)
    points = [gdal.GCP(5e5 + x, 5e6 - y, 0, x / 4, y / 4) for x, y in ((0, 0), (80, 0), (0, 80))]
    dataset.SetGCPs(points, "")
    dataset = None
    assert "ground control points" in refusal(pan, ms)


def test_complex(make_raster):
    pan = make_raster("pan.tif", ones(1, 80, 80))
    ms = make_raster("ms.tif", ones(2, 20, 20, "complex64"), pixel=4.0)
    assert "CFloat32" in refusal(pan, ms)


def test_singular_georeference(make_raster):
    pan = make_raster("pan.tif", ones(1, 80, 80))
    ms = make_raster("ms.tif", ones(2, 20, 20), geotransform=(5e5, 4.0, 0.0, 5e6, 0.0, 0.0))
    assert "no size" in refusal(pan, ms)


@pytest.mark.parametrize("which", ["pan", "ms"])
def test_all_nodata(make_raster, which):
    empty = {which: 0}
    pan = make_raster("pan.tif", ones(1, 80, 80) * empty.get("pan", 1), nodata=0)
    ms = make_raster("ms.tif", ones(2, 20, 20) * empty.get("ms", 1), pixel=4.0, nodata=0)
    scene = Scene.open(pan, ms)
    with pytest.raises(FusionError, match=rf"Band 1 of {which}\.tif has no valid pixel"):
        getattr(scene, f"{which}_scale")


def test_cut_in_the_header(make_pair):
    pan, ms = make_pair()
    os.truncate(ms, 100)
    assert "ms.tif" in refusal(pan, ms)


@pytest.mark.parametrize("exceptions", [False, True])
def test_cut_in_the_pixels(make_raster, exceptions):
    from osgeo import gdal

    rng = np.random.default_rng(0)
    pan = make_raster("pan.tif", rng.integers(1, 999, (1, 320, 320)).astype(np.uint16))
    values = rng.integers(1, 999, (3, 80, 80)).astype(np.uint16)
    ms = make_raster("ms.tif", values, pixel=4.0, options=["COMPRESS=DEFLATE"])
    os.truncate(ms, os.path.getsize(ms) // 2)
    before = gdal.GetUseExceptions()
    (gdal.UseExceptions if exceptions else gdal.DontUseExceptions)()
    try:
        scene = Scene.open(pan, ms)
        with pytest.raises(FusionError, match=r"pixels of ms\.tif cannot be read.*truncated"):
            scene.read(Window(160, 0, 160, 320))
        with pytest.raises(FusionError, match=r"ms\.tif"):
            scene.ms_scale  # noqa: B018
    finally:
        (gdal.UseExceptions if before else gdal.DontUseExceptions)()
