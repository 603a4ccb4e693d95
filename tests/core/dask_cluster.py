"""A Dask cluster of real processes on this computer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120


class DaskCluster:
    """A scheduler and workers of one thread each; ``workers`` holds their processes by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workers: dict[str, subprocess.Popen] = {}
        file = folder / "scheduler.json"
        self.scheduler = self._start(
            "dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", file
        )
        end = time.monotonic() + PATIENCE
        while not (file.exists() and file.read_text().rstrip().endswith("}")):
            if time.monotonic() > end or self.scheduler.poll() is not None:
                self.stop()
                raise RuntimeError("the scheduler does not start")
            time.sleep(0.05)
        self.address = json.loads(file.read_text())["address"]

    def add_worker(self, name: str, *options: str, **environment: str) -> subprocess.Popen:
        """Start a worker; it joins when it is ready."""
        self.workers[name] = self._start(
            "dask_worker",
            *(self.address, "--name", name, "--nthreads", "1", "--no-nanny"),
            *("--local-directory", self.folder, *options),
            **environment,
        )
        return self.workers[name]

    def stop(self) -> None:
        """End all processes."""
        for process in (*self.workers.values(), self.scheduler):
            process.kill()
            process.wait()

    def _start(self, module: str, *options: object, **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", f"distributed.cli.{module}"),
                *(*map(str, options), "--no-dashboard"),
            ],
            cwd=environment.pop("cwd", ROOT),
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
