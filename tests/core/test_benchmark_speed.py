"""The benchmark of speed measures what it says, on sizes that take seconds."""

from __future__ import annotations

import csv
import sys

import numpy as np
import pytest
import torch

from benchmarks import both_ways, speed, timed_jobs
from benchmarks.measuring import alternate, median_ratio, random_network, random_tiles
from benchmarks.peak_memory import affordable_tiles
from benchmarks.published import sampling
from benchmarks.published_jobs import planned, published_job, scaled_scene
from benchmarks.timed_calls import chunk_threads, fast_form, in_chunks
from fusion_core.raster.window import Window
from fusion_core.weights import read_model
from tests.core.networks import write_model

pytest.importorskip("osgeo.gdal")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")


def test_sides_take_turns():
    seen = []
    sides = {"one": lambda: seen.append(1), "other": lambda: seen.append(2)}
    seconds = alternate(sides, 3)
    assert seen == [1, 2] * 4
    assert [len(times) for times in seconds.values()] == [3, 3]
    seen.clear()
    alternate(sides, 1, warm=False)
    assert seen == [1, 2]


def test_ratio_is_the_median_of_the_turns():
    assert median_ratio([2.0, 9.0, 8.0], [1.0, 1.0, 2.0]) == 4.0


def test_verdict_compares_with_the_goal_of_the_row():
    assert [speed.verdict("DDRF, float32", ratio) for ratio in (3.9, 4.0, 6.0)] == [
        "missed",
        "met",
        "aim met",
    ]
    assert speed.verdict("DDRF, cold process", 1.0) == ""


def test_all_tiles_are_computed_in_chunks():
    form = fast_form(random_network("ssdiff", 4, 16), torch.float32)
    computed = []
    step = form.step

    def counting(x_t, time, condition):
        computed.append(len(x_t))
        return step(x_t, time, condition)

    form.step = counting
    with chunk_threads(2) as pool:
        in_chunks(form, random_tiles(5, 16, 4), pool)()
    assert sorted(computed) == [1, 2, 2]


@linux_only
def test_quick_run_measures_calls_and_memory(tmp_path, capsys):
    table = tmp_path / "speed.csv"
    arguments = ["--quick", "--only", "calls", "--only", "memory", "--threads", "1"]
    arguments += ["--csv", str(table)]
    assert speed.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "PyTorch" in printed
    with table.open() as file:
        rows = {row["row"]: row for row in csv.DictReader(file)}
    assert set(rows) >= {"SSDiff, float32", "DDRF, bfloat16", "SSDiff, executor"}
    for name, row in rows.items():
        assert name in printed
        assert float(row["ratio, default"]) > 0
        assert float(row["baseline, default"]) > 0
    # The published attention map alone: 4 tiles, 2 heads, 4096 x 4096 numbers, and its softmax.
    assert float(rows["SSDiff, executor"]["baseline, default"]) > 2 * 4 * 2 * 4096**2 * 4 / 2**20
    assert float(rows["SSDiff, executor"]["ratio, default"]) > 3


@linux_only
def test_published_memory_is_extrapolated_on_a_straight_line(monkeypatch, capsys):
    def part(options, *words):
        tiles = int(words[-1])
        return {"bytes": 2**20 * (50 + 200 * tiles if "baseline" in words else 500)}

    monkeypatch.setattr(speed, "_part", part)
    rows = speed._memory_rows(None, 64, 16)
    assert rows[0]["baseline, default"] == pytest.approx(50 + 200 * 64)
    assert rows[0]["ratio, default"] == pytest.approx((50 + 200 * 64) / 500)
    assert "from 8 and 16 tiles" in rows[0]["note"]
    assert "aim met" in capsys.readouterr().out


@linux_only
def test_memory_that_is_free_bounds_the_published_batch(monkeypatch):
    monkeypatch.setattr("benchmarks.peak_memory.free_memory", lambda: 10 * 2**30)
    assert affordable_tiles(64) == 16
    monkeypatch.setattr("benchmarks.peak_memory.free_memory", lambda: 100 * 2**30)
    assert affordable_tiles(64) == 64


def test_a_part_that_fails_is_told(tmp_path, capsys):
    arguments = ["--only", "calls", "--threads", "-1", "--csv", str(tmp_path / "speed.csv")]
    assert speed.main(arguments) == 1
    assert "positive integer" in capsys.readouterr().err
    assert not (tmp_path / "speed.csv").exists()


def test_whole_jobs_are_measured(monkeypatch):
    monkeypatch.setattr(timed_jobs, "METHODS", {"DDRF": "ddrf"})
    rows = timed_jobs.timed_jobs(64, 1, 1, 1)
    assert list(rows) == [
        f"DDRF, {side}" for side in ("executor started", "executor not started", "cold process")
    ]
    started, fuse, cold = rows.values()
    assert started["fast"] < fuse["fast"] < cold["fast"]
    assert started["baseline runs"] == 1 and started["baseline calls"] == 25
    model = timed_jobs.shipped_model("ddrf").card
    assert started["calls"] == model.steps and started["runs"] >= 1
    note = speed._job_note(started)
    assert note.startswith("ddrf-wv-8: 25 calls on one image; ours ")
    assert note.endswith(started["precision"])


def test_extrapolation_is_said():
    figure = {"model": "m", "baseline runs": 221, "baseline calls": 10, "share": 10 / 221}
    figure |= {"runs": 36, "calls": 1, "precision": "float32"}
    assert speed._job_note(figure) == (
        "m: 10 calls on 221 tiles, extrapolated from 10; ours 1 call(s) on 36 tiles, float32"
    )


def test_quality_of_both_ways_on_a_synthetic_scene(monkeypatch, tmp_path):
    monkeypatch.setattr(both_ways, "METHODS", {"DDRF": "ddrf"})
    rows = both_ways.quality(tmp_path, 64, 1)
    assert [row["way"] for row in rows] == ["published", "ours"]
    assert all(0.1 < row["SAM"] < 5 and 0.1 < row["ERGAS"] < 5 for row in rows)
    assert rows[0]["SAM"] != rows[1]["SAM"]


@pytest.mark.parametrize("method", ["ddrf", "ssdiff"])
def test_published_job_without_a_residual_is_lms(make_pair, tmp_path, method, monkeypatch):
    """In the scene's numbers, bands and window, whatever the offset of the two grids."""
    # One step is enough to see where the pixels go.
    monkeypatch.setattr(sampling, "published_timesteps", lambda times, steps: [0])
    pan, ms = make_pair(bands=3, ms_size=(15, 14), shift=(1.0, 2.0), names=("Red", "Blue", "Green"))
    path = write_model(
        tmp_path / "still.safetensors",
        method,
        3,
        strength=0,
        band_names=("Blue", "Green", "Red"),
    )
    model = read_model(path)
    with planned(pan, ms, model) as plan:
        assert list(plan.bands.order) != [0, 1, 2]
        image = published_job(plan)
        window, phase = plan.window, plan.scene.phase
        around = Window(phase[0] - 4, phase[1] - 4, 72, 72)
        expected = plan.scene.read(around).lms
        rows, cols = window.slices_in(around)
        scene = scaled_scene(plan)
    assert image.shape == (3, window.height, window.width)
    np.testing.assert_allclose(image, expected[:, rows, cols], rtol=2e-5)
    assert (scene.window.height - 64) % 16 == 0 and (scene.window.width - 64) % 16 == 0
