"""The import of checkpoints inside QGIS."""

from __future__ import annotations

import os
import sys

import pytest

pytest.importorskip("qgis.core", reason="QGIS is not importable from this Python")

from qgis.core import QgsApplication, QgsProcessingContext

from fusion_core.weights import read_model


def create():
    return QgsApplication.processingRegistry().createAlgorithmById(
        "diffusionpansharpening:importcheckpoint"
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    """A checkpoint as a training code would save it, of an untrained network."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from fusion_core.models import create_model

    path = str(tmp_path_factory.mktemp("checkpoint") / "ema_0.9999.pth")
    torch.save({"ema": create_model("ssdiff", 4, width=16).state_dict()}, path)
    return path


def test_makes_a_model_that_fuses(plugin, scene, checkpoint, tmp_path):
    import processing

    target = str(tmp_path / "made.safetensors")
    results = processing.run(create(), {"CHECKPOINT": checkpoint, "MODEL": target})
    assert results == {"MODEL": target}
    card = read_model(target).card
    assert (card.method, card.ms_bands, card.indexing) == ("ssdiff", 4, "published")
    fused = processing.run(
        "diffusionpansharpening:ssdiff",
        {
            "PAN": scene.pan,
            "MS": scene.ms,
            "MODEL": target,
            "DEVICE": "cpu",
            "STEPS": 1,
            "OUTPUT": str(tmp_path / "fused.tif"),
        },
    )
    assert os.path.exists(fused["OUTPUT"])


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"CHECKPOINT": None}, "CHECKPOINT (Checkpoint) is missing"),
        ({"CHECKPOINT": "/nowhere.pth"}, "cannot be read"),
        ({"CHECKPOINT": __file__}, "is not a PyTorch checkpoint"),
        ({"METHOD": "unet"}, "METHOD is unet: choose one of auto, ddrf, ssdiff"),
        ({"NORMALISATION": 0}, "NORMALISATION is 0"),
        ({"RATIO": 1}, "RATIO is 1"),
        ({"BANDS": "Blau"}, "The band name Blau is not known"),
        ({"MODEL": "/nowhere/a.safetensors"}, "Nothing can be written in /nowhere"),
    ],
)
def test_bad_inputs_are_refused(plugin, checkpoint, tmp_path, wrong, sentence):
    parameters = {"CHECKPOINT": checkpoint, "MODEL": str(tmp_path / "a.safetensors"), **wrong}
    accepted, message = create().checkParameterValues(parameters, QgsProcessingContext())
    assert not accepted
    assert sentence in message


def test_qgis_process(qgis_process, checkpoint, tmp_path):
    target = str(tmp_path / "made.safetensors")
    outcome = qgis_process.run(
        "importcheckpoint", CHECKPOINT=checkpoint, METHOD="ssdiff", MODEL=target
    )
    assert outcome.status == 0, outcome.output
    assert f"MODEL:\t{target}" in outcome.output
    assert "ssdiff, 4 MS bands, ratio 4, width 16" in outcome.output
    assert outcome.left_running() == []
    os.remove(target)
    refused = qgis_process.run(
        "importcheckpoint", CHECKPOINT=checkpoint, METHOD="ddrf", MODEL=target
    )
    assert refused.status != 0
    assert "holds weights of SSDiff, not of DDRF" in refused.output
    assert os.listdir(tmp_path) == []


def test_qgis_does_not_import_torch(plugin, checkpoint, tmp_path):
    loaded = "torch" in sys.modules
    parameters = {"CHECKPOINT": checkpoint, "MODEL": str(tmp_path / "a.safetensors")}
    assert create().checkParameterValues(parameters, QgsProcessingContext())[0]
    assert ("torch" in sys.modules) == loaded
