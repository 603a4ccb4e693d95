"""Bands of a scene matched to those of a model: by the image, by the user, never against what is known."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
gdal = pytest.importorskip("osgeo.gdal")
from fusion_core.band_matching import (  # noqa: E402
    BY_IMAGE,
    BY_ORDER,
    BY_USER,
    has_bands,
    known_bands,
    match_bands,
)
from fusion_core.errors import FusionError  # noqa: E402
from fusion_core.fuse import check_fuse, fuse  # noqa: E402
from fusion_core.raster.geotiff import read_bands, write_geotiff  # noqa: E402
from fusion_core.raster.provenance import read_provenance  # noqa: E402
from fusion_core.weights import find_model  # noqa: E402
from tests.core.networks import write_model  # noqa: E402

WANTED = ("Blue", "Green", "Red", "NIR")
SHUFFLED = [2, 0, 3, 1]


@pytest.fixture(scope="module")
def scene(sample_pair):
    """PAN and MS of a small scene."""
    return sample_pair(64)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return write_model(folder / "tiny.safetensors", band_names=WANTED, strength=0.2)


@pytest.fixture(scope="module")
def expected(scene, model, tmp_path_factory):
    """The fused scene, bands blue, green, red, near infrared."""
    path = str(tmp_path_factory.mktemp("expected") / "fused.tif")
    fuse(*scene, path, model=model, threads=1)
    return read_bands(path)[0]


@pytest.fixture
def shuffled(scene, tmp_path):
    """A function that writes MS as red, blue, near infrared, green under given descriptions."""

    def write(names=()):
        image, info = read_bands(scene[1])
        path = str(tmp_path / "shuffled.tif")
        write_geotiff(path, image[SHUFFLED], info.geotransform, info.crs_wkt, names)
        return path

    return write


def test_what_is_known_of_bands():
    told = ("Rot", "B2, central wavelength 490 nm", "NIR-1", "")
    found = ("red", "blue", "nir", "")
    assert known_bands(told, found, None) == ("red", "blue", "NIR-1", "")
    assert known_bands(told, found, " ,") == ("red", "blue", "NIR-1", "")
    assert known_bands(told, found, "Green,480,Red,NIR") == ("green", "blue", "red", "nir")
    assert not any(map(has_bands, (None, "", " ", ",", ())))
    assert all(map(has_bands, ("Blue", ",Blue", (480,))))
    with pytest.raises(FusionError, match="2 name"):
        known_bands(told, found, "Blue,Green")


def test_matched_by_name():
    match = match_bands("m", WANTED, ("NIR", "red", "G", "blue"), by_user=False)
    assert (match.order, match.source, match.notes) == ((3, 2, 1, 0), BY_IMAGE, ())
    assert str(match) == "Blue=4, Green=3, Red=2, NIR=1 (named by the image)"
    assert match.sentence(("nir", "", "G", "B2 (490 nm)")) == (
        "Bands, named by the image: Blue is MS band 4 (B2 (490 nm)), Green is MS band 3, "
        "Red is MS band 2, NIR is MS band 1"
    )
    assert match_bands("m", WANTED, ("nir", "red", "green", "blue"), True).source == BY_USER


@pytest.mark.parametrize(
    ("names", "word"), [(("", "", "", ""), "do not"), (("blue", "", "", "nirn"), "Not all")]
)
def test_in_order_where_nothing_speaks_against_it_and_that_is_said(names, word):
    match = match_bands("m", WANTED, names, by_user=False)
    assert (match.order, match.source) == ((0, 1, 2, 3), BY_ORDER)
    (note,) = match.notes
    assert word in note
    assert "taken to be Blue, Green, Red, NIR, in this order. Give BANDS" in note
    assert str(match) == "Blue=1, Green=2, Red=3, NIR=4 (taken in order)"


@pytest.mark.parametrize(
    ("names", "by_user", "words"),
    [
        (("red", "green", "blue", ""), False, "band 1 is red, band 3 is blue.*give BANDS"),
        (("", "", "", "swir1"), False, "band 4 is swir1.*give BANDS"),
        (("blue", "blue", "", ""), False, "band 2 is blue.*give BANDS"),
        (("green", "red", "nir", "swir1"), False, "bands are green, red, nir, swir1.*give BANDS"),
        (("green", "red", "nir", "swir1"), True, "bands are green, red, nir, swir1"),
    ],
)
def test_a_mismatch_is_refused(names, by_user, words):
    with pytest.raises(FusionError, match=words) as caught:
        match_bands("m", WANTED, names, by_user)
    assert str(caught.value).count(".") == 1


def test_a_model_without_names_takes_the_order_unless_the_user_names_bands():
    match = match_bands("m", (), ("red", "green", "blue"), by_user=False)
    assert (match.order, str(match)) == ((0, 1, 2), "taken in order")
    assert "does not name its bands" in match.sentence(("", "", ""))
    with pytest.raises(FusionError, match="leave BANDS empty"):
        match_bands("m", (), ("red", "green", "blue"), by_user=True)


@pytest.mark.parametrize(
    "bands", ["Red,Blue,NIR,Green", "660,480,835,550", ("red", 0.48, "Near Infrared", "green")]
)
@pytest.mark.parametrize("names", [(), WANTED])
def test_the_user_names_bands_and_wins_over_the_file(
    scene, model, expected, shuffled, tmp_path, bands, names
):
    told = []
    path = str(tmp_path / "fused.tif")
    result = fuse(
        scene[0], shuffled(names), path, model=model, bands=bands, threads=1, report=told.append
    )
    fused, info = read_bands(path)
    np.testing.assert_array_equal(fused, expected[SHUFFLED])
    # The file keeps what the user's file says.
    assert info.band_names == (names or ("", "", "", ""))
    matching = "Blue=2, Green=4, Red=1, NIR=3 (named by the user)"
    assert result.band_matching == read_provenance(path)["band_matching"] == matching
    assert any("Blue is MS band 2" in line and "NIR is MS band 3" in line for line in told)


def test_wavelengths_in_descriptions(scene, model, expected, shuffled, tmp_path):
    names = ("B4, central wavelength 665 nm", "B2, central wavelength 490 nm", "842 nm", "0.56 um")
    path, told = str(tmp_path / "fused.tif"), []
    fuse(scene[0], shuffled(names), path, model=model, threads=1, report=told.append)
    fused, info = read_bands(path)
    np.testing.assert_array_equal(fused, expected[SHUFFLED])
    assert info.band_names == names
    assert any("Red is MS band 1 (B4, central wavelength 665 nm)" in line for line in told)


@pytest.mark.parametrize(
    ("names", "bands", "words"),
    [
        (("Red", "Blue", "", ""), None, "band 1 is Red, band 2 is Blue"),
        ((), "Red,Blue,NIR", r"BANDS has 3 name\(s\) but the MS image has 4"),
        ((), "Red,Blue,NIR,Gelb", "BANDS has Gelb"),
        ((), "Red,Blue,NIR,red", "the same band"),
        (WANTED, "Red,Blue,NIR,SWIR1", "The MS bands are red, blue, nir, swir1"),
    ],
)
def test_refused_before_anything_runs(scene, model, shuffled, tmp_path, names, bands, words):
    image = shuffled(names)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FusionError, match=words):
        check_fuse(scene[0], image, str(tmp_path / "fused.tif"), model=model, bands=bands)
    assert sorted(tmp_path.iterdir()) == before


def test_a_fourth_band_marked_as_transparency_counts_if_the_user_names_it(scene, model, shuffled):
    image = shuffled()
    dataset = gdal.OpenEx(image, gdal.OF_UPDATE)
    dataset.GetRasterBand(4).SetColorInterpretation(gdal.GCI_AlphaBand)
    dataset = None
    with pytest.raises(FusionError, match="3 .besides 1 marked as transparency.*BANDS names it"):
        check_fuse(scene[0], image, model=model)
    with check_fuse(scene[0], image, model=model, bands="Red,Blue,NIR,Green").scene as opened:
        assert (opened.ms_bands, opened.may_have_invalid) == (4, False)


@pytest.fixture
def installed(tmp_path):
    """A folder with two models for four bands."""
    folder = tmp_path / "models"
    folder.mkdir()
    write_model(folder / "a-swir.safetensors", band_names=("Green", "Red", "NIR", "SWIR1"))
    write_model(folder / "b-usual.safetensors", band_names=WANTED)
    return folder


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("SWIR1", "NIR", "Red", "Green"), "a-swir"),
        (("nirn", "Blue", "Red", "Green"), "b-usual"),
        (("Green", "", "", ""), "a-swir"),
        (("", "", "Red", ""), "b-usual"),
        # Nothing is known: the bands that most images have.
        (("", "", "", ""), "b-usual"),
        # What no model agrees with is left to the matching to refuse.
        (("swir2", "", "", ""), "b-usual"),
    ],
)
def test_auto_takes_the_model_that_knows_the_bands(installed, names, found):
    model = find_model("ssdiff", 4, 4, band_names=names, folder=installed)
    assert model.card.id == found


def test_auto_says_which_models_there_are(installed):
    with pytest.raises(FusionError) as caught:
        find_model("ssdiff", 4, 4, band_names=("blue", "green", "red", "swir1"), folder=installed)
    sentence = str(caught.value)
    assert "The MS bands are blue, green, red, swir1" in sentence
    assert "(a-swir: Green, Red, NIR, SWIR1; b-usual: Blue, Green, Red, NIR)" in sentence
    assert "BANDS" in sentence
