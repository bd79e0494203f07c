"""Bounds of every right answer of the calls that change colours, in float64 from closed forms.

One function per functional call, `(state, kwargs, torchvision's result) -> lo, hi, smooth`; `state` is the
`judges.Verdict` before the call. See `judges` for what the interval means. On the lattice an answer has one value
unless a truncation cuts within a few float32 roundings of a whole number, or the pixels before the call have several;
saturation and grey have torchvision's own: their blends of equal values stand at whole numbers all the time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from bounds_geometry import VALUE_ERROR, fill_column, on_lattice
from torch import Tensor
from torchvision.transforms.v2 import functional

if TYPE_CHECKING:
    from judges import Verdict

Bounds = tuple[Tensor, Tensor, bool]
ROUNDING = 8 * 2.0**-24  # a few float32 roundings, relative to the value
HUE_ERROR = 4e-6  # of a value on [0, 1], after ten float32 operations on a hue that is up to 6
GAMMA_ERROR = 64 * 2.0**-24  # of a power, relative: 2**x for x down to -16
SATURATED = 255.999  # torchvision's factor from [0, 1] to uint8, before it truncates


# --- one channel ------------------------------------------------------------------------------------------------------
def _brightness(state: Verdict, kwargs: dict, ref: Tensor) -> Bounds:
    factor = kwargs["brightness_factor"]
    if not state.lattice:
        return *_settled(state, state.lo * factor, state.hi * factor, ROUNDING), False
    lo, hi = (bound.float().mul(factor).clamp(0, 255).floor().double() for bound in (state.lo, state.hi))
    return lo, hi, False


def _settled(state: Verdict, lo: Tensor, hi: Tensor, error: float | Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Clamp, and truncate on the lattice; ``error`` is absolute, `VALUE_ERROR` of white by default."""
    error = VALUE_ERROR * state.white if error is None else error
    lo, hi = (lo - error).clamp(0, state.white), (hi + error).clamp(0, state.white)
    return (lo.floor(), hi.floor()) if state.lattice else (lo, hi)


def _from_unit(state: Verdict, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
    """[0, 1] back to the pixels' own units: to uint8 torchvision multiplies by just under 256 and truncates."""
    lo, hi = lo.clamp(0, 1), hi.clamp(0, 1)
    return ((lo * SATURATED).floor(), (hi * SATURATED).floor()) if state.lattice else (lo, hi)


def _gamma(state: Verdict, kwargs: dict, ref: Tensor) -> Bounds:
    gamma, gain = kwargs["gamma"], kwargs.get("gain", 1.0)
    lo, hi = (gain * (bound / state.white).clamp_min(0) ** gamma for bound in (state.lo, state.hi))
    return *_from_unit(state, lo * (1 - GAMMA_ERROR), hi * (1 + GAMMA_ERROR)), False


def _posterize(state: Verdict, kwargs: dict, ref: Tensor) -> Bounds:
    levels = 2.0 ** kwargs["bits"]
    if state.lattice:
        return *((bound * levels / 256).floor() * 256 / levels for bound in (state.lo, state.hi)), False
    ends = (state.lo - ROUNDING, state.hi + ROUNDING)
    return *((end * levels).floor().clamp(0, levels - 1) / levels for end in ends), False


def _solarize(state: Verdict, kwargs: dict, ref: Tensor) -> Bounds:
    threshold, white, lo, hi = float(np.float32(kwargs["threshold"])), state.white, state.lo, state.hi
    turned_lo, turned_hi = white - hi, white - torch.maximum(lo, torch.full_like(lo, threshold))
    kept_hi = torch.minimum(hi, torch.full_like(hi, threshold))
    never, always = hi < threshold, lo >= threshold
    low = torch.where(never, lo, torch.where(always, turned_lo, torch.minimum(lo, turned_lo)))
    high = torch.where(never, hi, torch.where(always, turned_hi, torch.maximum(kept_hi, turned_hi)))
    return low, high, False


def _solarize_add(state: Verdict, kwargs: dict, ref: Tensor) -> Bounds:
    """Dark values rise with v up to the threshold, where they fall back to v."""
    threshold, lo, hi = float(np.float32(kwargs["threshold"])), state.lo, state.hi
    error = ROUNDING * state.white if not state.lattice else 0.0
    never, always = lo >= threshold, hi < threshold
    raised_lo = (lo + kwargs["addition"] - error).clamp(0, state.white)
    raised_hi = (hi.clamp_max(threshold) + kwargs["addition"] + error).clamp(0, state.white)
    low = torch.where(never, lo, torch.where(always, raised_lo, raised_lo.clamp_max(threshold)))
    high = torch.where(never, hi, torch.where(always, raised_hi, torch.maximum(raised_hi, hi)))
    return low, high, False


def _invert(state: Verdict, kwargs: dict, ref: Tensor) -> Bounds:
    return state.white - state.hi, state.white - state.lo, False


def _to_floats(lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
    """Levels on [0, 1]: divided by 255, or multiplied by its rounded reciprocal."""
    return lo / 255 * (1 - ROUNDING), hi / 255 * (1 + ROUNDING)


def _to_dtype(state: Verdict, kwargs: dict, ref: Tensor) -> Bounds:
    dtype, scale = kwargs.get("dtype", torch.float32), kwargs.get("scale", False)
    if not scale or dtype.is_floating_point == (not state.lattice):
        bounds = (state.lo, state.hi)
    elif dtype.is_floating_point:
        bounds = _to_floats(state.lo, state.hi)
    else:
        bounds = tuple((b * SATURATED + e).floor() for b, e in ((state.lo, -VALUE_ERROR), (state.hi, VALUE_ERROR)))
    return *bounds, False


def _normalize(state: Verdict, kwargs: dict, ref: Tensor) -> Bounds:
    mean, std = (torch.as_tensor(kwargs[name], dtype=torch.float64).view(-1, 1, 1) for name in ("mean", "std"))
    return (state.lo - mean) / std, (state.hi - mean) / std, False


# --- three channels ---------------------------------------------------------------------------------------------------
def luma(plane: Tensor) -> Tensor:
    """Grey [1, H, W] of a colour image [3, H, W] with torchvision's weights, which sum to 0.9999."""
    weights = torch.tensor([0.2989, 0.587, 0.114], dtype=plane.dtype).view(3, 1, 1)
    return (weights * plane).sum(0, keepdim=True)


def _grey(state: Verdict) -> tuple[Tensor, Tensor]:
    """Least and greatest grey [1, H, W]; floored on the lattice; the channel itself where there is one."""
    if state.lo.shape[0] == 1:
        return state.lo, state.hi
    lo, hi = luma(state.lo) - ROUNDING * state.white, luma(state.hi) + ROUNDING * state.white
    return (lo.floor().clamp_min(0), hi.floor()) if state.lattice else (lo, hi)


def _agreed(state: Verdict, lo: Tensor, hi: Tensor, ref: Tensor) -> Bounds:
    """On the lattice: torchvision's own answer, to the bit, for a colour that has one value before the call."""
    if not state.lattice:
        return lo, hi, False
    certain = ((state.lo == state.hi) & (state.ref == state.lo)).all(0)
    return *(torch.where(certain, ref.double(), bound) for bound in (lo, hi)), False


def _grayscale(state: Verdict, kwargs: dict, ref: Tensor) -> Bounds:
    return _agreed(state, *(bound.expand(ref.shape) for bound in _grey(state)), ref)


def _saturation(state: Verdict, kwargs: dict, ref: Tensor) -> Bounds:
    factor = kwargs["saturation_factor"]
    if state.lo.shape[0] == 1:
        return state.lo, state.hi, False
    (least, most), rest = _grey(state), 1 - factor
    below, above = (least, most) if rest >= 0 else (most, least)
    lo, hi = factor * state.lo + rest * below, factor * state.hi + rest * above
    return _agreed(state, *_settled(state, lo, hi, ROUNDING * state.white), ref)


def turn_hue(image: Tensor, turn: float) -> Tensor:
    """Colours [3, H, W] on [0, 1] with their hue shifted by ``turn`` of a whole circle.

    Each channel is value - chroma max(0, min(k, 4 - k, 1)) with k = (5, 3, 1) + 6 hue, modulo 6.
    """
    value, least = image.amax(0), image.amin(0)
    chroma = value - least
    r, g, b = image / torch.where(chroma > 0, chroma, torch.ones_like(chroma))
    hue = torch.where(value == image[0], g - b, torch.where(value == image[1], b - r + 2, r - g + 4))
    k = (torch.tensor([5.0, 3.0, 1.0], dtype=image.dtype).view(3, 1, 1) + hue + 6 * turn) % 6
    return value - chroma * torch.minimum(k, 4 - k).clamp(0, 1)


def _hue(state: Verdict, kwargs: dict, ref: Tensor) -> Bounds:
    """A turn of the hue is piecewise linear and moves no channel by more than 3 times what moved the colour before.

    For x from the smallest channel (n), the middle (d) and the greatest (m) the new middle one is n + (m - n) y with y
    = c +- (d - n) / (m - n) in [0, 1]: the absolute slopes sum to 3 at most. It stays between n and m.
    """
    if state.lo.shape[0] == 1:
        return state.lo, state.hi, False
    lo, hi = state.lo / state.white, state.hi / state.white
    turned = turn_hue((lo + hi) / 2, kwargs["hue_factor"])
    reach = 1.5 * (hi - lo).amax(0, keepdim=True) + HUE_ERROR
    low, high = torch.maximum(turned - reach, lo.amin(0)), torch.minimum(turned + reach, hi.amax(0))
    return *_from_unit(state, low, high), False


def _permute_channels(state: Verdict, kwargs: dict, ref: Tensor) -> Bounds:
    order = [int(i) for i in kwargs["permutation"]]
    return torch.stack([state.lo[i] for i in order]), torch.stack([state.hi[i] for i in order]), False


# --- statistics of the whole image -----------------------------------------------------------------------------------
def _contrast(state: Verdict, kwargs: dict, ref: Tensor) -> Bounds:
    factor = kwargs["contrast_factor"]
    least, most, rest = _mean_grey(state, state.lo)[0], _mean_grey(state, state.hi)[1], 1 - factor
    below, above = (least, most) if rest >= 0 else (most, least)
    return *_settled(state, factor * state.lo + rest * below, factor * state.hi + rest * above), False


def _mean_grey(state: Verdict, plane: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest mean grey that float32 arithmetic may find for one plane."""
    grey, error = (plane, 0.0) if plane.shape[0] == 1 else (luma(plane), VALUE_ERROR * state.white)
    if state.lattice and error:
        return (grey - error).clamp_min(0).floor().mean() - error, (grey + error).floor().mean() + error
    return grey.mean() - VALUE_ERROR * state.white, grey.mean() + VALUE_ERROR * state.white


def _autocontrast(state: Verdict, kwargs: dict, ref: Tensor) -> Bounds:
    """(v - min) white / (max - min) of each channel, v where that is 0 / 0.

    Of a channel without wide pixels the extremes are exact, and what is left looks at one pixel.
    """
    lo, hi, white = state.lo, state.hi, state.white
    (min_lo, min_hi), (max_lo, max_hi) = (
        (getattr(lo, extreme)((-2, -1), keepdim=True), getattr(hi, extreme)((-2, -1), keepdim=True))
        for extreme in ("amin", "amax")
    )
    low = (lo - min_hi) * white / (max_hi - min_hi).clamp_min(1e-12) * (1 - ROUNDING)
    high = (hi - min_lo) * white / (max_lo - min_lo).clamp_min(1e-12) * (1 + ROUNDING)
    low, high = _settled(state, low, high, 0.0)
    maybe_flat, certain = max_lo <= min_hi, ((lo == hi) & (state.ref == lo)).all(-1, True).all(-2, True)
    low, high = torch.where(maybe_flat, 0.0, low), torch.where(maybe_flat, white, high)
    return *(torch.where(certain, ref.double(), bound) for bound in (low, high)), False


def _equalize(state: Verdict, kwargs: dict, ref: Tensor) -> Bounds:
    """Per channel, on the 256 levels; floats go there and back."""
    lo, hi = state.lo, state.hi
    if not state.lattice:
        lo, hi = ((b * SATURATED + e).floor().clamp(0, 255) for b, e in ((lo, -256 * ROUNDING), (hi, 256 * ROUNDING)))
    pairs = [_equalized(*channel) for channel in zip(lo.long(), hi.long(), strict=True)]
    lo, hi = (torch.stack(planes).double() for planes in zip(*pairs, strict=True))
    return *((lo, hi) if state.lattice else _to_floats(lo, hi)), False


def _equalized(lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds [H, W] of one equalized channel whose levels lie within [lo, hi].

    A level's new value counts the pixels below it: at least those whose ``hi``, at most those whose ``lo`` is below.
    They are divided by a step that comes of how many are darker than the brightest; every possible step is tried.
    """
    at_most = torch.bincount(lo.flatten(), minlength=256).cumsum(0)  # pixels that may be <= k
    at_least = torch.bincount(hi.flatten(), minlength=256).cumsum(0)  # pixels that surely are
    brightest_lo, brightest_hi = int(lo.max()), int(hi.max())
    dark_lo = int(at_least[brightest_lo - 1]) if brightest_lo else 0
    dark_hi = min(int(at_most[brightest_hi - 1]) if brightest_hi else 0, lo.numel() - 1)
    steps = range(dark_lo // 255, dark_hi // 255 + 1)
    low = torch.stack([_equalizing(at_least, step) for step in steps]).amin(0)
    high = torch.stack([_equalizing(at_most, step) for step in steps]).amax(0)
    return low[lo], high[hi]


def _equalizing(counts: Tensor, step: int) -> Tensor:
    """The new value [256] of each level, from the counts of pixels of at most that level; unchanged for a step of 0."""
    if step == 0:
        return torch.arange(256)
    below = torch.cat([torch.zeros(1, dtype=torch.int64), counts[:-1]])
    return ((below + step // 2) // step).clamp(0, 255)


# --- neighbours, rectangles -------------------------------------------------------------------------------------------
def _sharpness(state: Verdict, kwargs: dict, ref: Tensor) -> Bounds:
    """Blend with a 3 x 3 blur (centre 5, others 1, of 13; rounded on the lattice); the border keeps its pixels.

    As v + (1 - factor) (blur - v), which is exact where the change is a whole number.
    """
    factor, (height, width) = kwargs["sharpness_factor"], state.lo.shape[-2:]
    if height <= 2 or width <= 2:
        return state.lo, state.hi, False
    kernel, rest = torch.ones(3, 3, dtype=torch.float64), 1 - factor
    kernel[1, 1] = 5
    inner = (..., slice(1, -1), slice(1, -1))
    low, high = state.lo[inner], state.hi[inner]
    least, most = on_lattice(state, *(_filtered(bound, kernel / 13) for bound in (state.lo, state.hi)))
    below, above = (least, most) if rest >= 0 else (most, least)
    change = rest * (below - low)
    exact = (low == high) & (least == most) & (change == change.round())
    low, high = (torch.where(exact, v + change, factor * v + rest * blur) for v, blur in ((low, below), (high, above)))
    lo, hi = (bound.clamp(0, state.white) for bound in (state.lo, state.hi))
    lo[inner], hi[inner] = _settled(state, low, high, torch.where(exact, 0.0, 2 * ROUNDING * state.white))
    return lo, hi, False


def _gaussian_blur(state: Verdict, kwargs: dict, ref: Tensor) -> Bounds:
    columns, rows = (gaussian(size, s) for size, s in zip(kwargs["kernel_size"], kwargs["sigma"], strict=True))
    pad = [len(columns) // 2] * 2 + [len(rows) // 2] * 2
    lo, hi = (
        _filtered(torch.nn.functional.pad(bound, pad, mode="reflect"), rows[:, None] * columns)
        for bound in (state.lo, state.hi)
    )
    error = VALUE_ERROR * state.white
    return *on_lattice(state, lo - error, hi + error), False


def gaussian(size: int, sigma: float) -> Tensor:
    """Weights [size] in float64 of a Gaussian, normalised."""
    offset = torch.arange(size).double() - (size - 1) / 2
    weights = torch.exp(-(offset**2) / (2 * sigma**2))
    return weights / weights.sum()


def _filtered(plane: Tensor, kernel: Tensor) -> Tensor:
    """Each channel of [C, H, W] under one kernel [h, w], without a border."""
    return torch.nn.functional.conv2d(plane[:, None], kernel[None, None])[:, 0]


def _jpeg(state: Verdict, kwargs: dict, ref: Tensor) -> Bounds:
    """The levels decide: where one in a block of 16 x 16 has several answers, anything may come out of the block, and
    of the pixels around it, whose chroma is interpolated."""
    least, most = (b if state.lattice else (b.clamp(0, 1) * SATURATED).floor() for b in (state.lo, state.hi))
    height, width = ref.shape[-2:]
    unsure = torch.nn.functional.pad((least != most).any(0)[None].double(), (0, -width % 16, 0, -height % 16))
    unsure = torch.nn.functional.max_pool2d(unsure, 16).repeat_interleave(16, 1).repeat_interleave(16, 2)
    unsure = torch.nn.functional.max_pool2d(unsure, 5, 1, 2)[:, :height, :width] > 0
    lo, hi = (ref.double(),) * 2 if state.lattice else _to_floats(*((ref.double() * 255).round(),) * 2)
    return torch.where(unsure, 0.0, lo), torch.where(unsure, state.white, hi), False


def _erase(state: Verdict, kwargs: dict, ref: Tensor) -> Bounds:
    top, left, value = kwargs["i"], kwargs["j"], kwargs["v"]
    lo, hi = state.lo.clone(), state.hi.clone()
    for bound in (lo, hi):
        bound[:, top : top + kwargs["h"], left : left + kwargs["w"]] = value.double()
    return lo, hi, False


def _grid_mask(state: Verdict, kwargs: dict, ref: Tensor) -> Bounds:
    return grid_mask(state.lo, **kwargs), grid_mask(state.hi, **kwargs), False


PIXEL: dict[str, Callable] = {
    "adjust_brightness": _brightness,
    "adjust_contrast": _contrast,
    "adjust_saturation": _saturation,
    "adjust_hue": _hue,
    "adjust_gamma": _gamma,
    "adjust_sharpness": _sharpness,
    "rgb_to_grayscale": _grayscale,
    "permute_channels": _permute_channels,
    "posterize": _posterize,
    "solarize": _solarize,
    "solarize_add": _solarize_add,
    "invert": _invert,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "gaussian_blur": _gaussian_blur,
    "jpeg": _jpeg,
    "erase": _erase,
    "grid_mask": _grid_mask,
    "to_dtype": _to_dtype,
    "normalize": _normalize,
}


# --- calls of our own, which torchvision lacks ------------------------------------------------------------------------
def solarize_add(image: Tensor, addition: float, threshold: float) -> Tensor:
    """v + addition where v is below the threshold, clamped to white; v elsewhere."""
    white = 1.0 if image.is_floating_point() else 255
    raised = (image + addition if image.is_floating_point() else image.int() + int(addition)).clamp(0, white)
    return torch.where(image < threshold, raised.to(image.dtype), image)


def grid_mask(image: Tensor, period: int, offset_x: int, offset_y: int, side: int, fill: object) -> Tensor:
    """``fill`` in squares, one in each period of both axes; the first begins ``offset`` pixels before the image."""
    rows, columns = (
        (torch.arange(length) + offset) % period < side
        for length, offset in zip(image.shape[-2:], (offset_y, offset_x), strict=True)
    )
    return torch.where(rows[:, None] & columns, fill_column(fill, len(image)).to(image.dtype), image)


def jpeg(image: Tensor, quality: int) -> Tensor:
    """torchvision's, which takes uint8 alone."""
    levels = functional.jpeg(functional.to_dtype(image, torch.uint8, scale=True), quality)
    return functional.to_dtype(levels, image.dtype, scale=True)


OWN: dict[str, Callable] = {"solarize_add": solarize_add, "grid_mask": grid_mask, "jpeg": jpeg}
