"""Estimates moved towards the measured MS."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusion_core.degradation import block_centres, gaussian_matrix
from fusion_core.execution.consistency import toward_measured
from fusion_core.mtf import mtf_sigma
from fusion_core.resampling import cubic_matrix, upsampling_positions


def scene(ratio: int, gain: float = 0.3, size: int = 64):
    """A sharp image, what an MS sensor sees of it, and that resampled; (1, 2, ., .) float32."""
    rng = np.random.default_rng(5)
    sharp = rng.random((2, size // 4, size // 4)).repeat(4, axis=1).repeat(4, axis=2)
    count = size // ratio
    blur = gaussian_matrix(block_centres(count, ratio), size, mtf_sigma(gain, ratio))
    up = cubic_matrix(upsampling_positions(size, ratio), count)
    ms = blur @ sharp @ blur.T
    return (torch.from_numpy(a[None]).float() for a in (sharp, ms, up @ ms @ up.T))


@pytest.mark.parametrize("ratio", [2, 4])
def test_the_truth_stays_as_it_is(ratio):
    sharp, ms, lms = scene(ratio)
    residual = sharp - lms
    moved = toward_measured(ms, lms, ratio, 0.3, 2)(residual)
    torch.testing.assert_close(moved, residual, atol=1e-5, rtol=0)


@pytest.mark.parametrize("ratio", [2, 4])
def test_a_wrong_estimate_comes_nearer_to_the_truth_with_every_round(ratio):
    sharp, ms, lms = scene(ratio)
    wrong = 0.5 * (sharp - lms)
    errors = [
        float((lms + toward_measured(ms, lms, ratio, 0.3, rounds)(wrong) - sharp).abs().mean())
        for rounds in (1, 2, 4)
    ]
    assert float((lms + wrong - sharp).abs().mean()) > errors[0] > errors[1] > errors[2]


def test_a_constant_scene_stays_constant():
    ms, lms = torch.full((1, 3, 8, 8), 0.7), torch.full((1, 3, 32, 32), 0.7)
    moved = toward_measured(ms, lms, 4, 0.3, 3)(torch.zeros_like(lms))
    assert float(moved.abs().max()) < 1e-6


def test_what_needs_pixels_beyond_the_tile_is_not_corrected():
    _, ms, lms = scene(4)
    edge = ms.clone()
    edge[..., 0, :] += 10
    residual = torch.zeros_like(lms)
    moved = [toward_measured(m, lms, 4, 0.3, 1)(residual) for m in (ms, edge)]
    torch.testing.assert_close(*moved)
