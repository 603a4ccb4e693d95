"""Deterministic ODE samplers, as plain functions.

A sampler walks down a list of noise levels and asks ``predict(x, i)`` for x0 at each of them; ``sample`` binds that to a
network and its tiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from ..models.network import Condition, FusionNetwork
from ..solvers import SOLVERS
from .objectives import predicted_x0
from .schedule import cosine_schedule

Predict = Callable[[torch.Tensor, int], torch.Tensor]
Levels = Sequence[tuple[float, float]]
Callback = Callable[[int, int, torch.Tensor], None]
Correct = Callable[[torch.Tensor], torch.Tensor]


def ddim(predict: Predict, x: torch.Tensor, levels: Levels) -> torch.Tensor:
    """DDIM with eta = 0 (Song et al. 2021, eq. 12).

    Args:
        predict: gives x0 for x at level i.
        x: noise, any shape.
        levels: (alpha, sigma) of each call, then of the end.
    """
    for i, ((alpha, sigma), (next_alpha, next_sigma)) in enumerate(zip(levels, levels[1:])):
        x0 = predict(x, i)
        if next_sigma == 0:
            return next_alpha * x0
        noise = (x - alpha * x0) / sigma
        x = next_alpha * x0 + next_sigma * noise
    return x


def dpm_solver_2m(predict: Predict, x: torch.Tensor, levels: Levels) -> torch.Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2); the step to sigma = 0 is of first order.

    Args: as ``ddim``.
    """
    previous, previous_step = None, 0.0
    for i, ((alpha, sigma), (next_alpha, next_sigma)) in enumerate(zip(levels, levels[1:])):
        x0 = predict(x, i)
        if next_sigma == 0:
            return next_alpha * x0
        step = math.log(next_alpha / next_sigma) - math.log(alpha / sigma)
        estimate = x0
        if previous is not None:
            estimate = x0 + (x0 - previous) * (step / (2 * previous_step))
        x = (next_sigma / sigma) * x - next_alpha * math.expm1(-step) * estimate
        previous, previous_step = x0, step
    return x


_SOLVER_FUNCTIONS = {"ddim": ddim, "dpm++2m": dpm_solver_2m}


def sample(
    net: FusionNetwork,
    condition: Condition,
    noise: torch.Tensor,
    *,
    steps: int,
    solver: str = "ddim",
    grid: str = "uniform",
    indexing: str = "original",
    objective: str = "x0",
    value_range: tuple[torch.Tensor | float, torch.Tensor | float] | None = (0.0, 1.0),
    self_conditioning: bool = False,
    correct: Correct | None = None,
    callback: Callback | None = None,
) -> torch.Tensor:
    """Draw the residual HR minus LMS of a batch of tiles.

    Args:
        net: the network, in evaluation mode.
        condition: what ``net.prepare`` made of the tiles.
        noise: standard normal x_T, (B, C, H, W), float32.
        steps: number of network calls, from 1.
        solver: "ddim" or "dpm++2m".
        grid: "uniform" or "logsnr", see ``Schedule.timesteps``.
        indexing: "original" gives the network the timesteps themselves; "published" repeats what the published samplers do:
            evenly strided steps from 0, the network told their rank (steps-1 .. 0) instead of the timestep.
        objective: what the network predicts: "x0", "eps" or "v".
        value_range: least and greatest value of x0 + LMS at every step, numbers or tensors that broadcast to
            (C, 1, 1); None leaves x0 as it is.
        self_conditioning: feed the last x0 back to the network.
        correct: changes each estimate of x0, float32, before it is kept in range.
        callback: called after each network call with (calls done, calls in all, x0); it may raise to stop.

    Returns:
        The residual, float32 (B, C, H, W), at scene scale.

    Raises:
        ValueError: an argument out of range.
    """
    if solver not in SOLVERS:
        raise ValueError(f"solver must be one of {SOLVERS}, not {solver!r}.")
    schedule = cosine_schedule(net.train_steps)
    if indexing == "original":
        timesteps = schedule.timesteps(steps, grid)
        indices = timesteps
    elif indexing == "published":
        timesteps = schedule.published_timesteps(steps)
        indices = list(reversed(range(steps)))
    else:
        raise ValueError(f"indexing must be 'original' or 'published', not {indexing!r}.")
    levels = [(float(schedule.alpha[t]), float(schedule.sigma[t])) for t in timesteps] + [
        (1.0, 0.0)
    ]
    times = net.time_table(indices)
    lms = condition.lms.float()
    dtype = net.dtype
    estimate: torch.Tensor | None = None

    def predict(x: torch.Tensor, i: int) -> torch.Tensor:
        nonlocal estimate
        fed_back = estimate.to(dtype) if self_conditioning and estimate is not None else None
        answer = net.step(x.to(dtype), times[i], condition, fed_back).float()
        x0 = predicted_x0(answer, x, *levels[i], objective)
        if correct is not None:
            x0 = correct(x0)
        if value_range is not None:
            x0 = (x0 + lms).clamp(*_as_tensors(value_range, lms)) - lms
        estimate = x0
        if callback is not None:
            callback(i + 1, steps, x0)
        return x0

    return _SOLVER_FUNCTIONS[solver](predict, noise, levels)


def _as_tensors(
    value_range: tuple[torch.Tensor | float, torch.Tensor | float], like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    low, high = (torch.as_tensor(v, device=like.device, dtype=like.dtype) for v in value_range)
    return low, high
