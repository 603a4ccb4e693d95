"""Rectangles of pixels."""

from __future__ import annotations

import numpy as np

from fusion_core.raster.window import Window


def test_intersection_and_containment():
    window = Window(-2, 3, 6, 4)
    assert window.intersect(Window(0, 0, 10, 5)) == Window(0, 3, 4, 2)
    assert window.intersect(Window(20, 20, 2, 2)).empty
    assert window.grown(1) == Window(-3, 2, 8, 6)
    assert window.grown(1).contains(window)
    assert not window.contains(window.grown(1))


def test_slices_in():
    array = np.arange(100).reshape(10, 10)
    inner = array[Window(5, 6, 2, 3).slices_in(Window(2, 2, 10, 10))]
    assert inner.tolist() == [[34, 35, 36], [44, 45, 46]]
