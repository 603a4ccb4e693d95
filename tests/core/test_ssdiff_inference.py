"""SSDiff's inference form answers what the trained network answers, with the kernel and with PyTorch's attention."""

from __future__ import annotations

import copy
import math
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from fusion_core.diffusion import sample
from fusion_core.models import attention, create_model
from fusion_core.models.attention import attention_in_use, gather_and_mix
from tests.core.networks import fill, tiles
from tests.core.parity import (
    SSDIFF_NETWORKS,
    needs_numbers,
    read_numbers,
    require_published_answers,
    share_of_range,
)

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


@pytest.fixture(params=["llvmlite kernel", "PyTorch"])
def attention_code(request, monkeypatch):
    """The test runs once with each code."""
    if request.param == "PyTorch":
        monkeypatch.setattr(attention, "_compiled", lambda: None)
    else:
        pytest.importorskip("llvmlite")
    assert attention_in_use(CPU) == request.param
    return request.param


@pytest.mark.parametrize("bands", [4, 8])
@pytest.mark.parametrize("width", [16, 32])
@pytest.mark.parametrize(
    ("height", "columns", "batch"), [(64, 64, 1), (32, 40, 3), (50, 37, 3), (22, 18, 1)]
)
@torch.inference_mode()
def test_answers_of_the_trained_network(attention_code, bands, width, height, columns, batch):
    net = fill(create_model("ssdiff", bands, width=width), 3)
    form = net.inference_form()
    given = tiles(bands, height, columns, batch=batch)
    x_t = torch.randn(batch, bands, height, columns, generator=torch.Generator().manual_seed(1))
    for timesteps in ([17], [900, 3, 400][:batch]):
        t = torch.tensor(timesteps)
        expected = net(x_t, t, net.prepare(*given))
        assert share_of_range(form(x_t, t, form.prepare(*given)), expected) < 1e-5


@torch.inference_mode()
def test_residual_after_ten_steps(attention_code):
    net = fill(create_model("ssdiff", 8), 5)
    form = net.inference_form()
    given = tiles(8, 64, 64)
    noise = torch.randn(1, 8, 64, 64, generator=torch.Generator().manual_seed(2))
    residuals = [sample(n, n.prepare(*given), noise, steps=10) for n in (form, net)]
    assert share_of_range(*residuals) < 1e-4


@needs_numbers
@pytest.mark.parametrize("name", SSDIFF_NETWORKS)
@torch.inference_mode()
def test_published_networks_are_reproduced(attention_code, name):
    numbers = read_numbers(name)
    net = fill(create_model("ssdiff", numbers.bands), numbers.seed)
    require_published_answers(net.inference_form(), numbers)


@pytest.mark.parametrize("trained", [True, False])
@torch.inference_mode()
def test_groups_far_from_zero_keep_their_digits(trained):
    """Trained blocks have such groups; torch's GroupNorm of channels-last images alone loses 1e-4 of range on them."""
    net = fill(create_model("ssdiff", 4, width=32), 3)
    for level in range(4):
        net.get_submodule(f"resblock{level}").conv1.bias.add_(100)
    fast = copy.deepcopy(net) if trained else net.inference_form()
    given = (*tiles(4, 32, 32), torch.randn(1, 4, 32, 32))
    t = torch.tensor([100])
    guide, ms, lms, x_t = (image.contiguous(memory_format=torch.channels_last) for image in given)
    answer = fast(x_t, t, fast.prepare(guide, ms, lms))
    net.double()
    guide, ms, lms, x_t = (image.double() for image in given)
    assert share_of_range(answer, net(x_t, t, net.prepare(guide, ms, lms))) < 2e-5


@torch.inference_mode()
def test_time_table_is_the_times_of_each_call():
    form = fill(create_model("ssdiff", 4, width=16), 2).inference_form()
    x_t = torch.randn(2, 4, 32, 32)
    condition = form.prepare(*tiles(4, 32, 32, batch=2))
    stepped = form.step(x_t, form.time_table([900, 3])[1], condition)
    called = form(x_t, torch.tensor([3, 3]), condition)
    torch.testing.assert_close(stepped, called, rtol=0, atol=1e-5)


def test_trained_network_stays_as_it_is():
    net = fill(create_model("ssdiff", 4, width=16), 2).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    form = net.inference_form()
    assert net.training
    assert not form.training
    assert not any(parameter.requires_grad for parameter in form.parameters())
    assert all(parameter.requires_grad for parameter in net.parameters())
    for parameter in form.parameters():
        parameter.add_(1)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_form_of_a_form_is_itself():
    form = create_model("ssdiff", 4, width=16).inference_form()
    assert form.inference_form() is form


@torch.inference_mode()
def test_bfloat16_is_near_float32(attention_code):
    net = fill(create_model("ssdiff", 4, width=16), 2)
    given = tiles(4, 32, 32, batch=2)
    x_t = torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    expected = net(x_t, torch.tensor([30]), net.prepare(*given))
    form = net.inference_form().to(torch.bfloat16)
    assert form.dtype == torch.bfloat16
    half = [image.to(torch.bfloat16) for image in (x_t, *given)]
    answer = form(half[0], torch.tensor([30]), form.prepare(*half[1:]))
    assert answer.dtype == torch.bfloat16
    assert float((answer.float() - expected).abs().mean()) < 0.02 * float(expected.std())


@torch.inference_mode()
def test_bits_do_not_depend_on_neighbours_or_threads(attention_code):
    form = fill(create_model("ssdiff", 4, width=16), 2).inference_form()
    guide, ms, lms = tiles(4, 40, 40, batch=4)
    x_t = torch.randn(4, 4, 40, 40)
    time = form.time_table([300])[0]

    def pair(tiles_of_pair: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            chosen = (image[tiles_of_pair] for image in (guide, ms, lms))
            return form.step(x_t[tiles_of_pair], time, form.prepare(*chosen))

    pairs = [[0, 1], [0, 2], [0, 3], [3, 0], [2, 1]]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = [pair(p) for p in pairs]
        with ThreadPoolExecutor(3, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            together = list(pool.map(pair, pairs))
    finally:
        torch.set_num_threads(before)
    for one, other in zip(alone, together):
        assert torch.equal(one, other)
    for number, (first, second) in enumerate(pairs):
        if first == 0:
            assert torch.equal(alone[number][0], alone[0][0])
        if second == 0:
            assert torch.equal(alone[number][1], alone[0][0])


def test_kernel_lets_other_threads_run():
    """A thread that counts goes on counting while one attention of about a second is computed."""
    pytest.importorskip("llvmlite")
    tokens = torch.randn(1, 40_000, 16)
    gather_and_mix(tokens[:, :64], tokens[:, :64], tokens[:, :64], torch.zeros(1, 1, 16, 16))
    computing = threading.Thread(
        target=gather_and_mix, args=(tokens, tokens, tokens, torch.zeros(1, 1, 16, 16))
    )
    computing.start()
    counted = 0
    while computing.is_alive():
        counted += 1
    assert counted > 1000


@pytest.mark.parametrize("count", [16, 17, 100, 128, 1030])
@pytest.mark.parametrize("channels", [16, 48])
@pytest.mark.parametrize(("gain", "offset"), [(1, 0), (0.001, 0), (100, 0), (1, 1000), (1, -1000)])
def test_attention_is_softmax(attention_code, count, channels, gain, offset):
    """Also where logits would overflow an exponential or all lie far from zero."""
    random = torch.Generator().manual_seed(count)
    both = torch.randn(2, count, 2 * channels, generator=random)
    queries, keys = (both * gain).chunk(2, dim=-1)
    # Shifting all keys by the same vector does not change the softmax, but the logits.
    queries = queries + 1
    values = torch.randn(2, count, channels, generator=random)
    mixing = torch.randn(2, channels // 16, 16, 16, generator=random)
    answer = gather_and_mix(queries, keys + offset, values, mixing)

    def heads(tokens):
        return tokens.double().unflatten(2, (-1, 16)).transpose(1, 2)

    q, k, v = heads(queries), heads(keys + offset), heads(values)
    logits = q @ k.transpose(-1, -2) / 4
    expected = (logits.softmax(dim=-1) @ v) * (q @ mixing.double())
    expected = expected.transpose(1, 2).flatten(2)
    # An error of one rounding in the largest logit is what float32 cannot avoid.
    rounding = float(logits.abs().max()) * 2**-22
    assert share_of_range(answer.double(), expected) < 1e-6 + rounding


def test_not_a_number_stays_visible(attention_code):
    tokens = torch.randn(1, 64, 16)
    broken = tokens.clone()
    broken[0, 40, 3] = math.nan
    mixing = torch.ones(1, 1, 16, 16)
    for given in ((broken, tokens, tokens), (tokens, broken, tokens), (tokens, tokens, broken)):
        assert torch.isnan(gather_and_mix(*given, mixing)).any()


@pytest.mark.parametrize("threads", [2, 3, 50])
def test_attention_is_the_same_on_several_threads(threads):
    pytest.importorskip("llvmlite")
    tokens = torch.randn(3, 150, 32)
    mixing = torch.randn(3, 2, 16, 16)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = gather_and_mix(tokens, tokens, tokens, mixing)
        torch.set_num_threads(threads)
        shared_out = gather_and_mix(tokens, tokens, tokens, mixing)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(alone, shared_out)


@torch.inference_mode()
def test_step_never_looks_at_values():
    """As a CUDA graph needs it: on tensors without values every shape is still known."""
    form = fill(create_model("ssdiff", 4, width=16), 2).inference_form().to("meta")
    given = (image.to("meta") for image in tiles(4, 32, 32, batch=2))
    x_t = torch.empty(2, 4, 32, 32, device="meta")
    answer = form.step(x_t, form.time_table([3])[0], form.prepare(*given))
    assert answer.shape == x_t.shape
    assert attention_in_use(answer.device) == "PyTorch"


@pytest.mark.parametrize(("count", "dtype"), [(9, torch.float32), (40, torch.float64)])
def test_attention_that_the_kernel_is_not_for(count, dtype):
    tokens = torch.randn(1, count, 16, dtype=dtype)
    mixing = torch.randn(1, 1, 16, 16, dtype=dtype)
    expected = (tokens @ tokens.mT / 4).softmax(dim=-1) @ tokens * (tokens @ mixing[0])
    answer = gather_and_mix(tokens, tokens, tokens, mixing)
    assert answer.dtype == dtype
    torch.testing.assert_close(answer, expected)


def test_processor_that_llvm_does_not_know(monkeypatch):
    kernel = pytest.importorskip("fusion_core.models.attention_kernel")

    def unknown() -> None:
        raise RuntimeError("No available targets are compatible with triple")

    monkeypatch.setattr(kernel, "compiled_attention", unknown)
    monkeypatch.setattr(attention, "_compiled", attention._compiled.__wrapped__)
    assert attention_in_use(CPU) == "PyTorch"
    assert "pip install llvmlite" in create_model("ssdiff", 4).inference_form().advice()


def test_no_advice_where_nothing_is_missing():
    pytest.importorskip("llvmlite")
    assert create_model("ssdiff", 4).inference_form().advice() is None


def test_llvmlite_is_optional(tmp_path):
    """Where it is not installed, PyTorch computes attention, and says so."""
    (tmp_path / "llvmlite").mkdir()
    (tmp_path / "llvmlite" / "__init__.py").write_text("raise ImportError('not here')\n")
    code = (
        "import torch; from fusion_core.models.attention import attention_in_use;"
        "print(attention_in_use(torch.device('cpu')))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == "PyTorch"
