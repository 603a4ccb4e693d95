"""Output files that appear under their name only when they are whole."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile

from ..errors import FusionError

SIDECARS = (".aux.xml", ".ovr", ".msk")
"""Files that GDAL keeps beside a raster; those of a replaced raster would lie about the new one."""

_SUFFIX = ".partial"
_LONGEST = 40


def remove_leftovers(target: str) -> None:
    """Remove what a run that was killed left of an output; only for outputs that no other run writes now."""
    folder, name = os.path.split(os.path.abspath(target))
    # Longer names are cut, and what begins alike may belong to another output.
    if len(name) > _LONGEST or not os.path.isdir(folder):
        return
    # What is drawn between name and suffix has no dot, unlike the rest of a longer name.
    ours = re.compile(rf"\.{re.escape(name)}\.[^.]+{re.escape(_SUFFIX)}")
    for entry in os.listdir(folder):
        if ours.fullmatch(entry):
            shutil.rmtree(os.path.join(folder, entry), ignore_errors=True)


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
        try:
            self._folder = tempfile.mkdtemp(
                prefix=f".{name[:_LONGEST]}.", suffix=_SUFFIX, dir=folder
            )
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
        made = sorted(os.listdir(self._folder), key=lambda entry: entry != name)
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
        shutil.rmtree(self._folder, ignore_errors=True)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
