"""One call of each network, the published way and in the fast form, with random weights of the published width."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from benchmarks.eight_bands import BANDS
from benchmarks.measuring import Side, alternate, median_ratio, random_network, random_tiles
from benchmarks.published import PublishedDDRF, PublishedSSDiff, ddrf_condition
from fusion_core.execution.device import CHUNK
from fusion_core.models import FusionNetwork

WIDTH = 32
TILE = 64
"""PAN pixels of SSDiff's tiles along a side, as in its published sampling."""
DDRF_TILE = 128
"""The same of the tiles that our jobs cut for DDRF."""
BASELINE = "baseline"
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SSDIFF_TIME, DDRF_TIME = 900, 480
"""The noisiest timesteps of the published samplers."""

Tiles = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
"""Guide, MS, LMS and x_t."""


def compared(baseline: list[float], fast: list[float]) -> dict[str, float]:
    """Median seconds of both, and the median of their ratios."""
    return {
        "baseline": statistics.median(baseline),
        "fast": statistics.median(fast),
        "ratio": median_ratio(baseline, fast),
    }


def timed_calls(tiles: int, image: int, rounds: int, threads: int) -> dict[str, dict[str, float]]:
    """Figures of each way to make a call.

    Args:
        tiles: 64-pixel tiles of SSDiff's batch.
        image: PAN pixels of DDRF's image along a side, a multiple of 128 or less than that.
        rounds: how often every way runs.
        threads: CPU threads.
    """
    rows = {}
    with chunk_threads(threads) as pool:
        for name, sides in (
            ("SSDiff", ssdiff_sides(tiles, threads, pool)),
            ("DDRF", ddrf_sides(image, threads, pool)),
        ):
            seconds = alternate(sides, rounds)
            rows |= {
                f"{name}, {side}": compared(seconds[BASELINE], taken)
                for side, taken in seconds.items()
                if side != BASELINE
            }
    return rows


@contextmanager
def chunk_threads(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that compute without torch's own threading, like those of the local executor."""
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield pool


def ssdiff_sides(count: int, threads: int, pool: ThreadPoolExecutor) -> dict[str, Side]:
    """Ways to call SSDiff on a batch of tiles."""
    network = random_network("ssdiff", BANDS, WIDTH)
    tiles = random_tiles(count, TILE, BANDS)
    guide, ms, lms, x_t = tiles
    published = PublishedSSDiff(network.state_dict())
    t = torch.full((count,), SSDIFF_TIME)
    sides = {BASELINE: with_threads(threads, lambda: published(x_t, t, guide, ms, lms))}
    for name, dtype in PRECISIONS.items():
        form = fast_form(network, dtype)
        sides[name] = in_chunks(form, tiles, pool)
        sides[f"{name} with its preparation"] = in_chunks(form, tiles, pool, prepared=False)
    return sides


def ddrf_sides(size: int, threads: int, pool: ThreadPoolExecutor) -> dict[str, Side]:
    """Ways to call DDRF on an image, whole or in tiles that do not overlap."""
    network = random_network("ddrf", BANDS, WIDTH)
    image = random_tiles(1, size, BANDS)
    guide, _, lms, x_t = image
    published = PublishedDDRF(network.state_dict(), BANDS)
    condition = ddrf_condition(guide, lms)
    t = torch.tensor([DDRF_TIME])
    sides = {BASELINE: with_threads(threads, lambda: published(x_t, t, condition))}
    side = min(size, DDRF_TILE)
    tiles = tuple(_cut(part, size // side) for part in image)
    for name, dtype in PRECISIONS.items():
        form = fast_form(network, dtype)
        sides[name] = with_threads(threads, fast_call(form, image))
        sides[f"{name} in tiles of {side}"] = in_chunks(form, tiles, pool)
    return sides


def with_threads(threads: int, call: Side) -> Side:
    """The call in this thread with torch's own threads and without gradients."""

    def side() -> None:
        # Every time, since the executor of a whole job switches them off for the process.
        torch.set_num_threads(threads)
        with torch.inference_mode():
            call()

    return side


def fast_form(network: FusionNetwork, dtype: torch.dtype) -> FusionNetwork:
    """A copy of the network as the local executor arranges it."""
    form = copy.deepcopy(network).inference_form().to(dtype=dtype)
    return form.to(memory_format=torch.channels_last)


def fast_call(form: FusionNetwork, tiles: Tiles, prepared: bool = True) -> Side:
    """A call of a network in the fast form.

    Args:
        form: what ``fast_form`` made.
        tiles: what the call is about.
        prepared: whether what depends on the condition alone is there already or part of the call.
    """
    *images, x_t = (
        part.to(form.dtype).contiguous(memory_format=torch.channels_last) for part in tiles
    )
    with torch.inference_mode():
        time = form.time_table([SSDIFF_TIME if form.method == "ssdiff" else DDRF_TIME])[0]
        ready = form.prepare(*images) if prepared else None

    def call() -> None:
        form.step(x_t, time, ready if prepared else form.prepare(*images))

    return call


def in_chunks(
    form: FusionNetwork, tiles: Tiles, pool: ThreadPoolExecutor, prepared: bool = True
) -> Side:
    """A network call as the local executor makes it: chunks of two tiles, each on one thread."""
    calls = [
        fast_call(form, tuple(part[start : start + CHUNK] for part in tiles), prepared)
        for start in range(0, len(tiles[0]), CHUNK)
    ]

    def without_gradients(call: Side) -> None:
        with torch.inference_mode():
            call()

    def side() -> None:
        for _ in pool.map(without_gradients, calls):
            pass

    return side


def _cut(image: torch.Tensor, count: int) -> torch.Tensor:
    """``count`` by ``count`` tiles of one image (1, C, H, W)."""
    bands, height, width = image.shape[1:]
    tiles = image.view(bands, count, height // count, count, width // count)
    return tiles.permute(1, 3, 0, 2, 4).flatten(0, 1).contiguous()
