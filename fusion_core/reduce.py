"""A pair at reduced resolution, for which the truth is known: the Wald protocol (Wald et al. 1997).

The reference is the MS image itself.  PAN is what the PAN sensor would have seen on the pixels of MS: low-passed by its
transfer function and evaluated exactly at the centres of the MS pixels.  MS is what its sensor would have seen from
``ratio`` times as far: each band low-passed by its own transfer function and evaluated at the centres of blocks of
ratio x ratio pixels.  Methods are run on that pair and measured against the reference.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from .errors import Cancelled, FusionError
from .mtf import mtf_sigma
from .quality.lowpass import gaussian_means, reach
from .sensors import find_sensor, ms_gains

if TYPE_CHECKING:
    from .raster.alignment import AxisAlignment
    from .raster.mosaic import Mosaic
    from .raster.stack import RasterStack

STRIP_BYTES = 1 << 27
"""Memory that a strip of rows should take."""

BYTES_PER_PIXEL = 40
"""Of a strip while it is filtered, each input pixel of a band."""

LEAST_SHARE = 0.5
"""Part of a filter's weight that must lie on valid pixels."""

BEYOND = 0.5
"""PAN pixels by which the centre of an MS pixel may lie outside PAN, whose edge then repeats."""


@dataclass(frozen=True)
class ReducedPair:
    """What ``reduce_pair`` wrote.

    Attributes:
        pan_reduced, ms_reduced, reference: the files.
        ratio: pixels of ``pan_reduced`` and ``reference`` per pixel of ``ms_reduced``.
        width, height: of ``pan_reduced`` and ``reference``.
        sensor: name in ``sensors.SENSORS``.
        pan_gain, ms_gains: transfer at the Nyquist frequency that the low-pass filters have.
    """

    pan_reduced: str
    ms_reduced: str
    reference: str
    ratio: int
    width: int
    height: int
    sensor: str
    pan_gain: float
    ms_gains: tuple[float, ...]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def reduce_pair(
    pan: str,
    ms: str | Sequence[str],
    pan_reduced: str,
    ms_reduced: str,
    reference: str,
    *,
    sensor: str = "unknown",
    ratio: int | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> ReducedPair:
    """Write PAN and MS at reduced resolution, and the reference.

    Data types, nodata values and band names stay.  A pixel is valid where at least half of what the filter sees is.
    Memory depends on the width of the images, not on their height.

    Args:
        pan: GDAL name of PAN.
        ms: GDAL name of MS, or names of several on one grid.
        pan_reduced, ms_reduced, reference: files to write; the extension tells the format.
        sensor: name in ``sensors.SENSORS``.
        ratio: by how much MS is reduced; None for the whole number nearest to the ratio of PAN and MS.
        progress: told the share done, 0..1.
        cancelled: asked between strips.

    Raises:
        FusionError: the images do not fit each other, or an output cannot be written.
        Cancelled: ``cancelled`` said so; nothing is written then.
    """
    progress = progress or (lambda share: None)
    cancelled = cancelled or (lambda: False)
    with open_reduction(pan, ms, sensor, ratio) as job:
        outputs = (pan_reduced, ms_reduced, reference)
        _require_distinct(outputs)
        with ExitStack() as stack:
            mosaics = [stack.enter_context(mosaic) for mosaic in job.mosaics(outputs)]
            job.run(mosaics, progress, cancelled)
            # All are whole before the first appears; the reference last.
            for mosaic in mosaics:
                mosaic.finish()
            for mosaic in mosaics:
                mosaic.commit()
        return ReducedPair(
            pan_reduced,
            ms_reduced,
            reference,
            job.ratio,
            job.width,
            job.height,
            sensor,
            job.pan_gain,
            job.gains,
        )


def check_reduce(
    pan: str,
    ms: str | Sequence[str],
    outputs: Sequence[str | None] = (),
    *,
    sensor: str = "unknown",
    ratio: int | None = None,
) -> None:
    """Refuse quickly what ``reduce_pair`` would refuse.

    Args:
        pan, ms, sensor, ratio: as there.
        outputs: pan_reduced, ms_reduced and reference as far as they are known, None where not.

    Raises:
        FusionError: as there.
    """
    from .raster.formats import check_output

    with open_reduction(pan, ms, sensor, ratio) as job:
        _require_distinct([path for path in outputs if path])
        stacks = (job.pan, job.ms, job.ms)
        for path, raster in zip(outputs, stacks):
            if path:
                check_output(path, bands=raster.bands, dtype=raster.dtype, inputs=job.files)


def _require_distinct(outputs: Sequence[str]) -> None:
    if len({os.path.realpath(path) for path in outputs}) < len(outputs):
        raise FusionError("Two outputs have the same name: give each a name of its own.")


@contextmanager
def open_reduction(
    pan: str, ms: str | Sequence[str], sensor: str, ratio: int | None
) -> Iterator[Reduction]:
    """Open a pair that can be reduced; arguments and errors as ``reduce_pair``."""
    from .raster.pairing import pair
    from .raster.stack import RasterStack

    transfer = find_sensor(sensor)
    if ratio is not None and ratio < 2:
        raise FusionError(f"The ratio is {ratio}: give a whole number from 2.")
    names = [ms] if isinstance(ms, (str, os.PathLike)) else list(ms)
    with ExitStack() as stack:
        opened = []
        for group in ([pan], names):
            raster = RasterStack.open(group)
            stack.callback(raster.close)
            opened.append(raster)
        pairing = pair(*opened, None)
        nearest = max(2, round(pairing.true_ratio))
        if nearest != pairing.ratio:
            pairing = pair(*opened, nearest)
        if pairing.ms is not opened[1]:
            raise FusionError(
                f"{opened[1].label} is turned against {opened[0].label} or has another coordinate system, and the"
                " reference must be MS as it is: reproject PAN to the coordinate system of MS."
            )
        gains = ms_gains(transfer, [profile.spectral for profile in opened[1].profiles])
        yield Reduction(
            *opened, pairing.rows, pairing.cols, ratio or nearest, sensor, transfer.pan, gains
        )


class Reduction:
    """The opened pair, and which part of MS becomes the reference."""

    def __init__(
        self,
        pan: RasterStack,
        ms: RasterStack,
        rows: AxisAlignment,
        cols: AxisAlignment,
        ratio: int,
        sensor: str,
        pan_gain: float,
        gains: tuple[float, ...],
    ) -> None:
        self.pan, self.ms, self.rows, self.cols = pan, ms, rows, cols
        self.ratio, self.sensor, self.pan_gain, self.gains = ratio, sensor, pan_gain, gains
        self.files = pan.files | ms.files
        self.top, self.height = _seen(rows, ratio)
        self.left, self.width = _seen(cols, ratio)
        if not self.height or not self.width:
            raise FusionError(
                f"{pan.label} and {ms.label} share less than {ratio} x {ratio} MS pixels: choose larger images."
            )

    def keep_middle(self, side: int) -> None:
        """Leave out what lies more than ``side / 2`` MS pixels from the middle."""
        for start, size in (("top", "height"), ("left", "width")):
            length = min(getattr(self, size), side // self.ratio * self.ratio)
            first = getattr(self, start) + (getattr(self, size) - length) // 2
            setattr(self, start, first)
            setattr(self, size, length)

    def mosaics(self, outputs: Sequence[str]) -> Iterator[Mosaic]:
        """The three outputs, begun."""
        from .raster.georeference import shifted, wkt_of
        from .raster.like_raster import LikeRaster
        from .raster.mosaic import Mosaic
        from .raster.window import Window

        corner = None
        if self.ms.geotransform is not None:
            corner = shifted(self.ms.geotransform, self.top, self.left)
        steps = (1, self.ratio, 1)
        kinds = ("PAN", "MS", "reference")
        for path, raster, step, kind in zip(outputs, (self.pan, self.ms, self.ms), steps, kinds):
            window = Window(0, 0, self.height // step, self.width // step)
            like = LikeRaster(
                window,
                None if corner is None else shifted(corner, 0, 0, step),
                wkt_of(self.ms.srs if self.ms.srs is not None else self.pan.srs),
                self.ms.point,
                self.pan.may_have_invalid if kind == "PAN" else self.ms.may_have_invalid,
                self.files,
                raster.profiles,
            )
            gains = (self.pan_gain,) if kind == "PAN" else self.gains
            note = {"reduced_resolution": kind, "ratio": str(self.ratio), "sensor": self.sensor}
            if kind != "reference":
                note["mtf_gains"] = ", ".join(f"{gain:g}" for gain in gains)
            yield Mosaic(
                path,
                window=window,
                scene=like,
                bands=raster.bands,
                dtype=raster.dtype,
                nodata=raster.nodata[0],
                band_names=[profile.name for profile in raster.profiles],
                metadata=note,
            )

    def run(
        self,
        mosaics: Sequence[Mosaic],
        progress: Callable[[float], None],
        cancelled: Callable[[], bool],
    ) -> None:
        """Filter and write strip by strip."""
        pan_mosaic, ms_mosaic, reference_mosaic = mosaics
        strip = self.strip_rows()
        for start in range(0, self.height, strip):
            if cancelled():
                raise Cancelled
            count = min(strip, self.height - start)
            pan_mosaic.write(start, *self.pan_strip(start, count))
            coarse, coarse_count = start // self.ratio, count // self.ratio
            ms_mosaic.write(coarse, *self.ms_strip(coarse, coarse_count))
            reference_mosaic.write(start, *self.reference_strip(start, count))
            progress((start + count) / self.height)

    def strip_rows(self) -> int:
        """Rows of the reference in a strip, whole coarse rows."""
        pan_pixels = self.pan.cols * self.pan.bands / self.rows.scale
        ms_pixels = self.ms.cols * self.ms.bands
        rows = STRIP_BYTES / (BYTES_PER_PIXEL * (pan_pixels + ms_pixels))
        return max(1, int(rows) // self.ratio) * self.ratio

    def pan_strip(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """PAN on MS pixels, (P, count, width), and where it is valid."""
        rows = self.rows.pan_positions(self.top + start + np.arange(count))
        cols = self.cols.pan_positions(self.left + np.arange(self.width))
        sigmas = [mtf_sigma(self.pan_gain, 1 / axis.scale) for axis in (self.rows, self.cols)]
        return _seen_through(self.pan, rows, cols, [sigmas] * self.pan.bands)

    def ms_strip(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """MS at reduced resolution, (C, count, width / ratio), and where it is valid."""
        centre = (self.ratio - 1) / 2
        rows = self.top + centre + self.ratio * (start + np.arange(count))
        cols = self.left + centre + self.ratio * np.arange(self.width // self.ratio)
        sigmas = [[mtf_sigma(gain, self.ratio)] * 2 for gain in self.gains]
        return _seen_through(self.ms, rows, cols, sigmas)

    def reference_strip(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """MS as it is, (C, count, width), and where all bands are valid."""
        from .raster.window import Window

        window = Window(self.top + start, self.left, count, self.width)
        _, valid = self.ms.read(window)
        # As stored: float32, in which everything else is computed, lacks digits of large integers.
        stored = np.concatenate([source.read_raw(window) for source in self.ms.sources])
        where = np.ones(stored.shape[1:], bool) if valid is None else valid.all(axis=0)
        return stored, where


def _seen(axis: AxisAlignment, ratio: int) -> tuple[int, int]:
    """First MS pixel that PAN shows, and how many, whole blocks of ``ratio``."""
    centres = axis.pan_positions(np.arange(axis.ms_size))
    edge = 0.5 + BEYOND + 1e-6
    seen = np.flatnonzero((centres >= -edge) & (centres <= axis.pan_size - 1 + edge))
    return (int(seen[0]), len(seen) // ratio * ratio) if seen.size else (0, 0)


def _seen_through(
    raster: RasterStack, rows: np.ndarray, cols: np.ndarray, sigmas: Sequence[Sequence[float]]
) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian means of a raster around positions in it.

    Args:
        raster: its edge repeats beyond it.
        rows, cols: positions, pixel centres being whole numbers, rising, (n,) and (m,).
        sigmas: standard deviations along rows and columns for each band.

    Returns:
        (C, n, m) float64, and where enough of all bands is valid, bool (n, m).
    """
    from .raster.window import Window

    far = [reach(max(band[axis] for band in sigmas)) + 1 for axis in (0, 1)]
    spans = []
    for positions, margin, size in zip((rows, cols), far, (raster.rows, raster.cols)):
        first = min(max(0, int(np.floor(positions[0])) - margin), size - 1)
        last = max(min(size, int(np.ceil(positions[-1])) + margin + 1), first + 1)
        spans.append((first, last - first))
    window = Window(spans[0][0], spans[1][0], spans[0][1], spans[1][1])
    values, valid = raster.read(window)
    rows, cols = rows - window.row, cols - window.col
    result = np.empty((raster.bands, len(rows), len(cols)))
    enough = np.ones(result.shape[1:], bool)

    def means(image: np.ndarray, along_rows: float, along_cols: float) -> np.ndarray:
        down = gaussian_means(image.astype(np.float64), rows, along_rows)
        return gaussian_means(down.T, cols, along_cols).T

    for band, (along_rows, along_cols) in enumerate(sigmas):
        mean = means(values[band], along_rows, along_cols)
        if valid is not None:
            share = means(valid[band], along_rows, along_cols)
            mean = mean / np.maximum(share, LEAST_SHARE)
            enough &= share >= LEAST_SHARE
        result[band] = mean
    return result, enough
