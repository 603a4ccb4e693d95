"""GSA: adaptive Gram-Schmidt."""

from __future__ import annotations

import numpy as np

from .moments import slope
from .pair import Pair


def gsa(pair: Pair) -> np.ndarray:
    """LMS + g (PAN - I), I a regression of PAN on MS and g each band's slope on I; (C, H, W).

    Aiazzi et al., IEEE Transactions on Geoscience and Remote Sensing 45(10), 2007.
    """
    constant, weights = pair.panchromatic_weights[0], pair.panchromatic_weights[1:]
    intensity = constant + np.tensordot(weights, pair.lms, axes=1)[None]
    return pair.lms + slope(pair.lms, intensity) * (pair.pan - intensity)
