"""The training loop: L1 on x0 under the cosine schedule, AdamW, EMA, resumable."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol, Union

import torch
from torch import nn

from ..diffusion.samplers import sample
from ..diffusion.schedule import cosine_schedule
from ..errors import Cancelled, FusionError
from ..models.network import FusionNetwork
from ..training_job import Progress
from .alternating import learning_in, phase_at
from .ema import ExponentialMovingAverage
from .gradients import Gradients, NoisedBatch
from .patches import Batch


@dataclass(frozen=True)
class Stage:
    """A stretch of the training with one patch size: until this share of the whole, in PAN pixels, patches a batch."""

    until: float
    patch: int
    batch: int


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    Attributes:
        iterations: length of the training.
        stages: patch sizes; small patches first see more of the data in the same time, the last stage has the tile size.
        learning_rate, weight_decay: of AdamW.
        warm_up: iterations of linear warm-up, before a cosine decay to a hundredth of the learning rate.
        clip: greatest norm of the gradient.
        ema_decay: of the weights that are kept.
        objective: what the network predicts: "x0", "eps", "v".
        self_conditioning: chance that the network is shown its own first estimate (DDRF).
        seed: of patches, noise, dropout and initial weights.
        precision: "float32" or "bfloat16" (autocast).
        dropout: probability, 0.2 as published; a training too short to overfit is better without.
        save_every, validate_every: iterations.
        chunk: patches whose gradients are computed together, 0 for the whole batch; smaller ones let threads share a batch.
        frozen_statistics: keep BatchNorm's statistics as they are and normalise with them.
        phase: iterations of a spectral or a spatial phase (L-BAF, SSDiff), 0 to train everything all the time.
    """

    iterations: int
    stages: tuple[Stage, ...] = (Stage(1.0, 64, 8),)
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warm_up: int = 200
    clip: float = 1.0
    ema_decay: float = 0.999
    objective: str = "x0"
    self_conditioning: float = 0.0
    seed: int = 0
    precision: str = "float32"
    dropout: float = 0.2
    save_every: int = 200
    validate_every: int = 500
    chunk: int = 0
    frozen_statistics: bool = False
    phase: int = 0


class Diverged(FusionError):
    """The loss is no number any more.

    Attributes:
        result: what was best until then.
    """

    def __init__(self, iteration: int, result: TrainingResult) -> None:
        super().__init__(
            f"The training diverged at iteration {iteration}: "
            "lower the learning rate or check the scenes for wild values."
        )
        self.result = result


class Sampler(Protocol):
    """Where patches come from; a batch depends on the seed and its iteration number alone."""

    def batch(self, iteration: int, size: int, patch: int) -> Batch:
        """The batch of one iteration: ``size`` patches of ``patch`` x ``patch`` PAN pixels."""


@dataclass(frozen=True)
class Judgement:
    """How good weights are: a score, smaller is better and infinite is not to be kept, and what it is made of."""

    score: float
    figures: dict[str, float] = field(default_factory=dict)


Judge = Callable[[FusionNetwork], Judgement]
Validation = Union[Sequence[Batch], Judge]


@dataclass
class TrainingResult:
    """The kept weights (EMA at the best validation, else the last) and how they came about."""

    state: dict[str, torch.Tensor]
    iterations: int
    best_validation: float
    seconds: float
    history: list[dict] = field(default_factory=list)


def train(
    network: FusionNetwork,
    sampler: Sampler,
    validation: Validation,
    settings: TrainingSettings,
    *,
    device: torch.device | str = "cpu",
    threads: int = 1,
    checkpoint: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    enough: Callable[[], bool] | None = None,
    spent: Callable[[], float] | None = None,
) -> TrainingResult:
    """Train ``network``.

    Args:
        network: freshly made or pretrained, changed in place.
        sampler: where patches come from.
        validation: batches the training never sees, judged by one network call on the EMA weights; or a function that
            judges the EMA network.
        settings: see ``TrainingSettings``.
        device: where to compute.
        threads: CPU threads that share a batch, where ``settings.chunk`` cuts it.
        checkpoint: file to resume from if it exists, and to save to; resuming gives the weights of an unbroken training.
        progress: told after the first iteration, every ten iterations and at every validation.
        cancelled: asked at every iteration; the checkpoint is saved before ``Cancelled`` is raised.
        enough: asked at every iteration; the training ends there with what is best so far.
        spent: tells the share of the time that is over.  The learning rate decays with it where it is ahead of the share
            of the iterations, and the training ends at 1; bits then depend on the pace of the machine.

    Raises:
        Diverged: the loss is not a number.
        FusionError: the checkpoint belongs to other settings.
        Cancelled: ``cancelled`` said so.
    """
    device = torch.device(device)
    judge = validation if callable(validation) else _loss_judge(validation, settings, device)
    network.to(device).train()
    network.set_dropout(settings.dropout)
    if settings.frozen_statistics:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    average = ExponentialMovingAverage(network, settings.ema_decay)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    state = _LoopState()
    if checkpoint is not None and checkpoint.exists():
        state = _load(checkpoint, network, average, optimiser, settings, device)
    started = time.monotonic()
    first = state.iteration
    gradients = Gradients(
        network, settings.objective, settings.precision == "bfloat16", settings.chunk, threads
    )
    try:
        while state.iteration < settings.iterations:
            if cancelled is not None and cancelled():
                if checkpoint is not None:
                    _save(checkpoint, network, average, optimiser, settings, state)
                raise Cancelled
            share = max(state.iteration / settings.iterations, spent() if spent is not None else 0)
            loss = _iterate(gradients, sampler, optimiser, settings, state.iteration, share, device)
            if not math.isfinite(loss):
                raise Diverged(state.iteration, _result(state, average, started))
            average.update(network)
            state.iteration += 1
            state.loss = loss if state.loss is None else 0.98 * state.loss + 0.02 * loss
            last = state.iteration == settings.iterations
            last = last or (enough is not None and enough()) or (spent is not None and spent() >= 1)
            judged = None
            if judge is not None and (last or state.iteration % settings.validate_every == 0):
                judged = judge(average.network)
                state.note(judged, average)
            early = state.iteration == first + 1
            if progress is not None and (judged or early or state.iteration % 10 == 0):
                pace = (time.monotonic() - started) / (state.iteration - first)
                progress(_progress(state, settings, optimiser, pace, judged))
            if checkpoint is not None and (last or state.iteration % settings.save_every == 0):
                _save(checkpoint, network, average, optimiser, settings, state)
            if last:
                break
    finally:
        gradients.close()
    return _result(state, average, started)


def _result(state: _LoopState, average: ExponentialMovingAverage, started: float) -> TrainingResult:
    best = state.best_weights or average.network.state_dict()
    seconds = time.monotonic() - started
    return TrainingResult(best, state.iteration, state.best, seconds, state.history)


def _progress(
    state: _LoopState,
    settings: TrainingSettings,
    optimiser: torch.optim.Optimizer,
    pace: float,
    judged: Judgement | None,
) -> Progress:
    return Progress(
        state.iteration,
        settings.iterations,
        state.loss,
        optimiser.param_groups[0]["lr"],
        pace * (settings.iterations - state.iteration),
        None if judged is None else judged.score,
        None if judged is None else judged.figures,
        phase_at(state.iteration - 1, settings.phase) if settings.phase else "",
    )


def _loss_judge(
    validation: Sequence[Batch], settings: TrainingSettings, device: torch.device
) -> Judge | None:
    if not validation:
        return None
    return lambda network: Judgement(
        validation_loss(network, validation, settings.objective, device)
    )


@torch.no_grad()
def validation_loss(
    network: FusionNetwork,
    validation: Sequence[Batch],
    objective: str,
    device: torch.device | str = "cpu",
) -> float:
    """Mean absolute error of one network call, in units of the scene scale."""
    total = 0.0
    for number, batch in enumerate(validation):
        batch = batch.to(torch.device(device))
        condition = network.prepare(batch.guide, batch.ms, batch.lms)
        generator = torch.Generator().manual_seed(number)
        noise = torch.randn(batch.lms.shape, generator=generator).to(device)
        residual = sample(network, condition, noise, steps=1, objective=objective, value_range=None)
        total += float((batch.lms + residual - batch.reference).abs().mean())
    return total / len(validation)


@dataclass
class _LoopState:
    iteration: int = 0
    loss: float | None = None
    best: float = math.inf
    best_weights: dict[str, torch.Tensor] | None = None
    history: list[dict] = field(default_factory=list)

    def note(self, judged: Judgement, average: ExponentialMovingAverage) -> None:
        entry = {"iteration": self.iteration, "loss": self.loss, "validation": judged.score}
        self.history.append({**entry, **judged.figures})
        if judged.score < self.best:
            self.best = judged.score
            weights = average.network.state_dict()
            self.best_weights = {name: value.clone() for name, value in weights.items()}


def _stage(settings: TrainingSettings, iteration: int) -> Stage:
    share = iteration / settings.iterations
    return next((stage for stage in settings.stages if share < stage.until), settings.stages[-1])


def _learning_rate(settings: TrainingSettings, iteration: int, share: float) -> float:
    warm = min(1.0, (iteration + 1) / max(1, settings.warm_up))
    cosine = 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
    return settings.learning_rate * warm * (0.01 + 0.99 * cosine)


def _iterate(
    gradients: Gradients,
    sampler: Sampler,
    optimiser: torch.optim.Optimizer,
    settings: TrainingSettings,
    iteration: int,
    share: float,
    device: torch.device,
) -> float:
    network, stage = gradients.network, _stage(settings, iteration)
    # Everything random hangs on the iteration's number: a resumed training repeats an unbroken one.
    torch.manual_seed(settings.seed * 1_000_003 + iteration)
    batch = sampler.batch(iteration, stage.batch, stage.patch).to(device)
    x0 = batch.reference - batch.lms
    schedule = cosine_schedule(network.train_steps)
    t = torch.randint(network.train_steps, (stage.batch,))
    alpha = schedule.alpha[t].float().view(-1, 1, 1, 1).to(device)
    sigma = schedule.sigma[t].float().view(-1, 1, 1, 1).to(device)
    noise = torch.randn(x0.shape).to(device)
    noised = NoisedBatch(batch, t.to(device), x0, noise, alpha, sigma, alpha * x0 + sigma * noise)
    for group in optimiser.param_groups:
        group["lr"] = _learning_rate(settings, iteration, share)
    conditioned = settings.self_conditioning > 0
    conditioned = conditioned and bool(torch.rand(()) < settings.self_conditioning)
    active = None
    if settings.phase:
        names = (name for name, _ in network.named_parameters())
        active = learning_in(phase_at(iteration, settings.phase), names)
    loss = gradients(noised, conditioned, active)
    # The optimiser passes over parameters without a gradient: neither decay nor momentum moves them.
    torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
    optimiser.step()
    return loss


def _save(
    checkpoint: Path,
    network: FusionNetwork,
    average: ExponentialMovingAverage,
    optimiser: torch.optim.Optimizer,
    settings: TrainingSettings,
    state: _LoopState,
) -> None:
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    partial = checkpoint.with_suffix(".partial")
    content = {
        "settings": asdict(settings),
        "network": network.state_dict(),
        "average": average.network.state_dict(),
        "updates": average.updates,
        "optimiser": optimiser.state_dict(),
        "loop": vars(state),
    }
    torch.save(content, partial)
    # A kill while saving must leave the last whole checkpoint.
    os.replace(partial, checkpoint)


def _load(
    checkpoint: Path,
    network: FusionNetwork,
    average: ExponentialMovingAverage,
    optimiser: torch.optim.Optimizer,
    settings: TrainingSettings,
    device: torch.device,
) -> _LoopState:
    content = torch.load(checkpoint, map_location=device, weights_only=True)
    # Checkpoints of earlier versions lack settings that then had no other value than today's default.
    if {**asdict(TrainingSettings(0)), **content["settings"]} != asdict(settings):
        raise FusionError(
            f"The checkpoint {checkpoint} was made with other settings: "
            "train with those, or choose another checkpoint file."
        )
    network.load_state_dict(content["network"])
    average.network.load_state_dict(content["average"])
    average.updates = content["updates"]
    optimiser.load_state_dict(content["optimiser"])
    return _LoopState(**content["loop"])
