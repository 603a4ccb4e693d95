"""An assessment as a page that is one file, and as a table."""

from __future__ import annotations

import csv
import io
import os
from html import escape
from typing import TYPE_CHECKING

from .errors import FusionError
from .png import png_address
from .quality.meanings import MEANINGS
from .raster.partial import PartialOutput

if TYPE_CHECKING:
    from .assess import AssessedImage, Assessment

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1.2rem; color: #1f2933; }
h1 { font-size: 1.7rem; margin-bottom: 0.2rem; }
h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #d9dee3; padding-bottom: 0.2rem; }
p.note { color: #52606d; margin-top: 0; }
p.foot { color: #52606d; margin-top: 1.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: 0.35rem 0.9rem; text-align: right; border-bottom: 1px solid #e4e7eb; white-space: nowrap; }
th { font-weight: 600; background: #f5f7fa; }
th:first-child, td:first-child { text-align: left; }
td { font-variant-numeric: tabular-nums; }
td.best { font-weight: 700; background: #e3f5e9; color: #14532d; }
td small { color: #52606d; }
.pictures { display: flex; flex-wrap: wrap; }
figure { margin: 0 1rem 1rem 0; }
figure img { display: block; image-rendering: pixelated; border-radius: 4px; }
figcaption { font-size: 0.9rem; margin-top: 0.3rem; color: #323f4b; }
table.list th, table.list td { text-align: left; vertical-align: top; white-space: normal; background: none; }
table.list th { padding-left: 0; white-space: nowrap; }
"""


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
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f"<title>Quality of pansharpened images</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
            f'<h1>Quality of pansharpened images</h1>\n<p class="note">{escape(note)}</p>',
            f'<div class="wide">{_table(assessment, metrics)}</div>',
            "<h2>Pictures</h2>\n<p>The middle of the area, pixel by pixel, all colours at the"
            f' same stretch.</p>\n<div class="pictures">{_pictures(assessment)}</div>',
            f'<h2>What the figures mean</h2>\n<table class="list">{_meanings(metrics)}</table>',
            f'<h2>Settings</h2>\n<table class="list">{_settings(assessment)}</table>',
            f'<p class="foot">Diffusion Pansharpening {escape(version)}</p>\n</body>\n</html>\n',
        ]
    )


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


def write_text(path: str, text: str) -> None:
    """Write a file that appears under its name when it is whole.

    Raises:
        FusionError: nothing can be written there.
    """
    partial = PartialOutput(path)
    try:
        with open(partial.path, "w", encoding="utf-8", newline="") as file:
            file.write(text)
    except OSError as error:
        partial.discard()
        raise FusionError(
            f"{path} cannot be written ({(error.strerror or str(error)).lower()}): choose another folder."
        ) from error
    except BaseException:
        partial.discard()
        raise
    partial.publish()


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


def _pictures(assessment: Assessment) -> str:
    figures = []
    for picture in assessment.pictures:
        height, width = picture.pixels.shape[:2]
        # Small scenes are shown larger, by whole pixels.
        zoom = max(1, 300 // max(height, width))
        label = escape(picture.label)
        figures.append(
            f'<figure><img src="{png_address(picture.pixels)}" width="{width * zoom}" height="{height * zoom}"'
            f' alt="{label}"><figcaption>{label}</figcaption></figure>'
        )
    return "".join(figures)


def _meanings(metrics: list[str]) -> str:
    return "".join(
        f"<tr><th>{escape(MEANINGS[name].title)}</th><td>{escape(MEANINGS[name].line)}"
        f" Perfect: {MEANINGS[name].ideal:g}.</td></tr>"
        for name in metrics
    )


def _settings(assessment: Assessment) -> str:
    files = {image.label: os.fspath(image.path) for image in assessment.images}
    return "".join(
        f"<tr><th>{escape(topic)}</th><td>{escape(text)}</td></tr>"
        for topic, text in {**assessment.settings, **files}.items()
    )
