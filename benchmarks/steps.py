"""Quality against the number of network calls, for both solvers, on real scenes with a known truth.

Writes a csv that ``benchmarks/draw_steps.py`` makes a picture of.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.judging import METRICS, judge_reduced
from benchmarks.scenes import Group, run_model
from benchmarks.settings import Results, Row, measure_settings, open_scenes, setting_options
from benchmarks.tables import JUDGED, LOWER_IS_BETTER, Figures, best_of, means, table
from fusion_core.weights import ModelFile

CALLS = (1, 2, 4, 8, 16, 25)
SOLVERS = (("ddim", "uniform"), ("dpm++2m", "logsnr"))
"""Solvers with the time grid each is meant for."""
COLUMNS = ("group", "scene", "model", "solver", "grid", "calls", *METRICS, "seconds")
FEW = 2
"""Scenes of a group that are measured unless all are asked for."""
NEAR = 0.01
"""Part of the best value within which a setting counts as good as the best."""


def main(arguments: list[str] | None = None) -> int:
    """Print a table for each model and group, and write all figures as csv."""
    parser = setting_options(__doc__, "steps", FEW)
    parser.add_argument("--steps", type=int, action="append", help=f"{CALLS} by default")
    return measure_settings(parser.parse_args(arguments), COLUMNS, _measured, _setting, _report)


def _measured(model: ModelFile, group: Group, options: argparse.Namespace) -> Iterator[Row]:
    """Figures of a model on the scenes of a group, one setting after another."""
    for scene in open_scenes(options, group, FEW):
        judge = judge_reduced(scene, group)
        for solver, grid in SOLVERS:
            for calls in options.steps or CALLS:
                image, done = run_model(
                    model, scene, options, steps=calls, solver=solver, grid=grid
                )
                yield {
                    "group": group.title,
                    "scene": scene.name,
                    "model": model.card.id,
                    "solver": solver,
                    "grid": grid,
                    "calls": calls,
                    **judge(image),
                    "seconds": done.seconds,
                }


def _setting(row: Row) -> str:
    return f"{row['solver']}, {row['grid']} grid, {row['calls']} call(s)"


def _report(title: str, results: Results) -> str:
    average = {name: means(figures, METRICS) for name, figures in results.items()}
    calls = {name: int(figures[0]["calls"]) for name, figures in results.items()}
    choice = cheapest(average, calls)
    said = f"within {NEAR:.0%} of the best {', '.join(JUDGED)}".replace("%", " %")
    if choice is None:
        return f"{table(title, average, METRICS)}\nno one setting is {said}"
    return f"{table(title, average, METRICS)}\ncheapest {said}: {choice}"


def cheapest(results: Mapping[str, Figures], calls: Mapping[str, int]) -> str | None:
    """The setting with the fewest calls among those within 1 % of the best in SAM, ERGAS and Q2n.

    Args:
        results: figures of each setting.
        calls: network calls of each setting; of equally many the first counts.

    Returns:
        The setting, None where no single one is that near in all three.
    """
    near = []
    for name, figures in results.items():
        good = True
        for metric in JUDGED:
            best = results[best_of(results, metric)][metric]
            if metric in LOWER_IS_BETTER:
                good &= figures[metric] <= (1 + NEAR) * best
            else:
                good &= figures[metric] >= (1 - NEAR) * best
        if good:
            near.append(name)
    return min(near, key=calls.__getitem__, default=None)


if __name__ == "__main__":
    sys.exit(main())
