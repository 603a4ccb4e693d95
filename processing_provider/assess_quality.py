"""The assessment of fused images as a Processing algorithm."""

from __future__ import annotations

from qgis.core import (
    QgsProcessing,
    QgsProcessingException,
    QgsProcessingOutputNumber,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterRasterLayer,
)

from ..fusion_core import __version__
from ..fusion_core.errors import FusionError
from ..fusion_core.quality.meanings import MEANINGS
from ..fusion_core.sensors import SENSORS
from ..ui.translation import marked, tr
from .algorithm import Algorithm
from .raster_source import raster_sources


class AssessQualityAlgorithm(Algorithm):
    """Measures fused images against PAN and MS and, where there is one, a reference."""

    NAME = "assessquality"
    TITLE = marked("Assess quality")
    GROUP = "quality"
    TAGS = marked("quality,metrics,SAM,ERGAS,Q4,Q8,SCC,QNR,HQNR,RQNR,report,comparison")
    HELP = (
        marked(
            "Measures how good fused images are and compares several of them: a report with "
            "table and pictures, the table as CSV, and each figure of the first image as a "
            "number for models."
        ),
        marked(
            "From PAN and MS alone: D_LAMBDA, D_S, HQNR, D_SR and RQNR. With a reference also "
            "SAM, ERGAS, Q2N and SCC. All images are measured over the area that they share."
        ),
        marked(
            "A reference exists for synthetic scenes, and for any scene after the algorithm "
            "“Reduced resolution”."
        ),
    )

    FUSED = "FUSED"
    PAN = "PAN"
    MS = "MS"
    REFERENCE = "REFERENCE"
    SENSOR = "SENSOR"
    REPORT = "REPORT"
    TABLE = "TABLE"

    def initAlgorithm(self, configuration=None) -> None:
        """Declare the parameters and the figures."""
        self.add(
            QgsProcessingParameterMultipleLayers(
                self.FUSED, tr("Fused images"), QgsProcessing.SourceType.TypeRaster
            ),
            tr("One or several images to measure, on the grid of PAN; parts of it are fine."),
        )
        self.add(
            QgsProcessingParameterRasterLayer(self.PAN, tr("Panchromatic image (PAN)")),
            tr("The image with the fine pixels that was fused."),
        )
        self.add(
            QgsProcessingParameterMultipleLayers(
                self.MS, tr("Multispectral image (MS)"), QgsProcessing.SourceType.TypeRaster
            ),
            tr(
                "The image with the colours that was fused: one raster, or several single-band "
                "rasters, with the bands in the order of the fused images."
            ),
        )
        self.add(
            QgsProcessingParameterRasterLayer(self.REFERENCE, tr("Reference"), None, True),
            tr("The true image on the grid of PAN, where there is one."),
        )
        self.add(
            QgsProcessingParameterEnum(
                self.SENSOR, tr("Sensor"), list(SENSORS), False, "unknown", False, True
            ),
            tr(
                "Whose transfer functions blur the fused image to the resolution of MS for "
                "D_LAMBDA and D_S; “unknown” takes 0.3 at the Nyquist frequency of every band."
            ),
        )
        self.add(
            QgsProcessingParameterFileDestination(
                self.REPORT, tr("Report"), tr("HTML files (*.html)")
            ),
            tr("A page with table, pictures and settings, in one file."),
        )
        self.add(
            QgsProcessingParameterFileDestination(
                self.TABLE, tr("Table"), tr("CSV files (*.csv)"), None, True, False
            ),
            tr("The figures of all images, a line for each."),
        )
        for name, meaning in MEANINGS.items():
            self.addOutput(QgsProcessingOutputNumber(name.upper(), meaning.title))

    def validateInputCrs(self, parameters, context) -> bool:
        """Different reference systems of PAN and MS are fine; other images are checked by their grids."""
        return True

    def checkParameterValues(self, parameters, context) -> tuple[bool, str]:
        """Refuse images that do not belong together."""
        # Imported here, as below, so that QGIS starts as fast as without the plugin.
        from ..fusion_core.assess import check_assess

        try:
            self.check_values(parameters, context)
            check_assess(**self._inputs(parameters, context))
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
        """Measure, and write report and table."""
        from ..fusion_core.assess import assess
        from ..fusion_core.assess_report import report_page, report_table
        from ..fusion_core.report_page import write_text

        outputs = {
            name: self.parameterAsFileOutput(parameters, name, context)
            for name in (self.REPORT, self.TABLE)
        }
        try:
            found = assess(
                **self._job,
                progress=lambda share: feedback.setProgress(100 * share),
                cancelled=feedback.isCanceled,
            )
            write_text(outputs[self.REPORT], report_page(found, __version__))
            if outputs[self.TABLE]:
                write_text(outputs[self.TABLE], report_table(found))
        except FusionError as error:
            raise QgsProcessingException(str(error)) from error
        feedback.pushInfo(report_table(found))
        results = {name: path for name, path in outputs.items() if path}
        for name, value in found.images[0].figures.items():
            results[name.upper()] = value
        return results

    def _inputs(self, parameters, context) -> dict:
        """The arguments of ``assess``.

        Raises:
            FusionError: a parameter is missing or no raster that GDAL reads.
        """
        fused, _ = raster_sources(parameters.get(self.FUSED), context, self.FUSED)
        ms, _ = raster_sources(parameters.get(self.MS), context, self.MS)
        single = {}
        for name in (self.PAN, self.REFERENCE):
            value = parameters.get(name)
            if name == self.REFERENCE and value in (None, ""):
                continue
            sources, _ = raster_sources(value, context, name)
            if len(sources) > 1:
                raise FusionError(tr("{name} is several rasters: choose one.").format(name=name))
            single[name.lower()] = sources[0]
        sensor = self.parameterAsEnumString(parameters, self.SENSOR, context)
        return {"fused": fused, "ms": ms[0] if len(ms) == 1 else ms, "sensor": sensor, **single}
