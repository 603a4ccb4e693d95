"""The attention of SSDiff's inference form: by the kernel made for it where there is one, else by PyTorch."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
import torch.nn.functional as F

from .ssdiff import HEAD_WIDTH

SCALE = 1 / math.sqrt(HEAD_WIDTH)
KERNEL_TYPES = (torch.float32, torch.bfloat16)
"""The kernel computes in float32; nothing more exact is given to it."""
FEWEST = 16
"""Tokens that the kernel needs."""
KERNEL = "llvmlite kernel"
_COMPILING = threading.Lock()


def attention_in_use(device: torch.device) -> str:
    """Which code computes attention on a device: "llvmlite kernel" or "PyTorch"."""
    return KERNEL if device.type == "cpu" and _kernel() else "PyTorch"


def gather_and_mix(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mixing: torch.Tensor
) -> torch.Tensor:
    """softmax(q kᵀ / 4) v, times q mixing, for every head; without gradients.

    Args:
        queries, keys, values: tokens (B, N, C) with C a multiple of 16; head h is channels 16 h to 16 h + 15.
        mixing: (B, C/16, 16, 16).

    Returns:
        (B, N, C).
    """
    if queries.device.type == "cpu" and queries.dtype in KERNEL_TYPES:
        kernel = _kernel()
        if kernel is not None and queries.shape[1] >= FEWEST:
            return _by_kernel(kernel, queries, keys, values, mixing)
    return _by_torch(queries, keys, values, mixing)


def _by_torch(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mixing: torch.Tensor
) -> torch.Tensor:
    q, k, v = (
        tokens.unflatten(2, (-1, HEAD_WIDTH)).transpose(1, 2) for tokens in (queries, keys, values)
    )
    gathered = F.scaled_dot_product_attention(q, k, v, scale=SCALE)
    return (gathered * (q @ mixing)).transpose(1, 2).flatten(2)


def _by_kernel(
    kernel: Callable[..., None],
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mixing: torch.Tensor,
) -> torch.Tensor:
    dtype = queries.dtype
    queries, keys, values = (tokens.float() for tokens in (queries, keys, values))
    mixing = mixing.float().contiguous()
    batch, count, channels = queries.shape
    out = torch.empty(batch, count, channels)
    tokens = (queries, keys, values, out)
    if any(t.stride(2) != 1 for t in tokens):
        raise ValueError("The channels of a token must lie side by side.")
    rows = [t.stride(1) for t in tokens]
    size = out.element_size()

    def compute(jobs: list[tuple[int, int]]) -> None:
        for tile, head in jobs:
            starts = [
                t.data_ptr() + size * (tile * t.stride(0) + head * HEAD_WIDTH) for t in tokens
            ]
            mix = mixing.data_ptr() + size * (tile * mixing.stride(0) + head * mixing.stride(1))
            kernel(*starts[:3], mix, starts[3], *rows, count, SCALE * math.log2(math.e))

    jobs = [(tile, head) for tile in range(batch) for head in range(channels // HEAD_WIDTH)]
    threads = min(torch.get_num_threads(), len(jobs))
    if threads == 1:
        compute(jobs)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(compute, [jobs[first::threads] for first in range(threads)]))
    return out.to(dtype)


def _kernel() -> Callable[..., None] | None:
    """The kernel, None where llvmlite is not installed or knows no code for this processor."""
    with _COMPILING:
        return _compiled()


@cache
def _compiled() -> Callable[..., None] | None:
    try:
        from .attention_kernel import compiled_attention

        return compiled_attention()
    except (ImportError, OSError, RuntimeError):
        return None
