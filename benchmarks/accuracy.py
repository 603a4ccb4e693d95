"""Quality at reduced resolution on real scenes: interpolation, gdal_pansharpen and the models, by sensor.

Scenes lie in folders with ``pan.tif``, ``ms.tif`` and ``gt.tif`` (Wald protocol); without them there is nothing to measure.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.baselines import as_delivered, bicubic, gdal_pansharpen
from fusion_core.bands import band_order
from fusion_core.errors import FusionError
from fusion_core.fuse import fuse
from fusion_core.quality import assess_reduced
from fusion_core.raster.geotiff import read_bands, write_geotiff
from fusion_core.weights import installed_models, read_model, update_card

METRICS = ("SAM", "ERGAS", "Q2n", "SCC")


@dataclass(frozen=True)
class Group:
    """Scenes of one sensor at one ratio, with the bands to be judged."""

    title: str
    pattern: str
    ratio: int
    bands: tuple[str, ...]


GROUPS = (
    Group("IKONOS", "ikonos/rr", 4, ("Blue", "Green", "Red", "NIR")),
    Group("Landsat-7, 4 bands", "landsat7_val_*/rr4", 4, ("Blue", "Green", "Red", "NIR")),
    Group(
        "Landsat-7, 6 bands",
        "landsat7_val_*/rr",
        2,
        ("Blue", "Green", "Red", "NIR", "SWIR1", "SWIR2"),
    ),
    Group(
        "WorldView-3 a",
        "worldview3_a/rr",
        4,
        ("Coastal", "Blue", "Green", "Yellow", "Red", "RedEdge", "NIR1", "NIR2"),
    ),
)


def main(arguments: list[str] | None = None) -> int:
    """Print the table and write the figures as csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "scenes")
    parser.add_argument(
        "--model", action="append", help="model files; all installed ones by default"
    )
    parser.add_argument("--steps", type=int, action="append", help="network calls to compare")
    parser.add_argument("--solver", help="ddim or dpm++2m; the model's own by default")
    parser.add_argument("--grid", help="uniform or logsnr; the model's own by default")
    parser.add_argument("--threads", type=int)
    parser.add_argument(
        "--update-cards", action="store_true", help="write the figures into the models' cards"
    )
    parser.add_argument("--csv", type=Path, default=ROOT / "build" / "accuracy.csv")
    options = parser.parse_args(arguments)
    models = [read_model(path) for path in options.model] if options.model else installed_models()
    rows = []
    for group in GROUPS:
        folders = sorted(options.data.glob(group.pattern))
        fitting = [m for m in models if fits(m.card, group)]
        if not folders or not fitting:
            print(f"{group.title}: {'no model' if folders else 'no scene'} here, left out")
            continue
        results: dict[str, list[dict[str, float]]] = {}
        for folder in folders:
            for name, figures in judge(folder, group, fitting, options):
                results.setdefault(name, []).append(figures)
                rows.append(
                    {"group": group.title, "scene": folder.parent.name, "method": name, **figures}
                )
        print(table(group, results, len(folders)))
    if rows:
        options.csv.parent.mkdir(parents=True, exist_ok=True)
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(
                file, ["group", "scene", "method", *METRICS], extrasaction="ignore"
            )
            writer.writeheader()
            writer.writerows(rows)
        print(options.csv)
    return 0


def fits(card, group: Group) -> bool:
    """Whether a model is for the bands and the ratio of a group."""
    order = band_order(card.band_names, group.bands)
    return card.ratio == group.ratio and order is not None and len(order) == len(group.bands)


def judge(folder: Path, group: Group, models: list, options: argparse.Namespace):
    """Yield each method's name and figures on one scene."""
    with tempfile.TemporaryDirectory() as temporary:
        pan, ms = str(folder / "pan.tif"), str(Path(temporary) / "ms.tif")
        image, info = read_bands(str(folder / "ms.tif"))
        order = band_order(group.bands, info.band_names)
        if order is None:
            raise FusionError(f"{folder} lacks bands of {', '.join(group.bands)}.")
        write_geotiff(ms, image[order], info.geotransform, info.crs_wkt, group.bands, info.nodata)
        reference = read_bands(str(folder / "gt.tif"))[0][order]

        def figures(fused: np.ndarray) -> dict[str, float]:
            delivered = as_delivered(fused, image.dtype)
            return assess_reduced(
                reference.astype(np.float64), delivered.astype(np.float64), group.ratio
            )

        yield "bicubic", figures(bicubic(pan, ms))
        yield "gdal_pansharpen", figures(gdal_pansharpen(pan, ms))
        for model in models:
            for steps in options.steps or [None]:
                output = str(Path(temporary) / "fused.tif")
                done = fuse(
                    pan,
                    ms,
                    output,
                    method=model.card.method,
                    model=model.path,
                    steps=steps,
                    solver=options.solver,
                    grid=options.grid,
                    threads=options.threads,
                )
                label = f"{model.card.id}, {done.steps} call(s)"
                measured = figures(read_bands(output)[0])
                if options.update_cards and steps is None:
                    card = read_model(model.path).card
                    scene = "/".join(folder.parts[-2:])
                    rounded = {name: round(value, 4) for name, value in measured.items()}
                    update_card(model.path, metrics={**card.metrics, scene: rounded})
                yield label, measured


def table(group: Group, results: dict[str, list[dict[str, float]]], scenes: int) -> str:
    """Means over the scenes of a group, one method a line."""
    lines = [f"\n{group.title}, ratio {group.ratio}, {scenes} scene(s)"]
    width = max(len(name) for name in results)
    lines.append(" " * width + "".join(f"{metric:>9}" for metric in METRICS))
    for name, figures in results.items():
        means = [statistics.fmean(f[metric] for f in figures) for metric in METRICS]
        lines.append(f"{name:<{width}}" + "".join(f"{mean:9.4f}" for mean in means))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
