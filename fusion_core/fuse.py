"""The whole fusion job: layers in, one layer out, without QGIS."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from . import __version__
from .band_matching import BandMatch, has_bands, known_bands, match_bands
from .bands import split_bands
from .errors import Cancelled, FusionError
from .execution.device_list import device_names
from .execution.executor import Executor, SamplingPlan
from .execution.stages import StopSignal
from .execution.tile_plan import plan_tiles
from .fingerprint import job_fingerprint
from .fuse_plan import FusePlan
from .pipeline import run_plan
from .solvers import GRIDS, SOLVERS
from .weights import METHOD_TITLES, ModelFile, find_model

if TYPE_CHECKING:
    from .raster.mosaic import Mosaic
    from .raster.scene import Scene
    from .raster.side_file import SideFile

EXECUTORS = ("local", "worker", "dask")
DATA_TYPES = ("ms", "float32")
MOST_STEPS = {"ddrf": 500, "ssdiff": 1000}
"""Steps of the schedule each network is trained on; a sampler cannot take more."""
MOST_SAMPLES = 100

Extent = tuple[float, float, float, float]


@dataclass(frozen=True)
class FuseResult:
    """What a run did, enough to repeat it.

    Attributes:
        output, uncertainty: files written.
        width, height, bands: of the output, in PAN pixels.
        method, model, digest: the network, its id, and the SHA-256 of its file.
        steps, solver, grid, seed, samples: the sampling.
        device, precision: where and how it was computed.
        tiles: number of tiles computed.
        seconds: wall clock.
        version, torch: of this software and of PyTorch.
        band_matching: which MS band served as which, such as "Blue=1, Green=2, Red=3, NIR=4 (named by the image)".
        cluster: address of the Dask scheduler whose workers computed, if any.
        resumed_rows: rows that an interrupted run had finished.
    """

    output: str
    uncertainty: str | None
    width: int
    height: int
    bands: int
    method: str
    model: str
    digest: str
    steps: int
    solver: str
    grid: str
    seed: int
    samples: int
    device: str
    precision: str
    tiles: int
    seconds: float
    version: str
    torch: str
    band_matching: str
    cluster: str | None = None
    resumed_rows: int = 0

    def as_dict(self) -> dict[str, object]:
        """As JSON can hold it."""
        return asdict(self)


def check_fuse(
    pan: str,
    ms: str | Sequence[str],
    output: str | None = None,
    *,
    method: str = "ssdiff",
    model: str = "auto",
    bands: str | Sequence[str | float] | None = None,
    extent: Extent | None = None,
    extent_crs: str | None = None,
    steps: int | None = None,
    solver: str | None = None,
    grid: str | None = None,
    seed: int = 0,
    device: str = "auto",
    samples: int = 1,
    uncertainty: str | None = None,
    data_type: str = "ms",
    creation_options: Sequence[str] = (),
    cluster: str | None = None,
) -> FusePlan:
    """Decide everything about a job that can be decided without torch; arguments as for ``fuse``.

    The caller closes ``plan.scene``.

    Raises:
        FusionError: something does not fit; nothing has been written.
    """
    _check_choice("method", method, METHOD_TITLES)
    _check_choice("data type", data_type, DATA_TYPES)
    if solver is not None:
        _check_choice("solver", solver, SOLVERS)
    if grid is not None:
        _check_choice("time grid", grid, GRIDS)
    most = MOST_STEPS[method]
    if steps is not None and not 1 <= steps <= most:
        raise FusionError(f"The number of steps is {steps} but must be 1 to {most}.")
    if not 1 <= samples <= MOST_SAMPLES:
        raise FusionError(f"The number of samples is {samples} but must be 1 to {MOST_SAMPLES}.")
    if uncertainty is not None and samples < 2:
        raise FusionError("An uncertainty needs 2 samples or more: raise the number of samples.")
    if output is not None and uncertainty is not None and _same_file(output, uncertainty):
        raise FusionError("The fused image and the uncertainty have the same name: choose two.")
    several = len(device_names(device)) > 1
    if cluster is not None:
        if several:
            raise FusionError(
                f"Each worker of a cluster computes on one device and not on {device}: name one, such as auto."
            )
        from .execution.dask_connection import check_address

        check_address(cluster)
    from .raster.formats import check_output

    with ExitStack() as cleanup:
        scene, chosen, matched = _open(pan, ms, method, model, bands)
        cleanup.callback(scene.close)
        plan = _plan(
            scene,
            chosen,
            matched,
            extent,
            extent_crs,
            steps,
            solver,
            grid,
            seed,
            samples,
            data_type,
        )
        for path, dtype in ((output, plan.dtype), (uncertainty, "float32")):
            if path is not None:
                pixels = plan.window.height * plan.window.width * scene.ms_bands
                check_output(
                    path,
                    bands=scene.ms_bands,
                    dtype=dtype,
                    options=creation_options,
                    inputs=scene.files,
                    size=pixels * np.dtype(dtype).itemsize,
                )
        cleanup.pop_all()
    return plan


def fuse(
    pan: str,
    ms: str | Sequence[str],
    output: str,
    *,
    method: str = "ssdiff",
    model: str = "auto",
    bands: str | Sequence[str | float] | None = None,
    extent: Extent | None = None,
    extent_crs: str | None = None,
    steps: int | None = None,
    solver: str | None = None,
    grid: str | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    samples: int = 1,
    uncertainty: str | None = None,
    data_type: str = "ms",
    creation_options: Sequence[str] = (),
    batch_size: int | None = None,
    executor: str = "local",
    python: str | None = None,
    threads: int | None = None,
    cluster: str | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    report: Callable[[str], None] | None = None,
) -> FuseResult:
    """Fuse a PAN and an MS image.

    Args:
        pan: GDAL name of the PAN image.
        ms: GDAL name of the MS image, or one name for each band.
        output: the fused image to write, on PAN's grid; appears when it is whole.  Until then finished rows are kept
            in a hidden file beside it; if the process is killed, the same call goes on where it stopped.
        method: "ssdiff" or "ddrf".
        model: "auto" for the installed one that fits, an installed one's id, or a .safetensors file.
        bands: names ("Blue,Green,Red,NIR") or central wavelengths (480, 550, 660, 835) of the MS bands in the order
            of the file, in one text or one each; by default what the image says they are.
        extent: xmin, ymin, xmax, ymax to fuse; the whole overlap of both images by default.
        extent_crs: WKT of the extent's coordinate system, PAN's by default.
        steps, solver, grid: number of network calls, "ddim" or "dpm++2m", "uniform" or "logsnr"; the model's own by default.
        seed: of the noise; the same seed gives the same image.
        device: "auto", "cpu", "cuda", "cuda:N", "mps", or several such as "cuda:0,cuda:2"; "auto" and "cuda" are all
            GPUs of the first one's kind.  Several compute in a child process each.
        precision: "auto", "float32", "bfloat16" or "float16".
        samples: how many images are drawn and averaged.
        uncertainty: where to write the samples' standard deviation, float32; needs two samples or more.
        data_type: "ms" for MS's own, or "float32".
        creation_options: GDAL creation options, "KEY=VALUE".
        batch_size: tiles computed at once; found for the device by default.
        executor: "local" computes in this process, "worker" in a child process, "dask" on a cluster.
        python: interpreter of the worker; found if None.
        threads: CPU threads; one core stays free by default.
        cluster: address of a Dask scheduler, such as "tcp://host:8786", whose workers compute the tiles; with the
            executor "worker" the child process talks to it, otherwise this one.
        progress: told the share done, 0 to 1, at least once for each network call.
        cancelled: asked often, like ``progress`` in this thread; when it says True the job stops and leaves no file.
        report: told what was decided, line by line.

    Returns:
        What was done.

    Raises:
        FusionError: something is wrong with the input, the model, the machine or the disk; nothing was written.
        Cancelled: ``cancelled`` said so; nothing was written.
    """
    started = time.monotonic()
    # GDAL names are texts; Python programs have paths.
    pan, output, model = os.fspath(pan), os.fspath(output), os.fspath(model)
    ms = os.fspath(ms) if isinstance(ms, (str, os.PathLike)) else [os.fspath(name) for name in ms]
    uncertainty = None if uncertainty is None else os.fspath(uncertainty)
    _check_choice("executor", executor, EXECUTORS)
    if batch_size is not None and batch_size < 1:
        raise FusionError(f"The batch size is {batch_size} but must be 1 or more.")
    if executor == "dask" and cluster is None:
        raise FusionError(
            "The executor dask needs a cluster: give its scheduler's address, such as tcp://host:8786."
        )
    plan = check_fuse(
        pan,
        ms,
        output,
        method=method,
        model=model,
        bands=bands,
        extent=extent,
        extent_crs=extent_crs,
        steps=steps,
        solver=solver,
        grid=grid,
        seed=seed,
        device=device,
        samples=samples,
        uncertainty=uncertainty,
        data_type=data_type,
        creation_options=creation_options,
        cluster=cluster,
    )
    stop = StopSignal(cancelled)
    tell = _CallersReport(report)
    with ExitStack() as cleanup:
        cleanup.callback(plan.scene.close)
        sampling = _sampling_plan(plan, device, precision, threads)
        computer = _executor(executor, sampling, python, stop, cluster)
        cleanup.callback(computer.close)
        for line in (*_description(plan, computer), *plan.notes):
            tell(line)
        result = FuseResult(
            output=output,
            uncertainty=uncertainty,
            width=plan.window.width,
            height=plan.window.height,
            bands=plan.scene.ms_bands,
            method=method,
            model=plan.model.card.id,
            digest=plan.model.digest(),
            steps=plan.steps,
            solver=plan.solver,
            grid=plan.grid,
            seed=seed,
            samples=samples,
            device=computer.info.device,
            precision=computer.info.precision,
            tiles=plan.tiles.count,
            seconds=0.0,
            version=__version__,
            torch=computer.info.torch_version,
            band_matching=str(plan.bands),
            cluster=cluster,
        )
        provenance = _provenance(result, pan, ms)
        targets = [(output, plan.dtype, True)]
        if uncertainty is not None:
            targets.append((uncertainty, "float32", False))
        mosaics = [
            cleanup.enter_context(_mosaic(plan, *target, creation_options, provenance))
            for target in targets
        ]

        def on_progress(share: float) -> None:
            tell.told_elsewhere()
            if progress is not None:
                progress(share)

        def compute(part: FusePlan, kept: SideFile | None) -> None:
            whole = part.tiles.count / plan.tiles.count
            run_plan(
                *(part, computer, mosaics, batch_size, lambda share: on_progress(whole * share)),
                *(stop, kept),
            )

        side_file = _side_file(plan, output, provenance, [pan, *_listed(ms)], mosaics, tell)
        if side_file is not None:
            cleanup.enter_context(side_file)
            tiles, rows = _resume(plan, side_file, mosaics, compute, stop, tell)
            result = replace(result, tiles=tiles, resumed_rows=rows)
        compute(plan, side_file)
        tell.told_elsewhere()
        # All of them are whole before the first appears; the fused image last: where it stands, everything does.
        for mosaic in mosaics:
            mosaic.finish()
        for mosaic in reversed(mosaics):
            mosaic.commit()
    return replace(result, seconds=round(time.monotonic() - started, 3))


class _CallersReport:
    """Lines for the user, told in the thread of the job's caller alone.

    Args:
        report: told each line.
    """

    def __init__(self, report: Callable[[str], None] | None) -> None:
        self._report = report or (lambda line: None)
        self._owner = threading.get_ident()
        self._waiting: deque[str] = deque()

    def __call__(self, line: str) -> None:
        """Tell a line; from another thread it waits for ``told_elsewhere``."""
        if threading.get_ident() == self._owner:
            self._report(line)
        else:
            self._waiting.append(line)

    def told_elsewhere(self) -> None:
        """Pass on what other threads told."""
        while self._waiting:
            self._report(self._waiting.popleft())


def _check_choice(what: str, value: str, choices: Sequence[str] | dict) -> None:
    if value not in choices:
        raise FusionError(f"There is no {what} called {value}: use one of {', '.join(choices)}.")


def _same_file(one: str, other: str) -> bool:
    return os.path.normcase(os.path.realpath(one)) == os.path.normcase(os.path.realpath(other))


def _open(
    pan: str,
    ms: str | Sequence[str],
    method: str,
    model: str,
    bands: str | Sequence[str | float] | None,
) -> tuple[Scene, ModelFile, BandMatch]:
    """Open the scene at the ratio of the model that fits it, and match their bands."""
    from .raster.scene import Scene

    count = len(split_bands(bands)) if has_bands(bands) else None
    scene = Scene.open(pan, ms, ms_bands=count)
    try:
        names = known_bands(scene.band_names, scene.spectral_bands, bands)
        chosen = find_model(
            method,
            scene.ms_bands,
            scene.ratio,
            model,
            band_names=names,
            guide_bands=scene.pan_bands,
            transparencies=scene.transparencies,
        )
        card = chosen.card
        matched = match_bands(card.id, card.band_names, names, has_bands(bands))
        if card.ratio == scene.ratio:
            return scene, chosen, matched
    except BaseException:
        scene.close()
        raise
    scene.close()
    return Scene.open(pan, ms, card.ratio, count), chosen, matched


def _plan(
    scene: Scene,
    model: ModelFile,
    bands: BandMatch,
    extent: Extent | None,
    extent_crs: str | None,
    steps: int | None,
    solver: str | None,
    grid: str | None,
    seed: int,
    samples: int,
    data_type: str,
) -> FusePlan:
    card = model.card
    window = scene.overlap
    if extent is not None:
        window = scene.window_of_extent(*extent, extent_crs)
        if min(window.height, window.width) < card.ratio:
            raise FusionError(
                f"The extent covers {window.width} x {window.height} PAN pixels, less than one MS pixel: "
                "choose a larger one."
            )
    return FusePlan(
        scene=scene,
        model=model,
        window=window,
        tiles=plan_tiles(
            (window.row, window.col, window.height, window.width),
            scene.phase,
            card.tile,
            card.margin,
        ),
        bands=bands,
        steps=card.steps if steps is None else steps,
        solver=card.solver if solver is None else solver,
        grid=card.grid if grid is None else grid,
        seed=seed,
        samples=samples,
        dtype=scene.ms_dtype if data_type == "ms" else data_type,
        notes=bands.notes,
    )


def _sampling_plan(
    plan: FusePlan, device: str, precision: str, threads: int | None
) -> SamplingPlan:
    scale = plan.ms_scale[:, 0, 0]
    order = list(plan.bands.order)
    limits = plan.scene.ms_limits[order] / scale[order, None]
    contrast = limits[:, 1] - limits[:, 0]
    # Sharp pixels may leave the MS image's range by as much as that range is wide, but not turn negative.
    # A constant image leaves no room at all and so stays constant.
    low = np.maximum(limits[:, 0] - contrast, np.minimum(limits[:, 0], 0))
    high = limits[:, 1] + contrast
    return SamplingPlan(
        model=plan.model.path,
        steps=plan.steps,
        solver=plan.solver,
        grid=plan.grid,
        seed=plan.seed,
        samples=plan.samples,
        value_range=tuple((float(a), float(b)) for a, b in zip(low, high)),
        device=device,
        precision=precision,
        threads=threads,
    )


def _executor(
    name: str,
    sampling: SamplingPlan,
    python: str | None,
    stop: Callable[[], bool],
    cluster: str | None,
) -> Executor:
    if name == "worker":
        from .execution.interpreter import find_interpreter
        from .execution.shared_out import start_workers

        return start_workers(sampling, find_interpreter(python), stop, cluster)
    if cluster is not None:
        from .execution.dask_executor import DaskExecutor

        return DaskExecutor(sampling, cluster, stop)
    try:
        from .execution.device import same_devices
        from .execution.local import LocalExecutor
    except ModuleNotFoundError as error:
        from .execution.interpreter import INSTALL

        raise FusionError(
            f"This Python lacks {error.name}: install it with {INSTALL}, or use the worker with another interpreter."
        ) from error
    if len(device_names(sampling.device)) > 1 or len(same_devices(sampling.device)) > 1:
        from .execution.shared_out import start_workers

        # One process each: threads of one would wait for each other.
        return start_workers(sampling, python or sys.executable, stop)
    return LocalExecutor(sampling)


def _description(plan: FusePlan, computer: Executor) -> Iterator[str]:
    card, info, scene = plan.model.card, computer.info, plan.scene
    yield f"Model {card.id}, {plan.steps} step(s) of {plan.solver} on a {plan.grid} grid, seed {plan.seed}"
    yield f"Computing on {info.device} in {info.precision}, PyTorch {info.torch_version}"
    if info.advice is not None:
        yield info.advice
    yield (
        f"{plan.window.width} x {plan.window.height} PAN pixels, ratio {scene.true_ratio:.4g}, "
        f"{plan.tiles.count} tiles of {card.tile} pixels"
    )
    yield plan.bands.sentence(scene.band_names)


def _provenance(result: FuseResult, pan: str, ms: str | Sequence[str]) -> dict[str, str]:
    """What the file says of its making, enough to repeat it."""
    skipped = (
        *("output", "uncertainty", "seconds", "width", "height", "bands", "tiles"),
        "resumed_rows",
    )
    said = asdict(result).items()
    tags = {key: str(value) for key, value in said if key not in skipped and value is not None}
    tags["pan"] = os.path.basename(pan)
    tags["ms"] = ", ".join(os.path.basename(name) for name in _listed(ms))
    return tags


def _listed(ms: str | Sequence[str]) -> list[str]:
    return [ms] if isinstance(ms, str) else list(ms)


def _side_file(
    plan: FusePlan,
    output: str,
    provenance: dict[str, str],
    names: list[str],
    mosaics: Sequence[Mosaic],
    tell: Callable[[str], None],
) -> SideFile | None:
    """Where finished rows are kept; None where another run could not be sure that they are its own."""
    from .raster.side_file import SideFile

    layouts = [mosaic.layout for mosaic in mosaics]
    job = job_fingerprint(plan, provenance, names, layouts)
    if job is None:
        tell(
            "Finished rows are not kept, since nobody can tell later whether the inputs are still the same: if this"
            " run is interrupted, the next one starts over."
        )
        return None
    return SideFile(
        output,
        job,
        plan.window.height,
        layouts,
        needed=lambda: sum(mosaic.space_needed for mosaic in mosaics),
        tell=tell,
    )


def _resume(
    plan: FusePlan,
    side_file: SideFile,
    mosaics: Sequence[Mosaic],
    compute: Callable[[FusePlan, None], None],
    stop: Callable[[], bool],
    tell: Callable[[str], None],
) -> tuple[int, int]:
    """Put into the mosaics what an interrupted run finished, and what is above it; tiles of the job then, and rows."""
    tiles = plan.tiles

    def put(row: int, blocks: list[np.ndarray]) -> None:
        if stop():
            raise Cancelled
        if row and row == side_file.first:
            compute(replace(plan, tiles=replace(tiles, rows=tiles.rows.up_to(row))), None)
        for mosaic, block in zip(mosaics, blocks):
            mosaic.restore(row, block)

    rows = side_file.restore(put)
    if not rows:
        return tiles.count, 0
    tell(f"Resuming: {rows:,} of {plan.window.height:,} rows were finished by an interrupted run.")
    strips = tiles.rows.last + 1 - tiles.rows.first_after(side_file.rows)
    if side_file.first:
        strips += tiles.rows.up_to(side_file.first).count
    return strips * tiles.cols.count, rows


def _mosaic(
    plan: FusePlan,
    path: str,
    dtype: str,
    like_ms: bool,
    options: Sequence[str],
    provenance: dict[str, str],
) -> Mosaic:
    from .raster.mosaic import Mosaic

    scene = plan.scene
    return Mosaic(
        path,
        window=plan.window,
        scene=scene,
        bands=scene.ms_bands,
        dtype=dtype,
        nodata=scene.nodata,
        band_names=scene.band_names,
        creation_options=options,
        metadata=provenance,
        like_ms=like_ms,
    )
