"""metadata.txt and the package as the plugin repository wants them."""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path

import pytest

from fusion_core import __version__

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def metadata():
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "metadata.txt", encoding="utf-8")
    return parser["general"]


@pytest.mark.parametrize(
    "key",
    "name description version qgisMinimumVersion author email about tracker repository homepage "
    "changelog tags icon category license".split(),
)
def test_required_keys_have_values(metadata, key):
    assert metadata[key].strip()


def test_runs_in_qgis_3_22_to_4_and_offers_algorithms(metadata):
    assert metadata["qgisMinimumVersion"] == "3.22"
    assert metadata["qgisMaximumVersion"] == "4.99"
    assert metadata["hasProcessingProvider"] == "yes"
    assert metadata["category"] == "Raster"


def test_name_is_allowed(metadata):
    assert "plugin" not in metadata["name"].lower()
    assert re.fullmatch(r"[A-Za-z][\w\s-]*", metadata["name"])


def test_about_names_what_must_be_installed(metadata):
    assert "PyTorch" in metadata["about"]
    assert "pip install" in metadata["about"]


def test_version_is_that_of_the_core_and_leads_the_changelog(metadata):
    assert metadata["version"] == __version__
    assert metadata["changelog"].startswith(__version__)
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_files_that_metadata_and_repository_need_exist(metadata):
    assert (ROOT / metadata["icon"]).is_file()
    assert "GNU GENERAL PUBLIC LICENSE" in (ROOT / "LICENSE").read_text()
    assert (ROOT / "resources" / "help" / "index.html").is_file()


def test_package_takes_only_what_users_need(tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    target = tmp_path / "plugin.zip"
    made = subprocess.run(
        [ROOT / ".ci" / "package", target], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    assert target.stat().st_size < 25 * 2**20
