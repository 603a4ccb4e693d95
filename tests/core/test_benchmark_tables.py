"""What the benchmarks say about figures."""

from __future__ import annotations

import pytest

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
