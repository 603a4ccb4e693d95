"""Reading, computing, blending and writing at the same time: same pixels, bounded look-ahead, one end for all."""

from __future__ import annotations

import importlib
import os
import signal
import threading
import time

import numpy as np
import pytest

pytest.importorskip("osgeo")
from fusion_core.errors import Cancelled, FusionError  # noqa: E402
from fusion_core.execution.executor import ExecutorInfo, FusedTiles  # noqa: E402
from fusion_core.execution.stages import Channel, Stages, StopSignal  # noqa: E402
from fusion_core.fuse import fuse  # noqa: E402
from fusion_core.raster.geotiff import read_bands  # noqa: E402
from fusion_core.raster.mosaic import Mosaic  # noqa: E402
from fusion_core.raster.scene import PendingWindow, Scene  # noqa: E402

NAMES = ("Blue", "Green", "Red", "NIR")
SOON = 0.5
"""Seconds in which a job that is told to end does: a poll, and what a loaded machine adds."""


class Plain:
    """An executor whose residual is a function of the tile alone, told of like a network of two calls."""

    def __init__(self, in_flight: int = 1, batch_size: int = 8, work=lambda batch: None) -> None:
        self.info = ExecutorInfo("none", "float32", "none", batch_size, in_flight)
        self.work = work
        self.batches: list[np.ndarray] = []
        self.running = self.most_running = 0
        self.lock = threading.Lock()
        self.stop = None

    def run(self, batch, on_call):
        with self.lock:
            self.batches.append(batch.origins)
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        self.work(batch)
        for _ in range(2):
            on_call(len(batch.origins))
        rows, cols = batch.origins.T[:, :, None, None, None] % 97
        residual = 0.1 * np.sin(rows + 3 * cols + 20 * batch.lms) + 0.05 * batch.guide
        with self.lock:
            self.running -= 1
        return FusedTiles(residual.astype(np.float32), None)

    def close(self) -> None:
        """Nothing to free."""


@pytest.fixture(scope="module")
def model(make_model):
    return make_model(steps=2)


@pytest.fixture
def run(tmp_path, model, monkeypatch):
    """Fuse with an executor of the test's own; afterwards no thread is left."""

    def run(pair, computer, name="fused.tif", **arguments):
        def executor(name, sampling, python, stop, cluster):
            computer.stop = stop
            return computer

        monkeypatch.setattr(importlib.import_module("fusion_core.fuse"), "_executor", executor)
        path = str(tmp_path / name)
        fuse(*pair, path, model=model, **arguments)
        return read_bands(path)[0]

    before = set(threading.enumerate())
    yield run
    assert set(threading.enumerate()) <= before


@pytest.fixture
def pair(make_pair):
    return make_pair(bands=4, ms_size=(60, 40), names=NAMES)


def outputs(tmp_path):
    return [entry for entry in os.listdir(tmp_path) if entry not in ("pan.tif", "ms.tif")]


def test_same_pixels_for_any_number_of_batches_in_flight(run, pair):
    expected = run(pair, Plain())
    rng = np.random.default_rng(0)
    for in_flight, size in ((1, 1), (2, 5), (4, 3), (3, 64), (2, 10_000)):
        pauses = iter(rng.random(10_000) * 3e-3)
        slow = Plain(in_flight, size, work=lambda batch, pauses=pauses: time.sleep(next(pauses)))
        np.testing.assert_array_equal(run(pair, slow, f"{in_flight}.tif"), expected)
        assert slow.most_running <= in_flight


def test_the_executor_is_kept_busy(run, pair):
    # The first batches wait for each other: with fewer at a time nothing would ever end.
    together, numbers = threading.Barrier(3), iter(range(1000))
    computer = Plain(3, 5, work=lambda batch: together.wait(20) if next(numbers) < 3 else None)
    run(pair, computer)
    assert computer.most_running == 3


def test_batches_cross_the_strips_of_a_narrow_scene(run, make_pair):
    pair = make_pair(bands=4, ms_size=(200, 8), names=NAMES)
    computer = Plain(2, 24)
    run(pair, computer)
    sizes = sorted(len(origins) for origins in computer.batches)
    assert sizes[1:] == [24] * (len(sizes) - 1)
    assert all(len(set(origins[:, 0])) > 1 for origins in computer.batches)


def test_what_a_batch_holds_does_not_depend_on_timing(run, make_raster, pair):
    ms = read_bands(pair[1])[0]
    ms[:, 10:50, 3:] = 0
    holed = (pair[0], make_raster("ms.tif", ms, pixel=4.0, nodata=0, names=NAMES))
    seen = []
    for pause in (0, 2e-3):
        computer = Plain(3, 7, work=lambda batch, pause=pause: time.sleep(pause))
        run(holed, computer, f"{pause}.tif")
        seen.append({tuple(map(tuple, origins.tolist())) for origins in computer.batches})
    assert seen[0] == seen[1]


def test_rows_without_data_are_neither_interpolated_nor_computed(run, make_raster, monkeypatch):
    rng = np.random.default_rng(0)
    pan = make_raster("pan.tif", rng.integers(1, 900, (800, 96)).astype(np.uint16))
    values = rng.integers(1, 900, (4, 200, 24)).astype(np.uint16)
    whole = make_raster("whole.tif", values, pixel=4.0, nodata=0, names=NAMES)
    expected = run((pan, whole), Plain(), "whole_fused.tif", data_type="float32")
    values[:, 50:180] = 0
    holed = make_raster("ms.tif", values, pixel=4.0, nodata=0, names=NAMES)
    completed = []
    complete = PendingWindow.complete
    monkeypatch.setattr(
        PendingWindow, "complete", lambda self: completed.append(1) or complete(self)
    )
    computer = Plain()
    fused = run((pan, holed), computer, data_type="float32")
    assert len(completed) < 0.5 * 800 / 16
    rows = np.concatenate(computer.batches)[:, 0]
    assert not ((rows >= 200) & (rows + 32 <= 720)).any()
    assert (fused[:, 200:720] == 0).all()
    # The percentile that all is divided by is another one.
    np.testing.assert_allclose(fused[:, :150], expected[:, :150], atol=60)
    assert (fused[:, 720:] != 0).all()


def test_the_reader_does_not_run_away_from_a_slow_writer(run, make_pair, monkeypatch):
    monkeypatch.setattr("fusion_core.pipeline.LOOK_AHEAD_BYTES", 0)
    pair = make_pair(bands=4, ms_size=(300, 8), names=NAMES)
    read, written, ahead = [], [], []
    begin, restore = Scene.begin, Mosaic.restore

    def counted(self, window):
        read.append(window)
        ahead.append(len(read) - len(written))
        return begin(self, window)

    def slow(self, row, stored):
        time.sleep(2e-3)
        written.append(row)
        restore(self, row, stored)

    monkeypatch.setattr(Scene, "begin", counted)
    monkeypatch.setattr(Mosaic, "restore", slow)
    run(pair, Plain(2, 4))
    assert len(read) > 70
    # Three batches of two strips at most, one read, one blended, those that wait to be written, and the one below.
    assert max(ahead) <= 13


def test_caller_is_asked_and_told_in_its_own_thread(run, pair):
    threads, shares = set(), []

    def told(share):
        threads.add(threading.get_ident())
        shares.append(share)

    def asked():
        threads.add(threading.get_ident())
        return False

    computer = Plain(3, 4)
    run(pair, computer, progress=told, cancelled=asked)
    assert threads == {threading.get_ident()}
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
    assert len(shares) > 2 * len(computer.batches)


def wait_for_stop(computer):
    """An executor's work that only ends when it is told to."""

    def work(batch):
        while not computer.stop():
            time.sleep(0.01)
        raise Cancelled

    return work


@pytest.mark.parametrize("in_flight", [1, 3])
def test_cancel_is_immediate_while_everything_waits(run, pair, tmp_path, in_flight):
    computer = Plain(in_flight)
    computer.work = wait_for_stop(computer)
    started = time.monotonic()
    with pytest.raises(Cancelled):
        run(pair, computer, cancelled=lambda: time.monotonic() - started > 0.3)
    assert time.monotonic() - started < 0.3 + SOON
    assert outputs(tmp_path) == []


@pytest.mark.parametrize("part", ["begin", "complete", "run", "restore"])
def test_the_first_error_ends_everything(run, pair, tmp_path, monkeypatch, part):
    calls = []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise FusionError(f"The part {part} failed.")
        return original(*arguments)

    computer = Plain(2, 4)
    if part == "run":
        original, computer.work = (lambda batch: None), failing
    else:
        owner = {"begin": Scene, "complete": PendingWindow, "restore": Mosaic}[part]
        original = getattr(owner, part)
        monkeypatch.setattr(owner, part, failing)
    with pytest.raises(FusionError, match=part):
        run(pair, computer)
    assert outputs(tmp_path) == []


def test_an_error_elsewhere_stops_the_executor(run, pair, tmp_path, monkeypatch):
    computer = Plain(2, 4)

    def failing(self):
        time.sleep(0.1)
        raise FusionError("The file is damaged.")

    computer.work = wait_for_stop(computer)
    complete, calls = PendingWindow.complete, []

    def later(self):
        calls.append(self)
        return complete(self) if len(calls) < 3 else failing(self)

    monkeypatch.setattr(PendingWindow, "complete", later)
    started = time.monotonic()
    with pytest.raises(FusionError, match="damaged"):
        run(pair, computer)
    assert time.monotonic() - started < 0.1 + 2 * SOON
    assert outputs(tmp_path) == []


def test_ctrl_c_ends_everything(run, pair, tmp_path):
    computer = Plain(2)
    computer.work = wait_for_stop(computer)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.3, signal.raise_signal, (signal.SIGINT,))
    started = time.monotonic()
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            run(pair, computer)
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - started < 0.3 + SOON
    assert outputs(tmp_path) == []


def test_an_error_of_the_callers_own_functions_ends_everything(run, pair, tmp_path):
    def told(share):
        if share > 0.2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(pair, Plain(2, 4), progress=told)
    assert outputs(tmp_path) == []


def test_stages_that_wait_for_each_other_end_together():
    stages = Stages(StopSignal())
    channel: Channel[int] = Channel(stages, 2)
    taken = []

    def give():
        for number in range(100):
            channel.put(number)

    def take():
        for number in channel:
            taken.append(number)
            if number == 9:
                raise ValueError("enough")

    stages.start("give", give)
    stages.start("take", take)
    with pytest.raises(ValueError, match="enough"):
        stages.finish(lambda: None)
    assert taken == list(range(10))


def test_ctrl_c_while_stages_are_started_ends_those_that_run():
    stages = Stages(StopSignal())
    channel: Channel[int] = Channel(stages, 2)
    ended = []

    def wait():
        try:
            list(channel)
        finally:
            ended.append(True)

    def begin():
        stages.start("wait", wait)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stages.finish(lambda: None, begin)
    assert ended == [True]


def test_only_its_maker_asks_a_stop_signals_caller():
    asked = []
    signal_ = StopSignal(lambda: bool(asked.append(threading.get_ident())))
    thread = threading.Thread(target=signal_)
    thread.start()
    thread.join()
    assert not signal_()
    assert asked == [threading.get_ident()]
