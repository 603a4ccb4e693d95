"""An assessment as a page that is one file, and as a table."""

from __future__ import annotations

import csv
import io
import os
from html import escape
from typing import TYPE_CHECKING

from .quality.meanings import MEANINGS
from .report_page import html_page, picture_row, topic_table

if TYPE_CHECKING:
    from .assess import AssessedImage, Assessment


def report_page(assessment: Assessment, version: str) -> str:
    """The assessment as HTML that needs nothing beside it.

    Args:
        assessment: what ``assess`` found.
        version: of the software, for the foot of the page.
    """
    metrics = metrics_of(assessment)
    count = len(assessment.images)
    note = f"{count} fused image{'s' * (count > 1)}, {assessment.settings['Area']}."
    if count > 1:
        note += " The best of each column is marked."
    sections = (
        f'<div class="wide">{_table(assessment, metrics)}</div>',
        "<h2>Pictures</h2>\n<p>The middle of the area, pixel by pixel, all colours at the same stretch.</p>",
        picture_row((picture.label, picture.pixels) for picture in assessment.pictures),
        f'<h2>What the figures mean</h2>\n<table class="list">{_meanings(metrics)}</table>',
        "<h2>Settings</h2>",
        topic_table({**assessment.settings, **_files(assessment)}),
    )
    return html_page("Quality of pansharpened images", note, sections, version)


def report_table(assessment: Assessment) -> str:
    """The figures as comma-separated values, a line for each image."""
    metrics = metrics_of(assessment)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", *metrics, "path"])
    for image in assessment.images:
        figures = [format(image.figures[name], ".6g") for name in metrics]
        writer.writerow([image.label, *figures, image.path])
    return text.getvalue()


def metrics_of(assessment: Assessment) -> list[str]:
    """Names of the metrics that were measured, in the order of tables."""
    return [name for name in MEANINGS if name in assessment.images[0].figures]


def _table(assessment: Assessment, metrics: list[str]) -> str:
    titles = "".join(
        f"<th>{escape(MEANINGS[name].title)} {'↓' if MEANINGS[name].ideal == 0 else '↑'}</th>"
        for name in metrics
    )
    best = {name: _best(assessment.images, name) for name in metrics}
    lines = []
    for image in assessment.images:
        cells = "".join(
            f'<td class="best">{image.figures[name]:.4f}</td>'
            if image.label in best[name]
            else f"<td>{image.figures[name]:.4f}</td>"
            for name in metrics
        )
        lines.append(f"<tr><td>{escape(image.label)}</td>{cells}</tr>")
    ideal = "".join(f"<td><small>{MEANINGS[name].ideal:g}</small></td>" for name in metrics)
    lines.append(f"<tr><td><small>perfect</small></td>{ideal}</tr>")
    head = f"<thead><tr><th>Image</th>{titles}</tr></thead>"
    return f"<table>{head}<tbody>{''.join(lines)}</tbody></table>"


def _best(images: tuple[AssessedImage, ...], name: str) -> set[str]:
    """Labels of the images nearest to perfect, to the digits shown; none where there is one image only."""
    if len(images) < 2:
        return set()
    misses = {
        image.label: round(abs(image.figures[name] - MEANINGS[name].ideal), 4) for image in images
    }
    return {label for label, miss in misses.items() if miss == min(misses.values())}


def _meanings(metrics: list[str]) -> str:
    return "".join(
        f"<tr><th>{escape(MEANINGS[name].title)}</th><td>{escape(MEANINGS[name].line)}"
        f" Perfect: {MEANINGS[name].ideal:g}.</td></tr>"
        for name in metrics
    )


def _files(assessment: Assessment) -> dict[str, str]:
    return {image.label: os.fspath(image.path) for image in assessment.images}
