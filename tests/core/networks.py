"""Networks for tests: weights drawn from their own names, and model files that hold them."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import torch

from fusion_core.models import create_model
from fusion_core.models.network import FusionNetwork
from fusion_core.weights import ModelCard, save_model


def fill(network: FusionNetwork, seed: int) -> FusionNetwork:
    """Give every state-dict entry the values that its own name and the seed draw."""
    network.load_state_dict(
        {
            name: _drawn(name, tuple(value.shape), seed)
            for name, value in network.state_dict().items()
        }
    )
    return network.eval()


def _drawn(name: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    rng = np.random.default_rng(zlib.crc32(f"{seed}:{name}".encode()))
    values = rng.standard_normal(shape).astype("float32")
    if name.endswith("num_batches_tracked"):
        return torch.zeros((), dtype=torch.int64)
    if len(shape) >= 2:
        values = values / np.sqrt(np.prod(shape[1:]))
    elif name.endswith("running_var"):
        values = 1 + 0.1 * np.abs(values)
    elif name.endswith("weight"):
        values = 1 + 0.1 * values
    else:
        values = 0.1 * values
    return torch.from_numpy(np.asarray(values, dtype="float32"))


def tiles(
    bands: int,
    height: int,
    width: int,
    ratio: int = 4,
    batch: int = 1,
    guide: int = 1,
    seed: int = 0,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A random guide, ms and lms of a batch of tiles."""
    rng = np.random.default_rng(seed)
    coarse = (-(-height // ratio), -(-width // ratio))
    shapes = ((guide, height, width), (bands, *coarse), (bands, height, width))
    return tuple(torch.from_numpy(rng.random((batch, *s), dtype="float32")) for s in shapes)


def write_model(
    path: Path, method: str = "ssdiff", bands: int = 4, *, strength: float = 1.0, **card: object
) -> str:
    """A narrow network in a model file; its answers are random, times ``strength`` (0: the residual is zero)."""
    width = 16
    ratio = card.setdefault("ratio", 4)
    network = fill(create_model(method, bands, 1, ratio, width=width), seed=1)
    last = network.to_hrms[2] if method == "ssdiff" else network.final_conv.block[3]
    last.weight.data.mul_(strength)
    last.bias.data.mul_(strength)
    if method == "ssdiff":
        network.upsample.upsamle[0].weight.data.mul_(strength)
    details = {"tile": 32, "margin": 8, "options": {"width": width}, **card}
    save_model(
        path,
        network.state_dict(),
        ModelCard(
            id=path.stem, method=method, title="for tests", ms_bands=bands, guide_bands=1, **details
        ),
    )
    return str(path)
