"""From pixels to maps and from one raster's pixels to another's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from osgeo import osr

from ..errors import FusionError
from .gdal_calls import quiet_gdal

STRAIGHT = 0.02
"""Pixels by which a raster may be turned or reprojected before that counts."""

IDENTITY = (0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
"""The geotransform of a raster that has none: GDAL's way of saying pixels."""

Geotransform = "tuple[float, float, float, float, float, float]"


def matrix_of(geotransform: Geotransform) -> np.ndarray:
    """The 3 x 3 matrix that takes (column, row, 1) to (x, y, 1)."""
    return np.array(
        [
            [geotransform[1], geotransform[2], geotransform[0]],
            [geotransform[4], geotransform[5], geotransform[3]],
            [0.0, 0.0, 1.0],
        ]
    )


def geotransform_of(matrix: np.ndarray) -> Geotransform:
    """The GDAL geotransform of a matrix of ``matrix_of``."""
    (a, b, c), (d, e, f) = matrix[:2].tolist()
    return (c, a, b, f, d, e)


def shifted(geotransform: Geotransform, row: float, col: float, step: float = 1) -> Geotransform:
    """The geotransform of a raster that starts at (row, col) and has pixels of ``step`` times the size."""
    move = np.array([[step, 0.0, col], [0.0, step, row], [0.0, 0.0, 1.0]])
    return geotransform_of(matrix_of(geotransform) @ move)


@dataclass(frozen=True)
class PixelMap:
    """From pixel coordinates of one raster to those of another; pixel edges are whole numbers.

    Attributes:
        matrix: first raster's pixels to its map, 3 x 3.
        transformation: between the maps, an ``osr.CoordinateTransformation``, or None where they are the same.
        inverse: the other raster's map to its pixels, 3 x 3.
    """

    matrix: np.ndarray
    transformation: osr.CoordinateTransformation | None
    inverse: np.ndarray

    @classmethod
    def between(
        cls,
        first: Geotransform,
        first_srs: osr.SpatialReference | None,
        second: Geotransform,
        second_srs: osr.SpatialReference | None,
    ) -> PixelMap:
        """The map from pixels of ``first`` to pixels of ``second``; a missing coordinate system equals the other.

        Raises:
            FusionError: there is no way from one coordinate system to the other, or a geotransform is singular.
        """
        try:
            inverse = np.linalg.inv(matrix_of(second))
        except np.linalg.LinAlgError as error:
            raise FusionError(
                "The georeference of a raster has pixels of no size: georeference it again."
            ) from error
        transformation = None
        if first_srs is not None and second_srs is not None and not same_srs(first_srs, second_srs):
            transformation = transformation_between(first_srs, second_srs)
        return cls(matrix_of(first), transformation, inverse)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Map (n, 2) points (column, row); points without an image become NaN."""
        points = np.asarray(points, np.float64)
        places = points @ self.matrix[:2, :2].T + self.matrix[:2, 2]
        if self.transformation is not None:
            places = transformed(self.transformation, places)
        return places @ self.inverse[:2, :2].T + self.inverse[:2, 2]


def same_srs(first: osr.SpatialReference, second: osr.SpatialReference) -> bool:
    """Whether two coordinate systems mean the same, the order of their axes aside."""
    options = [
        "IGNORE_DATA_AXIS_TO_SRS_AXIS_MAPPING=YES",
        "CRITERION=EQUIVALENT_EXCEPT_AXIS_ORDER_GEOGCRS",
    ]
    return bool(first.IsSame(second, options))


def transformation_between(
    first: osr.SpatialReference, second: osr.SpatialReference
) -> osr.CoordinateTransformation:
    """A transformation between two coordinate systems, x before y in both.

    Raises:
        FusionError: PROJ knows none.
    """
    with quiet_gdal():
        try:
            transformation = osr.CoordinateTransformation(first, second)
            # Where there is none the binding hands back an empty shell that fails on use.
            usable = getattr(transformation, "this", None) is not None
        except RuntimeError:
            usable = False
    if not usable:
        raise FusionError(
            f"There is no way from {first.GetName()} to {second.GetName()}: assign both rasters the right"
            " coordinate system."
        )
    return transformation


def transformed(transformation: osr.CoordinateTransformation, places: np.ndarray) -> np.ndarray:
    """Transform (n, 2) coordinates (x, y); what cannot be transformed becomes NaN."""
    with quiet_gdal():
        try:
            moved = np.array(transformation.TransformPoints(places.tolist()))[:, :2]
        except RuntimeError:
            # In the bindings' exception mode one bad point fails them all.
            moved = np.array([_one_transformed(transformation, place) for place in places.tolist()])
    return np.where(np.isfinite(moved), moved, np.nan)


def _one_transformed(
    transformation: osr.CoordinateTransformation, place: list[float]
) -> tuple[float, float]:
    try:
        return tuple(transformation.TransformPoint(*place)[:2])
    except RuntimeError:
        return (np.nan, np.nan)


def edge_points(rows: int, cols: int, count: int = 21) -> np.ndarray:
    """Points along the outline of a raster, (n, 2) as (column, row)."""
    across = np.linspace(0, cols, count)
    down = np.linspace(0, rows, count)
    return np.concatenate(
        [
            np.stack([across, np.zeros(count)], axis=1),
            np.stack([across, np.full(count, rows)], axis=1),
            np.stack([np.zeros(count), down], axis=1),
            np.stack([np.full(count, cols), down], axis=1),
        ]
    )


def srs_from_wkt(wkt: str) -> osr.SpatialReference | None:
    """A coordinate system with x before y, None for an empty or unknown text."""
    if not wkt:
        return None
    srs = osr.SpatialReference()
    with quiet_gdal():
        try:
            known = srs.SetFromUserInput(wkt) == 0
        except RuntimeError:
            known = False
    if not known:
        return None
    srs.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    return srs


def wkt_of(srs: osr.SpatialReference | None) -> str:
    """WKT 2 of a coordinate system, "" for none; WKT 1 cannot say all of them."""
    return "" if srs is None else srs.ExportToWkt(["FORMAT=WKT2_2018"])
