"""The child process: runs torch for a program that must not import it.

Started as ``python worker.py`` by ``WorkerExecutor``; speaks ``protocol`` on its standard input and output, and ends when
its input does, so that it never outlives its parent.
"""

from __future__ import annotations

import queue
import sys
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

# The script's own folder comes first otherwise, and its modules would pass for top-level ones.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from fusion_core.execution.executor import Executor, SamplingPlan, TileBatch  # noqa: E402
from fusion_core.execution.protocol import write_message  # noqa: E402
from fusion_core.execution.serving import error_message, open_streams  # noqa: E402


def main() -> None:
    """Answer messages until the input ends."""
    _serve(*open_streams())


def _serve(inbox: queue.Queue, answers: BinaryIO) -> None:
    executor = None
    while True:
        content, arrays = inbox.get()
        try:
            if content["type"] == "open":
                executor = _executor(SamplingPlan(**content["plan"]), content["cluster"])
                write_message(answers, {"type": "ready", "info": asdict(executor.info)})
                continue
            tiles = executor.run(
                TileBatch(**arrays),
                lambda count: write_message(answers, {"type": "call", "tiles": count}),
            )
            result = {"residual": tiles.residual}
            if tiles.spread is not None:
                result["spread"] = tiles.spread
            write_message(answers, {"type": "result"}, result)
        except Exception as error:  # the parent must learn of anything, in one sentence
            write_message(answers, error_message(error))


def _executor(plan: SamplingPlan, cluster: str | None) -> Executor:
    # Imported late, so that a missing package is told like any other error.
    if cluster is not None:
        from fusion_core.execution.dask_executor import DaskExecutor

        return DaskExecutor(plan, cluster)
    from fusion_core.execution.local import LocalExecutor

    return LocalExecutor(plan)


if __name__ == "__main__":
    main()
