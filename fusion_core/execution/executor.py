"""The contract between the fusion job and whatever computes tiles: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

OnCall = Callable[[int], None]
"""Told after every network call how many tiles took part; it may raise to stop."""


@dataclass(frozen=True)
class SamplingPlan:
    """How every tile of a job is sampled: plain data that travels to wherever tiles are computed.

    Attributes:
        model: path of the model file.
        steps, solver, grid: see ``diffusion.samplers.sample``.
        seed: of the noise field; sample i uses its own field.
        samples: how many residuals are drawn and averaged.
        value_range: least and greatest value of each band at scene scale, (C, 2) as nested lists.
        device, precision: as the user named them.
        threads: CPU threads, None for the default.
    """

    model: str
    steps: int
    solver: str
    grid: str
    seed: int
    samples: int
    value_range: tuple[tuple[float, float], ...]
    device: str
    precision: str
    threads: int | None = None


@dataclass
class TileBatch:
    """Tiles of one size at scene scale, float32.

    Attributes:
        guide: (B, P, H, W).
        ms: (B, C, H/ratio, W/ratio).
        lms: (B, C, H, W).
        origins: absolute PAN row and column of each tile's first pixel, int64 (B, 2).
    """

    guide: np.ndarray
    ms: np.ndarray
    lms: np.ndarray
    origins: np.ndarray


@dataclass
class FusedTiles:
    """What comes back.

    Attributes:
        residual: HR minus LMS at scene scale, mean of the samples, float32 (B, C, H, W).
        spread: standard deviation of the samples, same shape, or None for a single sample.
    """

    residual: np.ndarray
    spread: np.ndarray | None


@dataclass(frozen=True)
class ExecutorInfo:
    """Where tiles are computed.

    Attributes:
        device, precision: as resolved.
        torch_version: of PyTorch.
        batch_size: tiles of a batch by default.
        in_flight: how many batches keep the executor busy; ``run`` may be called by that many threads at a time.
        advice: what the user could do to make it faster, one sentence, if anything.
    """

    device: str
    precision: str
    torch_version: str
    batch_size: int
    in_flight: int = 1
    advice: str | None = None


class Executor(Protocol):
    """Computes tiles."""

    info: ExecutorInfo

    def run(self, batch: TileBatch, on_call: OnCall) -> FusedTiles:
        """Fuse one batch.

        Raises:
            FusionError: out of memory even tile by tile, or the computation died.
        """

    def close(self) -> None:
        """Free whatever the executor holds; safe to call twice."""
