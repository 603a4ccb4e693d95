"""From parameter values to names that GDAL opens."""

from __future__ import annotations

import re

from qgis.core import (
    QgsMapLayer,
    QgsProcessingContext,
    QgsProcessingOutputLayerDefinition,
    QgsProcessingUtils,
    QgsProperty,
    QgsRasterLayer,
)

from ..fusion_core.errors import FusionError
from ..ui.translation import tr


def raster_sources(
    value: object, context: QgsProcessingContext, label: str
) -> tuple[list[str], list[QgsRasterLayer]]:
    """GDAL names behind a raster parameter, and the layers among them.

    A text that is no layer of the project or of the run is taken as a GDAL name as it stands, so that
    ``/vsizip/`` paths and subdatasets, which QGIS does not accept for raster parameters, work too.

    Args:
        value: a layer, its id or name, a GDAL name, or a list of these.
        context: context of the run.
        label: how to call the parameter in an error.

    Returns:
        GDAL names in the order given, and the layers found (fewer where names were given).

    Raises:
        FusionError: nothing was given, or a layer that GDAL does not read.
    """
    names, layers = [], []
    for item in _flatten(value, context):
        layer = item
        if isinstance(item, str):
            layer = QgsProcessingUtils.mapLayerFromString(item, context, False)
        if isinstance(layer, QgsMapLayer):
            names.append(_gdal_name(layer, label))
            layers.append(layer)
        else:
            names.append(re.sub("^gdal://", "", item))
    if not names:
        raise FusionError(
            tr("{label} is missing: choose a raster layer or a file.").format(label=label)
        )
    return names, layers


def _flatten(value: object, context: QgsProcessingContext) -> list:
    """Layers and non-empty texts in a value, lists and expressions resolved."""
    if isinstance(value, (list, tuple)):
        return [item for part in value for item in _flatten(part, context)]
    if isinstance(value, QgsProcessingOutputLayerDefinition):
        value = value.sink
    # What dialogs of newer versions hand over where the user set options of a layer.
    source = getattr(value, "source", None)
    if isinstance(source, QgsProperty):
        value = source
    if isinstance(value, QgsProperty):
        value = value.valueAsString(context.expressionContext(), "")[0]
    if isinstance(value, QgsMapLayer):
        return [value]
    return [value] if isinstance(value, str) and value else []


def _gdal_name(layer: QgsMapLayer, label: str) -> str:
    """Name under which GDAL opens a layer."""
    if not isinstance(layer, QgsRasterLayer) or layer.providerType() != "gdal":
        raise FusionError(
            tr(
                "{label}: the layer “{layer}” is not a raster that GDAL reads; export it as a "
                "GeoTIFF and use that.",
            ).format(label=label, layer=layer.name())
        )
    return re.sub(r"\|(option|credential):.*$", "", layer.source())
