"""A run that is interrupted is resumed by the same call: the same file, with fewer tiles computed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("osgeo")
from fusion_core.batch import run_batch  # noqa: E402
from fusion_core.errors import Cancelled, FusionError, Interrupted  # noqa: E402
from fusion_core.execution.local import LocalExecutor  # noqa: E402
from fusion_core.execution.tile_plan import plan_tiles  # noqa: E402
from fusion_core.fuse import fuse  # noqa: E402
from fusion_core.raster import side_file  # noqa: E402
from fusion_core.raster.geotiff import read_bands, write_geotiff  # noqa: E402
from fusion_core.raster.sample_scene_files import write_sample_scene  # noqa: E402
from fusion_core.raster.side_file import RowLayout, SideFile  # noqa: E402
from fusion_core.sample_scene import make_sample_scene  # noqa: E402
from tests.core.networks import write_model  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60
SIZE = 112
ROW = SIZE * 4 * 2
STRIPS = TILES_OF_A_STRIP = 8


@pytest.fixture(autouse=True)
def from_the_first_row_on(monkeypatch):
    """Runs of tests are over before rows are worth keeping."""
    monkeypatch.setattr(side_file, "START_SECONDS", 0.0)


@pytest.fixture
def job(tmp_path):
    """Arguments of a small job, in a folder of its own."""
    folder = tmp_path / "in"
    folder.mkdir()
    paths = [str(folder / f"{name}.tif") for name in ("pan", "ms", "reference")]
    write_sample_scene(make_sample_scene(size=SIZE, seed=5), *paths)
    names = ("Blue", "Green", "Red", "NIR")
    model = write_model(folder / "tiny.safetensors", band_names=names, steps=2, strength=0.2)
    return {"pan": paths[0], "ms": paths[1], "model": model, "threads": 1, "batch_size": 5}


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def expected(job, tmp_path):
    """The bytes of the file that a run in one go writes."""
    path = tmp_path / "expected.tif"
    fuse(**job, output=path)
    return path.read_bytes()


@pytest.fixture
def computed(monkeypatch):
    """Numbers of tiles that were computed, batch by batch."""
    counts = []
    whole = LocalExecutor.run

    def run(self, batch, on_call):
        counts.append(len(batch.origins))
        return whole(self, batch, on_call)

    monkeypatch.setattr(LocalExecutor, "run", run)
    return counts


def side_files(folder: Path) -> list[Path]:
    return sorted(folder.glob(".*.resume"))


def kept_rows(folder: Path, row: int = ROW) -> int:
    return sum(path.stat().st_size for path in side_files(folder)) // row


class Stall:
    """Lets a run compute so many tiles, and no more until it ends or is let go on."""

    def __init__(self, monkeypatch, tiles: int) -> None:
        self.left, self.open, self.lock = tiles, threading.Event(), threading.Lock()
        self.waiting = 0
        whole = LocalExecutor.run

        def run(executor, batch, on_call):
            with self.lock:
                self.left -= len(batch.origins)
                wait = self.left < 0
                self.waiting += wait
            while wait and not self.open.is_set():
                on_call(0)
                time.sleep(0.01)
            return whole(executor, batch, on_call)

        monkeypatch.setattr(LocalExecutor, "run", run)


@pytest.fixture
def interrupt(job, out):
    """A function that runs the job until some of its rows are kept and ends it as the system ends a process."""

    def interrupt(strips=4, error=Interrupted, row=ROW, rows=1, output="fused.tif", **changes):
        end = time.monotonic() + PATIENCE

        def progress(share: float) -> None:
            assert time.monotonic() < end, "too few rows are kept"
            if kept_rows(out, row) >= rows:
                raise error

        with pytest.MonkeyPatch.context() as patch:
            # A batch may begin in one strip and end in the next.
            Stall(patch, strips * TILES_OF_A_STRIP + job["batch_size"])
            with pytest.raises(error):
                fuse(**{**job, **changes}, output=out / output, progress=progress)
        return side_files(out)

    return interrupt


def resume(job, out, told=None, **changes):
    report = None if told is None else told.append
    return fuse(**{"output": out / "fused.tif", **job, **changes}, report=report)


def test_the_file_is_the_same_and_fewer_tiles_are_computed(job, out, interrupt, expected, computed):
    (kept,) = interrupt(rows=40)
    assert os.listdir(out) == [kept.name]
    assert kept.name.startswith(".fused.tif.")
    before, told = len(computed), []
    result = resume(job, out, told)
    assert (out / "fused.tif").read_bytes() == expected
    assert os.listdir(out) == ["fused.tif"]
    assert 40 <= result.resumed_rows < SIZE
    assert sum(computed[before:]) == result.tiles < 0.8 * STRIPS * TILES_OF_A_STRIP
    assert (
        f"Resuming: {result.resumed_rows} of 112 rows were finished by an interrupted run." in told
    )
    assert resume(job, out).resumed_rows == 0


def test_a_run_that_is_interrupted_says_how_to_go_on(interrupt, job, out):
    told = []
    interrupt(report=told.append)
    assert told[-1].endswith("of 112 rows are kept: the same command goes on from there.")


def test_resumed_again_and_again(job, out, interrupt, expected):
    reached = 0
    for rows in (1, 30, 70):
        (kept,) = interrupt(strips=6, rows=rows)
        assert kept_rows(out) > reached
        reached = kept_rows(out)
    assert resume(job, out).resumed_rows >= 70
    assert (out / "fused.tif").read_bytes() == expected


@pytest.mark.parametrize("rows_left", [0, 40])
def test_killed_between_the_last_row_and_the_name(
    job, out, expected, monkeypatch, computed, rows_left
):
    """Nothing is left to compute but what blends with the rows that are missing."""

    def gone(self) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr("fusion_core.raster.mosaic.Mosaic.finish", gone)
        with pytest.raises(Interrupted):
            resume(job, out)
    (kept,) = side_files(out)
    if rows_left:
        with kept.open("r+b") as file:
            file.truncate(kept.stat().st_size - rows_left * ROW)
    computed.clear()
    result = resume(job, out)
    assert (result.resumed_rows < SIZE) == bool(rows_left)
    assert sum(computed) == result.tiles == (4 * TILES_OF_A_STRIP if rows_left else 0)
    assert (out / "fused.tif").read_bytes() == expected


@pytest.mark.parametrize("again", [False, True])
def test_the_first_rows_of_a_run_are_computed_again(
    job, out, interrupt, expected, monkeypatch, computed, again
):
    """They were finished before rows were worth keeping."""
    monkeypatch.setattr(side_file, "START_SECONDS", 1e9)
    end, waiting = time.monotonic() + PATIENCE, []

    def progress(share: float) -> None:
        assert time.monotonic() < end, "no row is kept"
        if not waiting and stall.waiting:
            # What is finished by now is not kept, and the next strips are.
            time.sleep(0.5)
            monkeypatch.setattr(side_file, "START_SECONDS", 0.0)
            stall.left, stall.waiting = 3 * TILES_OF_A_STRIP, 0
            stall.open.set()
            waiting.append(share)
        if kept_rows(out) >= 16:
            raise Interrupted

    with monkeypatch.context() as patch:
        stall = Stall(patch, 3 * TILES_OF_A_STRIP)
        with pytest.raises(Interrupted):
            fuse(**job, output=out / "fused.tif", progress=progress)
    (kept,) = side_files(out)
    data = kept.read_bytes()
    if again:
        # Ended while the first rows are computed again, the next run still finds the others.
        with pytest.raises(Interrupted):
            resume(job, out, progress=lambda share: fail_at(share, 0.1))
        assert kept.read_bytes() == data
    computed.clear()
    told, shares = [], []
    result = resume(job, out, told, progress=shares.append)
    assert 16 <= result.resumed_rows <= SIZE - 32
    assert sum(computed) == result.tiles < STRIPS * TILES_OF_A_STRIP + 2 * TILES_OF_A_STRIP
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert (out / "fused.tif").read_bytes() == expected
    assert os.listdir(out) == ["fused.tif"]


def fail_at(share: float, least: float) -> None:
    if share >= least:
        raise Interrupted


def test_a_short_run_keeps_nothing(job, out, interrupt, monkeypatch):
    interrupt()
    monkeypatch.setattr(side_file, "START_SECONDS", 1e9)
    seen = []
    resume(job, out, seed=2, progress=lambda share: seen.append(len(side_files(out))))
    assert set(seen) == {1}
    assert os.listdir(out) == ["fused.tif"]


@pytest.mark.parametrize("damage", ["torn", "middle", "first", "head", "empty", "tail"])
def test_only_whole_rows_are_used(job, out, interrupt, expected, damage):
    (kept,) = interrupt(strips=6, rows=60)
    data = bytearray(kept.read_bytes())
    rows = len(data) // ROW
    at = {"middle": len(data) // 2, "first": 300, "head": 5, "empty": 0}
    if damage == "torn":
        del data[-ROW // 3 :]
    elif damage == "empty":
        data.clear()
    elif damage == "tail":
        data += data[-2 * ROW :]
    else:
        data[at[damage]] ^= 0x10
    kept.write_bytes(data)
    result = resume(job, out)
    assert (out / "fused.tif").read_bytes() == expected
    assert os.listdir(out) == ["fused.tif"]
    if damage in ("first", "head", "empty"):
        assert result.resumed_rows == 0
    elif damage == "tail":
        assert result.resumed_rows == rows
    else:
        assert 0 < result.resumed_rows < rows


def change_pixels(job):
    image, info = read_bands(job["ms"])
    image[:, 20:, 20:] += 1
    write_geotiff(job["ms"], image, info.geotransform, info.crs_wkt, info.band_names)


def change_model(job):
    names = ("Blue", "Green", "Red", "NIR")
    write_model(Path(job["model"]), band_names=names, steps=2, strength=0.3)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"steps": 3},
        {"solver": "dpm++2m"},
        {"grid": "logsnr"},
        {"data_type": "float32"},
        {"samples": 2},
        {"bands": "Green,Blue,Red,NIR"},
        {"extent": True},
        change_pixels,
        change_model,
        lambda job: os.utime(job["pan"], (1, 1)),
    ],
)
def test_rows_of_another_job_are_not_used(job, out, interrupt, tmp_path, change):
    (kept,) = interrupt()
    if callable(change):
        change(job)
    else:
        job.update(change)
    if "extent" in job:
        left, pixel, _, top, _, _ = read_bands(job["pan"])[1].geotransform
        job["extent"] = (left, top - (SIZE - 4) * pixel, left + SIZE * pixel, top)
    told = []
    assert resume(job, out, told).resumed_rows == 0
    assert any("had other inputs, settings or software" in line for line in told)
    assert os.listdir(out) == ["fused.tif"]
    fuse(**job, output=tmp_path / "other.tif")
    assert (out / "fused.tif").read_bytes() == (tmp_path / "other.tif").read_bytes()


@pytest.mark.parametrize(
    "change", [{"batch_size": 3}, {"threads": 2}, {"creation_options": ["COMPRESS=LZW"]}]
)
def test_what_does_not_change_the_pixels_may_change(job, out, interrupt, expected, change):
    interrupt()
    assert resume(job, out, **change).resumed_rows > 0
    (out / "expected.tif").write_bytes(expected)
    fused, info = read_bands(str(out / "fused.tif"))
    wanted, wanted_info = read_bands(str(out / "expected.tif"))
    np.testing.assert_array_equal(fused, wanted)
    assert info == wanted_info


def test_rows_of_other_outputs_stay(job, out, interrupt):
    (kept,) = interrupt(output="fused.tif.tif")
    assert resume(job, out).resumed_rows == 0
    long = "x" * 50
    others = interrupt(output=f"{long}a.tif", rows=kept_rows(out) + 1)
    resume(job, out, output=out / f"{long}b.tif")
    assert side_files(out) == others
    assert kept in others
    assert resume(job, out, output=out / f"{long}a.tif").resumed_rows > 0
    assert side_files(out) == [kept]


def test_a_run_that_does_not_come_to_a_row_leaves_the_rows_of_another_job(job, out, interrupt):
    (kept,) = interrupt()
    with pytest.raises(Cancelled):
        resume(job, out, seed=1, cancelled=lambda: True)
    assert side_files(out) == [kept]
    assert resume(job, out).resumed_rows > 0


@pytest.mark.parametrize("error", [Cancelled, FusionError, KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("resumed", [False, True])
def test_cancel_and_failure_leave_nothing(out, interrupt, error, resumed):
    rows = 1
    if resumed:
        interrupt()
        rows = kept_rows(out) + 1
    interrupt(error=error, rows=rows)
    assert os.listdir(out) == []


def test_cancel_while_rows_are_read(job, out, interrupt, monkeypatch):
    interrupt()
    asked = []
    whole = SideFile.restore
    monkeypatch.setattr(SideFile, "restore", lambda self, put: asked.append(1) or whole(self, put))
    with pytest.raises(Cancelled):
        resume(job, out, cancelled=lambda: bool(asked))
    assert os.listdir(out) == []


def test_uncertainty_is_resumed_too(job, out, interrupt, tmp_path, computed):
    job["samples"] = 3
    paths = [tmp_path / "expected.tif", tmp_path / "expected_spread.tif"]
    whole = fuse(**job, output=paths[0], uncertainty=paths[1])
    interrupt(uncertainty=out / "spread.tif", row=ROW + SIZE * 4 * 4, rows=30)
    result = resume(job, out, uncertainty=out / "spread.tif")
    assert 30 <= result.resumed_rows < SIZE
    assert result.tiles < whole.tiles
    names = ["fused.tif", "spread.tif"]
    assert sorted(os.listdir(out)) == names
    assert [(out / name).read_bytes() for name in names] == [path.read_bytes() for path in paths]


def test_other_formats_and_nodata(job, out, interrupt, tmp_path):
    image, info = read_bands(job["ms"])
    image[:, 10:14, 3:20] = 0
    image[:, 20:] = 0
    write_geotiff(job["ms"], image, info.geotransform, info.crs_wkt, info.band_names, nodata=0)
    fuse(**job, output=tmp_path / "expected.img")
    interrupt(output="fused.img", rows=30)
    assert resume(job, out, output=out / "fused.img").resumed_rows >= 30
    fused, found = read_bands(str(out / "fused.img"))
    wanted, wanted_info = read_bands(str(tmp_path / "expected.img"))
    np.testing.assert_array_equal(fused, wanted)
    assert found == wanted_info
    assert not side_files(out)


def test_inputs_without_a_time_of_change_are_not_resumed(job, out, monkeypatch):
    monkeypatch.setattr("fusion_core.raster.file_stamp.file_stamp", lambda path: None)
    seen = []
    resume(job, out, progress=lambda share: seen.extend(side_files(out)))
    assert seen == []


def test_inputs_in_an_archive(job, out, interrupt, expected):
    archive = Path(shutil.make_archive(str(out / "in"), "zip", Path(job["ms"]).parent))
    job["ms"] = f"/vsizip/{archive}/ms.tif"
    interrupt()
    assert resume(job, out).resumed_rows > 0
    np.testing.assert_array_equal(read_bands(str(out / "fused.tif"))[0].shape, (4, SIZE, SIZE))


def test_a_full_disk_costs_the_side_file_only(job, out, expected, monkeypatch):
    told, calls = [], []
    write = SideFile._write

    def full(self, data) -> None:
        calls.append(data)
        if len(calls) == 6:
            raise OSError(28, "No space left on device")
        write(self, data)

    monkeypatch.setattr(SideFile, "_write", full)
    seen = []
    resume(job, out, told, progress=lambda share: seen.extend(side_files(out)))
    assert len(calls) == 6
    assert [line for line in told if "no space left on device" in line] == [told[-1]]
    assert "the next one starts over" in told[-1]
    assert (out / "fused.tif").read_bytes() == expected
    assert os.listdir(out) == ["fused.tif"]


def test_the_outputs_have_the_first_claim_on_the_disk(job, out, expected, monkeypatch):
    free = [2 * SIZE * ROW + side_file.SPARE_BYTES]

    def usage(folder):
        free.append(free[-1] - 30 * ROW)
        return type("Usage", (), {"free": free[-1]})

    monkeypatch.setattr(side_file.shutil, "disk_usage", usage)
    told, kept = [], []
    resume(job, out, told, progress=lambda share: kept.append(kept_rows(out)))
    assert "no space left on device" in told[-1]
    assert 0 < max(kept) < SIZE
    assert (out / "fused.tif").read_bytes() == expected
    assert os.listdir(out) == ["fused.tif"]


def test_two_runs_of_the_same_job_at_a_time(job, out, expected, monkeypatch):
    stall = Stall(monkeypatch, 4 * TILES_OF_A_STRIP)
    results = []
    first = threading.Thread(target=lambda: results.append(resume(job, out)))
    first.start()
    end = time.monotonic() + PATIENCE
    # Both threads that compute have to wait before the other run may compute.
    while not (kept_rows(out) and stall.waiting == 2) and time.monotonic() < end:
        time.sleep(0.01)
    (kept,) = side_files(out)
    before = kept.stat().st_ino
    monkeypatch.undo()
    told = []
    assert resume(job, out, told).resumed_rows == 0
    assert any("another run is computing the same image" in line for line in told)
    assert (out / "fused.tif").read_bytes() == expected
    # A run of another job leaves the file of a living one alone.
    resume(job, out, seed=3)
    assert [path.stat().st_ino for path in side_files(out)] == [before]
    stall.open.set()
    first.join()
    assert results[0].resumed_rows == 0
    assert (out / "fused.tif").read_bytes() == expected
    assert os.listdir(out) == ["fused.tif"]


KEEPING = """
import sys
from fusion_core import command_line
from fusion_core.raster import side_file
side_file.START_SECONDS = 0.0
command_line.end_when_told()
sys.exit(command_line.main())
"""


def start(job, out, *more: str) -> subprocess.Popen:
    arguments = ["--pan", job["pan"], "--ms", job["ms"], "--model", job["model"], "--threads", "1"]
    return subprocess.Popen(
        [
            *(sys.executable, "-c", KEEPING, "fuse", "--output", str(out / "fused.tif")),
            *(*arguments, "--json", *more),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_rows(out: Path, process: subprocess.Popen) -> None:
    end = time.monotonic() + PATIENCE
    while kept_rows(out) < 1:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "no row was finished"
        time.sleep(0.002)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("number", "executor"), [("SIGKILL", "local"), ("SIGKILL", "worker"), ("SIGTERM", "local")]
)
def test_killed_and_started_again(job, out, tmp_path, number, executor):
    more = ["--executor", executor, "--python", sys.executable, "--steps", "10"]
    process = start(job, out, *more)
    wait_for_rows(out, process)
    process.send_signal(getattr(signal, number))
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert not (out / "fused.tif").exists()
    hidden = [path for path in out.iterdir() if path not in side_files(out)]
    assert len(side_files(out)) == 1
    # A kill leaves the half-written raster too.
    assert len(hidden) == (number == "SIGKILL")
    if number != "SIGKILL":
        assert "rows are kept: the same command goes on from there." in said
    process = start(job, out, *more)
    printed, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    result = json.loads(printed)
    assert 0 < result["resumed_rows"] < SIZE
    assert 0 < result["tiles"] < STRIPS * TILES_OF_A_STRIP
    assert f"Resuming: {result['resumed_rows']} of 112 rows" in said
    assert os.listdir(out) == ["fused.tif"]
    fuse(**{**job, "steps": 10, "output": tmp_path / "expected.tif"})
    assert (out / "fused.tif").read_bytes() == (tmp_path / "expected.tif").read_bytes()


def test_an_archive_resumes_within_a_scene(job, out, interrupt, expected):
    table = out.parent / "jobs.csv"
    table.write_text(
        "pan,ms,output,model\nin/pan.tif,in/ms.tif,out/fused.tif,in/tiny.safetensors\n"
    )
    interrupt(rows=40)
    told = []
    result = run_batch(table, tell=told.append)
    assert result.count("finished") == 1
    assert "rows were finished by an interrupted run" in told[-1]
    assert (out / "fused.tif").read_bytes() == expected


def test_what_the_side_file_says_is_told_in_the_callers_thread(job, out, monkeypatch):
    def refused(descriptor: int) -> bool:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(side_file, "try_lock", refused)
    threads, lines = set(), []

    def report(line: str) -> None:
        threads.add(threading.current_thread())
        lines.append(line)

    fuse(**job, output=out / "fused.tif", report=report)
    assert "(no locks available)" in lines[-1]
    assert threads == {threading.current_thread()}
    assert (out / "fused.tif").exists()


LAYOUTS = (RowLayout(2, 5, "uint16"), RowLayout(1, 5, "float32"))


def blocks(count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 99, (r.bands, count, r.width)).astype(r.dtype) for r in LAYOUTS]


def test_rows_come_back_as_they_were(tmp_path):
    one = SideFile(str(tmp_path / "a.tif"), "0" * 64, 9, LAYOUTS)
    assert one.restore(lambda row, kept: None) == 0
    given = [(0, blocks(4)), (4, blocks(3, 1)), (7, blocks(2, 2))]
    for row, block in given:
        one.add(row, block)
    one.keep()
    found = []
    other = SideFile(str(tmp_path / "a.tif"), "0" * 64, 9, LAYOUTS)
    assert other.restore(lambda *row: found.append(row)) == 9
    assert [row for row, _ in found] == [0, 4, 7]
    for (_, block), (_, back) in zip(given, found):
        for one_block, one_back in zip(block, back):
            assert one_back.dtype == one_block.dtype
            np.testing.assert_array_equal(one_back, one_block)
    other.discard()
    assert os.listdir(tmp_path) == []


def test_rows_must_follow_each_other(tmp_path):
    with SideFile(str(tmp_path / "a.tif"), "0" * 64, 9, LAYOUTS) as kept:
        kept.add(0, blocks(4))
        two = blocks(2)
        wrong = [(3, two), (5, two), (4, two[::-1]), (4, two[:1]), (4, blocks(6))]
        for row, block in wrong:
            with pytest.raises(ValueError, match="do not follow"):
                kept.add(row, block)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="links of POSIX")
def test_a_link_in_its_place_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    told = []
    kept = SideFile(str(tmp_path / "a.tif"), "0" * 64, 9, LAYOUTS, tell=told.append)
    os.symlink(victim, kept.path)
    assert kept.restore(lambda row, block: None) == 0
    kept.add(0, blocks(4))
    kept.discard()
    assert victim.read_text() == "mine"
    assert len(told) == 1


def test_it_reaches_the_disk_now_and_then(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(1) or fsync(descriptor))
    with SideFile(str(tmp_path / "a.tif"), "0" * 64, 9, LAYOUTS) as kept:
        kept.add(0, blocks(4))
        assert synced == []
        monkeypatch.setattr(side_file, "SYNC_SECONDS", 0.0)
        kept.add(4, blocks(4))
        assert synced == [1]


@pytest.mark.parametrize("margin", [0, 8])
@pytest.mark.parametrize("top", [0, 5, 37])
def test_the_strip_to_go_on_with(margin, top):
    axis = plan_tiles((top, 0, 100, 50), (3, 0), 32, margin).rows
    finished = {
        index: min(axis.stop, axis.position(index) + axis.stride) - axis.start
        for index in range(axis.first, axis.last + 1)
    }
    assert axis.first_after(100) == axis.last + 1
    for done in range(100):
        start = axis.first_after(done)
        # All rows above are there, and those of the strip that blends into the next missing row are computed.
        needed = min(index for index in finished if finished[index] > done)
        assert start == max(axis.first, needed - bool(margin))
