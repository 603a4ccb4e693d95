"""What a training did, as a page that is one file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from .charts import line_chart
from .quality.meanings import WITH_REFERENCE
from .report_page import html_page, picture_row, topic_table
from .weights import METHOD_TITLES

if TYPE_CHECKING:
    from .training_job import TrainingReport

FIGURES = ("SAM", "ERGAS", "Q2n")
_LABELS = {"bicubic": "bicubic interpolation", "base": "base model", "trained": "trained model"}
_PICTURES = {**_LABELS, "reference": "reference"}


def training_page(report: TrainingReport, version: str) -> str:
    """The report as HTML that needs nothing beside it.

    Args:
        report: what ``run_training`` gave back.
        version: of the software, for the foot of the page.
    """
    title = "Training on own scenes"
    note = f"{METHOD_TITLES[report.method]}, model {report.model}: {_extent(report)}."
    sections = [
        f'<p class="verdict">{escape(report.why)}</p>',
        "<h2>Figures on the held-out quarter</h2>\n<p>The quarter of each scene that the training never saw, at reduced"
        " resolution, so that the MS image itself is the truth. The best of each column is marked; the written model is"
        f" the {escape(_LABELS[report.kept])}.</p>",
        f'<div class="wide">{_table(report)}</div>',
        "<h2>Course of the training</h2>",
        f'<div class="pictures">{_charts(report)}</div>',
    ]
    shown = [name for name in _PICTURES if name in report.pictures]
    if shown:
        sections += [
            "<h2>Pictures</h2>\n<p>Part of the held-out quarter, pixel by pixel, all at the same stretch.</p>",
            picture_row((_PICTURES[name], report.pictures[name]) for name in shown),
        ]
    sections += [
        "<h2>What the figures mean</h2>",
        topic_table({WITH_REFERENCE[name].title: WITH_REFERENCE[name].line for name in FIGURES}),
        "<h2>Settings</h2>",
        topic_table(report.settings),
    ]
    return html_page(title, note, sections, version)


def _extent(report: TrainingReport) -> str:
    """How long the training was."""
    done = f"{report.iterations} iterations"
    if report.iterations < report.planned:
        done = f"{report.iterations} of {report.planned} iterations"
    minutes, seconds = divmod(round(report.seconds), 60)
    time = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    return f"{done} in {time}{', cancelled' if report.cancelled else ''}"


def _table(report: TrainingReport) -> str:
    titles = "".join(
        f"<th>{escape(WITH_REFERENCE[name].title)} {'↓' if WITH_REFERENCE[name].ideal == 0 else '↑'}</th>"
        for name in FIGURES
    )
    best = {name: min(_miss(row, name) for row in report.table.values()) for name in FIGURES}
    lines = []
    for label, row in report.table.items():
        cells = "".join(
            f'<td class="best">{row[name]:.4f}</td>'
            if _miss(row, name) == best[name]
            else f"<td>{row[name]:.4f}</td>"
            for name in FIGURES
        )
        kept = " <small>(written)</small>" if label == report.kept else ""
        lines.append(f"<tr><td>{escape(_LABELS.get(label, label))}{kept}</td>{cells}</tr>")
    return f"<table><thead><tr><th>Method</th>{titles}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _miss(row: Mapping[str, float], name: str) -> float:
    """How far a figure is from perfect, to the digits of the table: what looks the same is the same."""
    miss = round(abs(row[name] - WITH_REFERENCE[name].ideal), 4)
    # Weights that broke down have no figures.
    return miss if math.isfinite(miss) else math.inf


def _charts(report: TrainingReport) -> str:
    """The loss, and the figures at each validation."""
    lines = {"Training loss (L1, running mean)": report.losses}
    for name in FIGURES:
        title = f"{WITH_REFERENCE[name].title}, held-out quarter"
        lines[title] = [(entry["iteration"], entry[name]) for entry in report.history]
    return "".join(
        f"<figure>{line_chart(title, 'iteration', points)}</figure>"
        for title, points in lines.items()
        if any(math.isfinite(value) for _, value in points)
    )
