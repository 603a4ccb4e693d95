"""Errors that reach the user."""

from __future__ import annotations


class FusionError(Exception):
    """A problem the user can act on.

    ``str(error)`` is one sentence that says what is wrong and what to do about it; callers show it as it is.
    """


class Cancelled(FusionError):
    """The user cancelled the work."""

    def __init__(self) -> None:
        super().__init__("Cancelled: nothing was written.")


class Interrupted(KeyboardInterrupt):
    """The system ends this process, at shutdown or for want of its machine; nobody gave the work up."""
