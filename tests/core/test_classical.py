"""The classical methods that the benchmarks compare with."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from benchmarks.baselines import as_delivered
from benchmarks.classical import METHODS, Pair
from benchmarks.classical.nonnegative import nonnegative_least_squares
from benchmarks.classical.spline import spline_matrix
from fusion_core.quality import assess_reduced
from fusion_core.quality.lowpass import lowpass
from fusion_core.sample_scene import SampleScene, make_sample_scene

SCENES = Path(__file__).resolve().parents[3] / "shared" / "data" / "scenes"
SCORES = Path(__file__).with_name("classical_scores.csv")
"""Scores of another implementation, which comes with the scenes."""
METRICS = ("SAM", "ERGAS", "Q2n", "SCC")


def published() -> dict[tuple[str, str], dict[str, dict[str, float]]]:
    """Scores by scene and sensor, then by method."""
    found: dict = {}
    with SCORES.open(newline="") as file:
        for row in csv.DictReader(file):
            scores = {name: float(row[name]) for name in METRICS}
            found.setdefault((row["scene"], row["sensor"]), {})[row["method"]] = scores
    return found


@pytest.fixture(scope="module")
def scene() -> SampleScene:
    return make_sample_scene(128, 4, 4, 0)


@pytest.fixture(scope="module")
def pair(scene) -> Pair:
    """The synthetic scene: uint16 numbers, four bands, ratio 4."""
    return Pair(
        pan=scene.pan.astype(np.float64),
        ms=scene.ms.astype(np.float64),
        ratio=4,
        offset=(1.5, 1.5),
        gains=(0.3,) * 4,
        band_names=scene.band_names,
    )


def with_pan(pair: Pair, pan: np.ndarray) -> Pair:
    return Pair(pan, pair.ms, 4, pair.offset, pair.gains, pair.pan_gain, pair.band_names)


def with_ms(pair: Pair, ms: np.ndarray) -> Pair:
    return Pair(pair.pan, ms, 4, pair.offset, pair.gains, pair.pan_gain, pair.band_names)


def test_spline_passes_through_the_samples_and_keeps_lines():
    samples = np.random.default_rng(1).normal(0, 1, 20)
    assert spline_matrix(np.arange(20), 20) @ samples == pytest.approx(samples)
    assert spline_matrix(np.linspace(-3, 23, 50), 20).sum(axis=1) == pytest.approx(1)
    ramp = spline_matrix(np.linspace(12, 27, 31), 40) @ np.arange(40.0)
    assert ramp == pytest.approx(np.linspace(12, 27, 31), abs=1e-6)


def test_spline_is_the_smooth_curve():
    # Between samples of a sine the spline is nearer than cubic convolution's third order would be.
    places = np.linspace(15, 25, 101)
    found = spline_matrix(places, 40) @ np.sin(0.5 * np.arange(40))
    assert found == pytest.approx(np.sin(0.5 * places), abs=2e-4)


@pytest.mark.parametrize("seed", range(8))
def test_nonnegative_least_squares_meets_the_optimality_conditions(seed):
    rng = np.random.default_rng(seed)
    matrix, target = rng.normal(0, 1, (30, 6)), rng.normal(0, 1, 30)
    found = nonnegative_least_squares(matrix, target)
    gradient = matrix.T @ (target - matrix @ found)
    assert found.min() >= 0
    assert gradient[found > 0] == pytest.approx(0, abs=1e-9)
    assert gradient[found == 0].max(initial=-1) <= 1e-9


def test_nonnegative_least_squares_finds_what_is_there():
    matrix = np.random.default_rng(0).normal(0, 1, (30, 4))
    truth = np.array([0.5, 0.0, 2.0, 0.1])
    assert nonnegative_least_squares(matrix, matrix @ truth) == pytest.approx(truth, abs=1e-12)
    assert nonnegative_least_squares(matrix, np.zeros(30)).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("name", METHODS)
def test_better_than_interpolation_on_a_scene_with_truth(scene, pair, name):
    fused = assess_reduced(scene.reference, METHODS[name](pair), 4)
    plain = assess_reduced(scene.reference, pair.lms, 4)
    assert fused["ERGAS"] < plain["ERGAS"]
    assert fused["SCC"] > plain["SCC"]


@pytest.mark.parametrize("name", METHODS)
def test_gain_on_ms_or_on_both_is_a_gain_on_the_result(pair, name):
    expected = METHODS[name](pair)
    both = with_pan(with_ms(pair, 5 * pair.ms), 5 * pair.pan)
    assert METHODS[name](both) == pytest.approx(5 * expected, rel=1e-6, abs=1e-3)


@pytest.mark.parametrize("name", ["Brovey", "MTF-GLP-FS", "MTF-GLP-HPM", "MTF-GLP-HPM-R"])
def test_flat_pan_adds_no_detail(pair, name):
    fused = METHODS[name](with_pan(pair, np.full_like(pair.pan, 431.7)))
    expected = pair.lms
    if name == "Brovey":
        # Its intensity is all made flat: what stays is each band's share of it.
        intensity = pair.lms.mean(axis=0)
        expected = pair.lms * intensity.mean() / intensity
    assert fused == pytest.approx(expected)


def test_flat_ms_takes_no_detail_from_the_pyramids(pair):
    level = np.broadcast_to(np.array([10.0, 20, 30, 40])[:, None, None], pair.ms.shape)
    flat = with_ms(pair, level)
    for name in ("MTF-GLP-FS", "MTF-GLP-HPM", "MTF-GLP-HPM-R", "GSA"):
        assert METHODS[name](flat) == pytest.approx(flat.lms), name


def test_pan_that_is_a_mixture_of_the_bands_is_what_gsa_and_bt_h_reproduce(pair):
    # Slopes hold no detail, and PAN that is made of the bands nothing but what MS holds.
    slopes = np.random.default_rng(0).uniform(-2, 2, (2, 4, 1, 1))
    places = np.arange(32.0)
    ms = 300 + slopes[0] * places[:, None] + slopes[1] * places
    mixed = with_ms(pair, ms)
    pan = np.tensordot([0.2, 0.4, 0.3, 0.1], mixed.lms, axes=1)[None] + 17
    inside = np.s_[:, 32:-32, 32:-32]
    for name in ("GSA", "BT-H"):
        fused = METHODS[name](with_pan(mixed, pan))
        assert fused[inside] == pytest.approx(mixed.lms[inside], rel=5e-3), name


def test_gsa_is_its_formula(pair):
    low = lowpass(pair.pan, 4, (32, 32), [0.3])[0].ravel()
    terms = np.column_stack([np.ones(low.size), *(band.ravel() for band in pair.ms)])
    weights = np.linalg.lstsq(terms, low, rcond=None)[0]
    intensity = weights[0] + np.tensordot(weights[1:], pair.lms, axes=1)
    gains = [np.cov(band.ravel(), intensity.ravel())[0, 1] for band in pair.lms]
    gains = np.array(gains)[:, None, None] / np.var(intensity, ddof=1)
    expected = pair.lms + gains * (pair.pan - intensity)
    assert METHODS["GSA"](pair) == pytest.approx(expected)


def test_band_against_pan_takes_no_detail_by_regressed_modulation(pair):
    # A band that falls where PAN rises: its detail cannot be had by multiplying with PAN's.
    ms = pair.ms.copy()
    low = lowpass(pair.pan, 4, (32, 32), [0.3])[0]
    ms[3] = 3 * low.max() - low
    against = with_ms(pair, ms)
    assert METHODS["MTF-GLP-HPM-R"](against)[3] == pytest.approx(against.lms[3])


def test_pair_reads_the_offset_from_the_georeference(make_pair):
    pan, ms = make_pair(ratio=4, ms_size=(12, 10), shift=(1.25, -2.0))
    pair = Pair.read(pan, ms)
    assert pair.pan.shape == (1, 48, 40)
    assert pair.ms.shape == (3, 12, 10)
    assert pair.offset == pytest.approx((1.5 + 1.25, 1.5 - 2))
    # Interpolated right on the centre of an MS pixel it is that pixel.
    row, col = 5, 4
    half = Pair.read(*make_pair(ratio=4, ms_size=(12, 10), shift=(0.5, 0.5)))
    assert half.lms[:, 4 * row + 2, 4 * col + 2] == pytest.approx(half.ms[:, row, col])


@pytest.mark.parametrize(("scene", "sensor"), published())
def test_scores_are_those_of_another_implementation(scene, sensor):
    folder = SCENES / scene
    if not folder.is_dir():
        pytest.skip("the scene is not here")
    pytest.importorskip("osgeo.gdal")
    from fusion_core.raster.geotiff import read_bands

    pair = Pair.read(folder / "pan.tif", folder / "ms.tif", sensor)
    reference = read_bands(str(folder / "gt.tif"))[0]
    for name, scores in published()[scene, sensor].items():
        fused = as_delivered(METHODS[name](pair), reference.dtype)
        found = assess_reduced(reference.astype(float), fused.astype(float), pair.ratio)
        assert found == pytest.approx(scores, rel=0.005), name
