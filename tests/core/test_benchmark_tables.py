"""What the benchmarks say about figures."""

from __future__ import annotations

import csv
import struct

import pytest

from benchmarks import draw_steps
from benchmarks.steps import COLUMNS, cheapest
from benchmarks.tables import bars, best_of, means, standing, table

CLASSICAL = {
    "one": {"SAM": 2.0, "ERGAS": 3.0, "Q2n": 0.80},
    "other": {"SAM": 2.5, "ERGAS": 2.0, "Q2n": 0.90},
}


def test_means_over_scenes():
    figures = [{"SAM": 1.0, "Q2n": 0.5}, {"SAM": 3.0, "Q2n": 0.7}]
    assert means(figures, ("SAM", "Q2n")) == pytest.approx({"SAM": 2.0, "Q2n": 0.6})


def test_the_best_depends_on_the_sense_of_the_metric():
    assert [best_of(CLASSICAL, metric) for metric in ("SAM", "ERGAS", "Q2n")] == [
        "one",
        "other",
        "other",
    ]
    assert bars(CLASSICAL) == "SAM 2.0000 (one), ERGAS 2.0000 (other), Q2n 0.9000 (other)"


def test_table_marks_the_best_of_each_column():
    lines = table("Title", CLASSICAL, ("SAM", "ERGAS")).splitlines()
    assert [line.split() for line in lines] == [
        ["Title"],
        ["SAM", "ERGAS"],
        ["one", "2.0000*", "3.0000"],
        ["other", "2.5000", "2.0000*"],
    ]
    assert "*" not in table("Title", CLASSICAL, ("SAM", "ERGAS"), marked=False)


def test_the_bar_is_the_best_of_every_column():
    good = {"SAM": 1.78, "ERGAS": 1.66, "Q2n": 0.91}
    assert standing(good, CLASSICAL, 0.10) == "SAM -11.0 %, ERGAS -17.0 %, Q2n +1.1 %: aim met"
    assert standing(good, CLASSICAL, 0.15).endswith("aim missed in SAM")
    even = {"SAM": 1.0, "ERGAS": 2.5, "Q2n": 0.90}
    assert standing(even, CLASSICAL, 0.15).endswith("aim missed in ERGAS, Q2n")


def test_cheapest_setting_is_near_the_best_in_every_metric():
    results = {
        "25 calls": {"SAM": 2.0, "ERGAS": 3.0, "Q2n": 0.900},
        "4 calls": {"SAM": 2.01, "ERGAS": 3.02, "Q2n": 0.895},
        "1 call": {"SAM": 2.0, "ERGAS": 3.1, "Q2n": 0.900},
    }
    calls = {"25 calls": 25, "4 calls": 4, "1 call": 1}
    assert cheapest(results, calls) == "4 calls"
    torn = {
        "a": {"SAM": 1.0, "ERGAS": 2.0, "Q2n": 0.9},
        "b": {"SAM": 2.0, "ERGAS": 1.0, "Q2n": 0.9},
    }
    assert cheapest(torn, {"a": 1, "b": 2}) is None


def test_steps_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    figures = tmp_path / "steps.csv"
    with figures.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="1")
        writer.writeheader()
        for model in ("one", "other"):
            for solver in ("ddim", "dpm++2m"):
                for calls in (1, 4):
                    writer.writerow(
                        {"group": "IKONOS", "model": model, "solver": solver, "calls": calls}
                    )
    picture = tmp_path / "steps.png"
    assert draw_steps.main(["--csv", str(figures), "--output", str(picture)]) == 0
    width, height = struct.unpack(">II", picture.read_bytes()[16:24])
    assert width > 1000 and height > 200
    assert draw_steps.main(["--csv", str(tmp_path / "none.csv"), "--output", str(picture)]) == 1
