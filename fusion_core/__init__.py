"""Diffusion pansharpening without QGIS: networks, sampling, raster in and out, training, quality.

Importing this package imports neither torch nor GDAL; each part loads what it needs when it is used.
"""

from __future__ import annotations

__version__ = "0.1.0"
