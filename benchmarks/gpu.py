"""Speed on a GPU: pixels per second, share of the card's peak, what CUDA graphs and compilation add, published way.

Runs where there is neither QGIS nor GDAL: it needs torch, numpy, safetensors and PyWavelets.  Tiles are random numbers;
weights are the installed models' for eight bands, at their default steps.  ``--device cpu --quick`` only shows
that it runs.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.eight_bands import (
    BANDS,
    METHODS,
    RATIO,
    detail_order,
    published_network,
    sampling_plan,
    shipped_model,
)
from benchmarks.measuring import Side, alternate, machine, random_tiles
from benchmarks.published import PublishedDDRF, ddrf_condition, ddrf_image, ssdiff_image
from benchmarks.tables import write_csv
from benchmarks.timed_calls import DDRF_TIME, SSDIFF_TIME, Tiles, compared, fast_form
from fusion_core.execution.device import resolve_device, resolve_precision
from fusion_core.execution.executor import FusedTiles, TileBatch
from fusion_core.execution.local import LocalExecutor
from fusion_core.execution.tile_plan import TilePlan, plan_tiles
from fusion_core.models import FusionNetwork
from fusion_core.weights import ModelFile, load_network

SCENE = 35_000
"""PAN pixels along a side of a full scene."""
AIM_SPEED, AIM_SECONDS = 20.0, 120.0
"""Megapixels per second with either model, and seconds for a full scene."""
COLUMNS = (
    "table",
    "method",
    "what",
    "tile",
    "batch",
    "seconds",
    "first",
    "megapixels/s",
    "peak",
    "ratio",
)
"""Times in seconds, ``first`` with what a mode does before it is ready; ``peak`` and ``ratio`` as shares."""
ROOT = Path(__file__).resolve().parents[1]

Row = dict[str, object]


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        tiles, batches: PAN pixels of a tile along a side, and tiles of a batch.
        rounds: how often each way runs.
        call: PAN pixels along a side of DDRF's single call and of the whole job; and tiles of SSDiff's single call.
        matrix: rows of the square matrices that the peak is measured with.
        published: tiles of a batch of the published SSDiff.
    """

    tiles: tuple[int, ...] = (48, 64, 128, 256)
    batches: tuple[int, ...] = (16, 64, 256)
    rounds: int = 5
    call: tuple[int, int] = (256, 64)
    matrix: int = 8192
    published: int = 24


QUICK = Sizes(tiles=(64,), batches=(2,), rounds=1, call=(64, 2), matrix=256, published=5)


@dataclass
class Bench:
    """What all measurements share.

    Attributes:
        device: where everything computes.
        precision: in what ours computes, of the method that is measured.
        sizes: how much is measured.
        peak: operations per second of a large bfloat16 product of matrices.
    """

    device: torch.device
    precision: torch.dtype
    sizes: Sizes
    peak: float = 0.0

    def synchronised(self, side: Side) -> Side:
        """The side without gradients, over only when the device is done."""

        def whole() -> None:
            with torch.inference_mode():
                side()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)

        return whole

    def seconds(self, side: Side, warm: int = 2) -> float:
        """Median time of a side that has run before."""
        side = self.synchronised(side)
        for _ in range(warm):
            side()
        return statistics.median(alternate({"": side}, self.sizes.rounds, warm=False)[""])

    def moved(self, tiles: Tiles, dtype: torch.dtype) -> Tiles:
        """Tiles on the device, channels last."""
        return tuple(
            part.to(self.device, dtype).contiguous(memory_format=torch.channels_last)
            for part in tiles
        )


def main(arguments: list[str] | None = None) -> int:
    """Print the tables and write all figures as csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="auto", help="bfloat16 on CUDA by default")
    parser.add_argument(
        "--method", choices=METHODS.values(), action="append", help="both by default"
    )
    parser.add_argument("--tile", type=int, action="append", help="sizes of tiles to compare")
    parser.add_argument("--batch", type=int, action="append", help="sizes of batches to compare")
    parser.add_argument(
        "--mode", choices=MODES, action="append", help="ways of calling a network, all by default"
    )
    parser.add_argument("--csv", type=Path, default=ROOT / "build" / "gpu.csv")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    options = parser.parse_args(arguments)
    device = resolve_device(options.device)
    sizes = QUICK if options.quick else Sizes()
    bench = Bench(device, torch.float32, sizes)
    tiles, batches = tuple(options.tile or sizes.tiles), tuple(options.batch or sizes.batches)
    bench.peak = _peak(bench)
    print(_device_line(device))
    print(
        f"bfloat16 product of {sizes.matrix} x {sizes.matrix} matrices: {bench.peak / 1e12:.4g} TFLOP/s"
    )
    rows: list[Row] = []
    for name, method in METHODS.items():
        if options.method and method not in options.method:
            continue
        model = shipped_model(method)
        card = model.card
        plain = load_network(model)
        operations = {size: operations_of(plain, card.steps, size) for size in tiles}
        bench.precision = resolve_precision(options.precision, device, method)
        numbers = str(bench.precision).removeprefix("torch.")
        print(f"\n{name}, {card.id}, {card.steps} call(s), margin {card.margin}, {numbers}")
        throughput = [
            _throughput(bench, model, size, batch, operations[size])
            for size, batch in itertools.product(tiles, batches)
        ]
        rows += throughput
        _show("Executor: tiles from and to the host's memory", throughput)
        best = max(throughput, key=lambda row: row["megapixels/s"])
        print(_scene_line(device, float(best["megapixels/s"])))
        modes = _modes(
            bench, model, int(best["tile"]), int(best["batch"]), operations, options.mode or MODES
        )
        rows += modes
        _show(f"Network alone, {best['batch']} tiles of {best['tile']} on the device", modes)
        ratios = _ratios(bench, model)
        rows += ratios
        _show("Against the published way, float32", ratios)
        write_csv(options.csv, rows, COLUMNS)
    print(f"\n{options.csv}")
    return 0


def _device_line(device: torch.device) -> str:
    if device.type != "cuda":
        return f"{device}: {machine()}"
    about = torch.cuda.get_device_properties(device)
    memory = about.total_memory / 2**30
    return f"{about.name}, {memory:.0f} GiB, PyTorch {torch.__version__}, CUDA {torch.version.cuda}"


def _peak(bench: Bench) -> float:
    """Operations per second of a large product, a multiplication and an addition each counted."""
    size = bench.sizes.matrix
    one, other = (torch.randn(size, size, device=bench.device).bfloat16() for _ in range(2))
    return 2 * size**3 / bench.seconds(lambda: one @ other, warm=5)


def operations_of(network: FusionNetwork, steps: int, size: int) -> float:
    """Operations of one tile, counted without computing on the plain network with attention as matrix products.

    Args:
        network: not in its inference form.
        steps: network calls.
        size: PAN pixels of the tile along a side.
    """
    network = copy.deepcopy(network).to("meta")
    guide, ms, lms, x_t = (part.to("meta") for part in random_tiles(1, size, network.ms_bands))
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), counter:
        condition = network.prepare(guide, ms, lms)
        for time_features in network.time_table(range(steps)):
            network.step(x_t, time_features, condition)
    return float(counter.get_total_flops())


def _throughput(bench: Bench, model: ModelFile, tile: int, batch: int, operations: float) -> Row:
    """The executor kept busy as a job does, with its batches in flight; margins of tiles do not count as pixels."""
    executor = LocalExecutor(
        sampling_plan(model, str(bench.device), str(bench.precision).removeprefix("torch."))
    )
    guide, ms, lms, _ = random_tiles(batch, tile, BANDS)
    origins = np.stack([np.zeros(batch), np.arange(batch) * tile], axis=1).astype(np.int64)
    given = TileBatch(guide.numpy(), ms.numpy(), lms.numpy(), origins)
    flying = executor.info.in_flight
    with ThreadPoolExecutor(flying) as threads:

        def run(_: int) -> FusedTiles:
            return executor.run(given, lambda count: None)

        seconds = bench.seconds(lambda: list(threads.map(run, range(2 * flying))))
    tiles, together = 2 * flying * batch, min(batch, executor.largest_batch or batch)
    executor.close()
    return {
        "table": "executor",
        "method": model.card.method,
        "what": "run" if together == batch else f"run, by {together} for lack of memory",
        "tile": tile,
        "batch": batch,
        "seconds": seconds / (2 * flying),
        "megapixels/s": tiles * (tile - 2 * model.card.margin) ** 2 / seconds / 1e6,
        "peak": tiles * operations / seconds / bench.peak,
    }


def _scene_line(device: torch.device, speed: float) -> str:
    seconds = SCENE**2 / 1e6 / speed
    line = (
        f"best {speed:.3g} Mpx/s; {SCENE} x {SCENE} pixels would take {seconds:.0f} s of computing"
    )
    if device.type != "cuda":
        return line
    met = speed >= AIM_SPEED and seconds <= AIM_SECONDS
    return f"{line} (aim {AIM_SPEED:g} Mpx/s, {AIM_SECONDS:g} s): {'met' if met else 'missed'}"


def _modes(
    bench: Bench,
    model: ModelFile,
    tile: int,
    batch: int,
    operations: dict[int, float],
    modes: tuple[str, ...],
) -> list[Row]:
    """Network calls at the default steps, preparation included and without, in each mode."""
    form = fast_form(load_network(model).to(bench.device), bench.precision)
    *images, x_t = bench.moved(random_tiles(batch, tile, BANDS), form.dtype)
    with torch.inference_mode():
        times = form.time_table(range(model.card.steps))
        ready = form.prepare(*images)

    def steps(condition: object) -> torch.Tensor:
        answer = x_t
        for time_features in times:
            answer = form.step(answer, time_features, condition)
        return answer

    calls = {
        "prepare and call": lambda: steps(form.prepare(*images)),
        "call": lambda: steps(ready),
    }
    rows = []
    for (what, call), mode in itertools.product(calls.items(), modes):
        row: Row = {
            "table": "network",
            "method": model.card.method,
            "what": f"{what}, {mode}",
            "tile": tile,
            "batch": batch,
        }
        rows.append(row)
        try:
            begun = time.perf_counter()
            side = MODES[mode](bench, call)
            bench.synchronised(side)()
            row["first"] = time.perf_counter() - begun
            seconds = bench.seconds(side)
        except Exception as error:  # whatever a compiler or a driver raises is the finding
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            row["what"] += f": not possible ({first})"
            continue
        row["seconds"] = seconds
        row["megapixels/s"] = batch * (tile - 2 * model.card.margin) ** 2 / seconds / 1e6
        if what != "call":
            row["peak"] = batch * operations[tile] / seconds / bench.peak
    return rows


def _eager(bench: Bench, call: Side) -> Side:
    return call


def _graphed(bench: Bench, call: Side) -> Side:
    """The call's kernels recorded once and launched together."""
    if bench.device.type != "cuda":
        raise RuntimeError("CUDA graphs need CUDA")
    with torch.inference_mode():
        aside = torch.cuda.Stream(bench.device)
        aside.wait_stream(torch.cuda.current_stream(bench.device))
        with torch.cuda.stream(aside):
            for _ in range(3):
                call()
        torch.cuda.current_stream(bench.device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            answer = call()
    # What the graph writes to has to live as long as it does.
    graph.answer = answer
    return graph.replay


def _compiled(bench: Bench, call: Side) -> Side:
    return torch.compile(call, dynamic=False)


MODES: dict[str, Callable[[Bench, Side], Side]] = {
    "eager": _eager,
    "CUDA graph": _graphed,
    "compiled": _compiled,
}


def _ratios(bench: Bench, model: ModelFile) -> list[Row]:
    """One call and a whole job, side by side with the published way."""
    method, (size, count) = model.card.method, bench.sizes.call
    published = published_network(model, str(bench.device))
    form = fast_form(load_network(model).to(bench.device), bench.precision)
    given = random_tiles(1, size, BANDS) if method == "ddrf" else random_tiles(count, 64, BANDS)
    guide, ms, lms, x_t = bench.moved(given, torch.float32)
    *images, fast_x_t = bench.moved(given, form.dtype)
    moment = DDRF_TIME if method == "ddrf" else SSDIFF_TIME
    t = torch.full((len(lms),), moment, device=bench.device)
    with torch.inference_mode():
        ready, time_features = form.prepare(*images), form.time_table([moment])[0]
    if isinstance(published, PublishedDDRF):
        condition = ddrf_condition(guide, lms, detail_order(model))
        call = lambda: published(x_t, t, condition)  # noqa: E731
    else:
        call = lambda: published(x_t, t, guide, ms, lms)  # noqa: E731
    one = _compare(bench, call, lambda: form.step(fast_x_t, time_features, ready))
    job = _compare(bench, _published_job(bench, model), _our_job(bench, model))
    about = {"table": "published", "method": method}
    return [
        {**about, "what": "one call", "tile": lms.shape[-1], "batch": len(lms), **one},
        {**about, "what": "whole job", "tile": size, "batch": 1, **job},
    ]


def _compare(bench: Bench, slow: Side, fast: Side) -> Row:
    sides = {"baseline": bench.synchronised(slow), "fast": bench.synchronised(fast)}
    figures = compared(*alternate(sides, bench.sizes.rounds).values())
    return {"seconds": figures["fast"], "ratio": figures["ratio"]}


def _published_job(bench: Bench, model: ModelFile) -> Side:
    """The published way on an image in the device's memory."""
    published = published_network(model, str(bench.device))
    guide, ms, lms, noise = bench.moved(random_tiles(1, bench.sizes.call[0], BANDS), torch.float32)
    limits = tuple(torch.tensor(value, device=bench.device) for value in (-1.0, 2.0))
    if isinstance(published, PublishedDDRF):
        order = detail_order(model)
        return lambda: ddrf_image(published, guide, lms, noise, limits, order)
    batch, generator = bench.sizes.published, torch.Generator()
    return lambda: ssdiff_image(published, guide, ms, lms, limits, generator, batch)


def _our_job(bench: Bench, model: ModelFile) -> Side:
    """Tiling and the executor on an image in the host's memory; tiles without their margins put together, not blended."""
    card, size = model.card, bench.sizes.call[0]
    plan = plan_tiles((0, 0, size, size), (0, 0), card.tile, card.margin)
    executor = LocalExecutor(
        sampling_plan(model, str(bench.device), str(bench.precision).removeprefix("torch."))
    )
    (top, bottom), (left, right) = plan.rows.covered, plan.cols.covered
    generator = torch.Generator().manual_seed(0)
    guide, ms, lms = (
        torch.rand(bands, (bottom - top) // scale, (right - left) // scale, generator=generator)
        for bands, scale in ((1, 1), (BANDS, RATIO), (BANDS, 1))
    )
    cut = [_cut(image.numpy(), plan, scale) for image, scale in ((guide, 1), (ms, RATIO), (lms, 1))]
    origins = np.array(
        [
            (plan.rows.position(row), plan.cols.position(col))
            for row in range(plan.rows.first, plan.rows.last + 1)
            for col in range(plan.cols.first, plan.cols.last + 1)
        ],
        np.int64,
    )

    margin, stride = card.margin, plan.rows.stride
    core = slice(margin, margin + stride)
    start = slice(-top - margin, -top - margin + size)

    def job() -> np.ndarray:
        batch = TileBatch(*(np.ascontiguousarray(tiles) for tiles in cut), origins)
        residual = executor.run(batch, lambda count: None).residual[..., core, core]
        grid = residual.reshape(plan.rows.count, plan.cols.count, BANDS, stride, stride)
        joined = grid.transpose(2, 0, 3, 1, 4).reshape(
            BANDS, plan.rows.count * stride, plan.cols.count * stride
        )
        inside = slice(-top, size - top)
        return joined[:, start, start] + lms.numpy()[:, inside, inside]

    return job


def _cut(image: np.ndarray, plan: TilePlan, scale: int) -> np.ndarray:
    """Tiles (n, C, H, W) of an image whose pixels are ``scale`` PAN pixels wide, row by row."""
    tile, stride = plan.rows.tile // scale, plan.rows.stride // scale
    views = np.lib.stride_tricks.sliding_window_view(image, (tile, tile), axis=(1, 2))
    views = views[:, ::stride, ::stride]
    return views.transpose(1, 2, 0, 3, 4).reshape(plan.count, len(image), tile, tile)


def _show(title: str, rows: list[Row]) -> None:
    heads = f"{'tile':>6}{'batch':>6}{'ms':>10}{'first s':>9}{'Mpx/s':>9}{'of peak':>9}{'ratio':>8}"
    print(f"{title}\n{'':<30}{heads}")
    forms = {
        "first": "{:>9.2f}",
        "megapixels/s": "{:>9.4g}",
        "peak": "{:>9.1%}",
        "ratio": "{:>7.1f}x",
    }
    for row in rows:
        line = f"{row['what']:<30}{row['tile']:>6}{row['batch']:>6}"
        if "seconds" in row:
            line += f"{1e3 * row['seconds']:>10.4g}"
            line += "".join(
                form.format(row[name]) if name in row else " " * len(form.format(0))
                for name, form in forms.items()
            )
        print(line.rstrip())
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
