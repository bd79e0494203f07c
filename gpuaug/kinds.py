"""Kinds of input beside images: masks here, boxes and keypoints by `points`. Each is a projection of the same draws."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from .kernels.shared import plan
from .memory import check_memory
from .projection import project_mask
from .recipe import Recipe, Recipes
from .rows import Listed, batch_rows, by_pointer, joined, list_rows
from .run import Images, run
from .tree import Canvas


class Drawn(NamedTuple):
    """What a call drew for its images.

    Attributes:
        table: float32 [V * B, P], on the images' device.
        sizes: (OH, OW) by view and sample, None where all outputs have one size.
        index: int64 [B]: which of what lies beside the images is meant; None for all.
    """

    recipes: Recipes
    recipe: Recipe
    table: torch.Tensor
    sizes: Sequence[Canvas] | None
    index: torch.Tensor | None = None


def drawn(
    recipes: Recipes, recipe: Recipe, table: torch.Tensor, out: Images, index: torch.Tensor | None = None
) -> Drawn:
    """Of the images that a recipe gave."""
    sizes = None if recipe.out_sizes is None else [tuple(image.shape[-2:]) for image in flat(out)]
    return Drawn(recipes, recipe, table, sizes, index)


def flat(out: Images) -> list[torch.Tensor]:
    """The tensors of lists within lists, by view and sample."""
    return [out] if isinstance(out, torch.Tensor) else [image for part in out for image in flat(part)]


# --- masks ------------------------------------------------------------------------------------------------------------
def move_masks(masks: torch.Tensor, of: Drawn) -> Images:
    """Masks [B, ..., H, W] of any dtype beside a batch of images of one size: [V,] [B, ..., OH, OW]; lists of
    [..., OH, OW] where the outputs' sizes differ."""
    recipe = of.recipe
    b = recipe.samples if of.index is None else masks.shape[0]
    h, w = recipe.sizes[0] if recipe.sizes else masks.shape[-2:]
    if masks.dim() < 3 or masks.shape[0] != b or tuple(masks.shape[-2:]) != (h, w):
        raise ValueError(f"masks must be [{b}, {h}, {w}] or [{b}, N, {h}, {w}] beside these images, got {shape(masks)}")
    check_device(masks, of, "masks")
    bytes_ = in_bytes(masks.flatten(1, -3) if masks.dim() > 3 else masks[:, None])
    planes = _of_batch(bytes_, masks.dtype, of)
    out = run(planes, bytes_, of.table, None, sizes=of.sizes)[0]
    middle = masks.shape[1:-2]

    def as_they_came(one: torch.Tensor) -> torch.Tensor:
        found = of_bytes(one, masks.dtype)
        return found.view(*found.shape[:-3], *middle, *found.shape[-2:])

    return _each(out, as_they_came)


def move_listed(masks: Sequence[torch.Tensor], owners: Sequence[int], of: Drawn) -> list[list[torch.Tensor]]:
    """Masks [..., H, W] of one dtype, of the samples `owners`: [..., OH, OW] each, a list by view."""
    recipe, dtype = of.recipe, masks[0].dtype
    for mask, owner in zip(masks, owners, strict=True):
        if tuple(mask.shape[-2:]) != recipe.sizes[owner] or mask.dim() < 2:
            h, w = recipe.sizes[owner]
            raise ValueError(f"masks of sample {owner} must be [{h}, {w}] or [N, {h}, {w}], got {shape(mask)}")
        if mask.dtype != dtype:
            raise TypeError(f"masks of one call must have one dtype, got {dtype} and {mask.dtype}")
        check_device(mask, of, "masks")
    counts = [math.prod(mask.shape[:-2]) for mask in masks]
    planes = [in_bytes(plane) for mask in masks for plane in mask.reshape(-1, *mask.shape[-2:])]
    views = len(recipe.views or (0,))
    if not planes:
        sizes = _sizes_of(of, list(owners), views)
        return [[mask.new_empty((*mask.shape[:-2], *next(sizes))) for mask in masks] for _ in range(views)]
    whose = np.repeat(np.asarray(owners, np.int64), counts)
    source, made, sizes = _of_list(planes, whose, dtype, of)
    out = run(made, source, of.table, None, sizes=sizes)[0]
    by_view = [out] if recipe.views is None else out
    return [_gathered(list(part), counts, masks, dtype) for part in by_view]


def in_bytes(masks: torch.Tensor) -> torch.Tensor:
    """Masks [..., H, W] as images uint8 [..., bytes, H, W], where they lie."""
    return masks[..., None].view(torch.uint8).movedim(-1, -3)


def of_bytes(images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What `in_bytes` was made of; the bytes of an element lie side by side."""
    return images.movedim(-3, -1).view(dtype)[..., 0]


def _of_batch(planes: torch.Tensor, dtype: torch.dtype, of: Drawn) -> Recipe:
    """The recipe for planes uint8 [B, N, bytes, H, W] beside the images, kept with theirs."""
    recipe, key = of.recipe, (planes.shape, planes.stride(), dtype)
    made = recipe.beside.get(key)
    if made is None:
        program, engine = of.recipes.projected(recipe, project_mask, dtype)
        n, views = planes.shape[1], recipe.views
        check_memory(program, len(views or (0,)) * recipe.samples * n, planes.device)
        out = 0 if program.out_size is None else dtype.itemsize * math.prod(program.out_size)
        count = None if of.index is None else recipe.samples
        rows = batch_rows(planes, out, range(len(views or (0,))), count, range(n))
        lead = recipe.lead if recipe.frames is None else recipe.lead[:-1]
        made = recipe.beside[key] = _recipe(recipe, program, engine, rows, planes.device, n, (*lead, n))
    return made if of.index is None else made.gathering(of.index, planes.stride(0))


def _of_list(planes, whose: np.ndarray, dtype: torch.dtype, of: Drawn) -> tuple[torch.Tensor, Recipe, list | None]:
    recipe = of.recipe
    program, engine = of.recipes.projected(recipe, project_mask, dtype)
    views, b = len(recipe.views or (0,)), recipe.samples
    check_memory(program, views * len(planes), planes[0].device)
    listed: Listed = (recipe.module.POINTERS and by_pointer(planes, program.channels)) or joined(
        planes, program.channels
    )
    out = 0 if program.out_size is None else dtype.itemsize * math.prod(program.out_size)
    rows = list_rows(listed, out, range(views))
    table = (np.arange(views)[:, None] * b + whose).reshape(-1)
    rows[:, plan.ROW_TABLE] = torch.from_numpy(table)
    rows[:, plan.ROW_SAMPLE] = rows[:, plan.ROW_LEAD] = torch.from_numpy(np.tile(whose, views))
    sizes = None if of.sizes is None else [of.sizes[i] for i in table.tolist()]
    lead = (len(planes),) if recipe.views is None else (views, len(planes))
    return listed.source, _recipe(recipe, program, engine, rows, planes[0].device, None, lead), sizes


def _recipe(recipe: Recipe, program, engine, rows, device, frames: int | None, lead: tuple[int, ...]) -> Recipe:
    """That of masks beside the images of a recipe."""
    own = dict(program=program, engine=engine, rows=rows.to(device), host_rows=rows, frames=frames, lead=lead)
    return dataclasses.replace(recipe, **own, mixing=None, clip=None, copies=False, format=torch.channels_last)


def _gathered(planes: list[torch.Tensor], counts: Sequence[int], masks, dtype: torch.dtype) -> list[torch.Tensor]:
    """Planes uint8 [bytes, OH, OW] as masks of so many each; those of one lie behind each other."""
    found, at = [], 0
    for n, mask in zip(counts, masks, strict=True):
        first = planes[at] if n else planes[0]
        step = planes[at + 1].storage_offset() - first.storage_offset() if n > 1 else first.numel()
        one = first.as_strided((n, *first.shape), (step, *first.stride()))
        found.append(of_bytes(one, dtype).view(*mask.shape[:-2], *first.shape[-2:]))
        at += n
    return found


def _sizes_of(of: Drawn, owners: list[int], views: int):
    b = of.recipe.samples
    for v in range(views):
        for owner in owners:
            yield of.recipe.program.out_size if of.sizes is None else of.sizes[v * b + owner]


def _each(out: Images, change) -> Images:
    return change(out) if isinstance(out, torch.Tensor) else [_each(part, change) for part in out]


def check_device(tensor: torch.Tensor, of: Drawn, name: str) -> None:
    """Raise unless it lies where the images do."""
    if tensor.device != of.table.device:
        raise ValueError(f"{name} must lie on the images' device {of.table.device}, got {tensor.device}")


def shape(tensor: torch.Tensor) -> str:
    """For errors."""
    return f"{tuple(tensor.shape)} {tensor.dtype}"
