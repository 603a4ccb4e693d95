"""Output files that appear under their name only when they are whole."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import tempfile
import time

from ..errors import FusionError
from .file_lock import is_at, try_lock

SIDECARS = (".aux.xml", ".ovr", ".msk")
"""Files that GDAL keeps beside a raster; those of a replaced raster would lie about the new one."""

_SUFFIX = ".partial"
_LONGEST = 40

_LOCK = ".lock"
"""File in the folder, locked as long as the folder's run lives."""

_BEING_MADE = 60.0
"""Age in seconds below which a folder without that file may be one that another run makes just now."""


def remove_leftovers(target: str) -> None:
    """Remove what runs that were killed left of an output; a run that lives keeps its folder."""
    folder, name = os.path.split(os.path.abspath(target))
    # What is drawn between name and suffix has no dot, unlike the rest of a longer name.
    ours = re.compile(rf"\.{re.escape(name[:_LONGEST])}\.[^.]+{re.escape(_SUFFIX)}")
    with contextlib.suppress(OSError):
        for entry in os.listdir(folder):
            if ours.fullmatch(entry):
                _remove_if_dead(os.path.join(folder, entry), len(name) <= _LONGEST)


def _remove_if_dead(folder: str, surely_ours: bool) -> None:
    """Remove a run's folder unless the run lives."""
    with contextlib.suppress(OSError):
        try:
            lock = io.FileIO(os.path.join(folder, _LOCK), "r+")
        except FileNotFoundError:
            # Longer names are cut, and what begins alike may belong to another output.
            if surely_ours and time.time() - os.stat(folder).st_mtime > _BEING_MADE:
                shutil.rmtree(folder, ignore_errors=True)
            return
        with lock:
            if not try_lock(lock.fileno()):
                return
            shutil.rmtree(folder, ignore_errors=True)
        # Windows does not remove open files.
        shutil.rmtree(folder, ignore_errors=True)


def check_folder(path: str | None) -> None:
    """Refuse, before anything runs, a file that cannot be written; None is a file whose name is not known yet.

    Raises:
        FusionError: its folder does not exist or cannot be written in, or it is a folder itself.
    """
    if path is None:
        return
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path):
        raise FusionError(f"{path} is a folder: choose a file name for the output.")
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise FusionError(f"Nothing can be written in {folder}: choose another folder.")


class PartialOutput:
    """A hidden folder beside the output in which it grows, with the files that its format adds.

    Attributes:
        path: where to write, a file of the output's own name so that its companions find each other.
        target: where ``publish`` puts it.
    """

    def __init__(self, target: str) -> None:
        """Make the folder.

        Raises:
            FusionError: nothing can be written beside ``target``.
        """
        self.target = os.path.abspath(target)
        folder, name = os.path.split(self.target)
        if os.path.isdir(self.target):
            raise FusionError(f"{self.target} is a folder: choose a file name for the output.")
        remove_leftovers(self.target)
        try:
            self._folder, self._lock = _locked_folder(folder, name)
        except OSError as error:
            raise FusionError(
                f"Nothing can be written in {folder} ({_reason(error)}): choose another folder for the output."
            ) from error
        self.path = os.path.join(self._folder, name)

    def publish(self) -> None:
        """Move the files to their place, replacing what is there.

        Raises:
            FusionError: they cannot be moved; what was there before stays.
        """
        folder, name = os.path.split(self.target)
        made = sorted(set(os.listdir(self._folder)) - {_LOCK}, key=lambda entry: entry != name)
        try:
            # The raster itself first: if it is open elsewhere and cannot be replaced, its companions stay too.
            for entry in made:
                os.replace(os.path.join(self._folder, entry), os.path.join(folder, entry))
        except OSError as error:
            self.discard()
            raise FusionError(
                f"{self.target} cannot be replaced ({_reason(error)}): close whatever has it open, or choose another"
                " name."
            ) from error
        for sidecar in SIDECARS:
            if name + sidecar not in made:
                with contextlib.suppress(OSError):
                    os.remove(self.target + sidecar)
        self.discard()

    def discard(self) -> None:
        """Remove the folder and all that is in it."""
        self._lock.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _locked_folder(parent: str, name: str) -> tuple[str, io.FileIO]:
    """Make a folder that other runs leave alone until the file that comes with it is closed."""
    while True:
        folder = tempfile.mkdtemp(prefix=f".{name[:_LONGEST]}.", suffix=_SUFFIX, dir=parent)
        path = os.path.join(folder, _LOCK)
        try:
            lock = io.FileIO(path, "x+")
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        try:
            # Another run may have found the file before it was locked.
            ours = try_lock(lock.fileno()) and is_at(lock.fileno(), path)
        except OSError:
            # Where no file can be locked, nobody finds out that this run ended, and the folder is left alone.
            ours = True
        if ours:
            return folder, lock
        lock.close()


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
