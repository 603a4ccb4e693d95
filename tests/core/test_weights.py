"""Model files: what is kept, what is refused."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fusion_core.errors import FusionError
from fusion_core.models import create_model
from fusion_core.weights import (
    MODELS_FOLDER,
    find_model,
    installed_models,
    load_network,
    read_model,
    save_model,
    update_card,
)
from tests.core.networks import fill, write_model


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "tiny.safetensors", band_names=("Blue", "Green", "Red", "NIR"))


def rewrite(path: str, change) -> str:
    """Change the header of a model file."""
    content = Path(path).read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    return path


def change_card(path: str, **changes: object) -> str:
    def change(header):
        card = json.loads(header["__metadata__"]["card"])
        header["__metadata__"]["card"] = json.dumps({**card, **changes})

    return rewrite(path, change)


@pytest.mark.parametrize("method", ["ssdiff", "ddrf"])
def test_weights_come_back_in_half_precision(tmp_path, method):
    path = write_model(tmp_path / "m.safetensors", method)
    model = read_model(path)
    loaded = load_network(model).state_dict()
    expected = fill(create_model(method, 4, width=16), 1).state_dict()
    assert loaded.keys() == expected.keys()
    for name, value in loaded.items():
        assert torch.equal(
            value, expected[name].half().float() if value.is_floating_point() else value
        )


def test_card_comes_back(model):
    card = read_model(model).card
    assert (card.id, card.method, card.ms_bands, card.ratio) == ("tiny", "ssdiff", 4, 4)
    assert card.band_names == ("Blue", "Green", "Red", "NIR")
    assert len(read_model(model).digest()) == 64


def test_reading_a_card_needs_no_torch(model):
    code = (
        "import sys; from fusion_core.weights import read_model; "
        f"print(read_model({model!r}).card.id, 'torch' in sys.modules, 'safetensors' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[2]
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert answer.stdout.split() == ["tiny", "False", "False"], answer.stderr


def refused(path: str, *words: str) -> None:
    with pytest.raises(FusionError) as caught:
        load_network(read_model(path))
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    for word in words:
        assert word in sentence


def test_missing_file(tmp_path):
    refused(str(tmp_path / "none.safetensors"), "cannot be read")


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_truncated_file(model, kept):
    Path(model).write_bytes(Path(model).read_bytes()[:kept])
    refused(model, "damaged")


def test_garbage(tmp_path):
    path = tmp_path / "noise.safetensors"
    path.write_bytes(bytes(range(255)) * 100)
    refused(str(path), "damaged")


def test_pickle_is_never_read(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    torch.save({"weight": torch.zeros(3)}, path)
    refused(str(path), "PyTorch checkpoint")


@pytest.mark.parametrize("first_byte", [0x80, 0x50])
def test_a_header_length_that_looks_like_a_pickle_is_none(tmp_path, model, first_byte):
    """The length comes first; its lowest byte may be that with which pickles and zip files begin."""
    card = read_model(model).card
    content = Path(model).read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    padding = (first_byte - length) % 256
    text = content[8 : 8 + length] + b" " * padding
    path = tmp_path / "padded.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    assert path.read_bytes()[0] == first_byte
    assert read_model(path).card == card


def test_without_card(model):
    refused(rewrite(model, lambda header: header["__metadata__"].clear()), "no model card")


def test_card_that_is_no_card(model):
    refused(rewrite(model, lambda h: h["__metadata__"].update(card="[1]")), "card")


@pytest.mark.parametrize(
    "lie", [{"ms_bands": 8}, {"guide_bands": 2}, {"ratio": 2, "margin": 8}, {"method": "ddrf"}]
)
def test_card_that_lies_about_its_weights(model, lie):
    refused(change_card(model, **lie), "weights")


def test_card_that_lies_about_the_width(model):
    refused(change_card(model, options={"width": 32}), "do not fit")


@pytest.mark.parametrize(
    "nonsense",
    [
        {"tile": 0},
        {"tile": 10**9},
        {"margin": 16},
        {"tile": 30},
        {"method": "magic"},
        {"steps": "many"},
        {"solver": "magic"},
        {"grid": "magic"},
        {"objective": "magic"},
        {"indexing": "magic"},
        {"consistency": -1},
        {"consistency": 1.5},
        {"mtf_gain": 0},
        {"normalisation": -1},
    ],
)
def test_card_that_contradicts_itself(model, nonsense):
    refused(change_card(model, **nonsense), "contradicts")


def test_find_by_id_file_and_auto(tmp_path, model):
    write_model(tmp_path / "other.safetensors", bands=8)
    for name in ("auto", "tiny", model):
        assert find_model("ssdiff", 4, 4, name, folder=tmp_path).card.id == "tiny"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ssdiff", 5, 4), "No SSDiff model for 5 bands at ratio 4"),
        (("ssdiff", 4, 2), "No SSDiff model for 4 bands at ratio 2"),
        (("ddrf", 4, 4), "No DDRF model"),
        (("ssdiff", 5, 4, "tiny"), "for 4 MS bands but the MS image has 5"),
        (("ddrf", 4, 4, "tiny"), "is for SSDiff"),
        (("ssdiff", 4, 4, "unheard-of"), "no model called unheard-of"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, model, arguments, words):
    with pytest.raises(FusionError, match=words):
        find_model(*arguments, folder=tmp_path)


def test_a_failed_save_leaves_the_old_file(model, monkeypatch):
    before = Path(model).read_bytes()
    card = replace(read_model(model).card, id="new")
    monkeypatch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        save_model(model, {"a": torch.zeros(1)}, card)
    assert Path(model).read_bytes() == before
    assert os.listdir(Path(model).parent) == [Path(model).name]


def test_a_card_can_be_changed_without_touching_the_weights(model):
    before = load_network(read_model(model)).state_dict()
    update_card(model, steps=7, metrics={"scene": {"SAM": 1.5}})
    card = read_model(model).card
    assert (card.steps, card.metrics, card.id) == (7, {"scene": {"SAM": 1.5}}, "tiny")
    after = load_network(read_model(model)).state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_installed_models_load_and_say_where_they_come_from():
    models = installed_models()
    assert len(models) == len(list(MODELS_FOLDER.glob("*.safetensors"))) > 0
    for model in models:
        load_network(model)
        assert model.card.id == Path(model.path).stem
        assert len(model.card.band_names) == model.card.ms_bands
        assert model.card.licence
        assert {"data", "command", "settings"} <= model.card.training.keys()
        assert model.card.metrics
