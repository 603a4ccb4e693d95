"""Draws what ``benchmarks/margins.py`` measured: a row for each model and group, a column for each measure.

The grey band is 0.5 % up and down of the installed models' first setting, tiles of 64 pixels with a margin of 8.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.drawing import Rows, draw_csv, finish_panel, panel_grid, save

MEASURES = {
    "SAM": "SAM [°], lower is better",
    "ERGAS": "ERGAS, lower is better",
    "Q2n": "Q2n, higher is better",
    "seam": "seam energy, 1 is no seam",
}
FIRST = ("64", "8")
WIDTH = 0.005
COLOURS = {
    32: "#c51b8a", 48: "#756bb1", 64: "#000000", 96: "#08519c",
    128: "#2ca25f", 192: "#e6550d", 256: "#a6761d",
}  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Read the csv, write the picture."""
    return draw_csv(__doc__, "margins", draw, arguments)


def draw(rows: Rows, path: Path) -> None:
    """Draws means over the scenes of each group.

    Args:
        rows: as ``benchmarks/margins.py`` writes them.
        path: the picture.
    """
    lines: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        lines[row["model"], row["group"]].append(row)
    margins = sorted({int(row["margin"]) for row in rows})
    figure, axes = panel_grid(len(lines), len(MEASURES), 2.3, 0.8)
    handles = {}
    for number, ((model, group), measured) in enumerate(lines.items()):
        panels = axes[number]
        for panel, (measure, title) in zip(panels, MEASURES.items()):
            points: dict[int, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
            for row in measured:
                points[int(row["tile"])][int(row["margin"])].append(float(row[measure]))
            for tile, curve in sorted(points.items()):
                xs = sorted(curve)
                (drawn,) = panel.plot(
                    xs,
                    [fmean(curve[x]) for x in xs],
                    marker="o",
                    color=COLOURS.get(tile, "#636363"),
                    markersize=4,
                    linewidth=1.5,
                )
                handles.setdefault(tile, drawn)
            first = [
                float(row[measure]) for row in measured if (row["tile"], row["margin"]) == FIRST
            ]
            if first:
                middle = fmean(first)
                panel.axhspan(middle * (1 - WIDTH), middle * (1 + WIDTH), color="#ececec", zorder=0)
            panel.set_xticks(margins)
            finish_panel(panel)
            if number == 0:
                panel.set_title(title, fontsize=10.5)
            if number == len(lines) - 1:
                panel.set_xlabel("margin [PAN pixels]")
        panels[0].set_ylabel(f"{model}\n{group}", fontweight="bold")
    tiles = sorted(handles)
    figure.legend(
        [handles[tile] for tile in tiles],
        [f"tile {tile}" for tile in tiles],
        loc="upper center",
        ncol=len(tiles),
        frameon=False,
    )
    save(figure, path, legend=0.4, dpi=90)


if __name__ == "__main__":
    sys.exit(main())
