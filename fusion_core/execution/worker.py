"""The child process: runs torch for a program that must not import it.

Started as ``python worker.py`` by ``WorkerExecutor``; speaks ``protocol`` on its standard input and output, and ends when
its input does, so that it never outlives its parent.  It serves one job after another:

    open   the plan of a job; answered by "ready"
    run    a batch; several may be on their way; answered by "call" after each network call, then by "result"
    rest   the job is done; not answered

Each answer carries the number of its question; "error" answers any of them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

# The script's own folder comes first otherwise, and its modules would pass for top-level ones.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from fusion_core.execution.allocator import (  # noqa: E402
    keep_freed_memory,
    return_freed_memory,
)
from fusion_core.execution.executor import Executor, SamplingPlan, TileBatch  # noqa: E402
from fusion_core.execution.serving import Outbox, error_message, open_streams  # noqa: E402

IN_FLIGHT = 2
"""Batches that the parent has on their way, so that the next one is here when one is done."""


def main() -> None:
    """Answer messages until the input ends."""
    keep_freed_memory()
    inbox, answers = open_streams()
    server = _Server(Outbox(answers))
    while True:
        server.take(*inbox.get())


class _Server:
    """What happens to the messages of the parent."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.executor: Executor | None = None
        self.loaded: tuple | None = None
        self.threads: ThreadPoolExecutor | None = None

    def take(self, content: Mapping, arrays: Mapping[str, np.ndarray]) -> None:
        """Do what a message says."""
        if content["type"] == "run":
            self.threads.submit(self._run, content["number"], TileBatch(**arrays))
        elif content["type"] == "open":
            try:
                answer = self._open(content)
            except Exception as error:  # the parent must learn of anything, in one sentence
                answer = error_message(error)
            self.outbox.put({**answer, "number": content["number"]})
        else:
            # An error here ends this process, and the next job starts another one.
            self._rest()

    def _open(self, content: Mapping) -> dict:
        plan, cluster = SamplingPlan(**content["plan"]), content["cluster"]
        devices = [plan.device]
        # Imported late, so that a missing package is told like any other error.
        if cluster is not None:
            from fusion_core.execution.dask_executor import DaskExecutor

            self._drop()
            self.executor = DaskExecutor(plan, cluster)
        else:
            from fusion_core.execution.device import same_devices, thread_count

            threads = max(1, thread_count(plan.threads) // content["sharers"])
            self._load(replace(plan, threads=threads))
            devices = same_devices(plan.device)
        info = self.executor.info
        if self.threads is not None:
            self.threads.shutdown()
        self.threads = ThreadPoolExecutor(info.in_flight, "batches")
        told = replace(info, in_flight=max(IN_FLIGHT, info.in_flight))
        return {"type": "ready", "info": asdict(told), "devices": devices}

    def _load(self, plan: SamplingPlan) -> None:
        """Have the plan's network, the loaded one if it is the same and computes the same way."""
        from fusion_core.execution.local import LocalExecutor
        from fusion_core.weights import read_model

        wanted = (read_model(plan.model).digest(), plan.device, plan.precision, plan.threads)
        if wanted == self.loaded:
            self.executor.serve(plan)
            return
        self._drop()
        self.executor, self.loaded = LocalExecutor(plan), wanted

    def _run(self, number: int, batch: TileBatch) -> None:
        try:
            tiles = self.executor.run(
                batch,
                lambda count: self.outbox.put({"type": "call", "number": number, "tiles": count}),
            )
        except Exception as error:  # the parent must learn of anything, in one sentence
            self.outbox.put({**error_message(error), "number": number})
            return
        result = {"residual": tiles.residual}
        if tiles.spread is not None:
            result["spread"] = tiles.spread
        self.outbox.put({"type": "result", "number": number}, result)

    def _rest(self) -> None:
        """Hold no more than the next job may need."""
        if self.loaded is None:
            self._drop()
        else:
            self.executor.rest()
        return_freed_memory()

    def _drop(self) -> None:
        executor, self.executor, self.loaded = self.executor, None, None
        if executor is not None:
            executor.close()


if __name__ == "__main__":
    main()
