"""The run as the toolbox makes it: a background task that leaves QGIS usable and can be stopped."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import ClassVar

import pytest

pytest.importorskip("qgis.core", reason="QGIS is not importable from this Python")

from qgis.core import (
    QgsApplication,
    QgsProcessingAlgRunnerTask,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProject,
)
from qgis.PyQt.QtCore import QTimer


class Run:
    """A run of SSDiff in the background, and what happened meanwhile."""

    # Runs and what hangs on them are cycles, and Python may collect a cycle on the thread of a later run, where Qt's
    # objects must not be destroyed: they stay until the process ends.
    kept: ClassVar[list[Run]] = []

    def __init__(self, parameters: dict) -> None:
        self.kept.append(self)
        self.context, self.feedback = QgsProcessingContext(), QgsProcessingFeedback()
        self.context.setProject(QgsProject.instance())
        self.algorithm = QgsApplication.processingRegistry().createAlgorithmById(
            "diffusionpansharpening:ssdiff"
        )
        self.task = QgsProcessingAlgRunnerTask(
            self.algorithm, parameters, self.context, self.feedback
        )
        self.ended, self.beats, self.fractions = [], [], []
        self.task.executed.connect(self.end)
        self.feedback.progressChanged.connect(self.fractions.append)
        self.timer = QTimer()
        self.timer.timeout.connect(lambda: self.beats.append(1))
        self.timer.start(20)
        QgsApplication.taskManager().addTask(self.task)

    def end(self, ok: bool, results: dict) -> None:
        """Note how it ended."""
        self.timer.stop()
        self.ended.append((ok, results))


def children() -> list[str]:
    """Command lines of this process's living workers."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid() and fields[0] != "Z":
                found.append((entry / "cmdline").read_text())
        except (OSError, IndexError, ValueError):
            continue
    return [command for command in found if "worker" in command]


@pytest.fixture
def parameters(plugin, project, scene, model, tmp_path) -> dict:
    return {
        "PAN": scene.pan,
        "MS": scene.ms,
        "MODEL": model,
        "DEVICE": "cpu",
        "OUTPUT": str(tmp_path / "fused.tif"),
    }


def test_qgis_stays_usable(parameters, wait_until):
    run = Run({**parameters, "STEPS": 20})
    wait_until(lambda: run.ended)
    ok, results = run.ended[0]
    assert ok and results["OUTPUT"] == parameters["OUTPUT"]
    # The event loop kept turning: a timer of 20 ms fired all the time.
    assert len(run.beats) > 10
    assert len(run.fractions) > 20
    assert children() == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_cancel_takes_a_second_and_leaves_nothing(parameters, wait_until, tmp_path):
    run = Run({**parameters, "STEPS": 1000})
    wait_until(lambda: len(run.fractions) > 2)
    assert children()
    run.task.cancel()
    assert wait_until(lambda: run.ended) < 1
    assert run.ended[0][0] is False
    assert children() == []
    assert list(tmp_path.iterdir()) == []


def test_cancel_while_the_worker_starts(parameters, wait_until, tmp_path):
    run = Run({**parameters, "STEPS": 1000})
    wait_until(children)
    run.task.cancel()
    assert wait_until(lambda: run.ended) < 1
    assert children() == []
    assert list(tmp_path.iterdir()) == []
