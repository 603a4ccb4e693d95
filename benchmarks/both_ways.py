"""SAM and ERGAS of the published sampling and of ours, with the same weights."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.baselines import as_delivered
from benchmarks.eight_bands import BANDS, METHODS, shipped_model
from benchmarks.published_jobs import planned, published_job, sample_scene
from benchmarks.scenes import REDUCED, fits, open_scene, scene_name
from fusion_core.fuse import fuse
from fusion_core.quality import assess_reduced
from fusion_core.raster.geotiff import read_bands
from fusion_core.weights import ModelFile

METRICS = ("SAM", "ERGAS")

Rows = list[dict[str, object]]


def quality(data: Path, size: int, threads: int) -> Rows:
    """Figures of both ways: on the scenes of eight bands whose truth is known, or on a synthetic one.

    Args:
        data: folder of the scenes.
        size: PAN pixels along a side of the synthetic scene that stands in where there are none.
        threads: CPU threads.
    """
    rows: Rows = []
    for name, method in METHODS.items():
        model = shipped_model(method)
        found = [
            (folder, group)
            for group in REDUCED
            if fits(model.card, group)
            for folder in sorted(data.glob(group.pattern))
        ]
        for folder, group in found:
            with open_scene(folder, group) as scene:
                images = _both(scene.pan, scene.ms, scene.folder, model, threads)
                rows += _judged(scene_name(folder), name, images, scene.reference, group.ratio)
        if not found:
            with tempfile.TemporaryDirectory() as folder:
                pan, ms, truth = sample_scene(Path(folder), size, BANDS)
                images = _both(pan, ms, Path(folder), model, threads)
                reference = read_bands(truth)[0]
            rows += _judged("synthetic", name, images, reference, model.card.ratio)
    return rows


def _both(pan: str, ms: str, folder: Path, model: ModelFile, threads: int) -> dict[str, np.ndarray]:
    with planned(pan, ms, model) as plan:
        published = published_job(plan)
    output = str(folder / "fused.tif")
    fuse(pan, ms, output, method=model.card.method, model=model.path, threads=threads)
    return {"published": published, "ours": read_bands(output)[0]}


def _judged(
    scene: str, network: str, images: dict[str, np.ndarray], reference: np.ndarray, ratio: int
) -> Rows:
    truth = reference.astype(np.float64)
    rows: Rows = []
    for way, image in images.items():
        figures = assess_reduced(
            truth, as_delivered(image, reference.dtype).astype(np.float64), ratio
        )
        chosen = {metric: figures[metric] for metric in METRICS}
        rows.append({"scene": scene, "network": network, "way": way, **chosen})
    return rows
