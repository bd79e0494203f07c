"""Policies of torchvision: a few ops of a list for each sample, each with a magnitude of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..lowering import Lowering
from .arguments import Fills, as_float32, choice, fills_argument, interpolation_name, whole
from .base import Transform
from .ops import lower_adjustment
from .policy_tables import AUTOAUGMENT, BINS
from .warp import WARPS, lower_rotation, lower_shear, lower_translation

WARPED: dict[str, Callable] = {
    "ShearX": partial(lower_shear, axis=0),
    "ShearY": partial(lower_shear, axis=1),
    "TranslateX": partial(lower_translation, axis=0),
    "TranslateY": partial(lower_translation, axis=1),
    "Rotate": lower_rotation,
}
_ADJUSTED = {
    "Brightness": "brightness",
    "Color": "saturation",
    "Contrast": "contrast",
    "Sharpness": "sharpness",
    "Posterize": "posterize",
    "Solarize": "solarize",
    "AutoContrast": "autocontrast",
    "Equalize": "equalize",
    "Invert": "invert",
}
UNLEVELLED = ("Identity", "AutoContrast", "Equalize", "Invert")


def lower_op(build: Lowering, op: str, interpolation: str, fill: Fills, **drawn: Any) -> None:
    """Append a policy's op by its name, the argument drawn into a column that all ops of a slot share."""
    if op in WARPED:
        WARPED[op](build, interpolation=interpolation, fill=fill, **drawn)
    elif op in UNLEVELLED:
        if op != "Identity":
            lower_adjustment(build, _ADJUSTED[op])
    else:
        lower_adjustment(build, _ADJUSTED[op], **drawn)


@dataclass(frozen=True)
class Space:
    """The largest magnitude of each kind of op: shear (tangent), shift (pixels, and as part of the side), turn
    (degrees), factor (away from 1), bits (fewer than 8)."""

    shear: float
    pixels: float
    part: float
    turn: float
    factor: float
    bits: int

    def level(self, op: str, bins: int, first: int, count: int, bound: float) -> tuple[float, ...]:
        """Configuration of `kernels.shared.draw.draw_level` for one of `count` steps from `first` on, of `bins`."""
        start, end, part, signed, kind, offset, factor = 0.0, 0.0, 0.0, True, 0, 0.0, 1.0
        match op:
            case "ShearX" | "ShearY":
                end = self.shear
            case "TranslateX" | "TranslateY":
                end, part, kind = self.pixels, self.part, 2
            case "Rotate":
                end = self.turn
            case "Posterize":
                end, signed, kind = (bins - 1) / self.bits, False, 1
            case "Solarize":
                start, signed, factor = 1.0, False, bound
            case "Brightness" | "Color" | "Contrast" | "Sharpness":
                end, offset = self.factor, 1.0
        high = as_float32(part)
        return (start, end, high, part - high, op == "TranslateY", bins, first, count, signed, kind, offset, factor)


NARROW = Space(shear=0.3, pixels=0.0, part=150.0 / 331.0, turn=30.0, factor=0.9, bits=4)
WIDE = Space(shear=0.99, pixels=32.0, part=0.0, turn=135.0, factor=0.99, bits=6)
OPS = (
    "Identity",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Rotate",
    "Brightness",
    "Color",
    "Contrast",
    "Sharpness",
    "Posterize",
    "Solarize",
    "AutoContrast",
    "Equalize",
)


@dataclass(frozen=True)
class Policy(Transform):
    """What all policies share: the space, and the reading of `interpolation` and `fill`."""

    def _check_warps(self, others: Sequence[str] = ()) -> None:
        self._plain()
        name = type(self).__name__
        self._set(interpolation=interpolation_name(name, self.interpolation, (*WARPS, *others)))
        if self.fill is not None:
            self._set(fill=fills_argument(name, self.fill))

    def _check_bins(self) -> None:
        name = "num_magnitude_bins"
        self._set(**{name: whole(type(self).__name__, name, self.num_magnitude_bins, 2)})

    def _lower_op(self, build: Lowering, space: Space, op: str, bins: int, first: int, count: int) -> None:
        configuration = space.level(op, bins, first, count, build.bound)
        drawn = {"draw": "draw_level", "configuration": configuration, "columns": ("magnitude",)}
        lower_op(build, op, self.interpolation, self.fill, **drawn)

    def _lower_any(self, build: Lowering, space: Space, bins: int, first: int, count: int) -> None:
        build.branches([partial(self._lower_op, build, space, op, bins, first, count) for op in OPS], None)


@dataclass(frozen=True)
class RandAugment(Policy):
    """`num_ops` ops of fourteen, one after the other, all of one magnitude (torchvision.transforms.v2.RandAugment;
    Cubuk et al., arXiv 1909.13719). Unlike torchvision's, takes floating-point images too.

    Args:
        num_ops: how many; they may repeat.
        magnitude: a step in 0 .. num_magnitude_bins - 1. Signs are drawn.
        num_magnitude_bins: how many steps there are up to the largest magnitude.
        interpolation: "nearest", "bilinear" or "bicubic".
        fill: outside of a turned, sheared or shifted image; a number or one for each channel, None is 0.

    Raises:
        TypeError: on images of other than 1 or 3 channels.
    """

    num_ops: int = 2
    magnitude: int = 9
    num_magnitude_bins: int = 31
    interpolation: Any = "nearest"
    fill: Fills = None

    def __post_init__(self) -> None:
        self._check_bins()
        self._check_warps()
        self._set(
            num_ops=whole("RandAugment", "num_ops", self.num_ops, 0),
            magnitude=whole("RandAugment", "magnitude", self.magnitude, 0, self.num_magnitude_bins - 1),
        )

    def lower(self, build: Lowering) -> None:
        for k in range(self.num_ops):
            with build.op(k, self):
                self._lower_any(build, NARROW, self.num_magnitude_bins, self.magnitude, 1)


@dataclass(frozen=True)
class TrivialAugmentWide(Policy):
    """One op of fourteen, with a magnitude drawn from a wide range (torchvision.transforms.v2.TrivialAugmentWide;
    Müller and Hutter, arXiv 2103.10158). Arguments and errors as `RandAugment`.
    """

    num_magnitude_bins: int = 31
    interpolation: Any = "nearest"
    fill: Fills = None

    def __post_init__(self) -> None:
        self._check_bins()
        self._check_warps()

    def lower(self, build: Lowering) -> None:
        self._lower_any(build, WIDE, self.num_magnitude_bins, 0, self.num_magnitude_bins)


@dataclass(frozen=True)
class AutoAugment(Policy):
    """One of 25 pairs of ops, each op with its own probability and magnitude (torchvision.transforms.v2.AutoAugment;
    Cubuk et al., arXiv 1805.09501).

    Args:
        policy: "imagenet", "cifar10" or "svhn", or torchvision's enum.
        interpolation, fill: as `RandAugment`, and so are the errors.
    """

    policy: Any = "imagenet"
    interpolation: Any = "nearest"
    fill: Fills = None

    def __post_init__(self) -> None:
        policy = getattr(self.policy, "value", self.policy)
        self._set(policy=choice("AutoAugment", "policy", policy, tuple(AUTOAUGMENT)))
        self._check_warps()

    def lower(self, build: Lowering) -> None:
        def lower_step(op: str, step: int) -> None:
            self._lower_op(build, NARROW, op, BINS, step, 1)

        lower_pairs(build, self, AUTOAUGMENT[self.policy], lower_step)


def lower_pairs(build: Lowering, policy: Transform, pairs: Sequence, lower_step: Callable[[str, int], None]) -> None:
    """One of a policy's sequences of (op, probability, magnitude)."""

    def lower_pair(pair: Sequence) -> None:
        for k, (op, p, step) in enumerate(pair):
            if p > 0.0:
                with build.op(k, policy), build.accept(p):
                    lower_step(op, step)

    build.branches([partial(lower_pair, pair) for pair in pairs], None)
