"""All metrics of a fused image at once, with the usual borders left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import FusionError
from .d_lambda_khan import d_lambda_khan
from .d_s import d_s
from .d_sr import d_sr
from .ergas import ergas
from .hqnr import hqnr, rqnr
from .images import check_pair
from .lowpass import first_centre, gains_of_bands, lowpass
from .q2n import q2n
from .sam import sam
from .scc import scc


def assess_reduced(
    reference: np.ndarray,
    fused: np.ndarray,
    ratio: int,
    border: int | None = None,
    mask: np.ndarray | None = None,
) -> dict[str, float]:
    """Quality against a reference.

    Give the image as it would be delivered: rounded and clipped to its data type.

    Args:
        reference: true image (C, H, W).
        fused: image under test (C, H, W).
        ratio: PAN pixels per MS pixel along an axis.
        border: pixels left out along each edge, None for ``ratio``.
        mask: pixels to use (H, W), None for all.

    Returns:
        "SAM" (degrees), "ERGAS", "Q2n" and "SCC".

    Raises:
        FusionError: the shapes differ, the border leaves nothing or no pixel is valid.
    """
    edge = ratio if border is None else border
    x, y = _trim(reference, edge), _trim(fused, edge)
    part = None if mask is None else _trim(mask[None], edge)[0]
    return {
        "SAM": sam(x, y, part),
        "ERGAS": ergas(x, y, ratio, part),
        "Q2n": q2n(x, y, mask=part),
        "SCC": scc(x, y, part),
    }


def assess_full(
    pan: np.ndarray,
    ms: np.ndarray,
    fused: np.ndarray,
    ratio: int,
    gains: Sequence[float] | None = None,
    offset: tuple[float, float] | None = None,
    mask: np.ndarray | None = None,
) -> dict[str, float]:
    """Quality without a reference, at full resolution.

    The fused image seen through the MS sensor should be the MS image (D_LAMBDA, Khan's); its bands should relate to
    PAN as the MS bands relate to PAN seen through their sensor (D_S), and PAN should be a mixture of them (D_SR).
    Two MS pixels of border are left out of D_LAMBDA, one of the others.

    Args:
        pan: panchromatic image (1, H, W).
        ms: MS image (C, h, w).
        fused: image under test (C, H, W).
        ratio: PAN pixels per MS pixel along an axis.
        gains: MTF gains of the MS bands at their Nyquist frequency (C,), None for 0.3.
        offset: PAN row and column of the centre of the first MS pixel, whole numbers being pixel centres; None where
            MS pixels cover blocks of ratio x ratio PAN pixels.
        mask: PAN pixels to use (H, W), None for all.

    Returns:
        "D_LAMBDA", "D_S", "HQNR", "D_SR" and "RQNR".

    Raises:
        FusionError: the shapes do not fit each other or no pixel is valid.
    """
    check_pair(pan, ms, fused, "the fused image")
    gains = gains_of_bands(gains, len(ms))
    start = first_centre(offset, ratio)
    valid = np.isfinite(fused).all(axis=0) & np.isfinite(pan[0])
    if mask is not None:
        valid &= mask
    sieve = None if valid.all() else valid
    size = ms.shape[1:]
    fused_low = lowpass(fused, ratio, size, gains, start, sieve)
    pan_low = lowpass(np.broadcast_to(pan, fused.shape), ratio, size, gains, start, sieve)
    ms_valid = _on_coarse_grid(valid, ratio, size, start)
    d_lambda = d_lambda_khan(_trim(ms, 2), _trim(fused_low, 2), mask=_trim(ms_valid[None], 2)[0])
    fine = _from_second_block(valid.shape, ratio, start)
    spatial = d_s(
        fused[:, fine[0], fine[1]],
        pan[:, fine[0], fine[1]],
        _trim(ms, 1),
        _trim(pan_low, 1),
        ratio,
        mask=valid[fine],
        ms_mask=_trim(ms_valid[None], 1)[0],
    )
    regression = d_sr(_trim(fused, ratio), _trim(pan, ratio), _trim(valid[None], ratio)[0])
    return {
        "D_LAMBDA": d_lambda,
        "D_S": spatial,
        "HQNR": hqnr(d_lambda, spatial),
        "D_SR": regression,
        "RQNR": rqnr(d_lambda, regression),
    }


def _trim(image: np.ndarray, border: int) -> np.ndarray:
    """The image (C, H, W) without ``border`` pixels at each edge."""
    if min(image.shape[1:]) <= 2 * border:
        raise FusionError(
            f"An image of {image.shape[1:]} pixels is too small to leave out {border} at each edge: "
            "choose a larger one."
        )
    return image[:, border : image.shape[1] - border, border : image.shape[2] - border]


def _from_second_block(
    shape: tuple[int, int], ratio: int, start: tuple[float, float]
) -> tuple[slice, slice]:
    """Fine pixels from the second coarse pixel on to one coarse pixel before the end."""
    first = [max(0, round(centre - (ratio - 1) / 2 + ratio)) for centre in start]
    return slice(first[0], shape[0] - ratio), slice(first[1], shape[1] - ratio)


def _on_coarse_grid(
    valid: np.ndarray, ratio: int, shape: tuple[int, int], start: tuple[float, float]
) -> np.ndarray:
    """Coarse pixels whose block of fine pixels is wholly valid; beyond the fine image its edge counts."""
    result = np.ones(shape, bool)
    first = [round(centre - (ratio - 1) / 2) for centre in start]
    for row in range(ratio):
        rows = np.clip(first[0] + row + ratio * np.arange(shape[0]), 0, valid.shape[0] - 1)
        for col in range(ratio):
            cols = np.clip(first[1] + col + ratio * np.arange(shape[1]), 0, valid.shape[1] - 1)
            result &= valid[np.ix_(rows, cols)]
    return result
