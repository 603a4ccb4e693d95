"""A checked job: what there is to compute, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .band_matching import BandMatch
from .execution.tile_plan import TilePlan
from .weights import ModelFile

if TYPE_CHECKING:
    from .raster.scene import Scene
    from .raster.window import Window


@dataclass(frozen=True)
class FusePlan:
    """A checked job: everything is decided, nothing has been computed or written.

    Attributes:
        scene: the open PAN and MS.
        model: the network's file.
        window: PAN pixels to write.
        tiles: tiles to compute.
        bands: which MS band serves as which of the network's.
        steps, solver, grid, seed, samples: the sampling.
        dtype: numpy dtype name of the output.
        notes: sentences the user should read.
    """

    scene: Scene
    model: ModelFile
    window: Window
    tiles: TilePlan
    bands: BandMatch
    steps: int
    solver: str
    grid: str
    seed: int
    samples: int
    dtype: str
    notes: tuple[str, ...]

    @property
    def ms_scale(self) -> np.ndarray:
        """Divisor of each MS band, in the scene's band order, float32 (C, 1, 1)."""
        kind = self.model.card.normalisation
        scale = self.scene.ms_scale if kind == "percentile" else np.full(self.scene.ms_bands, kind)
        return scale.astype(np.float32)[:, None, None]

    @property
    def pan_scale(self) -> np.ndarray:
        """Divisor of each PAN band, float32 (P, 1, 1)."""
        kind = self.model.card.normalisation
        scale = (
            self.scene.pan_scale if kind == "percentile" else np.full(self.scene.pan_bands, kind)
        )
        return scale.astype(np.float32)[:, None, None]
