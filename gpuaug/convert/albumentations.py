"""albumentations' pipelines (2.0), for uint8 images, or floats in [0, 1] behind ToFloat.

What is converted, but not the same, and is told when it is converted:

| albumentations | here |
|---|---|
| SmallestMaxSize, LongestMaxSize round the other side | it is truncated: a pixel less, at times |
| CenterCrop begins at (side - size) // 2 | half of the rest, rounded half to even: a pixel further, at times |
| Affine, ShiftScaleRotate: each axis draws its scale (keep_ratio=False) | one scale for both |
| Affine, ShiftScaleRotate: shifts are truncated to whole pixels | rounded |
| Affine: turns, then shears | shears, then turns |
| GaussianBlur(blur_limit=0): the kernel's size follows from sigma | the size that the largest sigma needs |
| GaussNoise, Solarize, SaltAndPepper: drawn deviations, thresholds, shares | one of eight values |
| Erasing: width / height is uniform, the area's range is cut to what fits | log-uniform, ten tries |
| ElasticTransform: noise is normal | uniform, of the same deviation |
| GridDropout: a grid begins within a unit's rest, sides are truncated | anywhere, sides are rounded |
| ToGray: grey is 0.299, 0.587, 0.114 | 0.2989, 0.587, 0.114, truncated for uint8 |
| Equalize: tables of its own, 5 levels off on a photo | Pillow's |
| ColorJitter, HueSaturationValue: hue in bytes, up to 5 levels off | to the bit as torchvision |
| ImageCompression gives red to the codec as blue, 2 levels off | RGB |
| INTER_NEAREST_EXACT: 3% other pixels | nearest-exact |
| Transpose, RandomRotate90, D4 of images that are not square | an odd side becomes one longer |
| boxes and keypoints are repeated in a mirrored border | they are not |
| keypoints turn about the middle pixel | about the middle of the canvas: up to a pixel away |
| FromFloat rounds | times 255.999, truncated |
| bboxes and keypoints are clipped and checked after each op | at the end |

Without a word: resizes do not antialias (antialias=False), as there; p of an op in OneOf is its weight, and the op that
is chosen acts; uint8 results of smooth resamplings may differ by a level from OpenCV's fixed-point arithmetic; images
that are not of the canvas' size where a unit depends on it raise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from .. import transforms as ours
from ..compose import Compose
from ..transforms import Transform
from .reading import Reading, chosen, plain_number, subsets, together
from .targets import BOX_FORMATS, POINT_FORMATS, Targets

Ops = list[Transform]
INTERPOLATIONS = {0: "nearest", 1: "bilinear", 2: "bicubic", 5: "bilinear", 6: "nearest-exact"}
CV2 = {0: "INTER_NEAREST", 1: "INTER_LINEAR", 2: "INTER_CUBIC", 3: "INTER_AREA", 4: "INTER_LANCZOS4"}
HUE = "hue turns by any angle, not in steps of 2 degrees"
BORDERS = {0: "constant", 1: "edge", 2: "symmetric", 4: "reflect"}
SEQUENCES = ("Compose", "ReplayCompose", "Sequential")
MEMBERS = ("OneOf", "SomeOf", "RandomOrder", "OneOrOther")


def read_albumentations(source: Any, reading: Reading, whole: bool, p: float | None = None) -> Ops:
    """A pipeline or an op; with the probability p in place of its own."""
    from . import read_all

    name = type(source).__name__
    p = float(source.p) if p is None else p
    if name in SEQUENCES:
        if name != "Sequential" and not whole:
            _inner(source, reading)
        if getattr(source, "mask_interpolation", None) not in (None, 0):
            reading.lacks("masks are read nearest", mask_interpolation=source.mask_interpolation)
        return reading.applied(read_all(source.transforms, reading), p)
    if name in MEMBERS:
        return _members(name, source, reading, p)
    if name not in OPS:
        return reading.lacks(MENDS.get(name, "leave it out, or apply albumentations' before the pipeline"))
    _masks(source, reading)
    return OPS[name](source, reading, p)


def _inner(source: Any, reading: Reading) -> None:
    for name in source.processors:
        reading.lacks(f"{name} belong to the pipeline around; give it there", **{f"{name}_params": "..."})


def _forced(source: Any, reading: Reading) -> Ops:
    """What acts for sure where it is chosen: all but SomeOf, which keeps its own p."""
    return read_albumentations(
        source, reading, False, None if type(source).__name__ in ("SomeOf", "RandomOrder") else 1.0
    )


def _members(name: str, source: Any, reading: Reading, p: float) -> Ops:
    canvas, options, behind = reading.canvas, [], set()
    for index, child in enumerate(source.transforms):
        with reading.at(index, child):
            forced = name in ("OneOf", "OneOrOther")
            reading.canvas = canvas
            options.append(_forced(child, reading) if forced else read_albumentations(child, reading, False))
            behind.add(reading.canvas)
    reading.canvas = behind.pop() if len(behind) == 1 and (p >= 1.0 or canvas in behind) else None
    if name == "OneOrOther":
        first, other = together(options[0]), together(options[-1])
        return reading.make(ours.RandomChoice, transforms=[first, other], p=[p, 1.0 - p])
    if name == "OneOf":
        return reading.applied(chosen(options, [child.p for child in source.transforms]), p)
    if source.replace and source.n > 1:
        return reading.lacks("ops are chosen once each; give replace=False", replace=True)
    if name == "RandomOrder" and source.n == len(options):
        return reading.applied(reading.make(ours.RandomOrder, transforms=[together(o) for o in options]), p)
    ways = subsets(options, source.n, name == "RandomOrder")
    if ways is None:
        return reading.lacks("too many ways to choose; twelve are the most", n=source.n)
    return reading.applied(chosen(ways), p)


def _masks(source: Any, reading: Reading) -> None:
    """Masks are read nearest, and boxes are the upright ones around what they became."""
    reading.refuse(source, "masks are read nearest", mask_interpolation=0)
    reading.refuse(source, "boxes are the upright ones around the corners", rotate_method="largest_box")
    reading.refuse(source, "resizes read by interpolation", area_for_downscale=None)


# --- geometry ---------------------------------------------------------------------------------------------------------
def _interpolation(source: Any, reading: Reading, warp: bool = False) -> str:
    value = int(source.interpolation)
    if value not in INTERPOLATIONS or (warp and value > 2):
        reading.lacks("use cv2.INTER_LINEAR, or a gpuaug op with antialias=True", interpolation=CV2.get(value, value))
        return "bilinear"
    if value == 6:
        reading.differs("INTER_NEAREST_EXACT meets another pixel now and then")
    return INTERPOLATIONS[value]


def _fill(source: Any) -> Any:
    """A fill of images and of masks."""
    image, mask = _colour(source.fill), _colour(getattr(source, "fill_mask", source.fill))
    return image if image == mask and not isinstance(image, tuple) else {"image": image, "mask": mask}


def _colour(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    found = tuple(map(_whole, value)) if isinstance(value, list | tuple | np.ndarray) else _whole(value)
    return found


def _whole(value: Any) -> float:
    number = plain_number(value)
    return int(number) if float(number).is_integer() else number


def _mode(source: Any, reading: Reading, constant: bool = False) -> str:
    mode = int(source.border_mode)
    if constant and mode != 0:
        told = "outside of the image is a fill; use cv2.BORDER_CONSTANT, or Pad in front and CenterCrop behind"
        reading.lacks(told, border_mode=mode)
    elif mode not in BORDERS:
        reading.lacks("the image is not repeated; use cv2.BORDER_REFLECT_101", border_mode=mode)
    return BORDERS.get(mode, "constant")


def _flip(kind: type) -> Callable:
    return lambda source, reading, p: reading.make(kind, p=p)


def _turned(reading: Reading, times: int) -> Ops:
    """A quarter turn, counter-clockwise, so many times; the canvas turns with it."""
    if times == 0:
        return [ours.Identity()]
    square = reading.canvas is not None and reading.canvas[0] == reading.canvas[1]
    if times % 2 and not square:
        if reading.canvas is None or any(side % 2 for side in reading.canvas):
            reading.differs("a quarter turn makes an odd side of an image that is not square one pixel longer")
        reading.canvas = None
    return [ours.RandomRotation((90 * times, 90 * times), expand=times % 2 == 1 and not square)]


def _quarters(source: Any, reading: Reading, p: float) -> Ops:
    return reading.applied(chosen([_turned(reading, n) for n in range(4)]), p)


def _symmetries(source: Any, reading: Reading, p: float) -> Ops:
    return reading.applied([*chosen([_turned(reading, n) for n in range(4)]), ours.RandomHorizontalFlip(0.5)], p)


def _transpose(source: Any, reading: Reading, p: float) -> Ops:
    return reading.applied([*_turned(reading, 1), ours.RandomVerticalFlip(1.0)], p)


def _sized(reading: Reading, size: tuple[int, int], p: float) -> None:
    """Behind it images have this size, where it always acts."""
    reading.canvas = size if p >= 1.0 else None


def _resized_crop(source: Any, reading: Reading, p: float) -> Ops:
    size = tuple(map(int, source.size))
    rest = {"scale": source.scale, "ratio": source.ratio, "interpolation": _interpolation(source, reading)}
    _sized(reading, size, p)
    return reading.applied(reading.make(ours.RandomResizedCrop, size=size, **rest, antialias=False), p)


def _resize(source: Any, reading: Reading, p: float) -> Ops:
    size = (int(source.height), int(source.width))
    _sized(reading, size, p)
    rest = {"interpolation": _interpolation(source, reading), "antialias": False}
    return reading.applied(reading.make(ours.Resize, size=size, **rest), p)


def _side(source: Any, reading: Reading, p: float) -> Ops:
    """SmallestMaxSize and LongestMaxSize."""
    reading.canvas = None
    if source.max_size_hw is not None:
        return reading.lacks("give max_size, or Resize", max_size_hw=source.max_size_hw)
    sizes = source.max_size if isinstance(source.max_size, list | tuple) else [source.max_size]
    longest = type(source).__name__ == "LongestMaxSize"
    reading.differs("the other side is truncated, not rounded")
    rest = {"interpolation": _interpolation(source, reading), "antialias": False}
    options = []
    for size in map(int, sizes):
        found = (
            (ours.RandomShortestSize, {"min_size": size, "max_size": size})
            if longest
            else (ours.Resize, {"size": size})
        )
        options.append(reading.make(found[0], **found[1], **rest))
    return reading.applied(chosen(options) if all(options) else [], p)


def _pad(source: Any, reading: Reading, p: float) -> Ops:
    padding = source.padding if isinstance(source.padding, int) else tuple(source.padding)
    reading.canvas = None
    found = reading.make(ours.Pad, padding=padding, fill=_fill(source), padding_mode=_mode(source, reading))
    return reading.applied(found, p)


def _pad_if_needed(source: Any, reading: Reading, p: float) -> Ops:
    reading.canvas = None
    reading.refuse(source, "the image stays in the middle", position="center")
    if source.pad_height_divisor or source.pad_width_divisor:
        divisors = (source.pad_height_divisor, source.pad_width_divisor)
        return reading.lacks(
            "give min_height and min_width", pad_height_divisor=divisors[0], pad_width_divisor=divisors[1]
        )
    size = (int(source.min_height), int(source.min_width))
    found = reading.make(ours.PadIfNeeded, size=size, fill=_fill(source), padding_mode=_mode(source, reading))
    return reading.applied(found, p)


def _cropped(kind: type, source: Any, reading: Reading, p: float) -> Ops:
    size = (int(source.height), int(source.width))
    padded = []
    if source.pad_if_needed:
        reading.refuse(source, "the image stays in the middle", pad_position="center")
        padded = reading.make(ours.PadIfNeeded, size=size, fill=_fill(source), padding_mode=_mode(source, reading))
    if kind is ours.CenterCrop:
        reading.differs("of an odd rest the crop may begin a pixel further")
    _sized(reading, size, p)
    return reading.applied([*padded, *reading.make(kind, size=size)], p)


def _random_crop(source: Any, reading: Reading, p: float) -> Ops:
    return _cropped(ours.RandomCrop, source, reading, p)


def _center_crop(source: Any, reading: Reading, p: float) -> Ops:
    return _cropped(ours.CenterCrop, source, reading, p)


def _rotate(source: Any, reading: Reading, p: float) -> Ops:
    reading.refuse(source, "the canvas stays; put CenterCrop behind", crop_border=False)
    _mode(source, reading, constant=True)
    rest = {"interpolation": _interpolation(source, reading, warp=True), "fill": _fill(source)}
    return reading.applied(reading.make(ours.RandomRotation, degrees=tuple(source.limit), **rest), p)


def _affine(source: Any, reading: Reading, p: float) -> Ops:
    if source.fit_output:
        mend = "the canvas stays; use gpuaug.RandomRotation(degrees, expand=True) and Resize"
        reading.lacks(mend, fit_output=True)
    reading.refuse(source, "scales are drawn from all of the range", balanced_scale=False)
    _mode(source, reading, constant=True)
    arguments = {
        "degrees": (-source.rotate[1] + 0.0, -source.rotate[0] + 0.0),
        "translate": _translate(source, reading),
        "scale": _scale(source, reading),
        "shear": _shear(source, reading),
        "interpolation": _interpolation(source, reading, warp=True),
        "fill": _fill(source),
    }
    return reading.applied(reading.make(ours.RandomAffine, **arguments), p)


def _axes(value: Any) -> tuple[tuple[float, float], tuple[float, float]]:
    return tuple(value["x"]), tuple(value["y"])


def _scale(source: Any, reading: Reading) -> tuple[float, float] | None:
    x, y = _axes(source.scale)
    if x != y:
        reading.lacks("both axes draw from one range; give a tuple", scale=source.scale)
    elif x[0] != x[1] and not source.keep_ratio:
        reading.differs("one scale is drawn for both axes")
    return None if x == (1, 1) else x


def _shear(source: Any, reading: Reading) -> tuple[float, ...] | None:
    x, y = _axes(source.shear)
    if x == y == (0, 0):
        return None
    if tuple(source.rotate) != (0, 0) or y != (0, 0):
        reading.differs("shears along x, then y, then turns")
    return x if y == (0, 0) else (*x, *y)


def _translate(source: Any, reading: Reading) -> tuple[float, float] | None:
    name = "translate_px" if source.translate_px is not None else "translate_percent"
    value = getattr(source, name)
    if value is None or _axes(value) == ((0, 0), (0, 0)):
        return None
    x, y = _axes(value)
    if name == "translate_px":
        if reading.canvas is None:
            reading.lacks("shifts are fractions of the image; give translate_percent", translate_px=value)
            return None
        height, width = reading.canvas
        x, y = tuple(v / width for v in x), tuple(v / height for v in y)
    if any(low != -high for low, high in (x, y)):
        reading.lacks("shifts lie in (-t, t)", **{name: value})
        return None
    reading.differs("shifts are rounded to whole pixels, not truncated")
    return x[1], y[1]


def _elastic(source: Any, reading: Reading, p: float) -> Ops:
    reading.refuse(source, "both axes have noise of their own", same_dxdy=False)
    _mode(source, reading, constant=True)
    normal = source.noise_distribution == "gaussian"
    if normal:
        reading.differs("noise is uniform, of the same deviation")
    alpha = float(source.alpha) * 2.0 * (math.sqrt(3.0) if normal else 1.0)
    rest = {"interpolation": _interpolation(source, reading, warp=True), "fill": _fill(source)}
    found = reading.make(ours.ElasticTransform, alpha=round(alpha, 6), sigma=float(source.sigma), **rest)
    return reading.applied(found, p)


# --- colour -----------------------------------------------------------------------------------------------------------
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
    return _colour(source.fill)


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


OPS: dict[str, Callable[[Any, Reading, float], Ops]] = {
    "Affine": _affine,
    "AutoContrast": _autocontrast,
    "CenterCrop": _center_crop,
    "ChannelShuffle": lambda source, reading, p: reading.applied([ours.RandomChannelPermutation()], p),
    "CoarseDropout": _dropout,
    "ColorJitter": _jitter,
    "D4": _symmetries,
    "ElasticTransform": _elastic,
    "Equalize": _equalize,
    "Erasing": _erasing,
    "FromFloat": _from_float,
    "GaussNoise": _noise,
    "GaussianBlur": _blur,
    "GridDropout": _grid,
    "HorizontalFlip": _flip(ours.RandomHorizontalFlip),
    "HueSaturationValue": _hue,
    "ImageCompression": _compression,
    "InvertImg": _flip(ours.RandomInvert),
    "Lambda": _callable,
    "LongestMaxSize": _side,
    "NoOp": lambda source, reading, p: [ours.Identity()],
    "Normalize": _normalize,
    "Pad": _pad,
    "PadIfNeeded": _pad_if_needed,
    "Posterize": _posterize,
    "RandomCrop": _random_crop,
    "RandomGamma": _gamma,
    "RandomResizedCrop": _resized_crop,
    "RandomRotate90": _quarters,
    "Resize": _resize,
    "Rotate": _rotate,
    "SaltAndPepper": _salt,
    "ShiftScaleRotate": _affine,
    "SmallestMaxSize": _side,
    "Solarize": _solarize,
    "SquareSymmetry": _symmetries,
    "ToFloat": _to_float,
    "ToGray": _gray,
    "ToTensorV2": _to_tensor,
    "Transpose": _transpose,
    "VerticalFlip": _flip(ours.RandomVerticalFlip),
}
BLURS = ("Blur", "MedianBlur", "MotionBlur", "GlassBlur", "AdvancedBlur", "Defocus", "ZoomBlur")
WARPS = ("GridDistortion", "OpticalDistortion", "PiecewiseAffine", "ThinPlateSpline", "GridElasticDeform")
MENDS = {
    **dict.fromkeys(BLURS, "use A.GaussianBlur"),
    **dict.fromkeys(WARPS, "use A.ElasticTransform"),
    **dict.fromkeys(("Sharpen", "UnsharpMask"), "use gpuaug.RandomAdjustSharpness(2.0)"),
    "RandomBrightnessContrast": "brightness is not added; use A.ColorJitter(brightness=..., contrast=...)",
    "RGBShift": "use A.ColorJitter(brightness=...), or write a gpuaug.pixel_op",
    "CLAHE": "use A.Equalize",
    "SafeRotate": "use A.Rotate, or gpuaug.RandomRotation(degrees, expand=True) and Resize",
    "Perspective": "corners move inward; use gpuaug.RandomPerspective(distortion_scale)",
    "RandomScale": "use gpuaug.ScaleJitter or gpuaug.RandomResize",
    "RandomSizedCrop": "use A.RandomResizedCrop",
    "Crop": "cut images before the pipeline, or use A.CenterCrop",
    "Mosaic": "use gpuaug.Mosaic(size), which takes the batch's samples",
}


# --- the adapter ------------------------------------------------------------------------------------------------------
def adapted(made: Compose, source: Any, adapter: bool | None) -> Compose | Targets:
    """With an adapter that is called by targets, where the pipeline has boxes, keypoints or others."""
    processors = getattr(source, "processors", {})
    others = getattr(source, "_additional_targets", {})
    replays = type(source).__name__ == "ReplayCompose"
    if not (processors or others or replays if adapter is None else adapter):
        return made
    keywords: dict[str, Any] = {}
    for name, key, formats in (("bboxes", "bbox", BOX_FORMATS), ("keypoints", "keypoint", POINT_FORMATS)):
        if name in processors:
            keywords[f"{key}_params"] = _params(processors[name].params, key, formats)
    if "bboxes" in processors:
        made.transforms = [ours.SetClampingMode(None), *made.transforms]
    if others:
        keywords["additional_targets"] = dict(others)
    if replays:
        keywords["save_key"] = source.save_key
    return Targets(made, **keywords)


def _params(params: Any, key: str, formats: tuple[str, ...]) -> dict[str, Any]:
    found = {"format": params.format, "label_fields": list(params.label_fields or [])}
    names = (
        "min_area",
        "min_visibility",
        "min_width",
        "min_height",
        "clip",
        "filter_invalid_bboxes",
        "max_accept_ratio",
    )
    for name in names if key == "bbox" else ("remove_invisible",):
        value = getattr(params, name)
        if value or name == "remove_invisible":
            found[name] = value
    return found
