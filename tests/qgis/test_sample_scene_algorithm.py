"""The sample scene inside QGIS."""

from __future__ import annotations

import pytest

pytest.importorskip("qgis.core", reason="QGIS is not importable from this Python")

from qgis.core import QgsApplication, QgsProcessingContext

from fusion_core.raster.geotiff import read_bands


def create():
    return QgsApplication.processingRegistry().createAlgorithmById(
        "diffusionpansharpening:samplescene"
    )


def test_writes_three_rasters_that_fit(plugin, tmp_path):
    import processing

    names = {name: str(tmp_path / f"{name.lower()}.tif") for name in ("PAN", "MS", "REFERENCE")}
    results = processing.run(create(), {"SIZE": 64, "BANDS": 8, "RATIO": 2, "SEED": 3, **names})
    assert results == names
    assert read_bands(names["PAN"])[0].shape == (1, 64, 64)
    assert read_bands(names["MS"])[0].shape == (8, 32, 32)
    assert read_bands(names["REFERENCE"])[0].shape == (8, 64, 64)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"SIZE": 66}, "SIZE is 66: give a multiple of RATIO, 4."),
        ({"SIZE": 1}, "SIZE is 1: give a whole number from 16"),
        ({"BANDS": 1}, "BANDS is 1"),
        ({"RATIO": 1}, "RATIO is 1"),
        ({"SEED": -1}, "SEED is -1"),
    ],
)
def test_bad_numbers_are_refused(plugin, tmp_path, wrong, sentence):
    names = {name: str(tmp_path / f"{name.lower()}.tif") for name in ("PAN", "MS", "REFERENCE")}
    accepted, message = create().checkParameterValues({**names, **wrong}, QgsProcessingContext())
    assert not accepted
    assert sentence in message
