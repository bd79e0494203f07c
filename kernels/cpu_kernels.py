"""The C functions of the CPU engine: what is compiled as a whole, kept on disk, and called by address.

Each is compiled when it is first asked for. `run_rows` and `take_samples` are called from Python, through ctypes, which
lets go of the interpreter lock; the stages of a pass are called by `run_rows`: were they part of it, every loop would
be compiled once for itself and once more for each of its callers.
"""

import gc
import threading
import types
from contextlib import contextmanager

from numba import cfunc
from numba import types as nt
from numba.core import config, event
from numba.extending import intrinsic

from . import cpu_frame as F
from . import dialect, pixel, user
from . import plan as P
from .cpu_asks import equalize, extremes, grey_sum, histogram
from .cpu_dialect import f32, i64, over_memory
from .cpu_neighbours import neighbours
from .cpu_points import places, points
from .cpu_sample import nearest_rows, smooth_rows
from .cpu_steps import finish, loop
from .cpu_store import store, store_packed, widen
from .cpu_tables import prepare
from .cpu_walk import divide, plan_row, schedule_row
from .cpu_write import write_row

STAGE = "void(int64)"
KINDS = {F.U8: "u8", F.F32: "f32", F.BF16: "bf16", F.F16: "f16"}
STAGES = {
    F.WIDEN: "widen_stage",
    F.PREPARE: "prepare_stage",
    F.NEAREST_ROWS: "nearest_stage",
    F.SMOOTH_ROWS: "smooth_stage",
    F.POINTS: "points_stage",
    F.FINISH: "finish_stage",
    F.NEIGHBOURS: "neighbours_stage",
    F.PLACES: "places_stage",
    F.KEEP: ("store", F.F32, False, ()),
    F.KEEP_PACKED: "packed_stage",
    F.ASKS + P.MEAN: "mean_stage",
    F.ASKS + P.EXTREMES: "extremes_stage",
    F.ASKS + P.HISTOGRAM: "histogram_stage",
}


@intrinsic
def fetch_add(typingctx, memory, amount):
    """Add to an int64 in memory, atomically; returns what it was."""

    def codegen(context, builder, signature, args):
        return builder.atomic_rmw("add", *args, "monotonic")

    return nt.int64(nt.CPointer(nt.int64), nt.int64), codegen


def functions(digest):
    """The C functions by name, with their signatures. They close over the digest, which is so in Numba's cache key."""

    def run_rows(job, own, memory, size):
        """Take rows of the job until none is left: walk them, and write their images with `size` bytes of work memory.

        Any number of threads may do so at once. Returns 0; or, if a row needs more memory, how much: it is then kept in
        `own`, one int64 of the thread's that starts as -1, and taken first by the next call.
        """
        digest  # noqa: B018
        kept, following, job = i64(own), i64(job + 8 * F.JOB_NEXT), i64(job)
        r = kept[0]
        if r < 0:
            r = fetch_add(following, 1)
        while r < job[F.JOB_N]:
            row, record = i64(job[F.JOB_ROWS] + 8 * r * P.ROW), job[F.JOB_RECORDS] + r * job[F.JOB_RECORD_BYTES]
            frame, plan = i64(record), record + 8 * (F.FRAME_WORDS + F.PASS_WORDS * job[F.JOB_PASSES])
            plan_row(job, row, frame, plan, f32(plan + 4 * job[F.JOB_PLAN_WORDS]))
            if job[F.JOB_WRITES] != 0:
                need = divide(frame, row[P.ROW_H], row[P.ROW_W])
                if need > size:
                    kept[0] = r
                    return need
                schedule_row(job, row, frame, record + 8 * F.FRAME_WORDS)
                write_row(job, row, record, memory)
            r = fetch_add(following, 1)
        kept[0] = -1
        return 0

    def take_samples(rows, n, counter):
        """Count the samples that n rows read; returns the counter's value before."""
        digest  # noqa: B018
        samples = 0
        for r in range(n):
            samples = max(samples, i64(rows + 8 * r * P.ROW)[P.ROW_SAMPLE] + 1)
        return fetch_add(i64(counter), samples)

    return {
        "run_rows": ("int64(int64, int64, int64, int64)", run_rows),
        "take_samples": ("int64(int64, int64, int64)", take_samples),
    }


def stages(digest):
    """The stages of a pass, as `functions`."""

    def widen_stage(frame):
        digest  # noqa: B018
        widen(i64(frame))

    def prepare_stage(frame):
        digest  # noqa: B018
        prepare(i64(frame))

    def nearest_stage(frame):
        digest  # noqa: B018
        nearest_rows(i64(frame))

    def smooth_stage(frame):
        digest  # noqa: B018
        smooth_rows(i64(frame))

    def points_stage(frame):
        digest  # noqa: B018
        points(i64(frame))

    def finish_stage(frame):
        digest  # noqa: B018
        finish(i64(frame), frame)

    def neighbours_stage(frame):
        digest  # noqa: B018
        neighbours(i64(frame))

    def places_stage(frame):
        digest  # noqa: B018
        places(i64(frame))

    def mean_stage(frame):
        digest  # noqa: B018
        grey_sum(i64(frame), frame)

    def extremes_stage(frame):
        digest  # noqa: B018
        extremes(i64(frame), frame)

    def histogram_stage(frame):
        digest  # noqa: B018
        histogram(i64(frame), frame)

    def equalize_stage(frame):
        digest  # noqa: B018
        equalize(i64(frame))

    def packed_stage(frame):
        digest  # noqa: B018
        store_packed(i64(frame))

    found = widen_stage, prepare_stage, nearest_stage, smooth_stage, points_stage, finish_stage, neighbours_stage
    found += places_stage, mean_stage, extremes_stage, histogram_stage, equalize_stage, packed_stage
    return {stage.__name__: (STAGE, stage) for stage in found}


def named(template, name, **scope):
    """A template of a C function, with the names that it lacks.

    Numba keys what it keeps on disk by the name, the byte code and the closure of a function: no two share a name.
    """
    bound = types.FunctionType(template.__code__, {**globals(), **scope}, name, None, template.__closure__)
    bound.__qualname__ = name
    return STAGE, bound


def store_stage(kind, strided, tail, digest):
    """The C function of a store, with its signature."""

    def run_store(frame):
        digest  # noqa: B018
        STORE_TILE(i64(frame))

    words = [KINDS[kind], "strided" if strided else "planar"]
    words += [f"{pixel.CASES[opcode]}_{'lattice' if lattice else 'float'}" for opcode, lattice in tail]
    return named(run_store, f"store_{'_'.join(words)}", STORE_TILE=store(kind, strided, tail))


def row_function(name, digest):
    """The C function of a draw or a geometry function, with its signature."""

    def run_over_memory(address):
        digest  # noqa: B018
        OVER_MEMORY(address)

    return named(run_over_memory, name, OVER_MEMORY=over_memory(name))


def pixel_loop(opcode, lattice, grey, digest):
    """The C function of an opcode's loop for one kind of stage, with its signature.

    What is kept of a user's formula is keyed by its own digest, too.
    """
    name = pixel.CASES.get(opcode)
    if name is None:
        made = user.FORMULAS[opcode]
        digest += made.digest()
        name = f"{made.name}_{made.digest()[:16]}"

    def run_loop(frame):
        digest  # noqa: B018
        LOOP(i64(frame))

    name = f"{name}_{'lattice' if lattice else 'float'}_{'grey' if grey else 'colour'}"
    return named(run_loop, name, LOOP=loop(opcode, lattice, grey))


class Lightly(event.Listener):
    """Lowers Numba's optimisation while it compiles what a C function calls, which is then optimised as part of it."""

    def __init__(self):
        self.depth, self.level = 0, config.OPT

    def on_start(self, what):
        self.depth += 1
        config.OPT = type(self.level)(1)

    def on_end(self, what):
        self.depth -= 1
        if self.depth == 0:
            config.OPT = self.level


@contextmanager
def swiftly():
    """Compile in about two thirds of the time: lightly, and without looking for garbage among all that is imported."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        with event.install_listener("numba:compile", Lightly()):
            yield
    finally:
        if collecting:
            gc.enable()


def compiled(signature, function):
    """Compile a C function; keep it on disk where Numba finds a folder that it can write."""
    with swiftly():
        try:
            return cfunc(signature, cache=True, error_model="numpy")(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            return cfunc(signature, error_model="numpy")(function)


_functions: dict = {}
_compiled: dict = {}
_lock = threading.Lock()


def _made(name):
    """The function of a key of `get`, with its signature."""
    if not _functions:
        digest = dialect.source_digest()
        _functions.update(functions(digest) | stages(digest))
    if isinstance(name, tuple):
        if name[0] == "store":
            return store_stage(*name[1:], dialect.source_digest())
        return pixel_loop(*name, dialect.source_digest())
    return _functions[name] if name in _functions else row_function(name, dialect.source_digest())


def get(name):
    """The C function of that name, a stage, a draw or a geometry function; the loop (opcode, lattice, grey); or the
    store ("store", kind, strided, tail) of `cpu_store`.

    `.ctypes` calls it, `.address` is where it lies.
    """
    if name not in _compiled:
        with _lock:
            if name not in _compiled:
                _compiled[name] = compiled(*_made(name))
    return _compiled[name]
