"""An archive of scenes, fused one after another; what is done stays done when the run ends early."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import Cancelled, FusionError
from .fuse import fuse
from .raster.file_lock import try_lock

if TYPE_CHECKING:
    from .execution.dask_connection import Connection

_REQUIRED = ("pan", "ms", "output")
_FILES = ("pan", "output", "uncertainty")
_TEXTS = (
    *("method", "model", "bands", "extent_crs", "solver", "grid", "device", "precision"),
    *("data_type", "executor", "python", "cluster"),
)
_NUMBERS = ("steps", "seed", "samples", "batch_size", "threads")
COLUMNS = (*_REQUIRED, "uncertainty", *_TEXTS, *_NUMBERS, "extent", "creation_options")
"""What the table may have: the parameters of ``fuse`` that belong to a scene."""


@dataclass(frozen=True)
class Scene:
    """A line of the table.

    Attributes:
        name: the output as the table writes it.
        line: its number in the file.
        job: arguments of ``fuse``, paths resolved.
    """

    name: str
    line: int
    job: dict[str, object]

    def fingerprint(self) -> str:
        """SHA-256 of the arguments and of size and time of the input files: another one means to fuse again."""
        job = self.job
        files = [job["pan"], *job["ms"], job.get("model", "")]
        stamps = [_stamp(str(name)) for name in files]
        # How it is computed does not change the pixels.
        means = ("executor", "python", "cluster", "threads", "batch_size")
        meant = {name: value for name, value in job.items() if name not in means}
        return hashlib.sha256(json.dumps([meant, stamps], sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class SceneReport:
    """What became of a scene.

    Attributes:
        scene: its name, the output as the table writes it.
        state: "finished", "skipped" (finished in an earlier run), "failed" or "waiting" (not reached).
        seconds: wall clock, of the run that finished it.
        width, height, bands: of the output, 0 where there is none.
        size: bytes of the output.
        error: the sentence of a failure.
    """

    scene: str
    state: str
    seconds: float = 0.0
    width: int = 0
    height: int = 0
    bands: int = 0
    size: int = 0
    error: str = ""


@dataclass(frozen=True)
class BatchResult:
    """What became of the archive.

    Attributes:
        scenes: one report for each, in the table's order.
        seconds: wall clock of this run.
        interrupted: it was told to end before the last scene, or lost the cluster.
    """

    scenes: tuple[SceneReport, ...]
    seconds: float
    interrupted: bool

    def count(self, state: str) -> int:
        """Scenes in a state."""
        return sum(scene.state == state for scene in self.scenes)

    def as_dict(self) -> dict[str, object]:
        """As JSON can hold it: counts, and the failures with their sentences."""
        states = ("finished", "skipped", "failed", "waiting")
        failures = {scene.scene: scene.error for scene in self.scenes if scene.state == "failed"}
        return {
            **{state: self.count(state) for state in states},
            "failures": failures,
            "seconds": self.seconds,
            "interrupted": self.interrupted,
        }


def read_jobs(
    path: str | os.PathLike[str], defaults: Mapping[str, object] | None = None
) -> list[Scene]:
    """Read the table of scenes.

    Args:
        path: csv with the columns pan, ms (several files separated by ;) and output, and any others of ``COLUMNS``;
            paths are relative to its folder, empty cells mean the default.
        defaults: arguments of ``fuse`` for scenes whose line does not give them.

    Raises:
        FusionError: it cannot be read, lacks a column or has one that nobody knows, a cell is no number where one is
            needed, or two scenes have the same output.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FusionError(f"{path} cannot be read as a csv table ({error}).") from error
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        raise FusionError(f"{path} lacks the column {missing[0]}: it needs {', '.join(_REQUIRED)}.")
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise FusionError(
            f"{path} has a column {unknown[0]!r} that nobody knows: use {', '.join(COLUMNS)}."
        )
    scenes = [_scene(path, line, row, defaults or {}) for line, row in rows]
    if not scenes:
        raise FusionError(f"{path} has no scene: write one line for each.")
    outputs: dict[str, int] = {}
    for scene in scenes:
        for name in ("output", "uncertainty"):
            written = scene.job.get(name)
            if written is None:
                continue
            before = outputs.setdefault(os.path.normcase(str(written)), scene.line)
            if before != scene.line:
                raise FusionError(
                    f"{path}, lines {before} and {scene.line}, write the same file {written}: choose two names."
                )
    return scenes


def run_batch(
    path: str | os.PathLike[str],
    *,
    report: str | os.PathLike[str] | None = None,
    defaults: Mapping[str, object] | None = None,
    tell: Callable[[str], None] | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> BatchResult:
    """Fuse all scenes of a table that are not done yet.

    Beside the table grows ``<table>.state``, one line of JSON for each scene that was finished or failed.  A scene is
    skipped if it finished with the same arguments and the same input files, and its outputs are there.  A scene that
    fails does not stop the others, unless the cluster is gone that all of them need, and is tried again by the next run.

    Args:
        path: the table, see ``read_jobs``.
        report: csv to write in the end, one line for each scene; ``<table>.report.csv`` if None.
        defaults: see ``read_jobs``.
        tell: told of each scene, a line each.
        progress: told the share of the scene at work.
        cancelled: asked often; when it says True the scene at work leaves no file and the run ends.

    Raises:
        FusionError: the table cannot be used, another run is at work on it, state or report cannot be written, or the
            cluster does not answer.
    """
    started, tell = time.monotonic(), tell or (lambda line: None)
    scenes = read_jobs(path, defaults)
    reports = [SceneReport(scene.name, "waiting") for scene in scenes]
    stopped = False
    with _held_cluster(defaults or {}) as cluster, _State(path, tell) as state:
        try:
            for index, scene in enumerate(scenes):
                fingerprint = scene.fingerprint()
                known = state.finished.get(scene.name)
                if known is not None and known[0] == fingerprint and _outputs_stand(scene):
                    reports[index] = replace(known[1], state="skipped")
                    continue
                tell(f"{index + 1} of {len(scenes)}: {scene.name}")
                reports[index] = _fuse_scene(scene, tell, progress, cancelled)
                if reports[index].state == "failed":
                    tell(f"Failed: {reports[index].error}")
                state.add(fingerprint, reports[index])
                if cluster is not None and cluster.lost:
                    stopped = True
                    break
        except (KeyboardInterrupt, Cancelled):
            stopped = True
        result = BatchResult(tuple(reports), round(time.monotonic() - started, 3), stopped)
        write_report(report or f"{os.fspath(path)}.report.csv", result.scenes)
    return result


def write_report(path: str | os.PathLike[str], scenes: Sequence[SceneReport]) -> None:
    """Write one line for each scene.

    Raises:
        FusionError: nothing can be written there.
    """
    partial = Path(f"{os.fspath(path)}.partial")
    try:
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(asdict(scenes[0])))
            writer.writeheader()
            writer.writerows(asdict(scene) for scene in scenes)
        partial.replace(path)
    except OSError as error:
        raise FusionError(f"The report {path} cannot be written ({error.strerror}).") from error


def _fuse_scene(
    scene: Scene,
    tell: Callable[[str], None],
    progress: Callable[[float], None] | None,
    cancelled: Callable[[], bool] | None,
) -> SceneReport:
    started = time.monotonic()
    job = dict(scene.job)
    pan, ms, output = job.pop("pan"), job.pop("ms"), job.pop("output")
    try:
        done = fuse(
            pan,
            ms[0] if len(ms) == 1 else ms,
            output,
            progress=progress,
            cancelled=cancelled,
            **job,
        )
    except Cancelled:
        raise
    except Exception as error:  # whatever is wrong with one scene, the others are fused
        sentence = (
            str(error) if isinstance(error, FusionError) else f"{type(error).__name__}: {error}"
        )
        seconds = round(time.monotonic() - started, 3)
        return SceneReport(scene.name, "failed", seconds, error=sentence)
    if done.resumed_rows:
        tell(f"{done.resumed_rows:,} of {done.height:,} rows were finished by an interrupted run.")
    size = os.path.getsize(done.output)
    return SceneReport(
        scene.name, "finished", done.seconds, done.width, done.height, done.bands, size
    )


class _State:
    """What earlier runs finished, and where this one adds what it does, scene by scene; closed at the end of a ``with``.

    Args:
        table: the file of the scenes.
        tell: told where nobody can find out that the table is in use.

    Raises:
        FusionError: another run has it open, or it cannot be written.
    """

    def __init__(self, table: str | os.PathLike[str], tell: Callable[[str], None]) -> None:
        self.path = Path(f"{os.fspath(table)}.state")
        self.finished: dict[str, tuple[str, SceneReport]] = {}
        try:
            self._file = self.path.open("a+", encoding="utf-8")
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            self._lock(table, tell)
            self._read()
        except BaseException:
            self._file.close()
            raise

    def add(self, fingerprint: str, found: SceneReport) -> None:
        """Remember what became of a scene, on the disk before the next one starts."""
        self._append(json.dumps({"fingerprint": fingerprint, **asdict(found)}) + "\n")

    def __enter__(self) -> _State:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def _lock(self, table: str | os.PathLike[str], tell: Callable[[str], None]) -> None:
        try:
            locked = try_lock(self._file.fileno())
        except OSError:
            tell(f"{self.path} cannot be locked where it is: let no other run use the same table.")
            return
        if not locked:
            raise FusionError(
                f"Another run is at work on {os.fspath(table)}: wait for it, or give each run a table of its own."
            )

    def _read(self) -> None:
        self._file.seek(0)
        torn = False
        for line in self._file.read().splitlines():
            try:
                entry = json.loads(line)
                fingerprint = entry.pop("fingerprint")
                found = SceneReport(**entry)
            except (ValueError, KeyError, TypeError, AttributeError):
                # The line that was being written when the machine went down.
                torn = True
                continue
            if found.state == "finished":
                self.finished[found.scene] = (fingerprint, found)
            else:
                self.finished.pop(found.scene, None)
        if torn:
            self._append("\n")

    def _append(self, text: str) -> None:
        try:
            self._file.write(text)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> FusionError:
        return FusionError(
            f"{self.path} cannot be written ({error.strerror}): move the table to a folder where it can."
        )


def _held_cluster(
    defaults: Mapping[str, object],
) -> AbstractContextManager[Connection | None]:
    """The connection to the cluster of the whole run, so that models stay on its workers from scene to scene."""
    cluster = defaults.get("cluster")
    if cluster is None or defaults.get("executor") == "worker":
        return nullcontext()
    from .execution.dask_connection import connect

    return connect(str(cluster))


def _scene(path: Path, line: int, row: dict, defaults: Mapping[str, object]) -> Scene:
    # DictReader collects what is beyond the columns under None.
    if None in row:
        raise FusionError(
            f"{path}, line {line}, has more cells than the table has columns: put texts with commas in quotes."
        )
    cells = {name: (value or "").strip() for name, value in row.items()}
    cells = {name: value for name, value in cells.items() if value}
    for name in _REQUIRED:
        if name not in cells:
            raise FusionError(f"{path}, line {line}, has no {name}.")
    job: dict[str, object] = dict(defaults)
    for name, text in cells.items():
        job[name] = _value(path, line, name, text)
    return Scene(cells["output"], line, job)


def _value(path: Path, line: int, name: str, text: str) -> object:
    """A cell as an argument of ``fuse``."""
    try:
        if name in _NUMBERS:
            return int(text)
        if name == "extent":
            xmin, ymin, xmax, ymax = (float(part) for part in text.split(","))
            return xmin, ymin, xmax, ymax
    except ValueError:
        wanted = "a whole number" if name in _NUMBERS else "xmin,ymin,xmax,ymax"
        raise FusionError(f"{path}, line {line}: {name} is {text}, give {wanted}.") from None
    if name == "ms":
        return [_located(path, part.strip()) for part in text.split(";") if part.strip()]
    if name == "creation_options":
        return [part.strip() for part in text.split("|") if part.strip()]
    if name in _FILES or (name == "model" and text.endswith(".safetensors")):
        return _located(path, text)
    return text


def _located(path: Path, name: str) -> str:
    """A path relative to the table's folder; other names that GDAL reads stay as they are."""
    if os.path.isabs(name) or name.startswith("/vsi") or ":" in name:
        return name
    return str(path.resolve().parent / name)


def _outputs_stand(scene: Scene) -> bool:
    wanted = (scene.job["output"], scene.job.get("uncertainty"))
    return all(os.path.isfile(str(name)) for name in wanted if name is not None)


def _stamp(name: str) -> list[int] | None:
    try:
        found = os.stat(name)
    except OSError:
        # An installed model's id, or something inside an archive.
        return None
    return [found.st_size, found.st_mtime_ns]
