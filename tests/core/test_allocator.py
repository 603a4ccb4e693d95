"""Memory that is freed stays with a process that asked for it, and goes back when it is told to."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fusion_core.execution import allocator

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
    import json, resource, sys, threading

    from fusion_core.execution.allocator import keep_freed_memory, return_freed_memory

    def faults():
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1])

    def take():
        # NumPy would ask for large pages, where a fault is rare.
        return b"x" * (64 << 20)

    def rounds():
        for _ in range(5):
            take()

    def measure():
        # In a thread, as tiles are computed.
        thread = threading.Thread(target=rounds)
        thread.start()
        thread.join()

    told = keep_freed_memory() if sys.argv[1:] else None
    measure()
    before = faults()
    measure()
    found = {"told": told, "faults": faults() - before, "held": resident()}
    return_freed_memory()
    print(json.dumps({**found, "returned": found["held"] - resident()}))
"""


def measured(*arguments: str) -> dict:
    """What a process of its own finds."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_used_again_without_page_faults():
    usual, kept = measured(), measured("keep")
    assert kept["told"] is True
    # Five times 64 MiB.
    assert usual["faults"] > 50_000
    assert kept["faults"] < usual["faults"] / 50
    # Most of the 64 MiB.
    assert kept["returned"] > 10_000


def test_elsewhere_nothing_happens(monkeypatch):
    allocator._glibc.cache_clear()
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    try:
        assert allocator.keep_freed_memory() is False
        allocator.return_freed_memory()
    finally:
        allocator._glibc.cache_clear()
