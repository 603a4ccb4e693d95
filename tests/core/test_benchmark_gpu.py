"""The benchmark for GPUs, on the CPU."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import gpu
from benchmarks.measuring import random_network
from fusion_core.weights import read_model
from tests.core.networks import write_model

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_GDAL = """
import sys
sys.modules["osgeo"] = sys.modules["qgis"] = None
from benchmarks import gpu
sys.exit(gpu.main(sys.argv[1:]))
"""


def bench(**changes):
    settings = {"tiles": (64,), "batches": (2,), "rounds": 1, "call": (64, 2), **changes}
    return gpu.Bench(torch.device("cpu"), torch.float32, gpu.Sizes(**settings), peak=1e12)


def test_runs_where_there_is_neither_qgis_nor_gdal(tmp_path):
    table = tmp_path / "gpu.csv"
    command = [sys.executable, "-c", WITHOUT_GDAL, "--device", "cpu", "--quick"]
    command += ["--method", "ddrf", "--mode", "eager", "--mode", "CUDA graph", "--csv", str(table)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "35000 x 35000 pixels would take" in run.stdout
    assert "CUDA graphs need CUDA" in run.stdout
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert {row["table"] for row in rows} == {"executor", "network", "published"}
    measured = [row for row in rows if row["seconds"]]
    assert len(measured) == len(rows) - 2
    assert all(float(row["seconds"]) > 0 for row in measured)
    assert all(row["ratio"] for row in rows if row["table"] == "published")


@pytest.mark.parametrize(
    ("method", "operations"),
    [("ddrf", 8.23e9), ("ssdiff", 6.48e9)],
)
def test_operations_are_those_of_the_published_networks(method, operations):
    network = random_network(method, 8, 32)
    counted = gpu.operations_of(network, 1, 64)
    assert counted == pytest.approx(operations, rel=0.02)
    # A second call costs what the first does without its preparation.
    assert counted < gpu.operations_of(network, 2, 64) < 2 * counted
    assert gpu.operations_of(network, 1, 128) > 4 * counted


def test_speed_counts_pixels_without_margins(monkeypatch):
    model = gpu.shipped_model("ddrf")
    small, batches = bench(), []

    def two_seconds(side):
        batches.append(len(side()))
        return 2.0

    monkeypatch.setattr(small, "seconds", two_seconds)
    row = gpu._throughput(small, model, 64, 3, operations=5e9)
    (count,) = batches
    pixels = (64 - 2 * model.card.margin) ** 2
    assert row["megapixels/s"] == pytest.approx(count * 3 * pixels / 2.0 / 1e6)
    assert row["seconds"] == pytest.approx(2.0 / count)
    assert row["peak"] == pytest.approx(count * 3 * 5e9 / 2.0 / 1e12)


def test_scene_is_extrapolated_and_judged_on_a_gpu_alone():
    assert "12250 s" in gpu._scene_line(torch.device("cpu"), 0.1)
    assert "aim" not in gpu._scene_line(torch.device("cpu"), 0.1)
    assert gpu._scene_line(torch.device("cuda"), 20.0).endswith("met")
    assert gpu._scene_line(torch.device("cuda"), 19.0).endswith("missed")


def test_our_job_is_the_whole_image(tmp_path):
    """A network without a residual: what comes out is LMS, each pixel in its place."""
    path = write_model(tmp_path / "still.safetensors", "ddrf", 8, strength=0)
    image = gpu._our_job(bench(), read_model(path))()
    assert image.shape == (8, 64, 64)
    assert np.ptp(image) > 0.9
    plan = gpu.plan_tiles((0, 0, 64, 64), (0, 0), 32, 8)
    top, bottom = plan.rows.covered
    generator = torch.Generator().manual_seed(0)
    for bands, scale in ((1, 1), (8, 4)):
        torch.rand(bands, (bottom - top) // scale, (bottom - top) // scale, generator=generator)
    lms = torch.rand(8, bottom - top, bottom - top, generator=generator).numpy()
    np.testing.assert_array_equal(image, lms[:, -top : 64 - top, -top : 64 - top])


def test_a_mode_that_fails_is_told_and_the_others_go_on(monkeypatch):
    def broken(bench, call):
        raise ValueError("no compiler\nat all")

    monkeypatch.setitem(gpu.MODES, "compiled", broken)
    model = gpu.shipped_model("ddrf")
    rows = gpu._modes(bench(), model, 64, 1, {64: 1e9}, ("compiled", "eager"))
    assert [row["what"] for row in rows] == [
        "prepare and call, compiled: not possible (no compiler)",
        "prepare and call, eager",
        "call, compiled: not possible (no compiler)",
        "call, eager",
    ]
    assert "seconds" not in rows[0] and rows[1]["seconds"] > 0


def test_compiled_calls_are_compiled(monkeypatch):
    seen = []
    monkeypatch.setattr(torch, "compile", lambda call, **how: seen.append(how) or call)
    gpu._compiled(bench(), lambda: None)
    assert seen == [{"dynamic": False}]
