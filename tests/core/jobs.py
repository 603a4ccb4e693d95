"""Small jobs for executors, and what tests ask of those that compute them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fusion_core.execution.executor import SamplingPlan, TileBatch
from tests.core.networks import tiles, write_model


def make_plan(tmp_path: Path, **changes: object) -> SamplingPlan:
    """Two steps of a narrow SSDiff of four bands, on one thread of the CPU."""
    given = {
        "model": write_model(tmp_path / "tiny.safetensors"),
        "steps": 2,
        "solver": "ddim",
        "grid": "uniform",
        "seed": 3,
        "samples": 1,
        "value_range": ((0.0, 1.0),) * 4,
        "device": "cpu",
        "precision": "auto",
        "threads": 1,
    }
    return SamplingPlan(**{**given, **changes})


def make_batch(count: int, size: int = 32) -> TileBatch:
    """Random tiles, each at a place of its own."""
    guide, ms, lms = (t.numpy() for t in tiles(4, size, size, batch=count))
    origins = np.array([[100 * i, -7 * i] for i in range(count)], dtype=np.int64)
    return TileBatch(guide, ms, lms, origins)


def part_of(batch: TileBatch, part: slice) -> TileBatch:
    """Some of the tiles."""
    return TileBatch(*(array[part] for array in vars(batch).values()))


def nothing(count: int) -> None:
    """A callback that does not care."""


def alive(pid: int) -> bool:
    """Whether there is such a process, be it one that nobody waited for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
