"""Training on own scenes: better or the base, cancelled, resumed, by minutes, from the command line."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("osgeo.gdal")

from safetensors.torch import load_file

from fusion_core.command_line import main
from fusion_core.errors import Cancelled, FusionError
from fusion_core.fuse import fuse
from fusion_core.raster.geotiff import read_bands
from fusion_core.training import job as training_job
from fusion_core.training.job import run_training
from fusion_core.training.judging import SceneJudge
from fusion_core.training_job import TrainingJob, check_training, prepare_training
from fusion_core.weights import find_model, load_network, read_model

from .networks import write_model
from .test_training_scenes import NAMES, scene

LEARNS = {"iterations": 24, "learning_rate": 3e-4, "patch": 16, "batch": 4, "threads": 1}


def adapting(**wishes: object) -> TrainingJob:
    """A shipped model on a scene of bands that are alike, on which it is easy to better."""
    base = find_model("ssdiff", 4, 4).path
    return TrainingJob(
        (scene(alike=True),), "ssdiff", base, precision="float32", **{**LEARNS, **wishes}
    )


def job(tmp_path, strength: float = 0.0, **wishes: object) -> TrainingJob:
    """A small, fast base that has not learned anything; its answer is LMS where the strength is 0."""
    base = write_model(
        tmp_path / "base.safetensors",
        strength=strength,
        band_names=NAMES,
        licence="some licence",
    )
    return TrainingJob(
        (scene(alike=True),), "ssdiff", base, precision="float32", **{**LEARNS, **wishes}
    )


def test_training_helps_and_says_so(tmp_path):
    output = str(tmp_path / "mine.safetensors")
    told = []
    report = run_training(adapting(), output, told.append)
    assert report.kept == "trained", report.why
    assert report.table["trained"]["ERGAS"] < 0.9 * report.table["base"]["ERGAS"]
    assert report.table["trained"]["SAM"] <= report.table["base"]["SAM"]
    assert set(report.table) == {"bicubic", "MTF-GLP-HPM", "base", "trained"}
    assert (report.iterations, report.planned, report.cancelled) == (24, 24, False)
    assert report.history[0]["iteration"] == 0 and report.history[0]["loss"] is None
    assert report.history[-1]["iteration"] == 24
    best = min(entry["ERGAS"] for entry in report.history)
    assert report.table["trained"]["ERGAS"] == pytest.approx(best, rel=1e-3)
    assert {picture.shape for picture in report.pictures.values()} == {(48, 64, 3)}
    assert set(report.pictures) == {"bicubic", "base", "trained", "reference"}
    json.dumps(report.as_dict(), allow_nan=False)
    assert told[0].iteration == 1 and told[-1].iteration == 24
    assert told[-1].figures["ERGAS"] == report.history[-1]["ERGAS"]

    model, base = read_model(output), find_model("ssdiff", 4, 4)
    card = model.card
    assert (card.id, card.licence, card.band_names) == ("mine", base.card.licence, NAMES)
    assert card.training["base"] == f"{base.card.id}, SHA-256 {base.digest()}"
    figures = card.metrics["held-out quarter of scene"]
    assert figures["ERGAS"] == pytest.approx(report.table["trained"]["ERGAS"], abs=1e-4)
    judge = SceneJudge(scene(alike=True), card, torch.device("cpu"))
    again = judge.measure(judge.fuse(load_network(model)))
    assert again == pytest.approx(report.table["trained"], rel=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.safetensors"]


@pytest.mark.parametrize("rate", [0.5, 1e-12])
def test_a_training_that_does_not_help_gives_the_base(tmp_path, rate):
    """Whether it does harm or nothing at all."""
    output = str(tmp_path / "mine.safetensors")
    report = run_training(job(tmp_path, learning_rate=rate, iterations=6), output)
    # An answer of nothing is bicubic interpolation.
    assert report.table["base"]["ERGAS"] == pytest.approx(
        report.table["bicubic"]["ERGAS"], rel=1e-3
    )
    assert report.kept == "base"
    assert "base model's weights were written" in report.why
    before, after = load_file(tmp_path / "base.safetensors"), load_file(output)
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert after[name].dtype == value.dtype
        assert torch.equal(after[name], value), name
    card = read_model(output).card
    assert card.training["kept"] == "the base model's weights"
    assert card.metrics["held-out quarter of scene"]["ERGAS"] == pytest.approx(
        report.table["base"]["ERGAS"], abs=1e-4
    )


def test_lower_ergas_with_higher_sam_is_not_better():
    base = {"SAM": 2.0, "ERGAS": 3.0}
    assert training_job._better({"SAM": 2.0, "ERGAS": 2.9}, base, True)
    assert not training_job._better({"SAM": 2.01, "ERGAS": 2.0}, base, True)
    assert not training_job._better(base, base, True)
    assert not training_job._better({"SAM": math.nan, "ERGAS": math.nan}, base, True)


def test_divergence_gives_the_base_too(tmp_path, monkeypatch):
    monkeypatch.setattr("fusion_core.training.trainer._iterate", lambda *arguments: math.nan)
    output = str(tmp_path / "mine.safetensors")
    report = run_training(job(tmp_path), output)
    assert report.kept == "base"
    assert "diverged" in report.why
    with pytest.raises(FusionError, match="diverged at iteration 0"):
        run_training(replace(job(tmp_path), base=None), output)


def test_a_network_that_breaks_down_is_the_worst(tmp_path):
    judge = SceneJudge(scene(), read_model(job(tmp_path).base).card, torch.device("cpu"))
    image = judge.reference.copy()
    assert judge.measure(image)["ERGAS"] == 0
    image[0, 3, 3] = math.nan
    assert judge.measure(image)["ERGAS"] == math.inf


def test_judging_fuses_as_fusing_does(make_raster, tmp_path):
    """The quarter as the judge sees it is what ``fuse`` writes there."""
    one = scene()
    # Fusing takes its scale from the whole image, so the image's own is used here.
    ms, pan = one.ms.astype(np.float32), one.pan[None].astype(np.float32)
    percentile = lambda image: np.sort(image.reshape(len(image), -1))[  # noqa: E731
        :, int(np.ceil(0.98 * image[0].size)) - 1
    ]
    limits = np.stack([ms.min(axis=(1, 2)), ms.max(axis=(1, 2))], axis=1)
    one = replace(
        one,
        ms=ms,
        ms_scale=percentile(ms),
        pan_scale=float(percentile(pan)[0]),
        ms_limits=limits,
        dtype="float32",
    )
    model = job(tmp_path, strength=0.3).base
    paths = make_raster("pan.tif", pan), make_raster("ms.tif", ms, pixel=4.0, names=NAMES)
    fuse(*paths, str(tmp_path / "fused.tif"), model=model, threads=1)
    judge = SceneJudge(one, read_model(model).card, torch.device("cpu"))
    seen = judge.fuse(load_network(read_model(model)))
    row, col, height, width = judge.window
    fused = read_bands(str(tmp_path / "fused.tif"))[0][:, row : row + height, col : col + width]
    np.testing.assert_allclose(seen, fused, atol=0.2)  # of 900; sums are rounded in another order


def test_from_nothing(tmp_path):
    output = str(tmp_path / "new.safetensors")
    report = run_training(replace(job(tmp_path), base=None, method="ddrf", width=16), output)
    assert "base" not in report.table and "base" not in report.pictures
    assert report.kept == "trained"
    card = read_model(output).card
    assert (card.method, card.ratio, card.band_names, card.options) == (
        "ddrf",
        4,
        NAMES,
        {"width": 16},
    )


def test_several_scenes_with_bands_in_any_order(tmp_path):
    other = scene(seed=1).with_order((3, 2, 1, 0))
    both = replace(job(tmp_path, iterations=4), scenes=(scene(), replace(other, name="other")))
    report = run_training(both, str(tmp_path / "mine.safetensors"))
    alone = [
        run_training(replace(both, scenes=(one,)), str(tmp_path / "mine.safetensors")).table[
            "base"
        ]["ERGAS"]
        for one in (scene(), scene(seed=1))
    ]
    assert report.table["base"]["ERGAS"] == pytest.approx(np.mean(alone), rel=1e-6)


def test_alternating_training_helps(tmp_path):
    report = run_training(
        adapting(alternating=True, iterations=30), str(tmp_path / "mine.safetensors")
    )
    assert report.kept == "trained", report.why
    assert "L-BAF" in report.settings["training"]
    before, after = load_file(find_model("ssdiff", 4, 4).path), load_file(report.output)
    assert torch.equal(before["down0.conv.0.weight"], after["down0.conv.0.weight"])
    assert not torch.equal(before["to_hrms.2.weight"], after["to_hrms.2.weight"])


class Killed(Exception):
    """Stands for a kill at any moment."""


def test_a_killed_training_resumes_bit_for_bit(tmp_path):
    # From nothing, where what was trained is written whatever it is worth.
    wishes = replace(job(tmp_path, iterations=45), base=None, width=16)
    unbroken = run_training(wishes, str(tmp_path / "whole.safetensors"))

    def kill(progress) -> None:
        if progress.iteration >= 30:
            raise Killed

    wishes = replace(wishes, checkpoint=str(tmp_path / "checkpoint"), model="whole")
    with pytest.raises(Killed):
        run_training(wishes, str(tmp_path / "resumed.safetensors"), kill)
    assert not (tmp_path / "resumed.safetensors").exists()
    told = []
    resumed = run_training(wishes, str(tmp_path / "resumed.safetensors"), told.append)
    assert told[0].iteration == 21
    assert resumed.table == unbroken.table
    one, other = (load_file(tmp_path / f"{name}.safetensors") for name in ("whole", "resumed"))
    for name, value in one.items():
        assert torch.equal(other[name], value), name


def test_cancelling_keeps_the_best_so_far(tmp_path):
    output = tmp_path / "mine.safetensors"
    asked = []

    def cancelled() -> bool:
        asked.append(None)
        return len(asked) == 16

    report = run_training(adapting(iterations=500), str(output), None, cancelled)
    assert report.cancelled
    assert (report.iterations, report.planned) == (15, 500)
    assert report.kept == "trained"
    assert output.exists()


@pytest.mark.parametrize("wishes", [{"keep_on_cancel": False}, {"learning_rate": 0.9}])
def test_cancelling_leaves_nothing_where_nothing_is_better_or_wanted(tmp_path, wishes):
    output, asked = tmp_path / "mine.safetensors", []

    def cancelled() -> bool:
        asked.append(None)
        return len(asked) == 6

    with pytest.raises(Cancelled):
        run_training(adapting(iterations=500, **wishes), str(output), None, cancelled)
    assert len(asked) == 6
    assert not output.exists()


def test_cancelling_before_the_first_iteration_trains_nothing(tmp_path):
    told, output = [], tmp_path / "mine.safetensors"
    with pytest.raises(Cancelled):
        run_training(job(tmp_path), str(output), told.append, lambda: True)
    assert not told and not output.exists()


def test_minutes_end_the_training(tmp_path):
    wishes = job(tmp_path, iterations=None, minutes=0.2)
    report = run_training(wishes, str(tmp_path / "mine.safetensors"))
    assert report.planned >= training_job.FEWEST
    assert report.seconds < 24  # twice what was asked for: other programs run as well
    both = run_training(
        replace(wishes, minutes=5, iterations=21), str(tmp_path / "mine.safetensors")
    )
    assert both.planned == both.iterations == 21


def test_a_machine_that_becomes_slower_still_ends_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr("fusion_core.training.job._Run._pace", lambda *arguments: 1e-3)
    wishes = job(tmp_path, iterations=None, minutes=0.1)
    report = run_training(wishes, str(tmp_path / "mine.safetensors"))
    assert 0 < report.iterations < report.planned
    assert not report.cancelled
    assert report.seconds < 20


def test_time_that_is_spent_counts(tmp_path):
    wishes = job(tmp_path, iterations=None, minutes=1, seconds_spent=59.5)
    with pytest.raises(FusionError, match=r"too few to learn: give at least \d+ minutes"):
        run_training(wishes, str(tmp_path / "mine.safetensors"))


def test_scenes_without_room_for_a_patch_are_refused(tmp_path):
    cloudy = scene()
    cloudy.valid[:, ::12] = False
    wishes = replace(job(tmp_path), scenes=(cloudy,), patch=None)
    with pytest.raises(FusionError, match="No patch of 16 x 16 valid"):
        run_training(wishes, str(tmp_path / "mine.safetensors"))


def test_the_largest_patch_that_fits_is_taken(tmp_path):
    small = scene(64, 64)
    wishes = replace(job(tmp_path), scenes=(small,), patch=None, batch=None, iterations=1)
    report = run_training(replace(wishes, method="ssdiff"), str(tmp_path / "m.safetensors"))
    assert "patches of 32 x 32" in report.settings["batches"]
    cut = scene(64, 64)
    cut.valid[:, 20] = cut.valid[20] = False
    report = run_training(replace(wishes, scenes=(cut,)), str(tmp_path / "m.safetensors"))
    assert "patches of 16 x 16" in report.settings["batches"]


@pytest.fixture
def pair(make_raster):
    """A pair whose MS is 64 x 64."""
    one = scene(64, 64)
    pan = one.pan.repeat(4, axis=0).repeat(4, axis=1).astype(np.uint16)
    return (
        make_raster("pan.tif", pan),
        make_raster("ms.tif", one.reference.astype(np.uint16), pixel=4.0, names=NAMES),
    )


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({}, "has no end"),
        ({"minutes": 0}, "no time to train"),
        ({"minutes": -1.0}, "no time to train"),
        ({"iterations": 0}, "must be 1 or more"),
        ({"minutes": 1, "method": "gan"}, "no method called gan"),
        ({"minutes": 1, "method": "ddrf", "alternating": True}, "choose SSDiff"),
        ({"minutes": 1, "alternating": True, "base_model": "none"}, "choose a base model"),
        ({"minutes": 1, "patch": 24}, "multiple of 16"),
        ({"minutes": 1, "batch": 0}, "batch size is 0"),
        ({"minutes": 1, "learning_rate": 0.0}, "between 0 and 1"),
        ({"minutes": 1, "width": 20}, "multiple of 16"),
        ({"minutes": 1, "checkpoint": "c.pt"}, "cannot be resumed exactly"),
        ({"minutes": 1, "output": "/nowhere/m.safetensors"}, "written in /nowhere"),
        ({"minutes": 1, "output": "m.tif"}, "ending .safetensors"),
        ({"minutes": 1, "masks": ("a", "b")}, "2 mask"),
        ({"minutes": 1, "masks": ("/nowhere/mask.tif",)}, "cannot be opened"),
        ({"minutes": 1, "base_model": "nothing-like-it"}, "no model called nothing-like-it"),
        ({"minutes": 1, "base_model": "ddrf-vhr-4"}, "is for DDRF"),
        ({"minutes": 1, "bands": "Blue,Green,Red"}, "BANDS has 3"),
        ({"minutes": 1, "bands": "Blue,Green,Red,SWIR1"}, "The MS bands are"),
        ({"minutes": 1, "sensor": "Sputnik"}, "not known"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(pair, wishes, words):
    with pytest.raises(FusionError, match=words):
        check_training([pair], **wishes)


def test_scenes_that_do_not_fit_each_other_are_refused(pair, make_raster, tmp_path):
    ms = read_bands(pair[1])[0]
    three = pair[0], make_raster("three.tif", ms[:3], pixel=4.0, names=NAMES)
    with pytest.raises(FusionError, match="three.tif has 3 bands but ms.tif has 4"):
        check_training([pair, three], minutes=1)
    coarse = pair[0], make_raster("two.tif", ms.repeat(2, 1).repeat(2, 2), pixel=2.0, names=NAMES)
    with pytest.raises(FusionError, match="ratio 2 but ms.tif has 4"):
        check_training([pair, coarse], minutes=1, base_model="none")
    small = pair[0], make_raster("small.tif", ms[:, :40], pixel=4.0, names=NAMES)
    with pytest.raises(FusionError, match="needs 64 x 64"):
        check_training([small], minutes=1)
    with pytest.raises(FusionError, match="no scene"):
        check_training([], minutes=1)
    base = write_model(tmp_path / "two.safetensors", ratio=2, band_names=NAMES)
    with pytest.raises(FusionError, match="for the ratio 2 but"):
        check_training([pair], minutes=1, base_model=base)
    base = write_model(tmp_path / "four.safetensors", band_names=NAMES)
    with pytest.raises(FusionError, match="is the base model itself"):
        check_training([pair], base, minutes=1, base_model=base)


def test_scenes_without_pixels_to_judge_or_train_on_are_refused(pair, make_raster):
    cloud = np.ones((64, 64), np.uint8)
    with pytest.raises(FusionError, match="to judge by"):
        prepare_training([pair], masks=[make_raster("all.tif", cloud, pixel=4.0)], minutes=1)
    cloud[32:, 32:] = 0
    with pytest.raises(FusionError, match="outside the held-out quarter"):
        prepare_training([pair], masks=[make_raster("most.tif", cloud, pixel=4.0)], minutes=1)


def test_checking_gives_the_base(pair):
    assert check_training([pair], minutes=1).card.id == "ssdiff-vhr-4"
    assert check_training([pair], minutes=1, base_model="none") is None


def test_the_command_line_trains_and_reports(pair, tmp_path, capsys):
    base = write_model(tmp_path / "base.safetensors", strength=0.0, band_names=NAMES)
    output, page = tmp_path / "mine.safetensors", tmp_path / "page.html"
    arguments = ["train", "--pan", pair[0], "--ms", pair[1], "--base-model", base]
    arguments += ["--output", str(output), "--report", str(page), "--iterations", "4"]
    arguments += ["--patch", "16", "--batch", "2", "--threads", "1", "--json"]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out.splitlines()[-1])
    assert report["iterations"] == 4
    assert "held-out quarter" in printed.err
    assert read_model(output).card.id == "mine"
    assert "Held-out" in page.read_text() or "held-out" in page.read_text()
    assert main([*arguments, "--pan", pair[0]]) == 1
    assert "2 --pan and 1 --ms" in capsys.readouterr().err
