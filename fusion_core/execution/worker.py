"""The child process: runs torch for a program that must not import it.

Started as ``python worker.py`` by ``WorkerExecutor``; speaks ``protocol`` on its standard input and output, and ends when
its input does, so that it never outlives its parent.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from pathlib import Path
from typing import BinaryIO


def main() -> None:
    """Answer messages until the input ends."""
    # Whatever libraries print must not land between messages.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    # The script's own folder comes first otherwise, and its modules would pass for top-level ones.
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    requests: queue.Queue = queue.Queue()
    threading.Thread(target=_receive, args=(sys.stdin.buffer, requests), daemon=True).start()
    _serve(requests, answers)


def _receive(stream: BinaryIO, requests: queue.Queue) -> None:
    from fusion_core.execution.protocol import read_message

    try:
        while (message := read_message(stream)) is not None:
            requests.put(message)
    except (ValueError, EOFError, OSError):
        pass
    # The parent is gone or has hung up: stop even in the middle of a computation.
    os._exit(0)


def _serve(requests: queue.Queue, answers: BinaryIO) -> None:
    from dataclasses import asdict

    from fusion_core.errors import FusionError
    from fusion_core.execution.executor import SamplingPlan, TileBatch
    from fusion_core.execution.protocol import write_message

    executor = None
    while True:
        content, arrays = requests.get()
        try:
            if content["type"] == "open":
                from fusion_core.execution.local import LocalExecutor

                executor = LocalExecutor(SamplingPlan(**content["plan"]))
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
        except FusionError as error:
            write_message(answers, {"type": "error", "message": str(error)})
        except Exception as error:  # the parent must learn of anything, in one sentence
            import traceback

            traceback.print_exc(file=sys.stderr)
            message = f"The computation failed ({type(error).__name__}: {error}): see the log."
            write_message(answers, {"type": "error", "message": message})


if __name__ == "__main__":
    main()
