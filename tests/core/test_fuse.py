"""The whole job without QGIS: what must always hold, and what is refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("osgeo")
from fusion_core import weights  # noqa: E402
from fusion_core.errors import Cancelled, FusionError  # noqa: E402
from fusion_core.fuse import check_fuse, fuse  # noqa: E402
from fusion_core.raster.geotiff import read_bands, write_geotiff  # noqa: E402
from fusion_core.raster.mosaic import Mosaic  # noqa: E402
from fusion_core.raster.provenance import read_provenance  # noqa: E402
from fusion_core.raster.sample_scene_files import write_sample_scene  # noqa: E402
from fusion_core.raster.scene import Scene  # noqa: E402
from fusion_core.raster.window import Window  # noqa: E402
from fusion_core.sample_scene import make_sample_scene  # noqa: E402
from tests.core.networks import write_model  # noqa: E402

NAMES = ("Blue", "Green", "Red", "NIR")


@pytest.fixture(scope="module")
def scene_files(sample_pair):
    """A small synthetic pair."""
    return sample_pair(160)


@pytest.fixture(scope="module")
def model(make_model):
    return make_model(steps=2, strength=0.2)


@pytest.fixture(scope="module")
def identity(make_model):
    """A network whose residual is zero."""
    return make_model("identity", strength=0.0)


@pytest.fixture
def run(scene_files, model, tmp_path):
    """Fuse and read the result."""

    def run(output="fused.tif", pan=scene_files[0], ms=scene_files[1], **arguments):
        path = str(tmp_path / output)
        fuse(pan, ms, path, **{"model": model, "threads": 1, **arguments})
        return read_bands(path)[0]

    return run


def test_same_pixels_however_it_is_run(run):
    expected = run()
    assert expected.std() > 0
    for arguments in (
        {"batch_size": 1},
        {"batch_size": 7},
        {"batch_size": 5, "threads": 3},
        {"executor": "worker", "python": sys.executable, "batch_size": 3},
    ):
        np.testing.assert_array_equal(run(**arguments), expected)


def test_an_extent_gives_the_pixels_of_the_whole(run, scene_files):
    whole, info = read_bands(scene_files[0])
    left, pixel, _, top, _, _ = info.geotransform
    expected = run()
    extent = (left + 37 * pixel, top - 121 * pixel, left + 98 * pixel, top - 53 * pixel)
    np.testing.assert_array_equal(run(extent=extent), expected[:, 53:121, 37:98])


@pytest.mark.parametrize(
    ("method", "ratio", "bands"), [("ddrf", 4, 4), ("ddrf", 2, 3), ("ssdiff", 2, 6)]
)
def test_both_networks_at_other_ratios_and_bands(tmp_path, method, ratio, bands):
    paths = [str(tmp_path / f"{name}.tif") for name in ("pan", "ms", "reference")]
    write_sample_scene(make_sample_scene(size=96, bands=bands, ratio=ratio, seed=2), *paths)
    model = write_model(tmp_path / "m.safetensors", method, bands, ratio=ratio, strength=0.1)
    whole = fuse(*paths[:2], str(tmp_path / "a.tif"), method=method, model=model, threads=1)
    assert (whole.width, whole.height, whole.bands) == (96, 96, bands)
    fused, _ = read_bands(whole.output)
    fuse(*paths[:2], str(tmp_path / "b.tif"), method=method, model=model, threads=1, batch_size=1)
    np.testing.assert_array_equal(read_bands(str(tmp_path / "b.tif"))[0], fused)


def test_seed_and_steps_matter_and_repeat(run):
    first = run(seed=1)
    np.testing.assert_array_equal(run(seed=1), first)
    assert (run(seed=2) != first).mean() > 0.05
    assert (run(seed=1, steps=4) != first).mean() > 0.05
    assert (run(seed=1, solver="dpm++2m", grid="logsnr") != first).mean() > 0.01


@pytest.mark.parametrize("data_type", ["ms", "float32"])
def test_identity_gives_the_interpolated_ms_bit_for_bit(run, scene_files, identity, data_type):
    with Scene.open(*scene_files) as scene:
        lms = scene.read(Window(0, 0, 160, 160)).lms
    fused = run(model=identity, data_type=data_type)
    np.testing.assert_array_equal(fused, np.rint(lms) if data_type == "ms" else lms)


def test_a_constant_scene_stays_constant(run, make_raster):
    pan = make_raster("pan.tif", np.full((100, 90), 700, np.uint16))
    levels = np.array([300, 400, 500, 600], np.uint16)[:, None, None]
    ms = make_raster("ms.tif", np.broadcast_to(levels, (4, 25, 23)).copy(), pixel=4.0)
    fused = run(pan=pan, ms=ms)
    np.testing.assert_array_equal(fused, np.broadcast_to(levels, fused.shape))


@pytest.mark.parametrize("gain", [0.37, 5.0])
def test_a_gain_on_all_numbers_is_a_gain_on_the_result(run, scene_files, tmp_path, gain):
    scaled = []
    for path in scene_files:
        image, info = read_bands(path)
        scaled.append(str(tmp_path / f"scaled_{os.path.basename(path)}"))
        write_geotiff(
            scaled[-1],
            image.astype(np.float32) * np.float32(gain),
            info.geotransform,
            info.crs_wkt,
            info.band_names,
        )
    expected = run(data_type="float32")
    fused = run("scaled.tif", *scaled, data_type="float32")
    np.testing.assert_allclose(fused, gain * expected, rtol=1e-4, atol=1e-3 * gain)


def test_bands_are_matched_by_name(run, scene_files, tmp_path):
    expected = run()
    image, info = read_bands(scene_files[1])
    order = [2, 0, 3, 1]
    shuffled = str(tmp_path / "shuffled.tif")
    write_geotiff(
        shuffled, image[order], info.geotransform, info.crs_wkt, [info.band_names[i] for i in order]
    )
    # The noise belongs to the network's channels, so the same bands see the same noise.
    np.testing.assert_array_equal(run("b.tif", ms=shuffled), expected[order])


def test_bands_without_names_are_taken_in_order_and_that_is_said(run, scene_files, tmp_path):
    image, info = read_bands(scene_files[1])
    nameless = str(tmp_path / "nameless.tif")
    write_geotiff(nameless, image, info.geotransform, info.crs_wkt)
    told = []
    fused = run("b.tif", ms=nameless, report=told.append)
    np.testing.assert_array_equal(fused, run())
    assert any("taken to be Blue, Green, Red, NIR" in line for line in told)


def test_several_single_band_files(run, scene_files, tmp_path):
    image, info = read_bands(scene_files[1])
    paths = []
    for index, name in enumerate(NAMES):
        paths.append(str(tmp_path / f"{name}.tif"))
        write_geotiff(paths[-1], image[index : index + 1], info.geotransform, info.crs_wkt, [name])
    np.testing.assert_array_equal(run("b.tif", ms=paths), run())


def test_nodata_stays_where_it_is(run, scene_files, tmp_path):
    image, info = read_bands(scene_files[1])
    image[:, :10, :12] = 0
    holed = str(tmp_path / "holed.tif")
    write_geotiff(holed, image, info.geotransform, info.crs_wkt, info.band_names, nodata=0)
    fused = run("b.tif", ms=holed)
    assert (fused[:, :40, :48] == 0).all()
    assert (fused[:, 40:] > 0).all()
    assert (fused[:, :, 48:] > 0).all()
    # Far from the hole nothing changes but the scale's tiny share.
    far = np.abs(fused[:, 100:, 100:].astype(int) - run()[:, 100:, 100:])
    assert np.median(far) <= 5


def test_not_a_number_is_no_data(run, scene_files, tmp_path):
    image, info = read_bands(scene_files[1])
    image = image.astype(np.float32)
    image[1, 5, 6], image[2, 20, 21] = np.nan, np.inf
    path = str(tmp_path / "nan.tif")
    write_geotiff(path, image, info.geotransform, info.crs_wkt, info.band_names)
    fused = run("b.tif", ms=path)
    assert np.isnan(fused[:, 20:24, 24:28]).all()
    assert np.isnan(fused[:, 80:84, 84:88]).all()
    assert np.isnan(fused).sum() == 2 * 4 * 16


def test_the_file_says_how_it_was_made(run, tmp_path, model, scene_files):
    result = fuse(*scene_files, str(tmp_path / "a.tif"), model=model, seed=9, steps=3, threads=1)
    tags = read_provenance(result.output)
    assert tags["model"] == "tiny"
    assert tags["digest"] == weights.read_model(model).digest() == result.digest
    assert (tags["seed"], tags["steps"], tags["solver"], tags["grid"]) == (
        "9",
        "3",
        "ddim",
        "uniform",
    )
    assert {
        "precision",
        "device",
        "torch",
        "version",
        "method",
        "samples",
        "pan",
        "ms",
    } <= tags.keys()
    again = run(
        "b.tif",
        seed=int(tags["seed"]),
        steps=int(tags["steps"]),
        solver=tags["solver"],
        grid=tags["grid"],
        precision=tags["precision"],
    )
    np.testing.assert_array_equal(again, read_bands(result.output)[0])


def test_samples_and_their_spread(run, tmp_path):
    spread_path = str(tmp_path / "spread.tif")
    mean = run(samples=3, uncertainty=spread_path, data_type="float32")
    spread, info = read_bands(spread_path)
    assert spread.shape == mean.shape
    assert spread.dtype == np.float32
    assert (spread >= 0).all()
    assert spread.max() > 0
    assert info.band_names == NAMES


def test_progress_moves_with_every_network_call(run):
    shares = []
    run(progress=shares.append, batch_size=4)
    assert shares[0] == 0
    assert shares[-1] == 1
    assert all(later >= earlier for earlier, later in zip(shares, shares[1:]))
    tiles = 10 * 10
    assert len(shares) > tiles * 2 / 4


def test_the_scene_is_read_in_strips_and_no_row_twice(run, monkeypatch):
    windows = []
    begin = Scene.begin
    monkeypatch.setattr(Scene, "begin", lambda self, w: windows.append(w) or begin(self, w))
    run()
    assert {window.height for window in windows} == {16}
    assert all(above.bottom == below.row for above, below in zip(windows, windows[1:]))


def test_tiles_without_data_are_not_computed(run, scene_files, tmp_path, monkeypatch):
    from fusion_core.execution.local import LocalExecutor

    counts = []
    compute = LocalExecutor.run
    monkeypatch.setattr(
        LocalExecutor,
        "run",
        lambda self, b, c: counts.append(len(b.origins)) or compute(self, b, c),
    )
    run()
    everything = sum(counts)
    image, info = read_bands(scene_files[1])
    image[:, :, 20:] = 0
    path = str(tmp_path / "half.tif")
    write_geotiff(path, image, info.geotransform, info.crs_wkt, info.band_names, nodata=0)
    counts.clear()
    run("b.tif", ms=path)
    assert 0 < sum(counts) < 0.7 * everything


@pytest.mark.parametrize("executor", ["local", "worker"])
def test_cancel_leaves_nothing(run, tmp_path, executor):
    calls = []

    def cancelled() -> bool:
        return len(calls) > 3

    with pytest.raises(Cancelled):
        run(progress=calls.append, cancelled=cancelled, executor=executor, python=sys.executable)
    assert list(tmp_path.iterdir()) == []


def test_failure_keeps_the_old_file(run, tmp_path, monkeypatch):
    expected = run()
    monkeypatch.setattr(
        "fusion_core.execution.local.LocalExecutor.run",
        lambda self, batch, on_call: (_ for _ in ()).throw(RuntimeError("broken")),
    )
    with pytest.raises(RuntimeError, match="broken"):
        run()
    assert [path.name for path in tmp_path.iterdir()] == ["fused.tif"]
    np.testing.assert_array_equal(read_bands(str(tmp_path / "fused.tif"))[0], expected)


def bad_files(make_raster, tmp_path):
    """Names and pairs that cannot be fused, with words of the sentence that must say so."""
    rng = np.random.default_rng(0)

    def image(bands, rows, cols, dtype=np.uint16):
        return rng.integers(1, 900, (bands, rows, cols)).astype(dtype)

    pan = make_raster("pan.tif", image(1, 96, 96))
    ms = make_raster("ms.tif", image(4, 24, 24), pixel=4.0)
    text = tmp_path / "text.tif"
    text.write_text("not a raster")
    cut = tmp_path / "cut.tif"
    cut.write_bytes(open(ms, "rb").read()[:-1000])
    void = make_raster("void.tif", np.zeros((4, 24, 24), np.uint16), pixel=4.0, nodata=0)
    return {
        "swapped": (ms, pan, "swapped"),
        "ms finer than pan": (ms, make_raster("f.tif", image(4, 96, 96)), "finer|swapped|bands"),
        "no overlap": (pan, make_raster("far.tif", image(4, 24, 24), 4.0, (9e5, 5e6)), "overlap"),
        "no georeference": (
            pan,
            make_raster("bare.tif", image(4, 24, 24), crs=None, geotransform=False),
            "georeference",
        ),
        "one band": (pan, make_raster("one.tif", image(1, 24, 24), 4.0), "band"),
        "bands of no model": (pan, make_raster("five.tif", image(5, 24, 24), 4.0), "5 bands|has 5"),
        "all nodata": (pan, void, "valid|nodata|no data"),
        "all not a number": (
            pan,
            make_raster("nan.tif", np.full((4, 24, 24), np.nan, np.float32), 4.0),
            "valid|nodata|no data",
        ),
        "complex": (
            pan,
            make_raster("c.tif", image(4, 24, 24, np.complex64), 4.0),
            "complex|numbers",
        ),
        "not a raster": (pan, str(text), "opened|raster"),
        "missing": (str(tmp_path / "none.tif"), ms, "opened|exist|raster"),
        "truncated": (pan, str(cut), "cut.tif"),
    }


@pytest.mark.parametrize(
    "case",
    [
        "swapped",
        "ms finer than pan",
        "no overlap",
        "no georeference",
        "one band",
        "bands of no model",
        "all nodata",
        "all not a number",
        "complex",
        "not a raster",
        "missing",
        "truncated",
    ],
)
def test_bad_images_are_refused_in_one_sentence(make_raster, tmp_path, model, case):
    pan, ms, words = bad_files(make_raster, tmp_path)[case]
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FusionError, match=words) as caught:
        fuse(pan, ms, str(tmp_path / "fused.tif"), model=model, threads=1)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"steps": 1001}, "steps is 1001"),
        ({"method": "ddrf", "steps": 501}, "steps is 501 but must be 1 to 500"),
        ({"samples": 0}, "samples is 0"),
        ({"uncertainty": "u.tif"}, "2 samples"),
        ({"solver": "euler"}, "no solver called euler"),
        ({"grid": "log"}, "no time grid called log"),
        ({"method": "brovey"}, "no method called brovey"),
        ({"data_type": "float16"}, "no data type called float16"),
        ({"executor": "cloud"}, "no executor called cloud"),
        ({"executor": "dask"}, "executor dask needs a cluster"),
        ({"cluster": "myhost"}, "myhost is no address of a Dask scheduler"),
        ({"batch_size": 0}, "batch size is 0"),
        ({"device": "cuda:77"}, "use auto"),
        ({"precision": "float8"}, "no precision called float8"),
        ({"model": "none"}, "no model called none"),
        ({"method": "ddrf"}, "is for SSDiff"),
        ({"creation_options": ["COMPRESS"]}, "KEY=VALUE"),
        ({"creation_options": ["COMPRESS=ZIPPIEST"]}, "creation option|COMPRESS"),
        ({"extent": (0, 0, 1, 1)}, "extent"),
    ],
)
def test_bad_arguments_are_refused(run, tmp_path, arguments, words):
    with pytest.raises(FusionError, match=words):
        run(**arguments)
    assert list(tmp_path.iterdir()) == []


def test_an_extent_of_one_pixel_is_refused(run, scene_files, tmp_path):
    left, pixel, _, top, _, _ = read_bands(scene_files[0])[1].geotransform
    with pytest.raises(FusionError, match="less than one MS pixel"):
        run(extent=(left + 10 * pixel, top - 11 * pixel, left + 11 * pixel, top - 10 * pixel))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("output", "words"),
    [("none/fused.tif", "does not exist"), ("fused.nonsense", "extension"), ("fused", "extension")],
)
def test_impossible_outputs_are_refused(run, tmp_path, output, words):
    with pytest.raises(FusionError, match=words):
        run(output)
    assert list(tmp_path.iterdir()) == []


def test_paths_are_as_good_as_names(run, scene_files, model, tmp_path):
    expected = run()
    paths = [Path(name) for name in (*scene_files, tmp_path / "other.tif")]
    spread = tmp_path / "spread.tif"
    result = fuse(*paths, model=Path(model), threads=1, uncertainty=spread, samples=2)
    assert (result.output, result.uncertainty) == (str(paths[2]), str(spread))
    fuse(paths[0], [paths[1]], paths[2], model=Path(model), threads=1)
    np.testing.assert_array_equal(read_bands(str(paths[2]))[0], expected)


def test_two_names_of_one_file_are_refused(run, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    with pytest.raises(FusionError, match="same name"):
        run("real/f.tif", uncertainty=str(tmp_path / "link" / "f.tif"), samples=2)
    assert list((tmp_path / "real").iterdir()) == []


def test_an_uncertainty_does_not_appear_without_its_image(run, tmp_path, monkeypatch):
    finish = Mosaic.finish

    def failing(self):
        if self._partial.target.endswith("fused.tif"):
            raise FusionError("The disk is full.")
        finish(self)

    monkeypatch.setattr(Mosaic, "finish", failing)
    with pytest.raises(FusionError, match="full"):
        run(uncertainty=str(tmp_path / "spread.tif"), samples=2)
    assert list(tmp_path.iterdir()) == []


def test_an_input_is_never_overwritten(scene_files, model):
    before = open(scene_files[1], "rb").read()
    with pytest.raises(FusionError, match="one of the inputs"):
        fuse(*scene_files, scene_files[1], model=model)
    assert open(scene_files[1], "rb").read() == before


def test_bands_of_another_kind_are_refused(run, scene_files, tmp_path):
    image, info = read_bands(scene_files[1])
    path = str(tmp_path / "swir.tif")
    write_geotiff(path, image, info.geotransform, info.crs_wkt, ("Green", "Red", "NIR", "SWIR1"))
    with pytest.raises(FusionError, match="The MS bands are Green, Red, NIR, SWIR1"):
        run(ms=path)


def test_checking_computes_nothing(scene_files, model, tmp_path):
    plan = check_fuse(*scene_files, str(tmp_path / "fused.tif"), model=model, steps=5)
    plan.scene.close()
    assert plan.steps == 5
    assert plan.model.card.id == "tiny"
    assert (plan.window.height, plan.window.width) == (160, 160)
    assert list(tmp_path.iterdir()) == []


def test_memory_does_not_grow_with_the_height(make_raster, tmp_path, identity, monkeypatch):
    import tracemalloc

    from fusion_core.execution.executor import FusedTiles
    from fusion_core.execution.local import LocalExecutor

    monkeypatch.setattr(
        LocalExecutor,
        "run",
        lambda self, batch, on_call: FusedTiles(np.zeros_like(batch.lms), None),
    )
    peaks = []

    def settle(share: float) -> None:
        # The sample that the statistics take is bounded too, but larger than these scenes.
        if share < 0.1:
            tracemalloc.reset_peak()

    for rows in (1200, 4800):
        pan = make_raster("pan.tif", np.full((rows, 512), 500, np.uint16))
        ms = make_raster("ms.tif", np.full((4, rows // 4, 128), 300, np.uint16), pixel=4.0)
        tracemalloc.start()
        output = str(tmp_path / "fused.tif")
        fuse(pan, ms, output, model=identity, batch_size=64, threads=1, progress=settle)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
