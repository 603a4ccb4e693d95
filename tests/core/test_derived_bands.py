"""Bands made from their neighbours in wavelength."""

from __future__ import annotations

import numpy as np
import pytest

from fusion_core.training.derived_bands import DerivedBands, material_share

PRESENT = ("Red", "Green", "Blue", "NIR", "SWIR1")
WANTED = ("Coastal", "Blue", "Green", "Yellow", "Red", "RedEdge", "NIR1", "NIR2")


@pytest.fixture
def image():
    return np.random.default_rng(2).random((5, 6, 7))


@pytest.mark.parametrize("seed", range(4))
def test_bands_that_are_there_are_taken_as_they_are(image, seed):
    made = DerivedBands(PRESENT, WANTED).draw(np.random.default_rng(seed))(image)
    assert made.shape == (8, 6, 7)
    np.testing.assert_allclose(made[[1, 2, 4, 6]], image[[2, 1, 0, 3]], atol=1e-12)


def test_bands_between_two_others_lie_between_them(image):
    made = DerivedBands(PRESENT, WANTED).draw(None)(image)
    for band, one, other in ((3, 1, 0), (5, 0, 3)):
        low, high = np.minimum(image[one], image[other]), np.maximum(image[one], image[other])
        assert ((made[band] >= low - 1e-12) & (made[band] <= high + 1e-12)).all()


def test_a_spectrum_without_colour_stays_without(image):
    grey = np.broadcast_to(image[:1], image.shape)
    made = DerivedBands(PRESENT, WANTED).draw(np.random.default_rng(0))(grey)
    np.testing.assert_allclose(made, np.broadcast_to(image[:1], made.shape), atol=1e-12)


def test_materials_get_other_mixes(image):
    mix = DerivedBands(PRESENT, WANTED).draw(np.random.default_rng(1))
    pixels = image.reshape(5, -1)
    design = np.vstack([pixels, np.ones(pixels.shape[1])]).T
    yellow = mix(image)[3].ravel()
    fit = design @ np.linalg.lstsq(design, yellow, rcond=None)[0]
    assert np.abs(fit - yellow).max() > 1e-3


@pytest.mark.parametrize(
    ("present", "wanted"),
    [(PRESENT, ("Blue", "SWIR2")), (("Red", "SWIR1"), ("Blue",)), (PRESENT, ("Blue", "violet"))],
)
def test_what_cannot_be_derived_is_refused(present, wanted):
    with pytest.raises(ValueError, match="cannot be derived"):
        DerivedBands(present, wanted)


def test_material_share_parts_by_the_normalised_difference():
    share = material_share(np.array([0.9, 0.1]), np.array([0.1, 0.9]), 0.0)
    assert share[0] > 0.9 and share[1] < 0.1
