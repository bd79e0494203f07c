"""Outputs of several layers, for all at once, in torch: blend the layers, then the steps behind the blend."""

import torch

from ..shared import blend, plan
from .dialect import BLEND
from .sample import grid
from .write import INFINITY, Plane, Reach, Writer


def blended(writer: Writer, layers: torch.Tensor, outputs: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The images float32 [O, C, OH, OW] of outputs.

    Args:
        writer: of the outputs' own rows.
        layers: [R, C, OH, OW], all rows as they are in front of the blend.
        outputs: int64 [O, K], the rows that each output is blended of, -1 for none.
        size: (OH, OW).
    """
    layout, header = writer.layout, writer.header
    front, n_steps = header[plan.FRONT], header[plan.N_STEPS]
    at = front.clamp(max=layout.steps - 1).long().expand(-1, 1, writer.steps.shape[2])
    step = writer.steps.gather(1, at)[:, 0, :, None, None, None].unbind(1)
    blends = (front < n_steps) & (step[plan.S_TRAIT][:, 0] == plan.BLEND)
    x, y = grid(size, outputs.device)
    p = step[plan.S_ARGUMENTS :][:8]
    own = image = layers.index_select(0, outputs[:, 0]).float()
    for op in layout.blends:
        fold, total = BLEND[blend.CASES[op]], torch.zeros_like(own)
        for k, rows in enumerate(outputs.unbind(1)):
            layer = own if k == 0 else layers.index_select(0, rows.clamp(min=0)).float()
            there = (rows >= 0)[:, None, None, None]
            total = torch.where(there, fold(k, total, layer, x, y, p), total)
        here = (blends & (outputs[:, 1, None, None] >= 0))[:, None] & (step[plan.S_OP] == op)
        image = torch.where(here, BLEND["settled"](total, p), image)
    writer.behind, writer.first_step = True, front + blends.float()
    plane = Plane(x, y, header[plan.N_GROUPS])
    reach = Reach(header[plan.N_GROUPS], n_steps, header[plan.SMOOTH], layout.groups, layout.steps)
    return writer.forward(image, plane, reach, -1.0, INFINITY, None)
