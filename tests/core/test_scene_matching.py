"""Which PAN, MS and mask rasters belong together."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("osgeo.gdal")

from fusion_core.errors import FusionError  # noqa: E402
from fusion_core.raster.scene_matching import MatchedScene, match_scenes  # noqa: E402


@pytest.fixture
def place(make_raster):
    """A function that writes a raster of 64 m by 64 m, so many metres east of the origin."""

    def write(name, east=0.0, pixel=1.0, bands=1, **options):
        size = round(64 / pixel)
        pixels = np.ones((bands, size, size), np.uint16)
        origin = (500000.0 + east, 5000000.0)
        return make_raster(name, pixels, pixel=pixel, origin=origin, **options)

    return write


def test_one_pan_takes_all_bands():
    assert match_scenes(["p"], ["blue", "green"], ["m"]) == [
        MatchedScene("p", ("blue", "green"), "m")
    ]


def test_scenes_are_matched_by_place(place):
    pans = [place("p0.tif"), place("p1.tif", 1000)]
    ms = [place("m1.tif", 1001, 4, bands=3), place("m0.tif", 1, 4, bands=3)]
    mask = place("clouds.tif", 1010, 2)
    assert match_scenes(pans, ms, [mask]) == [
        MatchedScene(pans[0], (ms[1],), None),
        MatchedScene(pans[1], (ms[0],), mask),
    ]


def test_bands_of_several_scenes_keep_their_order(place):
    pans = [place("p0.tif"), place("p1.tif", 1000)]
    ms = [place(f"{band}{i}.tif", 1000 * i, 4) for band in ("red", "blue") for i in (0, 1)]
    assert [scene.ms for scene in match_scenes(pans, ms)] == [(ms[0], ms[2]), (ms[1], ms[3])]


def test_places_count_across_coordinate_systems(place):
    pans = [place("p0.tif"), place("p1.tif", 1000)]
    degrees = [
        place(
            f"m{i}.tif",
            pixel=4,
            crs="EPSG:4326",
            # 4 m at the equator of UTM zone 33, where the origin of the rasters is 15 degrees east.
            geotransform=(15 + i * 1000 * 1.27e-5, 5.1e-5, 0, 45.1536, 0, -3.6e-5),
        )
        for i in (1, 0)
    ]
    found = match_scenes(pans, degrees)
    assert [scene.ms for scene in found] == [(degrees[1],), (degrees[0],)]


def test_two_dates_of_one_place_go_by_order(place):
    pans = [place("p0.tif"), place("p1.tif")]
    ms = [place("m0.tif", 0, 4), place("m1.tif", 0, 4)]
    assert [scene.ms for scene in match_scenes(pans, ms)] == [(ms[0],), (ms[1],)]
    with pytest.raises(FusionError, match=r"m0\.tif could belong to several"):
        match_scenes(pans, [*ms, ms[0]])


def test_rasters_without_a_place_go_by_order(place):
    bare = {"geotransform": False, "crs": None}
    pans = [place(f"p{i}.tif", **bare) for i in (0, 1)]
    ms = [place(f"m{i}.tif", pixel=4, **bare) for i in (0, 1)]
    assert [scene.ms for scene in match_scenes(pans, ms)] == [(ms[0],), (ms[1],)]


def test_what_belongs_nowhere_is_refused(place):
    pans = [place("p0.tif"), place("p1.tif", 1000)]
    ms = [place("m0.tif", 0, 4), place("m1.tif", 1000, 4), place("m2.tif", 5000, 4)]
    with pytest.raises(FusionError, match=r"m2\.tif overlaps none"):
        match_scenes(pans, [ms[0], ms[2]])
    with pytest.raises(FusionError, match=r"No MS raster belongs to p1\.tif"):
        match_scenes(pans, [ms[0]])
    with pytest.raises(FusionError, match=r"mask m2\.tif belongs to none"):
        match_scenes(pans, ms[:2], [ms[2]])
    with pytest.raises(FusionError, match="MS is missing"):
        match_scenes(pans, [])
