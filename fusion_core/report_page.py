"""What reports share: a page that is one file, with pictures and tables of topics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

import numpy as np

from .errors import FusionError
from .png import png_address
from .raster.partial import PartialOutput

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1.2rem; color: #1f2933; }
h1 { font-size: 1.7rem; margin-bottom: 0.2rem; }
h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #d9dee3; padding-bottom: 0.2rem; }
p.note { color: #52606d; margin-top: 0; }
p.verdict { font-size: 1.1rem; background: #f5f7fa; border-left: 4px solid #1d6fb8; padding: 0.6rem 1rem; }
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

_SHOWN = 300
"""Pixels on the screen that the longer side of a small picture has, about."""


def html_page(title: str, note: str, sections: Iterable[str], version: str) -> str:
    """A page that needs nothing beside it.

    Args:
        title: heading and title.
        note: one sentence under it, plain text.
        sections: HTML.
        version: of the software, for the foot of the page.
    """
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
            f'<h1>{escape(title)}</h1>\n<p class="note">{escape(note)}</p>',
            *sections,
            f'<p class="foot">Diffusion Pansharpening {escape(version)}</p>\n</body>\n</html>\n',
        ]
    )


def picture_row(pictures: Iterable[tuple[str, np.ndarray]]) -> str:
    """Pictures side by side.

    Args:
        pictures: label and pixels, as ``png.png`` takes them.
    """
    figures = []
    for label, pixels in pictures:
        height, width = pixels.shape[:2]
        # Small scenes are shown larger, by whole pixels.
        zoom = max(1, round(_SHOWN / max(height, width)))
        figures.append(
            f'<figure><img src="{png_address(pixels)}" width="{width * zoom}" height="{height * zoom}"'
            f' alt="{escape(label)}"><figcaption>{escape(label)}</figcaption></figure>'
        )
    return f'<div class="pictures">{"".join(figures)}</div>'


def topic_table(topics: Mapping[str, str]) -> str:
    """Text by topic, a line for each."""
    lines = (
        f"<tr><th>{escape(topic)}</th><td>{escape(text)}</td></tr>"
        for topic, text in topics.items()
    )
    return f'<table class="list">{"".join(lines)}</table>'


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
