"""Threads that work on one job: they wait for each other, and end together."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from ..errors import Cancelled

Item = TypeVar("Item")

POLL_SECONDS = 0.05
"""How often the caller of a job is asked whether it is to stop."""


class StopSignal:
    """Whether a job is to stop: its caller said so, or a part of it failed.

    Any thread may call it; only the one that made it asks the caller.

    Args:
        asked: the caller's answer.
    """

    def __init__(self, asked: Callable[[], bool] | None = None) -> None:
        self._asked = asked or (lambda: False)
        self._owner = threading.get_ident()
        self._set = False

    def set(self) -> None:
        """Stop."""
        self._set = True

    def __call__(self) -> bool:
        if not self._set and threading.get_ident() == self._owner and self._asked():
            self._set = True
        return self._set


class Ended(Exception):
    """Thrown in a stage that waits while the job ends."""


class Stages:
    """The threads of a job.  The first error of any of them ends all.

    Args:
        stop: set on the first error, for what waits elsewhere.

    Attributes:
        changed: to be held, and all notified, wherever something changes that a stage may wait for.
    """

    def __init__(self, stop: StopSignal) -> None:
        self.stop = stop
        self.changed = threading.Condition()
        self._error: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self._working = 0

    def start(self, name: str, work: Callable[[], None]) -> None:
        """Start a thread that ends with ``work``."""
        thread = threading.Thread(target=self._work, args=(work,), name=name, daemon=True)
        with self.changed:
            self._working += 1
        self._threads.append(thread)
        thread.start()

    def wait_for(self, ready: Callable[[], bool]) -> None:
        """Wait in a stage, with ``changed`` held, until something is so.

        Raises:
            Ended: the job ends before.
        """
        while self._error is None and not ready():
            self.changed.wait()
        if self._error is not None:
            raise Ended

    def end(self, error: BaseException) -> None:
        """End all stages because of an error; the first one counts."""
        with self.changed:
            if self._error is None:
                self._error = error
            self.stop.set()
            self.changed.notify_all()

    def finish(
        self, meanwhile: Callable[[], None], begin: Callable[[], None] = lambda: None
    ) -> None:
        """Wait in the caller's thread until all stages are done; none is left when this returns.

        Args:
            meanwhile: called in this thread again and again; it may raise to end the job.
            begin: starts stages; Ctrl+C may come while some of them run already.

        Raises:
            Cancelled: the stop signal's caller said so.
            BaseException: the first error of a stage, of ``begin`` or of ``meanwhile``.
        """
        try:
            begin()
            while self._working and self._error is None:
                meanwhile()
                if self.stop():
                    raise Cancelled
                with self.changed:
                    if self._working and self._error is None:
                        self.changed.wait(POLL_SECONDS)
            if self._error is None:
                meanwhile()
        except BaseException as error:
            self.end(error)
        self._join()
        if self._error is not None:
            raise self._error

    def _work(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Ended:
            pass
        except BaseException as error:
            self.end(error)
        finally:
            with self.changed:
                self._working -= 1
                self.changed.notify_all()

    def _join(self) -> None:
        for thread in self._threads:
            while thread.is_alive():
                try:
                    thread.join()
                except KeyboardInterrupt:
                    # All of them are ending already.
                    continue


class Channel(Generic[Item]):
    """Hands things from one stage to another, in order.

    Args:
        stages: the job.
        most: how many may wait in it.
    """

    def __init__(self, stages: Stages, most: int) -> None:
        self._stages, self._most = stages, most
        self._items: deque[Item] = deque()
        self._closed = False

    def put(self, item: Item) -> None:
        """Hand something over; waits where the channel is full.

        Raises:
            Ended: the job ends.
        """
        with self._stages.changed:
            self._stages.wait_for(lambda: len(self._items) < self._most)
            self._items.append(item)
            self._stages.changed.notify_all()

    def close(self) -> None:
        """Nothing more will come."""
        with self._stages.changed:
            self._closed = True
            self._stages.changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        """What was handed over, until the channel is closed; waits for it.

        Raises:
            Ended: the job ends.
        """
        while True:
            with self._stages.changed:
                self._stages.wait_for(lambda: self._items or self._closed)
                if not self._items:
                    return
                item = self._items.popleft()
                self._stages.changed.notify_all()
            yield item
