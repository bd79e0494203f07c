"""What detectors are trained with: canvases that grow, and windows that are chosen by the boxes in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..kernels.shared import plan, points
from ..lowering import Lowering
from ..messages import shown
from ..program import Call, Canvas
from ..tree import Event
from .arguments import (
    Fills,
    as_float32,
    fills_argument,
    image_fill,
    interval,
    is_number,
    number,
    plain,
    probability,
    whole,
)
from .base import Transform, fills, sides_fault

OPTIONS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
MOST_TRIALS = 1000


def scaled(canvas: Canvas, factor: float) -> Canvas:
    """A canvas whose sides are multiplied in float32 and truncated."""
    return tuple(int(np.float32(n) * np.float32(factor)) for n in canvas)


@dataclass(frozen=True)
class RandomZoomOut(Transform):
    """With probability `p`, put the image at a random place of a larger canvas
    (torchvision.transforms.v2.RandomZoomOut; Liu et al., 2016, "SSD: Single Shot MultiBox Detector").

    The output size is drawn: a pipeline that ends with one gives a list of images.

    Args:
        fill: of the canvas, as `Pad`.
        side_range: lowest and highest factor of both sides, from 1 on.
    """

    fill: Fills = 0
    side_range: Sequence[float] = (1.0, 4.0)
    p: float = 0.5

    def __post_init__(self) -> None:
        name = "RandomZoomOut"
        self._plain()
        self._set(fill=fills_argument(name, self.fill), side_range=interval(name, "side_range", self.side_range, 1.0))
        probability(name, self.p)

    def lower(self, build: Lowering) -> None:
        def sizes(canvas: Canvas) -> list[Canvas]:
            return [scaled(canvas, factor) for factor in self.side_range]

        def call(values: Sequence[float], canvas: Canvas) -> list[Call]:
            return [
                (
                    "pad",
                    {"padding": [int(v) for v in values], "fill": image_fill(self.fill), "padding_mode": "constant"},
                )
            ]

        build.check_canvas(lambda canvas: sides_fault(canvas, scaled(canvas, self.side_range[1])))
        with build.accept(self.p):
            build.geometry(
                "pad",
                (0.0,) * 7,
                draw="draw_zoom_out",
                configuration=self.side_range,
                columns=("left", "top", "right", "bottom"),
                **fills(build, self.fill),
                sizes=sizes,
                call=call,
            )


@dataclass(frozen=True)
class RandomIoUCrop(Transform):
    """Cut out a window that overlaps some box by an IoU that is drawn (torchvision.transforms.v2.RandomIoUCrop; Liu et
    al., 2016, "SSD: Single Shot MultiBox Detector").

    It draws by the boxes that arrive at it, upright ones; those whose centre lies outside of the window become 0, for
    SanitizeBoundingBoxes. torchvision draws options until one finds a window; here, where none has after
    `iou_crop.ROUNDS` options, the image stays as it is. The output size is drawn.

    Args:
        min_scale, max_scale: of the window's height and width, drawn apart, to the image's.
        min_aspect_ratio, max_aspect_ratio: of its width to its height.
        sampler_options: the least IoUs, of which one is drawn; from 1 on, the image stays as it is. None is
            torchvision's 0, 0.1, 0.3, 0.5, 0.7, 0.9 and 1.
        trials: windows that are tried for an option.
    """

    min_scale: float = 0.3
    max_scale: float = 1.0
    min_aspect_ratio: float = 0.5
    max_aspect_ratio: float = 2.0
    sampler_options: Sequence[float] | None = None
    trials: int = 40

    def __post_init__(self) -> None:
        name = "RandomIoUCrop"
        self._plain()
        for low, high, most in (("min_scale", "max_scale", 1.0), ("min_aspect_ratio", "max_aspect_ratio", np.inf)):
            least = number(name, low, getattr(self, low), above=0.0)
            number(name, high, getattr(self, high), least, most)
        whole(name, "trials", self.trials, 1, MOST_TRIALS)
        options = self.sampler_options
        if options is not None and not (isinstance(options, tuple) and options and all(map(is_number, options))):
            raise ValueError(f"{name}: sampler_options must hold at least one number, got {shown(options)}")

    def lower(self, build: Lowering) -> None:
        limits = self.min_scale, self.max_scale, self.min_aspect_ratio, self.max_aspect_ratio
        options = OPTIONS if self.sampler_options is None else plain(self.sampler_options)

        def sizes(canvas: Canvas) -> list[Canvas]:
            return [tuple(max(1, n) for n in scaled(canvas, factor)) for factor in (self.min_scale, self.max_scale)]

        def call(values: Sequence[float], canvas: Canvas) -> list[Call]:
            names = "top", "left", "height", "width"
            return [("crop", dict(zip(names, (int(v) for v in values), strict=True)))]

        gate = build.gate(None, (), "applied")
        drawn = (gate.words[plan.STREAM], gate.column, int(self.trials), *map(as_float32, (*limits, *options)))
        event = Event(points.ARRIVES, drawn)
        build.event(event)
        with build.behind(gate, 1):
            build.geometry(
                "crop", (0.0,) * 4, columns=("top", "left", "height", "width"), exact=True, sizes=sizes, call=call
            )
            build.nodes[-1] = replace(build.nodes[-1], event=event)
