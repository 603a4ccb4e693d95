"""The two networks."""

from __future__ import annotations

from .ddrf import DDRF
from .network import Condition, FusionNetwork
from .ssdiff import SSDiff

METHODS: dict[str, type[FusionNetwork]] = {"ddrf": DDRF, "ssdiff": SSDiff}

__all__ = ["METHODS", "Condition", "FusionNetwork", "create_model"]


def create_model(
    method: str, ms_bands: int, guide_bands: int = 1, ratio: int = 4, **options: object
) -> FusionNetwork:
    """Build an untrained network.

    Args:
        method: "ddrf" or "ssdiff".
        ms_bands: number of MS bands.
        guide_bands: bands of the sharp image, 1 for PAN.
        ratio: PAN pixels per MS pixel.
        options: ``width`` (both); ``detail_order``, "HDV" or "HVD" (DDRF).

    Raises:
        ValueError: an unknown method or an option out of range.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {sorted(METHODS)}, not {method!r}.")
    return METHODS[method](ms_bands, guide_bands, ratio, **options)
