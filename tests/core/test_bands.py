"""Bands by name, by wavelength, and as users give them."""

from __future__ import annotations

import pytest

from fusion_core.bands import (
    WAVELENGTHS,
    band_at,
    band_order,
    canonical_band,
    contradictions,
    described_band,
    given_bands,
    wavelength_nm,
)
from fusion_core.errors import FusionError


@pytest.mark.parametrize("name", WAVELENGTHS)
def test_every_band_is_known_by_name_and_by_wavelength(name):
    assert canonical_band(name) == name
    assert band_at(WAVELENGTHS[name]) == name


@pytest.mark.parametrize(
    ("sensor", "wavelengths", "names"),
    [
        (
            "Sentinel-2A",
            (442.7, 492.4, 559.8, 664.6, 704.1, 740.5, 782.8, 832.8, 864.7, 1613.7, 2202.4),
            "coastal blue green red rededge rededge2 rededge3 nir nirn swir1 swir2",
        ),
        (
            "WorldView-2",
            (427, 478, 546, 608, 659, 724, 833, 949),
            "coastal blue green yellow red rededge nir nir2",
        ),
        ("Landsat 7", (485, 560, 660, 835, 1650, 2220), "blue green red nir swir1 swir2"),
        ("IKONOS", (480, 551, 665, 805), "blue green red nir"),
        ("RapidEye", (475, 555, 657, 710, 805), "blue green red rededge nir"),
        ("GeoEye-1", (480, 545, 673, 850), "blue green red nir"),
    ],
)
def test_wavelengths_of_satellites(sensor, wavelengths, names):
    assert [band_at(value) for value in wavelengths] == names.split()


@pytest.mark.parametrize("wavelength", [float("nan"), 0, 380, 590, 765, 890, 1375, 1900, 10900])
def test_between_the_bands_there_is_none(wavelength):
    assert band_at(wavelength) == ""


@pytest.mark.parametrize(
    ("number", "unit", "expected"),
    [
        ("490.0", "Nanometers", 490),
        (0.49, "Micrometers", 490),
        ("0.48", "", 480),
        ("480", "Unknown", 480),
        ("0.865", "µm", 865),
        ("50", "nm", 50),
        ("3", "Index", None),
        ("12", "GHz", None),
        ("-490", "nm", None),
        ("nan", "", None),
        ("inf", "", None),
        ("blue", "", None),
    ],
)
def test_ways_to_write_a_wavelength(number, unit, expected):
    assert wavelength_nm(number, unit) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NIR-1", "nir"),
        ("Red Edge", "rededge"),
        ("Band 2 - Blue", "blue"),
        ("B08 (Near Infrared)", "nir"),
        ("Blue (450-515 nm)", "blue"),
        ("B2, central wavelength 490 nm", "blue"),
        ("B8A, central wavelength 865 nm", "nirn"),
        ("0.66 Micrometers", "red"),
        ("Band 3 (559.8 Nanometers)", "green"),
        ("Red: 655 nm", "red"),
        # Ranges alone, gaps, numbers that sensors use differently, and what is no band.
        ("450-515 nm", ""),
        ("590 nm", ""),
        ("B4", ""),
        ("Band 4", ""),
        ("4", ""),
        ("490", ""),
        ("N/A", ""),
        ("Band 2 (B)", ""),
        ("Red, NIR", ""),
        ("Red/NIR ratio", ""),
        ("NDVI (Red, NIR)", ""),
        ("Thermal 660 nm", ""),
        ("", ""),
    ],
)
def test_descriptions(text, expected):
    assert described_band(text) == expected


def test_given_by_the_user():
    expected = ("blue", "green", "red", "nir")
    for given in (
        "Blue,Green,Red,NIR",
        " B; G; R; N ",
        "480, 550, 660, 835",
        "0.48,0.55,0.66,0.835",
        "480 nm,green,0.66 um,Near Infrared",
        ["blue", "green", "red", "nir"],
        (480, 550.0, 660, 835),
    ):
        assert given_bands(given, 4) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Blue,Green,Red", r"BANDS has 3 name\(s\) but the MS image has 4"),
        ("Blue,Green,Red,NIR,", r"BANDS has 5 name\(s\)"),
        ("Blue,Green,Red,Blau", "BANDS has Blau, which is no known band"),
        ("480,550,660,1375", "BANDS has 1375, which is no known band"),
        ("Blue,,Red,NIR", "BANDS has an empty entry"),
        ("Blue,480,Red,NIR", "BANDS has Blue and 480, which are the same band"),
    ],
)
def test_refused_of_the_user(given, expected):
    with pytest.raises(FusionError, match=expected):
        given_bands(given, 4)


def test_order_by_name():
    wanted = ("Blue", "Green", "Red", "NIR")
    assert band_order(wanted, ("r", "NIR-1", "b", "g")) == [2, 3, 0, 1]
    assert band_order(wanted, ("blue", "green", "red", "nirn")) == [0, 1, 2, 3]
    assert band_order(wanted, ("nirn", "nir", "blue", "green", "red")) == [2, 3, 4, 1]
    for present in (
        ("blue", "green", "red", "swir1"),
        ("blue", "green", "red", "red"),
        ("blue", "green", "red", ""),
        ("blue", "green", "red", "nirn", "nirn"),
    ):
        assert band_order(wanted, present) is None
    assert band_order(("NIR", "NIRn"), ("nirn", "blue")) is None
    assert band_order(("NIRn",), ("nir",)) is None


def test_contradictions():
    wanted = ("Blue", "Green", "Red", "NIR")
    assert contradictions(wanted, ("", "", "", "")) == []
    assert contradictions(wanted, ("blue", "", "", "nirn")) == []
    assert contradictions(wanted, ("red", "green", "blue", "")) == [0, 2]
    assert contradictions(wanted, ("", "", "", "swir1")) == [3]
