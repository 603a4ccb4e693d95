"""``python -m fusion_core``: hands over to the interpreter that ``make setup`` made where this one lacks packages."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

NEEDED = ("numpy", "osgeo", "torch", "safetensors", "pywt")


def _main() -> int:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    prepared = Path(__file__).resolve().parent.parent / ".venv" / "bin" / "python"
    if missing and prepared.exists() and Path(sys.prefix) != prepared.parent.parent:
        print(f"This Python lacks {', '.join(missing)}; using {prepared}", file=sys.stderr)
        sys.stderr.flush()
        os.execv(  # nosec B606 # no shell; the interpreter of this checkout
            prepared, [str(prepared), "-m", "fusion_core", *sys.argv[1:]]
        )
    try:
        from .command_line import end_when_told, main
        from .execution.allocator import keep_freed_memory
    except ModuleNotFoundError as error:
        print(
            f"Error: This Python lacks {error.name}: run make setup, or install GDAL's bindings, torch, "
            "safetensors and pywavelets for it.",
            file=sys.stderr,
        )
        return 1
    end_when_told()
    keep_freed_memory()
    return main()


if __name__ == "__main__":
    sys.exit(_main())
