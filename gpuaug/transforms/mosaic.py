"""Mosaic: four samples on one canvas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from ..kernels.shared import points
from ..lowering import Lowering
from ..mixing import Mix
from ..program import Canvas
from ..tree import Event
from .arguments import Fills, fills_argument, pair, probability
from .base import Transform, fills
from .geometry import CenterCrop
from .padding import PadIfNeeded

CENTER = ("center_x", "center_y")


@dataclass(frozen=True)
class Mosaic(Transform):
    """Four samples about one point: the sample itself above and left of it, the next ones of the batch above and right,
    below and left, below and right, each with its own draws and a corner at the point (ultralytics' Mosaic; Bochkovskiy
    et al., "YOLOv4", arXiv 2004.10934).

    ultralytics draws the point in the middle half of a canvas of twice the size and cuts that to its middle; here only
    what is left is made. Samples that are smaller than their part leave `fill`. Sample i has i - 1, i - 2 and i - 3 as
    its partners, which depend on the batch, not on its id. Samples keep their scale: put a `Resize` or `ScaleJitter` in
    front.

    Masks [B, H, W] are laid out alike. Of boxes, keypoints and masks of instances an output has those of all four;
    boxes of which less than `min_area` of their area is left are dropped (in a padded batch: NaN), and their masks and
    labels. Labels of whole images come back as they are.

    Args:
        size: (height, width) of the output in pixels, or one int for both.
        fill: where no sample lies, as `Pad`.
        p: the probability of a mosaic; else the sample alone is cut to the size, or padded, about its middle.
        min_area: the part of a box's area, in [0, 1].
    """

    size: int | Sequence[int]
    fill: Fills = 0
    p: float = 1.0
    min_area: float = 0.1

    def __post_init__(self) -> None:
        self._plain()
        pair("Mosaic", "size", self.size)
        probability("Mosaic", self.p)
        probability("Mosaic", self.min_area, "min_area")
        self._set(fill=fills_argument("Mosaic", self.fill))

    def lower(self, build: Lowering) -> None:
        build.either(self.p, partial(self._lower_tiles, build), partial(self._lower_alone, build), shared=True)

    def _lower_alone(self, build: Lowering) -> None:
        PadIfNeeded(self.size, self.fill).lower(build)
        CenterCrop(self.size).lower(build)

    def _lower_tiles(self, build: Lowering) -> None:
        size = pair("Mosaic", "size", self.size)
        drawn = {"draw": "draw_center", "configuration": size, "columns": CENTER, "shared": True}

        def place(left: bool, above: bool) -> None:
            arguments = (0, 0, *size, float(left), float(above))
            event = Event(points.LAID_OUT, (self.min_area, 0.0))
            drawn_here = drawn | fills(build, self.fill)
            build.geometry("place", arguments, call=lambda values, canvas: [], event=event, **drawn_here)

        def call(values: Sequence[float], canvas: Canvas) -> dict:
            return {"center": tuple(map(int, values)), "size": size}

        build.of_layers([partial(place, left, above) for above in (True, False) for left in (True, False)])
        build.blend("mosaic", Mix("roll", layers=4, tiles=True), call=call, **drawn)
