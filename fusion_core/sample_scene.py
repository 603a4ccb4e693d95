"""A synthetic PAN/MS pair with its truth: a landscape with spectra, sunlight, air and two sensors.

The scene is what a user without data fuses first, what tests measure on, and training material whose truth is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import FusionError
from .synthesis import landscape
from .synthesis.atmosphere import illumination
from .synthesis.canvas import Canvas
from .synthesis.sensor import Channel, digitise, ms_channels, pan_channel, sample_grid

SAMPLES_PER_PIXEL = 2
"""The ground is rendered this many times finer than PAN along each axis, so that edges are mixed, not stepped."""

CRS = "EPSG:32633"
ORIGIN = (500000.0, 5400000.0)
"""Map coordinates of the upper left corner, metres."""


@dataclass(frozen=True)
class SampleScene:
    """A pair as two sensors on one satellite would see it, and the truth at PAN resolution.

    Geotransforms follow GDAL: (left, pixel width, 0, top, 0, -pixel height).
    """

    pan: np.ndarray
    """(1, size, size) uint16, 11 bits."""
    ms: np.ndarray
    """(bands, size / ratio, size / ratio) uint16; each pixel is centred on its block of ratio x ratio PAN pixels."""
    reference: np.ndarray
    """(bands, size, size) uint16: MS bands without noise, sampled like PAN."""
    band_names: tuple[str, ...]
    geotransform: tuple[float, ...]
    """Of ``pan`` and ``reference``."""
    ms_geotransform: tuple[float, ...]
    crs: str
    ratio: int
    theme: str
    """What kind of place it is, in a few words."""


def make_sample_scene(
    size: int = 512, bands: int = 4, ratio: int = 4, seed: int = 0, *, pixel_size: float = 0.5
) -> SampleScene:
    """Makes a scene; the same arguments give the same scene, another seed another landscape.

    Ten kinds of place take turns as the seed grows, each with its own layout, materials, sun and haze.  At-sensor
    radiance comes from tabulated reflectance spectra through a single-scattering atmosphere and the bands' spectral
    responses; the transfer functions are Gaussians with usual gains at the Nyquist frequency (MS about 0.3, PAN 0.15).

    Args:
        size: PAN pixels along each side, a multiple of ``ratio``, 16 to 8192.
        bands: MS bands, 2 to 256; 3 to 8 and 10 are well-known sets (4: blue, green, red, near infrared).
        ratio: PAN pixels per MS pixel along each axis, 2 to 16.
        seed: any whole number of 0 or more.
        pixel_size: PAN pixel in metres, 0.2 to 5.

    Returns:
        The scene.  Making it takes about 100 bytes per rendered sample, of which there are ``2 * size`` squared.

    Raises:
        FusionError: an argument is out of range.
    """
    _check(size, ratio, seed, pixel_size)
    channels, pan_band = ms_channels(bands), pan_channel(bands)
    # The margin lets the transfer functions and the shadows of what stands outside reach in.
    margin = SAMPLES_PER_PIXEL * 4 * max(ratio, 4)
    samples = SAMPLES_PER_PIXEL * size + 2 * margin
    canvas, theme, rng = landscape.build(samples, pixel_size / SAMPLES_PER_PIXEL, seed)
    render = _Renderer(canvas, rng)
    del canvas  # the larger part of the memory is not needed any more
    fine, coarse = SAMPLES_PER_PIXEL, SAMPLES_PER_PIXEL * ratio
    pan = np.empty((1, size, size), np.uint16)
    ms = np.empty((bands, size // ratio, size // ratio), np.uint16)
    reference = np.empty((bands, size, size), np.uint16)
    noise = np.random.default_rng([seed, 22])
    for band, channel in enumerate(channels):
        signal = render(channel)
        reference[band] = digitise(sample_grid(signal, fine, size, margin, channel.mtf), None, 0, 0)
        blurred = sample_grid(signal, coarse, size // ratio, margin, channel.mtf)
        ms[band] = digitise(blurred, noise, shot=0.012, read=0.8)
    pan[0] = digitise(
        sample_grid(render(pan_band), fine, size, margin, pan_band.mtf), noise, shot=0.03, read=1.2
    )
    left, top = ORIGIN
    step = pixel_size * ratio
    return SampleScene(
        pan=pan,
        ms=ms,
        reference=reference,
        band_names=tuple(channel.name for channel in channels),
        geotransform=(left, pixel_size, 0.0, top, 0.0, -pixel_size),
        ms_geotransform=(left, step, 0.0, top, 0.0, -step),
        crs=CRS,
        ratio=ratio,
        theme=theme.name,
    )


def _check(size: int, ratio: int, seed: int, pixel_size: float) -> None:
    if not 2 <= ratio <= 16:
        raise FusionError(f"The ratio of a sample scene is 2 to 16, not {ratio}: choose 2 or 4.")
    if not 16 <= size <= 8192 or size % ratio:
        raise FusionError(
            f"The size of a sample scene must be a multiple of {ratio} from 16 to 8192, not {size}."
        )
    if seed < 0:
        raise FusionError(f"The seed of a sample scene must be 0 or more, not {seed}.")
    if not 0.2 <= pixel_size <= 5:
        raise FusionError(f"The PAN pixel of a sample scene is 0.2 to 5 metres, not {pixel_size}.")


class _Renderer:
    """Turns the canvas into the noise-free signal of a band, in digital numbers."""

    def __init__(self, canvas: Canvas, rng: np.random.Generator):
        self.light = illumination(
            canvas.sun.z, visibility_km=float(np.exp(rng.uniform(np.log(9), np.log(60))))
        )
        # Sensors are set up so that a bright surface under a high sun still fits.
        self.full = illumination(0.9, visibility_km=30.0)
        dark = canvas.shadow()
        self.sunlit = np.where(dark, np.float32(0.04), canvas.light)
        self.sky = np.where(dark, np.float32(0.75), np.float32(1.0))
        self.sky *= canvas.gain
        self.sunlit *= canvas.gain
        self.material, self.mix = canvas.material, canvas.mix
        self.pairs = np.stack(canvas.pairs)

    def __call__(self, channel: Channel) -> np.ndarray:
        direct = self.pairs @ (channel.response * self.light.direct)
        diffuse = self.pairs @ (channel.response * self.light.diffuse)
        bright = channel.response @ (
            0.62 * (0.9 * self.full.direct + self.full.diffuse) + self.full.path
        )
        scale = 2047 / bright
        table = (scale * np.stack([direct, diffuse])).astype(np.float32)
        signal = np.full(
            self.material.shape, np.float32(scale * (channel.response @ self.light.path))
        )
        for terms, factor in zip(table, (self.sunlit, self.sky)):
            first = terms[:, 0][self.material]
            first += self.mix * (terms[:, 1] - terms[:, 0])[self.material]
            first *= factor
            signal += first
        return signal
