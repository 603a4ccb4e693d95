"""MS on another map, turned or upside down."""

from __future__ import annotations

import numpy as np
import pytest

from fusion_core.errors import FusionError

pytest.importorskip("osgeo")
from osgeo import gdal  # noqa: E402

from fusion_core.raster.scene import Scene  # noqa: E402
from fusion_core.raster.window import Window  # noqa: E402

SIZE = 240
PAN_GRID = (500000.0, 1.0, 0.0, 5000000.0, 0.0, -1.0)


def surface(x, y):
    """Two smooth bands over the map of PAN."""
    x, y = x - 500000, y - 5000000
    return np.stack([1000 + 2 * x - 3 * y, 2000 + 300 * np.sin(x / 40) * np.cos(y / 50)])


def pan_surface(geotransform=PAN_GRID, rows=SIZE, cols=SIZE):
    col, row = np.meshgrid(np.arange(cols) + 0.5, np.arange(rows) + 0.5)
    x = geotransform[0] + geotransform[1] * col + geotransform[2] * row
    y = geotransform[3] + geotransform[4] * col + geotransform[5] * row
    return surface(x, y)


def ms_surface(geotransform, rows, cols, crs):
    from osgeo import osr

    col, row = np.meshgrid(np.arange(cols) + 0.5, np.arange(rows) + 0.5)
    x = geotransform[0] + geotransform[1] * col + geotransform[2] * row
    y = geotransform[3] + geotransform[4] * col + geotransform[5] * row
    systems = []
    for name in (crs, "EPSG:32633"):
        systems.append(osr.SpatialReference())
        systems[-1].SetFromUserInput(name)
        systems[-1].SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    change = osr.CoordinateTransformation(*systems)
    places = np.array(change.TransformPoints(np.stack([x.ravel(), y.ravel()], 1).tolist()))
    return surface(places[:, 0].reshape(x.shape), places[:, 1].reshape(x.shape))


CASES = {
    "next zone": ("EPSG:32634", (28290.0, 3.9, 0.0, 5028000.0, 0.0, -3.9), None),
    "degrees": ("EPSG:4326", (14.9997, 5e-5, 0.0, 45.1537, 0.0, -3.5e-5), None),
    "turned": ("EPSG:32633", (499900.0, 3.2, 2.4, 5000090.0, 2.4, -3.2), None),
    "south up": ("EPSG:32633", (499990.0, 4.0, 0.0, 4999740.0, 0.0, 4.0), None),
    "pan turned": (
        "EPSG:32633",
        (499900.0, 4.0, 0.0, 5000300.0, 0.0, -4.0),
        (500000.0, 0.8, 0.6, 5000000.0, 0.6, -0.8),
    ),
    "pan turned, ms in degrees": (
        "EPSG:4326",
        (14.999, 5e-5, 0.0, 45.1552, 0.0, -3.5e-5),
        (500000.0, 0.8, 0.6, 5000000.0, 0.6, -0.8),
    ),
    "pan south up": (
        "EPSG:32633",
        (499990.0, 4.0, 0.0, 5000300.0, 0.0, -4.0),
        (500000.0, 1.0, 0.0, 5000000.0, 0.0, 1.0),
    ),
}


def place(crs, grid, pan_grid):
    """Enough rows and columns of an MS raster to cover PAN, starting further out than the grid says."""
    pan_grid = pan_grid or PAN_GRID
    corners = [
        (
            pan_grid[0] + pan_grid[1] * c + pan_grid[2] * r,
            pan_grid[3] + pan_grid[4] * c + pan_grid[5] * r,
        )
        for c in (-20, SIZE + 20)
        for r in (-20, SIZE + 20)
    ]
    from osgeo import osr

    systems = []
    for name in ("EPSG:32633", crs):
        systems.append(osr.SpatialReference())
        systems[-1].SetFromUserInput(name)
        systems[-1].SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    change = osr.CoordinateTransformation(*systems)
    places = np.array(change.TransformPoints(corners))[:, :2]
    step = np.array([[grid[1], grid[2]], [grid[4], grid[5]]])
    pixels = (places - [grid[0], grid[3]]) @ np.linalg.inv(step).T
    first = np.floor(pixels.min(axis=0))
    cols, rows = np.ceil(pixels.max(axis=0) - first).astype(int).tolist()
    x, y = step @ first + [grid[0], grid[3]]
    return (x, grid[1], grid[2], y, grid[4], grid[5]), rows, cols


@pytest.mark.parametrize("case", CASES)
def test_surface_is_reproduced(make_raster, case):
    crs, grid, pan_grid = CASES[case]
    grid, rows, cols = place(crs, grid, pan_grid)
    pan_grid = pan_grid or PAN_GRID
    expected = pan_surface(pan_grid)
    pan = make_raster("pan.tif", expected[0].astype(np.float32), geotransform=pan_grid)
    values = ms_surface(grid, rows, cols, crs).astype(np.float32)
    ms = make_raster("ms.tif", values, geotransform=grid, crs=crs)
    scene = Scene.open(pan, ms)
    assert scene.ratio == 4
    assert scene.true_ratio == pytest.approx(4, abs=0.15)
    assert scene.overlap == scene.grid
    part = scene.read(scene.grid)
    assert part.valid.all()
    # Half a PAN pixel off would be an error of 1.8 on the plane.
    np.testing.assert_allclose(part.lms[0], expected[0], atol=0.01)
    np.testing.assert_allclose(part.lms[1], expected[1], atol=0.1)
    blocks = expected.reshape(2, SIZE // 4, 4, SIZE // 4, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(part.ms, blocks, atol=1.0)


def test_windows_agree_bit_for_bit(make_raster):
    crs, grid, _ = CASES["next zone"]
    grid, rows, cols = place(crs, grid, None)
    values = np.random.default_rng(0).integers(1, 999, (2, rows, cols)).astype(np.uint16)
    pan = make_raster("pan.tif", pan_surface()[0].astype(np.float32))
    ms = make_raster("ms.tif", values, geotransform=grid, crs=crs)
    whole = Scene.open(pan, ms).read(Window(0, 0, SIZE, SIZE))
    for window in (Window(40, 60, 12, 16), Window(100, 0, 48, 240), Window(128, 128, 8, 8)):
        part = Scene.open(pan, ms).read(window)
        np.testing.assert_array_equal(
            part.lms, whole.lms[(slice(None), *window.slices_in(Window(0, 0, SIZE, SIZE)))]
        )


@pytest.mark.parametrize("kind", ["nodata", "mask", "alpha", "alpha of five", "nan"])
def test_invalid_pixels_do_not_bleed(make_raster, kind):
    crs, grid, _ = CASES["next zone"]
    grid, rows, cols = place(crs, grid, None)
    bands = 4 if kind == "alpha of five" else 3
    values = np.full((bands, rows, cols), 700, np.float32 if kind == "nan" else np.uint16)
    hole = np.zeros((rows, cols), bool)
    hole[30:34, 30:34] = True
    options = {}
    if kind == "nodata":
        values[0, hole] = 0
        options["nodata"] = 0
    elif kind == "nan":
        values[:, hole] = np.nan
    elif kind == "mask":
        values[:, hole] = 60000
        options["mask"] = (~hole).astype(np.uint8)
    else:
        values[:, hole] = 60000
        values = np.concatenate([values, np.where(hole, 0, 65535).astype(np.uint16)[None]])
        options["colours"] = [gdal.GCI_Undefined] * bands + [gdal.GCI_AlphaBand]
    pan = make_raster("pan.tif", np.full((SIZE, SIZE), 300, np.uint16))
    ms = make_raster("ms.tif", values, geotransform=grid, crs=crs, **options)
    scene = Scene.open(pan, ms)
    assert scene.ms_bands == bands
    assert scene.ms_dtype == values.dtype.name
    part = scene.read(scene.grid)
    missing = (~part.valid).sum()
    assert 150 < missing < (900 if kind == "nan" else 500)
    np.testing.assert_allclose(part.lms, 700, rtol=1e-5)
    np.testing.assert_allclose(part.ms, 700, rtol=1e-5)


def test_partial_overlap(make_raster):
    crs, grid, _ = CASES["next zone"]
    grid, rows, cols = place(crs, grid, None)
    pan = make_raster("pan.tif", np.full((SIZE, SIZE), 300, np.uint16))
    ms = make_raster(
        "ms.tif", np.full((2, rows // 2, cols), 5, np.uint8), geotransform=grid, crs=crs
    )
    scene = Scene.open(pan, ms)
    part = scene.read(scene.grid)
    assert 0.3 * SIZE < scene.overlap.height < 0.7 * SIZE
    assert scene.overlap.width == SIZE
    assert part.valid[: SIZE // 3].all()
    assert not part.valid[2 * SIZE // 3 :].any()
    assert part.valid.any(axis=1)[: scene.overlap.height - 25].all()


def test_no_overlap(make_raster):
    pan = make_raster("pan.tif", np.full((SIZE, SIZE), 300, np.uint16))
    grid = (10.0, 5e-5, 0.0, 50.0, 0.0, -3.5e-5)
    ms = make_raster("ms.tif", np.ones((2, 60, 60), np.uint8), geotransform=grid, crs="EPSG:4326")
    with pytest.raises(FusionError, match="do not overlap"):
        Scene.open(pan, ms)


def test_other_words_for_the_same_crs_need_no_warp(make_raster):
    values = np.random.default_rng(0).integers(1, 99, (2, 60, 60)).astype(np.uint8)
    pan = make_raster("pan.tif", np.full((SIZE, SIZE), 300, np.uint16))
    ms = make_raster(
        "ms.tif",
        values,
        pixel=4.0,
        crs="+proj=tmerc +lat_0=0 +lon_0=15 +k=0.9996 +x_0=500000 +datum=WGS84 +units=m",
    )
    scene = Scene.open(pan, ms)
    np.testing.assert_array_equal(scene.read(scene.grid).ms, values)
    assert not scene.may_have_invalid


def test_stacked_files_are_warped_each(make_raster):
    crs, grid, _ = CASES["next zone"]
    grid, rows, cols = place(crs, grid, None)
    values = np.random.default_rng(0).integers(1, 999, (2, rows, cols)).astype(np.uint16)
    pan = make_raster("pan.tif", np.full((SIZE, SIZE), 300, np.uint16))
    ms = make_raster("ms.tif", values, geotransform=grid, crs=crs)
    bands = [
        make_raster(f"b{band}.tif", values[band], geotransform=grid, crs=crs) for band in (0, 1)
    ]
    window = Window(0, 0, SIZE, SIZE)
    np.testing.assert_array_equal(
        Scene.open(pan, bands).read(window).lms, Scene.open(pan, ms).read(window).lms
    )


@pytest.mark.parametrize("exceptions", [False, True])
def test_points_beyond_a_map_become_nan(exceptions, capfd):
    from osgeo import osr

    from fusion_core.raster.georeference import srs_from_wkt, transformation_between, transformed

    before = osr.GetUseExceptions()
    (osr.UseExceptions if exceptions else osr.DontUseExceptions)()
    try:
        change = transformation_between(srs_from_wkt("EPSG:4326"), srs_from_wkt("EPSG:32633"))
        moved = transformed(change, np.array([[15.0, 95.0], [15.0, 45.0]]))
        moon = srs_from_wkt("+proj=longlat +R=1737400 +no_defs +type=crs")
        with pytest.raises(FusionError, match="There is no way from"):
            transformation_between(srs_from_wkt("EPSG:4326"), moon)
        assert srs_from_wkt("nonsense") is None
    finally:
        (osr.UseExceptions if before else osr.DontUseExceptions)()
    assert np.isnan(moved[0]).all()
    assert moved[1] == pytest.approx((500000, 4982950.4), abs=0.1)
    assert capfd.readouterr().err == ""
