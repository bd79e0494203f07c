"""The triton backend: a plan kernel, the ask kernel once for each ask of a row, and a write kernel.

Everything that a call needs is on the device; the host allocates, launches, and looks at nothing. A plan row holds the
plan, the row's own columns, tables of levels and partial results; scratch images are kept for neighbours.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch

from ..kernels.shared import geometry, pixel, plan, user
from ..kernels.shared.jpeg import MCU
from ..kernels.triton.asks import PARTIALS
from ..kernels.triton.blend import blend_kernel_for
from ..kernels.triton.dialect import INTERPRETED, bits
from ..kernels.triton.launch import TYPES, Kernel, launch, pointer
from ..kernels.triton.plan import BLOCK, plan_kernel_for
from ..kernels.triton.story import LEVELS
from ..kernels.triton.walk import Can
from ..kernels.triton.write import INTERLEAVED, PLANES, kernels_for
from ..program import Canvas, Program
from .engine import Key, allocate
from .triton_can import behind, can

__all__ = ["Engine", "allocate", "size_key", "supports"]

SMALL, LARGE = (8, 32), (16, 32)  # tiles in pixels, y and x; `write`: 2, 4 pixels a thread
WARPS = 4
POINTERS = True
ASK_WARPS = 8  # half as many pixels a thread: what a chunk knows so far takes registers too
MOST_ROWS = 65535  # of a launch: what the last axis of a grid can count
KEPT_VARIANTS = 256  # pairs of tensors of which an engine remembers how they are launched
CHUNKS = 16  # programs that share a row's ask, whatever the batch
PLAN_TYPES = dict(rows="*i64", code="*i32", config="*fp32", table="*fp32", plan="*fp32", ids="*i64", has_ids="i32")
PLAN_TYPES |= dict(state="*i64", epoch="i64", n_rows="i32", n_entries="i32", n_columns="i32", plan_words="i32")
PLAN_TYPES |= dict(plan_stride="i32", groups="i32", steps="i32")
OUT_TYPES = dict(image_size="i64", out_n="i64", out_c="i64", out_y="i32", out_x="i32", out_h="i32", out_w="i32")
OUT_TYPES |= dict(i_first="i64")
LAYOUT_TYPES = dict(scratch_size="i64", scratch_images="i32", plan_stride="i32", groups="i32", steps="i32")
LAYOUT_TYPES |= dict(tables_at="i32")
BLEND_TYPES = dict(outputs="*i64", n_layers="i32")


def supports(program: Program, images: torch.Tensor) -> str | None:
    """None, or the reason why this backend cannot run `program` on `images`."""
    if images.is_cuda or (images.device.type == "cpu" and INTERPRETED):
        return None
    return f"its kernels run on CUDA tensors, the images are on {images.device}"


class Scratch(NamedTuple):
    """What a row keeps for its neighbours: how many images, the elements of the largest, and their dtype."""

    images: int
    size: int
    dtype: torch.dtype


def size_key(program: Program) -> int:
    """What an engine depends on of a program's sizes."""
    return scratch(program).size


def scratch(program: Program) -> Scratch:
    """A row's scratch images: at most two, as a story reads one and writes the other. Sizes that are about the same
    share an engine: the largest image counts as up to a quarter more."""
    asking = [slot for slot in program.facts.paints if slot.trait == plan.NEIGHBOURS]
    if not asking:
        return Scratch(0, 0, torch.float32)
    largest = max(h * w for slot in asking for h, w in program.sizes.canvases[slot.number])
    unit = 1 << max(largest.bit_length() - 3, 0)
    largest = -(-largest // unit) * unit
    exact = all(slot.op == pixel.JPEG or (slot.lattice and slot.op == pixel.SHARPNESS) for slot in asking)
    planes = program.channels + 2 * (pixel.ELASTIC in program.facts.near)  # behind an image, what moves its pixels
    return Scratch(min(len(asking), 2), planes * largest, torch.uint8 if exact else torch.float32)


def _kernel(function, types: dict, constants: dict, warps: int, **options) -> Kernel:
    return Kernel(function, tuple(types.items()), tuple(constants.items()), warps, tuple(options.items()))


def tile_of(meets: Can) -> tuple[int, int]:
    """The tile of a program's kernels: as many pixels a thread as leave the registers in peace."""
    near = meets.neighbours and (meets.place or ((meets.jpeg or meets.elastic) and meets.filter != geometry.NEAREST))
    return SMALL if meets.groups_before or meets.steps_before or near else LARGE


def is_light(meets: Can) -> bool:
    """Whether a program's kernels need few registers, however the compiler shares them out."""
    if meets.groups_before or meets.steps_before or meets.neighbours or meets.place:
        return False
    return (
        meets.axes and meets.filter in (geometry.NEAREST, geometry.LINEAR) and not (meets.extremes or meets.histogram)
    )


def span(tensor: torch.Tensor) -> int:
    """Elements from the first to the last pixel of a channel of [B, C, H, W] or [C, H, W]; of a flat tensor, all."""
    axes = zip(tensor.shape[-2:], tensor.stride()[-2:], strict=True)
    return 1 + sum((n - 1) * stride for n, stride in axes)


def quads_of(out: torch.Tensor) -> int:
    """How `write_kernel` may store quads in an output: PLANES, INTERLEAVED, or 0 for not at all."""
    _, c, _, w = out.shape
    stride_n, stride_c, stride_y, stride_x = out.stride()
    if out.data_ptr() % 16 or w % 4 or stride_n % 4 or stride_y % 4:
        return 0
    if stride_x == 1 and (stride_c % 4 == 0 or c == 1):
        return PLANES
    return INTERLEAVED if (c, stride_c, stride_x) == (3, 1, 3) else 0


def kernels(program: Program, quads: bool = True, wide: bool = False, ragged: bool = False) -> dict[str, Kernel]:
    """The kernels of a program: "draw" (draws and plans), "plan" (from a given table), "ask", "write".

    Args:
        quads: `quads_of` the output is not 0, as of a dense one whose width is a multiple of four.
        wide: `span` of the source or of the output is 2^31 or more.
        ragged: the rows have sizes of their own.
    """
    facts = program.facts
    draws, maps = (frozenset(entries) for entries in ((e.draw for e in program.entries), (e.op for e in facts.moves)))
    function = plan_kernel_for(draws, maps)
    options = {"warps": 1, "enable_fp_fusion": False, "maxnreg": 255}
    sizes, shares = {"C": program.channels, "BLOCK": BLOCK}, any(entry.shared for entry in program.entries)
    mixes = {"SHARES": shares, "BLENDS": program.mix is not None}
    found = {
        "draw": _kernel(function, PLAN_TYPES, {**sizes, "FRESH": 1, **mixes}, **options),
        "plan": _kernel(function, PLAN_TYPES, {**sizes, "FRESH": 0, **mixes}, **options),
    }
    if program.by_boxes:
        found["redraw"] = _kernel(function, PLAN_TYPES, {**sizes, "FRESH": 2, **mixes}, **options)
    meets = can(program)
    if wide or ragged:
        meets = replace(meets, wide=wide, ragged=ragged)
    tile = tile_of(meets)
    options = {"enable_fp_fusion": False}  # on the lattice a last place decides a whole level
    if not is_light(meets):
        options["maxnreg"] = 128  # left alone, ptxas gives these kernels fewer registers, and spills
    users = tuple(sorted({slot.op for slot in facts.paints if slot.op >= user.FIRST}))
    functions = kernels_for(users)
    types = {
        "source": TYPES[program.in_dtype],
        "rows": "*i64",
        "plan": "*fp32",
        "scratch": TYPES[scratch(program).dtype],
    }
    if program.asks:
        tall = MCU if meets.jpeg else tile[0]  # JPEG's blocks are wholly in one tile
        constants = {"TILE_H": tall, "TILE_W": tile[0] * tile[1] // tall, "CHUNKS": CHUNKS, "CAN": meets}
        types_of_ask = {**types, "i_ask": "i32", **LAYOUT_TYPES}
        found["ask"] = _kernel(functions["ask_kernel"], types_of_ask, constants, ASK_WARPS, **options)
    quads = quads and tile != SMALL and not ragged  # else a quad would lie in two threads
    constants = {"TILE_H": tile[0], "TILE_W": tile[1], "OUT_C": program.out_channels, "QUADS": int(quads), "CAN": meets}
    types |= {"out": TYPES[program.out_dtype], **OUT_TYPES, **LAYOUT_TYPES}
    if wide:
        types |= {"out_y": "i64", "out_x": "i64"}
    function = functions["write_kernel"]
    if facts.blends:
        function, types = blend_kernel_for(users), {**types, **BLEND_TYPES}
        constants |= {"BEHIND": behind(program, meets), "BLENDS": bits(slot.op for slot in facts.blends)}
    write = _kernel(function, types, constants, WARPS, **options)
    found["write"] = replace(write, aligned=("out",)) if quads else write
    return found


class DevicePlans:
    """`engine.Plans` in one piece of memory: each row's, and behind them the table, unless it was given."""

    __slots__ = ("_engine", "_given", "_n", "memory")

    def __init__(self, engine: Engine, n: int, memory: torch.Tensor, table: torch.Tensor | None):
        self._engine, self._n, self.memory, self._given = engine, n, memory, table

    @property
    def table(self) -> torch.Tensor:
        if self._given is not None:
            return self._given
        return self.memory[self._n * self._engine.stride :].view(self._n, self._engine.columns)

    @property
    def words(self) -> torch.Tensor:
        lines = self.memory[: self._n * self._engine.stride].view(self._n, self._engine.stride)
        return lines[:, : self._engine.words]


class Engine:
    """Runs one program on one device.

    Args:
        program: what to do.
        device: where its inputs live.
    """

    def __init__(self, program: Program, device: torch.device):
        self.device, self.index = device, device.index
        self.code = torch.tensor(program.code or (0,), dtype=torch.int32, device=device)
        self.config = torch.tensor(program.config or (0.0,), dtype=torch.float32, device=device)
        self.columns, self.asks = len(program.columns), program.asks
        self.words = program.plan_words
        self.scratch = scratch(program)
        tables_at = self.words + self.columns
        tables = program.asks * program.channels * LEVELS if plan.HISTOGRAM in program.facts.needs else 0
        self.stride = tables_at + tables + (PARTIALS * CHUNKS if program.asks else 0)
        places = self.stride, program.groups, program.steps
        self.layout = self.scratch.size, self.scratch.images, *places, tables_at
        self.program_at = pointer(self.code), pointer(self.config)
        self.counts = len(program.entries), self.columns, self.words, *places
        self.tile = tile_of(can(program))
        self.ask_programs = CHUNKS * ((program.channels + 2) // 3)
        self.program, self.compiled, self.variants = program, {}, {}
        _, self.launches = self._compiled(quads=True, wide=False, ragged=False)

    def plan(self, rows: torch.Tensor, table: torch.Tensor | None, key: Key | None = None) -> DevicePlans:
        if self._elsewhere():
            with torch.cuda.device(self.index):
                return self.plan(rows, table, key)
        n, at = rows.shape[0], pointer(rows)
        size = n * (self.stride + (self.columns if table is None else 0))
        memory = torch.empty(size, dtype=torch.float32, device=self.device)
        if key is None:
            launch, keys = self.launches["plan"], (at, 0, at, 0)
        else:
            ids, epoch, state, onto = key
            keys = (at, 0, pointer(state), epoch) if ids is None else (pointer(ids), 1, pointer(state), epoch)
            launch = self.launches["redraw" if onto else "draw"]
        drawn = pointer(memory, n * self.stride) if table is None else pointer(table)
        launch((n, 1, 1), at, *self.program_at, drawn, pointer(memory), *keys, n, *self.counts)
        return DevicePlans(self, n, memory, table)

    def write(
        self,
        source: torch.Tensor,
        rows: torch.Tensor,
        plans: DevicePlans,
        out: torch.Tensor,
        outputs: torch.Tensor | None = None,
        largest: Canvas | None = None,
    ) -> None:
        if self._elsewhere():
            with torch.cuda.device(self.index):
                return self.write(source, rows, plans, out, outputs, largest)
        n, kept = rows.shape[0], plans.memory
        if self.scratch.images:
            size = n * self.scratch.images * self.scratch.size
            kept = torch.empty(size, dtype=self.scratch.dtype, device=self.device)
        if largest is None:
            quads, launches, tiles, image_size = self._variant(source, out)
            _, _, height, width = out.shape
            strides = out.stride()
        else:
            quads, launches = self._compiled(False, max(span(source), len(out)) >= 2**31, ragged=True)
            tiles, image_size = self._tiles(largest), 0
            height, width, strides = 0, 0, (0, 0, 0, 0)
        read = pointer(source), pointer(rows), pointer(plans.memory), pointer(kept)
        for i_ask in range(self.asks):
            launches["ask"]((n * self.ask_programs, 1, 1), *read, i_ask, *self.layout)
        if quads:
            strides = strides[0], strides[1] // 4, strides[2] // 4, quads
        target, last = (pointer(out), image_size, *strides, height, width), self.layout
        if self.program.facts.blends:
            outputs = torch.arange(n, device=self.device)[:, None] if outputs is None else outputs
            n, last = outputs.shape[0], (*last, pointer(outputs), outputs.shape[1])
        for i_first in range(0, n, MOST_ROWS):
            launches["write"]((*tiles, min(n - i_first, MOST_ROWS)), *read, *target, i_first, *last)

    def _elsewhere(self) -> bool:
        """Whether another device than this engine's is current."""
        return self.index is not None and torch.cuda.current_device() != self.index

    def _variant(self, source, out) -> tuple[int, dict, tuple[int, int], int]:
        """How quads are stored, the launches, the tiles of an image along x and y, and its elements."""
        key = source.shape[1:], source.stride(), out.shape[1:], out.stride(), out.data_ptr() % 16
        variant = self.variants.get(key)
        if variant is None:
            wide, quads, (c, h, w) = max(span(source), span(out)) >= 2**31, quads_of(out), out.shape[1:]
            stores_quads, launches = self._compiled(quads > 0, wide, ragged=False)
            variant = stores_quads and quads, launches, self._tiles((h, w)), c * h * w
            if len(self.variants) >= KEPT_VARIANTS:
                self.variants = {}
            self.variants[key] = variant
        return variant

    def _tiles(self, size: Canvas) -> tuple[int, int]:
        """The tiles of an image, of all its triples of channels, along x and y."""
        h, w = size
        return -(-w // self.tile[1]) * ((self.program.out_channels + 2) // 3), -(-h // self.tile[0])

    def _compiled(self, quads: bool, wide: bool, ragged: bool) -> tuple[int, dict]:
        """Whether quads are stored, and the launches, of `kernels`."""
        way = quads, wide, ragged
        if way not in self.compiled:
            found = kernels(self.program, *way)
            launches = {name: launch(kernel, self.index) for name, kernel in found.items()}
            self.compiled[way] = dict(found["write"].constants)["QUADS"], launches
        return self.compiled[way]
