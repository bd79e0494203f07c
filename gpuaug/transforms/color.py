"""Colour ops. Each is one formula of `kernels.shared.pixel` and one description here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..lowering import Lowering
from ..messages import shown
from ..program import Call, Canvas
from .arguments import interval, is_number, number, probability, whole
from .base import Transform
from .ops import lower_adjustment

Factor = float | Sequence[float] | None
JITTERED = ("brightness", "contrast", "saturation", "hue")


def _factor_interval(name: str, value: Factor) -> tuple[float, float] | None:
    """[max(0, 1 - v), 1 + v] ([-v, v] for hue) of a number v, or the two numbers given; None where nothing changes."""
    if value is None:
        return None
    still, low, high = (0.0, -0.5, 0.5) if name == "hue" else (1.0, 0.0, float("inf"))
    if not isinstance(value, tuple):
        if not is_number(value) or value < 0:
            raise ValueError(
                f"ColorJitter: {name} must be one number, not negative, or two (low, high), got {shown(value)}"
            )
        value = (max(still - value, low) if still else -value, still + value)
    limits = interval("ColorJitter", name, value, low, high)
    return None if limits == (still, still) else limits


@dataclass(frozen=True)
class ColorJitter(Transform):
    """Jitter brightness, contrast, saturation and hue in an order drawn for each sample
    (torchvision.transforms.v2.ColorJitter).

    Args:
        brightness, contrast, saturation: a factor drawn from [max(0, 1 - v), 1 + v], or from the interval given.
            Brightness multiplies; contrast blends with the image's mean grey (0.2989, 0.587, 0.114) as it stands at
            that point; saturation blends with the pixel's own grey.
        hue: a turn in HSV drawn from [-v, v], or from the interval given, within [-0.5, 0.5] (1 is the full circle).
            After each the result is clamped to [0, 255] (uint8, truncated) or [0, 1]. Saturation and hue leave images
            of one channel as they are.

    Raises:
        TypeError: on images of other than 1 or 3 channels.
    """

    brightness: Factor = None
    contrast: Factor = None
    saturation: Factor = None
    hue: Factor = None

    def __post_init__(self) -> None:
        self._plain()
        for name in JITTERED:
            _factor_interval(name, getattr(self, name))

    def lower(self, build: Lowering) -> None:
        parts = []
        for name in JITTERED:
            limits = _factor_interval(name, getattr(self, name))
            if limits is not None:
                parts.append(lambda n=name, c=limits: _jitter(build, n, c))
        if len(parts) == 1:
            parts[0]()
        elif parts:
            build.shuffled(parts)


def _jitter(build: Lowering, name: str, limits: tuple[float, float]) -> None:
    lower_adjustment(build, name, columns=(f"{name}_factor",), draw="draw_uniform", configuration=limits)


@contextmanager
def _accepted(build: Lowering, p: float, column: str) -> Iterator[None]:
    """As `build.accept`, under a column's name of its own."""
    with build.behind(build.gate("draw_accept", (p,), column), 1):
        yield


@dataclass(frozen=True)
class RandomPhotometricDistort(Transform):
    """Brightness, contrast, saturation, hue and the order of the channels, each with probability `p`; contrast comes
    before saturation and hue or, as often, after them (torchvision.transforms.v2.RandomPhotometricDistort; Liu et al.,
    "SSD: Single Shot MultiBox Detector", arXiv 1512.02325).

    Args:
        brightness, contrast, saturation: (low, high) of a factor, not negative, as in `ColorJitter`.
        hue: (low, high) within [-0.5, 0.5].

    Raises:
        TypeError: on images of other than 1 or 3 channels.
    """

    brightness: Sequence[float] = (0.875, 1.125)
    contrast: Sequence[float] = (0.5, 1.5)
    saturation: Sequence[float] = (0.5, 1.5)
    hue: Sequence[float] = (-0.05, 0.05)
    p: float = 0.5

    def __post_init__(self) -> None:
        name = "RandomPhotometricDistort"
        for part in JITTERED:
            low, high = (-0.5, 0.5) if part == "hue" else (0.0, float("inf"))
            self._set(**{part: interval(name, part, getattr(self, part), low, high)})
        probability(name, self.p)

    def lower(self, build: Lowering) -> None:
        build.require_colour()
        with _accepted(build, self.p, "brightness_applied"):
            _jitter(build, "brightness", self.brightness)
        before = (1.0 - self.p, 1.0 - 0.5 * self.p, *[2.0] * 10)
        contrast = build.gate("draw_weighted", before, "contrast_place")
        with build.behind(contrast, 1):
            _jitter(build, "contrast", self.contrast)
        for name in ("saturation", "hue"):
            with _accepted(build, self.p, f"{name}_applied"):
                _jitter(build, name, getattr(self, name))
        with build.behind(contrast, 2):
            _jitter(build, "contrast", self.contrast)
        with _accepted(build, self.p, "permuted"):
            _permute(build)


@dataclass(frozen=True)
class RandomChannelPermutation(Transform):
    """Put the channels into an order drawn for each sample (torchvision.transforms.v2.RandomChannelPermutation).

    Raises:
        TypeError: on images of more than 3 channels.
    """

    def lower(self, build: Lowering) -> None:
        if build.channels > 3:
            raise TypeError(str(build.fail(f"expects images of 1 to 3 channels but meets {build.channels}")))
        _permute(build)


def _permute(build: Lowering) -> None:
    n = build.channels
    if n > 1:
        build.pixel(
            "permute_channels",
            (0, 1, 2),
            draw="draw_permutation",
            configuration=(n,),
            columns=tuple(f"channel{i}" for i in range(n)),
            call=lambda values, canvas: [("permute_channels", {"permutation": [int(v) for v in values]})],
        )


def grey_channels(op: str, value: Any) -> int:
    """1 or 3."""
    n = whole(op, "num_output_channels", value, 1, 3)
    if n == 2:
        raise ValueError(f"{op}: num_output_channels must be 1 or 3, got 2")
    return n


@dataclass(frozen=True)
class Grayscale(Transform):
    """Make images grey (torchvision.transforms.v2.Grayscale): 0.2989 r + 0.587 g + 0.114 b, truncated for uint8.

    Args:
        num_output_channels: 1, or 3 equal ones. Three channels are also made of images that have one.

    Raises:
        TypeError: on images of other than 1 or 3 channels.
    """

    num_output_channels: int = 1

    def __post_init__(self) -> None:
        self._set(num_output_channels=grey_channels("Grayscale", self.num_output_channels))

    def lower(self, build: Lowering) -> None:
        build.require_colour()
        if build.channels == self.num_output_channels == 1:
            return
        lower_grey(build, self.num_output_channels)
        build.become(self.num_output_channels)


@dataclass(frozen=True)
class RGB(Transform):
    """Three equal channels of images that have one (torchvision.transforms.v2.RGB); those of three stay.

    Raises:
        TypeError: on images of other than 1 or 3 channels.
    """

    def lower(self, build: Lowering) -> None:
        build.require_colour()
        if build.channels == 1:
            build.spread(lambda values, canvas: [("grayscale_to_rgb", {})])


def lower_grey(build: Lowering, channels: int) -> None:
    """A slot that makes images grey, described as of so many channels."""
    call: Call = ("rgb_to_grayscale", {"num_output_channels": channels})
    build.pixel("grayscale", call=lambda values, canvas: [(call[0], dict(call[1]))])


@dataclass(frozen=True)
class RandomGrayscale(Transform):
    """With probability `p`, make an image grey and keep its number of channels
    (torchvision.transforms.v2.RandomGrayscale).

    Raises:
        TypeError: on images of other than 1 or 3 channels.
    """

    p: float = 0.1

    def __post_init__(self) -> None:
        self._set(p=probability("RandomGrayscale", self.p))

    def lower(self, build: Lowering) -> None:
        build.require_colour()
        with build.accept(self.p):
            lower_grey(build, build.channels)


@dataclass(frozen=True)
class RandomSolarize(Transform):
    """With probability `p`, invert all values of at least `threshold` (torchvision.transforms.v2.RandomSolarize).

    Args:
        threshold: in the units of the pixels: at most 255 for uint8, 1 for floating point.
    """

    threshold: float
    p: float = 0.5

    def __post_init__(self) -> None:
        self._plain()
        probability("RandomSolarize", self.p)
        number("RandomSolarize", "threshold", self.threshold)

    def lower(self, build: Lowering) -> None:
        if self.threshold > build.bound:
            raise build.fail(f"threshold {self.threshold!r} is above the largest {build.dtype} value, {build.bound}")
        with build.accept(self.p):
            lower_adjustment(build, "solarize", self.threshold)


@dataclass(frozen=True)
class SolarizeAdd(Transform):
    """With probability `p`, add to all values below `threshold`, and clamp (the op of AutoAugment's TPU policy "v0";
    torchvision lacks it).

    Args:
        addition: in the units of the pixels; whole for uint8.
        threshold: likewise; None is half of the range: 128 for uint8, 0.5 for floating point.
    """

    addition: float
    threshold: float | None = None
    p: float = 0.5

    def __post_init__(self) -> None:
        self._plain()
        probability("SolarizeAdd", self.p)
        number("SolarizeAdd", "addition", self.addition)
        if self.threshold is not None:
            number("SolarizeAdd", "threshold", self.threshold)

    def lower(self, build: Lowering) -> None:
        if build.bound == 255 and self.addition != int(self.addition):
            raise build.fail(f"addition must be a whole number for uint8 images, got {self.addition!r}")
        threshold = half(build) if self.threshold is None else self.threshold
        with build.accept(self.p):
            lower_solarize_add(build, threshold, self.addition)


def lower_solarize_add(build: Lowering, threshold: float, addition: float = 0.0, **drawn: Any) -> None:
    """A slot that adds a fixed number, or one drawn, below a threshold."""

    def call(values: Sequence[float], canvas: Canvas) -> list[Call]:
        return [("solarize_add", {"addition": values[0] if values else addition, "threshold": threshold})]

    build.pixel("solarize_add", (addition, threshold), call=call, **drawn)


def half(build: Lowering) -> float:
    """The middle of the stage's range."""
    return 128.0 if build.bound == 255 else 0.5


@dataclass(frozen=True)
class RandomPosterize(Transform):
    """With probability `p`, keep the `bits` highest bits of each value (torchvision.transforms.v2.RandomPosterize).

    Args:
        bits: 0 .. 8. Floating-point values are floored to one of 2^bits levels.
    """

    bits: int
    p: float = 0.5

    def __post_init__(self) -> None:
        self._plain()
        probability("RandomPosterize", self.p)
        self._set(bits=whole("RandomPosterize", "bits", self.bits, 0, 8))

    def lower(self, build: Lowering) -> None:
        with build.accept(self.p):
            lower_adjustment(build, "posterize", 2.0**self.bits)


@dataclass(frozen=True)
class _Applied(Transform):
    """An op without arguments, with probability `p`."""

    p: float = 0.5

    def __post_init__(self) -> None:
        self._set(p=probability(type(self).__name__, self.p))

    def lower(self, build: Lowering) -> None:
        with build.accept(self.p):
            lower_adjustment(build, self._op)


class RandomInvert(_Applied):
    """With probability `p`, invert all values: 255 - v or 1 - v (torchvision.transforms.v2.RandomInvert)."""

    _op = "invert"


class RandomAutocontrast(_Applied):
    """With probability `p`, stretch each channel from its least and greatest value in the image to the whole range
    (torchvision.transforms.v2.RandomAutocontrast).

    Raises:
        TypeError: on images of other than 1 or 3 channels.
    """

    _op = "autocontrast"


class RandomEqualize(_Applied):
    """With probability `p`, equalize each channel's histogram (torchvision.transforms.v2.RandomEqualize).

    Floating-point images are counted in 256 levels, and become multiples of 1 / 255.

    Raises:
        TypeError: on images of other than 1 or 3 channels.
    """

    _op = "equalize"


@dataclass(frozen=True)
class RandomGamma(Transform):
    """With probability `p`, raise values in [0, 1] to a power (torchvision's functional `adjust_gamma`, drawn).

    Args:
        gamma: (low, high), not negative: below 1 brightens, above darkens.
        gain: what the result is multiplied by, and clamped, unless it is 1.
    """

    gamma: Sequence[float]
    gain: float = 1.0
    p: float = 0.5

    def __post_init__(self) -> None:
        self._plain()
        interval("RandomGamma", "gamma", self.gamma, 0.0)
        number("RandomGamma", "gain", self.gain)
        probability("RandomGamma", self.p)

    def lower(self, build: Lowering) -> None:
        def call(values: Sequence[float], canvas: Canvas) -> list[Call]:
            return [("adjust_gamma", {"gamma": values[0], "gain": self.gain})]

        with build.accept(self.p):
            build.pixel(
                "gamma", (0, self.gain), draw="draw_uniform", configuration=self.gamma, columns=("gamma",), call=call
            )
