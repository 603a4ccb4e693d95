"""The real scenes that the benchmarks measure on, by sensor and resolution.

Scenes lie in folders with ``pan.tif`` and ``ms.tif``, those at reduced resolution (Wald protocol) with ``gt.tif`` too.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fusion_core.bands import band_order
from fusion_core.errors import FusionError
from fusion_core.fuse import FuseResult, fuse
from fusion_core.raster.geotiff import read_bands, write_geotiff
from fusion_core.weights import ModelCard, ModelFile, installed_models, read_model

DATA = ROOT.parent / "shared" / "data" / "scenes"


@dataclass(frozen=True)
class Group:
    """Scenes of one sensor at one ratio, with the bands to be judged.

    Attributes:
        title: for people.
        pattern: folders of its scenes, under the folder of all scenes.
        ratio: PAN pixels per MS pixel along an axis.
        bands: of MS, by name.
        sensor: whose MTF gains count, see ``fusion_core.sensors``.
        aim: share by which a model's SAM and ERGAS are to be lower than the best classical method's.
    """

    title: str
    pattern: str
    ratio: int
    bands: tuple[str, ...]
    sensor: str
    aim: float


_FOUR = ("Blue", "Green", "Red", "NIR")
_SIX = ("Blue", "Green", "Red", "NIR", "SWIR1", "SWIR2")
_EIGHT = ("Coastal", "Blue", "Green", "Yellow", "Red", "RedEdge", "NIR1", "NIR2")

REDUCED = (
    Group("IKONOS", "ikonos/rr", 4, _FOUR, "IKONOS", 0.15),
    Group("Landsat-7, 4 bands", "landsat7_val_*/rr4", 4, _FOUR, "unknown", 0.15),
    Group("Landsat-7, 6 bands", "landsat7_val_*/rr", 2, _SIX, "unknown", 0.10),
    Group("WorldView-3 a", "worldview3_a/rr", 4, _EIGHT, "WorldView-3", 0.15),
)
"""Scenes whose truth is known."""

FULL = (
    Group("IKONOS", "ikonos/full", 4, _FOUR, "IKONOS", 0.15),
    Group("Landsat-7, 6 bands", "landsat7_val_*/full", 2, _SIX, "unknown", 0.10),
    Group("WorldView-3 a", "worldview3_a/full", 4, _EIGHT, "WorldView-3", 0.15),
)
"""The same pairs as they were delivered, without a truth."""


@dataclass(frozen=True)
class OpenScene:
    """A scene ready to be fused.

    Attributes:
        name: such as "ikonos/rr".
        pan: file.
        ms: file with just the group's bands, in their order.
        reference: true image (C, H, W), None at full resolution.
        dtype: of MS.
        folder: for results, removed with the scene.
    """

    name: str
    pan: str
    ms: str
    reference: np.ndarray | None
    dtype: np.dtype
    folder: Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which scenes and models, on the command line."""
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the scenes")
    parser.add_argument(
        "--scene", action="append", help="only scenes with this in their name, such as ikonos"
    )
    parser.add_argument(
        "--model", action="append", help="model files; all installed ones by default"
    )
    parser.add_argument("--threads", type=int, help="CPU threads of the models")
    parser.add_argument("--precision", default="auto", help="of the models: float32, bfloat16")


def chosen_models(options: argparse.Namespace) -> list[ModelFile]:
    """The models that the command line names, or all installed ones."""
    return [read_model(path) for path in options.model] if options.model else installed_models()


def chosen_folders(options: argparse.Namespace, group: Group) -> list[Path]:
    """The scenes of a group that are here and wanted."""
    folders = sorted(options.data.glob(group.pattern))
    return [
        folder
        for folder in folders
        if not options.scene or any(part in scene_name(folder) for part in options.scene)
    ]


def scene_name(folder: Path) -> str:
    """Such as "ikonos/rr"."""
    return "/".join(folder.parts[-2:])


def fits(card: ModelCard, group: Group) -> bool:
    """Whether a model is for the bands and the ratio of a group."""
    order = band_order(card.band_names, group.bands)
    return card.ratio == group.ratio and order is not None and len(order) == len(group.bands)


@contextmanager
def open_scene(folder: Path, group: Group, gain: float | None = None) -> Iterator[OpenScene]:
    """A scene with just the bands of its group.

    Args:
        folder: where its rasters lie.
        group: names the bands.
        gain: factor for all numbers, which become float32; None leaves them as they are.

    Raises:
        FusionError: a raster cannot be read or lacks a band.
    """
    with tempfile.TemporaryDirectory() as temporary:
        space = Path(temporary)
        pan = folder / "pan.tif"
        image, info = read_bands(str(folder / "ms.tif"))
        order = band_order(group.bands, info.band_names)
        if order is None:
            raise FusionError(f"{folder} lacks bands of {', '.join(group.bands)}.")
        truth = folder / "gt.tif"
        reference = read_bands(str(truth))[0][order] if truth.exists() else None
        image = image[order]
        if gain is not None:
            image = image.astype(np.float32) * np.float32(gain)
            reference = None if reference is None else reference * float(gain)
            sharp, about = read_bands(str(pan))
            pan = space / "pan.tif"
            scaled = sharp.astype(np.float32) * np.float32(gain)
            write_geotiff(str(pan), scaled, about.geotransform, about.crs_wkt)
        ms = str(space / "ms.tif")
        write_geotiff(ms, image, info.geotransform, info.crs_wkt, group.bands, info.nodata)
        yield OpenScene(scene_name(folder), str(pan), ms, reference, image.dtype, space)


def run_model(
    model: ModelFile, scene: OpenScene, options: argparse.Namespace, **settings: object
) -> tuple[np.ndarray, FuseResult]:
    """Fuse a scene.

    Args:
        model: the network.
        scene: what to fuse.
        options: of the command line, for the number of threads and the precision.
        settings: further arguments of ``fuse``.

    Returns:
        The image (C, H, W), and how it was made.
    """
    output = str(scene.folder / "fused.tif")
    done = fuse(
        scene.pan,
        scene.ms,
        output,
        method=model.card.method,
        model=model.path,
        threads=options.threads,
        precision=options.precision,
        **settings,
    )
    return read_bands(output)[0], done
