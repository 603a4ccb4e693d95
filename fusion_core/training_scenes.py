"""Scenes to train on: a pair at reduced resolution in memory, and the quarter that training never sees.

What ``reduce`` writes to files (the Wald protocol), as arrays: the MS image becomes the reference, PAN is what its sensor
would have seen on the pixels of MS, and MS what its sensor would have seen from ``ratio`` times as far.  One quarter of
the scene is held out: no training patch holds a reference pixel of it, and models are judged there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .band_matching import known_bands
from .bands import band_order
from .errors import FusionError

if TYPE_CHECKING:
    from .reduce import Reduction

LEAST_SIDE = 64
"""MS pixels that a scene needs along each side, so that its quarter can be judged and the rest holds patches."""

LARGEST_SIDE = 2048
"""MS pixels of a side that are read at most, from the middle of the scene; minutes of training do not see more."""

FILL_RADIUS = 4


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
        ms_limits: least and greatest value of each MS band, float32 (C, 2).
        dtype: numpy dtype name of MS.
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
    ms_limits: np.ndarray
    dtype: str
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
            ms_limits=self.ms_limits[index],
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
    from .raster.statistics import band_levels
    from .reduce import open_reduction

    with open_reduction(os.fspath(pan), ms, sensor, ratio) as pair:
        require_trainable(pair)
        whole = (pair.height, pair.width)
        profiles = pair.ms.profiles
        names = known_bands(
            [profile.name for profile in profiles],
            [profile.spectral for profile in profiles],
            bands,
        )
        pair.keep_middle(LARGEST_SIDE)
        notes = ()
        if whole != (pair.height, pair.width):
            notes = (
                f"Of {pair.ms.label} the {pair.width} x {pair.height} MS pixels in the middle are used.",
            )
        pan_levels, ms_levels = (
            band_levels(r.read, r.rows, r.cols, r.bands, r.label) for r in (pair.pan, pair.ms)
        )
        parts = _read(pair)
        (reference, valid), (pan_image, pan_valid), (ms_image, ms_valid) = parts
        for image, where, mean in (
            (reference, valid, ms_levels.mean),
            (ms_image, ms_valid, ms_levels.mean),
            (pan_image, pan_valid, pan_levels.mean),
        ):
            _fill(image, where, mean)
        valid = valid & pan_valid & _unmasked(mask, pair)
        return TrainingScene(
            name=pair.ms.label,
            reference=reference,
            pan=pan_image[0],
            ms=ms_image,
            valid=valid,
            ratio=pair.ratio,
            sensor=sensor,
            gains=pair.gains,
            band_names=names,
            ms_scale=ms_levels.scale,
            ms_limits=np.stack([ms_levels.least, ms_levels.greatest], axis=1),
            dtype=pair.ms.dtype,
            pan_scale=float(pan_levels.scale[0]),
            quarter=held_out_quarter(valid, pair.ratio),
            notes=notes,
        )


def require_trainable(pair: Reduction) -> None:
    """Refuse a pair that cannot be trained on, by what its headers say.

    Raises:
        FusionError: PAN has several bands, or the pair is too small.
    """
    if pair.pan.bands != 1:
        raise FusionError(
            f"{pair.pan.label} has {pair.pan.bands} bands, and training needs a PAN with one: choose that."
        )
    if min(pair.height, pair.width) < LEAST_SIDE:
        raise FusionError(
            f"{pair.ms.label} shows {pair.width} x {pair.height} MS pixels together with {pair.pan.label}, and training "
            f"needs {LEAST_SIDE} x {LEAST_SIDE}: choose a larger scene."
        )


def held_out_quarter(valid: np.ndarray, ratio: int) -> tuple[int, int, int, int]:
    """The quadrant with the most valid pixels; the lower right one where several have as many.

    Args:
        valid: bool (h, w), sides multiples of ``ratio``.
        ratio: the quadrants meet between blocks of so many pixels.

    Returns:
        Row, column, height, width.
    """
    height, width = valid.shape
    rows, cols = (size // ratio // 2 * ratio for size in (height, width))
    quadrants = [
        (row, col, tall, wide)
        for row, tall in ((rows, height - rows), (0, rows))
        for col, wide in ((cols, width - cols), (0, cols))
    ]
    return max(quadrants, key=lambda q: valid[q[0] : q[0] + q[2], q[1] : q[1] + q[3]].sum())


def _read(pair: Reduction) -> list[tuple[np.ndarray, np.ndarray]]:
    """Reference, reduced PAN and reduced MS as float32 (., h, w), each with where it is valid."""
    strip = pair.strip_rows()
    strips: list[list[tuple[np.ndarray, np.ndarray]]] = [[], [], []]
    for start in range(0, pair.height, strip):
        count = min(strip, pair.height - start)
        strips[0].append(pair.reference_strip(start, count))
        strips[1].append(pair.pan_strip(start, count))
        strips[2].append(pair.ms_strip(start // pair.ratio, count // pair.ratio))
    return [
        (
            np.concatenate([values for values, _ in part], axis=1).astype(np.float32),
            np.concatenate([where for _, where in part], axis=0),
        )
        for part in strips
    ]


def _fill(image: np.ndarray, valid: np.ndarray, mean: np.ndarray) -> None:
    from .raster.filling import fill_invalid

    if not valid.all():
        for band, far in zip(image, mean):
            fill_invalid(band, valid, FILL_RADIUS, float(far))


def _unmasked(mask: str | None, pair: Reduction) -> np.ndarray:
    """Where the mask lets train, bool (h, w); an MS pixel is masked where any of nine points in it is."""
    shape = (pair.height, pair.width)
    if not mask:
        return np.ones(shape, bool)
    from .raster.georeference import PixelMap
    from .raster.source import RasterSource
    from .raster.window import Window

    source, ms = RasterSource(mask), pair.ms
    try:
        values, known = source.read(Window(0, 0, source.rows, source.cols), slice(0, 1))
        marked = values[0] != 0 if known is None else (values[0] != 0) & known[0]
        if source.geotransform is not None and ms.geotransform is not None:
            to_mask = PixelMap.between(ms.geotransform, ms.srs, source.geotransform, source.srs)
        else:
            sizes = (source.rows, source.cols)
            if sizes not in ((ms.rows, ms.cols), (pair.pan.rows, pair.pan.cols)):
                raise FusionError(
                    f"The mask {source.label} is neither georeferenced like {ms.label} nor of the size of MS or PAN: "
                    "georeference it, or give it the size of MS."
                )
            scale = np.array([source.cols / ms.cols, source.rows / ms.rows])
            to_mask = lambda points: points * scale  # noqa: E731
    finally:
        source.close()
    free, seen = np.ones(shape, bool), False
    cols, rows = np.meshgrid(np.arange(shape[1]), np.arange(shape[0]))
    for down in (1 / 6, 1 / 2, 5 / 6):
        for right in (1 / 6, 1 / 2, 5 / 6):
            points = np.stack([cols + pair.left + right, rows + pair.top + down], axis=-1)
            places = to_mask(points.reshape(-1, 2)).reshape(*shape, 2)
            places = np.floor(np.nan_to_num(places, nan=-1.0)).astype(np.int64)
            col, row = places[..., 0], places[..., 1]
            inside = (row >= 0) & (row < marked.shape[0]) & (col >= 0) & (col < marked.shape[1])
            seen = seen or bool(inside.any())
            row, col = (np.clip(p, 0, n - 1) for p, n in zip((row, col), marked.shape))
            free &= ~(inside & marked[row, col])
    if not seen:
        raise FusionError(
            f"The mask {source.label} does not lie on {ms.label}: choose the mask of this scene."
        )
    return free
