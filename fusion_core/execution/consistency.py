"""Agreement of an estimate with what was measured: blurred and decimated, the fused image is the MS image.

A network knows MS and still drifts from it by a little.  The part of an image that the MS sensor sees is known, though, so
each estimate of x0 is moved there (iterative back-projection, Irani and Peleg 1991; in diffusion sampling the range-space
step of Wang et al., ICLR 2023).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch

from ..degradation import block_centres, gaussian_matrix
from ..mtf import mtf_sigma
from ..resampling import cubic_matrix, upsampling_positions

Projection = Callable[[torch.Tensor], torch.Tensor]


def toward_measured(
    ms: torch.Tensor, lms: torch.Tensor, ratio: int, gain: float, rounds: int
) -> Projection:
    """A function that moves residuals of tiles towards agreement with MS.

    Args:
        ms: (B, C, H/ratio, W/ratio), float32, at scene scale.
        lms: (B, C, H, W), the same.
        ratio: PAN pixels per MS pixel.
        gain: transfer at the MS Nyquist frequency that all bands are taken to have, 0 to 1.
        rounds: how often the disagreement is measured and given back, from 1.

    Returns:
        A function of the residual (B, C, H, W) that gives the moved one.
    """
    height, width = lms.shape[-2:]
    device = str(lms.device)
    blur_rows, up_rows, again_rows = _matrices(height, ratio, gain, device)
    blur_cols, up_cols, again_cols = _matrices(width, ratio, gain, device)

    def project(residual: torch.Tensor) -> torch.Tensor:
        # Products of matrices want the columns of a band side by side.
        residual = residual.contiguous()
        missing = ms - blur_rows @ (lms + residual) @ blur_cols.T
        given = missing
        # What a correction leaves to correct is known at the size of MS already.
        for _ in range(rounds - 1):
            missing = missing - again_rows @ missing @ again_cols.T
            given = given + missing
        return residual + up_rows @ given @ up_cols.T

    return project


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _matrices(size: int, ratio: int, gain: float, device: str) -> tuple[torch.Tensor, ...]:
    """Along one axis, float32: the sensor's low-pass with decimation (size/ratio, size), interpolation (size, size/ratio),
    and the first of the second (size/ratio, size/ratio).
    """
    count = size // ratio
    blur = gaussian_matrix(block_centres(count, ratio), size, mtf_sigma(gain, ratio))
    up = cubic_matrix(upsampling_positions(size, ratio), count)
    # The outermost MS pixels of a tile would need PAN pixels beyond it: nothing is known to disagree there.
    up[:, [0, -1]] = 0
    return tuple(torch.from_numpy(matrix).float().to(device) for matrix in (blur, up, blur @ up))
