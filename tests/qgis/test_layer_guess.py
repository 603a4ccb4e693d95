"""Which layers the menu fills in."""

from __future__ import annotations

import pytest

pytest.importorskip("qgis.core", reason="QGIS is not importable from this Python")

from qgis.core import QgsRasterLayer


@pytest.fixture
def guess(project):
    from diffusion_pansharpening.ui.layer_guess import guess_layers

    return guess_layers


def test_nothing_in_an_empty_project(guess):
    assert guess() == {}


def test_pan_and_ms_are_told_apart(guess, project, scene):
    reference = QgsRasterLayer(scene.reference, "a")
    pan, ms = QgsRasterLayer(scene.pan, "b"), QgsRasterLayer(scene.ms, "c")
    project.addMapLayers([reference, ms, pan])
    assert guess() == {"PAN": pan.id(), "MS": [ms.id()]}


def test_ms_in_another_reference_system_is_found(guess, project, scene, tmp_path):
    from osgeo import gdal

    warped = str(tmp_path / "warped.tif")
    gdal.Warp(warped, scene.ms, dstSRS="EPSG:4326")
    pan, ms = QgsRasterLayer(scene.pan, "pan"), QgsRasterLayer(warped, "ms")
    project.addMapLayers([pan, ms])
    assert guess() == {"PAN": pan.id(), "MS": [ms.id()]}


def test_rasters_of_another_place_are_no_pair(guess, project, scene, tmp_path):
    from osgeo import gdal

    moved = str(tmp_path / "moved.tif")
    gdal.Translate(moved, scene.ms, outputBounds=[600000, 5400000, 600064, 5399936])
    project.addMapLayers([QgsRasterLayer(scene.pan, "pan"), QgsRasterLayer(moved, "ms")])
    assert guess() == {}
