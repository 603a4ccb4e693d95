"""Convolutions with constant weights, laid out once for the device they run on.

On the CPU oneDNN would bring plain weights into its own blocked layout at every call, and torch would leave small 1 x 1
convolutions to a slower routine where it has one thread; torch's own compiler calls the operators used here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

TYPICAL_TILES = (2, 64)
"""Tiles, and their rows and columns, that oneDNN's layout is chosen for; others are right too."""

_OPERATORS = (
    "_convolution_pointwise",
    "_convolution_pointwise_",
    "_convolution_transpose_pointwise",
    "_is_mkldnn_bf16_supported",
    "_linear_pointwise",
    "_reorder_convolution_transpose_weight",
    "_reorder_convolution_weight",
    "_reorder_linear_weight",
)


class Convolution:
    """A zero-padded convolution of channels-last images, or a transposed one.

    Args:
        weight: as ``torch.nn.functional.conv2d`` takes it, or ``conv_transpose2d``; its device and type are those of
            the images.
        bias: (out,), None for none.
        stride, padding, groups: as there; a transposed convolution has one group.
        transposed: whether it is a transposed convolution.
        reduction: rows of a tile per row of the input, for the layout.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        transposed: bool = False,
        reduction: int = 1,
    ) -> None:
        self.weight = weight.detach().contiguous()
        self.bias = None if bias is None else bias.detach()
        self.stride, self.padding, self.groups = stride, padding, groups
        self.transposed = transposed
        self.packed = can_pack(weight)
        if not self.packed:
            self.weight = self.weight.contiguous(memory_format=torch.channels_last)
            return
        tiles, side = TYPICAL_TILES
        channels = weight.shape[0] if transposed else weight.shape[1] * groups
        size = [tiles, channels, side // reduction, side // reduction]
        ops = torch.ops.mkldnn
        if transposed:
            self.weight = ops._reorder_convolution_transpose_weight(
                self.weight, [padding] * 2, [0, 0], [stride] * 2, [1, 1], groups, size
            )
        else:
            self.weight = ops._reorder_convolution_weight(
                self.weight, [padding] * 2, [stride] * 2, [1, 1], groups, size
            )

    def __call__(self, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """The convolution of x (B, C, H, W); ``bias`` (out,) takes the place of the constant one."""
        bias = self.bias if bias is None else bias
        if not self.packed:
            if self.transposed:
                return F.conv_transpose2d(x, self.weight, bias, self.stride, self.padding)
            return F.conv2d(x, self.weight, bias, self.stride, self.padding, 1, self.groups)
        geometry = [[self.stride] * 2, [1, 1], self.groups]
        if self.transposed:
            geometry.insert(0, [0, 0])
            operator = torch.ops.mkldnn._convolution_transpose_pointwise
        else:
            operator = torch.ops.mkldnn._convolution_pointwise
        return operator(x, self.weight, bias, [self.padding] * 2, *geometry, "none", [], "")

    def with_biases(self, x: torch.Tensor, biases: torch.Tensor) -> torch.Tensor:
        """The convolution of x (B, C, H, W) plus biases (1 or B, out); for one that has no bias of its own."""
        if len(biases) == 1:
            return self(x, biases[0])
        return self(x).add_(biases[:, :, None, None])

    def add_to(self, total: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Add the convolution of x to ``total``, in place."""
        if not self.packed or self.transposed:
            return total.add_(self(x))
        return torch.ops.mkldnn._convolution_pointwise_.binary(
            total,
            x,
            self.weight,
            self.bias,
            [self.padding] * 2,
            [self.stride] * 2,
            [1, 1],
            self.groups,
            "add",
            None,
            None,
            [],
            None,
        )


class Pointwise:
    """A 1 x 1 convolution of images whose channels come last, (B, H, W, C) or (B, N, C).

    Args:
        weight: (out, channels); its device and type are those of the images.
        bias: (out,), None for none.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self.weight = weight.detach().contiguous()
        self.bias = None if bias is None else bias.detach()
        self.packed = can_pack(weight)
        if self.packed:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(
                self.weight, TYPICAL_TILES[0] * TYPICAL_TILES[1] ** 2
            )

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if not self.packed:
            return F.linear(x, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


def can_pack(weight: torch.Tensor) -> bool:
    """Whether this torch and this processor compute with weights in oneDNN's layout."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    ops = torch.ops.mkldnn
    if not all(hasattr(ops, name) for name in _OPERATORS):
        return False
    if weight.dtype == torch.bfloat16:
        return bool(ops._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32


def as_image(pixels: torch.Tensor) -> torch.Tensor:
    """(B, H, W, C) as (B, C, H, W), channels-last, without a copy."""
    return pixels.permute(0, 3, 1, 2)


def as_pixels(image: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W), channels-last, as (B, H, W, C), without a copy."""
    return image.permute(0, 2, 3, 1)


def channels_last(image: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) in the layout that all of this is for; a copy unless it has it already."""
    return image.contiguous(memory_format=torch.channels_last)
