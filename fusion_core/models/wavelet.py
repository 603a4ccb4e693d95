"""One-level two-dimensional DB1 (Haar) wavelet analysis on the tensor's own device."""

from __future__ import annotations

from functools import lru_cache

import pywt
import torch
import torch.nn.functional as F


@lru_cache(maxsize=1)
def analysis_kernels() -> tuple[tuple[tuple[float, ...], ...], ...]:
    """The four 2 x 2 correlation kernels of PyWavelets' DB1 filter bank, in the order LL, H, V, D."""
    bank = pywt.Wavelet("db1")
    low, high = bank.dec_lo[::-1], bank.dec_hi[::-1]
    pairs = ((low, low), (high, low), (low, high), (high, high))
    return tuple(tuple(r * c for r in rows for c in columns) for rows, columns in pairs)


def wavelet_transform(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """DB1 analysis of each channel, equal to ``pywt.dwt2(image, "db1")``.

    Args:
        image: (B, C, H, W) with even H and W.

    Returns:
        The approximation LL, (B, C, H/2, W/2), orthonormal scaling (twice the local mean), and the details,
        (B, C, 3, H/2, W/2), in PyWavelets' order: horizontal, vertical, diagonal.
    """
    batch, channels, height, width = image.shape
    kernels = torch.tensor(analysis_kernels(), dtype=image.dtype, device=image.device)
    flat = image.reshape(batch * channels, 1, height, width)
    bands = F.conv2d(flat, kernels.view(4, 1, 2, 2), stride=2)
    bands = bands.view(batch, channels, 4, height // 2, width // 2)
    return bands[:, :, 0], bands[:, :, 1:]
