"""The algorithms inside models."""

from __future__ import annotations

import pytest

pytest.importorskip("qgis.core", reason="QGIS is not importable from this Python")

from qgis.core import (
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildAlgorithm,
    QgsProcessingModelChildParameterSource,
    QgsProcessingModelOutput,
    QgsProcessingModelParameter,
    QgsProcessingParameterRasterLayer,
)

from fusion_core.raster.geotiff import read_bands


def child(name: str, algorithm: str, sources: dict) -> QgsProcessingModelChildAlgorithm:
    """A step of a model."""
    step = QgsProcessingModelChildAlgorithm(algorithm)
    step.setChildId(name)
    for parameter, source in sources.items():
        step.addParameterSources(parameter, [source])
    return step


def build(model: str) -> QgsProcessingModelAlgorithm:
    """PAN, MS -> ssdiff -> gdal:translate to float."""
    value = QgsProcessingModelChildParameterSource.fromStaticValue
    chain = QgsProcessingModelAlgorithm("sharpen and translate", "tests")
    for name in ("PAN", "MS"):
        chain.addModelParameter(
            QgsProcessingParameterRasterLayer(name, name), QgsProcessingModelParameter(name)
        )
    sharpen = child(
        "sharpen",
        "diffusionpansharpening:ssdiff",
        {
            "PAN": QgsProcessingModelChildParameterSource.fromModelParameter("PAN"),
            "MS": QgsProcessingModelChildParameterSource.fromModelParameter("MS"),
            "MODEL": value(model),
            "DEVICE": value("cpu"),
        },
    )
    chain.addChildAlgorithm(sharpen)
    translate = child(
        "translate",
        "gdal:translate",
        {
            "INPUT": QgsProcessingModelChildParameterSource.fromChildOutput("sharpen", "OUTPUT"),
            "DATA_TYPE": value(6),
        },
    )
    output = QgsProcessingModelOutput("RESULT")
    output.setChildId("translate")
    output.setChildOutputName("OUTPUT")
    translate.setModelOutputs({"RESULT": output})
    chain.addChildAlgorithm(translate)
    chain.updateDestinationParameters()
    return chain


def check_result(path: str) -> None:
    pixels, info = read_bands(path)
    assert pixels.shape == (4, 128, 128)
    assert pixels.dtype == "float32"
    assert info.band_names == ("Blue", "Green", "Red", "NIR")


def test_output_feeds_the_next_step(plugin, scene, model, tmp_path):
    import processing

    target = str(tmp_path / "result.tif")
    parameters = {"PAN": scene.pan, "MS": scene.ms, "translate:RESULT": target}
    results = processing.run(build(model), parameters)
    assert results["translate:RESULT"] == target
    check_result(target)


def test_model_file_runs_in_qgis_process(plugin, scene, model, tmp_path, qgis_process):
    path, target = str(tmp_path / "chain.model3"), str(tmp_path / "result.tif")
    assert build(model).toFile(path)
    outcome = qgis_process(
        "run", path, "--", f"PAN={scene.pan}", f"MS={scene.ms}", f"translate:RESULT={target}"
    )
    assert outcome.status == 0, outcome.output
    check_result(target)
