"""What every description shares: the base class and the reading of arguments."""

from __future__ import annotations

import math
import numbers
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..kernels import geometry

if TYPE_CHECKING:
    from ..lowering import Lowering
    from ..program import Canvas

FILTERS = {
    "nearest": geometry.NEAREST,
    "nearest-exact": geometry.NEAREST,
    "bilinear": geometry.LINEAR,
    "bicubic": geometry.CUBIC,
}
_PIL_CODES = {0: "nearest", 2: "bilinear", 3: "bicubic"}


@dataclass(frozen=True)
class Transform:
    """A frozen description of one op: its arguments, checked, and how it lowers to slots.

    It holds no state and no random numbers; `Compose` draws. Called on images by itself, it stands for
    `Compose([self])`, with a fresh seed each time.
    """

    def lower(self, build: Lowering) -> None:
        """Append this op's slots."""
        raise NotImplementedError

    def __call__(self, images, *labels, **keywords):
        from ..compose import Compose

        return Compose([self])(images, *labels, **keywords)

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


def interpolation_name(op: str, value: Any, allowed: Sequence[str]) -> str:
    """The name of an interpolation given as a string, torchvision's enum or Pillow's number.

    Raises:
        ValueError: it is unknown, or `op` does not offer it.
    """
    name = getattr(value, "value", value)
    if isinstance(name, int) and not isinstance(name, bool):
        name = _PIL_CODES.get(name, name)
    if name not in allowed:
        raise ValueError(f"{op}: interpolation must be one of {', '.join(allowed)}, got {value!r}")
    return name


def pair(op: str, name: str, value: Any) -> tuple[int, int]:
    """(height, width) from one int or two, all positive."""
    values = [value] * 2 if isinstance(value, numbers.Integral) else list(value) if isinstance(value, Sequence) else []
    if len(values) == 1:
        values *= 2
    if len(values) != 2 or not all(isinstance(v, numbers.Integral) and v > 0 for v in values):
        raise ValueError(f"{op}: {name} must be a positive int or (height, width), got {value!r}")
    return int(values[0]), int(values[1])


def probability(op: str, p: Any, name: str = "p") -> float:
    """A number in [0, 1]."""
    if not isinstance(p, numbers.Real) or not 0.0 <= p <= 1.0:
        raise ValueError(f"{op}: {name} must lie in [0, 1], got {p!r}")
    return float(p)


def number(op: str, name: str, value: Any) -> float:
    """A finite number."""
    if not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise ValueError(f"{op}: {name} must be a number, got {value!r}")
    return float(value)


def as_float32(value: float) -> float:
    """What float32 makes of a number: with it a call replays to the bit."""
    rounded = struct.unpack("f", struct.pack("f", value))[0]
    return value if rounded == value else rounded


def interval(
    op: str, name: str, value: Any, low: float = -float("inf"), high: float = float("inf")
) -> tuple[float, float]:
    """Two ascending numbers within [low, high]."""
    if not isinstance(value, Sequence) or len(value) != 2 or not all(isinstance(v, numbers.Real) for v in value):
        raise ValueError(f"{op}: {name} must be two numbers (low, high), got {value!r}")
    a, b = float(value[0]), float(value[1])
    if not low <= a <= b <= high:
        raise ValueError(f"{op}: {name} must ascend within [{low:g}, {high:g}], got {value!r}")
    return a, b


def angle_interval(op: str, name: str, value: Any) -> tuple[float, float]:
    """(low, high) in degrees from two numbers, or from one that means plus and minus."""
    if isinstance(value, numbers.Real):
        if value < 0:
            raise ValueError(f"{op}: {name} as a single number must not be negative, got {value!r}")
        return -float(value), float(value)
    return interval(op, name, value)


def fill_argument(op: str, fill: Any, name: str = "fill") -> float | tuple[float, ...]:
    """One number, or one for each channel, in the units of the stage's pixels; None means 0."""
    if fill is None:
        return 0.0
    if isinstance(fill, numbers.Real):
        return fill
    if isinstance(fill, Sequence) and fill and all(isinstance(f, numbers.Real) for f in fill):
        return tuple(fill)
    raise ValueError(f"{op}: {name} must be a number or one number for each channel, got {fill!r}")


def fill_by_channel(build: Lowering, fill: float | tuple[float, ...], name: str = "fill") -> list[float]:
    """`fill` for each of the stage's channels; errors call it `name`.

    Raises:
        ValueError: the wrong count, or not a value of uint8 where the stage is uint8.
    """
    values = [fill] * build.channels if isinstance(fill, numbers.Real) else list(fill)
    if len(values) == 1:
        values *= build.channels
    if len(values) != build.channels:
        raise build.fail(f"{name} has {len(values)} values for images of {build.channels} channels: {fill!r}")
    if build.bound == 255 and not all(0 <= v <= 255 and v == int(v) for v in values):
        raise build.fail(f"{name} must hold whole numbers in 0 .. 255 for uint8 images, got {fill!r}")
    return [float(v) for v in values]


def center_argument(op: str, center: Any) -> tuple[float, float] | None:
    """None, or (x, y) in pixels from the upper left corner."""
    if center is None:
        return None
    if not isinstance(center, Sequence) or len(center) != 2 or not all(isinstance(c, numbers.Real) for c in center):
        raise ValueError(f"{op}: center must be (x, y) in pixels, got {center!r}")
    return float(center[0]), float(center[1])


def resampling(interpolation: str, antialias: bool) -> tuple[int, str, tuple[float, float]]:
    """(filter, border, (antialias flag, nearest rule)) of a resize: the last two are a[6], a[7] of
    `geometry.resized_crop`."""
    if interpolation == "nearest":
        return geometry.NEAREST, "edge", (0.0, 1.0)
    if interpolation == "nearest-exact":
        return geometry.NEAREST, "edge", (0.0, 2.0)
    if not antialias:
        return FILTERS[interpolation], "edge", (0.0, 0.0)
    return (geometry.LINEAR if interpolation == "bilinear" else geometry.CUBIC_AA), "drop", (1.0, 0.0)


def smallest(canvases: frozenset[Canvas]) -> Canvas:
    """The smallest height and the smallest width."""
    return min(h for h, _ in canvases), min(w for _, w in canvases)
