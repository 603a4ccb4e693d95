"""Draws what ``benchmarks/margins.py`` measured: a row for each model and group, a column for each measure.

The grey band is 0.5 % up and down of the installed models' first setting, tiles of 64 pixels with a margin of 8.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean

ROOT = Path(__file__).resolve().parents[1]
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--csv", type=Path, default=ROOT / "build" / "margins.csv")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "margins.png")
    options = parser.parse_args(arguments)
    if not options.csv.exists():
        print(f"{options.csv} is not there: run benchmarks/margins.py first.", file=sys.stderr)
        return 1
    with options.csv.open(newline="") as file:
        rows = list(csv.DictReader(file))
    draw(rows, options.output)
    print(options.output)
    return 0


def draw(rows: list[dict[str, str]], path: Path) -> None:
    """Draws means over the scenes of each group.

    Args:
        rows: as ``benchmarks/margins.py`` writes them.
        path: the picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        lines[row["model"], row["group"]].append(row)
    margins = sorted({int(row["margin"]) for row in rows})
    pyplot.rcParams.update({"font.family": "DejaVu Sans", "font.size": 10})
    figure, axes = pyplot.subplots(
        len(lines),
        len(MEASURES),
        figsize=(3.5 * len(MEASURES), 2.3 * len(lines) + 0.8),
        squeeze=False,
        sharex=True,
    )
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
            panel.ticklabel_format(axis="y", useOffset=False)
            panel.grid(color="#dddddd", linewidth=0.6)
            panel.spines[["top", "right"]].set_visible(False)
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
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.4 / figure.get_figheight()))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
