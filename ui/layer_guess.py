"""Which layers of the project are likely PAN and MS."""

from __future__ import annotations

from qgis.core import QgsCoordinateTransform, QgsCsException, QgsProject, QgsRasterLayer


def guess_layers(project: QgsProject | None = None) -> dict[str, object]:
    """Parameters to open an algorithm's dialog with.

    PAN is the finest single-band raster that overlaps a raster with several, larger pixels.

    Args:
        project: where to look; None is the project that is open.

    Returns:
        ``{"PAN": id, "MS": [id]}``, or nothing where no pair is found.
    """
    project = project or QgsProject.instance()
    rasters = [
        layer
        for layer in project.mapLayers().values()
        if isinstance(layer, QgsRasterLayer) and layer.isValid() and layer.providerType() == "gdal"
    ]
    pairs = []
    for pan in rasters:
        if pan.bandCount() != 1:
            continue
        for ms in rasters:
            if ms.bandCount() < 2:
                continue
            size, box = _in_crs_of(pan, ms, project)
            ratio = size / pan.rasterUnitsPerPixelX() if pan.rasterUnitsPerPixelX() else 0
            if 1.5 <= ratio <= 6 and box is not None and box.intersects(pan.extent()):
                pairs.append((pan.rasterUnitsPerPixelX(), pan.id(), ms.id()))
    if not pairs:
        return {}
    _, pan_id, ms_id = min(pairs)
    return {"PAN": pan_id, "MS": [ms_id]}


def _in_crs_of(pan: QgsRasterLayer, ms: QgsRasterLayer, project: QgsProject):
    """Pixel width and extent of MS in the reference system of PAN; (0, None) where it has none."""
    if pan.crs() == ms.crs():
        return ms.rasterUnitsPerPixelX(), ms.extent()
    transform = QgsCoordinateTransform(ms.crs(), pan.crs(), project)
    try:
        box = transform.transformBoundingBox(ms.extent())
    except QgsCsException:
        return 0, None
    return box.width() / max(1, ms.width()), box
