"""The whole pipeline with a network that adds nothing, against gdal_pansharpen with the same creation options.

Everything but the network is measured: reading, interpolating, cutting tiles, blending, rounding, writing, and the side file
that makes a run resumable.  The scene is a synthetic one of 1024 x 1024 pixels, mirrored until it is large enough; the
long one, ten times as high, is the same scene ten times over.  Each program runs in a process of its own; they take
turns, on at most three cores, and each output is removed before it is made anew.  Other programs may run meanwhile: the
ratio is the median over the turns.

``--worker`` also runs the pipeline through a warm worker process that gives zeros back: what its pipes cost.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess  # nosec B404 # runs this script and gdal_pansharpen
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from osgeo import gdal, osr

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fusion_core.execution.executor import ExecutorInfo, FusedTiles, OnCall, TileBatch
from fusion_core.fuse import fuse
from fusion_core.raster.formats import geotiff_options
from fusion_core.sample_scene import make_sample_scene

SIZE, RATIO, BANDS = 10_000, 4, 4
TIMES = 10
BATCH, IN_FLIGHT = 64, 2
CORES = 3
LEAST_FREE = 30e9
"""Bytes on the disk below which the long scene is left out: its output and its side file take 8 GB each."""


class Identity:
    """An executor that gives zeros back at once."""

    def __init__(self, *arguments: object) -> None:
        self.info = ExecutorInfo("none", "float32", "none", BATCH, IN_FLIGHT)
        self._zeros = np.zeros(0, np.float32)

    def run(self, batch: TileBatch, on_call: OnCall) -> FusedTiles:
        """See ``Executor``."""
        if self._zeros.shape[1:] != batch.lms.shape[1:]:
            self._zeros = np.zeros((BATCH, *batch.lms.shape[1:]), np.float32)
        on_call(len(batch.origins))
        return FusedTiles(self._zeros[: len(batch.origins)], None)

    def close(self) -> None:
        """Nothing to free."""


def main() -> None:
    """Make the scenes, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "pipeline")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--method", default="ssdiff", help="whose tiles are cut")
    parser.add_argument("--option", action="append", default=[], help="creation option, KEY=VALUE")
    parser.add_argument("--worker", action="store_true", help="measure a worker's pipes too")
    parser.add_argument("--short", action="store_true", help="leave the long scene out")
    parser.add_argument("--child", choices=("ours", "worker", "gdal", "zeros"))
    parser.add_argument("files", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child(options)
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    options.folder.mkdir(parents=True, exist_ok=True)
    pair = _make_scene(options.folder)
    sides = ["gdal", "ours", *(["worker"] if options.worker else [])]
    measured: dict[str, list[dict]] = {side: [] for side in sides}
    for number in range(options.rounds):
        for side in sides:
            measured[side].append(_run(side, pair, options))
        print(f"round {number + 1}: " + ", ".join(_line(s, measured[s][-1]) for s in sides))
    for side in sides:
        ratios = [a["wall"] / b["wall"] for a, b in zip(measured[side], measured["gdal"])]
        middle = {
            key: statistics.median(run[key] for run in measured[side]) for key in ("wall", "peak")
        }
        print(f"{_line(side, middle)}, {statistics.median(ratios):.2f} times gdal_pansharpen")
    if options.worker:
        costs = [a["seconds"] - b["seconds"] for a, b in zip(measured["worker"], measured["ours"])]
        print(f"The worker's pipes cost {statistics.median(costs):.1f} s.")
    if options.short or _free(options.folder) < LEAST_FREE:
        print("The long scene was left out.")
        return
    long = _run("ours", [_repeated(path, TIMES) for path in pair], options)
    peak = statistics.median(run["peak"] for run in measured["ours"])
    print(
        f"{TIMES} times as high: {_line('ours', long)}, {long['peak'] / peak:.3f} times the memory"
    )


def _line(side: str, run: dict) -> str:
    return f"{side} {run['wall']:.1f} s {run['peak'] / 1024:.0f} MiB"


def _free(folder: Path) -> int:
    about = os.statvfs(folder)
    return about.f_bavail * about.f_frsize


def _run(side: str, pair: Sequence[Path], options: argparse.Namespace) -> dict:
    """Seconds and peak memory of one run in a process of its own."""
    output = options.folder / f"{side}.tif"
    output.unlink(missing_ok=True)
    given = [f"--option={option}" for option in options.option]
    files = [str(path) for path in (*pair, output)]
    command = [sys.executable, __file__, "--child", side, "--method", options.method, *given]
    started = time.perf_counter()
    done = subprocess.run(  # nosec B603 # this script
        [*command, *files],
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    wall = time.perf_counter() - started
    output.unlink()
    return {"wall": wall, **json.loads(done.stdout.splitlines()[-1])}


def _child(options: argparse.Namespace) -> None:
    """Run one side and tell its seconds and its peak memory in KiB."""
    if options.child == "zeros":
        _answer_with_zeros()
        return
    started = time.perf_counter()
    if options.child == "gdal":
        _gdal_pansharpen(options)
    else:
        started = _ours(options)
    seconds = time.perf_counter() - started
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    print(json.dumps({"seconds": seconds, "peak": peak}))


def _gdal_pansharpen(options: argparse.Namespace) -> None:
    from osgeo_utils.gdal_pansharpen import main as pansharpen

    # What our outputs are created with.
    created = geotiff_options(BANDS, SIZE * 2, options.option)
    arguments = [text for option in created for text in ("-co", option)]
    pansharpen(["gdal_pansharpen", "-q", *arguments, *options.files])


def _ours(options: argparse.Namespace) -> float:
    """Fuse; with a worker a small part first, so that it is warm.  Gives back when the measured run began."""
    module = importlib.import_module("fusion_core.fuse")
    pan, ms, output = options.files
    arguments = {"method": options.method, "creation_options": options.option, "batch_size": BATCH}
    if options.child == "worker":
        from fusion_core.execution.worker_executor import WorkerExecutor

        python = Path(output).with_name("worker.sh")
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" --child zeros\n')
        python.chmod(0o700)
        module._executor = lambda name, sampling, path, stop, *_: WorkerExecutor(
            sampling, str(python), stop
        )
        fuse(pan, ms, output, extent=(500_000, 4_999_900, 500_100, 5_000_000), **arguments)
        os.remove(output)
    else:
        module._executor = Identity
    started = time.perf_counter()
    fuse(pan, ms, output, **arguments)
    return started


def _answer_with_zeros() -> None:
    """A worker whose network adds nothing."""
    from fusion_core.execution import local, worker

    identity = Identity()
    local.LocalExecutor.run = lambda self, batch, on_call: identity.run(batch, on_call)
    worker.main()


def _make_scene(folder: Path) -> tuple[Path, Path]:
    """PAN and MS, unless they are there."""
    pair = folder / "pan.tif", folder / "ms.tif"
    if all(path.exists() for path in pair):
        return pair
    scene = make_sample_scene(size=1024, bands=BANDS, ratio=RATIO, seed=3)
    names = ("Blue", "Green", "Red", "NIR")
    _write(pair[0], scene.pan, SIZE, 0.5, ("PAN",))
    _write(pair[1], scene.ms, SIZE // RATIO, 0.5 * RATIO, names)
    return pair


def _write(path: Path, image: np.ndarray, size: int, pixel: float, names: Sequence[str]) -> None:
    """An image (C, h, w) mirrored to size x size."""
    reference = osr.SpatialReference()
    reference.ImportFromEPSG(32633)
    half = image.shape[1]
    place = np.arange(size) % (2 * half)
    place = np.minimum(place, 2 * half - 1 - place)
    made = gdal.GetDriverByName("GTiff").Create(
        str(path), size, size, len(image), gdal.GDT_UInt16, ["TILED=YES"]
    )
    made.SetGeoTransform((500_000, pixel, 0, 5_000_000, 0, -pixel))
    made.SetSpatialRef(reference)
    for number, (band, name) in enumerate(zip(image, names), 1):
        made.GetRasterBand(number).SetDescription(name)
        for row in range(0, size, half):
            rows = place[row : row + half]
            pixels = np.ascontiguousarray(band[np.ix_(rows, place)])
            made.GetRasterBand(number).WriteRaster(0, row, size, len(rows), pixels.tobytes())
    made = None


def _repeated(path: Path, times: int) -> Path:
    """A virtual raster that shows a raster several times, one below the other."""
    raster = gdal.Open(str(path))
    width, height = raster.RasterXSize, raster.RasterYSize
    place = ", ".join(map(str, raster.GetGeoTransform()))
    lines = [
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height * times}">',
        f"<SRS>EPSG:32633</SRS><GeoTransform>{place}</GeoTransform>",
    ]
    for number in range(1, raster.RasterCount + 1):
        name = raster.GetRasterBand(number).GetDescription()
        lines.append(f'<VRTRasterBand dataType="UInt16" band="{number}">')
        lines.append(f"<Description>{name}</Description>")
        for part in range(times):
            lines += [
                f'<SimpleSource><SourceFilename relativeToVRT="1">{path.name}</SourceFilename>',
                f"<SourceBand>{number}</SourceBand>",
                f'<SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>',
                f'<DstRect xOff="0" yOff="{part * height}" xSize="{width}" ySize="{height}"/>',
                "</SimpleSource>",
            ]
        lines.append("</VRTRasterBand>")
    made = path.with_name(f"{path.stem}_{times}.vrt")
    made.write_text("\n".join([*lines, "</VRTDataset>"]))
    return made


if __name__ == "__main__":
    main()
