"""The base of both pansharpening algorithms: parameters, checks, and the call of ``fuse``."""

from __future__ import annotations

from qgis.core import (
    Qgis,
    QgsCoordinateReferenceSystem,
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingParameterExtent,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsRasterLayer,
)

from ..fusion_core.errors import FusionError
from ..fusion_core.fuse import DATA_TYPES, MOST_SAMPLES, MOST_STEPS, check_fuse, fuse
from ..ui import settings
from ..ui.layer_style import FusedLayerStyle, user_has_style
from ..ui.translation import marked, tr
from .algorithm import LARGEST_SEED, named_destination
from .raster_source import raster_sources
from .torch_algorithm import WIDGETS, TorchAlgorithm

PRECISIONS = ("auto", "float32", "bfloat16", "float16")


class FuseAlgorithm(TorchAlgorithm):
    """Fuses PAN and MS with the method a subclass names."""

    GROUP = "pansharpening"
    TAGS = marked("pansharpening,pan-sharpening,fusion,diffusion,resolution,PAN,MS")
    HELP = (
        marked(
            "The two images are brought together by their georeference. The result lies on the "
            "grid of PAN and keeps the data type, nodata value and band names of MS; tags in "
            "the file say which model, seed and steps made it."
        ),
        marked(
            "The network runs in a Python environment with PyTorch, outside QGIS: see "
            "Raster ▸ Diffusion Pansharpening ▸ Settings."
        ),
    )

    PAN = "PAN"
    MS = "MS"
    MODEL = "MODEL"
    BANDS = "BANDS"
    EXTENT = "EXTENT"
    STEPS = "STEPS"
    SEED = "SEED"
    PRECISION = "PRECISION"
    SAMPLES = "SAMPLES"
    DATA_TYPE = "DATA_TYPE"
    CLUSTER = "CLUSTER"
    CREATION_OPTIONS = "CREATION_OPTIONS"
    OUTPUT = "OUTPUT"
    UNCERTAINTY = "UNCERTAINTY"

    def initAlgorithm(self, configuration=None) -> None:
        """Declare the parameters."""
        self.add(
            QgsProcessingParameterRasterLayer(self.PAN, tr("Panchromatic image (PAN)")),
            tr("The image with the fine pixels; one band."),
        )
        ms = QgsProcessingParameterMultipleLayers(
            self.MS, tr("Multispectral image (MS)"), QgsProcessing.SourceType.TypeRaster
        )
        ms.setMetadata({"widget_wrapper": {"class": f"{WIDGETS}.MsEditor"}})
        self.add(
            ms,
            tr(
                "The image with the colours, with pixels about 2 or 4 times as large as those of "
                "PAN: one raster with all bands, or several single-band rasters. Bands that do not "
                "say what they are must be in the order of the model's, such as blue, green, red, "
                "near infrared, or be named under “MS bands”."
            ),
        )
        model = QgsProcessingParameterString(self.MODEL, tr("Model"), "auto")
        model.setMetadata({"widget_wrapper": {"class": f"{WIDGETS}.ModelEditor"}})
        self.add(
            model,
            tr(
                "“auto” takes the best installed model for the bands and the resolution ratio of "
                "these images. Otherwise the name of an installed model, or the path of a "
                ".safetensors file."
            ),
        )
        self.add(
            QgsProcessingParameterExtent(self.EXTENT, tr("Area of interest"), optional=True),
            tr(
                "Only this area is fused; empty for all of it. The pixels are the same as those of "
                "a full run."
            ),
        )
        self.add(
            QgsProcessingParameterString(self.BANDS, tr("MS bands"), "", False, True),
            tr(
                "What the bands of the MS image are, in the order of the file: names such as "
                "Blue,Green,Red,NIR or central wavelengths such as 480,550,660,835. Empty for what "
                "the image says: band descriptions, wavelengths, colours."
            ),
            advanced=True,
        )
        self.add_number(
            self.STEPS,
            tr("Sampling steps"),
            tr("Network calls for each tile; empty for the number the model was made for."),
            None,
            (1, MOST_STEPS[self.NAME]),
        )
        self.add_number(
            self.SEED,
            tr("Seed"),
            tr(
                "Start of the noise that the diffusion begins with. The same seed gives the same "
                "image, whatever the area of interest."
            ),
            0,
            (0, LARGEST_SEED),
            advanced=True,
        )
        self.add_device()
        self.add(
            self.choice(self.PRECISION, tr("Precision"), PRECISIONS),
            tr(
                "Numbers the network computes with. “auto” takes the fastest that is safe on the "
                "device; float32 is the reference."
            ),
            advanced=True,
        )
        self.add_number(
            self.SAMPLES,
            tr("Samples to average"),
            tr(
                "Runs with different noise, averaged. More samples take that many times as long; "
                "the uncertainty map needs 2 or more."
            ),
            1,
            (1, MOST_SAMPLES),
            advanced=True,
        )
        self.add(
            self.choice(self.DATA_TYPE, tr("Data type of the output"), DATA_TYPES),
            tr("ms: the data type of the MS image, rounded; float32: not rounded."),
            advanced=True,
        )
        self.add(
            QgsProcessingParameterString(self.CLUSTER, tr("Dask cluster"), None, False, True),
            tr(
                "Address of a Dask scheduler, such as tcp://host:8786, whose workers compute the "
                "tiles; empty for this computer. The chosen interpreter needs the package "
                "distributed."
            ),
            advanced=True,
        )
        creation_options = QgsProcessingParameterString(
            self.CREATION_OPTIONS, tr("Creation options"), "", False, True
        )
        creation_options.setMetadata({"widget_wrapper": _creation_options_widget()})
        self.add(
            creation_options,
            tr(
                "GDAL creation options of the output's format, separated by |, such as "
                "COMPRESS=DEFLATE|PREDICTOR=2."
            ),
            advanced=True,
        )
        self.add(
            QgsProcessingParameterRasterDestination(self.OUTPUT, tr("Pansharpened image")),
            tr("The fused image, by default a tiled GeoTIFF."),
        )
        self.add(
            QgsProcessingParameterRasterDestination(
                self.UNCERTAINTY, tr("Uncertainty"), None, True, False
            ),
            tr(
                "Standard deviation between the samples, band by band, in the units of MS; needs "
                "2 or more samples."
            ),
        )

    def validateInputCrs(self, parameters, context) -> bool:
        """Different reference systems are fine: the images are brought together by georeference."""
        return True

    def checkParameterValues(self, parameters, context) -> tuple[bool, str]:
        """Refuse what cannot be fused, before anything runs."""
        try:
            self.check_values(parameters, context)
            inputs, _ = self._inputs(parameters, context)
            plan = check_fuse(
                **inputs,
                output=named_destination(parameters.get(self.OUTPUT)),
                uncertainty=named_destination(parameters.get(self.UNCERTAINTY)),
            )
            plan.scene.close()
            # Only the toolbox asks canExecute.
            self.interpreter()
        except FusionError as error:
            return False, str(error)
        return True, ""

    def prepareAlgorithm(self, parameters, context, feedback) -> bool:
        """Turn layers into names that the run can use on its own thread; on the main thread."""
        try:
            self.check_values(parameters, context)
            self._job, ms_layers = self._inputs(parameters, context)
            self._job["precision"] = self.parameterAsEnumString(parameters, self.PRECISION, context)
            self._job["threads"] = settings.threads() or None
            self._job["python"] = self.interpreter()
        except FusionError as error:
            raise QgsProcessingException(str(error)) from error
        renderer = ms_layers[0].renderer() if len(ms_layers) == 1 else None
        self._renderer = renderer.clone() if renderer is not None else None
        return True

    def processAlgorithm(
        self, parameters, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict:
        """Fuse; on the run's own thread, without any QGIS layer."""
        # Asked here and not before: QGIS loads the layers that this thread's own context names.
        outputs = {
            name: self.parameterAsOutputLayer(parameters, name, context)
            for name in (self.OUTPUT, self.UNCERTAINTY)
        }
        self._output = outputs[self.OUTPUT]
        try:
            result = fuse(
                **self._job,
                output=outputs[self.OUTPUT],
                uncertainty=outputs[self.UNCERTAINTY] or None,
                executor="worker",
                progress=lambda fraction: feedback.setProgress(100 * fraction),
                cancelled=feedback.isCanceled,
                report=feedback.pushInfo,
            )
        except FusionError as error:
            raise QgsProcessingException(str(error)) from error
        feedback.pushInfo(
            tr(
                "Fused {width} x {height} pixels in {seconds:.1f} s; SHA-256 of the model: {digest}"
            ).format(**result.as_dict())
        )
        return {name: path for name, path in outputs.items() if path}

    def postProcessAlgorithm(self, context, feedback) -> dict:
        """Have the layer on the map look like the MS layer, unless the user set a style."""
        loaded = context.willLoadLayerOnCompletion(self._output)
        if loaded and not user_has_style(self.id(), self.OUTPUT):
            details = context.layerToLoadOnCompletionDetails(self._output)
            FusedLayerStyle(self._renderer).attach(details)
        return {}

    def _inputs(self, parameters, context) -> tuple[dict, list[QgsRasterLayer]]:
        """What ``check_fuse`` and ``fuse`` both take, outputs aside, and the MS layers of the project.

        Raises:
            FusionError: a parameter that ``fuse`` could not use.
        """
        pan, _ = raster_sources(parameters.get(self.PAN), context, self.PAN)
        if len(pan) > 1:
            raise FusionError(tr("PAN is several rasters: choose one."))
        ms, ms_layers = raster_sources(parameters.get(self.MS), context, self.MS)
        extent, extent_crs = self._extent(parameters, context)
        steps = None
        if parameters.get(self.STEPS) not in (None, ""):
            steps = self.parameterAsInt(parameters, self.STEPS, context)
        options = self.parameterAsString(parameters, self.CREATION_OPTIONS, context)
        cluster = self.parameterAsString(parameters, self.CLUSTER, context).strip()
        inputs = {
            "pan": pan[0],
            "ms": ms[0] if len(ms) == 1 else ms,
            "method": self.NAME,
            "model": self.parameterAsString(parameters, self.MODEL, context).strip(),
            "bands": self.parameterAsString(parameters, self.BANDS, context).strip() or None,
            "extent": extent,
            "extent_crs": extent_crs,
            "steps": steps,
            "seed": self.parameterAsInt(parameters, self.SEED, context),
            "device": self.parameterAsString(parameters, self.DEVICE, context).strip(),
            "samples": self.parameterAsInt(parameters, self.SAMPLES, context),
            "data_type": self.parameterAsEnumString(parameters, self.DATA_TYPE, context),
            "cluster": cluster or None,
            "creation_options": [part.strip() for part in options.split("|") if part.strip()],
        }
        return inputs, ms_layers

    def _extent(self, parameters, context) -> tuple[tuple[float, ...] | None, str | None]:
        """Area of interest as (xmin, ymin, xmax, ymax) and WKT; None for all of it."""
        value = parameters.get(self.EXTENT)
        if value is None or value == "":
            return None, None
        box = self.parameterAsExtent(parameters, self.EXTENT, context)
        if box.isNull() or not box.isFinite():
            raise FusionError(
                tr("EXTENT is {value}: give xmin,xmax,ymin,ymax.").format(value=value)
            )
        crs = self.parameterAsExtentCrs(parameters, self.EXTENT, context)
        wkt = crs.toWkt(QgsCoordinateReferenceSystem.WktVariant.WKT_PREFERRED_GDAL)
        return (box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum()), wkt or None


def _creation_options_widget() -> dict[str, str]:
    """The editor for GDAL creation options; QGIS 3.40 brought one of its own."""
    if Qgis.versionInt() >= 34000:
        return {"widget_type": "rasteroptions"}
    return {"class": "processing.algs.gdal.ui.RasterOptionsWidget.RasterOptionsWidgetWrapper"}
