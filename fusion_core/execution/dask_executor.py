"""Tiles computed by the workers of a Dask cluster; no torch here."""

from __future__ import annotations

import itertools
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
from .dask_pieces import IN_FLIGHT, Pieces, batch_size, cut
from .dask_tasks import WorkerReport, difference, report
from .executor import ExecutorInfo, FusedTiles, OnCall, SamplingPlan, TileBatch

if TYPE_CHECKING:
    from distributed import Future

    Again = Callable[[int], Future]
    """Sends something anew that the cluster lost."""

POLL_SECONDS = 0.02
LOOK_SECONDS = 5
PATIENCE_SECONDS = 60
"""How long a cluster may be without any worker, as it is while a worker restarts."""
TRAVELLERS = 8
"""Threads that send pieces and fetch results, so that neither the cluster nor a cancel waits for one to arrive."""


class DaskExecutor:
    """Cuts each batch into pieces for the threads of the cluster, one task each; see ``Executor``.

    Where the workers can be reached from here, tiles and results travel between them and this process, and the scheduler
    only hears of them; the pieces of a worker that died are sent again from here.  Otherwise pieces travel inside their
    tasks by way of the scheduler, which gives those of a worker that died to another one.  The model is sent once and
    goes from worker to worker.

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
        model = read_model(plan.model)
        self.digest = model.digest()
        self._job, self._batches = uuid.uuid4().hex, itertools.count(1)
        self._connection = connect(address)
        self._client = self._connection.client
        self._travellers = ThreadPoolExecutor(TRAVELLERS, "travel")
        try:
            self.report = self._ask_workers(model.card.method)
            self._model = self._connection.model(self.digest, Path(plan.model).read_bytes())
            threads = self._client.nthreads()
        except BaseException:
            self.close()
            raise
        self._threads = sum(threads.values())
        self.info = ExecutorInfo(
            device=f"{self.report.device} of {len(threads)} Dask worker(s)",
            precision=self.report.precision,
            torch_version=self.report.torch,
            batch_size=batch_size(model.card, plan.samples, self.report, self._threads),
            in_flight=IN_FLIGHT,
        )

    def run(self, batch: TileBatch, on_call: OnCall) -> FusedTiles:
        """See ``Executor.run``; told of the network calls of a piece when it comes back."""
        slices = cut(len(batch.origins), self.report, self._threads)
        pieces = Pieces(
            self._client,
            self._connection.direct,
            batch,
            slices,
            # The dashboard shows of a task's name what is before the first hyphen.
            name=f"{self._job}-{next(self._batches)}",
            weights=self._model,
            digest=self.digest,
            plan=self.plan,
            expected=self.report,
        )
        calls = self.plan.steps * self.plan.samples

        def told(number: int) -> None:
            pieces.arrived(number)
            on_call((slices[number].stop - slices[number].start) * calls)

        try:
            sending = self._travellers.submit(pieces.send)
            while not wait([sending], POLL_SECONDS).done:
                if self.cancelled():
                    raise Cancelled
            parts = self._gather(self._result(sending), told, pieces.send_again)
        except BaseException:
            pieces.abandon()
            raise
        residuals, spreads = zip(*(parts[number] for number in range(len(slices))))
        return FusedTiles(
            np.concatenate(residuals), None if spreads[0] is None else np.concatenate(spreads)
        )

    def close(self) -> None:
        """Leave the cluster, and nothing on it."""
        if self._connection is not None:
            self._travellers.shutdown(wait=False)
            self._model = None
            self._connection.close()
            self._connection = None

    def _ask_workers(self, method: str) -> WorkerReport:
        """How all the workers compute; refuse if they would not give the same pixels."""
        addresses = list(self._client.nthreads())
        futures = {
            self._client.submit(
                report,
                self.plan.device,
                self.plan.precision,
                method,
                key=f"report-{self._job}-{number}",
                workers=[address],
                # A worker that went meanwhile need not answer.
                allow_other_workers=True,
            ): number
            for number, address in enumerate(addresses)
        }
        found = self._gather(futures, lambda number: None, None)
        for address, one in zip(addresses, (found[number] for number in range(len(addresses)))):
            if one != found[0]:
                raise FusionError(
                    f"The workers {address} and {addresses[0]} would compute different pixels "
                    f"({difference(one, found[0])}): have all workers run the same versions on the same kind of device."
                )
        return found[0]

    def _gather(
        self, futures: dict[Future, int], told: Callable[[int], None], again: Again | None
    ) -> dict[int, object]:
        """Results by number, as they come; on any error nothing of it stays on the cluster."""
        from distributed import as_completed

        futures = dict(futures)
        completed = as_completed(futures, loop=self._client.loop)
        fetching: dict = {}
        found: dict[int, object] = {}
        count = len(futures)
        looked = with_workers = time.monotonic()
        try:
            while len(found) < count:
                if self.cancelled():
                    raise Cancelled
                for future in completed.next_batch(block=False):
                    fetching[self._travellers.submit(self._fetch, future)] = future
                if not fetching:
                    time.sleep(POLL_SECONDS)
                done, _ = wait(fetching, POLL_SECONDS, FIRST_COMPLETED)
                for fetched in done:
                    future = fetching.pop(fetched)
                    number = futures.pop(future)
                    # A worker took the piece or its result with it when it died.
                    if again is not None and future.status in ("cancelled", "lost"):
                        anew = again(number)
                        futures[anew] = number
                        completed.add(anew)
                        continue
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

    def _fetch(self, future: Future) -> object:
        return self._client.gather(future, direct=self._connection.direct)

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
