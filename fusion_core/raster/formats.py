"""Output formats: which one a file name means, and whether it can take what is to be written."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from osgeo import gdal

from ..errors import FusionError
from .gdal_calls import quiet_gdal
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

NOT_STANDALONE = {"VRT", "MEM", "DERIVED", "WMS", "WMTS", "COG"}

TRIAL_SIZE = 64

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

    The format is tried with a small raster in memory, which finds options and pixel types that it refuses.

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
    """Write a small raster in memory as the output will be written."""
    name = os.path.basename(path)
    folder = f"/vsimem/{uuid.uuid4().hex}"
    trial = f"{folder}/trial{os.path.splitext(name)[1]}"
    driver = gdal.GetDriverByName(form.driver)
    types = (driver.GetMetadataItem(gdal.DMD_CREATIONDATATYPES) or "").split()
    if types and gdal.GetDataTypeName(GDAL_TYPES[dtype]) not in types:
        # CreateCopy would clip the values to a type that the format has, with a warning.
        raise FusionError(
            f"{driver.LongName} files such as {name} cannot hold {dtype}: choose a name that ends in .tif."
        )
    size = (TRIAL_SIZE, TRIAL_SIZE, bands, GDAL_TYPES[dtype])
    gdal.Mkdir(folder, 0o700)
    with quiet_gdal() as messages:
        try:
            if form.streams:
                made = driver.Create(trial, *size, options=list(form.options))
            else:
                model = gdal.GetDriverByName("MEM").Create("", *size)
                made = driver.CreateCopy(trial, model, strict=0, options=list(form.options))
            made = None if made is None else made.FlushCache() or True
        except RuntimeError as error:
            made = None
            messages.failures.append(str(error))
        gdal.RmdirRecursive(folder)
    # GDAL ignores options that it does not know, which the user should know.
    ignored = [text for text in messages.warnings if "creation option" in text.lower()]
    if made is None or messages.failures or ignored:
        detail = (messages.failures + ignored or ["no reason given"])[0]
        detail = " ".join(detail.split()).rstrip(".")
        raise FusionError(
            f"{name} cannot be written as {driver.LongName} with {bands} band{'s' * (bands > 1)} of {dtype}"
            f"{' and the creation options ' + ' '.join(form.options) if form.options else ''} (GDAL: {detail}):"
            " choose other creation options or a name that ends in .tif."
        )
