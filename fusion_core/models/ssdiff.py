"""SSDiff: spatial and spectral branches joined by an alternating projection fusion module.

Zhong et al., NeurIPS 2024.  State-dict keys and arithmetic are those of the published network, so its checkpoints
load; tensors that it stores and never uses are kept for the same reason.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import nn

from .network import FusionNetwork, TimeFeatures, sinusoids

HEAD_WIDTH = 16
TIME_CHANNELS = 128
SLOPE = 0.01
DROPOUT = 0.2
SPECTRAL_GAINS = (1.2, 1.4, 1.6, 1.4, 1.2)
"""FMIM: gain of the first half of the spectral branch's channels, level by level (paper)."""
SPATIAL_GAINS = (0.9, 0.6, 0.3, 0.6, 0.9)
"""FMIM: gain of the spatial branch's lowest frequencies, level by level (published network)."""


@dataclass
class _Features:
    """Skip connection from MS, and what LMS and PAN add to the entrance convolutions, (B, ., H, W) each."""

    skip: torch.Tensor
    spectral: torch.Tensor
    spatial: torch.Tensor


class SSDiff(FusionNetwork):
    """The network, see the module's docstring.

    Args:
        ms_bands: number of MS bands C.
        guide_bands: bands P of the sharp image.
        ratio: PAN pixels per MS pixel, 4 as published.
        width: channels of the first level, 32 as published, a multiple of 16.
    """

    method = "ssdiff"

    def __init__(
        self, ms_bands: int, guide_bands: int = 1, ratio: int = 4, *, width: int = 32
    ) -> None:
        super().__init__(ms_bands, guide_bands, ratio, stride=4, smallest=16, train_steps=1000)
        if width % HEAD_WIDTH:
            raise ValueError(f"width must be a multiple of {HEAD_WIDTH}.")
        self.width = width
        time_width = 4 * TIME_CHANNELS
        self.upsample = PixelShuffleUpsample(ms_bands, ratio)
        self.raise_ms_dim = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(SLOPE)
        )
        self.raise_pan_dim = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(SLOPE)
        )
        self.to_hrms = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(width, ms_bands, 3, padding=1),
        )
        self.time_embed = nn.Sequential(
            nn.Linear(TIME_CHANNELS, time_width), nn.SiLU(), nn.Linear(time_width, time_width)
        )
        self.conv_lms2x_t = nn.Conv2d(2 * ms_bands, width, 3, padding=1)
        self.conv_pan2x_t = nn.Conv2d(ms_bands + guide_bands, width, 3, padding=1)
        self.conv_x_t = nn.Conv2d(ms_bands, width, 3, padding=1)
        self.fusformer0 = Fusformer(width)
        self.down0 = Down(width)
        self.resblock0 = SpatialBlock(width, time_width)
        self.fusformer1 = Fusformer(2 * width)
        self.down1 = Down(2 * width)
        self.resblock1 = SpatialBlock(2 * width, time_width)
        self.fusformer2 = Fusformer(4 * width)
        self.up0 = Up(4 * width)
        self.resblock2 = SpatialBlock(4 * width, time_width)
        self.fusformer3 = Fusformer(2 * width)
        self.up1 = Up(2 * width)
        self.resblock3 = SpatialBlock(2 * width, time_width)
        self.fusformer4 = Fusformer(width)
        self.out_layers_pan = entrance_layers(width)
        self.out_layers_lms = entrance_layers(width)
        self.emb_layers_pan = nn.Sequential(nn.SiLU(), nn.Linear(time_width, width))
        self.emb_layers_lms = nn.Sequential(nn.SiLU(), nn.Linear(time_width, width))

    def time_features(self, t: torch.Tensor) -> TimeFeatures:
        """Biases of the two entrances (spectral, spatial) and of the four spatial blocks."""
        sine, cosine = sinusoids(t, TIME_CHANNELS // 2, self.time_embed[0].weight.dtype)
        embedding = self.time_embed(torch.cat([cosine, sine], dim=1))
        blocks = (self.resblock0, self.resblock1, self.resblock2, self.resblock3)
        layers = [self.emb_layers_lms, self.emb_layers_pan, *(b.emb_layers for b in blocks)]
        return [layer(embedding)[:, :, None, None] for layer in layers]

    def inference_form(self) -> FusionNetwork:
        """See ``FusionNetwork.inference_form``; within 1e-5 of this network's range, a call in float32."""
        from .ssdiff_inference import SSDiffInference

        return SSDiffInference(self)

    def _prepare(self, guide: torch.Tensor, ms: torch.Tensor, lms: torch.Tensor) -> _Features:
        return _Features(
            skip=self.upsample(ms),
            spectral=partial_convolution(self.conv_lms2x_t, lms, slice(0, self.ms_bands)),
            spatial=partial_convolution(self.conv_pan2x_t, guide, slice(0, self.guide_bands)),
        )

    def _step(
        self,
        x_t: torch.Tensor,
        time: TimeFeatures,
        features: _Features,
        self_cond: torch.Tensor | None,
    ) -> torch.Tensor:
        spectral_bias, spatial_bias, *block_biases = time
        spectral, spatial = self.conv_lms2x_t.weight, self.conv_pan2x_t.weight
        x = F.conv2d(x_t, spectral[:, self.ms_bands :], padding=1) + features.spectral
        y = F.conv2d(x_t, spatial[:, self.guide_bands :], padding=1) + features.spatial
        x = self.out_layers_lms(x + spectral_bias)
        y = self.out_layers_pan(y + spatial_bias)

        x0 = self._fuse(0, x, y)
        y0 = self.resblock0(y, block_biases[0])
        x, y = self.down0(x0), self.down0(y0)
        x1 = self._fuse(1, x, y)
        y1 = self.resblock1(y, block_biases[1])
        x, y = self.down1(x1), self.down1(y1)
        x2 = self._fuse(2, x, y)
        y2 = self.resblock2(y, block_biases[2])
        x, y = self.up0(x2, x1), self.up0(y2, y1)
        x3 = self._fuse(3, x, y)
        y3 = self.resblock3(y, block_biases[3])
        x, y = self.up1(x3, x0), self.up1(y3, y0)
        return self.to_hrms(self._fuse(4, x, y)) + features.skip

    def _fuse(self, level: int, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """FMIM on both branches, then APFM: the spectral features of a level after fusion."""
        x = scale_first_half(x, SPECTRAL_GAINS[level])
        y = scale_low_frequencies(y, SPATIAL_GAINS[level])
        return getattr(self, f"fusformer{level}")(x, y)


class PixelShuffleUpsample(nn.Module):
    """Learned up-sampling of MS by ``ratio``; the misspelt attribute is part of the published keys."""

    def __init__(self, bands: int, ratio: int) -> None:
        super().__init__()
        self.upsamle = nn.Sequential(
            nn.Conv2d(bands, bands * ratio * ratio, 3, padding=1, bias=False),
            nn.PixelShuffle(ratio),
        )

    def forward(self, ms: torch.Tensor) -> torch.Tensor:
        return self.upsamle(ms)


class Down(nn.Module):
    """Halve the size and double the channels; both branches share it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(
            nn.MaxPool2d(2), *widen(channels, 2 * channels), nn.LeakyReLU(SLOPE)
        )
        self.conv = nn.Sequential(
            nn.Conv2d(channels, channels, 2, stride=2),
            nn.LeakyReLU(SLOPE),
            *widen(channels, 2 * channels),
            nn.LeakyReLU(SLOPE),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class Up(nn.Module):
    """Double the size, halve the channels, add the skip; both branches share it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        out = channels // 2
        self.up0 = nn.Sequential(
            nn.ConvTranspose2d(channels, channels, 2, stride=2),
            nn.LeakyReLU(SLOPE),
            *widen(channels, out),
        )
        self.up1 = nn.Sequential(
            nn.ConvTranspose2d(channels, out, 2, stride=2), nn.LeakyReLU(SLOPE)
        )
        self.conv = nn.Conv2d(out, out, 3, padding=1)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(self.conv(self.up1(x) + skip), SLOPE)


class SpatialBlock(nn.Module):
    """Residual block of the spatial branch."""

    def __init__(self, channels: int, time_width: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(channels, channels // 2, 3, padding=1)
        self.conv1 = nn.Conv2d(channels // 2, channels, 3, padding=1)
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time_width, channels))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(min(32, channels), channels),
            nn.SiLU(),
            nn.Dropout(DROPOUT),
            zeroed(nn.Conv2d(channels, channels, 3, padding=1)),
        )

    def forward(self, y: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        hidden = self.conv1(F.leaky_relu(self.conv0(y), SLOPE))
        return self.out_layers(near_zero(hidden + bias, self.out_layers[0].num_groups)) + y


class AlternatingProjection(nn.Module):
    """APFM: the spatial branch's map gathers spectral features, the spectral branch's map mixes spatial ones."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = channels // HEAD_WIDTH
        self.sa1 = nn.Linear(channels, channels, bias=False)
        self.sa2 = nn.Linear(channels, channels, bias=False)
        self.se1 = nn.Linear(channels, channels, bias=False)
        self.se2 = nn.Linear(channels, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        batch, tokens, channels = x.shape
        y1, y2 = self._split(self.sa1(y)), self._split(self.sa2(y))
        x1, x2 = self._split(self.se1(x)), self._split(self.se2(x))
        root = math.sqrt(HEAD_WIDTH)
        # softmax(y1 y2ᵀ / root) x1 without the N x N map.
        gathered = F.scaled_dot_product_attention(y1, y2, x1, scale=1 / root)
        logits = x1.transpose(-1, -2) @ x2 / (root * tokens / HEAD_WIDTH)
        mixed = y1 @ logits.softmax(dim=-1)
        fused = (gathered * mixed).transpose(1, 2).reshape(batch, tokens, channels)
        return self.to_out(fused)

    def _split(self, tokens: torch.Tensor) -> torch.Tensor:
        batch, count, _ = tokens.shape
        return tokens.view(batch, count, self.heads, HEAD_WIDTH).transpose(1, 2)


class FeedForward(nn.Module):
    """Two linear layers, the hidden one half as wide."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(channels, channels // 2),
            nn.LeakyReLU(SLOPE),
            nn.Identity(),
            nn.Linear(channels // 2, channels),
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.net(tokens)


class NormedResidual(nn.Module):
    """LayerNorm of every input, the function, plus the first input."""

    def __init__(self, channels: int, function: nn.Module) -> None:
        super().__init__()
        self.fn = nn.Module()
        self.fn.norm = nn.LayerNorm(channels)
        self.fn.fn = function

    def forward(self, x: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        return self.fn.fn(*(self.fn.norm(tokens) for tokens in (x, *others))) + x


class Fusformer(nn.Module):
    """APFM and feed-forward on the pixels as tokens."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        projection = NormedResidual(channels, AlternatingProjection(channels))
        forward = NormedResidual(channels, FeedForward(channels))
        self.layers = nn.ModuleList([nn.ModuleList([projection, forward])])

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        projection, forward = self.layers[0]
        tokens = projection(x.flatten(2).transpose(1, 2), y.flatten(2).transpose(1, 2))
        return forward(tokens).transpose(1, 2).unflatten(2, (height, width))


def widen(channels: int, out: int) -> tuple[nn.Module, nn.Module]:
    """1 x 1 convolution to ``out`` channels, then a depthwise 3 x 3 convolution."""
    return nn.Conv2d(channels, out, 1), nn.Conv2d(out, out, 3, padding=1, groups=out)


def entrance_layers(width: int) -> nn.Sequential:
    """BatchNorm, SiLU, dropout and a convolution that starts at zero."""
    return nn.Sequential(
        nn.BatchNorm2d(width),
        nn.SiLU(),
        nn.Dropout(DROPOUT),
        zeroed(nn.Conv2d(width, width, 3, padding=1)),
    )


def zeroed(convolution: nn.Conv2d) -> nn.Conv2d:
    """The same convolution with weights and bias set to zero."""
    nn.init.zeros_(convolution.weight)
    nn.init.zeros_(convolution.bias)
    return convolution


def near_zero(image: torch.Tensor, groups: int) -> torch.Tensor:
    """The image, each of its groups of channels moved to about mean zero: no difference to the GroupNorm that follows.

    On the CPU, torch takes the variance of channels-last images as the mean square minus the squared mean in float32, which
    loses most digits of a group that varies little about a mean far from zero.
    """
    if image.device.type != "cpu":
        return image
    means = image.detach().mean(dim=(2, 3)).unflatten(1, (groups, -1))
    shifts = means.mean(dim=2, keepdim=True).expand_as(means).flatten(1)
    return image - shifts[:, :, None, None]


def partial_convolution(
    convolution: nn.Conv2d, image: torch.Tensor, channels: slice
) -> torch.Tensor:
    """What ``image``, the given input channels, adds to the convolution's output, bias included."""
    return F.conv2d(image, convolution.weight[:, channels], convolution.bias, padding=1)


def scale_first_half(x: torch.Tensor, gain: float) -> torch.Tensor:
    """FMIM on the spectral branch: the first half of the channels times ``gain``."""
    half = x.shape[1] // 2
    return torch.cat([x[:, :half] * gain, x[:, half:]], dim=1)


def scale_low_frequencies(y: torch.Tensor, gain: float) -> torch.Tensor:
    """FMIM on the spatial branch: the tile's lowest frequencies times ``gain``, without a Fourier transform.

    The published filter scales a 2 x 2 window of the centred spectrum and keeps the real part.  That multiplies the mean
    by ``gain`` and the three lowest plane waves (along rows, along columns, along the diagonal) by (1 + gain)/2.
    """
    height, width = y.shape[-2:]
    waves, weights = low_frequency_waves(height, width, y.device, y.dtype)
    flat = y.flatten(2)
    amplitudes = (flat @ waves.T) * (weights * (gain - 1))
    return (flat + amplitudes @ waves).view_as(y)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # the cached tensors must serve training as well
def low_frequency_waves(
    height: int, width: int, device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Orthonormal mean and plane waves (7, H*W), and the share of each that the filter takes away (7,)."""
    # float64: the phases of large tiles lose digits in float32.
    rows = torch.arange(height, dtype=torch.float64)[:, None] / height
    columns = torch.arange(width, dtype=torch.float64)[None, :] / width
    phases = [rows.expand(height, width), columns.expand(height, width), rows + columns]
    waves = [torch.full((height, width), 0.5**0.5, dtype=torch.float64)]
    for phase in phases:
        waves += [torch.cos(2 * math.pi * phase), torch.sin(2 * math.pi * phase)]
    basis = torch.stack(waves).flatten(1) * math.sqrt(2 / (height * width))
    weights = torch.tensor([1.0] + [0.5] * 6)
    return basis.to(device, dtype), weights.to(device, dtype)
