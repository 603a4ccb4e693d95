"""The Wald protocol inside QGIS."""

from __future__ import annotations

import os

import numpy as np
import pytest

pytest.importorskip("qgis.core", reason="QGIS is not importable from this Python")

from qgis.core import QgsApplication, QgsProcessingContext, QgsRasterLayer

from fusion_core.raster.geotiff import read_bands
from fusion_core.reduce import reduce_pair

OUTPUTS = ("PAN_REDUCED", "MS_REDUCED", "REFERENCE")


def create():
    return QgsApplication.processingRegistry().createAlgorithmById(
        "diffusionpansharpening:reducedresolution"
    )


def paths(folder) -> dict[str, str]:
    return {name: str(folder / f"{name.lower()}.tif") for name in OUTPUTS}


def test_same_pixels_as_without_qgis(plugin, project, scene, tmp_path):
    import processing

    layer = QgsRasterLayer(scene.ms, "ms")
    project.addMapLayer(layer)
    inside = paths(tmp_path)
    results = processing.run(
        create(), {"PAN": scene.pan, "MS": layer.id(), "SENSOR": "IKONOS", **inside}
    )
    assert results == inside
    outside = [str(tmp_path / f"{name}_outside.tif") for name in OUTPUTS]
    reduce_pair(scene.pan, scene.ms, *outside, sensor="IKONOS")
    for first, second in zip(inside.values(), outside):
        assert np.array_equal(read_bands(first)[0], read_bands(second)[0])


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"MS": None}, "MS is missing"),
        ({"PAN": "/nowhere.tif"}, "nowhere.tif cannot be opened"),
        ({"SENSOR": "Sputnik"}, "SENSOR is Sputnik: choose one of"),
        ({"PAN_REDUCED": "/nowhere/a.tif"}, "The folder /nowhere does not exist"),
        ({"MS_REDUCED": "MS"}, "is one of the inputs"),
        ({"REFERENCE": "PAN_REDUCED"}, "Two outputs have the same name"),
    ],
)
def test_bad_inputs_are_refused(plugin, scene, tmp_path, wrong, sentence):
    parameters = {"PAN": scene.pan, "MS": scene.ms, **paths(tmp_path)}
    wrong = {name: parameters.get(value, value) for name, value in wrong.items()}
    accepted, message = create().checkParameterValues(
        {**parameters, **wrong}, QgsProcessingContext()
    )
    assert not accepted
    assert sentence in message


def test_qgis_process(qgis_process, scene, tmp_path):
    outcome = qgis_process.run(
        "reducedresolution", PAN=scene.pan, MS=scene.ms, SENSOR="QuickBird", **paths(tmp_path)
    )
    assert outcome.status == 0, outcome.output
    assert sorted(os.listdir(tmp_path)) == ["ms_reduced.tif", "pan_reduced.tif", "reference.tif"]
    assert "0.34, 0.32, 0.3, 0.22" in outcome.output
    assert read_bands(str(tmp_path / "reference.tif"))[0].shape == (4, 32, 32)
    refused = qgis_process.run("reducedresolution", PAN=scene.ms, MS=scene.pan, **paths(tmp_path))
    assert refused.status != 0 and "look swapped" in refused.output
