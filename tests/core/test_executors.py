"""Tiles computed here and in a child process."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
import torch

from fusion_core.errors import Cancelled, FusionError
from fusion_core.execution import interpreter
from fusion_core.execution.device import has_bfloat16, resolve_device, resolve_precision
from fusion_core.execution.interpreter import find_interpreter, missing_packages
from fusion_core.execution.local import LocalExecutor
from fusion_core.execution.protocol import read_message, write_message
from fusion_core.execution.warm_workers import WARM_WORKERS
from fusion_core.execution.worker_executor import WorkerExecutor
from tests.core.jobs import alive, make_batch, make_plan, nothing, part_of

pytestmark = pytest.mark.usefixtures("cold_start")


def test_result_does_not_depend_on_the_batch(plan):
    executor, batch = LocalExecutor(plan), make_batch(5)
    whole = executor.run(batch, nothing).residual
    for i in range(5):
        single = executor.run(part_of(batch, slice(i, i + 1)), nothing).residual
        np.testing.assert_array_equal(single[0], whole[i])


def test_result_does_not_depend_on_the_threads(tmp_path):
    """Torch's own threads would split sums by the size of the batch, which moved one pixel in 150 of a real scene."""
    batch = make_batch(7, 64)
    single = LocalExecutor(make_plan(tmp_path, threads=1)).run(batch, nothing).residual
    several = LocalExecutor(make_plan(tmp_path, threads=3))
    np.testing.assert_array_equal(several.run(batch, nothing).residual, single)
    last = several.run(part_of(batch, slice(4, 7)), nothing).residual
    np.testing.assert_array_equal(last, single[4:])


def test_samples_are_averaged_and_spread(tmp_path):
    batch = make_batch(2)
    mean = LocalExecutor(make_plan(tmp_path, samples=3)).run(batch, nothing)
    single = LocalExecutor(make_plan(tmp_path)).run(batch, nothing)
    assert single.spread is None
    assert mean.spread.shape == mean.residual.shape
    assert mean.spread.max() > 0
    assert not np.allclose(mean.residual, single.residual)


def test_every_network_call_is_told(tmp_path):
    told = []
    LocalExecutor(make_plan(tmp_path, steps=3, samples=2)).run(make_batch(5), told.append)
    assert sum(told) == 5 * 6
    assert set(told) == {1, 2}


def test_memory_shortage_halves_the_batch_for_good(plan, monkeypatch):
    executor, batch = LocalExecutor(plan), make_batch(5)
    expected = executor.run(batch, nothing).residual
    sizes = []
    whole = executor._fuse

    def scarce(part, on_call):
        sizes.append(len(part.origins))
        if len(part.origins) > 2:
            raise torch.cuda.OutOfMemoryError("too much")
        return whole(part, on_call)

    monkeypatch.setattr(executor, "_fuse", scarce)
    np.testing.assert_array_equal(executor.run(batch, nothing).residual, expected)
    assert sizes == [5, 2, 2, 1]
    executor.run(batch, nothing)
    assert sizes[4:] == [2, 2, 1]


def test_a_tile_that_never_fits_is_reported_with_numbers(plan, monkeypatch):
    executor = LocalExecutor(plan)

    def none_left(guide, ms, lms):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(executor.network, "prepare", none_left)
    with pytest.raises(FusionError, match=r"32 x 32 pixels does not fit .* GiB free"):
        executor.run(make_batch(2), nothing)


def test_other_errors_are_not_taken_for_memory(plan, monkeypatch):
    executor = LocalExecutor(plan)

    def broken(guide, ms, lms):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(executor.network, "prepare", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        executor.run(make_batch(1), nothing)


@pytest.mark.parametrize("name", ["cuda:99", "tpu", "nonsense"])
def test_devices_that_are_not_there(name):
    with pytest.raises(FusionError, match="use auto"):
        resolve_device(name)


def test_precisions():
    cpu = torch.device("cpu")
    assert resolve_precision("auto", cpu, "ssdiff") is torch.float32
    fast = torch.bfloat16 if has_bfloat16(cpu) else torch.float32
    assert resolve_precision("auto", cpu, "ddrf") is fast
    assert resolve_precision("bfloat16", cpu, "ssdiff") is torch.bfloat16
    for name in ("float16", "double"):
        with pytest.raises(FusionError, match="use auto"):
            resolve_precision(name, cpu, "ddrf")


def test_bfloat16_is_close(tmp_path):
    batch = make_batch(2)
    exact = LocalExecutor(make_plan(tmp_path)).run(batch, nothing).residual
    rounded = LocalExecutor(make_plan(tmp_path, precision="bfloat16")).run(batch, nothing).residual
    assert 0 < np.abs(rounded - exact).mean() < 0.05 * np.abs(exact).mean()


def test_messages_survive_the_wire():
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.empty((0, 2), np.int64)}
    stream = io.BytesIO()
    write_message(stream, {"type": "x", "n": 1.5}, arrays)
    write_message(stream, {"type": "y"})
    stream.seek(0)
    content, received = read_message(stream)
    assert content == {"type": "x", "n": 1.5}
    for name, array in arrays.items():
        np.testing.assert_array_equal(received[name], array)
    assert read_message(stream) == ({"type": "y"}, {})
    assert read_message(stream) is None


@pytest.mark.parametrize(
    "raw", [b"hello\n", b"[1]\n", b'{"content": {}, "arrays": {"a": ["object", [1]]}}\n']
)
def test_foreign_bytes_are_refused(raw):
    with pytest.raises(ValueError, match="not a message|do not travel"):
        read_message(io.BytesIO(raw))


def test_a_torn_message_is_noticed():
    stream = io.BytesIO()
    write_message(stream, {}, {"a": np.zeros(10, np.float32)})
    with pytest.raises(EOFError):
        read_message(io.BytesIO(stream.getvalue()[:-1]))


def test_worker_gives_the_same_tiles(plan):
    batch, told = make_batch(3), []
    expected = LocalExecutor(plan).run(batch, nothing).residual
    worker = WorkerExecutor(plan, sys.executable)
    try:
        answer = worker.run(batch, told.append)
        np.testing.assert_array_equal(answer.residual, expected)
        assert sum(told) == 3 * 2
        assert worker.info.device == "cpu"
        assert worker.info.torch_version == torch.__version__
    finally:
        worker.close()
        worker.close()
    WARM_WORKERS.release()
    assert not alive(worker.process.pid)


def test_worker_refuses_in_the_same_words(tmp_path):
    plan = make_plan(tmp_path, device="cuda:99")
    with pytest.raises(FusionError) as here:
        LocalExecutor(plan)
    with pytest.raises(FusionError) as there:
        WorkerExecutor(plan, sys.executable)
    assert str(here.value) == str(there.value)


def test_cancel_ends_the_worker_within_a_second(tmp_path):
    plan = make_plan(tmp_path, steps=500)
    asked = threading.Event()
    worker = WorkerExecutor(plan, sys.executable, asked.is_set)
    threading.Timer(0.5, asked.set).start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        worker.run(make_batch(16, 128), nothing)
    assert time.monotonic() - started < 1.5
    assert not alive(worker.process.pid)


def test_a_killed_worker_is_explained(tmp_path):
    worker = WorkerExecutor(make_plan(tmp_path, steps=500), sys.executable)
    threading.Timer(0.3, lambda: os.kill(worker.process.pid, signal.SIGKILL)).start()
    with pytest.raises(FusionError, match="memory ran out"):
        worker.run(make_batch(16, 128), nothing)


def test_a_worker_whose_parent_is_gone_ends(plan):
    worker = WorkerExecutor(plan, sys.executable)
    worker.process.stdin.close()
    assert worker.process.wait(5) == 0
    worker.close()


def test_interpreters_that_do_not_serve(plan, tmp_path):
    with pytest.raises(FusionError, match="cannot be started"):
        WorkerExecutor(plan, str(tmp_path / "python"))
    with pytest.raises(FusionError, match="is not a Python interpreter"):
        find_interpreter(str(tmp_path / "python"))


@pytest.fixture
def bare_python(tmp_path):
    """An interpreter without torch."""
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    script.chmod(0o755)
    return str(script)


def test_no_torch_is_explained(plan, bare_python, monkeypatch):
    assert "torch" in missing_packages(bare_python)
    with pytest.raises(FusionError, match="lacks torch"):
        find_interpreter(bare_python)
    monkeypatch.setenv(interpreter.VARIABLE, bare_python)
    with pytest.raises(FusionError, match="lacks torch"):
        find_interpreter()
    with pytest.raises(FusionError, match="lacks a package"):
        WorkerExecutor(plan, bare_python)
    monkeypatch.delenv(interpreter.VARIABLE)
    monkeypatch.setattr(interpreter, "_candidates", lambda: iter([bare_python]))
    with pytest.raises(FusionError, match="PyTorch was not found"):
        find_interpreter()


def test_a_complete_interpreter_is_found(monkeypatch):
    monkeypatch.setenv(interpreter.VARIABLE, sys.executable)
    assert find_interpreter() == sys.executable
    assert missing_packages(sys.executable) == ()
