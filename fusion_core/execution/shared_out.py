"""Tiles shared out among several workers, one for each device."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace

from ..errors import FusionError
from .device_list import device_names
from .executor import Executor, ExecutorInfo, FusedTiles, OnCall, SamplingPlan, TileBatch
from .worker_executor import POLL_SECONDS, WorkerExecutor
from .worker_process import WorkerDied


class SharedOutExecutor:
    """Hands each batch to the executor that is least busy; see ``Executor``.

    A batch whose worker dies is computed again by another one, as long as there is one.

    Args:
        members: they compute the same pixels, and are closed with this one.

    Raises:
        FusionError: they would compute different pixels.
    """

    def __init__(self, members: Sequence[Executor]) -> None:
        self.members = list(members)
        self._busy = dict.fromkeys(range(len(self.members)), 0)
        self._changed = threading.Condition()
        infos = [member.info for member in self.members]
        _check_alike(infos)
        self.info = ExecutorInfo(
            device=", ".join(info.device for info in infos),
            precision=infos[0].precision,
            torch_version=infos[0].torch_version,
            batch_size=min(info.batch_size for info in infos),
            in_flight=sum(info.in_flight for info in infos),
            advice=infos[0].advice,
        )

    def run(self, batch: TileBatch, on_call: OnCall) -> FusedTiles:
        """See ``Executor.run``."""
        told = 0
        while True:
            index, repeated = self._take(), told
            done = 0

            def count(tiles: int) -> None:
                nonlocal done, told
                done += tiles
                # What a dead worker had told of this batch is not told again.
                new = min(tiles, done - repeated)  # noqa: B023 # called before the next round
                if new > 0:
                    told += new
                    on_call(new)

            try:
                return self.members[index].run(batch, count)
            except WorkerDied:
                with self._changed:
                    self._busy.pop(index, None)
                    self._changed.notify_all()
                    if not self._busy:
                        raise
            finally:
                with self._changed:
                    if index in self._busy:
                        self._busy[index] -= 1
                    self._changed.notify_all()

    def close(self) -> None:
        """Close the members."""
        with self._changed:
            # What one of them was computing is not for the others.
            self._busy.clear()
            self._changed.notify_all()
        for member in self.members:
            member.close()

    def _take(self) -> int:
        """The least busy member that may take another batch; waits for one."""
        with self._changed:
            while True:
                if not self._busy:
                    raise WorkerDied(
                        "All computing processes ended unexpectedly: try fewer devices."
                    )
                index = min(self._busy, key=self._busy.__getitem__)
                if self._busy[index] < self.members[index].info.in_flight:
                    self._busy[index] += 1
                    return index
                self._changed.wait()


def start_workers(
    plan: SamplingPlan,
    python: str,
    cancelled: Callable[[], bool] | None = None,
    cluster: str | None = None,
) -> Executor:
    """One worker for each device that the plan's device means.

    Args:
        plan: what to compute; "auto" and "cuda" mean all GPUs of the first one's kind.
        python, cancelled, cluster: as for ``WorkerExecutor``.

    Raises:
        FusionError: as ``WorkerExecutor``, or the devices would compute different pixels.
        Cancelled: ``cancelled`` said so.
    """
    names = device_names(plan.device)
    started: list[WorkerExecutor] = []

    def start(name: str, sharers: int = 1) -> WorkerExecutor:
        worker = WorkerExecutor(replace(plan, device=name), python, cancelled, cluster, sharers)
        started.append(worker)
        return worker

    try:
        if len(names) > 1:
            return SharedOutExecutor(_at_a_time(start, names, len(names), cancelled))
        # Only the child's torch knows what there is.
        first = start(names[0])
        others = first.devices[1:]
        return (
            SharedOutExecutor([first, *_at_a_time(start, others, 1, cancelled)])
            if others
            else first
        )
    except BaseException:
        for worker in started:
            worker.close()
        raise


def _at_a_time(
    start: Callable[[str, int], WorkerExecutor],
    names: Sequence[str],
    sharers: int,
    cancelled: Callable[[], bool] | None,
) -> list[WorkerExecutor]:
    """Start workers side by side: each takes seconds."""
    with ThreadPoolExecutor(len(names)) as starters:
        starting = [starters.submit(start, name, sharers) for name in names]
        while wait(starting, POLL_SECONDS).not_done:
            # A job asks its caller in this thread alone; those that start hear of it here.
            if cancelled is not None:
                cancelled()
    return [future.result() for future in starting]


def _check_alike(infos: Sequence[ExecutorInfo]) -> None:
    """Refuse members whose pixels would differ."""
    first = infos[0]
    for info in infos[1:]:
        if _kind(info) != _kind(first):
            raise FusionError(
                f"{info.device} ({info.precision}) and {first.device} ({first.precision}) would compute different "
                "pixels: use several devices of one kind."
            )


def _kind(info: ExecutorInfo) -> tuple[str, str]:
    """What decides the pixels: the device without its number, and the precision."""
    return re.sub(r":\d+", "", info.device, count=1), info.precision
