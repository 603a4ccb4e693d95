"""One raster as GDAL opens it: its bands, what is valid in them, and where they lie."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass

import numpy as np
from osgeo import gdal, osr

from ..errors import FusionError
from .gdal_calls import gdal_errors_as, quiet_gdal
from .georeference import IDENTITY
from .spectral import spectral_band
from .window import Window

NUMPY_TYPES = {
    gdal.GDT_Byte: "uint8",
    gdal.GDT_UInt16: "uint16",
    gdal.GDT_Int16: "int16",
    gdal.GDT_UInt32: "uint32",
    gdal.GDT_Int32: "int32",
    gdal.GDT_Float32: "float32",
    gdal.GDT_Float64: "float64",
}
# 64-bit integers came with GDAL 3.5, 8-bit signed ones with 3.7.
for _gdal_name, _numpy_name in (("Int64", "int64"), ("UInt64", "uint64"), ("Int8", "int8")):
    if hasattr(gdal, f"GDT_{_gdal_name}"):
        NUMPY_TYPES[getattr(gdal, f"GDT_{_gdal_name}")] = _numpy_name

CACHE_BYTES = 1 << 26
"""What is read of a raster before GDAL's cache of it is emptied; a row of its blocks is read again then."""


@dataclass(frozen=True)
class BandProfile:
    """What a band says about itself, for the output to say it too.

    Attributes:
        name: description, "" where there is none.
        colour: GDAL colour interpretation.
        scale: factor from DN to physical values, None where not given.
        offset: offset from DN to physical values, None where not given.
        unit: unit of the physical values, "" where not given.
        spectral: the ``canonical_band`` it is, "" where it does not say.
    """

    name: str
    colour: int
    scale: float | None
    offset: float | None
    unit: str
    spectral: str


class RasterSource:
    """An opened raster; reading is safe from several threads.

    Attributes:
        name: the GDAL name it was opened with.
        label: short name for messages.
        rows: rows.
        cols: columns.
        bands: number of bands that hold data, an alpha band being none.
        all_bands: number of bands with those that are marked as a transparency.
        dtype: numpy dtype name that holds all bands.
        profiles: one ``BandProfile`` a band.
        nodata: nodata value of each band, None where the band has none.
        geotransform: GDAL geotransform, None where the raster has none.
        srs: coordinate system with x before y, None where the raster has none.
        point: whether the file says that its pixels are points.
        may_have_invalid: whether any pixel can be invalid.
        files: absolute paths of the files it consists of, its name if it consists of none.
    """

    def __init__(self, name: str, label: str | None = None, alpha_is_data: bool = False) -> None:
        """Open a raster.

        Args:
            name: a path, or anything else that GDAL opens.
            label: short name for messages; the last part of ``name`` if None.
            alpha_is_data: take a band that is marked as a transparency for one that holds data.

        Raises:
            FusionError: GDAL cannot open it, or its pixels are of no use here.
        """
        self.name = os.fspath(name)
        self.label = label or os.path.basename(self.name.rstrip("/\\")) or self.name
        self._lock = threading.Lock()
        self._cached = 0
        with quiet_gdal() as messages:
            try:
                dataset = gdal.OpenEx(self.name, gdal.OF_RASTER)
                reason = messages.failures[0] if dataset is None and messages.failures else ""
            except RuntimeError as error:
                dataset, reason = None, str(error)
        if dataset is None:
            raise FusionError(
                f"{self.label} cannot be opened as a raster: check that it exists, is whole and is of a format that"
                f" GDAL reads{f' (GDAL: {reason.rstrip(chr(46))})' if reason else ''}."
            )
        self._dataset = dataset
        with gdal_errors_as(f"The description of {self.label} cannot be read: check the file"):
            self._describe(alpha_is_data)

    def _describe(self, alpha_is_data: bool) -> None:
        dataset = self._dataset
        self.rows = dataset.RasterYSize
        self.cols = dataset.RasterXSize
        bands = [dataset.GetRasterBand(i + 1) for i in range(dataset.RasterCount)]
        alpha = [
            i
            for i, band in enumerate(bands)
            if not alpha_is_data and _is_alpha(band) and not spectral_band(dataset, band)
        ]
        self.all_bands = len(bands)
        if not bands:
            subdatasets = dataset.GetSubDatasets()
            hint = (
                f"choose one of its layers, for example {subdatasets[0][0]}" if subdatasets else ""
            )
            raise FusionError(f"{self.label} has no bands: {hint or 'choose another raster'}.")
        data = [i for i in range(len(bands)) if i not in alpha]
        if not data:
            raise FusionError(f"{self.label} has only an alpha band: choose another raster.")
        self.bands = len(data)
        self.band_numbers = [i + 1 for i in data]
        data_bands = [bands[i] for i in data]

        common = data_bands[0].DataType
        for band in data_bands[1:]:
            common = gdal.DataTypeUnion(common, band.DataType)
        if common not in NUMPY_TYPES:
            raise FusionError(
                f"The pixels of {self.label} are {gdal.GetDataTypeName(common)} numbers, which cannot be fused:"
                " convert it to integers or real numbers, for example the amplitude of a complex image."
            )
        self._type = common
        self.dtype = NUMPY_TYPES[common]
        self.profiles = tuple(
            BandProfile(
                band.GetDescription() or "",
                _colour(band),
                band.GetScale(),
                band.GetOffset(),
                band.GetUnitType() or "",
                spectral_band(dataset, band),
            )
            for band in data_bands
        )
        self.nodata = tuple(band.GetNoDataValue() for band in data_bands)
        # One mask for all bands, or one a band where a VRT gives each its own.
        self._masks = [_mask_of(band) for band in data_bands]
        if alpha:
            self._masks = [bands[alpha[0]]]
        elif data_bands[0].GetMaskFlags() & gdal.GMF_PER_DATASET:
            self._masks = self._masks[:1]
        self.may_have_invalid = (
            any(mask is not None for mask in self._masks)
            or any(value is not None for value in self.nodata)
            or self.dtype.startswith("float")
        )

        geotransform = dataset.GetGeoTransform(can_return_null=True)
        srs = dataset.GetSpatialRef()
        # Drivers that cannot say "none" say the identity, which no map has.
        if geotransform is not None and tuple(geotransform) == IDENTITY and srs is None:
            geotransform = None
        self.geotransform = None if geotransform is None else tuple(geotransform)
        self.has_gcps = dataset.GetGCPCount() > 0
        self.srs = None
        if srs is not None and not srs.IsLocal():
            self.srs = srs.Clone()
            self.srs.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
        self.point = dataset.GetMetadataItem("AREA_OR_POINT") == "Point"
        self.files = frozenset(
            path if path.startswith("/vsi") else os.path.realpath(path)
            for path in dataset.GetFileList() or (self.name,)
        )

    def read(
        self, window: Window, bands: slice = slice(None)
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Read pixels.

        Args:
            window: rectangle inside the raster.
            bands: which of the data bands.

        Returns:
            Values float32 (C, h, w), 0 where invalid, and valid bool (C, h, w), or None where all are.

        Raises:
            FusionError: the pixels cannot be read.
        """
        values = self.read_raw(window, bands)
        if not self.may_have_invalid:
            return values.astype(np.float32), None
        valid = np.ones(values.shape, bool)
        for band, nodata in enumerate(self.nodata[bands]):
            stored = _as_stored(nodata, values.dtype)
            if stored is not None:
                valid[band] &= values[band] != stored
        masks = self._masks if len(self._masks) == 1 else self._masks[bands]
        for mask, target in zip(masks, [valid] if len(self._masks) == 1 else valid):
            if mask is not None:
                target &= self._read_mask(mask, window)
        if values.dtype == np.float64:
            # Values that float32 cannot hold are no measurements.
            with np.errstate(over="ignore"):
                values = values.astype(np.float32)
        if values.dtype.kind == "f":
            valid &= np.isfinite(values)
        values = values.astype(np.float32)
        if valid.all():
            return values, None
        values[~valid] = 0
        return values, valid

    def read_raw(self, window: Window, bands: slice = slice(None)) -> np.ndarray:
        """Read pixels as they are stored, (C, h, w) of ``dtype``; errors as ``read``."""
        numbers = self.band_numbers[bands]
        with self._lock, gdal_errors_as(self._unreadable()) as messages:
            self._give_back_cache(len(numbers) * window.height * window.width)
            data = self._dataset.ReadRaster(
                window.col,
                window.row,
                window.width,
                window.height,
                buf_type=self._type,
                band_list=numbers,
            )
            messages.require(data)
        # Not ReadAsArray: its compiled half breaks when QGIS's numpy and GDAL's numpy differ.
        shape = (len(numbers), window.height, window.width)
        return np.frombuffer(data, self.dtype).reshape(shape)

    def _give_back_cache(self, pixels: int) -> None:
        """Empty GDAL's cache now and then: it would keep all that was read, up to a share of the machine's memory."""
        self._cached += pixels * np.dtype(self.dtype).itemsize
        if self._cached > CACHE_BYTES:
            self._cached = 0
            for number in range(1, self.all_bands + 1):
                self._dataset.GetRasterBand(number).FlushCache()

    def _read_mask(self, mask: gdal.Band, window: Window) -> np.ndarray:
        with self._lock, gdal_errors_as(self._unreadable()) as messages:
            data = mask.ReadRaster(
                window.col, window.row, window.width, window.height, buf_type=gdal.GDT_Float32
            )
            messages.require(data)
        return np.frombuffer(data, np.float32).reshape(window.height, window.width) > 0

    def _unreadable(self) -> str:
        return (
            f"The pixels of {self.label} cannot be read: the file may be truncated or damaged, so copy or"
            " download it again"
        )

    def close(self) -> None:
        """Release the file."""
        with self._lock, quiet_gdal():
            self._masks = []
            self._dataset = None


def _as_stored(nodata: float | None, dtype: np.dtype) -> np.generic | None:
    """The nodata value as a pixel of that type would hold it, None where no pixel can."""
    if nodata is None or np.isnan(nodata):
        return None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return dtype.type(nodata)
    limits = np.iinfo(dtype)
    if np.isinf(nodata) or nodata != int(nodata) or not limits.min <= nodata <= limits.max:
        return None
    return dtype.type(int(nodata))


def _mask_of(band: gdal.Band) -> gdal.Band | None:
    """The mask of a band that has one of its own or shares that of the dataset; None for nodata and alpha."""
    other = gdal.GMF_ALL_VALID | gdal.GMF_NODATA | gdal.GMF_ALPHA
    return None if band.GetMaskFlags() & other else band.GetMaskBand()


def _is_alpha(band: gdal.Band) -> bool:
    """Whether a band is marked as a transparency; GDAL does that to the fourth of four bytes, even to a NIR."""
    return band.GetColorInterpretation() == gdal.GCI_AlphaBand


def _colour(band: gdal.Band) -> int:
    return gdal.GCI_Undefined if _is_alpha(band) else band.GetColorInterpretation()
