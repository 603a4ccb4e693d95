"""The import of published checkpoints as a Processing algorithm."""

from __future__ import annotations

from qgis.core import (
    QgsProcessingException,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterString,
)

from ..fusion_core.checkpoints import DETAIL_ORDERS, METHODS, NORMALISATION, check_import
from ..fusion_core.errors import FusionError
from ..fusion_core.execution.child import run_command
from ..ui.translation import marked, tr
from .algorithm import named_destination
from .torch_algorithm import TorchAlgorithm


class ImportCheckpointAlgorithm(TorchAlgorithm):
    """Makes a model file of a checkpoint, in the interpreter that has PyTorch."""

    NAME = "importcheckpoint"
    TITLE = marked("Import checkpoint")
    GROUP = "models"
    TAGS = marked("checkpoint,weights,pth,PyTorch,safetensors,model,import")
    HELP = (
        marked(
            "Makes a model of a checkpoint that the published training code of SSDiff or DDRF "
            "saved. Bands, ratio and width are read from the weights; averaged weights (EMA) "
            "are preferred."
        ),
        marked(
            "The checkpoint is read outside QGIS by a reader that takes weights only: one that "
            "holds code is refused."
        ),
        marked(
            "Fusing then repeats the published timesteps, number of steps and normalisation; "
            "the help page says where it differs on purpose."
        ),
    )

    CHECKPOINT = "CHECKPOINT"
    METHOD = "METHOD"
    BANDS = "BANDS"
    RATIO = "RATIO"
    DETAIL_ORDER = "DETAIL_ORDER"
    NORMALISATION = "NORMALISATION"
    MODEL = "MODEL"

    def initAlgorithm(self, configuration=None) -> None:
        """Declare the parameters."""
        self.add(
            QgsProcessingParameterFile(
                self.CHECKPOINT,
                tr("Checkpoint"),
                fileFilter=tr("PyTorch checkpoints (*.pth *.pt *.ckpt);;All files (*)"),
            ),
            tr("The file that the training code saved, .pth or .pt."),
        )
        self.add(
            self.choice(self.METHOD, tr("Method"), METHODS),
            tr("The network that was trained; “auto” finds out."),
        )
        self.add(
            QgsProcessingParameterString(self.BANDS, tr("MS bands"), "", False, True),
            tr(
                "Names of the MS bands in the order of training, such as Blue,Green,Red,NIR. Empty "
                "for the usual order of 4 and 8 bands; other numbers then go without names."
            ),
        )
        self.add_number(
            self.NORMALISATION,
            tr("Normalisation"),
            tr("What images were divided by in training: 2047 for 11 bits, 1023 for 10."),
            int(NORMALISATION),
            (1, 2**31 - 1),
        )
        self.add_number(
            self.RATIO,
            tr("Ratio"),
            tr("PAN pixels along one MS pixel; empty for what the weights say, and 4 for DDRF."),
            None,
            (2, 16),
            advanced=True,
        )
        self.add(
            self.choice(self.DETAIL_ORDER, tr("Wavelet details"), DETAIL_ORDERS),
            tr(
                "Order of the details that DDRF was trained with: HDV in published pansharpening, "
                "HVD in published hyperspectral fusion; “auto” goes by the sharp image's bands."
            ),
            advanced=True,
        )
        self.add(
            QgsProcessingParameterFileDestination(
                self.MODEL, tr("Model"), tr("Models (*.safetensors)")
            ),
            tr("The model file, to choose as MODEL when fusing."),
        )

    def checkParameterValues(self, parameters, context) -> tuple[bool, str]:
        """Refuse files that are no checkpoints, and outputs that cannot be written."""
        try:
            self.check_values(parameters, context)
            check_import(
                **self._inputs(parameters, context),
                model=named_destination(parameters.get(self.MODEL)),
            )
            self.interpreter()
        except FusionError as error:
            return False, str(error)
        return True, ""

    def prepareAlgorithm(self, parameters, context, feedback) -> bool:
        """Read the values and find the interpreter; on the main thread."""
        try:
            self._job = self._inputs(parameters, context)
            self._python = self.interpreter()
        except FusionError as error:
            raise QgsProcessingException(str(error)) from error
        return True

    def processAlgorithm(self, parameters, context, feedback) -> dict:
        """Import in a child process."""
        model = self.parameterAsFileOutput(parameters, self.MODEL, context)
        job = self._job
        arguments = ["import", f"--checkpoint={job['checkpoint']}", f"--model={model}"]
        arguments += [f"--method={job['method']}", f"--detail-order={job['detail_order']}"]
        arguments += [f"--bands={','.join(job['band_names'])}"]
        arguments += [f"--normalisation={job['normalisation']:g}"]
        if job["ratio"] is not None:
            arguments.append(f"--ratio={job['ratio']}")
        try:
            made = run_command(self._python, arguments, feedback.isCanceled)
        except FusionError as error:
            raise QgsProcessingException(str(error)) from error
        feedback.pushInfo(
            tr("{method}, {ms_bands} MS bands, ratio {ratio}, width {width}").format(**made)
        )
        return {self.MODEL: model}

    def _inputs(self, parameters, context) -> dict:
        """The arguments of ``import_checkpoint``."""
        names = self.parameterAsString(parameters, self.BANDS, context).split(",")
        ratio = None
        if parameters.get(self.RATIO) not in (None, ""):
            ratio = self.parameterAsInt(parameters, self.RATIO, context)
        return {
            "checkpoint": self.parameterAsFile(parameters, self.CHECKPOINT, context),
            "method": self.parameterAsEnumString(parameters, self.METHOD, context),
            "band_names": [name.strip() for name in names if name.strip()],
            "ratio": ratio,
            "detail_order": self.parameterAsEnumString(parameters, self.DETAIL_ORDER, context),
            "normalisation": float(self.parameterAsInt(parameters, self.NORMALISATION, context)),
        }
