"""A training on its way to the child process and back, as messages of ``protocol``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np

from ..training_job import Progress, TrainingJob, TrainingReport
from ..training_scenes import TrainingScene

Message = tuple[dict, dict[str, np.ndarray]]


def scene_message(scene: TrainingScene) -> Message:
    """One scene; they travel one by one."""
    return _message("scene", vars(scene))


def job_message(job: TrainingJob, output: str) -> Message:
    """The job without its scenes, and the file to write."""
    content, arrays = _message("train", {**vars(job), "scenes": None})
    return {**content, "output": output}, arrays


def progress_message(progress: Progress) -> Message:
    """How far the training is."""
    return _message("progress", vars(progress))


def report_message(report: TrainingReport) -> Message:
    """What the training did."""
    content, _ = _message("report", {**vars(report), "pictures": None})
    return content, report.pictures


def read_scene(content: Mapping, arrays: Mapping[str, np.ndarray]) -> TrainingScene:
    """The scene of a ``scene_message``."""
    return TrainingScene(**_values(TrainingScene, content), **arrays)


def read_job(content: Mapping, scenes: Sequence[TrainingScene]) -> TrainingJob:
    """The job of a ``job_message``, with the scenes that came before it."""
    return TrainingJob(**{**_values(TrainingJob, content), "scenes": tuple(scenes)})


def read_progress(content: Mapping) -> Progress:
    """The progress of a ``progress_message``."""
    return Progress(**content["values"])


def read_report(content: Mapping, arrays: Mapping[str, np.ndarray]) -> TrainingReport:
    """The report of a ``report_message``."""
    values = dict(content["values"])
    values["losses"] = [tuple(pair) for pair in values["losses"]]
    return TrainingReport(**{**values, "pictures": dict(arrays)})


def _message(kind: str, values: Mapping[str, object]) -> Message:
    """Arrays apart from what JSON holds."""
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    plain = {name: value for name, value in values.items() if name not in arrays}
    return {"type": kind, "values": plain}, arrays


def _values(kind: type, content: Mapping) -> dict[str, object]:
    """Attributes of a dataclass; JSON made lists of its tuples."""
    values = content["values"]
    return {
        field.name: tuple(values[field.name])
        if isinstance(values[field.name], list)
        else values[field.name]
        for field in fields(kind)
        if field.name in values
    }
