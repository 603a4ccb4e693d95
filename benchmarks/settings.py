"""Measures one setting of the models after another on scenes with a known truth, for a table and a csv."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.scenes import (
    REDUCED,
    ROOT,
    Group,
    OpenScene,
    add_options,
    chosen_folders,
    chosen_models,
    fits,
    open_scene,
)
from benchmarks.tables import Figures, write_csv
from fusion_core.errors import FusionError
from fusion_core.weights import ModelFile

Row = dict[str, object]
Results = Mapping[Hashable, list[Figures]]
"""Figures of each setting, those of each scene."""


def setting_options(about: str | None, name: str, few: int) -> argparse.ArgumentParser:
    """The command line of a benchmark of settings.

    Args:
        about: for people who ask for help.
        name: of the csv in build.
        few: scenes of a group that are measured unless all are asked for.
    """
    parser = argparse.ArgumentParser(description=about)
    add_options(parser)
    parser.add_argument("--all", action="store_true", help=f"all scenes, not {few} of a group")
    parser.add_argument("--csv", type=Path, default=ROOT / "build" / f"{name}.csv")
    return parser


def open_scenes(options: argparse.Namespace, group: Group, few: int) -> Iterator[OpenScene]:
    """The scenes of a group that are here and wanted, each open until the next."""
    folders = chosen_folders(options, group)
    for folder in folders if options.all else folders[:few]:
        with open_scene(folder, group) as scene:
            yield scene


def measure_settings(
    options: argparse.Namespace,
    columns: Sequence[str],
    measured: Callable[[ModelFile, Group, argparse.Namespace], Iterator[Row]],
    setting: Callable[[Row], Hashable],
    report: Callable[[str, Results], str],
) -> int:
    """Print a report for each model and group, and write all figures as csv.

    Args:
        options: of the command line.
        columns: of the csv.
        measured: figures of a model on the scenes of a group, one setting after another.
        setting: which setting a row is of.
        report: of a title and the figures.

    Returns:
        Exit code.
    """
    rows: list[Row] = []
    try:
        for model in chosen_models(options):
            for group in REDUCED:
                if not fits(model.card, group):
                    continue
                results: dict[Hashable, list[Figures]] = {}
                for row in measured(model, group, options):
                    rows.append(row)
                    # A long run: what is measured so far stays.
                    write_csv(options.csv, rows, columns)
                    results.setdefault(setting(row), []).append(row)
                if results:
                    scenes = len(next(iter(results.values())))
                    title = (
                        f"\n{model.card.id} on {group.title}, ratio {group.ratio}, "
                        f"{scenes} scene(s)"
                    )
                    print(report(title, results), flush=True)
    except FusionError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"\n{options.csv}" if rows else "no scene for any model here")
    return 0
