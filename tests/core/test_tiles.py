"""The tile plan, and the blending of what the tiles hold."""

from __future__ import annotations

import numpy as np
import pytest

from fusion_core.errors import FusionError
from fusion_core.execution.blending import ColumnBlender, RowBlender, overlap_ramp
from fusion_core.execution.tile_plan import Axis, plan_tiles

WINDOWS = [(0, 0, 100, 90), (37, 5, 1, 1), (63, 0, 64, 200), (5, 160, 33, 31), (0, 0, 7, 500)]


def tiles_over(axis: Axis, pixel: int) -> set[int]:
    """Every tile of the infinite grid that covers a pixel."""
    return {k for k in range(-50, 50) if axis.position(k) <= pixel < axis.position(k) + axis.tile}


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("margin", [0, 8, 16])
def test_every_pixel_gets_all_its_tiles(window, margin):
    plan = plan_tiles(window, (3, 1), 64, margin)
    for axis in (plan.rows, plan.cols):
        have = set(range(axis.first, axis.last + 1))
        for pixel in range(axis.start, axis.stop):
            assert tiles_over(axis, pixel) <= have
        assert tiles_over(axis, axis.start) & {axis.first}
        assert tiles_over(axis, axis.stop - 1) & {axis.last}


def test_tiles_hang_on_the_raster_not_on_the_window():
    whole = plan_tiles((0, 0, 400, 400), (2, 0), 64, 8)
    part = plan_tiles((123, 77, 50, 60), (2, 0), 64, 8)
    positions = {whole.rows.position(k) for k in range(whole.rows.first, whole.rows.last + 1)}
    assert {part.rows.position(k) for k in range(part.rows.first, part.rows.last + 1)} <= positions
    assert all((p - 2) % 4 == 0 for p in positions)


def test_nothing_to_plan_is_refused():
    with pytest.raises(FusionError, match="nothing to fuse"):
        plan_tiles((0, 0, 0, 10), (0, 0), 64, 8)
    with pytest.raises(FusionError, match="too wide"):
        plan_tiles((0, 0, 10, 10), (0, 0), 64, 17)


def test_ramps_of_neighbours_sum_to_one():
    ramp = overlap_ramp(16)
    assert ((ramp > 0) & (ramp < 1)).all()
    np.testing.assert_allclose(ramp + ramp[::-1], 1, atol=1e-6)


def cut(image: np.ndarray, tile: int, margin: int) -> np.ndarray:
    """Tiles (rows, cols, C, tile, tile) of an image that they cover exactly."""
    stride = tile - 2 * margin
    counts = [(size - 2 * margin) // stride for size in image.shape[1:]]
    return np.stack(
        [
            np.stack(
                [
                    image[:, r * stride : r * stride + tile, c * stride : c * stride + tile]
                    for c in range(counts[1])
                ]
            )
            for r in range(counts[0])
        ]
    )


def blend(tiles: np.ndarray, margin: int, at_once: int = 2) -> np.ndarray:
    """All that the blenders finish of tiles (rows, cols, C, tile, tile)."""
    stride = tiles.shape[-1] - 2 * margin
    rows = RowBlender(margin, tiles.shape[1] * stride)
    blended = []
    for row in tiles:
        columns = ColumnBlender(margin)
        rows.begin()
        parts = [
            rows.add(columns.add(row[first : first + at_once]), first * stride)
            for first in range(0, len(row), at_once)
        ]
        blended.append(np.concatenate(parts, axis=2))
    return np.concatenate(blended, axis=1)


def blend_plainly(tiles: np.ndarray, margin: int) -> np.ndarray:
    """The same, pixel by pixel along a line."""
    overlap = 2 * margin
    stride = tiles.shape[-1] - overlap
    ramp = overlap_ramp(overlap)

    def join(lines: np.ndarray) -> np.ndarray:
        joined = lines[0][..., :stride].copy(), *(line[..., :stride].copy() for line in lines[1:])
        for place, earlier in zip(joined[1:], lines):
            for pixel in range(overlap):
                a, b = earlier[..., stride + pixel], place[..., pixel]
                place[..., pixel] = a + ramp[pixel] * (b - a)
        return np.concatenate(joined, axis=-1)

    strips = np.stack([join(row) for row in tiles])
    return join(strips.swapaxes(-1, -2)).swapaxes(-1, -2)


@pytest.mark.parametrize("margin", [0, 4, 8])
@pytest.mark.parametrize("at_once", [1, 3, 9])
def test_blending_is_the_same_however_many_tiles_at_once(margin, at_once):
    rng = np.random.default_rng(margin)
    tiles = rng.standard_normal((3, 7, 2, 32, 32)).astype(np.float32)
    expected = blend_plainly(tiles, margin)
    np.testing.assert_array_equal(blend(tiles, margin, at_once), expected)


def test_a_row_that_is_left_out_is_not_blended_with():
    tiles = np.random.default_rng(0).standard_normal((2, 1, 1, 32, 32)).astype(np.float32)
    rows = RowBlender(8, 16)
    rows.begin()
    rows.add(ColumnBlender(8).add(tiles[0]), 0)
    rows.begin(wanted=False)
    rows.begin()
    found = rows.add(ColumnBlender(8).add(tiles[1]), 0)
    np.testing.assert_array_equal(found, tiles[1, 0, :, :16, :16])


@pytest.mark.parametrize("margin", [0, 4, 8])
def test_tiles_that_agree_come_back_bit_for_bit(margin):
    stride = 32 - 2 * margin
    size = 5 * stride + 2 * margin
    image = np.random.default_rng(0).standard_normal((3, size, size)).astype(np.float32)
    blended = blend(cut(image, 32, margin), margin)
    np.testing.assert_array_equal(blended, image[:, : blended.shape[1], : blended.shape[2]])
    assert blended.shape[1:] == (5 * stride, 5 * stride)


def test_tiles_that_differ_meet_without_a_step():
    tiles = np.zeros((1, 3, 1, 32, 32), np.float32)
    tiles[0, 1:] = 1
    row = blend(tiles, 8)[0, 0]
    assert (np.diff(row) >= 0).all()
    assert np.diff(row).max() < 0.11
    assert (row[0], row[-1]) == (0, 1)
