"""The repository root as the package that QGIS sees, an environment without a screen, and workers that start cold."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NAME = "diffusion_pansharpening"

# A checkout may have any name; QGIS knows the plugin by this one.
_plugins = tempfile.TemporaryDirectory(prefix="plugins-")
(Path(_plugins.name) / NAME).symlink_to(ROOT, target_is_directory=True)
sys.path.insert(0, _plugins.name)

# Tests share the machine, and several threads only slow small networks down.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["QT_QPA_PLATFORM"] = "offscreen"
os.environ["QGIS_PLUGINPATH"] = _plugins.name
_profile = tempfile.TemporaryDirectory(prefix="profile-")
os.environ["QGIS_CUSTOM_CONFIG_PATH"] = _profile.name
os.environ["XDG_RUNTIME_DIR"] = _profile.name
Path(_profile.name).chmod(0o700)
_ini = Path(_profile.name) / "profiles" / "default" / "QGIS" / "QGIS3.ini"
_ini.parent.mkdir(parents=True)
_ini.write_text(f"[PythonPlugins]\n{NAME}=true\n")


@pytest.fixture
def cold_start():
    """The test finds no worker that another one left, and leaves none."""
    from fusion_core.execution.warm_workers import WARM_WORKERS

    WARM_WORKERS.release()
    yield
    WARM_WORKERS.release()
