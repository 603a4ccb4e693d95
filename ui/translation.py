"""Translation of what the user reads."""

from __future__ import annotations

from qgis.PyQt.QtCore import QCoreApplication


def tr(text: str) -> str:
    """A text in the user's language."""
    return QCoreApplication.translate("DiffusionPansharpening", text)


def marked(text: str) -> str:
    """A text that ``tr`` translates when it is shown: classes are made before QGIS has chosen the language."""
    return text
