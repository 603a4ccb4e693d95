"""Small rasters and jobs for the tests of this folder."""

from __future__ import annotations

import numpy as np
import pytest

UTM33 = "EPSG:32633"


@pytest.fixture
def plan(tmp_path):
    """See ``make_plan``."""
    from tests.core.jobs import make_plan

    return make_plan(tmp_path)


@pytest.fixture
def make_raster(tmp_path):
    """A function that writes a GeoTIFF and returns its path.

    ``pixel`` is the pixel size and ``origin`` the upper left corner; a whole ``geotransform`` overrides both, and
    False there leaves it out.
    """
    gdal = pytest.importorskip("osgeo.gdal")
    from osgeo import osr

    types = {
        "uint8": gdal.GDT_Byte,
        "uint16": gdal.GDT_UInt16,
        "int16": gdal.GDT_Int16,
        "int32": gdal.GDT_Int32,
        "float32": gdal.GDT_Float32,
        "float64": gdal.GDT_Float64,
        "complex64": gdal.GDT_CFloat32,
    }

    def make(
        name,
        array,
        pixel=1.0,
        origin=(500000.0, 5000000.0),
        crs=UTM33,
        geotransform=None,
        nodata=None,
        names=(),
        colours=(),
        mask=None,
        options=(),
        scale=None,
    ):
        array = array if array.ndim == 3 else array[None]
        path = str(tmp_path / name)
        bands, rows, cols = array.shape
        dataset = gdal.GetDriverByName("GTiff").Create(
            path, cols, rows, bands, types[array.dtype.name], list(options)
        )
        if geotransform is None:
            geotransform = (origin[0], pixel, 0.0, origin[1], 0.0, -pixel)
        if geotransform:
            dataset.SetGeoTransform(geotransform)
        if crs:
            srs = osr.SpatialReference()
            srs.SetFromUserInput(crs)
            dataset.SetSpatialRef(srs)
        for index in range(bands):
            band = dataset.GetRasterBand(index + 1)
            if nodata is not None:
                band.SetNoDataValue(nodata)
            if index < len(names):
                band.SetDescription(names[index])
            if index < len(colours):
                band.SetColorInterpretation(colours[index])
            if scale is not None:
                band.SetScale(scale)
        pixels = np.ascontiguousarray(array).tobytes()
        dataset.WriteRaster(
            0,
            0,
            cols,
            rows,
            pixels,
            buf_type=types[array.dtype.name],
            band_list=list(range(1, bands + 1)),
        )
        if mask is not None:
            dataset.CreateMaskBand(gdal.GMF_PER_DATASET)
            dataset.GetRasterBand(1).GetMaskBand().WriteRaster(
                0, 0, cols, rows, (mask * np.uint8(255)).tobytes()
            )
        dataset = None
        return path

    return make


@pytest.fixture(scope="session")
def sample_pair(tmp_path_factory):
    """A function that writes a synthetic scene of ``size`` PAN pixels, 4 bands at ratio 4, and returns PAN and MS."""
    pytest.importorskip("osgeo.gdal")
    from fusion_core.raster.sample_scene_files import write_sample_scene
    from fusion_core.sample_scene import make_sample_scene

    def make(size):
        folder = tmp_path_factory.mktemp("scene")
        paths = tuple(str(folder / f"{name}.tif") for name in ("pan", "ms", "reference"))
        write_sample_scene(make_sample_scene(size=size, seed=5), *paths)
        return paths[:2]

    return make


@pytest.fixture(scope="session")
def make_model(tmp_path_factory):
    """A function that writes a model file for four bands, as ``write_model`` does, and returns its path."""
    from tests.core.networks import write_model

    def make(name="tiny", **card):
        path = tmp_path_factory.mktemp("model") / f"{name}.safetensors"
        return write_model(path, band_names=("Blue", "Green", "Red", "NIR"), **card)

    return make


@pytest.fixture
def make_pair(make_raster):
    """A function that writes a PAN and a coarser MS raster of random values and returns their paths."""

    def make(
        ratio=4,
        ms_size=(24, 20),
        pan_size=None,
        bands=3,
        dtype="uint16",
        shift=(0.0, 0.0),
        seed=0,
        gain=1,
        **ms_options,
    ):
        """``shift`` moves MS by that many PAN pixels (rows down, columns right)."""
        rng = np.random.default_rng(seed)
        rows, cols = pan_size or (ms_size[0] * ratio, ms_size[1] * ratio)
        pan = (rng.integers(100, 1000, (rows, cols)) * gain).astype(dtype)
        ms = (rng.integers(100, 1000, (bands, *ms_size)) * gain).astype(dtype)
        origin = (500000.0 + shift[1], 5000000.0 - shift[0])
        return (
            make_raster("pan.tif", pan),
            make_raster("ms.tif", ms, pixel=float(ratio), origin=origin, **ms_options),
        )

    return make
