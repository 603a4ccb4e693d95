"""Memory that a batch of SSDiff's tiles takes at its peak, in a process that does nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.eight_bands import BANDS, published_network, sampling_plan, shipped_model
from benchmarks.measuring import free_memory, memory_of_process, random_tiles
from benchmarks.timed_calls import SSDIFF_TIME, TILE, fast_call, fast_form, with_threads
from fusion_core.execution.executor import TileBatch
from fusion_core.execution.local import LocalExecutor
from fusion_core.weights import load_network

WAYS = ("baseline", "executor", "at once")
"""The published way; our executor, two tiles at a time on each thread; our fast form on all tiles together."""
BASELINE_TILE = 280 * 2**20
"""Bytes of a tile the published way, to see beforehand what fits."""


def affordable_tiles(wanted: int) -> int:
    """Tiles, ``wanted`` or less by powers of two, that leave other programs some memory in the published way."""
    while wanted > 4 and wanted * BASELINE_TILE > 0.7 * free_memory():
        wanted //= 2
    return wanted


def peak_memory(way: str, tiles: int, threads: int) -> int:
    """Bytes at the peak beyond what the process held before the batch was computed, once.

    Args:
        way: one of ``WAYS``.
        tiles: of the batch, 64 x 64 pixels of eight bands.
        threads: CPU threads.
    """
    compute = _batch(way, tiles, threads)
    # Linux forgets the peak so far.
    Path("/proc/self/clear_refs").write_text("5")
    before = memory_of_process("VmRSS")
    compute()
    return memory_of_process("VmHWM") - before


def _batch(way: str, tiles: int, threads: int) -> Callable[[], object]:
    model = shipped_model("ssdiff")
    given = random_tiles(tiles, TILE, BANDS)
    guide, ms, lms, x_t = given
    if way == "baseline":
        network, t = published_network(model), torch.full((tiles,), SSDIFF_TIME)
        return with_threads(threads, lambda: network(x_t, t, guide, ms, lms))
    if way == "at once":
        form = fast_form(load_network(model), torch.float32)
        return with_threads(threads, fast_call(form, given, prepared=False))
    executor = LocalExecutor(sampling_plan(model, threads=threads))
    batch = TileBatch(guide.numpy(), ms.numpy(), lms.numpy(), np.zeros((tiles, 2), np.int64))
    return lambda: executor.run(batch, lambda count: None)
