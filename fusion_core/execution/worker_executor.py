"""Tiles computed by torch in a child process with its own interpreter and environment."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict

import numpy as np

from ..errors import Cancelled, FusionError
from .executor import ExecutorInfo, FusedTiles, OnCall, SamplingPlan, TileBatch
from .warm_workers import WARM_WORKERS, WorkerUse
from .worker_process import WorkerDied, WorkerProcess

POLL_SECONDS = 0.1
_numbers = itertools.count(1)


class WorkerExecutor:
    """Takes a warm child or starts one, and hands it batches; see ``Executor``.

    ``close`` keeps the child for the next job.  After an error or a cancel, or in the middle of a batch, it is ended by
    force: it holds nothing that would have to be put in order.

    Args:
        plan: what to compute.
        python: interpreter with torch, as ``interpreter.find_interpreter`` gives it.
        cancelled: asked ten times a second while the child computes.
        cluster: address of a Dask scheduler; the child then hands the batches on to its workers.
        sharers: among how many workers the processor's threads are shared out.

    Attributes:
        devices: all that the plan's device means in the child, such as cuda:0 and cuda:1 for "auto".

    Raises:
        FusionError: the child does not start, or refuses the plan.
        Cancelled: ``cancelled`` said so; the child is gone by then.
    """

    def __init__(
        self,
        plan: SamplingPlan,
        python: str,
        cancelled: Callable[[], bool] | None = None,
        cluster: str | None = None,
        sharers: int = 1,
    ) -> None:
        self.cancelled = cancelled or (lambda: False)
        self._use = WorkerUse(python, plan.device, plan.model)
        self._term = WARM_WORKERS.term
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._running = 0
        self._closed = False
        request = {"type": "open", "plan": asdict(plan), "cluster": cluster, "sharers": sharers}
        ready = None
        while ready is None:
            warm = WARM_WORKERS.take(self._use)
            self._worker = warm or WorkerProcess("worker.py", python, "choose a smaller extent")
            try:
                ready, _ = self._exchange(request, {}, "ready", lambda count: None)
            except BaseException as error:
                self._worker.close()
                # A warm one may have died or lost its GPU meanwhile: only a fresh one's word counts.
                if (
                    warm is None
                    or isinstance(error, Cancelled)
                    or not isinstance(error, FusionError)
                ):
                    raise
        self.process = self._worker.process
        self.info = ExecutorInfo(**ready["info"])
        self.devices = tuple(ready["devices"])

    def run(self, batch: TileBatch, on_call: OnCall) -> FusedTiles:
        """See ``Executor.run``; an error in one thread ends the runs of the others with the same error."""
        with self._lock:
            if self._failure is not None:
                raise self._failure
            if self._closed:
                raise WorkerDied("The computing process was handed back: start another run.")
            self._running += 1
        try:
            _, arrays = self._exchange({"type": "run"}, vars(batch), "result", on_call)
        except BaseException as error:
            with self._lock:
                first = self._failure
                self._failure = first or error
            self._worker.close()
            if first is not None:
                raise first from error
            raise
        finally:
            with self._lock:
                self._running -= 1
        return FusedTiles(arrays["residual"], arrays.get("spread"))

    def close(self) -> None:
        """See ``Executor.close``."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            sound = self._failure is None and not self._running
        if not sound or self.cancelled():
            self._worker.close()
            return
        try:
            self._worker.send({"type": "rest"})
        except WorkerDied:
            self._worker.close()
            return
        WARM_WORKERS.keep(self._worker, self._use, self._term)

    def _exchange(
        self,
        content: Mapping[str, object],
        arrays: Mapping[str, np.ndarray],
        wanted: str,
        on_call: OnCall,
    ) -> tuple[dict, dict[str, np.ndarray]]:
        """Ask something and wait for the answer."""
        number = next(_numbers)
        try:
            self._worker.send({**content, "number": number}, arrays)
            while True:
                if self.cancelled():
                    raise Cancelled
                message = self._worker.receive(POLL_SECONDS, number)
                if message is None:
                    continue
                answer, found = message
                if answer["type"] == "call":
                    on_call(answer["tiles"])
                elif answer["type"] == wanted:
                    return answer, found
        finally:
            self._worker.forget(number)
