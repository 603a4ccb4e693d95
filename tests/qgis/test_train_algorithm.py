"""Training inside QGIS."""

from __future__ import annotations

import os
import re
import signal
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("qgis.core", reason="QGIS is not importable from this Python")
pytest.importorskip("torch", reason="PyTorch is not installed")

from qgis.core import (
    QgsApplication,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingModelAlgorithm,
    QgsProject,
    QgsRasterLayer,
)
from qgis.PyQt.QtCore import QByteArray
from qgis.PyQt.QtSvg import QSvgRenderer
from qgis.PyQt.QtWidgets import QComboBox

from fusion_core.raster.geotiff import read_bands, write_geotiff
from fusion_core.raster.sample_scene_files import write_sample_scene
from fusion_core.sample_scene import make_sample_scene
from fusion_core.weights import read_model
from tests.core.networks import write_model
from tests.qgis.background import Run, children
from tests.qgis.graphical import Source, images, make_chain


def create():
    return QgsApplication.processingRegistry().createAlgorithmById("diffusionpansharpening:train")


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> dict[str, str]:
    """Files of a sample scene that is just large enough to train on."""
    folder = tmp_path_factory.mktemp("large")
    paths = {name: str(folder / f"{name}.tif") for name in ("pan", "ms", "reference")}
    write_sample_scene(make_sample_scene(256), *paths.values())
    return paths


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    """A base model of random weights: any training of it helps."""
    names = ("Blue", "Green", "Red", "NIR")
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    return write_model(path, "ssdiff", band_names=names)


@pytest.fixture
def parameters(plugin, large, base, tmp_path) -> dict:
    return {
        "PAN": large["pan"],
        "MS": large["ms"],
        "METHOD": "ssdiff",
        "BASE_MODEL": base,
        "ITERATIONS": 3,
        "DEVICE": "cpu",
        "MODEL": str(tmp_path / "adapted.safetensors"),
        "REPORT": str(tmp_path / "report.html"),
    }


class Page(HTMLParser):
    """What a page consists of; a page that does not close what it opens is refused."""

    EMPTY = ("meta", "img", "path", "polyline", "circle")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.addresses = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


def check_report(path: str) -> None:
    text = Path(path).read_text(encoding="utf-8")
    page = Page(text)
    assert all(address.startswith("data:") for address in page.addresses)
    assert page.tags.count("img") == 4 and page.tags.count("svg") == 4
    for words in ("held-out quarter", "bicubic interpolation", "MTF-GLP", "base model", "ERGAS"):
        assert words in text
    for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        assert QSvgRenderer(QByteArray(drawing.encode())).isValid()


def test_trains_reports_and_the_model_fuses(parameters, tmp_path):
    import processing

    feedback, shares = QgsProcessingFeedback(), []
    feedback.progressChanged.connect(shares.append)
    results = processing.run(create(), parameters, feedback=feedback)
    assert results == {name: parameters[name] for name in ("MODEL", "REPORT")}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapted.safetensors", "report.html"]
    card = read_model(results["MODEL"]).card
    assert (card.id, card.method, card.steps) == ("adapted", "ssdiff", 1)
    assert card.band_names == ("Blue", "Green", "Red", "NIR")
    assert card.training["iterations"] == "3 of 3"
    check_report(results["REPORT"])
    log = feedback.textLog()
    last = r"Iteration 3 of 3, 0 s left, loss \d\.\d{4}; held-out quarter: SAM \d"
    assert re.search(last, log), log
    for row in ("bicubic", "MTF-GLP-HPM", "base", "trained"):
        assert f"{row}: SAM" in log
    assert "On the held-out quarter the trained weights are" in log
    assert shares[-1] == 100
    fused = processing.run(
        "diffusionpansharpening:ssdiff",
        {
            "PAN": parameters["PAN"],
            "MS": parameters["MS"],
            "MODEL": results["MODEL"],
            "DEVICE": "cpu",
            "OUTPUT": str(tmp_path / "fused.tif"),
        },
    )
    assert read_bands(fused["OUTPUT"])[0].shape == (4, 256, 256)


def test_two_scenes_and_a_mask(parameters, large, tmp_path):
    import processing

    moved = {name: str(tmp_path / f"moved_{name}.tif") for name in ("pan", "ms")}
    for name, path in moved.items():
        pixels, info = read_bands(large[name])
        grid = list(info.geotransform)
        grid[0] += 10000
        write_geotiff(
            path, pixels, geotransform=tuple(grid), crs_wkt=info.crs_wkt, band_names=info.band_names
        )
    clouds, info = read_bands(large["ms"])
    mask = np.zeros((1, *clouds.shape[1:]), np.uint8)
    mask[:, :8, :8] = 1
    write_geotiff(
        str(tmp_path / "mask.tif"), mask, geotransform=info.geotransform, crs_wkt=info.crs_wkt
    )
    project = QgsProject.instance()
    layer = QgsRasterLayer(large["ms"], "ms")
    project.addMapLayer(layer)
    feedback = QgsProcessingFeedback()
    try:
        results = processing.run(
            create(),
            {
                **parameters,
                "PAN": [large["pan"], moved["pan"]],
                "MS": [moved["ms"], layer.id()],
                "MASK": str(tmp_path / "mask.tif"),
                "REPORT": None,
            },
            feedback=feedback,
        )
    finally:
        project.clear()
    assert set(results) == {"MODEL"}
    # The order is that of PAN.
    assert "Training on ms.tif, moved_ms.tif" in feedback.textLog()


needs_proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@pytest.fixture
def endless(parameters, wait_until):
    """A function that starts a training without end in the background."""
    runs = []

    def start() -> Run:
        runs.append(Run(create(), {**parameters, "ITERATIONS": 100_000}))
        return runs[-1]

    yield start
    for run in runs:
        if not run.ended:
            run.task.cancel()
            wait_until(lambda run=run: run.ended)


@needs_proc
def test_cancel_keeps_what_is_better(endless, parameters, wait_until, tmp_path):
    run = endless()
    wait_until(lambda: re.search(r"Iteration \d\d", run.feedback.textLog()), 200)
    run.task.cancel()
    wait_until(lambda: run.ended)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapted.safetensors", "report.html"]
    assert "the model was written all the same" in run.feedback.textLog()
    assert read_model(parameters["MODEL"]).card.training["iterations"].endswith("of 100000")
    assert "cancelled" in Path(parameters["REPORT"]).read_text(encoding="utf-8")
    assert children("training_worker") == []


@needs_proc
def test_cancel_before_training_leaves_nothing(endless, wait_until, tmp_path):
    run = endless()
    wait_until(lambda: children("training_worker"))
    run.task.cancel()
    assert wait_until(lambda: run.ended) < 3
    assert run.ended[0][0] is False
    assert "Iteration" not in run.feedback.textLog()
    assert children("training_worker") == [] and list(tmp_path.iterdir()) == []


@needs_proc
def test_a_child_that_dies_is_one_sentence(endless, wait_until, tmp_path):
    run = endless()
    wait_until(lambda: "Iteration" in run.feedback.textLog(), 200)
    os.kill(children("training_worker")[0], signal.SIGKILL)
    wait_until(lambda: run.ended)
    assert run.ended[0][0] is False
    assert "killed, most likely because memory ran out" in run.feedback.textLog()
    assert "train on a smaller scene" in run.feedback.textLog()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"PAN": None}, "PAN is missing"),
        ({"MS": []}, "MS is missing"),
        ({"MS": "/nowhere.tif"}, "nowhere.tif cannot be opened"),
        ({"MASK": "/nowhere.tif"}, "nowhere.tif cannot be opened"),
        ({"PAN": "MS", "MS": "PAN"}, "swapped"),
        ({"METHOD": "unet"}, "METHOD is unet: choose one of ddrf, ssdiff"),
        ({"METHOD": "ddrf"}, "is for SSDiff"),
        ({"BASE_MODEL": "nothing"}, "There is no model called nothing"),
        ({"BASE_MODEL": "none", "ITERATIONS": None}, "give MINUTES or ITERATIONS"),
        ({"ITERATIONS": 0}, "ITERATIONS is 0: give a whole number from 1"),
        ({"MINUTES": "soon"}, "MINUTES is soon: give a whole number from 1"),
        ({"METHOD": "ddrf", "ALTERNATING": True}, "choose SSDiff"),
        ({"SENSOR": "Sputnik"}, "SENSOR is Sputnik: choose one of"),
        ({"BANDS": "Blue,Green"}, "band"),
        ({"MODEL": "/nowhere/a.safetensors"}, "Nothing can be written in /nowhere"),
        ({"MODEL": "model.html"}, ".safetensors"),
        ({"REPORT": "/nowhere/a.html"}, "Nothing can be written in /nowhere"),
    ],
)
def test_bad_inputs_are_refused_at_once(parameters, large, wrong, sentence):
    files = {"PAN": large["pan"], "MS": large["ms"]}
    wrong = {k: files.get(v, v) if isinstance(v, str) else v for k, v in wrong.items()}
    accepted, message = create().checkParameterValues(
        {**parameters, **wrong}, QgsProcessingContext()
    )
    assert not accepted
    assert sentence in message
    assert message.count("\n") == 0


def test_small_scenes_are_refused(parameters, scene):
    accepted, message = create().checkParameterValues(
        {**parameters, "PAN": scene.pan, "MS": scene.ms}, QgsProcessingContext()
    )
    assert not accepted and "choose a larger scene" in message


def test_failure_is_told_in_its_own_words(parameters, tmp_path):
    import processing

    with pytest.raises(QgsProcessingException, match="no device called tpu"):
        processing.run(create(), {**parameters, "DEVICE": "tpu"})
    assert list(tmp_path.iterdir()) == []


def test_good_parameters_pass_and_torch_stays_out(parameters):
    loaded = "torch" in sys.modules
    for good in ({}, {"MINUTES": 5, "ITERATIONS": None}, {"MASK": []}, {"REPORT": None}):
        assert create().checkParameterValues({**parameters, **good}, QgsProcessingContext()) == (
            True,
            "",
        )
    assert ("torch" in sys.modules) == loaded


def test_qgis_process(parameters, qgis_process, tmp_path):
    outcome = qgis_process.run("train", **parameters, ALTERNATING="true")
    assert outcome.status == 0, outcome.output
    assert f"MODEL:\t{parameters['MODEL']}" in outcome.output
    assert "spectral branch; held-out quarter" in outcome.output
    assert outcome.left_running() == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapted.safetensors", "report.html"]
    refused = qgis_process.run("train", **{**parameters, "BASE_MODEL": "nothing"})
    assert refused.status != 0 and "There is no model called nothing" in refused.output


def train_and_fuse(base: str) -> QgsProcessingModelAlgorithm:
    """PAN, MS -> train -> ssdiff with the model that training made."""
    training = {"METHOD": "ssdiff", "BASE_MODEL": base, "ITERATIONS": 2}
    made = {"MODEL": Source.fromChildOutput("train", "MODEL")}
    steps = {
        name: (f"diffusionpansharpening:{name}", {**images(), "DEVICE": "cpu", **more})
        for name, more in (("train", training), ("ssdiff", made))
    }
    return make_chain("train and fuse", steps, {"RESULT": ("ssdiff", "OUTPUT")})


def test_model_feeds_the_next_step_of_a_graphical_model(plugin, large, base, tmp_path):
    import processing

    path, target = str(tmp_path / "chain.model3"), str(tmp_path / "fused.tif")
    assert train_and_fuse(base).toFile(path)
    chain = QgsProcessingModelAlgorithm()
    assert chain.fromFile(path)
    assert set(chain.dependsOnChildAlgorithms("ssdiff")) == {"train"}
    inputs = {"PAN": large["pan"], "MS": large["ms"], "ssdiff:RESULT": target}
    feedback = QgsProcessingFeedback()
    try:
        results = processing.run(chain, inputs, feedback=feedback)
    except QgsProcessingException:
        # The exception of a model says nothing.
        pytest.fail(feedback.textLog())
    assert results["ssdiff:RESULT"] == target
    assert read_bands(target)[0].shape == (4, 256, 256)
    assert "trained weights" in feedback.textLog()


@pytest.mark.parametrize("method", ["ddrf", "ssdiff"])
def test_the_modeler_offers_the_model(plugin, qgis_app, base, method):
    from processing.modeler.ModelerParametersDialog import ModelerParametersDialog

    registry = QgsApplication.processingRegistry()
    algorithm = registry.createAlgorithmById(f"diffusionpansharpening:{method}")
    window = ModelerParametersDialog(algorithm, train_and_fuse(base))
    editor = window.widget.widget.wrappers["MODEL"]
    offered = [
        box.itemText(row) for box in editor.findChildren(QComboBox) for row in range(box.count())
    ]
    assert any(text.startswith("“Model” from algorithm") for text in offered), offered
    window.close()


def test_dialog_takes_one_scene_or_several(plugin, project, large):
    from processing.gui.AlgorithmDialog import AlgorithmDialog

    project.addMapLayers([QgsRasterLayer(large[name], name) for name in ("pan", "ms")])
    window = AlgorithmDialog(create())
    (pan,), (ms,) = (project.mapLayersByName(name) for name in ("pan", "ms"))
    window.setParameters({"PAN": pan.id(), "MS": [ms.id()]})
    values = window.createProcessingParameters()
    assert (values["PAN"], values["MS"], values["BASE_MODEL"]) == (pan.id(), ms.id(), "auto")
    assert values.get("MASK") in (None, "")
    several = [large["pan"], large["reference"]]
    window.setParameters({"PAN": several, "MS": several, "BASE_MODEL": "none"})
    values = window.createProcessingParameters()
    assert (values["PAN"], values["BASE_MODEL"]) == (several, "none")
    window.close()
