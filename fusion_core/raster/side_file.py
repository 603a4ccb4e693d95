"""Finished rows of a job on the disk, for the run that goes on where this one is interrupted."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import shutil
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import Interrupted
from .file_lock import is_at, try_lock

_FORMAT = "finished rows 1"
_LONGEST = 40
_LONGEST_HEAD = 4096

_HEAD = struct.Struct("<QQI")
"""Before each record's pixels: first row, number of rows, CRC-32 of the pixels; then the CRC-32 of these three."""
_SUM = struct.Struct("<I")

START_SECONDS = 10.0
"""Rows that are finished earlier are soon computed again, and not kept: a run that is as fast as the disk pays nothing."""

SYNC_SECONDS = 10.0
"""How much work a power failure may cost; what ends the process alone costs none."""

SPARE_BYTES = 1 << 26
"""What has to stay free on the disk beside what the outputs still need."""


@dataclass(frozen=True)
class RowLayout:
    """How an output stores a row.

    Attributes:
        bands: number of bands.
        width: pixels of a row.
        dtype: numpy dtype name.
    """

    bands: int
    width: int
    dtype: str

    @property
    def size(self) -> int:
        """Bytes of a row, all bands."""
        return self.bands * self.width * np.dtype(self.dtype).itemsize


class SideFile:
    """Rows of a job's outputs as they are stored, beside the first of them under a hidden name of its own.

    The name holds output and job, so that no run takes another job's rows for its own.  Whatever cannot be done - a full
    disk, a file system without locks, a second run of the same job - leaves the run without side file, and is told.

    A context manager: at its end the file is removed, unless the process was told to end; where the outputs are there,
    so is what runs of other jobs left.

    Attributes:
        path: of the file; there from the first row on that it holds.
        first: that row, counted from the outputs' first.
        rows: one past the last row that it holds, 0 if it holds none.
    """

    def __init__(
        self,
        target: str,
        job: str,
        height: int,
        layouts: Sequence[RowLayout],
        *,
        needed: Callable[[], int] = lambda: 0,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        """Touches nothing yet.

        Args:
            target: the first output.
            job: fingerprint of all that the pixels depend on, hexadecimal.
            height: rows of each output.
            layouts: of the outputs.
            needed: how many bytes the outputs still want of the same disk; asked before each row is kept.
            tell: told what the user should know, in a sentence.
        """
        folder, self._name = os.path.split(os.path.abspath(target))
        # Longer names are cut, and the same job may be computed for what begins alike.
        key = hashlib.sha256(f"{self._name}/{job}".encode("utf-8", "surrogateescape")).hexdigest()
        self.path = os.path.join(folder, f".{self._name[:_LONGEST]}.{key[:12]}.resume")
        head = {"format": _FORMAT, "output": self._name, "job": job}
        self._head = json.dumps(head).encode() + b"\n"
        self._height = height
        self._layouts = tuple(layouts)
        self._row_size = sum(layout.size for layout in self._layouts)
        self._needed = needed
        self._tell = tell or (lambda line: None)
        self._file: io.FileIO | None = None
        self._off = False
        self._begun = self._synced = time.monotonic()
        self._end = self._next = 0
        self.first = self.rows = 0

    def restore(self, put: Callable[[int, list[np.ndarray]], None]) -> int:
        """Hand over the rows that an interrupted run of the same job finished, as far as they are whole.

        Args:
            put: given the first row and, for each output, the pixels as they were stored, (bands, rows, width).  What
                it is given first need not be the outputs' first row; from there on no row is missing.

        Returns:
            How many rows were handed over.
        """
        if any(True for _ in self._rows_of_others()):
            self._tell(
                "An interrupted run of this image had other inputs, settings or software: its rows are not used."
            )
        if not self._open():
            return 0
        while (record := self._next_record()) is not None:
            row, count, pixels = record
            if not self.rows:
                self.first = row
            self.rows = self._next = row + count
            put(row, self._split(count, pixels))
        try:
            if self._file is not None:
                # A torn or corrupt end is written anew.
                self._file.truncate(self._end)
                self._file.seek(self._end)
        except OSError as error:
            self._do_without(error)
        return self.rows - self.first

    def add(self, row: int, blocks: Sequence[np.ndarray]) -> None:
        """Keep finished rows; they must come in order, without gaps.

        Args:
            row: the first row.
            blocks: for each output, the pixels as they are stored, (bands, rows, width).

        Raises:
            ValueError: the rows are not the next ones, or of another shape or type.
        """
        if self._off:
            return
        count = blocks[0].shape[1]
        wanted = [((layout.bands, count, layout.width), layout.dtype) for layout in self._layouts]
        given = [(block.shape, block.dtype.name) for block in blocks]
        if row != self._next or not 0 < count <= self._height - row or given != wanted:
            raise ValueError(f"rows {row} of {given} do not follow row {self._next}")
        self._next = row + count
        if not self.rows and time.monotonic() - self._begun < START_SECONDS:
            return
        try:
            self._require_space(count)
            if not self.rows:
                self._start()
                self.first = row
            self._append(row, count, blocks)
        except OSError as error:
            self._do_without(error)
        else:
            self.rows = self._next

    def discard(self) -> None:
        """Remove the file."""
        self._off = True
        if self._file is not None:
            _remove(self._file, self.path)
            self._file = None

    def keep(self) -> None:
        """Leave the file for the next run, if it holds any row."""
        if self._off or not self.rows:
            self.discard()
            return
        self._off = True
        with contextlib.suppress(OSError):
            os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        self._tell(
            f"{self.rows - self.first:,} of {self._height:,} rows are kept: the same command goes on from there."
        )

    def __enter__(self) -> SideFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is not None and issubclass(kind, Interrupted):
            self.keep()
            return
        self.discard()
        if kind is None:
            self._remove_others()

    def _open(self) -> bool:
        """Whether there is a file of this job, which this run then has for itself."""
        try:
            self._file = _open_locked(self.path)
            return self._read(len(self._head)) == self._head
        except FileNotFoundError:
            return False
        except OSError as error:
            self._do_without(error)
            return False

    def _next_record(self) -> tuple[int, int, bytearray] | None:
        """First row, number of rows and pixels of the next record; None where it is torn, corrupt or not there."""
        try:
            head = self._read(_HEAD.size + _SUM.size)
            if head is None or _SUM.pack(zlib.crc32(head[: _HEAD.size])) != head[_HEAD.size :]:
                return None
            row, count, pixel_sum = _HEAD.unpack_from(head)
            if (self.rows and row != self.rows) or not 0 < count <= self._height - row:
                return None
            pixels = self._read(count * self._row_size)
            if pixels is None or zlib.crc32(pixels) != pixel_sum:
                return None
            self._end = self._file.tell()
        except OSError as error:
            self._do_without(error)
            return None
        return row, count, pixels

    def _read(self, size: int) -> bytearray | None:
        """The next bytes, None if there are not as many."""
        data = bytearray(size)
        view = memoryview(data)
        while view:
            count = self._file.readinto(view)
            if not count:
                return None
            view = view[count:]
        return data

    def _split(self, count: int, pixels: bytearray) -> list[np.ndarray]:
        """The pixels of each output, (bands, rows, width)."""
        blocks, start = [], 0
        for layout in self._layouts:
            end = start + count * layout.size
            part = np.frombuffer(memoryview(pixels)[start:end], layout.dtype)
            blocks.append(part.reshape(layout.bands, count, layout.width))
            start = end
        return blocks

    def _start(self) -> None:
        """Make the file, or make it anew; what runs of other jobs left is of no use from here on."""
        self._remove_others()
        if self._file is None:
            self._file = _open_locked(self.path, make=True)
        self._file.seek(0)
        self._file.truncate()
        self._write(self._head)

    def _append(self, row: int, count: int, blocks: Sequence[np.ndarray]) -> None:
        stored = [np.ascontiguousarray(block).reshape(-1).view(np.uint8) for block in blocks]
        pixel_sum = 0
        for block in stored:
            pixel_sum = zlib.crc32(block, pixel_sum)
        head = _HEAD.pack(row, count, pixel_sum)
        self._write(head + _SUM.pack(zlib.crc32(head)))
        for block in stored:
            self._write(block)
        if time.monotonic() - self._synced > SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def _write(self, data: bytes | np.ndarray) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def _require_space(self, count: int) -> None:
        """Leave to the outputs what they need: a job that could end must not fail for its side file."""
        wanted = self._needed() + count * self._row_size + SPARE_BYTES
        if shutil.disk_usage(os.path.dirname(self.path)).free < wanted:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _do_without(self, error: OSError) -> None:
        """Go on without side file."""
        self.discard()
        if isinstance(error, BlockingIOError):
            reason = "another run is computing the same image"
        else:
            reason = (error.strerror or str(error)).lower()
        self._tell(
            f"Finished rows are not kept ({reason}): if this run is interrupted, the next one starts over."
        )

    def _remove_others(self) -> None:
        for file, path in self._rows_of_others():
            _remove(file, path)

    def _rows_of_others(self) -> Iterator[tuple[io.FileIO, str]]:
        """Side files of the same output and other jobs that no living run has, locked."""
        folder, own = os.path.split(self.path)
        similar = re.compile(rf"\.{re.escape(self._name[:_LONGEST])}\.[0-9a-f]{{12}}\.resume")
        with contextlib.suppress(OSError):
            for entry in os.listdir(folder):
                if entry == own or not similar.fullmatch(entry):
                    continue
                path = os.path.join(folder, entry)
                with contextlib.suppress(OSError), _open_locked(path) as file:
                    # Longer names are cut, and what begins alike may belong to another output.
                    if _output_of(file) in (self._name, None):
                        yield file, path


def _output_of(file: io.FileIO) -> str | None:
    """Name of the output that a side file belongs to; None where not even its head is whole."""
    try:
        return json.loads(file.read(_LONGEST_HEAD).split(b"\n")[0])["output"]
    except (ValueError, KeyError, TypeError):
        return None


def _open_locked(path: str, make: bool = False) -> io.FileIO:
    """Open a file for this run alone.

    Raises:
        FileNotFoundError: there is none and none is to be made.
        BlockingIOError: another run has it.
        OSError: it cannot be opened or locked.
    """
    while True:
        try:
            file = io.FileIO(path, "r+", opener=_not_a_link)
        except FileNotFoundError:
            if not make:
                raise
            with contextlib.suppress(FileExistsError):
                io.FileIO(path, "x", opener=_not_a_link).close()
            continue
        try:
            if not try_lock(file.fileno()):
                raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))
            if is_at(file.fileno(), path):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _not_a_link(path: str, flags: int) -> int:
    # The name can be foreseen: a link that waits there must not lead the pixels elsewhere.
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


def _remove(file: io.FileIO, path: str) -> None:
    """Remove an open file, while it is locked if the system can."""
    with contextlib.suppress(OSError):
        try:
            os.remove(path)
        except PermissionError:
            # Windows does not remove open files.
            file.close()
            os.remove(path)
    file.close()
