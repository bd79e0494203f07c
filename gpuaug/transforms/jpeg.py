"""JPEG's loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..lowering import Lowering
from ..messages import shown
from ..program import Call, Canvas
from .arguments import ends, is_whole
from .base import Transform

QUALITIES = 1, 100


@dataclass(frozen=True)
class JPEG(Transform):
    """Compress as JPEG and decompress (torchvision.transforms.v2.JPEG): the pixels are those of libjpeg with its
    defaults, with chroma at half the resolution (4:2:0).

    Floating-point images, which torchvision refuses, go through uint8: values count 255.999 times, truncated, and 1/255
    each behind. To gradients the result is a constant.

    Args:
        quality: a whole number in 1 .. 100, or (low, high) to draw it from, both inclusive.

    Raises:
        TypeError: on images of other than 1 or 3 channels.
    """

    quality: int | Sequence[int]

    def __post_init__(self) -> None:
        self._plain()
        low, high = self._qualities()
        if not (is_whole(low) and is_whole(high) and QUALITIES[0] <= low <= high <= QUALITIES[1]):
            raise ValueError(
                f"JPEG: quality must be a whole number in 1 .. 100, or two ascending ones, got {shown(self.quality)}"
            )
        self._set(quality=(int(low), int(high)) if isinstance(self.quality, tuple) else int(low))

    def _qualities(self) -> tuple:
        both = ends(self.quality)
        return both if len(both) == 2 else (None, None)

    def lower(self, build: Lowering) -> None:
        build.require_colour()
        low, high = map(int, self._qualities())

        def call(values: Sequence[float], canvas: Canvas) -> list[Call]:
            return [("jpeg", {"quality": int(values[0]) if values else low})]

        if low == high:
            build.pixel("jpeg", (low,), needs="neighbours", call=call)
        else:
            drawn = dict(draw="draw_integer", configuration=(high - low + 1, low), columns=("quality",))
            build.pixel("jpeg", needs="neighbours", call=call, **drawn)
