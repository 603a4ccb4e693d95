"""Sunlight at the ground and the light that the air adds, enough for a plausible scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .spectra import WAVELENGTHS


@dataclass(frozen=True)
class Illumination:
    """Spectral terms of the at-sensor radiance, each of shape (201,) on ``WAVELENGTHS``.

    radiance = reflectance * (direct * n.s + diffuse * sky view) + path, n.s being the cosine between the surface
    normal and the sun.  Units are W m-2 sr-1 um-1 (the upward transmittance and 1/pi are included).
    """

    direct: np.ndarray
    diffuse: np.ndarray
    path: np.ndarray


def solar_irradiance() -> np.ndarray:
    """Irradiance outside the atmosphere on ``WAVELENGTHS``: a 5778 K black body, W m-2 um-1."""
    um = WAVELENGTHS / 1000
    exitance = 3.7418e8 / (um**5 * (np.exp(14387.8 / (um * 5778)) - 1))
    sun_radius_per_distance = 6.957e8 / 1.496e11
    return exitance * sun_radius_per_distance**2


def illumination(cos_zenith: float, visibility_km: float, vapour: float = 1.0) -> Illumination:
    """Single-scattering clear-sky model.

    Args:
        cos_zenith: cosine of the sun's zenith angle, above 0.
        visibility_km: horizontal visibility; 5 is hazy, 60 very clear.
        vapour: column water vapour relative to a mid-latitude summer.
    """
    um = WAVELENGTHS / 1000
    rayleigh = 0.00864 * um ** -(3.916 + 0.074 * um + 0.05 / um)
    aerosol = (3.912 / visibility_km * 1.1) * (um / 0.55) ** -1.3
    bands = (
        (0.94, 0.03, 0.35),
        (1.13, 0.03, 0.4),
        (1.38, 0.06, 3.0),
        (1.87, 0.07, 3.0),
        (2.4, 0.06, 0.3),
    )
    gas = sum(
        vapour * depth * np.exp(-(((um - centre) / width) ** 2)) for centre, width, depth in bands
    )
    gas = gas + 0.03 * np.exp(-(((um - 0.6) / 0.06) ** 2))  # ozone
    scattering = rayleigh + aerosol
    sun = solar_irradiance()
    down = np.exp(-(rayleigh + 0.7 * aerosol + gas) / cos_zenith)
    up = np.exp(-(0.5 * rayleigh + 0.2 * aerosol + gas))
    scattered = sun * cos_zenith * np.exp(-gas) * (1 - np.exp(-scattering / cos_zenith))
    diffuse = scattered * (0.5 * rayleigh + 0.75 * aerosol) / scattering
    # Air lights the whole path; Rayleigh sends half of it up, aerosol (forward scattering) far less.
    path = scattered * (0.36 * rayleigh + 0.12 * aerosol) / scattering / np.pi
    return Illumination(sun * down * up / np.pi, diffuse * up / np.pi, path)
