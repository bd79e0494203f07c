"""An engine by hand: draw into a table, and write."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuaug.backends.engine import Engine, Key


def drawn_table(engine: Engine, rows: Tensor, n: int, ids: Tensor | None, epoch: int, state: Tensor) -> Tensor:
    """The table float32 [n, P] of what is drawn for the rows."""
    table = torch.zeros((n, len(engine.program.columns)), dtype=torch.float32, device=rows.device)
    return engine.plan(rows, table, Key(ids, epoch, state)).table


def draw_and_write(
    engine: Engine, source: Tensor, rows: Tensor, n: int, ids: Tensor | None, epoch: int, state: Tensor, out: Tensor
) -> Tensor:
    """As `drawn_table`, and the images into `out`."""
    table = torch.zeros((n, len(engine.program.columns)), dtype=torch.float32, device=rows.device)
    plans = engine.plan(rows, table, Key(ids, epoch, state))
    engine.write(source, rows, plans, out)
    return plans.table
