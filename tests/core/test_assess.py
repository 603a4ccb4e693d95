"""Assessment of images from their files: grids, masks, figures and the report."""

from __future__ import annotations

import csv
import io
import json
import zlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("osgeo")
from fusion_core.assess import assess, check_assess  # noqa: E402
from fusion_core.assess_report import report_page, report_table  # noqa: E402
from fusion_core.command_line import main  # noqa: E402
from fusion_core.errors import Cancelled, FusionError  # noqa: E402
from fusion_core.png import png  # noqa: E402
from fusion_core.quality import assess_full, assess_reduced  # noqa: E402
from fusion_core.quality.meanings import WITH_REFERENCE, WITHOUT_REFERENCE  # noqa: E402
from fusion_core.raster.geotiff import read_bands, write_geotiff  # noqa: E402
from fusion_core.raster.sample_scene_files import write_sample_scene  # noqa: E402
from fusion_core.report_page import write_text  # noqa: E402
from fusion_core.sample_scene import make_sample_scene  # noqa: E402
from fusion_core.sensors import SENSORS, find_sensor, ms_gains  # noqa: E402

SCENES = Path(__file__).resolve().parents[2] / "../shared/data/scenes"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """PAN, MS, reference and a blurred image on its grid, by name."""
    folder = tmp_path_factory.mktemp("scene")
    paths = {name: str(folder / f"{name}.tif") for name in ("pan", "ms", "reference", "blurred")}
    scene = make_sample_scene(256)
    write_sample_scene(scene, paths["pan"], paths["ms"], paths["reference"])
    blurred = np.repeat(np.repeat(scene.ms, 4, axis=1), 4, axis=2)
    write_geotiff(paths["blurred"], blurred, scene.geotransform, scene.crs, scene.band_names)
    return paths


def cut(path: str, target, row: int, col: int, height: int, width: int, gain=1) -> str:
    """A part of a raster at its place."""
    pixels, info = read_bands(path)
    g = info.geotransform
    place = (g[0] + col * g[1], g[1], g[2], g[3] + row * g[5], g[4], g[5])
    part = pixels[:, row : row + height, col : col + width] * gain
    write_geotiff(
        str(target), part.astype(pixels.dtype), place, info.crs_wkt, info.band_names, info.nodata
    )
    return str(target)


def test_figures_are_those_of_the_arrays(files):
    found = assess(files["blurred"], files["pan"], files["ms"], files["reference"])
    arrays = {name: read_bands(path)[0] for name, path in files.items()}
    expected = {
        **assess_reduced(arrays["reference"], arrays["blurred"], 4),
        **assess_full(arrays["pan"], arrays["ms"], arrays["blurred"], 4),
    }
    assert found.images[0].figures == pytest.approx(expected, rel=1e-6)
    assert set(expected) == set(WITH_REFERENCE) | set(WITHOUT_REFERENCE)


def test_true_image_is_better_without_reference_too(files):
    images = assess([files["reference"], files["blurred"]], files["pan"], files["ms"]).images
    true, blurred = (image.figures for image in images)
    assert set(true) == set(WITHOUT_REFERENCE)
    assert true["RQNR"] > blurred["RQNR"] and true["D_S"] < blurred["D_S"]


def test_reference_alone_needs_no_pan(files):
    figures = assess(files["reference"], reference=files["reference"]).images[0].figures
    assert figures["SAM"] == pytest.approx(0, abs=1e-4) and figures["Q2n"] == pytest.approx(1)


def test_parts_are_compared_where_they_lie(files, tmp_path):
    part = cut(files["blurred"], tmp_path / "part.tif", 21, 34, 150, 170)
    whole = assess([files["blurred"], part], files["pan"], files["ms"], files["reference"])
    assert whole.settings["Area"].startswith("170 x 150")
    first, second = (image.figures for image in whole.images)
    assert first == second


def test_pan_of_other_extent_gives_the_real_offset(files, tmp_path):
    """PAN that starts inside an MS pixel: the figures of the same area stay close to those on whole pixels."""
    pan = cut(files["pan"], tmp_path / "pan.tif", 5, 7, 240, 240)
    true = cut(files["reference"], tmp_path / "true.tif", 5, 7, 240, 240)
    shifted = assess(true, pan, files["ms"]).images[0].figures
    straight = assess(
        cut(files["reference"], tmp_path / "straight.tif", 4, 8, 240, 240),
        files["pan"],
        files["ms"],
    )
    assert shifted["D_LAMBDA"] == pytest.approx(straight.images[0].figures["D_LAMBDA"], abs=0.01)


def test_ms_in_another_coordinate_system_and_ratios_that_are_not_whole(files, tmp_path):
    from osgeo import gdal

    straight = assess(files["reference"], files["pan"], files["ms"]).images[0].figures
    turned, finer = str(tmp_path / "turned.tif"), str(tmp_path / "finer.tif")
    gdal.Warp(turned, files["ms"], dstSRS="EPSG:4326", resampleAlg="cubic", dstNodata=0)
    gdal.Warp(finer, files["ms"], xRes=1.9, yRes=1.9, resampleAlg="cubic")
    for name in (turned, finer):
        figures = assess(files["reference"], files["pan"], name).images[0].figures
        assert figures["D_LAMBDA"] < straight["D_LAMBDA"] + 0.01
        assert figures["RQNR"] == pytest.approx(straight["RQNR"], abs=0.01)


def test_images_too_small_for_the_metrics_are_refused(files, tmp_path):
    part = cut(files["blurred"], tmp_path / "part.tif", 8, 8, 14, 14)
    with pytest.raises(FusionError, match="too small|no valid pixel"):
        assess(part, files["pan"], files["ms"])


def test_gains_scale_nothing(files, tmp_path):
    scaled = [
        cut(files[name], tmp_path / f"{name}.tif", 0, 0, *size, gain=2)
        for name, size in (("blurred", (256, 256)), ("pan", (256, 256)), ("ms", (64, 64)))
    ]
    one = assess(files["blurred"], files["pan"], files["ms"]).images[0].figures
    two = assess(scaled[0], scaled[1], scaled[2]).images[0].figures
    assert two == pytest.approx(one, abs=1e-6)


def test_nodata_is_left_out(files, tmp_path):
    pixels, info = read_bands(files["reference"])
    pixels = pixels.astype(np.float32)
    pixels[:, :40, :] = np.nan
    path = str(tmp_path / "holes.tif")
    write_geotiff(path, pixels, info.geotransform, info.crs_wkt, info.band_names, np.nan)
    found = assess(path, files["pan"], files["ms"], files["reference"])
    assert found.images[0].figures["SAM"] == pytest.approx(0, abs=1e-3)
    assert "84.4% of them valid" in found.settings["Area"]
    assert all(np.isfinite(value) for value in found.images[0].figures.values())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fused": []}, "No fused image"),
        ({"ms": None}, "PAN and MS are needed together"),
        ({"pan": None, "ms": None}, "nothing to compare with"),
        ({"fused": "none.tif"}, "none.tif cannot be opened"),
        ({"fused": "ms"}, "does not lie on the pixels of PAN"),
        ({"fused": "pan"}, "has 1 bands where 4 are expected"),
        ({"sensor": "Sputnik"}, "The sensor Sputnik is not known"),
        ({"pan": "ms", "ms": "pan"}, "look swapped"),
    ],
)
def test_refusals(files, change, words):
    def path(value):
        return files.get(value, value) if isinstance(value, str) else value

    arguments = {"fused": "blurred", "pan": "pan", "ms": "ms", **change}
    arguments = {
        name: value if name == "sensor" else path(value) for name, value in arguments.items()
    }
    with pytest.raises(FusionError, match=words):
        check_assess(**arguments)
    with pytest.raises(FusionError, match=words):
        assess(**arguments)


def test_elsewhere_and_half_a_pixel_off_are_refused(files, tmp_path):
    pixels, info = read_bands(files["blurred"])
    for move, words in ((0.5, "does not lie on the pixels"), (5000.0, "does not overlap")):
        g = info.geotransform
        path = str(tmp_path / "moved.tif")
        write_geotiff(path, pixels, (g[0] + move * g[1], *g[1:]), info.crs_wkt)
        with pytest.raises(FusionError, match=words):
            check_assess(path, files["pan"], files["ms"])


def test_too_large_a_scene_is_refused_with_what_to_do(files, monkeypatch):
    monkeypatch.setattr("fusion_core.assess.MOST_VALUES", 40_000)
    with pytest.raises(FusionError, match="cut a fused image to 100 x 100 pixels or fewer"):
        check_assess(files["blurred"], files["pan"], files["ms"])


def test_cancel(files):
    with pytest.raises(Cancelled):
        assess(files["blurred"], files["pan"], files["ms"], cancelled=lambda: True)


def test_report_is_one_file_with_all_images(files):
    found = assess(
        [files["blurred"], files["reference"]], files["pan"], files["ms"], files["reference"]
    )
    page = report_page(found, "1.2.3")
    assert [p.label for p in found.pictures] == ["PAN", "MS", "blurred", "reference", "Reference"]
    assert page.count("data:image/png;base64,") == 5
    assert page.count('class="best"') == 9
    assert "http" not in page and 'src="data:' in page
    rows = list(csv.DictReader(io.StringIO(report_table(found))))
    assert [row["image"] for row in rows] == ["blurred", "reference"]
    assert float(rows[0]["SAM"]) == pytest.approx(found.images[0].figures["SAM"], rel=1e-5)


def test_report_escapes_names(files, tmp_path):
    path = cut(files["blurred"], tmp_path / "a<b>&.tif", 0, 0, 256, 256)
    page = report_page(assess(path, files["pan"], files["ms"]), "1")
    assert "a<b>" not in page and "a&lt;b&gt;&amp;" in page


def test_text_is_written_whole_or_not(tmp_path):
    write_text(str(tmp_path / "a.html"), "ä")
    assert (tmp_path / "a.html").read_bytes() == "ä".encode()
    with pytest.raises(FusionError, match="Nothing can be written"):
        write_text(str(tmp_path / "none" / "a.html"), "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]


def test_png_holds_the_pixels():
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    data = png(pixels)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    start = data.index(b"IDAT")
    length = int.from_bytes(data[start - 4 : start], "big")
    lines = zlib.decompress(data[start + 4 : start + 4 + length])
    assert lines == b"\0" + pixels[0].tobytes() + b"\0" + pixels[1].tobytes()
    qt = pytest.importorskip("qgis.PyQt.QtGui")
    image = qt.QImage.fromData(data)
    assert (image.width(), image.height()) == (3, 2)
    assert image.pixelColor(1, 1).getRgb()[:3] == tuple(pixels[1, 1])


def test_gains_by_name_then_by_place():
    sensor = find_sensor("ikonos")
    assert ms_gains(sensor, ("NIR", "Red", "Green", "Blue")) == (0.28, 0.29, 0.28, 0.26)
    assert ms_gains(sensor, ("", "", "", "")) == (0.26, 0.28, 0.29, 0.28)
    assert ms_gains(sensor, ("Blue", "SWIR1")) == (0.26, 0.30)
    assert ms_gains(find_sensor("Landsat-8"), ("red", "nirn")) == (0.55, 0.53)
    assert ms_gains(find_sensor("unknown"), ("", "x")) == (0.30, 0.30)
    for sensor in SENSORS.values():
        assert all(0 < gain < 1 for gain in (sensor.pan, *sensor.bands.values()))


def test_command_line(files, tmp_path, capsys):
    status = main(
        [
            *("assess", "--fused", files["blurred"], files["reference"], "--pan", files["pan"]),
            *("--ms", files["ms"], "--report", str(tmp_path / "r.html"), "--json"),
            *("--table", str(tmp_path / "t.csv"), "--sensor", "WorldView-4"),
        ]
    )
    assert status == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["HQNR"] == result["images"]["blurred"]["HQNR"] < 1
    assert "WorldView-4" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 3


@pytest.mark.skipif(not SCENES.is_dir(), reason="the scenes are not here")
def test_truth_of_a_real_scene_keeps_the_colours_of_ms():
    """MS of this pair was made from the truth with these gains, on a grid that the georeference gives."""
    folder = SCENES / "ikonos" / "rr"
    figures = assess(
        str(folder / "gt.tif"), str(folder / "pan.tif"), str(folder / "ms.tif"), sensor="IKONOS"
    )
    assert figures.images[0].figures["D_LAMBDA"] < 1e-4
