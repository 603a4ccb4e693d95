"""Spectral bands by name and by wavelength: what users call them and what the models call them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .errors import FusionError

_SYNONYMS = {
    "coastal": ("ca", "coastal", "coastalblue", "coastalaerosol"),
    "blue": ("b", "blue"),
    "green": ("g", "green"),
    "yellow": ("y", "yellow"),
    "red": ("r", "red"),
    "rededge": ("re", "rededge", "rededge1", "re1"),
    "rededge2": ("rededge2", "re2"),
    "rededge3": ("rededge3", "re3"),
    "nir": ("n", "nir", "nir1", "nearinfrared", "nearinfrared1", "nir01"),
    "nirn": ("nirn", "nirnarrow", "narrownir"),
    "nir2": ("nir2", "nearinfrared2"),
    "swir1": ("swir1", "swir", "shortwaveinfrared1"),
    "swir2": ("swir2", "shortwaveinfrared2"),
}
_CANONICAL = {word: name for name, words in _SYNONYMS.items() for word in words}

WAVELENGTHS = {
    "coastal": 440.0,
    "blue": 480.0,
    "green": 550.0,
    "yellow": 605.0,
    "red": 660.0,
    "rededge": 710.0,
    "rededge2": 740.0,
    "rededge3": 783.0,
    "nir": 835.0,
    "nirn": 865.0,
    "nir2": 945.0,
    "swir1": 1610.0,
    "swir2": 2200.0,
}
"""About where the bands lie, in nm; sensors differ by a few tens."""

KNOWN_BANDS = {
    4: ("Blue", "Green", "Red", "NIR"),
    8: ("Coastal", "Blue", "Green", "Yellow", "Red", "RedEdge", "NIR1", "NIR2"),
}
"""Band order of the data sets that the published codes train on, by number of bands."""

_LIMITS = {
    "coastal": (420, 455),
    "blue": (455, 515),
    "green": (515, 585),
    "yellow": (595, 625),
    "red": (625, 690),
    "rededge": (695, 730),
    "rededge2": (730, 760),
    "rededge3": (770, 795),
    "nir": (795, 855),
    "nirn": (855, 885),
    "nir2": (900, 1000),
    "swir1": (1550, 1700),
    "swir2": (2080, 2320),
}
"""Central wavelengths in nm, from and below, of the bands of today's satellites; between them lies no usual band."""

_UNITS = {
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), 1.0),
    **dict.fromkeys(("um", "\u00b5m", "\u03bcm", "micrometer", "micrometers"), 1000.0),
    **dict.fromkeys(("micrometre", "micrometres", "micron", "microns"), 1000.0),
}
_WITH_UNIT = re.compile(
    r"(\d+(?:\.\d+)?\s*[-\u2013]\s*)?(\d+(?:\.\d+)?)\s*"
    f"({'|'.join(sorted(_UNITS, key=len, reverse=True))})\\b",
    re.IGNORECASE,
)
_SEPARATORS = re.compile(r"[,;:()\[\]]|\s[-\u2013]\s|\s[-\u2013]$")
_NO_NAME = re.compile(
    r"(?:b|band)?[ _]*\d{1,2}a?|(?:central|center|centre)? ?wavelength", re.IGNORECASE
)


def canonical_band(name: str) -> str:
    """The one spelling of a band name, such as "nir" for "NIR", "Near Infrared" or "NIR-1"; "" if unknown."""
    word = re.sub(r"[^a-z0-9]", "", name.lower())
    return _CANONICAL.get(word) or _CANONICAL.get(word.replace("band", ""), "")


def band_at(wavelength: float) -> str:
    """The band whose limits hold a central wavelength in nm; "" between the bands, and for NaN."""
    for name, (low, high) in _LIMITS.items():
        if low <= wavelength < high:
            return name
    return ""


def wavelength_nm(number: str | float, unit: str = "") -> float | None:
    """A wavelength in nm.

    Args:
        number: as a file or a user gives it.
        unit: such as "nm", "Nanometers", "um" or "Micrometers"; without one, numbers below 100 are micrometres.

    Returns:
        None where this is no wavelength: no positive number, or a unit of another kind such as "Index" or "GHz".
    """
    try:
        value = float(number)
    except ValueError:
        return None
    word = unit.strip().lower()
    if word in ("", "unknown"):
        factor = 1000.0 if value < 100 else 1.0
    elif word in _UNITS:
        factor = _UNITS[word]
    else:
        return None
    # Rounded, so that 0.48 um is 480 nm on either side of a limit.
    return round(value * factor, 6) if 0 < value < float("inf") else None


def described_band(text: str) -> str:
    """The band that a description names or gives the wavelength of; "" where it does not, or not beyond doubt.

    Understands band names alone ("NIR-1"), with a number, a wavelength or a range of them ("B8 - Near Infrared",
    "Blue (450-515 nm)"), and wavelengths with their unit ("B2, central wavelength 490 nm", "0.49 Micrometers").
    """
    name = canonical_band(text)
    if name:
        return name
    lengths = _WITH_UNIT.findall(text)
    rest = _WITH_UNIT.sub(" ", text)
    parts = [part.strip() for part in _SEPARATORS.split(rest)]
    parts = [part for part in parts if part and not _NO_NAME.fullmatch(part)]
    if parts:
        # A single letter beside other things may be anything.
        return canonical_band(parts[0]) if len(parts) == 1 and len(parts[0]) > 1 else ""
    if len(lengths) != 1 or lengths[0][0]:
        return ""
    value = wavelength_nm(lengths[0][1], lengths[0][2])
    return "" if value is None else band_at(value)


def given_bands(given: str | Sequence[str | float], count: int) -> tuple[str, ...]:
    """What a user says the MS bands are.

    Args:
        given: names or central wavelengths (nm, or um below 100) in the order of the file; in one text they are
            separated by commas.
        count: number of MS bands.

    Returns:
        One ``canonical_band`` each.

    Raises:
        FusionError: not one for each band, one is not known, or one comes twice.
    """
    entries = split_bands(given)
    if len(entries) != count:
        raise FusionError(
            f"BANDS has {len(entries)} name(s) but the MS image has {count} band(s): give one for each, "
            "in the order of the file."
        )
    names = []
    for entry in entries:
        value = wavelength_nm(entry)
        name = described_band(entry) if value is None else band_at(value)
        if not name:
            raise FusionError(
                f"BANDS has {entry or 'an empty entry'}, which is no known band: use wavelengths of these or names such as "
                f"{', '.join(WAVELENGTHS)}."
            )
        if name in names:
            raise FusionError(
                f"BANDS has {entries[names.index(name)]} and {entry}, which are the same band: "
                "give each band once."
            )
        names.append(name)
    return tuple(names)


def split_bands(given: str | Sequence[str | float]) -> tuple[str, ...]:
    """The entries of a list of bands: one text, separated by commas, or one each."""
    parts = re.split(r"[,;]", given) if isinstance(given, str) else given
    return tuple(str(part).strip() for part in parts)


def band_order(wanted: Sequence[str], present: Sequence[str]) -> list[int] | None:
    """Where each wanted band is among the present ones, by name.

    Returns:
        Indices into ``present``, one for each wanted band, or None where a wanted band has no namesake.
    """
    names = [canonical_band(name) for name in present]
    order = []
    for name in map(canonical_band, wanted):
        name = _stand_in(name, names)
        if not name or names.count(name) != 1:
            return None
        order.append(names.index(name))
    return order if len(set(order)) == len(order) else None


def contradictions(wanted: Sequence[str], present: Sequence[str]) -> list[int]:
    """The places at which the present bands say that they are not the wanted ones of that place."""
    names = [canonical_band(name) for name in present]
    return [
        place
        for place, (name, there) in enumerate(zip(map(canonical_band, wanted), names))
        if there and _stand_in(name, names) != there
    ]


def _stand_in(wanted: str, names: Sequence[str]) -> str:
    """What serves as a wanted band: near infrared around 865 nm is all that some sensors have of it."""
    return "nirn" if wanted == "nir" and "nir" not in names and "nirn" in names else wanted
