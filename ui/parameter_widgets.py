"""Editors for parameters in the algorithm dialog; batch and modeler use those of QGIS."""

from __future__ import annotations

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterRasterLayer,
)
from qgis.gui import (
    QgsAbstractProcessingParameterWidgetWrapper,
    QgsGui,
    QgsProcessingGui,
)
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QToolButton,
    QWidget,
)

from ..fusion_core.weights import installed_models
from .translation import tr

_STANDARD = QgsProcessingGui.WidgetType.Standard


class _Editor(QgsAbstractProcessingParameterWidgetWrapper):
    """An editor for the algorithm dialog that gives way to QGIS's own everywhere else."""

    def __new__(cls, parameter, dialog, row=0, column=0):
        """Called by Processing with the dialog that the editor is for."""
        registry = QgsGui.processingGuiRegistry()
        kind = type(dialog).__name__
        if kind == "ModelerParametersDialog":
            return registry.createModelerParameterWidget(
                dialog.model, dialog.childId, parameter, dialog.context
            )
        if kind == "BatchAlgorithmDialog":
            return registry.createParameterWidgetWrapper(
                parameter, QgsProcessingGui.WidgetType.Batch
            )
        return super().__new__(cls)

    def __init__(self, parameter, dialog, row=0, column=0) -> None:
        super().__init__(parameter, _STANDARD)

    def _changed(self, *_arguments) -> None:
        self.widgetValueHasChanged.emit(self)


class RastersEditor(_Editor):
    """One raster picked from a list, as most users have it, or several."""

    def hint(self) -> str:
        """What several rasters are for."""
        return tr("Several scenes, a raster for each")

    def createWidget(self) -> QWidget:
        """The list of rasters, and a button that swaps it for the choice of several."""
        registry = QgsGui.processingGuiRegistry()
        several = self.parameterDefinition()
        optional = bool(several.flags() & QgsProcessingParameterDefinition.Flag.FlagOptional)
        # The wrappers keep bare pointers to what they are made of.
        self._single = QgsProcessingParameterRasterLayer(
            several.name(), several.description(), None, optional
        )
        self._context = QgsProcessingContext()
        self._wrappers = [
            registry.createParameterWidgetWrapper(parameter, _STANDARD)
            for parameter in (self._single, several)
        ]
        widget = QWidget()
        layout = QHBoxLayout(widget)
        layout.setContentsMargins(0, 0, 0, 0)
        for wrapper in self._wrappers:
            wrapper.setWidgetContext(self.widgetContext())
            layout.addWidget(wrapper.createWrappedWidget(self._context), 1)
            wrapper.widgetValueHasChanged.connect(self._changed)
        self._several = QToolButton()
        self._several.setText(tr("Several"))
        self._several.setToolTip(self.hint())
        self._several.setCheckable(True)
        self._several.toggled.connect(self._swap)
        self._swap(False)
        layout.addWidget(self._several, 0, Qt.AlignmentFlag.AlignTop)
        return widget

    def setWidgetContext(self, context) -> None:
        """Pass on the project and the map canvas."""
        super().setWidgetContext(context)
        for wrapper in getattr(self, "_wrappers", ()):
            wrapper.setWidgetContext(context)

    def setWidgetValue(self, value, context) -> None:
        """Show a value: a layer or name, or a list of them."""
        if isinstance(value, (list, tuple)) and len(value) == 1:
            value = value[0]
        several = isinstance(value, (list, tuple))
        self._several.setChecked(several)
        self._wrappers[several].setParameterValue(value, context)

    def widgetValue(self):
        """What was chosen."""
        return self._wrappers[self._several.isChecked()].parameterValue()

    def _swap(self, several: bool) -> None:
        self._wrappers[0].wrappedWidget().setVisible(not several)
        self._wrappers[1].wrappedWidget().setVisible(several)
        self._changed()


class MsEditor(RastersEditor):
    """One MS raster, or its bands one by one."""

    def hint(self) -> str:
        """What several rasters are for."""
        return tr("MS comes as several single-band rasters")


class ModelEditor(_Editor):
    """A list of the installed models that also takes the path of a file."""

    WORDS: tuple[str, ...] = ()
    """What else can be chosen."""

    def createWidget(self) -> QWidget:
        """An editable list and a button to browse."""
        self._list = QComboBox()
        self._list.setEditable(True)
        self._list.addItems([self.parameterDefinition().defaultValue(), *self.WORDS])
        for model in installed_models():
            self._list.addItem(model.card.id)
            self._list.setItemData(
                self._list.count() - 1, model.card.summary, Qt.ItemDataRole.ToolTipRole
            )
        self._list.currentTextChanged.connect(self._changed)
        browse = QToolButton()
        browse.setText("…")
        browse.setToolTip(tr("Choose a model file"))
        browse.clicked.connect(self._browse)
        self._widget = QWidget()
        layout = QHBoxLayout(self._widget)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._list, 1)
        layout.addWidget(browse)
        return self._widget

    def setWidgetValue(self, value, context) -> None:
        """Show a model's name or path."""
        self._list.setCurrentText(str(value or self.parameterDefinition().defaultValue()))

    def widgetValue(self) -> str:
        """What was chosen or typed."""
        return self._list.currentText().strip()

    def _browse(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self._widget, tr("Choose a model file"), "", tr("Models (*.safetensors)")
        )
        if path:
            self._list.setCurrentText(path)


class BaseModelEditor(ModelEditor):
    """The same, and the choice of no model at all."""

    WORDS = ("none",)
