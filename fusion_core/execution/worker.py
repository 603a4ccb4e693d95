"""The child process: runs torch for a program that must not import it.

Started as ``python worker.py`` by ``WorkerExecutor``; speaks ``protocol`` on its standard input and output, and ends when
its input does, so that it never outlives its parent.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

# The script's own folder comes first otherwise, and its modules would pass for top-level ones.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from fusion_core.errors import FusionError  # noqa: E402
from fusion_core.execution.executor import SamplingPlan, TileBatch  # noqa: E402
from fusion_core.execution.interpreter import INSTALL  # noqa: E402
from fusion_core.execution.protocol import read_message, write_message  # noqa: E402


def main() -> None:
    """Answer messages until the input ends."""
    # Whatever libraries print must not land between messages.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    inbox: queue.Queue = queue.Queue()
    threading.Thread(target=_receive, args=(sys.stdin.buffer, inbox), daemon=True).start()
    _serve(inbox, answers)


def _receive(stream: BinaryIO, inbox: queue.Queue) -> None:
    try:
        while (message := read_message(stream)) is not None:
            inbox.put(message)
    except (ValueError, EOFError, OSError):
        pass
    # The parent is gone or has hung up: stop even in the middle of a computation.
    os._exit(0)


def _serve(inbox: queue.Queue, answers: BinaryIO) -> None:
    executor = None
    while True:
        content, arrays = inbox.get()
        try:
            if content["type"] == "open":
                # Imported late, so that a missing package is told like any other error.
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
        except ModuleNotFoundError as error:
            message = f"{sys.executable} lacks {error.name}: install it with {INSTALL}."
            write_message(answers, {"type": "error", "message": message})
        except Exception as error:  # the parent must learn of anything, in one sentence
            traceback.print_exc(file=sys.stderr)
            message = f"The computation failed ({type(error).__name__}: {error}): see the log."
            write_message(answers, {"type": "error", "message": message})


if __name__ == "__main__":
    main()
