"""The look of a fused layer: the band order and stretch of the MS layer it came from."""

from __future__ import annotations

from typing import ClassVar

from qgis.core import (
    QgsMultiBandColorRenderer,
    QgsProcessingLayerPostProcessorInterface,
    QgsRaster,
    QgsRasterLayer,
    QgsRasterRenderer,
)

from ..fusion_core.bands import canonical_band

_NAMES = ("red", "green", "blue")
_INTERPRETATIONS = (
    QgsRaster.ColorInterpretation.RedBand,
    QgsRaster.ColorInterpretation.GreenBand,
    QgsRaster.ColorInterpretation.BlueBand,
)


class FusedLayerStyle(QgsProcessingLayerPostProcessorInterface):
    """Styles the output layer when Processing has loaded it.

    Args:
        renderer: a copy of the MS layer's renderer; None where MS was not a layer of the project.
    """

    # Processing keeps a bare pointer, so an instance must stay referenced until its layer is loaded.
    _waiting: ClassVar[list[FusedLayerStyle]] = []

    def __init__(self, renderer: QgsRasterRenderer | None) -> None:
        super().__init__()
        self._renderer = renderer

    def attach(self, details) -> None:
        """Have Processing call this style for the layer of ``details`` once it is loaded."""
        self._waiting.append(self)
        details.setPostProcessor(self)

    def postProcessLayer(self, layer, context, feedback) -> None:
        """Style the layer; called by Processing on the main thread."""
        if self in self._waiting:
            self._waiting.remove(self)
        if isinstance(layer, QgsRasterLayer) and layer.isValid():
            apply_style(layer, self._renderer)
            layer.triggerRepaint()


def apply_style(layer: QgsRasterLayer, renderer: QgsRasterRenderer | None) -> None:
    """Give a layer the renderer of its MS layer, or true colours where there is none.

    Args:
        layer: the fused layer.
        renderer: the MS layer's renderer; used if the fused layer has the bands that it shows.
    """
    bands = layer.bandCount()
    if renderer is not None and all(1 <= band <= bands for band in renderer.usesBands()):
        layer.setRenderer(renderer.clone())
        return
    numbers = range(1, bands + 1)
    # QGIS writes "Band 3: Red"; the part behind the number is the name in the file.
    names = [canonical_band(layer.bandName(number).partition(":")[2]) for number in numbers]
    tags = [layer.dataProvider().colorInterpretation(number) for number in numbers]
    for present, wanted in ((names, _NAMES), (tags, _INTERPRETATIONS)):
        if all(present.count(colour) == 1 for colour in wanted):
            shown = [present.index(colour) + 1 for colour in wanted]
            layer.setRenderer(QgsMultiBandColorRenderer(layer.dataProvider(), *shown))
            layer.setDefaultContrastEnhancement()
            return


def user_has_style(algorithm_id: str, output: str) -> bool:
    """Whether the user chose a style file for an output, or for all rasters from Processing."""
    try:
        from processing.core.ProcessingConfig import ProcessingConfig
        from processing.gui.RenderingStyles import RenderingStyles
    except ImportError:
        return False
    return bool(
        RenderingStyles.getStyle(algorithm_id, output)
        or ProcessingConfig.getSetting(ProcessingConfig.RASTER_STYLE)
    )
