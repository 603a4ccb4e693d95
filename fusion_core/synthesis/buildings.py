"""Buildings: roofs of several shapes and materials, lit by the sun, with what stands on them."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas

PITCHED = (
    ("red tile", "brown tile"),
    ("brown tile", "red tile"),
    ("slate", "rock"),
    ("red tile", "concrete"),
)
FLAT = (
    ("gravel", "concrete"),
    ("bitumen", "old asphalt"),
    ("white roof", "concrete"),
    ("concrete", "gravel"),
)
HALLS = (
    ("zinc", "concrete"),
    ("white roof", "zinc"),
    ("blue paint", "zinc"),
    ("rust", "zinc"),
    ("green paint", "zinc"),
)


class Roofer:
    """Puts buildings on a canvas; keeps the palette of roof specimens of one place."""

    def __init__(
        self, canvas: Canvas, rng: np.random.Generator, weights: tuple[float, ...] = (4, 2, 2, 1)
    ):
        self.canvas, self.rng = canvas, rng
        share = np.array(weights, float)
        self._pitched = [
            canvas.named(*PITCHED[kind], rng, 1.3)
            for kind in rng.choice(len(PITCHED), 10, p=share / share.sum())
        ]
        self._flat = [canvas.named(*FLAT[i % len(FLAT)], rng, 1.4) for i in range(10)]
        self._halls = [
            canvas.named(*HALLS[i], rng, 1.2)
            for i in rng.choice(len(HALLS), 8, p=(0.35, 0.3, 0.13, 0.1, 0.12))
        ]
        self._panel = canvas.named("solar panel", "solar panel", rng)
        self._fitting = canvas.named("zinc", "concrete", rng)
        self._glass = canvas.named("glass", "zinc", rng)
        self._dark = canvas.named("bitumen", "slate", rng)

    def _local(self, x: float, y: float, angle: float, length: float, width: float):
        reach = 0.5 * np.hypot(length, width) + 1.0
        patch = self.canvas.patch(x - reach, x + reach, y - reach, y + reach)
        if patch is None:
            return None
        dx, dy = patch.x - np.float32(x), patch.y - np.float32(y)
        c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        return patch, dx * c + dy * s, dy * c - dx * s

    def is_free(
        self, x: float, y: float, angle: float, length: float, width: float, gap: float = 1.5
    ) -> bool:
        """Whether nothing stands or runs where the footprint and ``gap`` metres around it would be."""
        local = self._local(x, y, angle, length + 2 * gap, width + 2 * gap)
        if local is None:
            return False
        patch, u, v = local
        inside = (np.abs(u) < length / 2 + gap) & (np.abs(v) < width / 2 + gap)
        return not bool(np.any(self.canvas.taken[patch.index] & inside))

    def footprint(self, x: float, y: float, angle: float, length: float, width: float):
        """The patch and the mask of a rectangle in true coordinates; None where it misses the canvas."""
        local = self._local(x, y, angle, length, width)
        if local is None:
            return None
        patch, u, v = local
        return patch, (np.abs(u) <= length / 2) & (np.abs(v) <= width / 2)

    def _paint_roof(self, patch, where, u, v, top, slope_u, slope_v, angle, material, mix, gain):
        canvas = self.canvas
        where = where & (top > canvas.height[patch.index])
        c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        light = canvas.sun.on_slope(slope_u * c - slope_v * s, slope_u * s + slope_v * c)
        canvas.paint(
            patch, where, material, mix=mix, gain=gain, height=top, light=light, taken=True
        )

    def pitched(
        self,
        x: float,
        y: float,
        angle: float,
        length: float,
        width: float,
        eave: float,
        *,
        hip: bool,
        style: int,
    ) -> None:
        """A gable or hip roof, its ridge along ``angle``; sizes and eave height in metres, true coordinates."""
        local = self._local(x, y, angle, length, width)
        if local is None:
            return
        patch, u, v = local
        rng, canvas = self.rng, self.canvas
        rise = np.float32(np.tan(np.radians(24 + 16 * ((style * 7) % 10) / 10)))
        where = (np.abs(u) <= length / 2) & (np.abs(v) <= width / 2)
        from_side, from_end = width / 2 - np.abs(v), length / 2 - np.abs(u)
        on_end = (from_end < from_side) if hip else np.zeros(where.shape, bool)
        top = eave + rise * np.where(on_end, from_end, from_side)
        slope_u = np.where(on_end, -rise * np.sign(u), 0).astype(np.float32)
        slope_v = np.where(on_end, 0, -rise * np.sign(v)).astype(np.float32)
        at = patch.index
        weathering = 0.25 + 0.12 * canvas.mid[at] + rng.normal(0, 0.08)
        courses = 1 + 0.035 * np.sin(np.float32(2 * np.pi / 1.4) * v) + 0.05 * canvas.grain[at]
        ridge = np.where(from_side > width / 2 - 0.25, 1.12, 1.0)
        material = self._pitched[style % len(self._pitched)]
        self._paint_roof(
            patch,
            where,
            u,
            v,
            top,
            slope_u,
            slope_v,
            angle,
            material,
            weathering,
            courses * ridge * rng.normal(1, 0.06),
        )
        if not hip and rng.random() < 0.25 and length > 7:
            # Panels go on the side that faces the sun.
            side = 1.0 if -np.sin(angle) * canvas.sun.x + np.cos(angle) * canvas.sun.y > 0 else -1.0
            span = rng.uniform(0.25, 0.4) * length
            strip = (
                where & (np.abs(u) < span) & (v * side > 0.12 * width) & (v * side < 0.4 * width)
            )
            cells = 1 + 0.12 * (np.mod(u, 1.0) < 0.2)
            canvas.paint(patch, strip & (top >= canvas.height[at]), self._panel, gain=cells)
        if rng.random() < 0.7:
            cu, cv = rng.uniform(-0.35, 0.35) * length, rng.uniform(0.05, 0.2) * width
            self._block(
                x,
                y,
                angle,
                cu,
                cv,
                0.9,
                0.9,
                eave + float(rise) * width / 2 + 0.8,
                self._pitched[0],
            )

    def _block(self, x, y, angle, u, v, length, width, top, material):
        c, s = np.cos(angle), np.sin(angle)
        local = self._local(x + u * c - v * s, y + u * s + v * c, angle, length, width)
        if local is None:
            return
        patch, du, dv = local
        where = (
            (np.abs(du) <= length / 2)
            & (np.abs(dv) <= width / 2)
            & (top > self.canvas.height[patch.index])
        )
        self.canvas.paint(
            patch,
            where,
            material,
            mix=self.rng.random(),
            gain=self.rng.uniform(0.8, 1.15),
            height=top,
            light=self.canvas.sun.z,
        )

    def flat(
        self,
        x: float,
        y: float,
        angle: float,
        length: float,
        width: float,
        top: float,
        *,
        style: int,
    ) -> None:
        """A flat roof with parapet and machinery."""
        local = self._local(x, y, angle, length, width)
        if local is None:
            return
        patch, u, v = local
        rng, canvas, at = self.rng, self.canvas, patch.index
        where = (np.abs(u) <= length / 2) & (np.abs(v) <= width / 2)
        edge = np.minimum(length / 2 - np.abs(u), width / 2 - np.abs(v))
        parapet = edge < 0.45
        flat = np.zeros(where.shape, np.float32)
        height = np.where(parapet, top + 0.7, top).astype(np.float32)
        stains = 0.3 + 0.2 * canvas.mid[at] + 0.25 * (edge < 1.6)
        seams = 1 - 0.05 * (np.mod(u + 100, 6.0) < 0.35) + 0.05 * canvas.grain[at]
        brightness = np.where(parapet, 1.15, seams) * rng.normal(1, 0.08)
        material = self._flat[style % len(self._flat)]
        self._paint_roof(
            patch, where, u, v, height, flat, flat, angle, material, stains, brightness
        )
        for _ in range(rng.poisson(length * width / 130)):
            bu, bv = rng.uniform(-0.4, 0.4) * length, rng.uniform(-0.36, 0.36) * width
            size = rng.uniform(1.0, 3.2, 2)
            self._block(
                x, y, angle, bu, bv, size[0], size[1], top + rng.uniform(0.9, 2.8), self._fitting
            )

    def hall(
        self,
        x: float,
        y: float,
        angle: float,
        length: float,
        width: float,
        top: float,
        *,
        style: int,
    ) -> None:
        """A large shed with a ribbed, slightly pitched roof and rooflights."""
        local = self._local(x, y, angle, length, width)
        if local is None:
            return
        patch, u, v = local
        rng, canvas, at = self.rng, self.canvas, patch.index
        where = (np.abs(u) <= length / 2) & (np.abs(v) <= width / 2)
        bay = width / max(1, round(width / 28))
        across = np.mod(v + width / 2, bay) - bay / 2
        rise = np.float32(0.09)
        height = top + rise * (bay / 2 - np.abs(across))
        ribs = 1 + 0.05 * np.sin(np.float32(2 * np.pi / 2.2) * u) + 0.03 * canvas.grain[at]
        sheets = 1 + 0.04 * np.sign(np.sin(np.float32(0.35) * u + style))
        dirt = 0.25 + 0.07 * canvas.mid[at] + 0.2 * (np.abs(across) > bay / 2 - 0.8)
        material = self._halls[style % len(self._halls)]
        slope_v = (-rise * np.sign(across)).astype(np.float32)
        zero = np.zeros(where.shape, np.float32)
        self._paint_roof(
            patch,
            where,
            u,
            v,
            height,
            zero,
            slope_v,
            angle,
            material,
            dirt,
            ribs * sheets * rng.normal(1, 0.07),
        )
        if rng.random() < 0.7:
            period = rng.uniform(7, 12)
            lights = (
                where
                & (np.mod(u + 50, period) < 1.3)
                & (np.abs(np.abs(across) - bay / 4) < bay / 8)
            )
            canvas.paint(
                patch,
                lights & (height >= canvas.height[at]),
                self._glass,
                mix=0.3 + 0.15 * canvas.mid[at],
            )
        for _ in range(rng.poisson(length * width / 500)):
            bu, bv = rng.uniform(-0.4, 0.4) * length, rng.uniform(-0.4, 0.4) * width
            self._block(
                x,
                y,
                angle,
                bu,
                bv,
                rng.uniform(1.2, 3),
                rng.uniform(1.2, 3),
                top + 3.2,
                self._fitting,
            )
