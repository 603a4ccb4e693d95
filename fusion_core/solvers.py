"""Names of the solvers and time grids that ``diffusion`` has, for all who must not import torch."""

from __future__ import annotations

SOLVERS = ("ddim", "dpm++2m")
GRIDS = ("uniform", "logsnr")
