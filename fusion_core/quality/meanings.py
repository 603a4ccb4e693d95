"""What each metric is called, which values are good, and what it says in one line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Meaning:
    """A metric for people.

    Attributes:
        title: name with unit.
        ideal: the value of a perfect image.
        line: what it measures, one sentence.
    """

    title: str
    ideal: float
    line: str


WITH_REFERENCE = {
    "SAM": Meaning(
        "SAM [°]", 0.0, "Angle between the spectra of fused and reference: are the colours right?"
    ),
    "ERGAS": Meaning(
        "ERGAS",
        0.0,
        "Relative error over all bands, in per cent of their means, divided by the ratio.",
    ),
    "Q2n": Meaning(
        "Q2n",
        1.0,
        "Agreement of mean, contrast and structure of all bands at once, block by block.",
    ),
    "SCC": Meaning("SCC", 1.0, "Correlation of the edges: is the detail where it belongs?"),
}
"""Metrics that need the true image; by name, as ``assess_reduced`` gives them."""

WITHOUT_REFERENCE = {
    "D_LAMBDA": Meaning(
        "D_lambda", 0.0, "Colours lost: fused seen through the MS sensor against MS itself (Khan)."
    ),
    "D_S": Meaning(
        "D_S", 0.0, "Detail lost: how the bands relate to PAN, compared with the same at MS scale."
    ),
    "HQNR": Meaning("HQNR", 1.0, "D_lambda and D_S in one figure: (1 - D_lambda)(1 - D_S)."),
    "D_SR": Meaning(
        "D_SR", 0.0, "Share of PAN that no mixture of the fused bands explains: detail missing."
    ),
    "RQNR": Meaning("RQNR", 1.0, "D_lambda and D_SR in one figure: (1 - D_lambda)(1 - D_SR)."),
}
"""Metrics from PAN and MS alone; by name, as ``assess_full`` gives them."""

MEANINGS = {**WITH_REFERENCE, **WITHOUT_REFERENCE}
"""All of them, in the order of tables."""
