"""The settings, and the two editors of the algorithm dialog."""

from __future__ import annotations

import sys

import pytest

pytest.importorskip("qgis.core", reason="QGIS is not importable from this Python")

from qgis.core import QgsApplication, QgsProcessingContext, QgsProcessingException, QgsRasterLayer
from qgis.PyQt.QtWidgets import QApplication, QPushButton


@pytest.fixture
def settings(qgis_app):
    """The plugin's settings, reset afterwards."""
    from diffusion_pansharpening.ui import settings

    yield settings
    settings.set_interpreter("")
    settings.set_threads(0)


@pytest.fixture
def dialog(settings):
    from diffusion_pansharpening.ui.settings_dialog import SettingsDialog

    window = SettingsDialog()
    window.show()
    yield window
    window.reject()


def test_settings_are_kept_on_ok_only(dialog, settings):
    dialog.interpreter.setFilePath("/some/python")
    dialog.threads.setValue(2)
    assert settings.interpreter() == ""
    dialog.accept()
    assert settings.interpreter() == "/some/python"
    assert settings.threads() == 2


def test_settings_reach_the_run(settings, plugin, scene, model, tmp_path, monkeypatch):
    from diffusion_pansharpening.processing_provider import fuse_algorithm, torch_algorithm

    settings.set_interpreter("/some/python")
    settings.set_threads(3)
    monkeypatch.setattr(torch_algorithm, "find_interpreter", lambda preferred: preferred)
    registry = QgsApplication.processingRegistry()
    algorithm = registry.createAlgorithmById("diffusionpansharpening:ssdiff")
    seen = {}

    def fuse(**arguments):
        seen.update(arguments)
        raise fuse_algorithm.FusionError("Far enough.")

    monkeypatch.setattr(fuse_algorithm, "fuse", fuse)
    parameters = {"PAN": scene.pan, "MS": scene.ms, "MODEL": model, "OUTPUT": "TEMPORARY_OUTPUT"}
    import processing

    with pytest.raises(QgsProcessingException, match="Far enough"):
        processing.run(algorithm, parameters)
    assert (seen["python"], seen["threads"]) == ("/some/python", 3)


def test_a_good_interpreter_is_described(dialog, wait_until):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    dialog.interpreter.setFilePath(sys.executable)
    dialog.run_test()
    assert "Testing" in dialog.result.text()
    wait_until(dialog.test.isEnabled)
    assert f"Python {sys.version.split()[0]}, PyTorch" in dialog.result.text()


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("#!/bin/sh\necho torch\n", "lacks torch"),
        ("#!/bin/sh\nexit 1\n", "not a Python interpreter that runs"),
    ],
)
def test_a_bad_interpreter_is_refused(dialog, wait_until, tmp_path, script, sentence):
    python = tmp_path / "python"
    python.write_text(script)
    python.chmod(0o700)
    dialog.interpreter.setFilePath(str(python))
    dialog.run_test()
    wait_until(dialog.test.isEnabled)
    assert sentence in dialog.result.text()


def test_an_interpreter_that_fails_later_tells_its_reason(dialog, wait_until, tmp_path):
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\ncase \"$*\" in *find_spec*) echo complete;; *) echo 'OSError: no libtorch' >&2;; esac\n"
    )
    python.chmod(0o700)
    dialog.interpreter.setFilePath(str(python))
    dialog.run_test()
    wait_until(dialog.test.isEnabled)
    assert dialog.result.text().endswith("cannot be used: OSError: no libtorch.")


def test_closing_stops_a_test(dialog, wait_until, tmp_path):
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/sh\ncase "$*" in *find_spec*) echo complete;; *) exec sleep 60;; esac\n'
    )
    python.chmod(0o700)
    dialog.interpreter.setFilePath(str(python))
    dialog.run_test()
    dialog.reject()
    assert wait_until(lambda: QgsApplication.taskManager().countActiveTasks() == 0) < 5


def test_new_settings_end_workers_of_the_old(dialog, plugin):
    from diffusion_pansharpening.fusion_core.execution import warm_workers

    workers = warm_workers.WARM_WORKERS
    worker = warm_workers.WorkerProcess("worker.py", sys.executable, "")
    workers.keep(worker, warm_workers.WorkerUse(sys.executable, "cpu", ""), workers.term)
    assert worker.process.poll() is None
    dialog.accept()
    assert worker.process.poll() is not None


def test_install_commands_can_be_copied(dialog):
    from diffusion_pansharpening.ui.settings_dialog import install_commands

    next(b for b in dialog.findChildren(QPushButton) if b.text() == "Copy").click()
    assert QApplication.clipboard().text() == install_commands()
    assert "pip install torch safetensors pywavelets" in install_commands()


@pytest.fixture
def algorithm_dialog(plugin, project, scene, monkeypatch):
    """Processing's dialog for SSDiff with PAN and MS in the project."""
    import processing.gui.AlgorithmDialog as module

    project.addMapLayers([QgsRasterLayer(scene.pan, "pan"), QgsRasterLayer(scene.ms, "ms")])
    registry = QgsApplication.processingRegistry()
    window = module.AlgorithmDialog(registry.createAlgorithmById("diffusionpansharpening:ssdiff"))
    yield window
    window.close()


def test_algorithm_dialog_takes_one_ms_layer(algorithm_dialog, project):
    (ms,) = project.mapLayersByName("ms")
    algorithm_dialog.setParameters({"MS": [ms.id()]})
    parameters = algorithm_dialog.createProcessingParameters()
    assert parameters["MS"] == ms.id()
    assert parameters["MODEL"] == "auto"


def test_algorithm_dialog_takes_several_rasters_and_a_model_file(algorithm_dialog, scene):
    values = {"MS": [scene.ms, scene.reference], "MODEL": "/a/model.safetensors"}
    algorithm_dialog.setParameters(values)
    parameters = algorithm_dialog.createProcessingParameters()
    assert {name: parameters[name] for name in values} == values


def test_batch_dialog_opens(plugin, project):
    from processing.gui.BatchAlgorithmDialog import BatchAlgorithmDialog

    registry = QgsApplication.processingRegistry()
    window = BatchAlgorithmDialog(registry.createAlgorithmById("diffusionpansharpening:ssdiff"))
    parameters, ok = window.mainWidget().parametersForRow(0, project, warnOnInvalid=False)
    assert ok and parameters["MODEL"] == "auto"
    window.close()


def test_modeler_dialog_connects_one_layer(plugin, qgis_app):
    from processing.modeler.ModelerParametersDialog import ModelerParametersDialog
    from qgis.core import QgsProcessingModelAlgorithm

    registry = QgsApplication.processingRegistry()
    algorithm = registry.createAlgorithmById("diffusionpansharpening:ssdiff")
    window = ModelerParametersDialog(algorithm, QgsProcessingModelAlgorithm())
    assert {"MS", "MODEL"} <= set(window.widget.widget.wrappers)
    assert isinstance(window.context, QgsProcessingContext)
    window.close()
