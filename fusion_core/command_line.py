"""The command line: ``python -m fusion_core fuse | batch | train | models | assess | reduce | import | sample-scene``."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict

from . import __version__
from .checkpoints import DETAIL_ORDERS, NORMALISATION, import_checkpoint
from .checkpoints import METHODS as CHECKPOINT_METHODS
from .errors import Cancelled, FusionError, Interrupted
from .sensors import SENSORS
from .train_command import add_train
from .weights import METHOD_TITLES, installed_models

_told_to_end = threading.Event()
_by_the_system = threading.Event()


def end_when_told() -> None:
    """Have this process tidy up before it ends where it is told to, not only at the keyboard.

    Only who presses Ctrl+C gives the work up; what a run can go on with it keeps otherwise.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # What is ignored stays so: nohup, and shells for what runs in the background, see to that.
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)


def _end(number: int, frame: object) -> None:
    # Remembered as well: compiled modules that are being imported swallow exceptions.
    _told_to_end.set()
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    _by_the_system.set()
    raise Interrupted


def _is_cancelled() -> bool:
    """Whether the user ended this command.

    Raises:
        Interrupted: the system did.
    """
    if _by_the_system.is_set():
        raise Interrupted
    return _told_to_end.is_set()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 after an error the user can act on, 130 after Ctrl+C."""
    parsed = _parser().parse_args(_joined_extent(sys.argv[1:] if arguments is None else arguments))
    try:
        result = parsed.command(parsed)
    except (KeyboardInterrupt, Cancelled):
        print(Cancelled(), file=sys.stderr)
        return 130
    except FusionError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    if parsed.json:
        print(json.dumps(result))
    return result.get("exit_code", 0)


def _joined_extent(arguments: Sequence[str]) -> list[str]:
    """The arguments with ``--extent`` and its value in one: argparse takes -71.5,42,... for an option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--extent":
            joined[-1] = f"--extent={argument}"
        else:
            joined.append(argument)
    return joined


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fusion_core", description="Diffusion pansharpening."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        _add_fuse,
        _add_batch,
        add_train,
        _add_models,
        _add_assess,
        _add_reduce,
        _add_import,
        _add_sample_scene,
    ):
        command = add(commands)
        command.add_argument(
            "--json", action="store_true", help="print one JSON line of results last"
        )
    return parser


def _add_fuse(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    command = commands.add_parser("fuse", help="fuse a PAN and an MS image")
    command.set_defaults(command=_fuse)
    command.add_argument("--method", choices=sorted(METHOD_TITLES), default="ssdiff")
    command.add_argument(
        "--model", default="auto", help="auto, an installed model's id, or a .safetensors file"
    )
    command.add_argument("--pan", required=True, help="PAN image, anything GDAL reads")
    command.add_argument(
        "--ms", required=True, nargs="+", help="MS image, or one file for each band"
    )
    command.add_argument(
        "--bands",
        help="names or wavelengths of the MS bands in the order of the file, such as Blue,Green,Red,NIR or "
        "480,550,660,835; what the image says by default",
    )
    command.add_argument("--output", required=True, help="fused image to write")
    command.add_argument(
        "--uncertainty",
        help="standard deviation of the samples to write (needs --samples 2 or more)",
    )
    command.add_argument(
        "--extent", help="xmin,ymin,xmax,ymax in PAN's coordinates; the whole overlap by default"
    )
    command.add_argument(
        "--extent-crs", help="the extent's coordinate system, such as EPSG:4326; PAN's by default"
    )
    command.add_argument(
        "--steps", type=int, help="network calls; the model's own number by default"
    )
    command.add_argument("--solver", help="ddim or dpm++2m; the model's own by default")
    command.add_argument("--grid", help="uniform or logsnr; the model's own by default")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--samples", type=int, default=1, help="samples to average")
    command.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:N, mps, or several: cuda:0,cuda:2"
    )
    command.add_argument("--precision", default="auto", help="auto, float32, bfloat16, float16")
    command.add_argument(
        "--data-type", default="ms", choices=("ms", "float32"), help="of the output"
    )
    command.add_argument("--batch-size", type=int, help="tiles computed at once")
    command.add_argument("--threads", type=int, help="CPU threads; one core stays free by default")
    command.add_argument("--executor", default="local", choices=("local", "worker", "dask"))
    command.add_argument("--python", help="interpreter of the worker")
    command.add_argument(
        "--cluster",
        help="Dask scheduler whose workers compute, such as tcp://host:8786 (docs/clusters.md)",
    )
    command.add_argument("--creation-options", nargs="*", default=(), metavar="KEY=VALUE")
    return command


def _fuse(parsed: argparse.Namespace) -> dict:
    from .fuse import fuse

    result = fuse(
        parsed.pan,
        parsed.ms,
        parsed.output,
        method=parsed.method,
        model=parsed.model,
        bands=parsed.bands,
        extent=_extent(parsed.extent),
        extent_crs=parsed.extent_crs,
        steps=parsed.steps,
        solver=parsed.solver,
        grid=parsed.grid,
        seed=parsed.seed,
        device=parsed.device,
        precision=parsed.precision,
        samples=parsed.samples,
        uncertainty=parsed.uncertainty,
        creation_options=parsed.creation_options,
        data_type=parsed.data_type,
        batch_size=parsed.batch_size,
        executor=parsed.executor,
        python=parsed.python,
        threads=parsed.threads,
        cluster=parsed.cluster,
        progress=_ProgressLine("fusing"),
        cancelled=_is_cancelled,
        report=lambda line: print(line, file=sys.stderr),
    )
    if not parsed.json:
        print(
            f"{result.output}: {result.width} x {result.height} x {result.bands} in {result.seconds:.1f} s"
        )
    return result.as_dict()


def _add_batch(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    command = commands.add_parser(
        "batch",
        help="fuse an archive of scenes; run again, it goes on where it stopped",
        description="Fuses the scenes of a csv table with the columns pan, ms (several files separated by ;), output "
        "and, if wanted, any parameter of fuse such as method, model, steps or seed. Paths are relative to the table. "
        "Scenes that are done are skipped, and one that fails does not stop the others; exit code 1 if any failed.",
    )
    command.set_defaults(command=_batch)
    command.add_argument("jobs", help="the table (.csv); JOBS.state beside it says what is done")
    command.add_argument("--report", help="csv to write; JOBS.report.csv by default")
    given = command.add_argument_group("for scenes whose line does not say it")
    given.add_argument("--method", choices=sorted(METHOD_TITLES))
    given.add_argument("--model")
    given.add_argument("--device")
    given.add_argument("--precision")
    given.add_argument("--executor", choices=("local", "worker", "dask"))
    given.add_argument("--python", help="interpreter of the worker")
    given.add_argument("--threads", type=int, help="CPU threads")
    given.add_argument("--cluster", help="Dask scheduler whose workers compute")
    return command


def _batch(parsed: argparse.Namespace) -> dict:
    from .batch import run_batch

    names = ("method", "model", "device", "precision", "executor", "python", "threads", "cluster")
    report = parsed.report or f"{parsed.jobs}.report.csv"
    result = run_batch(
        parsed.jobs,
        report=report,
        defaults={name: value for name in names if (value := getattr(parsed, name)) is not None},
        tell=lambda line: print(line, file=sys.stderr, flush=True),
        progress=_ProgressLine("fusing"),
        cancelled=_is_cancelled,
    )
    counts = result.as_dict()
    for name, error in counts["failures"].items():
        print(f"Failed: {name}: {error}", file=sys.stderr)
    if result.interrupted:
        print("Ended early: run it again to go on.", file=sys.stderr)
    if not parsed.json:
        states = ("finished", "skipped", "failed", "waiting")
        print(f"{', '.join(f'{counts[state]} {state}' for state in states)}; see {report}")
    code = 130 if result.interrupted else int(bool(counts["failures"]))
    return {**counts, "report": report, "exit_code": code}


def _extent(text: str | None) -> tuple[float, float, float, float] | None:
    if text is None:
        return None
    try:
        xmin, ymin, xmax, ymax = (float(part) for part in text.split(","))
    except ValueError:
        raise FusionError(
            f"The extent {text} is not xmin,ymin,xmax,ymax: give four numbers."
        ) from None
    return xmin, ymin, xmax, ymax


def _add_models(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    command = commands.add_parser("models", help="list the installed models")
    command.set_defaults(command=_models)
    return command


def _models(parsed: argparse.Namespace) -> dict:
    models = installed_models()
    if not parsed.json:
        for model in models:
            print(f"{model.card.summary}: {model.card.title}")
    return {"models": [asdict(model.card) | {"path": model.path} for model in models]}


def _add_assess(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    command = commands.add_parser(
        "assess", help="measure fused images against PAN and MS, a reference, or both"
    )
    command.set_defaults(command=_assess)
    command.add_argument("--fused", required=True, nargs="+", help="one or several fused images")
    command.add_argument("--pan", help="PAN image, for the metrics without reference")
    command.add_argument("--ms", nargs="+", help="MS image, or one file for each band")
    command.add_argument("--reference", help="true image, for the metrics with reference")
    command.add_argument(
        "--sensor", default="unknown", help=f"of the MS image: {', '.join(SENSORS)}"
    )
    command.add_argument(
        "--ratio", type=int, help="PAN pixels per MS pixel; that of PAN and MS, or 4 without them"
    )
    command.add_argument("--report", help="page to write (.html)")
    command.add_argument("--table", help="table to write (.csv)")
    return command


def _assess(parsed: argparse.Namespace) -> dict:
    from .assess import assess
    from .assess_report import report_page, report_table
    from .report_page import write_text

    found = assess(
        parsed.fused,
        parsed.pan,
        parsed.ms,
        parsed.reference,
        sensor=parsed.sensor,
        ratio=parsed.ratio,
        progress=_ProgressLine("assessing"),
    )
    if parsed.report:
        write_text(parsed.report, report_page(found, __version__))
    if parsed.table:
        write_text(parsed.table, report_table(found))
    if not parsed.json:
        for image in found.images:
            print(image.label)
            for name, value in image.figures.items():
                print(f"  {name} {value:.4f}")
    images = {image.label: image.figures for image in found.images}
    return {**found.images[0].figures, "images": images}


def _add_reduce(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    command = commands.add_parser(
        "reduce", help="make a pair at reduced resolution, for which the truth is known"
    )
    command.set_defaults(command=_reduce)
    command.add_argument("--pan", required=True, help="PAN image, anything GDAL reads")
    command.add_argument(
        "--ms", required=True, nargs="+", help="MS image, or one file for each band"
    )
    command.add_argument("--sensor", default="unknown", help=f"one of {', '.join(SENSORS)}")
    command.add_argument(
        "--ratio", type=int, help="by how much MS is reduced; the ratio of PAN and MS by default"
    )
    command.add_argument("--pan-reduced", required=True, help="PAN on the grid of MS, to write")
    command.add_argument("--ms-reduced", required=True, help="MS at reduced resolution, to write")
    command.add_argument("--reference", required=True, help="the truth, to write: MS as it is")
    return command


def _reduce(parsed: argparse.Namespace) -> dict:
    from .reduce import reduce_pair

    result = reduce_pair(
        parsed.pan,
        parsed.ms,
        parsed.pan_reduced,
        parsed.ms_reduced,
        parsed.reference,
        sensor=parsed.sensor,
        ratio=parsed.ratio,
        progress=_ProgressLine("reducing"),
    )
    if not parsed.json:
        print(f"{result.width} x {result.height} pixels at ratio {result.ratio}")
    return result.as_dict()


def _add_import(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    command = commands.add_parser(
        "import", help="make a model of a checkpoint of the published training codes"
    )
    command.set_defaults(command=_import)
    command.add_argument("--checkpoint", required=True, help="the checkpoint (.pth)")
    command.add_argument("--method", choices=CHECKPOINT_METHODS, default="auto")
    command.add_argument("--model", required=True, help="model file to write (.safetensors)")
    command.add_argument(
        "--bands", default="", help="MS band names in the order of training: Blue,Green,Red,NIR"
    )
    command.add_argument(
        "--ratio", type=int, help="PAN pixels per MS pixel, for DDRF; 4 by default"
    )
    command.add_argument("--detail-order", choices=DETAIL_ORDERS, default="auto")
    command.add_argument(
        "--normalisation",
        type=float,
        default=NORMALISATION,
        help="what images were divided by in training: 2047 for 11 bits, 1023 for 10",
    )
    return command


def _import(parsed: argparse.Namespace) -> dict:
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        raise FusionError(
            "This Python lacks PyTorch, which reads checkpoints: run make setup, or use another interpreter."
        ) from None
    names = [name.strip() for name in parsed.bands.split(",")]
    result = import_checkpoint(
        parsed.checkpoint,
        parsed.model,
        method=parsed.method,
        band_names=[name for name in names if name],
        ratio=parsed.ratio,
        detail_order=parsed.detail_order,
        normalisation=parsed.normalisation,
    )
    if not parsed.json:
        print(
            f"{result.model}: {METHOD_TITLES[result.method]}, {result.ms_bands} bands, ratio {result.ratio}"
        )
    return result.as_dict()


def _add_sample_scene(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    command = commands.add_parser(
        "sample-scene", help="make a synthetic PAN/MS pair with its reference"
    )
    command.set_defaults(command=_sample_scene)
    command.add_argument("--size", type=int, default=512, help="PAN pixels along each side")
    command.add_argument("--bands", type=int, default=4)
    command.add_argument("--ratio", type=int, default=4)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--pan", required=True)
    command.add_argument("--ms", required=True)
    command.add_argument("--reference", required=True)
    return command


def _sample_scene(parsed: argparse.Namespace) -> dict:
    from .raster.sample_scene_files import write_sample_scene
    from .sample_scene import make_sample_scene

    scene = make_sample_scene(parsed.size, parsed.bands, parsed.ratio, parsed.seed)
    write_sample_scene(scene, parsed.pan, parsed.ms, parsed.reference)
    return {"pan": parsed.pan, "ms": parsed.ms, "reference": parsed.reference}


class _ProgressLine:
    """Shows the share done on standard error, at most a few times a second, where that is a terminal."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.shown = 0.0

    def __call__(self, share: float) -> None:
        now = time.monotonic()
        if sys.stderr.isatty() and (share >= 1 or now - self.shown > 0.2):
            self.shown = now
            end = "\n" if share >= 1 else ""
            print(f"\r{self.what} {100 * share:5.1f} %", end=end, file=sys.stderr, flush=True)
