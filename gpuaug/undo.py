"""Geometry as one matrix a sample, and its inverse: images back where they came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from .backends import kornia
from .inputs import moved
from .kernels.shared import plan
from .points import matrix_of
from .projection import project_points
from .trail import Trail

if TYPE_CHECKING:
    from .params import Params


def matrix_of_params(params: Params) -> torch.Tensor:
    """See `Params.matrix`."""
    program, table = params.program, params.table
    if program.tiles:
        raise ValueError("Mosaic: lays several samples on one canvas, which no matrix says")
    flat = table.reshape(table.shape[:-1].numel(), table.shape[-1])  # which may have no columns
    rows = torch.zeros((len(flat), plan.ROW), dtype=torch.int64, device="cpu")
    sizes = torch.tensor(params.sizes, dtype=torch.int64, device="cpu").view(-1, 2)
    rows[:, [plan.ROW_H, plan.ROW_W]] = sizes.repeat(len(flat) // max(len(sizes), 1), 1)
    rows[:, plan.ROW_TABLE] = torch.arange(len(flat), device="cpu")
    points = project_points(program)
    trail = Trail.of(points, kornia.Engine(points, table.device), moved(rows, table.device, torch.int64), flat)
    return matrix_of(trail).view(*table.shape[:-1], 3, 3)


def undone(images: torch.Tensor, params: Params) -> torch.Tensor:
    """Images [B, C, OH, OW] back on the canvases that they were made of, see `Compose.inverse`."""
    if params.table.dim() != 2 or images.dim() != 4 or len(images) != len(params):
        raise ValueError(
            f"inverse: takes the images [{len(params)}, C, OH, OW] of params of one view, got {tuple(images.shape)}"
        )
    if len(set(params.sizes)) > 1:
        raise ValueError(f"inverse: takes images that came in one size, got {params.sizes[0]} and others")
    (h, w), (oh, ow) = params.sizes[0], images.shape[-2:]
    y, x = torch.meshgrid(*(torch.arange(n, device=images.device) for n in (h, w)), indexing="ij")
    place = torch.stack((x, y, torch.ones_like(x)), -1).float().view(-1, 3)
    there = place @ moved(params.matrix, images.device, torch.float32).mT
    there = there[..., :2] / there[..., 2:]
    grid = torch.stack([(2.0 * there[..., k] + 1.0) / n - 1.0 for k, n in enumerate((ow, oh))], -1)
    found = F.grid_sample(images.float(), grid.view(-1, h, w, 2), align_corners=False)
    return found if images.is_floating_point() else found.round().to(images.dtype)
