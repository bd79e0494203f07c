"""What a detector is fed with: images, and the boxes in them with their labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .feed import Feed

Target = dict[str, Tensor]


class BoxFeed(Feed):
    """(images, targets, ids) of a loader whose images have boxes.

    Images: float [B, 3, size, size] in training; in validation and test a list of [3, h, w], as the pipeline gives
    them. Targets: of each image {"boxes": float32 [N, 4], left, top, right, bottom in pixels of that very input,
    "labels": int64 [N]}. Boxes without area, as a crop makes of what it cuts away, are left out.

    In training so are those that stand for a crowd (COCO's iscrowd), as in torchvision's reference and detectron2. In
    validation and test all are there, and what else there is one of for each ("crowd", "difficult") is beside them.
    """

    def __iter__(self) -> Iterator[tuple[Any, list[Target], Tensor]]:
        for x, _, targets, ids in self.loader:
            training = self.loader.shuffle
            if training and not self._checked:
                self._check(x)
            found = {name: list(values) for name, values in targets.items() if name not in ("masks", "keypoints")}
            each = [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]
            made = [learned(one) if training else with_area(one) for one in each]
            yield x if training else list(x), made, ids


def with_area(target: Target) -> Target:
    """The boxes that have an area, and what is beside them."""
    boxes = target["boxes"].float()
    kept = (boxes[:, 2:] > boxes[:, :2]).all(1)  # false of NaN
    return {name: (boxes if name == "boxes" else value)[kept] for name, value in target.items()}


def learned(target: Target) -> Target:
    """Boxes and labels that a detector is trained on."""
    found = with_area(target)
    alone = ~found.get("crowd", torch.zeros_like(found["labels"], dtype=torch.bool))
    return {name: found[name][alone] for name in ("boxes", "labels")}
