"""The assessment inside QGIS."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("qgis.core", reason="QGIS is not importable from this Python")

from qgis.core import (
    QgsApplication,
    QgsProcessingContext,
    QgsProcessingOutputNumber,
    QgsRasterLayer,
)

from fusion_core.assess import assess

FIGURES = {"SAM", "ERGAS", "Q2N", "SCC", "D_LAMBDA", "D_S", "HQNR", "D_SR", "RQNR"}


def create():
    return QgsApplication.processingRegistry().createAlgorithmById(
        "diffusionpansharpening:assessquality"
    )


def test_figures_are_numbers_for_models(plugin):
    algorithm = create()
    outputs = algorithm.outputDefinitions()
    assert {o.name() for o in outputs if isinstance(o, QgsProcessingOutputNumber)} == FIGURES


def test_writes_report_and_table(plugin, project, scene, tmp_path):
    import processing

    layer = QgsRasterLayer(scene.reference, "fused")
    project.addMapLayer(layer)
    results = processing.run(
        create(),
        {
            "FUSED": [layer.id(), scene.reference],
            "PAN": scene.pan,
            "MS": scene.ms,
            "REFERENCE": scene.reference,
            "SENSOR": "IKONOS",
            "REPORT": str(tmp_path / "report.html"),
            "TABLE": str(tmp_path / "table.csv"),
        },
    )
    assert set(results) == FIGURES | {"REPORT", "TABLE"}
    expected = assess(scene.reference, scene.pan, scene.ms, scene.reference, sensor="IKONOS")
    for name, value in expected.images[0].figures.items():
        assert results[name.upper()] == pytest.approx(value)
    assert "<table>" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"FUSED": []}, "FUSED"),
        ({"FUSED": ["/nowhere.tif"]}, "nowhere.tif cannot be opened"),
        ({"PAN": None}, "PAN is missing"),
        ({"SENSOR": "Sputnik"}, "SENSOR is Sputnik: choose one of"),
        ({"REFERENCE": "MS"}, "does not lie on the pixels of PAN"),
        ({"FUSED": ["PAN"]}, "has 1 bands where 4 are expected"),
    ],
)
def test_bad_inputs_are_refused(plugin, scene, tmp_path, wrong, sentence):
    files = {"PAN": scene.pan, "MS": scene.ms}

    def path(value):
        return files.get(value, value) if isinstance(value, str) else value

    wrong = {
        name: [path(v) for v in value] if isinstance(value, list) else path(value)
        for name, value in wrong.items()
    }
    parameters = {
        "FUSED": [scene.reference],
        "PAN": scene.pan,
        "MS": scene.ms,
        "REPORT": str(tmp_path / "report.html"),
        **wrong,
    }
    accepted, message = create().checkParameterValues(parameters, QgsProcessingContext())
    assert not accepted
    assert sentence in message


def test_qgis_process(qgis_process, scene, tmp_path):
    report = str(tmp_path / "report.html")
    outcome = qgis_process.run(
        "assessquality",
        FUSED=[scene.reference, scene.reference],
        PAN=scene.pan,
        MS=scene.ms,
        REPORT=report,
    )
    assert outcome.status == 0, outcome.output
    assert f"REPORT:\t{report}" in outcome.output and "HQNR:\t0." in outcome.output
    assert os.listdir(tmp_path) == ["report.html"]
    refused = qgis_process.run(
        "assessquality", FUSED=scene.ms, PAN=scene.pan, MS=scene.ms, REPORT=report
    )
    assert refused.status != 0 and "does not lie on the pixels of PAN" in refused.output
