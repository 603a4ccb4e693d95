"""Diffusion pansharpening without QGIS: networks, sampling, raster in and out, training, quality.

Importing this package imports neither torch nor GDAL; each part loads what it needs when it is used.
"""

from __future__ import annotations

__version__ = "0.1.0"

try:
    from .fuse import fuse
except ModuleNotFoundError as error:
    # Without numpy the command line must still be able to say what is missing.
    if error.name != "numpy":
        raise
else:
    __all__ = ["fuse"]
