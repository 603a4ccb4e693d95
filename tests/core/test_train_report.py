"""The page on a training, and its charts."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from fusion_core.charts import line_chart, ticks
from fusion_core.train_report import training_page
from fusion_core.training_job import TrainingReport


def figures(sam: float, ergas: float, q2n: float) -> dict[str, float]:
    return {"SAM": sam, "ERGAS": ergas, "Q2n": q2n}


def make_report(**changes: object) -> TrainingReport:
    given = {
        "output": "/a/adapted.safetensors",
        "model": "adapted",
        "method": "ddrf",
        "kept": "trained",
        "why": "The trained weights are better & so on.",
        "iterations": 20,
        "planned": 40,
        "seconds": 83.4,
        "cancelled": True,
        "history": [
            {"iteration": i, "seconds": i, "loss": None if not i else 0.1, **figures(3 - i, 2, 0.9)}
            for i in (0, 1, 2)
        ],
        "losses": [(1, 0.2), (2, 0.1)],
        "table": {
            "bicubic": figures(4.0, 3.0, 0.7),
            "MTF-GLP-HPM": figures(3.5, 2.5, 0.8),
            "base": figures(3.0, 2.0, 0.9),
            "trained": figures(2.0, 1.50001, 0.9),
        },
        "settings": {"scenes": "<a> & b.tif", "seed": "7"},
        "pictures": {
            name: np.full((32, 48, 3), value, np.uint8)
            for value, name in enumerate(("reference", "trained", "bicubic", "base"))
        },
    }
    return TrainingReport(**{**given, **changes})


def test_page_has_all_its_parts():
    page = training_page(make_report(), "1.2.3")
    assert "DDRF, model adapted: 20 of 40 iterations in 1 min 23 s, cancelled." in page
    assert '<p class="verdict">The trained weights are better &amp; so on.</p>' in page
    assert re.findall(r'alt="([^"]*)"', page) == [
        "bicubic interpolation",
        "base model",
        "trained model",
        "reference",
    ]
    assert page.count("<svg") == 4
    assert "<th>scenes</th><td>&lt;a&gt; &amp; b.tif</td>" in page
    assert "Diffusion Pansharpening 1.2.3" in page
    assert "http" not in page.replace('xmlns="http://www.w3.org/2000/svg"', "")


def test_the_best_of_each_column_is_marked():
    page = training_page(make_report(), "")
    rows = dict(re.findall(r"<tr><td>([^<]*).*?</td>(.*?)</tr>", page))
    assert rows["trained model "] == (
        '<td class="best">2.0000</td><td class="best">1.5000</td><td class="best">0.9000</td>'
    )
    # As good to the digits shown.
    assert rows["base model"] == "<td>3.0000</td><td>2.0000</td>" + '<td class="best">0.9000</td>'
    assert "trained model <small>(written)</small>" in page


def test_weights_that_broke_down_do_not_break_the_page():
    broken = figures(math.nan, math.inf, math.nan)
    history = [{"iteration": i, "seconds": 1, "loss": math.nan, **broken} for i in (0, 1)]
    report = make_report(history=history, losses=[], pictures={})
    report.table["trained"] = broken
    page = training_page(report, "")
    assert "<svg" not in page and "<img" not in page
    assert '<td class="best">3.0000</td><td class="best">2.0000</td>' in page


@pytest.mark.parametrize(
    "points",
    [
        [(0, 1.0)],
        [(0, 2.0), (3, 2.0)],
        [(10, 0.5), (20, math.nan), (30, 0.25)],
        [(i, math.sin(i)) for i in range(200)],
    ],
)
def test_charts_stay_inside_their_frame(points):
    root = ElementTree.fromstring(line_chart("a < b", "iteration", points))
    line = next(element for element in root if element.tag.endswith("polyline"))
    drawn = np.array([place.split(",") for place in line.get("points").split()], float)
    assert len(drawn) == sum(math.isfinite(y) for _, y in points)
    assert (drawn >= 0).all() and (drawn <= (500, 240)).all()
    assert (np.diff(drawn[:, 0]) > 0).all()
    words = [element.text for element in root if element.tag.endswith("text")]
    assert {"a < b", "iteration"} <= set(words)
    assert str(points[0][0]) in words or len(points) > 2


def test_charts_rise_with_their_values():
    root = ElementTree.fromstring(line_chart("a", "b", [(0, 1.0), (1, 2.0)]))
    line = next(element for element in root if element.tag.endswith("polyline"))
    (_, first), (_, last) = (place.split(",") for place in line.get("points").split())
    assert float(last) < float(first)


def test_nothing_to_draw_is_an_error():
    with pytest.raises(ValueError, match="nothing to draw"):
        line_chart("a", "b", [(0, math.nan)])


@pytest.mark.parametrize(
    ("low", "high", "least", "expected"),
    [
        (0, 1000, 1, [0, 200, 400, 600, 800, 1000]),
        (0, 3, 1, [0, 1, 2, 3]),
        (2.54, 2.71, 0, [2.5, 2.55, 2.6, 2.65, 2.7, 2.75]),
        (5, 5, 0, [2, 3, 4, 5, 6, 7, 8]),
        (0, 0, 0, [-0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6]),
    ],
)
def test_ticks_are_round(low, high, least, expected):
    assert ticks(low, high, least) == pytest.approx(expected)
