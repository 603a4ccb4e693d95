"""Output formats: which one a file name means, and whether it can take what is to be written."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from osgeo import gdal

from ..errors import FusionError
from .gdal_calls import GdalMessages, quiet_gdal
from .partial import remove_leftovers
from .source import NUMPY_TYPES

GDAL_TYPES = {name: number for number, name in NUMPY_TYPES.items()}

FIRST_CHOICE = {
    "tif": "GTiff",
    "tiff": "GTiff",
    "img": "HFA",
    "dat": "ENVI",
    "bsq": "ENVI",
    "bil": "ENVI",
    "bip": "ENVI",
}
"""Formats of the extensions that several drivers claim, or none does."""

NOT_STANDALONE = {"VRT", "MEM", "DERIVED", "WMS", "WMTS", "COG", "PDF", "PDS4"}

LOSSLESS = {"JP2OpenJPEG": {"QUALITY": "100", "REVERSIBLE": "YES"}, "WEBP": {"LOSSLESS": "YES"}}
"""Options that keep every digital number, for formats that would otherwise round them off."""

TRIAL_SIZE = 64

TRIAL_ERROR = 16
"""How far pixels of the trial, 0 to 126, may be off in a format that the user knows to be lossy."""

BUFFER_BYTES = 1 << 28
"""Most that a row of blocks should take; wide scenes of many bands get smaller blocks."""

BLOCKS = (256, 128, 64)


@dataclass(frozen=True)
class OutputFormat:
    """How a file is to be written.

    Attributes:
        driver: GDAL driver name.
        options: creation options, "KEY=VALUE".
    """

    driver: str
    options: tuple[str, ...]

    @property
    def streams(self) -> bool:
        """Whether rows are written straight into the file, rather than into a GeoTIFF that is converted last."""
        return self.driver == "GTiff"


def output_format(path: str, options: Sequence[str] = ()) -> OutputFormat:
    """The format that a file name means.

    Raises:
        FusionError: no driver writes files of that extension, or an option is not "KEY=VALUE".
    """
    for option in options:
        if "=" not in option.strip("="):
            raise FusionError(
                f'The creation option "{option}" is not of the form KEY=VALUE: correct or remove it.'
            )
    extension = os.path.splitext(path)[1][1:].lower()
    driver = FIRST_CHOICE.get(extension) or _driver_for(extension)
    if driver is None or gdal.GetDriverByName(driver) is None:
        raise FusionError(
            f"No raster format that can be written has the extension .{extension}: choose a name that ends in .tif."
            if extension
            else f"{path} has no extension, which tells the format: choose a name that ends in .tif."
        )
    given = {option.split("=", 1)[0].strip().upper() for option in options}
    lossless = LOSSLESS.get(driver, {})
    if not given & set(lossless):
        options = [*options, *(f"{key}={value}" for key, value in lossless.items())]
    return OutputFormat(driver, tuple(options))


def check_output(
    path: str,
    *,
    bands: int,
    dtype: str,
    options: Sequence[str] = (),
    inputs: frozenset[str] = frozenset(),
    size: int = 0,
) -> OutputFormat:
    """Find out, before anything runs, whether an output can be written.

    The format is tried with a small raster, which finds options, pixel types and numbers of bands that it refuses, and
    formats that take them and keep only a part.

    Args:
        path: the output file.
        bands: number of bands.
        dtype: numpy dtype name of the pixels.
        options: creation options, "KEY=VALUE".
        inputs: real paths of the files that must not be overwritten.
        size: bytes that will be needed at least.

    Raises:
        FusionError: it cannot; the sentence says why.
    """
    path = os.path.abspath(path) if not path.startswith("/vsi") else path
    folder = os.path.dirname(path)
    if path.startswith("/vsi") or not os.path.isdir(folder):
        raise FusionError(
            f"The folder {folder} does not exist: choose one that does for the output."
        )
    if not os.access(folder, os.W_OK):
        raise FusionError(
            f"Nothing can be written in {folder}: choose another folder for the output."
        )
    if os.path.realpath(path) in inputs:
        raise FusionError(
            f"{path} is one of the inputs and would be overwritten: choose another output."
        )
    form = output_format(path, options)
    if dtype not in GDAL_TYPES:
        raise FusionError(f"Rasters of {dtype} cannot be written: choose float32.")
    _try(form, path, bands, dtype)
    free = shutil.disk_usage(folder).free
    if size > free:
        remove_leftovers(path)
        free = shutil.disk_usage(folder).free
    compressed = any(option.upper().startswith("COMPRESS=") for option in options)
    if size > free and not (compressed and form.streams):
        raise FusionError(
            f"The output needs {_readable(size)} and {folder} has {_readable(free)} left: make room or choose"
            " another folder."
        )
    return form


def _readable(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def geotiff_options(
    bands: int, row_bytes: int, given: Sequence[str] = (), rgb: bool = False
) -> list[str]:
    """GeoTIFF creation options: those given, and defaults for all that they leave open.

    Args:
        bands: number of bands.
        row_bytes: bytes of one row of one band.
        given: options, "KEY=VALUE".
        rgb: whether the first three bands are red, green and blue.
    """
    keys = {option.split("=", 1)[0].strip().upper() for option in given}
    options = []
    if "BIGTIFF" not in keys:
        options.append("BIGTIFF=IF_SAFER")
    if not keys & {"TILED", "BLOCKXSIZE", "BLOCKYSIZE"}:
        fitting = [side for side in BLOCKS if side * row_bytes * bands <= BUFFER_BYTES]
        side = fitting[0] if fitting else BLOCKS[-1]
        options += ["TILED=YES", f"BLOCKXSIZE={side}", f"BLOCKYSIZE={side}"]
    if "INTERLEAVE" not in keys and bands > 16:
        options.append("INTERLEAVE=BAND")
    if "COMPRESS" in keys and "NUM_THREADS" not in keys:
        options.append("NUM_THREADS=ALL_CPUS")
    if not rgb and not keys & {"PHOTOMETRIC", "ALPHA"}:
        # GDAL would call any three bytes red, green and blue, and a fourth one alpha.
        options += ["PHOTOMETRIC=MINISBLACK", "ALPHA=NO"]
    return [*options, *given]


def _driver_for(extension: str) -> str | None:
    if not extension:
        return None
    for index in range(gdal.GetDriverCount()):
        driver = gdal.GetDriver(index)
        about = driver.GetMetadata()
        if (
            extension in (about.get(gdal.DMD_EXTENSIONS) or "").lower().split()
            and about.get(gdal.DCAP_RASTER) == "YES"
            and "YES" in (about.get(gdal.DCAP_CREATE), about.get(gdal.DCAP_CREATECOPY))
            and driver.ShortName not in NOT_STANDALONE
        ):
            return driver.ShortName
    return None


def _try(form: OutputFormat, path: str, bands: int, dtype: str) -> None:
    """Write a small raster as the output will be written."""
    name = os.path.basename(path)
    driver = gdal.GetDriverByName(form.driver)
    trial = _try_create if form.streams else _try_copy
    with quiet_gdal() as messages:
        try:
            trial(driver, os.path.splitext(name)[1], form.options, bands, dtype, messages)
        except RuntimeError as error:
            messages.failures.append(str(error))
    # GDAL ignores options that it does not know, which the user should know.
    ignored = [text for text in messages.warnings if "creation option" in text.lower()]
    if messages.failures or ignored:
        detail = " ".join((messages.failures + ignored)[0].split()).rstrip(".")
        raise FusionError(
            f"{name} cannot be written as {driver.LongName} with {bands} band{'s' * (bands > 1)} of {dtype}"
            f"{' and the creation options ' + ' '.join(form.options) if form.options else ''} ({detail}):"
            " choose other creation options or a name that ends in .tif."
        )


def _try_create(
    driver: gdal.Driver,
    extension: str,
    options: Sequence[str],
    bands: int,
    dtype: str,
    messages: GdalMessages,
) -> None:
    """Create a raster in memory."""
    folder = f"/vsimem/{uuid.uuid4().hex}"
    gdal.Mkdir(folder, 0o700)
    try:
        size = (TRIAL_SIZE, TRIAL_SIZE, bands, GDAL_TYPES[dtype])
        made = driver.Create(f"{folder}/trial{extension}", *size, options=list(options))
        messages.require(made).FlushCache()
        made = None
    finally:
        gdal.RmdirRecursive(folder)


def _try_copy(
    driver: gdal.Driver,
    extension: str,
    options: Sequence[str],
    bands: int,
    dtype: str,
    messages: GdalMessages,
) -> None:
    """Copy a raster into a folder, rename that and see whether the pixels are still there.

    Some drivers cannot write to memory, some keep only the first band or clip the values with no more than a warning,
    and some name their companion files by full path.
    """
    rows, cols = np.mgrid[:TRIAL_SIZE, :TRIAL_SIZE]
    pattern = np.stack(
        [(rows + cols) if band % 2 else (126 - rows - cols) for band in range(bands)]
    )
    pattern = pattern.astype(dtype)
    number = GDAL_TYPES[dtype]
    model = gdal.GetDriverByName("MEM").Create("", TRIAL_SIZE, TRIAL_SIZE, bands, number)
    model.WriteRaster(0, 0, TRIAL_SIZE, TRIAL_SIZE, pattern.tobytes(), buf_type=number)
    with tempfile.TemporaryDirectory() as folder:
        before, after = os.path.join(folder, "before"), os.path.join(folder, "after")
        os.mkdir(before)
        name = f"trial{extension}"
        made = driver.CreateCopy(os.path.join(before, name), model, strict=0, options=list(options))
        messages.require(made).FlushCache()
        made = None
        if messages.failures:
            return
        os.rename(before, after)
        made = messages.require(gdal.Open(os.path.join(after, name)))
        found = made.RasterCount
        if found == bands:
            data = made.ReadRaster(buf_type=gdal.GDT_Float64)
            kept = np.frombuffer(messages.require(data)).reshape(pattern.shape)
            types = {made.GetRasterBand(band + 1).DataType for band in range(bands)}
        made = None
    if found != bands:
        raise RuntimeError(f"{found} of {bands} bands are kept")
    if types != {number}:
        raise RuntimeError(f"the format cannot hold {dtype}")
    if np.abs(kept - pattern.astype(np.float64)).max() > TRIAL_ERROR:
        raise RuntimeError("the pixels are not kept")
