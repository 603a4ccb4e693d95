"""The hidden folder in which an output grows: who may remove it, and when."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fusion_core.raster import partial
from fusion_core.raster.partial import PartialOutput, remove_leftovers

ROOT = Path(__file__).resolve().parents[2]

ENDLESS = """
import sys, time
from fusion_core.raster.partial import PartialOutput
growing = PartialOutput(sys.argv[1])
open(growing.path, "w").write("half")
print("growing", flush=True)
time.sleep(600)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def other_run(tmp_path):
    """A function that starts a process which has an output half written."""
    started = []

    def start(name: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", ENDLESS, str(tmp_path / name)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "growing\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("name", ["a.tif", f"{'long' * 12}.tif"])
def test_what_a_killed_run_left_is_removed_by_the_next(other_run, tmp_path, name):
    process = other_run(name)
    (left,) = names(tmp_path)
    remove_leftovers(str(tmp_path / name))
    assert names(tmp_path) == [left]
    process.kill()
    process.wait()
    growing = PartialOutput(str(tmp_path / name))
    assert len(names(tmp_path)) == 1
    assert names(tmp_path) != [left]
    Path(growing.path).write_text("whole")
    growing.publish()
    assert names(tmp_path) == [name]


def test_two_runs_of_one_process_leave_each_other_alone(tmp_path):
    one, other = (PartialOutput(str(tmp_path / "a.tif")) for _ in range(2))
    assert len(names(tmp_path)) == 2
    for run, text in ((one, "one"), (other, "other")):
        Path(run.path).write_text(text)
        run.publish()
        assert (tmp_path / "a.tif").read_text() == text
    assert names(tmp_path) == ["a.tif"]


def test_leftovers_of_other_outputs_stay(tmp_path):
    """Folders without a lock, as earlier versions made them."""
    left = [".a.tif.x_1.partial", ".a.tif.b.x_1.partial", ".b.tif.x_1.partial", ".a.tif.x_1"]
    for name in left:
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (0, time.time() - 100))
    (tmp_path / ".a.tif.new.partial").mkdir()
    remove_leftovers(str(tmp_path / "a.tif"))
    assert names(tmp_path) == sorted([*left[1:], ".a.tif.new.partial"])


def test_a_folder_that_was_taken_for_a_leftover_is_made_again(tmp_path, monkeypatch):
    """The moment between making the lock's file and locking it."""
    lock, calls = partial.try_lock, []

    def late(descriptor: int) -> bool:
        calls.append(descriptor)
        if len(calls) == 1:
            remove_leftovers(str(tmp_path / "a.tif"))
        return lock(descriptor)

    monkeypatch.setattr(partial, "try_lock", late)
    growing = PartialOutput(str(tmp_path / "a.tif"))
    Path(growing.path).write_text("whole")
    growing.publish()
    assert (tmp_path / "a.tif").read_text() == "whole"
    assert len(calls) == 3


def test_where_nothing_can_be_locked_nothing_is_removed(tmp_path, monkeypatch):
    def refused(descriptor: int) -> bool:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(partial, "try_lock", refused)
    one, other = (PartialOutput(str(tmp_path / "a.tif")) for _ in range(2))
    for run in (one, other):
        Path(run.path).write_text("whole")
        run.publish()
    assert names(tmp_path) == ["a.tif"]
