"""The synthetic sample scene as a Processing algorithm."""

from __future__ import annotations

from qgis.core import QgsProcessingException, QgsProcessingParameterRasterDestination

from ..fusion_core.errors import FusionError
from ..ui.translation import marked, tr
from .algorithm import LARGEST_SEED, Algorithm


class SampleSceneAlgorithm(Algorithm):
    """Writes a synthetic PAN and MS pair together with the image they stand for."""

    NAME = "samplescene"
    TITLE = marked("Sample scene")
    GROUP = "data"
    TAGS = marked("synthetic,example,test,demo,PAN,MS")
    HELP = (
        marked(
            "Makes a synthetic scene to try pansharpening on: fields, roads, roofs and water "
            "with realistic spectra, seen by a panchromatic and a multispectral sensor with "
            "blur and noise."
        ),
        marked(
            "The reference is the multispectral image that a perfect sensor would see on the "
            "grid of PAN, so a fused image can be measured against it."
        ),
    )

    SIZE = "SIZE"
    BANDS = "BANDS"
    RATIO = "RATIO"
    SEED = "SEED"
    PAN = "PAN"
    MS = "MS"
    REFERENCE = "REFERENCE"

    def initAlgorithm(self, configuration=None) -> None:
        """Declare the parameters."""
        self.add_number(
            self.SIZE,
            tr("Size"),
            tr("Width and height of PAN and the reference in pixels."),
            512,
            (16, 8192),
        )
        self.add_number(
            self.BANDS,
            tr("MS bands"),
            tr(
                "4 are blue, green, red and near infrared, 8 those of WorldView-3; many stand for a "
                "hyperspectral sensor."
            ),
            4,
            (2, 256),
        )
        self.add_number(
            self.RATIO,
            tr("Ratio"),
            tr("PAN pixels along one MS pixel, usually 2 or 4."),
            4,
            (2, 16),
        )
        self.add_number(
            self.SEED, tr("Seed"), tr("Another seed gives another scene."), 0, (0, LARGEST_SEED)
        )
        self.add(
            QgsProcessingParameterRasterDestination(self.PAN, tr("PAN")),
            tr("The panchromatic image."),
        )
        self.add(
            QgsProcessingParameterRasterDestination(self.MS, tr("MS")),
            tr("The multispectral image, with larger pixels."),
        )
        self.add(
            QgsProcessingParameterRasterDestination(self.REFERENCE, tr("Reference")),
            tr("The multispectral image on the grid of PAN."),
        )

    def checkParameterValues(self, parameters, context) -> tuple[bool, str]:
        """Refuse sizes that are no whole number of MS pixels, and numbers out of range."""
        try:
            self.check_values(parameters, context)
            size, _bands, ratio, _seed = self._numbers(parameters, context)
            if size % ratio:
                raise FusionError(
                    tr("SIZE is {size}: give a multiple of RATIO, {ratio}.").format(
                        size=size, ratio=ratio
                    )
                )
        except FusionError as error:
            return False, str(error)
        return True, ""

    def processAlgorithm(self, parameters, context, feedback) -> dict:
        """Make the scene and write its three rasters."""
        # Imported here so that QGIS starts as fast as without the plugin.
        from ..fusion_core.raster.sample_scene_files import write_sample_scene
        from ..fusion_core.sample_scene import make_sample_scene

        paths = {
            name: self.parameterAsOutputLayer(parameters, name, context)
            for name in (self.PAN, self.MS, self.REFERENCE)
        }
        size, bands, ratio, seed = self._numbers(parameters, context)
        try:
            write_sample_scene(
                make_sample_scene(size, bands, ratio, seed),
                paths[self.PAN],
                paths[self.MS],
                paths[self.REFERENCE],
            )
        except FusionError as error:
            raise QgsProcessingException(str(error)) from error
        return paths

    def _numbers(self, parameters, context) -> list[int]:
        """Size, bands, ratio and seed."""
        return [
            self.parameterAsInt(parameters, name, context)
            for name in (self.SIZE, self.BANDS, self.RATIO, self.SEED)
        ]
