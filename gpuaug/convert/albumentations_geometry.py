"""albumentations' geometric ops."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import transforms as ours
from ..transforms import Transform
from .reading import Reading, chosen, plain_number

Ops = list[Transform]
INTERPOLATIONS = {0: "nearest", 1: "bilinear", 2: "bicubic", 5: "bilinear", 6: "nearest-exact"}
CV2 = {0: "INTER_NEAREST", 1: "INTER_LINEAR", 2: "INTER_CUBIC", 3: "INTER_AREA", 4: "INTER_LANCZOS4"}
BORDERS = {0: "constant", 1: "edge", 2: "symmetric", 4: "reflect"}


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
    image, mask = colour(source.fill), colour(getattr(source, "fill_mask", source.fill))
    return image if image == mask and not isinstance(image, tuple) else {"image": image, "mask": mask}


def colour(value: Any) -> Any:
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


def flip(kind: type) -> Callable:
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


GEOMETRY: dict[str, Callable[[Any, Reading, float], Ops]] = {
    "Affine": _affine,
    "CenterCrop": _center_crop,
    "D4": _symmetries,
    "ElasticTransform": _elastic,
    "HorizontalFlip": flip(ours.RandomHorizontalFlip),
    "LongestMaxSize": _side,
    "Pad": _pad,
    "PadIfNeeded": _pad_if_needed,
    "RandomCrop": _random_crop,
    "RandomResizedCrop": _resized_crop,
    "RandomRotate90": _quarters,
    "Resize": _resize,
    "Rotate": _rotate,
    "ShiftScaleRotate": _affine,
    "SmallestMaxSize": _side,
    "SquareSymmetry": _symmetries,
    "Transpose": _transpose,
    "VerticalFlip": flip(ours.RandomVerticalFlip),
}
