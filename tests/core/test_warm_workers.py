"""Workers that wait for the next job: reuse, release, and what is never reused."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fusion_core.batch import run_batch
from fusion_core.errors import Cancelled, FusionError
from fusion_core.execution import warm_workers, worker_executor
from fusion_core.execution.local import LocalExecutor
from fusion_core.execution.warm_workers import WARM_WORKERS
from fusion_core.execution.worker_executor import WorkerExecutor
from fusion_core.execution.worker_process import WorkerProcess
from fusion_core.fuse import fuse
from fusion_core.raster.geotiff import read_bands
from tests.core.jobs import alive, make_batch, make_plan, nothing
from tests.core.networks import write_model

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 10

pytestmark = pytest.mark.usefixtures("cold_start")


def fused(plan, batch=None) -> tuple[int, np.ndarray]:
    """Process id and residual of a job of its own."""
    worker = WorkerExecutor(plan, sys.executable)
    try:
        return worker.process.pid, worker.run(batch or make_batch(3), nothing).residual
    finally:
        worker.close()


def gone(pid: int) -> bool:
    """Whether a child ends within ``PATIENCE`` and leaves no entry in the system's table."""
    deadline = time.monotonic() + PATIENCE
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def test_the_next_job_uses_the_same_process_and_gets_the_same_pixels(plan):
    first, pixels = fused(plan)
    again, same = fused(plan)
    assert again == first
    np.testing.assert_array_equal(same, pixels)


def test_a_warm_worker_computes_what_a_fresh_one_would(tmp_path, plan):
    """Whatever the job before was: steps, seed, samples, range, precision, threads, model."""
    other = write_model(tmp_path / "other.safetensors", "ddrf")
    plans = [
        plan,
        replace(plan, seed=4, steps=1, samples=2, value_range=((0.0, 0.5),) * 4),
        replace(plan, precision="bfloat16"),
        replace(plan, threads=2),
        replace(plan, model=other),
        plan,
    ]
    batch = make_batch(3)
    found = [fused(one, batch) for one in plans]
    assert len({pid for pid, _ in found}) == 1
    for one, (_, pixels) in zip(plans, found):
        np.testing.assert_array_equal(pixels, LocalExecutor(one).run(batch, nothing).residual)


def test_a_model_file_that_changed_is_loaded_again(tmp_path, plan):
    pid, _ = fused(plan)
    write_model(Path(plan.model), strength=0.0)
    again, pixels = fused(plan)
    assert again == pid
    assert not pixels.any()


def test_two_jobs_at_a_time_have_a_worker_each(plan):
    batch = make_batch(3)
    expected = LocalExecutor(plan).run(batch, nothing).residual
    one, other = (WorkerExecutor(plan, sys.executable) for _ in range(2))
    assert one.process.pid != other.process.pid
    for worker in (one, other):
        np.testing.assert_array_equal(worker.run(batch, nothing).residual, expected)
        worker.close()
    kept = {one.process.pid, other.process.pid}
    with ThreadPoolExecutor(4) as jobs:
        found = list(jobs.map(lambda _: fused(plan, batch), range(12)))
    assert {pid for pid, _ in found} >= kept
    assert len({pid for pid, _ in found}) <= 4
    for _, pixels in found:
        np.testing.assert_array_equal(pixels, expected)


def test_another_interpreter_or_environment_means_another_worker(plan, monkeypatch, tmp_path):
    first, _ = fused(plan)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    worker = WorkerExecutor(plan, str(python))
    assert worker.process.pid != first
    worker.close()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    second, _ = fused(plan)
    assert second not in (first, worker.process.pid)
    monkeypatch.undo()
    assert fused(plan)[0] == first


def test_an_idle_worker_is_released(plan, monkeypatch):
    monkeypatch.setattr(warm_workers, "IDLE_SECONDS", 0.5)
    pid, _ = fused(plan)
    assert alive(pid)
    assert gone(pid)
    assert fused(plan)[0] != pid


def test_a_worker_at_work_is_not_released(plan, monkeypatch):
    monkeypatch.setattr(warm_workers, "IDLE_SECONDS", 0.3)
    pid, _ = fused(plan)
    worker = WorkerExecutor(plan, sys.executable)
    time.sleep(0.6)
    assert worker.process.pid == pid
    worker.run(make_batch(1), nothing)
    worker.close()


def test_a_worker_that_died_while_it_waited_is_not_noticed(plan):
    pid, pixels = fused(plan)
    os.kill(pid, signal.SIGKILL)
    # No job is needed to take it off the system's table.
    assert gone(pid)
    again, same = fused(plan)
    assert again != pid
    np.testing.assert_array_equal(same, pixels)


def test_a_worker_that_dies_when_it_is_asked_is_not_noticed_either(plan):
    """It looks alive, and the first question to it is never answered."""
    first, pixels = fused(plan)
    os.kill(first, signal.SIGSTOP)
    threading.Timer(0.5, os.kill, (first, signal.SIGKILL)).start()
    again, same = fused(plan)
    assert again != first
    np.testing.assert_array_equal(same, pixels)


def test_cancel_ends_the_worker(plan):
    asked = threading.Event()
    worker = WorkerExecutor(plan, sys.executable, asked.is_set)
    asked.set()
    with pytest.raises(Cancelled):
        worker.run(make_batch(1), nothing)
    worker.close()
    assert not alive(worker.process.pid)
    # As between two batches.
    asked.clear()
    worker = WorkerExecutor(plan, sys.executable, asked.is_set)
    asked.set()
    worker.close()
    assert not alive(worker.process.pid)


def test_a_worker_that_failed_is_not_used_again(plan):
    worker = WorkerExecutor(plan, sys.executable)
    batch = make_batch(1)
    with pytest.raises(FusionError, match="computation failed"):
        worker.run(replace(batch, ms=batch.ms[:, :3]), nothing)
    worker.close()
    assert not alive(worker.process.pid)


def test_a_batch_on_its_way_ends_the_worker(tmp_path):
    worker = WorkerExecutor(make_plan(tmp_path, steps=500), sys.executable)
    called = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        run = thread.submit(worker.run, make_batch(4, 128), lambda count: called.set())
        assert called.wait(PATIENCE)
        worker.close()
        with pytest.raises(FusionError):
            run.result(PATIENCE)
    assert not alive(worker.process.pid)


def test_a_closed_executor_does_not_reach_the_next_job_s_worker(plan):
    worker = WorkerExecutor(plan, sys.executable)
    worker.close()
    with pytest.raises(FusionError, match="handed back"):
        worker.run(make_batch(1), nothing)
    assert alive(worker.process.pid)


def test_release_ends_the_idle_now_and_the_busy_with_their_job(plan):
    idle, busy = (WorkerExecutor(plan, sys.executable) for _ in range(2))
    idle.close()
    WARM_WORKERS.release()
    assert not alive(idle.process.pid)
    busy.run(make_batch(1), nothing)
    busy.close()
    assert not alive(busy.process.pid)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_what_a_job_took_goes_back_to_the_system(plan):
    worker = WorkerExecutor(plan, sys.executable)
    pid = worker.process.pid
    worker.run(make_batch(2, 128), nothing)
    held = resident(pid)
    worker.close()
    deadline = time.monotonic() + PATIENCE
    while resident(pid) > held - 10 * 2**20 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert resident(pid) <= held - 10 * 2**20


def test_an_archive_of_scenes_has_one_worker(make_pair, tmp_path, monkeypatch):
    make_pair(ms_size=(12, 10), bands=4)
    write_model(tmp_path / "tiny.safetensors")
    table = tmp_path / "jobs.csv"
    lines = [
        f"pan.tif,ms.tif,{name}.tif,tiny.safetensors,{seed}" for seed, name in enumerate("abc")
    ]
    table.write_text("\n".join(["pan,ms,output,model,seed", *lines]) + "\n")
    started = []

    class Counted(WorkerProcess):
        def __init__(self, *arguments):
            started.append(self)
            super().__init__(*arguments)

    monkeypatch.setattr(worker_executor, "WorkerProcess", Counted)
    given = {"executor": "worker", "python": sys.executable, "device": "cpu"}
    assert run_batch(table, defaults=given).count("finished") == 3
    assert len(started) == 1
    # As a run of its own would have it.
    expected = str(tmp_path / "expected.tif")
    names = (str(tmp_path / name) for name in ("pan.tif", "ms.tif"))
    fuse(*names, expected, model=str(tmp_path / "tiny.safetensors"), seed=2, device="cpu")
    np.testing.assert_array_equal(read_bands(str(tmp_path / "c.tif"))[0], read_bands(expected)[0])


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def test_a_warm_worker_neither_holds_up_its_parent_nor_outlives_it(tmp_path):
    """Neither at the interpreter's end nor where the process is killed and nothing of ours runs any more."""
    plan = make_plan(tmp_path)
    script = f"""
        import os, signal, sys
        import numpy as np
        from fusion_core.execution.executor import SamplingPlan, TileBatch
        from fusion_core.execution.worker_executor import WorkerExecutor
        worker = WorkerExecutor({plan!r}, sys.executable)
        worker.close()
        print(worker.process.pid, "torch" in sys.modules, flush=True)
        if sys.argv[1:]:
            os.kill(os.getpid(), signal.SIGKILL)
    """
    for arguments in ([], ["kill"]):
        started = time.monotonic()
        ended = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert time.monotonic() - started < 40
        assert ended.stderr == ""
        pid, has_torch = ended.stdout.split()
        assert has_torch == "False"
        assert gone(int(pid))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_leaves_the_workers_to_its_parent(plan):
    pid, _ = fused(plan)
    child = os.fork()
    if child == 0:
        WARM_WORKERS.release()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert fused(plan)[0] == pid
