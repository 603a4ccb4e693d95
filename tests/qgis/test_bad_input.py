"""Bad input on the command line: one sentence, exit status, nothing written, nothing left running."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("qgis.core", reason="QGIS is not importable from this Python")

from fusion_core.raster.geotiff import read_bands, write_geotiff


@dataclass(frozen=True)
class Bench:
    """Where a case makes its bad files, and good ones to make them from."""

    folder: Path
    pan: str
    ms: str
    reference: str
    model: str

    def path(self, name: str) -> str:
        """A new file of this case."""
        return str(self.folder / name)

    def files(self) -> dict[str, int]:
        """What is there and when it changed, but for the statistics QGIS keeps of what it opens."""
        return {
            path.name: path.stat().st_mtime_ns
            for path in self.folder.rglob("*")
            if not path.name.endswith(".aux.xml")
        }

    def changed(self, source: str, name: str, change=lambda pixels: pixels, **info) -> str:
        """A copy of a raster with other pixels or another georeference."""
        pixels, own = read_bands(source)
        given = {
            "geotransform": own.geotransform,
            "crs_wkt": own.crs_wkt,
            "band_names": own.band_names,
            **info,
        }
        changed = change(pixels)
        if len(changed) != len(given["band_names"]):
            given["band_names"] = ()
        write_geotiff(self.path(name), changed, **given)
        return self.path(name)

    def weights(self, name: str, change) -> str:
        """A copy of the model file with another header."""
        content = Path(self.model).read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        Path(self.path(name)).write_bytes(
            struct.pack("<Q", len(text)) + text + content[8 + length :]
        )
        return self.path(name)


def swapped(b: Bench) -> dict:
    return {"PAN": b.ms, "MS": b.pan}


def ms_finer_than_pan(b: Bench) -> dict:
    return {"PAN": b.changed(b.ms, "pan.tif", lambda p: p[:1]), "MS": b.reference}


def no_overlap(b: Bench) -> dict:
    return {"MS": b.changed(b.ms, "ms.tif", geotransform=(600000, 2, 0, 5400000, 0, -2))}


def georeference_missing(b: Bench) -> dict:
    return {"MS": b.changed(b.ms, "ms.tif", lambda p: p[:, :30], geotransform=None, crs_wkt="")}


def one_band_ms(b: Bench) -> dict:
    return {"MS": b.changed(b.ms, "ms.tif", lambda p: p[:1])}


def three_bands_and_no_model(b: Bench) -> dict:
    return {"MS": b.changed(b.ms, "ms.tif", lambda p: p[:3]), "MODEL": "auto"}


def three_bands_for_a_model_of_four(b: Bench) -> dict:
    return {"MS": b.changed(b.ms, "ms.tif", lambda p: p[:3])}


def all_nodata(b: Bench) -> dict:
    return {"MS": b.changed(b.ms, "ms.tif", lambda p: p * 0, nodata=0)}


def all_nan(b: Bench) -> dict:
    return {"PAN": b.changed(b.pan, "pan.tif", lambda p: p * np.float32("nan"))}


def complex_numbers(b: Bench) -> dict:
    from osgeo import gdal

    gdal.Translate(b.path("ms.tif"), b.ms, outputType=gdal.GDT_CFloat32)
    return {"MS": b.path("ms.tif")}


def not_a_raster(b: Bench) -> dict:
    Path(b.path("ms.tif")).write_text("spectral bands, honestly")
    return {"MS": b.path("ms.tif")}


def no_such_file(b: Bench) -> dict:
    return {"PAN": b.path("nowhere.tif")}


def truncated(b: Bench) -> dict:
    from osgeo import gdal

    gdal.Translate(b.path("whole.tif"), b.pan, creationOptions=["TILED=NO"])
    content = Path(b.path("whole.tif")).read_bytes()
    Path(b.path("pan.tif")).write_bytes(content[: len(content) // 2])
    return {"PAN": b.path("pan.tif")}


def no_such_folder(b: Bench) -> dict:
    return {"OUTPUT": b.path("missing/fused.tif")}


def unwritable_folder(b: Bench) -> dict:
    return {"OUTPUT": "/proc/fused.tif"}


def output_is_an_input(b: Bench) -> dict:
    shutil.copy(b.ms, b.path("ms.tif"))
    return {"MS": b.path("ms.tif"), "OUTPUT": b.path("ms.tif")}


def unknown_format(b: Bench) -> dict:
    return {"OUTPUT": b.path("fused.xyzzy")}


def corrupt_weights(b: Bench) -> dict:
    content = Path(b.model).read_bytes()
    Path(b.path("model.safetensors")).write_bytes(content[: len(content) // 2])
    return {"MODEL": b.path("model.safetensors")}


def garbage_weights(b: Bench) -> dict:
    Path(b.path("model.safetensors")).write_bytes(bytes(range(256)) * 10)
    return {"MODEL": b.path("model.safetensors")}


def pickled_weights(b: Bench) -> dict:
    Path(b.path("model.safetensors")).write_bytes(pickle.dumps({"weight": [1.0]}))
    return {"MODEL": b.path("model.safetensors")}


def weights_without_card(b: Bench) -> dict:
    return {"MODEL": b.weights("model.safetensors", lambda header: header.pop("__metadata__"))}


def weights_that_lie_about_their_bands(b: Bench) -> dict:
    def lie(header: dict) -> None:
        card = json.loads(header["__metadata__"]["card"])
        card["ms_bands"] = 8
        card["band_names"] = []
        header["__metadata__"]["card"] = json.dumps(card)

    return {"MODEL": b.weights("model.safetensors", lie)}


def no_steps(b: Bench) -> dict:
    return {"STEPS": 0}


def one_pixel(b: Bench) -> dict:
    return {"EXTENT": "500010.1,500010.3,5399990.1,5399990.3 [EPSG:32633]"}


def extent_elsewhere(b: Bench) -> dict:
    return {"EXTENT": "0,10,0,10 [EPSG:32633]"}


def no_such_device(b: Bench) -> dict:
    return {"DEVICE": "abacus"}


CASES = [
    (swapped, "swapped"),
    (ms_finer_than_pan, "finer"),
    (no_overlap, "overlap"),
    (georeference_missing, "georeference"),
    (one_band_ms, "band"),
    (three_bands_and_no_model, "3 bands"),
    (three_bands_for_a_model_of_four, "4 MS bands"),
    (all_nodata, "valid"),
    (all_nan, "valid"),
    (complex_numbers, "complex"),
    (not_a_raster, "ms.tif"),
    (no_such_file, "nowhere.tif"),
    (truncated, "pan.tif"),
    (no_such_folder, "missing"),
    (unwritable_folder, "/proc"),
    (output_is_an_input, "ms.tif"),
    (unknown_format, "xyzzy"),
    (corrupt_weights, "model.safetensors"),
    (garbage_weights, "model.safetensors"),
    (pickled_weights, "can run code"),
    (weights_without_card, "card"),
    (weights_that_lie_about_their_bands, "model.safetensors"),
    (no_steps, "STEPS is 0"),
    (one_pixel, "larger"),
    (extent_elsewhere, "extent"),
    (no_such_device, "abacus"),
]


@pytest.fixture
def bench(scene, model, tmp_path) -> Bench:
    return Bench(tmp_path, scene.pan, scene.ms, scene.reference, model)


def run(qgis_process, bench: Bench, **given):
    parameters = {
        "PAN": bench.pan,
        "MS": bench.ms,
        "MODEL": bench.model,
        "DEVICE": "cpu",
        "OUTPUT": bench.path("fused.tif"),
    }
    return qgis_process.run("ssdiff", **{**parameters, **given})


def sentence_of(output: str) -> str:
    """What the user is told; QGIS puts a heading before it, or says it twice."""
    text = output.partition("ERROR:\t")[2].partition("\n\n")[0]
    lines = dict.fromkeys(line.strip() for line in text.splitlines())
    lines.pop("An error was encountered while checking parameter values", None)
    return " ".join(lines)


@pytest.mark.parametrize(("case", "words"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_refused_in_one_sentence(qgis_process, bench, case, words):
    given = case(bench)
    before = bench.files()
    outcome = run(qgis_process, bench, **given)
    assert outcome.status not in (0, None), outcome.output
    assert outcome.status > 0, "it crashed"
    assert "Traceback" not in outcome.output
    sentence = sentence_of(outcome.output)
    assert words in sentence, outcome.output
    assert sentence.endswith(".") and len(sentence) < 400, sentence
    assert not re.search(r"\.\s+[A-Z]", sentence), sentence
    assert bench.files() == before
    assert outcome.left_running() == []


def test_no_torch(qgis_process, bench, monkeypatch):
    python = Path(bench.path("python"))
    python.write_text("#!/bin/sh\necho torch pywt\n")
    python.chmod(0o700)
    monkeypatch.setenv("DIFFUSION_PANSHARPENING_PYTHON", str(python))
    outcome = run(qgis_process, bench)
    assert outcome.status == 1
    assert "lacks torch" in sentence_of(outcome.output)
    assert "pip install torch" in sentence_of(outcome.output)
    assert list(bench.files()) == ["python"]


def test_full_disk(qgis_process, bench):
    def larger(pixels: np.ndarray) -> np.ndarray:
        return np.tile(pixels, (1, 3, 3))

    pan = bench.changed(bench.pan, "pan.tif", larger)
    ms = bench.changed(bench.ms, "ms.tif", larger)
    program = bench.path("limited")
    # A process that may not write more into a file meets the same error as a full disk.  QGIS needs
    # 1.1 MB for a file in its profile, the fused image would have 2.4.
    Path(program).write_text(f'#!/bin/bash\nulimit -f 1600\nexec {qgis_process.program} "$@"\n')
    Path(program).chmod(0o700)
    outcome = run(type(qgis_process)(program), bench, PAN=pan, MS=ms, DATA_TYPE="float32")
    assert outcome.status > 0, outcome.output
    assert "fused.tif" in sentence_of(outcome.output)
    assert sorted(bench.files()) == ["limited", "ms.tif", "pan.tif"]
    assert outcome.left_running() == []


def with_nan(bench: Bench) -> dict:
    def spoil(pixels: np.ndarray) -> np.ndarray:
        spoilt = pixels.astype(np.float32)
        spoilt[:, 3, 4], spoilt[:, 20, 20] = np.nan, np.inf
        return spoilt

    return {"MS": bench.changed(bench.ms, "ms.tif", spoil)}


def constant(bench: Bench) -> dict:
    return {
        "PAN": bench.changed(bench.pan, "pan.tif", lambda p: p * 0 + 300),
        "MS": bench.changed(bench.ms, "ms.tif", lambda p: p * 0 + 200),
    }


def another_crs(bench: Bench) -> dict:
    from osgeo import gdal

    gdal.Warp(bench.path("ms.tif"), bench.ms, dstSRS="EPSG:32634", resampleAlg="cubic")
    return {"MS": bench.path("ms.tif")}


@pytest.mark.parametrize("case", [with_nan, constant, another_crs])
def test_odd_but_usable(qgis_process, bench, case):
    outcome = run(qgis_process, bench, **case(bench))
    assert outcome.status == 0, outcome.output
    pixels, _ = read_bands(bench.path("fused.tif"))
    assert pixels.shape[0] == 4
    if case is constant:
        assert (pixels == 200).all()
