"""What all algorithms of the provider share."""

from __future__ import annotations

from pathlib import Path

from qgis.core import (
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingOutputLayerDefinition,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProperty,
)
from qgis.PyQt.QtCore import QUrl
from qgis.PyQt.QtGui import QIcon

from ..fusion_core.errors import FusionError
from ..ui.translation import marked, tr

_RESOURCES = Path(__file__).resolve().parent.parent / "resources"
ICON_FILE = _RESOURCES / "icon.svg"
LARGEST_SEED = 2**31 - 1
_RASTER_INPUTS = (QgsProcessingParameterRasterLayer, QgsProcessingParameterMultipleLayers)


GROUPS = {
    "pansharpening": marked("Pansharpening"),
    "quality": marked("Quality"),
    "models": marked("Models"),
    "data": marked("Data"),
}
"""Titles of the groups in the toolbox by their ids, which never change."""


class Algorithm(QgsProcessingAlgorithm):
    """Base class: what the toolbox shows, translation, icon, help page and documented parameters.

    Attributes:
        NAME: the part after the colon in the id; never changes.
        TITLE: the name in the toolbox.
        GROUP: one of ``GROUPS``.
        TAGS: words under which the toolbox finds the algorithm, separated by commas.
        HELP: the text beside the dialog, by paragraphs.
        ICON: file in ``resources``.
    """

    NAME: str
    TITLE: str
    GROUP: str
    TAGS: str
    HELP: tuple[str, ...]
    ICON = "icon.svg"

    def name(self) -> str:
        """The part after the colon in the id."""
        return self.NAME

    def displayName(self) -> str:
        """The name in the toolbox."""
        return tr(self.TITLE)

    def group(self) -> str:
        """The group in the toolbox."""
        return tr(GROUPS[self.GROUP])

    def groupId(self) -> str:
        """The group's id."""
        return self.GROUP

    def tags(self) -> list[str]:
        """Words under which the toolbox finds the algorithm."""
        return tr(self.TAGS).split(",")

    def shortHelpString(self) -> str:
        """The text beside the dialog."""
        # QGIS makes a paragraph of every line, and the command line shows the text as it is.
        return "\n".join(tr(paragraph) for paragraph in self.HELP)

    def createInstance(self) -> Algorithm:
        """A fresh instance for one run."""
        return type(self)()

    def icon(self) -> QIcon:
        """The icon in the toolbox."""
        return QIcon(self.svgIconPath())

    def svgIconPath(self) -> str:
        """The icon where a file is wanted."""
        return str(_RESOURCES / self.ICON)

    def helpUrl(self) -> str:
        """The help page that comes with the plugin, at this algorithm's section."""
        url = QUrl.fromLocalFile(str(_RESOURCES / "help" / "index.html"))
        url.setFragment(self.name())
        return url.toString()

    def add(
        self, parameter: QgsProcessingParameterDefinition, text: str, advanced: bool = False
    ) -> None:
        """Declare a parameter together with its help.

        Args:
            parameter: the definition; the algorithm takes it over.
            text: what the user should know, shown as a tooltip and by ``qgis_process help``.
            advanced: fold it away in the dialog.
        """
        parameter.setHelp(text)
        if advanced:
            advanced_flag = QgsProcessingParameterDefinition.Flag.FlagAdvanced
            parameter.setFlags(parameter.flags() | advanced_flag)
        self.addParameter(parameter)

    def add_number(
        self,
        name: str,
        label: str,
        text: str,
        default: int | None,
        limits: tuple[int, int],
        advanced: bool = False,
    ) -> None:
        """Declare a whole number.

        Args:
            name, label, text: the parameter's name, its label and its help.
            default: None makes it optional.
            limits: least and greatest value.
            advanced: fold it away in the dialog.
        """
        integer = QgsProcessingParameterNumber.Type.Integer
        optional = default is None
        self.add(
            QgsProcessingParameterNumber(name, label, integer, default, optional, *limits),
            text,
            advanced,
        )

    def check_values(self, parameters: dict, context: QgsProcessingContext) -> None:
        """Refuse values that QGIS refuses, and numbers that it would replace, saying what is wrong.

        Raster inputs are left out: ``raster_source`` accepts more of them than QGIS does.

        Raises:
            FusionError: the first value that cannot be used.
        """
        for definition in self.parameterDefinitions():
            value = parameters.get(definition.name())
            if isinstance(definition, _RASTER_INPUTS):
                continue
            if isinstance(definition, QgsProcessingParameterNumber):
                self._check_number(definition, value)
            elif definition.checkValueIsAcceptable(value, context):
                continue
            elif isinstance(definition, QgsProcessingParameterEnum):
                raise FusionError(
                    tr("{name} is {value}: choose one of {options}.").format(
                        name=definition.name(),
                        value=value,
                        options=", ".join(definition.options()),
                    )
                )
            else:
                raise FusionError(
                    tr("{name} ({label}) is missing or cannot be used.").format(
                        name=definition.name(), label=definition.description()
                    )
                )

    def _check_number(self, definition: QgsProcessingParameterNumber, value: object) -> None:
        """Refuse what is no whole number in range; empty and expressions are left to QGIS."""
        if value is None or value == "" or isinstance(value, QgsProperty):
            return
        least, greatest = int(definition.minimum()), int(definition.maximum())
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = least - 1.0
        if not number.is_integer() or not least <= number <= greatest:
            raise FusionError(
                tr("{name} is {value}: give a whole number from {least} to {greatest}.").format(
                    name=definition.name(), value=value, least=least, greatest=greatest
                )
            )


def named_destination(value: object) -> str | None:
    """Path that a destination parameter names; None where QGIS picks a temporary one."""
    if isinstance(value, QgsProcessingOutputLayerDefinition):
        value = value.sink.staticValue()
    if not isinstance(value, str) or value in ("", QgsProcessing.TEMPORARY_OUTPUT):
        return None
    return value
