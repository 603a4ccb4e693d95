"""Line charts as SVG, for reports that are one file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 620, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 34, 42
COLOURS = ("#9aa5b1", "#1d6fb8", "#b45309", "#15803d")
_MARKED = 60
"""Greatest number of points of a line that are marked one by one."""


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        label: for the legend.
        points: (x, y), by rising x; those with a y that is no number are left out.
    """

    label: str
    points: tuple[tuple[float, float], ...]


def line_chart(title: str, x_label: str, lines: Sequence[Line]) -> str:
    """A chart as an ``<svg>`` element (W3C Scalable Vector Graphics 1.1), without style sheets or scripts.

    Args:
        title: what is drawn, for the legend's line and for readers that do not see.
        x_label: below the x axis.
        lines: at most one for each of ``COLOURS``; at least one point altogether.

    Raises:
        ValueError: there is nothing to draw.
    """
    drawn = [[point for point in line.points if math.isfinite(point[1])] for line in lines]
    points = [point for line in drawn for point in line]
    if not points:
        raise ValueError("There is nothing to draw.")
    x_ticks = ticks(min(x for x, _ in points), max(x for x, _ in points))
    y_ticks = ticks(min(y for _, y in points), max(y for _, y in points))
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    x_low, x_high = (x_low - 0.5, x_high + 0.5) if x_low == x_high else (x_low, x_high)
    y_low, y_high = y_ticks[0], y_ticks[-1]

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low)
        up = (y - y_low) / (y_high - y_low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (
            HEIGHT - TOP - BOTTOM
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        f' role="img" font-family="sans-serif" font-size="12"><title>{escape(title)}</title>'
    ]
    for value in y_ticks:
        _, y = at(x_low, value)
        parts.append(
            f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#e4e7eb"/>'
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#52606d">{value:.6g}</text>'
        )
    for value in x_ticks:
        if x_low <= value <= x_high:
            x, _ = at(value, y_low)
            parts.append(
                f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" fill="#52606d">{value:.6g}</text>'
            )
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.1f}" y="{HEIGHT - 6}" text-anchor="middle" fill="#52606d">'
        f"{escape(x_label)}</text>"
    )
    legend = LEFT
    for line, kept, colour in zip(lines, drawn, COLOURS):
        places = [at(x, y) for x, y in kept]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(places) <= _MARKED:
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places
            ]
        parts.append(
            f'<line x1="{legend}" y1="14" x2="{legend + 20}" y2="14" stroke="{colour}" stroke-width="3"/>'
            f'<text x="{legend + 26}" y="18" fill="#323f4b">{escape(line.label)}</text>'
        )
        legend += 50 + 7 * len(line.label)
    return "".join(parts) + "</svg>"


def ticks(low: float, high: float) -> list[float]:
    """Four to nine round numbers, evenly spaced, the first at most ``low`` and the last at least ``high``."""
    if not high > low:
        span = abs(low) or 1.0
        low, high = low - span / 2, high + span / 2
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]
