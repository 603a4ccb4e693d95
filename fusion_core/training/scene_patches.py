"""Patches of the user's own scenes, drawn outside the held-out quarter, nodata and masked pixels.

What lies outside the quarter is two overlapping rectangles, the arms of an L.  Each is degraded by itself, so nothing of
the quarter's reference reaches a patch, not even through the sensor's blur.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..degradation import block_centres, gaussian_matrix
from ..mtf import mtf_sigma
from ..resampling import cubic_matrix, upsampling_positions
from ..training_scenes import TrainingScene
from .patches import PERCENTILE, Batch, PatchSampler

MOST_RESCALING = 2.0
"""Factor by which the scales of a scene and of its reduced pair may be taken to differ."""

PATCHES = (64, 32, 16)
"""Patch sizes to choose from; all fit both networks."""


@dataclass(frozen=True)
class SceneAugmentation:
    """How much patches of a scene vary, beside flips and quarter turns: the sensor is known, so little.

    Attributes:
        gain: greatest deviation of all bands' MTF gains from the sensor's.
        gain_by_band: greatest further deviation of each band's.
        shift: greatest misregistration of MS against PAN, in MS pixels, in half of the patches.
        level: standard deviation of the logarithm of a factor on PAN and on all MS bands each.
        scales: whether a patch's levels lie anywhere between those under the scene's own scales, which keep the relation of
            PAN to MS, and those under the scales of the reduced pair, which a fusion of that pair would take.
    """

    gain: float = 0.03
    gain_by_band: float = 0.01
    shift: float = 0.05
    level: float = 0.02
    scales: bool = True


@dataclass(frozen=True)
class _Arm:
    """A part of a scene to train on, at scene scale.

    Attributes:
        rescaling: the scene's scale of PAN, then of each MS band, divided by that of the reduced pair, (1 + C,).
    """

    reference: np.ndarray
    pan: np.ndarray
    valid: np.ndarray
    gains: tuple[float, ...]
    rescaling: np.ndarray

    def positions(self, patch: int) -> np.ndarray:
        """First pixels (row * width + column) of the patches without an invalid pixel."""
        height, width = self.valid.shape
        if min(height, width) < patch:
            return np.empty(0, np.int64)
        total = np.zeros((height + 1, width + 1), np.int64)
        total[1:, 1:] = np.cumsum(np.cumsum(~self.valid, axis=0), axis=1)
        bad = total[patch:, patch:] - total[:-patch, patch:] - total[patch:, :-patch]
        rows, cols = np.nonzero(bad + total[:-patch, :-patch] == 0)
        return rows * width + cols


class ScenePatchSampler:
    """Draws batches from scenes; every batch depends on the seed and its iteration number alone.

    Args:
        scenes: bands in the network's order, one ratio.
        seed: makes the sequence of batches repeatable.
        augmentation: None for the scenes as they are.
    """

    def __init__(
        self,
        scenes: Sequence[TrainingScene],
        seed: int,
        augmentation: SceneAugmentation | None = SceneAugmentation(),  # noqa: B008 # frozen
    ) -> None:
        self.ratio = scenes[0].ratio
        self.seed = seed
        self.augmentation = augmentation
        self._arms = [arm for scene in scenes for arm in _arms(scene)]
        self._positions: dict[int, list[np.ndarray]] = {}

    def positions(self, patch: int) -> int:
        """How many patches of ``patch`` x ``patch`` pixels there are to draw."""
        return sum(len(found) for found in self._allowed(patch))

    def batch(self, iteration: int, size: int, patch: int) -> Batch:
        """The batch of one iteration: ``size`` patches of ``patch`` x ``patch`` pixels.

        Raises:
            ValueError: no patch fits.
        """
        allowed = self._allowed(patch)
        counts = np.array([len(found) for found in allowed])
        if not counts.sum():
            raise ValueError(f"No patch of {patch} pixels fits.")
        rng = np.random.default_rng([self.seed, iteration])
        ends = np.cumsum(counts)
        parts = []
        for place in rng.integers(ends[-1], size=size):
            number = int(np.searchsorted(ends, place, side="right"))
            first = allowed[number][place - ends[number]]
            parts.append(self._patch(self._arms[number], int(first), patch, rng))
        return Batch(*(torch.from_numpy(np.stack(part)) for part in zip(*parts)))

    def _allowed(self, patch: int) -> list[np.ndarray]:
        if patch not in self._positions:
            self._positions[patch] = [arm.positions(patch) for arm in self._arms]
        return self._positions[patch]

    def _patch(
        self, arm: _Arm, first: int, patch: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        ratio, around = self.ratio, PatchSampler.SURROUNDINGS
        corner = divmod(first, arm.valid.shape[1])
        before = [min(around, start // ratio) for start in corner]
        after = [
            min(around, (size - start - patch) // ratio)
            for size, start in zip(arm.valid.shape, corner)
        ]
        rows, cols = (
            slice(start - b * ratio, start + patch + a * ratio)
            for start, b, a in zip(corner, before, after)
        )
        inner = [slice(start, start + patch) for start in corner]
        vary, bands = self.augmentation, len(arm.reference)
        gains, shift, level = np.array(arm.gains), np.zeros(2), np.ones(1 + bands)
        if vary is not None:
            gains = gains + rng.uniform(-1, 1) * vary.gain
            gains = np.clip(gains + rng.uniform(-1, 1, bands) * vary.gain_by_band, 0.05, 0.95)
            if rng.random() < 0.5:
                shift = rng.uniform(-1, 1, 2) * vary.shift * ratio
            level *= np.exp(vary.level * rng.standard_normal(2))[[0] + bands * [1]]
            if vary.scales:
                level *= arm.rescaling ** rng.random()
        of_ms = level[1:, None, None]
        ms = _degraded(arm.reference[:, rows, cols], gains, ratio, shift)
        up_rows, up_cols = (
            cubic_matrix(upsampling_positions(patch, ratio, b * ratio), count)
            for b, count in zip(before, ms.shape[1:])
        )
        lms = up_rows @ ms @ up_cols.T
        core = [slice(b, b + patch // ratio) for b in before]
        parts = (
            level[0] * arm.pan[None, inner[0], inner[1]],
            of_ms * ms[:, core[0], core[1]],
            of_ms * lms,
            of_ms * arm.reference[:, inner[0], inner[1]],
        )
        turns, mirrored = rng.integers(4), rng.random() < 0.5
        return tuple(_turned(part, turns, mirrored) for part in parts)


def _arms(scene: TrainingScene) -> list[_Arm]:
    """What lies above or below the held-out quarter, and what lies left or right of it."""
    row, col, height, width = scene.quarter
    rows = slice(0, row) if row else slice(height, None)
    cols = slice(0, col) if col else slice(width, None)
    reference = scene.reference / scene.ms_scale[:, None, None]
    pan = scene.pan / np.float32(scene.pan_scale)
    rescaling = np.array([scene.pan_scale, *scene.ms_scale])
    rescaling = rescaling / np.maximum(_reduced_scales(scene), 1e-6)
    # An image that is mostly dark has no scale to speak of.
    rescaling = np.clip(rescaling, 1 / MOST_RESCALING, MOST_RESCALING)
    return [
        _Arm(reference[(slice(None), *part)], pan[part], scene.valid[part], scene.gains, rescaling)
        for part in ((rows, slice(None)), (slice(None), cols))
    ]


def _reduced_scales(scene: TrainingScene) -> np.ndarray:
    """Percentiles of the reduced pair, PAN and then MS, (1 + C,); of what lies outside the held-out quarter."""
    row, col, height, width = scene.quarter
    outside = np.ones(scene.valid.shape, bool)
    outside[row : row + height, col : col + width] = False
    pan = np.percentile(scene.pan[outside], PERCENTILE)
    coarse = outside[:: scene.ratio, :: scene.ratio]
    return np.array([pan, *np.percentile(scene.ms[:, coarse], PERCENTILE, axis=1)])


def _degraded(
    reference: np.ndarray, gains: np.ndarray, ratio: int, shift: np.ndarray
) -> np.ndarray:
    """MS after Wald, (C, h / ratio, w / ratio) float64."""
    sizes = reference.shape[1:]
    ms = np.empty((len(reference), *(size // ratio for size in sizes)))
    for band, gain in enumerate(gains):
        sigma = mtf_sigma(float(gain), ratio)
        rows, cols = (
            gaussian_matrix(block_centres(size // ratio, ratio, s), size, sigma)
            for size, s in zip(sizes, shift)
        )
        ms[band] = rows @ reference[band] @ cols.T
    return ms


def _turned(image: np.ndarray, turns: int, mirrored: bool) -> np.ndarray:
    image = np.rot90(image, turns, axes=(-2, -1))
    return np.ascontiguousarray(image[..., ::-1] if mirrored else image, dtype=np.float32)
