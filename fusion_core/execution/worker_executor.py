"""Tiles computed by torch in a child process with its own interpreter and environment."""

from __future__ import annotations

import os
import queue
import subprocess  # nosec B404 # the child is an interpreter the user chose
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..errors import Cancelled, FusionError
from .executor import ExecutorInfo, FusedTiles, OnCall, SamplingPlan, TileBatch
from .interpreter import clean_environment
from .protocol import read_message, write_message

POLL_SECONDS = 0.1
GRACE_SECONDS = 2.0
LOG_LINES = 50


class WorkerExecutor:
    """Starts the child, hands it batches, and kills it on cancel; see ``Executor``.

    Args:
        plan: what to compute.
        python: interpreter with torch, as ``interpreter.find_interpreter`` gives it.
        cancelled: asked ten times a second while the child computes.

    Raises:
        FusionError: the child does not start, or refuses the plan.
        Cancelled: ``cancelled`` said so; the child is gone by then.
    """

    def __init__(
        self, plan: SamplingPlan, python: str, cancelled: Callable[[], bool] | None = None
    ) -> None:
        self.cancelled = cancelled or (lambda: False)
        self.python = python
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self.answers: queue.Queue = queue.Queue()
        flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
        try:
            # -I would hide the user's site-packages, where torch may live.
            self.process = subprocess.Popen(  # nosec B603 # no shell, and both paths are ours or the user's choice
                [python, str(Path(__file__).with_name("worker.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=clean_environment(),
                creationflags=flags,
            )
        except OSError as error:
            raise FusionError(
                f"The Python interpreter {python} cannot be started ({error.strerror}): choose another in the settings."
            ) from error
        for target in (self._receive, self._collect_log):
            threading.Thread(target=target, daemon=True).start()
        try:
            self._send({"type": "open", "plan": asdict(plan)})
            content, _ = self._answer("ready", lambda count: None)
            self.info = ExecutorInfo(**content["info"])
        except BaseException:
            self.close()
            raise

    def run(self, batch: TileBatch, on_call: OnCall) -> FusedTiles:
        """See ``Executor.run``."""
        try:
            self._send({"type": "run"}, vars(batch))
            _, arrays = self._answer("result", on_call)
        except BaseException:
            self.close()
            raise
        return FusedTiles(arrays["residual"], arrays.get("spread"))

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

    def _send(self, content: dict, arrays: dict[str, np.ndarray] | None = None) -> None:
        try:
            write_message(self.process.stdin, content, arrays)
        except (OSError, ValueError) as error:
            raise self._death() from error

    def _answer(self, wanted: str, on_call: OnCall) -> tuple[dict, dict[str, np.ndarray]]:
        while True:
            if self.cancelled():
                raise Cancelled
            try:
                message = self.answers.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if message is None:
                raise self._death()
            content, arrays = message
            if content["type"] == "call":
                on_call(content["tiles"])
            elif content["type"] == "error":
                raise FusionError(content["message"])
            elif content["type"] == wanted:
                return content, arrays

    def _receive(self) -> None:
        try:
            while (message := read_message(self.process.stdout)) is not None:
                self.answers.put(message)
        except (ValueError, EOFError, OSError):
            pass
        self.answers.put(None)

    def _collect_log(self) -> None:
        try:
            for line in self.process.stderr:
                self.log.append(line.decode(errors="replace").rstrip())
        except (ValueError, OSError):
            return

    def _death(self) -> FusionError:
        """What to tell when the child is gone without an answer."""
        try:
            code = self.process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        if code is not None and code < 0 and -code == 9 and sys.platform != "win32":
            return FusionError(
                "The computing process was killed, most likely because memory ran out: "
                "close other programs or choose a smaller extent."
            )
        last = self.log[-1] if self.log else "it left no message"
        if "No module named" in last:
            return FusionError(
                f"The Python interpreter {self.python} lacks a package ({last.split(': ')[-1]}): "
                f"install it with {os.path.basename(self.python)} -m pip install torch safetensors pywavelets, "
                "or choose another interpreter in the settings."
            )
        return FusionError(
            f"The computing process ended unexpectedly ({last}): try again on the CPU."
        )
