"""GDAL's errors as exceptions of ours.

GDAL is shared with QGIS and its other plugins, so nothing global is changed: neither the exception mode of the
bindings (both modes work here) nor the error handler of other threads (handlers are stacked per thread).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from osgeo import gdal

from ..errors import FusionError


@dataclass
class GdalMessages:
    """What GDAL said while it was listened to.

    Attributes:
        warnings: texts of the warnings.
        failures: texts of the errors.
    """

    warnings: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def receive(self, level: int, number: int, text: str) -> None:
        """Error handler for ``gdal.PushErrorHandler``."""
        if level >= gdal.CE_Failure:
            self.failures.append(text)
        elif level == gdal.CE_Warning:
            self.warnings.append(text)

    def require(self, made: Any) -> Any:
        """What a GDAL call returned, unless that is None: its way to say, outside its exception mode, that it failed.

        Raises:
            RuntimeError: it is None; ``gdal_errors_as`` turns that into a sentence.
        """
        if made is None:
            raise RuntimeError("no reason given")
        return made


@contextmanager
def quiet_gdal() -> Iterator[GdalMessages]:
    """Collect GDAL's messages of this thread instead of printing them."""
    messages = GdalMessages()
    gdal.PushErrorHandler(messages.receive)
    try:
        yield messages
    finally:
        gdal.PopErrorHandler()


@contextmanager
def gdal_errors_as(problem: str) -> Iterator[GdalMessages]:
    """Turn any GDAL error inside the block into a ``FusionError``.

    Args:
        problem: the start of the sentence, without a full stop: what failed and what to do.

    Raises:
        FusionError: GDAL reported an error, as an exception or through its error handler.
    """
    with quiet_gdal() as messages:
        try:
            yield messages
        except RuntimeError as error:
            reason = (messages.failures or [str(error)])[0]
            raise FusionError(_sentence(problem, reason)) from error
    if messages.failures:
        raise FusionError(_sentence(problem, messages.failures[0]))


def _sentence(problem: str, detail: str) -> str:
    detail = " ".join(detail.split()).rstrip(".")
    return f"{problem} (GDAL: {detail})." if detail else f"{problem}."
