"""Draws what ``benchmarks/steps.py`` measured: a row of curves for each group, a column for each metric.

The grey band is 1 % up and down of the middle.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.drawing import Rows, draw_csv, finish_panel, panel_grid, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    return draw_csv(__doc__, "steps", draw, arguments)


def draw(rows: Rows, path: Path) -> None:
    """Draws means over the scenes of each group.

    Args:
        rows: as ``benchmarks/steps.py`` writes them.
        path: the picture.
    """
    groups = list(dict.fromkeys(row["group"] for row in rows))
    models = list(dict.fromkeys(row["model"] for row in rows))
    calls = sorted({int(row["calls"]) for row in rows})
    figure, axes = panel_grid(len(groups), len(METRICS), 2.7, 0.9)
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
            finish_panel(panel)
            if group == groups[0]:
                panel.set_title(title, fontsize=10.5)
            if group == groups[-1]:
                panel.set_xlabel("network calls for each tile")
        line[0].set_ylabel(group, fontweight="bold")
    # At most four models side by side, the solvers of each one below the other.
    columns = -(-len(models) // -(-len(models) // 4))
    lines = -(-len(handles) // columns)
    figure.legend(handles.values(), handles.keys(), loc="upper center", ncol=columns, frameon=False)
    save(figure, path, legend=0.3 + 0.22 * lines, dpi=110)


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
