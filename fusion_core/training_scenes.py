"""Scenes to train on: a pair at reduced resolution in memory, and the quarter that training never sees.

What ``reduce`` writes to files (the Wald protocol), as arrays: the MS image becomes the reference, PAN is what its sensor
would have seen on the pixels of MS, and MS what its sensor would have seen from ``ratio`` times as far.  One quarter of
the scene is held out: no training patch holds a reference pixel of it, and models are judged there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .bands import band_order


@dataclass(frozen=True)
class TrainingScene:
    """A pair at reduced resolution, in digital numbers; invalid pixels are filled from their surroundings.

    Attributes:
        name: for reports.
        reference: the MS image as it is, float32 (C, h, w); h and w are multiples of ``ratio``.
        pan: PAN on the same pixels, float32 (h, w).
        ms: MS at reduced resolution, float32 (C, h / ratio, w / ratio).
        valid: pixels of the reference that may be trained on and judged, bool (h, w).
        ratio: PAN pixels per MS pixel.
        sensor: name in ``sensors.SENSORS``.
        gains: MTF gain at Nyquist of each MS band, (C,).
        band_names: what the MS bands are, "" where nothing is known.
        ms_scale: what fusing this pair divides each MS band by, float32 (C,).
        pan_scale: what fusing this pair divides PAN by.
        quarter: the held-out part of the reference: row, column, height, width; on whole blocks of ``ratio`` pixels.
        notes: sentences the user should read.
    """

    name: str
    reference: np.ndarray
    pan: np.ndarray
    ms: np.ndarray
    valid: np.ndarray
    ratio: int
    sensor: str
    gains: tuple[float, ...]
    band_names: tuple[str, ...]
    ms_scale: np.ndarray
    pan_scale: float
    quarter: tuple[int, int, int, int]
    notes: tuple[str, ...] = ()

    def with_bands(self, wanted: Sequence[str]) -> TrainingScene | None:
        """The same with the bands in another order, by name; None where one is missing."""
        order = band_order(wanted, self.band_names)
        return None if order is None else self.with_order(order)

    def with_order(self, order: Sequence[int]) -> TrainingScene:
        """The same with the bands in another order."""
        index = list(order)
        return replace(
            self,
            reference=self.reference[index],
            ms=self.ms[index],
            gains=tuple(self.gains[i] for i in index),
            band_names=tuple(self.band_names[i] for i in index),
            ms_scale=self.ms_scale[index],
        )


def load_training_scene(
    pan: str,
    ms: str | Sequence[str],
    *,
    sensor: str = "unknown",
    mask: str | None = None,
    bands: str | Sequence[str | float] | None = None,
    ratio: int | None = None,
) -> TrainingScene:
    """Read a pair and reduce it.

    Args:
        pan: GDAL name of PAN.
        ms: GDAL name of MS, or names of several on one grid.
        sensor: name in ``sensors.SENSORS``.
        mask: GDAL name of a raster that is not 0 (nor nodata) where pixels shall not be trained on, such as clouds.
        bands: what the MS bands are, as for ``fuse``.
        ratio: PAN pixels per MS pixel of the model; None for the whole number nearest to the pair's.

    Raises:
        FusionError: the images do not fit each other, or the mask cannot be laid on them.
    """
    raise NotImplementedError
