"""What scripts that run as a child process share: their streams, and errors in one sentence."""

from __future__ import annotations

import os
import queue
import sys
import threading
import traceback
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np

from ..errors import FusionError
from .interpreter import INSTALL
from .protocol import read_message, write_message


def open_streams() -> tuple[queue.Queue, BinaryIO]:
    """Take over standard input and output for messages.

    Returns:
        The messages as they come, and where to write answers.  This process ends when its input does, so that it never
        outlives its parent.
    """
    # Whatever libraries print must not land between messages.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    inbox: queue.Queue = queue.Queue()
    threading.Thread(target=_receive, args=(sys.stdin.buffer, inbox), daemon=True).start()
    return inbox, answers


class Outbox:
    """Writes answers in the order in which threads put them, so that none of them waits for the pipe.

    Args:
        stream: where to write; as ``open_streams`` gives it.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._waiting: queue.Queue = queue.Queue()
        threading.Thread(target=self._write, daemon=True).start()

    def put(
        self, content: Mapping[str, object], arrays: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Have a message written; its arrays are not to be changed any more."""
        self._waiting.put((content, arrays))

    def _write(self) -> None:
        while True:
            write_message(self._stream, *self._waiting.get())


def error_message(error: Exception) -> dict[str, str]:
    """The message that tells the parent of an error; one that nobody foresaw also goes to the log."""
    if isinstance(error, FusionError):
        sentence = str(error)
    elif isinstance(error, ModuleNotFoundError):
        sentence = f"{sys.executable} lacks {error.name}: install it with {INSTALL}."
    else:
        traceback.print_exception(type(error), error, error.__traceback__, file=sys.stderr)
        sentence = f"The computation failed ({type(error).__name__}: {error}): see the log."
    return {"type": "error", "message": sentence}


def _receive(stream: BinaryIO, inbox: queue.Queue) -> None:
    try:
        while (message := read_message(stream)) is not None:
            inbox.put(message)
    except (ValueError, EOFError, OSError):
        pass
    # The parent is gone or has hung up: stop even in the middle of a computation.
    os._exit(0)
