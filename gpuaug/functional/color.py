"""Colours: of images alone."""

from __future__ import annotations

from typing import Any

import torch

from ..explicit import Column, Explicit, column, count, run, vector
from ..messages import shown
from ..transforms.color import Grayscale, grey_channels
from ..transforms.ops import ADJUSTMENTS
from .kinds import taking


def _adjust(images: torch.Tensor, name: str, backend: str, *columns: Column) -> torch.Tensor:
    """An op of `ADJUSTMENTS` with its argument per sample, or none."""
    op = ADJUSTMENTS[name]
    options = (("colour", op.colour), ("needs", op.needs))
    names = (op.argument,) if op.argument else ()
    return run(op.call, images, backend, columns, Explicit, "pixel", name, names, options=options)


def _factor(images: torch.Tensor, name: str, value: Any, backend: str, low: float = 0.0, high: float = float("inf")):
    """An op of `ADJUSTMENTS` by a factor in [low, high], per sample."""
    op = ADJUSTMENTS[name]
    return _adjust(images, name, backend, column(op.call, op.argument, value, count(images), low=low, high=high))


@taking()
def adjust_brightness(inpt, brightness_factor, *, backend: str = "auto"):
    """Multiply by a factor >= 0, per sample, and clamp."""
    return _factor(inpt, "brightness", brightness_factor, backend)


@taking()
def adjust_contrast(inpt, contrast_factor, *, backend: str = "auto"):
    """Blend with the image's mean grey by a factor >= 0, per sample, and clamp."""
    return _factor(inpt, "contrast", contrast_factor, backend)


@taking()
def adjust_saturation(inpt, saturation_factor, *, backend: str = "auto"):
    """Blend with each pixel's grey by a factor >= 0, per sample, and clamp; one channel stays as it is."""
    return _factor(inpt, "saturation", saturation_factor, backend)


@taking()
def adjust_hue(inpt, hue_factor, *, backend: str = "auto"):
    """Turn the hue in HSV by a factor in [-0.5, 0.5] of the circle, per sample; one channel stays as it is."""
    return _factor(inpt, "hue", hue_factor, backend, -0.5, 0.5)


@taking()
def adjust_sharpness(inpt, sharpness_factor, *, backend: str = "auto"):
    """Blend with a smoothed copy by a factor >= 0, per sample: 0 smooths, 1 keeps, 2 sharpens."""
    return _factor(inpt, "sharpness", sharpness_factor, backend)


@taking()
def adjust_gamma(inpt, gamma, gain=1.0, *, backend: str = "auto"):
    """Raise values in [0, 1] to the power gamma >= 0 and multiply by gain, both per sample."""
    name, b = "adjust_gamma", count(inpt)
    columns = [column(name, "gamma", gamma, b, low=0.0), column(name, "gain", gain, b)]
    return run(name, inpt, backend, columns, Explicit, "pixel", "gamma", ("gamma", "gain"))


@taking()
def rgb_to_grayscale(inpt, num_output_channels: int = 1, *, backend: str = "auto"):
    """Grey in 1 or 3 channels; see `gpuaug.Grayscale`."""
    channels = grey_channels("rgb_to_grayscale", num_output_channels)
    return run("rgb_to_grayscale", inpt, backend, (), Grayscale, channels)


to_grayscale = rgb_to_grayscale


@taking()
def grayscale_to_rgb(inpt):
    """Images of one channel with three equal ones; those of three or more stay as they are.

    Raises:
        ValueError: images of two channels.
    """
    c = inpt.shape[-3]
    if c == 2:
        raise ValueError("grayscale_to_rgb: images must have 1 channel, or 3 or more, got 2")
    return inpt.repeat_interleave(3, -3) if c == 1 else inpt


@taking()
def permute_channels(inpt, permutation, *, backend: str = "auto"):
    """Channel i becomes what channel permutation[i] was; per sample: [C] or [B, C], for 1 to 3 channels. Numbers below
    0 count from the last channel."""
    n = inpt.shape[-3]
    if n > 3:
        raise ValueError(f"permute_channels: images must have 1 to 3 channels, got {n}")
    columns = vector("permute_channels", "permutation", permutation, (n,), count(inpt), low=-n, high=n - 1, whole=True)
    columns = [tuple(k % n for k in c) if isinstance(c, tuple) else c for c in columns]
    names = tuple(f"channel{i}" for i in range(n))
    return run("permute_channels", inpt, backend, columns, Explicit, "pixel", "permute_channels", names)


@taking()
def posterize(inpt, bits, *, backend: str = "auto"):
    """Keep the highest `bits` in 0 .. 8 of each value, per sample."""
    bits = column("posterize", "bits", bits, count(inpt), low=0, high=8, whole=True)
    if isinstance(bits, tuple):
        return _adjust(inpt, "posterize", backend, tuple(2.0**n for n in bits))
    kept = bits.to(torch.float32).nan_to_num(0.0).clamp(0, 8).to(torch.int64)
    return _adjust(inpt, "posterize", backend, torch.ones_like(kept) << kept)


@taking()
def solarize(inpt, threshold, *, backend: str = "auto"):
    """Invert what is at least `threshold`, per sample, in the units of the pixels.

    Raises:
        TypeError: a threshold, given by numbers, above the largest value, 255 or 1 (as torchvision's).
    """
    bound = 1.0 if inpt.is_floating_point() else 255.0
    levels = column("solarize", "threshold", threshold, count(inpt))
    if isinstance(levels, tuple) and any(level > bound for level in levels):
        raise TypeError(f"solarize: threshold must be at most {bound:g} for {inpt.dtype}, got {shown(threshold)}")
    return _adjust(inpt, "solarize", backend, levels)


@taking()
def solarize_add(inpt, addition, threshold=None, *, backend: str = "auto"):
    """Add to what is below `threshold`, both per sample in the units of the pixels, and clamp; None is half the
    range."""
    name, b = "solarize_add", count(inpt)
    if threshold is None:
        threshold = 0.5 if inpt.is_floating_point() else 128.0
    columns = [column(name, "addition", addition, b), column(name, "threshold", threshold, b)]
    return run(name, inpt, backend, columns, Explicit, "pixel", name, ("addition", "threshold"))


@taking()
def invert(inpt, *, backend: str = "auto"):
    """255 - v or 1 - v."""
    return _adjust(inpt, "invert", backend)


@taking()
def autocontrast(inpt, *, backend: str = "auto"):
    """Stretch each channel from its least and greatest value to the whole range."""
    return _adjust(inpt, "autocontrast", backend)


@taking()
def equalize(inpt, *, backend: str = "auto"):
    """Equalize each channel's histogram of 256 levels."""
    return _adjust(inpt, "equalize", backend)
