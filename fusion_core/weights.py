"""Model files: safetensors weights with their model card inside.

A model is one ``.safetensors`` file whose metadata holds the card as JSON.  Reading a card needs neither torch nor the
safetensors package, so QGIS can list and check models by itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .bands import KNOWN_BANDS, band_order, canonical_band, contradictions
from .errors import FusionError
from .solvers import GRIDS, SOLVERS

if TYPE_CHECKING:
    import torch

    from .models import FusionNetwork

MODELS_FOLDER = Path(__file__).resolve().parent.parent / "resources" / "models"
METHOD_TITLES = {"ddrf": "DDRF", "ssdiff": "SSDiff"}
MOST_CONSISTENCY = 10
_LONGEST_HEADER = 16 * 2**20
_LARGEST_TILE = 4096


@dataclass(frozen=True)
class ModelCard:
    """What a model is for, how to run it and where it comes from.

    Attributes:
        id: short name, unique among the installed models.
        method: "ddrf" or "ssdiff".
        title: one line for people.
        ms_bands, guide_bands, ratio: what the network was built for.
        band_names: the MS bands in the order of the network's channels.
        options: further arguments of ``create_model``.
        tile, margin: PAN pixels of a tile, and of its edge that is blended with the neighbours'.
        steps, solver, grid: default sampling.
        objective, indexing, self_conditioning: how the network was trained and is to be asked.
        consistency: how often each estimate is moved towards the measured MS, 0 for a network's bare answer.
        mtf_gain: transfer at the MS Nyquist frequency that is assumed in doing so.
        normalisation: "percentile" divides each band by its scene's 98th percentile; a number divides by that.
        licence: of the weights.
        training: data, recipe, command, seed, as text by topic.
        metrics: figures by scene and metric.
    """

    id: str
    method: str
    title: str
    ms_bands: int
    guide_bands: int
    ratio: int
    band_names: tuple[str, ...] = ()
    options: dict[str, object] = field(default_factory=dict)
    tile: int = 64
    margin: int = 8
    steps: int = 1
    solver: str = "ddim"
    grid: str = "uniform"
    objective: str = "x0"
    indexing: str = "original"
    self_conditioning: bool = False
    consistency: int = 0
    mtf_gain: float = 0.3
    normalisation: str | float = "percentile"
    licence: str = ""
    training: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """For lists and messages, such as "ssdiff-vhr-4 (SSDiff, 4 bands, ratio 4)"."""
        method = METHOD_TITLES[self.method]
        return f"{self.id} ({method}, {self.ms_bands} bands, ratio {self.ratio})"


@dataclass(frozen=True)
class ModelFile:
    """A model on disk that has been read and checked as far as its header goes."""

    path: str
    card: ModelCard

    def digest(self) -> str:
        """SHA-256 of the file, hexadecimal."""
        return hashlib.sha256(Path(self.path).read_bytes()).hexdigest()


def read_model(path: str | os.PathLike[str]) -> ModelFile:
    """Read and check the header of a model file.

    Raises:
        FusionError: the file is missing, damaged, a pickle, no model of ours, or its weights are not what its card says.
    """
    path = os.fspath(path)
    metadata, shapes = _read_header(path)
    if "card" not in metadata:
        raise FusionError(
            f"{path} has no model card inside: choose a model made by this software's training or import."
        )
    card = _parse_card(metadata["card"], path)
    _check_shapes(card, shapes, path)
    return ModelFile(path, card)


def installed_models(folder: Path | None = None) -> list[ModelFile]:
    """The models that come with the software, or those of another folder, by id; damaged files are left out."""
    models = []
    for path in sorted((folder or MODELS_FOLDER).glob("*.safetensors")):
        try:
            models.append(read_model(path))
        except FusionError:
            continue
    return sorted(models, key=lambda model: model.card.id)


def find_model(
    method: str,
    bands: int,
    ratio: int,
    name: str = "auto",
    band_names: Sequence[str] = (),
    guide_bands: int = 1,
    folder: Path | None = None,
    transparencies: int = 0,
) -> ModelFile:
    """The model that a user's choice means for a scene.

    Args:
        method: "ddrf" or "ssdiff".
        bands: number of MS bands of the scene.
        ratio: the scene's ratio, for "auto".
        name: "auto" for the installed one that fits, an id of an installed one, or a file.
        band_names: the scene's as far as they are known, "" where not; the model that knows them is preferred.
        guide_bands: bands of the scene's sharp image.
        folder: where models are installed, ours unless given.
        transparencies: bands of the MS image that are not counted, for messages.

    Raises:
        FusionError: nothing fits, or the named model is not for this method or these bands.
    """
    installed = installed_models(folder)
    counted = (
        f" (besides {transparencies} marked as transparency, which counts where BANDS names it too)"
        if transparencies
        else ""
    )
    if name == "auto":
        wanted = (method, bands, ratio, guide_bands)
        fitting = [m for m in installed if _signature(m.card) == wanted]
        if not fitting:
            raise FusionError(
                f"No {METHOD_TITLES[method]} model for {bands} bands{counted} at ratio {ratio} is installed"
                f"{_listed(m for m in installed if m.card.method == method)}: "
                "choose a model file (.safetensors), or other bands."
            )
        return _best_for_bands(fitting, band_names)
    by_id = {model.card.id: model for model in installed}
    if name in by_id:
        model = by_id[name]
    elif os.path.exists(name) or name.endswith(".safetensors"):
        model = read_model(name)
    else:
        raise FusionError(
            f"There is no model called {name}{_listed(installed)}: choose one of them or a .safetensors file."
        )
    card = model.card
    if card.method != method:
        raise FusionError(
            f"The model {card.id} is for {METHOD_TITLES[card.method]}: run that algorithm, or choose a "
            f"{METHOD_TITLES[method]} model."
        )
    if card.ms_bands != bands:
        raise FusionError(
            f"The model {card.id} is for {card.ms_bands} MS bands but the MS image has {bands}{counted}: "
            "choose another model or other bands."
        )
    if card.guide_bands != guide_bands:
        raise FusionError(
            f"The model {card.id} needs a sharp image with {card.guide_bands} band(s) but it has {guide_bands}: "
            "choose another model or another image."
        )
    return model


def _best_for_bands(fitting: Sequence[ModelFile], band_names: Sequence[str]) -> ModelFile:
    """The model that knows the bands; where not all have a name, one that these do not contradict."""
    for model in fitting:
        if band_order(model.card.band_names, band_names) is not None:
            return model
    nameless = [model for model in fitting if not model.card.band_names]
    if band_names and all(canonical_band(name) for name in band_names):
        if nameless:
            return nameless[0]
        card = fitting[0].card
        known = "; ".join(f"{m.card.id}: {', '.join(m.card.band_names)}" for m in fitting)
        raise FusionError(
            f"The MS bands are {', '.join(band_names)} but the {METHOD_TITLES[card.method]} models for "
            f"{card.ms_bands} bands at ratio {card.ratio} are for others ({known}): "
            "choose a model file (.safetensors) for these bands, or give BANDS if they are others."
        )
    agreeing = [m for m in fitting if not contradictions(m.card.band_names, band_names)]
    usual = KNOWN_BANDS.get(len(band_names))
    # Nothing is known of the bands or too little, so the usual ones are the best guess; the run says that it is one.
    return max(agreeing or fitting, key=lambda model: model.card.band_names == usual)


def load_network(model: ModelFile) -> FusionNetwork:
    """Build the network of a model file with its weights, float32, in evaluation mode.

    Raises:
        FusionError: the weights are damaged or belong to another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from .models import create_model

    card = model.card
    try:
        network = create_model(
            card.method, card.ms_bands, card.guide_bands, card.ratio, **card.options
        )
        state = {
            name: value.float() if value.is_floating_point() else value
            for name, value in load_file(model.path).items()
        }
        network.load_state_dict(state)
    except (SafetensorError, RuntimeError, TypeError, ValueError, OSError) as error:
        raise FusionError(
            f"The weights in {model.path} do not fit the network its card names: "
            "get the model file again."
        ) from error
    return network.eval()


def save_model(
    path: str | os.PathLike[str],
    state: dict[str, torch.Tensor],
    card: ModelCard,
    half: bool = True,
) -> None:
    """Write weights, in half precision or as they are, and card as one file, whole or not at all."""
    import torch
    from safetensors.torch import save

    stored = {
        name: (value.to(torch.float16) if half and value.is_floating_point() else value)
        .cpu()
        .contiguous()
        for name, value in state.items()
    }
    partial = f"{os.fspath(path)}.partial"
    try:
        # Written by Python, so that the file gets the permissions of any other; safetensors keeps it to its owner.
        Path(partial).write_bytes(
            save(stored, metadata={"card": json.dumps(asdict(card), sort_keys=True)})
        )
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def update_card(path: str | os.PathLike[str], **changes: object) -> ModelCard:
    """Change entries of a model file's card, whole or not at all; the weights stay.

    Raises:
        FusionError: the file is not a sound model.
        TypeError: there is no such entry.
    """
    from safetensors.torch import load_file

    card = replace(read_model(path).card, **changes)
    save_model(path, load_file(path), card, half=False)
    return card


def _signature(card: ModelCard) -> tuple[str, int, int, int]:
    return card.method, card.ms_bands, card.ratio, card.guide_bands


def _listed(models: Iterable[ModelFile]) -> str:
    names = ", ".join(model.card.summary for model in models)
    return f" (installed: {names})" if names else ""


def _read_header(path: str) -> tuple[dict[str, str], dict[str, list[int]]]:
    """Metadata and tensor shapes of a safetensors file."""
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
            if length > min(size - 8, _LONGEST_HEADER):
                # A sound length may begin with the same bytes, so only what is none can be a pickle.
                if start[:2] == b"PK" or start[:1] == b"\x80":
                    raise FusionError(
                        f"{path} is a PyTorch checkpoint, which can run code when it is read: "
                        "choose a .safetensors model instead."
                    )
                raise ValueError("header length")
            header = json.loads(file.read(length))
        metadata = header.pop("__metadata__", {})
        shapes = {name: list(entry["shape"]) for name, entry in header.items()}
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        if end != size - 8 - length:
            raise ValueError("data length")
    except OSError as error:
        raise FusionError(
            f"The model file {path} cannot be read ({error.strerror}): choose another."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FusionError(
            f"The model file {path} is damaged or not a safetensors file: get it again."
        ) from error
    return metadata, shapes


def _parse_card(text: str, path: str) -> ModelCard:
    try:
        content = json.loads(text)
        known = {f.name for f in fields(ModelCard)}
        content = {key: value for key, value in content.items() if key in known}
        content["band_names"] = tuple(content.get("band_names", ()))
        card = ModelCard(**content)
        numbers = (card.ms_bands, card.guide_bands, card.ratio, card.tile, card.steps)
        sound = (
            card.method in METHOD_TITLES
            and all(isinstance(n, int) and n > 0 for n in numbers)
            and 0 <= 4 * card.margin <= card.tile
            and card.tile % card.ratio == 0
            and card.margin % card.ratio == 0
            and card.tile <= _LARGEST_TILE
            and card.solver in SOLVERS
            and card.grid in GRIDS
            and card.objective in ("x0", "eps", "v")
            and card.indexing in ("original", "published")
            and card.consistency in range(MOST_CONSISTENCY + 1)
            and 0 < card.mtf_gain < 1
            and (card.normalisation == "percentile" or 0 < card.normalisation < float("inf"))
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise FusionError(
            f"The model card in {path} cannot be read: get the model again."
        ) from error
    if not sound:
        raise FusionError(f"The model card in {path} contradicts itself: get the model again.")
    return card


def _check_shapes(card: ModelCard, shapes: dict[str, list[int]], path: str) -> None:
    """Compare what the card says of bands and ratio with the weights themselves."""
    bands, guide, ratio = card.ms_bands, card.guide_bands, card.ratio
    telling = {
        "ssdiff": {
            "conv_pan2x_t.weight": (1, bands + guide),
            "to_hrms.2.weight": (0, bands),
            "upsample.upsamle.0.weight": (0, bands * ratio * ratio),
        },
        "ddrf": {
            "downs.1.cond_inj.body.0.weight": (1, bands + guide),
            "final_conv.block.3.weight": (0, bands),
        },
    }[card.method]
    for name, (axis, count) in telling.items():
        if name not in shapes:
            raise FusionError(
                f"The weights in {path} are not those of a {METHOD_TITLES[card.method]} network: "
                "get the model file again."
            )
        if len(shapes[name]) <= axis or shapes[name][axis] != count:
            raise FusionError(
                f"The model card in {path} says {bands} bands at ratio {ratio} but its weights are of another "
                "shape: get the model file again."
            )
