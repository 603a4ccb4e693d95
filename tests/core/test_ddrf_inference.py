"""DDRF's inference form answers what the trained network answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusion_core.diffusion import sample
from fusion_core.models import create_model, ddrf_inference
from fusion_core.models.ddrf import DDRF
from fusion_core.models.network import FusionNetwork
from tests.core.networks import fill, tiles
from tests.core.parity import (
    DDRF_NETWORKS,
    needs_numbers,
    read_numbers,
    require_published_answers,
    share_of_range,
)


def made(bands: int, guide: int = 1, seed: int = 7, **options: object) -> DDRF:
    return fill(create_model("ddrf", bands, guide, **options), seed)


def noise(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).standard_normal(shape)).float()


@pytest.mark.parametrize(
    ("width", "bands", "guide", "order"),
    [(16, 4, 1, "HDV"), (16, 8, 1, "HDV"), (32, 8, 1, "HVD"), (32, 4, 3, "HVD"), (16, 5, 3, "HDV")],
)
@pytest.mark.parametrize(
    ("batch", "height", "wide", "fed_back"),
    [(1, 64, 64, False), (3, 32, 48, True), (2, 45, 30, False), (1, 45, 30, True)],
)
@torch.inference_mode()
def test_a_call_is_the_same(width, bands, guide, order, batch, height, wide, fed_back):
    trained = made(bands, guide, width=width, detail_order=order)
    x_t = noise(batch, bands, height, wide)
    self_cond = noise(batch, bands, height, wide).flip(-1) if fed_back else None
    given = tiles(bands, height, wide, batch=batch, guide=guide)

    def answer(net: FusionNetwork) -> torch.Tensor:
        return net.step(x_t, net.time_table([400, 20])[1], net.prepare(*given), self_cond)

    assert share_of_range(answer(trained.inference_form()), answer(trained)) < 1e-5


@torch.inference_mode()
def test_tiles_at_different_timesteps():
    trained = made(4, width=16)
    given, x_t, t = tiles(4, 32, 32, batch=3), noise(3, 4, 32, 32), torch.tensor([0, 400, 77])
    form = trained.inference_form()
    expected = trained(x_t, t, trained.prepare(*given))
    assert share_of_range(form(x_t, t, form.prepare(*given)), expected) < 1e-5


@pytest.mark.parametrize("fed_back", [False, True])
@torch.inference_mode()
def test_ten_steps_are_the_same(fed_back):
    trained = made(8, width=32)
    given, start = tiles(8, 32, 32, batch=2), noise(2, 8, 32, 32)

    def draw(net: FusionNetwork) -> torch.Tensor:
        condition = net.prepare(*given)
        return sample(net, condition, start, steps=10, self_conditioning=fed_back, value_range=None)

    assert share_of_range(draw(trained.inference_form()), draw(trained)) < 1e-4


@torch.inference_mode()
def test_the_condition_serves_many_calls():
    form = made(4, width=16).inference_form()
    condition = form.prepare(*tiles(4, 32, 32, batch=2))
    time = form.time_table([300])[0]
    x_t = noise(2, 4, 32, 32)
    first = form.step(x_t, time, condition)
    form.step(x_t + 1, time, condition)
    assert torch.equal(form.step(x_t, time, condition), first)
    assert torch.equal(x_t, noise(2, 4, 32, 32))


@needs_numbers
@pytest.mark.parametrize("name", DDRF_NETWORKS)
@torch.inference_mode()
def test_published_numbers_are_reproduced(name):
    numbers = read_numbers(name)
    trained = made(numbers.bands, numbers.guide_bands, numbers.seed, **numbers.options)
    require_published_answers(trained.inference_form(), numbers)


@pytest.mark.parametrize("width", [16, 32])
@torch.inference_mode()
def test_bfloat16_is_near(width):
    trained = made(8, width=width)
    given, x_t = tiles(8, 64, 64, batch=2), noise(2, 8, 64, 64)
    expected = trained.step(x_t, trained.time_table([300])[0], trained.prepare(*given))
    form = trained.bfloat16().inference_form()
    assert form.dtype == torch.bfloat16
    condition = form.prepare(*(tile.bfloat16() for tile in given))
    answer = form.step(x_t.bfloat16(), form.time_table([300])[0], condition)
    assert answer.dtype == torch.bfloat16
    assert share_of_range(answer, expected) < 0.03
    assert float((answer - expected).std() / expected.std()) < 0.02


@torch.inference_mode()
def test_a_form_that_is_moved_is_the_form_of_what_was_moved():
    trained = made(4, width=16)
    given = [tile.bfloat16() for tile in tiles(4, 32, 32)]
    x_t = noise(1, 4, 32, 32).bfloat16()

    def answer(form: FusionNetwork) -> torch.Tensor:
        return form.step(x_t, form.time_table([300])[0], form.prepare(*given))

    moved = trained.inference_form().to(torch.bfloat16).to(memory_format=torch.channels_last)
    assert torch.equal(answer(moved), answer(trained.bfloat16().inference_form()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [16, 32])
@torch.inference_mode()
def test_bits_do_not_depend_on_the_neighbour_in_a_chunk(width, dtype):
    form = made(4, width=width).to(dtype).inference_form()
    given = [tile.to(dtype) for tile in tiles(4, 64, 64, batch=3)]
    x_t = noise(3, 4, 64, 64).to(dtype)
    time = form.time_table([300])[0]

    def answer(*chosen: int) -> torch.Tensor:
        index = list(chosen)
        condition = form.prepare(*(tile[index] for tile in given))
        return form.step(x_t[index], time, condition)

    pair = answer(0, 1)
    for others in (answer(0, 2), answer(1, 0).flip(0), answer(0, 0)):
        assert torch.equal(others[0], pair[0])
    assert torch.equal(answer(2, 1)[1], pair[1])
    four = answer(0, 1, 2, 2)[:3]
    assert torch.equal(answer(2, 1, 0, 1)[[2, 1, 0]], four)
    assert torch.equal(answer(0, 0, 1, 2)[[0, 2, 3]], four)


@torch.inference_mode()
def test_a_table_asked_for_again_is_the_one_asked_for():
    form = made(4, width=16).inference_form()
    first = form.time_table([300, 4])
    other = form.time_table([4])
    again = form.time_table([300, 4])
    for one, two in ((first[1], other[0]), (first[0], again[0]), (first[1], again[1])):
        torch.testing.assert_close(one, two)
    assert not torch.equal(first[0][0], first[1][0])


@torch.inference_mode()
def test_arranged_as_for_a_gpu_the_answer_is_the_same(monkeypatch):
    trained = made(4, width=16)
    given, x_t = tiles(4, 32, 40, batch=2), noise(2, 4, 32, 40)
    arranged = []

    def by_pixels(self, norm):
        arrange_norm(self, norm)
        self.by_pixels = True
        arranged.append(self)

    arrange_norm = ddrf_inference._Norm.__init__
    monkeypatch.setattr(ddrf_inference._Norm, "__init__", by_pixels)
    monkeypatch.setattr("fusion_core.models.packed.can_pack", lambda weight: False)
    form = trained.inference_form()
    assert arranged
    answer = form.step(x_t, form.time_table([300])[0], form.prepare(*given))
    expected = trained.step(x_t, trained.time_table([300])[0], trained.prepare(*given))
    assert share_of_range(answer, expected) < 1e-5


def test_the_trained_network_stays_as_it_is():
    trained = made(4, width=16)
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    with torch.inference_mode():
        form = trained.inference_form()
        form.step(noise(1, 4, 32, 32), form.time_table([3])[0], form.prepare(*tiles(4, 32, 32)))
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    assert all(parameter.requires_grad for parameter in trained.parameters())
