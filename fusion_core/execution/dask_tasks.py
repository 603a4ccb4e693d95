"""What runs on the workers of a Dask cluster: they import this module by its name."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import __version__
from ..errors import FusionError
from ..weights import read_model
from .allocator import keep_freed_memory
from .executor import SamplingPlan, TileBatch

if TYPE_CHECKING:
    from distributed import Worker

    from .local import LocalExecutor

MOST_EXECUTORS = 8
"""Networks that a worker keeps loaded: those of the scenes that it computes by turns."""
TASK_CHUNKS = 8
"""Chunks of a task on the CPU at most: many, since each task costs the scheduler time; few, since a worker that dies
takes them with it."""

_executors: OrderedDict = OrderedDict()
_loading = threading.Lock()


@dataclass(frozen=True)
class WorkerReport:
    """What decides the pixels that a worker computes, and how much it computes at once.

    Attributes:
        version, torch: of this software and of PyTorch, without what PyTorch was built for.
        device: "cpu", "cuda" or "mps".
        precision: numbers it computes with.
        chunk: tiles that are computed together.
        most: tiles of one task at most.
    """

    version: str
    torch: str
    device: str
    precision: str
    chunk: int
    most: int


def report(device: str, precision: str, method: str) -> WorkerReport:
    """How this worker would compute.

    Args:
        device, precision: as the user named them.
        method: "ddrf" or "ssdiff".

    Raises:
        FusionError: they do not exist here.
        ModuleNotFoundError: PyTorch is not installed here.
    """
    # Before torch takes memory, and asked of each worker before it computes.
    keep_freed_memory()
    import torch

    from .device import CHUNK, GPU_BATCH, resolve_device, resolve_precision

    found = resolve_device(device)
    on_cpu = found.type == "cpu"
    return WorkerReport(
        version=__version__,
        torch=torch.__version__.partition("+")[0],
        device=found.type,
        precision=str(resolve_precision(precision, found, method)).removeprefix("torch."),
        chunk=CHUNK if on_cpu else 1,
        most=TASK_CHUNKS * CHUNK if on_cpu else GPU_BATCH,
    )


def fuse_tiles(
    arrays: dict[str, np.ndarray],
    weights: bytes,
    digest: str,
    plan: SamplingPlan,
    expected: WorkerReport,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Fuse some tiles.

    Args:
        arrays: a ``TileBatch`` by field.
        weights: bytes of the model file.
        digest: their SHA-256.
        plan: what to compute; its model is a path of the client and not looked at.
        expected: how the other workers compute.

    Returns:
        Residual and spread, as in ``FusedTiles``.

    Raises:
        FusionError: this worker would compute other pixels than the others, or memory ran out tile by tile.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def stop_if_unwanted(count: int) -> None:
        # A thread cannot be stopped from outside; the scheduler takes a cancelled task off this list.
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            raise RuntimeError("nobody wants these tiles any more")

    executor = _executor(weights, digest, plan, expected, worker)
    batch = TileBatch(**{name: np.require(a, requirements="W") for name, a in arrays.items()})
    tiles = executor.run(batch, stop_if_unwanted)
    return tiles.residual, tiles.spread


def _executor(
    weights: bytes, digest: str, plan: SamplingPlan, expected: WorkerReport, worker: Worker
) -> LocalExecutor:
    """The network of a job, loaded once by each process."""
    from .local import LocalExecutor

    here = replace(plan, model=digest, threads=worker.state.nthreads)
    # As text, since what came through JSON holds lists, which are no keys.
    key = str(here)
    with _loading:
        if key in _executors:
            _executors.move_to_end(key)
            return _executors[key]
        path = Path(worker.local_directory) / f"{digest}.safetensors"
        if not path.exists():
            partial = path.with_suffix(f".{os.getpid()}")
            partial.write_bytes(weights)
            partial.replace(path)
        found = report(plan.device, plan.precision, read_model(path).card.method)
        if found != expected:
            raise FusionError(
                f"The worker {worker.address} computes differently than the others ({difference(found, expected)}): "
                "have all workers run the same versions on the same kind of device."
            )
        _executors[key] = LocalExecutor(replace(here, model=str(path)))
        # Dropped and not closed: another thread may still compute with it.
        while len(_executors) > MOST_EXECUTORS:
            _executors.popitem(last=False)
        return _executors[key]


def difference(one: WorkerReport, other: WorkerReport) -> str:
    """In what two reports differ, such as "torch 2.13.0 and 2.8.0"."""
    pairs = zip(vars(one).items(), vars(other).values())
    return ", ".join(f"{name} {a} and {b}" for (name, a), b in pairs if a != b)
