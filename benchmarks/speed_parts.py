"""One part of ``benchmarks/speed.py``, in a process of its own; prints its figures as JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.both_ways import quality
from benchmarks.measuring import keep_to_cores, machine
from benchmarks.peak_memory import WAYS, affordable_tiles, peak_memory
from benchmarks.published.sampling import BATCH
from benchmarks.scenes import DATA
from benchmarks.timed_calls import timed_calls
from benchmarks.timed_jobs import timed_jobs
from fusion_core.execution.allocator import keep_freed_memory


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        tiles: of SSDiff's one call.
        image: PAN pixels of DDRF's one call and of the whole job, along a side.
        call_rounds, job_rounds: how often every way runs.
        batch: tiles of the published SSDiff that stand for its whole job.
        memory: tiles of the batch whose memory counts.
        scene: PAN pixels along a side of the scene that is judged where no real one is at hand.
    """

    tiles: int = 4
    image: int = 256
    call_rounds: int = 9
    job_rounds: int = 3
    batch: int = BATCH
    memory: int = 64
    scene: int = 144


QUICK = Sizes(tiles=2, image=64, call_rounds=1, job_rounds=1, batch=1, memory=4, scene=64)


def main(arguments: list[str] | None = None) -> int:
    """Measure a part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("machine", "calls", "jobs", "memory", "quality"))
    parser.add_argument(
        "--raised", action="store_true", help="keep freed memory, as our worker does"
    )
    parser.add_argument("--way", choices=WAYS, help="whose memory")
    parser.add_argument("--tiles", type=int, help="of memory's batch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the scenes")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    options = parser.parse_args(arguments)
    if options.raised and not keep_freed_memory():
        print("The C library is not glibc: its allocator cannot be told.", file=sys.stderr)
        return 1
    threads = keep_to_cores(options.threads)
    torch.set_num_threads(threads)
    sizes = QUICK if options.quick else Sizes()
    if options.part == "machine":
        figures = {
            "machine": machine(),
            "threads": threads,
            "load": round(os.getloadavg()[0], 1),
            "memory": sizes.memory,
            "affordable": affordable_tiles(sizes.memory),
        }
    elif options.part == "calls":
        figures = timed_calls(sizes.tiles, sizes.image, sizes.call_rounds, threads)
    elif options.part == "jobs":
        figures = timed_jobs(sizes.image, sizes.batch, sizes.job_rounds, threads)
    elif options.part == "memory":
        figures = {"bytes": peak_memory(options.way, options.tiles, threads)}
    else:
        figures = quality(options.data, sizes.scene, threads)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
