"""Bands that an image lacks, made from its neighbours in wavelength.

For sensors without free images: between two bands a surface's reflectance is mostly smooth, and where it is not (the
red edge, ageing foliage, painted roofs) how it bends depends on the material.  So a missing band is a mix of its neighbours
with random weights, and pixels of one material get another mix than the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..bands import WAVELENGTHS, canonical_band

Mix = Callable[[np.ndarray], np.ndarray]

JITTER = 0.35
"""Greatest change of the interpolation weight of a band between two others."""
OVERSHOOT = 1.2
"""Greatest random factor on the trend by which a band beyond the others is extrapolated, itself at most ``STEEPEST``."""
STEEPEST = 0.8
CONTRAST = 8.0
"""How sharply a normalised difference of two bands parts materials."""


class DerivedBands:
    """Makes wanted bands of present ones.

    Args:
        present: names of the bands an image has; those nobody knows by name are not used.
        wanted: names of the bands to make; one that is present is taken as it is.

    Raises:
        ValueError: a wanted band is missing that cannot be derived: beyond 1000 nm, or fewer than two known bands below.
    """

    def __init__(self, present: Sequence[str], wanted: Sequence[str]) -> None:
        names = [canonical_band(name) for name in present]
        self.known = [i for i, name in enumerate(names) if WAVELENGTHS.get(name, 2000.0) < 1000.0]
        self.known.sort(key=lambda i: WAVELENGTHS[names[i]])
        self.wavelengths = [WAVELENGTHS[names[i]] for i in self.known]
        self.bands = len(names)
        self.rows: list[int | float] = []
        for name in map(canonical_band, wanted):
            wavelength = WAVELENGTHS.get(name, 2000.0)
            if name in names:
                self.rows.append(names.index(name))
            elif wavelength < 1000.0 and len(self.known) >= 2:
                self.rows.append(wavelength)
            else:
                raise ValueError(f"The band {name or 'without a name'} cannot be derived.")

    def draw(self, rng: np.random.Generator | None) -> Mix:
        """One way to make the bands: a function from (bands, ...) to (wanted, ...); without ``rng`` the plain one."""
        if rng is None:
            matrix = self._matrix(None)
            return lambda image: np.tensordot(matrix, image, axes=1)
        one, other = self._matrix(rng), self._matrix(rng)
        first, second = rng.choice(self.known, 2, replace=False)
        middle = rng.uniform(-0.3, 0.3)

        def mix(image: np.ndarray) -> np.ndarray:
            share = material_share(image[first], image[second], middle)
            return np.tensordot(one, image, axes=1) * share + np.tensordot(other, image, axes=1) * (
                1 - share
            )

        return mix

    def _matrix(self, rng: np.random.Generator | None) -> np.ndarray:
        """Weights of the present bands in each wanted one."""
        matrix = np.zeros((len(self.rows), self.bands))
        for row, source in zip(matrix, self.rows):
            if isinstance(source, int):
                row[source] = 1.0
                continue
            upper = int(np.clip(np.searchsorted(self.wavelengths, source), 1, len(self.known) - 1))
            low, high = self.wavelengths[upper - 1], self.wavelengths[upper]
            share = (source - low) / (high - low)
            if 0 <= share <= 1:
                jitter = 0.0 if rng is None else JITTER * rng.uniform(-1, 1)
                share = np.clip(share + jitter, -0.2, 1.2)
            else:
                beyond = -share if share < 0 else share - 1
                trend = min(beyond, STEEPEST) * (0.5 if rng is None else rng.uniform(0, OVERSHOOT))
                share = -trend if share < 0 else 1 + trend
            row[self.known[upper - 1]] = 1 - share
            row[self.known[upper]] = share
        return matrix


def material_share(one: np.ndarray, other: np.ndarray, middle: float) -> np.ndarray:
    """Parts materials by two bands: 0 to 1, by how far their normalised difference lies above ``middle``."""
    difference = (one - other) / (np.abs(one) + np.abs(other) + 0.1)
    return 1 / (1 + np.exp(-CONTRAST * (difference - middle)))
