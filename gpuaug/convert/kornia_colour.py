"""kornia's ops on colours and neighbours, noise and mixing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from .. import transforms as ours
from .kornia_geometry import Ops, ends, pair, plain, units, word
from .reading import Reading, chosen, plain_number

SHARE = "salt_vs_pepper"


def _jitter(source: Any, reading: Reading, p: float) -> Ops:
    drawn = source._param_generator
    if source._fixed_order is not None and len(source._fixed_order) > 1:
        return reading.lacks("the order is drawn; write a ColorJitter for each part", order=source._fixed_order)
    parts = ("brightness", "contrast", "saturation", "hue")
    limits = {name: ends(getattr(drawn, f"{name}_sampler")) for name in parts}
    if source._fixed_order is not None:
        limits = {name: pair for i, (name, pair) in enumerate(limits.items()) if i in source._fixed_order}
    used = {name: pair for name, pair in limits.items() if pair != ((0, 0) if name == "hue" else (1, 1))}
    if len(used) > 1:
        reading.differs("the order of its parts is drawn for each sample, not once for the batch")
    return reading.applied(reading.make(ours.ColorJitter, **used), p)


def _contrast(source: Any, reading: Reading, p: float) -> Ops:
    factor = ends(source._param_generator.sampler_dict["contrast_factor"])
    reading.refuse(source, "results are clamped", clip_output=True)
    return reading.applied(reading.make(ours.ColorJitter, brightness=factor), p)


def _hue(source: Any, reading: Reading, p: float) -> Ops:
    turn = ends(source._param_generator.sampler_dict["hue_factor"])
    return reading.applied(reading.make(ours.ColorJitter, hue=turn), p)


def _gamma(source: Any, reading: Reading, p: float) -> Ops:
    drawn = source._param_generator.sampler_dict
    gain = ends(drawn["gain_factor"])
    if gain[0] != gain[1]:
        return reading.lacks("one number multiplies; give (g, g)", gain=gain)
    return reading.make(ours.RandomGamma, gamma=ends(drawn["gamma_factor"]), gain=gain[0], p=p)


def _solarize(source: Any, reading: Reading, p: float) -> Ops:
    drawn = source._param_generator.sampler_dict
    additions, reading.in_floats = ends(drawn["additions"]), True
    if additions != (0, 0):
        return reading.lacks("nothing is added before; give additions=0.0", additions=additions)
    return reading.spread(ours.RandomSolarize, "threshold", ends(drawn["thresholds"]), p, p=1.0)


def _posterize(source: Any, reading: Reading, p: float) -> Ops:
    low, high = ends(source._param_generator.bit_sampler)
    reading.differs("floats are floored to one of 2^bits levels, not cut as bytes")
    bits = range(math.ceil(low - 0.5), math.floor(high + 0.5) + 1)
    weights = [max(0.0, min(high, n + 0.5) - max(low, n - 0.5)) for n in bits] if low != high else [1.0]
    found = [(n, w) for n, w in zip(bits, weights, strict=False) if w > 0.0]
    options = [reading.make(ours.RandomPosterize, bits=n, p=1.0) for n, _ in found]
    return reading.applied(chosen(options, [w for _, w in found]), p)


def _sharpness(source: Any, reading: Reading, p: float) -> Ops:
    factor = ends(source._param_generator.sampler_dict["sharpness"])
    return reading.spread(ours.RandomAdjustSharpness, "sharpness_factor", factor, p, p=1.0)


def _grayscale(source: Any, reading: Reading, p: float) -> Ops:
    if source.rgb_weights is not None:
        return reading.lacks("grey is 0.2989, 0.587, 0.114; leave it out", rgb_weights=source.rgb_weights)
    reading.differs("grey is 0.2989 r + 0.587 g + 0.114 b, not 0.299 r")
    return reading.make(ours.RandomGrayscale, p=p)


def _invert(source: Any, reading: Reading, p: float) -> Ops:
    value = plain_number(torch.as_tensor(source.flags["max_val"]).float())
    if value != 1:
        return reading.lacks("values are inverted in [0, 1]", max_val=value)
    return reading.make(ours.RandomInvert, p=p)


def _autocontrast(source: Any, reading: Reading, p: float) -> Ops:
    reading.refuse(source, "results are clamped", clip_output=True)
    return reading.make(ours.RandomAutocontrast, p=p)


def _normalize(source: Any, reading: Reading, p: float) -> Ops:
    reading.in_floats = True
    mean, std = (_several(source.flags[name]) for name in ("mean", "std"))
    return reading.applied(reading.make(ours.Normalize, mean=mean, std=std), p)


def _denormalize(source: Any, reading: Reading, p: float) -> Ops:
    reading.in_floats = True
    mean, std = (_several(source.flags[name]) for name in ("mean", "std"))
    mean, std = (v * (max(len(mean), len(std)) // len(v)) for v in (mean, std))
    inverse = {"mean": tuple(-m / s for m, s in zip(mean, std, strict=True)), "std": tuple(1 / s for s in std)}
    return reading.applied(reading.make(ours.Normalize, **inverse), p)


def _several(value: Any) -> tuple[float, ...]:
    return tuple(plain_number(v) for v in torch.as_tensor(value).flatten().float())


# --- neighbours, noise, mixing ----------------------------------------------------------------------------------------
def _blur(source: Any, reading: Reading, p: float) -> Ops:
    border, size = word(source.flags["border_type"]), source.flags["kernel_size"]
    if border != "reflect":
        reading.lacks("borders are reflected; use 'reflect'", border_type=border)
    kernel = size if isinstance(size, int) else (size[1], size[0])
    sigma = ends(source._param_generator.sigma_sampler)
    return reading.applied(reading.make(ours.GaussianBlur, kernel_size=kernel, sigma=sigma), p)


def _noise(source: Any, reading: Reading, p: float) -> Ops:
    drawn, reading.in_floats = source._param_generator, True
    return reading.applied(reading.make(ours.GaussianNoise, mean=drawn.mean, sigma=drawn.std, clip=False), p)


def _salt(source: Any, reading: Reading, p: float) -> Ops:
    drawn = source._param_generator
    rest = {"amount": ends(drawn.amount_sampler), "p": 1.0}
    return reading.spread(ours.SaltAndPepper, SHARE, ends(drawn.salt_and_pepper_sampler), p, **rest)


def _erasing(source: Any, reading: Reading, p: float) -> Ops:
    reading.differs("height / width is log-uniform, and ten tries are made")
    value = units(source.value, reading)
    return reading.make(ours.RandomErasing, p=p, scale=pair(source.scale), ratio=pair(source.ratio), value=value)


def _jpeg(source: Any, reading: Reading, p: float) -> Ops:
    low, high = ends(source._param_generator.jpeg_quality_sampler)
    reading.differs("libjpeg's pixels and whole qualities")
    low, high = math.ceil(low), math.floor(high)
    return reading.applied(reading.make(ours.JPEG, quality=(low, high) if low < high else low), p)


def _mixup(source: Any, reading: Reading, p: float) -> Ops:
    limits = ends(source._param_generator.lambda_sampler)
    if limits != (0, 1):
        return reading.lacks("lambda is Beta(alpha, alpha); None is uniform in [0, 1]", lambda_val=limits)
    reading.differs("the partner is the sample before, not drawn; labels become soft")
    return reading.applied(reading.make(ours.MixUp, alpha=1.0), p)


def _cutmix(source: Any, reading: Reading, p: float) -> Ops:
    drawn = source._param_generator
    if drawn.num_mix != 1:
        reading.lacks("one box is cut", num_mix=drawn.num_mix)
    if drawn.cut_size is not None and pair(drawn.cut_size) != (0, 1):
        reading.lacks("lambda is Beta(beta, beta), not clamped; leave it out", cut_size=drawn.cut_size)
    reading.differs("the partner is the sample before, boxes may be cut off by the border, labels become soft")
    alpha = 1.0 if drawn.beta is None else plain_number(torch.as_tensor(drawn.beta).float())
    return reading.applied(reading.make(ours.CutMix, alpha=alpha, correct_lam=bool(source.use_correct_lambda)), p)


COLOUR: dict[str, Callable[[Any, Reading, float], Ops]] = {
    "ColorJitter": _jitter,
    "Denormalize": _denormalize,
    "Normalize": _normalize,
    "RandomAutoContrast": _autocontrast,
    "RandomChannelShuffle": lambda source, reading, p: reading.applied([ours.RandomChannelPermutation()], p),
    "RandomContrast": _contrast,
    "RandomCutMixV2": _cutmix,
    "RandomEqualize": plain(ours.RandomEqualize),
    "RandomErasing": _erasing,
    "RandomGamma": _gamma,
    "RandomGaussianBlur": _blur,
    "RandomGaussianNoise": _noise,
    "RandomGrayscale": _grayscale,
    "RandomHue": _hue,
    "RandomInvert": _invert,
    "RandomJPEG": _jpeg,
    "RandomMixUpV2": _mixup,
    "RandomPosterize": _posterize,
    "RandomSaltAndPepperNoise": _salt,
    "RandomSharpness": _sharpness,
    "RandomSolarize": _solarize,
}
