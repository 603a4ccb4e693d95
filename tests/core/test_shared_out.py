"""Tiles shared out among devices: the same pixels, whoever computes them and whoever dies."""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from fusion_core.errors import Cancelled, FusionError
from fusion_core.execution import shared_out
from fusion_core.execution.device import same_devices
from fusion_core.execution.device_list import device_names
from fusion_core.execution.executor import ExecutorInfo, FusedTiles
from fusion_core.execution.local import LocalExecutor
from fusion_core.execution.shared_out import SharedOutExecutor, start_workers
from fusion_core.execution.stages import StopSignal
from fusion_core.execution.warm_workers import WARM_WORKERS
from fusion_core.execution.worker_executor import WorkerExecutor
from fusion_core.execution.worker_process import WorkerDied
from fusion_core.fuse import fuse
from fusion_core.raster.geotiff import read_bands
from tests.core.jobs import alive, make_batch, make_plan, nothing, part_of
from tests.core.networks import write_model

PATIENCE = 60

pytestmark = pytest.mark.usefixtures("cold_start")


@pytest.fixture
def plan(tmp_path):
    return make_plan(tmp_path, device="cpu,cpu", threads=2)


def in_parts(executor, batch, on_call=nothing, size: int = 2) -> np.ndarray:
    """Residual of a batch that goes through an executor in parts, as many at a time as it takes."""
    count = len(batch.origins)
    parts = [part_of(batch, slice(i, min(i + size, count))) for i in range(0, count, size)]
    with ThreadPoolExecutor(executor.info.in_flight) as threads:
        found = list(threads.map(lambda part: executor.run(part, on_call), parts))
    return np.concatenate([tiles.residual for tiles in found])


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:3", "mps"])
def test_one_device(name):
    assert device_names(f" {name} ") == (name,)


def test_several_devices():
    assert device_names("cuda:0, cuda:2") == ("cuda:0", "cuda:2")
    assert device_names("cpu,cpu") == ("cpu", "cpu")


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ("tpu", "There is no device called tpu: use auto"),
        ("", "There is no device called nothing"),
        ("cuda:0,", "There is no device called nothing"),
        ("cuda:x", "There is no device called cuda:x"),
        ("cuda:0;cuda:1", "There is no device called cuda:0;cuda:1"),
        ("auto,cpu", "The device auto cannot share"),
        ("cuda,cuda:1", "The device cuda cannot share"),
        ("cpu,cuda:0", "of different kinds"),
        ("cuda:1,cuda:1", "name cuda:1 twice"),
    ],
)
def test_choices_that_make_no_sense(choice, sentence, tmp_path):
    with pytest.raises(FusionError, match=sentence):
        device_names(choice)
    with pytest.raises(FusionError, match=sentence):
        fuse("pan.tif", "ms.tif", str(tmp_path / "fused.tif"), device=choice)


def test_a_cluster_s_workers_compute_on_one_device(tmp_path):
    with pytest.raises(FusionError, match="cluster computes on one device and not on cpu,cpu"):
        fuse("p.tif", "m.tif", str(tmp_path / "o.tif"), device="cpu,cpu", cluster="tcp://host:8786")


def test_two_workers_give_the_pixels_of_one(plan):
    batch, told = make_batch(13), []
    expected = LocalExecutor(replace(plan, device="cpu")).run(batch, nothing).residual
    executor = start_workers(plan, sys.executable)
    try:
        assert len({member.process.pid for member in executor.members}) == 2
        assert executor.info.in_flight == sum(m.info.in_flight for m in executor.members)
        assert executor.info.device == "cpu, cpu"
        np.testing.assert_array_equal(in_parts(executor, batch, told.append), expected)
    finally:
        executor.close()
    assert sum(told) == 13 * 2
    # Half of the threads each.
    alone = WorkerExecutor(replace(plan, device="cpu"), sys.executable)
    assert executor.info.batch_size == alone.info.batch_size // 2
    alone.close()


def test_a_whole_job_has_the_same_pixels(make_pair, tmp_path):
    pan, ms = make_pair(ms_size=(24, 20), bands=4)
    model = write_model(tmp_path / "tiny.safetensors")
    names = [str(tmp_path / f"{name}.tif") for name in ("one", "worker", "local")]
    fuse(pan, ms, names[0], model=model, device="cpu")
    for name, executor in zip(names[1:], ("worker", "local")):
        result = fuse(
            pan, ms, name, model=model, device="cpu,cpu", executor=executor, python=sys.executable
        )
        assert result.device == "cpu, cpu"
        np.testing.assert_array_equal(read_bands(name)[0], read_bands(names[0])[0])


def test_a_worker_that_dies_costs_time_and_no_pixels(plan):
    plan = replace(plan, steps=20)
    batch, told = make_batch(16), []
    expected = LocalExecutor(replace(plan, device="cpu")).run(batch, nothing).residual
    executor = start_workers(plan, sys.executable)
    victim = executor.members[0].process.pid
    lock = threading.Lock()

    def on_call(count: int) -> None:
        with lock:
            told.append(count)
            if len(told) == 10:
                os.kill(victim, signal.SIGKILL)

    try:
        np.testing.assert_array_equal(in_parts(executor, batch, on_call, size=4), expected)
    finally:
        executor.close()
    assert not alive(victim)
    # No call of a dead worker is told twice.
    assert sum(told) == 16 * 20


def test_all_workers_dying_is_said_in_one_sentence(plan):
    executor = start_workers(replace(plan, steps=500), sys.executable)
    for member in executor.members:
        threading.Timer(0.5, os.kill, (member.process.pid, signal.SIGKILL)).start()
    try:
        with pytest.raises(FusionError, match=r"(memory ran out|ended unexpectedly).*:"):
            in_parts(executor, make_batch(8, 128))
    finally:
        executor.close()


def test_cancel_ends_all_of_them(plan):
    asked = threading.Event()
    executor = start_workers(replace(plan, steps=500), sys.executable, asked.is_set)
    threading.Timer(0.5, asked.set).start()
    with pytest.raises(Cancelled):
        in_parts(executor, make_batch(8, 128))
    executor.close()
    assert not any(alive(member.process.pid) for member in executor.members)


def test_cancel_is_heard_while_they_start(plan):
    """A job asks its caller in the caller's own thread, workers start in others."""
    with pytest.raises(Cancelled):
        start_workers(plan, sys.executable, StopSignal(lambda: True))


def test_one_that_does_not_start_ends_the_others(plan, monkeypatch):
    started = []

    class Fussy(WorkerExecutor):
        def __init__(self, *arguments):
            if started:
                raise FusionError("Not another one.")
            started.append(self)
            super().__init__(*arguments)

    monkeypatch.setattr(shared_out, "WorkerExecutor", Fussy)
    with pytest.raises(FusionError, match="Not another one"):
        start_workers(plan, sys.executable)
    # Nothing is wrong with it: it waits for the next job.
    WARM_WORKERS.release()
    assert not alive(started[0].process.pid)


class Member:
    """An executor that tells what it is asked; ``gate`` holds it up, and ``dies`` makes it die after one call."""

    def __init__(self, device: str = "cpu", dies: bool = False, in_flight: int = 1) -> None:
        self.info = ExecutorInfo(device, "float32", "2", 2, in_flight)
        self.dies, self.gate = dies, threading.Event()
        self.most = self.now = self.runs = 0
        self.closed = False

    def run(self, batch, on_call):
        self.now += 1
        self.most = max(self.most, self.now)
        self.runs += 1
        try:
            self.gate.wait(PATIENCE)
            on_call(1)
            if self.dies:
                raise WorkerDied("It is gone.")
            on_call(1)
            return FusedTiles(batch.lms, None)
        finally:
            self.now -= 1

    def close(self):
        self.closed = True


def test_each_member_is_kept_busy_and_not_more(plan):
    members = [Member(in_flight=2), Member()]
    executor = SharedOutExecutor(members)
    assert executor.info.in_flight == 3
    with ThreadPoolExecutor(6) as threads:
        runs = [threads.submit(executor.run, make_batch(1), nothing) for _ in range(9)]
        for member in members:
            member.gate.set()
        for run in runs:
            run.result(PATIENCE)
    assert [member.most for member in members] == [2, 1]
    assert sum(member.runs for member in members) == 9
    executor.close()
    assert all(member.closed for member in members)


def test_nothing_is_computed_again_once_the_job_ends(plan):
    members = [Member(dies=True), Member()]
    executor = SharedOutExecutor(members)
    with ThreadPoolExecutor(1) as threads:
        run = threads.submit(executor.run, make_batch(1), nothing)
        while not members[0].runs:
            threading.Event().wait(0.01)
        executor.close()
        members[0].gate.set()
        with pytest.raises(FusionError):
            run.result(PATIENCE)
    assert members[1].runs == 0


def test_calls_told_before_a_death_are_not_told_again(plan):
    members, told = [Member(dies=True), Member()], []
    for member in members:
        member.gate.set()
    SharedOutExecutor(members).run(make_batch(1), told.append)
    assert told == [1, 1]


def test_devices_that_would_differ_are_refused():
    with pytest.raises(FusionError, match="would compute different pixels"):
        SharedOutExecutor([Member("cuda:0 (A)"), Member("cuda:1 (B)")])
    SharedOutExecutor([Member("cuda (A)"), Member("cuda:1 (A)")])


@pytest.mark.parametrize(
    ("names", "choice", "expected"),
    [
        ("A", "auto", ["auto"]),
        ("AA", "auto", ["cuda:0", "cuda:1"]),
        ("ABA", "cuda", ["cuda:0", "cuda:2"]),
        ("AB", "auto", ["auto"]),
        ("AA", "cuda:1", ["cuda:1"]),
        ("AA", "cpu", ["cpu"]),
    ],
)
def test_all_gpus_like_the_first_are_meant(monkeypatch, names, choice, expected):
    class Properties:
        def __init__(self, index):
            self.name, self.major, self.minor = names[index], 9, 0

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
    monkeypatch.setattr(torch.cuda, "get_device_properties", Properties)
    assert same_devices(choice) == expected


def test_gpus_that_the_first_worker_finds_get_a_worker_each(plan, monkeypatch):
    """The parent has no torch to count them."""
    asked = []

    class Found(Member):
        def __init__(self, plan, python, cancelled, cluster, sharers):
            asked.append((plan.device, sharers))
            super().__init__("cuda (A)" if plan.device == "auto" else f"{plan.device} (A)")
            self.devices = (
                ("cuda:0", "cuda:1", "cuda:2") if plan.device == "auto" else (plan.device,)
            )

    monkeypatch.setattr(shared_out, "WorkerExecutor", Found)
    executor = start_workers(replace(plan, device="auto"), sys.executable)
    assert [asked[0], *sorted(asked[1:])] == [("auto", 1), ("cuda:1", 1), ("cuda:2", 1)]
    assert executor.info.device == "cuda (A), cuda:1 (A), cuda:2 (A)"
    assert isinstance(start_workers(replace(plan, device="cuda:1"), sys.executable), Found)
