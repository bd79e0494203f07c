"""The C functions of the CPU engine: what is compiled as a whole, and called by address.

`run_rows` and `take_samples` are called from Python, through ctypes, which lets go of the interpreter lock; the phases
of a pass are called by `run_rows`: were they part of it, every loop would be compiled once for itself and once more for
each of its callers.
"""

from functools import cache

from numba import types as nt

from ..shared import plan as P
from . import frame as F
from .asks import equalize, extremes, grey_sum, histogram
from .blend import blend_loop, write_output
from .carry import carry_boxes, carry_points
from .copy import copy_lines
from .dialect import exact, f32, i64, over_memory, pointer_to, xp
from .elastic import elastic_lines
from .jpeg import jpeg_lines
from .names import CALLED, CARRIES
from .neighbours import neighbours
from .points import places, points
from .process import come_in, fetch_add, go_out, too_early, work_memory
from .records import Pointer
from .sample import nearest_lines, smooth_lines
from .steps import finish, loop
from .store import store, store_packed, widen
from .tables import prepare
from .text import augment_row, buffer_bytes
from .walk import divide, open_row, plan_row, schedule_row
from .write import write_row

as_frame = pointer_to(F.Frame)
PHASES = {
    "widen": widen, "prepare": prepare, "nearest": nearest_lines, "smooth": smooth_lines, "points": points,
    "neighbours": neighbours, "places": places, "equalize": equalize, "packed": store_packed, "jpeg": jpeg_lines,
    "elastic": elastic_lines, "copy": copy_lines, "finish": finish, "mean": grey_sum, "extremes": extremes,
    "histogram": histogram,
}  # fmt: skip


@exact
def run_row(job, own, r):
    """Walk row r of a job, if that is to be done, and write its image, if that is; returns how many bytes of work
    memory could not be had, or 0."""
    row, plan = i64(job.rows + 8 * r * P.ROW), job.plans + 4 * r * job.row_words
    if job.planned == 0:
        plan_row(job, row, plan, f32(plan + 4 * job.plan_words))
    if job.writes == 0:
        return 0
    frame = as_frame(job.records + r * job.record_bytes)
    open_row(job, frame, plan)
    need = divide(frame, row[P.ROW_H], row[P.ROW_W], 0)
    memory = work_memory(own, need)
    if memory == 0:
        return need
    divide(frame, row[P.ROW_H], row[P.ROW_W], memory)
    schedule_row(job, row, frame, xp.i64(f32(plan)[P.N_STEPS]), xp.i64(F.OUT))
    write_row(job, row, frame)
    return 0


@exact
def run_rows(job, own, helps):
    """Take rows of the job until none is left: walk them, and write their images, in the thread's work memory.

    The caller passes `helps` 0: it opens the job, and returns when all rows are done and no helper is inside, be it
    that the work memory failed: 0, or how many bytes could not be had; rows are then left out. Helpers, any number at
    once, pass 1: outside of that time they touch no row. They return 1 if it is still to come, else 0.
    """
    if not come_in(job, own, helps):
        return too_early(job)
    r = fetch_add(job.next, 1)
    while r < job.n:
        need = run_row(job, own, r)
        if need != 0:
            job.lacks = need
            fetch_add(job.next, job.n)
        r = fetch_add(job.next, 1)
    return go_out(job, own, helps)


@exact
def run_outputs(job, own, helps):
    """As `run_rows`, for the outputs of a program with a blend, whose rows are planned; some at once."""
    if not come_in(job, own, helps):
        return too_early(job)
    first = fetch_add(job.next, job.chunk)
    while first < job.n:
        for o in range(first, min(first + job.chunk, job.n)):
            need = write_output(job, own, o, o == first)
            if need != 0:
                job.lacks = need
                fetch_add(job.next, job.n)
                break
        first = fetch_add(job.next, job.chunk)
    return go_out(job, own, helps)


@exact
def run_texts(job, own, helps):
    """As `run_rows`, for rows of tokens; some at once."""
    if not come_in(job, own, helps):
        return too_early(job)
    need = buffer_bytes(job.width)
    memory = work_memory(own, need)
    if memory == 0:
        job.lacks = need
        return go_out(job, own, helps)
    first = fetch_add(job.next, job.chunk)
    while first < job.n:
        for r in range(first, min(first + job.chunk, job.n)):
            augment_row(job, r, memory)
        first = fetch_add(job.next, job.chunk)
    return go_out(job, own, helps)


@exact
def take_samples(rows, n, counter):
    """Count the samples that n rows read; returns the counter's value before."""
    samples = 0
    for r in range(n):
        samples = max(samples, i64(rows + 8 * r * P.ROW)[P.ROW_SAMPLE] + 1)
    return fetch_add(i64(counter), samples)


def signature(structure):
    """That of a C function of one pointer."""
    return (Pointer(structure),), nt.none


@cache
def _called():
    """What Python calls, by name."""
    job, own, word = Pointer(F.Job), Pointer(F.Own), nt.int64
    given = {"run_texts": (Pointer(F.TextJob), own, word), "take_samples": (word, word, word)}
    functions = dict(zip(CALLED, (run_rows, run_outputs, run_texts, take_samples), strict=True))
    found = {name: ((given.get(name, (job, own, word)), word), f) for name, f in functions.items()}
    carries = dict(zip(CARRIES, (carry_boxes, carry_points), strict=True))
    return found | {name: (signature(F.CarryJob), carry) for name, carry in carries.items()}


def made(key):
    """The function of a key (`names.symbol`), as Numba has it, with its signature."""
    of_frame = signature(F.Frame)
    if isinstance(key, tuple):
        first, *rest = key
        if first == "store":
            return of_frame, store(*rest)
        return of_frame, blend_loop(*rest) if first == "blend" else loop(*key)
    if key in _called():
        return _called()[key]
    phase = PHASES.get(key.removesuffix("_phase"))
    if phase is not None:
        return of_frame, phase
    function, structure = over_memory(key)
    return signature(structure), function
