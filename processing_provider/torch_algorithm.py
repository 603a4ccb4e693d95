"""What algorithms share that need a Python with PyTorch."""

from __future__ import annotations

from qgis.core import QgsProcessingParameterEnum, QgsProcessingParameterString

from ..fusion_core.errors import FusionError
from ..fusion_core.execution.interpreter import find_interpreter
from ..ui import settings
from ..ui.translation import tr
from .algorithm import Algorithm

DEVICES = ("auto", "cpu", "cuda", "cuda:0", "cuda:1", "cuda:2", "cuda:3", "mps")
# By name: QGIS imports the editors only where it shows a dialog.
WIDGETS = f"{__name__.rpartition('.processing_provider')[0]}.ui.parameter_widgets"


class TorchAlgorithm(Algorithm):
    """Base class: finds the interpreter, before the dialog opens and before a run."""

    DEVICE = "DEVICE"

    def canExecute(self) -> tuple[bool, str]:
        """Whether PyTorch was found; asked by the toolbox when it opens the dialog."""
        try:
            self.interpreter()
        except FusionError as error:
            return False, str(error)
        return True, ""

    @staticmethod
    def interpreter() -> str:
        """The Python that has PyTorch, quickly: answers are remembered."""
        return find_interpreter(settings.interpreter() or None)

    @staticmethod
    def choice(name: str, label: str, values: tuple[str, ...]) -> QgsProcessingParameterEnum:
        """A choice whose values are words, which stay valid when the list changes."""
        return QgsProcessingParameterEnum(name, label, list(values), False, values[0], False, True)

    def add_device(self) -> None:
        """Declare where the network runs."""
        device = QgsProcessingParameterString(self.DEVICE, tr("Device"), "auto")
        device.setMetadata({"widget_wrapper": {"value_hints": list(DEVICES)}})
        self.add(
            device,
            tr(
                "Where the network runs: auto (CUDA if it is usable, else Apple's MPS, else the "
                "CPU), cpu, cuda, cuda:N for GPU number N, or mps. To fuse, auto and cuda take all "
                "GPUs of the first one's kind; several can be named, such as cuda:0,cuda:2."
            ),
            advanced=True,
        )
