"""What a fused image of a real scene is worth, as it would be delivered: rounded to the data type of MS."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.baselines import as_delivered
from benchmarks.classical import Pair
from benchmarks.scenes import Group, OpenScene
from benchmarks.tables import Figures
from fusion_core.quality import assess_full, assess_reduced
from fusion_core.raster.scene import Scene

METRICS = ("SAM", "ERGAS", "Q2n", "SCC")
FULL_METRICS = ("D_LAMBDA", "D_S", "D_SR", "HQNR", "RQNR")

Judge = Callable[[np.ndarray], Figures]


def judge_reduced(scene: OpenScene, group: Group) -> Judge:
    """A function that measures an image against the scene's truth."""
    reference = scene.reference.astype(np.float64)

    def judge(image: np.ndarray) -> Figures:
        delivered = as_delivered(image, scene.dtype).astype(np.float64)
        return assess_reduced(reference, delivered, group.ratio)

    return judge


def judge_full(scene: OpenScene, group: Group) -> Judge:
    """A function that measures an image of the PAN grid, or of what PAN and MS share, by PAN and MS alone."""
    pair = Pair.read(scene.pan, scene.ms, group.sensor)
    with Scene.open(scene.pan, scene.ms) as opened:
        shared, grid = opened.overlap, opened.grid
        ms, offset = opened.ms_pixels(shared)
    inside = (slice(None), *shared.slices_in(grid))

    def judge(image: np.ndarray) -> Figures:
        part = image[inside] if image.shape[1:] == (grid.height, grid.width) else image
        delivered = as_delivered(part, scene.dtype).astype(np.float64)
        return assess_full(
            pair.pan[inside], ms.astype(np.float64), delivered, group.ratio, pair.gains, offset
        )

    return judge
