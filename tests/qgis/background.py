"""Runs in the background, as the toolbox makes them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from qgis.core import (
    QgsApplication,
    QgsProcessingAlgorithm,
    QgsProcessingAlgRunnerTask,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProject,
)


class Run:
    """A run in the background, and what happened meanwhile.

    Attributes:
        ended: (whether it succeeded, its results), empty before the end.
        fractions: what the progress bar was told.
    """

    # Runs and what hangs on them are cycles, and Python may collect a cycle on the thread of a later run, where Qt's
    # objects must not be destroyed: they stay until the process ends.
    kept: ClassVar[list[Run]] = []

    def __init__(self, algorithm: QgsProcessingAlgorithm, parameters: dict) -> None:
        self.kept.append(self)
        self.context, self.feedback = QgsProcessingContext(), QgsProcessingFeedback()
        self.context.setProject(QgsProject.instance())
        self.algorithm = algorithm
        self.task = QgsProcessingAlgRunnerTask(algorithm, parameters, self.context, self.feedback)
        self.ended, self.fractions = [], []
        self.task.executed.connect(lambda ok, results: self.ended.append((ok, results)))
        self.feedback.progressChanged.connect(self.fractions.append)
        QgsApplication.taskManager().addTask(self.task)


def children(script: str = "worker") -> list[int]:
    """Process ids of this process's living children that run a script."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid() and fields[0] != "Z":
                if script in (entry / "cmdline").read_text():
                    found.append(int(entry.name))
        except (OSError, IndexError, ValueError):
            continue
    return found
