"""Tables of figures as text and csv, and where a model stands beside the classical methods."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

LOWER_IS_BETTER = ("SAM", "ERGAS", "D_LAMBDA", "D_S", "D_SR")
JUDGED = ("SAM", "ERGAS", "Q2n")
"""Metrics of the aims."""

Figures = Mapping[str, float]


def means(figures: Sequence[Figures], metrics: Iterable[str]) -> dict[str, float]:
    """Mean of each metric over scenes."""
    return {metric: statistics.fmean(each[metric] for each in figures) for metric in metrics}


def best_of(results: Mapping[str, Figures], metric: str) -> str:
    """The method with the best value of a metric."""
    choose = min if metric in LOWER_IS_BETTER else max
    return choose(results, key=lambda method: results[method][metric])


def table(
    title: str, results: Mapping[str, Figures], metrics: Sequence[str], marked: bool = True
) -> str:
    """One method a line; where ``marked`` is set, * stands behind the best of each column."""
    best = {metric: best_of(results, metric) if marked else "" for metric in metrics}
    width = max(map(len, results))
    lines = [title, " " * width + "".join(f"{metric:>10}" for metric in metrics)]
    for method, figures in results.items():
        cells = "".join(
            f"{figures[metric]:>10.4f}{'*' if best[metric] == method else ' '}"[1:]
            for metric in metrics
        )
        lines.append(f"{method:<{width}} {cells}".rstrip())
    return "\n".join(lines)


def standing(model: Figures, classical: Mapping[str, Figures], aim: float) -> str:
    """How a model differs from the best classical value of each metric, and whether it reaches the aim.

    The bar is the best value in each column, whichever method it belongs to; no single method need reach all of them.

    Args:
        model: its figures.
        classical: figures of each classical method.
        aim: share by which SAM and ERGAS are to be lower; Q2n is to be higher.
    """
    parts, missed = [], []
    for metric in JUDGED:
        bar = classical[best_of(classical, metric)][metric]
        change = model[metric] / bar - 1
        parts.append(f"{metric} {change:+.1%}".replace("%", " %"))
        if not (change <= -aim if metric in LOWER_IS_BETTER else change > 0):
            missed.append(metric)
    verdict = f"missed in {', '.join(missed)}" if missed else "met"
    return f"{', '.join(parts)}: aim {verdict}"


def bars(classical: Mapping[str, Figures]) -> str:
    """The best classical value of each judged metric and whose it is."""
    parts = []
    for metric in JUDGED:
        method = best_of(classical, metric)
        parts.append(f"{metric} {classical[method][metric]:.4f} ({method})")
    return ", ".join(parts)


def write_csv(path: Path, rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> None:
    """Rows as a csv file with a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
