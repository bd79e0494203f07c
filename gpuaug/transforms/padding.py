"""Padding to a size, which torchvision lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..lowering import Lowering
from .arguments import Fills, choice, fills_argument, pair
from .base import Transform
from .geometry import PADDING_MODES, lower_pad


@dataclass(frozen=True)
class PadIfNeeded(Transform):
    """Pad images that are smaller than a size all around, up to it; a pixel that is left over goes to the right and the
    bottom. Larger sides stay (albumentations' PadIfNeeded, about the middle).

    Args:
        size: (height, width) in pixels, or one int for both.
        fill, padding_mode: as `Pad`.
    """

    size: int | Sequence[int]
    fill: Fills = 0
    padding_mode: str = "constant"

    def __post_init__(self) -> None:
        self._plain()
        pair("PadIfNeeded", "size", self.size)
        choice("PadIfNeeded", "padding_mode", self.padding_mode, PADDING_MODES)
        self._set(fill=fills_argument("PadIfNeeded", self.fill))

    def lower(self, build: Lowering) -> None:
        size = pair("PadIfNeeded", "size", self.size)
        lower_pad(build, (0, 0, 0, 0), self.fill, self.padding_mode, size, halved=True)
