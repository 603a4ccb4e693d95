"""The command line, as a user types it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("osgeo")
from fusion_core.command_line import main  # noqa: E402
from fusion_core.raster.geotiff import read_bands  # noqa: E402
from fusion_core.weights import read_model  # noqa: E402
from tests.core.networks import write_model  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


def call(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "fusion_core", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A pair made on the command line."""
    folder = tmp_path_factory.mktemp("scene")
    names = [folder / f"{name}.tif" for name in ("pan", "ms", "reference")]
    made = call(
        *("sample-scene", "--size", 128, "--seed", 3, "--json"),
        *("--pan", names[0], "--ms", names[1], "--reference", names[2]),
    )
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["pan"] == str(names[0])
    return names


def test_help_names_every_command():
    text = call("--help").stdout
    for command in ("fuse", "train", "models", "assess", "sample-scene"):
        assert command in text
        assert call(command, "--help").returncode == 0


def test_fuse_and_assess(pair, tmp_path):
    model = write_model(tmp_path / "tiny.safetensors", strength=0.05)
    output = tmp_path / "fused.tif"
    pan, ms, reference = pair
    done = call(
        *("fuse", "--model", model, "--pan", pan, "--ms", ms, "--output", output),
        *("--seed", 1, "--batch-size", 4, "--creation-options", "COMPRESS=DEFLATE", "--json"),
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["width"], result["height"], result["bands"]) == (128, 128, 4)
    assert read_bands(str(output))[0].shape == (4, 128, 128)
    judged = call("assess", "--fused", output, "--reference", reference, "--json")
    figures = json.loads(judged.stdout)
    assert 0 < figures["SAM"] < 90
    perfect = json.loads(
        call("assess", "--fused", reference, "--reference", reference, "--json").stdout
    )
    assert perfect["SAM"] == pytest.approx(0, abs=1e-3)
    assert perfect["ERGAS"] == pytest.approx(0, abs=1e-6)


def test_threads_reach_the_executor(pair, tmp_path, monkeypatch):
    """Pixels do not tell how many threads made them."""
    from fusion_core.execution import local

    counts = []
    pool = local.ThreadPoolExecutor

    def counted(threads, *arguments):
        counts.append(threads)
        return pool(threads, *arguments)

    monkeypatch.setattr(local, "ThreadPoolExecutor", counted)
    model = write_model(tmp_path / "tiny.safetensors")
    (tmp_path / "jobs.csv").write_text(f"pan,ms,output\n{pair[0]},{pair[1]},b.tif\n")
    files = ["--pan", pair[0], "--ms", pair[1], "--output", tmp_path / "a.tif"]
    for command in (["fuse", *files], ["batch", tmp_path / "jobs.csv"]):
        arguments = [*command, "--model", model, "--device", "cpu", "--threads", 3]
        assert main([str(argument) for argument in arguments]) == 0
    assert counts == [3, 3]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--steps", "0"], "steps is 0"),
        (["--extent", "1,2,3"], "xmin,ymin,xmax,ymax"),
        (["--model", "none.safetensors"], "cannot be read"),
        (["--ms", "none.tif"], "none.tif"),
        (["--bands", "Blue,Green,NIR"], "BANDS has 3 name(s)"),
    ],
)
def test_errors_are_one_sentence_and_exit_1(pair, tmp_path, changes, words):
    output = tmp_path / "fused.tif"
    failed = call("fuse", "--pan", pair[0], "--ms", pair[1], "--output", output, *changes)
    assert failed.returncode == 1
    assert failed.stdout == ""
    lines = failed.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    assert words in lines[0]
    assert not output.exists()


def test_an_extent_west_of_greenwich_and_in_another_system(pair, tmp_path):
    model = write_model(tmp_path / "tiny.safetensors")
    arguments = ["fuse", "--model", model, "--pan", pair[0], "--ms", pair[1]]
    arguments += ["--output", tmp_path / "fused.tif", "--extent", "-71.5,42,-71,43"]
    for extra, words in (
        ([], "does not touch"),
        (["--extent-crs", "EPSG:4326"], "does not touch"),
        (["--extent-crs", "nonsense"], "nonsense, is unknown"),
    ):
        failed = call(*arguments, *extra)
        assert failed.returncode == 1
        assert words in failed.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("executor", ["local", "worker"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_told_to_end_tidies_up(pair, tmp_path, executor, number):
    model = write_model(tmp_path / "tiny.safetensors")
    out = tmp_path / "out"
    out.mkdir()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "fusion_core", "fuse", "--model", model, "--pan", pair[0]),
            *("--ms", pair[1], "--output", out / "fused.tif", "--executor", executor),
            *("--steps", "1000", "--samples", "100", "--python", sys.executable),
        ],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        # In the background of a shell Ctrl+C is switched off for the tests and all they start, under nohup SIGHUP.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 60
        while not list(out.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert said.endswith("Cancelled: nothing was written.\n")
    assert "Traceback" not in said
    assert list(out.iterdir()) == []


def test_models_are_listed():
    listed = json.loads(call("models", "--json").stdout)["models"]
    assert [model["id"] for model in listed] == sorted(model["id"] for model in listed)


def test_train_writes_a_model_that_fuses(pair, tmp_path):
    model, output = tmp_path / "mine.safetensors", tmp_path / "fused.tif"
    trained = call(
        *("train", "--bands", "Blue,Green,Red,NIR", "--output", model, "--width", 16),
        *("--references", 1, pair[2], "--validation-references", pair[2]),
        *("--iterations", 4, "--stages", "1:32:2", "--threads", 1, "--json"),
    )
    assert trained.returncode == 0, trained.stderr
    card = read_model(model).card
    assert (card.id, card.tile, card.band_names) == ("mine", 32, ("Blue", "Green", "Red", "NIR"))
    assert "--iterations 4" in card.training["command"]
    assert card.training["data"].endswith("/reference.tif (weight 1)")
    done = call("fuse", "--model", model, "--pan", pair[0], "--ms", pair[1], "--output", output)
    assert done.returncode == 0, done.stderr
    assert np.ptp(read_bands(str(output))[0]) > 0


def test_assessing_at_no_ratio_is_refused(pair):
    failed = call("assess", "--fused", pair[2], "--reference", pair[2], "--ratio", 0)
    assert failed.returncode == 1
    assert "The ratio is 0" in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--references", "1", "nothing_*.tif"], "Nothing matches"),
        (["--references", "x", "a.tif"], "is not a weight"),
        (["--synthetic", "1", "1", "--stages", "1:512:2"], "at least"),
        (["--synthetic", "1", "1", "--stages", "64"], "share:patch:batch"),
        (["--synthetic", "1", "many"], "many is not a number"),
        (["--synthetic", "1"], "is not a number"),
        (["--synthetic", "1", "1", "--checkpoint", "/nowhere/c.pt"], "written in /nowhere"),
    ],
)
def test_training_data_that_do_not_serve_are_refused(tmp_path, arguments, words):
    model = tmp_path / "mine.safetensors"
    failed = call("train", "--bands", "Blue,Green,Red,NIR", "--output", model, *arguments)
    assert failed.returncode == 1
    assert words in failed.stderr
    assert not model.exists()
