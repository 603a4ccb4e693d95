"""Trees and bushes: crowns with leaves that the sun lights on one side."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas, Patch
from .spectra import spectrum, vary, vegetation
from .texture import smooth_field

_RADII = np.geomspace(0.8, 6.5, 14)


class Planter:
    """Stamps crowns from a small library of shapes onto a canvas."""

    def __init__(self, canvas: Canvas, rng: np.random.Generator, *, dryness: float = 0.0):
        self.canvas, self.rng = canvas, rng
        self.broadleaf = [self._foliage("leaf", dryness) for _ in range(6)]
        self.conifer = [self._foliage("needle", dryness * 0.5) for _ in range(3)]
        self._stamps = {
            kind: [self._shapes(radius, kind) for radius in _RADII]
            for kind in ("broadleaf", "conifer")
        }

    def _foliage(self, name: str, dryness: float) -> int:
        rng = self.rng
        chlorophyll = float(np.clip(rng.normal(0.6 - 0.4 * dryness, 0.2), 0, 1))
        leaf = vary(vegetation(chlorophyll, name), rng)
        wood = 0.6 * leaf + 0.4 * (0.5 * spectrum("straw") + 0.5 * spectrum("wet soil"))
        return self.canvas.add_material(0.85 * leaf, (1 - dryness) * leaf + dryness * wood)

    def _shapes(self, radius: float, kind: str) -> list[tuple[np.ndarray, ...]]:
        rng, step, sun = self.rng, self.canvas.step, self.canvas.sun
        half = int(np.ceil(1.25 * radius / step)) + 1
        axis = (np.arange(-half, half + 1) * step).astype(np.float32)
        dx, dy = axis[None, :], axis[:, None]
        distance, bearing = np.hypot(dx, dy), np.arctan2(dy, dx)
        shapes = []
        for _ in range(4):
            lobes = sum(
                rng.normal(0, 0.09 / k**0.5) * np.cos(k * bearing + rng.uniform(0, 2 * np.pi))
                for k in (2, 3, 5, 7)
            )
            relative = distance / (radius * (1 + lobes))
            inside = relative < 1
            if kind == "conifer":
                top = 1.9 * radius * (1 - relative)
            else:
                top = 0.95 * radius * np.sqrt(np.maximum(1 - relative**2, 0))
            clumps = smooth_field(2 * half + 1, max(0.55 * radius**0.6 / step, 2), rng)
            leaves = rng.standard_normal(top.shape)
            rough = top + 0.16 * radius**0.75 * clumps + 0.05 * leaves
            down, right = np.gradient(rough, step)
            lit = 0.3 * sun.z + 0.7 * sun.on_slope(0.8 * right, 0.8 * down)
            shade = 0.62 + 0.38 * np.clip(
                top / (0.9 * radius), 0, 1
            )  # leaves deep in the crown see less sky
            shapes.append(
                (
                    inside,
                    np.where(inside, rough, 0).astype(np.float32),
                    (lit * shade).astype(np.float32),
                    shade,
                )
            )
        return shapes

    def tree(
        self,
        x: float,
        y: float,
        radius: float,
        *,
        kind: str = "broadleaf",
        trunk: float = 2.0,
        which: int | None = None,
    ) -> None:
        """One crown of ``radius`` metres at true coordinates, its lower edge ``trunk`` metres up."""
        canvas, rng = self.canvas, self.rng
        radius = max(radius, 1.1 * canvas.step)
        shapes = self._stamps[kind][int(np.argmin(np.abs(_RADII - radius)))]
        inside, top, lit, shade = shapes[rng.integers(len(shapes))]
        half = inside.shape[0] // 2
        row, col = int(y / canvas.step) - half, int(x / canvas.step) - half
        r0, c0 = max(row, 0), max(col, 0)
        r1, c1 = (
            min(row + inside.shape[0], canvas.samples),
            min(col + inside.shape[1], canvas.samples),
        )
        if r0 >= r1 or c0 >= c1:
            return
        cut = (slice(r0 - row, r1 - row), slice(c0 - col, c1 - col))
        patch = Patch(slice(r0, r1), slice(c0, c1), np.empty(0), np.empty(0))
        height = top[cut] + np.float32(trunk)
        where = inside[cut] & (height > canvas.height[patch.index])
        palette = self.broadleaf if kind == "broadleaf" else self.conifer
        material = palette[rng.integers(len(palette)) if which is None else which % len(palette)]
        canvas.paint(
            patch,
            where,
            material,
            mix=rng.uniform(0, 0.9),
            gain=rng.uniform(0.85, 1.15) * shade[cut],
            height=height,
            light=lit[cut],
        )

    def fits(self, x: float, y: float) -> bool:
        """Whether a trunk can stand there: on the canvas, on no road, roof or water."""
        canvas = self.canvas
        row, col = int(y / canvas.step), int(x / canvas.step)
        return (
            0 <= row < canvas.samples and 0 <= col < canvas.samples and not canvas.taken[row, col]
        )
