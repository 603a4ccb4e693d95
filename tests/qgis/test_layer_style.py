"""The look of the fused layer on the map."""

from __future__ import annotations

import pytest

pytest.importorskip("qgis.core", reason="QGIS is not importable from this Python")

from qgis.core import (
    QgsApplication,
    QgsContrastEnhancement,
    QgsMultiBandColorRenderer,
    QgsProcessingAlgRunnerTask,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputLayerDefinition,
    QgsRasterLayer,
    QgsSingleBandGrayRenderer,
)


@pytest.fixture
def ms_layer(scene, project):
    """The MS layer, shown as near infrared, red, green with limits of its own."""
    layer = QgsRasterLayer(scene.ms, "ms")
    renderer = QgsMultiBandColorRenderer(layer.dataProvider(), 4, 3, 2)
    for number, place in ((4, "Red"), (3, "Green"), (2, "Blue")):
        enhancement = QgsContrastEnhancement(layer.dataProvider().dataType(number))
        enhancement.setMinimumValue(100 * number)
        enhancement.setMaximumValue(200 * number)
        getattr(renderer, f"set{place}ContrastEnhancement")(enhancement)
    layer.setRenderer(renderer)
    project.addMapLayer(layer)
    return layer


def shown(layer) -> list[tuple[int, float, float]]:
    """Band, least and greatest value of red, green and blue."""
    renderer = layer.renderer()
    return [
        (band, enhancement.minimumValue(), enhancement.maximumValue())
        for band, enhancement in (
            (renderer.redBand(), renderer.redContrastEnhancement()),
            (renderer.greenBand(), renderer.greenContrastEnhancement()),
            (renderer.blueBand(), renderer.blueContrastEnhancement()),
        )
    ]


def test_bands_and_stretch_are_those_of_ms(ms_layer, scene):
    from diffusion_pansharpening.ui.layer_style import apply_style

    fused = QgsRasterLayer(scene.reference, "fused")
    apply_style(fused, ms_layer.renderer())
    assert shown(fused) == [(4, 400, 800), (3, 300, 600), (2, 200, 400)]
    assert shown(fused) == shown(ms_layer)


def test_one_grey_band_stays_one(scene, qgis_app):
    from diffusion_pansharpening.ui.layer_style import apply_style

    fused = QgsRasterLayer(scene.reference, "fused")
    apply_style(fused, QgsSingleBandGrayRenderer(fused.dataProvider(), 3))
    assert fused.renderer().grayBand() == 3


def test_without_a_layer_the_colours_are_true(scene, qgis_app):
    from diffusion_pansharpening.ui.layer_style import apply_style

    fused = QgsRasterLayer(scene.reference, "fused")
    apply_style(fused, None)
    assert [band for band, _, _ in shown(fused)] == [3, 2, 1]
    assert all(least < greatest for _, least, greatest in shown(fused))


def test_a_renderer_with_other_bands_is_not_copied(scene, qgis_app):
    from diffusion_pansharpening.ui.layer_style import apply_style

    fused = QgsRasterLayer(scene.reference, "fused")
    foreign = QgsMultiBandColorRenderer(fused.dataProvider(), 8, 7, 6)
    apply_style(fused, foreign)
    assert [band for band, _, _ in shown(fused)] == [3, 2, 1]


@pytest.fixture
def load(plugin, ms_layer, scene, model, project, tmp_path, wait_until):
    """Runs SSDiff in the background as the dialog does; the layer that appears on the map."""
    from processing.gui.Postprocessing import handleAlgorithmResults

    context, feedback = QgsProcessingContext(), QgsProcessingFeedback()
    context.setProject(project)
    parameters = {
        "PAN": scene.pan,
        "MS": ms_layer,
        "MODEL": model,
        "DEVICE": "cpu",
        "OUTPUT": QgsProcessingOutputLayerDefinition(str(tmp_path / "fused.tif"), project),
    }

    def run() -> QgsRasterLayer:
        registry = QgsApplication.processingRegistry()
        algorithm = registry.createAlgorithmById("diffusionpansharpening:ssdiff")
        task = QgsProcessingAlgRunnerTask(algorithm, parameters, context, feedback)
        ended = []
        task.executed.connect(lambda ok, results: ended.append((ok, results)))
        QgsApplication.taskManager().addTask(task)
        wait_until(lambda: ended)
        ok, results = ended[0]
        assert ok, feedback.textLog()
        assert handleAlgorithmResults(algorithm, context, feedback, True, results)
        (layer,) = (item for item in project.mapLayers().values() if item is not ms_layer)
        return layer

    return run


def test_loaded_layer_looks_like_ms(load, ms_layer):
    from diffusion_pansharpening.ui.layer_style import FusedLayerStyle

    layer = load()
    assert shown(layer) == shown(ms_layer)
    assert FusedLayerStyle._waiting == []


def test_style_of_the_user_wins(load, scene, tmp_path, monkeypatch):
    from processing.gui.RenderingStyles import RenderingStyles

    grey = QgsRasterLayer(scene.reference, "grey")
    grey.setRenderer(QgsSingleBandGrayRenderer(grey.dataProvider(), 2))
    style = str(tmp_path / "grey.qml")
    grey.saveNamedStyle(style)
    monkeypatch.setattr(RenderingStyles, "getStyle", lambda algorithm, output: style)
    layer = load()
    assert isinstance(layer.renderer(), QgsSingleBandGrayRenderer)
