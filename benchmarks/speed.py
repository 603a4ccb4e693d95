"""Speed and memory on two CPU cores: our networks and jobs against the published way of running the same weights.

Each part runs in a process of its own in which both sides take turns; ratios are medians over the turns.  Times are
measured with glibc's allocator as it is and with freed memory kept, since page faults are much of the published way's
time.  Where other programs run meanwhile, trust the ratios, not the seconds, and with ``--threads 1`` more than with
two: torch's threads wait for each other, and so for the one that another program holds up.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess  # nosec B404
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.scenes import DATA, ROOT
from benchmarks.tables import write_csv

ALLOCATORS = ("default", "raised")
PARTS = ("calls", "jobs", "memory", "quality")
TITLES = {
    "calls": "One network call, 8 bands, width 32, random weights, condition prepared",
    "jobs": "Whole job, 8 bands, installed weights",
}
COLUMNS = (
    "row",
    "at least",
    "aim",
    *(f"{what}, {kind}" for kind in ALLOCATORS for what in ("ratio", "baseline", "ours")),
    "note",
)

Figures = dict[str, object]


@dataclass(frozen=True)
class Goal:
    """What a row must reach and what it aims at, as ratios."""

    least: float
    aim: float


GOALS = {
    "SSDiff, float32": Goal(6.5, 12),
    "SSDiff, bfloat16": Goal(6.5, 12),
    "DDRF, float32": Goal(4, 6),
    "DDRF, bfloat16": Goal(4, 6),
    "SSDiff, executor started": Goal(70, 200),
    "SSDiff, executor not started": Goal(70, 200),
    "DDRF, executor started": Goal(25, 60),
    "DDRF, executor not started": Goal(25, 60),
    "SSDiff, executor": Goal(5, 10),
    "SSDiff, at once": Goal(5, 10),
}


def main(arguments: list[str] | None = None) -> int:
    """Print the tables and write all figures as csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the scenes")
    parser.add_argument("--csv", type=Path, default=ROOT / "build" / "speed.csv")
    parser.add_argument("--only", choices=PARTS, action="append", help="all parts by default")
    parser.add_argument("--threads", type=int, default=2, help="cores and CPU threads")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    options = parser.parse_args(arguments)
    parts = options.only or PARTS
    rows: list[Figures] = []
    try:
        about = _part(options, "machine")
        used, load = about["threads"], about["load"]
        print(f"{about['machine']}; {used} cores and threads used, load {load} before")
        for part in ("calls", "jobs"):
            if part in parts:
                rows += _timed_rows(options, part)
                write_csv(options.csv, rows, COLUMNS)
        if "memory" in parts:
            rows += _memory_rows(options, int(about["memory"]), int(about["affordable"]))
            write_csv(options.csv, rows, COLUMNS)
        if "quality" in parts:
            _show_quality(_part(options, "quality", "--raised"))
    except subprocess.CalledProcessError as error:
        print(error.stderr, file=sys.stderr)
        return 1
    if rows:
        print(f"\n{options.csv}")
    return 0


def _part(options: argparse.Namespace, *words: str) -> Figures:
    """Figures of a part of the benchmark, from a process of its own."""
    command = [sys.executable, str(ROOT / "benchmarks" / "speed_parts.py"), *words]
    command += ["--threads", str(options.threads), "--data", str(options.data)]
    command += ["--quick"] if options.quick else []
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    # Our own interpreter and script, arguments as a list, no shell.
    run = subprocess.run(  # nosec B603
        command, env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(run.stdout.splitlines()[-1])


def _timed_rows(options: argparse.Namespace, part: str) -> list[Figures]:
    """Lines on times, with both allocators."""
    measured = {
        kind: _part(options, part, *(["--raised"] if kind == "raised" else []))
        for kind in ALLOCATORS
    }
    rows = [_timed_row(name, measured) for name in measured["default"]]
    _show(TITLES[part], rows, "s")
    return rows


def _timed_row(name: str, measured: Mapping[str, Figures]) -> Figures:
    row = _goal_cells(name)
    for kind, figures in measured.items():
        figure = figures[name]
        row[f"ratio, {kind}"] = figure["ratio"]
        row[f"baseline, {kind}"] = figure["baseline"]
        row[f"ours, {kind}"] = figure["fast"]
    figure = measured["default"][name]
    row["note"] = _job_note(figure) if "share" in figure else ""
    return row


def _goal_cells(name: str) -> Figures:
    goal = GOALS.get(name)
    return {
        "row": name,
        "at least": goal.least if goal else "",
        "aim": goal.aim if goal else "",
    }


def _job_note(figure: Mapping[str, object]) -> str:
    runs = figure["baseline runs"]
    published = f"{figure['baseline calls']} calls on {_counted(runs)}"
    if figure["share"] < 1:
        timed = round(figure["share"] * runs)
        published += f", extrapolated from {timed}"
    ours = f"{figure['calls']} call(s) on {_counted(figure['runs'])}"
    return f"{figure['model']}: {published}; ours {ours}, {figure['precision']}"


def _counted(runs: int) -> str:
    return "one image" if runs == 1 else f"{runs} tiles"


def _memory_rows(options: argparse.Namespace, wanted: int, affordable: int) -> list[Figures]:
    """Lines on memory; where the published way does not fit, a straight line through two smaller batches."""

    def peak(way: str, tiles: int) -> float:
        return float(_part(options, "memory", "--way", way, "--tiles", str(tiles))["bytes"])

    note = ""
    baseline = peak("baseline", affordable)
    if affordable < wanted:
        half = affordable // 2
        slope = (baseline - peak("baseline", half)) / (affordable - half)
        baseline += slope * (wanted - affordable)
        note = f"published way extrapolated from {half} and {affordable} tiles"
    rows = []
    for way in ("executor", "at once"):
        ours = peak(way, wanted)
        rows.append(
            {
                **_goal_cells(f"SSDiff, {way}"),
                "ratio, default": baseline / ours,
                "baseline, default": baseline / 2**20,
                "ours, default": ours / 2**20,
                "note": note,
            }
        )
    _show(f"Peak memory of {wanted} tiles, SSDiff, installed weights", rows, "MiB")
    return rows


def _show(title: str, rows: list[Figures], unit: str) -> None:
    """Print lines with their goals, and whether each ratio reaches them, said once where all do the same."""
    print(f"\n{title}\n{'':<36}{'at least':>9}{'aim':>7}", end="")
    for kind in ALLOCATORS:
        if f"ratio, {kind}" in rows[0]:
            print(f"{f'{kind}: {unit}':>14}{'ours':>9}{'ratio':>8}", end="")
    print()
    for row in rows:
        goal = [f"{row[name]:g}x" if row[name] else "" for name in ("at least", "aim")]
        print(f"{row['row']:<36}{goal[0]:>9}{goal[1]:>7}", end="")
        words = []
        for kind in ALLOCATORS:
            if f"ratio, {kind}" in row:
                ratio = row[f"ratio, {kind}"]
                baseline, ours = row[f"baseline, {kind}"], row[f"ours, {kind}"]
                print(f"{baseline:>14.4g}{ours:>9.3g}{ratio:>7.1f}x", end="")
                words.append(verdict(row["row"], ratio))
        print(f"  {' / '.join(dict.fromkeys(words))}".rstrip())
        if row["note"]:
            print(f"    {row['note']}")
    sys.stdout.flush()


def verdict(name: str, ratio: float) -> str:
    """Whether a ratio reaches what its row must and aims at; "" for rows without a goal."""
    if name not in GOALS:
        return ""
    goal = GOALS[name]
    if ratio >= goal.aim:
        return "aim met"
    return "met" if ratio >= goal.least else "missed"


def _show_quality(rows: list[Figures]) -> None:
    print(f"\nQuality with the same weights\n{'':<36}{'SAM':>9}{'ERGAS':>9}")
    for row in rows:
        name = f"{row['scene']}, {row['network']}, {row['way']}"
        print(f"{name:<36}{row['SAM']:>9.4f}{row['ERGAS']:>9.4f}")


if __name__ == "__main__":
    sys.exit(main())
