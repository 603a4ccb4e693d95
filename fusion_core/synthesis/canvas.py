"""The surface being built: what covers each sample of the ground, how high it stands and how the sun meets it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import spectra
from .texture import fractal_field, grain_field, smooth_field


@dataclass(frozen=True)
class Sun:
    """Direction to the sun as a unit vector: x to the right (east), y down (south), z up."""

    x: float
    y: float
    z: float

    @classmethod
    def from_angles(cls, azimuth: float, elevation: float) -> Sun:
        """From azimuth (degrees clockwise from north) and elevation (degrees)."""
        a, e = np.radians(azimuth), np.radians(elevation)
        return cls(float(np.sin(a) * np.cos(e)), float(-np.cos(a) * np.cos(e)), float(np.sin(e)))

    def on_slope(self, slope_x: np.ndarray, slope_y: np.ndarray) -> np.ndarray:
        """Cosine between the sun and the normal of a surface with the given height gradients, 0 or more."""
        cosine = self.z - slope_x * self.x - slope_y * self.y
        return np.maximum(cosine, 0) / np.sqrt(1 + slope_x**2 + slope_y**2)


@dataclass(frozen=True)
class Patch:
    """A rectangle of the canvas with its ground coordinates in metres."""

    rows: slice
    cols: slice
    x: np.ndarray
    """(1, width) true easting of the samples."""
    y: np.ndarray
    """(height, 1) true southing of the samples."""

    @property
    def index(self) -> tuple[slice, slice]:
        return self.rows, self.cols


class Canvas:
    """A square piece of ground sampled every ``step`` metres.

    Planar features (roads, parcels, shores) are laid out in *bent* coordinates, the true ones displaced by a slow
    wave, which is what makes straight layouts curve; solid objects stand in true coordinates.
    """

    def __init__(
        self,
        samples: int,
        step: float,
        sun: Sun,
        rng: np.random.Generator,
        *,
        bend: float,
        relief: float,
    ):
        self.samples, self.step, self.sun = samples, step, sun
        self.extent = samples * step
        shape = (samples, samples)
        self.material = np.zeros(shape, np.uint16)
        self.mix = np.zeros(shape, np.float32)
        self.gain = np.ones(shape, np.float32)
        self.height = np.zeros(shape, np.float32)
        self.taken = np.zeros(shape, bool)
        self.water = np.zeros(shape, bool)
        self.pairs: list[np.ndarray] = []
        self._waves = self._draw_waves(rng, bend)
        self.slow = fractal_field(samples, 70 / step, rng, octaves=3)
        self.mid = fractal_field(samples, 9 / step, rng, octaves=3, gain=0.7)
        self.grain = grain_field(samples, rng)
        hills = smooth_field(samples, 180 / step, rng)
        down, right = np.gradient(hills * np.float32(relief), step)
        self.light = sun.on_slope(right.astype(np.float32), down.astype(np.float32))
        axis = ((np.arange(samples) + 0.5) * step).astype(np.float32)
        self._axis = axis
        dx, dy = self._displacement(axis[None, :], axis[:, None])
        self.bent_x = axis[None, :] + dx
        self.bent_y = axis[:, None] + dy

    @staticmethod
    def _draw_waves(rng: np.random.Generator, bend: float) -> list[tuple[float, ...]]:
        waves = []
        for wavelength, share in ((520.0, 1.0), (310.0, 0.5), (190.0, 0.22)):
            for axis in range(2):
                direction, phase = rng.uniform(0, 2 * np.pi, 2)
                k = 2 * np.pi / (wavelength * rng.uniform(0.8, 1.25))
                waves.append(
                    (axis, bend * share, k * np.cos(direction), k * np.sin(direction), phase)
                )
        return waves

    def _displacement(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shift = [np.float32(0), np.float32(0)]
        for axis, amplitude, kx, ky, phase in self._waves:
            wave = np.sin(np.float32(kx) * x + np.float32(ky) * y + np.float32(phase))
            shift[axis] = shift[axis] + np.float32(amplitude) * wave
        return shift[0], shift[1]

    def straighten(self, x: float, y: float) -> tuple[float, float]:
        """True coordinates of a point given in bent ones (fixed-point iteration)."""
        px, py = x, y
        for _ in range(8):
            dx, dy = self._displacement(np.float32(px), np.float32(py))
            px, py = x - float(dx), y - float(dy)
        return px, py

    def pose(self, x: float, y: float, angle: float) -> tuple[float, float, float]:
        """True position and heading of an object given in bent coordinates."""
        px, py = self.straighten(x, y)
        qx, qy = self.straighten(x + 2 * np.cos(angle), y + 2 * np.sin(angle))
        return px, py, float(np.arctan2(qy - py, qx - px))

    def add_material(self, first: np.ndarray, second: np.ndarray | None = None) -> int:
        """Registers a material that mixes from one spectrum (mix 0) to another (mix 1); returns its number."""
        self.pairs.append(np.stack([first, first if second is None else second]))
        return len(self.pairs) - 1

    def named(self, first: str, second: str, rng: np.random.Generator, amount: float = 1.0) -> int:
        """Registers a specimen of two tabulated materials."""
        return self.add_material(
            spectra.vary(spectra.spectrum(first), rng, amount),
            spectra.vary(spectra.spectrum(second), rng, amount),
        )

    def patch(self, x0: float, x1: float, y0: float, y1: float) -> Patch | None:
        """The samples inside a rectangle of true coordinates; None where it misses the canvas."""
        c0, c1 = max(0, int(x0 / self.step)), min(self.samples, int(np.ceil(x1 / self.step)) + 1)
        r0, r1 = max(0, int(y0 / self.step)), min(self.samples, int(np.ceil(y1 / self.step)) + 1)
        if c0 >= c1 or r0 >= r1:
            return None
        return Patch(slice(r0, r1), slice(c0, c1), self._axis[None, c0:c1], self._axis[r0:r1, None])

    def bent_patch(self, points: np.ndarray, border: float) -> Patch | None:
        """The samples around points given in bent coordinates, (n, 2)."""
        slack = border + sum(abs(wave[1]) for wave in self._waves) / 2
        (x0, y0), (x1, y1) = points.min(axis=0) - slack, points.max(axis=0) + slack
        return self.patch(x0, x1, y0, y1)

    def whole(self) -> Patch:
        """All samples."""
        everything = slice(0, self.samples)
        return Patch(everything, everything, self._axis[None, :], self._axis[:, None])

    def paint(
        self,
        patch: Patch,
        where: np.ndarray,
        material: int,
        *,
        mix: np.ndarray | float = 0.0,
        gain: np.ndarray | float = 1.0,
        height: np.ndarray | float | None = None,
        light: np.ndarray | float | None = None,
        taken: bool | None = None,
    ) -> None:
        """Covers the samples of ``where`` (mask over the patch); what is None stays as it was."""
        at = patch.index
        np.copyto(self.material[at], material, where=where, casting="unsafe")
        np.copyto(self.mix[at], np.clip(mix, 0, 1), where=where, casting="unsafe")
        np.copyto(self.gain[at], np.clip(gain, 0.2, 2.5), where=where, casting="unsafe")
        if height is not None:
            np.copyto(self.height[at], height, where=where, casting="unsafe")
        if light is not None:
            np.copyto(self.light[at], light, where=where, casting="unsafe")
        if taken is not None:
            np.copyto(self.taken[at], taken, where=where)

    def shadow(self) -> np.ndarray:
        """Which samples lie in the shadow that something higher casts, (samples, samples) bool.

        Walks away from the sun line by line and carries the height that the sun rays graze: exact for any height
        field, one pass.
        """
        horizontal = np.hypot(self.sun.x, self.sun.y)
        toward_x, toward_y = self.sun.x / horizontal, self.sun.y / horizontal
        by_rows = abs(toward_y) >= abs(toward_x)
        height = self.height if by_rows else self.height.T
        along, across = (toward_y, toward_x) if by_rows else (toward_x, toward_y)
        drop = np.float32(self.step / abs(along) * self.sun.z / horizontal)
        lean = across / abs(along)  # sideways samples per line on the way to the sun
        lines = range(self.samples) if along < 0 else range(self.samples - 1, -1, -1)
        dark = np.zeros(height.shape, bool)
        ray = np.full(self.samples, -np.inf, np.float32)
        moved = 0
        for count, line in enumerate(lines):
            shift = int(np.round(count * lean)) - moved
            moved += shift
            if shift > 0:
                ray[:-shift], ray[-shift:] = ray[shift:].copy(), -np.inf
            elif shift < 0:
                ray[-shift:], ray[:-shift] = ray[:shift].copy(), -np.inf
            ray -= drop
            here = height[line]
            dark[line] = ray > here + 0.15
            np.maximum(ray, here, out=ray)
        return dark if by_rows else dark.T
