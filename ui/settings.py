"""What the user sets once, kept in the QGIS profile."""

from __future__ import annotations

from qgis.core import QgsSettings

_GROUP = "diffusion_pansharpening"


def interpreter() -> str:
    """Path of the Python interpreter that has PyTorch; empty where the plugin looks for one."""
    return str(QgsSettings().value(f"{_GROUP}/interpreter", "") or "").strip()


def set_interpreter(path: str) -> None:
    """Remember the interpreter; empty makes the plugin look for one again."""
    QgsSettings().setValue(f"{_GROUP}/interpreter", path.strip())


def threads() -> int:
    """How many processor threads a run may use; 0 leaves it to PyTorch."""
    try:
        return max(0, int(QgsSettings().value(f"{_GROUP}/threads", 0)))
    except (TypeError, ValueError):
        return 0


def set_threads(count: int) -> None:
    """Remember the number of threads."""
    QgsSettings().setValue(f"{_GROUP}/threads", int(count))
