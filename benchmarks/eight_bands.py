"""The models whose speed is measured: those for WorldView's eight bands, in our form and as published."""

from __future__ import annotations

from benchmarks.published import PublishedDDRF, PublishedSSDiff
from fusion_core.execution.executor import SamplingPlan
from fusion_core.weights import ModelFile, find_model, load_network

BANDS = 8
RATIO = 4
METHODS = {"SSDiff": "ssdiff", "DDRF": "ddrf"}


def shipped_model(method: str) -> ModelFile:
    """The installed model."""
    return find_model(method, BANDS, RATIO, f"{method}-wv-8")


def published_network(model: ModelFile, device: str = "cpu") -> PublishedDDRF | PublishedSSDiff:
    """The published network with a model's weights, float32."""
    state, card = load_network(model).to(device).state_dict(), model.card
    if card.method == "ddrf":
        return PublishedDDRF(state, card.ms_bands, card.guide_bands)
    return PublishedSSDiff(state)


def detail_order(model: ModelFile) -> str:
    """Order of the guide's wavelet details that a DDRF was trained with."""
    return str(model.card.options.get("detail_order", "HDV"))


def sampling_plan(
    model: ModelFile, device: str = "cpu", precision: str = "auto", threads: int | None = None
) -> SamplingPlan:
    """How an executor computes tiles of random numbers from 0 to 1 at the model's default steps."""
    card = model.card
    return SamplingPlan(
        model=model.path,
        steps=card.steps,
        solver=card.solver,
        grid=card.grid,
        seed=0,
        samples=1,
        value_range=((-1.0, 2.0),) * card.ms_bands,
        device=device,
        precision=precision,
        threads=threads,
    )
