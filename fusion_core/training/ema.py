"""Exponential moving average of a network's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


class ExponentialMovingAverage:
    """Keeps a slow copy of a network.

    The decay grows with the number of updates as (1 + n) / (10 + n) up to ``decay``, so that a short training does not
    keep its random start.  Floating-point buffers (BatchNorm statistics) are averaged like the parameters.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move towards ``network``."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        slow, fast = self.network.state_dict(), network.state_dict()
        for name, value in slow.items():
            if value.is_floating_point():
                value.lerp_(fast[name].to(value), 1 - decay)
            else:
                value.copy_(fast[name])
