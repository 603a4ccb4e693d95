"""MTF-GLP-HPM, the reference line beside the models."""

from __future__ import annotations

import numpy as np
import pytest

from fusion_core.errors import FusionError
from fusion_core.quality import assess_reduced
from fusion_core.quality.lowpass import lowpass
from fusion_core.quality.mtf_glp import MOST_MODULATION, modulated, mtf_glp_hpm
from fusion_core.resampling import cubic_matrix, upsampling_positions
from fusion_core.sample_scene import make_sample_scene


def enlarged(image: np.ndarray, ratio: int = 4) -> np.ndarray:
    rows, cols = (
        cubic_matrix(upsampling_positions(size * ratio, ratio), size) for size in image.shape[1:]
    )
    return rows @ image @ cols.T


@pytest.fixture
def images():
    """PAN (1, 48, 40) with contrast at all scales, MS (3, 12, 10) and MS interpolated, far from zero."""
    rng = np.random.default_rng(3)
    ms = rng.uniform(200, 300, (3, 12, 10))
    pan = enlarged(rng.uniform(400, 500, (1, 12, 10))) + rng.normal(0, 8, (1, 48, 40))
    return pan, ms, enlarged(ms)


def test_flat_pan_adds_nothing(images):
    _, ms, lms = images
    assert mtf_glp_hpm(np.full((1, 48, 40), 431.7), ms, lms, 4) == pytest.approx(lms, rel=1e-12)


def test_flat_ms_stays_flat(images):
    pan, ms, lms = images
    flat = mtf_glp_hpm(pan, np.full_like(ms, 7.0), np.full_like(lms, 7.0), 4)
    assert flat == pytest.approx(7.0, rel=1e-12)


def test_formula_for_one_band(images):
    pan, ms, lms = images
    smooth = enlarged(lowpass(pan, 4, (12, 10), [0.2]))[0]
    scale = lms[1].std() / smooth.std()
    matched = (pan[0] - smooth.mean()) * scale + lms[1].mean()
    matched_smooth = (smooth - smooth.mean()) * scale + lms[1].mean()
    found = mtf_glp_hpm(pan, ms, lms, 4, gains=(0.3, 0.2, 0.25))[1]
    assert found == pytest.approx(lms[1] * matched / matched_smooth)


def test_numbers_of_pan_do_not_matter_and_those_of_ms_scale_the_result(images):
    pan, ms, lms = images
    expected = mtf_glp_hpm(pan, ms, lms, 4)
    assert mtf_glp_hpm(0.01 * pan + 3, ms, lms, 4) == pytest.approx(expected)
    assert mtf_glp_hpm(pan, 37 * ms, 37 * lms, 4) == pytest.approx(37 * expected)


def test_offset_moves_the_filter_with_the_ms_grid(images):
    pan, ms, lms = images
    block = mtf_glp_hpm(pan, ms, lms, 4)
    assert mtf_glp_hpm(pan, ms, lms, 4, offset=(1.5, 1.5)) == pytest.approx(block, rel=1e-12)
    # One MS pixel fewer in front: everything that is far from the edges must be as before.
    part = mtf_glp_hpm(pan[:, 4:], ms[:, 1:], lms[:, 4:], 4)
    moved = mtf_glp_hpm(pan[:, 4:], ms, lms[:, 4:], 4, offset=(-2.5, 1.5))
    assert np.abs(moved - part)[:, 16:].max() < 0.05 * np.abs(moved - lms[:, 4:])[:, 16:].max()


def test_modulation_is_kept_in_bounds():
    image = np.full((1, 1, 4), 5.0)
    smooth = np.array([[[2.0, 0.0, -1.0, 1e-3]]])
    sharp = np.array([[[-4.0, 3.0, 3.0, 9.0]]])
    assert modulated(image, sharp, smooth).ravel().tolist() == [0, 5, 5, 5 * MOST_MODULATION]


def test_it_beats_interpolation_on_the_sample_scene():
    scene = make_sample_scene(128, 4, 4, 3)
    lms = enlarged(scene.ms.astype(np.float64))
    fused = assess_reduced(scene.reference, mtf_glp_hpm(scene.pan, scene.ms, lms, 4), 4)
    plain = assess_reduced(scene.reference, lms, 4)
    assert fused["ERGAS"] < 0.9 * plain["ERGAS"]
    assert fused["Q2n"] > plain["Q2n"]


def test_shapes_that_do_not_fit_are_refused(images):
    pan, ms, lms = images
    with pytest.raises(FusionError, match="do not belong together"):
        mtf_glp_hpm(pan[:, 1:], ms, lms, 4)
    with pytest.raises(FusionError, match="gains"):
        mtf_glp_hpm(pan, ms, lms, 4, gains=(0.3,))
