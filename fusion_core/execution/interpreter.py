"""Finding a Python interpreter that has torch, without importing torch."""

from __future__ import annotations

import os
import subprocess  # nosec B404 # runs interpreters to ask them for their packages
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from ..errors import FusionError

VARIABLE = "DIFFUSION_PANSHARPENING_PYTHON"
PACKAGES = ("torch", "numpy", "pywt", "safetensors")
INSTALLED = "torch safetensors pywavelets llvmlite"
"""What pip is to install; llvmlite is not needed but makes SSDiff on the CPU twice as fast."""
INSTALL = f"python -m pip install {INSTALLED}"
_ASK_SECONDS = 20
_QUESTION = (
    "import importlib.util as u, sys; "
    f"print(' '.join(p for p in {PACKAGES!r} if u.find_spec(p) is None) or 'complete')"
)


def find_interpreter(preferred: str | None = None) -> str:
    """The interpreter to compute with.

    Args:
        preferred: the user's choice; used or refused, never replaced in silence.

    Returns:
        The first complete one of: the user's choice, the one named by the environment variable
        DIFFUSION_PANSHARPENING_PYTHON, ``.venv`` beside this package, the Python of the running program.

    Raises:
        FusionError: the user's choice lacks a package, or none is complete.
    """
    chosen = preferred or os.environ.get(VARIABLE)
    if chosen:
        missing = missing_packages(chosen)
        if missing is None:
            raise FusionError(
                f"{chosen} is not a Python interpreter that runs: choose another in the settings."
            )
        if missing:
            raise FusionError(
                f"The Python interpreter {chosen} lacks {', '.join(missing)}: install with {INSTALL}, "
                "or choose another interpreter in the settings."
            )
        return chosen
    for candidate in _candidates():
        if missing_packages(candidate) == ():
            return candidate
    raise FusionError(
        f"PyTorch was not found in any Python known here: install it with {INSTALL}, "
        "then choose that interpreter in the settings."
    )


@lru_cache(maxsize=32)
def missing_packages(python: str) -> tuple[str, ...] | None:
    """Which packages an interpreter lacks; None if it does not run."""
    try:
        answer = subprocess.run(  # nosec B603 # no shell; asks an interpreter the user chose or that we found
            [python, "-c", _QUESTION],
            capture_output=True,
            text=True,
            timeout=_ASK_SECONDS,
            env=clean_environment(),
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            check=True,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    words = answer.stdout.split()
    return () if words == ["complete"] else tuple(words)


def clean_environment() -> dict[str, str]:
    """This process's environment without what ties a child to this interpreter's own packages."""
    tied = ("PYTHONHOME", "PYTHONPATH", "PYTHONEXECUTABLE", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in tied}


def _candidates() -> Iterator[str]:
    root = Path(__file__).resolve().parents[2]
    for name in ("bin/python", "Scripts/python.exe"):
        python = root / ".venv" / name
        if python.exists():
            yield str(python)
    # Inside QGIS sys.executable may be QGIS itself; its Python then stands beside the standard library.
    if "python" in os.path.basename(sys.executable or "").lower():
        yield sys.executable
    for name in ("python3", "python.exe", "bin/python3"):
        python = Path(sys.exec_prefix) / name
        if python.exists():
            yield str(python)
    # On a Mac it may be a stub that asks to install the developer tools.
    if sys.platform.startswith("linux"):
        yield "/usr/bin/python3"
