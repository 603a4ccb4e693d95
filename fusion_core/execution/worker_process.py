"""A child process with its own interpreter and environment that answers messages."""

from __future__ import annotations

import os
import queue
import subprocess  # nosec B404 # the child is an interpreter the user chose
import sys
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import FusionError
from .interpreter import INSTALLED, clean_environment
from .protocol import read_message, write_message

GRACE_SECONDS = 2.0
LOG_LINES = 50


class WorkerDied(FusionError):
    """The child is gone; the sentence says what is known of why."""


class WorkerProcess:
    """Starts a script of this folder and exchanges messages with it; several threads may do so at a time.

    Answers that carry a "number" wait for whoever asks for that number, the others for who asks for none.

    Args:
        script: its file name.
        python: interpreter with torch, as ``interpreter.find_interpreter`` gives it.
        smaller: what the user should make smaller if memory runs out, such as "choose a smaller extent".

    Attributes:
        process: the child.
        environment: the variables it was started with.

    Raises:
        FusionError: the interpreter does not start.
    """

    def __init__(self, script: str, python: str, smaller: str) -> None:
        self.python, self.smaller = python, smaller
        self.environment = clean_environment()
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self._answers: dict[int | None, queue.Queue] = {}
        self._ended = False
        self._sorting, self._sending = threading.Lock(), threading.Lock()
        flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
        try:
            # -I would hide the user's site-packages, where torch may live.
            self.process = subprocess.Popen(  # nosec B603 # no shell, and both paths are ours or the user's choice
                [python, str(Path(__file__).with_name(script))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self.environment,
                creationflags=flags,
            )
        except OSError as error:
            raise FusionError(
                f"The Python interpreter {python} cannot be started ({error.strerror}): choose another in the settings."
            ) from error
        for target in (self._receive, self._collect_log):
            threading.Thread(target=target, daemon=True).start()

    def send(
        self, content: Mapping[str, object], arrays: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Send one message.

        Raises:
            WorkerDied: the child is gone.
        """
        try:
            with self._sending:
                write_message(self.process.stdin, content, arrays)
        except (OSError, ValueError) as error:
            raise self._death() from error

    def receive(
        self, seconds: float, number: int | None = None
    ) -> tuple[dict, dict[str, np.ndarray]] | None:
        """The next message; None if there is none within ``seconds``.

        Args:
            seconds: how long to wait.
            number: of the message that is answered.

        Raises:
            WorkerDied: the child is gone.
            FusionError: the child sent an error; the sentence says why.
        """
        answers = self._queue(number)
        try:
            message = answers.get(timeout=seconds)
        except queue.Empty:
            return None
        if message is None:
            # Whoever asks again is told the same.
            answers.put(None)
            raise self._death()
        if message[0]["type"] == "error":
            raise FusionError(message[0]["message"])
        return message

    def forget(self, number: int) -> None:
        """Nobody waits for answers to this number any more."""
        with self._sorting:
            self._answers.pop(number, None)

    def close(self) -> None:
        """End the child by force: it holds nothing that would have to be put in order."""
        if self.process.poll() is None:
            self.process.kill()
        try:
            self.process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.log.append("the worker did not end")
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            try:
                stream.close()
            except OSError:
                continue

    def _receive(self) -> None:
        try:
            while (message := read_message(self.process.stdout)) is not None:
                self._queue(message[0].get("number")).put(message)
        except (ValueError, EOFError, OSError):
            pass
        with self._sorting:
            self._ended = True
            for answers in self._answers.values():
                answers.put(None)
        # Otherwise a worker that dies while nobody uses it stays in the system's table.
        self.process.wait()

    def _queue(self, number: int | None) -> queue.Queue:
        """Where answers to a number wait."""
        with self._sorting:
            if number not in self._answers:
                self._answers[number] = queue.Queue()
                if self._ended:
                    self._answers[number].put(None)
            return self._answers[number]

    def _collect_log(self) -> None:
        try:
            for line in self.process.stderr:
                self.log.append(line.decode(errors="replace").rstrip())
        except (ValueError, OSError):
            return

    def _death(self) -> WorkerDied:
        """What to tell when the child is gone without an answer."""
        try:
            code = self.process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        if code is not None and code < 0 and -code == 9 and sys.platform != "win32":
            return WorkerDied(
                "The computing process was killed, most likely because memory ran out: "
                f"close other programs or {self.smaller}."
            )
        last = self.log[-1] if self.log else "it left no message"
        if "No module named" in last:
            return WorkerDied(
                f"The Python interpreter {self.python} lacks a package ({last.split(': ')[-1]}): "
                f"install it with {os.path.basename(self.python)} -m pip install {INSTALLED}, "
                "or choose another interpreter in the settings."
            )
        return WorkerDied(
            f"The computing process ended unexpectedly ({last}): try again on the CPU."
        )
