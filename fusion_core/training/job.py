"""Training on the user's own scenes, and adapting a model to them, never for the worse."""

from __future__ import annotations

from collections.abc import Callable

from ..training_job import Progress, TrainingJob, TrainingReport


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
    raise NotImplementedError
