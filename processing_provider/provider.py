"""The Processing provider."""

from __future__ import annotations

from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from ..fusion_core.execution.warm_workers import WARM_WORKERS
from .algorithm import ICON_FILE
from .assess_quality import AssessQualityAlgorithm
from .ddrf import DdrfAlgorithm
from .import_checkpoint import ImportCheckpointAlgorithm
from .reduced_resolution import ReducedResolutionAlgorithm
from .sample_scene import SampleSceneAlgorithm
from .ssdiff import SsdiffAlgorithm
from .train import TrainAlgorithm


class DiffusionPansharpeningProvider(QgsProcessingProvider):
    """All algorithms, under the id ``diffusionpansharpening``."""

    def id(self) -> str:
        """The part before the colon in algorithm ids; never changes."""
        return "diffusionpansharpening"

    def name(self) -> str:
        """The name in the toolbox."""
        return "Diffusion Pansharpening"

    def icon(self) -> QIcon:
        """The icon in the toolbox."""
        return QIcon(str(ICON_FILE))

    def svgIconPath(self) -> str:
        """The icon where a file is wanted."""
        return str(ICON_FILE)

    def unload(self) -> None:
        """End what runs on for the next job; called when the plugin is unloaded and when QGIS ends."""
        WARM_WORKERS.release()

    def loadAlgorithms(self) -> None:
        """Add the algorithms; called by Processing, again on every refresh."""
        for algorithm in (
            SsdiffAlgorithm,
            DdrfAlgorithm,
            AssessQualityAlgorithm,
            ReducedResolutionAlgorithm,
            TrainAlgorithm,
            ImportCheckpointAlgorithm,
            SampleSceneAlgorithm,
        ):
            self.addAlgorithm(algorithm())
