"""Quality of a fused image, with a reference (reduced resolution) and without (full resolution); numpy only."""

from __future__ import annotations

from .assess import assess_full, assess_reduced
from .d_lambda_khan import d_lambda_khan
from .d_s import d_s
from .d_sr import d_sr
from .ergas import ergas
from .hqnr import hqnr, rqnr
from .q2n import q2n
from .sam import sam
from .scc import scc
from .uiqi import uiqi, uiqi_mean

__all__ = [
    "assess_full",
    "assess_reduced",
    "d_lambda_khan",
    "d_s",
    "d_sr",
    "ergas",
    "hqnr",
    "q2n",
    "rqnr",
    "sam",
    "scc",
    "uiqi",
    "uiqi_mean",
]
