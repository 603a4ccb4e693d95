"""The cosine noise schedule and the timesteps a sampler visits on it."""

from __future__ import annotations

import math
from functools import lru_cache

import torch

from ..solvers import GRIDS

OFFSET = 0.008
LARGEST_BETA = 0.999
FIRST_LOG_SNR = -1.0


class Schedule:
    """Signal and noise levels of ``x_t = alpha x_0 + sigma noise`` for t = 0 .. T-1.

    The cosine schedule of Nichol and Dhariwal (2021), eq. 17.

    Args:
        train_steps: T, at least 1.

    Attributes:
        alpha, sigma: float64 tensors (T,), alpha² + sigma² = 1.
    """

    def __init__(self, train_steps: int) -> None:
        if train_steps < 1:
            raise ValueError("A schedule needs one step or more.")
        self.train_steps = train_steps
        time = torch.arange(train_steps + 1, dtype=torch.float64) / train_steps
        curve = torch.cos((time + OFFSET) / (1 + OFFSET) * math.pi / 2) ** 2
        kept = 1 - (1 - curve[1:] / curve[:-1]).clamp(max=LARGEST_BETA)
        alpha_bar = kept.cumprod(0)
        self.alpha = alpha_bar.sqrt()
        self.sigma = (1 - alpha_bar).sqrt()

    @property
    def log_snr(self) -> torch.Tensor:
        """Half the logarithm of the signal-to-noise ratio, log(alpha / sigma), (T,)."""
        return (self.alpha / self.sigma).log()

    def timesteps(self, steps: int, grid: str = "uniform") -> list[int]:
        """The timesteps of a sampler with ``steps`` network calls, from the noisiest down.

        Args:
            steps: number of network calls, 1 to T.
            grid: "uniform" in t; or "logsnr", which after the first call at t = T-1 is uniform in log(alpha / sigma)
                from -1: a residual of a few hundredths is invisible in more noise than that.

        Raises:
            ValueError: steps or grid out of range.
        """
        if not 1 <= steps <= self.train_steps:
            raise ValueError(f"steps must be 1 to {self.train_steps}, not {steps}.")
        if grid == "uniform":
            spacing = self.train_steps / steps
            return [round(self.train_steps - 1 - i * spacing) for i in range(steps)]
        if grid != "logsnr":
            raise ValueError(f"grid must be one of {GRIDS}, not {grid!r}.")
        log_snr = self.log_snr
        last = float(log_snr[0])
        count = steps - 1
        middle = (FIRST_LOG_SNR + last) / 2
        levels = torch.linspace(FIRST_LOG_SNR, last, count, dtype=torch.float64)
        levels = torch.full((1,), middle, dtype=torch.float64) if count == 1 else levels
        nearest = [self.train_steps - 1]
        nearest += (log_snr[None, :] - levels[:, None]).abs().argmin(dim=1).tolist()
        # Many steps round to the same t where the schedule is steep: keep them apart.
        for i in range(1, steps):
            nearest[i] = min(nearest[i], nearest[i - 1] - 1)
        for i, least in zip(reversed(range(steps)), range(steps)):
            nearest[i] = max(nearest[i], least)
        return nearest

    def published_timesteps(self, steps: int) -> list[int]:
        """The timesteps 0, k, 2k, ... that the published samplers of both networks visit, from the noisiest down."""
        if not 1 <= steps <= self.train_steps:
            raise ValueError(f"steps must be 1 to {self.train_steps}, not {steps}.")
        stride = self.train_steps // steps
        return [i * stride for i in reversed(range(steps))]


@lru_cache(maxsize=8)
def cosine_schedule(train_steps: int) -> Schedule:
    """The schedule for T steps, computed once."""
    return Schedule(train_steps)
