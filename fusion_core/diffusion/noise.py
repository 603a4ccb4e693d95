"""Gaussian noise as a fixed field over absolute PAN pixels.

Every sample is a hash of (row, column, band, seed), so two tiles that overlap see the same noise in the overlap, and
the result does not depend on how a scene was cut, batched or spread over machines.
"""

from __future__ import annotations

import math

import torch

_MASK = (1 << 64) - 1


def noise_field(
    row: int,
    col: int,
    height: int,
    width: int,
    bands: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """A window of the standard normal field of one seed.

    Args:
        row, col: absolute PAN coordinates of the window's first pixel, negative ones included.
        height, width: size of the window in PAN pixels.
        bands: number of bands.
        seed: any integer.
        device: where the samples are computed; float64 arithmetic makes the result the same on all of them.

    Returns:
        float32 (bands, height, width).
    """
    wanted = torch.device(device)
    if wanted.type == "mps":
        # Apple's GPUs have no float64.
        return noise_field(row, col, height, width, bands, seed).to(wanted)
    rows = torch.arange(row, row + height, device=device, dtype=torch.int64)[None, :, None]
    cols = torch.arange(col, col + width, device=device, dtype=torch.int64)[None, None, :]
    band = torch.arange(bands, device=device, dtype=torch.int64)[:, None, None]
    # Chained, so that no two coordinates can compensate each other.
    state = _mix(band + _signed(_mix_int(seed & _MASK)))
    state = _mix(_mix(state + rows) + cols)
    # Box-Muller in place; 1 - u keeps the logarithm's argument above zero.
    radius = _scaled_uniform(_mix(state + _signed(_GOLDEN)), -1).log1p_().mul_(-2).sqrt_()
    cosine = _scaled_uniform(_mix(state + _signed(2 * _GOLDEN & _MASK)), 2 * math.pi).cos_()
    return radius.mul_(cosine).to(torch.float32)


_GOLDEN = 0x9E3779B97F4A7C15
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def _signed(value: int) -> int:
    """The int64 with the bits of an unsigned 64-bit integer."""
    return value - (1 << 64) if value >= 1 << 63 else value


def _mix(x: torch.Tensor) -> torch.Tensor:
    """The SplitMix64 finaliser on int64 bit patterns, in place; int64 products wrap as uint64's do."""
    x.bitwise_xor_(_shift(x, 30)).mul_(_signed(_MULTIPLIERS[0]))
    x.bitwise_xor_(_shift(x, 27)).mul_(_signed(_MULTIPLIERS[1]))
    return x.bitwise_xor_(_shift(x, 31))


def _mix_int(x: int) -> int:
    x = ((x ^ (x >> 30)) * _MULTIPLIERS[0]) & _MASK
    x = ((x ^ (x >> 27)) * _MULTIPLIERS[1]) & _MASK
    return x ^ (x >> 31)


def _shift(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical right shift; int64's own is arithmetic."""
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _scaled_uniform(x: torch.Tensor, factor: float) -> torch.Tensor:
    """The upper 53 bits as float64 in [0, 1), times a factor: rounded once, since powers of two are exact."""
    return _shift(x, 11).to(torch.float64).mul_(factor * 2.0**-53)
