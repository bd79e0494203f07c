"""The triton backend: a plan kernel, the ask kernel once for each ask of a row, and a write kernel.

Everything that a call needs is on the device; the host allocates, launches, and looks at nothing. A plan row holds the
plan, the row's own columns, tables of levels and partial results; scratch images are kept for neighbours.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch

from ..kernels import geometry, pixel, plan, triton_plan, triton_story, triton_write, user
from ..kernels.triton_dialect import INTERPRETED, bits
from ..kernels.triton_launch import TYPES, Kernel, launch
from ..program import Program, stages

HERE = nullcontext()
TILE = (8, 32)  # pixels of a write program, y and x
WARPS = 4  # two pixels a thread, one where a warp has 64
BLOCK = triton_story.LEVELS  # pixels that an ask's program takes at a time
ASK_WARPS = 8  # one pixel a thread: what a chunk knows so far takes registers too
CHUNKS = 16  # programs that share a row's ask, whatever the batch
PLAN_TYPES = {
    "rows": "*i64",
    "code": "*i32",
    "config": "*fp32",
    "table": "*fp32",
    "plan": "*fp32",
    "ids": "*i64",
    "has_ids": "i32",
    "state": "*i64",
    "epoch": "i64",
    "has_epoch": "i32",
    "n_rows": "i32",
    "n_entries": "i32",
    "n_columns": "i32",
    "plan_words": "i32",
    "plan_stride": "i32",
    "groups": "i32",
    "steps": "i32",
}
OUT_TYPES = {
    "image_size": "i64",
    "out_n": "i64",
    "out_c": "i64",
    "out_y": "i64",
    "out_x": "i64",
    "out_h": "i32",
    "out_w": "i32",
}
LAYOUT_TYPES = {
    "scratch_size": "i64",
    "scratch_images": "i32",
    "plan_stride": "i32",
    "groups": "i32",
    "steps": "i32",
    "tables_at": "i32",
}


def supports(program: Program, images: torch.Tensor) -> str | None:
    """None, or the reason why this backend cannot run `program` on `images`."""
    if images.is_cuda or (images.device.type == "cpu" and INTERPRETED):
        return None
    return f"its kernels run on CUDA tensors, the images are on {images.device}"


def allocate(
    shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, memory_format: torch.memory_format
) -> torch.Tensor:
    """An output buffer [R, C, OH, OW]."""
    return torch.empty(shape, dtype=dtype, device=device, memory_format=memory_format)


def before_smooth(program: Program) -> tuple[bool, bool]:
    """Whether geometry groups, and pixel steps, may stand in front of the first smooth group of a story.

    An integer map that never leaves its canvas merges into the smooth group, unless a pixel step with a trait parts
    them. A step that needs neighbours begins a new story.
    """
    groups = steps = False
    group = step = merging = False
    first = True  # the next smooth group can be a story's first
    for entry in program.entries:
        kind, trait, always = entry.code[plan.KIND], entry.code[plan.TRAIT], entry.code[plan.GATE_AT] < 0
        if kind == plan.KIND_PIXEL and trait == plan.NEIGHBOURS:
            if always or not first:
                group, step, merging, first = False, False, False, True
            else:
                group |= merging
        elif kind == plan.KIND_PIXEL:
            step = True
            group |= merging and trait != plan.POINTWISE
        elif kind == plan.KIND_GEOMETRY:
            if first and entry.code[plan.FILTER] != geometry.NEAREST:
                groups, steps, first = groups or group, steps or step, not always
            group |= trait == 0
            merging = True
    return groups, steps


def can(program: Program) -> triton_story.Can:
    """What the rows of a program can meet."""
    codes = [e.code for e in program.entries if e.code[plan.KIND] == plan.KIND_GEOMETRY and not e.code[plan.TRAIT]]
    borders = {code[plan.BORDER] for code in codes}
    filters = {code[plan.FILTER] for code in codes} - {geometry.NEAREST}
    groups, steps = before_smooth(program)
    return triton_story.Can(
        channels=program.channels,
        ops=bits(program.pixel_ops),
        project=program.projective,
        fill=geometry.FILL in borders,
        fold=not borders.isdisjoint({geometry.REFLECT, geometry.SYMMETRIC}),
        drop=geometry.DROP in borders,
        filter=triton_story.MIXED if len(filters) > 1 else next(iter(filters), geometry.NEAREST),
        groups_before=groups,
        steps_before=steps,
        mean=plan.MEAN in program.needs,
        extremes=plan.EXTREMES in program.needs,
        histogram=plan.HISTOGRAM in program.needs,
        neighbours=plan.NEIGHBOURS in program.needs,
        place=plan.PLACE in program.needs,
        blur=not program.pixel_ops.isdisjoint({pixel.BLUR_X, pixel.BLUR_Y}),
    )


def scratch(program: Program) -> tuple[int, int, torch.dtype]:
    """What a row keeps for its neighbours: images (at most two, as a story reads one and writes the other), elements of
    the largest, and their dtype."""
    if plan.NEIGHBOURS not in program.needs:
        return 0, 0, torch.float32
    asking = [
        canvases
        for entry, canvases in stages(program)
        if entry.code[plan.KIND] == plan.KIND_PIXEL and entry.code[plan.TRAIT] == plan.NEIGHBOURS
    ]
    largest = max(h * w for canvases in asking for h, w in canvases)
    return min(len(asking), 2), program.channels * largest, torch.uint8 if program.exact_scratch else torch.float32


def _kernel(function, types: dict, constants: dict, warps: int, **options) -> Kernel:
    return Kernel(function, tuple(types.items()), tuple(constants.items()), warps, tuple(options.items()))


def kernels(program: Program) -> dict[str, Kernel]:
    """The kernels of a program: "draw" (draws and plans), "plan" (from a given table), "ask", "write"."""
    function = triton_plan.plan_kernel_for(program.draw_ops, program.geometry_ops)
    options = {"warps": 1, "enable_fp_fusion": False, "maxnreg": 255}
    sizes = {"C": program.channels, "BLOCK": triton_plan.BLOCK}
    found = {
        "draw": _kernel(function, PLAN_TYPES, {**sizes, "FRESH": True}, **options),
        "plan": _kernel(function, PLAN_TYPES, {**sizes, "FRESH": False}, **options),
    }
    meets = can(program)
    options = {"enable_fp_fusion": False}  # on the lattice a last place decides a whole level
    if meets.groups_before or meets.steps_before or meets.neighbours:
        options["maxnreg"] = 128  # left alone, ptxas gives these kernels fewer registers, and spills
    functions = triton_write.kernels_for(tuple(sorted(op for op in program.pixel_ops if op >= user.FIRST)))
    types = {"source": TYPES[program.in_dtype], "rows": "*i64", "plan": "*fp32", "scratch": TYPES[scratch(program)[2]]}
    if program.asks:
        sizes = {"BLOCK": BLOCK, "CHUNKS": CHUNKS, "CAN": meets}
        types_of_ask = {**types, "i_ask": "i32", **LAYOUT_TYPES}
        found["ask"] = _kernel(functions["ask_kernel"], types_of_ask, sizes, ASK_WARPS, **options)
    sizes = {"TILE_H": TILE[0], "TILE_W": TILE[1], "OUT_C": program.out_channels, "CAN": meets}
    types |= {"out": TYPES[program.out_dtype], **OUT_TYPES, **LAYOUT_TYPES}
    found["write"] = _kernel(functions["write_kernel"], types, sizes, WARPS, **options)
    return found


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
        self.entries, self.columns, self.asks = len(program.entries), len(program.columns), program.asks
        self.words = program.plan_words
        self.scratch_images, self.scratch_size, self.scratch_dtype = scratch(program)
        tables_at = self.words + self.columns
        tables = program.asks * program.channels * triton_story.LEVELS if plan.HISTOGRAM in program.needs else 0
        self.stride = tables_at + tables + (triton_write.PARTIALS * CHUNKS if program.asks else 0)
        self.layout = (self.stride, program.groups, program.steps, tables_at)
        self.size = program.out_channels * program.out_size[0] * program.out_size[1]
        tiles = -(-program.out_size[0] // TILE[0]) * -(-program.out_size[1] // TILE[1])
        self.programs = tiles * ((program.out_channels + 2) // 3)
        self.ask_programs = CHUNKS * ((program.channels + 2) // 3)
        self.launches = {name: launch(kernel, self.index) for name, kernel in kernels(program).items()}

    def draw(
        self,
        rows: torch.Tensor,
        table_rows: int,
        ids: torch.Tensor | None,
        epoch: int | None,
        state: torch.Tensor,
    ) -> torch.Tensor:
        """The table float32 [table_rows, P] of what is drawn for int64 rows [R, ROW].

        Args:
            ids: int64, indexed by the rows' sample; None takes the state's counter plus the sample, and moves it on.
            epoch: None takes the state's.
            state: int64 [STATE].
        """
        with self._device():
            return self._draw(rows, table_rows, ids, epoch, state)[0]

    def run(self, source: torch.Tensor, rows: torch.Tensor, table: torch.Tensor, out: torch.Tensor) -> None:
        """Write the images of int64 rows [R, ROW] into `out` [R, C, OH, OW], each as its row of `table` says.

        Args:
            source: the tensor from whose first element the rows' source offsets count.
            out: any strides. A row's output offset counts in whole images of `out_channels` x OH x OW elements.
        """
        if len(rows):
            with self._device():
                plans = self._plan("plan", rows, table.contiguous(), rows, 0, rows, 0, 1)
                self._write(source, rows, plans, out)

    def draw_and_run(self, source, rows, table_rows, ids, epoch, state, out) -> torch.Tensor:
        """`draw`, then `run`; returns the table."""
        with self._device():
            table, plans = self._draw(rows, table_rows, ids, epoch, state)
            if len(rows):
                self._write(source, rows, plans, out)
            return table

    def _device(self):
        """The context in which this engine's device is current."""
        if self.index is None or torch.cuda.current_device() == self.index:
            return HERE
        return torch.cuda.device(self.index)

    def _draw(self, rows, table_rows, ids, epoch, state):
        table = torch.empty((table_rows, self.columns), device=self.device)
        if not len(rows):
            return table.zero_(), None
        keys = (rows, 0) if ids is None else (ids, 1)
        age = (0, 0) if epoch is None else (epoch, 1)
        return table, self._plan("draw", rows, table, *keys, state, *age)

    def _plan(self, name, rows, table, ids, has_ids, state, epoch, has_epoch) -> torch.Tensor:
        n = len(rows)
        plans = torch.empty(n * self.stride, device=self.device)
        keys, counts = (ids, has_ids, state, epoch, has_epoch), (n, self.entries, self.columns, self.words)
        self.launches[name](n, rows, self.code, self.config, table, plans, *keys, *counts, *self.layout[:3])
        return plans

    def _write(self, source, rows, plans, out) -> None:
        n, kept = len(rows), plans
        if self.scratch_images:
            size = n * self.scratch_images * self.scratch_size
            kept = torch.empty(size, dtype=self.scratch_dtype, device=self.device)
        layout = (self.scratch_size, self.scratch_images, *self.layout)
        for i_ask in range(self.asks):
            self.launches["ask"](n * self.ask_programs, source, rows, plans, kept, i_ask, *layout)
        _, _, height, width = out.shape
        place = (self.size, *out.stride(), height, width)
        self.launches["write"](n * self.programs, source, rows, plans, kept, out, *place, *layout)
