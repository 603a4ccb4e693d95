"""Sensors: spectral responses, sampling with an optical transfer function, noise and quantisation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import FusionError
from .spectra import WAVELENGTHS

FULL_SCALE = 2047
"""Greatest digital number: 11 bits."""

_CHANNELS = {
    "Coastal": (400, 450, 0.32),
    "Blue": (450, 515, 0.30),
    "Green": (515, 590, 0.30),
    "Yellow": (585, 625, 0.31),
    "Red": (630, 690, 0.29),
    "RedEdge": (705, 745, 0.29),
    "RedEdge2": (730, 750, 0.29),
    "RedEdge3": (770, 795, 0.29),
    "NIR": (770, 895, 0.27),
    "NIR1": (770, 895, 0.28),
    "NIR2": (860, 1040, 0.27),
    "SWIR1": (1560, 1660, 0.29),
    "SWIR2": (2100, 2290, 0.29),
}
"""Band name: first and last nanometre at half response, MTF gain at the Nyquist frequency."""

_SETS = {
    2: ("Red", "NIR"),
    3: ("Blue", "Green", "Red"),
    4: ("Blue", "Green", "Red", "NIR"),
    5: ("Blue", "Green", "Red", "RedEdge", "NIR"),
    6: ("Blue", "Green", "Red", "NIR", "SWIR1", "SWIR2"),
    7: ("Coastal", "Blue", "Green", "Red", "NIR", "SWIR1", "SWIR2"),
    8: ("Coastal", "Blue", "Green", "Yellow", "Red", "RedEdge", "NIR1", "NIR2"),
    10: (
        *("Blue", "Green", "Red", "RedEdge", "RedEdge2", "RedEdge3", "NIR", "NIR2"),
        *("SWIR1", "SWIR2"),
    ),
}
_WINDOWS = ((420, 900), (985, 1095), (1185, 1305), (1500, 1760), (2060, 2340))
"""Where the air is clear, nanometres: bands beyond the named sets are spread over these."""


@dataclass(frozen=True)
class Channel:
    """One band: name, spectral response on the spectra's wavelengths (sums to 1), MTF gain at its Nyquist frequency."""

    name: str
    response: np.ndarray
    mtf: float


def _response(first: float, last: float) -> np.ndarray:
    edge = max(4.0, 0.06 * (last - first))
    rise = 1 / (1 + np.exp(-(WAVELENGTHS - first) / edge))
    fall = 1 / (1 + np.exp((WAVELENGTHS - last) / edge))
    return rise * fall / (rise * fall).sum()


def ms_channels(bands: int) -> tuple[Channel, ...]:
    """The bands of a multispectral sensor: well-known sets for 2 to 8 and 10 bands, evenly spread ones otherwise.

    Raises:
        FusionError: fewer than 2 or more than 256 bands.
    """
    if not 2 <= bands <= 256:
        raise FusionError(
            f"A sample scene has 2 to 256 bands, not {bands}: choose a number of bands in that range."
        )
    if bands in _SETS:
        return tuple(
            Channel(name, _response(*_CHANNELS[name][:2]), _CHANNELS[name][2])
            for name in _SETS[bands]
        )
    clear = np.concatenate([np.arange(first, last, 1.0) for first, last in _WINDOWS])
    centres = clear[((np.arange(bands) + 0.5) * len(clear) / bands).astype(int)]
    width = min(60.0, max(10.0, 0.8 * len(clear) / bands))
    return tuple(
        Channel(f"{centre:.0f} nm", _response(centre - width / 2, centre + width / 2), 0.29)
        for centre in centres
    )


def pan_channel(bands: int) -> Channel:
    """The panchromatic band that goes with ``ms_channels(bands)``; 450 to 900 nm, Landsat's starts in the green."""
    first, last = (520, 900) if bands in (6, 7) else (450, 900)
    return Channel("PAN", _response(first, last), 0.15)


def sample_grid(
    radiance: np.ndarray, step: int, count: int, margin: int, gain: float, trim: float = 0.0
) -> np.ndarray:
    """Samples a fine image on a coarser grid through a Gaussian transfer function.

    Args:
        radiance: fine image (n, n).
        step: fine samples per target pixel; target pixel i is centred on fine samples margin + i*step ... + step - 1.
        count: target pixels along each axis.
        margin: fine samples before the first target pixel, at least four standard deviations of the Gaussian.
        gain: transfer at the target's Nyquist frequency, 0..1.
        trim: extra blur already in the fine image, as a variance in fine samples squared.

    Returns:
        (count, count) float32.
    """
    # exp(-2 pi^2 sigma^2 f^2) = gain at f = 1 / (2 step)
    variance = -2 * np.log(gain) * (step / np.pi) ** 2 - trim
    sigma = np.sqrt(max(variance, 0.05))
    centre = (step - 1) / 2
    reach = int(np.ceil(4 * sigma))
    taps = np.arange(int(np.floor(centre)) - reach, int(np.ceil(centre)) + reach + 1)
    weights = np.exp(-0.5 * ((taps - centre) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    span = (count - 1) * step + 1
    rows = np.zeros((count, radiance.shape[1]), np.float32)
    for tap, weight in zip(taps, weights):
        rows += weight * radiance[margin + tap : margin + tap + span : step]
    result = np.zeros((count, count), np.float32)
    for tap, weight in zip(taps, weights):
        result += weight * rows[:, margin + tap : margin + tap + span : step]
    return result


def digitise(
    signal: np.ndarray, rng: np.random.Generator | None, shot: float, read: float
) -> np.ndarray:
    """Digital numbers from a noise-free signal in DN: shot noise of variance ``shot * signal``, read noise, rounding.

    Without ``rng`` nothing but rounding and clipping to 0 .. ``FULL_SCALE`` is done.  Returns uint16.
    """
    if rng is not None:
        deviation = np.sqrt(np.maximum(shot * signal, 0) + read**2)
        signal = signal + deviation * rng.standard_normal(signal.shape, dtype=np.float32)
    return np.clip(np.rint(signal), 0, FULL_SCALE).astype(np.uint16)
