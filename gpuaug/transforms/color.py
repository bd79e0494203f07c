"""Pixel ops. Each is one formula of `kernels.pixel` and one description here."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .base import Transform, interval, probability

if TYPE_CHECKING:
    from ..program import Lowering

Factor = float | Sequence[float] | None


def _factor_interval(name: str, value: Factor) -> tuple[float, float] | None:
    """[max(0, 1 - v), 1 + v] of a number v, or the two numbers given; None where nothing would change."""
    if value is None:
        return None
    if isinstance(value, numbers.Real):
        if value < 0:
            raise ValueError(f"ColorJitter: {name} as a single number must not be negative, got {value!r}")
        value = (max(1.0 - value, 0.0), 1.0 + value)
    low, high = interval("ColorJitter", name, value, 0.0)
    return None if low == high == 1.0 else (low, high)


@dataclass(frozen=True)
class ColorJitter(Transform):
    """Jitter brightness and contrast in an order drawn for each sample (torchvision.transforms.v2.ColorJitter).

    Args:
        brightness, contrast: a factor drawn from [max(0, 1 - v), 1 + v], or from the interval given. Brightness
            multiplies; contrast blends with the image's mean grey (0.2989, 0.587, 0.114) as it stands at that point.
            The result is clamped to [0, 255] (uint8, truncated) or [0, 1].
        saturation, hue: not in this release; anything but None or 0 raises.

    Raises:
        TypeError: on images of other than 1 or 3 channels.
    """

    brightness: Factor = None
    contrast: Factor = None
    saturation: Factor = None
    hue: Factor = None

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast"):
            value = getattr(self, name)
            _factor_interval(name, value)
            self._set(**{name: tuple(float(v) for v in value) if isinstance(value, Sequence) else value})
        for name in ("saturation", "hue"):
            if getattr(self, name) not in (None, 0, 0.0):
                raise NotImplementedError(
                    f"ColorJitter: {name}={getattr(self, name)!r} is not in this release; "
                    f"leave {name} out, or jitter it with torchvision"
                )

    def lower(self, build: Lowering) -> None:
        parts = []
        for name, statistic in (("brightness", False), ("contrast", True)):
            limits = _factor_interval(name, getattr(self, name))
            if limits is not None:
                parts.append(lambda n=name, c=limits, s=statistic: _adjust(build, n, c, s))
        if parts:
            build.require_colour()
        if len(parts) == 1:
            parts[0]()
        elif parts:
            build.shuffled(parts)


def _adjust(build: Lowering, name: str, limits: tuple[float, float], statistic: bool) -> None:
    build.pixel(
        name,
        draw="draw_uniform",
        configuration=limits,
        columns=(f"{name}_factor",),
        statistic=statistic,
        call=lambda values, canvas: [(f"adjust_{name}", {f"{name}_factor": values[0]})],
    )


@dataclass(frozen=True)
class RandomSolarize(Transform):
    """With probability `p`, invert all values of at least `threshold` (torchvision.transforms.v2.RandomSolarize).

    Args:
        threshold: in the units of the pixels: 0 .. 255 for uint8, 0 .. 1 for floating point.
    """

    threshold: float
    p: float = 0.5

    def __post_init__(self) -> None:
        probability("RandomSolarize", self.p)
        if not isinstance(self.threshold, numbers.Real):
            raise ValueError(f"RandomSolarize: threshold must be a number, got {self.threshold!r}")

    def lower(self, build: Lowering) -> None:
        if self.threshold > build.bound:
            raise build.fail(f"threshold {self.threshold!r} is above the largest {build.dtype} value, {build.bound}")
        _pointwise(build, self.p, "solarize", (self.threshold,), threshold=self.threshold)


@dataclass(frozen=True)
class RandomInvert(Transform):
    """With probability `p`, invert all values: 255 - v or 1 - v (torchvision.transforms.v2.RandomInvert)."""

    p: float = 0.5

    def __post_init__(self) -> None:
        probability("RandomInvert", self.p)

    def lower(self, build: Lowering) -> None:
        _pointwise(build, self.p, "invert")


def _pointwise(build: Lowering, p: float, op: str, arguments: Sequence[float] = (), **kwargs: Any) -> None:
    with build.accept(p):
        build.pixel(op, arguments, call=lambda values, canvas: [(op, dict(kwargs))])
