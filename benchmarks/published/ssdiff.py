"""SSDiff as published (Zhong et al., NeurIPS 2024): N x N attention maps, a Fourier transform for each filter."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from .layers import State, convolve, frequencies, group_norm, linear

HEAD_WIDTH = 16
SLOPE = 0.01
LEVELS = ((1.2, 0.9), (1.4, 0.6), (1.6, 0.3), (1.4, 0.6), (1.2, 0.9))
"""Per level the gain of half the spectral channels, and that of the spatial branch's lowest frequencies."""


class PublishedSSDiff:
    """The network as a function.

    Args:
        state: state dict, float32, on the device to compute on.
    """

    def __init__(self, state: State) -> None:
        self.state = dict(state)

    def __call__(
        self,
        x_t: torch.Tensor,
        t: torch.Tensor,
        guide: torch.Tensor,
        ms: torch.Tensor,
        lms: torch.Tensor,
    ) -> torch.Tensor:
        """Predict x0, (B, C, H, W), from x_t at integer timesteps t (B,), PAN, MS and LMS at scene scale."""
        time = self._time(t)
        x = self._entrance("lms", torch.cat([lms, x_t], dim=1), time)
        y = self._entrance("pan", torch.cat([guide, x_t], dim=1), time)
        x0 = self._fused(0, x, y)
        y0 = self._spatial(0, y, time)
        x1 = self._fused(1, self._down(0, x0), self._down(0, y0))
        y1 = self._spatial(1, self._down(0, y0), time)
        x2 = self._fused(2, self._down(1, x1), self._down(1, y1))
        y2 = self._spatial(2, self._down(1, y1), time)
        y = self._up(0, y2, y1)
        x3 = self._fused(3, self._up(0, x2, x1), y)
        y3 = self._spatial(3, y, time)
        x4 = self._fused(4, self._up(1, x3, x0), self._up(1, y3, y0))
        hidden = F.leaky_relu(convolve(self.state, "to_hrms.0", x4), SLOPE)
        raised = convolve(self.state, "upsample.upsamle.0", ms)
        ratio = math.isqrt(raised.shape[1] // ms.shape[1])
        return convolve(self.state, "to_hrms.2", hidden) + F.pixel_shuffle(raised, ratio)

    def _time(self, t: torch.Tensor) -> torch.Tensor:
        channels = self.state["time_embed.0.weight"].shape[1]
        angles = t[:, None].float() * frequencies(channels // 2, t.device)
        hidden = linear(self.state, "time_embed.0", torch.cat([angles.cos(), angles.sin()], dim=1))
        return linear(self.state, "time_embed.2", F.silu(hidden))

    def _bias(self, name: str, time: torch.Tensor) -> torch.Tensor:
        return linear(self.state, f"{name}.1", F.silu(time))[:, :, None, None]

    def _entrance(self, branch: str, image: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        hidden = convolve(self.state, f"conv_{branch}2x_t", image)
        hidden = hidden + self._bias(f"emb_layers_{branch}", time)
        norm = [
            self.state[f"out_layers_{branch}.0.{part}"]
            for part in ("running_mean", "running_var", "weight", "bias")
        ]
        hidden = F.silu(F.batch_norm(hidden, *norm))
        return convolve(self.state, f"out_layers_{branch}.3", hidden)

    def _down(self, number: int, x: torch.Tensor) -> torch.Tensor:
        name = f"down{number}.conv"
        x = F.leaky_relu(convolve(self.state, f"{name}.0", x, stride=2, padding=0), SLOPE)
        x = convolve(self.state, f"{name}.3", convolve(self.state, f"{name}.2", x))
        return F.leaky_relu(x, SLOPE)

    def _up(self, number: int, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        weight = self.state[f"up{number}.up1.0.weight"]
        x = F.conv_transpose2d(x, weight, self.state[f"up{number}.up1.0.bias"], stride=2)
        x = F.leaky_relu(x, SLOPE) + skip
        return F.leaky_relu(convolve(self.state, f"up{number}.conv", x), SLOPE)

    def _spatial(self, number: int, y: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        name = f"resblock{number}"
        hidden = F.leaky_relu(convolve(self.state, f"{name}.conv0", y), SLOPE)
        hidden = convolve(self.state, f"{name}.conv1", hidden)
        hidden = hidden + self._bias(f"{name}.emb_layers", time)
        groups = min(32, y.shape[1])
        hidden = F.silu(group_norm(self.state, f"{name}.out_layers.0", hidden, groups))
        return convolve(self.state, f"{name}.out_layers.3", hidden) + y

    def _fused(self, level: int, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Frequency modulation of both branches, then alternating projection and feed-forward on pixels as tokens."""
        spectral, spatial = LEVELS[level]
        half = x.shape[1] // 2
        x = torch.cat([x[:, :half] * spectral, x[:, half:]], dim=1)
        size = x.shape[-2:]
        x = x.flatten(2).transpose(1, 2)
        y = filtered(y, spatial).flatten(2).transpose(1, 2)
        name = f"fusformer{level}.layers.0"
        x = x + self._projected(f"{name}.0.fn", x, y)
        hidden = self._layer_norm(f"{name}.1.fn.norm", x)
        hidden = F.leaky_relu(linear(self.state, f"{name}.1.fn.fn.net.0", hidden), SLOPE)
        x = x + linear(self.state, f"{name}.1.fn.fn.net.3", hidden)
        return x.transpose(1, 2).unflatten(2, size)

    def _projected(self, name: str, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x, y = (self._layer_norm(f"{name}.norm", tokens) for tokens in (x, y))
        x1, x2, y1, y2 = (
            linear(self.state, f"{name}.fn.{part}", tokens).unflatten(2, (-1, HEAD_WIDTH))
            for part, tokens in (("se1", x), ("se2", x), ("sa1", y), ("sa2", y))
        )
        root = HEAD_WIDTH**0.5
        spatial = torch.einsum("bqhc,bkhc->bhqk", y1, y2) / root
        gathered = torch.einsum("bhqk,bkhc->bqhc", spatial.softmax(dim=-1), x1)
        spectral = torch.einsum("bnhc,bnhd->bhcd", x1, x2) / root / (x.shape[1] / HEAD_WIDTH)
        mixed = torch.einsum("bnhc,bhcd->bnhd", y1, spectral.softmax(dim=-1))
        return linear(self.state, f"{name}.fn.to_out.0", (gathered * mixed).flatten(2))

    def _layer_norm(self, name: str, tokens: torch.Tensor) -> torch.Tensor:
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return F.layer_norm(tokens, weight.shape, weight, bias)


def filtered(image: torch.Tensor, gain: float) -> torch.Tensor:
    """The four frequencies of a 2 x 2 window of the centred spectrum times ``gain``, real part."""
    row, col = image.shape[-2] // 2, image.shape[-1] // 2
    spectrum = torch.fft.fftshift(torch.fft.fft2(image), dim=(-2, -1))
    spectrum[..., row - 1 : row + 1, col - 1 : col + 1] *= gain
    return torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(-2, -1))).real
