"""Writing a sample scene as the three GeoTIFFs that a user opens."""

from __future__ import annotations

from ..sample_scene import SampleScene
from .geotiff import write_geotiff


def write_sample_scene(
    scene: SampleScene, pan_path: str, ms_path: str, reference_path: str | None = None
) -> None:
    """Writes PAN, MS and, if a path is given for it, the reference, with band names and georeference.

    Raises:
        FusionError: a file cannot be written.
    """
    write_geotiff(pan_path, scene.pan, scene.geotransform, scene.crs, ("Panchromatic",))
    write_geotiff(ms_path, scene.ms, scene.ms_geotransform, scene.crs, scene.band_names)
    if reference_path:
        write_geotiff(
            reference_path, scene.reference, scene.geotransform, scene.crs, scene.band_names
        )
