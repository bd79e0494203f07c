"""What a call drew for its images, as what lies beside them sees it: whose draws move what, and onto which output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from .mixing import neighbours, partner
from .recipe import Recipe, Recipes
from .run import Images
from .tree import Canvas


class Drawn(NamedTuple):
    """What a call drew for its images.

    Attributes:
        table: float32 [V * B, P] of the samples, behind it the rows of what else `Recipe.rows` reads.
        sizes: (OH, OW) by view and sample, None where all outputs have one size.
        index: int64 [B]: which of what lies beside the images is meant; None for all.
    """

    recipes: Recipes
    recipe: Recipe
    table: torch.Tensor
    sizes: Sequence[Canvas] | None
    index: torch.Tensor | None = None

    @property
    def views(self) -> int:
        return len(self.recipe.views or (0,))

    @property
    def tiles(self) -> bool:
        """Whether each output is laid out of several samples."""
        return self.recipe.program.tiles

    @property
    def gathers(self) -> bool:
        """Whether an output has the objects of several samples.

        Raises:
            ValueError: it has, of CutMix.
        """
        mix = self.recipe.program.mix
        if mix is None or mix.pair is None:
            return False
        if not mix.tiles and "cutmix" in self.recipe.program.facts.blend_ops:
            raise ValueError(
                "CutMix: cuts images, masks [B, H, W] and labels of images; beside boxes, keypoints and masks of "
                "instances take Mosaic, CopyPaste or MixUp"
            )
        return True

    def on(self, i: int) -> list[int]:
        """The samples whose objects lie on output i, itself first."""
        mix, n = self.recipe.program.mix, self.recipe.samples
        if not self.gathers:
            return [i]
        return [i, *neighbours(i, n, mix)] if mix.tiles else [i, partner(i, n, mix.pair)]

    def size(self, view: int, sample: int) -> Canvas:
        """(OH, OW) of an output."""
        return self.recipe.program.out_size if self.sizes is None else self.sizes[view * self.recipe.samples + sample]


def drawn(
    recipes: Recipes, recipe: Recipe, table: torch.Tensor, out: Images, index: torch.Tensor | None = None
) -> Drawn:
    """Of the images that a recipe gave."""
    sizes = None if recipe.out_sizes is None else [tuple(image.shape[-2:]) for image in flat(out)]
    return Drawn(recipes, recipe, table, sizes, index)


def flat(out: Images) -> list[torch.Tensor]:
    """The tensors of lists within lists, by view and sample."""
    return [out] if isinstance(out, torch.Tensor) else [image for part in out for image in flat(part)]


# --- objects ----------------------------------------------------------------------------------------------------------
class Laid(NamedTuple):
    """Which objects lie on which outputs, in the order of the outputs.

    Attributes:
        item: its number, int64 [M].
        source: the sample that it comes from.
        whose: the sample whose output it lies on.
        layer: of that output.
        owners, counts: the samples whose objects are asked for, and how many lie on each one's output.
    """

    item: np.ndarray
    source: np.ndarray
    whose: np.ndarray
    layer: np.ndarray
    owners: Sequence[int]
    counts: Sequence[int]

    def rows(self, view: int, of: Drawn) -> np.ndarray:
        """The row of the table by which each is moved."""
        b = of.recipe.samples
        return (self.layer * of.views + view) * b + self.whose if of.tiles else view * b + self.source


def laid_out(owners: Sequence[int], counts: Sequence[int], of: Drawn, alone: bool = False) -> Laid:
    """Of so many objects of each of the samples `owners`; `alone`: without those of others that lie on it."""
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    place = {owner: k for k, owner in enumerate(owners)}
    none = np.zeros(0, np.int64)
    item, source, layer, found = [none], [none], [none], []
    for k, owner in enumerate(owners):
        before = len(item)
        for number, sample in enumerate([owner] if alone else of.on(owner)):
            at = k if number == 0 else place.get(sample)
            if at is not None:
                item.append(np.arange(starts[at], starts[at + 1]))
                source.append(np.full(counts[at], sample, np.int64))
                layer.append(np.full(counts[at], number, np.int64))
        found.append(sum(map(len, item[before:])))
    whose = np.repeat(np.asarray(owners, np.int64), found)
    return Laid(*map(np.concatenate, (item, source)), whose, np.concatenate(layer), owners, found)
