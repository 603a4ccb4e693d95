"""Start a network from the weights of another one that has other bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ..bands import WAVELENGTHS, canonical_band

Groups = tuple[str, ...]

_BAND_AXES: dict[str, list[tuple[str, int, Groups]]] = {
    "ddrf": [
        ("downs.0.", 1, ("ms", "ms")),
        (".cond_inj.body.0.", 1, ("ms", "guide")),
        (".cond_inj.kv.0.", 0, ("ms", "guide", "guide", "guide")),
        (".cond_inj.kv.1.weight", 1, ("ms", "guide", "guide", "guide")),
        ("final_conv.block.3.", 0, ("ms",)),
    ],
    "ssdiff": [
        ("upsample.", 1, ("ms",)),
        ("conv_lms2x_t.weight", 1, ("ms", "ms")),
        ("conv_pan2x_t.weight", 1, ("guide", "ms")),
        ("conv_x_t.weight", 1, ("ms",)),
        ("to_hrms.2.", 0, ("ms",)),
    ],
}
"""By network: part of a tensor's name, the axis that counts bands, and what its channels are in order."""


def transferred(
    state: Mapping[str, torch.Tensor],
    fresh: Mapping[str, torch.Tensor],
    method: str,
    old_bands: Sequence[str],
    new_bands: Sequence[str],
    guide_bands: int = 1,
) -> dict[str, torch.Tensor]:
    """Weights for new bands: every band starts as its namesake, or as the nearest in wavelength.

    Args:
        state: the weights to start from, made for ``old_bands``.
        fresh: weights of a new network for ``new_bands``, of the same width; what cannot be taken over stays as here
            (SSDiff's up-sampling where the ratio differs).
        method: "ddrf" or "ssdiff".
        old_bands, new_bands: MS band names.
        guide_bands: bands of the sharp image, the same for both.

    Raises:
        ValueError: a band has a name nobody knows, or the networks differ in more than bands and ratio.
    """
    nearest = _nearest(old_bands, new_bands)
    started = {}
    for name, wanted in fresh.items():
        value = state.get(name)
        if value is None:
            raise ValueError(f"The weights lack {name}.")
        for part, axis, groups in _BAND_AXES[method]:
            if part in name and value.ndim > axis:
                index = _channels(groups, nearest, len(old_bands), guide_bands)
                value = value.index_select(axis, torch.tensor(index, device=value.device))
                if axis == 1:
                    # Several bands that stand for one share its weight, so equal bands give what the one gave.
                    shares = torch.tensor([1 / index.count(i) for i in index])
                    value = value * shares.to(value).view(1, -1, *[1] * (value.ndim - 2))
        if name == "upsample.upsamle.0.weight":
            value = _upsampling(value, wanted, nearest, len(old_bands))
        if value.shape != wanted.shape:
            raise ValueError(f"{name} has shape {tuple(value.shape)}, not {tuple(wanted.shape)}.")
        started[name] = value.to(wanted)
    return started


def _nearest(old_bands: Sequence[str], new_bands: Sequence[str]) -> list[int]:
    old, new = (
        [WAVELENGTHS.get(canonical_band(b)) for b in bands] for bands in (old_bands, new_bands)
    )
    if None in old or None in new:
        raise ValueError(f"A band of {old_bands} or {new_bands} is not known by name.")
    return [min(range(len(old)), key=lambda i: abs(old[i] - wavelength)) for wavelength in new]


def _channels(
    groups: Groups, nearest: Sequence[int], old_count: int, guide_bands: int
) -> list[int]:
    """Which old channel each new one is copied from."""
    index, first = [], 0
    for group in groups:
        if group == "ms":
            index += [first + i for i in nearest]
            first += old_count
        else:
            index += range(first, first + guide_bands)
            first += guide_bands
    return index


def _upsampling(
    value: torch.Tensor, wanted: torch.Tensor, nearest: Sequence[int], old_count: int
) -> torch.Tensor:
    """SSDiff's convolution before the pixel shuffle: ratio x ratio outputs a band."""
    phases = value.shape[0] // old_count
    if phases * len(nearest) != wanted.shape[0]:
        return wanted
    by_band = value.unflatten(0, (old_count, phases))
    return by_band[torch.tensor(nearest, device=value.device)].flatten(0, 1)
