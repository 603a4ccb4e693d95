"""Side-by-side timing, memory of a process, and networks to time."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from fusion_core.models import FusionNetwork, create_model

Side = Callable[[], object]


def alternate(sides: Mapping[str, Side], rounds: int, warm: bool = True) -> dict[str, list[float]]:
    """Seconds of each side, one after the other in each round, so that what else the machine does hits all of them.

    Args:
        sides: what to time, by name.
        rounds: how often.
        warm: whether each runs once before, untimed.
    """
    if warm:
        for side in sides.values():
            side()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            started = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def median_ratio(slow: list[float], fast: list[float]) -> float:
    """Median over the rounds of how many times longer the slow side takes."""
    return statistics.median(s / f for s, f in zip(slow, fast))


def keep_to_cores(count: int) -> int:
    """Confine this process to some cores where the system can, and tell how many threads are to run."""
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[-count:])
        count = min(count, len(allowed))
    return count


def machine() -> str:
    """Processor, cores and PyTorch in one line."""
    name = platform.processor() or platform.machine()
    about = Path("/proc/cpuinfo")
    if about.exists():
        models = [line for line in about.read_text().splitlines() if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{name}, {os.cpu_count()} cores, {capability}, PyTorch {torch.__version__}"


def memory_of_process(which: str) -> int:
    """Bytes resident now ("VmRSS") or at the most ("VmHWM"), from Linux's /proc."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{which}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status does not say {which}.")


def free_memory() -> int:
    """Bytes that Linux could hand out."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/meminfo does not say MemAvailable.")


def random_network(method: str, bands: int, width: int, seed: int = 0) -> FusionNetwork:
    """A network with random weights, also where training would start from zero, in evaluation mode."""
    network = create_model(method, bands, width=width)
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        if parameter.dim() > 1:
            fan_in = parameter[0].numel()
            parameter.data.normal_(0, fan_in**-0.5, generator=generator)
    return network.eval()


def random_tiles(
    count: int, size: int, bands: int, ratio: int = 4, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Guide, MS, LMS, all 0 to 1, and noise of square tiles."""
    generator = torch.Generator().manual_seed(seed)
    guide, ms, lms = (
        torch.rand(count, channels, side, side, generator=generator)
        for channels, side in ((1, size), (bands, size // ratio), (bands, size))
    )
    return guide, ms, lms, torch.randn(lms.shape, generator=generator)
