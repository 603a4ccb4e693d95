"""Results at full resolution side by side: MS interpolated, the classical reference, GDAL's tool, each model.

One PNG for each scene, one image pixel for each PAN pixel, all in one true-colour stretch.  The IKONOS and WorldView-3
images may be used for evaluation only: their pictures stay in ``build/`` and must not be shipped or put into the
repository.  Landsat-7 is public domain, its picture may go into ``docs/``.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.baselines import bicubic, gdal_pansharpen
from benchmarks.classical import METHODS, Pair
from benchmarks.demo import Stretch, pick_details
from benchmarks.scenes import (
    FULL,
    ROOT,
    Group,
    OpenScene,
    add_options,
    chosen_models,
    fits,
    open_scene,
    run_model,
    scene_name,
)
from fusion_core.errors import FusionError
from fusion_core.raster.georeference import shifted
from fusion_core.raster.geotiff import read_bands
from fusion_core.raster.window import Window
from fusion_core.weights import METHOD_TITLES, ModelFile

SIDE = 320
"""PAN pixels along each side of a crop."""
GAP, TITLE, MARGIN = 8, 34, 12
"""Pixels between the crops, above them for titles, and around the picture."""
LEFT_OUT = 16
"""PAN pixels at the edges of a scene that no crop is taken from: interpolation has no neighbours there."""


@dataclass(frozen=True)
class Subject:
    """A scene to show, with the classical method that does best on its sensor."""

    folder: str
    group: Group
    classical: str
    crops: int


_BY_TITLE = {group.title: group for group in FULL}
SUBJECTS = (
    Subject("ikonos/full", _BY_TITLE["IKONOS"], "MTF-GLP-HPM", 2),
    Subject("worldview3_a/full", _BY_TITLE["WorldView-3 a"], "MTF-GLP-HPM", 1),
    Subject("landsat7_val_06/full", _BY_TITLE["Landsat-7, 6 bands"], "MTF-GLP-HPM-R", 2),
)


def main(arguments: list[str] | None = None) -> int:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "pictures")
    options = parser.parse_args(arguments)
    try:
        models = chosen_models(options)
        for subject in SUBJECTS:
            folder = options.data / subject.folder
            wanted = not options.scene or any(s in scene_name(folder) for s in options.scene)
            if not wanted or not folder.exists():
                print(f"{subject.folder}: {'not here' if wanted else 'not wanted'}, left out")
                continue
            fitting = [model for model in models if fits(model.card, subject.group)]
            with open_scene(folder, subject.group) as scene:
                path = options.folder / f"{folder.parent.name}.png"
                show(subject, scene, fitting, path, options)
                print(path)
    except FusionError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def show(
    subject: Subject,
    scene: OpenScene,
    models: list[ModelFile],
    path: Path,
    options: argparse.Namespace,
) -> None:
    """Fuse what is needed of a scene and draw it."""
    classical = METHODS[subject.classical](Pair.read(scene.pan, scene.ms, subject.group.sensor))
    whole = {
        "MS, bicubic": bicubic(scene.pan, scene.ms),
        subject.classical: classical,
        "gdal_pansharpen": gdal_pansharpen(scene.pan, scene.ms),
    }
    stretch = Stretch.of(classical, subject.group.bands)
    rows = []
    for crop in crops(stretch(classical), subject.group.ratio, subject.crops):
        part = (slice(None), *crop.slices_in(Window(0, 0, *classical.shape[1:])))
        row = {name: image[part] for name, image in whole.items()}
        for model in models:
            image, _ = run_model(model, scene, options, extent=_extent(scene, crop))
            row[f"{METHOD_TITLES[model.card.method]} ({model.card.id})"] = image
        rows.append({name: stretch(image) for name, image in row.items()})
    draw(path, rows)


def crops(colours: np.ndarray, ratio: int, count: int) -> list[Window]:
    """Colourful places with much detail, away from the edges.

    Args:
        colours: a sharp picture of the scene (H, W, 3), 0..1.
        ratio: PAN pixels per MS pixel.
        count: crops wanted.
    """
    height, width = (size - 2 * LEFT_OUT for size in colours.shape[:2])
    side = min(SIDE, height, width) // ratio * ratio
    inner = colours[LEFT_OUT : LEFT_OUT + height, LEFT_OUT : LEFT_OUT + width]
    places = pick_details(inner, ratio, side, count)
    return [Window(row + LEFT_OUT, col + LEFT_OUT, side, side) for row, col in places]


def _extent(scene: OpenScene, crop: Window) -> tuple[float, float, float, float]:
    """A crop on the map: xmin, ymin, xmax, ymax."""
    _, info = read_bands(scene.pan)
    left, width, _, top, _, height = shifted(info.geotransform, crop.row, crop.col)
    return left, top + crop.height * height, left + crop.width * width, top


def draw(path: Path, rows: list[dict[str, np.ndarray]]) -> None:
    """Writes crops as a PNG, one row each, one method a column, without resampling them.

    Args:
        path: the picture.
        rows: crops (side, side, 3), 0..1, by title; the same titles in each row.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    titles = list(rows[0])
    side = next(iter(rows[0].values())).shape[0]
    width = 2 * MARGIN + len(titles) * (side + GAP) - GAP
    height = 2 * MARGIN + TITLE + len(rows) * (side + GAP) - GAP
    pyplot.rcParams.update({"font.family": "DejaVu Sans"})
    figure = pyplot.figure(figsize=(width / 100, height / 100), dpi=100, facecolor="white")
    for line, row in enumerate(rows):
        top = MARGIN + TITLE + line * (side + GAP)
        for column, title in enumerate(titles):
            left = MARGIN + column * (side + GAP)
            figure.figimage(row[title], left, height - top - side, origin="upper")
            if line == 0:
                x, y = (left + side / 2) / width, 1 - (MARGIN + TITLE / 2) / height
                figure.text(x, y, title, ha="center", va="center", fontsize=13)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
