"""Composes a landscape: what kind of place it is, how the land is divided and what stands on each parcel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from . import grounds, parcels, waters
from .buildings import Roofer
from .canvas import Canvas, Sun
from .plants import Planter
from .roads import Road, RoadBuilder


@dataclass(frozen=True)
class Theme:
    """A kind of place; ``uses`` weighs the land uses of its blocks."""

    name: str
    uses: dict[str, float]
    block: float
    """Area of a block between roads, square metres."""
    skew: float = 0.08
    bend: float = 9.0
    relief: float = 2.0
    dryness: float = 0.15
    redness: float = 0.2
    water: tuple[str, ...] = ()
    water_chance: float = 0.0
    roofs: tuple[float, ...] = (4, 2, 2, 1)


THEMES = (
    Theme(
        "edge of town",
        {
            "houses": 4,
            "crop": 3,
            "meadow": 1,
            "park": 1,
            "forest": 0.8,
            "industry": 0.7,
            "flats": 0.6,
        },
        11000,
        water=("river", "lake"),
        water_chance=0.9,
    ),
    Theme(
        "city",
        {"block": 6, "flats": 2, "park": 1, "offices": 2, "car park": 0.6},
        8000,
        0.03,
        4.0,
        1.0,
    ),
    Theme(
        "farmland",
        {"crop": 9, "meadow": 1, "forest": 0.6, "farm": 0.6},
        16000,
        0.12,
        14.0,
        water=("river",),
        water_chance=0.3,
    ),
    Theme(
        "river valley",
        {"crop": 3, "meadow": 3, "forest": 2.5, "houses": 1, "farm": 0.6},
        14000,
        0.15,
        16.0,
        water=("river",),
        water_chance=1.0,
    ),
    Theme(
        "arid land",
        {"desert": 5, "pivot": 1.4, "compound": 1.6, "crop": 0.5},
        20000,
        0.15,
        12.0,
        3.5,
        0.75,
        0.3,
    ),
    Theme(
        "forest",
        {"forest": 7, "meadow": 1.4, "clearing": 1.4},
        18000,
        0.2,
        18.0,
        6.0,
        0.1,
        0.1,
        ("lake",),
        0.5,
    ),
    Theme(
        "industry",
        {"industry": 6, "car park": 1.6, "offices": 1, "meadow": 0.7},
        22000,
        0.03,
        3.0,
        0.8,
        0.3,
    ),
    Theme(
        "coast",
        {"houses": 4, "flats": 2, "park": 1, "car park": 0.5},
        9000,
        0.06,
        8.0,
        1.5,
        0.4,
        0.3,
        ("sea",),
        1.0,
    ),
    Theme(
        "village",
        {"houses": 4, "crop": 3, "meadow": 1.5, "farm": 0.7, "block": 0.5},
        9000,
        0.2,
        16.0,
        3.0,
        0.15,
    ),
    Theme(
        "dry town",
        {"compound": 4, "block": 2, "desert": 1.2, "car park": 0.4, "flats": 1},
        8000,
        0.05,
        5.0,
        1.5,
        0.7,
        0.4,
        roofs=(1, 2, 0.2, 4),
    ),
)


BUILT = frozenset(
    {"houses", "block", "flats", "offices", "industry", "car park", "compound", "park"}
)
"""Land uses that streets lead to."""

COMMON_CROPS = ("cereal", "ripe", "maize", "ploughed", "hay", "pasture", "stubble", "beets")
RARE_CROPS = ("flower", "vineyard")


class Landscape:
    """Fills a canvas with a theme; ground first, then water, roads and whatever stands upright."""

    def __init__(self, canvas: Canvas, theme: Theme, rng: np.random.Generator):
        self.canvas, self.theme, self.rng = canvas, theme, rng
        self.roads = RoadBuilder(canvas, rng)
        self.roofer = Roofer(canvas, rng, theme.roofs)
        self.planter = Planter(canvas, rng, dryness=0.6 * theme.dryness)
        self._upright: list[Callable[[], None]] = []
        crops = list(rng.permutation(COMMON_CROPS))
        # Every region grows a few crops mostly; some grow vines or rape among them.
        crops.insert(int(rng.integers(1, 7)), str(rng.choice(RARE_CROPS)))
        self._crops = crops

    def build(self) -> None:
        """Paints everything."""
        canvas, theme, rng = self.canvas, self.theme, self.rng
        reach, middle = 0.5 * canvas.extent + 60, canvas.extent / 2
        turn = rng.uniform(0, np.pi / 2)
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * reach * 1.42
        rotate = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        everything = corners @ rotate.T + middle
        if theme.dryness > 0.6:
            grounds.desert(canvas, everything, rng, redness=theme.redness)
        else:
            grounds.meadow(canvas, everything, rng, dryness=theme.dryness)
        blocks, cuts = parcels.subdivide(everything, theme.block, rng, skew=theme.skew)
        blocks = [block for block in blocks if canvas.bent_patch(block, 0) is not None]
        uses = self._assign(blocks)
        network = self._network(cuts, blocks, uses)
        for use, block in zip(uses, blocks):
            getattr(self, "_" + use.replace(" ", "_"))(block)
        if theme.water and rng.random() < theme.water_chance:
            water = str(rng.choice(theme.water))
            self._water(water)
            if water != "river":
                # One dam across a lake is enough; nothing crosses the sea.
                kept = 1 if water == "lake" else 0
                network[kept:] = [replace(road, bridges=False) for road in network[kept:]]
        self.roads.draw(network)
        for plant in self._upright:
            plant()
        for road in network:
            if road.paved:
                busy = road.width > 9
                self.roads.traffic(
                    road, 30 if busy else 90, 0.3 if road.pavement and not busy else 0.0
                )

    def _assign(self, blocks: list[np.ndarray]) -> list[str]:
        """Land uses; neighbours tend to share one, because towns and woods are larger than a block."""
        uses, weights = list(self.theme.uses), np.array(list(self.theme.uses.values()))
        seeds = self.rng.uniform(-0.1, 1.1, (max(4, len(blocks) // 3), 2)) * self.canvas.extent
        # Each use gets its share of the seeds before chance does, so that small scenes are mixed as well.
        ordered = np.repeat(
            uses, np.maximum(1, np.round(weights / weights.sum() * len(seeds)).astype(int))
        )
        kinds = self.rng.permutation(ordered)
        kinds = np.concatenate(
            [kinds, self.rng.choice(uses, len(seeds), p=weights / weights.sum())]
        )[: len(seeds)]
        chosen = []
        for block in blocks:
            distance = np.linalg.norm(seeds - block.mean(axis=0), axis=1)
            chosen.append(str(kinds[int(np.argmin(distance))]))
        return chosen

    def _network(
        self, cuts: list[parcels.Cut], blocks: list[np.ndarray], uses: list[str]
    ) -> list[Road]:
        """Main roads along the first cuts, streets where something is built, tracks or nothing elsewhere."""
        rng = self.rng
        main_levels = 2 if self.canvas.extent > 400 else 1
        roads = []
        for cut in cuts:
            built = self._built_share(cut, blocks, uses)
            if cut.level <= main_levels:
                width = (
                    float(rng.choice([7.5, 9.0, 12.5]))
                    if built > 0.4
                    else float(rng.choice([5.5, 7.0]))
                )
                roads.append(
                    Road(
                        cut.start,
                        cut.end,
                        width,
                        True,
                        2.2 if built > 0.3 else 0.0,
                        True,
                        cut.level <= 1,
                    )
                )
            elif built > 0.2:
                roads.append(
                    Road(cut.start, cut.end, rng.uniform(5.2, 7.0), True, 1.6, False, False)
                )
            elif rng.random() < 0.35:
                roads.append(
                    Road(cut.start, cut.end, rng.uniform(2.6, 3.6), False, 0.0, False, False)
                )
        return roads

    @staticmethod
    def _built_share(cut: parcels.Cut, blocks: list[np.ndarray], uses: list[str]) -> float:
        """Share of the land on both sides of a cut that is built on."""
        span = cut.end - cut.start
        normal = 4 * np.array([-span[1], span[0]]) / (np.linalg.norm(span) + 1e-9)
        places = [
            cut.start + t * span + side * normal
            for t in (0.1, 0.3, 0.5, 0.7, 0.9)
            for side in (-1, 1)
        ]
        x, y = np.array(places).T
        built = np.zeros(len(places))
        for block, use in zip(blocks, uses):
            if use in BUILT:
                built[parcels.inside_distance(block, x, y) > 0] = 1
        return float(built.mean())

    def _water(self, kind: str) -> None:
        extent = self.canvas.extent
        if kind == "river":
            waters.river(self.canvas, self.rng, self.rng.uniform(0.05, 0.13) * min(extent, 420))
        elif kind == "lake":
            waters.lake(self.canvas, self.rng, self.rng.uniform(0.13, 0.24) * min(extent, 600))
        else:
            waters.sea(self.canvas, self.rng)

    # Open land

    def _crop(self, block: np.ndarray) -> None:
        for plot in parcels.subdivide(block, self.rng.uniform(4000, 14000), self.rng, skew=0.02)[0]:
            kind = str(self._crops[min(self.rng.geometric(0.28) - 1, len(self._crops) - 1)])
            grounds.crop(self.canvas, plot, self.rng, kind, redness=self.theme.redness)
            if self.rng.random() < 0.35:
                self._hedge(plot)

    def _meadow(self, block: np.ndarray) -> None:
        grounds.meadow(
            self.canvas, block, self.rng, dryness=self.theme.dryness * self.rng.uniform(0.4, 1.6)
        )
        self._scatter(block, self.rng.uniform(0, 1.2), (1.5, 4.5))
        if self.rng.random() < 0.5:
            self._hedge(block)

    def _forest(self, block: np.ndarray) -> None:
        grounds.meadow(self.canvas, block, self.rng, dryness=0.3, lush=0.8)
        kind = "conifer" if self.rng.random() < 0.4 else "broadleaf"
        low, high = (1.3, 2.6) if kind == "conifer" else (2.0, 5.2)
        spacing = 1.45 * (low + high) / 2 * self.rng.uniform(0.85, 1.15)
        self._upright.append(lambda: self._wood(block, spacing, (low, high), kind))

    def _clearing(self, block: np.ndarray) -> None:
        grounds.crop(self.canvas, block, self.rng, "stubble", redness=self.theme.redness)
        self._scatter(block, 4.0, (0.8, 1.8), kind="conifer")

    def _desert(self, block: np.ndarray) -> None:
        grounds.desert(
            self.canvas,
            block,
            self.rng,
            redness=float(np.clip(self.theme.redness + self.rng.normal(0, 0.1), 0, 1)),
        )
        self._scatter(block, self.rng.uniform(4, 30), (0.6, 1.4))

    def _pivot(self, block: np.ndarray) -> None:
        self._desert(block)
        radius = 0.45 * np.sqrt(parcels.area(block))
        grounds.pivot(self.canvas, block.mean(axis=0), radius, self.rng, redness=self.theme.redness)

    def _park(self, block: np.ndarray) -> None:
        rng = self.rng
        grounds.meadow(self.canvas, block, rng, dryness=0.5 * self.theme.dryness, lush=0.65)
        centre, angle = block.mean(axis=0), parcels.heading(block)
        if self._holds(block, centre, angle, 102, 68) and rng.random() < 0.7:
            track = self._holds(block, centre, angle, 176, 92)
            self._upright.append(
                lambda: grounds.pitch(self.canvas, centre, angle, rng, track=track)
            )
        else:
            middle = block.mean(axis=0)
            paths = [
                Road(middle, corner, rng.uniform(2, 3), False, bridges=False) for corner in block
            ]
            self._upright.append(lambda: self.roads.draw(paths))
        self._scatter(block, rng.uniform(12, 40), (2.2, 5.5))

    # Built land

    def _houses(self, block: np.ndarray) -> None:
        rng = self.rng
        angle = parcels.heading(block)
        for lot in parcels.subdivide(block, rng.uniform(420, 800), rng, skew=0.02, even=0.05)[0]:
            grounds.meadow(
                self.canvas,
                lot,
                rng,
                dryness=float(np.clip(self.theme.dryness + rng.normal(0, 0.12), 0, 1)),
                lush=0.6,
            )
            self._upright.append(lambda lot=lot: self._house(lot, angle))

    def _house(self, lot: np.ndarray, angle: float) -> None:
        rng, canvas = self.rng, self.canvas
        size = np.sqrt(parcels.area(lot))
        for shrink in (1.0, 0.95, 0.9, 0.85, 0.8):
            place = lot.mean(axis=0) + rng.normal(0, 0.09 * size, 2)
            heading = angle + rng.choice([0, np.pi / 2]) + rng.normal(0, 0.02)
            x, y, true_heading = canvas.pose(*place, heading)
            length, width = shrink * rng.uniform(9, 15), shrink * rng.uniform(7.5, 10)
            if self.roofer.is_free(x, y, true_heading, length, width):
                break
        else:
            return
        style, eave = int(rng.integers(60)), rng.uniform(3.2, 6.2)
        c, s = np.cos(true_heading), np.sin(true_heading)
        side = rng.choice([-1, 1])
        drive = np.array(
            [[-0.5 * length, 0], [-0.5 * length, 3.2], [0.5 * length, 3.2], [0.5 * length, 0]],
            float,
        ) + [0, width / 2 - 0.5]
        turned = (
            drive
            @ np.array([[np.cos(heading), np.sin(heading)], [-np.sin(heading), np.cos(heading)]])
            * 1.0
        )
        grounds.paved(
            canvas, turned * side + place, rng, str(rng.choice(["paving", "concrete", "gravel"]))
        )
        self.roofer.pitched(
            x, y, true_heading, length, width, eave, hip=rng.random() < 0.4, style=style
        )
        if rng.random() < 0.45:
            wing, reach = rng.uniform(5, 6.5), rng.uniform(4, 6)
            shift_u, shift_v = (
                rng.choice([-1, 1]) * (length - wing) / 2,
                -side * (width + reach) / 4,
            )
            self.roofer.pitched(
                x + shift_u * c - shift_v * s,
                y + shift_u * s + shift_v * c,
                true_heading + np.pi / 2,
                width / 2 + reach,
                wing,
                eave,
                hip=rng.random() < 0.4,
                style=style,
            )
        if rng.random() < 0.5:
            self.roads.car(
                x - side * (width / 2 + 1.4) * -s, y + side * (width / 2 + 1.4) * c, true_heading
            )
        if rng.random() < 0.14:
            self._pool(lot, place, heading)
        for _ in range(rng.poisson(size * size / 130)):
            spot = self._within(lot)
            if spot is not None:
                self.planter.tree(
                    *spot,
                    rng.uniform(1.0, 3.4),
                    trunk=1.2,
                    kind="conifer" if rng.random() < 0.2 else "broadleaf",
                )
        if rng.random() < 0.55:
            self._hedge(lot, thin=True)

    def _pool(self, lot: np.ndarray, place: np.ndarray, heading: float) -> None:
        rng, canvas = self.rng, self.canvas
        shift = (
            rng.choice([-1, 1])
            * np.array([-np.sin(heading), np.cos(heading)])
            * rng.uniform(8.5, 10.5)
        )
        x, y, angle = canvas.pose(*(place + shift), heading)
        length, width = rng.uniform(6, 10), rng.uniform(3, 4.5)
        if not self.roofer.is_free(x, y, angle, length, width):
            return
        for border, names in ((1.3, ("concrete", "paving")), (0.0, ("pool", "clear water"))):
            local = self.roofer.footprint(x, y, angle, length + 2 * border, width + 2 * border)
            if local is not None:
                patch, where = local
                canvas.paint(
                    patch,
                    where,
                    canvas.named(*names, rng),
                    mix=0.12,
                    height=0,
                    light=canvas.sun.z,
                    taken=True,
                )

    def _farm(self, block: np.ndarray) -> None:
        rng = self.rng
        self._meadow(block)
        centre, angle = block.mean(axis=0), parcels.heading(block)

        def stand() -> None:
            yard = centre + 26 * np.array(
                [[np.cos(a), np.sin(a)] for a in angle + np.pi * (0.25 + 0.5 * np.arange(4))]
            )
            grounds.paved(self.canvas, yard, rng, "gravel")
            for _ in range(int(rng.integers(3, 6))):
                x, y, heading = self.canvas.pose(
                    *(centre + rng.uniform(-24, 24, 2)), angle + rng.choice([0, np.pi / 2])
                )
                length, width = rng.uniform(12, 28), rng.uniform(8, 13)
                if self.roofer.is_free(x, y, heading, length, width):
                    self.roofer.pitched(
                        x,
                        y,
                        heading,
                        length,
                        width,
                        rng.uniform(3.5, 6),
                        hip=False,
                        style=int(rng.integers(60)),
                    )
            for _ in range(10):
                spot = centre + rng.uniform(-34, 34, 2)
                x, y = self.canvas.straighten(*spot)
                if self.planter.fits(x, y):
                    self.planter.tree(x, y, rng.uniform(2, 5), trunk=2)

        self._upright.append(stand)

    def _compound(self, block: np.ndarray) -> None:
        rng, canvas = self.rng, self.canvas
        angle = parcels.heading(block)
        for lot in parcels.subdivide(block, rng.uniform(250, 500), rng, skew=0.01, even=0.05)[0]:
            grounds.paved(
                canvas,
                lot,
                rng,
                str(rng.choice(["sand", "loam", "concrete", "gravel"], p=[0.4, 0.3, 0.15, 0.15])),
            )
            self._upright.append(lambda lot=lot: self._courtyard_house(lot, angle))

    def _courtyard_house(self, lot: np.ndarray, angle: float) -> None:
        rng = self.rng
        if rng.random() < 0.12:
            return
        size = np.sqrt(parcels.area(lot))
        x, y, heading = self.canvas.pose(*(lot.mean(axis=0) + rng.normal(0, 1.2, 2)), angle)
        length, width = size * rng.uniform(0.5, 0.78), size * rng.uniform(0.4, 0.66)
        if not self.roofer.is_free(x, y, heading, length, width, 0.4):
            return
        style = int(rng.integers(60))
        self.roofer.flat(x, y, heading, length, width, rng.choice([3.4, 6.6]), style=style)
        if rng.random() < 0.6:
            self.roofer.flat(
                x + rng.normal(0, 2),
                y + rng.normal(0, 2),
                heading,
                length * 0.5,
                width * 0.5,
                9.8,
                style=style + 1,
            )
        for _ in range(rng.poisson(1.2)):
            spot = self._within(lot)
            if spot is not None:
                self.planter.tree(*spot, rng.uniform(1, 2.6), trunk=1.5)

    def _block(self, block: np.ndarray) -> None:
        rng, canvas = self.rng, self.canvas
        if rng.random() < 0.5:
            grounds.paved(canvas, block, rng, "paving")
        else:
            grounds.meadow(canvas, block, rng, dryness=self.theme.dryness)
        depth, floors = rng.uniform(11, 14), rng.integers(3, 7)
        modern = rng.random() < 0.35

        def stand() -> None:
            centre = block.mean(axis=0)
            for start, end in zip(block, np.roll(block, -1, axis=0)):
                span = end - start
                length = float(np.linalg.norm(span))
                if length < 34:
                    continue
                direction = span / length
                inward = np.array([-direction[1], direction[0]])
                inward = inward if np.dot(centre - start, inward) > 0 else -inward
                position = 9.0
                while position < length - 12:
                    front = float(min(rng.uniform(11, 22), length - 9 - position))
                    if front < 7:
                        break
                    spot = start + direction * (position + front / 2) + inward * (9.5 + depth / 2)
                    x, y, heading = canvas.pose(
                        *spot, float(np.arctan2(direction[1], direction[0]))
                    )
                    if self.roofer.is_free(x, y, heading, front - 1.0, depth, -0.6):
                        top = 3.1 * (floors + rng.integers(-1, 2))
                        style = int(rng.integers(60))
                        if modern or rng.random() < 0.25:
                            self.roofer.flat(x, y, heading, front, depth, top, style=style)
                        else:
                            self.roofer.pitched(
                                x, y, heading, front, depth, top, hip=False, style=style
                            )
                    position += front
            for _ in range(int(parcels.area(block) / 350)):
                spot = self._within(block)
                if spot is not None:
                    self.planter.tree(*spot, rng.uniform(1.5, 4), trunk=2.5)

        self._upright.append(stand)
        self._upright.append(lambda: self._street_trees(block))

    def _flats(self, block: np.ndarray) -> None:
        rng, canvas = self.rng, self.canvas
        grounds.meadow(canvas, block, rng, dryness=self.theme.dryness)
        angle = parcels.heading(block) + rng.choice([0, np.pi / 2])
        length, width, top = rng.uniform(28, 52), rng.uniform(11, 15), 3.0 * rng.integers(4, 11)
        style = int(rng.integers(60))

        def stand() -> None:
            self._grid_of_buildings(
                block,
                angle,
                length,
                width,
                0.9 * top + 10,
                lambda x, y, a: self.roofer.flat(x, y, a, length, width, top, style=style),
            )
            self._trees_now(block, 28, (1.8, 4.2))

        self._car_park_beside(block, angle)
        self._upright.append(stand)

    def _offices(self, block: np.ndarray) -> None:
        rng, canvas = self.rng, self.canvas
        grounds.paved(canvas, block, rng, str(rng.choice(["paving", "concrete"])))
        angle = parcels.heading(block)
        for lot in parcels.subdivide(block, rng.uniform(1100, 2200), rng, skew=0.0, even=0.07)[0]:
            chance = rng.random()
            if chance < 0.15:
                grounds.meadow(canvas, lot, rng, dryness=0.5 * self.theme.dryness, lush=0.6)
                self._scatter(lot, 90, (1.6, 3.6))
            elif chance < 0.3:
                self._car_park(lot)
            else:
                self._upright.append(lambda lot=lot: self._office(lot, angle))

    def _office(self, lot: np.ndarray, angle: float) -> None:
        rng = self.rng
        long, wide = (np.diff(parcels.extent_along(lot, a))[0] for a in (angle, angle + np.pi / 2))
        for share in (0.86, 0.78, 0.7, 0.6):
            x, y, heading = self.canvas.pose(*(lot.mean(axis=0) + rng.normal(0, 1.0, 2)), angle)
            length, width = share * long - 2, share * wide - 2
            if min(length, width) > 8 and self.roofer.is_free(x, y, heading, length, width, 0.5):
                break
        else:
            return
        style, top = int(rng.integers(60)), rng.uniform(5, 18)
        self.roofer.flat(x, y, heading, length, width, top, style=style)
        if rng.random() < 0.6:
            shift = rng.uniform(-0.12, 0.12, 2) * (length, width)
            c, s = np.cos(heading), np.sin(heading)
            self.roofer.flat(
                x + shift[0] * c - shift[1] * s,
                y + shift[0] * s + shift[1] * c,
                heading,
                length * rng.uniform(0.45, 0.7),
                width * rng.uniform(0.45, 0.7),
                top + rng.uniform(4, 26),
                style=style + int(rng.integers(2)),
            )
        self._trees_now(lot, 40, (1.4, 2.8))

    def _industry(self, block: np.ndarray) -> None:
        rng, canvas = self.rng, self.canvas
        grounds.paved(canvas, block, rng, str(rng.choice(["concrete", "old asphalt", "paving"])))
        angle = parcels.heading(block)
        for lot in parcels.subdivide(block, rng.uniform(3000, 7000), rng, skew=0.0, even=0.1)[0]:
            chance = rng.random()
            if chance < 0.1:
                grounds.meadow(canvas, lot, rng, dryness=self.theme.dryness)
                self._scatter(lot, 40, (1.5, 3.6))
            elif chance < 0.25:
                self._car_park(lot)
            else:
                if chance < 0.5:
                    grounds.paved(
                        canvas, lot, rng, str(rng.choice(["concrete", "new asphalt", "gravel"]))
                    )
                self._upright.append(lambda lot=lot: self._works(lot, angle))

    def _works(self, lot: np.ndarray, angle: float) -> None:
        rng, canvas = self.rng, self.canvas
        long, wide = (np.diff(parcels.extent_along(lot, a))[0] for a in (angle, angle + np.pi / 2))
        for share in (0.85, 0.75, 0.65, 0.5):
            x, y, heading = canvas.pose(*(lot.mean(axis=0) + rng.normal(0, 2.0, 2)), angle)
            length, width = share * long, share * wide * rng.uniform(0.75, 1)
            if self.roofer.is_free(x, y, heading, length, width, 1.0):
                self.roofer.hall(
                    x, y, heading, length, width, rng.uniform(6, 13), style=int(rng.integers(60))
                )
                break
        for _ in range(rng.poisson(7)):
            spot = self._within(lot)
            if spot is not None:
                turned = heading + rng.choice([0, np.pi / 2])
                if self.roofer.is_free(*spot, turned, 12, 3, 0.3):
                    for row in range(int(rng.integers(1, 5))):
                        place = (
                            spot[0] - 2.9 * row * np.sin(turned),
                            spot[1] + 2.9 * row * np.cos(turned),
                        )
                        if self.roofer.is_free(*place, turned, 12, 3, 0.0):
                            self.roads.car(*place, turned, rng.choice([6.1, 12.2]), 2.45)
        self._trees_now(lot, 8, (1.2, 3))

    def _car_park(self, block: np.ndarray) -> None:
        rng = self.rng
        grounds.meadow(self.canvas, block, rng, dryness=self.theme.dryness)
        angle = parcels.heading(block)
        long, across = (
            np.diff(parcels.extent_along(block, a))[0] for a in (angle, angle + np.pi / 2)
        )
        centre = block.mean(axis=0)
        full = rng.uniform(0.3, 0.85)
        self._upright.append(
            lambda: self.roads.car_park(centre, angle, 0.72 * long, 0.72 * across, full)
        )
        self._scatter(block, 20, (1.5, 3.2))

    # Helpers

    @staticmethod
    def _holds(
        block: np.ndarray, centre: np.ndarray, angle: float, length: float, width: float
    ) -> bool:
        """Whether a rectangle around ``centre`` lies inside the block."""
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        corners = (
            centre + np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (length / 2, width / 2) @ turn
        )
        return float(parcels.inside_distance(block, corners[:, 0], corners[:, 1]).min()) > 4

    def _car_park_beside(self, block: np.ndarray, angle: float) -> None:
        side = np.array([-np.sin(angle), np.cos(angle)])
        low, high = parcels.extent_along(block, angle + np.pi / 2)
        long = np.diff(parcels.extent_along(block, angle))[0]
        centre = block.mean(axis=0)
        place = centre + side * ((high - 20) - centre @ side)
        full = self.rng.uniform(0.3, 0.9)
        if high - low > 50:
            self._upright.append(lambda: self.roads.car_park(place, angle, 0.5 * long, 17.5, full))

    def _grid_of_buildings(
        self,
        block: np.ndarray,
        angle: float,
        length: float,
        width: float,
        gap: float,
        put: Callable[[float, float, float], None],
    ) -> None:
        along, side = (
            np.array([np.cos(angle), np.sin(angle)]),
            np.array([-np.sin(angle), np.cos(angle)]),
        )
        u0, u1 = parcels.extent_along(block, angle)
        v0, v1 = parcels.extent_along(block, angle + np.pi / 2)
        reach = np.array([0.5 * length + 6, 0.5 * width + 6])
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * reach
        for u in np.arange(u0 + length / 2 + 8, u1 - length / 2 - 6, length + gap):
            for v in np.arange(v0 + width / 2 + 8, v1 - width / 2 - 6, width + gap):
                points = np.array([(u + cu) * along + (v + cv) * side for cu, cv in corners])
                if np.min(parcels.inside_distance(block, points[:, 0], points[:, 1])) < 0:
                    continue
                x, y, heading = self.canvas.pose(*(u * along + v * side), angle)
                if self.roofer.is_free(x, y, heading, length, width, 1.0):
                    put(x, y, heading)

    def _within(self, polygon: np.ndarray) -> tuple[float, float] | None:
        """A free place in the parcel for a tree (true coordinates), or None."""
        low, high = polygon.min(axis=0), polygon.max(axis=0)
        for _ in range(4):
            spot = self.rng.uniform(low, high)
            if parcels.inside_distance(polygon, spot[:1], spot[1:])[0] > 1.0:
                x, y = self.canvas.straighten(*spot)
                return (x, y) if self.planter.fits(x, y) else None
        return None

    def _trees_now(
        self,
        block: np.ndarray,
        per_hectare: float,
        radii: tuple[float, float],
        kind: str = "broadleaf",
    ) -> None:
        for _ in range(self.rng.poisson(per_hectare * parcels.area(block) / 1e4)):
            spot = self._within(block)
            if spot is not None:
                radius = self.rng.uniform(*radii)
                self.planter.tree(
                    *spot, radius, kind=kind, trunk=0.7 * radius if radius > 1.2 else 0.0
                )

    def _scatter(
        self,
        block: np.ndarray,
        per_hectare: float,
        radii: tuple[float, float],
        kind: str = "broadleaf",
    ) -> None:
        self._upright.append(lambda: self._trees_now(block, per_hectare, radii, kind))

    def _street_trees(self, block: np.ndarray) -> None:
        if self.rng.random() < 0.5:
            return
        centre = block.mean(axis=0)
        for start, end in zip(block, np.roll(block, -1, axis=0)):
            length = float(np.linalg.norm(end - start))
            for position in np.arange(8, length - 8, 8.5):
                edge = start + (end - start) * position / length
                spot = edge + (centre - edge) / np.linalg.norm(centre - edge) * 6.0
                self.planter.tree(
                    *self.canvas.straighten(*spot), self.rng.uniform(1.6, 2.6), trunk=2.5
                )

    def _hedge(self, plot: np.ndarray, thin: bool = False) -> None:
        rng = self.rng

        def grow() -> None:
            for start, end in zip(plot, np.roll(plot, -1, axis=0)):
                if rng.random() < (0.4 if thin else 0.55):
                    continue
                length = float(np.linalg.norm(end - start))
                low, high, pace = (0.6, 0.9, 0.7) if thin else (1.0, 3.4, 2.6)
                for position in np.arange(1, length - 1, pace):
                    spot = (
                        start
                        + (end - start) * position / length
                        + rng.normal(0, 0.1 if thin else 0.6, 2)
                    )
                    x, y = self.canvas.straighten(*spot)
                    if rng.random() < 0.93 and self.planter.fits(x, y):
                        self.planter.tree(
                            x, y, rng.uniform(low, high), trunk=0.6, which=1 if thin else None
                        )

        self._upright.append(grow)

    def _wood(
        self, block: np.ndarray, spacing: float, radii: tuple[float, float], kind: str
    ) -> None:
        rng, canvas = self.rng, self.canvas
        (x0, y0), (x1, y1) = block.min(axis=0), block.max(axis=0)
        xs, ys = np.meshgrid(np.arange(x0, x1, spacing), np.arange(y0, y1, 0.87 * spacing))
        xs[1::2] += spacing / 2
        places = np.stack([xs.ravel(), ys.ravel()], axis=1)
        places = places + rng.normal(0, 0.22 * spacing, places.shape)
        places = places[parcels.inside_distance(block, places[:, 0], places[:, 1]) > 3.0]
        slack = 30.0
        near = np.all((places > -slack) & (places < canvas.extent + slack), axis=1)
        stands = rng.integers(0, 6, 3)
        for spot in places[near]:
            x, y = canvas.straighten(*spot)
            if self.planter.fits(x, y):
                self.planter.tree(
                    x,
                    y,
                    rng.uniform(*radii),
                    kind=kind,
                    trunk=rng.uniform(4, 7),
                    which=int(stands[rng.integers(3)]),
                )


def build(samples: int, step: float, seed: int) -> tuple[Canvas, Theme, np.random.Generator]:
    """Builds the landscape of a seed; the theme goes round with the seed so that neighbours differ.

    Returns:
        The painted canvas, its theme and the generator for what comes after (haze, noise).
    """
    theme = THEMES[seed % len(THEMES)]
    rng = np.random.default_rng([seed, 21])
    sun = Sun.from_angles(rng.uniform(125, 225), rng.uniform(32, 64))
    canvas = Canvas(samples, step, sun, rng, bend=theme.bend, relief=theme.relief)
    Landscape(canvas, theme, rng).build()
    return canvas, theme, rng
