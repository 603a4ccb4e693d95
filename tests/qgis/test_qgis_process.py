"""The command line of QGIS, as users and other programs run it."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("qgis.core", reason="QGIS is not importable from this Python")

from fusion_core.fuse import fuse
from fusion_core.raster.geotiff import read_bands


def test_help(qgis_process):
    outcome = qgis_process("help", "diffusionpansharpening:ssdiff")
    assert outcome.status == 0
    for word in ("PAN:", "MS:", "UNCERTAINTY:", "The image with the fine pixels", "<outputRaster>"):
        assert word in outcome.output


def test_same_pixels_as_without_qgis(qgis_process, scene, model, tmp_path):
    inside, outside = str(tmp_path / "inside.tif"), str(tmp_path / "outside.tif")
    outcome = qgis_process.run(
        "ssdiff", PAN=scene.pan, MS=scene.ms, MODEL=model, DEVICE="cpu", OUTPUT=inside
    )
    assert outcome.status == 0, outcome.output
    assert f"OUTPUT:\t{inside}" in outcome.output
    assert "Computing on cpu in float32" in outcome.output
    assert outcome.left_running() == []
    assert sorted(os.listdir(tmp_path)) == ["inside.tif"]
    fuse(scene.pan, scene.ms, outside, model=model, device="cpu")
    difference = np.abs(read_bands(inside)[0].astype(int) - read_bands(outside)[0])
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 1e-4


def test_json(qgis_process, scene, model, tmp_path):
    output = str(tmp_path / "fused.tif")
    outcome = qgis_process(
        "--json",
        "run",
        "diffusionpansharpening:ssdiff",
        "--",
        f"PAN={scene.pan}",
        f"MS={scene.ms}",
        f"MODEL={model}",
        "DEVICE=cpu",
        f"OUTPUT={output}",
    )
    assert outcome.status == 0, outcome.output
    assert f'"OUTPUT": "{output}"' in outcome.output


def test_sample_scene(qgis_process, tmp_path):
    names = {name: str(tmp_path / f"{name.lower()}.tif") for name in ("PAN", "MS", "REFERENCE")}
    outcome = qgis_process.run("samplescene", SIZE=64, **names)
    assert outcome.status == 0, outcome.output
    assert sorted(os.listdir(tmp_path)) == ["ms.tif", "pan.tif", "reference.tif"]


def test_another_python_on_the_path_does_no_harm(qgis_process, tmp_path, monkeypatch):
    """As with pyenv or conda: its library would be taken for that of the Python inside QGIS."""
    library = tmp_path / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    (library / "lib-dynload").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python3"
    python.write_text("")
    python.chmod(0o755)
    for module in Path(os.__file__).parent.iterdir():
        if module.name not in ("site-packages", "dist-packages", "lib-dynload"):
            (library / module.name).symlink_to(module)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    launcher = Path(__file__).resolve().parents[2] / ".ci" / "qgis_process"
    outcome = type(qgis_process)(str(launcher))("help", "diffusionpansharpening:ssdiff")
    assert outcome.status == 0, outcome.output
    assert "UNCERTAINTY:" in outcome.output


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_interrupt_leaves_no_process(qgis_process, scene, model, tmp_path, end):
    process = qgis_process.start(
        "run",
        "diffusionpansharpening:ssdiff",
        "--",
        f"PAN={scene.pan}",
        f"MS={scene.ms}",
        f"MODEL={model}",
        "DEVICE=cpu",
        "STEPS=1000",
        f"OUTPUT={tmp_path / 'fused.tif'}",
    )
    output = os.read(process.stdout.fileno(), 10000).decode()
    while "Computing on" not in output:
        output += os.read(process.stdout.fileno(), 10000).decode()
    time.sleep(1)
    assert any("worker" in command for command in qgis_process.running(process.pid)), output
    start = time.monotonic()
    os.kill(process.pid, end)
    process.communicate(timeout=30)
    # QGIS looks for Ctrl+C every two seconds.
    assert time.monotonic() - start < 4
    assert process.returncode != 0
    deadline = time.monotonic() + 5
    while qgis_process.running(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert qgis_process.running(process.pid) == []
    # Nothing runs any more that could tidy up after a kill; a cancelled run does it itself.
    assert not Path(tmp_path / "fused.tif").exists()
    if end == signal.SIGINT:
        assert list(tmp_path.iterdir()) == []
