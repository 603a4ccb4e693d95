"""What a training on the user's own scenes is asked to do and what it tells: plain data, without torch and GDAL.

``check_training`` makes a ``TrainingJob`` of files and wishes; ``training.job.run_training`` runs it where torch is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .training_scenes import TrainingScene

if TYPE_CHECKING:
    from .weights import ModelFile

KEPT = ("trained", "base")


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
        width: channels of the first level of a fresh network.
        checkpoint: file to resume from and save to; needs ``iterations``, with ``minutes`` alone nothing is exact.
        keep_on_cancel: write what is best so far when cancelled, if it beats the base.
        title, licence: of the model; the base's where empty.
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
    width: int = 32
    checkpoint: str | None = None
    keep_on_cancel: bool = True
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
        return {key: value for key, value in vars(self).items() if key != "pictures"}


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
    width: int = 32,
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
    raise NotImplementedError


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
    raise NotImplementedError
