"""What every classical method starts from: PAN, MS, and how one grid lies on the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from fusion_core.errors import FusionError
from fusion_core.quality.lowpass import lowpass
from fusion_core.raster.geotiff import read_bands
from fusion_core.raster.scene import Scene
from fusion_core.sensors import MS_GAIN, PAN_GAIN, find_sensor, ms_gains

from .spline import spline_matrix

DRIFT = 0.01
"""PAN pixels by which the grids may drift apart over the whole MS raster."""


@dataclass(frozen=True)
class Pair:
    """A PAN and an MS image, both float64 in their own numbers.

    Attributes:
        pan: (1, H, W).
        ms: (C, h, w).
        ratio: PAN pixels per MS pixel along an axis.
        offset: PAN row and column of the centre of the first MS pixel, whole numbers being pixel centres.
        gains: MTF gains of the MS bands at their Nyquist frequency (C,).
        pan_gain: of PAN at the Nyquist frequency of MS.
        band_names: of MS, "" where a band has none.
    """

    pan: np.ndarray
    ms: np.ndarray
    ratio: int
    offset: tuple[float, float]
    gains: tuple[float, ...]
    pan_gain: float = PAN_GAIN
    band_names: tuple[str, ...] = ()

    @classmethod
    def read(cls, pan: str | Path, ms: str | Path, sensor: str = "unknown") -> Pair:
        """Read two rasters, brought together by their georeference.

        Args:
            pan: the PAN raster.
            ms: the MS raster.
            sensor: whose MTF gains to use, see ``fusion_core.sensors``.

        Raises:
            FusionError: they cannot be read, do not fit, or their ratio is no whole number.
        """
        known = find_sensor(sensor)
        with Scene.open(str(pan), str(ms)) as scene:
            window = scene.grid.grown(2 * scene.ratio)
            pixels, (row, col) = scene.ms_pixels(window)
            if abs(scene.true_ratio - scene.ratio) * max(pixels.shape[1:]) > DRIFT:
                raise FusionError(
                    f"{ms} is {scene.true_ratio:.4g} times as coarse as PAN: choose a pair with a whole ratio."
                )
            return cls(
                pan=read_bands(str(pan))[0][:1].astype(np.float64),
                ms=pixels.astype(np.float64),
                ratio=scene.ratio,
                offset=(row + window.row, col + window.col),
                gains=ms_gains(known, scene.band_names),
                pan_gain=known.pan,
                band_names=scene.band_names,
            )

    @cached_property
    def lms(self) -> np.ndarray:
        """MS interpolated to the PAN grid (C, H, W)."""
        return self.enlarged(self.ms)

    def enlarged(self, image: np.ndarray) -> np.ndarray:
        """An image on the MS grid (C, h, w) interpolated to the PAN grid (C, H, W) by a cubic spline."""
        rows, cols = self._spline
        return rows @ image @ cols.T

    def seen(self, gains: Sequence[float]) -> np.ndarray:
        """PAN on the MS grid through a transfer function for each gain, (n, h, w)."""
        copies = np.broadcast_to(self.pan, (len(gains), *self.pan.shape[1:]))
        return lowpass(copies, self.ratio, self.ms.shape[1:], gains, self.offset)

    @cached_property
    def smooth(self) -> np.ndarray:
        """PAN without the detail that each MS band lacks (C, H, W): seen by the band and enlarged again."""
        return self.enlarged(self.seen(self.gains))

    @cached_property
    def panchromatic_weights(self) -> np.ndarray:
        """Constant and weight of each band (1 + C,) in the least-squares regression of PAN on MS, on the MS grid."""
        target = self.seen((MS_GAIN,)).ravel()
        bands = self.ms.reshape(len(self.ms), -1)
        terms = np.concatenate([np.ones((1, target.size)), bands])
        return np.linalg.lstsq(terms.T, target, rcond=None)[0]

    @cached_property
    def _spline(self) -> tuple[np.ndarray, np.ndarray]:
        rows, cols = (
            spline_matrix((np.arange(fine) - start) / self.ratio, coarse)
            for fine, start, coarse in zip(self.pan.shape[1:], self.offset, self.ms.shape[1:])
        )
        return rows, cols
