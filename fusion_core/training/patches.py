"""Training patches: pairs of a degraded PAN and MS with their reference, drawn and varied at random.

Every batch depends on the seed and its iteration number alone, so a resumed training sees what an unbroken one
would have seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..degradation import block_centres, gaussian_matrix
from ..mtf import mtf_sigma
from ..resampling import cubic_matrix, upsampling_positions
from .derived_bands import DerivedBands, material_share

TYPICAL_PAN_BLUR = 0.5
"""Gain at Nyquist by which the PAN of validation patches is softer than their reference, as in most sensors."""
DARK_PERCENTILE = 1
"""Of a band, what haze alone is taken to make."""
PERCENTILE = 98
"""Each band is divided by this percentile of its scene, as at inference."""


@dataclass
class TrainingImage:
    """One image to draw patches from.

    Attributes:
        reference: the MS image at the resolution to be restored, (C, H, W), float32, each band divided by its 98th percentile.
        weight: chance of being drawn, relative to the other images'.
        pan: a real PAN on the reference's grid with the MTF of a PAN, (H, W), divided by its 98th percentile; None to simulate.
        sharp_pan: whether ``pan`` is as sharp as the reference, unlike a real PAN.
        derived: makes the network's bands of those of ``reference``; None where they are the same.
    """

    reference: np.ndarray
    weight: float
    pan: np.ndarray | None = None
    sharp_pan: bool = False
    derived: DerivedBands | None = None

    @classmethod
    def from_counts(
        cls,
        reference: np.ndarray,
        weight: float,
        pan: np.ndarray | None = None,
        *,
        sharp_pan: bool = False,
        derived: DerivedBands | None = None,
    ) -> TrainingImage:
        """The same from digital numbers of any scale."""
        scale = np.percentile(reference, PERCENTILE, axis=(1, 2), keepdims=True)
        if pan is not None:
            pan = (pan / max(np.percentile(pan, PERCENTILE), 1e-6)).astype(np.float32)
        reference = (reference / np.maximum(scale, 1e-6)).astype(np.float32)
        return cls(reference, weight, pan, sharp_pan, derived)


@dataclass(frozen=True)
class Augmentation:
    """How strongly patches vary; the defaults make a model trained on one sensor hold on another.

    Attributes:
        band_gain: standard deviation of the logarithm of a gain per band.
        offset: greatest haze added to a band, of its scale; a quarter of it may be taken away instead.
        haze_free: chance that the darkest values of the scene are taken away from the bands, as products corrected for
            haze have it; their bands, the blue ones most, have more contrast for their brightness.
        gamma: greatest deviation from 1 of an exponent on PAN.
        mtf_ms: range of the MS bands' MTF gain at Nyquist.
        mtf_jitter: greatest deviation of one band's gain from the image's.
        pan_blur: range of the gain at Nyquist by which a simulated PAN is softer than its reference.  The PAN of a sensor
            keeps about half of the contrast at its Nyquist frequency that its MS bands keep at theirs (sensors.py),
            and a network that never met this sharpens too little.
        pan_shift: greatest misregistration of a simulated PAN, in PAN pixels, in half of the patches.
        pan_materials: chance that a simulated PAN sees one kind of material with other weights than the rest, as where its
            response curve reaches between the MS bands.
        noise_ms, noise_pan: greatest standard deviation of the noise, of the scale.
    """

    band_gain: float = 0.15
    offset: float = 0.25
    haze_free: float = 0.35
    gamma: float = 0.12
    mtf_ms: tuple[float, float] = (0.2, 0.4)
    mtf_jitter: float = 0.03
    pan_blur: tuple[float, float] = (0.3, 0.75)
    pan_shift: float = 0.35
    pan_materials: float = 0.5
    noise_ms: float = 0.006
    noise_pan: float = 0.004


@dataclass
class Batch:
    """Tiles at scene scale: guide (B, 1, H, W), ms (B, C, H/r, W/r), lms and reference (B, C, H, W), float32."""

    guide: torch.Tensor
    ms: torch.Tensor
    lms: torch.Tensor
    reference: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(*(t.to(device) for t in (self.guide, self.ms, self.lms, self.reference)))


class PatchSampler:
    """Draws batches from images.

    Args:
        images: what to draw from; an image smaller than a patch with its surroundings is refused.
        ratio: PAN pixels per MS pixel.
        pan_weights: chance that a band is seen by a simulated PAN, one for each band.
        seed: makes the sequence of batches repeatable.
        augmentation: None for patches as they are (validation).

    Raises:
        ValueError: no image is large enough.
    """

    SURROUNDINGS = 4  # coarse pixels around a patch, so that its LMS has real neighbours

    def __init__(
        self,
        images: Sequence[TrainingImage],
        ratio: int,
        pan_weights: Sequence[float],
        seed: int,
        augmentation: Augmentation | None,
    ) -> None:
        if not images:
            raise ValueError("There is no image to draw patches from.")
        self.images = list(images)
        self.ratio = ratio
        self.pan_weights = np.asarray(pan_weights, dtype=np.float64)
        self.seed = seed
        self.augmentation = augmentation
        weights = np.array([image.weight for image in self.images], dtype=np.float64)
        self.chances = weights / weights.sum()

    def batch(self, iteration: int, size: int, patch: int) -> Batch:
        """The batch of one iteration: ``size`` patches of ``patch`` x ``patch`` PAN pixels.

        Raises:
            ValueError: an image is smaller than a patch with its surroundings.
        """
        rng = np.random.default_rng([self.seed, iteration])
        drawn = rng.choice(len(self.images), size, p=self.chances)
        pairs = [self._pair(self.images[i], patch, rng) for i in drawn]
        return Batch(*(torch.from_numpy(np.stack(part)) for part in zip(*pairs)))

    def _pair(
        self, image: TrainingImage, patch: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        ratio, around = self.ratio, self.SURROUNDINGS
        side = patch + 2 * around * ratio
        height, width = image.reference.shape[1:]
        if min(height, width) < side:
            raise ValueError(f"An image of {height} x {width} pixels is smaller than {side}.")
        row, col = rng.integers(height - side + 1), rng.integers(width - side + 1)
        reference = image.reference[:, row : row + side, col : col + side].astype(np.float32)
        pan = None if image.pan is None else image.pan[row : row + side, col : col + side]
        reference, pan = _turn(reference, pan, rng)
        vary = self.augmentation
        scene = image.reference[:, ::7, ::7]
        if image.derived is not None:
            mix = image.derived.draw(None if vary is None else rng)
            reference, scene = mix(reference), mix(scene)
        sharp_pan = pan is None or image.sharp_pan
        if pan is None:
            pan = self._simulated_pan(scene, reference, rng)
        if sharp_pan:
            pan = _as_seen(pan, vary, rng)
        if vary is not None:
            if rng.random() < vary.haze_free:
                reference = _without_haze(reference, scene, rng)
            reference, pan = _vary_radiometry(reference, pan, vary, rng)
            pan = pan + rng.uniform(0, vary.noise_pan) * rng.standard_normal(pan.shape)
        ms = self._degraded(reference, rng)
        coarse = ms.shape[-1]
        positions = upsampling_positions(patch, ratio, around * ratio)
        up = cubic_matrix(positions, coarse)
        inner, core = slice(around * ratio, around * ratio + patch), slice(around, coarse - around)
        lms = up @ ms @ up.T
        parts = (pan[None, inner, inner], ms[:, core, core], lms, reference[:, inner, inner])
        return tuple(np.ascontiguousarray(part, dtype=np.float32) for part in parts)

    def _simulated_pan(
        self, scene: np.ndarray, reference: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """A panchromatic mix of the bands, scaled as the PAN of the scene would be, of which some pixels are given."""
        vary = self.augmentation
        if vary is None:
            return _panchromatic(self.pan_weights / self.pan_weights.sum(), scene, reference)
        pan = _panchromatic(self._drawn_weights(rng), scene, reference)
        if len(reference) > 1 and rng.random() < vary.pan_materials:
            other = _panchromatic(self._drawn_weights(rng), scene, reference)
            first, second = rng.choice(len(reference), 2, replace=False)
            share = material_share(reference[first], reference[second], rng.uniform(-0.3, 0.3))
            pan = pan * share + other * (1 - share)
        return pan

    def _drawn_weights(self, rng: np.random.Generator) -> np.ndarray:
        """How much of each band a PAN sees, (C,), adding up to 1."""
        seen = rng.random(len(self.pan_weights)) < self.pan_weights
        if not seen.any():
            seen = self.pan_weights == self.pan_weights.max()
        weights = seen * rng.exponential(size=len(seen))
        return weights / weights.sum()

    def _degraded(self, reference: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """MS after Wald: each band's MTF, decimation, noise."""
        vary, size = self.augmentation, reference.shape[-1]
        count = size // self.ratio
        gains = np.full(len(reference), 0.3)
        if vary is not None:
            gains = rng.uniform(*vary.mtf_ms) + rng.uniform(-1, 1, len(gains)) * vary.mtf_jitter
        ms = np.empty((len(reference), count, count))
        for band, gain in enumerate(gains):
            centres = block_centres(count, self.ratio)
            blur = gaussian_matrix(centres, size, mtf_sigma(gain, self.ratio))
            ms[band] = blur @ reference[band] @ blur.T
        if vary is not None:
            ms += rng.uniform(0, vary.noise_ms) * rng.standard_normal(ms.shape)
        return ms


def _panchromatic(weights: np.ndarray, scene: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The mix of the bands, over its 98th percentile in the scene."""
    bands = scene.reshape(len(weights), -1)
    scale = max(np.percentile(weights @ bands, PERCENTILE), 1e-6)
    return np.tensordot(weights, reference, axes=1) / scale


def _as_seen(pan: np.ndarray, vary: Augmentation | None, rng: np.random.Generator) -> np.ndarray:
    """A simulated PAN, (n, n), through the optics of a PAN sensor and on its own grid."""
    size, gain, shift = pan.shape[0], TYPICAL_PAN_BLUR, np.zeros(2)
    if vary is not None:
        gain = rng.uniform(*vary.pan_blur)
        if rng.random() < 0.5:
            shift = rng.uniform(-1, 1, 2) * vary.pan_shift
    rows, cols = (_soften(size, gain) @ cubic_matrix(np.arange(size) + s, size) for s in shift)
    return rows @ pan @ cols.T


def _soften(size: int, gain: float) -> np.ndarray:
    """Three-tap low-pass of a line with ``gain`` at Nyquist, (size, size); a sampled Gaussian is too coarse for this."""
    side = (1 - gain) / 4
    matrix = np.eye(size) * (1 - 2 * side)
    lines = np.arange(size)
    for neighbour in (lines - 1, lines + 1):
        np.add.at(matrix, (lines, neighbour.clip(0, size - 1)), side)
    return matrix


def _turn(
    reference: np.ndarray, pan: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray | None]:
    """One of the eight flips and quarter turns."""
    turns, mirrored = rng.integers(4), rng.random() < 0.5

    def turned(image: np.ndarray) -> np.ndarray:
        image = np.rot90(image, turns, axes=(-2, -1))
        return image[..., ::-1] if mirrored else image

    return turned(reference), None if pan is None else turned(pan)


def _without_haze(reference: np.ndarray, scene: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Most of the scene's darkest values taken from each band, on the scale that the scene would then have."""
    dark = np.percentile(scene.reshape(len(scene), -1), DARK_PERCENTILE, axis=1).clip(0, 0.9)
    dark = (rng.uniform(0.5, 1) * dark)[:, None, None]
    return (reference - dark) / (1 - dark)


def _vary_radiometry(
    reference: np.ndarray, pan: np.ndarray, vary: Augmentation, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Another sensor's gains, haze and linearity, on the reference and on PAN apart."""
    bands = len(reference)
    gains = np.exp(vary.band_gain * rng.standard_normal(bands + 1))
    # Haze is common to all bands in kind, not in amount; the scene's scale would grow with it.
    offsets = rng.uniform(-0.25, 1) * vary.offset * rng.uniform(0.5, 1, bands + 1)
    gains = gains / (1 + offsets)
    gamma = 1 + vary.gamma * rng.uniform(-1, 1)
    reference = (reference + offsets[:bands, None, None]) * gains[:bands, None, None]
    pan = (np.maximum(pan, 0) ** gamma + offsets[bands]) * gains[bands]
    return reference, pan
