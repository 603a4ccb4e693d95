"""Ground cover of one parcel: crops, meadows, gardens, paving, desert."""

from __future__ import annotations

import numpy as np

from . import parcels
from .canvas import Canvas, Patch
from .spectra import blend, spectrum, vary, vegetation


class Plot:
    """One convex parcel on the canvas: its samples, the distance to its edges and its row direction."""

    def __init__(self, canvas: Canvas, polygon: np.ndarray, angle: float | None = None):
        self.canvas, self.polygon = canvas, polygon
        self.angle = parcels.heading(polygon) if angle is None else angle
        self.patch: Patch | None = canvas.bent_patch(polygon, 2)
        if self.patch is None:
            return
        at = self.patch.index
        self.x, self.y = canvas.bent_x[at], canvas.bent_y[at]
        self.edge = parcels.inside_distance(polygon, self.x, self.y)
        self.slow, self.mid, self.grain = canvas.slow[at], canvas.mid[at], canvas.grain[at]

    def across(self, angle: float | None = None) -> np.ndarray:
        """Coordinate across the rows, metres."""
        angle = self.angle if angle is None else angle
        return self.y * np.float32(np.cos(angle)) - self.x * np.float32(np.sin(angle))

    def rows(self, spacing: float, angle: float | None = None) -> np.ndarray:
        """A row pattern of the given spacing, -1..1; fades where the canvas cannot resolve it."""
        resolved = np.clip(spacing / self.canvas.step / 2.5 - 0.6, 0, 1)
        return np.float32(resolved) * np.cos(np.float32(2 * np.pi / spacing) * self.across(angle))


def _soil(rng: np.random.Generator, redness: float) -> np.ndarray:
    return vary(blend(spectrum("loam"), spectrum("red soil"), redness), rng, 1.6)


def meadow(
    canvas: Canvas,
    polygon: np.ndarray,
    rng: np.random.Generator,
    *,
    dryness: float,
    lush: float = 0.5,
) -> None:
    """Grass with dry and bare patches."""
    plot = Plot(canvas, polygon)
    if plot.patch is None:
        return
    green = vary(vegetation(float(np.clip(rng.normal(lush, 0.13), 0, 1))), rng)
    grass = blend(green, spectrum("straw"), float(np.clip(0.04 + 0.85 * dryness, 0, 0.9)))
    poor = blend(grass, blend(spectrum("straw"), _soil(rng, 0.2), 0.5), 0.7)
    mix = 0.22 + 0.13 * plot.slow + 0.1 * plot.mid
    gain = 1 + 0.08 * plot.grain + 0.06 * plot.mid
    canvas.paint(plot.patch, plot.edge > 0, canvas.add_material(grass, poor), mix=mix, gain=gain)


def crop(
    canvas: Canvas, polygon: np.ndarray, rng: np.random.Generator, kind: str, *, redness: float
) -> None:
    """A field (cereal, ripe, maize, flower, ploughed, hay, stubble, vineyard, beets, pasture) with rows, tramlines, headland and uneven growth."""
    plot = Plot(canvas, polygon)
    if plot.patch is None:
        return
    where = plot.edge > rng.uniform(0.4, 1.6)
    soil = _soil(rng, redness)
    leaf = vary(vegetation(float(rng.uniform(0.3, 0.9))), rng)
    straw = vary(spectrum("straw"), rng)
    drift = 0.13 * plot.slow + 0.05 * plot.mid
    headland = plot.edge < rng.uniform(8, 12)
    turned = np.where(headland, plot.rows(1.6, plot.angle + np.pi / 2), plot.rows(1.6))
    gain = 1 + 0.05 * plot.grain
    spacing = rng.choice([12.0, 18.0, 24.0, 27.0])
    wheel = np.abs(np.abs(np.mod(plot.across(), spacing) - spacing / 2) - 0.95)
    tramlines = (wheel < max(0.25, 0.6 * canvas.step)) & ~headland
    if kind == "cereal":
        pair, mix = (leaf, blend(straw, soil, 0.4)), 0.12 + drift + 0.03 * turned + 0.4 * tramlines
    elif kind == "ripe":
        pair, mix = (
            (vary(blend(straw, leaf, 0.08), rng), soil),
            0.12 + drift + 0.04 * turned + 0.35 * tramlines,
        )
    elif kind == "maize":
        pair, mix = (0.85 * leaf, soil), 0.22 + drift + 0.16 * plot.rows(1.5)
    elif kind == "flower":
        pair, mix = (vary(spectrum("flower"), rng), leaf), 0.25 + drift + 0.5 * tramlines
    elif kind == "ploughed":
        pair = (soil, blend(0.62 * soil, spectrum("wet soil"), 0.5))
        mix = 0.4 + 2.2 * drift + 0.12 * turned
        gain = gain + 0.05 * turned
    elif kind == "hay":
        swath = plot.rows(rng.uniform(5, 9))
        pair, mix = (
            (blend(leaf, straw, 0.35), straw),
            0.35 + drift + 0.22 * np.sign(swath) * np.abs(swath) ** 0.5,
        )
    elif kind == "stubble":
        combed = np.mod(plot.across(), 9.0) < 4.5
        pair, mix = (
            (blend(straw, soil, 0.25), blend(straw, soil, 0.65)),
            0.35 + 1.5 * drift + 0.14 * combed + 0.08 * turned,
        )
    elif kind == "vineyard":
        vines = plot.rows(rng.uniform(1.8, 2.8)) + 0.25 * plot.mid
        pair, mix = (
            (leaf, blend(soil, straw, rng.uniform(0, 0.6))),
            0.5 - 0.42 * vines + 0.4 * drift,
        )
        gain = gain - 0.12 * np.clip(-vines, 0, 1)
    elif kind == "beets":
        pair, mix = (leaf, soil), np.where(headland, 0.55, 0.35) + 2 * drift + 0.2 * plot.rows(1.0)
    else:
        grazed = 0.3 + 0.2 * plot.slow + 0.12 * plot.mid
        pair, mix = (blend(leaf, straw, 0.2), blend(leaf, straw, 0.75)), grazed
        gain = gain + 0.05 * plot.mid
    canvas.paint(plot.patch, where, canvas.add_material(*pair), mix=mix, gain=gain)


def paved(
    canvas: Canvas, polygon: np.ndarray, rng: np.random.Generator, kind: str = "paving"
) -> None:
    """A paved or gravelled yard."""
    plot = Plot(canvas, polygon)
    if plot.patch is None:
        return
    material = canvas.named(kind, "old asphalt" if kind != "new asphalt" else "concrete", rng, 1.3)
    joints = 0.06 * (
        (np.mod(plot.across(), 5.0) < 0.25)
        | (np.mod(plot.across(plot.angle + np.pi / 2), 5.0) < 0.25)
    )
    worn = np.cos(np.float32(2 * np.pi / 23) * plot.across() + plot.slow)
    mix = 0.35 + 0.07 * plot.mid + 0.12 * worn + 0.2 * (plot.slow > 0.9)
    canvas.paint(plot.patch, plot.edge > 0, material, mix=mix, gain=1 + 0.06 * plot.grain - joints)


def desert(
    canvas: Canvas, polygon: np.ndarray, rng: np.random.Generator, *, redness: float
) -> None:
    """Sand, stones and dry stream beds."""
    plot = Plot(canvas, polygon)
    if plot.patch is None:
        return
    sand = vary(blend(spectrum("sand"), spectrum("red soil"), redness), rng)
    stones = vary(blend(spectrum("rock"), spectrum("loam"), 0.4), rng)
    gullies = np.exp(-((plot.slow + 0.25 * plot.mid) ** 2) / 0.03)
    wind = np.float32(rng.uniform(0, np.pi))
    dunes = np.cos(
        np.float32(2 * np.pi / rng.uniform(4, 9)) * plot.across(wind)
        + 2.2 * plot.slow
        + 1.2 * plot.mid
    )
    ripples = 0.05 * dunes * np.clip(plot.slow, 0, 1)
    mix = 0.4 + 0.2 * plot.slow + 0.17 * plot.mid - 0.5 * gullies
    gain = 1 + 0.08 * plot.grain + ripples + 0.1 * gullies - 0.1 * (plot.mid > 1.4)
    canvas.paint(plot.patch, plot.edge > 0, canvas.add_material(sand, stones), mix=mix, gain=gain)


def pivot(
    canvas: Canvas, centre: np.ndarray, radius: float, rng: np.random.Generator, *, redness: float
) -> None:
    """A round field under centre-pivot irrigation, in sectors of different crops."""
    angles = np.linspace(0, 2 * np.pi, 5)[:4, None]
    box = centre + radius * 1.5 * np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    plot = Plot(canvas, box)
    if plot.patch is None:
        return
    dx, dy = plot.x - np.float32(centre[0]), plot.y - np.float32(centre[1])
    distance, bearing = np.hypot(dx, dy), np.arctan2(dy, dx)
    start = rng.uniform(-np.pi, np.pi)
    sweep = np.mod(bearing - start, 2 * np.pi)
    limits = np.concatenate([[0], np.sort(rng.uniform(0.5, 5.8, rng.integers(0, 4))), [7]])
    for first, last in zip(limits[:-1], limits[1:]):
        leaf = vary(vegetation(float(rng.uniform(0.3, 0.9))), rng)
        soil = _soil(rng, redness)
        level = rng.choice([0.1, 0.2, 0.35, 0.8])
        tracks = np.abs(np.mod(distance, 48.0) - 24) < max(0.5, 0.6 * canvas.step)
        rings = 0.08 * np.cos(distance * np.float32(2 * np.pi / 3.0))
        mix = level + 0.1 * plot.slow + 0.05 * plot.mid + rings + 0.35 * tracks
        where = (distance < radius) & (sweep >= first) & (sweep < last)
        canvas.paint(
            plot.patch, where, canvas.add_material(leaf, soil), mix=mix, gain=1 + 0.05 * plot.grain
        )


def pitch(
    canvas: Canvas, centre: np.ndarray, angle: float, rng: np.random.Generator, *, track: bool
) -> None:
    """A football pitch with mowing stripes and lines, inside a running track if asked for; bent coordinates."""
    corners = np.array([[-70, -48], [70, -48], [70, 48], [-70, 48]], float)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    plot = Plot(canvas, corners @ turn.T + centre, angle)
    if plot.patch is None:
        return
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u = (plot.x - np.float32(centre[0])) * c + (plot.y - np.float32(centre[1])) * s
    v = (plot.y - np.float32(centre[1])) * c - (plot.x - np.float32(centre[0])) * s
    line = canvas.named("white paint", "leaf", rng, 0.5)
    broad = max(0.12, 0.35 * canvas.step)
    oval = np.hypot(np.maximum(np.abs(u) - 42.2, 0), v)
    if track:
        rubber = canvas.named("running track", "running track", rng)
        ring = (oval > 36.5) & (oval < 46)
        canvas.paint(
            plot.patch,
            oval < 48,
            canvas.named("leaf", "straw", rng),
            mix=0.3 + 0.1 * plot.mid,
            taken=True,
        )
        canvas.paint(plot.patch, ring, rubber, gain=1 + 0.03 * plot.grain)
        canvas.paint(plot.patch, ring & (np.mod(oval - 36.5, 1.22) < broad), line, mix=0.55)
    half_length, half_width = 48.0, 31.0
    inside = (np.abs(u) < half_length + 3) & (np.abs(v) < half_width + 3)
    grass = canvas.add_material(vegetation(0.8), blend(vegetation(0.45), spectrum("straw"), 0.15))
    stripes = 0.35 + 0.22 * np.sign(np.sin(np.float32(np.pi / 5.5) * u)) + 0.07 * plot.mid
    canvas.paint(plot.patch, inside, grass, mix=stripes, gain=1 + 0.04 * plot.grain, taken=True)
    from_edge = np.minimum(half_length - np.abs(u), half_width - np.abs(v))
    box = np.minimum(np.abs(u) - (half_length - 16.5), 20.1 - np.abs(v))
    circle = np.abs(np.hypot(u, v) - 9.15)
    lines = (np.abs(from_edge) < broad) | ((np.abs(u) < broad) & (from_edge > 0)) | (circle < broad)
    lines |= (np.abs(box) < broad) & (from_edge > 0)
    canvas.paint(plot.patch, inside & lines, line, mix=0.3)
