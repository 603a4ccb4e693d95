"""Layers as functions of a state dict and a name in it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F

State = Mapping[str, torch.Tensor]


def convolve(
    state: State, name: str, x: torch.Tensor, stride: int = 1, padding: int | None = None
) -> torch.Tensor:
    """Convolution; padded so that the size stays unless told otherwise, depthwise where the weights are."""
    weight = state[f"{name}.weight"]
    padding = weight.shape[-1] // 2 if padding is None else padding
    groups = x.shape[1] // weight.shape[1]
    return F.conv2d(x, weight, state.get(f"{name}.bias"), stride, padding, groups=groups)


def linear(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    """Linear layer over the last axis."""
    return F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))


def group_norm(state: State, name: str, x: torch.Tensor, groups: int) -> torch.Tensor:
    """GroupNorm."""
    return F.group_norm(x, groups, state[f"{name}.weight"], state[f"{name}.bias"])


def frequencies(count: int, device: torch.device) -> torch.Tensor:
    """Angular frequencies of a timestep's sinusoids, from 1 down to almost 1e-4."""
    return torch.exp(-math.log(1e4) / count * torch.arange(count, device=device))
