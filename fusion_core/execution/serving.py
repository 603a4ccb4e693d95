"""What scripts that run as a child process share: their streams, and errors in one sentence."""

from __future__ import annotations

import os
import queue
import sys
import threading
import traceback
from typing import BinaryIO

from ..errors import FusionError
from .interpreter import INSTALL
from .protocol import read_message


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
