"""What tells a file from a later version of it, without reading it."""

from __future__ import annotations

import os

from osgeo import gdal

from .gdal_calls import quiet_gdal


def file_stamp(path: str) -> tuple[int, int] | None:
    """Size in bytes and time of the last change, in nanoseconds where they are kept and in seconds elsewhere.

    Args:
        path: a file, or a name of GDAL's virtual file systems, /vsi...

    Returns:
        None where nobody knows, as for a database.
    """
    if not path.startswith("/vsi"):
        try:
            found = os.stat(path)
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns
    with quiet_gdal():
        try:
            found = gdal.VSIStatL(path)
        except RuntimeError:
            return None
    # Servers that do not tell the time of the last change leave it at 0.
    return (found.size, found.mtime) if found is not None and found.mtime > 0 else None
