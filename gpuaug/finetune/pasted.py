"""Copy-paste in training (Ghiasi et al., CVPR 2021): objects of an image on another one of its batch, with their masks.

A segmenter learns classes of pixels, and pasting wants objects. So the masks of the training part go through its
pipeline with both in one number, :func:`numbered`, and become classes once a batch has its objects pasted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

import gpuaug as ga
from gpuaug.data import Source
from gpuaug.data.annotated import Annotated
from gpuaug.data.sources import Some

from .segmented import MaskFeed
from .semantic import IGNORED, Meaning, Semantic, painted

STEP = IGNORED + 1  # a number is that of the class, and STEP times that of the object, which counts from 1


@dataclass(frozen=True)
class Numbered(Sequence):
    """Targets whose masks int32 [H, W] say class and object, made when asked for; 255 is of no class."""

    targets: Sequence[Annotated]
    meaning: Meaning

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> Annotated:
        known = self.targets[i]
        classes = self.meaning(known)
        if known.masks is None:  # there is no object
            objects = np.zeros(classes.masks.shape, np.int32)
        elif self.meaning.painted:
            objects = painted(known, range(1, len(known.labels) + 1), np.int32)
        else:
            objects = known.masks.astype(np.int32)
        return replace(classes, masks=classes.masks + STEP * np.where(classes.masks == 0, 0, objects))


def numbered(source: Source) -> Source:
    """A source with masks of classes, made of objects, as one whose masks say both. Raises ValueError for masks that
    know no objects."""
    some = source.targets if isinstance(source.targets, Some) else None
    whole = source.targets if some is None else some.whole
    if not isinstance(whole, Semantic) or not (whole.meaning.painted or whole.meaning.objects):
        raise ValueError(
            "copy_paste: it pastes objects, and the numbers in these masks are classes; leave it out, or say "
            "masks=objects if they are not"
        )
    made = Numbered(whole.targets, whole.meaning)
    return replace(source, targets=made if some is None else Some(made, some.places))


class PastedFeed(MaskFeed):
    """As MaskFeed, in training with objects pasted by ``paste``, which ends in CopyPaste and leaves images else as they
    are; see :func:`numbered`."""

    def __init__(self, *arguments: Any, paste: ga.Compose, **keywords: Any):
        super().__init__(*arguments, **keywords)
        self.paste = paste

    def __iter__(self) -> Iterator[tuple[Any, Any, Tensor]]:
        for x, masks, ids in super().__iter__():
            if self.loader.shuffle:
                x, masks = pasted(self.paste, x, masks, ids, self.loader.report.epoch)
            yield x, masks, ids


def pasted(paste: ga.Compose, x: Tensor, numbers: Tensor, ids: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
    """(images [B, 3, H, W] with objects of others, their masks int64 [B, H, W] of classes), of images and
    :func:`numbered` masks; drawn by ``ids`` and ``epoch``."""
    there = [one[one >= STEP].unique() for one in numbers]  # SYNC: once an image
    planes = [one == own[:, None, None] for one, own in zip(numbers, there, strict=True)]
    x, there, planes = paste(x, labels=there, masks=planes, ids=ids, epoch=epoch)
    made = []
    for one, own, plane in zip(numbers, there, planes, strict=True):
        base = one.where(one < STEP, 0)
        if len(own):
            over = (plane * own[:, None, None]).amax(0)
            base = over.where(over > 0, base)
        made.append(base % STEP)
    return x, torch.stack(made)
