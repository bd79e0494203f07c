"""albumentations' ops on colours, types and neighbours, noise and holes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from .. import transforms as ours
from .albumentations_geometry import Ops, colour, flip
from .reading import Reading, chosen, plain_number

HUE = "hue turns by any angle, not in steps of 2 degrees"


def _jitter(source: Any, reading: Reading, p: float) -> Ops:
    parts = {name: tuple(getattr(source, name)) for name in ("brightness", "contrast", "saturation", "hue")}
    still = {"hue": (0, 0)}
    used = {name: pair for name, pair in parts.items() if pair != still.get(name, (1, 1))}
    if "hue" in used:
        reading.differs(HUE)
    return reading.applied(reading.make(ours.ColorJitter, **used), p)


def _hue(source: Any, reading: Reading, p: float) -> Ops:
    for name in ("sat_shift_limit", "val_shift_limit"):
        if tuple(getattr(source, name)) != (0, 0):
            told = "nothing is added to saturation and value; give 0, or use A.ColorJitter"
            return reading.lacks(told, **{name: getattr(source, name)})
    reading.differs(HUE)
    turn = tuple(v / 180.0 for v in source.hue_shift_limit)
    return reading.applied(reading.make(ours.ColorJitter, hue=turn), p)


def _gamma(source: Any, reading: Reading, p: float) -> Ops:
    return reading.make(ours.RandomGamma, gamma=tuple(v / 100.0 for v in source.gamma_limit), p=p)


def _gray(source: Any, reading: Reading, p: float) -> Ops:
    reading.refuse(source, "grey is 0.2989 r + 0.587 g + 0.114 b", method="weighted_average")
    reading.differs("grey is 0.2989 r + 0.587 g + 0.114 b, not 0.299 r, and truncated")
    if source.num_output_channels == 3:
        return reading.make(ours.RandomGrayscale, p=p)
    if p < 1.0:
        return reading.lacks("the number of channels is not drawn; give p=1 or 3", num_output_channels=1)
    return reading.make(ours.Grayscale, num_output_channels=source.num_output_channels)


def _solarize(source: Any, reading: Reading, p: float) -> Ops:
    limits = tuple(v * reading.bound for v in source.threshold_range)
    return reading.spread(ours.RandomSolarize, "threshold", limits, p, p=1.0)


def _posterize(source: Any, reading: Reading, p: float) -> Ops:
    if not all(isinstance(bits, int) for bits in source.num_bits):
        return reading.lacks("all channels keep as many bits; give (low, high)", num_bits=source.num_bits)
    return reading.any_of(ours.RandomPosterize, "bits", *source.num_bits, p, p=1.0)


def _equalize(source: Any, reading: Reading, p: float) -> Ops:
    reading.refuse(source, "channels are equalized one by one, all of the image", by_channels=True, mask=None)
    reading.differs("Pillow's table, which albumentations' is not, in either mode")
    return reading.make(ours.RandomEqualize, p=p)


def _autocontrast(source: Any, reading: Reading, p: float) -> Ops:
    reading.refuse(source, "nothing is cut off", cutoff=0, ignore=None)
    reading.refuse(source, "least and greatest value are stretched; give method='pil'", method="pil")
    return reading.make(ours.RandomAutocontrast, p=p)


def _normalize(source: Any, reading: Reading, p: float) -> Ops:
    reading.refuse(source, "use normalization='standard'", normalization="standard")
    if source.normalization != "standard":
        return []
    most = float(source.max_pixel_value)
    mean, std = (
        _numbers(v, most / (255.0 if reading.bound == 255 and most != 1.0 else 1.0)) for v in (source.mean, source.std)
    )
    scaled = [ours.ToDtype(torch.float32, scale=True)] if reading.bound == 255 and most != 1.0 else []
    if scaled and p < 1.0:
        return reading.lacks("the dtype is not drawn; give p=1", p=p)
    reading.bound = 1
    return [*scaled, *reading.applied(reading.make(ours.Normalize, mean=mean, std=std), p)]


def _numbers(value: Any, factor: float) -> tuple[float, ...]:
    values = value if isinstance(value, list | tuple | np.ndarray) else (value,)
    return tuple(plain_number(v) * factor for v in values)


def _to_float(source: Any, reading: Reading, p: float) -> Ops:
    most = source.max_value
    if p < 1.0 or most not in (None, 255, 255.0):
        return reading.lacks("uint8 becomes floats in [0, 1], always; give max_value=255, p=1", max_value=most, p=p)
    reading.bound = 1
    return [ours.ToDtype(torch.float32, scale=True)]


def _from_float(source: Any, reading: Reading, p: float) -> Ops:
    if p < 1.0 or source.dtype != "uint8" or source.max_value not in (None, 255, 255.0):
        return reading.lacks("floats become uint8, always", dtype=source.dtype, max_value=source.max_value, p=p)
    reading.bound = 255
    reading.differs("floats times 255.999 are truncated, not rounded times 255")
    return [ours.ToDtype(torch.uint8, scale=True)]


def _to_tensor(source: Any, reading: Reading, p: float) -> Ops:
    reading.refuse(source, "masks are [H, W] or [N, H, W]", transpose_mask=False)
    if p < 1.0:
        reading.lacks("what goes out is not drawn; give p=1", p=p)
    return [ours.ToImage(), ours.ToPureTensor()]


# --- neighbours, noise, holes -----------------------------------------------------------------------------------------
def _blur(source: Any, reading: Reading, p: float) -> Ops:
    low, high = map(int, source.blur_limit)
    sigma = tuple(source.sigma_limit)
    if sigma[0] <= 0:
        return reading.lacks("sigma is positive", sigma_limit=sigma)
    if high == 0:
        reading.differs("all kernels have the size that the largest sigma needs")
        sizes = [int(sigma[1] * 3.5) * 2 + 1]
    else:
        sizes = [n for n in range(max(low, 1), high + 1) if n % 2]
    options = [reading.make(ours.GaussianBlur, kernel_size=n, sigma=sigma) for n in sizes]
    return reading.applied(chosen(options) if options and all(options) else [], p)


def _noise(source: Any, reading: Reading, p: float) -> Ops:
    reading.refuse(source, "each channel has noise of its own", per_channel=True)
    reading.refuse(source, "noise is drawn for each pixel", noise_scale_factor=1)
    if source.mean_range[0] != source.mean_range[1]:
        return reading.lacks("the mean is one number", mean_range=source.mean_range)
    return reading.spread(ours.GaussianNoise, "sigma", source.std_range, p, mean=float(source.mean_range[0]))


def _salt(source: Any, reading: Reading, p: float) -> Ops:
    return reading.spread(ours.SaltAndPepper, "salt_vs_pepper", source.salt_vs_pepper, p, amount=source.amount, p=1.0)


def _compression(source: Any, reading: Reading, p: float) -> Ops:
    reading.refuse(source, "images are compressed as JPEG", compression_type="jpeg")
    reading.differs("red is compressed as red, not as blue")
    low, high = map(int, source.quality_range)
    return reading.applied(reading.make(ours.JPEG, quality=(low, high) if low < high else low), p)


def _erased(source: Any, reading: Reading) -> Any:
    """The colour of holes, which masks do not get."""
    if source.fill_mask is not None:
        reading.lacks("masks keep what lies under a hole", fill_mask=source.fill_mask)
    if isinstance(source.fill, str):
        reading.lacks("holes have one colour; give numbers", fill=source.fill)
        return 0
    return colour(source.fill)


def _dropout(source: Any, reading: Reading, p: float) -> Ops:
    sides = {"height": source.hole_height_range, "width": source.hole_width_range}
    whole = source.hole_height_range[1] >= 1
    sides = {name: tuple((int if whole else float)(v) for v in pair) for name, pair in sides.items()}
    holes = tuple(map(int, source.num_holes_range))
    return reading.make(ours.CoarseDropout, holes=holes, **sides, fill=_erased(source, reading), p=p)


def _erasing(source: Any, reading: Reading, p: float) -> Ops:
    reading.differs("height / width is log-uniform, and ten tries are made")
    ratio = tuple(1.0 / v for v in reversed(source.ratio))
    return reading.make(ours.RandomErasing, p=p, scale=tuple(source.scale), ratio=ratio, value=_erased(source, reading))


def _grid(source: Any, reading: Reading, p: float) -> Ops:
    reading.refuse(source, "the grid begins at random", random_offset=True)
    if source.holes_number_xy is not None:
        return reading.lacks("give unit_size_range", holes_number_xy=source.holes_number_xy)
    period = source.unit_size_range
    if period is None:
        if reading.canvas is None:
            return reading.lacks("the grid's period is in pixels; give unit_size_range", unit_size_range=None)
        period = (max(2, min(reading.canvas) // 10),) * 2
    reading.differs("the grid begins anywhere, and sides are rounded")
    fill, period = _erased(source, reading), tuple(map(int, period))
    return reading.make(ours.GridMask, period=period, ratio=float(source.ratio), fill=fill, p=p)


def _callable(source: Any, reading: Reading, p: float) -> Ops:
    return reading.lacks("takes functions of single targets; call them before or behind the pipeline")


COLOUR: dict[str, Callable[[Any, Reading, float], Ops]] = {
    "AutoContrast": _autocontrast,
    "ChannelShuffle": lambda source, reading, p: reading.applied([ours.RandomChannelPermutation()], p),
    "CoarseDropout": _dropout,
    "ColorJitter": _jitter,
    "Equalize": _equalize,
    "Erasing": _erasing,
    "FromFloat": _from_float,
    "GaussNoise": _noise,
    "GaussianBlur": _blur,
    "GridDropout": _grid,
    "HueSaturationValue": _hue,
    "ImageCompression": _compression,
    "InvertImg": flip(ours.RandomInvert),
    "Lambda": _callable,
    "NoOp": lambda source, reading, p: [ours.Identity()],
    "Normalize": _normalize,
    "Posterize": _posterize,
    "RandomGamma": _gamma,
    "SaltAndPepper": _salt,
    "Solarize": _solarize,
    "ToFloat": _to_float,
    "ToGray": _gray,
    "ToTensorV2": _to_tensor,
}
