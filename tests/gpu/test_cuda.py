"""What must be the same on a CUDA device; skipped where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusion_core.diffusion import noise_field
from fusion_core.execution.executor import SamplingPlan, TileBatch
from fusion_core.execution.local import LocalExecutor
from tests.core.networks import tiles, write_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def test_noise_is_the_same_field():
    here, there = (noise_field(-3, 8, 64, 50, 5, 11, device) for device in ("cpu", "cuda"))
    # float64 sines differ in their last bit, which float32 all but never shows.
    np.testing.assert_allclose(there.cpu(), here, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", ["ssdiff", "ddrf"])
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-3), ("bfloat16", 0.1)])
def test_tiles_are_the_same(tmp_path, method, precision, tolerance):
    given = {
        "model": write_model(tmp_path / "tiny.safetensors", method),
        "steps": 2,
        "solver": "ddim",
        "grid": "uniform",
        "seed": 3,
        "samples": 1,
        "value_range": ((-1.0, 2.0),) * 4,
    }
    guide, ms, lms = (t.numpy() for t in tiles(4, 32, 32, batch=3))
    batch = TileBatch(guide, ms, lms, np.zeros((3, 2), np.int64))
    expected, found = (
        LocalExecutor(SamplingPlan(**given, device=device, precision=p)).run(batch, lambda n: None)
        for device, p in (("cpu", "float32"), ("cuda", precision))
    )
    error = np.abs(found.residual - expected.residual).mean()
    assert error < tolerance * np.ptp(expected.residual)
