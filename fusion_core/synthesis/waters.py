"""Rivers, lakes and the sea, with their shores."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas, Patch
from .spectra import blend, spectrum, vary


def _palette(canvas: Canvas, rng: np.random.Generator, clarity: float) -> int:
    deep = blend(spectrum("algal water"), spectrum("clear water"), clarity)
    shallow = blend(spectrum("turbid water"), spectrum("clear water"), 0.3 * clarity)
    return canvas.add_material(vary(deep, rng), vary(shallow, rng))


def _flood(
    canvas: Canvas,
    patch: Patch,
    depth: np.ndarray,
    rng: np.random.Generator,
    *,
    beach: float,
    clarity: float,
    sand: bool,
) -> None:
    """Water where ``depth`` (metres from the shoreline, positive offshore) is above 0, with its beach and reeds."""
    at = patch.index
    shore = canvas.named("sand" if sand else "gravel", "gravel" if sand else "loam", rng)
    reeds = canvas.add_material(
        vary(blend(spectrum("leaf"), spectrum("straw"), 0.35), rng), vary(spectrum("leaf"), rng)
    )
    ragged = depth + (0.35 if sand else 0.9) * canvas.mid[at]
    if not sand:
        beach = beach * np.clip(0.45 + 0.6 * canvas.slow[at], 0.05, 2)
    if not sand:
        belt = ragged > -beach - 3.5 * np.clip(0.8 - canvas.slow[at], 0, 2)
        canvas.paint(
            patch, belt, reeds, mix=0.5 + 0.25 * canvas.mid[at], gain=0.85 + 0.15 * canvas.grain[at]
        )
    dry = ragged > -beach + 0.8 * canvas.mid[at]
    wetness = np.clip(1 + ragged / np.maximum(beach, 1), 0, 1) ** 2
    canvas.paint(
        patch,
        dry,
        shore,
        mix=0.2 + 0.12 * canvas.mid[at],
        gain=(1 - 0.45 * wetness) * (1 + 0.05 * canvas.grain[at]),
        taken=True,
    )
    wet = ragged > 0
    shallows = np.exp(-np.maximum(ragged, 0) / (14.0 if sand else 5.0))
    murk = 0.25 + 0.65 * shallows + 0.09 * canvas.slow[at]
    swell = np.sin(
        np.float32(2 * np.pi / 7.5) * (canvas.bent_x[at] * 0.6 + canvas.bent_y[at] * 0.8)
        + 1.5 * canvas.mid[at]
    )
    ripples = 1 + 0.035 * canvas.grain[at] + (0.05 if sand else 0.015) * swell
    canvas.paint(
        patch,
        wet,
        _palette(canvas, rng, clarity),
        mix=murk,
        gain=ripples,
        height=0,
        light=canvas.sun.z,
        taken=True,
    )
    np.copyto(canvas.water[at], True, where=wet)
    if sand:
        foam = canvas.named("foam", "clear water", rng)
        for distance, width in ((0.8, 0.9), (7.0, 0.8), (13.0, 0.5)):
            crest = np.abs(ragged - distance - 1.2 * canvas.slow[at]) < width * (
                0.6 + 0.5 * canvas.mid[at]
            )
            canvas.paint(patch, wet & crest, foam, mix=0.35 + 0.3 * np.abs(canvas.mid[at]))


def river(canvas: Canvas, rng: np.random.Generator, width: float) -> None:
    """A meandering river of about ``width`` metres across the canvas."""
    patch, at = canvas.whole(), (slice(None), slice(None))
    angle = rng.uniform(0, np.pi)
    middle = canvas.extent * rng.uniform(0.35, 0.65, 2)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along = (canvas.bent_x[at] - np.float32(middle[0])) * c + (
        canvas.bent_y[at] - np.float32(middle[1])
    ) * s
    across = (canvas.bent_y[at] - np.float32(middle[1])) * c - (
        canvas.bent_x[at] - np.float32(middle[0])
    ) * s
    for wavelength, amplitude in (
        (rng.uniform(240, 420), 1.1 * width),
        (rng.uniform(90, 150), 0.25 * width),
    ):
        across = across - np.float32(amplitude) * np.sin(
            np.float32(2 * np.pi / wavelength) * along + rng.uniform(0, 6)
        )
    depth = width / 2 * (1 + 0.1 * canvas.slow) - np.abs(across)
    _flood(
        canvas, patch, depth, rng, beach=rng.uniform(1, 4), clarity=rng.uniform(0, 0.6), sand=False
    )


def lake(canvas: Canvas, rng: np.random.Generator, radius: float) -> None:
    """A lake of about ``radius`` metres somewhere on the canvas."""
    patch = canvas.whole()
    x, y = canvas.extent * rng.uniform(0.2, 0.8, 2)
    angle, longer = rng.uniform(0, np.pi), rng.uniform(1.1, 1.8)
    dx, dy = canvas.bent_x - np.float32(x), canvas.bent_y - np.float32(y)
    u = (dx * np.float32(np.cos(angle)) + dy * np.float32(np.sin(angle))) / np.float32(longer)
    v = dy * np.float32(np.cos(angle)) - dx * np.float32(np.sin(angle))
    depth = radius * (1 + 0.14 * canvas.slow) - np.hypot(u, v)
    _flood(
        canvas,
        patch,
        depth,
        rng,
        beach=rng.uniform(0.5, 3),
        clarity=rng.uniform(0.1, 0.9),
        sand=False,
    )


def sea(canvas: Canvas, rng: np.random.Generator) -> None:
    """Open water along one side, with a beach and surf."""
    patch = canvas.whole()
    angle = rng.uniform(0, 2 * np.pi)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    half = np.float32(canvas.extent / 2)
    offshore = (
        (canvas.bent_x - half) * c
        + (canvas.bent_y - half) * s
        - np.float32(rng.uniform(0, 0.22) * canvas.extent)
    )
    depth = offshore + 5 * canvas.slow
    _flood(
        canvas, patch, depth, rng, beach=rng.uniform(9, 26), clarity=rng.uniform(0.5, 1), sand=True
    )
