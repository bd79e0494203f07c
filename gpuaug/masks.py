"""Masks beside images: the same draws, read nearest. A mask is an image of its elements' bytes, and its instances are
rows as a clip's frames are, so any dtype comes through, and nothing is copied on the way in or out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch

from .drawn import Drawn, Laid, laid_out
from .inputs import moved
from .kernels.shared import plan
from .memory import check_memory
from .mixing import Mixing, mixing_of, tile
from .program import Program
from .projection import project_mask
from .recipe import Recipe
from .rows import Listed, batch_rows, by_pointer, joined, list_rows
from .run import Images, run


def move_masks(masks: torch.Tensor, of: Drawn, instances: bool) -> Images:
    """Masks [B, ..., H, W] of any dtype beside a batch of images of one size: [V,] [B, ..., OH, OW]; lists of
    [..., OH, OW] where the outputs' sizes differ.

    Args:
        instances: those of a sample's objects, [B, N, H, W]: a mosaic has those of all its samples.
    """
    check_masks(masks, of)
    planes = in_bytes(masks.flatten(1, -3) if masks.dim() > 3 else masks[:, None])
    middle = masks.shape[1:-2]
    if instances and of.gathers:
        middle = (len(of.on(0)) * masks.shape[1],)
    made = _beside(planes, masks.dtype, of, instances)
    out = run(made, planes, of.table, None, sizes=of.sizes)[0]

    def as_they_came(one: torch.Tensor) -> torch.Tensor:
        found = of_bytes(one, masks.dtype)
        return found.view(*found.shape[:-3], *middle, *found.shape[-2:])

    return each(out, as_they_came)


def move_listed(masks: Sequence[torch.Tensor], owners: Sequence[int], of: Drawn) -> list[list[torch.Tensor]]:
    """Masks [H, W] or [N, H, W] of one dtype, of the samples `owners`: by view, a list of [OH, OW] or [N, OH, OW], as
    long as that of the masks; of a mosaic, [N', OH, OW] of all that lie on it."""
    dtype = masks[0].dtype
    for mask, owner in zip(masks, owners, strict=True):
        check_one(mask, owner, dtype, of)
    if masks[0].dim() == 2 and blended(of.recipe.program):
        if list(owners) != list(range(of.recipe.samples)):
            raise ValueError("masks [H, W] are blended as their images are: give each sample of the batch one")
        out = _run_listed([in_bytes(mask) for mask in masks], None, dtype, of)
        return [[of_bytes(one, dtype) for one in part] for part in out]
    alone = masks[0].dim() == 2 and not of.tiles  # of classes: the caller blends them
    laid = laid_out(owners, [math.prod(mask.shape[:-2]) for mask in masks], of, alone)
    planes = [in_bytes(plane) for mask in masks for plane in mask.reshape(-1, *mask.shape[-2:])]
    out = _run_listed(planes, laid, dtype, of) if len(laid.item) else [[]] * of.views
    return [_gathered(part, laid, masks, v, of, alone) for v, part in enumerate(out)]


def blended(program: Program) -> bool:
    """Whether masks are blended as their images are, element by element: what a mosaic or CutMix does selects."""
    return program.tiles or program.facts.blend_ops == {"cutmix"}


def in_bytes(masks: torch.Tensor) -> torch.Tensor:
    """Masks [..., H, W] as images uint8 [..., bytes, H, W], where they lie."""
    return masks[..., None].view(torch.uint8).movedim(-1, -3)


def of_bytes(images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What `in_bytes` was made of; the bytes of an element lie side by side."""
    if not images.numel():
        return images.new_empty((*images.shape[:-3], *images.shape[-2:]), dtype=dtype)
    return images.movedim(-3, -1).view(dtype)[..., 0]


def each(out: Images, change) -> Images:
    """A function of each tensor of lists within lists."""
    return change(out) if isinstance(out, torch.Tensor) else [each(part, change) for part in out]


# --- rows -------------------------------------------------------------------------------------------------------------
def _beside(planes: torch.Tensor, dtype: torch.dtype, of: Drawn, instances: bool) -> Recipe:
    """The recipe for planes uint8 [B, N, bytes, H, W] beside the images, kept with theirs."""
    recipe, key = of.recipe, (planes.shape, planes.stride(), dtype, instances)
    made = recipe.beside.get(key)
    if made is None:
        made = recipe.beside[key] = _new(planes, dtype, of, instances)
    return made if of.index is None else made.gathering(of.index, planes.stride(0))


def _new(planes: torch.Tensor, dtype: torch.dtype, of: Drawn, instances: bool) -> Recipe:
    recipe, n, b = of.recipe, planes.shape[1], of.recipe.samples
    lead = recipe.lead if recipe.frames is None else recipe.lead[:-1]
    gathers = instances and of.gathers
    program, engine = of.recipes.projected(recipe, project_mask, dtype, blended(recipe.program) and not gathers)
    rows = batch_rows(planes, _elements(program), range(of.views), None if of.index is None else b, range(n))
    mixing = None
    if gathers and of.tiles:
        layers = program.mix.layers
        rows = tile(rows, program.mix, b, n)[0].view(layers, of.views * b, n, plan.ROW).transpose(0, 1)
        rows, n = rows.reshape(-1, plan.ROW), layers * n
    elif gathers:
        by = rows.view(of.views, b, n, plan.ROW)
        rows, n = torch.stack([by[:, of.on(i)] for i in range(b)], 1).view(-1, plan.ROW), len(of.on(0)) * n
    elif program.facts.blends:
        rows, mixing = mixing_of(program, rows, b, n, planes.device)
    if gathers:
        rows[:, plan.ROW_OUT] = torch.arange(len(rows), device="cpu") * _elements(program)
    check_memory(program, of.views * b * n, planes.device)
    return _recipe(recipe, program, engine, rows, mixing, n, (*lead, n))


def _run_listed(
    planes: Sequence[torch.Tensor], laid: Laid | None, dtype: torch.dtype, of: Drawn
) -> list[Sequence[torch.Tensor]]:
    """Planes uint8 [bytes, H, W] by view: as they are laid; or, of one for each sample, blended as the images."""
    recipe, views, b, mixing = of.recipe, of.views, of.recipe.samples, None
    program, engine = of.recipes.projected(recipe, project_mask, dtype, laid is None)
    listed: Listed = (recipe.module.POINTERS and by_pointer(planes, program.channels)) or joined(
        planes, program.channels
    )
    rows, sizes = list_rows(listed, _elements(program), range(views)), of.sizes
    if laid is None:
        rows, mixing = mixing_of(program, rows, b, 1, recipe.rows.device)
        n = b
    else:
        n, rows = len(laid.item), rows[: len(planes)][torch.from_numpy(laid.item)].repeat(views, 1)
        rows[:, plan.ROW_TABLE] = torch.from_numpy(np.concatenate([laid.rows(v, of) for v in range(views)]))
        rows[:, plan.ROW_LAYER] = torch.from_numpy(np.tile(laid.layer, views))
        rows[:, plan.ROW_OUT] = torch.arange(len(rows), device="cpu") * _elements(program)
        if sizes is not None:
            sizes = [of.size(v, i) for v in range(views) for i in laid.whose.tolist()]
    check_memory(program, views * n, recipe.rows.device)
    lead = (n,) if recipe.views is None else (views, n)
    out = run(_recipe(recipe, program, engine, rows, mixing, None, lead), listed.source, of.table, None, sizes=sizes)[0]
    return [list(part) for part in ([out] if recipe.views is None else out)]


def _gathered(
    planes: list[torch.Tensor], laid: Laid, masks: Sequence[torch.Tensor], view: int, of: Drawn, alone: bool
) -> list[torch.Tensor]:
    """Planes uint8 [bytes, OH, OW] as one mask for each owner; the planes of one lie behind each other."""
    found, at = [], 0
    for owner, n, mask in zip(laid.owners, laid.counts, masks, strict=True):
        size = of.size(view, owner)
        shape = (n,) if not alone and of.gathers else mask.shape[:-2]
        if n:
            first = planes[at]
            step = planes[at + 1].storage_offset() - first.storage_offset() if n > 1 else first.numel()
            one = first.as_strided((n, *first.shape), (step, *first.stride()))
            found.append(of_bytes(one, mask.dtype).view(*shape, *size))
        else:
            found.append(mask.new_empty((*shape, *size)))
        at += n
    return found


def _elements(program: Program) -> int:
    """Of a plane of the output, where all have one size."""
    return 0 if program.out_size is None else program.out_channels * math.prod(program.out_size)


def _recipe(recipe: Recipe, program, engine, rows, mixing: Mixing | None, frames: int | None, lead) -> Recipe:
    """That of masks beside the images of a recipe."""
    there = moved(rows, recipe.rows.device, torch.int64)
    own = dict(program=program, engine=engine, rows=there, host_rows=rows, mixing=mixing)
    way = dict(frames=frames, lead=lead, clip=None, copies=False, format=torch.channels_last)
    return dataclasses.replace(recipe, **own, **way)


# --- what comes in ----------------------------------------------------------------------------------------------------
def check_masks(masks: torch.Tensor, of: Drawn) -> None:
    """Raise unless they are a batch of masks for the images."""
    recipe = of.recipe
    n = recipe.samples if of.index is None else masks.shape[0]
    size = recipe.sizes[0] if recipe.sizes else tuple(masks.shape[-2:])
    if masks.dim() < 3 or masks.shape[0] != n or tuple(masks.shape[-2:]) != size:
        h, w = size
        raise ValueError(
            f"masks must be [{n}, {h}, {w}] or [{n}, N, {h}, {w}] beside these images, got {tuple(masks.shape)}"
        )
    check_place(masks, of)


def check_one(mask: torch.Tensor, owner: int, dtype: torch.dtype, of: Drawn) -> None:
    """Raise unless it is a mask of that sample, and of the dtype."""
    h, w = of.recipe.sizes[owner]
    if mask.dim() not in (2, 3) or tuple(mask.shape[-2:]) != (h, w):
        raise ValueError(
            f"masks of sample {owner} must be [{h}, {w}] or [N, {h}, {w}] as its image, got {tuple(mask.shape)}"
        )
    if mask.dtype != dtype:
        raise TypeError(f"masks of a batch must have one dtype, got {dtype} and {mask.dtype}")
    check_place(mask, of)


def check_place(masks: torch.Tensor, of: Drawn) -> None:
    """Raise unless they lie where the images do."""
    if masks.device != of.table.device:
        raise ValueError(f"masks must lie on the images' device {of.table.device}, got {masks.device}")
