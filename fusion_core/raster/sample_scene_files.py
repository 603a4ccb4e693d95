"""Writing a sample scene as the three GeoTIFFs that a user opens."""

from __future__ import annotations

import os

from ..errors import FusionError
from ..sample_scene import SampleScene
from .formats import check_output
from .geotiff import write_geotiff


def write_sample_scene(
    scene: SampleScene, pan_path: str, ms_path: str, reference_path: str | None = None
) -> None:
    """Writes PAN, MS and, if a path is given for it, the reference, with band names and georeference.

    Raises:
        FusionError: a file cannot be written, two have one name, or a name is not that of a GeoTIFF; nothing is written.
    """
    outputs = [
        (pan_path, scene.pan, scene.geotransform, ("Panchromatic",)),
        (ms_path, scene.ms, scene.ms_geotransform, scene.band_names),
    ]
    if reference_path:
        outputs.append((reference_path, scene.reference, scene.geotransform, scene.band_names))
    if len({os.path.realpath(path) for path, *_ in outputs}) < len(outputs):
        raise FusionError(
            "Two images of the sample scene have the same name: choose different ones."
        )
    for path, image, *_ in outputs:
        form = check_output(path, bands=len(image), dtype=image.dtype.name, size=image.nbytes)
        if form.driver != "GTiff":
            raise FusionError(f"{path} is not the name of a GeoTIFF: choose one that ends in .tif.")
    for path, image, geotransform, names in outputs:
        write_geotiff(path, image, geotransform, scene.crs, names)
