"""Resizes to a size that is drawn, or depends on the image: what detection is trained with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..kernels.torch import dialect as torch_dialect
from ..lowering import Lowering
from ..messages import shown
from ..program import Call, Canvas
from .arguments import interval, pair, plain, whole
from .base import Transform, resampling, resize_argument, sides_fault


def lower_resize(
    build: Lowering,
    transform: ScaleJitter | RandomResize | RandomShortestSize,
    op: str,
    lengths: Sequence[float],
    *,
    sizes: Callable[[Canvas], list[Canvas]],
    sized: Callable[[Sequence[float], Canvas], Sequence[float]],
    **drawn: Any,
) -> None:
    """A resize slot.

    Args:
        transform: whose interpolation and antialias it has.
        lengths: the first arguments of `op`.
        sizes: as `Lowering.geometry`.
        sized: (drawn values, canvas) -> torchvision's size.
    """
    sampling, border, rule = resampling(transform.interpolation, bool(transform.antialias))
    arguments = (*lengths, *[0] * (6 - len(lengths)), *rule)
    kwargs = {"interpolation": transform.interpolation, "max_size": None, "antialias": bool(transform.antialias)}

    def call(values: Sequence[float], canvas: Canvas) -> list[Call]:
        return [("resize", {"size": [int(n) for n in sized(values, canvas)], **kwargs})]

    build.check_canvas(lambda canvas: next(filter(None, (sides_fault(canvas, after) for after in sizes(canvas))), None))
    build.geometry(op, arguments, border=border, sampling=sampling, call=call, sizes=sizes, **drawn)


@dataclass(frozen=True)
class ScaleJitter(Transform):
    """Resize by a random factor on top of the one that fits a target (torchvision.transforms.v2.ScaleJitter; Ghiasi et
    al., 2021, "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation").

    The output size is drawn: a pipeline that ends with one gives a list of images.

    Args:
        target_size: (height, width) in pixels. As in torchvision, the target's width is held against the image's
            height, and the height against the width.
        scale_range: lowest and highest factor.
        interpolation, antialias: as `Resize`.
    """

    target_size: Sequence[int]
    scale_range: Sequence[float] = (0.1, 2.0)
    interpolation: Any = "bilinear"
    antialias: bool = True

    def __post_init__(self) -> None:
        name = "ScaleJitter"
        self._plain()
        scale = interval(name, "scale_range", self.scale_range, 0.0)
        if scale[0] <= 0.0:
            raise ValueError(f"{name}: scale_range must be positive, got {shown(self.scale_range)}")
        self._set(target_size=pair(name, "target_size", self.target_size), scale_range=scale)
        self._set(interpolation=resize_argument(name, self.interpolation, self.antialias))

    def lower(self, build: Lowering) -> None:
        target = self.target_size

        def sizes(canvas: Canvas) -> list[Canvas]:
            h, w = map(float, canvas)
            draw, no_key = torch_dialect.DRAW["draw_scale_jitter"], (0,) * 6
            return [tuple(map(int, draw(no_key, (*target, s, s), h, w)[:2])) for s in self.scale_range]

        lower_resize(
            build,
            self,
            "resize",
            (0.0, 0.0),
            sizes=sizes,
            sized=lambda values, canvas: values,
            draw="draw_scale_jitter",
            configuration=(*target, *self.scale_range),
            columns=("height", "width"),
        )


@dataclass(frozen=True)
class RandomResize(Transform):
    """Resize the shorter side to a random length (torchvision.transforms.v2.RandomResize).

    The output size is drawn: a pipeline that ends with one gives a list of images.

    Args:
        min_size, max_size: of the shorter side, in pixels; max_size itself is not drawn.
        interpolation, antialias: as `Resize`.
    """

    min_size: int
    max_size: int
    interpolation: Any = "bilinear"
    antialias: bool = True

    def __post_init__(self) -> None:
        name = "RandomResize"
        self._plain()
        low, high = whole(name, "min_size", self.min_size, 1), whole(name, "max_size", self.max_size, 1)
        if high <= low:
            raise ValueError(f"{name}: max_size must be larger than min_size={low}, got {high}")
        self._set(interpolation=resize_argument(name, self.interpolation, self.antialias))

    def lower(self, build: Lowering) -> None:
        low, high = int(self.min_size), int(self.max_size)

        def sizes(canvas: Canvas) -> list[Canvas]:
            lengths = torch_dialect.GEOMETRY["resize_length"]
            ends = [tuple(map(int, lengths(min(canvas), max(canvas), size, 0))) for size in (low, high - 1)]
            return ends if canvas[0] <= canvas[1] else [(long, short) for short, long in ends]

        lower_resize(
            build,
            self,
            "resize_shorter",
            (0.0,),
            sizes=sizes,
            sized=lambda values, canvas: values,
            draw="draw_integer",
            configuration=(high - low, low),
            columns=("size",),
        )


@dataclass(frozen=True)
class RandomShortestSize(Transform):
    """Resize so that the shorter side gets a length of a list, one drawn for each sample, and the longer side no more
    than max_size (torchvision.transforms.v2.RandomShortestSize), as DETR and Mask R-CNN are trained.

    The output size is drawn: a pipeline that ends with one gives a list of images.

    Args:
        min_size: of the shorter side, in pixels, or a list to choose from.
        max_size: the most that the longer side may become; it goes before min_size.
        interpolation, antialias: as `Resize`.
    """

    min_size: int | Sequence[int]
    max_size: int | None = None
    interpolation: Any = "bilinear"
    antialias: bool = True

    def __post_init__(self) -> None:
        name = "RandomShortestSize"
        self._plain()
        sizes = plain(self.min_size)
        for size in sizes if isinstance(sizes, tuple) else (sizes,):
            whole(name, "min_size", size, 1)
        if sizes == ():
            raise ValueError(f"{name}: min_size must hold at least one length")
        if self.max_size is not None:
            whole(name, "max_size", self.max_size, 1)
        self._set(interpolation=resize_argument(name, self.interpolation, self.antialias))

    def lower(self, build: Lowering) -> None:
        sizes = self.min_size if isinstance(self.min_size, tuple) else (self.min_size,)
        ways = [lambda size=size: self._lower_one(build, float(size)) for size in sizes]
        if len(ways) == 1:
            ways[0]()
        else:
            build.branches(ways, None)

    def _lower_one(self, build: Lowering, size: float) -> None:
        lengths = size, float(self.max_size or 0)

        def becomes(canvas: Canvas) -> Canvas:
            return tuple(map(int, torch_dialect.GEOMETRY["shortest_lengths"](*map(float, canvas), *lengths)))

        lower_resize(
            build,
            self,
            "resize_shortest",
            lengths,
            sizes=lambda canvas: [becomes(canvas)],
            sized=lambda values, canvas: becomes(canvas),
        )
