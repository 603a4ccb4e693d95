"""SSDiff arranged for speed: the same function of the same weights, images channels-last so that pixels are tokens.

What is folded, each exactly up to rounding:

- BatchNorm and FMIM's gain of the spectral branch into the convolutions before them;
- both entrance convolutions into one of x_t, what LMS and PAN add to it being computed once a tile;
- two linear layers of the same tokens into one;
- the time embedding and its layers into a bias per block, which takes the place of a convolution's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from . import ssdiff
from .attention import KERNEL, SCALE, attention_in_use, gather_and_mix
from .inference_form import InferenceForm
from .network import TimeFeatures, sinusoids
from .packed import Convolution, Pointwise, channels_last


@dataclass
class _Features:
    """Skip connection from MS (B, C, H, W); what LMS and PAN add to the entrance convolution (B, 2 width, H, W)."""

    skip: torch.Tensor
    entrance: torch.Tensor


class SSDiffInference(InferenceForm):
    """The inference form of a trained ``SSDiff``."""

    method = "ssdiff"
    trained: ssdiff.SSDiff

    def advice(self) -> str | None:
        device = self.trained.conv_x_t.weight.device
        if device.type != "cpu" or attention_in_use(device) == KERNEL:
            return None
        return (
            "Attention runs in PyTorch: SSDiff takes half the time on the CPU where the Python that computes has llvmlite "
            "(python -m pip install llvmlite)."
        )

    def _arrange(self) -> None:
        trained, gains = self.trained, ssdiff.SPECTRAL_GAINS
        # The kernel is compiled here rather than in the first step.
        attention_in_use(trained.conv_x_t.weight.device)
        scale = self._arrange_entrances()
        self._arrange_times(scale)
        self._leave_spectral = _convolution(trained.out_layers_lms[3], gain=gains[0])
        self._leave_spatial = _convolution(trained.out_layers_pan[3])
        self._fusions = [
            _Fusion(fusformer)
            for fusformer in (
                trained.fusformer0,
                trained.fusformer1,
                trained.fusformer2,
                trained.fusformer3,
                trained.fusformer4,
            )
        ]
        self._blocks = [
            _SpatialBlock(trained.resblock0, 1),
            _SpatialBlock(trained.resblock1, 2),
            _SpatialBlock(trained.resblock2, 4),
            _SpatialBlock(trained.resblock3, 2),
        ]
        self._spectral = [
            _Down(trained.down0, 1, gains[1]),
            _Down(trained.down1, 2, gains[2]),
            _Up(trained.up0, 4, gains[3]),
            _Up(trained.up1, 2, gains[4]),
        ]
        self._spatial = [
            _Down(trained.down0, 1),
            _Down(trained.down1, 2),
            _Up(trained.up0, 4),
            _Up(trained.up1, 2),
        ]
        self._last = _convolution(trained.to_hrms[0]), _convolution(trained.to_hrms[2])

    def time_features(self, t: torch.Tensor) -> TimeFeatures:
        """Biases, (1 or B, channels), of the entrance and of the second convolution of the four spatial blocks."""
        sine, cosine = sinusoids(t, ssdiff.TIME_CHANNELS // 2, self.dtype)
        embedding = F.silu(self.trained.time_embed(torch.cat([cosine, sine], dim=1)))
        biases = F.linear(embedding, self._time_weight, self._time_bias)
        return list(biases.split(self._time_channels, dim=1))

    def _prepare(self, guide: torch.Tensor, ms: torch.Tensor, lms: torch.Tensor) -> _Features:
        guide, lms = channels_last(guide), channels_last(lms)
        entrance = torch.cat([self._entrance_lms(lms), self._entrance_guide(guide)], dim=1)
        return _Features(skip=channels_last(self.trained.upsample(ms)), entrance=entrance)

    def _step(
        self,
        x_t: torch.Tensor,
        time: TimeFeatures,
        features: _Features,
        self_cond: torch.Tensor | None,
    ) -> torch.Tensor:
        entrance = self._entrance.with_biases(channels_last(x_t), time[0]).add_(features.entrance)
        entrance = F.silu(entrance, inplace=True)
        x = self._leave_spectral(entrance[:, : self.trained.width])
        y = self._leave_spatial(entrance[:, self.trained.width :])
        first_x = x = self._fuse(0, x, y)
        first_y = y = self._blocks[0](y, time[1])
        x, y = self._spectral[0](x), self._spatial[0](y)
        second_x = x = self._fuse(1, x, y)
        second_y = y = self._blocks[1](y, time[2])
        x, y = self._spectral[1](x), self._spatial[1](y)
        x = self._fuse(2, x, y)
        y = self._blocks[2](y, time[3])
        x, y = self._spectral[2](x, second_x), self._spatial[2](y, second_y)
        x = self._fuse(3, x, y)
        y = self._blocks[3](y, time[4])
        x, y = self._spectral[3](x, first_x), self._spatial[3](y, first_y)
        x = self._fuse(4, x, y)
        before, last = self._last
        return last(F.leaky_relu_(before(x), ssdiff.SLOPE)).add_(features.skip)

    def _fuse(self, level: int, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """FMIM's gain of the spatial branch, then APFM; x has its gain from the layer that made it."""
        height, width = x.shape[-2:]
        waves, weights = ssdiff.low_frequency_waves(height, width, y.device, y.dtype)
        waves = waves.expand(len(y), -1, -1)
        tokens = _tokens(y)
        amplitudes = torch.bmm(waves, tokens)
        amplitudes *= (weights * (ssdiff.SPATIAL_GAINS[level] - 1))[:, None]
        tokens = torch.baddbmm(tokens, waves.transpose(1, 2), amplitudes)
        fused = self._fusions[level](_tokens(x), tokens)
        return fused.transpose(1, 2).unflatten(2, (height, width))

    def _arrange_entrances(self) -> torch.Tensor:
        """Entrance convolutions with BatchNorm in them; returns what it multiplies each channel of both with."""
        trained, bands, guides = self.trained, self.ms_bands, self.guide_bands
        spectral, spatial = trained.conv_lms2x_t, trained.conv_pan2x_t
        spectral_scale, spectral_shift = _normalisation(trained.out_layers_lms[0])
        spatial_scale, spatial_shift = _normalisation(trained.out_layers_pan[0])
        spectral_weight = spectral.weight.double() * spectral_scale[:, None, None, None]
        spatial_weight = spatial.weight.double() * spatial_scale[:, None, None, None]
        spectral_bias = spectral.bias.double() * spectral_scale + spectral_shift
        spatial_bias = spatial.bias.double() * spatial_scale + spatial_shift
        both = torch.cat([spectral_weight[:, bands:], spatial_weight[:, guides:]])
        self._entrance = Convolution(both.to(self.dtype), padding=1)
        self._entrance_lms = Convolution(
            spectral_weight[:, :bands].to(self.dtype), spectral_bias.to(self.dtype), padding=1
        )
        self._entrance_guide = Convolution(
            spatial_weight[:, :guides].to(self.dtype), spatial_bias.to(self.dtype), padding=1
        )
        return torch.cat([spectral_scale, spatial_scale])

    def _arrange_times(self, scale: torch.Tensor) -> None:
        """The linear layers of the time embedding as one; the entrance's is scaled like the entrance."""
        trained = self.trained
        entrances = [trained.emb_layers_lms[1], trained.emb_layers_pan[1]]
        blocks = [trained.resblock0, trained.resblock1, trained.resblock2, trained.resblock3]
        weights = [torch.cat([layer.weight.double() for layer in entrances]) * scale[:, None]]
        biases = [torch.cat([layer.bias.double() for layer in entrances]) * scale]
        for block in blocks:
            weights.append(block.emb_layers[1].weight.double())
            biases.append(block.emb_layers[1].bias.double() + block.conv1.bias.double())
        self._time_channels = [len(bias) for bias in biases]
        self._time_weight = torch.cat(weights).to(self.dtype)
        self._time_bias = torch.cat(biases).to(self.dtype)


class _Fusion:
    """APFM and feed-forward on tokens (B, N, C)."""

    def __init__(self, fusformer: ssdiff.Fusformer) -> None:
        projection, forward = fusformer.layers[0]
        layer = projection.fn.fn
        self.norm, self.forward_norm = projection.fn.norm, forward.fn.norm
        self.spatial = Pointwise(torch.cat([layer.sa1.weight, layer.sa2.weight]))
        self.spectral = Pointwise(torch.cat([layer.se1.weight, layer.se2.weight]))
        self.to_out = _pointwise(layer.to_out[0])
        self.narrow, self.widen = (_pointwise(forward.fn.fn.net[index]) for index in (0, 3))

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        count, channels = x.shape[1:]
        y1, y2 = self.spatial(self.norm(y)).chunk(2, dim=-1)
        x1, x2 = self.spectral(self.norm(x)).chunk(2, dim=-1)
        heads = channels // ssdiff.HEAD_WIDTH
        # All channels with all in one product; the heads are the blocks on its diagonal.
        products = torch.bmm(x1.transpose(1, 2), x2).view(
            -1, heads, ssdiff.HEAD_WIDTH, heads, ssdiff.HEAD_WIDTH
        )
        logits = products.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)
        mixing = (logits * (SCALE * ssdiff.HEAD_WIDTH / count)).softmax(dim=-1)
        x = self.to_out(gather_and_mix(y1, y2, x1, mixing)).add_(x)
        hidden = F.leaky_relu_(self.narrow(self.forward_norm(x)), ssdiff.SLOPE)
        return self.widen(hidden).add_(x)


class _SpatialBlock:
    """Residual block of the spatial branch."""

    def __init__(self, block: ssdiff.SpatialBlock, reduction: int) -> None:
        self.before = _convolution(block.conv0, reduction)
        self.middle = Convolution(block.conv1.weight, padding=1, reduction=reduction)
        self.norm = block.out_layers[0]
        self.last = _convolution(block.out_layers[3], reduction)

    def __call__(self, y: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        hidden = F.leaky_relu_(self.before(y), ssdiff.SLOPE)
        hidden = ssdiff.near_zero(self.middle.with_biases(hidden, bias), self.norm.num_groups)
        return self.last(F.silu(self.norm(hidden), inplace=True)).add_(y)


class _Down:
    """Halve the size and double the channels; then a gain, which the activation lets through as it is positive."""

    def __init__(self, down: ssdiff.Down, reduction: int, gain: float = 1.0) -> None:
        halve, _, widen, spread, _ = down.conv
        self.halve = _convolution(halve, reduction)
        self.widen = _convolution(widen, 2 * reduction)
        self.spread = _convolution(spread, 2 * reduction, gain)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        x = F.leaky_relu_(self.halve(x), ssdiff.SLOPE)
        return F.leaky_relu_(self.spread(self.widen(x)), ssdiff.SLOPE)


class _Up:
    """Double the size, halve the channels, add the skip; then a gain as in ``_Down``."""

    def __init__(self, up: ssdiff.Up, reduction: int, gain: float = 1.0) -> None:
        double = up.up1[0]
        self.double = Convolution(
            double.weight, double.bias, stride=2, transposed=True, reduction=reduction
        )
        self.conv = _convolution(up.conv, reduction // 2, gain)

    def __call__(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        x = F.leaky_relu_(self.double(x), ssdiff.SLOPE).add_(skip)
        return F.leaky_relu_(self.conv(x), ssdiff.SLOPE)


def _convolution(layer: nn.Conv2d, reduction: int = 1, gain: float = 1.0) -> Convolution:
    """The layer with the first half of its output channels times ``gain``."""
    gains = torch.ones(layer.out_channels, dtype=torch.float64, device=layer.weight.device)
    gains[: layer.out_channels // 2] = gain
    return Convolution(
        (layer.weight.double() * gains[:, None, None, None]).to(layer.weight.dtype),
        (layer.bias.double() * gains).to(layer.bias.dtype),
        stride=layer.stride[0],
        padding=layer.padding[0],
        groups=layer.groups,
        reduction=reduction,
    )


def _pointwise(layer: nn.Linear) -> Pointwise:
    return Pointwise(layer.weight, layer.bias)


def _normalisation(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """BatchNorm of a trained network as scale and shift of each channel, float64."""
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def _tokens(image: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) as (B, H*W, C), a view where the image is channels-last."""
    return image.permute(0, 2, 3, 1).flatten(1, 2)
