"""Draws what ``benchmarks/steps.py`` measured: a row of curves for each group, a column for each metric.

The grey band is 1 % up and down of the middle.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOT = Path(__file__).resolve().parents[1]
METRICS = {
    "SAM": "SAM [°], lower is better",
    "ERGAS": "ERGAS, lower is better",
    "Q2n": "Q2n, higher is better",
    "SCC": "SCC, higher is better",
}
COLOURS = ("#08519c", "#e6550d", "#2ca25f", "#756bb1", "#c51b8a", "#636363")
LINES = {"ddim": ("o", "--"), "dpm++2m": ("s", "-")}


def main(arguments: list[str] | None = None) -> int:
    """Read the csv, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--csv", type=Path, default=ROOT / "build" / "steps.csv")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "steps.png")
    options = parser.parse_args(arguments)
    if not options.csv.exists():
        print(f"{options.csv} is not there: run benchmarks/steps.py first.", file=sys.stderr)
        return 1
    with options.csv.open(newline="") as file:
        rows = list(csv.DictReader(file))
    draw(rows, options.output)
    print(options.output)
    return 0


def draw(rows: list[dict[str, str]], path: Path) -> None:
    """Draws means over the scenes of each group.

    Args:
        rows: as ``benchmarks/steps.py`` writes them.
        path: the picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups = list(dict.fromkeys(row["group"] for row in rows))
    models = list(dict.fromkeys(row["model"] for row in rows))
    calls = sorted({int(row["calls"]) for row in rows})
    pyplot.rcParams.update({"font.family": "DejaVu Sans", "font.size": 10})
    figure, axes = pyplot.subplots(
        len(groups),
        len(METRICS),
        figsize=(3.5 * len(METRICS), 2.7 * len(groups) + 0.9),
        squeeze=False,
        sharex=True,
    )
    handles = {}
    for line, group in zip(axes, groups):
        curves = _curves([row for row in rows if row["group"] == group])
        for panel, (metric, title) in zip(line, METRICS.items()):
            for (model, solver, grid), points in curves.items():
                marker, style = LINES[solver]
                xs = sorted(points)
                (curve,) = panel.plot(
                    xs,
                    [fmean(float(row[metric]) for row in points[x]) for x in xs],
                    marker=marker,
                    linestyle=style,
                    color=COLOURS[models.index(model) % len(COLOURS)],
                    markersize=4.5,
                    linewidth=1.6,
                )
                handles.setdefault(f"{model}, {solver}, {grid} grid", curve)
            _widen(panel)
            panel.set_xscale("log", base=2)
            panel.set_xticks(calls, [str(number) for number in calls])
            panel.minorticks_off()
            panel.ticklabel_format(axis="y", useOffset=False)
            panel.grid(color="#dddddd", linewidth=0.6)
            panel.spines[["top", "right"]].set_visible(False)
            if group == groups[0]:
                panel.set_title(title, fontsize=10.5)
            if group == groups[-1]:
                panel.set_xlabel("network calls for each tile")
        line[0].set_ylabel(group, fontweight="bold")
    # At most four models side by side, the solvers of each one below the other.
    columns = -(-len(models) // -(-len(models) // 4))
    lines = -(-len(handles) // columns)
    head = (0.3 + 0.22 * lines) / figure.get_figheight()
    figure.legend(handles.values(), handles.keys(), loc="upper center", ncol=columns, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 1 - head))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _widen(panel: Axes) -> None:
    """Show 1 % up and down of what is drawn at least, so that noise does not look like a trend."""
    low, high = panel.get_ylim()
    middle = (low + high) / 2
    panel.axhspan(middle * 0.99, middle * 1.01, color="#f1f1f1", zorder=0)
    panel.set_ylim(min(low, middle * 0.98), max(high, middle * 1.02))


def _curves(
    rows: list[dict[str, str]],
) -> dict[tuple[str, str, str], dict[int, list[dict[str, str]]]]:
    """Rows by model, solver and grid, then by number of calls."""
    curves: dict[tuple[str, str, str], dict[int, list[dict[str, str]]]] = defaultdict(dict)
    for row in rows:
        points = curves[row["model"], row["solver"], row["grid"]]
        points.setdefault(int(row["calls"]), []).append(row)
    return curves


if __name__ == "__main__":
    sys.exit(main())
