"""Networks started from the weights of another one with other bands."""

from __future__ import annotations

import pytest
import torch

from fusion_core.models import create_model
from fusion_core.training.transfer import transferred

FOUR = ("Blue", "Green", "Red", "NIR")
EIGHT = ("Coastal", "Blue", "Green", "Yellow", "Red", "RedEdge", "NIR1", "NIR2")
STAND_INS = [0, 0, 1, 1, 2, 2, 3, 3]


def network(method: str, bands: int, ratio: int = 4):
    torch.manual_seed(bands + ratio)
    net = create_model(method, bands, 1, ratio, width=16).eval()
    for parameter in net.parameters():
        # Fresh networks have zeros where an error would not show.
        torch.nn.init.normal_(parameter, std=0.05)
    for buffer in net.buffers():
        buffer.copy_(torch.rand(buffer.shape) + 0.5 if buffer.is_floating_point() else ratio)
    return net


@pytest.mark.parametrize("method", ["ddrf", "ssdiff"])
@torch.no_grad()
def test_eight_bands_that_equal_four_give_what_the_four_give(method):
    four, eight = network(method, 4), network(method, 8)
    eight.load_state_dict(transferred(four.state_dict(), eight.state_dict(), method, FOUR, EIGHT))
    guide, ms = torch.rand(1, 1, 32, 32), torch.rand(1, 4, 8, 8)
    lms, x_t = torch.rand(1, 4, 32, 32), torch.randn(1, 4, 32, 32)
    t = torch.tensor([400])
    expected = four(x_t, t, four.prepare(guide, ms, lms))
    repeated = [image[:, STAND_INS] for image in (x_t, ms, lms)]
    found = eight(repeated[0], t, eight.prepare(guide, *repeated[1:]))
    torch.testing.assert_close(found, expected[:, STAND_INS], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", ["ddrf", "ssdiff"])
def test_other_ratio_keeps_what_does_not_depend_on_it(method):
    four, half = network(method, 4), network(method, 4, ratio=2)
    started = transferred(four.state_dict(), half.state_dict(), method, FOUR, FOUR)
    fresh = half.state_dict()
    from_scratch = {name for name in started if torch.equal(started[name], fresh[name])}
    assert from_scratch == ({"upsample.upsamle.0.weight"} if method == "ssdiff" else set())


def test_bands_nobody_knows_and_other_widths_are_refused():
    four = network("ddrf", 4)
    with pytest.raises(ValueError, match="not known by name"):
        transferred(four.state_dict(), four.state_dict(), "ddrf", FOUR, ("A", "B", "C", "D"))
    wide = create_model("ddrf", 4, 1, 4, width=32)
    with pytest.raises(ValueError, match="has shape"):
        transferred(four.state_dict(), wide.state_dict(), "ddrf", FOUR, FOUR)
