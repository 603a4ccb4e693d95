"""Line charts as SVG, for reports that are one file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 500, 240
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 34, 42
_LINE, _GRID, _TEXT, _TITLE = "#1d6fb8", "#e4e7eb", "#52606d", "#323f4b"
_MARKED = 60
"""Greatest number of points that are marked one by one."""


def line_chart(title: str, x_label: str, points: Sequence[tuple[float, float]]) -> str:
    """A chart as an ``<svg>`` element (W3C Scalable Vector Graphics 1.1), without style sheets or scripts.

    Args:
        title: what is drawn.
        x_label: below the x axis, which counts something.
        points: (x, y) by rising x, at least one; those with a y that is no number are left out.

    Raises:
        ValueError: there is nothing to draw.
    """
    points = [point for point in points if math.isfinite(point[1])]
    if not points:
        raise ValueError("There is nothing to draw.")
    x_low, x_high = points[0][0], points[-1][0]
    x_ticks = [value for value in ticks(x_low, x_high, 1) if x_low <= value <= x_high]
    if x_low == x_high:
        x_low, x_high = x_low - 0.5, x_high + 0.5
    y_ticks = ticks(min(y for _, y in points), max(y for _, y in points))
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT

    def across(x: float) -> str:
        return f"{LEFT + (x - x_low) / (x_high - x_low) * (right - LEFT):.1f}"

    def down(y: float) -> float:
        return bottom - (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (bottom - TOP)

    def text(x: float | str, y: float, anchor: str, words: str, colour: str = _TEXT) -> str:
        return f'<text x="{x}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        f' role="img" font-family="sans-serif" font-size="12"><title>{escape(title)}</title>',
        text(LEFT, 18, "start", title, _TITLE),
        text((LEFT + right) / 2, HEIGHT - 6, "middle", x_label),
    ]
    for value in y_ticks:
        y = down(value)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="{_GRID}"/>')
        parts.append(text(LEFT - 8, y + 4, "end", f"{value:.6g}"))
    parts += [text(across(value), bottom + 18, "middle", f"{value:.6g}") for value in x_ticks]
    places = [(across(x), f"{down(y):.1f}") for x, y in points]
    path = " ".join(",".join(place) for place in places)
    parts.append(f'<polyline points="{path}" fill="none" stroke="{_LINE}" stroke-width="2"/>')
    if len(places) <= _MARKED:
        parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{_LINE}"/>' for x, y in places]
    return "".join(parts) + "</svg>"


def ticks(low: float, high: float, least_step: float = 0.0) -> list[float]:
    """A handful of round numbers, evenly spaced, the first at most ``low`` and the last at least ``high``."""
    if not high > low:
        span = abs(low) or 1.0
        low, high = low - span / 2, high + span / 2
    rough = max((high - low) / 5, least_step)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]
