"""L-BAF: fine-tuning the spectral and the spatial branch of SSDiff in turn (Zhong et al., NeurIPS 2024).

The fused features are a product of a spatial and a spectral map, like the two factors of a low-rank update.  Learning both at
once overfits; so in a spectral phase the spatial map and all that makes it stand still, and the other way round.  What both
branches pass through (time embedding, down- and up-sampling, the norm before the projections) would change the standing map,
so it stands still in both.
"""

from __future__ import annotations

from collections.abc import Iterable

PHASES = ("spectral", "spatial")

_SPECTRAL = (
    "upsample.",
    "to_hrms.",
    "conv_lms2x_t.",
    "out_layers_lms.",
    "emb_layers_lms.",
    ".fn.fn.se1.",
    ".fn.fn.se2.",
    ".fn.fn.to_out.",
    ".layers.0.1.",
)
_SPATIAL = (
    "conv_pan2x_t.",
    "out_layers_pan.",
    "emb_layers_pan.",
    "resblock",
    ".fn.fn.sa1.",
    ".fn.fn.sa2.",
)


def phase_at(iteration: int, length: int) -> str:
    """The phase of an iteration; phases take ``length`` iterations each, the spectral one comes first."""
    return PHASES[iteration // length % len(PHASES)]


def learning_in(phase: str, names: Iterable[str]) -> frozenset[str]:
    """Which parameters of SSDiff learn in a phase.

    Args:
        phase: "spectral" or "spatial".
        names: of all parameters.
    """
    parts = {"spectral": _SPECTRAL, "spatial": _SPATIAL}[phase]
    return frozenset(
        name
        for name in names
        if any(part in name if part.startswith(".") else name.startswith(part) for part in parts)
    )
