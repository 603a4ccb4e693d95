"""Spectral bands by name: what users call them and what the models call them."""

from __future__ import annotations

import re
from collections.abc import Sequence

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


def canonical_band(name: str) -> str:
    """The one spelling of a band name, such as "nir" for "NIR", "Near Infrared" or "NIR-1"; "" if unknown."""
    word = re.sub(r"[^a-z0-9]", "", name.lower())
    return _CANONICAL.get(word) or _CANONICAL.get(word.replace("band", ""), "")


def band_order(wanted: Sequence[str], present: Sequence[str]) -> list[int] | None:
    """Where each wanted band is among the present ones, by name.

    Returns:
        Indices into ``present``, one for each wanted band, or None where a wanted band has no namesake.
    """
    names = [canonical_band(name) for name in present]
    wanted_names = [canonical_band(name) for name in wanted]
    if "" in wanted_names or any(names.count(name) != 1 for name in wanted_names):
        return None
    return [names.index(name) for name in wanted_names]
