"""The kornia backend: every device that torch has, no compiled kernels, differentiable with respect to the images.

It is torch's renderer (`kernels.torch`) with kornia's filters and warps where they are equivalent: its `remap` does the
plain bilinear warps. The semantics are those of the other backends; the time is that of many small torch ops.
"""

from __future__ import annotations

import os
import threading

import torch

from ..facts import layout
from ..kernels.shared import plan
from ..kernels.torch import blend, dialect, write
from ..program import Canvas, Program
from . import missing
from .engine import Key, Plans, allocate

__all__ = ["Engine", "allocate", "size_key", "supports"]

CHUNK_BYTES = {"cpu": 1 << 26, "other": 1 << 30}  # on CPU, larger tensors are fresh pages from the system each time
MOST_TAPS = 64  # along each axis, of a resampling that is not axis-aligned
LOCKS: dict[int, threading.Lock] = {}
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=LOCKS.clear)  # a process that ended may have had the child's number


def supports(program: Program, images: torch.Tensor) -> str | None:
    """None, or the reason why this backend cannot run `program` on `images`."""
    if lacks := missing("kornia"):
        return lacks
    if program.facts.projective and images.device.type == "mps":
        return "RandomPerspective needs float64, which mps lacks"
    taps = program.sizes.taps
    if taps > MOST_TAPS and not program.facts.axis_aligned:
        return f"its merged resamplings may need {taps} x {taps} taps a pixel, more than {MOST_TAPS} x {MOST_TAPS}"
    return None


def size_key(program: Program) -> tuple:
    """What an engine depends on of a program's sizes."""
    return program.sizes.largest, program.sizes.taps


class Engine:
    """torch's renderer for one program on one device (`engine.Engine`).

    Args:
        program: what to do.
        device: where its inputs live. Nothing is kept there.
    """

    def __init__(self, program: Program, device: torch.device):
        self.program, self.code = program, program.code
        self.layout = layout(program)

    @torch.no_grad()
    def plan(self, rows: torch.Tensor, table: torch.Tensor | None, key: Key | None = None) -> Plans:
        own = rows[:, plan.ROW_TABLE]
        if table is None:
            shape = len(rows), len(self.program.columns)
            table = torch.empty(shape, dtype=torch.float32, device=rows.device)
        if key is not None:
            drawn = torch.zeros((len(rows), table.shape[1]), dtype=torch.float32, device=rows.device)
            words = self._walk(rows, drawn, self._words(rows, key))
            table.index_copy_(0, own, drawn)
            if len(rows) == len(table):  # each row has a table row of its own
                return Plans(table, words)
        return Plans(table, self._walk(rows, table.index_select(0, own), None))

    def _words(self, rows: torch.Tensor, key: Key) -> tuple:
        """The words of each row's draws (`kernels.shared.draw`), and of its lead's."""
        sample, state = rows[:, plan.ROW_SAMPLE], key.state
        name, lead = _names(key, sample, rows[:, plan.ROW_LEAD])
        seed = (state[plan.STATE_SEED_LOW], state[plan.STATE_SEED_HIGH])
        words = dialect.DRAW["row_key"](name, torch.full_like(name, key.epoch), rows[:, plan.ROW_VIEW], *seed)
        return dialect.DRAW["with_lead"](words, lead)

    @torch.no_grad()
    def _walk(self, rows: torch.Tensor, drawn: torch.Tensor, key: tuple | None) -> torch.Tensor:
        """The rows' plans; with a key, what they draw goes into `drawn` [R, P]."""
        program, (r, columns) = self.program, drawn.shape
        plans = torch.zeros((r, program.plan_words), dtype=torch.float32, device=rows.device)
        h, w = rows[:, plan.ROW_H].float(), rows[:, plan.ROW_W].float()
        what = (self.code, len(program.entries), program.config, drawn, columns, plans)
        sizes = (program.channels, program.groups, program.steps)
        blends = program.mix is not None
        dialect.walk(*what, h, w, key, key is not None, *sizes, rows[:, plan.ROW_LAYER], blends)
        return plans

    def write(
        self,
        source: torch.Tensor,
        rows: torch.Tensor,
        plans: Plans,
        out: torch.Tensor,
        outputs: torch.Tensor | None = None,
    ) -> None:
        flat, size = _one_axis(source), tuple(out.shape[2:])
        numbers = torch.div(rows[:, plan.ROW_OUT], out[0].numel(), rounding_mode="floor")
        parts = self._parts(len(rows), size, rows.device)
        writers = (write.Writer(self.layout, flat, rows[part], plans.words[part], _remap) for part in parts)
        if outputs is None:
            for part, writer in zip(parts, writers, strict=True):
                self._store(writer.write(size), out, numbers[part])
            return
        kind = torch.uint8 if self.layout.bytes else torch.float32
        layers = torch.cat([writer.write(size).to(kind) for writer in writers])
        for part in self._parts(len(outputs), size, rows.device):
            own = outputs[part, 0]
            writer = write.Writer(self.layout, flat, rows[own], plans.words[own], _remap)
            self._store(blend.blended(writer, layers, outputs[part], size), out, numbers[own])

    def _parts(self, n: int, size: Canvas, device: torch.device) -> list[slice]:
        """n rows in pieces that fit into memory."""
        chunk = max(1, CHUNK_BYTES["cpu" if device.type == "cpu" else "other"] // self._row_bytes(size))
        return [slice(start, start + chunk) for start in range(0, n, chunk)]

    def _store(self, images: torch.Tensor, out: torch.Tensor, numbers: torch.Tensor) -> None:
        images = images[:, : self.program.out_channels]
        if out.dtype == torch.uint8:
            images = torch.nan_to_num(images, 0.0).clamp(0.0, 255.0)
        out.index_copy_(0, numbers, images.to(out.dtype))

    def _row_bytes(self, size: Canvas) -> int:
        """About what one row needs at once: indices (int64) and values of its largest canvas, twice where it asks,
        and values of its output."""
        (h, w), c = self.layout.canvas, self.layout.channels
        return (32 if self.layout.asks else 16) * (c + 2) * h * w + 24 * (c + 2) * size[0] * size[1]


def _names(key: Key, *samples: torch.Tensor) -> list[torch.Tensor]:
    """What the draws of samples are keyed by: their ids, or their numbers, which moves the counter on by as many as the
    first ones are; threads take turns."""
    if key.ids is not None:
        return [key.ids.index_select(0, sample) for sample in samples]
    state = key.state
    with LOCKS.setdefault(os.getpid(), threading.Lock()):  # a forked worker takes its own, however the parent's stood
        names = [state[plan.STATE_COUNTER] + sample for sample in samples]
        state[plan.STATE_COUNTER] += samples[0].max() + 1
    return names


def _one_axis(source: torch.Tensor) -> torch.Tensor:
    """The source's memory from its first element on, as one axis."""
    if source.is_contiguous():
        return source.view(-1)
    extent = 1 + sum((n - 1) * stride for n, stride in zip(source.shape, source.stride(), strict=True))
    return source.as_strided((extent,), (1,), source.storage_offset())


def _remap(images: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    from kornia.geometry.transform import remap

    return remap(images, x, y, mode="bilinear", padding_mode="zeros", align_corners=True)
