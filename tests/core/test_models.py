"""Both networks: the published arithmetic, any size, and what prepare promises."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import pywt
import torch

from fusion_core.diffusion import sample
from fusion_core.fuse import MOST_STEPS
from fusion_core.models import METHODS, create_model
from fusion_core.models.ssdiff import SPATIAL_GAINS, AlternatingProjection, scale_low_frequencies
from fusion_core.models.wavelet import wavelet_transform
from tests.core.networks import fill, tiles
from tests.core.parity import (
    DDRF_NETWORKS,
    SSDIFF_NETWORKS,
    needs_numbers,
    read_numbers,
    require_published_answers,
    share_of_range,
)

GOLDEN = Path(__file__).with_name("golden_networks.json")
CONFIGURATIONS = {
    "ssdiff-4": ("ssdiff", 4, 1, 4, {}),
    "ssdiff-8": ("ssdiff", 8, 1, 4, {}),
    "ssdiff-6-ratio-2": ("ssdiff", 6, 1, 2, {}),
    "ddrf-4": ("ddrf", 4, 1, 4, {}),
    "ddrf-8": ("ddrf", 8, 1, 4, {}),
    "ddrf-hyperspectral": ("ddrf", 31, 3, 4, {"detail_order": "HVD"}),
}


@needs_numbers
@pytest.mark.parametrize("name", SSDIFF_NETWORKS + DDRF_NETWORKS)
@torch.inference_mode()
def test_published_networks_are_reproduced(name):
    numbers = read_numbers(name)
    given = numbers.arrays
    blank = create_model(numbers.method, numbers.bands, numbers.guide_bands, 4, **numbers.options)
    net = fill(blank, numbers.seed)
    require_published_answers(net, numbers)
    if numbers.method == "ddrf":
        _, wavelets = net.condition_channels(given["pan"], given["lms"])
        assert share_of_range(wavelets, given["wavelets"]) < 1e-6


def golden_answers(name: str) -> dict[str, list[float]]:
    """A few numbers of a forward pass; ``python -m tests.core.test_models`` writes them anew."""
    method, bands, guide, ratio, options = CONFIGURATIONS[name]
    net = fill(create_model(method, bands, guide, ratio, **options), 7)
    batch = tiles(bands, 32, 40, ratio, batch=2, guide=guide)
    x_t = torch.from_numpy(np.random.default_rng(3).standard_normal((2, bands, 32, 40))).float()
    with torch.inference_mode():
        condition = net.prepare(*batch)
        answer = net(x_t, torch.tensor([11, 400]), condition)
        residual = sample(net, condition, x_t, steps=3, solver="dpm++2m", grid="logsnr")
    return {
        "forward": answer[:, :, 5::13, 3::17].flatten().tolist()[::5],
        "residual": residual[:, :, 5::13, 3::17].flatten().tolist()[::5],
    }


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_golden_numbers(name):
    golden = json.loads(GOLDEN.read_text())[name]
    for key, values in golden_answers(name).items():
        assert len(values) > 3
        assert np.ptp(golden[key]) > 0.01
        np.testing.assert_allclose(values, golden[key], atol=1e-4 * np.ptp(golden[key]))


@pytest.mark.parametrize(
    ("method", "bands", "parameters", "entries"),
    [
        ("ddrf", 8, 10_397_208, 702),
        ("ddrf", 4, 10_250_324, 702),
        ("ssdiff", 8, 1_426_616, 187),
        ("ssdiff", 4, 1_413_940, 187),
    ],
)
def test_size_is_the_published_one(method, bands, parameters, entries):
    net = create_model(method, bands)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert len(net.state_dict()) == entries


@pytest.mark.parametrize("method", ["ddrf", "ssdiff"])
@pytest.mark.parametrize(
    ("height", "width", "ratio"), [(40, 24, 4), (50, 37, 4), (22, 18, 2), (4, 4, 4)]
)
def test_any_size(method, height, width, ratio):
    net = fill(create_model(method, 3, 1, ratio, width=16), 2)
    with torch.inference_mode():
        condition = net.prepare(*tiles(3, height, width, ratio))
        answer = net(torch.randn(1, 3, height, width), torch.tensor([5]), condition)
    assert answer.shape == (1, 3, height, width)
    assert torch.isfinite(answer).all()


@pytest.mark.parametrize("method", ["ddrf", "ssdiff"])
def test_forward_is_prepare_time_table_and_step(method):
    net = fill(create_model(method, 4, width=16), 2)
    x_t = torch.randn(2, 4, 32, 32)
    with torch.inference_mode():
        condition = net.prepare(*tiles(4, 32, 32, batch=2))
        times = net.time_table([900 % net.train_steps, 3])
        stepped = net.step(x_t, times[1], condition)
        forward = net(x_t, torch.tensor([3, 3]), condition)
    torch.testing.assert_close(stepped, forward, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", ["ddrf", "ssdiff"])
def test_wrong_shapes_are_refused(method):
    net = create_model(method, 4, width=16)
    guide, ms, lms = tiles(4, 32, 32)
    with pytest.raises(ValueError, match="ms has shape"):
        net.prepare(guide, ms[:, :3], lms)
    with pytest.raises(ValueError, match="guide has shape"):
        net.prepare(guide[..., :16], ms, lms)


def test_step_limits_are_those_of_the_networks():
    assert MOST_STEPS == {
        method: create_model(method, 2, width=16).train_steps for method in METHODS
    }


def test_unknown_method_and_options_are_refused():
    with pytest.raises(ValueError, match="method must be"):
        create_model("brovey", 4)
    with pytest.raises(ValueError, match="detail_order"):
        create_model("ddrf", 4, detail_order="DHV")


def test_wavelet_is_pywavelets():
    image = np.random.default_rng(0).random((2, 3, 10, 14))
    low, details = wavelet_transform(torch.from_numpy(image))
    expected, expected_details = pywt.dwt2(image, "db1")
    np.testing.assert_allclose(low, expected, atol=1e-12)
    for index, detail in enumerate(expected_details):
        np.testing.assert_allclose(details[:, :, index], detail, atol=1e-12)


@pytest.mark.parametrize("size", [(16, 16), (8, 20), (5, 7)])
@pytest.mark.parametrize("gain", sorted(set(SPATIAL_GAINS)))
def test_frequency_filter_is_the_fourier_one(size, gain):
    image = torch.randn(2, 3, *size, dtype=torch.float64)
    spectrum = torch.fft.fftshift(torch.fft.fft2(image), dim=(-2, -1))
    row, col = size[0] // 2, size[1] // 2
    spectrum[..., row - 1 : row + 1, col - 1 : col + 1] *= gain
    expected = torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(-2, -1))).real
    torch.testing.assert_close(scale_low_frequencies(image, gain), expected, rtol=0, atol=1e-10)


def test_attention_never_holds_all_pairs():
    """The map of 4096 x 4096 pixels would take 128 MiB for the two heads; everything else takes a few."""
    layer = AlternatingProjection(32).eval()
    tokens = torch.randn(1, 4096, 32)
    with torch.profiler.profile(profile_memory=True) as profile, torch.inference_mode():
        layer(tokens, tokens)
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert 0 < largest < 16 * 2**20


@pytest.mark.parametrize("method", ["ddrf", "ssdiff"])
def test_every_used_weight_learns(method):
    net = fill(create_model(method, 4, width=16), 2).train()
    condition = net.prepare(*tiles(4, 32, 32, batch=2))
    net(torch.randn(2, 4, 32, 32), torch.tensor([3, 200]), condition).square().mean().backward()
    unused = ("raise_ms_dim", "raise_pan_dim", "conv_x_t", "maxpool_conv", "up0.up0", "up1.up0")
    for name, parameter in net.named_parameters():
        if not any(part in name for part in unused):
            assert parameter.grad is not None, name


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({name: golden_answers(name) for name in CONFIGURATIONS}, indent=1))
