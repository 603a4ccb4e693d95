"""Pairs of rasters on one grid."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fusion_core.errors import FusionError

pytest.importorskip("osgeo")
from fusion_core.raster.scene import Scene  # noqa: E402
from fusion_core.raster.window import Window  # noqa: E402

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "scenes"


def coarse_window(scene, row, col, height, width):
    """A window in coarse pixels as one in PAN pixels."""
    r = scene.ratio
    return Window(scene.phase[0] + row * r, scene.phase[1] + col * r, height * r, width * r)


def whole_window(scene, margin=0):
    """All coarse pixels that touch PAN."""
    rows = -(-scene.grid.height // scene.ratio) + 1 + 2 * margin
    cols = -(-scene.grid.width // scene.ratio) + 1 + 2 * margin
    return coarse_window(scene, -1 - margin, -1 - margin, rows + 1, cols + 1)


def ramp(rows, cols, pixel, origin):
    """A plane over the map, sampled at pixel centres."""
    x = origin[0] + (np.arange(cols) + 0.5) * pixel - 500000
    y = origin[1] - (np.arange(rows) + 0.5) * pixel - 5000000
    return np.stack([1000 + 2 * x[None] - 3 * y[:, None], 500 - x[None] + 0 * y[:, None]])


def test_importing_the_package_imports_no_gdal():
    code = "import sys, fusion_core.raster; sys.exit('osgeo' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


@pytest.mark.parametrize(
    ("ratio", "shift"),
    [
        (4, (0, 0)),
        (4, (2, 5)),
        (2, (-1.0, -1.05)),
        (4, (2.45, 1.9)),
        (2, (0.5, 0.5)),
        (3, (0, 0)),
    ],
)
def test_ramp_on_the_map_is_reproduced(make_raster, ratio, shift):
    pan_origin = (500000.0, 5000000.0)
    ms_origin = (pan_origin[0] + shift[1], pan_origin[1] - shift[0])
    expected = ramp(60 * ratio, 50 * ratio, 1.0, pan_origin).astype(np.float32)
    pan = make_raster("pan.tif", expected[0])
    values = ramp(60, 50, ratio, ms_origin).astype(np.float32)
    ms = make_raster("ms.tif", values, pixel=float(ratio), origin=ms_origin)

    scene = Scene.open(pan, ms, ratio)
    assert scene.true_ratio == pytest.approx(ratio)
    window = coarse_window(scene, 6, 6, 40, 30)
    part = scene.read(window)
    rows, cols = window.slices_in(scene.grid)
    np.testing.assert_array_equal(part.pan[0], expected[0, rows, cols])
    np.testing.assert_allclose(part.lms, expected[:, rows, cols], rtol=3e-7, atol=1e-3)
    blocks = expected[:, rows, cols].reshape(2, 40, ratio, 30, ratio).mean(axis=(2, 4))
    np.testing.assert_allclose(part.ms, blocks, rtol=3e-7, atol=1e-3)
    assert part.valid.all()


def test_uneven_ratio(make_raster):
    pixel = 3.98
    expected = ramp(398, 398, 1.0, (500000.0, 5000000.0)).astype(np.float32)
    pan = make_raster("pan.tif", expected[0])
    values = ramp(100, 100, pixel, (500000.0, 5000000.0)).astype(np.float32)
    ms = make_raster("ms.tif", values, pixel=pixel)
    scene = Scene.open(pan, ms)
    assert scene.ratio == 4
    assert scene.true_ratio == pytest.approx(pixel)
    assert scene.overlap == scene.grid
    window = coarse_window(scene, 4, 4, 90, 90)
    part = scene.read(window)
    rows, cols = window.slices_in(scene.grid)
    np.testing.assert_allclose(part.lms, expected[:, rows, cols], rtol=3e-7, atol=1e-3)
    blocks = expected[:, rows, cols].reshape(2, 90, 4, 90, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(part.ms, blocks, rtol=3e-7, atol=1e-3)


@pytest.mark.parametrize("true_ratio", [2.6, 3.0, 5.5])
def test_ratio_is_the_nearest_of_two_and_four(make_raster, true_ratio):
    pan = make_raster("pan.tif", np.ones((260, 260), np.uint8))
    size = int(260 / true_ratio)
    ms = make_raster("ms.tif", np.ones((2, size, size), np.uint8), pixel=true_ratio)
    scene = Scene.open(pan, ms)
    assert scene.ratio == (2 if true_ratio < 2.8 else 4)
    part = scene.read(coarse_window(scene, 0, 0, 40, 40))
    np.testing.assert_array_equal(part.lms, 1)
    np.testing.assert_array_equal(part.ms, 1)


@pytest.mark.parametrize("shift", [(0, 0), (0.0, -0.55), (2.45, 1.9)])
@pytest.mark.parametrize("invalid", [False, True])
def test_a_pixel_is_the_same_whatever_window_asks(make_pair, shift, invalid):
    pan, ms = make_pair(shift=shift, nodata=150 if invalid else None, seed=3)
    scene = Scene.open(pan, ms)
    everything = whole_window(scene, margin=3)
    whole = scene.read(everything)
    rng = np.random.default_rng(0)
    for _ in range(20):
        height, width = rng.integers(1, 9, 2)
        row = rng.integers(-4, 28 - height)
        col = rng.integers(-4, 24 - width)
        window = coarse_window(scene, row, col, height, width)
        part = scene.read(window)
        rows, cols = window.slices_in(everything)
        np.testing.assert_array_equal(part.pan, whole.pan[:, rows, cols])
        np.testing.assert_array_equal(part.lms, whole.lms[:, rows, cols])
        np.testing.assert_array_equal(part.valid, whole.valid[rows, cols])
        rows, cols = (slice(s.start // 4, s.stop // 4) for s in (rows, cols))
        np.testing.assert_array_equal(part.ms, whole.ms[:, rows, cols])


def test_aligned_ms_is_passed_on_bit_for_bit(make_raster):
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1e-3, (2, 10, 12)).astype(np.float32)
    pan = make_raster("pan.tif", rng.random((48, 60)).astype(np.float32))
    ms = make_raster("ms.tif", values, pixel=4.0, origin=(500003.0, 4999995.0))
    scene = Scene.open(pan, ms)
    assert scene.phase == (1, 3)
    assert scene.overlap == Window(5, 3, 40, 48)
    part = scene.read(Window(5, 3, 40, 48))
    np.testing.assert_array_equal(part.ms, values)


def test_outside_repeats_the_edge_and_is_not_valid(make_pair):
    pan, ms = make_pair()
    scene = Scene.open(pan, ms)
    window = Window(-8, -8, 112, 96)
    part = scene.read(window)
    inside = scene.read(scene.grid)
    np.testing.assert_array_equal(part.pan[:, :8, 8:-8], np.repeat(inside.pan[:, :1], 8, axis=1))
    np.testing.assert_array_equal(part.ms[:, :, :2], np.repeat(part.ms[:, :, 2:3], 2, axis=2))
    assert part.valid[8:-8, 8:-8].all()
    assert part.valid.sum() == inside.valid.size


def test_window_must_be_on_coarse_pixels(make_pair):
    scene = Scene.open(*make_pair(shift=(1, 0)))
    for window in (Window(0, 0, 4, 4), Window(1, 0, 5, 4), Window(1, 2, 4, 4), Window(1, 0, 0, 4)):
        with pytest.raises(ValueError, match="coarse"):
            scene.read(window)


def check_invalid_ms_pixel(scene, row, col, constant):
    """The MS pixel (row, col) is invalid, all others are ``constant``."""
    part = scene.read(scene.grid)
    expected = np.ones(part.valid.shape, bool)
    expected[row * 4 : row * 4 + 4, col * 4 : col * 4 + 4] = False
    np.testing.assert_array_equal(part.valid, expected)
    np.testing.assert_allclose(part.lms, constant, rtol=1e-6)
    np.testing.assert_allclose(part.ms, constant, rtol=1e-6)
    assert scene.may_have_invalid


@pytest.mark.parametrize(
    ("dtype", "bad", "nodata"),
    [
        ("uint16", 0, 0),
        ("int16", -9999, -9999),
        ("float32", np.nan, None),
        ("float32", np.inf, None),
        ("float32", np.nan, np.nan),
        ("float32", -3.4028234663852886e38, -3.4028234663852886e38),
        ("float32", -999.3, -999.3),
        ("float64", 1e300, None),
    ],
)
def test_invalid_ms_values_do_not_bleed(make_raster, dtype, bad, nodata):
    values = np.full((3, 12, 10), 700, dtype)
    values[1, 5, 4] = bad
    pan = make_raster("pan.tif", np.full((48, 40), 300, np.uint16))
    scene = Scene.open(pan, make_raster("ms.tif", values, pixel=4.0, nodata=nodata))
    check_invalid_ms_pixel(scene, 5, 4, 700)
    np.testing.assert_array_equal(scene.ms_limits, [[700, 700]] * 3)


def test_mask_band(make_raster):
    values = np.full((3, 12, 10), 700, np.uint16)
    values[:, 5, 4] = 60000
    mask = np.ones((12, 10), np.uint8)
    mask[5, 4] = 0
    pan = make_raster("pan.tif", np.full((48, 40), 300, np.uint16))
    scene = Scene.open(pan, make_raster("ms.tif", values, pixel=4.0, mask=mask))
    check_invalid_ms_pixel(scene, 5, 4, 700)


def test_mask_of_each_band(make_raster, tmp_path):
    from osgeo import gdal

    values = np.full((2, 12, 10), 700, np.uint16)
    values[:, 5, 4] = 60000
    mask = np.full((12, 10), 255, np.uint8)
    mask[5, 4] = 0
    make_raster("mask.tif", mask, pixel=4.0)
    plain = make_raster("plain.tif", values, pixel=4.0)
    ms = tmp_path / "ms.vrt"
    gdal.Translate(str(ms), plain, format="VRT")
    band = (
        '<MaskBand><VRTRasterBand dataType="Byte"><SimpleSource><SourceFilename relativeToVRT="1">'
        "mask.tif</SourceFilename></SimpleSource></VRTRasterBand></MaskBand></VRTRasterBand>"
    )
    ms.write_text(ms.read_text().replace("</VRTRasterBand>", band))
    pan = make_raster("pan.tif", np.full((48, 40), 300, np.uint16))
    check_invalid_ms_pixel(Scene.open(pan, str(ms)), 5, 4, 700)


@pytest.mark.parametrize("bands", [3, 4])
def test_alpha_band(make_raster, bands):
    from osgeo import gdal

    values = np.full((bands + 1, 12, 10), 700, np.uint16)
    values[:, 5, 4] = 60000
    values[-1] = 255
    values[-1, 5, 4] = 0
    colours = [gdal.GCI_GrayIndex] + [gdal.GCI_Undefined] * (bands - 1) + [gdal.GCI_AlphaBand]
    pan = make_raster("pan.tif", np.full((48, 40), 300, np.uint16))
    scene = Scene.open(pan, make_raster("ms.tif", values, pixel=4.0, colours=colours))
    assert scene.ms_bands == bands
    check_invalid_ms_pixel(scene, 5, 4, 700)


@pytest.mark.parametrize("nodata", [-9999, 0.5, float("inf"), float("nan")])
def test_nodata_that_no_pixel_can_hold(make_raster, tmp_path, nodata):
    from osgeo import gdal

    pan = make_raster("pan.tif", np.full((48, 40), 300, np.uint16))
    plain = make_raster("plain.tif", np.full((2, 12, 10), 65535, np.uint16), pixel=4.0)
    ms = str(tmp_path / "ms.vrt")
    dataset = gdal.Translate(ms, plain, format="VRT")
    for band in (1, 2):
        dataset.GetRasterBand(band).SetNoDataValue(nodata)
    dataset = None
    part = Scene.open(pan, ms).read(Window(0, 0, 48, 40))
    assert part.valid.all()


def test_invalid_pan_is_filled_from_its_surroundings(make_raster):
    rng = np.random.default_rng(0)
    values = rng.integers(400, 500, (80, 80)).astype(np.uint16)
    values[30:40, 30:40] = 0
    values[:, 60:] = 0
    pan = make_raster("pan.tif", values, nodata=0)
    ms = make_raster("ms.tif", np.full((2, 20, 20), 50, np.uint16), pixel=4.0)
    scene = Scene.open(pan, ms)
    part = scene.read(scene.grid)
    np.testing.assert_array_equal(part.valid, values > 0)
    np.testing.assert_array_equal(part.pan[0][values > 0], values[values > 0])
    assert part.pan.min() >= 400
    assert part.pan.max() < 500
    assert part.pan[0, 10, 79] == pytest.approx(scene.pan_levels.mean[0])


def test_a_window_that_overhangs_by_as_much_as_is_filled_from_is_not_shifted(make_raster):
    rng = np.random.default_rng(0)
    values = rng.integers(400, 500, (80, 80)).astype(np.uint16)
    values[0, 0] = 0
    pan = make_raster("pan.tif", values, nodata=0)
    ms = make_raster("ms.tif", np.full((2, 20, 20), 50, np.uint16), pixel=4.0)
    part = Scene.open(pan, ms).read(Window(44, 0, 40, 80))
    np.testing.assert_array_equal(part.pan[0, :36], values[44:])
    np.testing.assert_array_equal(part.pan[0, 36:], np.repeat(values[-1:], 4, axis=0))


def test_single_band_files(make_raster, make_pair):
    from osgeo import gdal

    pan, ms = make_pair(nodata=140, names=("B", "G", "R"))
    parts = []
    for band in (1, 2, 3):
        parts.append(ms.replace("ms.tif", f"b{band}.tif"))
        gdal.Translate(parts[-1], ms, bandList=[band])
    together, apart = Scene.open(pan, ms), Scene.open(pan, parts)
    assert apart.band_names == ("B", "G", "R")
    assert apart.ms_bands == 3
    for scene_window in (whole_window(together), Window(40, 40, 8, 8)):
        expected, found = together.read(scene_window), apart.read(scene_window)
        for name in ("pan", "ms", "lms", "valid"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    np.testing.assert_array_equal(together.ms_scale, apart.ms_scale)

    other = make_raster("other.tif", np.ones((24, 20), np.uint16), pixel=4.1)
    with pytest.raises(FusionError, match=r"b1\.tif and other\.tif lie on different grids"):
        Scene.open(pan, [parts[0], other])


def test_constant_scene_stays_constant(make_raster):
    pan = make_raster("pan.tif", np.full((80, 80), 7, np.uint8))
    ms = make_raster("ms.tif", np.full((2, 20, 20), 7, np.uint8), pixel=4.0, origin=(500000.7, 5e6))
    scene = Scene.open(pan, ms)
    part = scene.read(whole_window(scene, 2))
    for array in (part.pan, part.ms, part.lms):
        np.testing.assert_array_equal(array, 7)
    np.testing.assert_array_equal(scene.ms_scale, 7)


def test_turned_alike_needs_no_warp(make_raster, make_pair):
    pan_values = np.arange(96 * 80).reshape(96, 80).astype(np.uint16)
    values = np.random.default_rng(0).integers(0, 99, (2, 24, 20)).astype(np.uint16)
    turned = (500000.0, 0.8, 0.6, 5e6, 0.6, -0.8)
    coarse = (500000.0, 3.2, 2.4, 5e6, 2.4, -3.2)
    scene = Scene.open(
        make_raster("pan.tif", pan_values, geotransform=turned),
        make_raster("ms.tif", values, geotransform=coarse),
    )
    part = scene.read(scene.grid)
    np.testing.assert_array_equal(part.ms, values)
    np.testing.assert_array_equal(part.pan[0], pan_values)
    assert scene.geotransform_at(Window(10, 20, 4, 4)) == pytest.approx(
        (500000 + 16 + 6, 0.8, 0.6, 5e6 + 12 - 8, 0.6, -0.8)
    )


def test_no_georeference_at_all(make_raster):
    values = np.random.default_rng(0).integers(0, 99, (2, 24, 20)).astype(np.uint16)
    pan = make_raster("pan.tif", np.ones((48, 40), np.uint16), geotransform=False, crs=None)
    ms = make_raster("ms.tif", values, geotransform=False, crs=None)
    scene = Scene.open(pan, ms)
    assert (scene.ratio, scene.geotransform, scene.crs_wkt) == (2, None, "")
    np.testing.assert_array_equal(scene.read(scene.grid).ms, values)
    assert scene.window_of_extent(10, -8, 20, -2) == Window(2, 10, 6, 10)


def test_crs_missing_on_one(make_raster):
    values = np.random.default_rng(0).integers(0, 99, (2, 24, 20)).astype(np.uint16)
    pan = make_raster("pan.tif", np.ones((48, 40), np.uint16), crs=None)
    ms = make_raster("ms.tif", values, pixel=2.0)
    scene = Scene.open(pan, ms)
    np.testing.assert_array_equal(scene.read(scene.grid).ms, values)
    assert "32633" in scene.crs_wkt


def test_vrt_and_zip(make_pair, tmp_path):
    import zipfile

    from osgeo import gdal

    pan, ms = make_pair()
    gdal.BuildVRT(str(tmp_path / "pan.vrt"), [pan])
    with zipfile.ZipFile(tmp_path / "ms.zip", "w") as archive:
        archive.write(ms, "folder/ms.tif")
    scene = Scene.open(str(tmp_path / "pan.vrt"), f"/vsizip/{tmp_path}/ms.zip/folder/ms.tif")
    expected = Scene.open(pan, ms).read(Window(0, 0, 96, 80))
    np.testing.assert_array_equal(scene.read(scene.grid).lms, expected.lms)
    assert pan in scene.files


def test_window_of_extent(make_pair):
    scene = Scene.open(*make_pair(shift=(3, 3)))
    assert scene.window_of_extent(500010, 4999950, 500020, 4999990) == Window(10, 10, 40, 10)
    assert scene.window_of_extent(500010.3, 4999950, 500020, 4999990.0001) == Window(10, 10, 40, 10)
    assert scene.window_of_extent(0, 0, 1e7, 1e7) == scene.overlap
    assert scene.window_of_extent(-1e30, -1e30, 1e30, 1e30) == scene.overlap
    with pytest.raises(FusionError, match="EPSG:nonsense, is unknown"):
        scene.window_of_extent(0, 0, 1e7, 1e7, "EPSG:nonsense")
    x0, y0, x1, y1 = 15.0, 45.15299, 15.00051, 45.15347
    assert scene.overlap.contains(scene.window_of_extent(x0, y0, x1, y1, "EPSG:4326"))
    for extent in ((0, 0, 1, 1), (499990, 4999998, 500002, 5000010)):
        with pytest.raises(FusionError, match="extent"):
            scene.window_of_extent(*extent)


def test_gdal_state_is_left_alone(make_pair, capfd):
    from osgeo import gdal

    before = gdal.GetUseExceptions()
    pan, ms = make_pair()
    for mode in (gdal.UseExceptions, gdal.DontUseExceptions):
        mode()
        try:
            expected = gdal.GetUseExceptions()
            Scene.open(pan, ms).read(Window(0, 0, 8, 8))
            with pytest.raises(FusionError, match="no such file|cannot be opened"):
                Scene.open(pan + "x", ms)
            assert gdal.GetUseExceptions() == expected
        finally:
            (gdal.UseExceptions if before else gdal.DontUseExceptions)()
    assert capfd.readouterr().err == ""


def test_reading_from_several_threads(make_pair):
    from concurrent.futures import ThreadPoolExecutor

    scene = Scene.open(*make_pair(ms_size=(120, 100), nodata=150))
    windows = [Window(row, col, 40, 40) for row in range(0, 480, 40) for col in range(0, 400, 40)]
    expected = [scene.read(window) for window in windows]
    with ThreadPoolExecutor(8) as pool:
        for ours, theirs in zip(expected, pool.map(scene.read, windows)):
            for name in ("pan", "ms", "lms", "valid"):
                np.testing.assert_array_equal(getattr(theirs, name), getattr(ours, name))


def test_a_local_crs_says_nothing(make_raster):
    values = np.random.default_rng(0).integers(0, 99, (2, 24, 20)).astype(np.uint16)
    pan = make_raster("pan.tif", np.ones((48, 40), np.uint16))
    ms = make_raster("ms.tif", values, pixel=2.0, crs='LOCAL_CS["arbitrary",UNIT["metre",1]]')
    scene = Scene.open(pan, ms)
    np.testing.assert_array_equal(scene.read(scene.grid).ms, values)


def test_memory_depends_on_the_window_alone(make_pair):
    import tracemalloc

    peaks = []
    for rows in (100, 400):
        scene = Scene.open(*make_pair(ms_size=(rows, 100), nodata=150))
        scene.read(Window(0, 0, 64, 400))
        tracemalloc.start()
        for row in range(0, 4 * rows, 64):
            scene.read(Window(row, 0, 64, 400))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the image pairs")
@pytest.mark.parametrize(
    ("name", "ratio", "phase", "exact"),
    [
        ("ikonos", 4, (0, 0), True),
        ("landsat7_val_01", 2, (1, 1), False),
        ("worldview3_a", 4, (2, 2), False),
        ("landsat8_istanbul", 2, (0, 0), False),
    ],
)
def test_real_pairs(name, ratio, phase, exact):
    folder = DATA / name / "full"
    with Scene.open(str(folder / "pan.tif"), str(folder / "ms.tif")) as scene:
        assert (scene.ratio, scene.phase) == (ratio, phase)
        part = scene.read(whole_window(scene))
        assert np.isfinite(part.lms).all()
        assert scene.grid.contains(scene.overlap)
        assert (
            scene.overlap.height * scene.overlap.width > 0.97 * scene.grid.height * scene.grid.width
        )
        # What is coarse and what is interpolated show the same thing.
        shape = (*part.ms.shape[:2], ratio, part.ms.shape[2], ratio)
        means = part.lms.reshape(shape).mean(axis=(2, 4))
        for ours, theirs in zip(means, part.ms):
            assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.97
