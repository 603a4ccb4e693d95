"""Quality, seams and cost against the size of the tiles and of their margins, on real scenes with a known truth.

Each setting is measured twice, the second time with the tiles displaced by half of what they advance.  What is a border in
one image is the middle of a tile in the other, so the two say what a border costs without the scene's own edges in it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.baselines import as_delivered
from benchmarks.scenes import Group, OpenScene, run_model
from benchmarks.settings import Results, Row, measure_settings, open_scenes, setting_options
from benchmarks.tables import JUDGED, LOWER_IS_BETTER, Figures, means, table
from fusion_core.execution.executor import SamplingPlan, TileBatch
from fusion_core.execution.tile_plan import Axis, plan_tiles
from fusion_core.quality import assess_reduced
from fusion_core.raster.georeference import shifted
from fusion_core.raster.geotiff import read_bands, write_geotiff
from fusion_core.raster.scene import Scene
from fusion_core.weights import ModelFile, read_model, update_card

TILES = {"ddrf": (64, 96, 128, 144, 192, 256), "ssdiff": (32, 48, 64, 96, 128)}
"""SSDiff's attention grows with the square of a tile's pixels, DDRF's work hardly more than with their number."""
MARGINS = (0, 4, 8, 12, 16, 24)
MEASURED = ("SAM", "ERGAS", "Q2n", "seam", "border")
COLUMNS = (
    "group", "scene", "model", "tile", "margin", *MEASURED, "overhead", "seconds", "memory"
)  # fmt: skip
FEW = 1
"""Scenes of a group that are measured unless all are asked for."""
NEAR = 0.005
"""Part of the trained tile's best value by which a setting's SAM, ERGAS and Q2n may be worse."""
SEAM = 1.05
"""Seam energy that a setting may have."""
MEMORY = 150
"""MiB that a thread may need on top of the model."""
TRAINED = 64
"""Tile on which the installed models were trained."""
REACH = 4
"""Pixels on either side of a border that count as near it."""
EDGE = 16
"""Pixels around the image, where tiles reach over it, that say nothing of borders."""
_NODATA = -9999.0
_TILES_AT_ONCE = 2
_LONG_ENOUGH = 10.0


@dataclass(frozen=True)
class Placement:
    """An image fused on one placement of the tiles.

    Attributes:
        error: what differs from the truth, each band by the truth's standard deviation, (C, H, W).
        rows: image rows whose upper edge is the middle of two tiles' overlap.
        cols: columns whose left edge is one.
        figures: SAM, ERGAS, Q2n, SCC.
    """

    error: np.ndarray
    rows: list[int]
    cols: list[int]
    figures: Figures


def main(arguments: list[str] | None = None) -> int:
    """Print a table for each model and group with the setting to choose, and write all figures as csv."""
    parser = setting_options(__doc__, "margins", FEW)
    parser.add_argument("--tile", type=int, action="append", help="tiles in PAN pixels")
    parser.add_argument("--margin", type=int, action="append", help=f"{MARGINS} by default")
    return measure_settings(parser.parse_args(arguments), COLUMNS, _measured, _setting, _report)


def overhead(tile: int, margin: int) -> float:
    """PAN pixels computed for each one delivered, on an image of many tiles."""
    return (tile / (tile - 2 * margin)) ** 2


def borders(axis: Axis, length: int, displaced: int = 0) -> list[int]:
    """Middles of the overlaps along an axis, in pixels of an image that is ``displaced`` from the plan's grid.

    Args:
        axis: of a tile plan.
        length: of the image.
        displaced: pixels of the plan's window before the image's first.

    Returns:
        Pixels p such that the middle lies between p - 1 and p, those near the image's edge left out.
    """
    middles = (axis.position(k) + axis.margin for k in range(axis.first + 1, axis.last + 1))
    inside = (middle - axis.start - displaced for middle in middles)
    return [middle for middle in inside if EDGE <= middle <= length - EDGE]


def seam_energy(one: Placement, other: Placement) -> float:
    """Mean squared step of the error across borders, by that at the same places in mid-tile; 1 without a seam.

    A step is the difference of the two pixels on either side of the middle of an overlap, where blending is steepest.
    """
    return _border_share(one, other, _step)


def border_error(one: Placement, other: Placement) -> float:
    """Mean squared error within ``REACH`` pixels of borders, by that at the same places in mid-tile."""
    return _border_share(one, other, _nearby)


def _border_share(one: Placement, other: Placement, measure) -> float:
    """What ``measure`` says at both placements' borders, by what it says there of the placement without them."""
    at_borders = at_middles = 0.0
    for axis in (1, 2):
        for place, elsewhere in ((one, other), (other, one)):
            lines = place.rows if axis == 1 else place.cols
            at_borders += measure(place.error, lines, axis)
            at_middles += measure(elsewhere.error, lines, axis)
    return at_borders / at_middles if at_middles else 1.0


def _step(error: np.ndarray, lines: Sequence[int], axis: int) -> float:
    error = _inside(error, axis)
    step = error.take(lines, axis) - error.take([line - 1 for line in lines], axis)
    return float((step**2).sum())


def _nearby(error: np.ndarray, lines: Sequence[int], axis: int) -> float:
    near = [line + offset for line in lines for offset in range(-REACH, REACH)]
    return float((_inside(error, axis).take(near, axis) ** 2).sum())


def _inside(error: np.ndarray, axis: int) -> np.ndarray:
    """The image without its edge along the other axis."""
    cut = slice(EDGE, -EDGE)
    return error[:, :, cut] if axis == 1 else error[:, cut]


def choice(results: Mapping[tuple[int, int], Figures]) -> tuple[int, int] | None:
    """The cheapest setting without a seam, small enough and as good as the tile that the models were trained on.

    Args:
        results: figures of each (tile, margin); ``seconds`` already holds the overhead.

    Returns:
        Tile and margin; None where none is good enough, or the trained tile was not measured.
    """
    trained = [figures for (tile, _), figures in results.items() if tile == TRAINED]
    good = [
        setting
        for setting, figures in results.items()
        if trained
        and figures["seam"] <= SEAM
        and not figures["memory"] > MEMORY
        and all(_as_good(figures, trained, metric) for metric in JUDGED)
    ]
    return min(good, key=lambda setting: results[setting]["seconds"], default=None)


def _as_good(figures: Figures, others: Sequence[Figures], metric: str) -> bool:
    values = [each[metric] for each in others]
    if metric in LOWER_IS_BETTER:
        return figures[metric] <= (1 + NEAR) * min(values)
    return figures[metric] >= (1 - NEAR) * max(values)


def _setting(row: Row) -> tuple[int, int]:
    return row["tile"], row["margin"]


def _measured(model: ModelFile, group: Group, options: argparse.Namespace) -> Iterator[Row]:
    """Figures of a model on the scenes of a group, one setting after another."""
    for scene in open_scenes(options, group, FEW):
        for tile in options.tile or TILES[model.card.method]:
            seconds, memory = _cost(model.path, tile)
            for margin in options.margin or MARGINS:
                if 4 * margin > tile:
                    continue
                changed = _with_tiles(model, tile, margin, scene.folder)
                # Half of what tiles advance, in whole MS pixels.
                advance = (tile - 2 * margin) // (2 * group.ratio) * group.ratio
                pair = [_placed(changed, group, options, scene, pixels) for pixels in (0, advance)]
                yield {
                    "group": group.title,
                    "scene": scene.name,
                    "model": model.card.id,
                    "tile": tile,
                    "margin": margin,
                    **means([place.figures for place in pair], JUDGED),
                    "seam": seam_energy(*pair),
                    "border": border_error(*pair),
                    "overhead": overhead(tile, margin),
                    "seconds": seconds * overhead(tile, margin),
                    "memory": memory,
                }


def _with_tiles(model: ModelFile, tile: int, margin: int, folder: Path) -> ModelFile:
    """A copy of a model with other tiles."""
    path = folder / f"{model.card.id}-{tile}-{margin}.safetensors"
    shutil.copy(model.path, path)
    update_card(path, tile=tile, margin=margin)
    return read_model(path)


def _placed(
    model: ModelFile, group: Group, options: argparse.Namespace, scene: OpenScene, pixels: int
) -> Placement:
    """Fuse a scene with the tiles ``pixels`` further up and left."""
    moved = displaced(scene, group.ratio, pixels) if pixels else scene
    image, _ = run_model(model, moved, options)
    image = as_delivered(image[:, pixels:, pixels:], scene.dtype).astype(np.float64)
    reference = scene.reference.astype(np.float64)
    with Scene.open(moved.pan, moved.ms, group.ratio) as opened:
        window, phase = opened.overlap, opened.phase
    plan = plan_tiles(
        (window.row, window.col, window.height, window.width),
        phase,
        model.card.tile,
        model.card.margin,
    )
    height, width = reference.shape[1:]
    return Placement(
        error=(image - reference) / reference.std(axis=(1, 2), keepdims=True),
        rows=borders(plan.rows, height, pixels),
        cols=borders(plan.cols, width, pixels),
        figures=assess_reduced(reference, image, group.ratio),
    )


def displaced(scene: OpenScene, ratio: int, pixels: int) -> OpenScene:
    """A scene with as many PAN pixels without data above and left of it: tiles hang on PAN's first pixel.

    Args:
        scene: where all pixels hold data.
        ratio: PAN pixels per MS pixel.
        pixels: a multiple of the ratio.
    """
    paths = []
    for name, path, count in (("pan", scene.pan, pixels), ("ms", scene.ms, pixels // ratio)):
        image, about = read_bands(path)
        image = np.pad(
            image.astype(np.float32), ((0, 0), (count, 0), (count, 0)), constant_values=_NODATA
        )
        paths.append(str(scene.folder / f"{name}-displaced.tif"))
        write_geotiff(
            paths[-1],
            image,
            shifted(about.geotransform, -count, -count),
            about.crs_wkt,
            about.band_names,
            _NODATA,
        )
    return replace(scene, pan=paths[0], ms=paths[1])


@cache
def _cost(path: str, tile: int) -> tuple[float, float]:
    """Seconds that one thread takes for a million PAN pixels of tiles, and MiB that it needs on top of the model's own.

    Asked of a fresh process, so that its peak of memory is its own.
    """
    spawned = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, mp_context=spawned) as process,
    ):
        changed = _with_tiles(read_model(path), tile, 0, Path(folder))
        return process.submit(_run_tiles, changed.path, tile).result()


def _run_tiles(path: str, tile: int) -> tuple[float, float]:
    """Compute as many tiles as a thread takes at once, as often as is needed for a median."""
    from fusion_core.execution.local import LocalExecutor

    card = read_model(path).card
    noise = np.random.default_rng(0)
    low = tile // card.ratio

    def made(bands: int, size: int) -> np.ndarray:
        return noise.random((_TILES_AT_ONCE, bands, size, size), dtype=np.float32)

    batch = TileBatch(
        made(card.guide_bands, tile),
        made(card.ms_bands, low),
        made(card.ms_bands, tile),
        np.zeros((_TILES_AT_ONCE, 2), np.int64),
    )
    limits = ((-1.0, 2.0),) * card.ms_bands
    computer = LocalExecutor(
        SamplingPlan(path, card.steps, card.solver, card.grid, 0, 1, limits, "cpu", "float32", 1)
    )
    before = _memory("VmRSS")
    computer.run(batch, lambda count: None)
    memory = _memory("VmHWM") - before
    times: list[float] = []
    while len(times) < 3 or (len(times) < 9 and sum(times) < _LONG_ENOUGH):
        start = time.perf_counter()
        computer.run(batch, lambda count: None)
        times.append(time.perf_counter() - start)
    computer.close()
    return statistics.median(times) / (_TILES_AT_ONCE * tile * tile) * 1e6, memory


def _memory(what: str) -> float:
    """MiB that Linux says of this process, not a number elsewhere."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    line = next(line for line in status.read_text().splitlines() if line.startswith(f"{what}:"))
    return int(line.split()[1]) / 1024


def _report(title: str, results: Results) -> str:
    columns = (*MEASURED, "overhead", "seconds", "memory")
    average = {setting: means(figures, columns) for setting, figures in results.items()}
    named = {f"tile {tile}, margin {margin}": f for (tile, margin), f in average.items()}
    chosen = choice(average)
    said = (
        f"cheapest with SAM, ERGAS and Q2n within {NEAR:.1%} of the best of tile {TRAINED} and a seam energy of "
        f"at most {SEAM} in {MEMORY} MiB"
    ).replace("%", " %")
    found = f"tile {chosen[0]}, margin {chosen[1]}" if chosen else "none"
    return f"{table(title, named, columns, marked=False)}\n{said}: {found}"


if __name__ == "__main__":
    sys.exit(main())
