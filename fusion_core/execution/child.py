"""A command of ours run by another interpreter, for what the running program must not load itself."""

from __future__ import annotations

import json
import subprocess  # nosec B404 # the child is an interpreter the user chose
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import Cancelled, FusionError
from .interpreter import clean_environment

POLL_SECONDS = 0.1
_ROOT = Path(__file__).resolve().parents[2]


def run_command(
    python: str, arguments: Sequence[str], cancelled: Callable[[], bool] | None = None
) -> dict:
    """Run ``python -m fusion_core`` with arguments and give back its JSON results.

    Args:
        python: interpreter, as ``interpreter.find_interpreter`` gives it.
        arguments: command and options, without ``--json``.
        cancelled: asked ten times a second; the child is killed when it says True.

    Raises:
        FusionError: the interpreter does not start, or the sentence that the command gave as its error.
        Cancelled: ``cancelled`` said so.
    """
    stop = cancelled or (lambda: False)
    try:
        process = subprocess.Popen(  # nosec B603 # no shell; the interpreter is the user's choice, the module ours
            [python, "-m", "fusion_core", *arguments, "--json"],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env={**clean_environment(), "PYTHONUTF8": "1"},
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except OSError as error:
        raise FusionError(
            f"The Python interpreter {python} cannot be started ({error.strerror}): choose another in the settings."
        ) from error
    try:
        while True:
            try:
                output, log = process.communicate(timeout=POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                if stop():
                    raise Cancelled from None
    except BaseException:
        process.kill()
        process.communicate()
        raise
    lines = log.strip().splitlines()
    if process.returncode != 0:
        last = lines[-1] if lines else "it left no message"
        if last.startswith("Error: "):
            raise FusionError(last.removeprefix("Error: "))
        raise FusionError(
            f"The computing process ended unexpectedly ({last}): try another interpreter in the settings."
        )
    return json.loads(output.splitlines()[-1])
