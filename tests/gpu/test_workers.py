"""Workers on CUDA devices; skipped where there is none."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from fusion_core.execution.shared_out import SharedOutExecutor, start_workers
from tests.core.jobs import make_batch, make_plan, nothing, part_of

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
    pytest.mark.usefixtures("cold_start"),
]


def close_to(found: np.ndarray, expected: np.ndarray) -> bool:
    """Equal within rounding."""
    return np.abs(found - expected).max() < 1e-3 * np.ptp(expected)


def test_a_warm_worker_serves_the_next_job_and_holds_no_cached_memory(tmp_path):
    plan = make_plan(tmp_path, device="cuda:0", precision="float32")
    batch, pids, found, free = make_batch(8, 64), set(), [], []
    for _ in range(2):
        worker = start_workers(plan, sys.executable)
        pids.add(worker.process.pid)
        found.append(worker.run(batch, nothing).residual)
        free.append(torch.cuda.mem_get_info(0)[0])
        worker.close()
    assert len(pids) == 1
    assert close_to(found[1], found[0])
    # What it computes for the CPU is computed after it has rested.
    start_workers(make_plan(tmp_path, device="cpu"), sys.executable).close()
    assert torch.cuda.mem_get_info(0)[0] >= free[0]


def test_all_gpus_of_a_kind_share_the_tiles(tmp_path):
    if torch.cuda.device_count() < 2:
        pytest.skip("one CUDA device only")
    batch = make_batch(16, 64)
    plan = make_plan(tmp_path, device="cuda:0", precision="float32")
    alone = start_workers(plan, sys.executable)
    expected = alone.run(batch, nothing).residual
    alone.close()
    several = start_workers(make_plan(tmp_path, precision="float32", device="auto"), sys.executable)
    try:
        assert isinstance(several, SharedOutExecutor)
        parts = [part_of(batch, slice(i, i + 2)) for i in range(0, 16, 2)]
        with ThreadPoolExecutor(several.info.in_flight) as threads:
            found = list(threads.map(lambda part: several.run(part, nothing).residual, parts))
        assert close_to(np.concatenate(found), expected)
    finally:
        several.close()
