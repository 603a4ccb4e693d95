"""Scenes to train on: the Wald pair, masks, the held-out quarter, and patches that keep away from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("osgeo.gdal")

from fusion_core.errors import FusionError
from fusion_core.quality.lowpass import lowpass
from fusion_core.raster.geotiff import read_bands
from fusion_core.reduce import reduce_pair
from fusion_core.training.scene_patches import SceneAugmentation, ScenePatchSampler
from fusion_core.training_scenes import TrainingScene, held_out_quarter, load_training_scene

NAMES = ("Blue", "Green", "Red", "NIR")


def scene(
    height: int = 96, width: int = 128, ratio: int = 4, seed: int = 0, alike: bool = False
) -> TrainingScene:
    """Smooth random fields, PAN their mean; where the bands are alike PAN tells all there is to know."""
    rng = np.random.default_rng(seed)
    fields = rng.random((4, height, width))
    for axis in (1, 2):
        fields = sum(np.roll(fields, shift, axis) for shift in range(4)) / 4
    fields = np.clip(0.5 + 2 * (fields - 0.5), 0, 1)
    if alike:
        shares = np.array([0.2, 0.4, 0.7, 1.0])[:, None, None]
        fields = shares * fields[:1] + 0.3 * (1 - shares)
    reference = (100 + 800 * fields).astype(np.float32)
    gains = (0.3,) * 4
    valid = np.ones((height, width), bool)
    return TrainingScene(
        name="scene",
        reference=reference,
        pan=reference.mean(axis=0),
        ms=lowpass(reference, ratio, (height // ratio, width // ratio), gains).astype(np.float32),
        valid=valid,
        ratio=ratio,
        sensor="unknown",
        gains=gains,
        band_names=NAMES,
        ms_scale=np.full(4, 900, np.float32),
        ms_limits=np.array([[100, 920]] * 4, np.float32),
        dtype="uint16",
        pan_scale=900.0,
        quarter=held_out_quarter(valid, ratio),
    )


@pytest.mark.parametrize("shift", [(0.0, 0.0), (1.3, -0.6)])
def test_a_scene_is_what_reduction_writes(make_pair, tmp_path, shift):
    pan, ms = make_pair(ms_size=(68, 72), bands=4, shift=shift, names=NAMES)
    files = [str(tmp_path / f"{name}.tif") for name in ("p", "m", "r")]
    reduced = reduce_pair(pan, ms, *files, sensor="IKONOS")
    loaded = load_training_scene(pan, ms, sensor="IKONOS")
    for path, image in zip(files, (loaded.pan[None], loaded.ms, loaded.reference)):
        written = read_bands(path)[0]
        assert written.shape == image.shape
        assert np.abs(written - image).max() <= 0.5001  # the files hold whole numbers
    assert loaded.valid.all()
    assert (loaded.ratio, loaded.gains) == (reduced.ratio, reduced.ms_gains)
    whole = read_bands(ms)[0].astype(np.float32)
    np.testing.assert_allclose(loaded.ms_scale, np.percentile(whole, 98, axis=(1, 2)), rtol=0.01)


def test_nodata_is_not_trained_on(make_raster):
    rng = np.random.default_rng(0)
    ms = rng.integers(100, 900, (4, 64, 64)).astype(np.uint16)
    ms[:, :16, :20] = 0
    pan = rng.integers(100, 900, (256, 256)).astype(np.uint16)
    pan[200:] = 0
    paths = (
        make_raster("pan.tif", pan, nodata=0),
        make_raster("ms.tif", ms, pixel=4.0, nodata=0, names=NAMES),
    )
    loaded = load_training_scene(*paths)
    assert not loaded.valid[:16, :20].any()
    assert not loaded.valid[52:].any()
    assert loaded.valid[20:48, 24:].all()
    for image in (loaded.reference, loaded.pan, loaded.ms):
        assert np.isfinite(image).all() and image.min() > 0


@pytest.mark.parametrize("pixel", [1.0, 4.0, 6.0])
def test_masks_of_any_grid_are_laid_on_the_reference(make_pair, make_raster, pixel):
    pair = make_pair(ms_size=(64, 64), bands=4)
    size = int(-(-256 // pixel))
    cloud = np.zeros((size, size), np.uint8)
    cloud[int(96 / pixel) : int(144 / pixel), : int(48 / pixel)] = 7
    free = load_training_scene(*pair, mask=make_raster("cloud.tif", cloud, pixel=pixel)).valid
    assert not free[24:36, :12].any()
    free[24:36, :12] = True
    assert free.all()


def test_a_mask_without_georeference_has_the_size_of_ms_or_pan(make_pair, make_raster):
    pair = make_pair(ms_size=(64, 64), bands=4)
    cloud = np.zeros((64, 64), np.uint8)
    cloud[:8] = 1
    mask = make_raster("cloud.tif", cloud, geotransform=False, crs=None)
    free = load_training_scene(*pair, mask=mask).valid
    assert not free[:8].any() and free[8:].all()
    mask = make_raster("odd.tif", cloud[:50], geotransform=False, crs=None)
    with pytest.raises(FusionError, match="neither georeferenced"):
        load_training_scene(*pair, mask=mask)
    mask = make_raster("away.tif", cloud, origin=(0.0, 0.0))
    with pytest.raises(FusionError, match="does not lie on"):
        load_training_scene(*pair, mask=mask)


def test_scenes_that_do_not_serve_are_refused(make_pair):
    with pytest.raises(FusionError, match="needs 64 x 64"):
        load_training_scene(*make_pair(ms_size=(40, 100), bands=4))


def test_the_quarter_with_the_most_valid_pixels_is_held_out():
    valid = np.ones((40, 48), bool)
    assert held_out_quarter(valid, 4) == (20, 24, 20, 24)
    valid[-1, -1] = False
    row, col, height, width = held_out_quarter(valid, 4)
    assert (row, col) != (20, 24)
    assert valid[row : row + height, col : col + width].all()
    assert held_out_quarter(np.ones((44, 44), bool), 4) == (20, 20, 24, 24)


@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_nothing_of_the_held_out_quarter_is_in_a_patch(corner):
    plain = scene()
    row, col = corner[0] * 48, corner[1] * 64
    plain = replace(plain, quarter=(row, col, 48, 64))
    changed = plain.reference.copy()
    changed[:, row : row + 48, col : col + 64] = 1e9
    pan = plain.pan.copy()
    pan[row : row + 48, col : col + 64] = 1e9
    samplers = [
        ScenePatchSampler([one], seed=3)
        for one in (plain, replace(plain, reference=changed, pan=pan))
    ]
    for iteration in range(4):
        first, second = (sampler.batch(iteration, 16, 32) for sampler in samplers)
        for name, value in vars(first).items():
            assert (value == getattr(second, name)).all(), name


def test_no_patch_holds_an_invalid_pixel():
    cloudy = scene()
    cloudy.valid[10:30, 70:100] = False
    cloudy.reference[:, ~cloudy.valid] = 1e9
    sampler = ScenePatchSampler([cloudy], seed=0)
    for iteration in range(8):
        assert float(sampler.batch(iteration, 16, 16).reference.max()) < 10


def test_positions_are_counted():
    assert ScenePatchSampler([scene()], 0).positions(32) == (48 - 31) * 97 + 65 * (64 - 31)
    assert ScenePatchSampler([scene()], 0).positions(64) == 33
    nothing = scene()
    nothing.valid[::8] = False
    assert ScenePatchSampler([nothing], 0).positions(16) == 0
    with pytest.raises(ValueError, match="No patch"):
        ScenePatchSampler([nothing], 0).batch(0, 1, 16)


def test_patches_as_large_as_the_arm_need_no_surroundings():
    """An arm 64 pixels wide holds patches of 64, whose LMS continues the edge."""
    batch = ScenePatchSampler([scene()], 0, None).batch(0, 4, 64)
    assert batch.lms.shape == (4, 4, 64, 64)
    error = (batch.lms - batch.reference).abs().mean()
    assert float(error) < 0.1


def test_plain_patches_are_wald_pairs():
    """PAN is the mean of the bands here, MS the blurred reference, and LMS centred on it."""
    batch = ScenePatchSampler([scene(seed=2)], 1, None).batch(0, 16, 32)
    np.testing.assert_allclose(
        batch.guide[:, 0].numpy(), batch.reference.mean(dim=1).numpy(), atol=1e-5
    )
    blocks = batch.reference.unfold(2, 4, 4).unfold(3, 4, 4).mean(dim=(-1, -2))
    assert float((batch.ms - blocks).abs().mean()) < 0.4 * float(blocks.std())
    error = (batch.lms - batch.reference).abs().mean()
    shifted = (batch.lms[..., 1:, 1:] - batch.reference[..., :-1, :-1]).abs().mean()
    assert error < shifted


def test_patches_vary_as_asked_and_repeat():
    one, other = (ScenePatchSampler([scene()], 5, SceneAugmentation()) for _ in range(2))
    assert (one.batch(7, 4, 32).lms == other.batch(7, 4, 32).lms).all()
    level = SceneAugmentation(gain=0, gain_by_band=0, shift=0, level=0.5, scales=False)
    varied = ScenePatchSampler([scene()], 5, level).batch(0, 64, 16)
    spread = (varied.guide[:, 0] / varied.reference.mean(dim=1)).mean(dim=(-1, -2)).log().std()
    assert 0.5 < float(spread) < 1.0


def test_levels_lie_between_the_scales_of_the_scene_and_of_the_reduced_pair():
    one = scene()
    outside = np.ones((24, 32), bool)
    outside[12:, 16:] = False
    scales = np.percentile(one.ms[:, outside], 98, axis=1)
    one = replace(one, ms_scale=(scales * [1, 1.2, 1.4, 1.6]).astype(np.float32))
    fixed = {"gain": 0, "gain_by_band": 0, "shift": 0, "level": 0}
    plain, varied = (
        ScenePatchSampler([one], 5, SceneAugmentation(**fixed, scales=scales)).batch(0, 32, 16)
        for scales in (False, True)
    )
    # Both draw the same first patch, perhaps turned.
    means = [batch.reference[0].mean(dim=(-1, -2)).numpy() for batch in (varied, plain)]
    factor = means[0] / means[1]
    exponents = np.log(factor[1:]) / np.log([1.2, 1.4, 1.6])
    np.testing.assert_allclose(exponents, exponents[0], rtol=1e-3)
    assert 0 < exponents[0] < 1
    assert factor[0] == pytest.approx(1, abs=1e-5)
