"""The plugin: registers the Processing provider and the entries of the Raster menu."""

from __future__ import annotations

from functools import partial

from qgis.core import Qgis, QgsApplication
from qgis.PyQt.QtGui import QIcon

from .processing_provider.algorithm import ICON_FILE
from .processing_provider.provider import DiffusionPansharpeningProvider
from .ui.translation import tr

try:
    from qgis.PyQt.QtGui import QAction
except ImportError:  # Qt 5 keeps it among the widgets
    from qgis.PyQt.QtWidgets import QAction

MENU = "Diffusion Pansharpening"


class DiffusionPansharpeningPlugin:
    """What QGIS loads; ``iface`` is None in ``qgis_process``, which only calls ``initProcessing``."""

    def __init__(self, iface=None) -> None:
        self.iface = iface
        self.provider = None
        self.actions = []
        self.windows = []

    def initProcessing(self) -> None:
        """Register the Processing provider; needs no window."""
        self.provider = DiffusionPansharpeningProvider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self) -> None:
        """Register the provider and add the entries of the Raster menu."""
        self.initProcessing()
        parent = self.iface.mainWindow()
        for text, handler in (
            ("SSDiff…", partial(self.open_algorithm, "ssdiff")),
            ("DDRF…", partial(self.open_algorithm, "ddrf")),
            (tr("Adapt a model…"), partial(self.open_algorithm, "train")),
            (tr("Settings…"), self.open_settings),
        ):
            action = QAction(QIcon(str(ICON_FILE)), text, parent)
            # `triggered` also sends whether the entry is checked, which no handler wants.
            action.triggered.connect(lambda _checked=False, run=handler: run())
            self.iface.addPluginToRasterMenu(MENU, action)
            self.actions.append(action)

    def unload(self) -> None:
        """Take everything away again."""
        for action in self.actions:
            self.iface.removePluginRasterMenu(MENU, action)
            action.deleteLater()
        self.actions = []
        for window in self.windows:
            window.close()
            window.deleteLater()
        self.windows = []
        if self.provider is not None:
            QgsApplication.processingRegistry().removeProvider(self.provider)
            self.provider = None

    def open_algorithm(self, name: str) -> None:
        """Open the dialog of an algorithm, filled in with the likely layers, and leave QGIS usable.

        Args:
            name: the algorithm's name without the provider, such as ``"ssdiff"``.
        """
        # Processing is a plugin too: where it is switched off the import or the dialog is missing.
        try:
            import processing

            create = processing.createAlgorithmDialog
        except (ImportError, AttributeError):
            self.iface.messageBar().pushMessage(
                MENU,
                tr("Enable the Processing plugin in the plugin manager, then try again."),
                Qgis.MessageLevel.Warning,
            )
            return
        from .ui.layer_guess import guess_layers

        algorithm = self.provider.algorithm(name)
        ready, reason = algorithm.canExecute()
        if not ready:
            self.iface.messageBar().pushMessage(MENU, reason, Qgis.MessageLevel.Warning)
            self.open_settings()
            return
        window = create(algorithm, guess_layers())
        window.show()

    def open_settings(self) -> None:
        """Open the settings without blocking QGIS."""
        from .ui.settings_dialog import SettingsDialog

        window = SettingsDialog(self.iface.mainWindow())
        window.finished.connect(partial(self._forget, window))
        self.windows.append(window)
        window.show()

    def _forget(self, window, _result: int = 0) -> None:
        """Let go of a window that was closed."""
        if window in self.windows:
            self.windows.remove(window)
            window.deleteLater()
