"""Tiles computed by the workers of a Dask cluster; no torch here."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import Cancelled, FusionError
from ..weights import read_model
from .dask_connection import PACKAGES, connect
from .dask_tasks import WorkerReport, difference, fuse_tiles, report
from .executor import ExecutorInfo, FusedTiles, OnCall, SamplingPlan, TileBatch

if TYPE_CHECKING:
    from distributed import Future

POLL_SECONDS = 0.05
LOOK_SECONDS = 5
PATIENCE_SECONDS = 60
"""How long a cluster may be without any worker, as it is while a worker restarts."""
FETCHERS = 4
"""Threads that fetch results, so that the cluster does not wait for one to arrive."""
CHUNKS_PER_THREAD = 2


class DaskExecutor:
    """Cuts each batch into chunks of the size a ``LocalExecutor`` computes, one task each; see ``Executor``.

    The chunks travel inside their tasks, so the scheduler gives those of a worker that died to another one.  The model
    travels once to each worker.

    Args:
        plan: what to compute; its threads are not looked at, a worker has as many as it was started with.
        address: of the scheduler, such as tcp://host:8786.
        cancelled: asked many times a second while the cluster computes.

    Raises:
        FusionError: the cluster cannot be reached, or its workers cannot compute this or would differ from each other.
        Cancelled: ``cancelled`` said so.
    """

    def __init__(
        self, plan: SamplingPlan, address: str, cancelled: Callable[[], bool] | None = None
    ) -> None:
        self.plan = plan
        self.cancelled = cancelled or (lambda: False)
        self.digest = read_model(plan.model).digest()
        self._job, self._batches = uuid.uuid4().hex, 0
        self._connection = connect(address)
        self._client = self._connection.client
        self._fetchers = ThreadPoolExecutor(FETCHERS, "fetch")
        try:
            self.report = self._ask_workers()
            self._model = self._connection.model(self.digest, Path(plan.model).read_bytes())
            threads = self._client.nthreads()
        except BaseException:
            self.close()
            raise
        self.info = ExecutorInfo(
            device=f"{self.report.device} of {len(threads)} Dask worker(s)",
            precision=self.report.precision,
            torch_version=self.report.torch,
            batch_size=CHUNKS_PER_THREAD * self.report.chunk * sum(threads.values()),
        )

    def run(self, batch: TileBatch, on_call: OnCall) -> FusedTiles:
        """See ``Executor.run``; told of the network calls of a chunk when it comes back."""
        self._batches += 1
        count, size = len(batch.origins), self.report.chunk
        chunks = [slice(start, min(start + size, count)) for start in range(0, count, size)]
        futures = {}
        for number, chunk in enumerate(chunks):
            row, col = batch.origins[chunk.start]
            arrays = {name: array[chunk] for name, array in vars(batch).items()}
            future = self._client.submit(
                fuse_tiles,
                self._model,
                self.digest,
                self.plan,
                self.report,
                arrays,
                # The dashboard shows the part before the first hyphen.
                key=f"tiles-{self._job}-{self._batches}-{row}-{col}",
            )
            futures[future] = number
        calls = self.plan.steps * self.plan.samples

        def told(number: int) -> None:
            on_call((chunks[number].stop - chunks[number].start) * calls)

        parts = self._gather(futures, told)
        residuals, spreads = zip(*(parts[number] for number in range(len(chunks))))
        return FusedTiles(
            np.concatenate(residuals), None if spreads[0] is None else np.concatenate(spreads)
        )

    def close(self) -> None:
        """Leave the cluster, and nothing on it."""
        if self._connection is not None:
            self._fetchers.shutdown(wait=False)
            self._model = None
            self._connection.close()
            self._connection = None

    def _ask_workers(self) -> WorkerReport:
        """How all the workers compute; refuse if they would not give the same pixels."""
        addresses = list(self._client.nthreads())
        futures = {
            self._client.submit(
                report,
                self.plan.device,
                self.plan.precision,
                key=f"report-{self._job}-{number}",
                workers=[address],
                # A worker that went meanwhile need not answer.
                allow_other_workers=True,
            ): number
            for number, address in enumerate(addresses)
        }
        found = self._gather(futures, lambda number: None)
        for address, one in zip(addresses, (found[number] for number in range(len(addresses)))):
            if one != found[0]:
                raise FusionError(
                    f"The workers {address} and {addresses[0]} would compute different pixels "
                    f"({difference(one, found[0])}): have all workers run the same versions on the same kind of device."
                )
        return found[0]

    def _gather(self, futures: dict[Future, int], told: Callable[[int], None]) -> dict[int, object]:
        """Results by number, as they come; on any error nothing of it stays on the cluster."""
        from distributed import as_completed

        completed = as_completed(futures, loop=self._client.loop)
        fetching: dict = {}
        found: dict[int, object] = {}
        looked = with_workers = time.monotonic()
        try:
            while len(found) < len(futures):
                if self.cancelled():
                    raise Cancelled
                for future in completed.next_batch(block=False):
                    fetching[self._fetchers.submit(future.result)] = future
                if not fetching:
                    time.sleep(POLL_SECONDS)
                done, _ = wait(fetching, POLL_SECONDS, FIRST_COMPLETED)
                for fetched in done:
                    future = fetching.pop(fetched)
                    number = futures[future]
                    found[number] = self._result(fetched)
                    future.release()
                    told(number)
                now = time.monotonic()
                if self._client.status != "running":
                    raise self._loss()
                if now - looked > LOOK_SECONDS:
                    looked = now
                    if self._client.nthreads():
                        with_workers = now
                    elif now - with_workers > PATIENCE_SECONDS:
                        raise FusionError(
                            f"The cluster {self._connection.address} has had no worker for {PATIENCE_SECONDS} seconds: "
                            "start workers and run again."
                        )
        except BaseException:
            if self._client.status == "running":
                self._client.cancel(list(futures))
            raise
        return found

    def _result(self, fetched) -> object:
        """What came back, or the error as a sentence."""
        from distributed import KilledWorker

        try:
            return fetched.result()
        except FusionError:
            raise
        except KilledWorker as error:
            raise FusionError(
                "Several workers died while they computed the same tiles, most likely because memory ran out: "
                "give the workers more memory or fewer threads."
            ) from error
        except ModuleNotFoundError as error:
            raise FusionError(
                f"A worker of the cluster lacks {error.name}: install {PACKAGES} for every worker."
            ) from error
        except Exception as error:
            if self._client.status != "running":
                raise self._loss() from error
            raise FusionError(
                f"A worker of the cluster failed ({type(error).__name__}: {error}): see its log."
            ) from error

    def _loss(self) -> FusionError:
        return FusionError(
            f"The Dask scheduler at {self._connection.address} is gone: start it and its workers, then run again."
        )
