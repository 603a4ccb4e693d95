"""The synthetic scene: determinism, variety, sensors, consistency of PAN, MS and truth."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from fusion_core.errors import FusionError
from fusion_core.quality.lowpass import lowpass
from fusion_core.sample_scene import make_sample_scene
from fusion_core.synthesis import spectra
from fusion_core.synthesis.atmosphere import illumination
from fusion_core.synthesis.canvas import Canvas, Sun
from fusion_core.synthesis.sensor import ms_channels, sample_grid


def test_shapes_types_and_georeference():
    scene = make_sample_scene(size=96, bands=4, ratio=4, seed=1)
    assert scene.pan.shape == (1, 96, 96)
    assert scene.ms.shape == (4, 24, 24)
    assert scene.reference.shape == (4, 96, 96)
    assert {image.dtype.name for image in (scene.pan, scene.ms, scene.reference)} == {"uint16"}
    assert max(scene.pan.max(), scene.ms.max(), scene.reference.max()) <= 2047
    assert scene.band_names == ("Blue", "Green", "Red", "NIR")
    assert (scene.geotransform[1], scene.ms_geotransform[1]) == (0.5, 2.0)
    assert scene.geotransform[0] == scene.ms_geotransform[0]
    assert scene.geotransform[3] == scene.ms_geotransform[3]


def test_same_seed_same_scene():
    first, second = (make_sample_scene(size=64, bands=3, ratio=4, seed=7) for _ in range(2))
    for name in ("pan", "ms", "reference"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_other_seeds_show_other_places():
    scenes = [make_sample_scene(size=64, bands=4, ratio=4, seed=seed) for seed in range(12)]
    assert len({scene.theme for scene in scenes}) == 10
    # Two towns of one theme differ as well.
    assert scenes[0].theme == scenes[10].theme
    levels = [scene.reference.astype(float).mean(axis=(1, 2)) for scene in scenes]
    assert np.abs(levels[0] - levels[10]).max() > 5
    spread = np.std([level[3] / level[2] for level in levels])
    assert spread > 0.2


@pytest.mark.parametrize("bands", [2, 3, 5, 6, 7, 8, 9, 10, 12, 60])
def test_band_counts(bands):
    scene = make_sample_scene(size=32, bands=bands, ratio=2, seed=3)
    assert scene.ms.shape == (bands, 16, 16)
    assert len(set(scene.band_names)) == bands
    assert scene.reference.min() > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": 510}, "multiple of 4"),
        ({"size": 8}, "from 16"),
        ({"ratio": 1}, "ratio"),
        ({"bands": 1}, "2 to 256 bands"),
        ({"seed": -1}, "seed"),
        ({"pixel_size": 100}, "metres"),
    ],
)
def test_refusals(arguments, words):
    with pytest.raises(FusionError, match=words):
        make_sample_scene(**{"size": 64, **arguments})


@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_ms_is_the_degraded_truth(ratio):
    """MS differs from the degraded reference by little more than its noise: same ground, same grid."""
    scene = make_sample_scene(size=48 * ratio, bands=4, ratio=ratio, seed=0)
    truth = scene.reference.astype(float)
    degraded = lowpass(truth, ratio, scene.ms.shape[1:], [0.3] * 4)
    here = np.abs(degraded - scene.ms)[:, 3:-3, 3:-3].mean()
    moved = np.abs(np.roll(degraded, 1, axis=2) - scene.ms)[:, 3:-3, 3:-3].mean()
    assert here < 0.25 * moved


def test_pan_is_nearly_a_mixture_of_the_bands():
    scene = make_sample_scene(size=128, bands=4, ratio=4, seed=0)
    bands = scene.reference.reshape(4, -1).T.astype(float)
    design = np.c_[bands, np.ones(len(bands))]
    pan = scene.pan.ravel().astype(float)
    rest = pan - design @ np.linalg.lstsq(design, pan, rcond=None)[0]
    assert 0.001 < rest.var() / pan.var() < 0.1


def test_scene_has_detail_that_ms_misses():
    scene = make_sample_scene(size=256, bands=4, ratio=4, seed=0)
    blocks = scene.reference[:, :, :].astype(float).reshape(4, 64, 4, 64, 4)
    within = blocks.var(axis=(2, 4)).mean()
    between = blocks.mean(axis=(2, 4)).var(axis=(1, 2)).mean()
    assert within > 0.05 * between


def test_spectra_behave():
    wavelengths = spectra.WAVELENGTHS
    for name in spectra.material_names():
        curve = spectra.spectrum(name)
        assert curve.shape == wavelengths.shape
        assert 0 < curve.min() and curve.max() < 0.9

    def at(curve, nm):
        return np.interp(nm, wavelengths, curve)

    green, pale = spectra.vegetation(0.9), spectra.vegetation(0.1)
    assert at(green, 800) > 8 * at(green, 670)
    assert at(green, 550) > at(green, 670)
    assert at(pale, 650) > at(green, 650)
    assert at(pale, 720) > at(green, 720)
    assert at(spectra.spectrum("clear water"), 900) < 0.01


def test_air_is_blue_and_haze_adds_light():
    def path(visibility):
        return illumination(0.8, visibility).path

    blue, red = np.searchsorted(spectra.WAVELENGTHS, (480, 650))
    assert path(40)[blue] > 2 * path(40)[red]
    assert np.all(path(8) > path(40))
    assert np.all(illumination(0.8, 8).direct < illumination(0.8, 40).direct)


def test_shadows_fall_away_from_the_sun():
    for azimuth, elevation in ((180, 45), (135, 40), (100, 35), (220, 60)):
        sun = Sun.from_angles(azimuth, elevation)
        canvas = Canvas(240, 0.5, sun, np.random.default_rng(0), bend=0, relief=0)
        canvas.height[118:122, 118:122] = 20.0
        dark = canvas.shadow()
        rows, cols = np.nonzero(dark)
        direction = np.array([rows.mean() - 119.5, cols.mean() - 119.5])
        expected = -np.array([sun.y, sun.x])
        cosine = direction @ expected / np.linalg.norm(direction) / np.linalg.norm(expected)
        assert cosine > 0.99
        length = np.hypot(rows - 119.5, cols - 119.5).max() * 0.5
        assert length == pytest.approx(20 / np.tan(np.radians(elevation)), abs=2.5)


def test_transfer_function_of_the_sampling():
    position = np.arange(400)
    # A wave at the coarse Nyquist frequency with its crests on the coarse centres.
    wave = np.cos(2 * np.pi * (position - 3.5) / 16) * np.ones((400, 1))
    found = sample_grid(wave.astype(np.float32), 8, 40, 40, 0.3)
    assert np.abs(found).mean() == pytest.approx(0.3, rel=0.01)


def test_channels_are_where_their_names_say():
    for channel, (low, high) in zip(
        ms_channels(4), ((450, 520), (510, 595), (625, 700), (760, 900))
    ):
        centre = channel.response @ spectra.WAVELENGTHS
        assert low < centre < high


def test_needs_neither_torch_nor_gdal():
    code = (
        "import sys; from fusion_core.sample_scene import make_sample_scene; "
        "make_sample_scene(32); import fusion_core.quality; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'osgeo', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_written_files(tmp_path):
    pytest.importorskip("osgeo")
    from fusion_core.raster.geotiff import read_bands
    from fusion_core.raster.sample_scene_files import write_sample_scene

    scene = make_sample_scene(size=32, bands=4, ratio=4, seed=2)
    paths = [str(tmp_path / name) for name in ("pan.tif", "ms.tif", "reference.tif")]
    write_sample_scene(scene, *paths)
    for path, image in zip(paths, (scene.pan, scene.ms, scene.reference)):
        pixels, info = read_bands(path)
        np.testing.assert_array_equal(pixels, image)
        assert "32633" in info.crs_wkt
    assert info.band_names == ("Blue", "Green", "Red", "NIR")
    assert read_bands(paths[1])[1].geotransform == scene.ms_geotransform


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("pan.tif", "none/ms.tif"), "does not exist"),
        (("pan.tif", "./pan.tif"), "same name"),
        (("pan.tif", "ms.png"), "not the name of a GeoTIFF"),
    ],
)
def test_all_files_or_none(tmp_path, names, words):
    pytest.importorskip("osgeo")
    from fusion_core.errors import FusionError
    from fusion_core.raster.sample_scene_files import write_sample_scene

    with pytest.raises(FusionError, match=words):
        write_sample_scene(make_sample_scene(16), *(f"{tmp_path}/{name}" for name in names))
    assert list(tmp_path.iterdir()) == []
