"""Which devices a user's choice names; no torch here, so that QGIS can ask."""

from __future__ import annotations

import re

from ..errors import FusionError

_NAME = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?")
_LISTED = re.compile(r"cpu|cuda:\d{1,3}")


def device_names(choice: str) -> tuple[str, ...]:
    """The devices of a choice such as "auto" or "cuda:0,cuda:1"; whether they exist is found out where they compute.

    Args:
        choice: one name, or several of one kind separated by commas, which then share the tiles; "cpu,cpu" means two
            processes with half the threads each.

    Raises:
        FusionError: it makes no sense.
    """
    names = tuple(part.strip() for part in choice.split(","))
    for name in names:
        if not _NAME.fullmatch(name):
            raise FusionError(
                f"There is no device called {name or 'nothing'}: use auto, cpu, cuda, cuda:N or mps, "
                "or several such as cuda:0,cuda:1."
            )
    if len(names) == 1:
        return names
    for name in names:
        if not _LISTED.fullmatch(name):
            raise FusionError(
                f"The device {name} cannot share tiles with others: use it alone, "
                "or name several such as cuda:0,cuda:1."
            )
    if len({name.partition(":")[0] for name in names}) > 1:
        raise FusionError(
            f"The devices {choice} are of different kinds and would compute different pixels: "
            "use several of one kind, such as cuda:0,cuda:1."
        )
    for name in names:
        if name != "cpu" and names.count(name) > 1:
            raise FusionError(f"The devices {choice} name {name} twice: name each GPU once.")
    return names
