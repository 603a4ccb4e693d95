"""The run as the toolbox makes it: a background task that leaves QGIS usable and can be stopped."""

from __future__ import annotations

import sys

import pytest

pytest.importorskip("qgis.core", reason="QGIS is not importable from this Python")

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QTimer

from tests.qgis.background import Run, children


def start(parameters: dict) -> Run:
    """A run of SSDiff."""
    registry = QgsApplication.processingRegistry()
    return Run(registry.createAlgorithmById("diffusionpansharpening:ssdiff"), parameters)


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
    beats, timer = [], QTimer()
    timer.timeout.connect(lambda: beats.append(1))
    timer.start(20)
    run = start({**parameters, "STEPS": 20})
    wait_until(lambda: run.ended)
    timer.stop()
    ok, results = run.ended[0]
    assert ok and results["OUTPUT"] == parameters["OUTPUT"]
    # The event loop kept turning: a timer of 20 ms fired all the time.
    assert len(beats) > 10
    assert len(run.fractions) > 20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_the_next_run_finds_the_worker_warm(plugin, parameters, wait_until):
    workers = []
    for _ in range(2):
        run = start(parameters)
        wait_until(lambda: run.ended)  # noqa: B023 # called before the next round
        assert run.ended[0][0]
        workers.append(children())
    assert len(workers[0]) == 1
    assert workers[0] == workers[1]
    plugin.unload()
    assert children() == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_cancel_takes_a_second_and_leaves_nothing(parameters, wait_until, tmp_path):
    run = start({**parameters, "STEPS": 1000})
    wait_until(lambda: len(run.fractions) > 2)
    assert children()
    run.task.cancel()
    assert wait_until(lambda: run.ended) < 1
    assert run.ended[0][0] is False
    assert children() == []
    assert list(tmp_path.iterdir()) == []


def test_cancel_while_the_worker_starts(parameters, wait_until, tmp_path):
    run = start({**parameters, "STEPS": 1000})
    wait_until(children)
    run.task.cancel()
    assert wait_until(lambda: run.ended) < 1
    assert children() == []
    assert list(tmp_path.iterdir()) == []
