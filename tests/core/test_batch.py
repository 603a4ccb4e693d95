"""An archive of scenes: what fails, what resumes, what is told."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fusion_core import batch, command_line
from fusion_core.batch import read_jobs, run_batch
from fusion_core.errors import FusionError
from fusion_core.fuse import fuse
from fusion_core.raster.geotiff import read_bands
from fusion_core.raster.provenance import read_provenance
from tests.core.networks import write_model

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120


@pytest.fixture
def archive(make_pair, tmp_path):
    """A folder with one small scene, a model, and a function that writes the table."""
    make_pair(ms_size=(12, 10), bands=4)
    write_model(tmp_path / "tiny.safetensors")

    def write(*lines: str, columns: str = "pan,ms,output,model,steps") -> Path:
        table = tmp_path / "jobs.csv"
        table.write_text("\n".join((columns, *lines)) + "\n")
        return table

    return write


def line(name: str, pan: str = "pan.tif", more: str = "tiny.safetensors,2") -> str:
    return f"{pan},ms.tif,{name},{more}"


def states(result) -> list[str]:
    return [scene.state for scene in result.scenes]


def no_leftovers(folder: Path) -> bool:
    return not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_each_scene_gets_its_own_parameters(archive, tmp_path):
    table = archive(
        'pan.tif,ms.tif,a.tif,ssdiff,tiny.safetensors,2,7,float32,"500000,4999970,500030,5000000"',
        "pan.tif, ms.tif ,b.tif,,tiny.safetensors,1,,,",
        columns="pan,ms,output,method,model,steps,seed,data_type,extent",
    )
    result = run_batch(table)
    assert states(result) == ["finished", "finished"]
    expected = str(tmp_path / "expected.tif")
    fuse(
        *(str(tmp_path / name) for name in ("pan.tif", "ms.tif")),
        expected,
        model=str(tmp_path / "tiny.safetensors"),
        steps=2,
        seed=7,
        data_type="float32",
        extent=(500000, 4999970, 500030, 5000000),
    )
    np.testing.assert_array_equal(read_bands(str(tmp_path / "a.tif"))[0], read_bands(expected)[0])
    tags = read_provenance(str(tmp_path / "b.tif"))
    assert (tags["steps"], tags["seed"]) == ("1", "0")
    first, second = csv.DictReader((tmp_path / "jobs.csv.report.csv").open(newline=""))
    assert (first["scene"], first["state"], first["width"], first["height"]) == (
        *("a.tif", "finished"),
        *("30", "30"),
    )
    assert int(second["size"]) == (tmp_path / "b.tif").stat().st_size
    assert float(second["seconds"]) > 0


def test_a_failure_in_the_middle_does_not_stop_the_rest(archive, tmp_path, capsys):
    table = archive(line("a.tif"), line("b.tif", pan="missing.tif"), line("c.tif"))
    assert command_line.main(["batch", str(table), "--json"]) == 1
    printed = capsys.readouterr()
    found = json.loads(printed.out.splitlines()[-1])
    assert (found["finished"], found["failed"], found["exit_code"]) == (2, 1, 1)
    assert "missing.tif" in found["failures"]["b.tif"]
    assert f"Failed: b.tif: {found['failures']['b.tif']}" in printed.err
    # Mended, it is the only one that the next run computes.
    shutil.copy(tmp_path / "pan.tif", tmp_path / "missing.tif")
    assert states(run_batch(table)) == ["skipped", "finished", "skipped"]
    assert no_leftovers(tmp_path)


def test_an_error_nobody_foresaw_is_one_of_that_scene(archive, tmp_path, monkeypatch):
    table = archive(line("a.tif"), line("b.tif"))
    whole = batch.fuse

    def broken(pan, ms, output, **job):
        if output.endswith("a.tif"):
            raise MemoryError("too much")
        return whole(pan, ms, output, **job)

    monkeypatch.setattr(batch, "fuse", broken)
    result = run_batch(table)
    assert states(result) == ["failed", "finished"]
    assert result.as_dict()["failures"] == {"a.tif": "MemoryError: too much"}


def test_what_changed_or_is_gone_is_fused_again(archive, tmp_path):
    table = archive(line("a.tif"), line("b.tif"))
    run_batch(table)
    (tmp_path / "a.tif").unlink()
    assert states(run_batch(table)) == ["finished", "skipped"]
    archive(line("a.tif"), line("b.tif", more="tiny.safetensors,3"))
    assert states(run_batch(table)) == ["skipped", "finished"]
    assert states(run_batch(table, defaults={"executor": "worker"})) == ["skipped"] * 2
    os.utime(tmp_path / "ms.tif", (1, 1))
    assert states(run_batch(table, defaults={"seed": 1})) == ["finished"] * 2


def start(table: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "fusion_core", "batch", str(table), "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # In the background of a shell Ctrl+C is switched off for the tests and all they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_until(true) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def wait_for_lines(state: Path, count: int) -> None:
    wait_until(lambda: state.exists() and state.read_text().count("\n") >= count)


def test_killed_and_started_again(archive, tmp_path):
    """The last scene is long, so that the process is killed while there is something left to do."""
    table = archive(line("a.tif"), line("b.tif"), line("c.tif", more="tiny.safetensors,900"))
    state = tmp_path / "jobs.csv.state"
    process = start(table)
    wait_for_lines(state, 2)
    wait_until(lambda: not no_leftovers(tmp_path))
    process.kill()
    process.communicate()
    assert not (tmp_path / "c.tif").exists()
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in ("a.tif", "b.tif")}
    # The machine went down in the middle of a line.
    with state.open("a") as file:
        file.write('{"fingerprint": "12')
    archive(line("a.tif"), line("b.tif"), line("c.tif"))
    result = run_batch(table)
    assert states(result) == ["skipped", "skipped", "finished"]
    assert result.scenes[0].seconds > 0
    assert before == {name: (tmp_path / name).stat().st_mtime_ns for name in before}
    assert states(run_batch(table)) == ["skipped"] * 3
    assert no_leftovers(tmp_path)


def test_two_runs_of_a_table_are_refused(archive, tmp_path):
    """The second one would compute the same scenes once more."""
    table = archive(line("a.tif", more="tiny.safetensors,900"))
    process = start(table)
    try:
        wait_until(lambda: not no_leftovers(tmp_path))
        before = sorted(tmp_path.iterdir())
        with pytest.raises(FusionError, match=r"Another run is at work on .*jobs.csv: wait for it"):
            run_batch(table)
        assert sorted(tmp_path.iterdir()) == before
    finally:
        process.kill()
        process.communicate()
    # A lock does not outlive who held it.
    archive(line("a.tif"))
    assert states(run_batch(table)) == ["finished"]


def test_where_nothing_can_be_locked_it_is_told(archive, monkeypatch):
    def no_locks(descriptor):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(batch, "try_lock", no_locks)
    told = []
    assert states(run_batch(archive(line("a.tif")), tell=told.append)) == ["finished"]
    assert "cannot be locked where it is" in told[0]


def test_a_state_that_cannot_be_written(archive, tmp_path):
    (tmp_path / "jobs.csv.state").mkdir()
    with pytest.raises(FusionError, match="cannot be written .*: move the table to a folder"):
        run_batch(archive(line("a.tif")))
    assert not (tmp_path / "a.tif").exists()


def test_told_to_end(archive, tmp_path):
    table = archive(line("a.tif"), line("b.tif", more="tiny.safetensors,900"), line("c.tif"))
    process = start(table)
    wait_for_lines(tmp_path / "jobs.csv.state", 1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    found = json.loads(out.splitlines()[-1])
    assert (found["finished"], found["waiting"], found["interrupted"]) == (1, 2, True)
    assert "run it again to go on" in err
    rows = list(csv.DictReader((tmp_path / "jobs.csv.report.csv").open(newline="")))
    assert [row["state"] for row in rows] == ["finished", "waiting", "waiting"]
    assert no_leftovers(tmp_path)
    assert not (tmp_path / "b.tif").exists()


@pytest.mark.parametrize(
    ("columns", "lines", "words"),
    [
        ("pan,output", ["p,o"], "lacks the column ms"),
        ("pan,ms,output,sharpness", ["p,m,o,1"], "'sharpness' that nobody knows"),
        ("pan,ms,output", [], "has no scene"),
        ("pan,ms,output", ["p,,o"], "line 2, has no ms"),
        ("pan,ms,output", ["p,m,o,1"], "more cells than"),
        ("pan,ms,output,steps", ["p,m,o,few"], "steps is few, give a whole number"),
        ("pan,ms,output,extent", ['p,m,o,"1,2,3"'], "give xmin,ymin,xmax,ymax"),
        ("pan,ms,output", ["p,m,o", "q,n,o"], "lines 2 and 3, write the same file"),
        ("pan,ms,output,uncertainty", ["p,m,o,u", "p,m,u,"], "lines 2 and 3, write the same file"),
    ],
)
def test_tables_that_do_not_serve_are_refused(archive, columns, lines, words):
    with pytest.raises(FusionError, match=words):
        read_jobs(archive(*lines, columns=columns))


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(FusionError, match="cannot be read"):
        run_batch(tmp_path / "none.csv")


def test_names_in_the_table(archive, tmp_path):
    table = archive(
        "/vsizip/a.zip/pan.tif,ms.tif;sub/b.tif;NETCDF:x.nc:red,out/a.tif,ssdiff-vhr-4,COMPRESS=LZW|BIGTIFF=YES",
        columns="pan,ms,output,model,creation_options",
    )
    (scene,) = read_jobs(table, {"method": "ssdiff"})
    assert scene.job == {
        "pan": "/vsizip/a.zip/pan.tif",
        "ms": [str(tmp_path / "ms.tif"), str(tmp_path / "sub/b.tif"), "NETCDF:x.nc:red"],
        "output": str(tmp_path / "out/a.tif"),
        "model": "ssdiff-vhr-4",
        "method": "ssdiff",
        "creation_options": ["COMPRESS=LZW", "BIGTIFF=YES"],
    }


def test_a_cluster_is_held_from_scene_to_scene(archive, monkeypatch):
    """Otherwise the model would travel again with every scene."""
    events = []

    class Held:
        lost = False

        def __init__(self, address):
            events.append(address)

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            events.append("let go")

    def computed(pan, ms, output, **job):
        events.append(job["cluster"])
        raise FusionError("Not here.")

    monkeypatch.setattr("fusion_core.execution.dask_connection.connect", Held)
    monkeypatch.setattr(batch, "fuse", computed)
    run_batch(archive(line("a.tif"), line("b.tif")), defaults={"cluster": "tcp://h:1"})
    assert events == ["tcp://h:1"] * 3 + ["let go"]


def test_a_cluster_that_is_gone_ends_the_run(archive, monkeypatch):
    """Each of a thousand scenes would ask for it in vain."""

    class Held:
        lost = False

        def __init__(self, address):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

    def lose(pan, ms, output, **job):
        Held.lost = output.endswith("b.tif")
        raise FusionError("The scene failed.")

    monkeypatch.setattr("fusion_core.execution.dask_connection.connect", Held)
    monkeypatch.setattr(batch, "fuse", lose)
    table = archive(line("a.tif"), line("b.tif"), line("c.tif"))
    result = run_batch(table, defaults={"cluster": "tcp://h:1"})
    assert states(result) == ["failed", "failed", "waiting"]
    assert result.interrupted


def test_a_cluster_that_does_not_answer_fails_before_any_scene(archive, tmp_path):
    pytest.importorskip("distributed", reason="distributed is not installed")
    with pytest.raises(FusionError, match="is no address of a Dask scheduler"):
        run_batch(archive(line("a.tif")), defaults={"cluster": "nowhere"})
    assert not (tmp_path / "jobs.csv.state").exists()
