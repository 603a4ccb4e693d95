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
    "nir": ("n", "nir", "nir1", "nearinfrared", "nearinfrared1", "nir01"),
    "nir2": ("nir2", "nearinfrared2"),
    "swir1": ("swir1", "swir", "shortwaveinfrared1"),
    "swir2": ("swir2", "shortwaveinfrared2"),
}
_CANONICAL = {word: name for name, words in _SYNONYMS.items() for word in words}


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
