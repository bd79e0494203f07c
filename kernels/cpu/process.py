"""What threads that run a job take of the process: atomic words, work memory, a lock. C functions go by address."""

from llvmlite import ir
from numba import types as nt
from numba.extending import intrinsic

from . import frame as F
from .dialect import call, exact, i64

LINE = 64  # bytes
LARGE = 4 << 20  # bytes from which on huge pages are asked for, which a loop over scratch images feels
PAGE = 1 << 12
HUGE_PAGES = 14  # MADV_HUGEPAGE


@intrinsic
def fetch_add(typingctx, memory, amount):
    """Add to an int64 in memory, atomically; returns what it was."""

    def codegen(context, builder, signature, args):
        return builder.atomic_rmw("add", *args, "seq_cst")

    return nt.int64(nt.CPointer(nt.int64), nt.int64), codegen


@intrinsic
def compare_swap(typingctx, memory, expected, new):
    """Put a new int64 in memory if the expected one is there, atomically; returns what was there."""

    def codegen(context, builder, signature, args):
        return builder.extract_value(builder.cmpxchg(*args, "seq_cst"), 0)

    return nt.int64(nt.CPointer(nt.int64), nt.int64, nt.int64), codegen


@intrinsic
def allocate(typingctx, function, size):
    """Call `void *(size_t)` at an address; returns the address that it gives, 0 for none."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.IntType(64), [ir.IntType(64)])
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])

    return nt.int64(nt.int64, nt.int64), codegen


@intrinsic
def acquire(typingctx, function, lock):
    """Call `int (void *, int)` at an address: wait for the lock until it is there."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.IntType(32), [ir.IntType(64), ir.IntType(32)])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1], ir.Constant(ir.IntType(32), 1)])
        return context.get_dummy_value()

    return nt.none(nt.int64, nt.int64), codegen


@intrinsic
def advise(typingctx, function, address, size):
    """Call `int (void *, size_t, int)` at an address: madvise, for huge pages."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.IntType(32), [ir.IntType(64), ir.IntType(64), ir.IntType(32)])
        function = builder.inttoptr(args[0], kind.as_pointer())
        builder.call(function, [*args[1:], ir.Constant(ir.IntType(32), HUGE_PAGES)])
        return context.get_dummy_value()

    return nt.none(nt.int64, nt.int64, nt.int64), codegen


@exact
def enter(busy):
    """Count one more thread inside, unless there is none; returns whether it may go in."""
    seen = fetch_add(busy, 0)
    while seen > 0:
        found = compare_swap(busy, seen, seen + 1)
        if found == seen:
            return True
        seen = found
    return False


@exact
def come_in(words, thread, job, helps):
    """Open a job, or, to help, go into one that is open; returns whether the thread is inside."""
    busy = i64(job + 8 * F.JOB_BUSY)
    if helps != 0:
        return enter(busy)
    words[F.JOB_LOCK] = thread[F.OWN_LOCK]
    fetch_add(busy, 1)
    return True


@exact
def go_out(words, thread, job, helps):
    """Leave a job; who opened it waits until nobody is inside. Returns its JOB_LACKS, to a helper 0."""
    lock = words[F.JOB_LOCK]
    left = fetch_add(i64(job + 8 * F.JOB_BUSY), -1)
    if helps != 0:
        if left == 1:
            call(thread[F.OWN_RELEASE], lock)
        return 0
    if left != 1:
        acquire(thread[F.OWN_ACQUIRE], lock)
    return words[F.JOB_LACKS]


@exact
def work_memory(own, need):
    """The address of at least `need` bytes of the thread's own, at the start of a cache line; 0 if there are none."""
    if own[F.OWN_BYTES] < need:
        call(own[F.OWN_FREE], own[F.OWN_MEMORY])
        own[F.OWN_MEMORY] = allocate(own[F.OWN_ALLOCATE], need + LINE)
        own[F.OWN_BYTES] = need
        if own[F.OWN_MEMORY] == 0:
            own[F.OWN_BYTES] = 0
            return 0
        if (own[F.OWN_ADVISE] != 0) & (need >= LARGE):
            page = (own[F.OWN_MEMORY] + PAGE - 1) // PAGE * PAGE
            advise(own[F.OWN_ADVISE], page, (own[F.OWN_MEMORY] + need - page) // PAGE * PAGE)
    return (own[F.OWN_MEMORY] + LINE - 1) // LINE * LINE
