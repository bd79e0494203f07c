"""Masks as classes of pixels: what the numbers in masks mean, and the same of polygons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gpuaug.data import DataError, Parts, Source, header
from gpuaug.data.annotated import Annotated

IGNORED = 255
LOOKED_AT = 16  # masks that say what the numbers mean
MOST_CLASSES = 32  # that masks without names are taken to have
FOREGROUND = ("background", "foreground")


@dataclass(frozen=True)
class Meaning:
    """What the masks of a data set mean.

    Attributes:
        classes: names, the place of each is its number in a mask that is made; 255 is of no class.
        objects: whether numbers are those of objects, which become foreground.
        painted: whether masks are one for each object, with its class.
        numbers: of those the number of each class that the data name; None: from 1 on, in their order.
    """

    classes: tuple[str, ...]
    objects: bool = False
    painted: bool = False
    numbers: tuple[int, ...] | None = None

    @property
    def name(self) -> str:
        """What a saved model calls it."""
        return "polygons" if self.painted else "objects" if self.objects else "classes"

    def __call__(self, known: Annotated) -> Annotated:
        """The same with masks uint8 [H, W]. Raises DataError for an image without a mask, a mask of another size, and
        numbers without class."""
        if known.masks is None and self.painted and not len(known.labels):
            about = header(known.path)
            return Annotated(known.path, masks=np.zeros((about.height, about.width), np.uint8), classes=self.classes)
        if known.masks is None:
            lacks = "objects with boxes and no polygons" if self.painted else "no mask; add one of the same name"
            raise DataError(f"{known.path}: it has {lacks}, or remove the image")
        _check_size(known)
        if self.painted:
            own = [label + 1 if self.numbers is None else self.numbers[label] for label in known.labels]
            mask = painted(known, own, np.uint8)
        elif self.objects:
            mask = (known.masks > 0).astype(np.uint8)
        else:
            highest = int(known.masks[known.masks != IGNORED].max(initial=0))
            if highest >= len(self.classes) or known.masks.min() < 0:
                raise DataError(
                    f"{known.path}: its mask has the number {highest}, and there are {len(self.classes)} classes, from "
                    f"0; {IGNORED} is for pixels of none"
                )
            mask = known.masks.astype(np.uint8)
        return Annotated(known.path, masks=mask, classes=self.classes)


def painted(known: Annotated, numbers: Sequence[int], dtype: type) -> np.ndarray:
    """One mask [H, W] of masks [N, H, W] of objects, with a number for each; large ones first, so that small ones lie
    on top."""
    mask = np.zeros(known.masks.shape[1:], dtype)
    for one, number in sorted(zip(known.masks, numbers, strict=True), key=lambda pair: -int((pair[0] > 0).sum())):
        mask[one > 0] = number
    return mask


@dataclass(frozen=True)
class Semantic(Sequence):
    """Targets whose masks are classes of pixels, made when asked for."""

    targets: Sequence[Annotated]
    meaning: Meaning

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> Annotated:
        return self.meaning(self.targets[i])


def meaning_of(source: Source, objects: bool | None) -> tuple[Meaning, str]:
    """(what a source's masks mean, in words). ``objects``: whether their numbers are those of objects; None looks.

    Numbers are taken for those of objects where a mask has more than 32 of them; or where each mask counts its own
    from 1 on, up to 8 at least, and most numbers are in one place. Raises DataError for masks that say nothing.
    """
    if source.classes:
        check_polygons(source)
        return Meaning(("background", *source.classes), painted=True), "masks: the classes of polygons, small on large"
    step = max(1, len(source) // LOOKED_AT)
    looked = (source.targets[i].masks for i in range(0, len(source), step))
    masks = [mask for mask in looked if mask is not None]
    numbers = [np.unique(mask[mask != IGNORED]) for mask in masks]
    highest = [int(found.max(initial=0)) for found in numbers]
    if not masks:
        raise DataError(f"{source.items[0]}: it has no mask, nor have those beside it; segment learns from masks")
    if not highest or max(highest) == 0:
        raise DataError(
            f"{source.items[0]}: its mask, and those beside it, have no number but 0: nothing to be learned"
        )
    if objects is None:
        objects = max(highest) > MOST_CLASSES or _counted(masks, numbers, highest)
        why = f"they go to {max(highest)}" if objects else f"0 to {max(highest)}"
    else:
        why = "as asked"
    if objects:
        return Meaning(FOREGROUND, objects=True), f"masks: their numbers are objects ({why}), which are foreground"
    names = FOREGROUND if max(highest) == 1 else tuple(map(str, range(max(highest) + 1)))
    return Meaning(names), f"masks: their numbers are classes ({why}); {IGNORED} is of none"


def _check_size(known: Annotated) -> None:
    """Raises DataError for a mask that is not as large as its image; an image that is not there its reader tells."""
    if not Path(known.path).is_file():
        return
    about, (height, width) = header(known.path), known.masks.shape[-2:]
    if (height, width) != (about.height, about.width):
        raise DataError(
            f"{known.path}: it has {about.width} x {about.height} pixels and its mask {width} x {height}; make them "
            "alike, or remove both"
        )


def check_polygons(source: Source) -> None:
    """Raises DataError where objects have boxes alone. Only as far into the data as there are no polygons."""
    boxed = 0
    for known in (source.targets[i] for i in range(len(source))):
        if known.masks is not None:
            return
        boxed += len(known.labels) > 0
        if boxed >= LOOKED_AT:
            break
    if boxed:
        raise DataError(
            f"{Path(source.items[0]).parent}: its objects have boxes and no polygons or masks, and segment learns from "
            "these; for boxes there is the task detect"
        )


def _counted(masks: Sequence[np.ndarray], numbers: Sequence[np.ndarray], highest: Sequence[int]) -> bool:
    """Whether each mask counts objects of its own."""
    from scipy.ndimage import find_objects, label

    if max(highest) < 8 or len(set(highest)) < min(4, len(highest)):
        return False
    named, places = 0, 0
    for mask, found, top in zip(masks, numbers, highest, strict=True):
        own = found[found > 0]
        if len(own) < 0.75 * top:
            return False  # numbers are left out: they have a meaning of their own
        boxes = find_objects(np.where(mask == IGNORED, 0, mask))
        named += len(own)
        places += sum(label(mask[boxes[k - 1]] == k)[1] for k in own.tolist())
    return places < 1.5 * named


def semantic(parts: Parts, objects: bool | None = None) -> tuple[Parts, str]:
    """(parts whose targets have masks uint8 [H, W] of classes, what was decided in words)."""
    meaning, words = meaning_of(parts.train, objects)
    made = [part and with_meaning(part, meaning) for part in (parts.train, parts.val, parts.test)]
    return Parts(parts.name, *made), words


def with_meaning(source: Source, meaning: Meaning) -> Source:
    return replace(source, targets=Semantic(source.targets, meaning), classes=meaning.classes)
