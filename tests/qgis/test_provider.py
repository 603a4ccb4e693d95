"""The provider and what its algorithms declare."""

from __future__ import annotations

import pytest

pytest.importorskip("qgis.core", reason="QGIS is not importable from this Python")

from qgis.core import QgsApplication, QgsProcessingAlgorithm
from qgis.PyQt.QtCore import QUrl

FUSE_PARAMETERS = {
    "PAN",
    "MS",
    "MODEL",
    "BANDS",
    "EXTENT",
    "STEPS",
    "SEED",
    "DEVICE",
    "PRECISION",
    "SAMPLES",
    "DATA_TYPE",
    "CLUSTER",
    "CREATION_OPTIONS",
    "OUTPUT",
    "UNCERTAINTY",
}
PARAMETERS = {
    "ssdiff": FUSE_PARAMETERS,
    "ddrf": FUSE_PARAMETERS,
    "assessquality": {"FUSED", "PAN", "MS", "REFERENCE", "SENSOR", "REPORT", "TABLE"},
    "importcheckpoint": {
        "CHECKPOINT",
        "METHOD",
        "BANDS",
        "RATIO",
        "DETAIL_ORDER",
        "NORMALISATION",
        "MODEL",
    },
    "reducedresolution": {"PAN", "MS", "SENSOR", "PAN_REDUCED", "MS_REDUCED", "REFERENCE"},
    "train": {
        "PAN",
        "MS",
        "METHOD",
        "BASE_MODEL",
        "ITERATIONS",
        "MINUTES",
        "SEED",
        "DEVICE",
        "BANDS",
        "SENSOR",
        "MASK",
        "ALTERNATING",
        "MODEL",
        "REPORT",
    },
    "samplescene": {"SIZE", "BANDS", "RATIO", "SEED", "PAN", "MS", "REFERENCE"},
}

FIGURES = {
    "assessquality": {"SAM", "ERGAS", "Q2N", "SCC", "D_LAMBDA", "D_S", "HQNR", "D_SR", "RQNR"}
}


@pytest.fixture(params=sorted(PARAMETERS))
def algorithm(request, plugin):
    return QgsApplication.processingRegistry().createAlgorithmById(
        f"diffusionpansharpening:{request.param}"
    )


def test_provider_offers_these_algorithms(plugin):
    provider = QgsApplication.processingRegistry().providerById("diffusionpansharpening")
    assert {algorithm.name() for algorithm in provider.algorithms()} == set(PARAMETERS)
    assert provider.name() == "Diffusion Pansharpening"
    assert not provider.icon().isNull()


def test_parameters_and_outputs(algorithm):
    names = {definition.name() for definition in algorithm.parameterDefinitions()}
    assert names == PARAMETERS[algorithm.name()]
    outputs = {output.name() for output in algorithm.outputDefinitions()}
    destinations = {d.name() for d in algorithm.parameterDefinitions() if d.isDestination()}
    assert outputs == destinations | FIGURES.get(algorithm.name(), set())


def test_everything_is_documented(algorithm):
    for definition in algorithm.parameterDefinitions():
        assert len(definition.help()) > 10, definition.name()
        assert definition.description()
    assert len(algorithm.shortHelpString()) > 100
    assert "<" not in algorithm.shortHelpString()
    url = QUrl(algorithm.helpUrl())
    with open(url.toLocalFile(), encoding="utf-8") as page:
        assert f'id="{url.fragment()}"' in page.read()


def test_runs_in_the_background_and_can_be_cancelled(algorithm):
    assert not algorithm.flags() & QgsProcessingAlgorithm.Flag.FlagNoThreading
    assert algorithm.flags() & QgsProcessingAlgorithm.Flag.FlagCanCancel
    assert algorithm.group() and algorithm.groupId() and algorithm.displayName()
    assert not algorithm.icon().isNull()


def test_instances_share_nothing(algorithm):
    assert type(algorithm.create()) is type(algorithm)
    assert algorithm.create() is not algorithm
