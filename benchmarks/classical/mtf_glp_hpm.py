"""MTF-GLP-HPM of a pair: the reference that training reports show, with a cubic spline."""

from __future__ import annotations

import numpy as np

from fusion_core.quality import mtf_glp

from .pair import Pair


def mtf_glp_hpm(pair: Pair) -> np.ndarray:
    """See ``fusion_core.quality.mtf_glp``; (C, H, W)."""
    return mtf_glp.mtf_glp_hpm(
        pair.pan, pair.ms, pair.lms, pair.ratio, pair.gains, pair.offset, pair.enlarged
    )
