"""One figure for quality without a reference."""

from __future__ import annotations


def hqnr(d_lambda: float, d_s: float) -> float:
    """Hybrid quality with no reference, (1 - D_lambda)(1 - D_s); 1 is best (Aiazzi et al. 2014)."""
    return (1 - d_lambda) * (1 - d_s)


def rqnr(d_lambda: float, d_sr: float) -> float:
    """Regression-based quality with no reference, (1 - D_lambda)(1 - D_sr); 1 is best (Alparone et al. 2018)."""
    return (1 - d_lambda) * (1 - d_sr)
