"""Pansharpening without learning, from the papers' formulas: what a model has to beat."""

from __future__ import annotations

from .bdsd_pc import bdsd_pc
from .brovey import brovey
from .bt_h import bt_h
from .gsa import gsa
from .mtf_glp_fs import mtf_glp_fs
from .mtf_glp_hpm import mtf_glp_hpm
from .mtf_glp_hpm_r import mtf_glp_hpm_r
from .pair import Pair

METHODS = {
    "Brovey": brovey,
    "BT-H": bt_h,
    "GSA": gsa,
    "BDSD-PC": bdsd_pc,
    "MTF-GLP-FS": mtf_glp_fs,
    "MTF-GLP-HPM": mtf_glp_hpm,
    "MTF-GLP-HPM-R": mtf_glp_hpm_r,
}
"""Functions from a ``Pair`` to the fused image (C, H, W), float64, by the name that the literature knows them by."""

__all__ = ["METHODS", "Pair"]
