"""MTF-GLP-FS: Laplacian pyramid with regression at full scale."""

from __future__ import annotations

import numpy as np

from .moments import slope
from .pair import Pair


def mtf_glp_fs(pair: Pair) -> np.ndarray:
    """LMS + g (PAN - L), L PAN seen by the band, g = cov(LMS, PAN) / cov(L, PAN); (C, H, W).

    Vivone et al., IEEE Transactions on Image Processing 27(7), 2018.
    """
    gain = slope(pair.lms, pair.pan, per=pair.smooth)
    return pair.lms + gain * (pair.pan - pair.smooth)
