"""Roads, tracks, parking lots and the vehicles on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Canvas
from .spectra import blend, spectrum, vary


@dataclass(frozen=True)
class Road:
    """A straight road in bent coordinates (metres)."""

    start: np.ndarray
    end: np.ndarray
    width: float
    paved: bool = True
    pavement: float = 0.0
    """Width of the pavement on each side."""
    marked: bool = False
    bridges: bool = True
    """Whether the road crosses water; it stops at the shore otherwise."""

    @property
    def length(self) -> float:
        return float(np.linalg.norm(self.end - self.start))

    @property
    def angle(self) -> float:
        return float(np.arctan2(self.end[1] - self.start[1], self.end[0] - self.start[0]))


_CAR_PAINTS = {
    "white paint": 0.26,
    "zinc": 0.26,
    "slate": 0.14,
    "black paint": 0.2,
    "red paint": 0.06,
    "blue paint": 0.08,
}


class RoadBuilder:
    """Draws a network of roads so that junctions come out clean: pavements, carriageways, markings in turn."""

    def __init__(self, canvas: Canvas, rng: np.random.Generator):
        self.canvas, self.rng = canvas, rng
        self._asphalt = [canvas.named("new asphalt", "old asphalt", rng) for _ in range(4)]
        self._pavement = canvas.named("paving", "concrete", rng)
        self._track = canvas.add_material(
            vary(blend(spectrum("loam"), spectrum("gravel"), rng.uniform(0.2, 0.9)), rng),
            vary(spectrum("straw"), rng),
        )
        self._line = canvas.named("white paint", "concrete", rng, 0.5)
        self._cars = [canvas.named(name, "slate", rng) for name in _CAR_PAINTS]
        self._glass = canvas.named("glass", "glass", rng)
        self._crossings = np.zeros((canvas.samples, canvas.samples), np.uint8)

    def _local(self, road: Road, border: float):
        patch = self.canvas.bent_patch(np.stack([road.start, road.end]), road.width / 2 + border)
        if patch is None:
            return None
        c, s = np.float32(np.cos(road.angle)), np.float32(np.sin(road.angle))
        dx = self.canvas.bent_x[patch.index] - np.float32(road.start[0])
        dy = self.canvas.bent_y[patch.index] - np.float32(road.start[1])
        return patch, dx * c + dy * s, dy * c - dx * s

    def draw(self, roads: list[Road]) -> None:
        """Draws the whole network."""
        for road in roads:
            self._shoulders(road)
        for number, road in enumerate(sorted(roads, key=lambda road: (road.paved, road.width))):
            self._carriageway(road, number)
        for road in roads:
            if road.marked:
                self._markings(road)

    def _shoulders(self, road: Road) -> None:
        if not road.pavement:
            return
        local = self._local(road, road.pavement + 1)
        if local is None:
            return
        patch, along, across = local
        reach = road.width / 2 + road.pavement
        where = (np.abs(across) < reach) & (along > -reach) & (along < road.length + reach)
        where &= ~self.canvas.water[patch.index]
        at = self.canvas.mid[patch.index]
        slabs = (
            1
            + 0.05 * self.canvas.grain[patch.index]
            - 0.06 * (np.abs(across) < road.width / 2 + 0.3)
        )
        self.canvas.paint(patch, where, self._pavement, mix=0.4 + 0.15 * at, gain=slabs, taken=True)

    def _carriageway(self, road: Road, number: int) -> None:
        local = self._local(road, 1)
        if local is None:
            return
        patch, along, across = local
        canvas, rng, at = self.canvas, self.rng, patch.index
        half = road.width / 2
        where = (np.abs(across) < half) & (along > -half) & (along < road.length + half)
        deck = where & canvas.water[at]
        if not road.bridges:
            where &= ~deck
        if road.paved:
            age = rng.uniform(0.1, 0.8)
            wheel = 0.08 * np.cos(across * np.float32(4 * np.pi / max(road.width, 3.0)))
            patches = 0.2 * (canvas.slow[at] > 1.2) + 0.06 * canvas.mid[at]
            grain = 1 + 0.05 * canvas.grain[at]
            material = self._asphalt[number % len(self._asphalt)]
            canvas.paint(
                patch, where, material, mix=age + wheel - patches, gain=grain, height=0, taken=True
            )
            canvas.height[at][where & deck] = 5.0
            self._crossings[at] += where
        else:
            ragged = where & (np.abs(across) < half * (0.9 + 0.18 * canvas.mid[at]))
            middle = np.exp(-((across / 0.45) ** 2))
            grass = 0.8 * middle + 0.15 * canvas.mid[at]
            gain = (1 - 0.25 * middle) * (1 + 0.08 * canvas.grain[at])
            canvas.paint(patch, ragged, self._track, mix=grass, gain=gain, height=0, taken=True)

    def _markings(self, road: Road) -> None:
        local = self._local(road, 1)
        if local is None:
            return
        patch, along, across = local
        half, canvas = road.width / 2, self.canvas
        alone = (self._crossings[patch.index] == 1) & (along > 0) & (along < road.length)
        broad = max(0.13, 0.4 * canvas.step)
        centre = (np.abs(across) < broad) & (np.mod(along, 9) < 4.5)
        edges = np.abs(np.abs(across) - half + 0.5) < broad
        lines = centre | edges
        if road.width > 11:
            lines |= (np.abs(np.abs(across) - half / 2) < broad) & (np.mod(along, 9) < 3)
        wear = 0.35 + 0.25 * canvas.mid[patch.index]
        canvas.paint(patch, alone & lines, self._line, mix=wear)
        for stop in (half + 5.0, road.length - half - 5.0):
            if self.rng.random() < 0.6:
                zebra = (
                    (np.abs(along - stop) < 1.6)
                    & (np.mod(across, 1.2) < 0.6)
                    & (np.abs(across) < half - 0.3)
                )
                canvas.paint(
                    patch, zebra & (self._crossings[patch.index] == 1), self._line, mix=wear
                )

    def car(
        self, x: float, y: float, angle: float, length: float = 4.4, width: float = 1.85
    ) -> None:
        """A vehicle at true coordinates; more than 7 m long makes it a lorry."""
        canvas, rng = self.canvas, self.rng
        row, col = int(y / canvas.step), int(x / canvas.step)
        if not (0 <= row < canvas.samples and 0 <= col < canvas.samples):
            return
        ground = float(canvas.height[row, col])
        if ground > 5.5 or (canvas.water[row, col] and ground < 1):
            return
        reach = length / 2 + 1
        patch = canvas.patch(x - reach, x + reach, y - reach, y + reach)
        if patch is None:
            return
        c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        u = (patch.x - np.float32(x)) * c + (patch.y - np.float32(y)) * s
        v = (patch.y - np.float32(y)) * c - (patch.x - np.float32(x)) * s
        where = (np.abs(u) < length / 2) & (np.abs(v) < width / 2)
        lorry = length > 7
        height = ground + (3.6 if lorry else np.where(np.abs(u + 0.2) < 1.2, 1.45, 0.95))
        paint = self._cars[rng.choice(len(self._cars), p=list(_CAR_PAINTS.values()))]
        canvas.paint(
            patch,
            where,
            paint,
            mix=rng.uniform(0, 0.5),
            gain=rng.uniform(0.6, 1.0),
            height=height,
            light=canvas.sun.z * 1.02,
        )
        if not lorry:
            panes = where & ((np.abs(u - 0.75) < 0.35) | (np.abs(u + 1.35) < 0.25))
            canvas.paint(patch, panes, self._glass, light=canvas.sun.z)

    def traffic(self, road: Road, spacing: float, parked: float) -> None:
        """Vehicles along a road: driving about every ``spacing`` metres, kerb places taken with chance ``parked``."""
        rng, angle = self.rng, road.angle
        direction = np.array([np.cos(angle), np.sin(angle)])
        side = np.array([-direction[1], direction[0]])
        position = rng.uniform(0, spacing)
        while position < road.length:
            lane = side * road.width * rng.choice([-0.22, 0.22])
            x, y, heading = self.canvas.pose(*(road.start + direction * position + lane), angle)
            self.car(x, y, heading, 10.5 if rng.random() < 0.1 else 4.4, 1.85)
            position += rng.exponential(spacing) + 8
        if parked:
            for edge in (-1, 1):
                for place in np.arange(12, road.length - 12, 6.2):
                    if rng.random() < parked:
                        spot = (
                            road.start
                            + direction * (place + rng.normal(0, 0.3))
                            + side * edge * (road.width / 2 - 1.1)
                        )
                        self.car(*self.canvas.pose(*spot, angle))

    def car_park(
        self, centre: np.ndarray, angle: float, length: float, width: float, full: float
    ) -> None:
        """Rows of bays on asphalt, bent coordinates; ``full`` is the share of bays taken."""
        canvas, rng = self.canvas, self.rng
        axis, side = (
            np.array([np.cos(angle), np.sin(angle)]),
            np.array([-np.sin(angle), np.cos(angle)]),
        )
        lane = Road(centre - axis * length / 2, centre + axis * length / 2, width)
        local = self._local(lane, 1)
        if local is None:
            return
        patch, along, across = local
        at = patch.index
        where = (np.abs(across) < width / 2) & (along > 0) & (along < length) & ~canvas.water[at]
        material = self._asphalt[rng.integers(len(self._asphalt))]
        age = rng.uniform(0.2, 0.8) + 0.08 * canvas.mid[at]
        canvas.paint(
            patch, where, material, mix=age, gain=1 + 0.05 * canvas.grain[at], height=0, taken=True
        )
        bay, depth, aisle = 2.6, 5.0, 6.5
        pitch = 2 * depth + aisle
        starts = np.arange(-width / 2 + depth / 2 + 0.5, width / 2, pitch)
        rows = np.sort(np.concatenate([starts, starts + depth + aisle]))
        for row in rows[rows < width / 2 - depth / 2]:
            near = where & (np.abs(across - row) < depth / 2)
            canvas.paint(
                patch,
                near & (np.mod(along, bay) < max(0.2, 0.9 * canvas.step)),
                self._line,
                mix=0.4,
            )
            for place in np.arange(bay / 2, length - bay / 2, bay):
                if rng.random() < full:
                    spot = (
                        centre
                        + axis * (place - length / 2 + rng.normal(0, 0.1))
                        + side * (row + rng.normal(0, 0.2))
                    )
                    self.car(*canvas.pose(*spot, angle + np.pi / 2))
