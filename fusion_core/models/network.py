"""What DDRF and SSDiff have in common: how a sampler calls them, and sizes that do not fit their stride."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Condition:
    """All a network derives from one batch of tiles before the first step.

    Attributes:
        lms: MS resampled to the PAN grid as it was given, (B, C, H, W); a sampler clamps x0 + lms with it.
        padding: rows and columns appended below and to the right to reach the network's stride.
        features: what the network computed from the tiles, known to that network alone.
    """

    lms: torch.Tensor
    padding: tuple[int, int]
    features: object


TimeFeatures = list[torch.Tensor]
"""What a network derives from one timestep: a bias per block, each (1 or B, channels)."""


class FusionNetwork(nn.Module, ABC):
    """A conditional x0 (or eps, or v) predictor of the residual HR minus LMS.

    ``forward`` is ``prepare`` for the tiles, ``time_features`` for the timestep and ``step`` for both with x_t.

    Args:
        ms_bands: number of MS bands C.
        guide_bands: bands P of the sharp image, 1 for PAN.
        ratio: PAN pixels per MS pixel along one axis.
        stride: PAN height and width the network works on are multiples of this.
        smallest: least PAN height and width the network works on.
        train_steps: number of steps T of the diffusion schedule the network was made for.
    """

    method: str

    def __init__(
        self,
        ms_bands: int,
        guide_bands: int,
        ratio: int,
        *,
        stride: int,
        smallest: int,
        train_steps: int,
    ) -> None:
        super().__init__()
        self.ms_bands = ms_bands
        self.guide_bands = guide_bands
        self.ratio = ratio
        self.stride = math.lcm(stride, ratio)
        self.smallest = smallest
        self.train_steps = train_steps

    def prepare(self, guide: torch.Tensor, ms: torch.Tensor, lms: torch.Tensor) -> Condition:
        """Compute once whatever depends on neither x_t nor t.

        Args:
            guide: PAN or another sharp image, (B, P, H, W), at scene scale (about 0 to 1).
            ms: multispectral image, (B, C, ceil(H/ratio), ceil(W/ratio)), same scale.
            lms: MS resampled to the PAN grid, (B, C, H, W), same scale.

        Raises:
            ValueError: a shape does not fit the network or the other arguments.
        """
        batch, _, height, width = lms.shape
        coarse = (math.ceil(height / self.ratio), math.ceil(width / self.ratio))
        expected = {
            "guide": (guide, (batch, self.guide_bands, height, width)),
            "ms": (ms, (batch, self.ms_bands, *coarse)),
            "lms": (lms, (batch, self.ms_bands, height, width)),
        }
        for name, (tensor, shape) in expected.items():
            if tuple(tensor.shape) != shape:
                raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}.")
        fitting = self._fitting(height), self._fitting(width)
        padding = (fitting[0] - height, fitting[1] - width)
        features = self._prepare(
            pad_edges(guide, padding),
            pad_edges(ms, tuple(f // self.ratio - c for f, c in zip(fitting, coarse))),
            pad_edges(lms, padding),
        )
        return Condition(lms=lms, padding=padding, features=features)

    def time_table(self, timesteps: Sequence[int] | torch.Tensor) -> list[TimeFeatures]:
        """Compute once per run whatever depends on t alone; entry i belongs to ``timesteps[i]``."""
        device = next(self.parameters()).device
        steps = torch.as_tensor(timesteps, device=device)
        return [self.time_features(step[None]) for step in steps]

    def step(
        self,
        x_t: torch.Tensor,
        time: TimeFeatures,
        condition: Condition,
        self_cond: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """One network call: the prediction for x_t, (B, C, H, W), at the timestep ``time`` was made for."""
        height, width = x_t.shape[-2:]
        x_t = pad_edges(x_t, condition.padding)
        if self_cond is not None:
            self_cond = pad_edges(self_cond, condition.padding)
        return self._step(x_t, time, condition.features, self_cond)[..., :height, :width]

    def forward(
        self,
        x_t: torch.Tensor,
        t: torch.Tensor,
        condition: Condition,
        self_cond: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Predict from x_t (B, C, H, W) at integer timesteps t (B,); the residual where the network predicts x0."""
        return self.step(x_t, self.time_features(t), condition, self_cond)

    @property
    def dtype(self) -> torch.dtype:
        """Of the tensors that ``prepare`` and ``step`` take."""
        return next(self.parameters()).dtype

    def inference_form(self) -> FusionNetwork:
        """The same function arranged for speed: constants folded, nothing that only training needs.

        The trained network stays as it is; weights that change later do not reach the form.
        """
        return self

    def advice(self) -> str | None:
        """What would make the network faster here, one sentence for the user; None if nothing is known."""
        return None

    def set_dropout(self, probability: float) -> None:
        """Probability of every dropout and, in DDRF, of a dropped branch; 0.2 as published, matters in training alone."""
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = probability

    @abstractmethod
    def time_features(self, t: torch.Tensor) -> TimeFeatures:
        """Embed timesteps t, (B,) or (1,), into the biases of every block."""

    @abstractmethod
    def _prepare(self, guide: torch.Tensor, ms: torch.Tensor, lms: torch.Tensor) -> object:
        """``prepare`` for tiles that already fit the stride."""

    @abstractmethod
    def _step(
        self,
        x_t: torch.Tensor,
        time: TimeFeatures,
        features: object,
        self_cond: torch.Tensor | None,
    ) -> torch.Tensor:
        """``step`` for tiles that already fit the stride."""

    def _fitting(self, size: int) -> int:
        return math.ceil(max(size, self.smallest) / self.stride) * self.stride


def pad_edges(image: torch.Tensor, padding: tuple[int, int]) -> torch.Tensor:
    """Repeat the last row and column ``padding`` times."""
    if padding == (0, 0):
        return image
    return F.pad(image, (0, padding[1], 0, padding[0]), mode="replicate")


def sinusoids(t: torch.Tensor, count: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Sines and cosines of integer timesteps t (B,) at ``count`` frequencies, each (B, count)."""
    exponents = torch.arange(count, device=t.device, dtype=torch.float32) / count
    angles = t.float()[:, None] * torch.exp(-math.log(1e4) * exponents)
    return angles.sin().to(dtype), angles.cos().to(dtype)
