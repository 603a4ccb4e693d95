"""The algorithms inside models."""

from __future__ import annotations

import pytest

pytest.importorskip("qgis.core", reason="QGIS is not importable from this Python")

from qgis.core import (
    QgsApplication,
    QgsMultiBandColorRenderer,
    QgsProcessingAlgRunnerTask,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildAlgorithm,
    QgsProcessingModelChildParameterSource,
    QgsProcessingModelOutput,
    QgsProcessingModelParameter,
    QgsProcessingOutputLayerDefinition,
    QgsProcessingParameterRasterLayer,
    QgsRasterLayer,
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


def test_layer_of_a_model_looks_like_ms(plugin, scene, model, project, tmp_path, wait_until):
    from processing.gui.Postprocessing import handleAlgorithmResults

    chain = build(model)
    sharpen = chain.childAlgorithm("sharpen")
    output = QgsProcessingModelOutput("SHARP")
    output.setChildId("sharpen")
    output.setChildOutputName("OUTPUT")
    sharpen.setModelOutputs({"SHARP": output})
    chain.setChildAlgorithm(sharpen)
    chain.updateDestinationParameters()
    ms = QgsRasterLayer(scene.ms, "ms")
    ms.setRenderer(QgsMultiBandColorRenderer(ms.dataProvider(), 4, 3, 2))
    project.addMapLayer(ms)
    context, feedback = QgsProcessingContext(), QgsProcessingFeedback()
    context.setProject(project)
    parameters = {
        "PAN": scene.pan,
        "MS": ms.id(),
        "sharpen:SHARP": QgsProcessingOutputLayerDefinition(str(tmp_path / "a.tif"), project),
        "translate:RESULT": str(tmp_path / "b.tif"),
    }
    task = QgsProcessingAlgRunnerTask(chain, parameters, context, feedback)
    ended = []
    task.executed.connect(lambda ok, results: ended.append((ok, results)))
    QgsApplication.taskManager().addTask(task)
    wait_until(lambda: ended)
    assert ended[0][0], feedback.textLog()
    handleAlgorithmResults(chain, context, feedback, True, ended[0][1])
    (layer,) = (item for item in project.mapLayers().values() if item is not ms)
    assert layer.renderer().usesBands() == [4, 3, 2]


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
