"""The Wald protocol: pixels, grids, nodata, memory."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("osgeo")
from fusion_core.command_line import main  # noqa: E402
from fusion_core.errors import Cancelled, FusionError  # noqa: E402
from fusion_core.mtf import mtf_sigma  # noqa: E402
from fusion_core.raster.geotiff import read_bands  # noqa: E402
from fusion_core.raster.scene import Scene  # noqa: E402
from fusion_core.reduce import check_reduce, reduce_pair  # noqa: E402

SCENES = Path(__file__).resolve().parents[2] / "../shared/data/scenes"
NAMES = ("pan_reduced", "ms_reduced", "reference")


@pytest.fixture
def outputs(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return [str(folder / f"{name}.tif") for name in NAMES]


def read(outputs):
    return [read_bands(path) for path in outputs]


def gaussian(positions, size, sigma):
    weights = np.exp(-0.5 * ((np.arange(size) - np.asarray(positions)[:, None]) / sigma) ** 2)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_pixels_are_gaussian_means_at_the_right_places(make_pair, outputs, ratio):
    pan_path, ms_path = make_pair(ratio=ratio, ms_size=(48, 36), dtype="float32", bands=2)
    result = reduce_pair(pan_path, ms_path, *outputs)
    (pan, _), (ms, ms_info), (reference, info) = read(outputs)
    assert (result.ratio, result.width, result.height) == (ratio, 36, 48)
    original, original_info = read_bands(ms_path)
    assert np.array_equal(reference, original)
    assert info.geotransform == original_info.geotransform
    assert ms_info.geotransform[1] == ratio * info.geotransform[1]
    assert ms_info.geotransform[0::3] == info.geotransform[0::3]
    fine = read_bands(pan_path)[0][0].astype(float)
    sigma = mtf_sigma(0.15, ratio)
    centres = [ratio * np.arange(n) + (ratio - 1) / 2 for n in (48, 36)]
    expected = gaussian(centres[0], fine.shape[0], sigma) @ fine
    expected = expected @ gaussian(centres[1], fine.shape[1], sigma).T
    inside = slice(8, -8)
    assert pan[0, inside, inside] == pytest.approx(expected[inside, inside], rel=1e-5)
    sigma = mtf_sigma(0.30, ratio)
    centres = [ratio * np.arange(n // ratio) + (ratio - 1) / 2 for n in (48, 36)]
    expected = gaussian(centres[0], 48, sigma) @ original[1].astype(float)
    expected = expected @ gaussian(centres[1], 36, sigma).T
    inside = slice(4, -4)
    assert ms[1, inside, inside] == pytest.approx(expected[inside, inside], rel=1e-5)


def test_a_plane_stays_a_plane(make_raster, outputs):
    """Positions are right to a fraction of a pixel, also where PAN starts inside an MS pixel."""
    x, y = np.meshgrid(np.arange(96.0), np.arange(96.0))
    pan = (3 * x + 5 * y).astype(np.float32)
    # MS starts 1.3 PAN pixels left of PAN and 0.6 above.
    mx, my = np.meshgrid(4 * np.arange(24) + 1.5 - 1.3, 4 * np.arange(24) + 1.5 - 0.6)
    ms = np.stack([3 * mx + 5 * my, mx]).astype(np.float32)
    names = (
        make_raster("pan.tif", pan),
        make_raster("ms.tif", ms, pixel=4.0, origin=(500000.0 - 1.3, 5000000.0 + 0.6)),
    )
    reduce_pair(*names, *outputs)
    (reduced, pan_info), _, (reference, info) = read(outputs)
    inside = slice(4, -4)
    assert reduced[0, inside, inside] == pytest.approx(reference[0, inside, inside], abs=2e-3)
    assert pan_info.geotransform == pytest.approx(info.geotransform)


def test_the_pair_is_a_scene_on_one_grid(make_pair, outputs):
    pan, ms = make_pair(ms_size=(41, 43), names=("Blue", "Green", "Red"), shift=(-1.0, 2.0))
    reduce_pair(pan, ms, *outputs, sensor="QuickBird")
    with Scene.open(*outputs[:2]) as scene:
        assert (scene.ratio, scene.phase) == (4, (0, 0))
        assert scene.band_names == ("Blue", "Green", "Red")
        assert scene.overlap == scene.grid
    (pan, pan_info), (ms, _), (reference, info) = read(outputs)
    assert pan.dtype == ms.dtype == reference.dtype == np.uint16
    assert pan.shape[1:] == reference.shape[1:] == (40, 40)
    assert pan_info.geotransform == info.geotransform


def test_only_what_pan_shows_becomes_reference(make_pair, outputs):
    pan, ms = make_pair(ms_size=(40, 40), pan_size=(96, 80), shift=(-16.0, -24.0))
    reduce_pair(pan, ms, *outputs)
    reference, info = read_bands(outputs[2])
    assert np.array_equal(reference, read_bands(ms)[0][:, 4:28, 6:26])
    assert info.geotransform[0::3] == (500000.0, 5000000.0)


def test_nodata_stays_and_does_not_bleed(make_raster, outputs):
    pan = np.full((128, 128), 700, np.uint16)
    pan[:40, :40] = 0
    ms = np.full((2, 32, 32), 500, np.uint16)
    ms[:, 20:, 20:] = 0
    names = (
        make_raster("pan.tif", pan, nodata=0),
        make_raster("ms.tif", ms, pixel=4.0, nodata=0),
    )
    reduce_pair(*names, *outputs)
    for (pixels, info), value in zip(read(outputs), (700, 500, 500)):
        assert info.nodata == 0
        assert set(np.unique(pixels)) == {0, value}
    pan, ms, _ = (pixels for pixels, _ in read(outputs))
    assert np.array_equal(pan[0] == 0, np.pad(np.ones((10, 10), bool), ((0, 22), (0, 22))))
    assert np.array_equal(ms[0] == 0, np.pad(np.ones((3, 3), bool), ((5, 0), (5, 0))))


def test_large_integers_are_kept_to_the_last_digit(make_raster, outputs):
    rng = np.random.default_rng(0)
    ms = rng.integers(2**30, 2**31 - 1, (2, 16, 16)).astype(np.int32)
    pan = np.ones((64, 64), np.int32)
    reduce_pair(make_raster("p.tif", pan), make_raster("m.tif", ms, pixel=4.0), *outputs)
    assert np.array_equal(read_bands(outputs[2])[0], ms)


def test_strips_do_not_show(make_pair, outputs, monkeypatch, tmp_path):
    names = make_pair(ms_size=(64, 40), dtype="float32")
    reduce_pair(*names, *outputs)
    whole = read(outputs)
    monkeypatch.setattr("fusion_core.reduce.STRIP_BYTES", 1)
    shares = []
    reduce_pair(*names, *outputs, progress=shares.append)
    assert len(shares) == 16 and shares[-1] == 1
    for (first, _), (second, _) in zip(whole, read(outputs)):
        assert first == pytest.approx(second, rel=1e-6)


def test_memory_does_not_grow_with_height(make_pair, outputs, monkeypatch):
    monkeypatch.setattr("fusion_core.reduce.STRIP_BYTES", 1 << 22)
    peaks = []
    for rows in (128, 1024):
        names = make_pair(ms_size=(rows, 128))
        tracemalloc.start()
        reduce_pair(*names, *outputs)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + 2e6


def test_the_given_ratio_reduces_further(make_pair, outputs):
    names = make_pair(ratio=2, ms_size=(48, 48))
    assert reduce_pair(*names, *outputs, ratio=4).ratio == 4
    assert read_bands(outputs[1])[0].shape == (3, 12, 12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sensor": "Sputnik"}, "The sensor Sputnik is not known"),
        ({"ratio": 1}, "The ratio is 1"),
        ({"pan": "none.tif"}, "none.tif cannot be opened"),
        ({"outputs": ("a.tif", "a.tif", "b.tif")}, "Two outputs have the same name"),
        ({"outputs": ("/nowhere/a.tif", None, None)}, "does not exist"),
    ],
)
def test_refusals(make_pair, change, words):
    pan, ms = make_pair()
    with pytest.raises(FusionError, match=words):
        check_reduce(**{"pan": pan, "ms": ms, **change})


def test_inputs_are_not_overwritten_and_other_maps_refused(make_pair, make_raster, outputs):
    pan, ms = make_pair()
    with pytest.raises(FusionError, match="is one of the inputs"):
        reduce_pair(pan, ms, outputs[0], ms, outputs[2])
    assert list(Path(outputs[0]).parent.iterdir()) == []
    turned = make_raster(
        "turned.tif",
        np.ones((3, 24, 20), np.uint16),
        geotransform=(500000.0, 3.9, 0.5, 5000000.0, 0.5, -3.9),
    )
    with pytest.raises(FusionError, match="is turned against pan.tif"):
        check_reduce(pan, turned)


def test_cancel_leaves_nothing(make_pair, outputs):
    with pytest.raises(Cancelled):
        reduce_pair(*make_pair(), *outputs, cancelled=lambda: True)
    assert list(Path(outputs[0]).parent.iterdir()) == []


def test_command_line(make_pair, outputs, capsys):
    pan, ms = make_pair()
    names = [f"--{name.replace('_', '-')}" for name in NAMES]
    arguments = [part for pair in zip(names, outputs) for part in pair]
    given = ["reduce", "--pan", pan, "--ms", ms, "--sensor", "GeoEye-1", *arguments, "--json"]
    assert main(given) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["ms_gains"] == [0.30] * 3 and result["pan_gain"] == 0.16


@pytest.mark.skipif(not SCENES.is_dir(), reason="the scenes are not here")
@pytest.mark.parametrize(
    ("scene", "sensor"),
    [
        ("ikonos", "IKONOS"),
        ("worldview3_a", "WorldView-3"),
        ("worldview3_b", "WorldView-3"),
        ("landsat7_val_01", "unknown"),
        ("landsat8_madrid", "unknown"),
        ("landsat8_istanbul", "unknown"),
        ("hyperion_paris", "unknown"),
    ],
)
def test_real_pairs_agree_with_those_made_independently(outputs, scene, sensor):
    full, reduced = SCENES / scene / "full", SCENES / scene / "rr"
    reduce_pair(str(full / "pan.tif"), str(full / "ms.tif"), *outputs, sensor=sensor)
    for path, name, border in zip(outputs, ("pan", "ms", "gt"), (8, 6, 0)):
        ours, info = read_bands(path)
        theirs, their_info = read_bands(str(reduced / f"{name}.tif"))
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        assert info.geotransform == pytest.approx(their_info.geotransform)
        border = min(border, min(ours.shape[1:]) // 4)
        inner = slice(border, ours.shape[1] - border), slice(border, ours.shape[2] - border)
        first, second = ours[:, inner[0], inner[1]], theirs[:, inner[0], inner[1]]
        if ours.dtype.kind == "f":
            assert first == pytest.approx(second, rel=1e-6, abs=1e-6 * np.abs(second).max())
        else:
            # A half may be rounded to either side.
            assert np.abs(first.astype(int) - second).max() <= 1
            assert (first != second).mean() < 5e-4
