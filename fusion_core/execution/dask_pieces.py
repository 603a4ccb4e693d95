"""Batches on their way to a Dask cluster, in pieces: how large they are, and how they travel."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..weights import ModelCard
from .dask_tasks import WorkerReport, fuse_tiles
from .executor import TileBatch

if TYPE_CHECKING:
    from distributed import Client, Future

IN_FLIGHT = 3
"""Batches at a time: of each thread's pieces one is computed, one waits its turn, and one travels."""
IN_FLIGHT_BYTES = 256 * 2**20
"""What the tiles and results of all batches in flight may take."""


def batch_size(card: ModelCard, samples: int, report: WorkerReport, threads: int) -> int:
    """Tiles of a batch: a whole task for each thread where ``IN_FLIGHT_BYTES`` allows it, one chunk at least.

    Args:
        card: of the model.
        samples: drawn for each tile.
        report: tiles that are computed together, and the most of a task.
        threads: of the whole cluster.
    """
    planes = card.guide_bands + card.ms_bands * (2 + (samples > 1) + 1 / card.ratio**2)
    most = int(IN_FLIGHT_BYTES / (IN_FLIGHT * 4 * card.tile**2 * planes))
    tiles = min(threads * report.most, most)
    return max(report.chunk, tiles // report.chunk * report.chunk)


def cut(count: int, report: WorkerReport, threads: int) -> list[slice]:
    """Tiles of each piece of a batch: a piece for each thread, or more where these would be too large.

    Args:
        count: tiles of the batch.
        report: tiles that are computed together, and the most of a task.
        threads: of the whole cluster.
    """
    together = -(-count // (threads * report.chunk)) * report.chunk
    size = min(together, report.most)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


class Pieces:
    """The pieces of a batch on a cluster, each with the task that computes it.

    Args:
        client: of the scheduler.
        direct: the workers can be reached from here: the pieces travel straight to them, and the scheduler only hears
            of them.  Otherwise they travel inside their tasks, and the scheduler keeps them until they are computed.
        batch: the tiles, kept for pieces that must be sent again.
        slices: tiles of each piece.
        name: of the batch, unique on the cluster.
        common: further arguments of ``fuse_tiles``, the same for all.
    """

    def __init__(
        self,
        client: Client,
        direct: bool,
        batch: TileBatch,
        slices: Sequence[slice],
        name: str,
        **common: object,
    ) -> None:
        self._client, self._direct, self._batch, self._slices = client, direct, batch, slices
        self._name, self._common = name, common
        self._inputs: dict[int, Future] = {}
        self._resent = itertools.count(1)
        self._abandoned = threading.Event()

    def send(self) -> dict[Future, int]:
        """Send all pieces; the number of each by its task."""
        numbers = range(len(self._slices))
        tiles: list = [self._tiles(number) for number in numbers]
        if self._direct:
            try:
                tiles = self._scatter(tiles)
            except OSError:
                # A worker died just now: the scheduler knows who lives.
                self._inputs.clear()
        if self._abandoned.is_set():
            # Given up while they travelled: what arrived since is for nobody.
            self._inputs.clear()
            return {}
        names = [f"tiles-{self._place(number)}" for number in numbers]
        return dict(zip(self._submit(tiles, names), numbers))

    def send_again(self, number: int) -> Future:
        """Send a piece that was lost inside its task, which survives however many workers die."""
        self._inputs.pop(number, None)
        name = f"tiles-{self._place(number)}-again-{next(self._resent)}"
        return self._submit([self._tiles(number)], [name])[0]

    def arrived(self, number: int) -> None:
        """The result is here: the cluster need not hold the tiles any more."""
        sent = self._inputs.pop(number, None)
        if sent is not None:
            sent.release()

    def abandon(self) -> None:
        """Send nothing more, and leave no tiles on the cluster."""
        self._abandoned.set()
        self._inputs.clear()

    def _scatter(self, tiles: list[dict[str, np.ndarray]]) -> list[Future]:
        names = [f"input-{self._place(number)}" for number in range(len(tiles))]
        sent = self._client.scatter(dict(zip(names, tiles)), direct=True)
        self._inputs = {number: sent[name] for number, name in enumerate(names)}
        return [sent[name] for name in names]

    def _submit(self, tiles: list, names: list[str]) -> list[Future]:
        return self._client.map(fuse_tiles, tiles, key=names, **self._common)

    def _tiles(self, number: int) -> dict[str, np.ndarray]:
        return {name: array[self._slices[number]] for name, array in vars(self._batch).items()}

    def _place(self, number: int) -> str:
        """Batch, row and column of the first tile."""
        row, col = self._batch.origins[self._slices[number].start]
        return f"{self._name}-{row}-{col}"
