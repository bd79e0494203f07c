"""Ops on a pixel's neighbours: sharpness and blur."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..lowering import Lowering
from ..messages import shown
from ..program import Call, Canvas
from .arguments import as_float32, ends, interval, kernel_sizes, number, probability
from .base import Transform
from .ops import lower_adjustment


@dataclass(frozen=True)
class RandomAdjustSharpness(Transform):
    """With probability `p`, blend with a smoothed copy (torchvision.transforms.v2.RandomAdjustSharpness).

    Args:
        sharpness_factor: 0 smooths, 1 keeps, 2 sharpens; not negative. Border pixels stay as they are, and so do
            images of at most 2 pixels in height or width.

    Raises:
        TypeError: on images of other than 1 or 3 channels.
    """

    sharpness_factor: float
    p: float = 0.5

    def __post_init__(self) -> None:
        name = "RandomAdjustSharpness"
        self._plain()
        number(name, "sharpness_factor", self.sharpness_factor, 0.0)
        probability(name, self.p)

    def lower(self, build: Lowering) -> None:
        with build.accept(self.p):
            lower_adjustment(build, "sharpness", self.sharpness_factor)


def check_kernel(build: Lowering, kernel: tuple[int, int], smaller: str = "one") -> None:
    """Raise where reflecting the border needs more pixels than there are; `smaller` is what would mend it."""

    def fault(canvas: Canvas) -> str | None:
        h, w = canvas
        if kernel[0] // 2 < w and kernel[1] // 2 < h:
            return None
        size = f"{kernel[0]}x{kernel[1]} (width x height)"
        return f"a kernel of {size} reaches over images of {w}x{h}; take a smaller {smaller}"

    build.check_canvas(fault)


def lower_blur(build: Lowering, kernel: tuple[int, int], sigma: float = 0.0, **drawn: Any) -> None:
    """A blur along each axis whose kernel (width, height) is longer than 1, with a fixed standard deviation or with
    one drawn, into a column that both axes share."""
    check_kernel(build, kernel)
    fixed = as_float32(sigma)

    def call(values: Sequence[float], canvas: Canvas) -> list[Call]:
        value = values[0] if values else fixed
        return [("gaussian_blur", {"kernel_size": list(kernel), "sigma": [value, value]})]

    axes = [(op, size // 2) for op, size in zip(("blur_x", "blur_y"), kernel, strict=True) if size > 1]
    for i, (op, radius) in enumerate(axes):
        arguments = (fixed, radius, float(i == len(axes) - 1))
        build.pixel(op, arguments, needs="neighbours", call=None if i else call, **drawn)


@dataclass(frozen=True)
class GaussianBlur(Transform):
    """Blur with a Gaussian, the border reflected (torchvision.transforms.v2.GaussianBlur).

    Args:
        kernel_size: (width, height) in pixels, odd, or one int for both; half of it is less than the image's side.
        sigma: standard deviation in pixels, or (low, high) to draw it from; positive. A sequence of one is a number.
    """

    kernel_size: int | Sequence[int]
    sigma: float | Sequence[float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        name = "GaussianBlur"
        self._plain()
        kernel_sizes(name, self.kernel_size)
        if isinstance(self.sigma, tuple) and len(self.sigma) == 1:
            self._set(sigma=self.sigma[0])
        if self._sigmas()[0] <= 0:
            raise ValueError(f"{name}: sigma must be positive, got {shown(self.sigma)}")

    def _sigmas(self) -> tuple[float, float]:
        return interval("GaussianBlur", "sigma", ends(self.sigma))

    def lower(self, build: Lowering) -> None:
        low, high = self._sigmas()
        kernel = kernel_sizes("GaussianBlur", self.kernel_size)
        if low == high:
            lower_blur(build, kernel, low)
        else:
            lower_blur(build, kernel, draw="draw_uniform", configuration=(low, high), columns=("sigma",))
