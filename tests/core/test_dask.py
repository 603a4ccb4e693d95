"""Tiles computed by a Dask cluster: a real scheduler, two worker processes."""

from __future__ import annotations

import socket
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

distributed = pytest.importorskip("distributed", reason="distributed is not installed")

from fusion_core.errors import Cancelled, FusionError  # noqa: E402
from fusion_core.execution import dask_connection, dask_executor  # noqa: E402
from fusion_core.execution.dask_connection import check_address, connect  # noqa: E402
from fusion_core.execution.dask_executor import DaskExecutor  # noqa: E402
from fusion_core.execution.dask_pieces import (  # noqa: E402
    IN_FLIGHT,
    IN_FLIGHT_BYTES,
    batch_size,
    cut,
)
from fusion_core.execution.dask_tasks import WorkerReport  # noqa: E402
from fusion_core.execution.executor import TileBatch  # noqa: E402
from fusion_core.execution.local import LocalExecutor  # noqa: E402
from fusion_core.execution.worker_executor import WorkerExecutor  # noqa: E402
from fusion_core.fuse import fuse  # noqa: E402
from fusion_core.raster.geotiff import read_bands  # noqa: E402
from fusion_core.raster.provenance import read_provenance  # noqa: E402
from fusion_core.weights import read_model  # noqa: E402
from tests.core.dask_cluster import DaskCluster  # noqa: E402
from tests.core.jobs import make_batch, make_plan, nothing  # noqa: E402
from tests.core.networks import write_model  # noqa: E402

PATIENCE = 60


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A scheduler with two workers."""
    made = DaskCluster(tmp_path_factory.mktemp("cluster"))
    try:
        for name in ("one", "two"):
            made.add_worker(name)
        with distributed.Client(made.address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=PATIENCE)
        yield made
    finally:
        made.stop()


@pytest.fixture(params=[True, False], ids=["direct", "by the scheduler"])
def direct(request, monkeypatch) -> bool:
    """Whether workers can be reached from here."""

    async def reachable(client, workers):
        return request.param

    monkeypatch.setattr(dask_connection, "_reachable", reachable)
    return request.param


@pytest.fixture
def watch(cluster):
    """A second client, which sees what is on the cluster."""
    with distributed.Client(cluster.address, set_as_default=False) as client:
        yield client


def tasks_of(client) -> dict[str, dict[str, int]]:
    """How many tasks of each kind were in each state so far, as the dashboard counts them."""
    return client.run_on_scheduler(
        lambda dask_scheduler: {
            name: dict(prefix.state_counts) for name, prefix in dask_scheduler.task_prefixes.items()
        }
    )


def wait_until(true) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def test_same_pixels_as_here(cluster, watch, tmp_path, direct):
    plan, batch, told = make_plan(tmp_path, samples=2), make_batch(7), []
    expected = LocalExecutor(plan).run(batch, nothing)
    before = tasks_of(watch)
    executor = DaskExecutor(plan, cluster.address)
    try:
        tiles = executor.run(batch, told.append)
        counts = {
            name: found["memory"] - before.get(name, {}).get("memory", 0)
            for name, found in tasks_of(watch).items()
        }
        # A task of eight chunks for each thread.
        assert executor.info.batch_size == 32
        assert executor.info.in_flight == 3
        assert executor.info.device == "cpu of 2 Dask worker(s)"
        # Tiles and results leave the cluster as they come; what stays is the model.
        wait_until(lambda: set(sum(watch.has_what().values(), ())) == {f"model-{executor.digest}"})
    finally:
        executor.close()
        executor.close()
    np.testing.assert_array_equal(tiles.residual, expected.residual)
    np.testing.assert_array_equal(tiles.spread, expected.spread)
    assert told == [4 * 2 * 2, 3 * 2 * 2] or told == [3 * 2 * 2, 4 * 2 * 2]
    assert (counts["tiles"], counts["model"]) == (2, 1)
    assert counts.get("input", 0) == (2 if direct else 0)
    # And when nobody uses the cluster any more, nothing is left there.
    wait_until(lambda: not any(watch.has_what().values()))


def batch_at(count: int, place: int) -> TileBatch:
    """Tiles of another place, with other noise."""
    batch = make_batch(count)
    return replace(batch, origins=batch.origins + 1000 * place)


class Threads:
    """As many runs of an executor as it takes at a time, as the pipeline calls it."""

    def __init__(self, executor: DaskExecutor, batches: list, on_call) -> None:
        self.results: dict[int, object] = {}
        self.threads = [
            threading.Thread(target=self._run, args=(executor, number, batch, on_call))
            for number, batch in enumerate(batches)
        ]
        for thread in self.threads:
            thread.start()

    def _run(self, executor, number, batch, on_call) -> None:
        try:
            self.results[number] = executor.run(batch, on_call)
        except Exception as error:
            self.results[number] = error

    def join(self) -> list:
        """What each run gave or raised."""
        for thread in self.threads:
            thread.join(PATIENCE)
        return [self.results[number] for number in range(len(self.threads))]


def test_batches_at_the_same_time(cluster, watch, tmp_path, direct):
    plan = make_plan(tmp_path)
    batches = [batch_at(count, count) for count in (9, 1, 12, 5, 3)]
    local = LocalExecutor(plan)
    executor = DaskExecutor(plan, cluster.address)
    try:
        found = Threads(executor, batches, nothing).join()
    finally:
        executor.close()
    for batch, tiles in zip(batches, found):
        np.testing.assert_array_equal(tiles.residual, local.run(batch, nothing).residual)
    wait_until(lambda: not any(watch.has_what().values()))


def test_the_connection_is_shared_and_keeps_the_model(cluster, watch, tmp_path):
    before = tasks_of(watch).get("model", {}).get("memory", 0)
    with connect(cluster.address) as held:
        for seed in (1, 2):
            executor = DaskExecutor(make_plan(tmp_path, seed=seed), cluster.address)
            assert executor._client is held.client
            executor.run(make_batch(2), nothing)
            executor.close()
        assert held.client.status == "running"
        assert tasks_of(watch)["model"]["memory"] == before + 1
    assert held.client.status == "closed"


def test_a_killed_worker_costs_no_pixel(tmp_path, direct):
    """It takes with it what it computes, what waits there and what nobody has fetched yet, of three batches."""
    made = DaskCluster(tmp_path)
    try:
        made.add_worker("one")
        made.add_worker("two")
        with distributed.Client(made.address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=PATIENCE)
            plan, told = make_plan(tmp_path, steps=15), []
            batches = [batch_at(12, seed) for seed in range(3)]
            local = LocalExecutor(plan)
            executor = DaskExecutor(plan, made.address)
            killed = threading.Event()

            def kill_one(count):
                told.append(count)
                if not killed.is_set():
                    killed.set()
                    made.workers["one"].kill()

            found = Threads(executor, batches, kill_one).join()
            executor.close()
            assert made.workers["one"].wait(PATIENCE) < 0
            wait_until(lambda: len(client.nthreads()) == 1)
            # Some of its pieces went to the other one.
            assert tasks_of(client)["tiles"]["processing"] > 6
        for batch, tiles in zip(batches, found):
            np.testing.assert_array_equal(tiles.residual, local.run(batch, nothing).residual)
        assert sum(told) == 3 * 12 * 15
    finally:
        made.stop()


def test_the_last_worker_killed_and_another_one_started(tmp_path, monkeypatch, direct):
    """Tiles wait here or on the scheduler, the model there; workers that never come are told of."""
    made = DaskCluster(tmp_path)
    try:
        made.add_worker("one")
        plan, batch, told = make_plan(tmp_path, steps=5), make_batch(6), []
        expected = LocalExecutor(plan).run(batch, nothing)

        def replace_it(count):
            told.append(count)
            if len(told) == 1:
                made.workers["one"].kill()
                made.add_worker("two")

        executor = DaskExecutor(plan, made.address)
        np.testing.assert_array_equal(executor.run(batch, replace_it).residual, expected.residual)
        made.workers["two"].kill()
        monkeypatch.setattr(dask_executor, "LOOK_SECONDS", 0.1)
        monkeypatch.setattr(dask_executor, "PATIENCE_SECONDS", 1)
        with pytest.raises(FusionError, match="has had no worker for 1 seconds"):
            executor.run(batch, nothing)
        monkeypatch.setattr(dask_connection, "CONNECT_SECONDS", 1)
        executor.close()
        with pytest.raises(FusionError, match="has no workers: start some with dask worker tcp://"):
            DaskExecutor(plan, made.address)
    finally:
        made.stop()


def test_cancel_leaves_nothing_on_the_cluster(cluster, watch, tmp_path, direct):
    asked = threading.Event()
    with connect(cluster.address):
        executor = DaskExecutor(make_plan(tmp_path, steps=900), cluster.address, asked.is_set)
        model = executor.digest
        runs = Threads(executor, [batch_at(40, seed) for seed in range(3)], nothing)
        wait_until(lambda: sum(map(len, watch.processing().values())) > 2)
        asked.set()
        started = time.monotonic()
        assert [type(end) for end in runs.join()] == [Cancelled] * 3
        # Their 900 steps would take minutes.
        assert time.monotonic() - started < 10
        executor.close()
        # The connection stays, as between the scenes of an archive, and the model with it.
        wait_until(
            lambda: (
                watch.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks))
                == [f"model-{model}"]
            )
        )
    wait_until(lambda: not watch.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)))
    # Threads cannot be stopped, so the tiles in work end by themselves, long before their 900 steps are done.
    wait_until(
        lambda: not any(watch.run(lambda dask_worker: dask_worker.state.executing_count).values())
    )


def test_a_child_talks_to_the_cluster(cluster, watch, tmp_path):
    plan, batch, told = make_plan(tmp_path), make_batch(5), []
    expected = LocalExecutor(plan).run(batch, nothing).residual
    worker = WorkerExecutor(plan, sys.executable, cluster=cluster.address)
    try:
        np.testing.assert_array_equal(worker.run(batch, told.append).residual, expected)
        assert sum(told) == 5 * 2
        assert worker.info.device == "cpu of 2 Dask worker(s)"
    finally:
        worker.close()
    wait_until(lambda: not any(watch.has_what().values()))


@pytest.mark.parametrize("executor", ["local", "worker"])
def test_a_scene(cluster, make_pair, tmp_path, executor):
    """From files to file: nodata, several strips, and the file says who computed."""
    pair = make_pair(ms_size=(30, 26), bands=4, nodata=0)
    model = write_model(tmp_path / "tiny.safetensors")
    here, there = str(tmp_path / "here.tif"), str(tmp_path / "there.tif")
    fuse(*pair, here, model=model, steps=2)
    seen = []
    result = fuse(
        *pair,
        there,
        model=model,
        steps=2,
        cluster=cluster.address,
        executor=executor,
        python=sys.executable,
        progress=seen.append,
    )
    np.testing.assert_array_equal(read_bands(there)[0], read_bands(here)[0])
    assert result.cluster == read_provenance(there)["cluster"] == cluster.address
    assert "cluster" not in read_provenance(here)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_what_a_worker_refuses_is_told_in_its_words(cluster, tmp_path):
    with pytest.raises(FusionError, match=r"sees 0 CUDA device|not cuda:99"):
        DaskExecutor(make_plan(tmp_path, device="cuda:99"), cluster.address)
    with pytest.raises(FusionError, match="no precision called float8"):
        DaskExecutor(make_plan(tmp_path, precision="float8"), cluster.address)


def test_workers_without_this_software_are_told_of(tmp_path, monkeypatch):
    made = DaskCluster(tmp_path)
    try:
        made.add_worker("bare", cwd=str(tmp_path))
        monkeypatch.setattr(dask_connection, "CONNECT_SECONDS", PATIENCE)
        with pytest.raises(FusionError, match="lacks fusion_core: put the folder of this software"):
            DaskExecutor(make_plan(tmp_path), made.address)
    finally:
        made.stop()


def test_versions_that_differ_are_refused(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(dask_connection, "__version__", "0.0.1")
    with pytest.raises(FusionError, match="this software and this computer 0.0.1"):
        DaskExecutor(make_plan(tmp_path), cluster.address)
    monkeypatch.undo()
    ours = iter(["2024.1"])
    monkeypatch.setattr(dask_connection, "_version", lambda found: next(ours, "2025.2"))
    with pytest.raises(FusionError, match="has distributed 2025.2 and this Python 2024.1"):
        DaskExecutor(make_plan(tmp_path), cluster.address)


def test_workers_that_do_not_answer_here_are_noticed(cluster, monkeypatch):
    monkeypatch.setattr(dask_connection, "REACH_SECONDS", 0.5)
    with connect(cluster.address) as connection, socket.socket() as silent:
        assert connection.direct
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        client = connection.client
        workers = list(client.nthreads())
        for port in (1, silent.getsockname()[1]):
            there = [*workers, f"tcp://127.0.0.1:{port}"]
            assert not client.sync(dask_connection._reachable, client, there)


@pytest.mark.parametrize(
    ("count", "threads", "sizes"),
    [
        (1, 8, [1]),
        (7, 2, [4, 3]),
        (40, 2, [16, 16, 8]),
        (9, 3, [4, 4, 1]),
        (5, 100, [2, 2, 1]),
    ],
)
def test_pieces_are_whole_chunks_for_every_thread(count, threads, sizes):
    report = WorkerReport("1", "2", "cpu", "float32", chunk=2, most=16)
    slices = cut(count, report, threads)
    assert [part.stop - part.start for part in slices] == sizes
    assert slices[0].start == 0 and slices[-1].stop == count


def test_batches_in_flight_have_their_bounds(tmp_path):
    report = WorkerReport("1", "2", "cpu", "float32", chunk=2, most=16)
    card = read_model(make_plan(tmp_path).model).card
    large = replace(card, tile=256, ms_bands=8)
    assert batch_size(card, 1, report, threads=3) == 48
    tile = 4 * (256 * 256 * (1 + 2 * 8) + 8 * 64 * 64)
    tiles = batch_size(large, 1, report, threads=1000)
    assert tiles % 2 == 0
    assert 0.9 * IN_FLIGHT_BYTES < IN_FLIGHT * tiles * tile <= IN_FLIGHT_BYTES
    assert batch_size(replace(card, tile=4096), 1, report, threads=1000) == 2


def test_a_scheduler_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(dask_connection, "CONNECT_SECONDS", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for port in (1, silent.getsockname()[1]):
            with pytest.raises(
                FusionError, match=f"No Dask scheduler answers at tcp://127.0.0.1:{port}"
            ):
                DaskExecutor(make_plan(tmp_path), f"tcp://127.0.0.1:{port}")


def test_a_scheduler_that_dies_is_told(tmp_path):
    made = DaskCluster(tmp_path)
    try:
        made.add_worker("one")
        executor = DaskExecutor(make_plan(tmp_path, steps=900), made.address)
        with distributed.Client(made.address, set_as_default=False) as watch:
            wait_until(watch.nthreads)
        threading.Timer(0.5, made.scheduler.kill).start()
        with pytest.raises(FusionError, match="is gone: start it and its workers"):
            executor.run(make_batch(40), nothing)
        executor.close()
    finally:
        made.stop()


@pytest.mark.parametrize(
    "address", ["", "host", "tcp://", "http://host", "tcp://host:port", "a b:1"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(FusionError, match="is no address of a Dask scheduler"):
        check_address(address)


@pytest.mark.parametrize(
    "address", ["tcp://host:8786", "host:8786", "tls://10.0.0.1:1", "tcp://[::1]:8786"]
)
def test_addresses(address):
    check_address(address)


def test_without_distributed_it_is_said_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(FusionError, match="lacks distributed.*python -m pip install distributed"):
        DaskExecutor(make_plan(tmp_path), "tcp://127.0.0.1:8786")
