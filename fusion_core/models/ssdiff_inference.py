"""SSDiff arranged for speed: the same function, folded once from the trained network.

Images are channels-last throughout, so that pixels are tokens without a copy.  Folded: BatchNorm into the entrance
convolution, FMIM's spectral gains into the layers before them, projections of the same tokens into one, whatever depends on t alone
into biases.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from .attention import HEAD, SCALE, attention_in_use, gather_and_mix
from .network import FusionNetwork, TimeFeatures, sinusoids
from .ssdiff import (
    SLOPE,
    SPATIAL_GAINS,
    SPECTRAL_GAINS,
    TIME_CHANNELS,
    Down,
    Fusformer,
    SpatialBlock,
    SSDiff,
    Up,
    low_frequency_waves,
)


@dataclass
class _Features:
    """Skip connection from MS (B, C, H, W); what LMS and PAN add to the entrance convolution (B, 2 width, H, W)."""

    skip: torch.Tensor
    entrance: torch.Tensor


class SSDiffInference(FusionNetwork):
    """What ``SSDiff.inference_form()`` returns.

    It takes any device and dtype by ``.to(device, dtype)``; folded in float64, it is best moved after folding.
    """

    method = "ssdiff"

    def __init__(self, network: SSDiff) -> None:
        super().__init__(
            network.ms_bands,
            network.guide_bands,
            network.ratio,
            stride=4,
            smallest=16,
            train_steps=network.train_steps,
        )
        self.width = network.width
        self.upsample = deepcopy(network.upsample)
        self._fold_entrance(network)
        self._fold_time(network)
        gains = SPECTRAL_GAINS
        self.leave_spectral = scaled(network.out_layers_lms[3], gains[0])
        self.leave_spatial = deepcopy(network.out_layers_pan[3])
        self.fusions = nn.ModuleList(
            _Fusion(getattr(network, f"fusformer{level}")) for level in range(5)
        )
        self.blocks = nn.ModuleList(
            _SpatialBlock(getattr(network, f"resblock{level}")) for level in range(4)
        )
        self.downs_spectral = nn.ModuleList(
            [_Down(network.down0, gains[1]), _Down(network.down1, gains[2])]
        )
        self.downs_spatial = nn.ModuleList([_Down(network.down0), _Down(network.down1)])
        self.ups_spectral = nn.ModuleList([_Up(network.up0, gains[3]), _Up(network.up1, gains[4])])
        self.ups_spatial = nn.ModuleList([_Up(network.up0), _Up(network.up1)])
        self.to_hrms = deepcopy(network.to_hrms)
        self.requires_grad_(False)
        self.eval()
        # The kernel's tenth of a second is spent here rather than in the first step.
        attention_in_use(self.entrance_x.weight.device)

    def inference_form(self) -> SSDiffInference:
        return self

    def time_features(self, t: torch.Tensor) -> TimeFeatures:
        """Biases of the entrance and of the four spatial blocks, with those of their convolutions."""
        sine, cosine = sinusoids(t, TIME_CHANNELS // 2, self.dtype)
        embedding = F.silu(self.time_embed(torch.cat([cosine, sine], dim=1)))
        return [layer(embedding) for layer in self.time_biases]

    def _prepare(self, guide: torch.Tensor, ms: torch.Tensor, lms: torch.Tensor) -> _Features:
        return _Features(
            skip=self.upsample(ms),
            entrance=torch.cat([self.entrance_lms(lms), self.entrance_guide(guide)], dim=1),
        )

    def _step(
        self,
        x_t: torch.Tensor,
        time: TimeFeatures,
        features: _Features,
        self_cond: torch.Tensor | None,
    ) -> torch.Tensor:
        entrance = F.silu(
            biased(self.entrance_x, x_t, time[0]).add_(features.entrance), inplace=True
        )
        x = self.leave_spectral(entrance[:, : self.width])
        y = self.leave_spatial(entrance[:, self.width :])
        x0 = self._fuse(0, x, y)
        y0 = self.blocks[0](y, time[1])
        x, y = self.downs_spectral[0](x0), self.downs_spatial[0](y0)
        x1 = self._fuse(1, x, y)
        y1 = self.blocks[1](y, time[2])
        x, y = self.downs_spectral[1](x1), self.downs_spatial[1](y1)
        x2 = self._fuse(2, x, y)
        y2 = self.blocks[2](y, time[3])
        x, y = self.ups_spectral[0](x2, x1), self.ups_spatial[0](y2, y1)
        x3 = self._fuse(3, x, y)
        y3 = self.blocks[3](y, time[4])
        x, y = self.ups_spectral[1](x3, x0), self.ups_spatial[1](y3, y0)
        return self.to_hrms(self._fuse(4, x, y)).add_(features.skip)

    def _fuse(self, level: int, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """FMIM's spatial gain, then APFM, on pixels as tokens; the spectral gain is in the layer that made x."""
        height, width = x.shape[-2:]
        waves, weights = low_frequency_waves(height, width, y.device, y.dtype)
        y_tokens = tokens_of(y)
        waves = waves.expand(len(y), -1, -1)
        amplitudes = torch.bmm(waves, y_tokens) * (weights * (SPATIAL_GAINS[level] - 1))[:, None]
        y_tokens = torch.baddbmm(y_tokens, waves.transpose(1, 2), amplitudes)
        fused = self.fusions[level](tokens_of(x), y_tokens)
        return fused.transpose(1, 2).unflatten(2, (height, width))

    def _fold_entrance(self, network: SSDiff) -> None:
        """Both entrance convolutions as one, BatchNorm in its weights, its input divided into x_t, LMS and PAN."""
        bands, guides, width = self.ms_bands, self.guide_bands, self.width
        spectral, spatial = network.conv_lms2x_t, network.conv_pan2x_t
        scale_x, shift_x = normalisation(network.out_layers_lms[0])
        scale_y, shift_y = normalisation(network.out_layers_pan[0])
        weights_x = spectral.weight.double() * scale_x[:, None, None, None]
        weights_y = spatial.weight.double() * scale_y[:, None, None, None]
        self.entrance_lms = convolution(
            weights_x[:, :bands], spectral.bias.double() * scale_x + shift_x, spectral
        )
        self.entrance_guide = convolution(
            weights_y[:, :guides], spatial.bias.double() * scale_y + shift_y, spatial
        )
        both = torch.cat([weights_x[:, bands:], weights_y[:, guides:]])
        self.entrance_x = convolution(both, torch.zeros(2 * width), spectral)
        self.entrance_scale = torch.cat([scale_x, scale_y])

    def _fold_time(self, network: SSDiff) -> None:
        self.time_embed = deepcopy(network.time_embed)
        scale = self.__dict__.pop("entrance_scale")
        layers = [network.emb_layers_lms[1], network.emb_layers_pan[1]]
        weight = torch.cat([layer.weight.double() for layer in layers]) * scale[:, None]
        bias = torch.cat([layer.bias.double() for layer in layers]) * scale
        biases = [linear(weight, bias, layers[0])]
        for level in range(4):
            block = getattr(network, f"resblock{level}")
            layer = block.emb_layers[1]
            biases.append(linear(layer.weight, layer.bias + block.conv1.bias, layer))
        self.time_biases = nn.ModuleList(biases)


class _Fusion(nn.Module):
    """APFM and feed-forward on tokens (B, N, C)."""

    def __init__(self, fusformer: Fusformer) -> None:
        super().__init__()
        projection, forward = fusformer.layers[0]
        layer = projection.fn.fn
        self.norm = deepcopy(projection.fn.norm)
        self.spatial = side_by_side(layer.sa1, layer.sa2)
        self.spectral = side_by_side(layer.se1, layer.se2)
        self.to_out = deepcopy(layer.to_out[0])
        self.forward_norm = deepcopy(forward.fn.norm)
        self.narrow, self.widen = deepcopy(forward.fn.fn.net[0]), deepcopy(forward.fn.fn.net[3])

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        count, channels = x.shape[1:]
        y1, y2 = self.spatial(self.norm(y)).chunk(2, dim=-1)
        x1, x2 = self.spectral(self.norm(x)).chunk(2, dim=-1)
        heads = channels // HEAD
        # All channels with all in one product; the heads are the blocks on its diagonal.
        products = torch.bmm(x1.transpose(1, 2), x2).view(-1, heads, HEAD, heads, HEAD)
        logits = products.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)
        mixing = (logits * (SCALE * HEAD / count)).softmax(dim=-1)
        x = self.to_out(gather_and_mix(y1, y2, x1, mixing)).add_(x)
        hidden = F.leaky_relu_(self.narrow(self.forward_norm(x)), SLOPE)
        return self.widen(hidden).add_(x)


class _SpatialBlock(nn.Module):
    """Residual block of the spatial branch; the bias of its second convolution comes with the timestep's."""

    def __init__(self, block: SpatialBlock) -> None:
        super().__init__()
        self.conv0 = deepcopy(block.conv0)
        self.conv1 = deepcopy(block.conv1)
        self.norm = deepcopy(block.out_layers[0])
        self.conv2 = deepcopy(block.out_layers[3])

    def forward(self, y: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        hidden = F.leaky_relu_(self.conv0(y), SLOPE)
        hidden = self.norm(biased(self.conv1, hidden, bias))
        return self.conv2(F.silu(hidden, inplace=True)).add_(y)


class _Down(nn.Module):
    """Halve the size and double the channels; then FMIM's gain, which the activation lets through as it is positive."""

    def __init__(self, down: Down, gain: float = 1.0) -> None:
        super().__init__()
        self.halve, self.widen = deepcopy(down.conv[0]), deepcopy(down.conv[2])
        self.spread = scaled(down.conv[3], gain)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.leaky_relu_(self.halve(x), SLOPE)
        return F.leaky_relu_(self.spread(self.widen(x)), SLOPE)


class _Up(nn.Module):
    """Double the size, halve the channels, add the skip; then FMIM's gain."""

    def __init__(self, up: Up, gain: float = 1.0) -> None:
        super().__init__()
        self.enlarge = deepcopy(up.up1[0])
        self.conv = scaled(up.conv, gain)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        x = F.leaky_relu_(self.enlarge(x), SLOPE).add_(skip)
        return F.leaky_relu_(self.conv(x), SLOPE)


def tokens_of(image: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) as (B, H*W, C), a view where the image is channels-last."""
    return image.permute(0, 2, 3, 1).flatten(1, 2)


def biased(layer: nn.Conv2d, image: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """The convolution with another bias, (1 or B, channels)."""
    if len(bias) == 1:
        return F.conv2d(image, layer.weight, bias[0], padding=layer.padding)
    out = F.conv2d(image, layer.weight, padding=layer.padding)
    return out.add_(bias[:, :, None, None])


def normalisation(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """BatchNorm of a trained network as scale and shift of each channel, float64."""
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def side_by_side(*layers: nn.Linear) -> nn.Linear:
    """Layers of the same tokens, without bias, as one."""
    return linear(torch.cat([layer.weight for layer in layers]), None, layers[0])


def scaled(layer: nn.Conv2d, gain: float) -> nn.Conv2d:
    """The convolution with the first half of its output channels times ``gain``."""
    gains = torch.ones(layer.out_channels, dtype=torch.float64, device=layer.weight.device)
    gains[: layer.out_channels // 2] = gain
    return convolution(
        layer.weight.double() * gains[:, None, None, None], layer.bias.double() * gains, layer
    )


def convolution(weight: torch.Tensor, bias: torch.Tensor, like: nn.Conv2d) -> nn.Conv2d:
    """A convolution with these weights, and else like another one."""
    made = deepcopy(like)
    made.out_channels = len(weight)
    made.in_channels = weight.shape[1] * made.groups
    made.weight = nn.Parameter(weight.detach().to(like.weight, copy=True), requires_grad=False)
    made.bias = nn.Parameter(bias.detach().to(like.weight, copy=True), requires_grad=False)
    return made


def linear(weight: torch.Tensor, bias: torch.Tensor | None, like: nn.Linear) -> nn.Linear:
    """A linear layer with these weights, of another one's dtype."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    made.weight = nn.Parameter(weight.detach().to(like.weight, copy=True), requires_grad=False)
    if bias is not None:
        made.bias = nn.Parameter(bias.detach().to(like.weight, copy=True), requires_grad=False)
    return made
