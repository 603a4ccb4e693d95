"""A whole scene fused the published way with the weights of one of our models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.eight_bands import detail_order, published_network
from benchmarks.published import (
    PublishedDDRF,
    PublishedSSDiff,
    ddrf_image,
    ssdiff_image,
    ssdiff_tiles,
    tile_places,
)
from benchmarks.published.sampling import STRIDE, TILE, Limits
from fusion_core.fuse import check_fuse
from fusion_core.fuse_plan import FusePlan
from fusion_core.raster.sample_scene_files import write_sample_scene
from fusion_core.raster.window import Window
from fusion_core.sample_scene import make_sample_scene
from fusion_core.weights import ModelFile


@dataclass(frozen=True)
class ScaledScene:
    """A scene as the networks see it, on whole tiles of the published merge.

    Attributes:
        guide, ms, lms: (1, ., H, W) at scene scale, bands in the model's order.
        limits: least and greatest value of a fused image.
        window: PAN pixels that they cover.
    """

    guide: torch.Tensor
    ms: torch.Tensor
    lms: torch.Tensor
    limits: Limits
    window: Window


def sample_scene(folder: Path, size: int, bands: int) -> tuple[str, str, str]:
    """A synthetic scene on disk: names of PAN, MS and the truth."""
    names = tuple(str(folder / f"{name}.tif") for name in ("pan", "ms", "gt"))
    write_sample_scene(make_sample_scene(size, bands, 4, seed=3), *names)
    return names


@contextmanager
def planned(pan: str, ms: str, model: ModelFile) -> Iterator[FusePlan]:
    """A checked job with its scene open."""
    plan = check_fuse(pan, ms, method=model.card.method, model=model.path)
    try:
        yield plan
    finally:
        plan.scene.close()


def scaled_scene(plan: FusePlan) -> ScaledScene:
    """Read what a job covers, scaled as the job scales it."""
    ratio = plan.model.card.ratio
    starts = [
        start - (start - phase) % ratio
        for start, phase in zip((plan.window.row, plan.window.col), plan.scene.phase)
    ]
    sizes = [
        max(TILE, stop - start + -(stop - start) % STRIDE)
        for start, stop in zip(starts, (plan.window.bottom, plan.window.right))
    ]
    window = Window(*starts, *sizes)
    read, order = plan.scene.read(window), list(plan.bands.order)
    guide, ms, lms = (
        torch.from_numpy(np.ascontiguousarray(image))[None]
        for image in (
            read.pan / plan.pan_scale,
            (read.ms / plan.ms_scale)[order],
            (read.lms / plan.ms_scale)[order],
        )
    )
    levels = torch.from_numpy((plan.scene.ms_limits / plan.ms_scale[:, 0])[order]).float()
    least, greatest = levels[:, :, None, None].unbind(dim=1)
    # As far as our own jobs let an image leave the range of MS.
    spread = greatest - least
    limits = (torch.maximum(least - spread, least.clamp(max=0)), greatest + spread)
    return ScaledScene(guide, ms, lms, limits, window)


@torch.inference_mode()
def published_job(plan: FusePlan) -> np.ndarray:
    """The fused image of a job, the published way: (C, H, W) in the scene's numbers and order of bands."""
    network, scene = published_network(plan.model), scaled_scene(plan)
    generator = torch.Generator().manual_seed(0)
    if isinstance(network, PublishedDDRF):
        noise = torch.randn(scene.lms.shape, generator=generator)
        order = detail_order(plan.model)
        image = ddrf_image(network, scene.guide, scene.lms, noise, scene.limits, order)
    else:
        image = ssdiff_image(network, scene.guide, scene.ms, scene.lms, scene.limits, generator)
    rows, cols = plan.window.slices_in(scene.window)
    back = np.argsort(plan.bands.order)
    return (image[0].numpy()[back] * plan.ms_scale)[:, rows, cols]


@dataclass(frozen=True)
class JobSample:
    """As much of a published job as is timed for all of it: DDRF's whole image, or SSDiff's first tiles, all steps.

    Attributes:
        model: whose weights.
        network: the published one with them.
        scene: what is fused.
        batch: tiles of SSDiff.
    """

    model: ModelFile
    network: PublishedDDRF | PublishedSSDiff
    scene: ScaledScene
    batch: int

    @property
    def runs(self) -> int:
        """Tiles of the whole job."""
        if isinstance(self.network, PublishedDDRF):
            return 1
        return len(tile_places(*self.scene.lms.shape[-2:]))

    @property
    def share(self) -> float:
        """Part of the whole job that is timed."""
        return min(1.0, self.batch / self.runs)

    def run(self) -> None:
        """Compute it."""
        scene = self.scene
        if isinstance(self.network, PublishedDDRF):
            noise, order = torch.randn(scene.lms.shape), detail_order(self.model)
            ddrf_image(self.network, scene.guide, scene.lms, noise, scene.limits, order)
            return
        ratio = self.model.card.ratio
        places = tile_places(*scene.lms.shape[-2:])[: self.batch]
        tiles = [
            torch.cat([place.cut(image, scale) for place in places])
            for image, scale in ((scene.guide, 1), (scene.ms, ratio), (scene.lms, 1))
        ]
        ssdiff_tiles(self.network, *tiles, torch.randn(tiles[2].shape), scene.limits)
