"""Which MS band serves as which of a model's: by name where names are known, never against them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .bands import band_order, canonical_band, contradictions, given_bands, split_bands
from .errors import FusionError

BY_USER = "named by the user"
BY_IMAGE = "named by the image"
BY_ORDER = "taken in order"


@dataclass(frozen=True)
class BandMatch:
    """The MS bands in the order of a model's.

    Attributes:
        order: where each of the model's bands is among the MS bands.
        source: ``BY_USER``, ``BY_IMAGE`` or ``BY_ORDER``.
        model_bands: what the model calls its bands; empty where it does not say.
        notes: sentences the user should read.
    """

    order: tuple[int, ...]
    source: str
    model_bands: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """For provenance: "Blue=1, Green=2, Red=3, NIR=4 (named by the image)", MS bands counted from 1."""
        pairs = ", ".join(
            f"{name}={place + 1}" for name, place in zip(self.model_bands, self.order)
        )
        return f"{pairs} ({self.source})" if pairs else self.source

    def sentence(self, descriptions: Sequence[str]) -> str:
        """For the log: which MS band serves as which, with what the image calls it."""
        if not self.model_bands:
            return "The model does not name its bands: the MS bands are taken in order"
        parts = []
        for name, place in zip(self.model_bands, self.order):
            told = descriptions[place]
            same = not told or canonical_band(told) == canonical_band(name)
            parts.append(f"{name} is MS band {place + 1}{'' if same else f' ({told})'}")
        return f"Bands, {self.source}: {', '.join(parts)}"


def known_bands(
    descriptions: Sequence[str],
    spectral_bands: Sequence[str],
    bands: str | Sequence[str | float] | None,
) -> tuple[str, ...]:
    """What the MS bands are as far as it is known, in words for people and for ``canonical_band``.

    Args:
        descriptions: of the MS bands, "" where there is none.
        spectral_bands: what the image says they are, "" where it does not.
        bands: what the user says they are, see ``given_bands``; wins unless empty.

    Returns:
        One name each, "" where nothing is known.

    Raises:
        FusionError: ``bands`` cannot be used.
    """
    if has_bands(bands):
        return given_bands(bands, len(descriptions))
    return tuple(
        told if canonical_band(told) else found for told, found in zip(descriptions, spectral_bands)
    )


def has_bands(bands: str | Sequence[str | float] | None) -> bool:
    """Whether the user says anything about the bands."""
    return bands is not None and any(split_bands(bands))


def match_bands(
    model: str, wanted: Sequence[str], names: Sequence[str], by_user: bool
) -> BandMatch:
    """Match MS bands to a model's.

    Args:
        model: its id, for messages.
        wanted: the model's bands in the order of its channels; empty where it does not say.
        names: what the MS bands are, from ``known_bands``.
        by_user: whether the user said so.

    Returns:
        By name where all of the model's bands are found; in order, with a note, where names are missing and none of
        those that are there says otherwise.

    Raises:
        FusionError: the bands are not those of the model, or what is known of them contradicts their order.
    """
    in_order = tuple(range(len(names)))
    if not wanted:
        if by_user:
            raise FusionError(
                f"The model {model} does not say what its bands are, so BANDS cannot be matched: leave BANDS empty "
                "and put the MS bands in the model's order."
            )
        return BandMatch(in_order, BY_ORDER)
    expected = ", ".join(wanted)
    order = band_order(wanted, names)
    if order is not None:
        return BandMatch(tuple(order), BY_USER if by_user else BY_IMAGE, tuple(wanted))
    if all(names):
        advice = (
            "or other bands" if by_user else "or other bands, or give BANDS if the image is wrong"
        )
        raise FusionError(
            f"The MS bands are {', '.join(names)} but the model {model} is for {expected}: "
            f"choose another model {advice}."
        )
    wrong = contradictions(wanted, names)
    if wrong:
        told = ", ".join(f"band {place + 1} is {names[place]}" for place in wrong)
        raise FusionError(
            f"The model {model} takes {expected} but in the MS image {told}, and other bands do not say what they "
            "are: give BANDS, the name of each MS band in the order of the file."
        )
    who = "Not all MS bands" if any(names) else "The MS bands do not"
    said = f"{who} say what they are; taken to be {expected}, in this order."
    return BandMatch(in_order, BY_ORDER, tuple(wanted), (f"{said} Give BANDS if they are others.",))
