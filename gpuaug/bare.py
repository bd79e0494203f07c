"""Calls on masks, boxes and keypoints without an image: drawn for as ever, and nothing is rendered beside them."""

from __future__ import annotations

from typing import Any

import torch

from .drawn import Drawn
from .kinds import drawn_by_boxes, finished, taken
from .params import Params
from .recipe import Asked
from .run import run_bare
from .samples import Batch

STAND_INS = ((torch.float32, 3), (torch.uint8, 3), (torch.float32, 1), (torch.uint8, 1))


def stand_in(pipeline: Any, batch: Batch, asked: Asked) -> tuple[Any, Asked]:
    """Images of the canvases as `Compose.take` takes them, of the first dtype and channels that the pipeline takes: of
    no matter to what is drawn and moved."""
    images, asked = taken(batch, asked)
    for number, (dtype, channels) in enumerate(STAND_INS):
        one = _of(images, dtype, channels) if isinstance(images, torch.Tensor) else None
        found = [_of(image, dtype, channels) for image in images] if one is None else one
        try:
            pipeline.take(found, asked)
        except (TypeError, ValueError):
            if number == len(STAND_INS) - 1:
                raise
        else:
            return found, asked
    raise AssertionError


def _of(image: torch.Tensor, dtype: torch.dtype, channels: int) -> torch.Tensor:
    return torch.zeros(1, dtype=dtype, device=image.device).expand(*image.shape[:-3], channels, *image.shape[-2:])


def moved_alone(
    pipeline: Any,
    batch: Batch,
    asked: Asked,
    params: Params | None,
    table: torch.Tensor | None,
    ids: Any,
    epoch: int | None,
) -> Any:
    """`Compose._moved` of a batch without images."""
    source, recipe = pipeline.take(*stand_in(pipeline, batch, asked))
    key = None
    if params is None:
        key = pipeline._draw_keys(recipe, source.device, ids, epoch)
        table = recipe.table(source.device)
        if recipe.program.by_boxes:
            table, key = drawn_by_boxes(batch, pipeline._recipes, recipe, key, table), None
    else:
        recipe.check(params, table)
        table = recipe.given(table, source.device)
    sizes, plans = run_bare(recipe, source, table, key)
    return finished(
        pipeline, batch, None, Drawn(pipeline._recipes, recipe, table if plans is None else plans.table, sizes)
    )
