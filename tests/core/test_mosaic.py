"""The fused raster on disk: whole or not there at all."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

from fusion_core.errors import FusionError

gdal = pytest.importorskip("osgeo.gdal")
from fusion_core.raster.formats import geotiff_options  # noqa: E402
from fusion_core.raster.geotiff import read_bands  # noqa: E402
from fusion_core.raster.mosaic import Mosaic  # noqa: E402
from fusion_core.raster.provenance import DOMAIN, read_provenance  # noqa: E402
from fusion_core.raster.scene import Scene  # noqa: E402
from fusion_core.raster.window import Window  # noqa: E402


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def start(path, scene, window=None, **options):
    arguments = {
        "window": window or scene.overlap,
        "scene": scene,
        "bands": scene.ms_bands,
        "dtype": scene.ms_dtype,
        "nodata": scene.nodata,
        "band_names": scene.band_names,
    }
    arguments.update(options)
    return Mosaic(str(path), **arguments)


def fill(mosaic, values, valid=None, rows=48):
    valid = np.ones(values.shape[1:], bool) if valid is None else valid
    for row in range(0, values.shape[1], rows):
        mosaic.write(row, values[:, row : row + rows], valid[row : row + rows])


def random_values(scene, window=None, seed=0):
    window = window or scene.overlap
    rng = np.random.default_rng(seed)
    return rng.integers(1, 250, (scene.ms_bands, window.height, window.width)).astype(np.float32)


@pytest.mark.parametrize("rows", [7, 48, 300])
@pytest.mark.parametrize(
    "options",
    [(), ("TILED=NO",), ("COMPRESS=DEFLATE", "BLOCKYSIZE=64", "BLOCKXSIZE=64", "TILED=YES")],
)
def test_written_values_come_back(make_pair, out, rows, options):
    pan, ms = make_pair(ms_size=(75, 70), names=("Blue", "Green", "NIR"))
    scene = Scene.open(pan, ms)
    window = Window(13, 30, 270, 240)
    values = random_values(scene, window)
    with start(out / "f.tif", scene, window, creation_options=options) as mosaic:
        fill(mosaic, values, rows=rows)
        mosaic.commit()
    pixels, info = read_bands(str(out / "f.tif"))
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, values)
    assert info.geotransform == (500030, 1, 0, 4999987, 0, -1)
    assert "32633" in info.crs_wkt
    assert info.band_names == ("Blue", "Green", "NIR")
    assert info.nodata is None
    assert os.listdir(out) == ["f.tif"]


def test_layout(make_pair, out):
    scene = Scene.open(
        *make_pair(names=("Blue", "Green", "Red"), scale=0.5, dtype="uint8", gain=0.2)
    )
    with start(out / "f.tif", scene) as mosaic:
        fill(mosaic, random_values(scene))
        mosaic.commit()
    dataset = gdal.Open(str(out / "f.tif"))
    bands = [dataset.GetRasterBand(i) for i in (1, 2, 3)]
    assert bands[0].GetBlockSize() == [256, 256]
    colours = [band.GetColorInterpretation() for band in bands]
    assert colours == [gdal.GCI_BlueBand, gdal.GCI_GreenBand, gdal.GCI_RedBand]
    assert bands[1].GetScale() == 0.5
    assert dataset.GetMetadataItem("COMPRESSION", "IMAGE_STRUCTURE") is None


def test_what_is_not_the_image_does_not_pose_as_it(make_pair, out):
    scene = Scene.open(*make_pair(names=("Blue", "Green", "Red"), scale=0.5))
    with start(out / "u.tif", scene, dtype="float32", like_ms=False) as mosaic:
        fill(mosaic, random_values(scene))
        mosaic.commit()
    dataset = gdal.Open(str(out / "u.tif"))
    band = dataset.GetRasterBand(1)
    assert band.GetColorInterpretation() == gdal.GCI_GrayIndex
    assert band.GetScale() in (None, 1.0)


def test_colours_of_the_ms_are_kept(make_pair, out):
    colours = [gdal.GCI_RedBand, gdal.GCI_GreenBand, gdal.GCI_BlueBand]
    scene = Scene.open(*make_pair(colours=colours))
    with start(out / "f.tif", scene) as mosaic:
        fill(mosaic, random_values(scene))
        mosaic.commit()
    dataset = gdal.Open(str(out / "f.tif"))
    assert [dataset.GetRasterBand(i).GetColorInterpretation() for i in (1, 2, 3)] == colours


def test_pixel_is_point_keeps_its_place(make_pair, out):
    pan, ms = make_pair()
    dataset = gdal.Open(pan, gdal.GA_Update)
    dataset.SetMetadataItem("AREA_OR_POINT", "Point")
    dataset = None
    scene = Scene.open(pan, ms)
    with start(out / "f.tif", scene) as mosaic:
        fill(mosaic, random_values(scene))
        mosaic.commit()
    dataset = gdal.Open(str(out / "f.tif"))
    assert dataset.GetMetadataItem("AREA_OR_POINT") == "Point"
    assert dataset.GetGeoTransform() == scene.geotransform


@pytest.mark.parametrize(
    ("dtype", "value", "stored"),
    [
        ("uint8", 254.5, 254),
        ("uint8", 255.5, 255),
        ("uint8", -3, 0),
        ("uint16", 70000, 65535),
        ("int16", -40000, -32768),
        ("int16", -1.5, -2),
        ("uint32", 5e9, 2**32 - 1),
        ("int32", 3e9, 2**31 - 1),
        ("int32", 16777217.0, 16777217),
        ("float32", 1e300, np.finfo(np.float32).max),
        ("float32", 1.25, 1.25),
        ("float64", 1.25, 1.25),
    ],
)
def test_rounding_and_clipping(make_pair, out, dtype, value, stored):
    scene = Scene.open(*make_pair())
    with start(out / "f.tif", scene, dtype=dtype) as mosaic:
        values = np.full((3, 96, 80), value, np.float64)
        fill(mosaic, values)
        mosaic.commit()
    pixels, _ = read_bands(str(out / "f.tif"))
    assert pixels.dtype == dtype
    assert (pixels == stored).all()


@pytest.mark.parametrize(
    ("dtype", "nodata", "nudged"),
    [
        ("uint8", 0, 1),
        ("uint8", 255, 254),
        ("int16", -9999, -9998),
        ("float32", -9999.0, -9998.98),
        ("float32", 0.0, 0.0),
    ],
)
def test_nodata(make_pair, out, dtype, nodata, nudged):
    scene = Scene.open(*make_pair(dtype="int16", nodata=-1))
    values = np.full((3, 96, 80), 50.0)
    values[:, 3, 4] = nodata
    values[1, 5, 6] = np.nan
    valid = np.ones((96, 80), bool)
    valid[60:, 40:] = False
    with start(out / "f.tif", scene, dtype=dtype, nodata=nodata) as mosaic:
        assert mosaic.nodata == nodata
        fill(mosaic, values, valid)
        mosaic.commit()
    pixels, info = read_bands(str(out / "f.tif"))
    assert info.nodata == nodata
    valid[5, 6] = False
    assert (pixels[:, ~valid] == nodata).all()
    assert (pixels[:, 3, 4] != nodata).all()
    assert pixels[:, 3, 4] == pytest.approx(nudged, abs=0.01)
    # What GDAL, and so QGIS, takes for nodata.
    dataset = gdal.Open(str(out / "f.tif"))
    mask = dataset.GetRasterBand(1).GetMaskBand().ReadRaster()
    np.testing.assert_array_equal(np.frombuffer(mask, np.uint8).reshape(96, 80) > 0, valid)


def test_nodata_is_chosen_where_pixels_may_be_missing(make_pair, out):
    whole = Scene.open(*make_pair())
    assert start(out / "a.tif", whole).nodata is None
    assert start(out / "b.tif", whole, window=Window(-4, 0, 20, 20)).nodata == 0
    real = Scene.open(*make_pair(dtype="float32"))
    assert np.isnan(start(out / "c.tif", real).nodata)
    assert start(out / "d.tif", real, dtype="uint8", nodata=-9999).nodata == 0
    assert start(out / "e.tif", whole, dtype="uint8", nodata=300).nodata is None


def test_provenance(make_pair, out):
    scene = Scene.open(*make_pair())
    with start(out / "f.tif", scene, metadata={"model": "x", "seed": "1"}) as mosaic:
        fill(mosaic, random_values(scene))
        mosaic.commit({"seconds": 3, "seed": 2, "nothing": None})
    assert read_provenance(str(out / "f.tif")) == {"model": "x", "seed": "2", "seconds": "3"}
    assert gdal.Open(str(out / "f.tif")).GetMetadata(DOMAIN)["model"] == "x"
    assert os.listdir(out) == ["f.tif"]
    with pytest.raises(FusionError, match="cannot be opened"):
        read_provenance(str(out / "none.tif"))


def test_nothing_is_left_after_an_exception(make_pair, out):
    scene = Scene.open(*make_pair())
    mosaic = start(out / "f.tif", scene)
    with pytest.raises(KeyError), mosaic:
        fill(mosaic, random_values(scene))
        raise KeyError
    assert os.listdir(out) == []


def test_nothing_is_left_without_commit(make_pair, out):
    scene = Scene.open(*make_pair())
    with start(out / "f.tif", scene) as mosaic:
        mosaic.write(0, np.ones((3, 10, 80)), np.ones((10, 80), bool))
        assert not (out / "f.tif").exists()
        with pytest.raises(ValueError, match="10 of 96 rows"):
            mosaic.commit()
    assert os.listdir(out) == []


def test_rows_must_follow_each_other(make_pair, out):
    scene = Scene.open(*make_pair())
    block, valid = np.ones((3, 10, 80)), np.ones((10, 80), bool)
    with start(out / "f.tif", scene) as mosaic:
        mosaic.write(0, block, valid)
        for row, part in ((0, block), (11, block), (10, block[:2]), (10, block[:, :, 1:])):
            with pytest.raises(ValueError, match="do not follow"):
                mosaic.write(row, part, valid)


def test_an_existing_output_is_replaced_only_by_a_whole_one(make_pair, out):
    scene = Scene.open(*make_pair())
    target = out / "f.tif"
    target.write_text("old")
    (out / "f.tif.aux.xml").write_text("old statistics")
    with start(target, scene) as mosaic:
        fill(mosaic, random_values(scene))
    assert target.read_text() == "old"
    with start(target, scene) as mosaic:
        fill(mosaic, random_values(scene))
        assert target.read_text() == "old"
        mosaic.commit()
    assert read_bands(str(target))[0].shape == (3, 96, 80)
    assert os.listdir(out) == ["f.tif"]


def test_output_that_cannot_be_replaced(make_pair, out, monkeypatch):
    scene = Scene.open(*make_pair())

    def locked(*_):
        raise PermissionError(13, "Permission denied")

    mosaic = start(out / "f.tif", scene)
    fill(mosaic, random_values(scene))
    monkeypatch.setattr(os, "replace", locked)
    with pytest.raises(FusionError, match=r"cannot be replaced \(permission denied\): close"):
        mosaic.commit()
    assert os.listdir(out) == []


@pytest.mark.skipif(sys.platform == "win32", reason="limits file size the POSIX way")
@pytest.mark.parametrize("options", [(), ("COMPRESS=DEFLATE",), ("NUM_THREADS=2", "COMPRESS=ZSTD")])
@pytest.mark.parametrize("name", ["f.tif", "f.img"])
@pytest.mark.parametrize("limit", [20_000, 1_000_000, 1_500_000])
def test_full_disk(make_pair, out, options, name, limit, capfd):
    import resource

    if name == "f.img":
        options = ()
    scene = Scene.open(*make_pair(ms_size=(130, 130)))
    noise = np.random.default_rng(0).integers(0, 65535, (3, 520, 520)).astype(np.float32)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    mosaic = start(out / name, scene, creation_options=options)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(FusionError, match="check the space on the disk"), mosaic:
            fill(mosaic, noise)
            mosaic.commit()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(out) == []
    assert capfd.readouterr().err == ""


@pytest.fixture
def gdal_exceptions():
    before = gdal.GetUseExceptions()
    gdal.UseExceptions()
    yield
    if not before:
        gdal.DontUseExceptions()


def test_exception_mode_of_the_bindings(make_pair, out, gdal_exceptions):
    """Another plugin may have switched it on for the whole process."""
    scene = Scene.open(*make_pair())
    values = random_values(scene)
    for name in ("f.tif", "f.img"):
        with start(out / name, scene) as mosaic:
            fill(mosaic, values)
            mosaic.commit({"model": "x"})
        np.testing.assert_array_equal(read_bands(str(out / name))[0], values)
    for option in ("COMPRES=LZW", "BLOCKXSIZE=100"):
        with pytest.raises(FusionError, match=option):
            start(out / "f.tif", scene, creation_options=["TILED=YES", option])
    with pytest.raises(FusionError, match="cannot be opened"):
        read_bands(str(out / "none.tif"))


def test_trials_leave_nothing_in_memory(make_pair, out):
    scene = Scene.open(*make_pair())
    before = gdal.ReadDirRecursive("/vsimem/") or []
    for name in ("f.tif", "f.png", "f.dat"):
        start(out / name, scene).discard()
    assert (gdal.ReadDirRecursive("/vsimem/") or []) == before


def test_too_little_space(make_pair, out, monkeypatch):
    import shutil

    scene = Scene.open(*make_pair())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(FusionError, match="0.0 MB left"):
        start(out / "f.tif", scene)
    start(out / "f.tif", scene, creation_options=["COMPRESS=LZW"]).discard()
    with pytest.raises(FusionError, match="0.0 MB left"):
        start(out / "f.png", scene)
    assert os.listdir(out) == []


@pytest.mark.parametrize("name", ["none/f.tif", "file/f.tif", "/vsimem/f.tif"])
def test_folder_that_does_not_exist(make_pair, out, name):
    (out / "file").write_text("")
    scene = Scene.open(*make_pair())
    with pytest.raises(FusionError, match="does not exist"):
        start(name if name.startswith("/") else out / name, scene)


def test_unwritable_folder(make_pair, out, monkeypatch):
    import tempfile

    scene = Scene.open(*make_pair())

    def refused(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "mkdtemp", refused)
    with pytest.raises(FusionError, match="permission denied.*choose another folder"):
        start(out / "f.tif", scene)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(FusionError, match="choose another folder"):
        start(out / "f.tif", scene)
    assert os.listdir(out) == []


def test_output_that_is_a_folder(make_pair, out):
    (out / "f.tif").mkdir()
    with pytest.raises(FusionError, match="is a folder"):
        start(out / "f.tif", Scene.open(*make_pair()))


def test_output_that_is_an_input(make_pair, out, tmp_path):
    pan, ms = make_pair()
    scene = Scene.open(pan, ms)
    os.symlink(pan, out / "link.tif")
    for path in (pan, ms, out / "link.tif"):
        with pytest.raises(FusionError, match="one of the inputs"):
            start(path, scene)


@pytest.mark.parametrize(
    "option", ["COMPRES=LZW", "COMPRESS=FOO", "BLOCKXSIZE=100", "LZW", "=3", "COMPRESS=JPEG"]
)
def test_bad_creation_option(make_pair, out, option):
    scene = Scene.open(*make_pair())
    with pytest.raises(FusionError) as caught:
        start(out / "f.tif", scene, creation_options=["TILED=YES", option], dtype="uint16")
    assert option.strip("=") in str(caught.value)
    assert os.listdir(out) == []


def test_creation_options_are_honoured(make_pair, out):
    scene = Scene.open(*make_pair())
    options = ["COMPRESS=LZW", "TILED=NO", "INTERLEAVE=BAND", "BIGTIFF=YES"]
    with start(out / "f.tif", scene, creation_options=options) as mosaic:
        fill(mosaic, random_values(scene))
        mosaic.commit()
    structure = gdal.Open(str(out / "f.tif")).GetMetadata("IMAGE_STRUCTURE")
    assert (structure["COMPRESSION"], structure["INTERLEAVE"]) == ("LZW", "BAND")
    assert (out / "f.tif").read_bytes()[:4] == b"II+\0"


def test_compressed_blocks_are_written_once(make_pair, out):
    """A block written in parts would leave its earlier versions in the file."""
    scene = Scene.open(*make_pair(ms_size=(200, 200)))
    values = np.random.default_rng(0).integers(0, 60000, (3, 800, 800)).astype(np.float32)
    sizes = []
    for rows, name in ((48, "strips.tif"), (800, "whole.tif")):
        with start(out / name, scene, creation_options=["COMPRESS=DEFLATE"]) as mosaic:
            fill(mosaic, values, rows=rows)
            mosaic.commit()
        sizes.append(os.path.getsize(out / name))
    assert sizes[0] == sizes[1]


def test_defaults_suit_the_raster():
    assert "BIGTIFF=IF_SAFER" in geotiff_options(4, 1000)
    assert "BLOCKYSIZE=256" in geotiff_options(8, 70_000)
    assert "BLOCKYSIZE=64" in geotiff_options(128, 40_000)
    assert geotiff_options(128, 4000, ("BLOCKYSIZE=16",)) == [
        "BIGTIFF=IF_SAFER",
        "INTERLEAVE=BAND",
        "PHOTOMETRIC=MINISBLACK",
        "ALPHA=NO",
        "BLOCKYSIZE=16",
    ]
    assert geotiff_options(3, 10, ("TILED=NO", "BIGTIFF=NO"), rgb=True) == [
        "TILED=NO",
        "BIGTIFF=NO",
    ]


def test_compression_uses_all_cores_unless_told_otherwise():
    assert "NUM_THREADS=ALL_CPUS" in geotiff_options(4, 1000, ("COMPRESS=DEFLATE",))
    assert not [text for text in geotiff_options(4, 1000) if text.startswith("NUM_THREADS")]
    given = ("COMPRESS=DEFLATE", "NUM_THREADS=2")
    assert [text for text in geotiff_options(4, 1000, given) if "THREADS" in text] == [given[1]]


@pytest.mark.parametrize("extension", ["png", "img", "dat", "bsq", "jp2"])
def test_other_formats(make_pair, out, extension):
    if extension == "jp2" and gdal.GetDriverByName("JP2OpenJPEG") is None:
        pytest.skip("this GDAL has no JPEG 2000")
    scene = Scene.open(*make_pair(names=("Blue", "Green", "Red")))
    values = random_values(scene)
    name = f"f.{extension}"
    with start(out / name, scene) as mosaic:
        fill(mosaic, values)
        assert not [entry for entry in os.listdir(out) if not entry.startswith(".")]
        mosaic.commit({"model": "x"})
    pixels, info = read_bands(str(out / name))
    np.testing.assert_array_equal(pixels, values)
    assert info.geotransform == pytest.approx(scene.geotransform)
    assert "UTM zone 33N" in info.crs_wkt
    assert read_provenance(str(out / name)) == {"model": "x"}
    assert not [entry for entry in os.listdir(out) if entry.startswith(".")]


@pytest.mark.skipif(not hasattr(gdal, "GDT_Int64"), reason="GDAL before 3.5")
@pytest.mark.parametrize(("dtype", "nodata"), [("int64", -1), ("uint64", 0)])
def test_64_bit_integers(make_pair, out, dtype, nodata):
    scene = Scene.open(*make_pair())
    values = random_values(scene)
    valid = values[0] > 20
    with start(out / "f.tif", scene, dtype=dtype, nodata=nodata) as mosaic:
        fill(mosaic, values, valid)
        mosaic.commit()
    pixels, info = read_bands(str(out / "f.tif"))
    assert (pixels.dtype.name, info.nodata) == (dtype, nodata)
    np.testing.assert_array_equal(pixels, np.where(valid, values, nodata))


def test_outputs_appear_together_or_not_at_all(make_pair, out):
    scene = Scene.open(*make_pair())
    with start(out / "a.tif", scene) as one, start(out / "b.png", scene) as other:
        for mosaic in (one, other):
            fill(mosaic, random_values(scene))
            mosaic.finish()
            assert not [entry for entry in os.listdir(out) if not entry.startswith(".")]
        one.commit()
        with pytest.raises(ValueError, match="written"):
            other.finish()
    assert os.listdir(out) == ["a.tif"]


@pytest.mark.parametrize(
    ("name", "dtype", "bands", "sentence"),
    [
        ("f.xyzzy", "uint16", 3, r"extension \.xyzzy"),
        ("f.vrt", "uint16", 3, r"extension \.vrt"),
        ("f", "uint16", 3, "no extension"),
        ("f.png", "float32", 3, "cannot hold float32"),
        ("f.png", "uint16", 8, "8 bands of uint16"),
        ("f.jpg", "int16", 3, "cannot hold int16"),
        ("f.jpg", "uint8", 4, "3 of 4 bands are kept"),
        ("f.xyz", "uint16", 3, "1 of 3 bands are kept"),
        ("f.xml", "uint16", 3, r"extension \.xml"),
        ("f.tif", "complex64", 3, "complex64"),
    ],
)
def test_formats_that_cannot_take_it(make_pair, out, name, dtype, bands, sentence):
    scene = Scene.open(*make_pair())
    with pytest.raises(FusionError, match=sentence):
        start(out / name, scene, dtype=dtype, bands=bands)
    assert os.listdir(out) == []
