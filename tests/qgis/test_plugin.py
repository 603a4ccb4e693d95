"""Loading and unloading as the desktop does it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="QGIS is not importable from this Python")

from qgis.core import QgsApplication, QgsRasterLayer
from qgis.PyQt.QtWidgets import QWidget

PROVIDER = "diffusionpansharpening"


class FakeInterface:
    """The few calls of QGIS's interface that the plugin makes."""

    def __init__(self) -> None:
        self.window = QWidget()
        self.entries = []
        self.messages = []

    def mainWindow(self):
        return self.window

    def addPluginToRasterMenu(self, menu, action):
        self.entries.append((menu, action))

    def removePluginRasterMenu(self, menu, action):
        self.entries.remove((menu, action))

    def messageBar(self):
        return self

    def pushMessage(self, *arguments):
        self.messages.append(arguments)

    def trigger(self, text: str) -> None:
        next(action for _, action in self.entries if action.text() == text).trigger()


@pytest.fixture
def desktop(qgis_app):
    """The plugin loaded on a desktop: its interface and itself."""
    from diffusion_pansharpening import classFactory

    interface = FakeInterface()
    plugin = classFactory(interface)
    plugin.initGui()
    yield interface, plugin
    if plugin.provider is not None:
        plugin.unload()


def test_menu_entries_and_provider_come_and_go(desktop):
    interface, plugin = desktop
    assert [menu for menu, _ in interface.entries] == 4 * ["Diffusion Pansharpening"]
    assert [action.text() for _, action in interface.entries] == [
        "SSDiff…",
        "DDRF…",
        "Adapt a model…",
        "Settings…",
    ]
    registry = QgsApplication.processingRegistry()
    assert registry.providerById(PROVIDER) is not None
    plugin.unload()
    assert interface.entries == []
    assert registry.providerById(PROVIDER) is None


def test_loads_twice(desktop):
    interface, plugin = desktop
    plugin.unload()
    plugin.initGui()
    assert len(interface.entries) == 4
    assert QgsApplication.processingRegistry().algorithmById(f"{PROVIDER}:ssdiff") is not None


def test_algorithm_entry_opens_a_filled_in_dialog(desktop, project, scene, monkeypatch):
    import processing

    interface, _ = desktop
    pan, ms = QgsRasterLayer(scene.pan, "pan"), QgsRasterLayer(scene.ms, "ms")
    project.addMapLayers([pan, ms, QgsRasterLayer(scene.reference, "reference")])
    opened = []

    class Dialog(QWidget):
        def show(self):
            opened.append((self.name, self.parameters))

    def create(algorithm, parameters):
        dialog = Dialog()
        dialog.name, dialog.parameters = algorithm.id(), parameters
        return dialog

    monkeypatch.setattr(processing, "createAlgorithmDialog", create, raising=False)
    interface.trigger("DDRF…")
    assert opened == [(f"{PROVIDER}:ddrf", {"PAN": pan.id(), "MS": [ms.id()]})]


def test_without_processing_a_message_says_so(desktop, monkeypatch):
    import processing

    interface, _ = desktop
    monkeypatch.delattr(processing, "createAlgorithmDialog", raising=False)
    interface.trigger("SSDiff…")
    assert "Processing" in interface.messages[0][1]


def test_without_pytorch_the_settings_open(desktop, monkeypatch):
    from diffusion_pansharpening.processing_provider import torch_algorithm

    def find(preferred=None):
        raise torch_algorithm.FusionError("PyTorch was not found: install it.")

    monkeypatch.setattr(torch_algorithm, "find_interpreter", find)
    interface, plugin = desktop
    interface.trigger("SSDiff…")
    assert interface.messages[0][1] == "PyTorch was not found: install it."
    assert len(plugin.windows) == 1


def test_settings_entry_opens_a_window_that_leaves_qgis_usable(desktop):
    interface, plugin = desktop
    interface.trigger("Settings…")
    (window,) = plugin.windows
    assert window.isVisible() and not window.isModal()
    window.reject()
    assert plugin.windows == []


def test_importing_the_plugin_imports_neither_torch_nor_processing():
    code = (
        "import sys; import diffusion_pansharpening.plugin; "
        "print([m for m in ('torch', 'processing') if m in sys.modules])"
    )
    folder = next(path for path in sys.path if Path(path, "diffusion_pansharpening").is_symlink())
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "[]"
