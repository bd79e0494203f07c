"""A call's steps behind its recipe: an output buffer, the plans, the pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from .backends.engine import Key, Plans
from .memory import no_memory
from .recipe import DRAWN, Recipe, capturing, drawn_sizes
from .rows import ragged
from .tree import Canvas

Images = torch.Tensor | list


def run(
    recipe: Recipe,
    source: torch.Tensor,
    table: torch.Tensor | None,
    key: Key | None,
    out: torch.Tensor | None = None,
    host: Key | None = None,
    sizes: Sequence[Canvas] | None = None,
    plans: Plans | None = None,
) -> tuple[Images, Plans | None]:
    """The images of a recipe's rows, and their plans.

    Args:
        source, table, key: as `engine.Engine.plan` and `write`.
        out: a buffer [*lead, C, OH, OW], where all outputs have one size.
        host: the key on the host, where that knows it: for drawn sizes nobody has to wait for the device then.
        sizes: (OH, OW) by view and sample, where they differ and are known.
        plans: of the rows, where they were made before; then table, key and host are not looked at.

    Returns:
        A tensor [*lead, C, OH, OW], or, of outputs with sizes of their own, lists nested likewise; and the plans, None
        of no rows.
    """
    if recipe.out_sizes is not None:
        return _run_ragged(recipe, source, table, key, host or None, sizes, plans)
    rows, shape = recipe.rows, recipe.shape
    batch = allocate(recipe, source.device) if out is None else out.view(shape)
    if shape[0]:
        plans = recipe.engine.plan(rows, table, key) if plans is None else plans
        if recipe.clip is not None:
            rows = recipe.rows_of(plans)
        recipe.engine.write(source, rows, plans, batch, recipe.outputs)
    if out is None:
        out = batch if len(recipe.lead) == 1 else batch.view(*recipe.lead, *shape[1:])
    return out, plans


def run_bare(
    recipe: Recipe, source: torch.Tensor, table: torch.Tensor | None, key: Key | None
) -> tuple[list[Canvas] | None, Plans | None]:
    """As `run`, without images: what was planned, and the sizes (OH, OW) by view and sample, if they differ."""
    if not recipe.rows.shape[0]:
        return None if recipe.out_sizes is None else [], None
    plans = recipe.engine.plan(recipe.rows, table, key)
    if recipe.out_sizes is None:
        return None, plans
    if recipe.out_sizes is DRAWN:
        return drawn_sizes(plans), plans
    return list(recipe.out_sizes) * len(recipe.views or (0,)), plans


def allocate(recipe: Recipe, device: torch.device) -> torch.Tensor:
    """An output buffer [R, C, OH, OW], not initialised."""
    try:
        return recipe.module.allocate(recipe.shape, recipe.program.out_dtype, device, recipe.format)
    except (RuntimeError, MemoryError, ValueError):
        if device.type != "cpu":
            raise
        raise no_memory(recipe.program, recipe.shape[0]) from None


def _run_ragged(
    recipe: Recipe,
    source: torch.Tensor,
    table: torch.Tensor | None,
    key: Key | None,
    host: Key | None,
    sizes: Sequence[Canvas] | None,
    plans: Plans | None,
) -> tuple[Images, Plans | None]:
    """As `run`, of outputs with sizes of their own."""
    program, rows = recipe.program, recipe.rows
    if not rows.shape[0]:
        return _nested([], recipe), None
    if recipe.out_sizes is DRAWN and capturing(source):
        raise RuntimeError(
            "the output sizes are drawn, so the host must know the draw, and a CUDA graph cannot be captured; end the "
            "pipeline with an op of fixed size, as Resize((H, W)) or RandomCrop"
        )
    plans = recipe.engine.plan(rows, table, key) if plans is None else plans
    if sizes is None and recipe.out_sizes is DRAWN:
        sizes = (drawn_sizes(plans) if host is None else recipe.host_sizes(host))[:: recipe.frames or 1]
    elif sizes is None:
        sizes = list(recipe.out_sizes) * len(recipe.views or (0,))
    last = recipe.format == torch.channels_last
    placed = ragged(recipe.rows_of(plans), sizes, recipe.frames, program.out_channels, program.out_dtype.itemsize, last)
    shape = (1, 1, 1, placed.elements)
    memory = recipe.module.allocate(shape, program.out_dtype, source.device, torch.contiguous_format).view(-1)
    recipe.engine.write(source, placed.rows, plans, memory, largest=placed.largest)
    return _nested(placed.views(memory), recipe), plans


def _nested(outputs: list[torch.Tensor], recipe: Recipe) -> Images:
    """Outputs as lists by view and sample, or the only sample's."""
    lead = recipe.lead if recipe.frames is None else recipe.lead[:-1]
    if not lead:
        return outputs[0]
    if len(lead) == 1:
        return outputs
    n = math.prod(lead[1:])
    return [outputs[i * n : (i + 1) * n] for i in range(lead[0])]
