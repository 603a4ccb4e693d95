"""The quality index for images of any number of bands."""

from __future__ import annotations

import functools

import numpy as np

from .blocks import cut_blocks, usable_blocks
from .images import as_pair, valid_pixels


def q2n(
    reference: np.ndarray, fused: np.ndarray, block: int = 32, mask: np.ndarray | None = None
) -> float:
    """Hypercomplex quality index Q2n, 1 is best (Garzelli and Nencini 2009); Q4 and Q8 for 4 and 8 bands.

    The pixels are hypercomplex numbers with a band in each component, filled up to a power of two.  In every block
    the bands are normalised with the reference's mean and deviation, and

        Q = |cov| / ((var_x + var_y) / 2) * 2 |mean_x| |mean_y| / (|mean_x|^2 + |mean_y|^2).

    A product of two Cayley-Dickson numbers is bilinear, so the hypercomplex covariance is a signed sum over the
    ordinary covariances between the bands, and one matrix product per block is all it takes.

    Args:
        reference: true image (C, H, W).
        fused: image under test (C, H, W).
        block: side of a block in pixels, at most the image's smaller side; blocks do not overlap and are mirrored
            where they pass the edge.
        mask: pixels to use (H, W), None for all; blocks less than half valid are left out.

    Raises:
        FusionError: the shapes differ or no pixel is valid.
    """
    reference, fused = as_pair(reference, fused)
    valid = valid_pixels(mask, reference, fused)
    block = min(block, *valid.shape)
    components = 1 << max(0, (reference.shape[0] - 1).bit_length())
    weights = cut_blocks(valid[None].astype(np.float64), block)
    usable = usable_blocks(weights)
    weights = weights[usable]
    x, y = (cut_blocks(np.where(valid, image, 0), block)[usable] for image in (reference, fused))
    x, y = _normalise(x, y, weights)
    return float(_block_quality(x, y, weights, components).mean())


def _normalise(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bands of both with the reference's block mean and deviation, plus 1 (so that the means do not vanish)."""
    count = weights.sum(axis=2, keepdims=True)
    mean = (weights * x).sum(axis=2, keepdims=True) / count
    variance = (weights * (x - mean) ** 2).sum(axis=2, keepdims=True) / np.maximum(count - 1, 1)
    deviation = np.sqrt(variance)
    deviation[deviation == 0] = np.finfo(np.float64).eps
    # The published index leaves the fused band alone where the reference's mean is zero.
    fused_deviation = np.where(mean == 0, 1.0, deviation)
    return (x - mean) / deviation + 1, (y - mean) / fused_deviation + 1


def _block_quality(
    x: np.ndarray, y: np.ndarray, weights: np.ndarray, components: int
) -> np.ndarray:
    blocks, bands, _ = x.shape
    count = weights.sum(axis=2)
    unbiased = count / np.maximum(count - 1, 1)
    mean_x, mean_y = (weights * x).sum(axis=2) / count, (weights * y).sum(axis=2) / count
    moment = np.einsum("bip,bjp->bij", weights * x, y, optimize=True) / count[..., None]
    covariance = np.zeros((blocks, components, components))
    # The bands that fill up to a power of two are 1 everywhere once normalised: they add to the means alone.
    covariance[:, :bands, :bands] = moment - mean_x[:, :, None] * mean_y[:, None, :]
    rows = np.arange(components)
    columns = rows[:, None] ^ rows[None, :]
    # Component k of x * conj(y) gathers the pairs (i, i xor k).
    signs = _product_signs(components) * np.where(rows == 0, 1.0, -1.0)
    quaternion = np.zeros((blocks, components))
    for i in rows:
        quaternion[:, rows] += signs[i, columns[i]] * covariance[:, i, columns[i]]
    filling = components - bands
    level_x = (mean_x**2).sum(axis=1) + filling
    level_y = (mean_y**2).sum(axis=1) + filling
    energy = (weights * x * x).sum(axis=(1, 2)) / count[:, 0] - (mean_x**2).sum(axis=1)
    energy += (weights * y * y).sum(axis=(1, 2)) / count[:, 0] - (mean_y**2).sum(axis=1)
    total = unbiased[:, 0] * energy
    mean_term = 2 * np.sqrt(level_x * level_y) / (level_x + level_y)
    modulus = unbiased[:, 0] * np.sqrt((quaternion**2).sum(axis=1))
    contrast = np.divide(2 * modulus, total, out=np.ones(blocks), where=total > 0)
    return contrast * mean_term


@functools.lru_cache(maxsize=16)
def _product_signs(components: int) -> np.ndarray:
    """Signs s of the products of units, e_i e_j = s[i, j] e_(i xor j), by the doubling of the published index.

    (a, b)(c, d) with b and d conjugated first is (a c - d conj(b), conj(a) d + c b).
    """
    if components == 1:
        return np.ones((1, 1))
    half = components // 2
    smaller = _product_signs(half)
    conjugate = np.where(np.arange(half) == 0, 1.0, -1.0)
    signs = np.empty((components, components))
    signs[:half, :half] = smaller
    signs[half:, half:] = -(smaller * conjugate[:, None]).T
    signs[:half, half:] = smaller * conjugate[:, None] * conjugate[None, :]
    signs[half:, :half] = (smaller * conjugate[None, :]).T
    return signs
