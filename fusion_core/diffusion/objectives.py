"""What a network is trained to predict: x0, the noise (eps), or v (Salimans and Ho 2022)."""

from __future__ import annotations

from typing import Union

import torch

OBJECTIVES = ("x0", "eps", "v")

Level = Union[float, torch.Tensor]


def training_target(
    x0: torch.Tensor, noise: torch.Tensor, alpha: Level, sigma: Level, objective: str
) -> torch.Tensor:
    """What the network should answer for ``alpha x0 + sigma noise``."""
    if objective == "x0":
        return x0
    if objective == "eps":
        return noise
    if objective == "v":
        return alpha * noise - sigma * x0
    raise ValueError(f"objective must be one of {OBJECTIVES}, not {objective!r}.")


def predicted_x0(
    prediction: torch.Tensor, x_t: torch.Tensor, alpha: Level, sigma: Level, objective: str
) -> torch.Tensor:
    """The x0 that a network's answer means."""
    if objective == "x0":
        return prediction
    if objective == "eps":
        return (x_t - sigma * prediction) / alpha
    if objective == "v":
        return alpha * x_t - sigma * prediction
    raise ValueError(f"objective must be one of {OBJECTIVES}, not {objective!r}.")
