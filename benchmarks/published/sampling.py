"""How the authors sample: DDIM on every k-th timestep; SSDiff in overlapping tiles, DDRF on the whole image.

One thing is not as published: the networks are told the timestep they are at, where the authors' code tells its rank
among the chosen ones, and SSDiff's x0 stays a residual between steps.  Our weights were trained so, and would
lose quality for no gain in time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from .ddrf import PublishedDDRF, ddrf_condition
from .ssdiff import PublishedSSDiff

SSDIFF_TIMES, SSDIFF_STEPS = 1000, 10
DDRF_TIMES, DDRF_STEPS = 500, 25
TILE, STRIDE, CROP = 64, 16, 16
"""PAN pixels of a tile, between neighbours, and cut from each side of a tile inside the image."""
BATCH = 10
"""Tiles of a call in the published script."""

Limits = tuple[torch.Tensor, torch.Tensor]
"""Least and greatest value of a fused image, each broadcasting to (B, C, H, W)."""


def signal_levels(times: int) -> torch.Tensor:
    """Share of the signal's variance left at each timestep of the cosine schedule, float64 (times,)."""
    shift = 0.008
    t = torch.linspace(0, 1, times + 1, dtype=torch.float64)
    level = torch.cos((t + shift) / (1 + shift) * math.pi / 2).square()
    beta = torch.clamp(1 - level[1:] / level[:-1], max=0.999)
    return torch.cumprod(1 - beta, dim=0)


def published_timesteps(times: int, steps: int) -> list[int]:
    """Every k-th timestep from 0, the noisiest first."""
    return list(range(0, times, times // steps))[:steps][::-1]


def ddrf_timesteps() -> list[int]:
    """Those of DDRF's 25 steps."""
    return published_timesteps(DDRF_TIMES, DDRF_STEPS)


def ddim(
    predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    noise: torch.Tensor,
    levels: torch.Tensor,
    timesteps: Sequence[int],
    told: Sequence[int] | None = None,
) -> torch.Tensor:
    """Deterministic DDIM (Song et al. 2021) from pure noise.

    Args:
        predict: gives x0 for x (B, C, H, W) and timesteps (B,).
        noise: x at the first timestep.
        levels: of all timesteps, see ``signal_levels``.
        timesteps: those to visit, the noisiest first.
        told: what the network is told in their place; themselves by default.
    """
    x = noise
    following = [float(levels[t]) for t in timesteps[1:]] + [1.0]
    for t, index, after in zip(timesteps, told or timesteps, following):
        now = float(levels[t])
        x0 = predict(x, torch.full((len(x),), index, device=x.device))
        noise = (x - now**0.5 * x0) / (1 - now) ** 0.5
        x = after**0.5 * x0 + (1 - after) ** 0.5 * noise
    return x


def ddrf_image(
    network: PublishedDDRF,
    guide: torch.Tensor,
    lms: torch.Tensor,
    noise: torch.Tensor,
    limits: Limits,
    detail_order: str = "HDV",
    steps: int = DDRF_STEPS,
) -> torch.Tensor:
    """The fused image (B, C, H, W): DDIM on the whole image, limited at the end; sizes are multiples of 8."""
    condition = ddrf_condition(guide, lms, detail_order)
    residual = ddim(
        lambda x, t: network(x, t, condition),
        noise,
        signal_levels(DDRF_TIMES),
        published_timesteps(DDRF_TIMES, steps),
    )
    return (residual + lms).clamp(*limits)


def ssdiff_tiles(
    network: PublishedSSDiff,
    guide: torch.Tensor,
    ms: torch.Tensor,
    lms: torch.Tensor,
    noise: torch.Tensor,
    limits: Limits,
    steps: int = SSDIFF_STEPS,
) -> torch.Tensor:
    """Fused tiles (B, C, H, W): DDIM with each estimate of the image limited."""

    def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return (network(x, t, guide, ms, lms) + lms).clamp(*limits) - lms

    timesteps = published_timesteps(SSDIFF_TIMES, steps)
    return ddim(predict, noise, signal_levels(SSDIFF_TIMES), timesteps) + lms


@dataclass(frozen=True)
class TilePlace:
    """A tile of an image.

    Attributes:
        row, col: of its first pixel.
        rows, cols: the part of the tile that counts, first and one past the last.
        strip: whether it belongs to a strip along the border, which replaces what the other tiles gave there.
    """

    row: int
    col: int
    rows: tuple[int, int]
    cols: tuple[int, int]
    strip: bool

    def cut(self, image: torch.Tensor, scale: int = 1) -> torch.Tensor:
        """The tile of an image (..., H, W) whose pixels are ``scale`` PAN pixels wide."""
        row, col, size = self.row // scale, self.col // scale, TILE // scale
        return image[..., row : row + size, col : col + size]


def tile_places(height: int, width: int) -> list[TilePlace]:
    """Tiles at every 16th pixel with their centres, then a strip of tiles along each side.

    Args:
        height, width: of the image, 64 and a multiple of 16 more.

    Raises:
        ValueError: another size.
    """
    for size in (height, width):
        if size < TILE or (size - TILE) % STRIDE:
            raise ValueError(
                f"{height} x {width} pixels are not {TILE} and a multiple of {STRIDE}."
            )
    rows, cols = range(0, height - TILE + 1, STRIDE), range(0, width - TILE + 1, STRIDE)
    centre = (CROP, TILE - CROP)
    places = [TilePlace(row, col, centre, centre, False) for row in rows for col in cols]
    edges = ((0, CROP), (TILE - CROP, TILE))
    for row, kept in zip((rows[0], rows[-1]), edges):
        places += [TilePlace(row, col, kept, _along(col, cols), True) for col in cols]
    for col, kept in zip((cols[0], cols[-1]), edges):
        places += [TilePlace(row, col, _along(row, rows), kept, True) for row in rows]
    return places


def _along(position: int, positions: range) -> tuple[int, int]:
    """What counts of a strip's tile along the strip: its centre, and the ends of the strip up to the corners."""
    first = 0 if position == positions[0] else CROP
    last = TILE if position == positions[-1] else TILE - CROP
    return first, last


def ssdiff_image(
    network: PublishedSSDiff,
    guide: torch.Tensor,
    ms: torch.Tensor,
    lms: torch.Tensor,
    limits: Limits,
    generator: torch.Generator,
    batch: int = BATCH,
) -> torch.Tensor:
    """The fused image (1, C, H, W): tiles with noise of their own, averaged where they overlap."""
    ratio = lms.shape[-1] // ms.shape[-1]
    height, width = lms.shape[-2:]
    places = tile_places(height, width)
    # Sums and counts of the inner tiles, then of the strips.
    total = [torch.zeros_like(lms) for _ in range(2)]
    count = [torch.zeros_like(lms) for _ in range(2)]
    for start in range(0, len(places), batch):
        some = places[start : start + batch]
        tiles = [
            torch.cat([place.cut(image, scale) for place in some])
            for image, scale in ((guide, 1), (ms, ratio), (lms, 1))
        ]
        noise = torch.randn(tiles[2].shape, generator=generator).to(lms.device)
        for place, tile in zip(some, ssdiff_tiles(network, *tiles, noise, limits)):
            (top, bottom), (left, right) = place.rows, place.cols
            here = (
                ...,
                slice(place.row + top, place.row + bottom),
                slice(place.col + left, place.col + right),
            )
            total[place.strip][here] += tile[:, top:bottom, left:right]
            count[place.strip][here] += 1
    inside, border = (t / n for t, n in zip(total, count))
    return torch.where(count[1] > 0, border, inside)
