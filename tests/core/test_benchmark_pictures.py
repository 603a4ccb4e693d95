"""The pictures that benchmarks draw."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.pictures import GAP, LEFT_OUT, MARGIN, SIDE, TITLE, crops, draw


def test_crops_keep_off_the_edges_and_whole_ms_pixels():
    rng = np.random.default_rng(0)
    chosen = crops(rng.uniform(0, 1, (1200, 1100, 3)), 4, 2)
    assert len(chosen) == 2
    for window in chosen:
        assert (window.height, window.width) == (SIDE, SIDE)
        assert min(window.row, window.col) >= LEFT_OUT
        assert window.bottom <= 1200 - LEFT_OUT and window.right <= 1100 - LEFT_OUT
    assert chosen[0].intersect(chosen[1]).empty
    (small,) = crops(rng.uniform(0, 1, (100, 90, 3)), 4, 1)
    assert (small.height, small.width) == (56, 56)


def test_crops_are_drawn_pixel_by_pixel(tmp_path):
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    rng = np.random.default_rng(0)
    rows = [{name: rng.uniform(0, 1, (40, 40, 3)) for name in "ab"} for _ in range(2)]
    draw(tmp_path / "picture.png", rows)
    drawn = imread(tmp_path / "picture.png")[..., :3]
    assert drawn.shape == (2 * MARGIN + TITLE + 80 + GAP, 2 * MARGIN + 80 + GAP, 3)
    for line, row in enumerate(rows):
        top = MARGIN + TITLE + line * (40 + GAP)
        for column, image in enumerate(row.values()):
            left = MARGIN + column * (40 + GAP)
            found = drawn[top : top + 40, left : left + 40]
            assert np.abs(found - image).max() < 1 / 255 + 1e-6
