"""Elastic transforms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..kernels.torch.elastic import displacement
from ..lowering import Lowering
from ..messages import shown
from ..program import Call, Canvas
from .arguments import FILTERS, Fills, as_float32, fills_argument, image_fill, interpolation_name, is_number, plain
from .base import Transform, fills
from .blur import check_kernel
from .erasing import colour_blocks
from .noise import SEEDS
from .warp import WARPS

RADIUS = 1 << 12  # of a blur, in pixels: more than any image that a batch is made of


def axes(name: str, value: Any) -> tuple[float, float]:
    """One number for both axes, or (x, y)."""
    v = plain(value)
    v = v if isinstance(v, tuple) else (v,)
    if len(v) not in (1, 2) or not all(map(is_number, v)):
        raise ValueError(f"ElasticTransform: {name} must be a finite number or two (x, y), got {shown(value)}")
    return as_float32(float(v[0])), as_float32(float(v[-1]))


@dataclass(frozen=True)
class ElasticTransform(Transform):
    """Move each pixel by noise that is uniform in [-1, 1), blurred and times alpha
    (torchvision.transforms.v2.ElasticTransform).

    torchvision blends a fill twice where a pixel is covered in part; here it is blended once. `describe` tells the
    displacement, as torchvision's function takes it.

    Args:
        alpha: the strength, in half pixels, or (x, y).
        sigma: standard deviation of the blur in pixels, or (x, y): both positive, or both 0 for none. The blur reaches
            four times as far, which is less than the image's sides.
        interpolation: "nearest", "bilinear" or "bicubic".
        fill: from outside of the image, as `Pad`.
    """

    alpha: float | Sequence[float] = 50.0
    sigma: float | Sequence[float] = 5.0
    interpolation: str = "bilinear"
    fill: Fills = 0

    def __post_init__(self) -> None:
        name = "ElasticTransform"
        self._set(interpolation=interpolation_name(name, self.interpolation, WARPS))
        self._plain()
        axes("alpha", self.alpha)
        self._set(fill=fills_argument(name, self.fill))
        sigmas = axes("sigma", self.sigma)
        if not (0.0 < min(sigmas) <= max(sigmas) <= RADIUS / 4 or sigmas == (0.0, 0.0)):
            raise ValueError(f"{name}: sigma must be positive, or 0 on both axes, got {shown(self.sigma)}")

    def lower(self, build: Lowering) -> None:
        alphas, sigmas = axes("alpha", self.alpha), axes("sigma", self.sigma)
        sizes = [int(8 * s + 1) // 2 * 2 + 1 for s in sigmas]
        check_kernel(build, (max(sizes), max(sizes)), "sigma")
        found, kind = fills(build, self.fill), float(FILTERS[self.interpolation])

        def call(values: Sequence[float], canvas: Canvas) -> list[Call]:
            moved = displacement(values[:2], [a / 2 for a in alphas], sigmas, canvas)
            kwargs = {"displacement": moved, "interpolation": self.interpolation, "fill": image_fill(self.fill)}
            return [("elastic", kwargs)]

        build.pixel("elastic_noise", draw="draw_seeds", columns=SEEDS, needs="neighbours", call=call)
        words = [*(a / 2 for a in alphas), *sigmas, kind]
        blocks = [words + block[4:7] for block in colour_blocks(build, found["fill"])]
        build.pixel("elastic", needs="neighbours", by_channel=blocks, call=None, mask_fill=found["mask_fill"])
