"""timm's resizes and crops that torchvision lacks, by its names and arguments (timm.data.transforms)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..kernels.torch import dialect as torch_dialect
from ..lowering import Lowering
from ..program import Call, Canvas
from .arguments import Fills, choice, fills_argument, flag, image_fill, interval, number, pair, probability, whole
from .base import DRAWN, Transform, either_filter, fills, resize_argument, sides_fault
from .geometry import PADDING_MODES, lower_pad
from .resizing import lower_resize


@dataclass(frozen=True)
class ResizeKeepRatio(Transform):
    """Resize so that one side fits a target and the other follows, then by a random factor and a random change of the
    aspect ratio (timm.data.transforms.ResizeKeepRatio). Each is drawn for each sample; antialiased.

    Args:
        size: (height, width) of the target in pixels, or one int for both.
        longest: 0 lets the side fit that then covers the target, 1 the one that then lies within it; in between, the
            mean of both factors.
        interpolation: as `Resize`; "random" is bilinear or bicubic, drawn for each sample.
        random_scale_prob, random_scale_range: how often the size is scaled, and by what.
        random_scale_area: the scale is of areas as those of `RandomResizedCrop`: 1 / sqrt(scale) of the sides.
        random_aspect_prob, random_aspect_range: how often width / height changes, and by what, log-uniform.
    """

    size: int | Sequence[int]
    longest: float = 0.0
    interpolation: Any = "bilinear"
    random_scale_prob: float = 0.0
    random_scale_range: Sequence[float] = (0.85, 1.05)
    random_scale_area: bool = False
    random_aspect_prob: float = 0.0
    random_aspect_range: Sequence[float] = (0.9, 1.11)

    def __post_init__(self) -> None:
        name = "ResizeKeepRatio"
        self._plain()
        pair(name, "size", self.size)
        self._set(longest=number(name, "longest", self.longest, 0.0, 1.0))
        self._set(interpolation=resize_argument(name, self.interpolation, True, (DRAWN,)))
        scale, area = "random_scale", flag(name, "random_scale_area", self.random_scale_area)
        self._set(random_scale_area=area)
        for argument in (scale, "random_aspect"):
            self._set(**{f"{argument}_prob": probability(name, getattr(self, f"{argument}_prob"), f"{argument}_prob")})
            value = getattr(self, f"{argument}_range")
            low, high = interval(name, f"{argument}_range", value, math.exp(-5.0), math.exp(5.0))
            self._set(**{f"{argument}_range": (low, high)})

    def lower(self, build: Lowering) -> None:
        either_filter(build, self.interpolation, partial(self._lower, build))

    def _configuration(self) -> tuple[float, ...]:
        scale = (self.random_scale_prob, *self.random_scale_range, self.random_scale_area)
        aspect = (self.random_aspect_prob, *(math.log(v) for v in self.random_aspect_range))
        return (*pair("ResizeKeepRatio", "size", self.size), self.longest, *scale, *aspect)

    def _lower(self, build: Lowering, interpolation: str) -> None:
        configuration, draw = self._configuration(), torch_dialect.DRAW["draw_keep_ratio"]

        def sizes(canvas: Canvas) -> list[Canvas]:
            h, w = map(float, canvas)
            scales = [s**-0.5 if self.random_scale_area else s for s in self.random_scale_range]
            factors = [*(scales if self.random_scale_prob else ()), *([1.0] if self.random_scale_prob < 1.0 else ())]
            bends = [math.sqrt(a) for a in self.random_aspect_range] if self.random_aspect_prob else []
            bends += [1.0] if self.random_aspect_prob < 1.0 else []
            plain = (*configuration[:3], 0.0, 1.0, 1.0, *[0.0] * 6)
            oh, ow = (int(v) for v in draw((0,) * 6, plain, h, w)[:2])
            if factors == [1.0] and bends == [1.0]:
                return [(oh, ow)]
            most, least = (
                max(h / configuration[0], w / configuration[1]),
                min(h / configuration[0], w / configuration[1]),
            )
            ratio = most * self.longest + least * (1.0 - self.longest)
            tall = [h * f / b / ratio for f in factors for b in bends]
            wide = [w * f * b / ratio for f in factors for b in bends]
            ends = [(math.floor(min(tall)), math.floor(min(wide))), (math.ceil(max(tall)), math.ceil(max(wide)))]
            return [(max(ends[0][0], 1), max(ends[0][1], 1)), ends[1]]

        drawn = dict(draw="draw_keep_ratio", configuration=configuration, columns=("height", "width"))
        one = _Filtered(interpolation)
        lower_resize(build, one, "resize", (0.0, 0.0), sizes=sizes, sized=lambda values, canvas: values, **drawn)


@dataclass(frozen=True)
class _Filtered:
    """What `lower_resize` asks of a transform."""

    interpolation: str
    antialias: bool = True


@dataclass(frozen=True)
class _CropOrPad(Transform):
    size: int | Sequence[int]
    fill: Fills = 0
    padding_mode: str = "constant"

    def __post_init__(self) -> None:
        name = type(self).__name__
        self._plain()
        pair(name, "size", self.size)
        choice(name, "padding_mode", self.padding_mode, PADDING_MODES)
        self._set(fill=fills_argument(name, self.fill))


class CenterCropOrPad(_CropOrPad):
    """Cut out the middle; what a smaller image lacks is padded on both sides (timm.data.transforms.CenterCropOrPad).

    Args:
        size: (height, width) of the output in pixels, or one int for both.
        fill, padding_mode: as `Pad`.
    """

    def lower(self, build: Lowering) -> None:
        size = pair("CenterCropOrPad", "size", self.size)
        lower_pad(build, (0, 0, 0, 0), self.fill, self.padding_mode, size, halved=True)

        def call(values: Sequence[float], canvas: Canvas) -> list[Call]:
            return [("center_crop", {"output_size": list(size)})]

        build.geometry("center_crop", size, exact=True, call=call)


class RandomCropOrPad(_CropOrPad):
    """Cut out a window at a random place; what a smaller image lacks is divided at random between its sides
    (timm.data.transforms.RandomCropOrPad).

    Args:
        size: (height, width) of the output in pixels, or one int for both.
        fill, padding_mode: as `Pad`.
    """

    def lower(self, build: Lowering) -> None:
        size = pair("RandomCropOrPad", "size", self.size)
        lower_missing(build, size, self.fill, self.padding_mode)

        def call(values: Sequence[float], canvas: Canvas) -> list[Call]:
            top, left = (int(v) for v in values)
            return [("crop", {"top": top, "left": left, "height": size[0], "width": size[1]})]

        drawn = dict(draw="draw_offset", configuration=size, columns=("top", "left"))
        build.geometry("crop", (0, 0, *size), exact=True, call=call, **drawn)


def lower_missing(build: Lowering, size: Canvas, fill: Any, mode: str) -> None:
    """A pad slot that adds what a canvas lacks of `size`, divided at random."""

    def lacks(canvas: Canvas) -> tuple[int, int]:
        return max(size[0] - canvas[0], 0), max(size[1] - canvas[1], 0)

    def fault(canvas: Canvas) -> str | None:
        room = {"reflect": 1, "symmetric": 0}.get(mode)
        if room is None or all(lack <= side - room for lack, side in zip(lacks(canvas), canvas, strict=True)):
            return None
        (h, w), most = canvas, max(lacks(canvas))
        return f"{mode} padding of {most} pixels needs a larger image than {h}x{w}; pad less, or use 'edge'"

    def call(values: Sequence[float], canvas: Canvas) -> list[Call]:
        padding = [int(v) for v in values]
        kwargs = {"padding": padding, "fill": image_fill(fill), "padding_mode": mode}
        return [("pad", kwargs)] if any(padding) else []

    if not build.any_canvas(lambda canvas: any(lacks(canvas))):
        return
    build.check_canvas(fault)
    build.geometry(
        "pad",
        [0.0] * 7,
        draw="draw_missing",
        configuration=size,
        columns=("left", "top", "right", "bottom"),
        border=mode,
        call=call,
        sizes=lambda canvas: [(max(canvas[0], size[0]), max(canvas[1], size[1]))],
        **(fills(build, fill) if mode == "constant" else {}),
    )


@dataclass(frozen=True)
class TrimBorder(Transform):
    """Cut off the border (timm.data.transforms.TrimBorder).

    Args:
        border_size: pixels of each side.

    Raises:
        ValueError: an image of which nothing would be left.
    """

    border_size: int

    def __post_init__(self) -> None:
        self._plain()
        self._set(border_size=whole("TrimBorder", "border_size", self.border_size, 0))

    def lower(self, build: Lowering) -> None:
        cut = self.border_size

        def inner(canvas: Canvas) -> Canvas:
            return canvas[0] - 2 * cut, canvas[1] - 2 * cut

        def call(values: Sequence[float], canvas: Canvas) -> list[Call]:
            height, width = inner(canvas)
            return [("crop", {"top": cut, "left": cut, "height": height, "width": width})]

        if cut:
            build.check_canvas(lambda canvas: sides_fault(canvas, inner(canvas)))
            build.geometry("pad", [-cut] * 4, exact=True, call=call)
