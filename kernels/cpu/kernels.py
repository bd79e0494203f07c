"""The C functions of the CPU engine: what is compiled as a whole, kept on disk, and called by address.

Each is compiled when it is first asked for. `run_rows` and `take_samples` are called from Python, through ctypes, which
lets go of the interpreter lock; the phases of a pass are called by `run_rows`: were they part of it, every loop would
be compiled once for itself and once more for each of its callers.
"""

import types
from functools import cache

from ..shared import blend, pixel, user
from ..shared import plan as P
from . import frame as F
from .asks import equalize, extremes, grey_sum, histogram
from .blend import blend_loop, write_output
from .carry import carry_boxes, carry_points
from .compile import compiled, whole
from .copy import copy_lines
from .dialect import f32, i64, over_memory, xp
from .elastic import elastic_lines
from .jpeg import jpeg_lines
from .neighbours import neighbours
from .points import places, points
from .process import come_in, fetch_add, go_out, work_memory
from .sample import nearest_lines, smooth_lines
from .steps import finish, loop
from .store import store, store_packed, widen
from .tables import prepare
from .text import BUFFERS, CHUNK, WIDTH, augment_row, pitch_of
from .walk import divide, open_row, plan_row, schedule_row
from .write import write_row

SIGNATURE = "void(int64)"
KINDS = {F.U8: "u8", F.F32: "f32", F.BF16: "bf16", F.F16: "f16"}
PHASES = {
    F.WIDEN: "widen_phase",
    F.PREPARE: "prepare_phase",
    F.NEAREST_LINES: "nearest_phase",
    F.COPY_LINES: "copy_phase",
    F.SMOOTH_LINES: "smooth_phase",
    F.POINTS: "points_phase",
    F.FINISH: "finish_phase",
    F.NEIGHBOURS: "neighbours_phase",
    F.JPEG: "jpeg_phase",
    F.ELASTIC: "elastic_phase",
    F.PLACES: "places_phase",
    F.KEEP: ("store", F.F32, False, ()),
    F.KEEP_PACKED: "packed_phase",
    F.ASKS + P.MEAN: "mean_phase",
    F.ASKS + P.EXTREMES: "extremes_phase",
    F.ASKS + P.HISTOGRAM: "histogram_phase",
}


def functions():
    """The C functions that Python calls, by name, with their signatures."""

    def run_rows(job, own, helps):
        """Take rows of the job until none is left: walk them, and write their images, in the thread's work memory.

        The caller passes `helps` 0: it opens the job, and returns when all rows are done and no helper is inside, be
        it that the work memory failed: 0, or how many bytes could not be had; rows are then left out. Helpers, any
        number at once, pass 1: outside of that time they touch no row. They return 1 if it is still to come, else 0.
        """
        words, thread, following = i64(job), i64(own), i64(job + 8 * F.JOB_NEXT)
        if not come_in(words, thread, job, helps):
            return xp.where(words[F.JOB_NEXT] < words[F.JOB_N], 1, 0)
        r = fetch_add(following, 1)
        while r < words[F.JOB_N]:
            row, plan = i64(words[F.JOB_ROWS] + 8 * r * P.ROW), words[F.JOB_PLANS] + 4 * r * words[F.JOB_ROW_WORDS]
            if words[F.JOB_PLANNED] == 0:
                plan_row(words, row, plan, f32(plan + 4 * words[F.JOB_PLAN_WORDS]))
            if words[F.JOB_WRITES] != 0:
                record = words[F.JOB_RECORDS] + r * words[F.JOB_RECORD_BYTES]
                frame = i64(record)
                open_row(words, frame, plan)
                need = divide(frame, row[P.ROW_H], row[P.ROW_W])
                memory = work_memory(thread, need)
                if memory != 0:
                    steps = xp.i64(f32(plan)[P.N_STEPS])
                    schedule_row(words, row, frame, record + 8 * F.FRAME_WORDS, steps, xp.i64(F.OUT))
                    write_row(words, row, record, memory)
                else:
                    words[F.JOB_LACKS] = need
                    fetch_add(following, words[F.JOB_N])
            r = fetch_add(following, 1)
        return go_out(words, thread, job, helps)

    def run_outputs(job, own, helps):
        """As `run_rows`, for the outputs of a program with a blend, whose rows are planned; some at once."""
        words, thread, following = i64(job), i64(own), i64(job + 8 * F.JOB_NEXT)
        if not come_in(words, thread, job, helps):
            return xp.where(words[F.JOB_NEXT] < words[F.JOB_N], 1, 0)
        first = fetch_add(following, words[F.JOB_CHUNK])
        while first < words[F.JOB_N]:
            for o in range(first, min(first + words[F.JOB_CHUNK], words[F.JOB_N])):
                need = write_output(words, thread, o, o == first)
                if need != 0:
                    words[F.JOB_LACKS] = need
                    fetch_add(following, words[F.JOB_N])
                    break
            first = fetch_add(following, words[F.JOB_CHUNK])
        return go_out(words, thread, job, helps)

    def run_texts(job, own, helps):
        """As `run_rows`, for rows of tokens, whose job is that of `text`; some at once."""
        words, thread, following = i64(job), i64(own), i64(job + 8 * F.JOB_NEXT)
        if not come_in(words, thread, job, helps):
            return xp.where(words[F.JOB_NEXT] < words[F.JOB_N], 1, 0)
        need = 4 * BUFFERS * pitch_of(words[WIDTH])
        memory = work_memory(thread, need)
        if memory == 0:
            words[F.JOB_LACKS] = need
            return go_out(words, thread, job, helps)
        first = fetch_add(following, words[CHUNK])
        while first < words[F.JOB_N]:
            for r in range(first, min(first + words[CHUNK], words[F.JOB_N])):
                augment_row(words, r, memory)
            first = fetch_add(following, words[CHUNK])
        return go_out(words, thread, job, helps)

    def take_samples(rows, n, counter):
        """Count the samples that n rows read; returns the counter's value before."""
        samples = 0
        for r in range(n):
            samples = max(samples, i64(rows + 8 * r * P.ROW)[P.ROW_SAMPLE] + 1)
        return fetch_add(i64(counter), samples)

    return {
        "run_rows": ("int64(int64, int64, int64)", run_rows),
        "run_outputs": ("int64(int64, int64, int64)", run_outputs),
        "run_texts": ("int64(int64, int64, int64)", run_texts),
        "take_samples": ("int64(int64, int64, int64)", take_samples),
    }


def named(template, name, **scope):
    """A template of a C function, with the names that it lacks; what is kept on disk goes by `name`, its content's."""
    bound = types.FunctionType(template.__code__, {**globals(), **scope}, name, None, template.__closure__)
    bound.__qualname__ = name
    return SIGNATURE, bound


def phases():
    """The phases of a pass, as `functions`; some take the frame's address too. And what carries points."""
    of_frame = {"widen": widen, "prepare": prepare, "nearest": nearest_lines, "smooth": smooth_lines, "points": points}
    of_frame |= {"neighbours": neighbours, "places": places, "equalize": equalize, "packed": store_packed}
    of_frame |= {"jpeg": jpeg_lines, "elastic": elastic_lines, "copy": copy_lines}
    carries = {"box_walk": carry_boxes, "point_walk": carry_points}
    of_both = {"finish": finish, "mean": grey_sum, "extremes": extremes, "histogram": histogram}

    def run_of_frame(frame):
        PHASE(i64(frame))

    def run_of_both(frame):
        PHASE(i64(frame), frame)

    ways = [(run_of_frame, name, phase) for name, phase in of_frame.items()]
    ways += [(run_of_both, name, phase) for name, phase in of_both.items()]
    found = {f"{name}_phase": named(run, f"{name}_phase", PHASE=phase) for run, name, phase in ways}
    return found | {name: named(run_of_frame, name, PHASE=carry) for name, carry in carries.items()}


def store_phase(kind, strided, tail):
    """The C function of a store, with its signature."""

    def run_store(frame):
        STORE_TILE(i64(frame))

    words = [KINDS[kind], "strided" if strided else "planar"]
    words += [f"{pixel.CASES[opcode]}_{'lattice' if lattice else 'float'}" for opcode, lattice in tail]
    return named(run_store, f"store_{'_'.join(words)}", STORE_TILE=store(kind, strided, tail))


def blend_phase(opcode, kind):
    """The C function of a blend of layers of a kind, with its signature."""

    def run_blend(frame):
        BLEND_TILE(i64(frame))

    return named(run_blend, f"blend_{blend.CASES[opcode]}_{KINDS[kind]}", BLEND_TILE=blend_loop(opcode, kind))


def row_function(name):
    """The C function of a draw or a geometry function, with its signature."""

    def run_over_memory(address):
        OVER_MEMORY(address)

    return named(run_over_memory, name, OVER_MEMORY=over_memory(name))


def pixel_loop(opcode, lattice, grey):
    """The C function of an opcode's loop for one kind of stage, with its signature. A user's is named by its digest."""
    name = pixel.CASES.get(opcode)
    if name is None:
        made = user.FORMULAS[opcode]
        name = f"{made.name}_{made.digest()[:16]}"

    def run_loop(frame):
        LOOP(i64(frame))

    name = f"{name}_{'lattice' if lattice else 'float'}_{'grey' if grey else 'colour'}"
    return named(run_loop, name, LOOP=loop(opcode, lattice, grey))


_compiled: dict = {}


@cache
def _fixed():
    """The C functions that are made of nothing else, by name."""
    return functions() | phases()


def _made(name):
    """The function of a key of `get`, with its signature."""
    if isinstance(name, tuple):
        made = {"store": store_phase, "blend": blend_phase}.get(name[0])
        return pixel_loop(*name) if made is None else made(*name[1:])
    return _fixed()[name] if name in _fixed() else row_function(name)


def get(name):
    """The C function of that name, a phase, a draw or a geometry function; the loop (opcode, lattice, grey); the store
    ("store", kind, strided, tail) of `store`; or the blend ("blend", opcode, kind of the layers).

    `.ctypes` calls it, `.address` is where it lies.
    """
    if name not in _compiled:
        whole(lambda: _compile(name))
    return _compiled[name]


def _compile(name):
    if name not in _compiled:
        _compiled[name] = compiled(*_made(name))
