"""Colour interpretation of bands by name."""

from __future__ import annotations

from osgeo import gdal

COLOURS = {
    "red": gdal.GCI_RedBand,
    "green": gdal.GCI_GreenBand,
    "blue": gdal.GCI_BlueBand,
}
"""What GDAL calls a band of this name, in lower case; programs then show such bands in true colour."""
if hasattr(gdal, "GCI_NIRBand"):
    COLOURS["nir"] = gdal.GCI_NIRBand
