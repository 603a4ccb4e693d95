"""Numbers that the published networks gave, and how far others are from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion_core.diffusion import sample
from fusion_core.models.network import FusionNetwork

_FOLDER = Path(__file__).resolve().parents[3] / "shared" / "reference" / "parity"
SSDIFF_NETWORKS = ("ssdiff_4band", "ssdiff_8band")
DDRF_NETWORKS = ("ddrf_4band", "ddrf_8band", "ddrf_hyperspectral")

needs_numbers = pytest.mark.skipif(
    not _FOLDER.is_dir(), reason="the published networks' numbers are not here"
)


@dataclass(frozen=True)
class PublishedNumbers:
    """What a published network was given, and what it answered.

    Attributes:
        method: "ddrf" or "ssdiff".
        bands, guide_bands: of MS and of the sharp image.
        seed: of the weights, see ``networks.fill``.
        options: of ``create_model``.
        arrays: by the names that the file gives them.
    """

    method: str
    bands: int
    guide_bands: int
    seed: int
    options: dict[str, str]
    arrays: dict[str, torch.Tensor]

    @property
    def ddrf_calls(self) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
        """Answers of DDRF, each with the estimate that it was fed back."""
        arrays = self.arrays
        return [(arrays["out_no_selfcond"], None), (arrays["out_selfcond"], arrays["self_cond"])]


def read_numbers(name: str) -> PublishedNumbers:
    """The numbers of one of ``SSDIFF_NETWORKS`` or ``DDRF_NETWORKS``."""
    numbers = np.load(_FOLDER / f"{name}.npz")
    arrays = {key: torch.from_numpy(numbers[key]) for key in numbers if numbers[key].ndim}
    method = name.partition("_")[0]
    return PublishedNumbers(
        method,
        arrays["ms"].shape[1],
        arrays["pan"].shape[1],
        int(numbers["seed"]),
        {"detail_order": str(numbers["detail_order"])} if method == "ddrf" else {},
        arrays,
    )


def require_published_answers(net: FusionNetwork, numbers: PublishedNumbers) -> None:
    """Assert that a network of the package answers what the published one did, DDRF after 25 steps too."""
    given = numbers.arrays
    condition = net.prepare(given["pan"], given["ms"], given["lms"])
    if numbers.method == "ssdiff":
        answer = net(given["x_t"], given["t"], condition)
        assert share_of_range(answer, given["out"]) < 1e-5
        return
    for expected, self_cond in numbers.ddrf_calls:
        answer = net(given["x_t"], given["t"], condition, self_cond=self_cond)
        assert share_of_range(answer, expected) < 1e-5
    residual = sample(
        net, condition, given["ddim25_noise"], steps=25, indexing="published", value_range=None
    )
    assert share_of_range(residual, given["ddim25_residual"]) < 1e-4


def share_of_range(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The greatest error as a share of the range of what was expected."""
    assert found.shape == expected.shape
    difference = found.double() - expected.double()
    return float(difference.abs().max() / (expected.max() - expected.min()))
