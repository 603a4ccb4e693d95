"""What our results are compared with: interpolation alone, and the tool that QGIS users have at hand."""

from __future__ import annotations

import shutil
import subprocess  # nosec B404
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fusion_core.errors import FusionError
from fusion_core.raster.geotiff import read_bands
from fusion_core.raster.scene import Scene
from fusion_core.raster.window import Window


def as_delivered(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Rounds and clips an image to the data type it would be written with."""
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        image = np.clip(np.rint(image), limits.min, limits.max)
    return image.astype(dtype)


def bicubic(pan: str | Path, ms: str | Path) -> np.ndarray:
    """MS interpolated to the PAN grid by georeference (cubic convolution), in the type of MS, (C, H, W).

    Raises:
        FusionError: the rasters cannot be read or do not fit.
    """
    with Scene.open(str(pan), str(ms)) as scene:
        (top, left), ratio = scene.phase, scene.ratio
        row, col = top - ratio if top else 0, left - ratio if left else 0
        height, width = scene.grid.height - row, scene.grid.width - col
        window = Window(row, col, height + -height % ratio, width + -width % ratio)
        image = scene.read(window).lms[:, -row:, -col:]
        image = image[:, : scene.grid.height, : scene.grid.width]
        return as_delivered(image, np.dtype(scene.ms_dtype))


def gdal_pansharpen(pan: str | Path, ms: str | Path) -> np.ndarray:
    """Result of ``gdal_pansharpen.py -r cubic`` with its defaults (weighted Brovey), (C, H, W).

    Raises:
        FusionError: the tool is missing or fails.
    """
    tool = shutil.which("gdal_pansharpen.py") or shutil.which("gdal_pansharpen")
    if tool is None:
        raise FusionError("gdal_pansharpen.py was not found: install the GDAL command line tools.")
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "pansharpened.tif")
        command = [tool, "-q", "-r", "cubic", str(pan), str(ms), output]
        # A tool found on the path, arguments as a list, no shell.
        run = subprocess.run(command, capture_output=True, text=True, check=False)  # nosec B603
        if run.returncode or not Path(output).exists():
            raise FusionError(
                f"gdal_pansharpen.py failed: {run.stderr.strip() or run.stdout.strip()}"
            )
        return read_bands(output)[0]
