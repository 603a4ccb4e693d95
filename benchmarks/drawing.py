"""What the pictures of measured figures have in common: a csv in, a grid of panels out."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy import ndarray

ROOT = Path(__file__).resolve().parents[1]

Rows = list[dict[str, str]]


def draw_csv(
    about: str | None,
    name: str,
    draw: Callable[[Rows, Path], None],
    arguments: Sequence[str] | None,
) -> int:
    """Read build/name.csv, write docs/name.png, unless the command line names others.

    Args:
        about: for people who ask for help.
        name: also of the benchmark that writes the csv.
        draw: makes the picture of the csv's rows.
        arguments: of the command line; the process's own if None.

    Returns:
        Exit code: 1 where there is no csv.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--csv", type=Path, default=ROOT / "build" / f"{name}.csv")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / f"{name}.png")
    options = parser.parse_args(arguments)
    if not options.csv.exists():
        print(f"{options.csv} is not there: run benchmarks/{name}.py first.", file=sys.stderr)
        return 1
    with options.csv.open(newline="") as file:
        rows = list(csv.DictReader(file))
    draw(rows, options.output)
    print(options.output)
    return 0


def panel_grid(lines: int, columns: int, height: float, head: float) -> tuple[Figure, ndarray]:
    """A figure and its panels, (lines, columns).

    Args:
        lines, columns: of panels.
        height: of a line, in inches.
        head: room for the legend and the last line's numbers, in inches.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.family": "DejaVu Sans", "font.size": 10})
    return pyplot.subplots(
        lines,
        columns,
        figsize=(3.5 * columns, height * lines + head),
        squeeze=False,
        sharex=True,
    )


def finish_panel(panel: Axes) -> None:
    """The y axis in full numbers, a light grid, no frame above and at the right."""
    panel.ticklabel_format(axis="y", useOffset=False)
    panel.grid(color="#dddddd", linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, path: Path, legend: float, dpi: int) -> None:
    """Write the picture, with ``legend`` inches free at its top."""
    from matplotlib import pyplot

    figure.tight_layout(rect=(0, 0, 1, 1 - legend / figure.get_figheight()))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi)
    pyplot.close(figure)
