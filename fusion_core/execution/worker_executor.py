"""Tiles computed by torch in a child process with its own interpreter and environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from ..errors import Cancelled
from .executor import ExecutorInfo, FusedTiles, OnCall, SamplingPlan, TileBatch
from .worker_process import WorkerProcess

POLL_SECONDS = 0.1


class WorkerExecutor:
    """Starts the child, hands it batches, and kills it on cancel; see ``Executor``.

    Args:
        plan: what to compute.
        python: interpreter with torch, as ``interpreter.find_interpreter`` gives it.
        cancelled: asked ten times a second while the child computes.
        cluster: address of a Dask scheduler; the child then hands the batches on to its workers.

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
    ) -> None:
        self.cancelled = cancelled or (lambda: False)
        self._worker = WorkerProcess("worker.py", python, "choose a smaller extent")
        self.process = self._worker.process
        try:
            self._worker.send({"type": "open", "plan": asdict(plan), "cluster": cluster})
            content, _ = self._answer("ready", lambda count: None)
            self.info = ExecutorInfo(**content["info"])
        except BaseException:
            self.close()
            raise

    def run(self, batch: TileBatch, on_call: OnCall) -> FusedTiles:
        """See ``Executor.run``."""
        try:
            self._worker.send({"type": "run"}, vars(batch))
            _, arrays = self._answer("result", on_call)
        except BaseException:
            self.close()
            raise
        return FusedTiles(arrays["residual"], arrays.get("spread"))

    def close(self) -> None:
        """End the child by force: it holds nothing that would have to be put in order."""
        self._worker.close()

    def _answer(self, wanted: str, on_call: OnCall) -> tuple[dict, dict[str, np.ndarray]]:
        while True:
            if self.cancelled():
                raise Cancelled
            message = self._worker.receive(POLL_SECONDS)
            if message is None:
                continue
            content, arrays = message
            if content["type"] == "call":
                on_call(content["tiles"])
            elif content["type"] == wanted:
                return content, arrays
