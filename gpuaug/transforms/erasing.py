"""Ops that erase parts of an image: rectangles, holes, grids."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from ..kernels.torch import dialect as torch_dialect
from ..lowering import Lowering
from ..messages import shown
from ..program import Call, Canvas
from .arguments import MOST_SIDE, Fill, choice, ends, fill_argument, flag, interval, is_whole, probability
from .base import Transform, fill_by_channel

RECTANGLE = ("top", "left", "height", "width")
NOISE = {"random": 1.0, "channel": 0.0}


def colour_blocks(build: Lowering, colour: Sequence[float]) -> list[list[float]]:
    """A colour by the stage's channels as `by_channel` of `Lowering.pixel`: at places 4 .. 6 of eight."""
    values = build.by_channel(colour)
    values = values + [0.0] * (-len(values) % 3)
    return [[0.0] * 4 + values[i : i + 3] + [0.0] for i in range(0, len(values), 3)]


def erase_call(values: Sequence[float], value: torch.Tensor) -> list[Call]:
    """torchvision's call for a rectangle (top, left, height, width); nothing where it is empty."""
    i, j, h, w = (int(v) for v in values[:4])
    return [("erase", {"i": i, "j": j, "h": h, "w": w, "v": value})] if h and w else []


def noise_patch(values: Sequence[float], by_pixel: float, channels: int) -> torch.Tensor:
    """The noise of a rectangle and its seeds, float32 [C, height, width]."""
    top, left, height, width = (int(v) for v in values[:4])
    y = torch.arange(top, top + height, dtype=torch.float32, device="cpu")[:, None].expand(height, width)
    x = torch.arange(left, left + width, dtype=torch.float32, device="cpu").expand(height, width)
    planes = []
    for triple in range((channels + 2) // 3):
        p = (*values[:6], by_pixel, float(triple))
        planes += torch_dialect.PIXEL["erase_noise"](x, x, x, x, y, p, 1.0, 0.0, float(channels))
    return torch.stack(planes[:channels])


@dataclass(frozen=True)
class RandomErasing(Transform):
    """With probability `p`, erase a rectangle of random area and shape (torchvision.transforms.v2.RandomErasing).

    Ten tries: area = H W U(scale), ratio log-uniform, sides rounded half to even, accepted if both are less than the
    image's, placed uniformly; if none fits, nothing is erased. It acts where it stands in the list: behind `Normalize`,
    `value` is in normalised units.

    Args:
        scale: lowest and highest fraction of the image's area.
        ratio: lowest and highest height / width, both positive and their logarithms within 5.
        value: a number or one for each channel, in the units of the pixels; or standard normal noise: "random" for
            each pixel and channel, "channel" for each channel (timm's `rand` mode).
        inplace: accepted for torchvision's sake; the output is always new.

    Raises:
        TypeError: noise on uint8 images.
    """

    p: float = 0.5
    scale: Sequence[float] = (0.02, 0.33)
    ratio: Sequence[float] = (0.3, 3.3)
    value: Any = 0
    inplace: bool = False

    def __post_init__(self) -> None:
        name = "RandomErasing"
        self._plain()
        probability(name, self.p)
        flag(name, "inplace", self.inplace)
        self._set(
            scale=interval(name, "scale", self.scale, 0.0, 1.0),
            ratio=interval(name, "ratio", self.ratio, math.exp(-5.0), math.exp(5.0)),
        )
        if isinstance(self.value, str):
            choice(name, "value", self.value, tuple(NOISE))
        else:
            self._set(value=fill_argument(name, self.value, "value"))

    def lower(self, build: Lowering) -> None:
        drawn = {
            "draw": "draw_erase",
            "configuration": (*self.scale, math.log(self.ratio[0]), math.log(self.ratio[1])),
            "needs": "place",
        }
        channels = build.channels
        if isinstance(self.value, str):
            build.require_float()
            by_pixel = NOISE[self.value]

            def noise(values: Sequence[float], canvas: Canvas) -> list[Call]:
                return erase_call(values, noise_patch(values, by_pixel, channels))

            with build.accept(self.p):
                arguments, columns = (*[0] * 6, by_pixel), (*RECTANGLE, "seed0", "seed1")
                build.pixel("erase_noise", arguments, columns=columns, call=noise, **drawn)
        else:
            with build.accept(self.p):
                lower_erase(build, fill_by_channel(build, self.value, "value"), RECTANGLE, **drawn)


def lower_erase(build: Lowering, colour: Sequence[float], columns: Sequence[str], **drawn: Any) -> None:
    """A slot that fills the rectangle drawn into `columns` with a colour."""

    def call(values: Sequence[float], canvas: Canvas) -> list[Call]:
        return erase_call(values, torch.tensor(colour, dtype=torch.float32, device="cpu").view(-1, 1, 1))

    build.pixel("erase", columns=columns, by_channel=colour_blocks(build, colour), call=call, **drawn)


def _counts(op: str, value: Any) -> tuple[int, int]:
    """(low, high) of a number of holes."""
    if not all(is_whole(v) for v in ends(value)):
        raise ValueError(f"{op}: holes must be whole numbers, got {shown(value)}")
    low, high = interval(op, "holes", ends(value), 1.0)
    return int(low), int(high)


def _lengths(op: str, name: str, value: Any) -> tuple[tuple[float, float], bool]:
    """(low, high) of a side, and whether they are fractions of the image."""
    low, high = interval(op, name, ends(value), 0.0, MOST_SIDE)
    pixels = all(isinstance(v, int) and not isinstance(v, bool) for v in ends(value))
    if not pixels and high > 1.0:
        raise ValueError(f"{op}: {name} must be ints (pixels) or fractions in [0, 1], got {shown(value)}")
    if pixels and low < 1:
        raise ValueError(f"{op}: {name} must be at least 1 pixel, got {shown(value)}")
    return (low, high), not pixels


@dataclass(frozen=True)
class CoarseDropout(Transform):
    """With probability `p`, erase a random number of rectangles (DeVries and Taylor, "Cutout", arXiv 1708.04552, with
    several holes; the name is albumentations').

    Args:
        holes: (fewest, most), or one int.
        height, width: (low, high) of a hole, or one number: ints are pixels, floats fractions of the image's side; both
            in the same unit. Each lies inside of the image; they may overlap.
        fill: a number or one for each channel, in the units of the pixels.
    """

    holes: int | Sequence[int] = (1, 8)
    height: float | Sequence[float] = (8, 8)
    width: float | Sequence[float] = (8, 8)
    fill: Fill = 0
    p: float = 0.5

    def __post_init__(self) -> None:
        name = "CoarseDropout"
        self._plain()
        _counts(name, self.holes)
        (_, tall), (_, wide) = _lengths(name, "height", self.height), _lengths(name, "width", self.width)
        if tall != wide:
            raise ValueError(
                f"{name}: height and width must both be pixels (ints) or both fractions (floats), got "
                f"{shown(self.height)} and {shown(self.width)}"
            )
        self._set(fill=fill_argument(name, self.fill))
        probability(name, self.p)

    def lower(self, build: Lowering) -> None:
        fewest, most = _counts("CoarseDropout", self.holes)
        height, fractions = _lengths("CoarseDropout", "height", self.height)
        width, _ = _lengths("CoarseDropout", "width", self.width)
        colour = fill_by_channel(build, self.fill)
        drawn = {"draw": "draw_hole", "configuration": (*height, *width, float(fractions)), "needs": "place"}
        with build.accept(self.p):
            count = -1
            if most > fewest:
                count = build.gate("draw_integer", (most - fewest + 1, fewest), "holes", counts=True)
            for k in range(most):
                with build.behind(count, k) if k >= fewest else nullcontext():
                    lower_erase(build, colour, tuple(f"{side}{k}" for side in RECTANGLE), **drawn)


@dataclass(frozen=True)
class GridMask(Transform):
    """With probability `p`, erase a grid of squares (Chen et al., "GridMask data augmentation", arXiv 2001.04086,
    without its rotation).

    `describe` names `gpuaug.functional.grid_mask`: torchvision lacks it.

    Args:
        period: (low, high) of the grid's period in pixels, or one int, at least 2; each sample draws a whole number,
            and where the grid begins.
        ratio: of a square's side to the period, in [0, 1], rounded to whole pixels.
        fill: a number or one for each channel, in the units of the pixels.
    """

    period: int | Sequence[int] = (96, 224)
    ratio: float = 0.5
    fill: Fill = 0
    p: float = 0.5

    def __post_init__(self) -> None:
        name = "GridMask"
        self._plain()
        interval(name, "period", ends(self.period), 2.0, MOST_SIDE)
        if not all(is_whole(v) for v in ends(self.period)):
            raise ValueError(f"{name}: period must be whole numbers of pixels, got {shown(self.period)}")
        self._set(fill=fill_argument(name, self.fill))
        probability(name, self.ratio, "ratio")
        probability(name, self.p)

    def lower(self, build: Lowering) -> None:
        names = ("period", "offset_x", "offset_y", "side")

        def call(values: Sequence[float], canvas: Canvas) -> list[Call]:
            return [("grid_mask", {**{n: int(v) for n, v in zip(names, values, strict=True)}, "fill": self.fill})]

        colour = fill_by_channel(build, self.fill)
        with build.accept(self.p):
            build.pixel(
                "grid_mask",
                draw="draw_grid",
                configuration=(*ends(self.period), self.ratio),
                columns=names,
                needs="place",
                by_channel=colour_blocks(build, colour),
                call=call,
            )
