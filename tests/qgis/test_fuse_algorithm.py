"""Both pansharpening algorithms inside QGIS: arguments, checks, results, errors."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("qgis.core", reason="QGIS is not importable from this Python")

from qgis.core import (
    QgsApplication,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingFeedback,
    QgsProcessingParameterDefinition,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)

from fusion_core.raster.geotiff import read_bands
from fusion_core.raster.provenance import read_provenance


def create(name: str = "ssdiff"):
    return QgsApplication.processingRegistry().createAlgorithmById(f"diffusionpansharpening:{name}")


def check(parameters: dict, name: str = "ssdiff") -> tuple[bool, str]:
    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    return create(name).checkParameterValues(parameters, context)


@pytest.fixture
def inputs(scene, model, tmp_path) -> dict:
    """Parameters that are all right."""
    return {
        "PAN": scene.pan,
        "MS": scene.ms,
        "MODEL": model,
        "OUTPUT": str(tmp_path / "fused.tif"),
    }


@pytest.fixture
def fused(monkeypatch, plugin):
    """Replaces ``fuse``; its arguments by name."""
    from diffusion_pansharpening.processing_provider import fuse_algorithm

    seen = {}

    def fuse(pan, ms, output, **arguments):
        seen.update(pan=pan, ms=ms, output=output, **arguments)
        arguments["progress"](0.5)
        arguments["report"]("computing")
        facts = {"width": 1, "height": 1, "seconds": 1.0, "digest": "abc"}
        return SimpleNamespace(as_dict=lambda: facts)

    monkeypatch.setattr(fuse_algorithm, "fuse", fuse)
    return seen


def run(parameters: dict, name: str = "ssdiff", feedback=None) -> dict:
    import processing

    return processing.run(create(name), parameters, feedback=feedback)


def test_paths_and_defaults_reach_fuse(inputs, fused):
    results = run(inputs, "ssdiff")
    assert results == {"OUTPUT": inputs["OUTPUT"]}
    assert fused["pan"] == inputs["PAN"]
    assert fused["ms"] == inputs["MS"]
    assert fused["output"] == inputs["OUTPUT"]
    assert fused["method"] == "ssdiff"
    assert fused["executor"] == "worker"
    assert (fused["steps"], fused["seed"], fused["samples"]) == (None, 0, 1)
    assert (fused["device"], fused["precision"], fused["data_type"]) == ("auto", "auto", "ms")
    assert fused["extent"] is fused["uncertainty"] is fused["threads"] is None
    assert fused["creation_options"] == []
    assert fused["bands"] is fused["cluster"] is None


def test_every_parameter_reaches_fuse(inputs, fused, tmp_path):
    inputs.update(
        BANDS=" Blue,Green,Red,NIR ",
        STEPS=3,
        SEED=7,
        DEVICE="cpu",
        PRECISION="float32",
        SAMPLES=2,
        DATA_TYPE="float32",
        CLUSTER=" tcp://host:8786 ",
        CREATION_OPTIONS="COMPRESS=DEFLATE | PREDICTOR=2|",
        EXTENT="500010,500030,5399970,5399990 [EPSG:32633]",
        UNCERTAINTY=str(tmp_path / "uncertainty.tif"),
    )
    results = run(inputs)
    assert set(results) == {"OUTPUT", "UNCERTAINTY"}
    assert fused["bands"] == "Blue,Green,Red,NIR"
    assert (fused["steps"], fused["seed"], fused["samples"]) == (3, 7, 2)
    assert (fused["device"], fused["precision"], fused["data_type"]) == (
        "cpu",
        "float32",
        "float32",
    )
    assert fused["cluster"] == "tcp://host:8786"
    assert fused["creation_options"] == ["COMPRESS=DEFLATE", "PREDICTOR=2"]
    assert fused["extent"] == (500010, 5399970, 500030, 5399990)
    assert "33N" in fused["extent_crs"]
    assert fused["uncertainty"] == inputs["UNCERTAINTY"]


def test_layers_of_the_project_are_resolved(inputs, fused, project):
    layers = [QgsRasterLayer(inputs[name], name) for name in ("PAN", "MS")]
    project.addMapLayers(layers)
    run({**inputs, "PAN": layers[0], "MS": [layers[1].id()]})
    assert (fused["pan"], fused["ms"]) == (inputs["PAN"], inputs["MS"])


def test_definitions_around_a_source_are_resolved(inputs, fused, scene):
    """Newer versions have one for rasters, of the same kind."""
    run({**inputs, "PAN": QgsProcessingFeatureSourceDefinition(scene.pan)})
    assert fused["pan"] == scene.pan


def test_several_rasters_stay_in_order(inputs, fused, scene, tmp_path):
    from osgeo import gdal

    names = []
    for band in (1, 2, 3, 4):
        names.append(str(tmp_path / f"band{band}.tif"))
        gdal.Translate(names[-1], scene.ms, bandList=[band])
    run({**inputs, "MS": names})
    assert fused["ms"] == names


def test_names_that_only_gdal_knows_are_taken(inputs, fused, scene, tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "scene.zip", "w") as archive:
        archive.write(scene.pan, "pan.tif")
    name = f"/vsizip/{tmp_path}/scene.zip/pan.tif"
    run({**inputs, "PAN": name, "MS": f"GTIFF_DIR:1:{scene.ms}"})
    assert fused["pan"] == name
    assert fused["ms"] == f"GTIFF_DIR:1:{scene.ms}"


@pytest.mark.parametrize("error", ["FusionError", "Cancelled"])
def test_errors_become_processing_exceptions(inputs, plugin, monkeypatch, error):
    from diffusion_pansharpening.fusion_core import errors
    from diffusion_pansharpening.processing_provider import fuse_algorithm

    def fuse(*_arguments, **_options):
        raise errors.Cancelled if error == "Cancelled" else errors.FusionError("It is so.")

    monkeypatch.setattr(fuse_algorithm, "fuse", fuse)
    sentence = "Cancelled: nothing was written." if error == "Cancelled" else "It is so."
    with pytest.raises(QgsProcessingException, match=sentence):
        run(inputs)


def test_missing_pytorch_is_said(inputs, plugin, monkeypatch):
    from diffusion_pansharpening.fusion_core.errors import FusionError
    from diffusion_pansharpening.processing_provider import torch_algorithm

    def find(preferred=None):
        raise FusionError("PyTorch was not found: install it.")

    monkeypatch.setattr(torch_algorithm, "find_interpreter", find)
    assert create().canExecute() == (False, "PyTorch was not found: install it.")
    with pytest.raises(QgsProcessingException, match="PyTorch was not found"):
        run(inputs)


def test_good_parameters_pass_the_check(inputs, plugin):
    assert check(inputs) == (True, "")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"PAN": None}, "PAN is missing"),
        ({"MS": []}, "MS is missing"),
        ({"STEPS": 0}, "STEPS is 0: give a whole number from 1 to 1000."),
        ({"STEPS": "many"}, "STEPS is many"),
        ({"STEPS": 1.5}, "STEPS is 1.5"),
        ({"SEED": -1}, "SEED is -1"),
        ({"SAMPLES": 0}, "SAMPLES is 0"),
        ({"PRECISION": "double"}, "PRECISION is double: choose one of auto, float32"),
        ({"EXTENT": "here"}, "EXTENT"),
        ({"DEVICE": "cuda:0,cpu"}, "The devices cuda:0,cpu are of different kinds"),
        ({"CLUSTER": "myhost"}, "myhost is no address of a Dask scheduler"),
        ({"MODEL": "nonsense"}, "nonsense"),
        ({"BANDS": "Blue,Green,Red"}, "BANDS has 3 name(s) but the MS image has 4 band(s)"),
        ({"BANDS": "480,550,660,1375"}, "BANDS has 1375, which is no known band"),
        ({"OUTPUT": None}, "OUTPUT (Pansharpened image) is missing"),
        ({"OUTPUT": "/nowhere/at/all/fused.tif"}, "/nowhere/at/all"),
    ],
)
def test_bad_parameters_are_refused(inputs, plugin, wrong, sentence):
    accepted, message = check({**inputs, **wrong})
    assert not accepted
    assert sentence in message


def test_uncertainty_needs_samples(inputs, plugin, tmp_path):
    accepted, message = check({**inputs, "UNCERTAINTY": str(tmp_path / "u.tif")})
    assert not accepted
    assert "2 samples or more" in message


def test_layers_that_are_no_gdal_rasters_are_refused(inputs, plugin, project):
    vector = QgsVectorLayer("Point?crs=EPSG:32633", "points", "memory")
    project.addMapLayer(vector)
    accepted, message = check({**inputs, "MS": [vector]})
    assert not accepted
    assert "“points” is not a raster that GDAL reads" in message


def test_different_reference_systems_need_no_warning(inputs, plugin):
    assert create().validateInputCrs(inputs, QgsProcessingContext())


@pytest.mark.parametrize("method", ["ssdiff", "ddrf"])
def test_real_run(inputs, plugin, models, method, scene):
    feedback = QgsProcessingFeedback()
    fractions = []
    feedback.progressChanged.connect(fractions.append)
    # By itself DDRF computes in what the CPU of the moment does best.
    inputs.update(MODEL=models[method], STEPS=2, SEED=5, DEVICE="cpu", PRECISION="float32")
    results = run(inputs, method, feedback)
    pixels, info = read_bands(results["OUTPUT"])
    _, pan = read_bands(scene.pan)
    assert pixels.shape == (4, 128, 128)
    assert pixels.dtype == "uint16"
    assert info.geotransform == pan.geotransform
    assert info.band_names == ("Blue", "Green", "Red", "NIR")
    provenance = read_provenance(results["OUTPUT"])
    assert provenance["model"] == f"{method}-untrained"
    assert (provenance["seed"], provenance["steps"]) == ("5", "2")
    assert len(fractions) > 4 and fractions[-1] == 100
    log = feedback.textLog()
    assert f"Model {method}-untrained" in log
    assert "Computing on cpu in float32" in log
    assert "seed 5" in log


def test_uncertainty_is_an_output_of_its_own(inputs, plugin, tmp_path):
    target = str(tmp_path / "uncertainty.tif")
    results = run({**inputs, "DEVICE": "cpu", "SAMPLES": 2, "UNCERTAINTY": target})
    assert results["UNCERTAINTY"] == target
    pixels, info = read_bands(target)
    assert pixels.shape == (4, 128, 128)
    assert pixels.dtype == "float32"
    assert pixels.max() > 0
    assert info.band_names == ("Blue", "Green", "Red", "NIR")


def test_extent_gives_the_pixels_of_the_whole(inputs, plugin, tmp_path):
    whole, _ = read_bands(run({**inputs, "DEVICE": "cpu"})["OUTPUT"])
    part, info = read_bands(
        run(
            {
                **inputs,
                "DEVICE": "cpu",
                "OUTPUT": str(tmp_path / "part.tif"),
                "EXTENT": "500010,500030,5399970,5399990 [EPSG:32633]",
            }
        )["OUTPUT"]
    )
    # Pixels of 0.5 m from (500000, 5400000).
    inside = whole[:, 20:60, 20:60]
    assert part.shape == inside.shape
    difference = abs(part.astype(int) - inside)
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 1e-4
    assert info.geotransform[0] == 500010


@pytest.mark.parametrize("name", ["ssdiff", "ddrf"])
def test_bands_are_advanced_and_optional(plugin, name):
    algorithm = create(name)
    definition = algorithm.parameterDefinition("BANDS")
    assert definition.type() == "string"
    assert definition.flags() & QgsProcessingParameterDefinition.Flag.FlagAdvanced
    assert definition.flags() & QgsProcessingParameterDefinition.Flag.FlagOptional
    assert not definition.defaultValue()


def test_named_bands_change_which_serves_as_which(inputs, plugin):
    run({**inputs, "BANDS": "NIR,Red,Green,Blue"})
    matching = read_provenance(inputs["OUTPUT"])["band_matching"]
    assert matching == "Blue=4, Green=3, Red=2, NIR=1 (named by the user)"
    assert read_bands(inputs["OUTPUT"])[1].band_names == ("Blue", "Green", "Red", "NIR")
