"""Draw first, for several views of each image: by one pipeline, or by those of a MultiCrop, out of one decoded part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..compose import Compose
from ..kernels.shared import plan
from ..multicrop import MultiCrop
from ..recipe import Asked
from ..transforms.mixing import Mixer
from ..tree import Canvas
from .reading import SHRINKS, Part, Reading, bounds, shrink_words, shrinks


class Views(Reading):
    """A pipeline's draws for several views of each image; the other arguments as for `Reading`.

    Args:
        views: their numbers.
    """

    def __init__(self, augment: Compose, views: Sequence[int], sizes: Sequence[Canvas], *arguments, **keywords):
        self.asked = Asked(views=tuple(views))
        super().__init__(augment, sizes, *arguments, **keywords)

    def run(self, source: torch.Tensor, offsets: Sequence[int], *, labels=None, targets: dict[str, Any] | None = None):
        """As `Reading.run`: what the pipeline's call returns for these views."""
        if self.whole is None:
            return super().run(source, offsets, labels=labels, targets=targets)
        places = zip(offsets, self.sizes, strict=True)
        images = [source[at : at + 3 * h * w].view(h, w, 3).permute(2, 0, 1) for at, (h, w) in places]
        ids = self.ids.to(source.device)
        if labels is None and not targets:
            return self.augment.views_of(images, self.asked, ids=ids, epoch=self.epoch)
        given = {"labels": labels, **(targets or {})}
        return self.augment._moved((images,), given, self.asked, ids=ids, epoch=self.epoch)

    @property
    def _of(self) -> np.ndarray:
        """The image of each row."""
        return self.recipe.host_rows[:, plan.ROW_SOURCE].numpy()

    def shrinks_alone(self) -> np.ndarray:
        """By how much each image may be shrunk for these views, int64 [B]."""
        least = np.full(len(self.sizes), SHRINKS[0] if self.recipe.program.groups else 1)
        if self.recipe.program.groups:
            np.minimum.at(least, self._of, shrinks(self.host.words.numpy(), self.recipe.program))
        return least

    def parts_at(self, by: np.ndarray) -> list[Part]:
        """What is read of images that are shrunk by so much, int64 [B]; to be asked for once."""
        self.shrinks, words, program = by, self.host.words, self.recipe.program
        if program.groups:
            shrink_words(words, program, torch.from_numpy(by[self._of]))
        self._parts = self._needed(bounds(words.numpy(), program, self._canvases(self._of)), self._of)
        return self.parts


class Crops:
    """As `Reading`, for the pipelines of a MultiCrop: a draw for each, and of each image one part for all of them."""

    def __init__(
        self,
        augment: MultiCrop,
        sizes: Sequence[Canvas],
        ids: torch.Tensor,
        epoch: int,
        *,
        decode: str = "full",
        shrinkable: Sequence[bool] | None = None,
    ):
        self.augment, self.sizes, self.readings, first = augment, sizes, [], 0
        for pipeline, count in zip(augment.pipelines, augment.counts, strict=True):
            views = range(first, first + count)
            self.readings.append(Views(pipeline, views, sizes, ids, epoch, decode="whole"))
            first += count
        self.whole = next((one.whole for one in self.readings if one.whole is not None), None)
        if self.whole is not None or decode == "whole":
            return
        by = np.ones(len(sizes), np.int64)
        if decode == "scaled":
            by = np.min([one.shrinks_alone() for one in self.readings], axis=0)
            by = by if shrinkable is None else np.where(shrinkable, by, 1)
        of_each = [one.parts_at(by) for one in self.readings]
        self.parts = [joined(parts) for parts in zip(*of_each, strict=True)]

    @property
    def parts(self) -> list[Part]:
        return self.readings[0].parts

    @parts.setter
    def parts(self, parts: Sequence[Part]) -> None:
        for one in self.readings:
            one.parts = parts

    def run(self, source: torch.Tensor, offsets: Sequence[int], *, labels=None, targets=None):
        """The views, in order, and the labels as they are, if there are any."""
        found = [view for one in self.readings for view in one.run(source, offsets)]
        return found if labels is None else (found, labels)


def joined(parts: Sequence[Part]) -> Part:
    """The least part that holds others, of one image at one scale."""
    top, left = min(part.top for part in parts), min(part.left for part in parts)
    bottom = max(part.top + part.height for part in parts)
    right = max(part.left + part.width for part in parts)
    return Part(top, left, bottom - top, right - left, parts[0].shrink)


def mixes(transforms: Sequence) -> bool:
    """Whether samples, and so their labels, are mixed somewhere in a pipeline."""
    return any(isinstance(one, Mixer) or mixes(getattr(one, "transforms", ())) for one in transforms)
