"""Whether a PAN and an MS raster make a scene, and how they then lie on each other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import FusionError
from .alignment import AxisAlignment, align_axis
from .georeference import (
    IDENTITY,
    STRAIGHT,
    Geotransform,
    PixelMap,
    edge_points,
)
from .reprojection import ReprojectedStack
from .stack import RasterStack
from .window import Window

RATIOS = (2, 4)
"""Ratios to choose from when none is given."""

LEAST_RATIO = 1.5
GREATEST_RATIO = 6.0
GREATEST_MISFIT = 1.6
"""How much the true ratio may differ from one that is asked for, as a factor."""

GREATEST_STRETCH = 2.0
"""How much longer than wide an MS pixel may be, in PAN pixels."""

MARGIN = 4
"""Coarse pixels around PAN that a reprojected MS raster has, for interpolation at the edge of PAN."""


@dataclass(frozen=True)
class Pairing:
    """A PAN and an MS raster that fit.

    Attributes:
        ms: the MS raster on PAN's map and orientation: the given one, or a reprojected view of it.
        ratio: PAN pixels a coarse pixel.
        true_ratio: PAN pixels an MS pixel.
        rows: alignment of the rows.
        cols: alignment of the columns.
        overlap: PAN pixels that both cover.
    """

    ms: RasterStack | ReprojectedStack
    ratio: int
    true_ratio: float
    rows: AxisAlignment
    cols: AxisAlignment
    overlap: Window


def pair(pan: RasterStack, ms: RasterStack, ratio: int | None) -> Pairing:
    """Fit MS to PAN by their georeference.

    Args:
        pan: the sharp raster.
        ms: the raster with the colours.
        ratio: PAN pixels a coarse pixel; the nearer of 2 and 4 if None.

    Raises:
        FusionError: they do not fit; the sentence says why.
    """
    pan_grid, ms_grid = _grids(pan, ms, ratio)
    to_ms = PixelMap.between(pan_grid, pan.srs, ms_grid, ms.srs)
    affine = to_ms.inverse @ to_ms.matrix
    outline = edge_points(pan.rows, pan.cols)
    flat = outline @ affine[:2, :2].T + affine[:2, 2]
    seen = to_ms(outline)
    if np.nanmax(np.abs(seen - flat), initial=0) < STRAIGHT and np.isfinite(seen).all():
        # Other words for the same coordinate system.
        to_ms = PixelMap(to_ms.matrix, None, to_ms.inverse)
    _require_overlap(pan, ms, seen)

    jacobian = _jacobian(to_ms, pan)
    ratios = 1 / np.linalg.svd(jacobian, compute_uv=False)
    true_ratio = math.sqrt(ratios[0] * ratios[1])
    _require_usable_ratio(pan, ms, ratios, true_ratio, ratio)
    if ratio is None:
        ratio = min(RATIOS, key=lambda candidate: abs(math.log(true_ratio / candidate)))
    if ms.bands < 2:
        raise FusionError(
            f"{ms.label} has one band, and pansharpening needs two or more: choose the multispectral raster, or"
            " all of its single-band files."
        )

    turn = max(abs(affine[0, 1]) * pan.rows, abs(affine[1, 0]) * pan.cols)
    upright = affine[0, 0] > 0 and affine[1, 1] > 0
    if to_ms.transformation is None and turn < STRAIGHT and upright:
        rows = align_axis(pan.rows, ms.rows, affine[1, 1], affine[1, 2], ratio)
        cols = align_axis(pan.cols, ms.cols, affine[0, 0], affine[0, 2], ratio)
        (top, bottom), (left, right) = rows.overlap(), cols.overlap()
        overlap = Window(top, left, bottom - top, right - left)
        seen_ms = ms
    else:
        overlap = _footprint(pan, ms, pan_grid, ms_grid, seen)
        rows, cols = (_reprojected_axis(size, ratio) for size in (pan.rows, pan.cols))
        size = (rows.ms_size, cols.ms_size)
        seen_ms = ReprojectedStack(ms, to_ms, jacobian, ratio, MARGIN, size)
    if overlap.empty:
        raise _no_overlap(pan, ms)
    return Pairing(seen_ms, ratio, true_ratio, rows, cols, overlap)


def _reprojected_axis(pan_size: int, ratio: int) -> AxisAlignment:
    size = -(-pan_size // ratio) + 2 * MARGIN
    return AxisAlignment(pan_size, size, ratio, 1 / ratio, MARGIN, 0, MARGIN)


def _grids(
    pan: RasterStack, ms: RasterStack, ratio: int | None
) -> tuple[Geotransform, Geotransform]:
    """The geotransforms, or stand-ins where neither raster has one."""
    if pan.geotransform is not None and ms.geotransform is not None:
        return pan.geotransform, ms.geotransform
    if pan.geotransform is None and ms.geotransform is None:
        for candidate in RATIOS if ratio is None else (ratio,):
            sizes = (ms.rows * candidate, ms.cols * candidate)
            if (pan.rows, pan.cols) == sizes:
                return IDENTITY, (0.0, float(candidate), 0.0, 0.0, 0.0, float(candidate))
        if pan.rows < ms.rows and pan.cols < ms.cols:
            # The refusal of a ratio below 1 says it better.
            return IDENTITY, (0.0, pan.cols / ms.cols, 0.0, 0.0, 0.0, pan.rows / ms.rows)
        expected = " or ".join(str(r) for r in (RATIOS if ratio is None else (ratio,)))
        raise FusionError(
            f"Neither {pan.label} nor {ms.label} is georeferenced, and their sizes are not exactly in the ratio"
            f" {expected}: georeference both."
        )
    without = pan if pan.geotransform is None else ms
    other = ms if without is pan else pan
    if without.has_gcps:
        raise FusionError(
            f"{without.label} has ground control points but no grid on the map: run Warp (reproject) on it first."
        )
    raise FusionError(
        f"{without.label} is not georeferenced but {other.label} is: georeference it, so that it is known where"
        " they lie on each other."
    )


def _jacobian(to_ms: PixelMap, pan: RasterStack) -> np.ndarray:
    """MS pixels a PAN pixel in the middle of PAN, 2 x 2."""
    row, col = pan.rows / 2, pan.cols / 2
    left, right, top, bottom = to_ms(
        np.array([[col - 0.5, row], [col + 0.5, row], [col, row - 0.5], [col, row + 0.5]])
    )
    return np.stack([right - left, bottom - top], axis=1)


def _require_overlap(pan: RasterStack, ms: RasterStack, outline: np.ndarray) -> None:
    """Refuse a PAN raster none of whose surroundings are on MS; ``outline`` is PAN's in MS pixels."""
    known = outline[np.isfinite(outline).all(axis=1)]
    size = np.array([ms.cols, ms.rows])
    if not len(known) or (known.max(axis=0) <= 0).any() or (known.min(axis=0) >= size).any():
        raise _no_overlap(pan, ms)


def _no_overlap(pan: RasterStack, ms: RasterStack) -> FusionError:
    hint = "choose two rasters of the same place"
    if (pan.srs is None) != (ms.srs is None):
        without = pan if pan.srs is None else ms
        hint = f"assign {without.label} the coordinate system that it lacks"
    elif ms.srs is None:
        hint = "check that both are georeferenced in the same coordinate system"
    return FusionError(f"{pan.label} and {ms.label} do not overlap: {hint}.")


def _require_usable_ratio(
    pan: RasterStack, ms: RasterStack, ratios: np.ndarray, true_ratio: float, ratio: int | None
) -> None:
    if not np.isfinite(ratios).all():
        raise _no_overlap(pan, ms)
    if true_ratio < 0.95:
        if ms.bands == 1 or pan.bands > 1:
            raise FusionError(
                f"{pan.label} has {pan.bands} band{'s' * (pan.bands > 1)} and coarser pixels than {ms.label}:"
                " panchromatic and multispectral rasters look swapped, so exchange them."
            )
        raise FusionError(
            f"The pixels of {ms.label} are already finer than those of {pan.label}: choose a panchromatic raster"
            " that is finer than the multispectral one."
        )
    low, high = LEAST_RATIO, GREATEST_RATIO
    if ratio is not None:
        low, high = ratio / GREATEST_MISFIT, ratio * GREATEST_MISFIT
    if not low <= true_ratio <= high:
        raise FusionError(
            f"The pixels of {ms.label} are {true_ratio:.2f} times as large as those of {pan.label}, and"
            f" {low:.2g} to {high:.2g} times is supported: choose another pair, or resample one of the two."
        )
    if ratios.max() > GREATEST_STRETCH * ratios.min():
        raise FusionError(
            f"The pixels of {ms.label} and {pan.label} differ in shape: resample the multispectral raster to"
            " square pixels."
        )


def _footprint(
    pan: RasterStack,
    ms: RasterStack,
    pan_grid: Geotransform,
    ms_grid: Geotransform,
    pan_outline: np.ndarray,
) -> Window:
    """The PAN pixels inside the rectangle around what a reprojected MS raster covers."""
    whole = Window(0, 0, pan.rows, pan.cols)
    size = np.array([ms.cols, ms.rows])
    if ((pan_outline >= 0) & (pan_outline <= size)).all():
        return whole
    outline = PixelMap.between(ms_grid, ms.srs, pan_grid, pan.srs)(edge_points(ms.rows, ms.cols))
    known = outline[np.isfinite(outline).all(axis=1)]
    if len(known) < len(outline):
        # Part of MS is beyond what PAN's map can show, so its outline says little: validity masks the rest.
        return whole
    left, top = np.floor(known.min(axis=0) + 0.01).astype(int).tolist()
    right, bottom = np.ceil(known.max(axis=0) - 0.01).astype(int).tolist()
    return whole.intersect(Window(top, left, bottom - top, right - left))
