"""Graphical models: algorithms in a chain, as the model designer makes them."""

from __future__ import annotations

from qgis.core import (
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildAlgorithm,
    QgsProcessingModelChildParameterSource,
    QgsProcessingModelOutput,
    QgsProcessingModelParameter,
    QgsProcessingParameterRasterLayer,
)

Source = QgsProcessingModelChildParameterSource
INPUTS = ("PAN", "MS")


def make_chain(
    title: str,
    steps: dict[str, tuple[str, dict[str, object]]],
    outputs: dict[str, tuple[str, str]],
) -> QgsProcessingModelAlgorithm:
    """A model with the inputs PAN and MS.

    Args:
        title: name of the model.
        steps: algorithm and parameters of each step by its name, in order; parameters are values or a ``Source``.
        outputs: step and output that each output of the model shows.
    """
    chain = QgsProcessingModelAlgorithm(title, "tests")
    for name in INPUTS:
        chain.addModelParameter(
            QgsProcessingParameterRasterLayer(name, name), QgsProcessingModelParameter(name)
        )
    for name, (algorithm, parameters) in steps.items():
        step = QgsProcessingModelChildAlgorithm(algorithm)
        step.setChildId(name)
        for parameter, given in parameters.items():
            source = given if isinstance(given, Source) else Source.fromStaticValue(given)
            step.addParameterSources(parameter, [source])
        shown = {}
        for label, (child, output) in outputs.items():
            if child == name:
                shown[label] = QgsProcessingModelOutput(label)
                shown[label].setChildId(child)
                shown[label].setChildOutputName(output)
        step.setModelOutputs(shown)
        chain.addChildAlgorithm(step)
    chain.updateDestinationParameters()
    return chain


def images() -> dict[str, Source]:
    """The model's inputs as parameters of a step."""
    return {name: Source.fromModelParameter(name) for name in INPUTS}
