"""What is measured of tiles and margins."""

from __future__ import annotations

import csv
import struct
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("osgeo.gdal")

from benchmarks import draw_margins, margins  # noqa: E402
from benchmarks.margins import (  # noqa: E402
    COLUMNS,
    Placement,
    border_error,
    borders,
    choice,
    overhead,
    seam_energy,
)
from benchmarks.scenes import OpenScene  # noqa: E402
from fusion_core.execution.blending import ColumnBlender  # noqa: E402
from fusion_core.execution.tile_plan import plan_tiles  # noqa: E402
from fusion_core.raster.scene import Scene  # noqa: E402
from fusion_core.weights import MODELS_FOLDER  # noqa: E402


def test_overhead_counts_what_is_computed_more_than_once():
    assert overhead(64, 0) == 1
    assert overhead(64, 16) == 4
    axis = plan_tiles((0, 0, 48_000, 48_000), (0, 0), 64, 8).rows
    assert (axis.count * 64 / 48_000) ** 2 == pytest.approx(overhead(64, 8), rel=0.01)


@pytest.mark.parametrize("margin", [0, 4, 8])
@pytest.mark.parametrize("displaced", [0, 12])
def test_borders_are_where_blending_is_steepest(margin, displaced):
    axis = plan_tiles((0, 0, 1, 200 + displaced), (0, 2), 32, margin).cols
    # Every other tile says 1, so the joined row steps at the borders, by half in the middle of an overlap.
    tiles = np.arange(axis.count)[:, None, None, None] % 2 * np.ones((1, 1, 1, 32), np.float32)
    joined = ColumnBlender(margin).add(tiles)[0, 0][axis.start - axis.position(axis.first) :]
    steps = np.abs(np.diff(joined[displaced : displaced + 200]))
    found = borders(axis, 200, displaced)
    assert len(found) == len(set(found)) >= 168 // (32 - 2 * margin)
    assert all(
        steps[line - 1] == pytest.approx(steps.max()) and 16 <= line <= 184 for line in found
    )


def placements(seam, nearby=0.0):
    """Two placements of noise, with a step and more noise at their borders."""
    rng = np.random.default_rng(0)
    scene = rng.normal(size=(2, 160, 192))
    for lines in ([48, 96], [72, 120]):
        error = scene.copy()
        for line in lines:
            error[:, line:] += seam
            error[:, :, line:] += seam
            error[:, line - 4 : line + 4] *= 1 + nearby
            error[:, :, line - 4 : line + 4] *= 1 + nearby
        yield Placement(error, lines, lines, {})


def test_seam_energy_is_one_where_there_is_no_seam():
    assert seam_energy(*placements(0.0)) == 1
    assert border_error(*placements(0.0)) == 1
    # Steps of white noise have twice its variance, to which a seam adds its square.
    assert seam_energy(*placements(1.0)) == pytest.approx(1.5, rel=0.03)
    assert border_error(*placements(0.0, 0.5)) > 1.5


def test_images_without_a_border_have_no_seam():
    image = np.ones((1, 40, 40))
    assert seam_energy(Placement(image, [], [], {}), Placement(image, [], [], {})) == 1


def figures(sam, seconds, seam=1.0, memory=50.0):
    return {
        "SAM": sam, "ERGAS": 2.0, "Q2n": 0.9, "seam": seam, "seconds": seconds, "memory": memory
    }  # fmt: skip


def test_the_cheapest_good_setting_is_chosen():
    measured = {
        (64, 0): figures(3.2, 1.0),
        (64, 8): figures(3.0, 1.8),
        (64, 16): figures(3.0, 4.0),
        (128, 4): figures(3.01, 1.1),
    }
    assert choice(measured) == (128, 4)
    assert choice({**measured, (128, 4): figures(3.01, 1.1, seam=1.2)}) == (64, 8)
    assert choice({**measured, (128, 4): figures(3.01, 1.1, memory=500.0)}) == (64, 8)
    assert choice({**measured, (128, 4): figures(3.02, 1.1)}) == (64, 8)
    assert choice({(128, 4): figures(3.0, 1.0)}) is None


def test_displacing_changes_neither_pixels_nor_statistics(sample_pair, tmp_path):
    pan, ms = sample_pair(64)
    moved = margins.displaced(
        OpenScene("sample", pan, ms, None, np.dtype("uint16"), tmp_path), 4, 24
    )
    with Scene.open(pan, ms) as before, Scene.open(moved.pan, moved.ms) as after:
        np.testing.assert_array_equal(before.pan_scale, after.pan_scale)
        np.testing.assert_array_equal(before.ms_scale, after.ms_scale)
        np.testing.assert_array_equal(before.ms_limits, after.ms_limits)
        assert before.phase == after.phase
        one, two = before.read(before.grid), after.read(after.grid)
        np.testing.assert_array_equal(one.pan, two.pan[:, 24:, 24:])
        np.testing.assert_array_equal(one.ms, two.ms[:, 6:, 6:])
        assert two.valid.sum() == 64 * 64


def test_a_scene_is_measured(sample_pair, tmp_path, capsys):
    pytest.importorskip("torch")
    from fusion_core.raster.geotiff import read_bands, write_geotiff

    pan, ms = sample_pair(64)
    folder = tmp_path / "ikonos" / "rr"
    folder.mkdir(parents=True)
    image, about = read_bands(ms)
    write_geotiff(
        str(folder / "ms.tif"),
        image,
        about.geotransform,
        about.crs_wkt,
        ("Blue", "Green", "Red", "NIR"),
    )
    (folder / "pan.tif").write_bytes(Path(pan).read_bytes())
    (folder / "gt.tif").write_bytes((Path(pan).parent / "reference.tif").read_bytes())
    model, table = MODELS_FOLDER / "ddrf-vhr-4.safetensors", tmp_path / "margins.csv"
    arguments = ["--data", str(tmp_path), "--model", str(model), "--csv", str(table)]
    settings = ["--tile", "32", "--margin", "0", "--margin", "8", "--margin", "12"]
    assert margins.main([*arguments, *settings, "--threads", "1"]) == 0
    assert "tile 32, margin 8" in capsys.readouterr().out
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    # A margin of 12 is too wide for the tile.
    assert [(row["tile"], row["margin"]) for row in rows] == [("32", "0"), ("32", "8")]
    for row in rows:
        assert 0 < float(row["SAM"]) < 10 and 0.5 < float(row["seam"]) < 5
        assert float(row["memory"]) > 1 or row["memory"] == "nan"
    assert float(rows[1]["seconds"]) == pytest.approx(4 * float(rows[0]["seconds"]))


def test_margins_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    table, picture = tmp_path / "margins.csv", tmp_path / "margins.png"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="1")
        writer.writeheader()
        for tile in (64, 128):
            for margin in (0, 8):
                writer.writerow({"group": "IKONOS", "model": "one", "tile": tile, "margin": margin})
    assert draw_margins.main(["--csv", str(table), "--output", str(picture)]) == 0
    width, height = struct.unpack(">II", picture.read_bytes()[16:24])
    assert width > 1000 and height > 200
    assert draw_margins.main(["--csv", str(tmp_path / "none.csv"), "--output", str(picture)]) == 1
