"""Locks on open files, which the system takes back when their process ends, however it ends."""

from __future__ import annotations

import errno
import os

try:
    import fcntl
except ImportError:
    fcntl = None
    import msvcrt

_HELD = (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)

_LOCKED_BYTE = 1 << 40
"""Windows keeps others from the bytes that are locked; nothing is ever stored there."""


def try_lock(descriptor: int) -> bool:
    """Lock an open file until it is closed; also against other openings of it in this process.

    Args:
        descriptor: of a file that is open for writing.

    Returns:
        Whether it is locked now; False if somebody else has it locked.

    Raises:
        OSError: the file system knows no locks.
    """
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            position = os.lseek(descriptor, 0, os.SEEK_CUR)
            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            finally:
                os.lseek(descriptor, position, os.SEEK_SET)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    return True


def is_at(descriptor: int, path: str) -> bool:
    """Whether an open file still has its name: whoever had it locked before may have removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
