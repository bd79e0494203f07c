"""What an engine is: one program on one device, in two steps.

    plans = engine.plan(rows, table, key)             draws, and each row's own short program: a value
    engine.write(source, rows, plans, out, outputs)   the images

Each backend has one implementation of the two, beside `supports(program, images)`, why it cannot run, if so,
`allocate(shape, dtype, device, memory_format)`, an output buffer, `size_key(program)`, what an engine depends on of the
program's sizes (those that are equal otherwise, and in this, share one), and POINTERS, whether rows may say where an
image lies though it is no part of the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch

from ..program import Canvas, Program


class Key(NamedTuple):
    """What draws are keyed by.

    Attributes:
        ids: int64, indexed by the rows' sample; None takes the state's counter plus the sample, and moves it on.
        epoch: 0 .. 2^32 - 1; -1 on a GPU: the state's, as it is when a captured CUDA graph is replayed.
        state: int64 [STATE] (`kernels.shared.plan.STATE_*`).
        onto: what the table holds for ops that draw by boxes stays, as drawn by `iou_crop.draw_of_boxes`.
    """

    ids: torch.Tensor | None
    epoch: int
    state: torch.Tensor
    onto: bool = False


@dataclass(frozen=True, eq=False)
class Plans:
    """What a batch's rows were planned to do.

    Attributes:
        table: float32 [T, P], what was drawn, a column each.
        words: float32 [R, words], each row's plan (`kernels.shared.plan`).
    """

    table: torch.Tensor
    words: torch.Tensor


def allocate(
    shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, memory_format: torch.memory_format
) -> torch.Tensor:
    """An output buffer [R, C, OH, OW]."""
    return torch.empty(shape, dtype=dtype, device=device, memory_format=memory_format)


class Engine(Protocol):
    """Runs one program on one device."""

    def __init__(self, program: Program, device: torch.device): ...

    def plan(self, rows: torch.Tensor, table: torch.Tensor | None, key: Key | None = None) -> Plans:
        """Plan int64 rows [R, ROW] (`kernels.shared.plan.ROW_*`), at least one.

        Args:
            table: float32 [T, P], contiguous: what was drawn for the rows. With a key it is drawn now, into the table
                rows that the rows name; None: row i names table row i, and the plans keep the table.
        """

    def write(
        self,
        source: torch.Tensor,
        rows: torch.Tensor,
        plans: Plans,
        out: torch.Tensor,
        outputs: torch.Tensor | None = None,
        largest: Canvas | None = None,
    ) -> None:
        """Write the images of the rows that were planned into `out` [O, C, OH, OW].

        Args:
            source: the tensor from whose first element the rows' source offsets count.
            out: any strides. A row's output offset counts in whole images of C x OH x OW elements. Or memory [N] for
                images of sizes of their own: the rows have offsets in elements, and strides.
            outputs: int64 [O, K]: the rows that each output is blended of, its own first, by whose plan and into whose
                place it is written; -1 for none. None: each row is an output.
            largest: of images of sizes of their own, the greatest height and width of any.
        """
