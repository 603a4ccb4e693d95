"""What the pixels of a job depend on, in a few letters."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from .fuse_plan import FusePlan

if TYPE_CHECKING:
    from .raster.side_file import RowLayout


def job_fingerprint(
    plan: FusePlan, tags: Mapping[str, str], names: Sequence[str], layouts: Sequence[RowLayout]
) -> str | None:
    """SHA-256 of a job, the same for every run that computes the same pixels from the same files.

    Args:
        plan: the job.
        tags: its provenance: model with digest, sampling, device, precision, versions.
        names: of PAN and of the MS images, in order.
        layouts: of the outputs.

    Returns:
        Hexadecimal; None where an input is no file that can be told from its later versions.
    """
    from .raster.file_stamp import file_stamp

    stamps = {path: file_stamp(path) for path in plan.scene.files}
    if None in stamps.values():
        return None
    meant = {
        # Where the tiles are computed does not change them.
        "tags": {key: value for key, value in tags.items() if key != "cluster"},
        "names": list(names),
        "files": stamps,
        "window": asdict(plan.window),
        "tiles": asdict(plan.tiles),
        "bands": plan.bands.order,
        "nodata": str(plan.scene.nodata),
        "scale": [plan.ms_scale.ravel().tolist(), plan.pan_scale.ravel().tolist()],
        "limits": plan.scene.ms_limits.tolist(),
        "outputs": [asdict(layout) for layout in layouts],
    }
    return hashlib.sha256(json.dumps(meant, sort_keys=True).encode()).hexdigest()
