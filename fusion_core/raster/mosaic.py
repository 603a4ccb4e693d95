"""The fused raster, written row by row and visible only when whole."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from osgeo import gdal

from ..errors import FusionError
from .colours import COLOURS
from .formats import GDAL_TYPES, check_output, geotiff_options
from .gdal_calls import GdalMessages, gdal_errors_as, quiet_gdal
from .georeference import srs_from_wkt
from .partial import PartialOutput
from .provenance import write_provenance
from .scene import Scene
from .side_file import RowLayout
from .window import Window

LEAST_BUFFER_ROWS = 32
GREATEST_BUFFER_ROWS = 1024


class Mosaic:
    """Streams finished rows into a raster; a context manager that leaves nothing behind unless committed.

    Rows are gathered to whole blocks and written block by block, so that each block is compressed and written once.

    Attributes:
        nodata: value of the pixels without data, None where there can be none.
    """

    def __init__(
        self,
        path: str,
        *,
        window: Window,
        scene: Scene,
        bands: int,
        dtype: str,
        nodata: float | None = None,
        band_names: Sequence[str] = (),
        creation_options: Sequence[str] = (),
        metadata: Mapping[str, str] | None = None,
        like_ms: bool = True,
    ) -> None:
        """Create the raster under a temporary name.

        Args:
            path: the output; its extension tells the format.
            window: PAN pixels that it covers.
            scene: where georeference and the properties of the bands come from.
            bands: number of bands.
            dtype: numpy dtype name of the pixels.
            nodata: value of pixels without data; if None, or if ``dtype`` cannot hold it, and there may be such
                pixels: NaN for real numbers, 0 for integers.
            band_names: descriptions of the bands.
            creation_options: of the format, "KEY=VALUE".
            metadata: provenance that is known already.
            like_ms: whether band n shows what MS band n does and takes over its colour, scale, offset and unit.

        Raises:
            FusionError: the output cannot be written; the sentence says why.
        """
        self._window = window
        self._dtype = np.dtype(dtype)
        size = window.height * window.width * bands * self._dtype.itemsize
        self._format = check_output(
            path,
            bands=bands,
            dtype=dtype,
            options=creation_options,
            inputs=scene.files,
            size=size,
        )
        may_lack = scene.may_have_invalid or not scene.overlap.contains(window)
        self.nodata = _output_nodata(nodata, self._dtype, may_lack)
        self._metadata = dict(metadata or {})
        self._next_row = 0
        self._finished = False
        self._done = False
        self._partial = PartialOutput(path)
        self._dataset: gdal.Dataset | None = None
        try:
            with gdal_errors_as(self._problem()) as messages:
                self._create(messages, scene, bands, band_names, like_ms)
        except BaseException:
            self.discard()
            raise

    def _create(
        self,
        messages: GdalMessages,
        scene: Scene,
        bands: int,
        band_names: Sequence[str],
        like_ms: bool,
    ) -> None:
        width, height = self._window.width, self._window.height
        colours = _colours(scene, bands, band_names, like_ms)
        if self._format.streams:
            self._growing = self._partial.path
            given = self._format.options
        else:
            self._growing = os.path.join(os.path.dirname(self._partial.path), ".rows.tif")
            given = ()
        options = geotiff_options(bands, width * self._dtype.itemsize, given, _is_rgb(colours))
        self._dataset = gdal.GetDriverByName("GTiff").Create(
            self._growing, width, height, bands, GDAL_TYPES[self._dtype.name], options
        )
        messages.require(self._dataset)
        geotransform = scene.geotransform_at(self._window)
        if geotransform is not None:
            self._dataset.SetGeoTransform(geotransform)
        srs = srs_from_wkt(scene.crs_wkt)
        if srs is not None:
            self._dataset.SetSpatialRef(srs)
        if scene.pixel_is_point:
            self._dataset.SetMetadataItem("AREA_OR_POINT", "Point")
        for index in range(bands):
            band = self._dataset.GetRasterBand(index + 1)
            if index < len(band_names) and band_names[index]:
                band.SetDescription(band_names[index])
            if colours[index] is not None:
                band.SetColorInterpretation(colours[index])
            if self.nodata is not None:
                # 64-bit integers take no other kind of number here.
                wide = self._dtype.kind != "f" and self._dtype.itemsize == 8
                band.SetNoDataValue(int(self.nodata) if wide else self.nodata)
            if like_ms and index < scene.ms_bands:
                profile = scene.band_profiles[index]
                if profile.scale is not None and profile.scale != 1:
                    band.SetScale(profile.scale)
                if profile.offset:
                    band.SetOffset(profile.offset)
                if profile.unit:
                    band.SetUnitType(profile.unit)
        write_provenance(self._dataset, self._metadata)
        self._block_width, block_height = self._dataset.GetRasterBand(1).GetBlockSize()[:2]
        rows = block_height * -(-LEAST_BUFFER_ROWS // block_height)
        rows = min(rows, GREATEST_BUFFER_ROWS, height)
        self._buffer = np.empty((bands, rows, width), self._dtype)

    @property
    def layout(self) -> RowLayout:
        """How rows are stored."""
        bands, _, width = self._buffer.shape
        return RowLayout(bands, width, self._dtype.name)

    @property
    def space_needed(self) -> int:
        """Bytes that the rest of the output takes on the disk, uncompressed."""
        rows = self._window.height - self._next_row
        if not self._format.streams:
            rows += self._window.height
        return rows * self.layout.size

    def write(self, row: int, block: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Add finished rows; they must come in order, without gaps.

        Args:
            row: first row, counted from the window's first.
            block: values in digital numbers, float (C, h, W); rounded and clipped to the pixel type.
            valid: bool (h, W); pixels that are not, or whose values are not finite, get nodata.

        Returns:
            The pixels as they are stored, of the output's type (C, h, W).

        Raises:
            FusionError: the disk is full or refuses otherwise; nothing is left of the output.
            ValueError: the rows are not the next ones, or of another shape.
        """
        self._require_next(row, block)
        if valid.shape != block.shape[1:]:
            raise ValueError(f"{valid.shape} pixels are valid of {block.shape}")
        stored = self.stored(block, valid)
        self._add(stored)
        return stored

    def restore(self, row: int, stored: np.ndarray) -> None:
        """Add rows as ``stored`` gives them; they must come in order, without gaps.

        Args:
            row: first row, counted from the window's first.
            stored: pixels of the output's type (C, h, W).

        Raises:
            FusionError, ValueError: as ``write``.
        """
        self._require_next(row, stored)
        if stored.dtype != self._dtype:
            raise ValueError(f"{stored.dtype} is not stored as {self._dtype}")
        self._add(stored)

    def _require_next(self, row: int, block: np.ndarray) -> None:
        bands, _, width = self._buffer.shape
        height = block.shape[1]
        if (
            self._done
            or row != self._next_row
            or block.shape != (bands, height, width)
            or row + height > self._window.height
        ):
            raise ValueError(f"rows {row} of {block.shape} do not follow row {self._next_row}")

    def _add(self, stored: np.ndarray) -> None:
        """Gather rows, and write them where they fill a row of blocks."""
        height, start = stored.shape[1], 0
        while start < height:
            at = self._next_row % self._buffer.shape[1]
            count = min(height - start, self._buffer.shape[1] - at)
            self._buffer[:, at : at + count] = stored[:, start : start + count]
            start += count
            self._next_row += count
            if at + count == self._buffer.shape[1] or self._next_row == self._window.height:
                self._flush(self._next_row - at - count, at + count)

    def stored(self, block: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Pixels as the file holds them; fastest where the block fits into the processor's cache.

        Args:
            block: values in digital numbers, float (C, h, W); rounded and clipped to the pixel type.
            valid: bool (h, W); pixels that are not, or whose values are not finite, get nodata.

        Returns:
            Pixels of the output's type, (C, h, W).
        """
        # Not a number passes through both.
        low, high = (float(np.rint(limit)) for limit in (block.min(), block.max()))
        if np.isfinite(low) and np.isfinite(high):
            stored = _cast(block, self._dtype, low, high)
        else:
            valid = valid & np.isfinite(block).all(axis=0)
            stored = _converted(block, self._dtype)
        if self.nodata is not None and np.isfinite(self.nodata):
            reach = 1 + 1e-5 * abs(self.nodata)
            if not (low - reach > self.nodata or high + reach < self.nodata):
                clash, instead = _neighbour(stored, self._dtype.type(self.nodata))
                stored[clash] = instead
        if not valid.all():
            stored[:, ~valid] = 0 if self.nodata is None else self._dtype.type(self.nodata)
        return stored

    def _flush(self, first_row: int, count: int) -> None:
        """Write the gathered rows, all bands of a block together."""
        bands, rows, width = self._buffer.shape
        gdal_type, pixel = GDAL_TYPES[self._dtype.name], self._dtype.itemsize
        numbers = list(range(1, bands + 1))
        pixels = self._buffer.reshape(-1)
        try:
            with gdal_errors_as(self._problem()) as messages:
                for col in range(0, width, self._block_width):
                    self._dataset.WriteRaster(
                        col,
                        first_row,
                        min(self._block_width, width - col),
                        count,
                        pixels[col:].data,
                        buf_type=gdal_type,
                        band_list=numbers,
                        buf_pixel_space=pixel,
                        buf_line_space=pixel * width,
                        buf_band_space=pixel * width * rows,
                    )
                    if messages.failures:
                        break
                # GDAL's cache would otherwise fill up and write later, while nothing else is left to do.
                for number in numbers:
                    self._dataset.GetRasterBand(number).FlushCache()
        except FusionError:
            self.discard()
            raise

    def commit(self, metadata: Mapping[str, str] | None = None) -> None:
        """Finish the raster, unless ``finish`` did, and put it under its name, replacing what was there.

        Args:
            metadata: provenance, added to what the constructor got.

        Raises:
            FusionError: it cannot be finished; nothing is left of it and what was there stays.
            ValueError: rows are missing, or it was committed or discarded before.
        """
        if not self._finished:
            self.finish(metadata)
        self._done = True
        self._partial.publish()

    def finish(self, metadata: Mapping[str, str] | None = None) -> None:
        """Write all that is left, under the temporary name; arguments and errors as ``commit``.

        For outputs that are to appear together or not at all: what can go wrong with one goes wrong here.
        """
        if self._done or self._finished or self._next_row != self._window.height:
            raise ValueError(f"{self._next_row} of {self._window.height} rows are written")
        self._metadata.update(metadata or {})
        try:
            with gdal_errors_as(self._problem()):
                write_provenance(self._dataset, self._metadata)
                self._dataset.FlushCache()
                self._dataset = None
            if not self._format.streams:
                self._convert()
            self._check_whole()
        except BaseException:
            self.discard()
            raise
        self._finished = True

    def _convert(self) -> None:
        """Copy the finished rows into the format that was asked for."""
        driver = gdal.GetDriverByName(self._format.driver)
        with gdal_errors_as(self._problem()) as messages:
            rows = gdal.Open(self._growing)
            made = driver.CreateCopy(
                self._partial.path, rows, strict=0, options=list(self._format.options)
            )
            write_provenance(messages.require(made), self._metadata)
            made.FlushCache()
            made = rows = None
        os.remove(self._growing)

    def _check_whole(self) -> None:
        """Read the last pixels back: some write errors of a closing file reach nobody."""
        with gdal_errors_as(self._problem()) as messages:
            whole = messages.require(gdal.Open(self._partial.path))
            row, col = self._window.height - 1, self._window.width - 1
            messages.require(whole.ReadRaster(col, row, 1, 1))
            whole = None

    def discard(self) -> None:
        """Remove what was written so far, unless committed."""
        if self._done:
            return
        self._done = True
        with quiet_gdal():
            self._dataset = None
        self._partial.discard()

    def __enter__(self) -> Mosaic:
        return self

    def __exit__(self, *exception: object) -> None:
        self.discard()

    def _problem(self) -> str:
        return f"{self._partial.target} cannot be written: check the space on the disk and the creation options"


def _output_nodata(nodata: float | None, dtype: np.dtype, may_lack: bool) -> float | None:
    if nodata is not None:
        if dtype.kind == "f":
            if np.isnan(nodata) or abs(nodata) <= float(np.finfo(dtype).max):
                return float(nodata)
        elif nodata == np.rint(nodata):
            limits = np.iinfo(dtype)
            if limits.min <= nodata <= limits.max:
                return float(nodata)
    if not may_lack:
        return None
    return float("nan") if dtype.kind == "f" else 0.0


def _cast(block: np.ndarray, dtype: np.dtype, low: float, high: float) -> np.ndarray:
    """Finite values as pixels, in few passes where none has to be clipped; their bounds are rounded."""
    limits = np.iinfo(dtype) if dtype.kind != "f" else np.finfo(dtype)
    if dtype.itemsize > 2 and dtype.kind != "f" or low < limits.min or high > limits.max:
        return _converted(block, dtype)
    return (block if dtype.kind == "f" else np.rint(block)).astype(dtype)


def _converted(block: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Any values as pixels."""
    if dtype.kind != "f":
        return _rounded(block, dtype)
    limits = np.finfo(dtype)
    return np.clip(block, limits.min, limits.max).astype(dtype)


def _rounded(block: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Round to integers, half to even, and clip; what is not finite becomes something finite."""
    limits = np.iinfo(dtype)
    if dtype.itemsize > 2:
        # float32 has no 2**32 - 1: clipped there, it would overflow.
        block = block.astype(np.float64)
    values = np.rint(np.nan_to_num(block))
    stored = np.clip(values, limits.min, limits.max)
    if dtype.itemsize < 8:
        return stored.astype(dtype)
    top = stored >= limits.max
    stored[top] = 0
    stored = stored.astype(dtype)
    stored[top] = limits.max
    return stored


def _neighbour(stored: np.ndarray, nodata: np.generic) -> tuple[np.ndarray, float]:
    """Where values would be taken for nodata, and the nearest value that would not."""
    dtype = stored.dtype
    if dtype.kind != "f":
        top = np.iinfo(dtype).max
        return stored == nodata, int(nodata) - 1 if nodata == top else int(nodata) + 1
    if nodata == 0:
        return stored == 0, float(np.finfo(dtype).tiny)
    # GDAL takes real numbers a few roundings apart for equal.
    near = 8 * np.finfo(dtype).eps
    return np.abs(stored - nodata) <= near * abs(nodata), float(nodata) * (1 - 2 * near)


def _colours(
    scene: Scene, bands: int, band_names: Sequence[str], like_ms: bool
) -> list[int | None]:
    """Colour interpretation of each band where it is known, from MS or from the band's name."""
    colours: list[int | None] = [None] * bands
    if not like_ms:
        return colours
    unknown = (gdal.GCI_Undefined, gdal.GCI_GrayIndex, gdal.GCI_PaletteIndex)
    for index in range(min(bands, scene.ms_bands)):
        colour = scene.band_profiles[index].colour
        name = band_names[index].strip().lower() if index < len(band_names) else ""
        # The name first: GDAL calls any three bytes red, green and blue.
        colours[index] = COLOURS.get(name, None if colour in unknown else colour)
    return colours


def _is_rgb(colours: Sequence[int | None]) -> bool:
    return list(colours[:3]) == [gdal.GCI_RedBand, gdal.GCI_GreenBand, gdal.GCI_BlueBand]
