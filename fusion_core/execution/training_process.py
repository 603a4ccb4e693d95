"""A training in a child process with its own interpreter and environment."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from ..errors import Cancelled
from ..raster.partial import PartialOutput
from ..training_job import Progress, TrainingJob, TrainingReport
from .training_messages import job_message, read_progress, read_report, scene_message
from .worker_process import WorkerProcess

POLL_SECONDS = 0.1
ANSWER_SECONDS = 20.0
"""How long the child may take to notice that it shall stop: an iteration or a validation on a slow computer."""

FINISH_SECONDS = 120.0
"""How long it may then take to judge and write what it has."""


def train_in_worker(
    job: TrainingJob,
    output: str,
    python: str,
    progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> TrainingReport:
    """``training.job.run_training`` in a child process; this one needs no torch, the child neither GDAL nor QGIS.

    Args:
        job: what to do.
        output: the model file to write; appears when it is whole, whatever becomes of the child.
        python: interpreter with torch, as ``interpreter.find_interpreter`` gives it.
        progress: told what the child tells, on the calling thread.
        cancelled: asked ten times a second.  The child is then asked for its best so far, and ended by force if it does
            not answer in time or has not begun to train.

    Raises:
        FusionError: as ``run_training``, or the child does not start or dies; the sentence says why.
        Cancelled: as ``run_training``, or the child had nothing yet or did not answer.
    """
    partial = PartialOutput(output)
    try:
        worker = WorkerProcess("training_worker.py", python, "train on a smaller scene")
        try:
            for scene in job.scenes:
                worker.send(*scene_message(scene))
            worker.send(*job_message(job, partial.path))
            report = _follow(worker, progress or (lambda told: None), cancelled or (lambda: False))
        finally:
            worker.close()
    except BaseException:
        partial.discard()
        raise
    partial.publish()
    return replace(report, output=partial.target)


def _follow(
    worker: WorkerProcess, progress: Callable[[Progress], None], cancelled: Callable[[], bool]
) -> TrainingReport:
    """Pass messages on until the report comes."""
    training, deadline = False, None
    while True:
        if deadline is None and cancelled():
            if not training:
                raise Cancelled
            worker.send({"type": "cancel"})
            deadline = time.monotonic() + ANSWER_SECONDS
        if deadline is not None and time.monotonic() > deadline:
            raise Cancelled
        message = worker.receive(POLL_SECONDS)
        if message is None:
            continue
        content, arrays = message
        kind = content["type"]
        if kind == "progress":
            training = True
            progress(read_progress(content))
        elif kind == "stopping":
            deadline = time.monotonic() + FINISH_SECONDS
        elif kind == "cancelled":
            raise Cancelled
        elif kind == "report":
            return read_report(content, arrays)
