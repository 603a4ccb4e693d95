"""L-BAF's phases, and gradients by chunks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fusion_core.models import create_model
from fusion_core.training.alternating import learning_in, phase_at
from fusion_core.training.gradients import Gradients, NoisedBatch
from fusion_core.training.patches import Batch
from fusion_core.training.scene_patches import ScenePatchSampler
from fusion_core.training.trainer import Stage, TrainingSettings, train

from .networks import fill
from .test_training_scenes import scene

SETTINGS = TrainingSettings(
    iterations=3, stages=(Stage(1.0, 16, 4),), warm_up=1, learning_rate=1e-2, dropout=0.0, phase=3
)


def network(method: str = "ssdiff"):
    return fill(create_model(method, 4, width=16), seed=0)


def test_phases_take_turns():
    names = ["spectral", "spatial"]
    assert [phase_at(i, 2) for i in range(6)] == [names[i // 2 % 2] for i in range(6)]


def test_a_parameter_learns_in_one_phase_at_most():
    names = [name for name, _ in network().named_parameters()]
    spectral, spatial = (learning_in(phase, names) for phase in ("spectral", "spatial"))
    assert not spectral & spatial
    projections = {
        f"fusformer{i}.layers.0.0.fn.fn.s{kind}.weight" for i in range(5) for kind in ("a1", "a2")
    }
    assert projections < spatial
    assert {name.replace(".sa", ".se") for name in projections} < spectral
    shared = set(names) - spectral - spatial
    assert {name.split(".")[0] for name in shared if not name.startswith("fusformer")} == {
        *("time_embed", "down0", "down1", "up0", "up1"),
        *("conv_x_t", "raise_ms_dim", "raise_pan_dim"),  # without use in the published network
    }


def test_what_does_not_learn_stays_bit_for_bit():
    """Through both phases in turn, so that momentum of one would show in the other."""
    net, sampler = network(), ScenePatchSampler([scene()], 0)
    names = [name for name, _ in net.named_parameters()]
    states = [{name: value.detach().clone() for name, value in net.named_parameters()}]

    def note(progress) -> None:
        pass

    class Recording(torch.optim.AdamW):
        def step(self, *arguments, **options):
            result = super().step(*arguments, **options)
            states.append({n: v.detach().clone() for n, v in net.named_parameters()})
            return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.optim.AdamW", Recording)
        train(net, sampler, (), replace(SETTINGS, iterations=9), progress=note)
    assert len(states) == 10
    for iteration, (before, after) in enumerate(zip(states, states[1:])):
        learning = learning_in(phase_at(iteration, 3), names)
        changed = {name for name in names if not torch.equal(before[name], after[name])}
        assert changed <= learning
        assert len(changed) > 0.8 * len(learning)


def noised(count: int = 6) -> NoisedBatch:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(count, *shape, generator=generator)

    batch = Batch(draw(1, 16, 16), draw(4, 4, 4), draw(4, 16, 16), draw(4, 16, 16))
    x0, noise = batch.reference - batch.lms, draw(4, 16, 16)
    alpha, sigma = draw(1, 1, 1), draw(1, 1, 1)
    steps = torch.arange(count) * 50
    return NoisedBatch(batch, steps, x0, noise, alpha, sigma, alpha * x0 + sigma * noise)


def gradients_of(method: str, **options: int) -> tuple[float, dict[str, torch.Tensor], dict]:
    net = network(method).train()
    net.set_dropout(0.0)
    computer = Gradients(net, "x0", False, **options)
    loss = computer(noised(), False)
    computer.close()
    found = {n: p.grad for n, p in net.named_parameters() if p.grad is not None}
    return loss, found, {n: b.clone() for n, b in net.named_buffers()}


def test_chunks_add_up_to_the_batch():
    loss, whole, _ = gradients_of("ddrf")
    parts_loss, parts, _ = gradients_of("ddrf", chunk=4)
    assert parts_loss == pytest.approx(loss, rel=1e-5)
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", ["ddrf", "ssdiff"])
def test_threads_do_not_change_a_bit(method):
    loss, one, statistics = gradients_of(method, chunk=2, threads=1)
    other_loss, three, other_statistics = gradients_of(method, chunk=2, threads=3)
    assert loss == other_loss
    for name, value in one.items():
        assert torch.equal(three[name], value), name
    for name, value in statistics.items():
        assert torch.equal(other_statistics[name], value), name
    if method == "ssdiff":
        fresh = dict(network().named_buffers())
        assert not torch.equal(
            statistics["out_layers_lms.0.running_mean"], fresh["out_layers_lms.0.running_mean"]
        )


def test_only_active_parameters_get_gradients():
    net = network().train()
    Gradients(net, "x0", False)(noised(), False, {"to_hrms.2.bias"})
    assert [name for name, p in net.named_parameters() if p.grad is not None] == ["to_hrms.2.bias"]
