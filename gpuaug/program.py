"""A Program: a lowered pipeline, which is data, hashable and printable.

Its `code` and `config` are what `gpuaug.kernels.plan.walk` interprets for each row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch

from .kernels import geometry, pixel, plan, torch_dialect

_KEEP_CANVAS = {
    "flip_horizontal",
    "flip_vertical",
    "affine",
    "rotate",
    "perspective",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
}

Canvas = tuple[int, int]
Call = tuple[str, dict]


@dataclass(frozen=True)
class Entry:
    """One op instance, or one gate: its line of `code` and how to describe it."""

    name: str
    code: tuple[int, ...]
    arguments: tuple[float, ...] = ()
    call: Callable[[Sequence[float], Canvas], list[Call]] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Program:
    """What to do, for any batch of one kind: an ordered list of slots as data.

    Attributes:
        entries: the slots and their gates, in the order of the pipeline.
        config: float32 constants that `code` points into.
        columns: a name for each column of the table, "2.RandomAffine.angle".
        canvases: the input sizes (H, W) that it was lowered for.
        channels: of the engine: the most of any stage. Where a stage has one channel and the engine three, all three
            are the same.
        in_channels, out_channels: of the input, of the output.
        out_size: the output's (OH, OW).
        groups, steps, asks: the most geometry groups, pixel steps and asks that any row can have.
    """

    entries: tuple[Entry, ...]
    config: tuple[float, ...]
    columns: tuple[str, ...]
    canvases: frozenset[Canvas]
    channels: int
    in_channels: int
    out_channels: int
    in_dtype: torch.dtype
    out_dtype: torch.dtype
    out_size: Canvas
    groups: int
    steps: int
    asks: int

    @property
    def code(self) -> tuple[int, ...]:
        """`kernels.plan` code: ENTRY whole numbers an entry."""
        return tuple(word for entry in self.entries for word in entry.code)

    @property
    def plan_words(self) -> int:
        """Length of a row's plan, in float32."""
        triples = (self.channels + 2) // 3
        group, step = plan.G_FILL + self.channels, plan.S_ARGUMENTS + 8 * triples
        return plan.HEADER + self.groups * group + self.steps * step + self.asks * plan.ASK

    @property
    def tail(self) -> tuple[Entry, ...]:
        """The pixel slots that every row ends with, which need nothing beside the pixel."""
        n = len(self.entries)
        for entry in reversed(self.entries):
            code = entry.code
            if code[plan.KIND] != plan.KIND_PIXEL or code[plan.TRAIT] != plan.POINTWISE or code[plan.GATE_AT] >= 0:
                break
            n -= 1
        return self.entries[n:]

    def _ops(self, kind: int, word: int) -> frozenset[int]:
        return frozenset(e.code[word] for e in self.entries if e.code[plan.KIND] == kind)

    @property
    def pixel_ops(self) -> frozenset[int]:
        """Opcodes of `kernels.pixel` that occur."""
        return self._ops(plan.KIND_PIXEL, plan.OP)

    @property
    def needs(self) -> frozenset[int]:
        """Traits of the pixel slots that occur (`plan.MEAN`, ...)."""
        return self._ops(plan.KIND_PIXEL, plan.TRAIT)

    @property
    def exact_scratch(self) -> bool:
        """Whether uint8 can hold every image that is kept for its neighbours."""
        asking = [e.code for e in self.entries if e.code[plan.TRAIT] == plan.NEIGHBOURS]
        asking = [code for code in asking if code[plan.KIND] == plan.KIND_PIXEL]
        return all(code[plan.LATTICE] and code[plan.OP] == pixel.SHARPNESS for code in asking)

    @property
    def geometry_ops(self) -> frozenset[int]:
        """Opcodes of `kernels.geometry` that occur."""
        return self._ops(plan.KIND_GEOMETRY, plan.OP)

    @property
    def draw_ops(self) -> frozenset[int]:
        """Opcodes of `kernels.draw` that occur."""
        return frozenset(e.code[plan.DRAW] for e in self.entries)

    @property
    def filters(self) -> frozenset[int]:
        """Filters that occur (`geometry.NEAREST`, ...)."""
        return self._ops(plan.KIND_GEOMETRY, plan.FILTER)

    @property
    def projective(self) -> bool:
        """Whether a coordinate may need a division."""
        return any(geometry.CASES[op] == "perspective" for op in self.geometry_ops)

    def active(self, index: int, row: Sequence[float]) -> bool:
        """Whether entry `index` acts on a sample with the table row `row`."""
        gate, want = self.entries[index].code[plan.GATE_AT], self.entries[index].code[plan.WANT]
        while gate >= 0:
            code = self.entries[gate].code
            drawn, children = int(row[code[plan.COLUMN]]), code[plan.TRAIT]
            if children > 0:
                if torch_dialect.DRAW["position"](drawn, want // 16, children) != want % 16:
                    return False
            elif children < 0:
                if drawn <= want:
                    return False
            elif drawn != want:
                return False
            gate, want = code[plan.GATE_AT], code[plan.WANT]
        return True

    def describe(self, row: Sequence[float], canvas: Canvas) -> list[dict]:
        """The functional calls that a sample of size `canvas` with the table row `row` gets, in order."""
        records = []
        for index, entry in enumerate(self.entries):
            if entry.call is None or not self.active(index, row):
                continue
            first, n = entry.code[plan.COLUMN], entry.code[plan.COLUMNS]
            values = [float(v) for v in row[first : first + n]]
            for call, kwargs in entry.call(values, canvas):
                records.append({"op": entry.name, "call": call, "kwargs": kwargs})
            if entry.code[plan.KIND] == plan.KIND_GEOMETRY:
                canvas = canvas_after(entry.code[plan.OP], values + list(entry.arguments[n:]), canvas)
        return records


def canvas_after(op: int, arguments: Sequence[float], canvas: Canvas) -> Canvas:
    """The canvas (H, W) behind geometry opcode `op`; drawn arguments do not matter."""
    if geometry.CASES[op] in _KEEP_CANVAS:
        return canvas
    t = torch_dialect.geometry_switch(op, tuple(arguments), float(canvas[0]), float(canvas[1]))
    return int(t[15]), int(t[16])


def stages(program: Program) -> Iterator[tuple[Entry, frozenset[Canvas]]]:
    """Each entry with the canvases (H, W) that may stand in front of it, or more."""
    now = program.canvases
    for entry in program.entries:
        yield entry, now
        if entry.code[plan.KIND] == plan.KIND_GEOMETRY:
            after = frozenset(canvas_after(entry.code[plan.OP], entry.arguments, canvas) for canvas in now)
            now = after if entry.code[plan.GATE_AT] < 0 else now | after


def project_mask(program: Program, channels: int = 1, dtype: torch.dtype = torch.uint8) -> Program:
    """The same geometry for masks beside the images, the same table: read nearest, filled with 0, no pixel slots.

    As torchvision resizes masks: by the legacy rule of `geometry.resized_crop`, unless a `Resize` says nearest-exact.
    """
    entries, config = [], list(program.config)
    for entry in program.entries:
        code = list(entry.code)
        code[plan.CHANNELS] = -1
        if code[plan.KIND] == plan.KIND_PIXEL:
            code[plan.KIND] = plan.KIND_NONE
        elif code[plan.KIND] == plan.KIND_GEOMETRY:
            code[plan.FILTER] = geometry.NEAREST
            code[plan.BORDER] = geometry.EDGE if code[plan.BORDER] == geometry.DROP else code[plan.BORDER]
            op, rule = geometry.CASES[code[plan.OP]], code[plan.CONFIG] + 7
            if op == "resized_crop" or op.startswith("resize") and config[rule] != 2.0:
                config[rule - 1 : rule + 1] = 0.0, 1.0
        entries.append(replace(entry, code=tuple(code)))
    changed = dict(entries=tuple(entries), config=tuple(config), steps=1, asks=0, in_dtype=dtype, out_dtype=dtype)
    return replace(program, **changed, channels=channels, in_channels=channels, out_channels=channels)
