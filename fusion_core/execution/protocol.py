"""Messages between QGIS and the child process that runs torch.

A message is one line of JSON, then the bytes of its arrays one after another.  The line names the arrays, their shapes
and types; nothing is pickled, so neither side can make the other run code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np

LONGEST_LINE = 1 << 20
_TYPES = ("float32", "int64", "uint8", "bool")


def write_message(
    stream: BinaryIO, content: Mapping[str, object], arrays: Mapping[str, np.ndarray] | None = None
) -> None:
    """Send one message.

    Args:
        stream: binary, writable.
        content: what JSON can hold.
        arrays: float32, int64, uint8 or bool arrays by name.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in (arrays or {}).items()}
    layout = {name: [str(array.dtype), list(array.shape)] for name, array in arrays.items()}
    stream.write(json.dumps({"content": dict(content), "arrays": layout}).encode() + b"\n")
    for array in arrays.values():
        stream.write(memoryview(array).cast("B") if array.size else b"")
    stream.flush()


def read_message(stream: BinaryIO) -> tuple[dict, dict[str, np.ndarray]] | None:
    """Receive one message; None at the end of the stream.

    Raises:
        ValueError: the stream holds something else than messages.
        EOFError: the stream ended within a message.
    """
    line = stream.readline(LONGEST_LINE)
    if not line:
        return None
    try:
        header = json.loads(line)
        content, layout = header["content"], header["arrays"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError("not a message") from error
    return content, {name: _read_array(stream, *entry) for name, entry in layout.items()}


def _read_array(stream: BinaryIO, dtype: str, shape: list[int]) -> np.ndarray:
    if dtype not in _TYPES:
        raise ValueError(f"arrays of {dtype} do not travel")
    array = np.empty(shape, dtype=dtype)
    view = memoryview(array).cast("B") if array.size else memoryview(b"")
    received = 0
    while received < len(view):
        count = stream.readinto(view[received:])
        if not count:
            raise EOFError("the stream ended within an array")
        received += count
    return array
