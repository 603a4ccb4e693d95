"""The settings: which Python runs the networks, and how much of the processor it may use."""

from __future__ import annotations

import os
import sys

from qgis.core import QgsApplication
from qgis.gui import QgsFileWidget
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import (
    QApplication,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
)

from ..fusion_core.errors import FusionError
from ..fusion_core.execution.interpreter import INSTALL, find_interpreter, missing_packages
from ..fusion_core.execution.warm_workers import WARM_WORKERS
from ..processing_provider.algorithm import ICON_FILE
from . import settings
from .interpreter_check import InterpreterCheck
from .translation import tr


def install_commands() -> str:
    """Commands that make an environment with PyTorch on this operating system."""
    packages = INSTALL.partition(" -m ")[2]
    if sys.platform == "win32":
        python = "%USERPROFILE%\\pansharpening\\Scripts\\python.exe"
        return (
            'py -m venv "%USERPROFILE%\\pansharpening"\n'
            f'"{python}" -m {packages}\n'
            f"REM then choose {python} above"
        )
    return (
        "python3 -m venv ~/pansharpening\n"
        f"~/pansharpening/bin/python -m {packages}\n"
        "# then choose ~/pansharpening/bin/python above"
    )


class SettingsDialog(QDialog):
    """Choose and test the interpreter; nothing is kept until OK."""

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self.setWindowTitle(tr("Diffusion Pansharpening: settings"))
        self.setWindowIcon(QIcon(str(ICON_FILE)))
        self._check = None

        self.interpreter = QgsFileWidget()
        self.interpreter.setStorageMode(QgsFileWidget.StorageMode.GetFile)
        self.interpreter.setDialogTitle(tr("Python interpreter with PyTorch"))
        self.interpreter.setFilePath(settings.interpreter())
        self.test = QPushButton(tr("Test"))
        self.test.setToolTip(tr("Start the interpreter and ask for PyTorch and its devices."))
        self.test.setAutoDefault(False)
        self.result = QLabel()
        self.result.setWordWrap(True)
        self.result.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.threads = QSpinBox()
        self.threads.setRange(0, max(64, os.cpu_count() or 1))
        self.threads.setSpecialValueText(tr("automatic"))
        self.threads.setValue(settings.threads())
        self.threads.setToolTip(
            tr("Processor threads a run may use; fewer leave more to the rest of QGIS.")
        )
        self.buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel
        )
        self._arrange()

        self.test.clicked.connect(self.run_test)
        self.interpreter.fileChanged.connect(self._show_found)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        self._show_found()

    def _arrange(self) -> None:
        """Lay the widgets out."""
        introduction = QLabel(
            tr(
                "The networks run with PyTorch, in a Python environment outside QGIS. Leave the "
                "interpreter empty to have it found."
            )
        )
        introduction.setWordWrap(True)
        row = QHBoxLayout()
        row.addWidget(self.interpreter, 1)
        row.addWidget(self.test)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow(tr("Python interpreter"), row)
        form.addRow("", self.result)
        form.addRow(tr("Processor threads"), self.threads)

        commands = QPlainTextEdit(install_commands())
        commands.setReadOnly(True)
        commands.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        commands.setMinimumWidth(560)
        commands.setFixedHeight(6 * commands.fontMetrics().lineSpacing())
        copy = QPushButton(tr("Copy"))
        copy.setAutoDefault(False)
        copy.clicked.connect(lambda: QApplication.clipboard().setText(install_commands()))
        note = QLabel(
            tr(
                "In a terminal, with Python 3.9 or later. For a particular CUDA version, take the "
                'torch command from <a href="https://pytorch.org/get-started/locally/">'
                "pytorch.org</a> instead."
            )
        )
        note.setWordWrap(True)
        note.setOpenExternalLinks(True)
        group = QGroupBox(tr("How to install PyTorch"))
        inside = QVBoxLayout(group)
        inside.addWidget(note)
        inside.addWidget(commands)
        inside.addWidget(copy, 0, Qt.AlignmentFlag.AlignRight)

        layout = QVBoxLayout(self)
        layout.addWidget(introduction)
        layout.addLayout(form)
        layout.addWidget(group)
        layout.addStretch(1)
        layout.setSizeConstraint(QVBoxLayout.SizeConstraint.SetMinimumSize)
        layout.addWidget(self.buttons)

    def run_test(self) -> None:
        """Ask the interpreter in the background; the answer appears when it comes."""
        # Something may have been installed since the last answer.
        missing_packages.cache_clear()
        try:
            path = find_interpreter(self.interpreter.filePath().strip() or None)
        except FusionError as error:
            self._show_answer(False, str(error))
            return
        self._stop_check()
        self.test.setEnabled(False)
        self.result.setStyleSheet("")
        self.result.setText(tr("Testing {path} …").format(path=path))
        self._check = InterpreterCheck(path)
        self._check.answered.connect(self._show_answer)
        QgsApplication.taskManager().addTask(self._check)

    def accept(self) -> None:
        """Keep the settings and close."""
        settings.set_interpreter(self.interpreter.filePath())
        settings.set_threads(self.threads.value())
        missing_packages.cache_clear()
        # They run the interpreter as it was.
        WARM_WORKERS.release()
        super().accept()

    def done(self, result: int) -> None:
        """Close, and stop a test that still runs."""
        self._stop_check()
        super().done(result)

    def _stop_check(self) -> None:
        """Cancel the running test."""
        if self._check is not None:
            self._check.answered.disconnect(self._show_answer)
            self._check.cancel()
            self._check = None

    def _show_answer(self, usable: bool, sentence: str) -> None:
        """Show what the test found."""
        self._check = None
        self.test.setEnabled(True)
        self.result.setStyleSheet("color: #1a7f37" if usable else "color: #b3261e")
        self.result.setText(sentence)

    def _show_found(self) -> None:
        """Say which interpreter would be used."""
        self._stop_check()
        self.test.setEnabled(True)
        self.result.setStyleSheet("")
        if self.interpreter.filePath().strip():
            self.result.setText("")
            return
        try:
            self.result.setText(tr("Found: {path}").format(path=find_interpreter()))
        except FusionError as error:
            self.result.setText(str(error))
