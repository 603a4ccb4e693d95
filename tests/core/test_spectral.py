"""Which spectral band a raster band is: descriptions, wavelengths, names of products, colours."""

from __future__ import annotations

import numpy as np
import pytest

gdal = pytest.importorskip("osgeo.gdal")
from fusion_core.raster.scene import Scene  # noqa: E402
from fusion_core.raster.source import RasterSource  # noqa: E402
from fusion_core.raster.spectral import BAND_OF_COLOUR  # noqa: E402
from fusion_core.raster.stack import RasterStack  # noqa: E402

BANDS = ("blue", "green", "red", "nir")
UNKNOWN = ("", "", "", "")


def image(bands=4, dtype=np.uint16):
    return np.random.default_rng(1).integers(1, 200, (bands, 6, 8)).astype(dtype)


def spectral(path):
    return tuple(profile.spectral for profile in RasterSource(path).profiles)


def with_metadata(path, per_band, domain="", whole=None):
    dataset = gdal.OpenEx(path, gdal.OF_RASTER | gdal.OF_UPDATE)
    for index, entries in enumerate(per_band):
        dataset.GetRasterBand(index + 1).SetMetadata(entries, domain)
    if whole:
        dataset.SetMetadata(whole)
    return path


def test_descriptions_count_first_and_stay_as_they_are(make_raster):
    names = ("Nah-IR", "B4, central wavelength 665 nm", "NIR", "Band 3 - Green")
    path = make_raster("named.tif", image(), names=names)
    with_metadata(path, [{}, {"wavelength": "490"}, {"wavelength": "490"}, {}])
    assert spectral(path) == ("", "red", "nir", "green")
    assert tuple(p.name for p in RasterSource(path).profiles) == names


@pytest.mark.parametrize(
    ("per_band", "domain", "whole"),
    [
        ([{"wavelength": v} for v in ("480", "550.0", "660", "835")], "", None),
        ([{"WAVELENGTH": v, "WAVELENGTH_UNIT": "nm"} for v in ("480", "550", "660", "835")], "", 0),
        (
            [{"wavelength": v} for v in ("0.48", "0.55", "0.66", "0.835")],
            "",
            {"wavelength_units": "Micrometers"},
        ),
        ([{"wavelengths": v} for v in ("480 nm", "550 nm", "660 nm", "835 nm")], "", None),
        (
            [{"CENTRAL_WAVELENGTH_UM": v} for v in ("0.48", "0.55", "0.66", "0.835")],
            "IMAGERY",
            None,
        ),
    ],
)
def test_wavelengths(make_raster, per_band, domain, whole):
    path = with_metadata(make_raster("w.tif", image()), per_band, domain, whole)
    assert spectral(path) == BANDS


def test_what_is_no_wavelength(make_raster):
    per_band = [
        {"wavelength": "1", "wavelength_units": "Index"},
        {"wavelength": "unknown"},
        {"wavelength": "590"},
        {"wavelength": "480", "wavelength_units": "GHz"},
    ]
    assert spectral(with_metadata(make_raster("w.tif", image()), per_band)) == UNKNOWN


@pytest.mark.parametrize("named", ["", "band names = {first, second, third, fourth}\n"])
def test_envi_headers(tmp_path, named):
    image().tofile(tmp_path / "image.dat")
    (tmp_path / "image.hdr").write_text(
        "ENVI\nsamples = 8\nlines = 6\nbands = 4\nheader offset = 0\nfile type = ENVI Standard\n"
        "data type = 12\ninterleave = bsq\nbyte order = 0\n"
        "wavelength units = Nanometers\nwavelength = {835, 660.5, 550, 480}\n" + named
    )
    assert spectral(tmp_path / "image.dat") == BANDS[::-1]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("T32TQM_20200801T101031_B02_10m.tif", "blue"),
        ("T32TQM_20200801T101031_B8A_20m.tif", "nirn"),
        ("T32TQM_20200801T101031_B08.tif", "nir"),
        ("T32TQM_20200801T101031_B10.tif", ""),
        ("LC08_L1TP_193026_20200801_20200914_02_T1_B5.TIF", "nir"),
        ("LC09_L2SP_193026_20220801_20220914_02_T1_SR_B2.TIF", "blue"),
        ("LE07_L1TP_193026_20020801_20200914_02_T1_B4.TIF", "nir"),
        ("LT05_L1TP_193026_20020801_20200914_02_T1_B1.TIF", "blue"),
        ("LE07_L1TP_193026_20020801_20200914_02_T1_B8.TIF", ""),
        ("LT08_L1TP_193026_20200801_20200914_02_T1_B4.TIF", ""),
        # Sensors number their bands differently, so a number alone says nothing.
        ("scene_B4.TIF", ""),
        ("B04.tif", ""),
    ],
)
def test_names_of_products(make_raster, name, expected):
    assert spectral(make_raster(name, image(1))) == (expected,)
    # A file with several bands has no band in its name.
    assert spectral(make_raster(name, image(2))) == ("", "")


def test_colours_count_last(make_raster):
    red, green, blue = (gdal.GCI_RedBand, gdal.GCI_GreenBand, gdal.GCI_BlueBand)
    path = make_raster("c.tif", image(), colours=(red, green, blue))
    assert spectral(path) == ("red", "green", "blue", "")
    path = make_raster("n.tif", image(3, np.uint8), names=("NIR", "", "Green"))
    assert spectral(path) == ("nir", "green", "green")
    if hasattr(gdal, "GCI_NIRBand"):
        assert BAND_OF_COLOUR[gdal.GCI_NIRBand] == "nir"


def test_a_transparency_is_data_where_it_says_so_or_the_user_counts_it(make_raster):
    path = make_raster("bytes.tif", image(4, np.uint8))
    assert RasterSource(path).bands == 3
    assert RasterStack.open([path], 3).bands == 3
    assert RasterStack.open([path], 5).bands == 3
    counted = RasterStack.open([path], 4)
    assert counted.bands == 4
    assert not counted.may_have_invalid
    assert RasterSource(with_metadata(path, [{}, {}, {}, {"wavelength": "835"}])).bands == 4


def test_a_scene_of_single_band_files(make_raster):
    base = "LC08_L1TP_193026_20200801_20200914_02_T1_B{}.TIF"
    ms = [make_raster(base.format(n), image(1), pixel=2.0) for n in (5, 4, 3)]
    pan = make_raster(base.format(8), np.tile(image(1), (1, 2, 2)))
    with Scene.open(pan, ms) as scene:
        assert scene.spectral_bands == ("nir", "red", "green")
        assert scene.band_names == ("", "", "")
