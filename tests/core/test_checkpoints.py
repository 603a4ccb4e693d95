"""Import of published checkpoints: what is found, what is refused, and that nothing in them runs."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from fusion_core.checkpoints import KNOWN_BANDS, check_import, import_checkpoint  # noqa: E402
from fusion_core.errors import Cancelled, FusionError  # noqa: E402
from fusion_core.execution.child import run_command  # noqa: E402
from fusion_core.models import create_model  # noqa: E402
from fusion_core.weights import load_network, read_model, update_card  # noqa: E402
from tests.core.networks import fill  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


def network(method="ssdiff", bands=4, guide=1, ratio=4, **options):
    return fill(create_model(method, bands, guide, ratio, **{"width": 16, **options}), seed=1)


def saved(tmp_path, content, name="net.pth") -> str:
    path = str(tmp_path / name)
    torch.save(content, path)
    return path


def prefixed(prefix, state):
    return {f"{prefix}{name}": value for name, value in state.items()}


def imported(tmp_path, content, **arguments):
    target = str(tmp_path / "made.safetensors")
    made = import_checkpoint(saved(tmp_path, content), target, **arguments)
    return made, read_model(target)


@pytest.mark.parametrize(
    ("method", "bands", "guide", "ratio", "options"),
    [
        ("ssdiff", 8, 1, 4, {"width": 32}),
        ("ssdiff", 4, 1, 2, {}),
        ("ddrf", 4, 1, 4, {"width": 32}),
        ("ddrf", 31, 3, 4, {"detail_order": "HVD"}),
    ],
)
def test_shapes_tell_the_network_and_weights_stay_bit_for_bit(
    tmp_path, method, bands, guide, ratio, options
):
    net = network(method, bands, guide, ratio, **options)
    made, model = imported(tmp_path, net.state_dict())
    card = model.card
    assert (card.method, card.ms_bands, card.guide_bands, card.ratio) == (
        method,
        bands,
        guide,
        ratio,
    )
    assert card.options["width"] == made.width == options.get("width", 16)
    order = None if method == "ssdiff" else "HDV" if guide == 1 else "HVD"
    assert card.options.get("detail_order") == order
    assert card.band_names == KNOWN_BANDS.get(bands, ())
    assert (card.indexing, card.normalisation) == ("published", 2047.0)
    assert card.steps == (10 if method == "ssdiff" else 25)
    for name, value in load_network(model).state_dict().items():
        assert torch.equal(value, net.state_dict()[name]), name


@pytest.mark.parametrize(
    ("wrap", "place"),
    [
        (lambda state: state, ""),
        (lambda state: prefixed("module.", state), "module"),
        (lambda state: {"epoch": 3, "state_dict": state}, "state_dict"),
        (lambda state: {"model": prefixed("module.denoise_fn.", state)}, "model.module.denoise_fn"),
        (lambda state: {"net": {"ema": {"shadow": state}}}, "net.ema.shadow"),
        (lambda state: {**prefixed("net.", state), "betas": torch.zeros(9)}, "net"),
        (lambda state: {**state, "betas": torch.zeros(9)}, ""),
    ],
)
def test_wrapped_and_prefixed_weights_are_found(tmp_path, wrap, place):
    net = network()
    made, model = imported(tmp_path, wrap(net.state_dict()))
    assert made.weights == place
    assert torch.equal(load_network(model).to_hrms[2].weight, net.to_hrms[2].weight)


def test_averaged_weights_are_preferred_and_get_their_statistics(tmp_path):
    live, averaged = network(), network()
    with torch.no_grad():
        for value in averaged.parameters():
            value.mul_(0.5)
    content = {"model": live.state_dict(), "ema_model": dict(averaged.named_parameters())}
    made, model = imported(tmp_path, content)
    state = load_network(model).state_dict()
    assert made.weights == "ema_model"
    assert torch.equal(state["to_hrms.2.weight"], averaged.to_hrms[2].weight)
    name = "out_layers_pan.0.running_mean"
    assert torch.equal(state[name], live.state_dict()[name])


def test_settings_are_recorded(tmp_path):
    names = ("Red", "Green", "Blue", "NIR")
    _, model = imported(
        tmp_path,
        network("ddrf").half().state_dict(),
        band_names=names,
        ratio=3,
        detail_order="HVD",
        normalisation=1023,
    )
    card = model.card
    assert (card.band_names, card.normalisation, card.ratio) == (names, 1023.0, 3)
    assert card.options["detail_order"] == "HVD"
    assert card.tile % 24 == 0 and card.margin % 3 == 0
    assert card.training["source"] == "imported from net.pth"
    assert len(card.training["sha256"]) == 64


def test_other_card_entries_change_without_losing_digits(tmp_path):
    net = network()
    _, model = imported(tmp_path, net.state_dict())
    update_card(model.path, title="mine")
    changed = load_network(read_model(model.path))
    assert torch.equal(changed.to_hrms[2].weight, net.to_hrms[2].weight)


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_checkpoint_does_not_run(tmp_path, legacy):
    trap = tmp_path / "trap"
    path = str(tmp_path / "evil.pth")
    content = {**network().state_dict(), "note": Evil(str(trap))}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(FusionError, match="holds more than weights and could run code"):
        import_checkpoint(path, str(tmp_path / "made.safetensors"))
    assert not trap.exists()
    assert not (tmp_path / "made.safetensors").exists()


def refused(tmp_path, content, **arguments) -> str:
    path = saved(tmp_path, content)
    with pytest.raises(FusionError) as caught:
        import_checkpoint(path, str(tmp_path / "made.safetensors"), **arguments)
    assert [file.name for file in tmp_path.iterdir()] == ["net.pth"]
    return str(caught.value)


def test_other_content_is_refused(tmp_path):
    state = network().state_dict()
    lacking = {name: value for name, value in state.items() if "fusformer3" not in name}
    assert "entries of SSDiff, such as fusformer3" in refused(tmp_path, lacking)
    assert "holds no weights of SSDiff or DDRF" in refused(tmp_path, {"a": torch.zeros(3)})
    assert "holds no weights of SSDiff or DDRF" in refused(tmp_path, [1, 2])
    assert "of SSDiff, not of DDRF" in refused(tmp_path, state, method="ddrf")
    wide = {**state, "fusformer0.layers.0.0.fn.fn.sa1.weight": torch.zeros(7, 7)}
    assert "not those of the published SSDiff" in refused(tmp_path, wide)
    more = {**state, "fusformer0.layers.1.0.fn.norm.weight": torch.zeros(16)}
    assert "fusformer0.layers.1.0.fn.norm.weight is unknown" in refused(tmp_path, more)
    failed = {**state, "conv_x_t.bias": torch.full((16,), float("nan"))}
    assert "are not all numbers (conv_x_t.bias)" in refused(tmp_path, failed)
    flat = {**state, "to_hrms.2.weight": torch.zeros(())}
    assert "not those of the published SSDiff" in refused(tmp_path, flat)
    assert "3 band names are given" in refused(tmp_path, state, band_names=("Red", "Blue", "NIR"))
    assert "are for ratio 4, not 2" in refused(tmp_path, state, ratio=2)


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a", b"PK\x03\x04 damaged", b"\x80\x02damaged", pickle.dumps(1.5)]
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    with pytest.raises(FusionError, match="is not a PyTorch checkpoint|holds no weights"):
        import_checkpoint(str(path), str(tmp_path / "made.safetensors"))


def test_truncated_checkpoint_is_refused(tmp_path):
    path = Path(saved(tmp_path, network().state_dict()))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(FusionError, match="is not a PyTorch checkpoint or is damaged"):
        import_checkpoint(str(path), str(tmp_path / "made.safetensors"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"checkpoint": "none.pth"}, "cannot be read"),
        ({"method": "unet"}, "The method is unet: choose one of auto, ddrf, ssdiff"),
        ({"detail_order": "VHD"}, "The detail order is VHD"),
        ({"normalisation": 0}, "The normalisation is 0"),
        ({"normalisation": float("nan")}, "The normalisation is nan"),
        ({"ratio": 1}, "The ratio is 1"),
        ({"band_names": ("Blau",)}, "The band name Blau is not known"),
        ({"model": "made.pth"}, "does not end in .safetensors"),
        ({"model": "/nowhere/made.safetensors"}, "Nothing can be written in /nowhere"),
    ],
)
def test_arguments_are_checked_without_torch(tmp_path, change, words):
    checkpoint = saved(tmp_path, {})
    with pytest.raises(FusionError, match=words):
        check_import(**{"checkpoint": checkpoint, **change})


def test_models_need_no_import(tmp_path):
    _, model = imported(tmp_path, network().state_dict())
    with pytest.raises(FusionError, match="is a safetensors file already"):
        check_import(model.path)


def test_checking_imports_no_torch(tmp_path):
    path = saved(tmp_path, {})
    code = f"import sys; from fusion_core.checkpoints import check_import; check_import({path!r}); "
    code += "import fusion_core.execution.child; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_child_gives_results_and_sentences(tmp_path):
    path, target = saved(tmp_path, network().state_dict()), str(tmp_path / "äö.safetensors")
    made = run_command(sys.executable, ["import", "--checkpoint", path, "--model", target])
    assert (made["method"], made["model"]) == ("ssdiff", target)
    assert read_model(target).card.id == "äö"
    with pytest.raises(FusionError, match="^The checkpoint none.pth cannot be read"):
        run_command(sys.executable, ["import", "--checkpoint", "none.pth", "--model", target])
    with pytest.raises(FusionError, match="ended unexpectedly"):
        run_command(sys.executable, ["import", "--nothing"])
    with pytest.raises(FusionError, match="cannot be started"):
        run_command(str(tmp_path / "python"), ["models"])
    with pytest.raises(Cancelled):
        run_command(sys.executable, ["models"], lambda: True)


@pytest.mark.parametrize("method", ["ssdiff", "ddrf"])
def test_imported_model_fuses(tmp_path, method):
    pytest.importorskip("osgeo")
    from fusion_core.fuse import fuse
    from fusion_core.raster.geotiff import read_bands
    from fusion_core.raster.sample_scene_files import write_sample_scene
    from fusion_core.sample_scene import make_sample_scene

    names = [str(tmp_path / f"{name}.tif") for name in ("pan", "ms", "fused")]
    write_sample_scene(make_sample_scene(64), names[0], names[1])
    _, model = imported(tmp_path, {"ema": prefixed("module.", network(method).state_dict())})
    result = fuse(*names, method=method, model=model.path, steps=3)
    pixels = read_bands(names[2])[0]
    assert (result.steps, pixels.shape) == (3, (4, 64, 64))
    assert np.ptp(pixels) > 0
