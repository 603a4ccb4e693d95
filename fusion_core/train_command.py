"""The command ``train``: adapt a model to one's own scenes, or train a general one on many sources."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from . import __version__
from .errors import FusionError
from .sensors import SENSORS
from .train import TrainingSource, train_model
from .training_job import Progress, prepare_training
from .weights import METHOD_TITLES, ModelCard


def add_train(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the command to the parser's."""
    command = commands.add_parser(
        "train",
        help="adapt a model to your scenes, or train one from scratch",
        description="With --pan and --ms: train on your own scenes, from an installed model unless told otherwise, "
        "judged on the quarter of each scene that training never sees; never worse than the base model. "
        "Without: train a general model on many sources, which needs --bands.",
    )
    command.set_defaults(command=_train)
    _add_common(command)
    _add_own_scenes(command.add_argument_group("your own scenes"))
    _add_sources(command.add_argument_group("many sources"))
    return command


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--method", choices=sorted(METHOD_TITLES), default="ssdiff")
    command.add_argument(
        "--bands",
        help="what the MS bands are, in the order of the files: Blue,Green,Red,NIR; with many sources the model's bands",
    )
    command.add_argument("--output", required=True, help="model file to write (.safetensors)")
    command.add_argument("--id", help="the model's id; the output's name by default")
    command.add_argument("--title", default="")
    command.add_argument(
        "--licence", default="", help="of the weights; the base model's by default"
    )
    command.add_argument(
        "--width",
        type=int,
        help="channels of the first level of a model without base; 32, with own scenes the shipped models'",
    )
    command.add_argument(
        "--base-model",
        help="model file to start from; with own scenes also auto (the default), none, or an installed model's id",
    )
    command.add_argument(
        "--iterations", type=int, help="length; 5000 with many sources if not given"
    )
    command.add_argument("--learning-rate", type=float)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument(
        "--device", help="auto, cpu, cuda, cuda:N, mps; with many sources the CPU by default"
    )
    command.add_argument("--precision", choices=("auto", "float32", "bfloat16"))
    command.add_argument("--threads", type=int, help="CPU threads")
    command.add_argument("--checkpoint", help="file to resume from and save to")


def _add_own_scenes(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--pan", action="append", help="PAN image; once for each scene")
    group.add_argument(
        "--ms",
        action="append",
        nargs="+",
        help="MS image, or one file for each band; once for each scene",
    )
    group.add_argument(
        "--mask",
        action="append",
        help="raster that is not 0 where not to train, such as clouds; once for each scene, or never",
    )
    group.add_argument(
        "--sensor", default="unknown", help=f"of the MS images: {', '.join(SENSORS)}"
    )
    group.add_argument("--minutes", type=float, help="time for everything, loading and judging too")
    group.add_argument(
        "--alternating",
        action="store_true",
        help="SSDiff: spectral and spatial phases in turn (L-BAF)",
    )
    group.add_argument("--patch", type=int, help="pixels of a patch's side")
    group.add_argument("--batch", type=int, help="patches a batch")
    group.add_argument("--report", help="page to write (.html)")


def _add_sources(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--ratio", type=int, default=4)
    group.add_argument(
        "--derive-bands",
        action="store_true",
        help="make bands below 1000 nm that an image lacks from its others",
    )
    for name, what in (
        ("--references", "MS images at the resolution to be restored; PAN is simulated"),
        ("--pairs", "folders with pan.tif and ms.tif"),
        ("--synthetic", "number of synthetic scenes"),
    ):
        group.add_argument(
            name,
            nargs="+",
            action="append",
            default=[],
            metavar=("WEIGHT", "PATH"),
            help=f"weight, then {what}",
        )
    group.add_argument("--validation-references", nargs="*", default=[], metavar="PATH")
    group.add_argument("--validation-pairs", nargs="*", default=[], metavar="FOLDER")
    group.add_argument("--validation-synthetic", type=int, default=0, metavar="COUNT")
    group.add_argument(
        "--stages",
        default="1:64:8",
        help="share of the training : patch size : batch size, comma separated, such as 0.7:32:32,1:64:8",
    )
    group.add_argument("--ema-decay", type=float, default=0.999)
    group.add_argument("--dropout", type=float, default=0.2)
    group.add_argument("--warm-up", type=int, default=200, help="iterations")
    group.add_argument("--validate-every", type=int, default=500, help="iterations")
    group.add_argument("--objective", default="x0", choices=("x0", "eps", "v"))
    group.add_argument("--self-conditioning", type=float, default=0.0)


def _train(parsed: argparse.Namespace) -> dict:
    if parsed.pan or parsed.ms:
        return _train_on_own_scenes(parsed)
    if not parsed.bands:
        raise FusionError("Many sources need --bands; your own scenes --pan and --ms: give either.")
    return _train_on_sources(parsed)


def _train_on_own_scenes(parsed: argparse.Namespace) -> dict:
    from .raster.partial import check_folder
    from .report_page import write_text
    from .train_report import training_page

    check_folder(parsed.report)
    pans, ms = parsed.pan or [], parsed.ms or []
    if len(pans) != len(ms):
        raise FusionError(
            f"There are {len(pans)} --pan and {len(ms)} --ms: give one of each for each scene."
        )
    job = prepare_training(
        [(pan, names[0] if len(names) == 1 else names) for pan, names in zip(pans, ms)],
        parsed.output,
        masks=parsed.mask or (),
        sensor=parsed.sensor,
        bands=parsed.bands,
        base_model=parsed.base_model or "auto",
        method=parsed.method,
        iterations=parsed.iterations,
        minutes=parsed.minutes,
        seed=parsed.seed,
        device=parsed.device or "auto",
        precision=parsed.precision or "auto",
        threads=parsed.threads,
        alternating=parsed.alternating,
        learning_rate=parsed.learning_rate,
        patch=parsed.patch,
        batch=parsed.batch,
        width=parsed.width,
        checkpoint=parsed.checkpoint,
        model=parsed.id or Path(parsed.output).stem,
        title=parsed.title,
        licence=parsed.licence,
    )
    from .training.job import run_training

    for note in (note for scene in job.scenes for note in scene.notes):
        print(note, file=sys.stderr)
    with _interruptible() as interrupted:
        report = run_training(job, parsed.output, _tell, lambda: bool(interrupted))
    if parsed.report:
        write_text(parsed.report, training_page(report, __version__))
    for name, figures in report.table.items():
        told = "  ".join(f"{metric} {value:.4f}" for metric, value in figures.items())
        print(f"{name:12} {told}", file=sys.stderr)
    if not parsed.json:
        print(f"{report.output}: {report.why}")
    return report.as_dict()


def _tell(progress: Progress) -> None:
    if progress.figures is not None:
        shown = ("SAM", "ERGAS", "Q2n")
        told = "  ".join(f"{name} {progress.figures[name]:.4f}" for name in shown)
        print(
            f"{progress.iteration}/{progress.iterations}  loss {progress.loss:.5f}  held-out quarter: {told}  "
            f"{progress.seconds_left / 60:.1f} min left",
            file=sys.stderr,
            flush=True,
        )


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """What the user sends to end the training, which then keeps its best; a second time it ends at once."""
    received: list[int] = []
    before = {}

    def note(number: int, frame: object) -> None:
        received.append(number)
        print("Ending with what is best so far; once more to end at once.", file=sys.stderr)
        for name, handler in before.items():
            signal.signal(name, handler)

    for name in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(name)
        if handler not in (signal.SIG_IGN, None):
            before[name] = signal.signal(name, note)
    try:
        yield received
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _train_on_sources(parsed: argparse.Namespace) -> dict:
    import torch

    from .execution.device import thread_count
    from .training.trainer import Stage, TrainingSettings

    sources = [
        TrainingSource(kind, _weight(given[0]), tuple(given[1:]))
        for kind in ("references", "pairs", "synthetic")
        for given in getattr(parsed, kind)
    ]
    validation = [
        TrainingSource(kind, 1.0, tuple(paths))
        for kind, paths in (
            ("references", parsed.validation_references),
            ("pairs", parsed.validation_pairs),
            (
                "synthetic",
                [str(parsed.validation_synthetic)] if parsed.validation_synthetic else [],
            ),
        )
        if paths
    ]
    settings = TrainingSettings(
        iterations=5000 if parsed.iterations is None else parsed.iterations,
        stages=_stages(parsed.stages, Stage),
        learning_rate=1e-3 if parsed.learning_rate is None else parsed.learning_rate,
        ema_decay=parsed.ema_decay,
        dropout=parsed.dropout,
        warm_up=parsed.warm_up,
        validate_every=parsed.validate_every,
        objective=parsed.objective,
        self_conditioning=parsed.self_conditioning,
        seed=parsed.seed,
        precision="bfloat16" if parsed.precision == "bfloat16" else "float32",
    )
    band_names = tuple(name.strip() for name in parsed.bands.split(","))
    card = ModelCard(
        id=parsed.id or Path(parsed.output).stem,
        method=parsed.method,
        title=parsed.title,
        ms_bands=len(band_names),
        guide_bands=1,
        ratio=parsed.ratio,
        band_names=band_names,
        options={"width": parsed.width or 32},
        tile=settings.stages[-1].patch,
        objective=parsed.objective,
        self_conditioning=parsed.self_conditioning > 0,
        licence=parsed.licence,
        training={
            "data": "; ".join(_described(source) for source in sources),
            "settings": json.dumps(asdict(settings)),
            "command": shlex.join(["python", "-m", "fusion_core", *sys.argv[1:]]),
        },
    )
    torch.set_num_threads(thread_count(parsed.threads))

    def tell(progress: Progress) -> None:
        judged = "" if progress.validation is None else f"  validation {progress.validation:.5f}"
        if judged or progress.iteration % 50 == 0:
            print(
                f"{progress.iteration}/{progress.iterations}  loss {progress.loss:.5f}"
                f"  {progress.seconds_left / 60:.1f} min left{judged}",
                flush=True,
            )

    result = train_model(
        parsed.output,
        method=parsed.method,
        band_names=band_names,
        ratio=parsed.ratio,
        sources=sources,
        validation=validation,
        settings=settings,
        card=card,
        base_model=parsed.base_model,
        derive_bands=parsed.derive_bands,
        checkpoint=parsed.checkpoint,
        device=parsed.device or "cpu",
        progress=tell,
    )
    return {
        "model": parsed.output,
        "iterations": result.iterations,
        "validation": result.best_validation,
        "seconds": round(result.seconds, 1),
    }


def _described(source: TrainingSource) -> str:
    """One source of training data in words, without folders that mean nothing elsewhere."""
    if source.kind == "synthetic":
        return f"{' '.join(source.paths)} synthetic scenes (weight {source.weight:g})"
    names = " ".join("/".join(Path(path).parts[-2:]) for path in source.paths)
    return f"{source.kind} {names} (weight {source.weight:g})"


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise FusionError(f"{text} is not a weight: give a number before the paths.") from None


def _stages(text: str, stage: type) -> tuple:
    try:
        parts = [part.split(":") for part in text.split(",")]
        return tuple(stage(float(until), int(patch), int(batch)) for until, patch, batch in parts)
    except ValueError:
        raise FusionError(
            f"The stages {text} are not share:patch:batch, comma separated."
        ) from None
