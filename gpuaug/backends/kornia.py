"""The kornia backend: every device that torch has, no compiled kernels, differentiable with respect to the images.

It is torch's renderer (`kernels.torch`) with kornia's filters and warps where they are equivalent: its `remap` does the
plain bilinear warps. The semantics are those of the other backends; the time is that of many small torch ops.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..facts import layout
from ..kernels.shared import draw, geometry, plan
from ..kernels.torch import blend, dialect, write
from ..kernels.torch.layout import Layout
from ..keys import advanced
from ..program import Canvas, Program
from . import missing
from .engine import Key, Plans, allocate

__all__ = ["Engine", "allocate", "size_key", "supports"]

POINTERS = False
CHUNK_BYTES = {"cpu": 1 << 26, "other": 1 << 30}  # on CPU, larger tensors are fresh pages from the system each time
KEPT_LAYOUTS = 256
MOST_TAPS = 64  # along each axis, of a resampling that is not axis-aligned


def supports(program: Program, images: torch.Tensor) -> str | None:
    """None, or the reason why this backend cannot run `program` on `images`."""
    if lacks := missing("kornia"):
        return lacks
    slots = program.facts.slots
    needs = {slot.name for slot in slots if draw.CASES.get(slot.draw) in draw.FLOAT64}
    needs |= {slot.name for slot in program.facts.moves if geometry.CASES[slot.op] in geometry.FLOAT64}
    if needs and images.device.type == "mps":
        return f"{min(needs)} needs float64, which mps lacks"
    taps = program.sizes.taps
    if taps > MOST_TAPS and len(program.canvases) > 1:  # of a list each size is written by itself
        taps = max(program.of_sizes(frozenset({c}), program.out_sizes).sizes.taps for c in program.canvases)
    if taps > MOST_TAPS and not program.facts.axis_aligned:
        return f"its merged resamplings may need {taps} x {taps} taps a pixel, more than {MOST_TAPS} x {MOST_TAPS}"
    return None


def size_key(program: Program) -> Canvas | None:
    """What an engine depends on of a program's sizes: the inputs' only one. For several it has a layout for each."""
    return next(iter(program.canvases)) if len(program.canvases) == 1 else None


class Engine:
    """torch's renderer for one program on one device (`engine.Engine`).

    Args:
        program: what to do.
        device: where its inputs live. Nothing is kept there.
    """

    def __init__(self, program: Program, device: torch.device):
        self.program, self.code, self.canvas = program, program.code, size_key(program)
        self.layouts: dict[Canvas, Layout] = {}

    @torch.no_grad()
    def plan(self, rows: torch.Tensor, table: torch.Tensor | None, key: Key | None = None) -> Plans:
        own = rows[:, plan.ROW_TABLE]
        if table is None:
            shape = len(rows), len(self.program.columns)
            table = torch.empty(shape, dtype=torch.float32, device=rows.device)
        if key is not None:
            drawn = table.index_select(0, own) if key.onto else table.new_zeros((len(rows), table.shape[1]))
            words = self._walk(rows, drawn, self._words(rows, key), 2 if key.onto else 1)
            table.index_copy_(0, own, drawn)
            if len(rows) == len(table):  # each row has a table row of its own
                return Plans(table, words)
        return Plans(table, self._walk(rows, table.index_select(0, own), None, 0))

    def _words(self, rows: torch.Tensor, key: Key) -> tuple:
        """The words of each row's draws (`kernels.shared.draw`), and of its lead's."""
        sample, state = rows[:, plan.ROW_SAMPLE], key.state
        name, lead = _names(key, sample, rows[:, plan.ROW_LEAD])
        seed = (state[plan.STATE_SEED_LOW], state[plan.STATE_SEED_HIGH])
        epoch = torch.full_like(name, key.epoch) if key.epoch >= 0 else state[plan.STATE_EPOCH].expand_as(name)
        words = dialect.DRAW["row_key"](name, epoch, rows[:, plan.ROW_VIEW], *seed)
        return dialect.DRAW["with_lead"](words, lead)

    @torch.no_grad()
    def _walk(self, rows: torch.Tensor, drawn: torch.Tensor, key: tuple | None, fresh: int) -> torch.Tensor:
        """The rows' plans, as `kernels.shared.plan.walk`; what they draw goes into `drawn` [R, P]."""
        program, (r, columns) = self.program, drawn.shape
        plans = torch.zeros((r, program.plan_words), dtype=torch.float32, device=rows.device)
        h, w = rows[:, plan.ROW_H].float(), rows[:, plan.ROW_W].float()
        what = (self.code, len(program.entries), program.config, drawn, columns, plans)
        sizes = (program.channels, program.groups, program.steps)
        blends = program.mix is not None
        dialect.walk(*what, h, w, key, fresh, *sizes, rows[:, plan.ROW_LAYER], blends)
        return plans

    def write(
        self,
        source: torch.Tensor,
        rows: torch.Tensor,
        plans: Plans,
        out: torch.Tensor,
        outputs: torch.Tensor | None = None,
        largest: Canvas | None = None,
    ) -> None:
        flat, size = _one_axis(source), largest or tuple(out.shape[2:])
        place = _Ragged(rows, plans, out) if largest else _Places(rows, out)
        if outputs is None:
            for part, writer in self._writers(flat, rows, plans.words, size):
                place.put(part, self._cast(writer.write(size, padded=largest is not None), out.dtype))
            return
        layers, own = self._layers(flat, rows, plans.words, size), outputs[:, 0]
        for part, writer in self._writers(flat, rows[own], plans.words[own], size):
            place.put(own[part], self._cast(blend.blended(writer, layers, outputs[part], size), out.dtype))

    def _writers(
        self, flat: torch.Tensor, rows: torch.Tensor, words: torch.Tensor, size: Canvas
    ) -> Iterator[tuple[slice | torch.Tensor, write.Writer]]:
        """Which rows are written at once, and what writes them."""
        for canvas, part in self._parts(rows, size):
            yield part, write.Writer(self.layout_of(canvas), flat, rows[part], words[part], _remap)

    def _layers(self, flat: torch.Tensor, rows: torch.Tensor, words: torch.Tensor, size: Canvas) -> torch.Tensor:
        """What the rows are in front of a blend."""
        numbers, images, every = [], [], torch.arange(len(rows), device=rows.device)
        for part, writer in self._writers(flat, rows, words, size):
            numbers.append(every[part])
            images.append(writer.write(size).to(torch.uint8 if writer.layout.bytes else torch.float32))
        layers = torch.cat(images)
        return layers if self.canvas is not None else layers[torch.cat(numbers).argsort()]

    def _cast(self, images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Images as the output has them."""
        images = images[:, : self.program.out_channels]
        if dtype == torch.uint8:
            images = torch.nan_to_num(images, 0.0).clamp(0.0, 255.0)
        return images.to(dtype)

    def layout_of(self, canvas: Canvas) -> Layout:
        """That of inputs of one size: the bits of an image do not hang on what else is in its list."""
        found = self.layouts.get(canvas)
        if found is None:
            of_one = self.program.of_sizes(frozenset({canvas}), self.program.out_sizes)
            found = self.layouts[canvas] = layout(of_one)
            for old in list(self.layouts)[:-KEPT_LAYOUTS]:
                self.layouts.pop(old, None)
        return found

    def _parts(self, rows: torch.Tensor, size: Canvas) -> Iterator[tuple[Canvas, slice | torch.Tensor]]:
        """Rows that are written at once, as a slice or their numbers, with their inputs' size. Of inputs of several
        sizes, waits for the device."""
        most = CHUNK_BYTES["cpu" if rows.device.type == "cpu" else "other"]
        if self.canvas is not None:
            chunk = max(1, most // _row_bytes(self.layout_of(self.canvas), size))
            yield from ((self.canvas, slice(start, start + chunk)) for start in range(0, len(rows), chunk))
            return
        groups: dict[Canvas, list[int]] = {}
        for i, canvas in enumerate(rows[:, plan.ROW_H : plan.ROW_W + 1].tolist()):
            groups.setdefault(tuple(canvas), []).append(i)
        for canvas, numbers in groups.items():
            chunk = max(1, most // _row_bytes(self.layout_of(canvas), size))
            for part in torch.tensor(numbers, device=rows.device).split(chunk):
                yield canvas, part


def _row_bytes(layout: Layout, size: Canvas) -> int:
    """About what one row needs at once: indices (int64) and values of its largest canvas, twice where it asks, and
    values of its output."""
    (h, w), c = layout.canvas, layout.channels
    return (32 if layout.asks else 16) * (c + 2) * h * w + 24 * (c + 2) * size[0] * size[1]


class _Places:
    """Where the images of rows go in an output [R, C, OH, OW]."""

    def __init__(self, rows: torch.Tensor, out: torch.Tensor):
        self.out, self.numbers = out, torch.div(rows[:, plan.ROW_OUT], out[0].numel(), rounding_mode="floor")

    def put(self, part: slice | torch.Tensor, images: torch.Tensor) -> None:
        """Store the images [r, C, OH, OW] of some rows."""
        self.out.index_copy_(0, self.numbers[part], images)


class _Ragged:
    """As `_Places`, in memory [N], each with a size and strides of its own. Waits for the device."""

    def __init__(self, rows: torch.Tensor, plans: Plans, out: torch.Tensor):
        places = rows[:, [plan.ROW_OUT, plan.ROW_OUT_C, plan.ROW_OUT_Y, plan.ROW_OUT_X]]
        self.out, self.words = out, torch.cat((places, plans.words[:, plan.OUT_H : plan.OUT_W + 1].long()), 1)

    def put(self, part: slice | torch.Tensor, images: torch.Tensor) -> None:
        for image, (at, *strides, h, w) in zip(images, self.words[part].tolist(), strict=True):
            self.out.as_strided((len(image), h, w), strides, at).copy_(image[:, :h, :w])


def _names(key: Key, *samples: torch.Tensor) -> list[torch.Tensor]:
    """What the draws of samples are keyed by: their ids, or their numbers, which moves the counter on by as many as the
    first ones are."""
    if key.ids is not None:
        return [key.ids.index_select(0, sample) for sample in samples]
    start = advanced(key.state, samples[0].max() + 1)
    return [start + sample for sample in samples]


def _one_axis(source: torch.Tensor) -> torch.Tensor:
    """The source's memory from its first element on, as one axis."""
    if source.is_contiguous():
        return source.view(-1)
    extent = 1 + sum((n - 1) * stride for n, stride in zip(source.shape, source.stride(), strict=True))
    return source.as_strided((extent,), (1,), source.storage_offset())


def _remap(images: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    from kornia.geometry.transform import remap

    return remap(images, x, y, mode="bilinear", padding_mode="zeros", align_corners=True)
