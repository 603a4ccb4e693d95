"""How good a network is on the held-out quarter of a scene: fused as a user would fuse it, measured against the truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
import torch

from ..diffusion import noise_field, sample
from ..execution.blending import ColumnBlender, RowBlender
from ..execution.consistency import toward_measured
from ..execution.device import CHUNK, GPU_BATCH
from ..execution.tile_plan import TilePlan, plan_tiles
from ..models import FusionNetwork
from ..quality import ergas, q2n, sam
from ..quality.mtf_glp import mtf_glp_hpm
from ..resampling import cubic_matrix, upsampling_positions
from ..training_scenes import TrainingScene
from ..weights import ModelCard

LARGEST_WINDOW = 256
"""MS pixels of a side that are judged of one scene; of several less."""

METRICS = ("SAM", "ERGAS", "Q2n")
_HIGH = 97.0
_LOW = 2.0


class SceneJudge:
    """Fuses and measures the held-out quarter of one scene.

    Args:
        scene: bands in the network's order.
        card: how the network is run.
        device: where.
        side: MS pixels of a side that are judged at most, from where the quarter has the most valid pixels.
    """

    def __init__(
        self,
        scene: TrainingScene,
        card: ModelCard,
        device: torch.device,
        side: int = LARGEST_WINDOW,
    ) -> None:
        self.scene, self.card, self.device = scene, card, device
        self.window = _judged_window(scene, side)
        self.plan: TilePlan = plan_tiles(self.window, (0, 0), card.tile, card.margin)
        row, col, height, width = self.window
        self._cut = (slice(None), slice(row, row + height), slice(col, col + width))
        self.reference = scene.reference[self._cut]
        self.mask = scene.valid[self._cut[1:]].copy()
        # The quarter's outermost pixels are left out as everywhere else: interpolation there is not what it is inside.
        self.mask[: scene.ratio] = self.mask[-scene.ratio :] = False
        self.mask[:, : scene.ratio] = self.mask[:, -scene.ratio :] = False
        percent = card.normalisation == "percentile"
        self._ms_scale = (
            scene.ms_scale if percent else np.full_like(scene.ms_scale, card.normalisation)
        )
        self._pan_scale = scene.pan_scale if percent else card.normalisation

    def _lms(self, rows: tuple[int, int], cols: tuple[int, int]) -> np.ndarray:
        """MS interpolated to pixels from and below; beyond the scene its edge repeats, as in fusing."""
        row_weights, col_weights = (
            cubic_matrix(upsampling_positions(last - first, self.scene.ratio, first), size)
            for (first, last), size in zip((rows, cols), self.scene.ms.shape[1:])
        )
        return (row_weights @ self.scene.ms.astype(np.float64) @ col_weights.T).astype(np.float32)

    @cached_property
    def bicubic(self) -> np.ndarray:
        """LMS on the judged window."""
        row, col, height, width = self.window
        return self._lms((row, row + height), (col, col + width))

    @cached_property
    def mtf_glp(self) -> np.ndarray:
        """MTF-GLP-HPM on the judged window, delivered."""
        scene = self.scene
        height, width = scene.pan.shape
        lms = self._lms((0, height), (0, width))
        fused = mtf_glp_hpm(scene.pan[None], scene.ms, lms, scene.ratio, scene.gains)
        return self.delivered(fused[self._cut])

    @cached_property
    def _tiles(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, np.ndarray]:
        """Guide, MS and LMS of all tiles, and their first pixels."""
        scene, ratio, tile = self.scene, self.scene.ratio, self.card.tile
        rows, cols = self.plan.rows, self.plan.cols
        (top, bottom), (left, right) = rows.covered, cols.covered

        def repeated(image: np.ndarray, step: int) -> np.ndarray:
            down = np.clip(np.arange(top // step, bottom // step), 0, image.shape[1] - 1)
            across = np.clip(np.arange(left // step, right // step), 0, image.shape[2] - 1)
            return image[:, down[:, None], across]

        origins = np.array(
            [
                (rows.position(i), cols.position(j))
                for i in range(rows.first, rows.last + 1)
                for j in range(cols.first, cols.last + 1)
            ]
        )

        def cut(image: np.ndarray, step: int) -> torch.Tensor:
            side = tile // step
            starts = (origins - (top, left)) // step
            parts = [image[:, r : r + side, c : c + side] for r, c in starts]
            return torch.from_numpy(np.stack(parts).astype(np.float32))

        scale = self._ms_scale[:, None, None]
        lms = self._lms((top, bottom), (left, right))
        guide = cut(repeated(scene.pan[None], 1) / np.float32(self._pan_scale), 1)
        return guide, cut(repeated(scene.ms, ratio) / scale, ratio), cut(lms / scale, 1), origins

    @cached_property
    def _value_range(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The same limits as in fusing."""
        limits = self.scene.ms_limits / self._ms_scale[:, None]
        contrast = limits[:, 1] - limits[:, 0]
        low = np.maximum(limits[:, 0] - contrast, np.minimum(limits[:, 0], 0))
        high = limits[:, 1] + contrast
        return tuple(
            torch.tensor(x, dtype=torch.float32, device=self.device)[:, None, None]
            for x in (low, high)
        )

    def fuse(self, network: FusionNetwork, pool: ThreadPoolExecutor | None = None) -> np.ndarray:
        """The judged window fused by a network in evaluation mode, (C, h, w), as it would be delivered."""
        count = self.plan.count
        size = CHUNK if self.device.type == "cpu" else GPU_BATCH
        starts = range(0, count, size)

        def work(start: int) -> np.ndarray:
            return self._residual(network, start, min(count, start + size))

        parts = list(pool.map(work, starts)) if pool is not None else [work(s) for s in starts]
        tiles = np.concatenate(parts)
        rows, cols = self.plan.rows, self.plan.cols
        blender, strips = RowBlender(rows.margin, cols.count * cols.stride), []
        for index in range(rows.count):
            neighbours = tiles[index * cols.count : (index + 1) * cols.count]
            blender.begin()
            strips.append(blender.add(ColumnBlender(cols.margin).add(neighbours), 0))
        residual = np.concatenate(strips, axis=1)
        row, col, height, width = self.window
        top, left = row - rows.covered[0], col - cols.covered[0]
        residual = residual[:, top : top + height, left : left + width]
        return self.delivered(self.bicubic + residual * self._ms_scale[:, None, None])

    @torch.inference_mode()
    def _residual(self, network: FusionNetwork, start: int, stop: int) -> np.ndarray:
        guide, ms, lms, origins = (part[start:stop] for part in self._tiles)
        guide, ms, lms = (part.to(self.device) for part in (guide, ms, lms))
        bands, height, width = lms.shape[1:]
        noise = torch.stack(
            [noise_field(int(r), int(c), height, width, bands, 0, self.device) for r, c in origins]
        )
        card = self.card
        correct = None
        if card.consistency:
            correct = toward_measured(ms, lms, card.ratio, card.mtf_gain, card.consistency)
        residual = sample(
            network,
            network.prepare(guide, ms, lms),
            noise,
            steps=card.steps,
            solver=card.solver,
            grid=card.grid,
            indexing=card.indexing,
            objective=card.objective,
            value_range=self._value_range,
            self_conditioning=card.self_conditioning,
            correct=correct,
        )
        return residual.cpu().numpy()

    def delivered(self, image: np.ndarray) -> np.ndarray:
        """Rounded and clipped to the data type of MS."""
        if np.issubdtype(np.dtype(self.scene.dtype), np.integer):
            limits = np.iinfo(self.scene.dtype)
            image = np.clip(np.rint(image), limits.min, limits.max)
        return image

    def measure(self, image: np.ndarray) -> dict[str, float]:
        """SAM, ERGAS and Q2n of the judged window (C, h, w) against the truth; the worst if it is not all numbers."""
        if not np.isfinite(image).all():
            # Leaving such pixels out would flatter a network that breaks down on some.
            return {"SAM": 180.0, "ERGAS": math.inf, "Q2n": 0.0}
        ratio = self.scene.ratio
        part = (slice(None), slice(ratio, -ratio), slice(ratio, -ratio))
        x, y, mask = self.reference[part], image[part], self.mask[part[1:]]
        return {
            "SAM": sam(x, y, mask),
            "ERGAS": ergas(x, y, ratio, mask),
            "Q2n": q2n(x, y, mask=mask),
        }

    def picture(self, image: np.ndarray, colours: Sequence[int]) -> np.ndarray:
        """Three bands of the judged window stretched as the reference asks for, uint8 (h, w, 3)."""
        chosen = list(colours)
        inside = self.reference[chosen][:, self.mask]
        low, high = np.percentile(inside, (_LOW, _HIGH), axis=1)
        span = np.maximum(high - low, 1e-6)[:, None, None]
        shares = np.clip((image[chosen] - low[:, None, None]) / span, 0, 1)
        return np.rint(255 * shares).astype(np.uint8).transpose(1, 2, 0)


def mean_figures(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    """Means over scenes."""
    return {name: float(np.mean([f[name] for f in figures])) for name in METRICS}


def measured(
    judges: Sequence[SceneJudge], fused: Callable[[SceneJudge], np.ndarray]
) -> dict[str, float]:
    """Mean figures of what ``fused`` makes of each judge's window."""
    return mean_figures([judge.measure(fused(judge)) for judge in judges])


def _judged_window(scene: TrainingScene, side: int) -> tuple[int, int, int, int]:
    """The part of the quarter that is judged: row, column, height, width on whole blocks."""
    row, col, height, width = scene.quarter
    side = side // scene.ratio * scene.ratio
    tall, wide = min(side, height), min(side, width)
    valid = scene.valid[row : row + height, col : col + width]
    total = np.zeros((height + 1, width + 1), np.int64)
    total[1:, 1:] = np.cumsum(np.cumsum(valid, axis=0), axis=1)
    counts = total[tall:, wide:] - total[:-tall, wide:] - total[tall:, :-wide]
    counts = (counts + total[:-tall, :-wide])[:: scene.ratio, :: scene.ratio]
    # Of equally good places the one nearest to the middle.
    down, right = np.indices(counts.shape)
    off = np.hypot(down - (counts.shape[0] - 1) / 2, right - (counts.shape[1] - 1) / 2)
    best = np.unravel_index(np.lexsort((off.ravel(), -counts.ravel()))[0], counts.shape)
    return row + int(best[0]) * scene.ratio, col + int(best[1]) * scene.ratio, tall, wide
