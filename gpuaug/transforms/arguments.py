"""The reading of arguments: what each may be, in one place, and errors that name the op, the argument and the value.

Every reader takes the op's name, the argument's and its value, and raises a ValueError of one line. Numbers may be
Python's, numpy's or tensors without an axis; sequences may be any, numpy arrays and tensors of one axis among them.
"""

from __future__ import annotations

import math
import numbers
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..kernels.shared import geometry
from ..messages import meant, shown

FILTERS = {
    "nearest": geometry.NEAREST,
    "nearest-exact": geometry.NEAREST,
    "bilinear": geometry.LINEAR,
    "bicubic": geometry.CUBIC,
    "lanczos": geometry.LANCZOS,
}
Fill = float | Sequence[float] | None  # one number, or one for each channel; None is the op's default
Fills = Fill | Mapping[Any, Fill]  # or one by kind
_KINDS = {"image": "image", "Image": "image", "Video": "image", "Tensor": "image", "mask": "mask", "Mask": "mask"}
MOST_SIDE = 1 << 24  # pixels; whole numbers up to here are exact in float32, which coordinates are
INF = math.inf
FLOAT32 = 3.4028234663852886e38  # the largest finite one
_PLAIN = frozenset((float, int, bool, type(None)))
_PIL_CODES = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


def plain(value: Any) -> Any:
    """`value` with Python's numbers and tuples in place of tensors, arrays, numpy's scalars and other sequences."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        try:
            value = value.tolist()
        except RuntimeError:  # of the meta device, sparse, ...: it has no values to read
            return value
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return tuple(value) if _PLAIN.issuperset(map(type, value)) else tuple(plain(v) for v in value)
    return value


def is_number(value: Any) -> bool:
    """Whether a plain value is a real number that float32 can hold: neither NaN nor infinite."""
    if type(value) is float:
        return -FLOAT32 <= value <= FLOAT32
    try:
        return isinstance(value, numbers.Real) and abs(float(value)) <= FLOAT32
    except OverflowError:  # a whole number beyond float64
        return False


def is_whole(value: Any) -> bool:
    """Whether a plain value is an int, or a float without a fraction; True and False are not."""
    return is_number(value) and not isinstance(value, bool) and float(value).is_integer()


def limits(low: float, high: float, above: float | None = None) -> str:
    """What a number must be, as errors say it."""
    if above is not None:
        return f"a finite number above {above:g}"
    if high == INF:
        return "a finite number" if low == -INF else f"a finite number of at least {low:g}"
    return f"a number in [{low:g}, {high:g}]"


def number(
    op: str, name: str, value: Any, low: float = -INF, high: float = INF, *, above: float | None = None
) -> float:
    """A finite number in [low, high], or greater than `above`."""
    v = plain(value)
    if not is_number(v) or not low <= v <= high or (above is not None and not v > above):
        raise ValueError(f"{op}: {name} must be {limits(low, high, above)}, got {shown(value)}")
    return float(v)


def whole(op: str, name: str, value: Any, low: int, high: int = MOST_SIDE) -> int:
    """A whole number in low .. high."""
    v = plain(value)
    if not is_whole(v) or not low <= v <= high:
        raise ValueError(f"{op}: {name} must be a whole number in {low} .. {high}, got {shown(value)}")
    return int(v)


def probability(op: str, p: Any, name: str = "p") -> float:
    """A number in [0, 1]."""
    return number(op, name, p, 0.0, 1.0)


def flag(op: str, name: str, value: Any) -> bool:
    """True or False; None means False."""
    v = plain(value)
    if v is not None and not (isinstance(v, numbers.Integral) and v in (0, 1)):
        raise ValueError(f"{op}: {name} must be True or False, got {shown(value)}")
    return bool(v)


def as_float32(value: float) -> float:
    """What float32 makes of a number: with it a call replays to the bit."""
    rounded = struct.unpack("f", struct.pack("f", value))[0]
    return value if rounded == value else rounded


def choice(op: str, name: str, value: Any, allowed: Sequence[str]) -> str:
    """One of some words."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{op}: {name} must be one of {', '.join(allowed)}, got {shown(value)}{meant(value, allowed)}")
    return value


def interpolation_name(op: str, value: Any, allowed: Sequence[str]) -> str:
    """The name of an interpolation given as a string, torchvision's enum or Pillow's number."""
    name = plain(getattr(value, "value", value))
    if isinstance(name, int) and not isinstance(name, bool):
        name = _PIL_CODES.get(name, name)
    return choice(op, "interpolation", name if isinstance(name, str) else value, allowed)


def pair(op: str, name: str, value: Any) -> tuple[int, int]:
    """(height, width) from one whole number or two, all positive."""
    v = plain(value)
    values = v if isinstance(v, tuple) else (v,)
    if len(values) not in (1, 2) or not all(is_whole(n) and 1 <= n <= MOST_SIDE for n in values):
        raise ValueError(
            f"{op}: {name} must be one whole number or (height, width), in 1 .. {MOST_SIDE}, got {shown(value)}"
        )
    return int(values[0]), int(values[-1])


def ends(value: Any) -> tuple:
    """(low, high) of a plain value: the two that it has, or one number twice."""
    return value if isinstance(value, tuple) else (value, value)


def interval(op: str, name: str, value: Any, low: float = -INF, high: float = INF) -> tuple[float, float]:
    """Two ascending numbers in [low, high]."""
    v = plain(value)
    if not isinstance(v, tuple) or len(v) != 2 or not all(is_number(n) for n in v):
        raise ValueError(f"{op}: {name} must be two finite numbers (low, high), got {shown(value)}")
    if not low <= v[0] <= v[1] <= high:
        raise ValueError(f"{op}: {name} must ascend within [{low:g}, {high:g}], got {shown(value)}")
    return float(v[0]), float(v[1])


def angle_interval(op: str, name: str, value: Any) -> tuple[float, float]:
    """(low, high) in degrees from two numbers, or from one that means plus and minus."""
    v = plain(value)
    if isinstance(v, tuple):
        return interval(op, name, v)
    if not is_number(v) or v < 0:
        raise ValueError(f"{op}: {name} must be one number, not negative, or two (low, high), got {shown(value)}")
    return -float(v), float(v)


def shear_interval(op: str, name: str, value: Any) -> tuple[float, float]:
    """As `angle_interval`, without 90 degrees (or 270, ...), at which an image would be leaned to nothing."""
    low, high = angle_interval(op, name, value)
    if math.floor((high - 90.0) / 180.0) >= math.ceil((low - 90.0) / 180.0):
        raise ValueError(f"{op}: {name} must not reach 90 degrees, at which nothing is left, got {shown(value)}")
    return low, high


def fill_argument(op: str, fill: Any, name: str = "fill") -> float | tuple[float, ...]:
    """One number, or one for each channel, in the units of the stage's pixels; None means 0."""
    v = plain(fill)
    if v is None:
        return 0.0
    if is_number(v) or (isinstance(v, tuple) and v and all(is_number(n) for n in v)):
        return v
    raise ValueError(f"{op}: {name} must be a finite number or one for each channel, got {shown(fill)}")


def fills_argument(op: str, fill: Any) -> float | tuple[float, ...] | dict[str, Any]:
    """`fill_argument`, or such by kind: "image", "mask" and "others", or torchvision's types, as {"image", "mask"};
    others of a defaultdict are its default's."""
    if not isinstance(fill, Mapping):
        return fill_argument(op, fill)
    found: dict[str, Any] = {}
    for key, value in fill.items():
        name = key.__name__ if isinstance(key, type) else key
        kind = "others" if name == "others" else _KINDS.get(name)
        value = fill_argument(op, value, f"fill[{name!r}]")
        if kind is None and name not in ("BoundingBoxes", "KeyPoints"):
            raise ValueError(f"{op}: fill is by 'image', 'mask' and 'others', got {shown(key)}")
        if found.setdefault(kind, value) != value:
            raise ValueError(f"{op}: fill has two values for images, {shown(found[kind])} and {shown(value)}")
    if "others" not in found and getattr(fill, "default_factory", None) is not None:
        found["others"] = fill_argument(op, fill.default_factory(), "fill of others")
    others = found.get("others")
    if found.get("image", others) is None:
        raise ValueError(f"{op}: fill says nothing of images; add 'image' or 'others' to {shown(fill)}")
    by_kind = {kind: found.get(kind, others) for kind in ("image", "mask")}
    if isinstance(by_kind["mask"], tuple):
        raise ValueError(f"{op}: fill of masks must be one number, got {shown(by_kind['mask'])}")
    return by_kind


def image_fill(fill: Any) -> float | tuple[float, ...]:
    """What of `fills_argument` images take; of None 0."""
    return 0 if fill is None else fill["image"] if isinstance(fill, Mapping) else fill


def mask_fill(fill: Any) -> float | None:
    """What of `fills_argument` masks take: as torchvision's, a number goes for them too; 0 for a colour, None where
    none is named."""
    if isinstance(fill, Mapping):
        return fill["mask"]
    return fill if is_number(fill) else 0


def center_argument(op: str, center: Any) -> tuple[float, float] | None:
    """None, or (x, y) in pixels from the upper left corner."""
    v = plain(center)
    if v is None:
        return None
    if not isinstance(v, tuple) or len(v) != 2 or not all(is_number(c) for c in v):
        raise ValueError(f"{op}: center must be (x, y) in pixels, got {shown(center)}")
    return float(v[0]), float(v[1])


def kernel_sizes(op: str, value: Any) -> tuple[int, int]:
    """(width, height) of a kernel, both odd."""
    v = plain(value)
    sizes = v if isinstance(v, tuple) else (v,)
    if len(sizes) not in (1, 2) or not all(is_whole(n) and 0 < n <= MOST_SIDE and n % 2 for n in sizes):
        raise ValueError(f"{op}: kernel_size must be odd and positive, one or (width, height), got {shown(value)}")
    return int(sizes[0]), int(sizes[-1])
