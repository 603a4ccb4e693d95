"""Quality of fused images from their files: what lies on what, the figures, and pictures to look at."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .bands import band_order
from .errors import Cancelled, FusionError
from .quality import assess_full, assess_reduced
from .sensors import find_sensor, ms_gains

if TYPE_CHECKING:
    from .raster.scene import Scene
    from .raster.source import RasterSource
    from .raster.window import Window

MOST_VALUES = 40_000_000
"""Pixels times bands that are assessed at once; measuring takes about 70 bytes for each."""

PICTURE_SIDE = 360
"""Greatest side of a picture, in fused pixels."""

OFF_GRID = 0.1
"""Pixels by which an image may miss the grid."""

DRIFT = 0.5
"""PAN pixels by which MS pixels may leave the step of the ratio within the area."""

STRETCH = (1.0, 99.0)
"""Percentiles that pictures show as black and white."""


@dataclass(frozen=True)
class AssessedImage:
    """One fused image.

    Attributes:
        label: short name, unique among the images.
        path: GDAL name it was opened with.
        figures: values by metric; ``quality.meanings`` says what they mean.
    """

    label: str
    path: str
    figures: dict[str, float]


@dataclass(frozen=True)
class Picture:
    """The middle of an image.

    Attributes:
        label: what it shows.
        pixels: uint8 (H, W, 3), or (H, W) for PAN.
    """

    label: str
    pixels: np.ndarray


@dataclass(frozen=True)
class Assessment:
    """What ``assess`` found.

    Attributes:
        images: the fused images in the order given, all with the same metrics over the same pixels.
        pictures: PAN, MS, the fused images and the reference, as far as given, all colours at one stretch.
        settings: what was measured and how, as text by topic.
    """

    images: tuple[AssessedImage, ...]
    pictures: tuple[Picture, ...]
    settings: dict[str, str]


def assess(
    fused: str | Sequence[str],
    pan: str | None = None,
    ms: str | Sequence[str] | None = None,
    reference: str | None = None,
    *,
    sensor: str = "unknown",
    ratio: int | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Assessment:
    """Measure fused images over the area that all of the images cover.

    With PAN and MS the metrics that need no reference, with a reference those that need one, with all both.

    Args:
        fused: GDAL names of the images under test, on the grid of PAN or of the reference, whole or in part.
        pan: GDAL name of PAN.
        ms: GDAL name of MS, or names of several on one grid; given with ``pan`` or not at all.
        reference: GDAL name of the true image.
        sensor: name in ``sensors.SENSORS``, for the transfer functions of the MS bands.
        ratio: PAN pixels per MS pixel; None for that of PAN and MS, or 4 without them.
        progress: told the share done, 0..1.
        cancelled: asked between images.

    Raises:
        FusionError: an image cannot be read, does not lie on the grid, or too much or nothing is in common.
        Cancelled: ``cancelled`` said so.
    """
    progress = progress or (lambda share: None)
    cancelled = cancelled or (lambda: False)
    with _area(fused, pan, ms, reference, sensor, ratio) as area:
        return area.assessment(progress, cancelled)


def check_assess(
    fused: str | Sequence[str],
    pan: str | None = None,
    ms: str | Sequence[str] | None = None,
    reference: str | None = None,
    *,
    sensor: str = "unknown",
    ratio: int | None = None,
) -> None:
    """Refuse quickly what ``assess`` would refuse for its arguments, sizes and grids; arguments and errors as there."""
    with _area(fused, pan, ms, reference, sensor, ratio):
        pass


@contextmanager
def _area(
    fused: str | Sequence[str],
    pan: str | None,
    ms: str | Sequence[str] | None,
    reference: str | None,
    sensor: str,
    ratio: int | None,
) -> Iterator[_Area]:
    """Everything opened and checked; closed at the end."""
    from .raster.scene import Scene
    from .raster.source import RasterSource

    names = [fused] if isinstance(fused, (str, os.PathLike)) else list(fused)
    if not names:
        raise FusionError("No fused image was given: choose one or more.")
    if (pan is None) != (ms is None):
        raise FusionError("PAN and MS are needed together: give both, or only a reference.")
    if pan is None and reference is None:
        raise FusionError("There is nothing to compare with: give PAN and MS, or a reference.")
    if ratio is not None and ratio < 1:
        raise FusionError(f"The ratio is {ratio} but must be 1 or more.")
    find_sensor(sensor)
    with ExitStack() as opened:

        def keep(raster):
            opened.callback(raster.close)
            return raster

        scene = None if pan is None else keep(_open_scene(Scene, pan, ms, ratio))
        images = [keep(RasterSource(name)) for name in names]
        truth = None if reference is None else keep(RasterSource(reference))
        known_ratio = scene.ratio if scene is not None else ratio or 4
        yield _Area(scene, images, truth, known_ratio, sensor)


class _Area:
    """The pixels that all images have in common, on one grid."""

    def __init__(
        self,
        scene: Scene | None,
        images: Sequence[RasterSource],
        truth: RasterSource | None,
        ratio: int,
        sensor: str,
    ) -> None:
        self.scene, self.images, self.truth = scene, images, truth
        self.ratio, self.sensor = ratio, sensor
        self.labels = _labels([raster.name for raster in images])
        rasters = [*images, *([truth] if truth is not None else [])]
        bands = images[0].bands if scene is None else scene.ms_bands
        if scene is not None and scene.pan_bands > 1:
            raise FusionError(
                f"PAN has {scene.pan_bands} bands: choose the panchromatic image, which has one."
            )
        for raster in rasters:
            if raster.bands != bands:
                raise FusionError(
                    f"{raster.label} has {raster.bands} bands where {bands} are expected: choose images with the"
                    " same bands."
                )
        base = _grid_of(images[0]) if scene is None else _grid_of_pan(scene)
        self.windows = [_placed(raster, base) for raster in rasters]
        common = base.window if scene is None else scene.overlap
        for raster, window in zip(rasters, self.windows):
            common = common.intersect(window)
            if common.empty:
                raise FusionError(
                    f"{raster.label} does not overlap the other images: choose images of the same place."
                )
        self.common = common
        values = common.height * common.width * bands
        if values > MOST_VALUES:
            side = math.isqrt(MOST_VALUES // bands)
            raise FusionError(
                f"The images share {common.width} x {common.height} pixels of {bands} bands, more than can be assessed"
                f" at once: cut a fused image to {side} x {side} pixels or fewer with Clip Raster by Extent; the"
                " others may stay as they are."
            )

    def assessment(
        self, progress: Callable[[float], None], cancelled: Callable[[], bool]
    ) -> Assessment:
        """Read, measure and draw."""
        truth = gains = None
        if self.scene is not None:
            gains = ms_gains(find_sensor(self.sensor), self.scene.spectral_bands)
        mask = np.ones((self.common.height, self.common.width), bool)
        # Only one fused image is held at a time, however many there are.
        for raster, window in zip(self.images, self.windows):
            mask &= self._read(raster, window)[1]
        if self.truth is not None:
            truth, valid = self._read(self.truth, self.windows[-1])
            mask &= valid
        fine = None if self.scene is None else self._read_scene()
        if fine is not None:
            mask &= fine.valid
        if not mask.any():
            raise FusionError("The images have no valid pixel in common: check extent and nodata.")
        everything = None if mask.all() else mask
        canvas = self._canvas(truth if truth is not None else fine.lms, mask)
        assessed, pictures = [], []
        if fine is not None:
            pictures = [
                Picture("PAN", canvas.grey(fine.pan)),
                Picture("MS", canvas.colours(fine.enlarged(canvas.part, self.ratio), cut=False)),
            ]
        for index, (raster, window) in enumerate(zip(self.images, self.windows)):
            if cancelled():
                raise Cancelled
            values, _ = self._read(raster, window)
            figures: dict[str, float] = {}
            if truth is not None:
                figures.update(assess_reduced(truth, values, self.ratio, mask=everything))
            if fine is not None:
                figures.update(
                    assess_full(
                        fine.pan, fine.ms, values, self.ratio, gains, fine.offset, everything
                    )
                )
            assessed.append(AssessedImage(self.labels[index], raster.name, figures))
            pictures.append(Picture(self.labels[index], canvas.colours(values)))
            progress((index + 1) / len(self.images))
        if truth is not None:
            pictures.append(Picture("Reference", canvas.colours(truth)))
        return Assessment(tuple(assessed), tuple(pictures), self._settings(gains, mask))

    def _read(self, raster: RasterSource, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Values in the area (C, H, W), and where all bands are valid (H, W)."""
        from .raster.window import Window

        row, col = self.common.row - window.row, self.common.col - window.col
        values, valid = raster.read(Window(row, col, self.common.height, self.common.width))
        return values, np.ones(values.shape[1:], bool) if valid is None else valid.all(axis=0)

    def _read_scene(self) -> _Fine:
        """PAN and MS in the area."""
        from .raster.window import Window

        scene, common, ratio = self.scene, self.common, self.ratio
        row = common.row - (common.row - scene.phase[0]) % ratio
        col = common.col - (common.col - scene.phase[1]) % ratio
        height = -(-(common.bottom - row) // ratio) * ratio
        width = -(-(common.right - col) // ratio) * ratio
        whole = Window(row, col, height, width)
        pixels = scene.read(whole)
        inside = common.slices_in(whole)
        ms, offset = scene.ms_pixels(common)
        if abs(scene.true_ratio - ratio) * max(ms.shape[1:]) > DRIFT:
            # The metrics count in whole ratios, so MS is taken on the coarse grid of the scene, which keeps step.
            top, left = common.row - row, common.col - col
            first = [-(-top // ratio), -(-left // ratio)]
            last = [(top + common.height) // ratio, (left + common.width) // ratio]
            ms = pixels.ms[:, first[0] : last[0], first[1] : last[1]]
            offset = tuple(
                ratio * start - skipped + (ratio - 1) / 2
                for start, skipped in zip(first, (top, left))
            )
        return _Fine(
            pixels.pan[(slice(None), *inside)],
            ms,
            offset,
            pixels.lms[(slice(None), *inside)],
            pixels.valid[inside],
        )

    def _canvas(self, model: np.ndarray, mask: np.ndarray) -> _Canvas:
        """The middle of the area, and the stretch under which ``model`` (C, H, W) looks well there."""
        height, width = (min(PICTURE_SIDE, size) for size in mask.shape)
        top, left = (mask.shape[0] - height) // 2, (mask.shape[1] - width) // 2
        part = (slice(None), slice(top, top + height), slice(left, left + width))
        bands = self._colours(len(model))
        inside = mask[part[1:]]
        if not inside.any():
            inside = np.ones((height, width), bool)
        limits = np.percentile(model[part][bands][:, inside], STRETCH, axis=1)
        return _Canvas(part, bands, limits, inside)

    def _colours(self, bands: int) -> list[int]:
        """Indices of the bands to show as red, green and blue."""
        names = [
            *([self.scene.spectral_bands] if self.scene is not None else []),
            *([p.spectral for p in raster.profiles] for raster in self.images),
        ]
        for candidate in names:
            order = band_order(("red", "green", "blue"), candidate)
            if order is not None:
                return order
        if bands < 3:
            return [0, 0, 0]
        # Without names: three bands as they come, more in the order of wavelengths.
        return [0, 1, 2] if bands == 3 else [2, 1, 0]

    def _settings(self, gains: tuple[float, ...] | None, mask: np.ndarray) -> dict[str, str]:
        common = self.common
        settings = {
            "Area": f"{common.width} x {common.height} pixels that all images cover, {mask.mean():.1%} of them valid",
            "Ratio": str(self.ratio),
        }
        if self.truth is not None:
            settings["Reference"] = self.truth.label
            settings["Left out"] = f"{self.ratio} pixels at each edge, as is usual"
        if gains is not None:
            settings["Sensor"] = self.sensor
            settings["MTF gains at Nyquist"] = ", ".join(f"{gain:g}" for gain in gains)
            settings["PAN and MS"] = "brought together by their georeference"
        return settings


@dataclass(frozen=True)
class _Fine:
    """PAN and MS in the area: PAN (1, H, W), MS pixels and where they start, MS interpolated, and validity."""

    pan: np.ndarray
    ms: np.ndarray
    offset: tuple[float, float]
    lms: np.ndarray
    valid: np.ndarray

    def enlarged(self, part: tuple[slice, ...], ratio: int) -> np.ndarray:
        """MS as it is, each pixel a square, in a part of the area."""
        index = []
        for span, start, size in zip(part[1:], self.offset, self.ms.shape[1:]):
            pixels = np.arange(span.start, span.stop)
            index.append(np.clip(np.floor((pixels - start) / ratio + 0.5), 0, size - 1).astype(int))
        return self.ms[(slice(None), *np.ix_(*index))]


@dataclass(frozen=True)
class _Canvas:
    """Which part to draw, its bands for red, green and blue, their limits (2, 3), and where it is valid."""

    part: tuple[slice, ...]
    bands: list[int]
    limits: np.ndarray
    inside: np.ndarray

    def colours(self, image: np.ndarray, cut: bool = True) -> np.ndarray:
        """A picture (H, W, 3) of an image of the whole area, or of the part where that is cut out already."""
        part = image[self.part] if cut else image
        return np.moveaxis(_stretched(part[self.bands], self.limits), 0, -1)

    def grey(self, pan: np.ndarray) -> np.ndarray:
        """A picture (H, W) of PAN, at a stretch of its own."""
        limits = np.percentile(pan[self.part][:, self.inside], STRETCH, axis=1)
        return _stretched(pan[self.part], limits)[0]


@dataclass(frozen=True)
class _Grid:
    """A raster's grid: its pixels, geotransform and coordinate system."""

    label: str
    window: Window
    geotransform: tuple[float, ...] | None
    crs_wkt: str


def _grid_of(raster: RasterSource) -> _Grid:
    from .raster.georeference import wkt_of
    from .raster.window import Window

    window = Window(0, 0, raster.rows, raster.cols)
    return _Grid(raster.label, window, raster.geotransform, wkt_of(raster.srs))


def _grid_of_pan(scene: Scene) -> _Grid:
    return _Grid("PAN", scene.grid, scene.geotransform, scene.crs_wkt)


def _placed(raster: RasterSource, base: _Grid) -> Window:
    """Where a raster lies on the grid, in its pixels.

    Raises:
        FusionError: it lies on another grid.
    """
    from .raster.georeference import matrix_of, same_srs, srs_from_wkt
    from .raster.window import Window

    size = (base.window.height, base.window.width)
    if raster.geotransform is None or base.geotransform is None:
        if (raster.rows, raster.cols) == size:
            return base.window
        raise FusionError(
            f"{raster.label} ({raster.cols} x {raster.rows} pixels) and {base.label} ({size[1]} x {size[0]}) are of"
            " different sizes and not both georeferenced: georeference them or choose others."
        )
    ours, theirs = raster.srs, srs_from_wkt(base.crs_wkt)
    if ours is not None and theirs is not None and not same_srs(ours, theirs):
        raise FusionError(
            f"{raster.label} and {base.label} have different coordinate systems: reproject it to the grid of {base.label}."
        )
    step = np.linalg.inv(matrix_of(base.geotransform)) @ matrix_of(raster.geotransform)
    row, col = round(step[1, 2]), round(step[0, 2])
    corners = np.array([[0, 0, 1], [raster.cols, raster.rows, 1]]) @ step.T
    missed = np.abs(corners[:, :2] - [[col, row], [col + raster.cols, row + raster.rows]])
    if missed.max() > OFF_GRID:
        raise FusionError(
            f"{raster.label} does not lie on the pixels of {base.label}: resample it to that grid, or fuse again with"
            " this PAN."
        )
    return Window(row, col, raster.rows, raster.cols)


def _open_scene(scene: type[Scene], pan: str, ms: str | Sequence[str], ratio: int | None) -> Scene:
    """PAN and MS at the whole ratio nearest to the true one."""
    opened = scene.open(pan, ms, ratio)
    nearest = max(2, round(opened.true_ratio))
    if ratio is None and nearest != opened.ratio:
        opened.close()
        opened = scene.open(pan, ms, nearest)
    return opened


def _labels(names: Sequence[str]) -> list[str]:
    """File names without extension; with their folders where they would be the same."""
    labels = [os.path.splitext(os.path.basename(name))[0] or name for name in names]
    if len(set(labels)) == len(labels):
        return labels
    folders = [os.path.basename(os.path.dirname(os.path.abspath(name))) for name in names]
    labels = [f"{folder}/{label}" for folder, label in zip(folders, labels)]
    return labels if len(set(labels)) == len(labels) else [str(name) for name in names]


def _stretched(image: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """uint8 (C, H, W) between the limits (2, C)."""
    low, high = limits[:, :, None, None]
    share = (image - low) / np.where(high > low, high - low, 1)
    return np.rint(255 * np.clip(np.nan_to_num(share), 0, 1)).astype(np.uint8)
