"""A panchromatic and a multispectral raster on one grid, read window by window."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..errors import FusionError
from .alignment import AxisAlignment, AxisTaps, interpolate
from .filling import fill_invalid
from .georeference import (
    Geotransform,
    edge_points,
    matrix_of,
    same_srs,
    shifted,
    srs_from_wkt,
    transformation_between,
    transformed,
    wkt_of,
)
from .pairing import Pairing, pair
from .reprojection import ReprojectedStack
from .source import BandProfile
from .stack import RasterStack
from .statistics import BandLevels, band_levels
from .window import Window

FILL_RADIUS = 4
"""Pixels around valid data, in PAN and in MS pixels, that continue it; at least what a cubic tap can reach."""

SNAP = 0.01
"""Part of a pixel by which an extent may miss a pixel's edge and still mean it."""

PIXEL_MAP = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
"""Where QGIS draws a raster without georeference."""


@dataclass(frozen=True)
class SceneWindow:
    """One window of a scene, in the scene's digital numbers.

    Attributes:
        pan: panchromatic pixels, float32 (P, H, W).
        ms: multispectral pixels on the coarse grid, float32 (C, H / ratio, W / ratio).
        lms: multispectral pixels interpolated to the PAN grid, float32 (C, H, W).
        valid: whether PAN and the MS pixel underneath both hold data, bool (H, W).
    """

    pan: np.ndarray
    ms: np.ndarray
    lms: np.ndarray
    valid: np.ndarray


class Scene:
    """A PAN and an MS raster that fit.

    Every pixel is a function of its absolute position, so overlapping windows agree bit for bit.

    Attributes:
        ratio: PAN pixels a coarse pixel.
        true_ratio: PAN pixels an MS pixel.
        grid: the PAN raster.
        phase: row and column of PAN, each 0 .. ratio - 1, on which a coarse pixel starts.
        overlap: the PAN pixels that both rasters cover.
        pan_bands: bands of PAN.
        ms_bands: bands of MS.
        transparencies: bands of MS that are marked as a transparency and not among those.
        band_names: descriptions of the MS bands, "" where there is none.
        spectral_bands: ``canonical_band`` of the MS bands by all that the files say, "" where they do not.
        band_profiles: what else the MS bands say about themselves.
        ms_dtype: numpy dtype name of MS.
        nodata: nodata value of MS, None if it has none.
        geotransform: of PAN, None where neither raster is georeferenced.
        crs_wkt: coordinate system of PAN, or of MS where PAN has none; "" for none.
        pixel_is_point: whether PAN says that its pixels are points.
        may_have_invalid: whether any pixel of the overlap can be invalid.
        files: absolute paths of all input files.
    """

    def __init__(self, pan: RasterStack, ms: RasterStack, pairing: Pairing) -> None:
        """Use ``Scene.open``."""
        self._pan = pan
        self._original = ms
        self._ms = pairing.ms
        self._rows = pairing.rows
        self._cols = pairing.cols
        self.ratio = pairing.ratio
        self.true_ratio = pairing.true_ratio
        self.grid = Window(0, 0, pan.rows, pan.cols)
        self.phase = (self._rows.phase, self._cols.phase)
        self.overlap = pairing.overlap
        self.pan_bands = pan.bands
        self.ms_bands = ms.bands
        self.transparencies = ms.all_bands - ms.bands
        self.band_profiles: tuple[BandProfile, ...] = ms.profiles
        self.band_names = tuple(profile.name for profile in ms.profiles)
        self.spectral_bands = tuple(profile.spectral for profile in ms.profiles)
        self.ms_dtype = ms.dtype
        self.nodata = ms.nodata[0]
        self.geotransform: Geotransform | None = pan.geotransform
        self._srs = ms.srs if pan.srs is None else pan.srs
        self.crs_wkt = wkt_of(self._srs)
        self.pixel_is_point = pan.point
        self.may_have_invalid = (
            pan.may_have_invalid or ms.may_have_invalid or self._ms is not self._original
        )
        self.files = pan.files | ms.files
        self._last_columns: tuple[tuple[int, int], _Pixels] | None = None

    @classmethod
    def open(
        cls,
        pan: str,
        ms: str | Sequence[str],
        ratio: int | None = None,
        ms_bands: int | None = None,
    ) -> Scene:
        """Open a pair of rasters.

        Args:
            pan: GDAL name of the sharp raster.
            ms: GDAL name of the multispectral raster, or names of several on one grid, stacked in that order.
            ratio: PAN pixels a coarse pixel, 2 or more; the nearer of 2 and 4 to the true ratio if None.
            ms_bands: how many bands the user counts in MS, as for ``RasterStack.open``.

        Raises:
            FusionError: a raster cannot be used, or the two do not fit; the sentence says why.
        """
        names = [ms] if isinstance(ms, (str, os.PathLike)) else list(ms)
        pan_stack = RasterStack.open([pan])
        ms_stack = RasterStack.open(names, ms_bands)
        return cls(pan_stack, ms_stack, pair(pan_stack, ms_stack, ratio))

    def close(self) -> None:
        """Release the files."""
        for stack in (self._pan, self._ms, self._original):
            stack.close()

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @cached_property
    def pan_levels(self) -> BandLevels:
        """Levels of the PAN bands; measured when first asked for.

        Raises:
            FusionError: a band has no valid pixel, or the file cannot be read.
        """
        pan = self._pan
        return band_levels(pan.read, pan.rows, pan.cols, pan.bands, pan.label)

    @cached_property
    def ms_levels(self) -> BandLevels:
        """Levels of the MS bands, of the raster as it was given; measured and failing like ``pan_levels``."""
        ms = self._original
        return band_levels(ms.read, ms.rows, ms.cols, ms.bands, ms.label)

    @property
    def pan_scale(self) -> np.ndarray:
        """98th percentile of each PAN band, float32 (P,), greater than 0."""
        return self.pan_levels.scale

    @property
    def ms_scale(self) -> np.ndarray:
        """98th percentile of each MS band, float32 (C,), greater than 0."""
        return self.ms_levels.scale

    @property
    def ms_limits(self) -> np.ndarray:
        """Least and greatest value of each MS band's sample, float32 (C, 2)."""
        return np.stack([self.ms_levels.least, self.ms_levels.greatest], axis=1)

    def read(self, window: Window) -> SceneWindow:
        """Read a window; what lies outside a raster repeats its edge.

        Args:
            window: PAN pixels on whole coarse pixels: it starts on ``phase`` modulo ``ratio`` and its sides are
                multiples of ``ratio``.

        Raises:
            FusionError: the pixels cannot be read.
            ValueError: the window is empty or not on whole coarse pixels.
        """
        return self.begin(window).complete()

    def begin(self, window: Window) -> PendingWindow:
        """Read the pixels of a window and see which are valid, without filling or interpolating anything.

        For the parts of a scene that may turn out to hold no data at all; arguments and errors as ``read``.
        """
        corner = (window.row - self.phase[0], window.col - self.phase[1])
        if window.empty or any(
            number % self.ratio for number in (*corner, window.height, window.width)
        ):
            raise ValueError(f"{window} is not on whole coarse pixels of phase {self.phase}")
        rows = _pixels(self._rows, window.row, window.bottom)
        columns = (window.col, window.right)
        if self._last_columns is None or self._last_columns[0] != columns:
            # Strips below each other have the same columns.
            self._last_columns = (columns, _pixels(self._cols, *columns))
        return PendingWindow(self, rows, self._last_columns[1])

    def ms_pixels(self, window: Window) -> tuple[np.ndarray, tuple[float, float]]:
        """The MS pixels themselves, not resampled, that lie wholly in a window.

        Args:
            window: PAN pixels, anywhere.

        Returns:
            float32 (C, h, w), 0 where invalid, perhaps without any pixel; and the row and column in the window of the
            centre of the first, pixel centres being whole numbers.

        Raises:
            FusionError: the pixels cannot be read.
        """
        spans, offsets = [], []
        for axis, first, count in (
            (self._rows, window.row, window.height),
            (self._cols, window.col, window.width),
        ):
            edges = np.array([first, first + count]) * axis.scale + axis.offset
            start = max(0, int(np.ceil(edges[0] - SNAP)))
            spans.append((start, max(0, min(axis.ms_size, int(edges[1] + SNAP)) - start)))
            offsets.append(float(axis.pan_positions(np.array(start))) - first)
        (row, height), (col, width) = spans
        if not height or not width:
            return np.zeros((self.ms_bands, height, width), np.float32), (offsets[0], offsets[1])
        values, _ = self._ms.read(Window(row, col, height, width))
        return values, (offsets[0], offsets[1])

    def geotransform_at(self, window: Window) -> Geotransform | None:
        """The geotransform of a raster that covers ``window``, None where the scene has none."""
        if self.geotransform is None:
            return None
        return shifted(self.geotransform, window.row, window.col)

    def window_of_extent(
        self, xmin: float, ymin: float, xmax: float, ymax: float, crs_wkt: str | None = None
    ) -> Window:
        """The part of the overlap in a rectangle on the map.

        Args:
            xmin: least x.
            ymin: least y.
            xmax: greatest x.
            ymax: greatest y.
            crs_wkt: coordinate system of the rectangle, as WKT or anything else that GDAL understands; PAN's if
                None or empty.

        Raises:
            FusionError: no pixel of the overlap is in it, or it cannot be brought to PAN's coordinate system.
        """
        # The outline, not the corners: a straight edge on one map is a curve on another.
        places = edge_points(1, 1) * [xmax - xmin, ymax - ymin] + [xmin, ymin]
        srs = srs_from_wkt(crs_wkt or "")
        if crs_wkt and srs is None:
            raise FusionError(
                f"The coordinate system of the extent, {crs_wkt[:60]}, is unknown: give one such as EPSG:4326."
            )
        if srs is not None and self._srs is not None and not same_srs(srs, self._srs):
            places = transformed(transformation_between(srs, self._srs), places)
        inverse = np.linalg.inv(matrix_of(self.geotransform or PIXEL_MAP))
        pixels = places @ inverse[:2, :2].T + inverse[:2, 2]
        if not np.isfinite(pixels).all():
            raise FusionError(
                "The extent cannot be brought to the coordinate system of the panchromatic raster: choose a"
                " smaller one."
            )
        # Far outside is as good as just outside, and fits into an integer.
        pixels = np.clip(pixels, -1, [self.grid.width + 1, self.grid.height + 1])
        left, top = np.floor(pixels.min(axis=0) + SNAP).astype(int).tolist()
        right, bottom = np.ceil(pixels.max(axis=0) - SNAP).astype(int).tolist()
        window = Window(top, left, bottom - top, right - left).intersect(self.overlap)
        if window.empty:
            raise FusionError(
                "The extent does not touch the area that both rasters cover: choose one that does, or none."
            )
        return window


class PendingWindow:
    """A window of a scene that was read and is neither filled nor interpolated yet; see ``Scene.begin``.

    Attributes:
        valid: whether PAN and the MS pixel underneath both hold data, bool (H, W).
    """

    def __init__(self, scene: Scene, rows: _Pixels, cols: _Pixels) -> None:
        """Use ``Scene.begin``."""
        window = Window(
            rows.numbers.start, cols.numbers.start, len(rows.numbers), len(cols.numbers)
        )
        self._scene, self._rows, self._cols = scene, rows, cols
        self._pan = _Region.read(scene._pan, rows.pan, cols.pan)
        self._ms = _Region.read(scene._ms, rows.ms, cols.ms)
        overlap = scene.overlap
        self.valid = np.zeros((len(rows.numbers), len(cols.numbers)), bool)
        covered = overlap.intersect(window)
        self.valid[covered.slices_in(window)] = True
        for region, owners in (
            (self._pan, (rows.pan, cols.pan)),
            (self._ms, (rows.owners, cols.owners)),
        ):
            if region.valid is not None:
                rows_there, cols_there = (
                    numbers - first
                    for numbers, first in zip(owners, (region.window.row, region.window.col))
                )
                self.valid &= region.valid.all(axis=0)[np.ix_(rows_there, cols_there)]

    def complete(self) -> SceneWindow:
        """Fill what is invalid from its surroundings and interpolate MS; once only.

        Raises:
            FusionError: a band of the scene has no valid pixel.
        """
        scene, rows, cols, ms = self._scene, self._rows, self._cols, self._ms
        for region, levels in ((self._pan, "pan_levels"), (ms, "ms_levels")):
            if region.valid is not None:
                for band, far in enumerate(getattr(scene, levels).mean):
                    if not region.valid[band].all():
                        fill_invalid(
                            region.values[band], region.valid[band], FILL_RADIUS, float(far)
                        )
        if scene._rows.shift is not None and scene._cols.shift is not None:
            low = ms.around(ms.values, rows.same, cols.same)
        else:
            low = self._interpolated(rows.coarse, cols.coarse)
        return SceneWindow(
            pan=self._pan.around(self._pan.values, rows.numbers, cols.numbers),
            ms=low,
            lms=self._interpolated(rows.fine, cols.fine),
            valid=self.valid,
        )

    def _interpolated(self, rows: AxisTaps, cols: AxisTaps) -> np.ndarray:
        """MS at the targets of taps; beyond the raster its edge goes on."""
        return interpolate(self._ms.around(self._ms.values, rows.reach, cols.reach), rows, cols)


@dataclass(frozen=True)
class _Region:
    """Pixels of a raster, with the surroundings their invalid ones are filled from.

    Attributes:
        values: float32 (C, h, w).
        valid: bool (C, h, w), None where all are.
        window: where they lie in the raster.
    """

    values: np.ndarray
    valid: np.ndarray | None
    window: Window

    @classmethod
    def read(
        cls, stack: RasterStack | ReprojectedStack, rows: np.ndarray, cols: np.ndarray
    ) -> _Region:
        """Read all that lies between some rows and columns inside the raster."""
        row, col = int(rows.min()), int(cols.min())
        region = Window(row, col, int(rows.max()) - row + 1, int(cols.max()) - col + 1)
        if stack.may_have_invalid:
            region = region.grown(FILL_RADIUS).intersect(Window(0, 0, stack.rows, stack.cols))
        return cls(*stack.read(region), region)

    def around(self, values: np.ndarray, rows: range, cols: range) -> np.ndarray:
        """Values (C, h, w) of the region at rows and columns that may lie outside the raster, where its edge goes on."""
        window = self.window
        inside, outside = zip(
            _inside(rows, window.row, window.height), _inside(cols, window.col, window.width)
        )
        part = values[(slice(None), *inside)]
        return np.pad(part, ((0, 0), *outside), "edge") if any(map(any, outside)) else part


def _inside(wanted: range, first: int, length: int) -> tuple[slice, tuple[int, int]]:
    """Of some numbers those in ``first .. first + length - 1``, the nearest if none is, and how many lie on each side."""
    start, stop = wanted.start - first, wanted.stop - first
    inside = slice(min(max(start, 0), length - 1), max(min(stop, length), 1))
    most = len(wanted) - 1
    return inside, (min(max(-start, 0), most), min(max(stop - length, 0), most))


@dataclass(frozen=True)
class _Pixels:
    """PAN pixels along one axis, and what they are made of.

    Attributes:
        numbers: of the PAN pixels, which may lie outside the raster.
        pan: the same, those outside the raster replaced by its edge, (n,).
        owners: MS pixels that hold them, clipped likewise, (n,).
        same: MS pixels that are the coarse pixels that hold them; None where the grids do not coincide.
        fine: taps into MS of the PAN pixels.
        coarse: taps into MS of the coarse pixels that hold them.
        ms: first and last MS pixel of all these, clipped likewise.
    """

    numbers: range
    pan: np.ndarray
    owners: np.ndarray
    same: range | None
    fine: AxisTaps
    coarse: AxisTaps
    ms: np.ndarray


def _pixels(axis: AxisAlignment, start: int, stop: int) -> _Pixels:
    """The PAN pixels from ``start`` up to ``stop``."""
    numbers = np.arange(start, stop)
    first = (start - axis.phase) // axis.ratio
    coarse = np.arange(first, first + len(numbers) // axis.ratio)
    same = None if axis.shift is None else range(first + axis.shift, coarse[-1] + 1 + axis.shift)
    last = axis.ms_size - 1
    owners = np.clip(axis.ms_pixels(numbers), 0, last)
    fine = AxisTaps.of(axis.ms_positions(numbers), period=axis.ratio)
    low = AxisTaps.of(axis.coarse_ms_positions(coarse), axis.stretch, period=1)
    ends = [owners.min(), fine.taps.min(), low.taps.min(), owners.max(), fine.taps.max()]
    ends = np.clip([*ends, low.taps.max()], 0, last)
    return _Pixels(
        numbers=range(start, stop),
        pan=np.clip(numbers, 0, axis.pan_size - 1),
        owners=owners,
        same=same,
        fine=fine,
        coarse=low,
        ms=np.array([ends.min(), ends.max()]),
    )
