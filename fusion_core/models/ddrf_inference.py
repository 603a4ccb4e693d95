"""DDRF arranged for speed: the same function of the same weights, without what training or readers need.

What is folded, each exactly up to rounding:

- the noise level's bias and the bias of the convolution before it into one, in the time table;
- ``cat[x_t, x_t]`` where there is no estimate to feed back: one convolution with the sum of both halves' weights;
- nearest up-sampling and its 3 x 3 convolution: a transposed convolution, 4/9 of the work;
- the two last convolutions of a feed-forward branch, between which nothing happens;
- the biases of the query and the key convolutions, which a softmax does not see;
- the values of the wavelet attention, which are never computed: they are linear in the eleven or so depthwise filtered
  condition channels, so keys meet those channels and a small matrix per head does the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from . import ddrf
from .inference_form import InferenceForm
from .network import TimeFeatures
from .packed import Convolution, Pointwise, as_image, as_pixels, channels_last
from .wavelet import analysis_kernels

HEADS = ddrf.HEADS
VECTOR_BYTES = 64
"""The keys of a pixel are a multiple of this: torch takes remainders one by one in a softmax along rows."""

LONGEST = 324
"""Positions up to which holding an attention map on the CPU is faster: those of a tile of 144 pixels."""


@dataclass
class _Features:
    """Per encoder block (1 + scale, shift), (B, h, w, out); per decoder block the matrix on the query, (B, F, out)."""

    styles: list[tuple[torch.Tensor, torch.Tensor]]
    contexts: list[torch.Tensor]


class DDRFInference(InferenceForm):
    """The inference form of a trained ``DDRF``."""

    method = "ddrf"
    trained: ddrf.DDRF

    def _arrange(self) -> None:
        self._kept_table: tuple[tuple[int, ...], list[TimeFeatures]] = ((), [])
        trained = self.trained
        blocks = trained.blocks()
        functions = [block.res_block.noise_func.noise_func[0] for block in blocks]
        before = [block.res_block.block1.block[3].bias for block in blocks]
        self._channels = [bias.shape[0] for bias in before]
        self._level_weight = torch.cat([function.weight for function in functions])
        self._level_bias = torch.cat([f.bias + bias for f, bias in zip(functions, before)])
        first = trained.downs[0]
        fed_back, itself = first.weight.chunk(2, dim=1)
        self._entrance = Convolution(
            _in_float64(torch.add, fed_back, itself), first.bias, padding=1
        )
        self._entrance_itself = Convolution(itself, first.bias, padding=1)
        self._entrance_fed_back = Convolution(fed_back, padding=1)
        self._wavelet = _wavelet_convolution(trained)
        self._encoder: list[_EncoderBlock | Convolution] = []
        level = 0
        for module in trained.downs[1:]:
            if isinstance(module, ddrf.Downsample):
                conv = module.conv
                self._encoder.append(
                    Convolution(conv.weight, conv.bias, stride=2, padding=1, reduction=1 << level)
                )
                level += 1
            else:
                self._encoder.append(_EncoderBlock(module, level))
        self._middle = [_Block(module, level) for module in trained.mid]
        self._decoder: list[_DecoderBlock | Convolution] = []
        self._keys: list[_Keys] = []
        injections: list[ddrf.WaveletModulation] = []
        for module in trained.ups:
            if isinstance(module, ddrf.Upsample):
                self._keys.append(_Keys(injections, level))
                injections = []
                self._decoder.append(_upsampling(module.conv, level))
                level -= 1
            else:
                injections.append(module.cond_inj)
                self._decoder.append(_DecoderBlock(module, level))
        self._keys.append(_Keys(injections, level))
        norm, _, _, conv = trained.final_conv.block
        self._norm = _Norm(norm)
        self._exit = Convolution(conv.weight, conv.bias, padding=1)

    def time_table(self, timesteps: Sequence[int] | torch.Tensor) -> list[TimeFeatures]:
        """See ``FusionNetwork.time_table``; the last one is kept, since all batches of a run ask for the same."""
        wanted = tuple(int(t) for t in timesteps)
        kept, table = self._kept_table
        if kept != wanted:
            table = super().time_table(wanted)
            self._kept_table = wanted, table
        return table

    def time_features(self, t: torch.Tensor) -> TimeFeatures:
        """Biases of the first convolution of every residual block."""
        level = ddrf.noise_level(self.trained.noise_level_mlp, t)
        biases = F.linear(level, self._level_weight, self._level_bias)
        return list(biases.split(self._channels, dim=1))

    def _prepare(self, guide: torch.Tensor, ms: torch.Tensor, lms: torch.Tensor) -> _Features:
        encoder = channels_last(torch.cat([lms, guide], dim=1))
        size = encoder.shape[-2:]
        decoder = ddrf.resize(self._wavelet(encoder), size)
        levels = range(len(ddrf.MULTIPLIERS))
        sizes = [(size[0] >> level, size[1] >> level) for level in levels]
        encoders = [channels_last(ddrf.resize(encoder, size)) for size in sizes]
        decoders = [channels_last(ddrf.resize(decoder, size)) for size in sizes]
        styles = [
            block.style(encoders[block.level])
            for block in self._encoder
            if isinstance(block, _EncoderBlock)
        ]
        contexts: list[torch.Tensor] = []
        for keys in self._keys:
            contexts += keys.contexts(decoders[keys.level])
        return _Features(styles, contexts)

    def _step(
        self,
        x_t: torch.Tensor,
        time: TimeFeatures,
        features: _Features,
        self_cond: torch.Tensor | None,
    ) -> torch.Tensor:
        biases, styles, contexts = iter(time), iter(features.styles), iter(features.contexts)
        x_t = channels_last(x_t)
        if self_cond is None:
            x = self._entrance(x_t)
        else:
            x = self._entrance_itself(x_t)
            x = self._entrance_fed_back.add_to(x, channels_last(self_cond))
        skips = [x]
        for part in self._encoder:
            if isinstance(part, _EncoderBlock):
                x = part(x, next(styles), next(biases))
            else:
                x = part(x)
            skips.append(x)
        # The blocks add to their input in place, and this one is a skip too.
        x = x.clone(memory_format=torch.preserve_format)
        for block in self._middle:
            x = block(x, next(biases))
        for part in self._decoder:
            if isinstance(part, _DecoderBlock):
                x = torch.cat([x, skips.pop()], dim=1)
                x = part(x, next(contexts), next(biases))
            else:
                x = part(x)
        return self._exit(F.silu(self._norm(x), inplace=True))


class _Norm:
    """GroupNorm over the whole tile."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        self.weight, self.bias, self.eps = norm.weight.detach(), norm.bias.detach(), norm.eps
        # On a GPU torch would bring images with their channels last into another layout and leave them there.
        self.by_pixels = norm.weight.device.type != "cpu"

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if not self.by_pixels:
            return F.group_norm(x, 1, self.weight, self.bias, self.eps)
        pixels = as_pixels(x)
        # Over a whole tile, pixels may pass for channels.
        normalised = F.group_norm(pixels.flatten(1, 2), 1, eps=self.eps).view(pixels.shape)
        return as_image(torch.addcmul(self.bias, normalised, self.weight))


class _Block:
    """Residual block, added to its input in place, and self-attention where there is one."""

    def __init__(self, block: ddrf.Block, level: int) -> None:
        (norm1, _, _, conv1), (norm2, _, _, conv2) = (
            part.block for part in (block.res_block.block1, block.res_block.block2)
        )
        self.level = level
        self.norm1, self.norm2 = _Norm(norm1), _Norm(norm2)
        reduction = 1 << level
        self.conv1 = Convolution(conv1.weight, padding=1, reduction=reduction)
        self.conv2 = Convolution(conv2.weight, conv2.bias, padding=1, reduction=reduction)
        self.attention = None if block.attn is None else _SelfAttention(block.attn)

    def __call__(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        h = F.silu(self.norm1(x), inplace=True)
        h = self.conv1.with_biases(h, bias)
        h = F.silu(self.norm2(h), inplace=True)
        x = self.conv2.add_to(x, h)
        return x if self.attention is None else self.attention(x)


class _EncoderBlock(_Block):
    """Style modulation before the residual block."""

    def __init__(self, block: ddrf.Block, level: int) -> None:
        super().__init__(block, level)
        conv, norm, _, maps = block.cond_inj.body
        self.style_conv = Convolution(conv.weight, padding=1, reduction=1 << level)
        self.style_norm = _Norm(norm)
        scale, shift = maps.weight[:, :, 0, 0].chunk(2)
        scale_bias, shift_bias = maps.bias.chunk(2)
        self.scale = Pointwise(scale, scale_bias + 1)
        self.shift = Pointwise(shift, shift_bias)
        entrance = block.cond_inj.x_conv
        self.entrance = Pointwise(entrance.weight[:, :, 0, 0], entrance.bias)

    def style(self, condition: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = F.silu(self.style_norm(self.style_conv(condition)), inplace=True)
        return self.scale(as_pixels(hidden)), self.shift(as_pixels(hidden))

    def __call__(
        self, x: torch.Tensor, style: tuple[torch.Tensor, torch.Tensor], bias: torch.Tensor
    ) -> torch.Tensor:
        x = self.entrance(as_pixels(x))
        return super().__call__(as_image(torch.addcmul(style[1], x, style[0])), bias)


class _DecoderBlock(_Block):
    """Wavelet modulation before the residual block."""

    def __init__(self, block: ddrf.Block, level: int) -> None:
        super().__init__(block, level)
        injection = block.cond_inj
        reduction = 1 << level
        filtering, mixing = injection.q
        channels = filtering.weight.shape[0]
        self.norm = _Norm(injection.prenorm_x)
        self.filtering = Convolution(
            filtering.weight, padding=1, groups=channels, reduction=reduction
        )
        self.mixing = Pointwise(mixing.weight[:, :, 0, 0])
        self.direct = Pointwise(
            injection.attn_res.weight[:, :, 0, 0],
            injection.attn_res.bias + injection.attn_out.bias,
        )
        expanding, _, contracting, projecting = injection.ffn
        self.expanding = Convolution(expanding.weight, padding=1, reduction=reduction)
        self.contracting = Convolution(
            _in_float64(
                lambda w, p: torch.einsum("pm,micd->picd", p[:, :, 0, 0], w),
                contracting.weight,
                projecting.weight,
            ),
            projecting.bias,
            padding=1,
            reduction=reduction,
        )

    def __call__(self, x: torch.Tensor, context: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        x = self.norm(x)
        batch, _, height, width = x.shape
        # Published: queries are normalised along columns, which here is a dimension of contiguous pixels.
        q = self.mixing(as_pixels(self.filtering(x))).softmax(dim=1)
        direct = self.direct(as_pixels(x))
        x = torch.bmm(q.flatten(1, 2), context).add_(direct.flatten(1, 2))
        x = as_image(x.view(batch, height, width, -1))
        hidden = F.silu(self.expanding(x), inplace=True)
        return super().__call__(self.contracting.add_to(x, hidden), bias)


class _Keys:
    """The condition's side of the wavelet modulations of one level, together."""

    def __init__(self, injections: Sequence[ddrf.WaveletModulation], level: int) -> None:
        self.level = level
        filters = torch.cat([injection.kv[0].weight for injection in injections])
        count = injections[0].kv[0].weight.shape[0]
        # A dense convolution with zeros: depthwise ones of so few channels are slower.
        channel = torch.arange(filters.shape[0], device=filters.device)
        dense = filters.new_zeros(filters.shape[0], count, 3, 3)
        dense[channel, channel % count] = filters.detach()[:, 0]
        self.filters = Convolution(dense, padding=1, reduction=1 << level)
        self.count = count
        self.keys, self.widths, self.values, self.offsets = [], [], [], []
        for injection in injections:
            k, v = injection.kv[1].weight[:, :, 0, 0].chunk(2)
            channels = k.shape[0]
            padded = F.pad(k, (0, 0, 0, -channels % (VECTOR_BYTES // k.element_size())))
            self.keys.append(Pointwise(padded))
            self.widths.append(channels)
            values, offsets = _in_float64(
                _projected_values, v, injection.kv[1].bias.chunk(2)[1], injection.attn_out.weight
            )
            self.values.append(values)
            self.offsets.append(offsets)

    def contexts(self, condition: torch.Tensor) -> list[torch.Tensor]:
        """Matrices (B, F, out) that take a block's softmaxed query to its attention's projected output."""
        batch, _, height, width = condition.shape
        filtered = as_pixels(self.filters(condition))
        contexts = []
        for i, (channels, values) in enumerate(zip(self.widths, self.values)):
            own = filtered[..., i * self.count : (i + 1) * self.count].contiguous()
            # As published: keys are normalised along image rows.
            k = self.keys[i](own).softmax(dim=2)
            met = own.flatten(1, 2).transpose(1, 2) @ k.flatten(1, 2)
            met = met[..., :channels].view(batch, self.count, HEADS, -1).permute(0, 2, 3, 1)
            # The softmaxed keys of one channel sum to the number of rows.
            context = met @ values + self.offsets[i] * height
            contexts.append(context.reshape(batch, channels, -1))
        return contexts


def _projected_values(
    v: torch.Tensor, bias: torch.Tensor, projection: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Per head the attention's output by condition channel, (heads, count, out), and by row of keys, (heads, 1, out)."""
    head = v.shape[0] // HEADS
    projection = projection.view(-1, HEADS, head) / math.sqrt(head)
    values = torch.einsum("ohe,hec->hco", projection, v.view(HEADS, head, -1))
    offsets = torch.einsum("ohe,he->ho", projection, bias.view(HEADS, head))
    return values, offsets[:, None]


class _SelfAttention:
    """Self-attention over all positions."""

    def __init__(self, attention: ddrf.SelfAttention) -> None:
        self.norm = _Norm(attention.norm)
        weight = attention.qkv.weight[:, :, 0, 0]
        channels = weight.shape[1]
        self.head = channels // HEADS
        # From by head, then q, k, v, to by q, k, v, then head; published logits are over the root of all channels.
        weight = weight.detach().view(HEADS, 3, self.head, channels).transpose(0, 1).clone()
        weight[0] /= math.sqrt(channels)
        self.qkv = Pointwise(weight.reshape(3 * channels, channels))
        self.out = Pointwise(attention.out.weight[:, :, 0, 0], attention.out.bias)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = x.shape
        tokens = self.qkv(as_pixels(self.norm(x)))
        q, k, v = tokens.view(batch, height * width, 3, HEADS, self.head).permute(2, 0, 3, 1, 4)
        out = _attention(q, k, v).transpose(1, 2).reshape(batch, height, width, channels)
        return x.add_(as_image(self.out(out)))


def _attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """softmax(q kᵀ) v."""
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.shape[-2] <= LONGEST:
        # With heads so narrow, torch's fused attention in bfloat16 takes 1.2 to 1.7 times as long on the CPU.
        return (q @ k.transpose(-1, -2)).softmax(dim=-1) @ v
    return F.scaled_dot_product_attention(q, k, v, scale=1.0)


def _upsampling(conv: nn.Conv2d, level: int) -> Convolution:
    """Nearest up-sampling and a 3 x 3 convolution as one transposed convolution of 4 x 4."""
    # Which of the three taps meet at each of the four.
    meeting = torch.tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], dtype=torch.float64)
    weight = _in_float64(
        lambda w: torch.einsum("ap,bq,oipq->ioab", meeting, meeting, w), conv.weight
    )
    return Convolution(
        weight, conv.bias, stride=2, padding=1, transposed=True, reduction=1 << level
    )


def _wavelet_convolution(trained: ddrf.DDRF) -> Convolution:
    """From LMS and the guide, stacked, to the decoder's condition at half the size."""
    bands, guides = trained.ms_bands, trained.guide_bands
    low, *details = (torch.tensor(kernel).view(2, 2) for kernel in analysis_kernels())
    weight = torch.zeros(bands + 3 * guides, bands + guides, 2, 2)
    for band in range(bands):
        weight[band, band] = low
    for place, kind in enumerate(ddrf.DETAIL_ORDERS[trained.detail_order]):
        for guide in range(guides):
            weight[bands + place * guides + guide, bands + guide] = details[kind]
    return Convolution(weight.to(trained.downs[0].weight), stride=2)


def _in_float64(function, *weights: torch.Tensor):
    """Apply a function of weights without the rounding of their own type in between."""
    # On the CPU, for Apple's GPUs have no float64.
    result = function(*(weight.detach().cpu().double() for weight in weights))
    if isinstance(result, tuple):
        return tuple(part.to(weights[0]) for part in result)
    return result.to(weights[0])
