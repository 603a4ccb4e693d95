"""A whole scene the published way and by ``fuse`` with the installed models at their default steps."""

from __future__ import annotations

import subprocess  # nosec B404
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.eight_bands import BANDS, METHODS, published_network, shipped_model
from benchmarks.measuring import alternate
from benchmarks.published import DDRF_STEPS, SSDIFF_STEPS
from benchmarks.published_jobs import JobSample, planned, sample_scene, scaled_scene
from benchmarks.scenes import ROOT
from benchmarks.timed_calls import compared, with_threads
from fusion_core.fuse import fuse
from fusion_core.weights import ModelFile


def timed_jobs(size: int, batch: int, rounds: int, threads: int) -> dict[str, dict[str, object]]:
    """Figures of whole jobs on a synthetic scene.

    Args:
        size: PAN pixels of the scene along a side.
        batch: tiles of the published SSDiff that are timed; the whole job is extrapolated from them.
        rounds: how often both ways run.
        threads: CPU threads.
    """
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        pan, ms, _ = sample_scene(Path(folder), size, BANDS)
        output = str(Path(folder) / "fused.tif")
        for name, method in METHODS.items():
            model = shipped_model(method)
            with planned(pan, ms, model) as plan:
                sample = JobSample(model, published_network(model), scaled_scene(plan), batch)
            job = _Job(pan, ms, output, model, threads)
            seconds = alternate(
                {
                    "baseline": with_threads(threads, sample.run),
                    "fuse": job.run,
                    "cold": job.run_in_new_process,
                },
                rounds,
                warm=False,
            )
            whole = [taken / sample.share for taken in seconds["baseline"]]
            about = {
                "model": model.card.id,
                "share": sample.share,
                "baseline runs": sample.runs,
                "baseline calls": SSDIFF_STEPS if method == "ssdiff" else DDRF_STEPS,
                "runs": job.result.tiles,
                "calls": job.result.steps,
                "precision": job.result.precision,
            }
            for side, taken in (
                ("executor started", job.started),
                ("executor not started", seconds["fuse"]),
                ("cold process", seconds["cold"]),
            ):
                rows[f"{name}, {side}"] = {**compared(whole, taken), **about}
    return rows


class _Job:
    """One of our jobs, to be run several times.

    Attributes:
        started: seconds of each run without those that building the executor took.
        result: of the last run.
    """

    def __init__(self, pan: str, ms: str, output: str, model: ModelFile, threads: int) -> None:
        self.pan, self.ms, self.output = pan, ms, output
        self.model, self.threads = model, threads
        self.started: list[float] = []

    def run(self) -> None:
        """In this process."""
        begun = time.perf_counter()
        with planned(self.pan, self.ms, self.model):
            checked = time.perf_counter() - begun
        said: list[float] = []
        self.result = fuse(
            self.pan,
            self.ms,
            self.output,
            method=self.model.card.method,
            model=self.model.path,
            threads=self.threads,
            report=lambda line: said.append(time.perf_counter()),
        )
        # A job speaks first when its executor stands; before that it only checks the input.
        self.started.append(checked + time.perf_counter() - said[0])

    def run_in_new_process(self) -> None:
        """From the command line, with everything that starting Python and PyTorch takes."""
        command = [sys.executable, "-m", "fusion_core", "fuse", "--pan", self.pan, "--ms", self.ms]
        command += ["--output", self.output, "--threads", str(self.threads)]
        command += ["--method", self.model.card.method, "--model", self.model.path]
        # Our own interpreter and package, arguments as a list, no shell.
        subprocess.run(command, check=True, cwd=ROOT, capture_output=True)  # nosec B603
