"""Levels of bands from a sample."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from fusion_core.errors import FusionError
from fusion_core.raster import statistics
from fusion_core.raster.statistics import band_levels


def reader(values, valid=None, seen=None):
    def read(window, bands):
        if seen is not None:
            seen.append(window)
        rows = slice(window.row, window.bottom)
        cols = slice(window.col, window.right)
        part = values[bands, rows, cols]
        return part, None if valid is None else valid[bands, rows, cols]

    return read


def levels(values, valid=None):
    bands, rows, cols = values.shape
    return band_levels(reader(values, valid), rows, cols, bands, "x.tif")


def test_small_rasters_are_measured_exactly():
    rng = np.random.default_rng(0)
    values = rng.gamma(2, 100, (6, 70, 90)).astype(np.float32)
    valid = rng.random(values.shape) > 0.3
    found = levels(values, valid)
    for band in range(6):
        kept = np.sort(values[band][valid[band]])
        assert found.scale[band] == kept[int(np.ceil(0.98 * len(kept))) - 1]
        assert found.mean[band] == pytest.approx(kept.mean())
        assert (found.least[band], found.greatest[band]) == (kept[0], kept[-1])


@pytest.mark.parametrize("gain", [2.0, 0.25, 10.0, 1e-4])
def test_gain_equivariant(gain):
    values = np.random.default_rng(0).integers(1, 2000, (2, 1600, 1500)).astype(np.float32)
    plain, gained = levels(values), levels(values * np.float32(gain))
    for name in ("scale", "mean", "least", "greatest"):
        np.testing.assert_allclose(
            getattr(gained, name), getattr(plain, name) * np.float32(gain), rtol=1e-6
        )


def test_large_rasters_are_sampled_well():
    rng = np.random.default_rng(0)
    values = (rng.gamma(2, 100, (1, 3000, 2500)) * np.linspace(0.5, 2, 3000)[None, :, None]).astype(
        np.float32
    )
    seen = []
    found = band_levels(reader(values, seen=seen), 3000, 2500, 1, "x.tif")
    assert sum(w.height * w.width for w in seen) <= statistics.SAMPLE
    assert found.scale[0] == pytest.approx(np.percentile(values, 98), rel=0.02)
    assert found.mean[0] == pytest.approx(values.mean(), rel=0.02)


@pytest.mark.parametrize("shape", [(1, 10_000_000), (10_000_000, 1), (20, 200_000), (63, 70_000)])
def test_odd_shapes(shape):
    values = np.broadcast_to(np.float32(3), (1, *shape))
    assert levels(values).scale[0] == 3


def test_small_island_in_a_sea_of_nodata():
    values = np.zeros((1, 3000, 3000), np.float32)
    values[0, 1000:1010, 2000:2030] = np.arange(1, 301).reshape(10, 30)
    found = levels(values, values > 0)
    assert found.scale[0] == 294
    assert found.greatest[0] == 300


def test_bounded_memory():
    def read(window, bands):
        shape = (len(range(*bands.indices(100))), window.height, window.width)
        return np.ones(shape, np.float32), None

    tracemalloc.start()
    band_levels(read, 35_000, 35_000, 100, "x.tif")
    peak = tracemalloc.get_traced_memory()[1]

    def few(window, bands):
        values, _ = read(window, bands)
        valid = np.zeros(values.shape, bool)
        valid[:, :, ::1000] = window.width > 64
        return values, valid

    band_levels(few, 8_000, 8_000, 2, "x.tif")
    peak = max(peak, tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert peak < 250e6


def test_thinning_keeps_an_even_sample(monkeypatch):
    monkeypatch.setattr(statistics, "SAMPLE", 1000)
    thinned = statistics._Thinned()
    stream = np.arange(12_345, dtype=np.float32)
    for part in np.split(stream, [7, 500, 4001, 4002, 9000]):
        thinned.add(part)
    np.testing.assert_array_equal(thinned.values(), stream[::16])


def test_zero_and_negative_bands():
    zero = np.zeros((1, 10, 10), np.float32)
    assert levels(zero).scale[0] == 1
    assert levels(zero - 5).scale[0] == 5
    lone = zero.copy()
    lone[0, 3, 3] = 9
    assert levels(lone).scale[0] == 9


def test_nothing_valid():
    values = np.zeros((2, 10, 10), np.float32)
    valid = np.ones(values.shape, bool)
    valid[1] = False
    with pytest.raises(FusionError, match=r"Band 2 of x\.tif has no valid pixel"):
        levels(values, valid)
