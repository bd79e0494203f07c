"""Flips, crops, pads and resizes: axis-aligned geometry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..kernels.torch import dialect as torch_dialect
from ..lowering import Lowering
from ..messages import shown
from ..program import Call, Canvas
from .arguments import (
    MOST_SIDE,
    Fills,
    choice,
    fills_argument,
    flag,
    image_fill,
    interval,
    is_whole,
    pair,
    plain,
    probability,
    whole,
)
from .base import DRAWN, Transform, either_filter, fills, resampling, resize_argument, sides_fault

PADDING_MODES = ("constant", "edge", "reflect", "symmetric")


@dataclass(frozen=True)
class _Flip(Transform):
    """A mirroring, with probability `p`."""

    p: float = 0.5

    def __post_init__(self) -> None:
        self._plain()
        probability(type(self).__name__, self.p)

    def lower(self, build: Lowering) -> None:
        way = self._way
        with build.accept(self.p):
            build.geometry(f"flip_{way}", exact=True, call=lambda values, canvas: [(f"{way}_flip", {})])


class RandomHorizontalFlip(_Flip):
    """Mirror left and right with probability `p` (torchvision.transforms.v2.RandomHorizontalFlip)."""

    _way = "horizontal"


class RandomVerticalFlip(_Flip):
    """Mirror top and bottom with probability `p` (torchvision.transforms.v2.RandomVerticalFlip)."""

    _way = "vertical"


def pad_sides(op: str, padding: Any) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) from one int, two (left and right, top and bottom), or four."""
    v = plain(padding)
    values = v if isinstance(v, tuple) else (v,)
    if len(values) not in (1, 2, 4) or not all(is_whole(n) and n <= MOST_SIDE for n in values):
        raise ValueError(
            f"{op}: padding must be one, two or four whole numbers (left, top, right, bottom), got {shown(padding)}"
        )
    if min(values) < 0:
        raise ValueError(f"{op}: padding must not be negative, got {shown(padding)}; use a crop")
    left, top, right, bottom = (values * (4 // len(values)))[:4]
    return int(left), int(top), int(right), int(bottom)


def lower_pad(
    build: Lowering,
    sides: tuple[int, int, int, int],
    fill: Any,
    mode: str,
    needed: Canvas = (0, 0),
    halved: bool = False,
    described: bool = True,
) -> None:
    """A pad slot; further, where the canvas is smaller than `needed`, what it lacks on both sides, or `halved`."""
    arguments = (*sides, *needed, float(halved))

    def amounts(canvas: Canvas) -> list[int]:
        h, w = map(float, canvas)
        _, _, left, _, _, top, *_, height, width = torch_dialect.GEOMETRY["pad"](arguments, h, w)
        return [int(-left), int(-top), int(width - w + left), int(height - h + top)]

    def fault(canvas: Canvas) -> str | None:
        (h, w), (left, top, right, bottom) = canvas, amounts(canvas)
        limit = {"reflect": (h - 1, w - 1), "symmetric": (h, w)}.get(mode, (math.inf, math.inf))
        if max(top, bottom) > limit[0] or max(left, right) > limit[1]:
            most = max(left, top, right, bottom)
            return f"{mode} padding of {most} pixels needs a larger image than {h}x{w}; pad less, or use 'edge'"
        return sides_fault(canvas, (h + top + bottom, w + left + right))

    def call(values: Sequence[float], canvas: Canvas) -> list[Call]:
        padding = amounts(canvas)
        kwargs = {"padding": padding, "fill": image_fill(fill), "padding_mode": mode}
        return [("pad", kwargs)] if described and any(padding) else []

    if not build.any_canvas(lambda canvas: any(amounts(canvas))):
        return
    build.check_canvas(fault)
    colour = fills(build, fill) if mode == "constant" else {}
    build.geometry("pad", arguments, border=mode, **colour, call=call)


@dataclass(frozen=True)
class Pad(Transform):
    """Pad the border (torchvision.transforms.v2.Pad).

    Args:
        padding: pixels: one number, (left and right, top and bottom), or (left, top, right, bottom).
        fill: a number or one for each channel, in the units of the pixels; used by "constant". A number goes for masks
            too, which else get 0; or by kind, as {"image": 114, "mask": 255} or by torchvision's types.
        padding_mode: "constant", "edge", "reflect" (the edge is not repeated) or "symmetric" (it is).
    """

    padding: int | Sequence[int]
    fill: Fills = 0
    padding_mode: str = "constant"

    def __post_init__(self) -> None:
        self._plain()
        pad_sides("Pad", self.padding)
        choice("Pad", "padding_mode", self.padding_mode, PADDING_MODES)
        self._set(fill=fills_argument("Pad", self.fill))

    def lower(self, build: Lowering) -> None:
        lower_pad(build, pad_sides("Pad", self.padding), self.fill, self.padding_mode)


@dataclass(frozen=True)
class CenterCrop(Transform):
    """Cut out the middle, padding with 0 where the image is smaller (torchvision.transforms.v2.CenterCrop).

    Args:
        size: (height, width) in pixels, or one int for both.
    """

    size: int | Sequence[int]

    def __post_init__(self) -> None:
        self._plain()
        pair("CenterCrop", "size", self.size)

    def lower(self, build: Lowering) -> None:
        size = pair("CenterCrop", "size", self.size)
        lower_pad(build, (0, 0, 0, 0), 0, "constant", size, halved=True, described=False)
        build.geometry(
            "center_crop", size, exact=True, call=lambda values, canvas: [("center_crop", {"output_size": list(size)})]
        )


@dataclass(frozen=True)
class RandomCrop(Transform):
    """Cut out a window at a random place, after padding (torchvision.transforms.v2.RandomCrop).

    Args:
        size: (height, width) in pixels, or one int for both.
        padding, fill, padding_mode: as `Pad`; None pads nothing.
        pad_if_needed: pad a smaller image, by all that it lacks on both sides.

    Raises:
        ValueError: a window larger than the padded image.
    """

    size: int | Sequence[int]
    padding: int | Sequence[int] | None = None
    pad_if_needed: bool = False
    fill: Fills = 0
    padding_mode: str = "constant"

    def __post_init__(self) -> None:
        self._plain()
        pair("RandomCrop", "size", self.size)
        if self.padding is not None:
            pad_sides("RandomCrop", self.padding)
        flag("RandomCrop", "pad_if_needed", self.pad_if_needed)
        choice("RandomCrop", "padding_mode", self.padding_mode, PADDING_MODES)
        self._set(fill=fills_argument("RandomCrop", self.fill))

    def lower(self, build: Lowering) -> None:
        size = pair("RandomCrop", "size", self.size)
        sides = (0, 0, 0, 0) if self.padding is None else pad_sides("RandomCrop", self.padding)
        lower_pad(build, sides, self.fill, self.padding_mode, size if self.pad_if_needed else (0, 0))

        def fault(canvas: Canvas) -> str | None:
            (oh, ow), (h, w) = size, canvas
            fits = oh <= h and ow <= w
            told = f"the crop of {oh}x{ow} is larger than the image of {h}x{w}; pass padding= or pad_if_needed=True"
            return None if fits else told

        def call(values: Sequence[float], canvas: Canvas) -> list[Call]:
            top, left = (int(v) for v in values)
            return [("crop", {"top": top, "left": left, "height": size[0], "width": size[1]})]

        build.check_canvas(fault)
        build.geometry(
            "crop",
            (0, 0, *size),
            draw="draw_offset",
            configuration=size,
            columns=("top", "left"),
            exact=True,
            call=call,
        )


def resize_lengths(op: str, size: Any, max_size: Any) -> tuple[tuple[int, int], int]:
    """`size` as `pair`, and the most that the longer side may become, or 0."""
    height, width = pair(op, "size", size)
    if max_size is None:
        return (height, width), 0
    v, longest = plain(size), whole(op, "max_size", max_size, 1)
    if isinstance(v, tuple) and len(v) == 2:
        raise ValueError(f"{op}: max_size goes with one number as size, got size={shown(size)}")
    if longest <= height:
        raise ValueError(f"{op}: max_size must be larger than size={height}, got {shown(max_size)}")
    return (height, width), longest


@dataclass(frozen=True)
class Resize(Transform):
    """Resample to a fixed size (torchvision.transforms.v2.Resize).

    Args:
        size: (height, width), or one int for the shorter side, the longer following the aspect ratio.
        interpolation: "nearest", "nearest-exact", "bilinear", "bicubic" or "lanczos" (antialiased alone), or
            torchvision's enum, or Pillow's number.
        max_size: with one int, the most that the longer side may become.
        antialias: widen the filter with the downscale; ignored by the nearest ones.
    """

    size: int | Sequence[int]
    interpolation: Any = "bilinear"
    max_size: int | None = None
    antialias: bool = True

    def __post_init__(self) -> None:
        self._plain()
        _, longest = resize_lengths("Resize", self.size, self.max_size)
        interpolation = resize_argument("Resize", self.interpolation, self.antialias)
        self._set(max_size=longest or None, interpolation=interpolation)

    @property
    def _shorter(self) -> bool:
        return not isinstance(self.size, tuple) or len(self.size) == 1

    def lower(self, build: Lowering) -> None:
        size, longest = resize_lengths("Resize", self.size, self.max_size)
        sampling, border, rule = resampling(self.interpolation, bool(self.antialias))
        lengths = (size[0], longest) if self._shorter else size

        def fault(canvas: Canvas) -> str | None:
            short, long = map(int, torch_dialect.GEOMETRY["resize_length"](min(canvas), max(canvas), *lengths))
            return sides_fault(canvas, (short, long) if canvas[0] <= canvas[1] else (long, short))

        if self._shorter:
            build.check_canvas(fault)
        kwargs = {
            "size": [size[0]] if self._shorter else list(size),
            "interpolation": self.interpolation,
            "max_size": self.max_size,
            "antialias": bool(self.antialias),
        }
        build.geometry(
            "resize_shorter" if self._shorter else "resize",
            (*lengths, 0, 0, 0, 0, *rule),
            border=border,
            sampling=sampling,
            call=lambda values, canvas: [("resize", dict(kwargs))],
        )


@dataclass(frozen=True)
class RandomResizedCrop(Transform):
    """Cut out a window of random area and aspect ratio and resample it (torchvision.transforms.v2.RandomResizedCrop).

    Ten tries: area = H W U(scale), ratio log-uniform, sides rounded half to even, accepted if they fit, placed
    uniformly; then the largest centred window whose ratio lies in range.

    Args:
        size: (height, width) of the output in pixels, or one int for both.
        scale: lowest and highest fraction of the image's area.
        ratio: lowest and highest width / height, both positive and their logarithms within 5.
        interpolation, antialias: as `Resize`; "random" is bilinear or bicubic, drawn for each sample (timm).
    """

    size: int | Sequence[int]
    scale: Sequence[float] = (0.08, 1.0)
    ratio: Sequence[float] = (3.0 / 4.0, 4.0 / 3.0)
    interpolation: Any = "bilinear"
    antialias: bool = True

    def __post_init__(self) -> None:
        name = "RandomResizedCrop"
        self._plain()
        pair(name, "size", self.size)
        scale = interval(name, "scale", self.scale, 0.0)
        if scale[1] <= 0:
            raise ValueError(f"{name}: scale must not be 0, got {shown(self.scale)}")
        if scale[0] > 1:
            raise ValueError(f"{name}: scale must begin at 1 or below, or no window fits, got {shown(self.scale)}")
        ratio = interval(name, "ratio", self.ratio, math.exp(-5.0), math.exp(5.0))
        self._set(scale=scale, ratio=ratio)
        self._set(interpolation=resize_argument(name, self.interpolation, self.antialias, (DRAWN,)))

    def lower(self, build: Lowering) -> None:
        either_filter(build, self.interpolation, partial(self._lower, build))

    def _lower(self, build: Lowering, interpolation: str) -> None:
        size = pair("RandomResizedCrop", "size", self.size)
        sampling, border, rule = resampling(interpolation, bool(self.antialias))

        def call(values: Sequence[float], canvas: Canvas) -> list[Call]:
            kwargs = dict(zip(("top", "left", "height", "width"), (int(v) for v in values), strict=True))
            kwargs |= {"size": list(size), "interpolation": interpolation, "antialias": bool(self.antialias)}
            return [("resized_crop", kwargs)]

        build.geometry(
            "resized_crop",
            (0, 0, 0, 0, *size, *rule),
            draw="draw_resized_crop",
            configuration=(*self.scale, math.log(self.ratio[0]), math.log(self.ratio[1]), *self.ratio),
            columns=("top", "left", "height", "width"),
            border=border,
            sampling=sampling,
            call=call,
        )
