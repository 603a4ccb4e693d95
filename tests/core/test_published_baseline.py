"""The published way that speed is measured against gives the same numbers as the package, from the same weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.published import (
    PublishedDDRF,
    PublishedSSDiff,
    ddim,
    ddrf_condition,
    ddrf_image,
    ddrf_timesteps,
    published_timesteps,
    ssdiff_image,
    tile_places,
)
from benchmarks.published.sampling import signal_levels, ssdiff_tiles
from benchmarks.published.ssdiff import filtered
from fusion_core.diffusion import sample
from fusion_core.diffusion.schedule import cosine_schedule
from fusion_core.models import create_model
from tests.core.networks import fill, tiles
from tests.core.parity import (
    DDRF_NETWORKS,
    SSDIFF_NETWORKS,
    needs_numbers,
    read_numbers,
    share_of_range,
)

UNLIMITED = (torch.tensor(-1e9), torch.tensor(1e9))


def pair(method, bands, guide=1, ratio=4, **options):
    """A network of the package, and the published one with the same state dict."""
    ours = fill(create_model(method, bands, guide, ratio, **options), 5)
    if method == "ddrf":
        return ours, PublishedDDRF(ours.state_dict(), bands, guide)
    return ours, PublishedSSDiff(ours.state_dict())


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).float()


@needs_numbers
@pytest.mark.parametrize("name", SSDIFF_NETWORKS + DDRF_NETWORKS)
@torch.inference_mode()
def test_published_networks_are_reproduced(name):
    numbers = read_numbers(name)
    given, bands, guide = numbers.arrays, numbers.bands, numbers.guide_bands
    state = fill(create_model(numbers.method, bands, guide), numbers.seed).state_dict()
    if numbers.method == "ssdiff":
        answer = PublishedSSDiff(state)(*(given[key] for key in ("x_t", "t", "pan", "ms", "lms")))
        assert share_of_range(answer, given["out"]) < 1e-5
        return
    network = PublishedDDRF(state, bands, guide)
    condition = ddrf_condition(given["pan"], given["lms"], numbers.options["detail_order"])
    for expected, self_cond in numbers.ddrf_calls:
        answer = network(given["x_t"], given["t"], condition, self_cond)
        assert share_of_range(answer, expected) < 1e-5
    residual = ddim(
        lambda x, t: network(x, t, condition),
        given["ddim25_noise"],
        signal_levels(500),
        ddrf_timesteps(),
        told=range(24, -1, -1),
    )
    assert share_of_range(residual, given["ddim25_residual"]) < 1e-4


@pytest.mark.parametrize(
    ("bands", "guide", "options"),
    [
        (4, 1, {"width": 16}),
        (8, 1, {}),
        (5, 3, {"width": 16, "detail_order": "HVD"}),
    ],
)
@torch.inference_mode()
def test_one_call_of_ddrf_agrees(bands, guide, options):
    ours, published = pair("ddrf", bands, guide, **options)
    sharp, ms, lms = tiles(bands, 32, 48, batch=2, guide=guide)
    x_t, self_cond, t = (
        noise(2, bands, 32, 48),
        noise(2, bands, 32, 48, seed=1),
        torch.tensor([7, 480]),
    )
    prepared = ours.prepare(sharp, ms, lms)
    condition = ddrf_condition(sharp, lms, options.get("detail_order", "HDV"))
    for estimate in (None, self_cond):
        expected = ours(x_t, t, prepared, estimate)
        assert share_of_range(published(x_t, t, condition, estimate), expected) < 1e-5


@pytest.mark.parametrize(
    ("bands", "ratio", "options"), [(8, 4, {}), (4, 4, {"width": 16}), (6, 2, {})]
)
@torch.inference_mode()
def test_one_call_of_ssdiff_agrees(bands, ratio, options):
    ours, published = pair("ssdiff", bands, 1, ratio, **options)
    sharp, ms, lms = tiles(bands, 32, 48, ratio, batch=2)
    x_t, t = noise(2, bands, 32, 48), torch.tensor([7, 900])
    expected = ours(x_t, t, ours.prepare(sharp, ms, lms))
    assert share_of_range(published(x_t, t, sharp, ms, lms), expected) < 1e-5


@pytest.mark.parametrize("times", [500, 1000])
def test_noise_levels_are_those_of_the_package(times):
    schedule = cosine_schedule(times)
    np.testing.assert_allclose(signal_levels(times).sqrt(), schedule.alpha, rtol=1e-9)
    assert published_timesteps(times, 10) == schedule.published_timesteps(10)


@torch.inference_mode()
def test_whole_image_of_ddrf_is_25_steps_of_the_package():
    ours, published = pair("ddrf", 3, width=16)
    sharp, ms, lms = tiles(3, 32, 32)
    start = noise(1, 3, 32, 32)
    condition = ddrf_condition(sharp, lms)
    ranks = ddim(
        lambda x, t: published(x, t, condition),
        start,
        signal_levels(500),
        ddrf_timesteps(),
        told=range(24, -1, -1),
    )
    prepared = ours.prepare(sharp, ms, lms)
    expected = sample(ours, prepared, start, steps=25, indexing="published", value_range=None)
    assert share_of_range(ranks, expected) < 1e-4
    # Told the timesteps themselves, the image is another one.
    image = ddrf_image(published, sharp, lms, start, UNLIMITED)
    assert share_of_range(image, ranks + lms) > 1e-3
    times = ours.time_table(ddrf_timesteps())
    by_hand = ddim(
        lambda x, t: ours.step(x, times[ddrf_timesteps().index(int(t[0]))], prepared),
        start,
        signal_levels(500),
        ddrf_timesteps(),
    )
    assert share_of_range(image, by_hand + lms) < 1e-4
    limited = ddrf_image(published, sharp, lms, start, (torch.tensor(0.2), torch.tensor(0.4)))
    assert (float(limited.min()), float(limited.max())) == pytest.approx((0.2, 0.4))


@torch.inference_mode()
def test_limits_hold_in_every_step_of_ssdiff():
    ours, published = pair("ssdiff", 3, width=16)
    sharp, ms, lms = tiles(3, 32, 32)
    start = noise(1, 3, 32, 32)
    limits = (torch.tensor(0.3), torch.tensor(0.7))
    prepared = ours.prepare(sharp, ms, lms)
    timesteps = published_timesteps(1000, 10)
    times = ours.time_table(timesteps)
    expected = lms + ddim(
        lambda x, t: (
            (ours.step(x, times[timesteps.index(int(t[0]))], prepared) + lms).clamp(0.3, 0.7) - lms
        ),
        start,
        signal_levels(1000),
        timesteps,
    )
    limited = ssdiff_tiles(published, sharp, ms, lms, start, limits)
    assert share_of_range(limited, expected) < 1e-4
    free = ssdiff_tiles(published, sharp, ms, lms, start, UNLIMITED)
    assert share_of_range(free, expected) > 0.01


def test_tiles_of_the_published_merge():
    places = tile_places(256, 256)
    assert len(places) == 13 * 13 + 4 * 13
    assert sum(place.strip for place in places) == 52
    with pytest.raises(ValueError, match="250"):
        tile_places(250, 256)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 80), (144, 128)])
@torch.inference_mode()
def test_merged_tiles_are_the_image(height, width):
    """A network whose answer is PAN minus LMS: whatever the tiles, the image is PAN."""

    def perfect(x_t, t, guide, ms, lms):
        return guide.expand_as(lms) - lms

    sharp, ms, lms = tiles(3, height, width)
    image = ssdiff_image(perfect, sharp, ms, lms, UNLIMITED, torch.Generator().manual_seed(0), 7)
    torch.testing.assert_close(image, sharp.expand_as(lms), atol=1e-5, rtol=0)


@torch.inference_mode()
def test_border_comes_from_the_strips_and_the_inside_from_centres():
    """A network that answers the tile's own number of rows and columns away from its centre."""

    def distance(x_t, t, guide, ms, lms):
        away = (torch.arange(64) - 31.5).abs()
        return torch.maximum(away[:, None], away[None, :]).expand_as(lms) - lms

    sharp, ms, lms = tiles(2, 128, 128)
    generator = torch.Generator().manual_seed(0)
    image = ssdiff_image(distance, sharp, ms, lms, UNLIMITED, generator)[0, 0]
    assert float(image[16:112, 16:112].max()) <= 15.5
    # The first row of the image is the first row of the strip's tiles.
    torch.testing.assert_close(image[0, 40:80], torch.full((40,), 31.5))


def test_filter_scales_the_mean_by_the_gain():
    image = noise(1, 2, 16, 16) + 3
    answer = filtered(image, 0.25)
    torch.testing.assert_close(answer.mean((2, 3)), 0.25 * image.mean((2, 3)))
