"""Dividing land into convex parcels, and the lines between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Cut:
    """A dividing line from ``start`` to ``end`` (bent metres); ``level`` 0 is the first cut."""

    start: np.ndarray
    end: np.ndarray
    level: int


def area(polygon: np.ndarray) -> float:
    """Area of a polygon (n, 2)."""
    x, y = polygon.T
    return 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))


def longest_edge(polygon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """End points of the longest edge."""
    following = np.roll(polygon, -1, axis=0)
    best = int(np.argmax(np.linalg.norm(following - polygon, axis=1)))
    return polygon[best], following[best]


def heading(polygon: np.ndarray) -> float:
    """Direction of the longest edge, radians."""
    start, end = longest_edge(polygon)
    return float(np.arctan2(end[1] - start[1], end[0] - start[0]))


def inside_distance(polygon: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance to the nearest edge line, positive inside a convex polygon, of the points' shape."""
    middle = polygon.mean(axis=0)
    nearest = None
    for start, end in zip(polygon, np.roll(polygon, -1, axis=0)):
        normal = np.array([start[1] - end[1], end[0] - start[0]])
        normal = normal / (np.linalg.norm(normal) + 1e-9)
        if np.dot(middle - start, normal) < 0:
            normal = -normal
        nx, ny, offset = np.float32(normal[0]), np.float32(normal[1]), np.float32(normal @ start)
        distance = x * nx + y * ny - offset
        nearest = distance if nearest is None else np.minimum(nearest, distance, out=nearest)
    return nearest


def extent_along(polygon: np.ndarray, angle: float) -> tuple[float, float]:
    """Least and greatest coordinate of the polygon along a direction."""
    along = polygon @ np.array([np.cos(angle), np.sin(angle)])
    return float(along.min()), float(along.max())


def _clip(
    polygon: np.ndarray, point: np.ndarray, normal: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    side = (polygon - point) @ normal
    kept, crossings = [], []
    for i in range(len(polygon)):
        j = (i + 1) % len(polygon)
        if side[i] >= 0:
            kept.append(polygon[i])
        if side[i] * side[j] < 0:
            crossing = polygon[i] + side[i] / (side[i] - side[j]) * (polygon[j] - polygon[i])
            kept.append(crossing)
            crossings.append(crossing)
    return np.array(kept), crossings


def subdivide(
    polygon: np.ndarray,
    target: float,
    rng: np.random.Generator,
    *,
    skew: float = 0.06,
    even: float = 0.12,
) -> tuple[list[np.ndarray], list[Cut]]:
    """Cuts a convex polygon across its longest edge again and again.

    Args:
        polygon: (n, 2) corners in order.
        target: parcels larger than about this area (square metres) are cut.
        rng: random generator.
        skew: standard deviation of the cut's angle, radians.
        even: standard deviation of the cut's position as a share of the edge.

    Returns:
        The parcels and the cuts.
    """
    parcels: list[np.ndarray] = []
    cuts: list[Cut] = []
    waiting = [(polygon, 0)]
    while waiting:
        piece, level = waiting.pop()
        if area(piece) < target * rng.uniform(0.75, 1.6) or level > 14:
            parcels.append(piece)
            continue
        start, end = longest_edge(piece)
        share = float(np.clip(0.5 + rng.normal(0, even), 0.25, 0.75))
        point = start + share * (end - start)
        angle = np.arctan2(end[1] - start[1], end[0] - start[0]) + rng.normal(0, skew)
        normal = np.array([np.cos(angle), np.sin(angle)])
        left, crossings = _clip(piece, point, normal)
        right, _ = _clip(piece, point, -normal)
        if len(crossings) != 2 or len(left) < 3 or len(right) < 3:
            parcels.append(piece)
            continue
        cuts.append(Cut(crossings[0], crossings[1], level))
        waiting += [(left, level + 1), (right, level + 1)]
    return parcels, cuts
