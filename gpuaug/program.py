"""Lowering: from a list of descriptions to a Program, which is data.

`lower` walks the pipeline once, with the set of canvases (H, W) that may stand in front of each op, the channels and
the dtype. Every error of shape or dtype is raised here. The result is hashable and printable; its `code` and `config`
are what `gpuaug.kernels.plan.walk` interprets for each row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch

from .kernels import draw, geometry, pixel, plan, torch_dialect

DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32)
MAX_CHANNELS = 16
BORDERS = {
    "constant": geometry.FILL,
    "edge": geometry.EDGE,
    "reflect": geometry.REFLECT,
    "symmetric": geometry.SYMMETRIC,
    "drop": geometry.DROP,
}
_OPCODES = {
    plan.KIND_GEOMETRY: {name: code for code, name in geometry.CASES.items()},
    plan.KIND_PIXEL: {name: code for code, name in pixel.CASES.items()},
}
_DRAWS = {name: code for code, name in draw.CASES.items()}
_KEEP_CANVAS = {"flip_horizontal", "flip_vertical", "affine", "rotate", "perspective"}

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
        out_size: the output's (OH, OW).
        groups, steps, stats: the most geometry groups, pixel steps and statistics that any row can have.
    """

    entries: tuple[Entry, ...]
    config: tuple[float, ...]
    columns: tuple[str, ...]
    canvases: frozenset[Canvas]
    channels: int
    in_dtype: torch.dtype
    out_dtype: torch.dtype
    out_size: Canvas
    groups: int
    steps: int
    stats: int

    @property
    def code(self) -> tuple[int, ...]:
        """`kernels.plan` code: ENTRY whole numbers an entry."""
        return tuple(word for entry in self.entries for word in entry.code)

    @property
    def plan_words(self) -> int:
        """Length of a row's plan, in float32."""
        triples = (self.channels + 2) // 3
        group, step = plan.G_FILL + self.channels, plan.S_ARGUMENTS + 8 * triples
        return plan.HEADER + self.groups * group + self.steps * step + self.stats * plan.STAT

    def _ops(self, kind: int, word: int) -> frozenset[int]:
        return frozenset(e.code[word] for e in self.entries if e.code[plan.KIND] == kind)

    @property
    def pixel_ops(self) -> frozenset[int]:
        """Opcodes of `kernels.pixel` that occur."""
        return self._ops(plan.KIND_PIXEL, plan.OP)

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
    def borders(self) -> frozenset[int]:
        """Border rules that occur (`geometry.FILL`, ...)."""
        return self._ops(plan.KIND_GEOMETRY, plan.BORDER)

    @property
    def projective(self) -> bool:
        """Whether a coordinate may need a division."""
        return _OPCODES[plan.KIND_GEOMETRY]["perspective"] in self.geometry_ops

    def active(self, index: int, row: Sequence[float]) -> bool:
        """Whether entry `index` acts on a sample with the table row `row`."""
        gate, want = self.entries[index].code[plan.GATE_AT], self.entries[index].code[plan.WANT]
        while gate >= 0:
            code = self.entries[gate].code
            drawn, children = int(row[code[plan.COLUMN]]), code[plan.TRAIT]
            if children:
                if torch_dialect.DRAW["position"](drawn, want // 16, children) != want % 16:
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


class Lowering:
    """The state of one lowering; what a description's `lower(build)` calls.

    Attributes:
        canvases: the sizes (H, W) that may arrive at the op being lowered.
        channels, dtype: likewise.
    """

    def __init__(self, canvases: frozenset[Canvas], channels: int, dtype: torch.dtype):
        self.canvases, self.channels, self.dtype = canvases, channels, dtype
        self.entries: list[Entry] = []
        self.config: list[float] = []
        self.columns: list[str] = []
        self.groups = self.steps = self.stats = 0
        self._gate, self._want = -1, 0
        self._slot = self._stream = 0
        self._op = ""
        self._shared: dict[tuple, tuple[int, int]] = {}
        self._path: tuple = ()

    @property
    def bound(self) -> int:
        """The largest pixel value of the stage."""
        return 255 if self.dtype == torch.uint8 else 1

    @contextmanager
    def op(self, index: int, transform) -> Iterator[None]:
        """Name the op being lowered, for columns and errors."""
        op, path = self._op, self._path
        name = type(transform).__name__
        self._op, self._path = f"{path_name(path)}{index}.{name}", (*path, index)
        try:
            yield
        finally:
            self._op, self._path = op, path

    def fail(self, message: str) -> ValueError:
        """An error that names the op."""
        return ValueError(f"{self._op}: {message}")

    def require_float(self) -> None:
        """Raise unless the stage is floating point."""
        if not self.dtype.is_floating_point:
            raise TypeError(
                f"{self._op}: expects floating-point images but meets {self.dtype}; "
                "put ToDtype(torch.float32, scale=True) in front"
            )

    def require_colour(self) -> None:
        """Raise unless there are 1 or 3 channels."""
        if self.channels not in (1, 3):
            raise TypeError(f"{self._op}: expects images of 1 or 3 channels but meets {self.channels}")

    def _columns_for(self, names: Sequence[str]) -> tuple[int, int]:
        """First table column and stream number; copies of one op inside RandomOrder share both."""
        key = (self._path, tuple(names))
        if key not in self._shared:
            first = len(self.columns)
            self.columns += [f"{self._op}.{n}" for n in names]
            self._shared[key] = first, self._stream
            self._stream += 1
            if self._stream >= 4096:
                raise self.fail("a pipeline has at most 4096 draws")
        return self._shared[key]

    def _entry(self, kind, op, arguments, draw_name, configuration, names, call=None, **words) -> int:
        first, stream = self._columns_for(names) if names else (0, 0)
        offset = len(self.config)
        self.config += _twelve(arguments) + _twelve(configuration)
        code = [0] * plan.ENTRY
        code[plan.KIND], code[plan.OP], code[plan.DRAW] = kind, op, _DRAWS[draw_name] if draw_name else 0
        code[plan.STREAM], code[plan.GATE_AT], code[plan.WANT] = stream, self._gate, self._want
        code[plan.COLUMN], code[plan.COLUMNS], code[plan.CONFIG] = first, len(names), offset
        code[plan.SLOT], code[plan.BOUND], code[plan.LATTICE] = self._slot, self.bound, int(self.dtype == torch.uint8)
        code[plan.CHANNELS] = -1
        for word, value in words.items():
            code[getattr(plan, word.upper())] = value
        name = self._op.rsplit(".", 1)[-1]
        self.entries.append(Entry(name, tuple(code), tuple(_twelve(arguments)), call))
        return len(self.entries) - 1

    @contextmanager
    def _behind(self, gate: int, want: int) -> Iterator[None]:
        saved = self._gate, self._want
        self._gate, self._want = gate, want
        try:
            yield
        finally:
            self._gate, self._want = saved

    @contextmanager
    def accept(self, p: float) -> Iterator[None]:
        """What is lowered inside acts on a sample with probability `p`."""
        if p >= 1.0:
            yield
            return
        gate = self._entry(plan.KIND_GATE, 0, (), "draw_accept", (p,), ("applied",))
        before, dtype = self.canvases, self.dtype
        with self._behind(gate, 1):
            yield
        self.canvases |= before
        self._same_dtype([dtype, self.dtype])

    def branches(self, children: Sequence[Callable[[], None]], p: Sequence[float] | None) -> None:
        """Lower one of `children` for each sample, with probabilities `p`."""
        n = len(children)
        if p is None:
            gate = self._entry(plan.KIND_GATE, 0, (), "draw_integer", (n,), ("choice",))
        else:
            if n > 12:
                raise self.fail(f"p may be given for at most 12 transforms, got {n}")
            ascending = [math.fsum(p[: k + 1]) / math.fsum(p) for k in range(n - 1)]
            gate = self._entry(plan.KIND_GATE, 0, (), "draw_weighted", ascending + [2.0] * (12 - n), ("choice",))
        self._alternatives(gate, list(enumerate(children)))

    def shuffled(self, children: Sequence[Callable[[], None]]) -> None:
        """Lower all `children`, in an order drawn for each sample."""
        n = len(children)
        if n > 10:
            raise self.fail(f"at most 10 transforms can be reordered, got {n}")
        gate = self._entry(plan.KIND_GATE, 0, (), "draw_integer", (math.factorial(n),), ("order",), trait=n)
        before, counts = self.canvases, (self.groups, self.steps, self.stats)
        for place in range(n):
            lowerers = [(child * 16 + place, lower) for child, lower in enumerate(children)]
            added = self._alternatives(gate, lowerers)
            if self.canvases != before:
                raise self.fail("cannot reorder transforms that change the image size; put them outside of RandomOrder")
        totals = (sum(one) for one in zip(*added, strict=True))  # each child acts once, at whatever place
        self.groups, self.steps, self.stats = (c + t for c, t in zip(counts, totals, strict=True))

    def _alternatives(self, gate: int, children: list[tuple[int, Callable[[], None]]]) -> list[tuple[int, int, int]]:
        """Lower children of which a row takes one: they share slots, and the largest counts the most.

        Returns:
            The groups, steps and statistics that each child adds.
        """
        start = self.canvases, self.dtype, self._slot, self.groups, self.steps, self.stats
        ends = []
        for want, lower in children:
            self.canvases, self.dtype, self._slot, self.groups, self.steps, self.stats = start
            with self._behind(gate, want):
                lower()
            ends.append((self.canvases, self.dtype, self._slot, self.groups, self.steps, self.stats))
        self.canvases = frozenset().union(*(e[0] for e in ends))
        self._same_dtype([e[1] for e in ends])
        self._slot, self.groups, self.steps, self.stats = (max(e[i] for e in ends) for i in range(2, 6))
        return [tuple(e[i] - start[i] for i in (3, 4, 5)) for e in ends]

    def _same_dtype(self, dtypes: Sequence[torch.dtype]) -> None:
        if len(set(dtypes)) > 1:
            names = " or ".join(sorted({str(d) for d in dtypes}))
            raise self.fail(f"images would be {names}, depending on the draw; put ToDtype outside of the random choice")

    def geometry(
        self,
        op: str,
        arguments: Sequence[float] = (),
        *,
        call: Callable[[Sequence[float], Canvas], list[Call]],
        draw: str | None = None,
        configuration: Sequence[float] = (),
        columns: Sequence[str] = (),
        exact: bool = False,
        border: str = "constant",
        sampling: int = geometry.NEAREST,
        fill: Sequence[float] | None = None,
    ) -> None:
        """Append a geometry slot.

        Args:
            op: a function of `kernels.geometry`.
            arguments: its fixed arguments, in the order of its `a`; those that `columns` draw come first and are
                ignored here.
            call: (drawn values, canvas) -> the torchvision functional calls that do the same.
            draw, configuration, columns: a function of `kernels.draw`, its configuration, and the columns that it
                draws.
            exact: an integer map that never leaves its canvas.
            border, sampling, fill: how to answer outside of the canvas and between pixels; the colour by channel.
        """
        opcode = _OPCODES[plan.KIND_GEOMETRY][op]
        channels = -1
        if fill is not None:
            channels = len(self.config)
            self.config += [float(f) for f in fill]
        words = dict(trait=int(exact), border=BORDERS[border], filter=sampling, channels=channels)
        self._entry(plan.KIND_GEOMETRY, opcode, arguments, draw, configuration, columns, call, **words)
        self._slot += 1
        self.groups += 1
        self.canvases = frozenset(canvas_after(opcode, _twelve(arguments), canvas) for canvas in self.canvases)

    def pixel(
        self,
        op: str,
        arguments: Sequence[float] = (),
        *,
        call: Callable[[Sequence[float], Canvas], list[Call]],
        draw: str | None = None,
        configuration: Sequence[float] = (),
        columns: Sequence[str] = (),
        statistic: bool = False,
        by_channel: Sequence[Sequence[float]] | None = None,
    ) -> None:
        """Append a pixel slot, as `geometry`; `by_channel` gives eight arguments for each three channels."""
        channels = -1
        if by_channel is not None:
            channels = len(self.config)
            self.config += [float(v) for block in by_channel for v in block]
        opcode = _OPCODES[plan.KIND_PIXEL][op]
        words = dict(trait=int(statistic), channels=channels)
        self._entry(plan.KIND_PIXEL, opcode, arguments, draw, configuration, columns, call, **words)
        self._slot += 1
        self.steps += 1
        self.stats += int(statistic)

    def to_dtype(self, dtype: torch.dtype, scale: bool) -> None:
        """Change the stage's dtype, scaling values as torchvision's `to_dtype` if `scale`."""

        def call(values: Sequence[float], canvas: Canvas) -> list[Call]:
            return [("to_dtype", {"dtype": dtype, "scale": scale})]

        before, after = self.dtype, dtype
        factor, truncate = 1.0, 0.0
        if before == torch.uint8 and after.is_floating_point and scale:
            factor = 1.0 / 255.0
        elif before.is_floating_point and after == torch.uint8:
            factor, truncate = 255.999 if scale else 1.0, 1.0
        if before != after:
            self.pixel("convert", (factor, truncate), call=call)
        self.dtype = dtype


def path_name(path: tuple) -> str:
    """The position in nested containers as a prefix, "3.1."."""
    return "".join(f"{i}." for i in path)


def _twelve(values: Sequence[float]) -> list[float]:
    return [float(v) for v in values] + [0.0] * (12 - len(values))


def lower(transforms: Sequence, canvases: frozenset[Canvas], channels: int, dtype: torch.dtype) -> Program:
    """Lower a pipeline for images of the sizes `canvases` (H, W), `channels` and `dtype`.

    Raises:
        TypeError: a dtype or channel count that an op cannot take.
        ValueError: a size that an op cannot take, or an output size that would depend on the draw.
    """
    if dtype not in DTYPES:
        names = ", ".join(str(d).removeprefix("torch.") for d in DTYPES)
        raise TypeError(f"images must be {names}, got {dtype}; convert them first, for example images.float()")
    if not 1 <= channels <= MAX_CHANNELS:
        raise ValueError(f"images must have 1 to {MAX_CHANNELS} channels, got {channels}; is the shape [B, C, H, W]?")
    build = Lowering(canvases, channels, dtype)
    for index, transform in enumerate(transforms):
        with build.op(index, transform):
            transform.lower(build)
    if len(build.canvases) != 1:
        sizes = ", ".join(f"{h}x{w}" for h, w in sorted(build.canvases))
        raise ValueError(
            f"the output size would depend on the draw or on the input ({sizes}); "
            "end with an op of fixed size, as Resize((H, W)) or RandomCrop"
        )
    config = tuple(torch.tensor(build.config, dtype=torch.float32).tolist())
    return Program(
        entries=tuple(build.entries),
        config=config,
        columns=tuple(build.columns),
        canvases=canvases,
        channels=channels,
        in_dtype=dtype,
        out_dtype=build.dtype,
        out_size=next(iter(build.canvases)),
        groups=max(build.groups, 1),
        steps=max(build.steps, 1),
        stats=build.stats,
    )


def project_mask(program: Program, channels: int = 1, dtype: torch.dtype = torch.uint8) -> Program:
    """The same geometry for masks beside the images: read nearest, filled with 0, no pixel slots, the same table."""
    entries = []
    for entry in program.entries:
        code = list(entry.code)
        code[plan.CHANNELS] = -1
        if code[plan.KIND] == plan.KIND_PIXEL:
            code[plan.KIND] = plan.KIND_NONE
        elif code[plan.KIND] == plan.KIND_GEOMETRY and code[plan.FILTER] != geometry.NEAREST:
            code[plan.FILTER] = geometry.NEAREST
            code[plan.BORDER] = geometry.EDGE if code[plan.BORDER] == geometry.DROP else code[plan.BORDER]
        entries.append(replace(entry, code=tuple(code)))
    return replace(
        program, entries=tuple(entries), channels=channels, in_dtype=dtype, out_dtype=dtype, steps=1, stats=0
    )
