"""Rotation, affine and perspective: geometry that turns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..kernels.torch import dialect as torch_dialect
from ..lowering import Lowering
from ..messages import shown, warn
from ..program import Call, Canvas
from .arguments import (
    FILTERS,
    Fills,
    angle_interval,
    center_argument,
    fills_argument,
    flag,
    image_fill,
    interpolation_name,
    interval,
    is_number,
    probability,
    shear_interval,
)
from .base import Transform, fills

WARPS = ("nearest", "bilinear", "bicubic")


def center_words(center: tuple[float, float] | None) -> tuple[float, float, float]:
    """(x, y, 1), or (0, 0, 0) for the middle of the canvas: how `geometry.affine` and `rotate` take a centre."""
    return (0.0, 0.0, 0.0) if center is None else (*center, 1.0)


@dataclass(frozen=True)
class RandomRotation(Transform):
    """Turn counter-clockwise by a random angle (torchvision.transforms.v2.RandomRotation).

    Args:
        degrees: (low, high), or one number for plus and minus.
        interpolation: "nearest", "bilinear" or "bicubic" (which torchvision's tensors lack).
        expand: make the canvas as large as the turned image needs; its size is drawn with the angle, and a pipeline
            that ends so gives a list of images.
        center: (x, y) in pixels from the upper left corner; None is the middle, about which expand turns.
        fill: outside of the image, as `Pad`. Bilinear blends it once with the edge
            (torchvision: twice).
    """

    degrees: float | Sequence[float]
    interpolation: Any = "nearest"
    expand: bool = False
    center: Sequence[float] | None = None
    fill: Fills = 0

    def __post_init__(self) -> None:
        name = "RandomRotation"
        self._plain()
        angle_interval(name, "degrees", self.degrees)
        if flag(name, "expand", self.expand) and self.center is not None:
            warn(f"{name}: center has no effect beside expand=True, which turns about the middle")
        self._set(
            interpolation=interpolation_name(name, self.interpolation, WARPS),
            center=center_argument(name, self.center),
            fill=fills_argument(name, self.fill),
        )

    def lower(self, build: Lowering) -> None:
        limits = angle_interval("RandomRotation", "degrees", self.degrees)
        drawn = {"draw": "draw_uniform", "configuration": limits, "columns": ("angle",)}
        if self.expand:
            drawn["sizes"] = lambda canvas: turned_sizes(canvas, limits)
        lower_rotation(build, self.interpolation, self.fill, None if self.expand else self.center, **drawn)


def turned_sizes(canvas: Canvas, limits: tuple[float, float]) -> list[Canvas]:
    """The extremes of the canvases that hold an image turned by angles within limits, in degrees."""
    h, w = map(float, canvas)
    tip = math.degrees(math.atan2(h, w))  # where a diagonal lies level, or upright
    turns = range(math.floor(limits[0] / 180) - 1, math.ceil(limits[1] / 180) + 2)
    corners = [180.0 * k + sign * angle for k in turns for sign in (1, -1) for angle in (tip, 90.0 - tip, 0.0, 90.0)]
    angles = [*limits, *(angle for angle in corners if limits[0] < angle < limits[1])]
    found = [torch_dialect.GEOMETRY["rotate_expand"]((angle, *[0.0] * 11), h, w)[15:] for angle in angles]
    heights, widths = ([int(size[axis]) for size in found] for axis in (0, 1))
    if len(set(found)) == 1:
        return [(heights[0], widths[0])]
    return [(min(heights), min(widths)), (max(heights), max(widths))]


def lower_rotation(build: Lowering, interpolation: str, fill: Fills, center=None, **drawn: Any) -> None:
    """A slot that turns by the angle drawn, in degrees; with `sizes`, onto a canvas that holds all of it."""
    expand = "sizes" in drawn

    def call(values: Sequence[float], canvas: Canvas) -> list[Call]:
        kwargs = {"angle": values[0], "interpolation": interpolation, "expand": expand}
        return [("rotate", kwargs | {"center": center and list(center), "fill": image_fill(fill)})]

    op, arguments = ("rotate_expand", (0,)) if expand else ("rotate", (0, *center_words(center)))
    _lower_warp(build, op, arguments, interpolation, fill, call, drawn)


def lower_shear(build: Lowering, axis: int, interpolation: str, fill: Fills, **drawn: Any) -> None:
    """A slot that leans x (axis 0) or y (1) by the tangent drawn, about the upper left corner."""

    def call(values: Sequence[float], canvas: Canvas) -> list[Call]:
        shear = [0.0, 0.0]
        shear[axis] = math.degrees(math.atan(values[0]))
        return [_plain_affine(interpolation, fill, shear=shear, center=[0, 0])]

    _lower_warp(build, ("shear_x", "shear_y")[axis], (), interpolation, fill, call, drawn)


def lower_translation(build: Lowering, axis: int, interpolation: str, fill: Fills, **drawn: Any) -> None:
    """A slot that shifts x (axis 0) or y (1) by the pixels drawn."""

    def call(values: Sequence[float], canvas: Canvas) -> list[Call]:
        translate = [0, 0]
        translate[axis] = int(values[0]) if values[0] == int(values[0]) else values[0]
        return [_plain_affine(interpolation, fill, translate=translate)]

    _lower_warp(build, ("translate_x", "translate_y")[axis], (), interpolation, fill, call, drawn)


def _plain_affine(interpolation: str, fill: Fills, **changed: Any) -> Call:
    kwargs = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    return "affine", kwargs | {"interpolation": interpolation, "fill": image_fill(fill), "center": None} | changed


def _lower_warp(build: Lowering, op, arguments, interpolation: str, fill: Fills, call, drawn: dict) -> None:
    build.geometry(op, arguments, sampling=FILTERS[interpolation], **fills(build, fill), call=call, **drawn)


@dataclass(frozen=True)
class RandomAffine(Transform):
    """Turn (clockwise), shift, scale and shear about a centre (torchvision.transforms.v2.RandomAffine).

    Args:
        degrees: (low, high), or one number for plus and minus.
        translate: largest shift (x, y) as fractions of the image's width and height; drawn, then rounded to whole
            pixels.
        scale: (low, high), positive.
        shear: degrees: one number or two for x, four for x and y; a range does not reach 90.
        interpolation, fill, center: as `RandomRotation`.
    """

    degrees: float | Sequence[float]
    translate: Sequence[float] | None = None
    scale: Sequence[float] | None = None
    shear: float | Sequence[float] | None = None
    interpolation: Any = "nearest"
    fill: Fills = 0
    center: Sequence[float] | None = None

    def __post_init__(self) -> None:
        name = "RandomAffine"
        self._plain()
        angle_interval(name, "degrees", self.degrees)
        if self.translate is not None:
            t = self.translate if isinstance(self.translate, tuple) else ()
            if len(t) != 2 or not all(is_number(v) and 0 <= v <= 1 for v in t):
                raise ValueError(
                    f"{name}: translate must be two fractions (x, y) in [0, 1], got {shown(self.translate)}"
                )
        if self.scale is not None and interval(name, "scale", self.scale)[0] <= 0:
            raise ValueError(f"{name}: scale must be positive, got {shown(self.scale)}")
        self._shears()
        self._set(
            interpolation=interpolation_name(name, self.interpolation, WARPS),
            center=center_argument(name, self.center),
            fill=fills_argument(name, self.fill),
        )

    def _shears(self) -> tuple[float, float, float, float]:
        if self.shear is None:
            return 0.0, 0.0, 0.0, 0.0
        if isinstance(self.shear, tuple) and len(self.shear) == 4:
            x, y = (shear_interval("RandomAffine", "shear", self.shear[i : i + 2]) for i in (0, 2))
            return *x, *y
        return *shear_interval("RandomAffine", "shear", self.shear), 0.0, 0.0

    def lower(self, build: Lowering) -> None:
        def call(values: Sequence[float], canvas: Canvas) -> list[Call]:
            angle, tx, ty, scale, shear_x, shear_y = values
            kwargs = {"angle": angle, "translate": [int(tx), int(ty)], "scale": scale, "shear": [shear_x, shear_y]}
            kwargs |= {"interpolation": self.interpolation, "fill": image_fill(self.fill)}
            return [("affine", kwargs | {"center": self.center and list(self.center)})]

        dx, dy = self.translate or (0.0, 0.0)
        build.geometry(
            "affine",
            (0, 0, 0, 1, 0, 0, *center_words(self.center)),
            draw="draw_affine",
            configuration=(
                *angle_interval("RandomAffine", "degrees", self.degrees),
                *(-dx, dx, -dy, dy),
                *(self.scale or (1.0, 1.0)),
                *self._shears(),
            ),
            columns=("angle", "translate_x", "translate_y", "scale", "shear_x", "shear_y"),
            sampling=FILTERS[self.interpolation],
            **fills(build, self.fill),
            call=call,
        )


@dataclass(frozen=True)
class RandomPerspective(Transform):
    """With probability `p`, move the four corners inward at random (torchvision.transforms.v2.RandomPerspective).

    Args:
        distortion_scale: how far, as a fraction of half the image, in [0, 1].
        interpolation, fill: as `RandomRotation`.
    """

    distortion_scale: float = 0.5
    p: float = 0.5
    interpolation: Any = "bilinear"
    fill: Fills = 0

    def __post_init__(self) -> None:
        name = "RandomPerspective"
        self._plain()
        probability(name, self.distortion_scale, "distortion_scale")
        probability(name, self.p)
        self._set(
            interpolation=interpolation_name(name, self.interpolation, WARPS), fill=fills_argument(name, self.fill)
        )

    def lower(self, build: Lowering) -> None:
        def fault(canvas: Canvas) -> str | None:
            h, w = canvas
            return f"needs images of at least 2x2 pixels, got {h}x{w}" if min(canvas) < 2 else None

        def call(values: Sequence[float], canvas: Canvas) -> list[Call]:
            right, bottom = canvas[1] - 1, canvas[0] - 1
            kwargs = {
                "startpoints": [[0, 0], [right, 0], [right, bottom], [0, bottom]],
                "endpoints": [[int(values[i]), int(values[i + 1])] for i in (0, 2, 4, 6)],
                "interpolation": self.interpolation,
                "fill": image_fill(self.fill),
            }
            return [("perspective", kwargs)]

        build.check_canvas(fault)
        with build.accept(self.p):
            build.geometry(
                "perspective",
                draw="draw_perspective",
                configuration=(self.distortion_scale,),
                columns=tuple(f"{axis}{corner}" for corner in range(4) for axis in "xy"),
                sampling=FILTERS[self.interpolation],
                **fills(build, self.fill),
                call=call,
            )
