"""How the C library keeps memory that a process frees, for processes of our own that run networks."""

from __future__ import annotations

import ctypes
import platform
import sys
from functools import lru_cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Names of mallopt's parameters in glibc's malloc.h."""
_LARGE = 1 << 30


def keep_freed_memory() -> bool:
    """Have freed memory stay with this process instead of going back to the system, page by page.

    A network frees and takes the same large blocks at every step.  By default glibc returns each to the system and the
    next one comes back page by page, zeroed.  Call it before anything large is allocated; it holds for the whole
    process, so it is for processes of our own and not for a program that uses us as a library.

    Returns:
        Whether the C library is one that can be told so, which is glibc on Linux.
    """
    library = _glibc()
    if library is None:
        return False
    told = [library.mallopt(_MMAP_THRESHOLD, _LARGE), library.mallopt(_TRIM_THRESHOLD, _LARGE)]
    # The heaps of further arenas go back to the system all the same, so all threads share one.
    told.append(library.mallopt(_ARENA_MAX, 1))
    return all(told)


def return_freed_memory() -> None:
    """Give back to the system what ``keep_freed_memory`` kept; nothing where it keeps nothing."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@lru_cache(maxsize=1)
def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return None
    library = ctypes.CDLL(None)
    library.malloc_trim.argtypes = [ctypes.c_size_t]
    return library
