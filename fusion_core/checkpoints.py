"""Checkpoints of the published training codes, made into model files.

A checkpoint is a pickle, which can run code when it is read.  It is therefore opened by torch's reader for weights
alone, which refuses anything else, and in the interpreter that computes, never in QGIS.

What of the published inference a model made here repeats: the timesteps 0, k, 2k, ... of the cosine schedule, DDIM without
noise, the network told the rank of a step (steps - 1 .. 0) and not its timestep, no self-conditioning, the constant that
images are divided by, and the default number of steps.  What it does not: the interpolation of MS (cubic and half-pixel
correct here; by 23 taps and half a pixel off there), the clipping of x0 (to the scene's own range here), one noise field for
the whole scene instead of fresh noise for each patch, and, for SSDiff, the published sampler's habit of treating the image as
if it were the residual: here the residual is sampled, which is what the network was trained for.
"""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .bands import KNOWN_BANDS, canonical_band
from .errors import FusionError
from .weights import METHOD_TITLES, ModelCard, save_model

if TYPE_CHECKING:
    import torch

METHODS = ("auto", *METHOD_TITLES)
DETAIL_ORDERS = ("auto", "HDV", "HVD")
NORMALISATION = 2047.0
"""What the published codes divide 11-bit images by."""

PUBLISHED_STEPS = {"ssdiff": 10, "ddrf": 25}
PUBLISHED_RATIO = 4
TILE = 64
MARGIN = 16

_MARKS = {"ssdiff": "conv_lms2x_t.weight", "ddrf": "noise_level_mlp.1.weight"}
"""An entry that only this network has."""

_REFUSED = ("GLOBAL ", "Unsupported class", "build Tensor", "Unsupported global")
"""What torch's reader says of content that is no weights, rather than damaged."""

_DEEPEST = 4
"""How many dictionaries may be wrapped around the weights."""


@dataclass(frozen=True)
class ImportedModel:
    """What ``import_checkpoint`` wrote.

    Attributes:
        model: the file.
        id, method, ms_bands, guide_bands, ratio, width: as on its card; width is the channels of the first level.
        weights: which entry of the checkpoint was taken, "" for the checkpoint itself.
    """

    model: str
    id: str
    method: str
    ms_bands: int
    guide_bands: int
    ratio: int
    width: int
    weights: str

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Weights:
    """A network's entries as found: where, of which network, by the network's own names."""

    place: str
    method: str
    state: dict[str, torch.Tensor]


def check_import(
    checkpoint: str,
    model: str | None = None,
    *,
    method: str = "auto",
    band_names: Sequence[str] = (),
    ratio: int | None = None,
    detail_order: str = "auto",
    normalisation: float = NORMALISATION,
) -> None:
    """Refuse what can be refused without torch; arguments and errors as ``import_checkpoint``."""
    for what, value, choices in (
        ("method", method, METHODS),
        ("detail order", detail_order, DETAIL_ORDERS),
    ):
        if value not in choices:
            raise FusionError(f"The {what} is {value}: choose one of {', '.join(choices)}.")
    if not 0 < normalisation < math.inf:
        raise FusionError(
            f"The normalisation is {normalisation:g}: give the number above 0 that images were divided by."
        )
    if ratio is not None and not 2 <= ratio <= 16:
        raise FusionError(f"The ratio is {ratio}: give a whole number from 2 to 16.")
    unknown = [name for name in band_names if not canonical_band(name)]
    if unknown:
        raise FusionError(
            f"The band name {unknown[0]} is not known: use names such as Blue, Green, Red, NIR, or none."
        )
    try:
        with open(checkpoint, "rb") as file:
            start = file.read(9)
    except OSError as error:
        raise FusionError(
            f"The checkpoint {checkpoint} cannot be read ({(error.strerror or str(error)).lower()}): choose another."
        ) from error
    if start[8:9] == b"{":
        raise FusionError(
            f"{checkpoint} is a safetensors file already: use it as the model, if it has a model card."
        )
    if start[:2] != b"PK" and start[:1] != b"\x80":
        raise _not_a_checkpoint(checkpoint)
    if model is None:
        return
    folder = os.path.dirname(os.path.abspath(model))
    if not model.endswith(".safetensors"):
        raise FusionError(f"{model} does not end in .safetensors: give the model such a name.")
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise FusionError(f"Nothing can be written in {folder}: choose another folder.")


def import_checkpoint(
    checkpoint: str,
    model: str,
    *,
    method: str = "auto",
    band_names: Sequence[str] = (),
    ratio: int | None = None,
    detail_order: str = "auto",
    normalisation: float = NORMALISATION,
) -> ImportedModel:
    """Make a model file of a checkpoint of the published training codes.

    The weights may be wrapped in dictionaries and carry prefixes such as "module."; an averaged copy (EMA) is preferred.
    Number of bands, ratio and width come from their shapes.

    Args:
        checkpoint: the file (.pth, .pt).
        model: the file to write (.safetensors).
        method: "ssdiff", "ddrf", or "auto" for the one that it is.
        band_names: the MS bands in the order of training; for none the usual ones of 4 and 8 bands.
        ratio: PAN pixels per MS pixel; None for what the weights say (SSDiff) or 4 (DDRF, whose weights do not say).
        detail_order: of DDRF's wavelet details: "HDV" (published pansharpening), "HVD" (published hyperspectral fusion), or
            "auto" by the number of guide bands.
        normalisation: what images were divided by in training.

    Raises:
        FusionError: it is no checkpoint, holds more than weights, is of another network, or lacks entries.
    """
    check_import(
        checkpoint,
        model,
        method=method,
        band_names=band_names,
        ratio=ratio,
        detail_order=detail_order,
        normalisation=normalisation,
    )
    found = list(_found(_loaded(checkpoint), ""))
    chosen = _chosen(found, method, checkpoint)
    card, state = _fitted(chosen, found, ratio, detail_order, checkpoint)
    names = tuple(band_names) or KNOWN_BANDS.get(card.ms_bands, ())
    if names and len(names) != card.ms_bands:
        raise FusionError(
            f"{len(names)} band names are given but the weights are for {card.ms_bands} MS bands: name all or none."
        )
    source = {
        "source": f"imported from {os.path.basename(checkpoint)}",
        "sha256": hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest(),
        "weights": chosen.place or "the checkpoint itself",
        "inference": "published timesteps and indices, DDIM; cubic interpolation of MS and one noise field are ours",
    }
    card = ModelCard(
        **{
            **asdict(card),
            "id": Path(model).stem,
            "title": f"{METHOD_TITLES[chosen.method]} imported from {os.path.basename(checkpoint)}",
            "band_names": names,
            "normalisation": float(normalisation),
            "licence": "not known: ask whoever trained it",
            "training": source,
        }
    )
    try:
        save_model(model, state, card, half=False)
    except OSError as error:
        raise FusionError(
            f"{model} cannot be written ({(error.strerror or str(error)).lower()}): choose another folder."
        ) from error
    return ImportedModel(
        model,
        card.id,
        card.method,
        card.ms_bands,
        card.guide_bands,
        card.ratio,
        int(card.options["width"]),
        chosen.place,
    )


def _loaded(checkpoint: str) -> object:
    """The checkpoint's content, weights and plain containers only."""
    import torch

    try:
        with warnings.catch_warnings():
            # Old formats are announced as such; nothing is to be done about it here.
            warnings.simplefilter("ignore")
            return torch.load(checkpoint, map_location="cpu", weights_only=True)
    except FusionError:
        raise
    except Exception as error:
        # On files that are something else the reader fails in a dozen ways.
        if any(word in str(error) for word in _REFUSED):
            raise FusionError(
                f"{checkpoint} holds more than weights and could run code when it is read: ask its author for the"
                " state dict alone."
            ) from error
        raise _not_a_checkpoint(checkpoint) from error


def _not_a_checkpoint(path: str) -> FusionError:
    return FusionError(
        f"{path} is not a PyTorch checkpoint or is damaged: choose the .pth file of the training code."
    )


def _found(content: object, place: str, depth: int = 0) -> Iterator[_Weights]:
    """Networks in a checkpoint: dictionaries, at any depth, whose names end like a network's."""
    if not isinstance(content, Mapping) or depth > _DEEPEST:
        return
    tensors = {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and hasattr(value, "shape")
    }
    for method, mark in _MARKS.items():
        for name in tensors:
            if name == mark or name.endswith(f".{mark}"):
                prefix = name[: -len(mark)]
                state = {
                    key[len(prefix) :]: value
                    for key, value in tensors.items()
                    if key.startswith(prefix)
                }
                yield _Weights(f"{place}{prefix}".strip("."), method, state)
    for name, value in content.items():
        yield from _found(value, f"{place}{name}.", depth + 1)


def _chosen(found: Sequence[_Weights], method: str, checkpoint: str) -> _Weights:
    """The network to take: of the method, averaged if there is a choice."""
    fitting = [weights for weights in found if method in ("auto", weights.method)]
    if not found:
        raise FusionError(
            f"{checkpoint} holds no weights of SSDiff or DDRF: choose a checkpoint of their published training code."
        )
    if not fitting:
        raise FusionError(
            f"{checkpoint} holds weights of {METHOD_TITLES[found[0].method]}, not of {METHOD_TITLES[method]}: choose"
            " that method or another checkpoint."
        )
    return min(fitting, key=lambda weights: "ema" not in weights.place.lower())


def _fitted(
    chosen: _Weights,
    found: Sequence[_Weights],
    ratio: int | None,
    detail_order: str,
    checkpoint: str,
) -> tuple[ModelCard, dict[str, torch.Tensor]]:
    """The card as far as the shapes tell it, and exactly the network's entries."""
    import torch

    from .models import create_model

    card = _card(chosen, ratio, detail_order, checkpoint)
    title = METHOD_TITLES[card.method]
    try:
        with torch.device("meta"):
            network = create_model(
                card.method, card.ms_bands, card.guide_bands, card.ratio, **card.options
            )
    except (ValueError, RuntimeError) as error:
        raise _other_network(checkpoint, title) from error
    buffers = {name for name, _ in network.named_buffers()}
    state, missing = {}, []
    for name, wanted in network.state_dict().items():
        value = chosen.state.get(name)
        if value is None and name in buffers:
            # Averages are taken of what is trained; statistics come from the network itself.
            others = (weights.state.get(name) for weights in found if weights.method == card.method)
            value = next((other for other in others if other is not None), None)
        if value is None and name.endswith("num_batches_tracked"):
            value = torch.zeros((), dtype=torch.int64)
        if value is None:
            missing.append(name)
        elif tuple(value.shape) != tuple(wanted.shape):
            raise _other_network(
                checkpoint, title, f"{name} is {list(value.shape)}, not {list(wanted.shape)}"
            )
        elif value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise FusionError(
                f"The weights in {checkpoint} are not all numbers ({name}): its training failed, choose another."
            )
        else:
            # A copy each: what shares memory cannot be stored.
            state[name] = (value.float() if value.is_floating_point() else value).clone()
    if missing:
        raise FusionError(
            f"{checkpoint} lacks {len(missing)} of the {len(network.state_dict())} entries of {title}, such as"
            f" {missing[0]}: choose a whole checkpoint."
        )
    parts = {name.split(".")[0] for name in state}
    extra = [n for n in chosen.state if n not in state and n.split(".")[0] in parts]
    if extra:
        raise _other_network(checkpoint, title, f"{extra[0]} is unknown")
    return card, state


def _card(chosen: _Weights, ratio: int | None, detail_order: str, checkpoint: str) -> ModelCard:
    """Bands, guide, ratio and width as the shapes tell them."""
    title = METHOD_TITLES[chosen.method]

    def size(name: str, axis: int) -> int:
        value = chosen.state.get(name)
        if value is None:
            raise FusionError(
                f"{checkpoint} lacks entries of {title}, such as {name}: choose a whole checkpoint."
            )
        if value.dim() <= axis:
            raise _other_network(checkpoint, title, f"{name} is {list(value.shape)}")
        return int(value.shape[axis])

    if chosen.method == "ssdiff":
        bands = size("to_hrms.2.weight", 0)
        guide = size("conv_pan2x_t.weight", 1) - bands
        width = size("to_hrms.0.weight", 0)
        seen = math.isqrt(size("upsample.upsamle.0.weight", 0) // max(bands, 1))
        options: dict[str, object] = {"width": width}
        if ratio is not None and ratio != seen:
            raise FusionError(
                f"The weights in {checkpoint} are for ratio {seen}, not {ratio}: leave the ratio empty."
            )
    else:
        bands = size("final_conv.block.3.weight", 0)
        guide = size("downs.1.cond_inj.body.0.weight", 1) - bands
        width = size("downs.0.weight", 0)
        seen = ratio or PUBLISHED_RATIO
        if detail_order == "auto":
            detail_order = "HDV" if guide == 1 else "HVD"
        options = {"width": width, "detail_order": detail_order}
    if min(bands, guide, width) < 1 or seen < 2:
        raise _other_network(checkpoint, title)
    # Tiles are whole MS pixels, and what the networks halve stays whole too.
    step = math.lcm(8, seen)
    tile = max(step, TILE // step * step)
    return ModelCard(
        id="",
        method=chosen.method,
        title="",
        ms_bands=bands,
        guide_bands=guide,
        ratio=seen,
        options=options,
        tile=tile,
        margin=min(MARGIN, tile // 4) // seen * seen,
        steps=PUBLISHED_STEPS[chosen.method],
        indexing="published",
    )


def _other_network(checkpoint: str, title: str, why: str = "") -> FusionError:
    return FusionError(
        f"The weights in {checkpoint} are not those of the published {title}{f' ({why})' if why else ''}: choose a"
        " checkpoint of that network."
    )
