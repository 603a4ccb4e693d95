"""What a training on the user's own scenes is asked to do and what it tells: plain data, without torch and GDAL.

``check_training`` makes a ``TrainingJob`` of files and wishes; ``training.job.run_training`` runs it where torch is.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .band_matching import has_bands, known_bands, match_bands
from .errors import FusionError
from .training_scenes import TrainingScene, load_training_scene, require_trainable
from .weights import METHOD_TITLES, find_model

if TYPE_CHECKING:
    from .weights import ModelFile

LEAST_PATCH = 16
LARGEST_PATCH = 256
LEAST_JUDGED = 0.25
"""Part of the held-out quarter that must be valid."""
LEAST_VALID = 32 * 32
"""Valid pixels that must lie outside the held-out quarter."""
WIDTH_STEP = 16
"""Both networks come in multiples of so many channels."""


@dataclass(frozen=True)
class TrainingJob:
    """A checked training.

    Attributes:
        scenes: what to train on; their bands are matched to the base's by name.
        method: "ddrf" or "ssdiff".
        base: path of the model file to start from, None to start from nothing.
        iterations: length of the training, None for as many as fit into ``minutes``.
        minutes: time for everything, from the start of ``run_training`` (less ``seconds_spent``) to the written file;
            None for no limit.  One of the two at least; the first that is reached ends the training.
        seconds_spent: time that was used before ``run_training``, for loading.
        seed: of patches, noise and fresh weights.
        device, precision: as for fusing; "auto" in precision is float32 on a CPU without bfloat16 arithmetic.
        threads: CPU threads, None for all but one.
        alternating: SSDiff only: spectral and spatial phases in turn (L-BAF).
        learning_rate: None for the measured one.
        patch, batch: PAN pixels of a patch and patches a batch, None for the measured ones that the scenes allow.
        width: channels of the first level of a fresh network, None for that of the shipped models.
        checkpoint: file to resume from and save to; needs ``iterations``, with ``minutes`` alone nothing is exact.
        keep_on_cancel: write what is best so far when cancelled, if it beats the base.
        model: id of the model; the output's name where empty.
        title: of the model; made of the base's id and the scenes' names where empty.
        licence: of the weights; the base's where empty.
        bands: what the bands are called in the model's order where there is no base.
    """

    scenes: tuple[TrainingScene, ...]
    method: str
    base: str | None = None
    iterations: int | None = None
    minutes: float | None = None
    seconds_spent: float = 0.0
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    alternating: bool = False
    learning_rate: float | None = None
    patch: int | None = None
    batch: int | None = None
    width: int | None = None
    checkpoint: str | None = None
    keep_on_cancel: bool = True
    model: str = ""
    title: str = ""
    licence: str = ""
    bands: tuple[str, ...] = ()


@dataclass
class Progress:
    """What a training tells while it runs.

    Attributes:
        iteration, iterations: done, and in all.
        loss: running mean of the training loss.
        learning_rate: now.
        seconds_left: estimate.
        validation: score of a validation that has just been done, smaller is better; None between validations.
        figures: what that validation measured, such as SAM, ERGAS and Q2n.
        phase: "spectral" or "spatial" in alternating training, else "".
    """

    iteration: int
    iterations: int
    loss: float
    learning_rate: float
    seconds_left: float
    validation: float | None = None
    figures: dict[str, float] | None = None
    phase: str = ""


@dataclass(frozen=True)
class TrainingReport:
    """What a training on the user's scenes did.

    Attributes:
        output: the model file.
        model: its id.
        method: "ddrf" or "ssdiff".
        kept: "trained" or "base".
        why: one sentence on that.
        iterations, planned: done, and planned.
        seconds: wall clock, without ``TrainingJob.seconds_spent``.
        cancelled: whether the user ended it early.
        history: one entry a validation on the held-out quarters: "iteration", "seconds", "loss" (None before the first
            iteration), "SAM", "ERGAS", "Q2n".
        losses: running mean of the loss, (iteration, loss), at most a few hundred pairs.
        table: figures on the held-out quarters (means over the scenes) by method: "bicubic", "MTF-GLP-HPM", "base"
            (where there is one), "trained"; each has SAM (degrees), ERGAS, Q2n.
        settings: text by topic, for people.
        pictures: uint8 (H, W, 3) of the first scene's held-out quarter: "bicubic", "base", "trained", "reference";
            one stretch for all.
    """

    output: str
    model: str
    method: str
    kept: str
    why: str
    iterations: int
    planned: int
    seconds: float
    cancelled: bool
    history: list[dict[str, float | int | None]] = field(default_factory=list)
    losses: list[tuple[int, float]] = field(default_factory=list)
    table: dict[str, dict[str, float]] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, np.ndarray] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """As JSON can hold it: everything but the pictures."""
        return {key: _as_json(value) for key, value in vars(self).items() if key != "pictures"}


def _as_json(value: object) -> object:
    """JSON has no infinity, the ERGAS of weights that broke down."""
    if isinstance(value, dict):
        return {key: _as_json(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_as_json(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_training(
    pairs: Sequence[tuple[str, str | Sequence[str]]],
    output: str | None = None,
    *,
    method: str = "ssdiff",
    base_model: str = "auto",
    masks: Sequence[str | None] = (),
    sensor: str = "unknown",
    bands: str | Sequence[str | float] | None = None,
    iterations: int | None = None,
    minutes: float | None = None,
    alternating: bool = False,
    patch: int | None = None,
    batch: int | None = None,
    learning_rate: float | None = None,
    width: int | None = None,
    checkpoint: str | None = None,
) -> ModelFile | None:
    """Refuse quickly what the training would refuse; nothing is read but headers.

    Args:
        pairs: PAN and MS (one name, or one for each band) of each scene.
        output: the model file to write, where it is known.
        method: "ddrf" or "ssdiff".
        base_model: "auto" for the installed model that fits, "none" to train from nothing, an id, or a file.
        masks: one for each pair, None for none; empty for none at all.
        sensor, bands: as for ``load_training_scene``.
        iterations, minutes, alternating, patch, batch, learning_rate, width, checkpoint: as in ``TrainingJob``.

    Returns:
        The base model, None where training starts from nothing.

    Raises:
        FusionError: something does not fit; one sentence says what, and what to do.
    """
    _check_wishes(
        method, iterations, minutes, alternating, patch, batch, learning_rate, width, base_model
    )
    _check_files(output, checkpoint, minutes)
    if not pairs:
        raise FusionError("There is no scene to train on: give a PAN and an MS image.")
    if masks and len(masks) != len(pairs):
        raise FusionError(
            f"There are {len(masks)} mask(s) for {len(pairs)} scene(s): give one for each, or none."
        )
    for mask in filter(None, masks):
        _check_mask(mask)
    opened = [_opened(pan, ms, sensor, bands) for pan, ms in pairs]
    first = opened[0]
    for other in opened[1:]:
        if len(other.names) != len(first.names):
            raise FusionError(
                f"{other.label} has {len(other.names)} bands but {first.label} has {len(first.names)}: "
                "train on scenes with the same bands."
            )
        if other.ratio != first.ratio:
            raise FusionError(
                f"{other.label} has the ratio {other.ratio} but {first.label} has {first.ratio}: "
                "train on scenes of one ratio."
            )
    base = None
    wanted, title = first.names if all(first.names) else (), "of this training"
    if base_model != "none":
        base = find_model(method, len(first.names), first.ratio, base_model, band_names=first.names)
        wanted, title = base.card.band_names, base.card.id
        if base.card.ratio != first.ratio:
            raise FusionError(
                f"The model {title} is for the ratio {base.card.ratio} but {first.label} has {first.ratio}: "
                "choose another base model, or none."
            )
        if output and os.path.realpath(output) == os.path.realpath(base.path):
            raise FusionError(
                f"{output} is the base model itself: choose another name for the trained one."
            )
    for pair in opened:
        match_bands(title, wanted, pair.names, has_bands(bands) and bool(wanted))
    return base


@dataclass(frozen=True)
class _Opened:
    """What a pair's headers say."""

    label: str
    names: tuple[str, ...]
    ratio: int


def _check_wishes(
    method: str,
    iterations: int | None,
    minutes: float | None,
    alternating: bool,
    patch: int | None,
    batch: int | None,
    learning_rate: float | None,
    width: int | None,
    base_model: str,
) -> None:
    if method not in METHOD_TITLES:
        raise FusionError(
            f"There is no method called {method}: use one of {', '.join(METHOD_TITLES)}."
        )
    if iterations is None and minutes is None:
        raise FusionError("The training has no end: give minutes, iterations, or both.")
    if minutes is not None and not 0 < minutes < math.inf:
        raise FusionError(f"{minutes:g} minutes are no time to train: give more than 0.")
    if iterations is not None and iterations < 1:
        raise FusionError(f"The number of iterations is {iterations} but must be 1 or more.")
    if alternating and method != "ssdiff":
        raise FusionError(
            "Alternating phases (L-BAF) exist for SSDiff's two branches alone: choose SSDiff, or train without."
        )
    if alternating and base_model == "none":
        raise FusionError(
            "Alternating phases (L-BAF) fine-tune a trained model: choose a base model, or train without."
        )
    if patch is not None and not (
        LEAST_PATCH <= patch <= LARGEST_PATCH and patch % LEAST_PATCH == 0
    ):
        raise FusionError(
            f"A patch of {patch} pixels does not fit the networks: give a multiple of {LEAST_PATCH} up to "
            f"{LARGEST_PATCH}."
        )
    if batch is not None and batch < 1:
        raise FusionError(f"The batch size is {batch} but must be 1 or more.")
    if learning_rate is not None and not 0 < learning_rate < 1:
        raise FusionError(f"The learning rate is {learning_rate:g} but must lie between 0 and 1.")
    if width is not None and (width < WIDTH_STEP or width % WIDTH_STEP):
        raise FusionError(f"The width is {width} but must be a multiple of {WIDTH_STEP}.")


def _check_files(output: str | None, checkpoint: str | None, minutes: float | None) -> None:
    if checkpoint and minutes is not None:
        raise FusionError(
            "A training by minutes cannot be resumed exactly: give iterations and no minutes, or no checkpoint."
        )
    if output and not output.endswith(".safetensors"):
        raise FusionError(f"{output} is no model file: give it the ending .safetensors.")
    for path in filter(None, (output, checkpoint)):
        folder = os.path.dirname(os.path.abspath(path))
        if not (os.path.isdir(folder) and os.access(folder, os.W_OK)):
            raise FusionError(f"Nothing can be written in {folder}: choose another folder.")


def _check_mask(mask: str) -> None:
    from .raster.source import RasterSource

    RasterSource(mask).close()


def _opened(
    pan: str, ms: str | Sequence[str], sensor: str, bands: str | Sequence[str | float] | None
) -> _Opened:
    """Open a pair and refuse what cannot be trained on."""
    from .raster.pairing import RATIOS
    from .reduce import open_reduction

    with open_reduction(os.fspath(pan), ms, sensor, None) as pair:
        require_trainable(pair)
        # As in fusing: the models' ratio that is nearest.
        true = 1 / math.sqrt(pair.rows.scale * pair.cols.scale)
        ratio = min(RATIOS, key=lambda candidate: abs(math.log(true / candidate)))
        profiles = pair.ms.profiles
        names = known_bands([p.name for p in profiles], [p.spectral for p in profiles], bands)
        return _Opened(pair.ms.label, names, ratio)


def prepare_training(
    pairs: Sequence[tuple[str, str | Sequence[str]]],
    output: str | None = None,
    *,
    masks: Sequence[str | None] = (),
    sensor: str = "unknown",
    bands: str | Sequence[str | float] | None = None,
    base_model: str = "auto",
    **wishes: object,
) -> TrainingJob:
    """Check everything, read the scenes and make the job; needs GDAL and no torch.

    Args:
        pairs, output, masks, sensor, bands, base_model: as for ``check_training``.
        wishes: further attributes of ``TrainingJob``: method, iterations, minutes, seed, device, ...

    Raises:
        FusionError: as ``check_training``, and what only the pixels tell: scenes that are too small or too cloudy.
    """
    since = time.monotonic()
    pairs = [(pan, ms) for pan, ms in pairs]
    asked = {name: value for name, value in wishes.items() if name in _CHECKED}
    base = check_training(
        pairs, output, base_model=base_model, masks=masks, sensor=sensor, bands=bands, **asked
    )
    scenes = []
    for (pan, ms), mask in zip(pairs, masks or [None] * len(pairs)):
        ratio = _opened(pan, ms, sensor, bands).ratio
        scene = load_training_scene(pan, ms, sensor=sensor, mask=mask, bands=bands, ratio=ratio)
        _require_pixels(scene)
        scenes.append(scene)
    wishes.setdefault("model", Path(output).stem if output else "")
    wishes.setdefault("method", "ssdiff")
    return TrainingJob(
        scenes=tuple(scenes),
        base=None if base is None else base.path,
        seconds_spent=time.monotonic() - since,
        **wishes,
    )


_CHECKED = (
    "method",
    "iterations",
    "minutes",
    "alternating",
    "patch",
    "batch",
    "learning_rate",
    "width",
    "checkpoint",
)


def _require_pixels(scene: TrainingScene) -> None:
    """Refuse a scene with too few valid pixels."""
    row, col, height, width = scene.quarter
    held_out = scene.valid[row : row + height, col : col + width]
    if held_out.mean() < LEAST_JUDGED:
        raise FusionError(
            f"No quarter of {scene.name} has {LEAST_JUDGED:.0%} valid pixels to judge by: choose a scene with less "
            "nodata, or another mask."
        )
    if scene.valid.sum() - held_out.sum() < LEAST_VALID:
        raise FusionError(
            f"Too few pixels of {scene.name} are valid outside the held-out quarter: choose a scene with less nodata, "
            "or another mask."
        )
