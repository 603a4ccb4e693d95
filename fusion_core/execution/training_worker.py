"""The child process that trains for a program that must not import torch.

Started as ``python training_worker.py`` by ``training_process``; speaks ``protocol`` on its standard input and output, and
ends when its input does.
"""

from __future__ import annotations

import queue
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

STARTED = time.monotonic()

# The script's own folder comes first otherwise, and its modules would pass for top-level ones.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from fusion_core.errors import Cancelled  # noqa: E402
from fusion_core.execution.protocol import write_message  # noqa: E402
from fusion_core.execution.serving import error_message, open_streams  # noqa: E402
from fusion_core.execution.training_messages import (  # noqa: E402
    progress_message,
    read_job,
    read_scene,
    report_message,
)
from fusion_core.training_job import TrainingJob  # noqa: E402


def main() -> None:
    """Take the scenes and the job, and train."""
    inbox, answers = open_streams()
    scenes = []
    while True:
        content, arrays = inbox.get()
        if content["type"] == "scene":
            scenes.append(read_scene(content, arrays))
        elif content["type"] == "train":
            _train(read_job(content, scenes), content["output"], inbox, answers)


def _train(job: TrainingJob, output: str, inbox: queue.Queue, answers: BinaryIO) -> None:
    try:
        # Imported late, so that a missing package is told like any other error.
        from fusion_core.training.job import run_training

        # Importing torch took of the time that the user gave.
        spent = job.seconds_spent + time.monotonic() - STARTED
        report = run_training(
            replace(job, seconds_spent=spent),
            output,
            progress=lambda told: write_message(answers, *progress_message(told)),
            cancelled=_listen(inbox, answers),
        )
        write_message(answers, *report_message(report))
    except Cancelled:
        write_message(answers, {"type": "cancelled"})
    except Exception as error:  # the parent must learn of anything, in one sentence
        write_message(answers, error_message(error))


def _listen(inbox: queue.Queue, answers: BinaryIO) -> Callable[[], bool]:
    """What training asks whether it shall stop; the parent is told once that it knows."""
    told = []

    def cancelled() -> bool:
        if not told and not inbox.empty() and inbox.get()[0]["type"] == "cancel":
            told.append(True)
            write_message(answers, {"type": "stopping"})
        return bool(told)

    return cancelled


if __name__ == "__main__":
    main()
