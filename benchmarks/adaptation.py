"""What adapting a model to one scene is worth: the base against the adapted model on the quarter adaptation never sees.

Also L-BAF for SSDiff: before, plain fine-tuning and alternating phases, each with the same iterations.  Scenes lie in folders
with ``full/pan.tif`` and ``full/ms.tif``, and ``rr`` with their reduced pair (Wald protocol); without them there is nothing
to measure.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fusion_core.errors import FusionError
from fusion_core.fuse import fuse
from fusion_core.quality import ergas, q2n, sam
from fusion_core.raster.geotiff import read_bands, write_geotiff
from fusion_core.training.job import run_training
from fusion_core.training_job import TrainingJob, TrainingReport
from fusion_core.training_scenes import TrainingScene, load_training_scene
from fusion_core.weights import METHOD_TITLES, ModelFile, find_model, read_model

METRICS = ("SAM", "ERGAS", "Q2n")
COLUMNS = ("part", "scene", "method", "row", *METRICS, "iterations", "seconds", "kept", "model")


@dataclass(frozen=True)
class Case:
    """A scene, and what is taken of it."""

    title: str
    folder: str
    sensor: str
    ratio: int
    bands: tuple[str, ...]


FOUR = ("Blue", "Green", "Red", "NIR")
EIGHT = ("Coastal", "Blue", "Green", "Yellow", "Red", "RedEdge", "NIR1", "NIR2")
CASES = (
    Case("IKONOS", "ikonos", "IKONOS", 4, FOUR),
    Case("WorldView-3 a", "worldview3_a", "WorldView-3", 4, EIGHT),
    Case("Landsat-7", "landsat7_val_02", "unknown", 2, (*FOUR, "SWIR1", "SWIR2")),
)


def main(arguments: list[str] | None = None) -> int:
    """Print the tables and write the figures as csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "scenes")
    parser.add_argument("--scene", action="append", help="folders to use; all by default")
    parser.add_argument(
        "--method", action="append", choices=sorted(METHOD_TITLES), help="both by default"
    )
    parser.add_argument("--model", action="append", default=[], help="model files to prefer")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument(
        "--iterations", type=int, default=300, help="of each row of the table of L-BAF"
    )
    parser.add_argument("--part", action="append", choices=("minutes", "l-baf"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", type=Path, default=ROOT / "build" / "adaptation.csv")
    options = parser.parse_args(arguments)
    rows: list[dict] = []
    for case in CASES:
        if options.scene and case.folder not in options.scene:
            continue
        folder = options.data / case.folder
        if not folder.exists():
            print(f"{case.title}: no scene here, left out")
            continue
        paths = [str(folder / "full" / name) for name in ("pan.tif", "ms.tif")]
        scene = load_training_scene(*paths, sensor=case.sensor, ratio=case.ratio)
        scene = replace(scene.with_bands(case.bands), name=case.title)
        for method in options.method or sorted(METHOD_TITLES):
            base = chosen(method, case, options.model)
            if base is None:
                print(f"{case.title}: no {METHOD_TITLES[method]} model here, left out")
                continue
            for part in options.part or ("minutes", "l-baf"):
                if part == "minutes":
                    rows += in_minutes(case, scene, folder, base, options)
                elif method == "ssdiff":
                    rows += lbaf(case, scene, base, options)
                if rows:
                    # After every row, since a whole run takes long.
                    write(options.csv, rows)
    return 0


def chosen(method: str, case: Case, files: list[str]) -> ModelFile | None:
    """The model to start from, None where there is none."""
    for model in map(read_model, files):
        card = model.card
        if (card.method, card.ratio, card.ms_bands) == (method, case.ratio, len(case.bands)):
            return model
    try:
        return find_model(method, len(case.bands), case.ratio, band_names=case.bands)
    except FusionError:
        return None


def in_minutes(
    case: Case,
    scene: TrainingScene,
    folder: Path,
    base: ModelFile,
    options: argparse.Namespace,
) -> list[dict]:
    """Adapt in the given minutes; figures as the training judges, and of files fused at reduced resolution."""
    method = base.card.method
    with tempfile.TemporaryDirectory() as temporary:
        output = str(Path(temporary) / "adapted.safetensors")
        job = TrainingJob(
            (scene,),
            method,
            base.path,
            minutes=options.minutes,
            threads=options.threads,
            seed=options.seed,
            device="cpu",
        )
        report = run_training(job, output)
        rows = [
            row("minutes", case, report, base, name, report.table[name]) for name in report.table
        ]
        last = report.history[-1]
        rows.append(row("minutes", case, report, base, "trained, last snapshot", last))
        for name, model in (("base", base.path), ("adapted", output)):
            figures = through_files(case, scene, folder, method, model, temporary, options.threads)
            rows.append(row("minutes", case, report, base, f"{name}, files of rr", figures))
    show(f"{case.title}, {METHOD_TITLES[method]}, {options.minutes:g} minutes", rows)
    return rows


def lbaf(
    case: Case, scene: TrainingScene, base: ModelFile, options: argparse.Namespace
) -> list[dict]:
    """SSDiff before, after plain fine-tuning, and after L-BAF."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for name, alternating in (("plain fine-tuning", False), ("L-BAF", True)):
            job = TrainingJob(
                (scene,),
                "ssdiff",
                base.path,
                iterations=options.iterations,
                alternating=alternating,
                threads=options.threads,
                seed=options.seed,
                device="cpu",
            )
            report = run_training(job, str(Path(temporary) / "adapted.safetensors"))
            if not alternating:
                rows.append(row("l-baf", case, report, base, "before", report.table["base"]))
            rows.append(row("l-baf", case, report, base, name, report.table["trained"]))
            last = report.history[-1]
            rows.append(row("l-baf", case, report, base, f"{name}, last snapshot", last))
    show(f"{case.title}, SSDiff, {options.iterations} iterations", rows)
    return rows


def through_files(
    case: Case,
    scene: TrainingScene,
    folder: Path,
    method: str,
    model: str,
    temporary: str,
    threads: int,
) -> dict[str, float]:
    """Fuse the reduced pair's files as a user would, and measure on the held-out quarter."""
    fused, ms = (str(Path(temporary) / f"{name}.tif") for name in ("fused", "ms"))
    rr = folder / "rr"
    image, info = read_bands(str(rr / "ms.tif"))
    names = scene_order(info.band_names, case.bands)
    write_geotiff(ms, image[names], info.geotransform, info.crs_wkt, case.bands, info.nodata)
    fuse(str(rr / "pan.tif"), ms, fused, method=method, model=model, threads=threads)
    reference, gt = read_bands(str(rr / "gt.tif"))
    row, col, height, width = scene.quarter
    part = (slice(row, row + height), slice(col, col + width))
    edge = (slice(case.ratio, -case.ratio),) * 2
    x, y = (
        values[(slice(None), *part)][(slice(None), *edge)]
        for values in (reference[scene_order(gt.band_names, case.bands)], read_bands(fused)[0])
    )
    mask = scene.valid[part][edge]
    return {
        "SAM": sam(x, y, mask),
        "ERGAS": ergas(x, y, case.ratio, mask),
        "Q2n": q2n(x, y, mask=mask),
    }


def scene_order(present: tuple[str, ...], wanted: tuple[str, ...]) -> list[int]:
    """Where the wanted bands are, by their descriptions."""
    return [present.index(name) for name in wanted]


def row(
    part: str,
    case: Case,
    report: TrainingReport,
    base: ModelFile,
    name: str,
    figures: dict[str, float],
) -> dict:
    """One line of the csv."""
    done = {
        "part": part,
        "scene": case.title,
        "method": report.method,
        "row": name,
        "iterations": report.iterations,
        "seconds": report.seconds,
        "kept": report.kept,
        "model": base.card.id,
    }
    return {**done, **{metric: round(figures[metric], 4) for metric in METRICS}}


def show(title: str, rows: list[dict]) -> None:
    """Print a table."""
    print(
        f"\n{title} ({rows[0]['iterations']} iterations, {rows[0]['seconds']} s, {rows[0]['kept']} kept)"
    )
    for entry in rows:
        print(f"  {entry['row']:34}" + "".join(f"{m} {entry[m]:8.4f}  " for m in METRICS))
    sys.stdout.flush()


def write(path: Path, rows: list[dict]) -> None:
    """Write all lines so far."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
