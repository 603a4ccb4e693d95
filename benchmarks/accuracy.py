"""Quality on real scenes: interpolation, gdal_pansharpen, classical methods and the models, by sensor.

At reduced resolution against the truth, with ``--full`` at full resolution without one.  ``--gain`` measures instead
whether a factor on all numbers of a scene changes what a model reaches.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.baselines import bicubic, gdal_pansharpen
from benchmarks.classical import METHODS, Pair
from benchmarks.judging import FULL_METRICS, METRICS, judge_full, judge_reduced
from benchmarks.scenes import (
    FULL,
    REDUCED,
    ROOT,
    Group,
    add_options,
    chosen_folders,
    chosen_models,
    fits,
    open_scene,
    run_model,
)
from benchmarks.tables import Figures, bars, means, standing, table, write_csv
from fusion_core.errors import FusionError
from fusion_core.weights import ModelFile, read_model, update_card

SAME = 1e-4
"""Relative difference below which figures agree to four digits."""


def main(arguments: list[str] | None = None) -> int:
    """Print the tables and write the figures as csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    parser.add_argument("--full", action="store_true", help="at full resolution")
    parser.add_argument("--no-classical", action="store_true", help="leave those methods out")
    parser.add_argument("--gain", type=float, action="append", help="factors on all numbers")
    parser.add_argument(
        "--consistency",
        type=int,
        action="append",
        help="how often estimates are moved towards MS, to compare; the model's own by default",
    )
    parser.add_argument("--steps", type=int, action="append", help="network calls to compare")
    parser.add_argument("--solver", help="ddim or dpm++2m; the model's own by default")
    parser.add_argument("--grid", help="uniform or logsnr; the model's own by default")
    parser.add_argument(
        "--update-cards", action="store_true", help="write the figures into the models' cards"
    )
    parser.add_argument("--csv", type=Path, help="build/accuracy*.csv by default")
    options = parser.parse_args(arguments)
    if options.full and (options.gain or options.update_cards):
        parser.error("--full goes with neither --gain nor --update-cards")
    if options.update_cards and (options.consistency or options.precision != "auto"):
        parser.error(
            "--update-cards measures models as they run by themselves, without --consistency and --precision"
        )
    try:
        with tempfile.TemporaryDirectory() as folder:
            rows = _run(options, Path(folder))
    except FusionError as error:
        print(error, file=sys.stderr)
        return 1
    if rows:
        kind = "-full" if options.full else "-gain" if options.gain else ""
        path = options.csv or ROOT / "build" / f"accuracy{kind}.csv"
        metrics = FULL_METRICS if options.full else METRICS
        write_csv(path, rows, ("group", "scene", "method", *metrics))
        print(f"\n{path}")
    return 0


def _run(options: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    """Measure and print, group by group; the figures of each method on each scene."""
    models = chosen_models(options)
    if options.consistency:
        models = [_with_consistency(m, n, folder) for m in models for n in options.consistency]
    metrics = FULL_METRICS if options.full else METRICS
    rows = []
    for group in FULL if options.full else REDUCED:
        fitting = [model for model in models if fits(model.card, group)]
        folders = chosen_folders(options, group)
        if not folders or (options.gain and not fitting):
            print(f"{group.title}: {'no model' if folders else 'no scene'} here, left out")
            continue
        results: dict[str, list[Figures]] = {}
        for folder in folders:
            for name, figures in _measured(folder, group, fitting, options):
                results.setdefault(name, []).append(figures)
                scene = folder.parent.name
                rows.append({"group": group.title, "scene": scene, "method": name, **figures})
        average = {name: means(figures, metrics) for name, figures in results.items()}
        title = f"\n{group.title}, ratio {group.ratio}, {len(folders)} scene(s)"
        print(table(title, average, metrics, marked=not options.gain))
        if not fitting:
            print("no model for these bands and this ratio is here")
        for line in _remarks(average, group, options):
            print(line)
    return rows


def _measured(
    folder: Path, group: Group, models: list[ModelFile], options: argparse.Namespace
) -> Iterator[tuple[str, Figures]]:
    """Each method's name and figures on one scene."""
    if options.gain:
        yield from _with_gains(folder, group, models, options)
        return
    with open_scene(folder, group) as scene:
        judge = judge_full(scene, group) if options.full else judge_reduced(scene, group)
        yield "bicubic", judge(bicubic(scene.pan, scene.ms))
        yield "gdal_pansharpen", judge(gdal_pansharpen(scene.pan, scene.ms))
        if not options.no_classical:
            pair = Pair.read(scene.pan, scene.ms, group.sensor)
            for name, method in METHODS.items():
                yield name, judge(method(pair))
        for model in models:
            for steps in options.steps or [None]:
                image, done = run_model(
                    model, scene, options, steps=steps, solver=options.solver, grid=options.grid
                )
                figures = judge(image)
                if options.update_cards and steps is None:
                    card = read_model(model.path).card
                    rounded = {name: round(value, 4) for name, value in figures.items()}
                    update_card(model.path, metrics={**card.metrics, scene.name: rounded})
                yield f"{model.card.id}, {done.steps} call(s)", figures


def _with_consistency(model: ModelFile, rounds: int, folder: Path) -> ModelFile:
    """A copy of a model that moves its estimates towards MS so often."""
    name = f"{model.card.id}-consistency-{rounds}"
    path = folder / f"{name}.safetensors"
    shutil.copy(model.path, path)
    update_card(path, id=name, consistency=rounds)
    return read_model(path)


def _with_gains(
    folder: Path, group: Group, models: list[ModelFile], options: argparse.Namespace
) -> Iterator[tuple[str, Figures]]:
    """Each model's figures on float32 copies of a scene that differ by a factor, 1 first."""
    for model in models:
        for gain in (1.0, *options.gain):
            with open_scene(folder, group, gain) as scene:
                steps = options.steps[0] if options.steps else None
                image, _ = run_model(
                    model, scene, options, steps=steps, solver=options.solver, grid=options.grid
                )
                yield f"{model.card.id}, gain {gain:g}", judge_reduced(scene, group)(image)


def _remarks(
    average: dict[str, Figures], group: Group, options: argparse.Namespace
) -> Iterator[str]:
    """What to read from a table, line by line."""
    if options.gain:
        for name, figures in average.items():
            model, _, gain = name.rpartition(", gain ")
            plain = average[f"{model}, gain 1"]
            worst = max(abs(figures[metric] / plain[metric] - 1) for metric in METRICS)
            if gain != "1":
                verdict = "the same to 4 digits" if worst < SAME else "NOT the same"
                yield f"{name}: differs from gain 1 by {worst:.1e} at most, {verdict}"
        return
    classical = {name: figures for name, figures in average.items() if name in METHODS}
    if not classical or options.full:
        return
    yield f"best classical: {bars(classical)}"
    wanted = f"SAM and ERGAS {group.aim:.0%} lower, Q2n higher".replace("%", " %")
    for name, figures in average.items():
        if name not in METHODS and name not in ("bicubic", "gdal_pansharpen"):
            yield f"{name}: {standing(figures, classical, group.aim)} ({wanted})"


if __name__ == "__main__":
    sys.exit(main())
