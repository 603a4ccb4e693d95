"""Training on the user's own scenes, and adapting a model to them, never for the worse."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..band_matching import match_bands
from ..bands import canonical_band
from ..errors import Cancelled, FusionError
from ..execution.device import has_bfloat16, resolve_device, resolve_precision, thread_count
from ..models import FusionNetwork, create_model
from ..training_job import Progress, TrainingJob, TrainingReport
from ..training_scenes import TrainingScene
from ..weights import METHOD_TITLES, ModelCard, ModelFile, load_network, read_model, save_model
from .judging import LARGEST_WINDOW, METRICS, SceneJudge, measured
from .scene_patches import PATCHES, ScenePatchSampler
from .trainer import Diverged, Judge, Judgement, Stage, TrainingResult, TrainingSettings, train

FEWEST = 20
"""Iterations below which a training is not worth beginning."""

VALIDATIONS = 8
"""Validations in a training, fewer where they would take more than ``VALIDATION_SHARE`` of its time."""

VALIDATION_SHARE = 0.1
SPARE = 2
"""Times as many iterations as the first ones promise are planned where minutes end a training."""

MARGIN_SHARE = 0.03
"""Of the time, kept back because the pace varies."""


@dataclass(frozen=True)
class Recipe:
    """What was found by measurement (``benchmarks/adaptation.py``).

    Attributes:
        learning_rate: of AdamW at its peak.
        pixels: PAN pixels a batch; patches are as large as the scenes allow, at most ``patch``.
        patch: PAN pixels of a patch's side.
        ema_decay: of the weights that are kept.
        warm_up: iterations of linear warm-up, at most a tenth of the training.
    """

    learning_rate: float
    pixels: int
    patch: int
    ema_decay: float = 0.99
    warm_up: int = 20


ADAPTING = {
    "ddrf": Recipe(learning_rate=8e-4, pixels=8 * 64 * 64, patch=64),
    "ssdiff": Recipe(learning_rate=7e-4, pixels=16 * 32 * 32, patch=32),
}
FROM_NOTHING = {
    "ddrf": Recipe(learning_rate=5e-4, pixels=8 * 64 * 64, patch=64, ema_decay=0.998, warm_up=100),
    "ssdiff": Recipe(
        learning_rate=1e-3, pixels=32 * 32 * 32, patch=32, ema_decay=0.998, warm_up=100
    ),
}
WIDTHS = {"ddrf": 16, "ssdiff": 32}
"""Of fresh networks, and of the shipped ones."""

PHASE = 25
"""Iterations of a spectral or spatial phase."""


def run_training(
    job: TrainingJob,
    output: str,
    progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> TrainingReport:
    """Train, judge on the held-out quarters, and write the better of base and trained as a model file.

    Trained weights are kept only where, on the held-out quarters, ERGAS is lower and SAM is not higher than the base's;
    the base's weights are written otherwise, equal figures included.

    Args:
        job: see ``TrainingJob``.
        output: the model file to write (.safetensors); appears when it is whole.
        progress: told every few iterations and at every validation.
        cancelled: asked at every iteration.

    Raises:
        FusionError: the scenes are too small, the training diverged, or the file cannot be written.
        Cancelled: ``cancelled`` said so and there is nothing better than the base to keep, or it is not wanted.
    """
    started = time.monotonic() - job.seconds_spent
    with _one_thread_each():
        return _Run(job, output, started, progress, cancelled or (lambda: False)).report()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Every thread computes by itself, see ``gradients``."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Run:
    """One training from its job to its report."""

    def __init__(
        self,
        job: TrainingJob,
        output: str,
        started: float,
        progress: Callable[[Progress], None] | None,
        cancelled: Callable[[], bool],
    ) -> None:
        self.job, self.output, self.started = job, output, started
        self.tell, self.cancelled = progress, cancelled
        self.device = resolve_device(job.device)
        self.threads = thread_count(job.threads) if self.device.type == "cpu" else 1
        self.base: ModelFile | None = None if job.base is None else read_model(job.base)
        self.scenes, self.bands = _with_bands_of(self.base, job)
        self.card = _card(job, output, self.base, self.scenes)
        self.losses: list[tuple[int, float]] = []
        self.stopped = False
        self.diverged = False
        self.validation_seconds = 0.0

    def report(self) -> TrainingReport:
        """Do it all.

        Raises: as ``run_training``.
        """
        job, base = self.job, self.base
        torch.manual_seed(job.seed)
        network = _network(base, self.card).to(self.device)
        sampler = ScenePatchSampler(self.scenes, job.seed)
        settings = _settings(job, base, sampler, self.device)
        side = max(64, round(LARGEST_WINDOW / math.sqrt(len(self.scenes))))
        judges = [SceneJudge(scene, self.card, self.device, side) for scene in self.scenes]
        with ThreadPoolExecutor(self.threads, "judging", torch.set_num_threads, (1,)) as pool:

            def judged(weights: FusionNetwork) -> dict[str, float]:
                since = time.monotonic()
                figures = measured(judges, lambda judge: judge.fuse(weights, pool))
                self.validation_seconds = max(self.validation_seconds, time.monotonic() - since)
                return figures

            table = {
                "bicubic": measured(judges, lambda j: j.delivered(j.bicubic)),
                "MTF-GLP-HPM": measured(judges, lambda j: j.mtf_glp),
            }
            network.eval()
            # First of all, so that the validation that is timed meets warm caches.
            pictures = self._pictures(judges[0], network if base is not None else None, pool)
            figures = judged(network)
            history = [{"iteration": 0, "seconds": self._seconds(), "loss": None, **figures}]
            before = None
            if base is not None:
                before = table["base"] = figures
            settings = self._planned(settings, network, sampler)
            if self.cancelled():
                raise Cancelled

            def judge(weights: FusionNetwork) -> Judgement:
                figures = judged(weights)
                score = figures["ERGAS"] if _better(figures, before, True) else math.inf
                return Judgement(score, {**figures, "seconds": self._seconds()})

            result = self._trained(network, sampler, judge, settings)
            # As the file holds them, so that what is promised of it was measured on it.
            state = {
                name: value.half().float() if value.is_floating_point() else value
                for name, value in result.state.items()
            }
            network.load_state_dict(state)
            network.eval()
            table["trained"] = judged(network)
            pictures["trained"] = judges[0].picture(
                judges[0].fuse(network, pool), _colours(self.scenes[0])
            )
        kept, why = self._decision(table, result)
        self._write(kept, state, table, settings, result)
        history += [
            {key: entry.get(key) for key in ("iteration", "seconds", "loss", *METRICS)}
            for entry in result.history
        ]
        return TrainingReport(
            output=self.output,
            model=self.card.id,
            method=job.method,
            kept=kept,
            why=why,
            iterations=result.iterations,
            planned=settings.iterations,
            seconds=round(self._seconds() - job.seconds_spent, 1),
            cancelled=self.stopped,
            history=history,
            losses=self.losses,
            table=table,
            settings=self._described(settings, result),
            pictures=pictures,
        )

    def _trained(
        self,
        network: FusionNetwork,
        sampler: ScenePatchSampler,
        judge: Judge,
        settings: TrainingSettings,
    ) -> TrainingResult:
        job = self.job
        try:
            return train(
                network,
                sampler,
                judge,
                settings,
                device=self.device,
                threads=self.threads,
                checkpoint=Path(job.checkpoint) if job.checkpoint else None,
                progress=self._progress,
                enough=self._enough,
                spent=None if job.minutes is None else self._spent(),
            )
        except Diverged as error:
            if self.base is None:
                raise
            # There is still the base, and perhaps something better from before.
            self.diverged = True
            return error.result

    def _seconds(self) -> float:
        return round(time.monotonic() - self.started, 2)

    def _planned(
        self,
        settings: TrainingSettings,
        network: FusionNetwork,
        sampler: ScenePatchSampler,
    ) -> TrainingSettings:
        """As many iterations as asked for, and as fit into the minutes at the pace of this machine."""
        job, validations = self.job, VALIDATIONS
        iterations = job.iterations
        if job.minutes is not None:
            pace = self._pace(settings, network, sampler)
            left = 60 * job.minutes * (1 - MARGIN_SHARE) - self._seconds()
            judging = max(self.validation_seconds, 1e-3)
            left -= 3 * judging
            validations = max(0, min(VALIDATIONS, int(VALIDATION_SHARE * left / judging)))
            affordable = int((left - validations * judging) / pace)
            if affordable < FEWEST and (iterations is None or iterations > affordable):
                needed = (60 * job.minutes - left + FEWEST * pace) / 60
                raise FusionError(
                    f"In {job.minutes:g} minute(s) this machine does {max(affordable, 0)} iterations, too few to learn: "
                    f"give at least {math.ceil(needed + 0.1)} minutes."
                )
            # The clock ends the training; a machine that was busy at first may do more than it seemed.
            most = SPARE * affordable
            iterations = most if iterations is None else min(iterations, most)
            expected = min(iterations, affordable)
        else:
            expected = iterations
        return replace(
            settings,
            iterations=iterations,
            warm_up=min(settings.warm_up, max(1, expected // 10)),
            validate_every=max(1, math.ceil(expected / (validations + 1))),
        )

    def _pace(
        self, settings: TrainingSettings, network: FusionNetwork, sampler: ScenePatchSampler
    ) -> float:
        """Seconds an iteration, measured on a copy of the network; the first one is left out."""
        trial, seconds = copy.deepcopy(network), 0.0
        for iterations in (1, 3):
            few = replace(settings, iterations=iterations)
            result = train(trial, sampler, (), few, device=self.device, threads=self.threads)
            seconds = result.seconds / iterations
        return max(seconds, 1e-4)

    def _enough(self) -> bool:
        self.stopped = self.stopped or self.cancelled()
        return self.stopped

    def _spent(self) -> Callable[[], float]:
        """The share of the time for training that is over; other programs may slow the machine at any moment."""
        since, end = self._seconds(), 60 * self.job.minutes
        before, longest = since, 0.0

        def spent() -> float:
            nonlocal before, longest
            now = self._seconds()
            before, longest = now, max(longest, now - before)
            # An iteration may just begin; after the last come its validation, and that of the file and its picture.
            left = end - since - longest - 3 * self.validation_seconds
            return (now - since) / max(left, 1e-3)

        return spent

    def _progress(self, told: Progress) -> None:
        self.losses.append((told.iteration, round(told.loss, 6)))
        if len(self.losses) > 400:
            del self.losses[1::2]
        if self.tell is not None:
            self.tell(told)

    def _decision(
        self, table: dict[str, dict[str, float]], result: TrainingResult
    ) -> tuple[str, str]:
        """Which weights to keep, and why.

        Raises:
            Cancelled: the user ended it and nothing is worth keeping.
        """
        after = table["trained"]
        before = table.get("base")
        helped = _better(after, before or table["bicubic"], before is not None)
        if self.stopped and not (helped and self.job.keep_on_cancel):
            raise Cancelled
        if before is None:
            return "trained", (
                f"There is no base model to compare with; ERGAS {after['ERGAS']:.3f}, and bicubic interpolation has "
                f"{table['bicubic']['ERGAS']:.3f}."
            )
        change = 100 * (after["ERGAS"] / before["ERGAS"] - 1)
        figures = (
            f"ERGAS {before['ERGAS']:.3f} before and {after['ERGAS']:.3f} after ({change:+.1f} %), "
            f"SAM {before['SAM']:.3f} and {after['SAM']:.3f}"
        )
        if self.diverged:
            figures += "; the training diverged, so try a lower learning rate"
        if helped:
            return (
                "trained",
                f"On the held-out quarter the trained weights are better: {figures}.",
            )
        return "base", (
            f"On the held-out quarter the trained weights are not better in ERGAS and as good in SAM ({figures}), so the "
            "base model's weights were written."
        )

    def _write(
        self,
        kept: str,
        state: dict[str, torch.Tensor],
        table: dict[str, dict[str, float]],
        settings: TrainingSettings,
        result: TrainingResult,
    ) -> None:
        names = ", ".join(scene.name for scene in self.scenes)
        figures = {name: round(value, 4) for name, value in table[kept].items()}
        card = replace(
            self.card,
            metrics={f"held-out quarter of {names}": figures},
            training={
                **self._described(settings, result),
                "kept": "the trained weights" if kept == "trained" else "the base model's weights",
            },
        )
        try:
            if kept == "base":
                from safetensors.torch import load_file

                save_model(self.output, load_file(self.base.path), card, half=False)
            else:
                save_model(self.output, state, card)
        except OSError as error:
            raise FusionError(
                f"{self.output} cannot be written ({error.strerror}): choose another folder."
            ) from error

    def _described(self, settings: TrainingSettings, result: TrainingResult) -> dict[str, str]:
        """The training in words, by topic, for the model's card and the report."""
        stage, job = settings.stages[-1], self.job
        told = {
            "scenes": "; ".join(
                f"{s.name} ({s.reference.shape[2]} x {s.reference.shape[1]} MS pixels, sensor {s.sensor})"
                for s in self.scenes
            ),
            "bands": self.bands,
            "base": "none, fresh weights",
            "held out": "one quarter of each scene, not trained on; snapshots were chosen by it",
            "iterations": f"{result.iterations} of {settings.iterations}",
            "batches": f"{stage.batch} patches of {stage.patch} x {stage.patch} pixels",
            "training": "spectral and spatial phases in turn (L-BAF)"
            if settings.phase
            else "all weights",
            "learning rate": f"{settings.learning_rate:g}, AdamW, cosine decay, EMA {settings.ema_decay:g}",
            "seed": str(job.seed),
            "device": f"{self.device}, {settings.precision}"
            + (f", {self.threads} thread(s)" if self.device.type == "cpu" else ""),
            "settings": json.dumps(asdict(settings)),
        }
        if self.base is not None:
            told["base"] = f"{self.base.card.id}, SHA-256 {self.base.digest()}"
        if job.minutes is not None:
            told["time"] = f"{job.minutes:g} minutes at most"
        return told

    def _pictures(
        self, judge: SceneJudge, base: FusionNetwork | None, pool: ThreadPoolExecutor
    ) -> dict[str, np.ndarray]:
        colours = _colours(self.scenes[0])
        shown = {"bicubic": judge.bicubic, "reference": judge.reference}
        if base is not None:
            shown["base"] = judge.fuse(base, pool)
        return {name: judge.picture(image, colours) for name, image in shown.items()}


def _better(after: dict[str, float], before: dict[str, float] | None, with_sam: bool) -> bool:
    """ERGAS lower, and SAM not higher."""
    if before is None:
        return True
    return after["ERGAS"] < before["ERGAS"] and not (with_sam and after["SAM"] > before["SAM"])


def _with_bands_of(base: ModelFile | None, job: TrainingJob) -> tuple[list[TrainingScene], str]:
    """The scenes with their bands in the order of the network, and how the first one's were matched."""
    wanted = job.bands or job.scenes[0].band_names
    name = "of this training"
    if base is not None:
        wanted, name = base.card.band_names, base.card.id
    if not all(wanted):
        wanted = ()
    matches = [match_bands(name, wanted, scene.band_names, False) for scene in job.scenes]
    scenes = [scene.with_order(match.order) for scene, match in zip(job.scenes, matches)]
    return scenes, str(matches[0])


def _card(
    job: TrainingJob, output: str, base: ModelFile | None, scenes: Sequence[TrainingScene]
) -> ModelCard:
    names = ", ".join(scene.name for scene in scenes)
    model = job.model or Path(output).stem
    if base is not None:
        return replace(
            base.card,
            id=model,
            title=job.title or f"{base.card.id} adapted to {names}",
            licence=job.licence or base.card.licence,
            metrics={},
        )
    bands = scenes[0].band_names
    return ModelCard(
        id=model,
        method=job.method,
        title=job.title or f"{METHOD_TITLES[job.method]} trained on {names}",
        ms_bands=len(bands),
        guide_bands=1,
        ratio=scenes[0].ratio,
        band_names=bands if all(bands) else (),
        options={"width": job.width or WIDTHS[job.method]},
        licence=job.licence,
    )


def _network(base: ModelFile | None, card: ModelCard) -> FusionNetwork:
    if base is not None:
        return load_network(base)
    try:
        return create_model(card.method, card.ms_bands, 1, card.ratio, **card.options)
    except ValueError as error:
        raise FusionError(f"There is no such network: {error}") from error


def _settings(
    job: TrainingJob, base: ModelFile | None, sampler: ScenePatchSampler, device: torch.device
) -> TrainingSettings:
    recipe = (FROM_NOTHING if base is None else ADAPTING)[job.method]
    wanted = job.patch or recipe.patch
    fitting = [size for size in (wanted, *PATCHES) if size <= wanted and sampler.positions(size)]
    if not fitting or (job.patch and not sampler.positions(job.patch)):
        raise FusionError(
            f"No patch of {job.patch or PATCHES[-1]} x {job.patch or PATCHES[-1]} valid MS pixels lies outside the "
            "held-out quarter: choose larger scenes, a smaller mask, or a smaller patch."
        )
    patch = fitting[0]
    batch = job.batch or max(1, recipe.pixels // patch**2)
    precision = job.precision
    if precision == "auto":
        precision = "bfloat16" if has_bfloat16(device) else "float32"
    elif precision == "float16":
        raise FusionError(
            "Training in float16 loses small gradients: use auto, float32 or bfloat16."
        )
    resolve_precision(precision, device, job.method)
    card = None if base is None else base.card
    return TrainingSettings(
        iterations=job.iterations or 1,
        stages=(Stage(1.0, patch, batch),),
        learning_rate=recipe.learning_rate if job.learning_rate is None else job.learning_rate,
        warm_up=recipe.warm_up,
        ema_decay=recipe.ema_decay,
        objective="x0" if card is None else card.objective,
        self_conditioning=0.5 if card is not None and card.self_conditioning else 0.0,
        seed=job.seed,
        precision=precision,
        dropout=0.0,
        save_every=20,
        chunk=max(1, 2 * 64 * 64 // patch**2) if device.type == "cpu" else 0,
        frozen_statistics=base is not None,
        phase=PHASE if job.alternating else 0,
    )


def _colours(scene: TrainingScene) -> tuple[int, int, int]:
    """Red, green and blue by name, else the first bands from the third on backwards."""
    names = [canonical_band(name) for name in scene.band_names]
    if all(colour in names for colour in ("red", "green", "blue")):
        return tuple(names.index(colour) for colour in ("red", "green", "blue"))
    return tuple(min(len(names) - 1, i) for i in (2, 1, 0))
