"""DDRF as published (Cao et al., arXiv 2304.04774): every call computes the modulation of every block anew."""

from __future__ import annotations

import numpy as np
import pywt
import torch
import torch.nn.functional as F

from .layers import State, convolve, frequencies, group_norm, linear

HEADS = 8


class PublishedDDRF:
    """The network as a function.

    Args:
        state: state dict, float32, on the device to compute on.
        ms_bands: number of MS bands C.
        guide_bands: bands P of the sharp image.
    """

    def __init__(self, state: State, ms_bands: int, guide_bands: int = 1) -> None:
        self.state = dict(state)
        self.ms_bands = ms_bands
        self.guide_bands = guide_bands
        self.downs, self.mid, self.ups = (_stages(state, part) for part in ("downs", "mid", "ups"))

    def __call__(
        self,
        x_t: torch.Tensor,
        t: torch.Tensor,
        condition: torch.Tensor,
        self_cond: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Predict x0, (B, C, H, W), from x_t at integer timesteps t (B,) and what ``ddrf_condition`` made."""
        encoder = condition[:, : self.ms_bands + self.guide_bands]
        decoder = condition[:, self.ms_bands + self.guide_bands :]
        level = self._noise_level(t)
        x = torch.cat([x_t if self_cond is None else self_cond, x_t], dim=1)
        x = convolve(self.state, "downs.0", x)
        skips = [x]
        for name in self.downs[1:]:
            if f"{name}.conv.weight" in self.state:
                x = convolve(self.state, f"{name}.conv", x, stride=2)
            else:
                x = self._block(name, self._style_modulated(f"{name}.cond_inj", x, encoder), level)
            skips.append(x)
        for name in self.mid:
            x = self._block(name, x, level)
        for name in self.ups:
            if f"{name}.conv.weight" in self.state:
                x = F.interpolate(x, scale_factor=2, mode="nearest")
                x = convolve(self.state, f"{name}.conv", x)
            else:
                x = torch.cat([x, skips.pop()], dim=1)
                x = self._wavelet_modulated(f"{name}.cond_inj", x, decoder)
                x = self._block(name, x, level)
        return self._norm_act_convolve("final_conv", x)

    def _noise_level(self, t: torch.Tensor) -> torch.Tensor:
        width = self.state["noise_level_mlp.1.weight"].shape[1]
        angles = t[:, None].float() * frequencies(width // 2, t.device)
        level = torch.cat([angles.sin(), angles.cos()], dim=1)
        level = F.silu(linear(self.state, "noise_level_mlp.1", level))
        return linear(self.state, "noise_level_mlp.3", level)

    def _norm_act_convolve(self, name: str, x: torch.Tensor) -> torch.Tensor:
        x = F.silu(group_norm(self.state, f"{name}.block.0", x, 1))
        return convolve(self.state, f"{name}.block.3", x)

    def _block(self, name: str, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Residual block, then self-attention where the network has it."""
        bias = linear(self.state, f"{name}.res_block.noise_func.noise_func.0", level)
        hidden = self._norm_act_convolve(f"{name}.res_block.block1", x) + bias[:, :, None, None]
        x = self._norm_act_convolve(f"{name}.res_block.block2", hidden) + x
        if f"{name}.attn.qkv.weight" in self.state:
            x = self._attended(f"{name}.attn", x)
        return x

    def _attended(self, name: str, x: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = x.shape
        qkv = convolve(self.state, f"{name}.qkv", group_norm(self.state, f"{name}.norm", x, 1))
        q, k, v = qkv.view(batch, HEADS, 3 * channels // HEADS, height * width).chunk(3, dim=2)
        logits = torch.einsum("bhcq,bhck->bhqk", q, k) / channels**0.5
        out = torch.einsum("bhqk,bhck->bhcq", logits.softmax(dim=-1), v)
        return convolve(self.state, f"{name}.out", out.reshape(x.shape)) + x

    def _style_modulated(self, name: str, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        style = convolve(self.state, f"{name}.body.0", _resized(condition, x))
        style = F.silu(group_norm(self.state, f"{name}.body.1", style, 1))
        scale, shift = convolve(self.state, f"{name}.body.3", style).chunk(2, dim=1)
        return convolve(self.state, f"{name}.x_conv", x) * (1 + scale) + shift

    def _wavelet_modulated(
        self, name: str, x: torch.Tensor, condition: torch.Tensor
    ) -> torch.Tensor:
        batch, channels, height, width = x.shape
        x = group_norm(self.state, f"{name}.prenorm_x", x, 1)
        q = self._separable(f"{name}.q", x)
        k, v = self._separable(f"{name}.kv", _resized(condition, x)).chunk(2, dim=1)
        # Over rows for the query and over columns for the key, as published.
        q = q.softmax(dim=-2) * (channels // HEADS) ** -0.5
        k = k.softmax(dim=-1)
        q, k, v = (part.reshape(batch, HEADS, channels // HEADS, -1) for part in (q, k, v))
        context = torch.einsum("bhdn,bhen->bhde", k, v)
        out = torch.einsum("bhde,bhdn->bhen", context, q).reshape(x.shape)
        x = convolve(self.state, f"{name}.attn_out", out) + convolve(
            self.state, f"{name}.attn_res", x
        )
        hidden = F.silu(convolve(self.state, f"{name}.ffn.0", x))
        hidden = convolve(self.state, f"{name}.ffn.2", hidden)
        return convolve(self.state, f"{name}.ffn.3", hidden) + x

    def _separable(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return convolve(self.state, f"{name}.1", convolve(self.state, f"{name}.0", x))


def ddrf_condition(
    guide: torch.Tensor, lms: torch.Tensor, detail_order: str = "HDV"
) -> torch.Tensor:
    """What the network is conditioned on, (B, 2C+4P, H, W), made once for an image.

    Args:
        guide: PAN or another sharp image, (B, P, H, W), at scene scale.
        lms: MS resampled to the same grid, (B, C, H, W).
        detail_order: of the guide's wavelet details, letters H, V, D.

    Returns:
        LMS, guide, and brought back to full size: the wavelet approximation of LMS, and each kind of detail of the guide.
    """
    approximation, _ = pywt.dwt2(lms.cpu().numpy(), "db1", axes=(-2, -1))
    _, details = pywt.dwt2(guide.cpu().numpy(), "db1", axes=(-2, -1))
    kinds = dict(zip("HVD", details))
    half = np.concatenate([approximation, *(kinds[letter] for letter in detail_order)], axis=1)
    wavelets = torch.from_numpy(half).to(lms.device)
    return torch.cat([lms, guide, _resized(wavelets, lms)], dim=1)


def _resized(image: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return F.interpolate(image, size=like.shape[-2:], mode="bilinear", align_corners=False)


def _stages(state: State, part: str) -> list[str]:
    """Names of a part's stages in the order they are computed."""
    numbers = {int(name.split(".")[1]) for name in state if name.startswith(f"{part}.")}
    return [f"{part}.{number}" for number in sorted(numbers)]
