"""Worker processes that wait for another job, so that starting Python and loading torch is paid once."""

from __future__ import annotations

import atexit
import os
import threading
from dataclasses import dataclass

from .interpreter import clean_environment
from .worker_process import WorkerProcess

IDLE_SECONDS = 300.0
"""How long a worker waits before its memory goes back to the system."""


@dataclass(frozen=True)
class WorkerUse:
    """What a worker has loaded.

    Attributes:
        python: its interpreter.
        device, model: as the plan of its last job named them.
    """

    python: str
    device: str
    model: str


@dataclass(eq=False)
class _Idle:
    """A worker that waits, and the timer that ends it."""

    worker: WorkerProcess
    use: WorkerUse
    timer: threading.Timer


class WarmWorkers:
    """The idle workers of this process; thread-safe.  A worker is either here or with one job, never with two.

    Attributes:
        term: grows with every ``release``; what a job began in an earlier term is not kept.
    """

    def __init__(self) -> None:
        self.term = 0
        self._idle: list[_Idle] = []
        self._lock = threading.Lock()

    def take(self, use: WorkerUse) -> WorkerProcess | None:
        """A worker with the same interpreter and environment, or None.

        The one that has the same model on the same device is preferred, then the same device.
        """
        environment = clean_environment()
        with self._lock:
            fitting = [
                idle
                for idle in self._idle
                if idle.use.python == use.python and idle.worker.environment == environment
            ]
            if not fitting:
                return None
            best = max(fitting, key=lambda idle: (idle.use.device == use.device, idle.use == use))
            self._idle.remove(best)
        best.timer.cancel()
        return best.worker

    def keep(self, worker: WorkerProcess, use: WorkerUse, term: int) -> None:
        """Keep a worker for ``IDLE_SECONDS``.

        Args:
            worker: sound, and done with all that it was asked.
            use: what it has loaded.
            term: ``self.term`` when its job began.
        """
        # What it said in one job explains nothing in the next.
        worker.log.clear()
        with self._lock:
            current = term == self.term
            if current:
                idle = _Idle(worker, use, threading.Timer(IDLE_SECONDS, lambda: self._expire(idle)))
                # The interpreter does not wait for it at exit.
                idle.timer.daemon = True
                idle.timer.start()
                self._idle.append(idle)
        if not current:
            worker.close()

    def release(self) -> None:
        """End the idle workers, and have those that are at work now end with their jobs."""
        with self._lock:
            self.term += 1
            idle, self._idle = self._idle, []
        for one in idle:
            one.timer.cancel()
            one.worker.close()

    def forget(self) -> None:
        """Leave the workers to the process that this one was forked from."""
        self._lock = threading.Lock()
        self._idle = []

    def _expire(self, idle: _Idle) -> None:
        with self._lock:
            # A job may have taken it while the timer went off.
            if idle not in self._idle:
                return
            self._idle.remove(idle)
        idle.worker.close()


WARM_WORKERS = WarmWorkers()
atexit.register(WARM_WORKERS.release)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=WARM_WORKERS.forget)
