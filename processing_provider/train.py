"""Training on the user's own scenes as a Processing algorithm."""

from __future__ import annotations

import time

from qgis.core import (
    QgsProcessing,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterString,
)

from ..fusion_core import __version__
from ..fusion_core.errors import FusionError
from ..fusion_core.sensors import SENSORS
from ..fusion_core.train_report import FIGURES
from ..ui import settings
from ..ui.translation import marked, tr
from .algorithm import LARGEST_SEED, named_destination
from .raster_source import raster_sources
from .torch_algorithm import WIDGETS, TorchAlgorithm

METHODS = ("ddrf", "ssdiff")
MINUTES_WITH_BASE = 5
MOST_ITERATIONS = 10_000_000
MOST_MINUTES = 7 * 24 * 60
_SECONDS_BETWEEN_LINES = 10


class TrainAlgorithm(TorchAlgorithm):
    """Adapts a model to the user's scenes, or trains one from nothing, in a child process."""

    NAME = "train"
    TITLE = marked("Adapt a model to your scene")
    GROUP = "models"
    TAGS = marked("train,training,adapt,fine-tune,fine-tuning,model,weights,Wald")
    HELP = (
        marked(
            "Trains a model further on scenes of your own, so that it knows their sensor and "
            "their ground; a few minutes are enough. Both images are reduced by their ratio "
            "(the Wald protocol), which makes the MS image itself the truth to learn from."
        ),
        marked(
            "A quarter of each scene is never trained on. There the trained model is compared "
            "with the one it started from, and the better of the two is written, so that it "
            "never does worse there than the model that you had. The report shows the figures, "
            "the course of the training and pictures."
        ),
        marked("Choose the file as MODEL when fusing. Cancelling keeps the best so far."),
    )

    PAN = "PAN"
    MS = "MS"
    METHOD = "METHOD"
    BASE_MODEL = "BASE_MODEL"
    ITERATIONS = "ITERATIONS"
    MINUTES = "MINUTES"
    SEED = "SEED"
    BANDS = "BANDS"
    SENSOR = "SENSOR"
    MASK = "MASK"
    ALTERNATING = "ALTERNATING"
    MODEL = "MODEL"
    REPORT = "REPORT"

    def initAlgorithm(self, configuration=None) -> None:
        """Declare the parameters."""
        self._add_rasters(
            self.PAN,
            tr("Panchromatic image (PAN)"),
            tr("The image with the fine pixels, one band; or several, one for each scene."),
        )
        self._add_rasters(
            self.MS,
            tr("Multispectral image (MS)"),
            tr(
                "The image with the colours: one raster with all bands, or several single-band "
                "rasters. With several PAN images, MS images are matched to them by their place."
            ),
        )
        self.add(
            self.choice(self.METHOD, tr("Method"), METHODS),
            tr("The network to train: DDRF, or SSDiff."),
        )
        base = QgsProcessingParameterString(self.BASE_MODEL, tr("Base model"), "auto")
        base.setMetadata({"widget_wrapper": {"class": f"{WIDGETS}.BaseModelEditor"}})
        self.add(
            base,
            tr(
                "What the training starts from. “auto” takes the best installed model for the bands "
                "and the resolution ratio of these images; otherwise the name of an installed model "
                "or the path of a .safetensors file; “none” starts from nothing, which takes hours "
                "and many scenes."
            ),
        )
        self.add_number(
            self.MINUTES,
            tr("Minutes (5 where neither these nor iterations are given)"),
            tr(
                "Time for the whole run. Empty: {minutes}, or as long as the iterations take where "
                "these are given."
            ).format(minutes=MINUTES_WITH_BASE),
            None,
            (1, MOST_MINUTES),
        )
        self.add_number(
            self.ITERATIONS,
            tr("Iterations"),
            tr(
                "Length of the training; empty for as many as fit into the minutes. Where both are "
                "given, what is reached first ends it. The same seed and iterations give the same "
                "model on the same computer."
            ),
            None,
            (1, MOST_ITERATIONS),
        )
        self.add_number(
            self.SEED,
            tr("Seed"),
            tr("Start of everything random: patches, noise, and the weights without a base."),
            0,
            (0, LARGEST_SEED),
            advanced=True,
        )
        self.add_device()
        self.add(
            QgsProcessingParameterString(self.BANDS, tr("MS bands"), "", False, True),
            tr(
                "What the bands of the MS images are, in the order of the file: names such as "
                "Blue,Green,Red,NIR or central wavelengths such as 480,550,660,835. Empty for what "
                "the images say."
            ),
            advanced=True,
        )
        self.add(
            QgsProcessingParameterEnum(
                self.SENSOR, tr("Sensor"), list(SENSORS), False, "unknown", False, True
            ),
            tr(
                "Whose transfer functions reduce the images; “unknown” takes 0.3 for MS and 0.15 "
                "for PAN at the Nyquist frequency of MS."
            ),
            advanced=True,
        )
        self._add_rasters(
            self.MASK,
            tr("Mask"),
            tr(
                "A raster that is not 0 where pixels shall not be used, such as clouds or what "
                "moved between the images; with several scenes, one or several."
            ),
            advanced=True,
        )
        self.add(
            QgsProcessingParameterBoolean(
                self.ALTERNATING, tr("Train the branches in turn (SSDiff)"), False
            ),
            tr(
                "Spatial and spectral branch of SSDiff are trained one after the other, each while "
                "the other rests (L-BAF)."
            ),
            advanced=True,
        )
        self.add(
            QgsProcessingParameterFileDestination(
                self.MODEL, tr("Model"), tr("Models (*.safetensors)")
            ),
            tr(
                "The model file, to choose as MODEL when fusing. A temporary one is gone when QGIS "
                "ends."
            ),
        )
        self.add(
            QgsProcessingParameterFileDestination(
                self.REPORT, tr("Report"), tr("HTML files (*.html)"), None, True
            ),
            tr("A page with figures, curves, pictures and settings, in one file."),
        )

    def _add_rasters(self, name: str, label: str, text: str, advanced: bool = False) -> None:
        """Declare one raster or several; advanced ones may stay empty."""
        rasters = QgsProcessingParameterMultipleLayers(
            name, label, QgsProcessing.SourceType.TypeRaster, None, advanced
        )
        rasters.setMetadata({"widget_wrapper": {"class": f"{WIDGETS}.RastersEditor"}})
        self.add(rasters, text, advanced)

    def validateInputCrs(self, parameters, context) -> bool:
        """Whether PAN and MS fit is checked by their georeference."""
        return True

    def checkParameterValues(self, parameters, context) -> tuple[bool, str]:
        """Refuse what cannot be trained on, before anything runs."""
        # Imported here, as below, so that QGIS starts as fast as without the plugin.
        from ..fusion_core.raster.partial import check_folder
        from ..fusion_core.training_job import check_training

        try:
            self.check_values(parameters, context)
            check_training(
                **self._inputs(parameters, context),
                output=named_destination(parameters.get(self.MODEL)),
            )
            check_folder(named_destination(parameters.get(self.REPORT)))
            # Only the toolbox asks canExecute.
            self.interpreter()
        except FusionError as error:
            return False, str(error)
        return True, ""

    def prepareAlgorithm(self, parameters, context, feedback) -> bool:
        """Turn layers into names that the run can use on its own thread; on the main thread."""
        try:
            self.check_values(parameters, context)
            self._job = self._inputs(parameters, context)
            self._job["seed"] = self.parameterAsInt(parameters, self.SEED, context)
            self._job["device"] = self.parameterAsString(parameters, self.DEVICE, context).strip()
            self._job["threads"] = settings.threads() or None
            self._python = self.interpreter()
        except FusionError as error:
            raise QgsProcessingException(str(error)) from error
        return True

    def processAlgorithm(self, parameters, context, feedback: QgsProcessingFeedback) -> dict:
        """Read the scenes, train in the child process, write model and report."""
        from ..fusion_core.execution.training_process import train_in_worker
        from ..fusion_core.report_page import write_text
        from ..fusion_core.train_report import training_page
        from ..fusion_core.training_job import prepare_training

        outputs = {
            name: self.parameterAsFileOutput(parameters, name, context)
            for name in (self.MODEL, self.REPORT)
        }
        try:
            feedback.pushInfo(tr("Reading the scenes"))
            job = prepare_training(**self._job, output=outputs[self.MODEL])
            for scene in job.scenes:
                for note in scene.notes:
                    feedback.pushInfo(note)
            feedback.pushInfo(
                tr("Training on {scenes}, starting from {base}").format(
                    scenes=", ".join(scene.name for scene in job.scenes),
                    base=job.base or tr("nothing"),
                )
            )
            report = train_in_worker(
                job, outputs[self.MODEL], self._python, _Log(feedback), feedback.isCanceled
            )
            if outputs[self.REPORT]:
                write_text(outputs[self.REPORT], training_page(report, __version__))
        except FusionError as error:
            raise QgsProcessingException(str(error)) from error
        feedback.setProgress(100)
        for method, figures in report.table.items():
            feedback.pushInfo(f"{method}: {_figures(figures)}")
        if report.cancelled:
            feedback.pushWarning(
                tr(
                    "Cancelled after {iterations} of {planned} iterations; the model was written "
                    "all the same."
                ).format(iterations=report.iterations, planned=report.planned)
            )
        feedback.pushInfo(report.why)
        return {name: path for name, path in outputs.items() if path}

    def _inputs(self, parameters, context) -> dict:
        """What ``check_training`` and ``prepare_training`` both take, the output aside.

        Raises:
            FusionError: a parameter that neither could use.
        """
        from ..fusion_core.raster.scene_matching import match_scenes

        names = {}
        for name in (self.PAN, self.MS, self.MASK):
            value = parameters.get(name)
            empty = name == self.MASK and value in (None, "", [])
            names[name] = [] if empty else raster_sources(value, context, name)[0]
        scenes = match_scenes(names[self.PAN], names[self.MS], names[self.MASK])
        limits = {
            name: None
            if parameters.get(name) in (None, "")
            else self.parameterAsInt(parameters, name, context)
            for name in (self.ITERATIONS, self.MINUTES)
        }
        base = self.parameterAsString(parameters, self.BASE_MODEL, context).strip()
        minutes = limits[self.MINUTES]
        if minutes is None and limits[self.ITERATIONS] is None:
            if base == "none":
                raise FusionError(
                    tr(
                        "Without a base model the training needs a length: give MINUTES or ITERATIONS."
                    )
                )
            minutes = MINUTES_WITH_BASE
        return {
            "pairs": [(s.pan, s.ms[0] if len(s.ms) == 1 else list(s.ms)) for s in scenes],
            "masks": [scene.mask for scene in scenes],
            "method": self.parameterAsEnumString(parameters, self.METHOD, context),
            "base_model": base,
            "iterations": limits[self.ITERATIONS],
            "minutes": minutes,
            "bands": self.parameterAsString(parameters, self.BANDS, context).strip() or None,
            "sensor": self.parameterAsEnumString(parameters, self.SENSOR, context),
            "alternating": self.parameterAsBool(parameters, self.ALTERNATING, context),
        }


class _Log:
    """Writes progress into the log: every validation, and otherwise a line now and then."""

    def __init__(self, feedback: QgsProcessingFeedback) -> None:
        self._feedback = feedback
        self._last = float("-inf")

    def __call__(self, told) -> None:
        """Told of a ``training_job.Progress``."""
        self._feedback.setProgress(100 * told.iteration / max(1, told.iterations))
        now = time.monotonic()
        if told.figures is None and now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._last = now
        parts = [
            tr("Iteration {iteration} of {iterations}").format(**vars(told)),
            tr("{time} left").format(time=_time(told.seconds_left)),
            tr("loss {loss:.4f}").format(loss=told.loss),
        ]
        if told.phase:
            parts.append(tr("{phase} branch").format(phase=told.phase))
        line = ", ".join(parts)
        if told.figures:
            line = tr("{line}; held-out quarter: {figures}").format(
                line=line, figures=_figures(told.figures)
            )
        self._feedback.pushInfo(line)


def _figures(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {figures[name]:.4f}" for name in FIGURES)


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
