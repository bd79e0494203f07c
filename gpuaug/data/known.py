"""What is known of an image beside its pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Annotated:
    """An image file and what is known of it.

    Attributes:
        boxes: float32 [N, 4], left, top, right, bottom in pixels.
        labels: of the boxes, the places of their classes.
        masks: int32 [H, W], a number for each object or class, 0 for none; or uint8 [N, H, W], one for each box.
        keypoints: float32 [M, K, 2], (x, y); those that are not labelled are NaN.
        classes: names.
        further: what else there is one of for each box, by name: "crowd" bool [N] of COCO's iscrowd, "difficult"
            bool [N] of VOC's.
    """

    path: Path
    boxes: np.ndarray | None = None
    labels: Sequence[int] = ()
    masks: np.ndarray | None = None
    keypoints: np.ndarray | None = None
    classes: Sequence[str] = field(default=(), repr=False)
    further: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def objects(self) -> dict[str, np.ndarray]:
        """What there is one of for each box: "labels", int64 [N], and what is ``further``; {} without boxes."""
        if self.boxes is None:
            return {}
        return {"labels": np.array(self.labels, np.int64).reshape(-1), **self.further}


class Targets(Sequence):
    """What is known of each image, made when it is asked for: masks are not held."""

    def __init__(self, paths: Sequence[Path], make: Callable[[int], Annotated]) -> None:
        self.paths, self.make = paths, make

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> Annotated:
        return self.make(i)
