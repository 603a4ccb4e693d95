"""Training in a child process."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from fusion_core.errors import Cancelled, FusionError
from fusion_core.execution import training_messages as messages
from fusion_core.execution import training_process
from fusion_core.execution.protocol import read_message, write_message
from fusion_core.execution.training_process import train_in_worker
from fusion_core.training.job import run_training
from fusion_core.training_job import Progress, TrainingJob, TrainingReport
from fusion_core.training_scenes import TrainingScene
from fusion_core.weights import load_network, read_model
from tests.core.networks import write_model

BANDS = ("Blue", "Green", "Red", "NIR")


def make_scene(side: int = 64, seed: int = 0) -> TrainingScene:
    """A random scene whose PAN is the mean of its bands."""
    rng = np.random.default_rng(seed)
    reference = rng.random((4, side, side)).astype(np.float32) + np.linspace(1, 2, side)
    reference = (300 * reference).astype(np.float32)
    coarse = reference.reshape(4, side // 4, 4, side // 4, 4).mean(axis=(2, 4))
    return TrainingScene(
        name="scene.tif",
        reference=reference,
        pan=reference.mean(axis=0),
        ms=coarse,
        valid=rng.random((side, side)) > 0.001,
        ratio=4,
        sensor="unknown",
        gains=(0.3,) * 4,
        band_names=BANDS,
        ms_scale=np.full(4, 900, np.float32),
        ms_limits=np.stack([reference.min(axis=(1, 2)), reference.max(axis=(1, 2))], axis=1),
        dtype="uint16",
        pan_scale=900.0,
        quarter=(side // 2, side // 2, side // 2, side // 2),
        notes=("A note.",),
    )


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> TrainingJob:
    base = tmp_path_factory.mktemp("base") / "base.safetensors"
    return TrainingJob(
        scenes=(make_scene(),),
        method="ssdiff",
        base=write_model(base, "ssdiff", band_names=BANDS),
        iterations=3,
        device="cpu",
        precision="float32",
        threads=1,
    )


def travelled(content: dict, arrays: dict) -> tuple[dict, dict]:
    stream = io.BytesIO()
    write_message(stream, content, arrays)
    stream.seek(0)
    return read_message(stream)


def same(first: object, second: object) -> None:
    for field in fields(first):
        ours, theirs = getattr(first, field.name), getattr(second, field.name)
        if isinstance(ours, np.ndarray):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
        else:
            assert (field.name, theirs, type(theirs)) == (field.name, ours, type(ours))


def test_everything_survives_the_wire(job):
    scene = messages.read_scene(*travelled(*messages.scene_message(job.scenes[0])))
    same(scene, job.scenes[0])
    content, _ = travelled(*messages.job_message(job, "/a/b.safetensors"))
    assert content["output"] == "/a/b.safetensors"
    read = messages.read_job(content, [scene])
    assert read.scenes == (scene,)
    assert replace(read, scenes=()) == replace(job, scenes=())
    told = Progress(3, 4, 0.5, 1e-3, 2.0, 1.5, {"SAM": 1.0}, "spatial")
    assert messages.read_progress(travelled(*messages.progress_message(told))[0]) == told
    report = TrainingReport(
        output="o",
        model="m",
        method="ddrf",
        kept="base",
        why="So.",
        iterations=1,
        planned=2,
        seconds=0.5,
        cancelled=False,
        history=[{"iteration": 0, "loss": None, "ERGAS": float("inf")}],
        losses=[(1, 0.5)],
        table={"base": {"SAM": 1.0}},
        settings={"seed": "1"},
        pictures={"base": np.arange(12, dtype=np.uint8).reshape(2, 2, 3)},
    )
    read = messages.read_report(*travelled(*messages.report_message(report)))
    np.testing.assert_array_equal(read.pictures["base"], report.pictures["base"])
    assert replace(read, pictures={}) == replace(report, pictures={})


def test_the_child_trains_the_same_model(job, tmp_path):
    here = run_training(job, str(tmp_path / "here.safetensors"))
    told = []
    there = train_in_worker(
        job, str(tmp_path / "there.safetensors"), sys.executable, progress=told.append
    )
    assert there.output == str(tmp_path / "there.safetensors")
    assert (there.model, there.kept, there.table) == ("there", here.kept, here.table)
    assert [entry["ERGAS"] for entry in there.history] == [e["ERGAS"] for e in here.history]
    assert [progress.iteration for progress in told][-1] == 3
    assert set(there.pictures) == set(here.pictures)
    models = [read_model(tmp_path / f"{name}.safetensors") for name in ("here", "there")]
    first, second = (load_network(model).state_dict() for model in models)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert sorted(os.listdir(tmp_path)) == ["here.safetensors", "there.safetensors"]


def test_the_child_needs_neither_gdal_nor_qgis(job, tmp_path):
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    for module in ("osgeo", "qgis", "PyQt5"):
        (hidden / f"{module}.py").write_text(f"raise ImportError('no {module} here')\n")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{hidden}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    report = train_in_worker(
        replace(job, iterations=1), str(tmp_path / "model.safetensors"), str(python)
    )
    assert report.iterations == 1
    assert read_model(tmp_path / "model.safetensors").card.id == "model"


def test_cancel_writes_the_best_so_far(job, tmp_path):
    told = []
    report = train_in_worker(
        replace(job, iterations=100_000),
        str(tmp_path / "model.safetensors"),
        sys.executable,
        told.append,
        lambda: bool(told) and told[-1].iteration >= 10,
    )
    assert report.cancelled and report.kept == "trained"
    assert 10 <= report.iterations < report.planned == 100_000
    assert report.table["trained"]["ERGAS"] < report.table["base"]["ERGAS"]
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_cancel_before_training_is_prompt(job, tmp_path):
    started = time.monotonic()
    with pytest.raises(Cancelled):
        train_in_worker(
            job, str(tmp_path / "model.safetensors"), sys.executable, cancelled=lambda: True
        )
    assert time.monotonic() - started < 3
    assert os.listdir(tmp_path) == []


def test_a_child_that_does_not_answer_is_ended(job, tmp_path, monkeypatch):
    monkeypatch.setattr(training_process, "ANSWER_SECONDS", 0.5)
    python = tmp_path / "python"
    # Tells of one iteration and then neither listens nor ends.
    script = tmp_path / "deaf.py"
    script.write_text(
        "import json, sys, time\n"
        f"values = {vars(Progress(1, 9, 0.5, 0.1, 1.0))!r}\n"
        "message = {'content': {'type': 'progress', 'values': values}, 'arrays': {}}\n"
        "print(json.dumps(message), flush=True)\n"
        "while sys.stdin.buffer.read(1 << 16): pass\n"
        "time.sleep(60)\n"
    )
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}"\n')
    python.chmod(0o755)
    told = []
    folder = tmp_path / "output"
    folder.mkdir()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        train_in_worker(
            job, str(folder / "m.safetensors"), str(python), told.append, lambda: bool(told)
        )
    assert time.monotonic() - started < 10
    assert len(told) == 1 and os.listdir(folder) == []


def test_what_went_wrong_is_one_sentence(job, tmp_path):
    output = str(tmp_path / "model.safetensors")
    with pytest.raises(FusionError, match="no device called tpu"):
        train_in_worker(replace(job, device="tpu"), output, sys.executable)
    with pytest.raises(FusionError, match="cannot be started"):
        train_in_worker(job, output, str(tmp_path / "python"))
    with pytest.raises(FusionError, match="Nothing can be written in"):
        train_in_worker(job, "/nowhere/model.safetensors", sys.executable)
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(FusionError, match="lacks a package"):
        train_in_worker(job, output, str(bare))
    bare.unlink()
    assert os.listdir(tmp_path) == []


def test_a_killed_child_is_explained(job, tmp_path, monkeypatch):
    started = []

    class Watched(training_process.WorkerProcess):
        def __init__(self, *arguments) -> None:
            super().__init__(*arguments)
            started.append(self.process.pid)

    monkeypatch.setattr(training_process, "WorkerProcess", Watched)
    with pytest.raises(FusionError, match="memory ran out: .* train on a smaller scene"):
        train_in_worker(
            replace(job, iterations=100_000),
            str(tmp_path / "model.safetensors"),
            sys.executable,
            lambda told: os.kill(started[0], signal.SIGKILL),
        )
    assert os.listdir(tmp_path) == []
