"""A real QGIS without a window, the plugin in it, a small scene and a small untrained model."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from fusion_core.raster.sample_scene_files import write_sample_scene
from fusion_core.sample_scene import make_sample_scene

PROCESSING = "/usr/share/qgis/python/plugins"


@pytest.fixture(autouse=True)
def collect_on_this_thread():
    """Keep Python from collecting cycles on a run's thread, where Qt's objects must not be destroyed."""
    gc.disable()
    yield
    gc.collect()


@pytest.fixture(scope="session")
def qgis_app():
    """QGIS with Processing, or a skip where QGIS is missing."""
    core = pytest.importorskip("qgis.core", reason="QGIS is not importable from this Python")
    if os.path.isdir(PROCESSING) and PROCESSING not in sys.path:
        sys.path.append(PROCESSING)
    app = core.QgsApplication([], True)
    app.initQgis()
    processing = pytest.importorskip("processing.core.Processing", reason="no Processing plugin")
    processing.Processing.initialize()
    yield app
    core.QgsProject.instance().clear()


@pytest.fixture
def plugin(qgis_app):
    """The plugin with its provider registered, as in ``qgis_process``."""
    from diffusion_pansharpening import classFactory

    instance = classFactory(None)
    instance.initProcessing()
    yield instance
    instance.unload()


@pytest.fixture
def project(qgis_app):
    """The open project, empty before and after."""
    from qgis.core import QgsProject

    QgsProject.instance().clear()
    yield QgsProject.instance()
    QgsProject.instance().clear()


@dataclass(frozen=True)
class ScenePaths:
    """Files of a sample scene."""

    pan: str
    ms: str
    reference: str


@pytest.fixture(scope="session")
def scene(tmp_path_factory) -> ScenePaths:
    """A sample scene of 128 PAN pixels, 4 bands, ratio 4; not to be changed."""
    folder = tmp_path_factory.mktemp("scene")
    paths = ScenePaths(*(str(folder / f"{name}.tif") for name in ("pan", "ms", "reference")))
    write_sample_scene(make_sample_scene(128), paths.pan, paths.ms, paths.reference)
    return paths


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> dict[str, str]:
    """Paths of small untrained models for 4 bands at ratio 4, by method."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from fusion_core.models import create_model
    from fusion_core.weights import ModelCard, save_model

    folder = tmp_path_factory.mktemp("models")
    paths = {}
    for method, width in (("ssdiff", 16), ("ddrf", 32)):
        torch.manual_seed(0)
        card = ModelCard(
            id=f"{method}-untrained",
            method=method,
            title="untrained",
            ms_bands=4,
            guide_bands=1,
            ratio=4,
            band_names=("Blue", "Green", "Red", "NIR"),
            options={"width": width},
            tile=64,
            margin=8,
        )
        network = create_model(method, 4, 1, 4, width=width)
        # Some layers start at zero, and what lies behind them would not reach the result.
        for weights in network.parameters():
            if not weights.any():
                torch.nn.init.normal_(weights, std=0.1)
        paths[method] = str(folder / f"{method}.safetensors")
        save_model(paths[method], network.state_dict(), card)
    return paths


@pytest.fixture
def model(models) -> str:
    """Path of a small untrained SSDiff."""
    return models["ssdiff"]


@dataclass(frozen=True)
class Outcome:
    """How a run of ``qgis_process`` ended."""

    status: int
    output: str
    session: int

    def left_running(self) -> list[str]:
        """Command lines of processes that the run started and left behind."""
        return QgisProcess.running(self.session)


class QgisProcess:
    """Runs ``qgis_process`` on the plugin in a session of its own."""

    def __init__(self, program: str) -> None:
        self.program = program

    def start(self, *arguments: str) -> subprocess.Popen:
        """Start and return at once."""
        return subprocess.Popen(
            [self.program, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # Where the tests run in the background of a shell, Ctrl+C is switched off for them and all they start.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    @staticmethod
    def running(session: int) -> list[str]:
        """Command lines of the living processes of a session; one that ``start`` began has its id."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session and fields[0] != "Z":
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
            except (OSError, IndexError, ValueError):
                continue
        return found

    def __call__(self, *arguments: str) -> Outcome:
        """Run to the end."""
        process = self.start(*arguments)
        try:
            output, _ = process.communicate(timeout=240)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        return Outcome(process.returncode, output, process.pid)

    def run(self, algorithm: str, **parameters: object) -> Outcome:
        """Run an algorithm of the plugin; a list gives a parameter several times."""
        pairs = [
            f"{name}={item}"
            for name, value in parameters.items()
            for item in (value if isinstance(value, list) else [value])
        ]
        return self("run", f"diffusionpansharpening:{algorithm}", "--", *pairs)


@pytest.fixture(scope="session")
def qgis_process() -> QgisProcess:
    """``qgis_process``, or a skip; Debian's wrapper of it is broken in 3.22, the program is not."""
    program = shutil.which("qgis_process.bin") or shutil.which("qgis_process")
    if program is None:
        pytest.skip("qgis_process is not installed")
    return QgisProcess(program)


@pytest.fixture
def wait_until(qgis_app):
    """Let QGIS handle events until something is true; says how many seconds that took."""

    def wait(condition, seconds: float = 60.0) -> float:
        start = time.monotonic()
        while not condition():
            assert time.monotonic() - start < seconds, "waited too long"
            qgis_app.processEvents()
            time.sleep(0.01)
        return time.monotonic() - start

    return wait
