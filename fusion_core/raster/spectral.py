"""Which spectral band a raster band is, from everything that GDAL knows about it."""

from __future__ import annotations

import os
import re

from osgeo import gdal

from ..bands import band_at, described_band, wavelength_nm

_COLOURS = {
    "GCI_RedBand": "red",
    "GCI_GreenBand": "green",
    "GCI_BlueBand": "blue",
    # Since GDAL 3.10.
    "GCI_CoastalBand": "coastal",
    "GCI_RedEdgeBand": "rededge",
    "GCI_NIRBand": "nir",
}
BAND_OF_COLOUR = {
    getattr(gdal, constant): band for constant, band in _COLOURS.items() if hasattr(gdal, constant)
}
"""What GDAL's colour interpretations say of a band."""

_WAVELENGTHS = ("wavelength", "wavelengths", "central_wavelength", "center_wavelength")
_UNITS = ("wavelength_units", "wavelength_unit", "wavelengths_units", "wavelengths_unit")

_SENTINEL2 = re.compile(r"T\d{2}[A-Z]{3}_\d{8}T\d{6}_B(\d[\dA])(_\d0m)?\.\w+", re.IGNORECASE)
_LANDSAT = re.compile(
    r"L([COTEM])(0[4-9])_L\d\w{2}_\d{6}_\d{8}_\d{8}_\d{2}_\w{2}_(?:SR_|TOA_)?B(\d{1,2})\.\w+",
    re.IGNORECASE,
)
_SENTINEL2_BANDS = {
    "01": "coastal",
    "02": "blue",
    "03": "green",
    "04": "red",
    "05": "rededge",
    "06": "rededge2",
    "07": "rededge3",
    "08": "nir",
    "8A": "nirn",
    "11": "swir1",
    "12": "swir2",
}
_TM_BANDS = {"1": "blue", "2": "green", "3": "red", "4": "nir", "5": "swir1", "7": "swir2"}
_OLI_BANDS = {
    "1": "coastal",
    "2": "blue",
    "3": "green",
    "4": "red",
    "5": "nir",
    "6": "swir1",
    "7": "swir2",
}
_LANDSAT_BANDS = {
    ("T", "04"): _TM_BANDS,
    ("T", "05"): _TM_BANDS,
    ("E", "07"): _TM_BANDS,
    ("C", "08"): _OLI_BANDS,
    ("O", "08"): _OLI_BANDS,
    ("C", "09"): _OLI_BANDS,
    ("O", "09"): _OLI_BANDS,
}
"""By letter of the instruments and number of the satellite."""


def spectral_band(dataset: gdal.Dataset, band: gdal.Band) -> str:
    """The ``canonical_band`` that a band is by description, wavelength, the product's file name, or colour.

    Returns:
        "" where the band does not say.
    """
    by_name = _by_file_name(dataset.GetDescription() or "") if dataset.RasterCount == 1 else ""
    return (
        described_band(band.GetDescription() or "")
        or _by_metadata(dataset, band)
        or by_name
        # Last: GDAL takes any three bytes for red, green and blue.
        or BAND_OF_COLOUR.get(band.GetColorInterpretation(), "")
    )


def _by_metadata(dataset: gdal.Dataset, band: gdal.Band) -> str:
    """ENVI's entries, those of Sentinel-2 products, and those that GDAL defines itself."""
    entries = {key.lower(): value for key, value in (band.GetMetadata() or {}).items()}
    whole = {key.lower(): value for key, value in (dataset.GetMetadata() or {}).items()}
    found = [entries[key] for key in _WAVELENGTHS if key in entries]
    unit = next((source[key] for source in (entries, whole) for key in _UNITS if key in source), "")
    value = None
    if found:
        number, _, own_unit = found[0].strip().partition(" ")
        value = wavelength_nm(number, own_unit or unit)
    if value is None:
        imagery = band.GetMetadataItem("CENTRAL_WAVELENGTH_UM", "IMAGERY")
        value = wavelength_nm(imagery, "um") if imagery else None
    return "" if value is None else band_at(value)


def _by_file_name(path: str) -> str:
    """The band of a file that is named like a Sentinel-2 or Landsat product; band numbers alone say nothing."""
    name = os.path.basename(path)
    if match := _SENTINEL2.fullmatch(name):
        return _SENTINEL2_BANDS.get(match[1].upper(), "")
    if match := _LANDSAT.fullmatch(name):
        return _LANDSAT_BANDS.get((match[1].upper(), match[2]), {}).get(match[3].lstrip("0"), "")
    return ""
