"""A scene fused by a Dask cluster on this computer, against as many threads of one process.

Workers have one thread each.  For each model and number of workers the ways take turns: this process, the cluster with tiles
straight to its workers, and the cluster with tiles by way of its scheduler.  Pixels are compared.  Then workers give back
zeros instead of computing: what is left is what a tile costs beside the network.  Other programs may run meanwhile: ratios
are medians over the turns.

``--asleep`` shows instead how many threads one client and one scheduler keep busy: threads of the workers sleep for as long
as computing would take them, so that many more of them fit into this computer.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import psutil
from distributed import Client

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import alternate, machine, median_ratio
from benchmarks.scenes import ROOT
from benchmarks.tables import write_csv
from fusion_core.errors import FusionError
from fusion_core.execution import dask_pieces
from fusion_core.execution.dask_connection import Connection, connect
from fusion_core.execution.dask_executor import DaskExecutor
from fusion_core.execution.executor import SamplingPlan, TileBatch
from fusion_core.fuse import FuseResult, fuse
from fusion_core.raster.geotiff import read_bands, write_geotiff
from fusion_core.sample_scene import make_sample_scene
from fusion_core.weights import ModelFile, installed_models, read_model
from tests.core.dask_cluster import DaskCluster

MODELS = ("ssdiff-vhr-4", "ddrf-vhr-4")
WORKERS = (1, 2, 3)
PATCH = 256
"""PAN pixels of the synthetic scene that is repeated."""
HERE, DIRECT, INDIRECT = "this process", "cluster", "cluster, by the scheduler"
EMPTY_BATCHES = 40
SLEEPERS = 16
"""Threads of a worker that sleeps."""
ASLEEP_SIZE = 6144
ASLEEP_COLUMNS = (
    *("threads", "Mpx/s", "at most", "busy"),
    *("scheduler ms/tile", "client ms/tile", "bytes/tile"),
)
COLUMNS = (
    *(
        "model",
        "workers",
        "way",
        "Mpx/s",
        "efficiency",
        "core s/Mpx",
        "start s",
        "ready s",
        "ms/tile",
    ),
    *("scheduler ms/tile", "client ms/tile", "bytes/tile"),
)


class Spending:
    """What the runs of one way take beside time.

    Args:
        cluster: whose scheduler and workers are looked at.

    Attributes:
        scheduler, client, workers: seconds of processor time of each run.
        sent: bytes over the loopback interface during each run, whoever sent them.
    """

    def __init__(self, cluster: DaskCluster) -> None:
        self._scheduler = [psutil.Process(cluster.scheduler.pid)]
        self._workers = [psutil.Process(worker.pid) for worker in cluster.workers.values()]
        self.scheduler: list[float] = []
        self.client: list[float] = []
        self.workers: list[float] = []
        self.sent: list[float] = []

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count what happens meanwhile as a run."""
        before = self._now()
        yield
        taken = (now - then for now, then in zip(self._now(), before))
        for values, value in zip((self.scheduler, self.client, self.workers, self.sent), taken):
            values.append(value)

    def per_tile(self, tiles: int, skipped: int = 1) -> dict[str, float]:
        """Medians over the runs, the first ones left out."""
        scheduler, client, sent = (
            statistics.median(values[skipped:]) / tiles
            for values in (self.scheduler, self.client, self.sent)
        )
        return {
            "scheduler ms/tile": round(1000 * scheduler, 3),
            "client ms/tile": round(1000 * client, 3),
            "bytes/tile": round(sent),
        }

    def _now(self) -> tuple[float, float, float, float]:
        sent = psutil.net_io_counters(pernic=True)["lo"].bytes_sent
        return _seconds(self._scheduler), time.process_time(), _seconds(self._workers), sent


def _seconds(processes: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(one.user + one.system for one in times)


def main(arguments: list[str] | None = None) -> int:
    """Print a table and write it as csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", action="append", help=f"ids or files; {', '.join(MODELS)} by default"
    )
    parser.add_argument("--workers", type=int, action="append", help=f"{WORKERS} by default")
    parser.add_argument("--size", type=int, default=1024, help="PAN pixels along each side")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--asleep", type=float, metavar="MPX/S", help="let threads sleep that compute so much"
    )
    parser.add_argument("--csv", type=Path, help="build/cluster*.csv by default")
    options = parser.parse_args(arguments)
    installed = {model.card.id: model for model in installed_models()}
    rows: list[dict[str, object]] = []
    print(machine())
    path = options.csv or ROOT / "build" / f"cluster{'-asleep' if options.asleep else ''}.csv"
    try:
        if options.asleep:
            model = installed[(options.model or MODELS)[0]]
            for row in _asleep(model, options.asleep, options.workers or (1, 4, 8)):
                print(", ".join(f"{column} {row[column]}" for column in row), flush=True)
                rows.append(row)
            write_csv(path, rows, ASLEEP_COLUMNS)
            return 0
        for name in options.model or MODELS:
            model = installed.get(name) or read_model(name)
            for workers in options.workers or WORKERS:
                with tempfile.TemporaryDirectory() as folder:
                    for row in _measured(model, workers, options, Path(folder)):
                        print(", ".join(f"{column} {row[column]}" for column in row), flush=True)
                        rows.append(row)
                write_csv(path, rows, COLUMNS)
    except FusionError as error:
        print(error, file=sys.stderr)
        return 1
    print(path)
    return 0


def _scene(size: int, model: ModelFile, folder: Path) -> tuple[str, str]:
    """PAN and MS for a model, of a synthetic scene that is repeated until it fills the size."""
    folder.mkdir(exist_ok=True)
    card = model.card
    scene = make_sample_scene(PATCH, card.ms_bands, card.ratio)
    paths = str(folder / "pan.tif"), str(folder / "ms.tif")
    times = -(-size // PATCH)
    for path, image, grid, pixels, names in (
        (paths[0], scene.pan, scene.geotransform, size, ()),
        (paths[1], scene.ms, scene.ms_geotransform, size // card.ratio, card.band_names),
    ):
        repeated = np.tile(image, (1, times, times))[:, :pixels, :pixels]
        write_geotiff(path, repeated, grid, scene.crs, names)
    return paths


@contextmanager
def _cluster(workers: int, folder: Path, threads: int = 1) -> Iterator[tuple[DaskCluster, float]]:
    """A scheduler and its workers, and the seconds until they had found each other."""
    started = time.perf_counter()
    cluster = DaskCluster(folder)
    try:
        for number in range(workers):
            cluster.add_worker(str(number), "--nthreads", str(threads))
        with Client(cluster.address, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=60)
        yield cluster, time.perf_counter() - started
    finally:
        cluster.stop()


def _measured(
    model: ModelFile, workers: int, options: argparse.Namespace, folder: Path
) -> Iterator[dict[str, object]]:
    """A row for each way.

    Raises:
        FusionError: the cluster gives other pixels.
    """
    pair = _scene(options.size, model, folder)
    with _cluster(workers, folder) as (cluster, start), connect(cluster.address) as held:
        started = time.perf_counter()
        executor = DaskExecutor(_plan(model), held.address)
        executor.run(_batch(model, 1), int)
        executor.close()
        ready = time.perf_counter() - started
        spending = {way: Spending(cluster) for way in (HERE, DIRECT, INDIRECT)}
        done: dict[str, FuseResult] = {}
        images: dict[str, np.ndarray] = {}

        def turn(way: str) -> None:
            held.direct = way == DIRECT
            place = {"threads": workers} if way == HERE else {"cluster": held.address}
            with spending[way].counted():
                done[way] = _fused(model, pair, folder, **place)
            images[way] = read_bands(done[way].output)[0]

        ways = {way: partial(turn, way) for way in (HERE, DIRECT, INDIRECT)}
        seconds = alternate(ways, options.rounds)
        empty = list(_empty(model, cluster, held, options.rounds))
    megapixels = options.size**2 / 1e6
    for way, times in seconds.items():
        if not np.array_equal(images[way], images[HERE]):
            raise FusionError(f"{model.card.id} gives other pixels on {workers} workers ({way}).")
        spent = spending[way].client if way == HERE else spending[way].workers
        row = {
            "model": model.card.id,
            "workers": workers,
            "way": way,
            "Mpx/s": round(megapixels / statistics.median(times), 4),
            "efficiency": round(median_ratio(seconds[HERE], times), 3),
            "core s/Mpx": round(statistics.median(spent[1:]) / megapixels, 2),
        }
        if way != HERE:
            row |= {"start s": round(start, 1), "ready s": round(ready, 1)}
            row |= spending[way].per_tile(done[way].tiles)
        yield row
    for row in empty:
        yield {"model": model.card.id, "workers": workers, **row}


def _zeros(arrays: dict[str, np.ndarray], **common: object) -> tuple[np.ndarray, None]:
    """What ``dask_tasks.fuse_tiles`` would send back."""
    return np.zeros_like(arrays["lms"]), None


def _empty(
    model: ModelFile, cluster: DaskCluster, held: Connection, rounds: int
) -> Iterator[dict[str, object]]:
    """What tiles cost that nothing is computed of, a row for each way."""
    executor = DaskExecutor(_plan(model), held.address)
    size, count = executor.info.batch_size, executor.info.in_flight
    batch = _batch(model, size)
    spending = {way: Spending(cluster) for way in (DIRECT, INDIRECT)}

    def side(way: str) -> None:
        held.direct = way == DIRECT
        with spending[way].counted(), ThreadPoolExecutor(count) as threads:
            runs = [threads.submit(executor.run, batch, int) for _ in range(EMPTY_BATCHES)]
            for run in runs:
                run.result()

    with mock.patch.object(dask_pieces, "fuse_tiles", _zeros):
        seconds = alternate({way: partial(side, way) for way in spending}, rounds)
    executor.close()
    tiles = EMPTY_BATCHES * size
    for way, times in seconds.items():
        yield {
            "way": f"{way}, nothing computed",
            "ms/tile": round(1000 * statistics.median(times) / tiles, 3),
            **spending[way].per_tile(tiles),
        }


def _asleep(model: ModelFile, rate: float, workers: Sequence[int]) -> Iterator[dict[str, object]]:
    """How busy threads are that sleep for as long as their tiles would take them, a row for each number of workers.

    Args:
        model: says how tiles are laid out.
        rate: megapixels of the result that a thread would compute in a second.
        workers: of ``SLEEPERS`` threads each.
    """
    card = model.card
    seconds = (card.tile - 2 * card.margin) ** 2 / 1e6 / rate

    def slept(arrays: dict[str, np.ndarray], **common: object) -> tuple[np.ndarray, None]:
        time.sleep(seconds * len(arrays["lms"]))
        return np.zeros_like(arrays["lms"]), None

    for count in workers:
        with ExitStack() as ends:
            folder = Path(ends.enter_context(tempfile.TemporaryDirectory()))
            small, pair = (_scene(size, model, folder / str(size)) for size in (512, ASLEEP_SIZE))
            cluster, _ = ends.enter_context(_cluster(count, folder, SLEEPERS))
            ends.enter_context(connect(cluster.address))
            ends.enter_context(mock.patch.object(dask_pieces, "fuse_tiles", slept))
            _fused(model, small, folder, cluster.address)
            spending = Spending(cluster)
            with spending.counted():
                started = time.perf_counter()
                done = _fused(model, pair, folder, cluster.address)
                wall = time.perf_counter() - started
        threads = count * SLEEPERS
        yield {
            "threads": threads,
            "Mpx/s": round(ASLEEP_SIZE**2 / 1e6 / wall, 2),
            "at most": round(rate * threads, 2),
            "busy": round(seconds * done.tiles / threads / wall, 3),
            **spending.per_tile(done.tiles, skipped=0),
        }


def _plan(model: ModelFile) -> SamplingPlan:
    card = model.card
    limits = ((0.0, 1.0),) * card.ms_bands
    return SamplingPlan(model.path, card.steps, card.solver, card.grid, 0, 1, limits, "cpu", "auto")


def _batch(model: ModelFile, count: int) -> TileBatch:
    """Tiles as large as the model's, all the same."""
    card = model.card
    coarse = card.tile // card.ratio
    return TileBatch(
        guide=np.ones((count, card.guide_bands, card.tile, card.tile), np.float32),
        ms=np.ones((count, card.ms_bands, coarse, coarse), np.float32),
        lms=np.ones((count, card.ms_bands, card.tile, card.tile), np.float32),
        origins=np.stack([np.arange(count), np.arange(count)], axis=1),
    )


def _fused(
    model: ModelFile,
    pair: tuple[str, str],
    folder: Path,
    cluster: str | None = None,
    threads: int | None = None,
) -> FuseResult:
    return fuse(
        *pair,
        str(folder / "fused.tif"),
        method=model.card.method,
        model=model.path,
        device="cpu",
        threads=threads,
        cluster=cluster,
    )


if __name__ == "__main__":
    sys.exit(main())
