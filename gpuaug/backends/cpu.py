"""The CPU backend: one engine of C functions for all pipelines, on as many threads as torch has been given."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np
import torch

from ..kernels.cpu import engine as functions
from ..kernels.cpu import frame as F
from ..kernels.cpu import names
from ..kernels.shared import draw, geometry, pixel, plan, user
from ..program import Canvas, Program
from . import cpu_buffers, cpu_helpers
from .cpu_buffers import allocate
from .engine import Key

__all__ = ["Engine", "allocate", "size_key", "supports"]

POINTERS = True
SMALL_WORK = 1 << 16  # output values below which waking another thread costs more than it brings
DRAW_WORK = 256  # a row's draw, in such values
STREAMED_BYTES = 16 << 20  # outputs of at least this size are written past the caches
CHUNK = 16  # outputs that a thread takes at once, where they share layers
PASSES = 4  # the most passes of a row in front of each ask, and in front of the output
_KINDS = {torch.uint8: F.U8, torch.float32: F.F32, torch.bfloat16: F.BF16, torch.float16: F.F16}


def supports(program: Program, images: torch.Tensor) -> str | None:
    """None, or the reason why this backend cannot run `program` on `images`."""
    own = [(slot.op, True, False) for slot in program.facts.paints if slot.op >= user.FIRST]
    if reason := next(filter(None, map(functions.lacks, ("run_rows", *own))), None):
        return reason
    if images.device.type != "cpu":
        return f"it runs on CPU tensors, and these are on {images.device}"
    return None


def size_key(program: Program) -> None:
    """What an engine depends on of a program's sizes: nothing."""


def last_steps(program: Program) -> tuple[tuple[int, bool], ...]:
    """The end of the program's tail that the output's store can run, one of `names.TAILS`."""
    ends = [(slot.op, slot.lattice == 1) if slot.stage_channels != 1 else None for slot in program.facts.tail]
    return max((tail for tail in names.TAILS if tail == tuple(ends[len(ends) - len(tail) :])), key=len)


def packs(program: Program) -> bool:
    """Whether a row can have an image of three channels on the lattice in front of a turn to the nearest pixels."""
    facts = program.facts
    smooth, nearest = any(slot.lattice for slot in facts.smooth), len(facts.smooth) < len(facts.moves)
    return not facts.axis_aligned and smooth and nearest and program.channels == 3


class CpuPlans:
    """`engine.Plans` that are worked out when they are first read, or row by row as they are first written, while a
    row's plan lies in the cache. One thread at a time may do either.

    Args:
        job: plans the rows; what is `held` is read by it.
        memory: of the records, then float32 [R, words of a plan and of a table row].
    """

    __slots__ = ("_engine", "_held", "_memory", "_table", "job", "planned", "rows")

    def __init__(self, engine: Engine, job: F.Job, memory: np.ndarray, table: torch.Tensor, rows, held):
        self._engine, self._memory, self._table, self._held = engine, memory, table, held
        self.job, self.rows, self.planned = job, rows, False

    @property
    def table(self) -> torch.Tensor:
        self.work_out()
        return self._table

    @property
    def words(self) -> torch.Tensor:
        self.work_out()
        n, engine = self.rows.shape[0], self._engine
        words = torch.from_numpy(self._memory)[n * engine.record_bytes :].view(torch.float32)
        return words.view(n, -1)[:, : engine.program.plan_words]

    def work_out(self) -> None:
        """Plan all rows, if that is still to be done."""
        if not self.planned:
            self._engine.run(self.job, DRAW_WORK * self.rows.shape[0])
            self.are_there()

    def are_there(self) -> None:
        """The job's rows are planned: what runs it next only writes."""
        self.planned = True
        self.job.planned = 1


class Engine:
    """Runs one program on the CPU (`engine.Engine`).

    Args:
        program: what to do.
        device: where its inputs live: the CPU.
    """

    def __init__(self, program: Program, device: torch.device):
        self.program = program
        self.tail, self.packs = last_steps(program), packs(program)
        self.run_rows, self.take_samples = (functions.get(name).call for name in ("run_rows", "take_samples"))
        wanted = {phase: names.PHASES[phase] for phase in self._phases()} | self._loops() | self._blends()
        self.phases = np.zeros(max(F.LOOPS, *wanted) + 1, np.int64)
        for phase, name in wanted.items():
            self.phases[phase] = functions.get(name).address
        self.code, self.config = self._code(), np.array(program.config, np.float32)
        self.columns = len(program.columns)
        passes = PASSES * (program.asks + 1)
        self.row_words = program.plan_words + self.columns
        self.record_bytes = ctypes.sizeof(F.Frame) + passes * ctypes.sizeof(F.Pass)
        self.job = job = F.Job(passes=passes, entries=len(program.entries), columns=self.columns)
        job.code, job.config = self.code.ctypes.data, self.config.ctypes.data
        job.record_bytes, job.row_words, job.plan_words = self.record_bytes, self.row_words, program.plan_words
        job.channels, job.groups, job.steps = program.channels, program.groups, program.steps
        job.out_channels, job.tail, job.packs = program.out_channels, len(self.tail), self.packs
        job.phases, job.blends, job.layer_kind = self.phases.ctypes.data, program.mix is not None, self._layer_kind()
        if program.facts.blends:
            self.run_outputs = functions.get("run_outputs").call

    def _code(self) -> np.ndarray:
        """The program's code, in which the addresses of draws and geometry functions take the place of opcodes."""
        code = np.array(self.program.code, np.int64).reshape(-1, plan.ENTRY)
        for entry in code:
            if entry[plan.DRAW]:
                entry[plan.DRAW] = functions.get(draw.CASES[entry[plan.DRAW]]).address
            if entry[plan.KIND] == plan.KIND_GEOMETRY:
                entry[plan.OP] = functions.get(geometry.CASES[entry[plan.OP]]).address
        return code

    def _phases(self) -> set[int]:
        """The phases that rows of the program can need; others are not compiled for it."""
        program, facts = self.program, self.program.facts
        rare = {
            F.SMOOTH_LINES: facts.smooth,
            F.COPY_LINES: program.in_dtype == program.out_dtype == torch.uint8,
            F.POINTS: not facts.axis_aligned,
            F.WIDEN: program.in_dtype in (torch.float16, torch.bfloat16),
            F.NEIGHBOURS: facts.near - {pixel.JPEG, pixel.ELASTIC_NOISE, pixel.ELASTIC},
            F.JPEG: pixel.JPEG in facts.near,
            F.ELASTIC: pixel.ELASTIC in facts.near,
            F.PLACES: plan.PLACE in facts.needs,
            F.KEEP: program.asks or (facts.smooth and (program.groups > 1 or facts.paints)),
            F.KEEP_PACKED: self.packs,
        }
        asks = {F.ASKS + need for need in facts.needs & {plan.MEAN, plan.EXTREMES, plan.HISTOGRAM}}
        return {F.PREPARE, F.NEAREST_LINES, F.FINISH} | {phase for phase, used in rare.items() if used} | asks

    def _loops(self) -> dict[int, str | tuple[int, bool, bool]]:
        """The loops of its pixel steps, as keys of `engine.get`, by their number among the phases."""
        loops: dict[int, str | tuple[int, bool, bool]] = {}
        paints = self.program.facts.paints
        for slot in paints[: len(paints) - len(self.tail)]:
            op, lattice, grey = slot.op, slot.lattice == 1, slot.stage_channels == 1
            if slot.trait != plan.NEIGHBOURS:
                phase = F.loop_index(op, lattice, grey)
                loops[phase] = names.EQUALIZE if op == pixel.EQUALIZE else (op, lattice, grey)
        return loops

    def _layer_kind(self) -> int:
        """The elements of layers in front of a blend."""
        return F.U8 if all(slot.lattice for slot in self.program.facts.blends) else F.F32

    def _blends(self) -> dict[int, tuple]:
        """What blends layers and what keeps them, as `_loops`."""
        kind, slots = self._layer_kind(), self.program.facts.blends
        found: dict[int, tuple] = {F.loop_index(slot.op, 0, 0): ("blend", slot.op, kind) for slot in slots}
        return found | ({F.KEEP_LAYER: ("store", kind, False, ())} if slots else {})

    def plan(self, rows: torch.Tensor, table: torch.Tensor | None, key: Key | None = None) -> CpuPlans:
        rows, n, job = rows.contiguous(), rows.shape[0], F.Job.from_buffer_copy(self.job)
        if table is None:
            table = torch.empty((n, self.columns), dtype=torch.float32, device="cpu")
        memory = cpu_buffers.empty(n * (self.record_bytes + 4 * self.row_words), "plans of a batch")
        job.rows, job.table, job.n = rows.data_ptr(), table.data_ptr(), n
        job.records = address = memory.ctypes.data
        job.plans = address + n * self.record_bytes
        if key is not None:
            self._key(job, rows, key)
        return CpuPlans(self, job, memory, table, rows, key)

    def _key(self, job: F.Job, rows: torch.Tensor, key: Key) -> None:
        ids, epoch, state, onto = key
        words = state.numpy().tolist()
        job.fresh = 2 if onto else 1
        if ids is None:
            counter = state.data_ptr() + 8 * plan.STATE_COUNTER
            job.counter = self.take_samples(rows.data_ptr(), rows.shape[0], counter)
        else:
            job.ids = ids.data_ptr()
        job.epoch = epoch
        job.seed_low, job.seed_high = words[plan.STATE_SEED_LOW], words[plan.STATE_SEED_HIGH]

    def write(
        self,
        source: torch.Tensor,
        rows: torch.Tensor,
        plans: CpuPlans,
        out: torch.Tensor,
        outputs: torch.Tensor | None = None,
        largest: Canvas | None = None,
    ) -> None:
        job = plans.job
        if rows is not plans.rows:
            plans.rows = rows = rows.contiguous()
            job.rows = rows.data_ptr()
        run_rows, work = self.run_rows, out.numel()
        if self.program.facts.blends:
            plans.work_out()  # a row's plan may be read by several threads
            outputs = torch.arange(len(rows), device="cpu")[:, None] if outputs is None else outputs.contiguous()
            run_rows, job = self.run_outputs, self._of_outputs(F.Job.from_buffer_copy(job), outputs)
        job.writes = 1
        self._images(job, source, out)
        lacks = self.run(job, work, run_rows)
        if lacks and job.source != job.out and cpu_buffers.forget():  # rows may be run again
            job.lacks = 0
            lacks = self.run(job, work, run_rows)
        if lacks:
            found = {(h, w) for h, w in rows[:, [plan.ROW_H, plan.ROW_W]].tolist()}
            sizes, (height, width) = " or ".join(f"{h} x {w}" for h, w in sorted(found)), largest or out.shape[2:]
            raise MemoryError(
                f"images of {sizes} into {height} x {width} take {lacks} bytes of work memory for each thread, which "
                "cannot be had"
            )
        plans.are_there()

    def _of_outputs(self, job: F.Job, outputs: torch.Tensor) -> F.Job:
        """The job for outputs of several rows. A thread takes neighbours, of which two may share a layer."""
        n, layers = outputs.shape
        share = n // (4 * torch.get_num_threads()) * 2
        job.outputs, job.layers, job.n = outputs.data_ptr(), layers, n
        job.chunk = min(max(share, 2), CHUNK) if layers == 2 else 1
        return job

    def run(self, job: F.Job, work: int, run_rows: Callable | None = None) -> int:
        """Run a job of so many output values from its first row on; returns how many bytes of work memory could not be
        had. Behind it the job stays at its end: a helper that comes late has nothing to come again for."""
        job.next[0] = 0
        threads = min(torch.get_num_threads(), job.n) if work >= SMALL_WORK else 1
        return cpu_helpers.run(run_rows or self.run_rows, job, threads)

    def _images(self, job: F.Job, source: torch.Tensor, out: torch.Tensor) -> None:
        job.source, job.source_kind = source.data_ptr(), _KINDS[source.dtype]
        job.out, job.out_kind = out.data_ptr(), _KINDS[out.dtype]
        job.ragged = out.dim() == 1
        if out.dim() == 1:
            ways = {False, True}
        else:
            job.out_strides[:] = out.stride()
            ways = {out.stride(3) != 1}
        for strided in ways:
            if not self.phases[F.STORE_OUT + strided]:
                store = functions.get(("store", _KINDS[out.dtype], strided, self.tail))
                self.phases[F.STORE_OUT + strided] = store.address
        job.streams = out.nbytes >= STREAMED_BYTES
