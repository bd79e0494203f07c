"""The kornia backend: every device that torch has, no compiled kernels, differentiable with respect to the images.

kornia's `remap` does the bilinear warps; the torch dialect of the shared arithmetic does all else. The semantics are
those of the other backends; the time is that of many small torch ops.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
import os
import threading
from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from ..kernels import draw, geometry, plan, torch_dialect, torch_layout, torch_write
from ..program import Canvas, Program, canvas_after
from .engine import Key, Plans

CHUNK_BYTES = {"cpu": 1 << 26, "other": 1 << 30}  # on CPU, larger tensors are fresh pages from the system each time
MOST_TAPS = 64  # along each axis, of a resampling that is not axis-aligned
WORD = 0xFFFFFFFF
LOCKS: dict[int, threading.Lock] = {}
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=LOCKS.clear)  # a process that ended may have had the child's number


def supports(program: Program, images: torch.Tensor) -> str | None:
    """None, or the reason why this backend cannot run `program` on `images`."""
    if importlib.util.find_spec("kornia") is None:
        return "kornia is not installed"
    if program.projective and images.device.type == "mps":
        return "RandomPerspective needs float64, which mps lacks"
    taps = bounds(program)[1]
    if taps > MOST_TAPS and not torch_layout.axis_aligned(program.code):
        return f"its merged resamplings may need {taps} x {taps} taps a pixel, more than {MOST_TAPS} x {MOST_TAPS}"
    return None


def allocate(
    shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, memory_format: torch.memory_format
) -> torch.Tensor:
    """An output buffer [R, C, OH, OW]."""
    return torch.empty(shape, dtype=dtype, device=device, memory_format=memory_format)


@lru_cache(maxsize=256)
def bounds(program: Program) -> tuple[Canvas, int]:
    """The largest height and width of any stage, the inputs included; and the most taps that a row needs along an axis.

    A smooth slot behind another is merged into it: the first one stretches the filter of the second (`plan.stretch`).
    """
    seen = set(program.canvases)
    one = _Widths(frozenset(program.canvases), 1.0, 1.0, 1.0)

    def advance(now: _Widths, i: int) -> _Widths:
        entry = program.entries[i]
        code = entry.code
        if code[plan.KIND] != plan.KIND_GEOMETRY:
            return now
        after = frozenset(canvas_after(code[plan.OP], entry.arguments, canvas) for canvas in now.canvases)
        seen.update(after)
        if code[plan.FILTER] == geometry.NEAREST:
            return replace(now, canvases=after)
        ratio = max(1.0, *(a[axis] / b[axis] for a in now.canvases for b in after for axis in (0, 1)))
        antialias = geometry.CASES[code[plan.OP]].startswith("resize") and entry.arguments[6] > 0
        last = 1.0 if antialias else _stretch(program, code, ratio)
        return _Widths(after, now.filters * (ratio if antialias else 1.0), now.stretched * now.last, last)

    def join(ways: list[_Widths]) -> _Widths:
        canvases = frozenset().union(*(way.canvases for way in ways))
        return _Widths(
            canvases, *(max(getattr(way, name) for way in ways) for name in ("filters", "stretched", "last"))
        )

    end = torch_layout.follow(torch_layout.lines(program.code), one, advance, join)
    widest = end.filters * end.stretched if end.filters > 1.0 else 1.0
    reach = 1 if program.filters <= {geometry.NEAREST, geometry.LINEAR} else 2
    return (max(h for h, _ in seen), max(w for _, w in seen)), math.ceil(2 * reach * widest)


@dataclass(frozen=True)
class _Widths:
    """Bounds behind some entries: canvases, the product of the antialiased filters, that of the stretches of all smooth
    slots but the last, and the last one's."""

    canvases: frozenset[Canvas]
    filters: float
    stretched: float
    last: float


def _stretch(program: Program, code: tuple[int, ...], ratio: float) -> float:
    """A bound of `plan.stretch` for a smooth slot without antialias, whose canvases shrink by at most `ratio`."""
    name = geometry.CASES[code[plan.OP]]
    if name in ("rotate", "translate_x", "translate_y"):
        return 1.0
    if name.startswith("resize"):
        return min(ratio, plan.STRETCH)
    if name.startswith("shear"):
        lean = _most(program, code)
        return plan.STRETCH if lean is None else min(1.01 * _norm(1.0, lean, 0.0, 1.0), plan.STRETCH)
    if name != "affine" or not code[plan.DRAW]:
        return plan.STRETCH
    *_, scale, _, x0, x1, y0, y1 = program.config[code[plan.CONFIG] + 12 :][:12]
    norms = []
    for shear_x, shear_y in itertools.product((x0, 0.0, x1), (y0, 0.0, y1)):
        m = torch_dialect.GEOMETRY["affine"]((0.0, 0.0, 0.0, scale, shear_x, shear_y, *[0.0] * 6), 1.0, 1.0)
        norms.append(_norm(m[0], m[1], m[3], m[4]))
    return min(1.01 * max(norms), plan.STRETCH)


def _norm(a: float, b: float, c: float, d: float) -> float:
    """The largest singular value of a 2 x 2 matrix."""
    squares, det = a**2 + b**2 + c**2 + d**2, a * d - b * c
    return math.sqrt((squares + math.sqrt(max(squares**2 - 4 * det**2, 0.0))) / 2)


def _most(program: Program, code: tuple[int, ...]) -> float | None:
    """The largest magnitude of an op's first argument; None where it is not known."""
    c = program.config[code[plan.CONFIG] :][:24]
    if not code[plan.COLUMNS]:
        return abs(c[0])
    c = c[12:]
    match draw.CASES.get(code[plan.DRAW]):
        case "draw_uniform":
            return max(abs(c[0]), abs(c[1]))
        case "draw_level":
            return abs(c[10]) + abs(c[11]) * max(abs(c[0]), abs(c[1])) if c[9] != 1.0 and not c[2] else None
        case "draw_noisy_level":
            return max(abs(c[7]), abs(c[8])) * abs(c[9]) if c[11] == 0.0 and c[10] == 0.0 else None
    return None


class Engine:
    """Runs one program on one device.

    Args:
        program: what to do.
        device: where its inputs live. Nothing is kept there.
    """

    def __init__(self, program: Program, device: torch.device):
        self.program, self.code = program, program.code
        sizes = (program.channels, program.out_channels, program.groups, program.steps, program.asks)
        self.layout = torch_layout.layout(program.code, program.config, *sizes, *bounds(program))

    @torch.no_grad()
    def plan(self, rows: torch.Tensor, table: torch.Tensor, key: Key | None = None) -> Plans:
        own = rows[:, plan.ROW_TABLE]
        if key is not None:
            drawn = torch.zeros((len(rows), table.shape[1]), dtype=torch.float32, device=rows.device)
            words = self._walk(rows, drawn, self._words(rows, key))
            table.index_copy_(0, own, drawn)
            if len(rows) == len(table):  # each row has a table row of its own
                return Plans(table, words)
        return Plans(table, self._walk(rows, table.index_select(0, own), None))

    def _words(self, rows: torch.Tensor, key: Key) -> tuple:
        """The six words of each row's draws (`kernels.draw`)."""
        sample, state = rows[:, plan.ROW_SAMPLE], key.state
        name = _take_samples(state, sample) if key.ids is None else key.ids.index_select(0, sample)
        seed = (state[plan.STATE_SEED_LOW], state[plan.STATE_SEED_HIGH])
        epoch = torch.full_like(name, key.epoch & WORD)
        return (name & WORD, (name >> 32) & WORD, epoch, rows[:, plan.ROW_VIEW] << 20, *seed)

    @torch.no_grad()
    def _walk(self, rows: torch.Tensor, drawn: torch.Tensor, key: tuple | None) -> torch.Tensor:
        """The rows' plans; with a key, what they draw goes into `drawn` [R, P]."""
        program, (r, columns) = self.program, drawn.shape
        plans = torch.zeros((r, program.plan_words), dtype=torch.float32, device=rows.device)
        h, w = rows[:, plan.ROW_H].float(), rows[:, plan.ROW_W].float()
        what = (self.code, len(program.entries), program.config, drawn, columns, plans)
        sizes = (program.channels, program.groups, program.steps)
        torch_dialect.walk(*what, h, w, key, key is not None, *sizes)
        return plans

    def write(self, source: torch.Tensor, rows: torch.Tensor, plans: Plans, out: torch.Tensor) -> None:
        flat, size = _one_axis(source), tuple(out.shape[2:])
        places = torch.div(rows[:, plan.ROW_OUT], out[0].numel(), rounding_mode="floor")
        chunk = max(1, CHUNK_BYTES["cpu" if rows.device.type == "cpu" else "other"] // self._row_bytes(size))
        for start in range(0, len(rows), chunk):
            part = slice(start, start + chunk)
            images = torch_write.Writer(self.layout, flat, rows[part], plans.words[part], _remap).write(size)
            if out.dtype == torch.uint8:
                images = torch.nan_to_num(images, 0.0).clamp(0.0, 255.0)
            out.index_copy_(0, places[part], images.to(out.dtype))

    def _row_bytes(self, size: Canvas) -> int:
        """About what one row needs at once: indices (int64) and values of its largest canvas, twice where it asks,
        and values of its output."""
        (h, w), c = self.layout.canvas, self.layout.channels
        return (32 if self.layout.asks else 16) * (c + 2) * h * w + 24 * (c + 2) * size[0] * size[1]


def _take_samples(state: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
    """The numbers of samples that are counted, and moves the counter on by as many; threads take turns."""
    with LOCKS.setdefault(os.getpid(), threading.Lock()):  # a forked worker takes its own, however the parent's stood
        numbers = state[plan.STATE_COUNTER] + sample
        state[plan.STATE_COUNTER] += sample.max() + 1
    return numbers


def _one_axis(source: torch.Tensor) -> torch.Tensor:
    """The source's memory from its first element on, as one axis."""
    if source.is_contiguous():
        return source.view(-1)
    extent = 1 + sum((n - 1) * stride for n, stride in zip(source.shape, source.stride(), strict=True))
    return source.as_strided((extent,), (1,), source.storage_offset())


def _remap(images: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    from kornia.geometry.transform import remap

    return remap(images, x, y, mode="bilinear", padding_mode="zeros", align_corners=True)
