"""The algorithms inside models."""

from __future__ import annotations

import pytest

pytest.importorskip("qgis.core", reason="QGIS is not importable from this Python")

from qgis.core import (
    QgsMultiBandColorRenderer,
    QgsProcessingModelAlgorithm,
    QgsProcessingOutputLayerDefinition,
    QgsRasterLayer,
)

from fusion_core.raster.geotiff import read_bands
from tests.qgis.background import Run
from tests.qgis.graphical import Source, images, make_chain


def build(model: str, outputs: dict | None = None) -> QgsProcessingModelAlgorithm:
    """PAN, MS -> ssdiff -> gdal:translate to float."""
    steps = {
        "sharpen": (
            "diffusionpansharpening:ssdiff",
            {**images(), "MODEL": model, "DEVICE": "cpu"},
        ),
        "translate": (
            "gdal:translate",
            {"INPUT": Source.fromChildOutput("sharpen", "OUTPUT"), "DATA_TYPE": 6},
        ),
    }
    outputs = {"RESULT": ("translate", "OUTPUT"), **(outputs or {})}
    return make_chain("sharpen and translate", steps, outputs)


def test_layer_of_a_model_looks_like_ms(plugin, scene, model, project, tmp_path, wait_until):
    from processing.gui.Postprocessing import handleAlgorithmResults

    chain = build(model, {"SHARP": ("sharpen", "OUTPUT")})
    ms = QgsRasterLayer(scene.ms, "ms")
    ms.setRenderer(QgsMultiBandColorRenderer(ms.dataProvider(), 4, 3, 2))
    project.addMapLayer(ms)
    parameters = {
        "PAN": scene.pan,
        "MS": ms.id(),
        "sharpen:SHARP": QgsProcessingOutputLayerDefinition(str(tmp_path / "a.tif"), project),
        "translate:RESULT": str(tmp_path / "b.tif"),
    }
    run = Run(chain, parameters)
    wait_until(lambda: run.ended)
    ok, results = run.ended[0]
    assert ok, run.feedback.textLog()
    handleAlgorithmResults(chain, run.context, run.feedback, True, results)
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
