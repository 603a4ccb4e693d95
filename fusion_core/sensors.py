"""Transfer functions of sensors: how much contrast each band keeps at its Nyquist frequency.

The gains are those that Vivone's toolboxes and their successors use (Vivone et al., IEEE Geoscience and Remote Sensing
Magazine 9(1), 2021, and the code published with it); a sensor that is not listed there gets the generic gains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .bands import canonical_band
from .errors import FusionError

MS_GAIN = 0.30
"""Of an MS band that nothing is known about."""
PAN_GAIN = 0.15
"""Of a PAN band that nothing is known about."""

_VIVONE = "Vivone et al. 2021, toolbox"


@dataclass(frozen=True)
class Sensor:
    """Gains at the Nyquist frequency of the MS grid.

    Attributes:
        bands: gain of each MS band by its one spelling (``canonical_band``), in the sensor's order.
        pan: gain of PAN.
        source: where the MS gains come from.
        pan_source: where the PAN gain comes from.
    """

    bands: dict[str, float] = field(default_factory=dict)
    pan: float = PAN_GAIN
    source: str = "generic"
    pan_source: str = "generic"


def _four(blue: float, green: float, red: float, nir: float, pan: float) -> Sensor:
    gains = {"blue": blue, "green": green, "red": red, "nir": nir}
    return Sensor(gains, pan, _VIVONE, _VIVONE)


_EIGHT = ("coastal", "blue", "green", "yellow", "red", "rededge", "nir", "nir2")

SENSORS: dict[str, Sensor] = {
    "unknown": Sensor(),
    "IKONOS": _four(0.26, 0.28, 0.29, 0.28, 0.17),
    "QuickBird": _four(0.34, 0.32, 0.30, 0.22, 0.15),
    "GeoEye-1": _four(0.23, 0.23, 0.23, 0.23, 0.16),
    "WorldView-2": Sensor(dict(zip(_EIGHT, [0.35] * 7 + [0.27])), 0.11, _VIVONE, _VIVONE),
    "WorldView-3": Sensor(
        dict(zip(_EIGHT, (0.325, 0.355, 0.360, 0.350, 0.365, 0.360, 0.335, 0.315))),
        0.14,
        _VIVONE,
        _VIVONE,
    ),
    "WorldView-4": _four(0.23, 0.23, 0.23, 0.23, 0.16),
    "Pleiades": Sensor(
        {"blue": 0.30, "green": 0.30, "red": 0.30, "nir": 0.30}, source="a public toolbox"
    ),
    "Landsat-8": Sensor(
        {"blue": 0.55, "green": 0.55, "red": 0.55, "nir": 0.53},
        source="measured on the moon, 2014; blue, green, red and near infrared only",
    ),
}
"""By name.  "unknown" also serves GaoFen-2, SPOT, PlanetScope and others nobody has published gains for."""


def find_sensor(name: str) -> Sensor:
    """The sensor of that name, upper or lower case.

    Raises:
        FusionError: there is none.
    """
    for known, sensor in SENSORS.items():
        if known.lower() == name.strip().lower():
            return sensor
    raise FusionError(f"The sensor {name} is not known: choose one of {', '.join(SENSORS)}.")


def ms_gains(sensor: Sensor, band_names: Sequence[str]) -> tuple[float, ...]:
    """The gain of each MS band.

    Bands count by name where all have one that is known, else by place where there are as many as the sensor has;
    a band that the sensor's list lacks gets the generic gain.

    Args:
        sensor: one of ``SENSORS``.
        band_names: names of the bands, "" where there is none; as many as there are bands.
    """
    names = [canonical_band(name) for name in band_names]
    if "nirn" not in sensor.bands:
        # Bands that are known by a wavelength of about 865 nm, which is all the near infrared of some sensors.
        names = ["nir" if name == "nirn" else name for name in names]
    if "" in names and len(names) == len(sensor.bands):
        return tuple(sensor.bands.values())
    return tuple(sensor.bands.get(name, MS_GAIN) for name in names)
