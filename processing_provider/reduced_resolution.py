"""The Wald protocol as a Processing algorithm."""

from __future__ import annotations

from qgis.core import (
    QgsProcessing,
    QgsProcessingException,
    QgsProcessingParameterEnum,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
)

from ..fusion_core.errors import FusionError
from ..fusion_core.sensors import SENSORS
from ..ui.translation import marked, tr
from .algorithm import Algorithm, named_destination
from .raster_source import raster_sources


class ReducedResolutionAlgorithm(Algorithm):
    """Reduces PAN and MS so that MS itself is the truth."""

    NAME = "reducedresolution"
    TITLE = marked("Reduced resolution")
    GROUP = "quality"
    TAGS = marked("Wald,protocol,degrade,downsample,MTF,reference,quality,PAN,MS")
    HELP = (
        marked(
            "Makes a pair for which the truth is known (the Wald protocol): PAN and MS as their "
            "sensors would have seen them with pixels larger by the ratio, and MS itself as the "
            "reference."
        ),
        marked(
            "Fuse the reduced pair, then give the result and the reference to “Assess quality”. "
            "Each pixel is the ground seen through the transfer function of its band, exactly "
            "at the pixel's centre; data types, nodata and band names stay."
        ),
    )

    PAN = "PAN"
    MS = "MS"
    SENSOR = "SENSOR"
    PAN_REDUCED = "PAN_REDUCED"
    MS_REDUCED = "MS_REDUCED"
    REFERENCE = "REFERENCE"

    def initAlgorithm(self, configuration=None) -> None:
        """Declare the parameters."""
        self.add(
            QgsProcessingParameterRasterLayer(self.PAN, tr("Panchromatic image (PAN)")),
            tr("The image with the fine pixels."),
        )
        self.add(
            QgsProcessingParameterMultipleLayers(
                self.MS, tr("Multispectral image (MS)"), QgsProcessing.SourceType.TypeRaster
            ),
            tr(
                "The image with the colours: one raster with all bands, or several single-band "
                "rasters. It must have the orientation and reference system of PAN."
            ),
        )
        self.add(
            QgsProcessingParameterEnum(
                self.SENSOR, tr("Sensor"), list(SENSORS), False, "unknown", False, True
            ),
            tr(
                "Whose transfer functions are used; bands count by name where they have one. "
                "“unknown” takes 0.3 for MS and 0.15 for PAN at the Nyquist frequency of MS."
            ),
        )
        for name, label, text in (
            (self.PAN_REDUCED, tr("PAN reduced"), tr("PAN on the pixels of MS.")),
            (self.MS_REDUCED, tr("MS reduced"), tr("MS with pixels larger by the ratio.")),
            (
                self.REFERENCE,
                tr("Reference"),
                tr("MS itself, cut to what PAN covers and to whole pixels of MS reduced."),
            ),
        ):
            self.add(QgsProcessingParameterRasterDestination(name, label), text)

    def validateInputCrs(self, parameters, context) -> bool:
        """Whether PAN and MS fit is checked by their georeference."""
        return True

    def checkParameterValues(self, parameters, context) -> tuple[bool, str]:
        """Refuse pairs that cannot be reduced and outputs that cannot be written."""
        # Imported here, as below, so that QGIS starts as fast as without the plugin.
        from ..fusion_core.reduce import check_reduce

        try:
            self.check_values(parameters, context)
            outputs = [named_destination(parameters.get(name)) for name in self._outputs()]
            check_reduce(**self._inputs(parameters, context), outputs=outputs)
        except FusionError as error:
            return False, str(error)
        return True, ""

    def prepareAlgorithm(self, parameters, context, feedback) -> bool:
        """Turn layers into names that the run can use on its own thread; on the main thread."""
        try:
            self._job = self._inputs(parameters, context)
        except FusionError as error:
            raise QgsProcessingException(str(error)) from error
        return True

    def processAlgorithm(self, parameters, context, feedback) -> dict:
        """Reduce and write the three rasters."""
        from ..fusion_core.reduce import reduce_pair

        outputs = {
            name: self.parameterAsOutputLayer(parameters, name, context) for name in self._outputs()
        }
        try:
            result = reduce_pair(
                **self._job,
                **{name.lower(): path for name, path in outputs.items()},
                progress=lambda share: feedback.setProgress(100 * share),
                cancelled=feedback.isCanceled,
            )
        except FusionError as error:
            raise QgsProcessingException(str(error)) from error
        feedback.pushInfo(
            tr(
                "{width} x {height} pixels at ratio {ratio}; gains at Nyquist: PAN {pan}, MS {ms}"
            ).format(
                width=result.width,
                height=result.height,
                ratio=result.ratio,
                pan=result.pan_gain,
                ms=", ".join(f"{gain:g}" for gain in result.ms_gains),
            )
        )
        return outputs

    def _outputs(self) -> tuple[str, str, str]:
        return self.PAN_REDUCED, self.MS_REDUCED, self.REFERENCE

    def _inputs(self, parameters, context) -> dict:
        """PAN, MS and sensor.

        Raises:
            FusionError: a parameter is missing or no raster that GDAL reads.
        """
        pan, _ = raster_sources(parameters.get(self.PAN), context, self.PAN)
        if len(pan) > 1:
            raise FusionError(tr("PAN is several rasters: choose one."))
        ms, _ = raster_sources(parameters.get(self.MS), context, self.MS)
        return {
            "pan": pan[0],
            "ms": ms[0] if len(ms) == 1 else ms,
            "sensor": self.parameterAsEnumString(parameters, self.SENSOR, context),
        }
