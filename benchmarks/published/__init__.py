"""Both networks run the way their authors publish them, to measure against.

Float32, the full N x N map of every attention, a Fourier transform for the frequency filter, everything that depends on
the condition computed anew in each call, tensors in NCHW.  Written plainly on state dicts, without a line in common
with ``fusion_core``, so that each also checks the other.
"""

from __future__ import annotations

from .ddrf import PublishedDDRF, ddrf_condition
from .sampling import (
    DDRF_STEPS,
    SSDIFF_STEPS,
    TilePlace,
    ddim,
    ddrf_image,
    ddrf_timesteps,
    published_timesteps,
    ssdiff_image,
    ssdiff_tiles,
    tile_places,
)
from .ssdiff import PublishedSSDiff

__all__ = [
    "DDRF_STEPS",
    "SSDIFF_STEPS",
    "PublishedDDRF",
    "PublishedSSDiff",
    "TilePlace",
    "ddim",
    "ddrf_condition",
    "ddrf_image",
    "ddrf_timesteps",
    "published_timesteps",
    "ssdiff_image",
    "ssdiff_tiles",
    "tile_places",
]
