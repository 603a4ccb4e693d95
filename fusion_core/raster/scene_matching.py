"""Which of several PAN, MS and mask rasters show the same place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import FusionError
from .georeference import PixelMap, edge_points
from .source import RasterSource

ALIKE = 0.95
"""Two overlaps of which the smaller is this share of the greater do not tell which raster belongs where."""


@dataclass(frozen=True)
class MatchedScene:
    """The rasters of one place, by GDAL name; several ``ms`` are the bands of one image; ``mask`` may be None."""

    pan: str
    ms: tuple[str, ...]
    mask: str | None


def match_scenes(
    pans: Sequence[str], ms: Sequence[str], masks: Sequence[str] = ()
) -> list[MatchedScene]:
    """Bring rasters together by where they lie.

    One PAN takes all MS rasters, as the bands of one image.  With several, an MS raster goes to the PAN that it overlaps
    best; where that does not tell, as for two dates of one place, the order does.  Each PAN takes the mask that covers
    most of it, so one mask may serve several.

    Args:
        pans, ms, masks: GDAL names.

    Returns:
        A scene for each PAN, in their order.

    Raises:
        FusionError: a raster cannot be opened, lies nowhere near the others, or could belong to several.
    """
    if not pans or not ms:
        raise FusionError(f"{'MS' if pans else 'PAN'} is missing: choose a raster.")
    if len(pans) == 1 and len(masks) < 2:
        return [MatchedScene(pans[0], tuple(ms), masks[0] if masks else None)]
    places = {name: _Place(name) for name in (*pans, *ms, *masks)}
    groups = [tuple(ms)] if len(pans) == 1 else _grouped(pans, ms, places)
    chosen = [_mask_of(places[pan], [places[name] for name in masks]) for pan in pans]
    for name in masks:
        if name not in chosen:
            raise FusionError(
                f"The mask {places[name].label} belongs to none of the scenes, or another covers more: leave it out."
            )
    return [MatchedScene(*parts) for parts in zip(pans, groups, chosen)]


class _Place:
    """Where a raster lies."""

    def __init__(self, name: str) -> None:
        source = RasterSource(name)
        try:
            self.name, self.label = name, source.label
            self.rows, self.cols = source.rows, source.cols
            self.geotransform, self.srs = source.geotransform, source.srs
        finally:
            source.close()

    def overlap(self, other: _Place) -> tuple[float, float]:
        """What is common of both rectangles: share of this raster, and share of what either covers."""
        if self.geotransform is None or other.geotransform is None:
            return 0.0, 0.0
        to_self = PixelMap.between(other.geotransform, other.srs, self.geotransform, self.srs)
        outline = to_self(edge_points(other.rows, other.cols))
        outline = outline[np.isfinite(outline).all(axis=1)]
        if not len(outline):
            return 0.0, 0.0
        size = np.array([self.cols, self.rows], float)
        low, high = outline.min(axis=0), outline.max(axis=0)
        common = np.prod(np.clip(np.minimum(high, size) - np.maximum(low, 0), 0, None))
        mine, theirs = np.prod(size), np.prod(high - low)
        return float(common / mine), float(common / (mine + theirs - common))


def _grouped(
    pans: Sequence[str], ms: Sequence[str], places: dict[str, _Place]
) -> list[tuple[str, ...]]:
    shares = np.array([[places[pan].overlap(places[name])[1] for pan in pans] for name in ms])
    best = shares.max(axis=1)
    somewhere = np.array(
        [most > 0 or places[name].geotransform is None for name, most in zip(ms, best)]
    )
    if len(pans) == len(ms) and (somewhere & (np.diagonal(shares) >= ALIKE * best)).all():
        # Also rasters without a georeference, which overlap nothing: what fits is checked where they are read.
        return [(name,) for name in ms]
    for name, row, most in zip(ms, shares, best):
        if most == 0:
            raise FusionError(
                f"{places[name].label} overlaps none of the PAN rasters: choose the MS rasters of the same places."
            )
        if (row >= ALIKE * most).sum() > 1:
            raise FusionError(
                f"{places[name].label} could belong to several of the PAN rasters: give as many MS as PAN rasters, in "
                "the same order."
            )
    owners = shares.argmax(axis=1)
    groups = [tuple(name for name, o in zip(ms, owners) if o == i) for i in range(len(pans))]
    for pan, group in zip(pans, groups):
        if not group:
            raise FusionError(
                f"No MS raster belongs to {places[pan].label}: add the one of the same place."
            )
    return groups


def _mask_of(pan: _Place, masks: Sequence[_Place]) -> str | None:
    covered = {mask.name: pan.overlap(mask)[0] for mask in masks}
    name = max(covered, key=covered.get, default=None)
    return name if name is not None and covered[name] > 0 else None
