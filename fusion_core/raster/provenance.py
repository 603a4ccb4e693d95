"""What made a raster, kept inside it."""

from __future__ import annotations

from collections.abc import Mapping

from osgeo import gdal

from ..errors import FusionError
from .gdal_calls import quiet_gdal

DOMAIN = "DIFFUSION_PANSHARPENING"
"""GDAL metadata domain; GeoTIFF keeps it in the file, other formats in a .aux.xml beside it."""


def write_provenance(dataset: gdal.Dataset, metadata: Mapping[str, object]) -> None:
    """Set the provenance of a raster that is open for writing; None values are left out."""
    entries = {str(key): str(value) for key, value in metadata.items() if value is not None}
    if entries:
        dataset.SetMetadata(entries, DOMAIN)


def read_provenance(path: str) -> dict[str, str]:
    """The provenance of a raster, empty where it has none.

    Raises:
        FusionError: GDAL cannot open it.
    """
    with quiet_gdal():
        try:
            dataset = gdal.OpenEx(str(path), gdal.OF_RASTER)
        except RuntimeError:
            dataset = None
    if dataset is None:
        raise FusionError(
            f"{path} cannot be opened as a raster: check that it exists and is whole."
        )
    return dict(dataset.GetMetadata(DOMAIN) or {})
