"""Which device computes, in which precision, and how many tiles at once."""

from __future__ import annotations

import os

import torch

from ..errors import FusionError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BFLOAT16_ON_CPU = ("ddrf",)
"""Methods whose networks a CPU with bfloat16 instructions computes faster in it; SSDiff's attention is none of them."""
CHUNK = 2
"""Tiles that one CPU thread computes together."""
GPU_BATCH = 64
LARGEST_BATCH = 256
MEMORY_SHARE = 0.5
"""Part of a GPU's free memory that batches may fill: what is left is for other programs and for fragmentation."""


def resolve_device(name: str) -> torch.device:
    """The device a user's choice means; "auto" is CUDA if usable, else MPS, else the CPU.

    Raises:
        FusionError: the device does not exist here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise FusionError(
            f"There is no device called {name}: use auto, cpu, cuda, cuda:N or mps."
        ) from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise FusionError(
                f"PyTorch sees {count} CUDA device(s) and not {name}: use auto or cpu."
            )
    elif device.type == "mps":
        if not torch.backends.mps.is_available():
            raise FusionError("PyTorch sees no MPS device: use auto or cpu.")
    elif device.type != "cpu":
        raise FusionError(f"There is no device called {name}: use auto, cpu, cuda, cuda:N or mps.")
    return device


def same_devices(name: str) -> list[str]:
    """The devices that share a job's tiles: for "auto" and "cuda" all GPUs like the first, else the named one alone.

    GPUs of another kind would compute other pixels.

    Raises:
        FusionError: the device does not exist here.
    """
    if name in ("auto", "cuda") and resolve_device(name).type == "cuda":
        first, *others = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
        kind = (first.name, first.major, first.minor)
        same = [i for i, one in enumerate(others, 1) if (one.name, one.major, one.minor) == kind]
        if same:
            return [f"cuda:{index}" for index in (0, *same)]
    return [name]


def resolve_precision(name: str, device: torch.device, method: str) -> torch.dtype:
    """The number format a user's choice means.

    "auto" is bfloat16 on a GPU that has it, and on a CPU that has it if the method's network is faster in it there;
    else float32.

    Args:
        name: "auto", "float32", "bfloat16" or "float16".
        device: where the network computes.
        method: "ddrf" or "ssdiff".

    Raises:
        FusionError: unknown, or float16 on the CPU, where it is slower than float32 and loses range.
    """
    if name == "auto":
        worth_it = device.type != "cpu" or method in BFLOAT16_ON_CPU
        fast = worth_it and has_bfloat16(device)
        return torch.bfloat16 if fast else torch.float32
    if name not in PRECISIONS:
        raise FusionError(
            f"There is no precision called {name}: use auto, float32, bfloat16 or float16."
        )
    if name == "float16" and device.type == "cpu":
        raise FusionError("The CPU cannot compute in float16: use auto, float32 or bfloat16.")
    return PRECISIONS[name]


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies in bfloat16; where it could only by emulation, float32 is faster."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    # Underscored, but the only ones to ask; a version of torch without them computes in float32.
    questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in questions)


def default_batch_size(device: torch.device, threads: int) -> int:
    """Tiles computed at once; on the CPU enough for every thread to have a chunk waiting."""
    return 2 * CHUNK * threads if device.type == "cpu" else GPU_BATCH


def fitting_batch_size(device: torch.device, tile_memory: int, in_flight: int) -> int:
    """Tiles computed at once on a CUDA device.

    Args:
        device: the CUDA device.
        tile_memory: bytes that one tile takes.
        in_flight: batches at a time.
    """
    free, _ = torch.cuda.mem_get_info(device)
    fitting = int(MEMORY_SHARE * free) // (max(1, tile_memory) * in_flight)
    return max(1, min(LARGEST_BATCH, fitting))


def thread_count(count: int | None = None) -> int:
    """CPU threads to use: as given, or OMP_NUM_THREADS, or all cores but one where there are more than two."""
    if count is None and os.environ.get("OMP_NUM_THREADS", "").isdigit():
        count = int(os.environ["OMP_NUM_THREADS"])
    if count is None:
        cores = os.cpu_count() or 1
        count = cores - 1 if cores > 2 else cores
    return max(1, count)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of torch means that the device's or the host's memory is spent."""
    # torch.OutOfMemoryError, the same class, is younger than the last torch for Intel Macs.
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "DefaultCPUAllocator" in text or "out of memory" in text.lower()
    )


def memory_report(device: torch.device) -> str:
    """What is free and what there is, such as "0.4 of 8.0 GiB free"."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        page = os.sysconf("SC_PAGE_SIZE")
        free, total = (os.sysconf(f"SC_{name}_PAGES") * page for name in ("AVPHYS", "PHYS"))
        return f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    return "free memory unknown"
