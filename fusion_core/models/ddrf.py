"""DDRF: a conditional diffusion UNet with style and wavelet modulation.

Cao et al., arXiv 2304.04774 (2023), and its journal version DDIF, Information Fusion 104 (2024).  State-dict keys and
arithmetic are those of the published network, so its checkpoints load; the comments name where it departs from
the paper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from .network import FusionNetwork, TimeFeatures, sinusoids
from .wavelet import wavelet_transform

HEADS = 8
MULTIPLIERS = (1, 2, 2, 4)
ENCODER_BLOCKS = 3
DECODER_BLOCKS = 4
DROPOUT = 0.2
DETAIL_ORDERS = {"HVD": (0, 1, 2), "HDV": (0, 2, 1)}


@dataclass
class _Features:
    """Per encoder block (1 + scale, shift); per decoder block the attention's matrix on the query, (B, d, F)."""

    styles: list[tuple[torch.Tensor, torch.Tensor]]
    contexts: list[torch.Tensor]


class DDRF(FusionNetwork):
    """The network, see the module's docstring.

    Args:
        ms_bands: number of MS bands C.
        guide_bands: bands P of the sharp image: 1 for PAN, 3 for an RGB guide of a hyperspectral image.
        ratio: PAN pixels per MS pixel; the network itself sees MS only after resampling.
        width: channels of the first level, 32 as published.
        detail_order: order of the guide's wavelet details, "HDV" (published pansharpening) or "HVD" (hyperspectral).
    """

    method = "ddrf"

    def __init__(
        self,
        ms_bands: int,
        guide_bands: int = 1,
        ratio: int = 4,
        *,
        width: int = 32,
        detail_order: str = "HDV",
    ) -> None:
        super().__init__(ms_bands, guide_bands, ratio, stride=8, smallest=16, train_steps=500)
        if detail_order not in DETAIL_ORDERS:
            raise ValueError(f"detail_order must be one of {sorted(DETAIL_ORDERS)}.")
        self.width = width
        self.detail_order = detail_order
        encoder_condition = ms_bands + guide_bands
        decoder_condition = ms_bands + 3 * guide_bands
        self.noise_level_mlp = nn.Sequential(
            nn.Identity(), nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width)
        )
        channels = [width * multiplier for multiplier in MULTIPLIERS]
        last = len(channels) - 1
        self.downs = nn.ModuleList([nn.Conv2d(2 * ms_bands, width, 3, padding=1)])
        current, skips = width, [width]
        for level, out in enumerate(channels):
            for _ in range(ENCODER_BLOCKS):
                style = StyleModulation(current, out, encoder_condition)
                self.downs.append(Block(out, width, style, attention=level == last))
                current = out
                skips.append(current)
            if level < last:
                self.downs.append(Downsample(current))
                skips.append(current)
        self.mid = nn.ModuleList(
            [Block(current, width, attention=True), Block(current, width, attention=False)]
        )
        self.ups = nn.ModuleList()
        for level, out in reversed(list(enumerate(channels))):
            for _ in range(DECODER_BLOCKS):
                wavelet = WaveletModulation(current + skips.pop(), out, decoder_condition)
                self.ups.append(Block(out, width, wavelet, attention=level == last))
                current = out
            if level > 0:
                self.ups.append(Upsample(current))
        self.final_conv = NormActConv(current, ms_bands)

    def time_features(self, t: torch.Tensor) -> TimeFeatures:
        """Biases of the residual blocks in the order they are met."""
        level = noise_level(self.noise_level_mlp, t)
        return [block.res_block.noise_func(level) for block in self.blocks()]

    def inference_form(self) -> FusionNetwork:
        """See ``FusionNetwork.inference_form``; within 1e-5 of this network's range, a call in float32."""
        # Imported here, for that module reads this one.
        from .ddrf_inference import DDRFInference

        return DDRFInference(self).eval()

    def condition_channels(
        self, guide: torch.Tensor, lms: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the encoder, (B, C+P, H, W), and the decoder, (B, C+3P, H/2, W/2), are conditioned on."""
        approximation, _ = wavelet_transform(lms)
        _, details = wavelet_transform(guide)
        # Stacked by kind of detail, then by guide band.
        details = (
            details[:, :, list(DETAIL_ORDERS[self.detail_order])].transpose(1, 2).flatten(1, 2)
        )
        return torch.cat([lms, guide], dim=1), torch.cat([approximation, details], dim=1)

    def blocks(self) -> list[Block]:
        """The blocks in the order they are met."""
        return [
            m for part in (self.downs, self.mid, self.ups) for m in part if isinstance(m, Block)
        ]

    def _prepare(self, guide: torch.Tensor, ms: torch.Tensor, lms: torch.Tensor) -> _Features:
        encoder, half = self.condition_channels(guide, lms)
        decoder = resize(half, encoder.shape[-2:])
        levels = range(len(MULTIPLIERS))
        sizes = [(encoder.shape[-2] >> level, encoder.shape[-1] >> level) for level in levels]
        encoders = [resize(encoder, size) for size in sizes]
        decoders = [resize(decoder, size) for size in sizes]
        styles, contexts = [], []
        level = 0
        for module in self.downs:
            if isinstance(module, Downsample):
                level += 1
            elif isinstance(module, Block):
                styles.append(module.cond_inj.style(encoders[level]))
        for module in self.ups:
            if isinstance(module, Upsample):
                level -= 1
            else:
                contexts.append(module.cond_inj.context(decoders[level]))
        return _Features(styles, contexts)

    def _step(
        self,
        x_t: torch.Tensor,
        time: TimeFeatures,
        features: _Features,
        self_cond: torch.Tensor | None,
    ) -> torch.Tensor:
        biases, styles, contexts = iter(time), iter(features.styles), iter(features.contexts)
        # The published network repeats x_t where there is no estimate yet, where others pass zeros.
        x = self.downs[0](torch.cat([x_t if self_cond is None else self_cond, x_t], dim=1))
        skips = [x]
        for module in self.downs[1:]:
            if isinstance(module, Block):
                x = module(module.cond_inj(x, next(styles)), next(biases))
            else:
                x = module(x)
            skips.append(x)
        for block in self.mid:
            x = block(x, next(biases))
        for module in self.ups:
            if isinstance(module, Block):
                x = module.cond_inj(torch.cat([x, skips.pop()], dim=1), next(contexts))
                x = module(x, next(biases))
            else:
                x = module(x)
        return self.final_conv(x)


def noise_level(mlp: nn.Sequential, t: torch.Tensor) -> torch.Tensor:
    """The embedding of timesteps t, (B,) or (1,), that the biases of the blocks are made of, (., width)."""
    weight = mlp[1].weight
    return mlp(torch.cat(sinusoids(t, weight.shape[1] // 2, weight.dtype), dim=1))


class NormActConv(nn.Module):
    """GroupNorm over the whole tile, SiLU, dropout, 3 x 3 convolution."""

    def __init__(self, channels: int, out: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.GroupNorm(1, channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Conv2d(channels, out, 3, padding=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x)


class NoiseBias(nn.Module):
    """A bias per channel from the noise level."""

    def __init__(self, level_channels: int, channels: int) -> None:
        super().__init__()
        self.noise_func = nn.Sequential(nn.Linear(level_channels, channels))

    def forward(self, level: torch.Tensor) -> torch.Tensor:
        return self.noise_func(level)


class ResidualBlock(nn.Module):
    """Two norm-act-convolutions with the noise level's bias between them."""

    def __init__(self, channels: int, level_channels: int) -> None:
        super().__init__()
        self.noise_func = NoiseBias(level_channels, channels)
        self.block1 = NormActConv(channels, channels)
        self.block2 = NormActConv(channels, channels, DROPOUT)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return self.block2(self.block1(x) + bias[:, :, None, None]) + x


class Block(nn.Module):
    """One stage of the UNet: injection of the condition (called by the UNet), residual block, self-attention."""

    def __init__(
        self,
        channels: int,
        level_channels: int,
        injection: nn.Module | None = None,
        *,
        attention: bool,
    ) -> None:
        super().__init__()
        self.res_block = ResidualBlock(channels, level_channels)
        self.attn = SelfAttention(channels) if attention else None
        if injection is not None:
            self.cond_inj = injection

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        x = self.res_block(x, bias)
        return x if self.attn is None else self.attn(x)


class Downsample(nn.Module):
    """Halve the size by a strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    """Double the size by repetition and a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class StyleModulation(nn.Module):
    """Coarse-grained style modulation of the encoder: scale and shift maps from LMS and PAN."""

    def __init__(self, channels: int, out: int, condition_channels: int) -> None:
        super().__init__()
        hidden = 4 * out
        self.body = nn.Sequential(
            nn.Conv2d(condition_channels, hidden, 3, padding=1, bias=False),
            nn.GroupNorm(1, hidden),
            nn.SiLU(),
            nn.Conv2d(hidden, 2 * out, 1),
        )
        nn.init.zeros_(self.body[3].weight)
        nn.init.zeros_(self.body[3].bias)
        self.x_conv = nn.Conv2d(channels, out, 1)

    def style(self, condition: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps (1 + scale, shift), each (B, out, h, w)."""
        scale, shift = self.body(condition).chunk(2, dim=1)
        return 1 + scale, shift

    def forward(self, x: torch.Tensor, style: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return torch.addcmul(style[1], self.x_conv(x), style[0])


class WaveletModulation(nn.Module):
    """Fine-grained wavelet modulation of the decoder: linear-memory cross-attention on the wavelet condition."""

    def __init__(self, channels: int, out: int, condition_channels: int) -> None:
        super().__init__()
        self.prenorm_x = nn.GroupNorm(1, channels)
        self.q = depthwise_separable(channels, channels)
        self.kv = depthwise_separable(condition_channels, 2 * channels)
        self.attn_out = nn.Conv2d(channels, out, 1)
        self.attn_res = nn.Conv2d(channels, out, 1)
        self.ffn = nn.Sequential(
            nn.Conv2d(out, 2 * out, 3, padding=1, bias=False),
            nn.SiLU(),
            nn.Conv2d(2 * out, out, 3, padding=1, bias=False),
            nn.Conv2d(out, out, 1),
        )
        self.drop_branch = StochasticDepth(DROPOUT)

    def context(self, condition: torch.Tensor) -> torch.Tensor:
        """Matrix (B, out, F) that takes the softmaxed query to the attention's projected output.

        Keys and values depend on the condition alone, so heads, scaling and the output projection fold into one
        matrix per tile.
        """
        batch = condition.shape[0]
        k, v = self.kv(condition).chunk(2, dim=1)
        channels = k.shape[1]
        head = channels // HEADS
        # As published: keys are normalised along image rows (and queries along columns), not over all positions.
        k = k.softmax(dim=-1).reshape(batch, HEADS, head, -1)
        v = v.reshape(batch, HEADS, head, -1)
        context = v @ k.transpose(-1, -2) / math.sqrt(head)
        projection = self.attn_out.weight.view(-1, HEADS, head)
        return torch.einsum("ohe,bhed->bohd", projection, context).reshape(batch, -1, channels)

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        batch, _, height, width = x.shape
        x = self.prenorm_x(x)
        q = self.q(x).softmax(dim=-2)
        attended = (context @ q.flatten(2)).view(batch, -1, height, width)
        x = attended + self.attn_out.bias[:, None, None] + self.attn_res(x)
        return self.drop_branch(self.ffn(x)) + x


class SelfAttention(nn.Module):
    """Self-attention over all positions of the coarsest level."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = x.shape
        # Laid out by head, then q, k, v.
        heads = self.qkv(self.norm(x)).view(batch, HEADS, 3, channels // HEADS, height * width)
        q, k, v = heads.transpose(-1, -2).unbind(dim=2)
        # Published logits are divided by the root of all channels, not of a head's.
        out = F.scaled_dot_product_attention(q, k, v, scale=1 / math.sqrt(channels))
        return self.out(out.transpose(-1, -2).reshape(batch, channels, height, width)) + x


def depthwise_separable(channels: int, out: int) -> nn.Sequential:
    """Depthwise 3 x 3 convolution without bias, then a 1 x 1 convolution."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        nn.Conv2d(channels, out, 1),
    )


def resize(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bilinear resampling without corner alignment."""
    if image.shape[-2:] == tuple(size):
        return image
    return F.interpolate(image, size=size, mode="bilinear", align_corners=False)


class StochasticDepth(nn.Dropout):
    """Drops the whole branch of a sample while training."""

    def forward(self, branch: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0:
            return branch
        keep = torch.rand(branch.shape[0], 1, 1, 1, device=branch.device) >= self.p
        return branch * keep / (1 - self.p)
