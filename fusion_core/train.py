"""The whole training job: files in, one model file out."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import numpy as np

from .bands import band_order, canonical_band
from .errors import FusionError
from .mtf import mtf_sigma
from .sensors import PAN_GAIN
from .weights import ModelCard, load_network, read_model, save_model

if TYPE_CHECKING:
    import torch

    from .models import FusionNetwork
    from .training.derived_bands import DerivedBands
    from .training.patches import TrainingImage
    from .training.trainer import Progress, TrainingResult, TrainingSettings

PAN_CHANCES = {"blue": 0.6, "green": 1.0, "yellow": 1.0, "red": 1.0, "rededge": 0.6, "nir": 0.6}
"""How often a simulated PAN sees a band; bands not named here (SWIR) never."""


@dataclass(frozen=True)
class TrainingSource:
    """Some images and how often, relative to other sources, patches come from them.

    Attributes:
        kind: "references" (MS images at the resolution to be restored, PAN is simulated), "pairs" (folders with pan.tif and
            ms.tif, MS becomes the reference and PAN is degraded to its grid), or "synthetic".
        weight: chance of this source, relative to the others'.
        paths: files or folders, wildcards allowed; for "synthetic" the number of scenes, as text.
    """

    kind: str
    weight: float
    paths: tuple[str, ...]


def train_model(
    output: str,
    *,
    method: str,
    band_names: Sequence[str],
    ratio: int,
    sources: Sequence[TrainingSource],
    validation: Sequence[TrainingSource],
    settings: TrainingSettings,
    card: ModelCard,
    base_model: str | None = None,
    derive_bands: bool = False,
    checkpoint: str | None = None,
    device: str = "cpu",
    progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> TrainingResult:
    """Train a network from scratch and write it as a model file.

    Args:
        output: the model file to write.
        method: "ddrf" or "ssdiff".
        band_names: the MS bands, in the order of the network's channels; images are read by band name.
        ratio: PAN pixels per MS pixel.
        sources, validation: what to train on and what to judge by; keep scenes apart.
        settings: see ``TrainingSettings``.
        card: what the model file will say of itself.
        base_model: model file to start from; of the same network and width, its bands and ratio may be others.
        derive_bands: make bands below 1000 nm that an image lacks from its others.
        checkpoint: file to resume from and save to.
        device, progress, cancelled: as ``training.trainer.train``.

    Raises:
        FusionError: an image lacks a band, is too small or cannot be read, or a file cannot be written.
        Cancelled: ``cancelled`` said so; the checkpoint is kept.
    """
    # Now and not after hours of training.
    for path in (output, checkpoint):
        folder = os.path.dirname(os.path.abspath(path or output))
        if not (os.path.isdir(folder) and os.access(folder, os.W_OK)):
            raise FusionError(f"Nothing can be written in {folder}: choose another folder.")
    import torch

    from .models import create_model
    from .training.patches import Augmentation, PatchSampler
    from .training.trainer import train

    chances = [PAN_CHANCES.get(canonical_band(name), 0.0) for name in band_names]
    if not any(chances):
        raise FusionError(
            "None of the bands is one a PAN sees: name the bands, such as Blue,Green,Red,NIR."
        )
    patch = settings.stages[-1].patch
    images = _load_all(sources, band_names, ratio, patch, derive_bands, first_seed=1)
    sampler = PatchSampler(images, ratio, chances, settings.seed, Augmentation())
    judged = []
    if validation:
        held_out = _load_all(validation, band_names, ratio, patch, derive_bands, -1_000_000)
        fixed = PatchSampler(held_out, ratio, chances, settings.seed, None)
        judged = [fixed.batch(number, 16, patch) for number in range(6)]
    torch.manual_seed(settings.seed)
    network = create_model(method, len(band_names), 1, ratio, **card.options)
    if base_model is not None:
        network.load_state_dict(_base_weights(base_model, network, card))
    result = train(
        network,
        sampler,
        judged,
        settings,
        device=device,
        checkpoint=Path(checkpoint) if checkpoint else None,
        progress=progress,
        cancelled=cancelled,
    )
    save_model(output, result.state, card)
    return result


def _base_weights(path: str, network: FusionNetwork, card: ModelCard) -> Mapping[str, torch.Tensor]:
    """Weights to start from, taken over from a network that may have other bands."""
    from .training.transfer import transferred

    base = read_model(path)
    if base.card.method != card.method:
        raise FusionError(f"{path} is a {base.card.method} model: choose one of {card.method}.")
    state, fresh = load_network(base).state_dict(), network.state_dict()
    if base.card.band_names == card.band_names and base.card.ratio == card.ratio:
        return state
    try:
        return transferred(state, fresh, card.method, base.card.band_names, card.band_names)
    except ValueError as error:
        raise FusionError(f"{path} cannot be the base of this training: {error}") from error


def _load_all(
    sources: Sequence[TrainingSource],
    band_names: Sequence[str],
    ratio: int,
    patch: int,
    derive_bands: bool,
    first_seed: int,
) -> list[TrainingImage]:
    """Every image of the sources; within a source an image's chance grows with the root of its area."""
    from .training.patches import PatchSampler, TrainingImage

    least = patch + 2 * PatchSampler.SURROUNDINGS * ratio
    images = []
    for source in sources:
        loaded = []
        if source.kind == "synthetic":
            seeds = range(first_seed, first_seed + _count(source.paths))
            loaded = [_synthetic(abs(seed), band_names, ratio) for seed in seeds]
        for path in _expand(source) if source.kind != "synthetic" else ():
            load = _reference if source.kind == "references" else _pair
            loaded.append(load(path, band_names, derive_bands))
        loaded = [image for image in loaded if min(image[0].shape[1:]) >= least]
        shares = np.sqrt([r.shape[1] * r.shape[2] for r, *_ in loaded])
        for (reference, pan, derived), share in zip(loaded, shares / shares.sum()):
            weight = source.weight * float(share)
            sharp = source.kind == "synthetic"
            images.append(
                TrainingImage.from_counts(reference, weight, pan, sharp_pan=sharp, derived=derived)
            )
    if not images:
        raise FusionError(
            f"No training image is at least {least} pixels high and wide: add larger scenes."
        )
    return images


def _count(texts: Sequence[str]) -> int:
    if len(texts) != 1 or not texts[0].isdecimal():
        raise FusionError(
            f"{' '.join(texts) or 'Nothing'} is not a number of synthetic scenes: give a whole number."
        )
    return int(texts[0])


def _expand(source: TrainingSource) -> list[str]:
    found = []
    for pattern in source.paths:
        # A path that exists is meant as it is, brackets and all.
        found += [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern))
    if not found:
        raise FusionError(f"Nothing matches {' '.join(source.paths)}: check the path.")
    return found


Loaded = tuple[np.ndarray, Optional[np.ndarray], Optional["DerivedBands"]]


def _reference(path: str, band_names: Sequence[str], derive_bands: bool) -> Loaded:
    reference, derived = _read_bands_by_name(path, band_names, derive_bands)
    return reference, None, derived


def _pair(folder: str, band_names: Sequence[str], derive_bands: bool) -> Loaded:
    """MS as reference, and PAN degraded to MS's grid."""
    from .degradation import gaussian_matrix
    from .raster.geotiff import read_bands

    ms_path, pan_path = str(Path(folder) / "ms.tif"), str(Path(folder) / "pan.tif")
    reference, derived = _read_bands_by_name(ms_path, band_names, derive_bands)
    pan, pan_info = read_bands(pan_path)
    _, ms_info = read_bands(ms_path)
    pan_grid, ms_grid = pan_info.geotransform, ms_info.geotransform
    scales = ms_grid[1] / pan_grid[1], ms_grid[5] / pan_grid[5]
    origins = (
        (ms_grid[0] - pan_grid[0]) / pan_grid[1],
        (ms_grid[3] - pan_grid[3]) / pan_grid[5],
    )
    cols, rows = (
        gaussian_matrix(
            origin + (np.arange(count) + 0.5) * scale - 0.5, size, mtf_sigma(PAN_GAIN, scale)
        )
        for origin, scale, count, size in zip(
            origins, scales, reference.shape[:0:-1], pan.shape[:0:-1]
        )
    )
    return reference, rows @ pan[0].astype(np.float64) @ cols.T, derived


def _synthetic(seed: int, band_names: Sequence[str], ratio: int) -> Loaded:
    from .sample_scene import make_sample_scene

    scene = make_sample_scene(size=512, bands=len(band_names), ratio=ratio, seed=seed)
    order = band_order(band_names, scene.band_names)
    if order is None:
        raise FusionError(f"Synthetic scenes do not have the bands {', '.join(band_names)}.")
    return scene.reference[order].astype(np.float32), scene.pan[0].astype(np.float32), None


def _read_bands_by_name(
    path: str, band_names: Sequence[str], derive_bands: bool
) -> tuple[np.ndarray, DerivedBands | None]:
    """The wanted bands, or all of the file and how the wanted ones are made of them."""
    from .raster.geotiff import read_bands
    from .training.derived_bands import DerivedBands

    image, info = read_bands(path)
    order = band_order(band_names, info.band_names)
    if order is not None:
        return image[order].astype(np.float32), None
    if derive_bands:
        try:
            return image.astype(np.float32), DerivedBands(info.band_names, band_names)
        except ValueError as error:
            raise FusionError(f"{path} cannot be trained on, leave it out: {error}") from error
    raise FusionError(
        f"{path} does not have the bands {', '.join(band_names)} in its band descriptions: "
        "set them, or leave the file out."
    )
