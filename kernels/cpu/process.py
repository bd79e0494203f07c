"""What threads that run a job take of the process: atomic words, work memory, a lock. C functions go by address."""

from llvmlite import ir
from numba import types as nt
from numba.extending import intrinsic

from .dialect import call, exact, xp

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
def come_in(job, own, helps):
    """Open a job, or, to help, go into one that is open; returns whether the thread is inside."""
    if helps != 0:
        return enter(job.busy)
    job.lock = own.lock
    fetch_add(job.busy, 1)
    return True


@exact
def go_out(job, own, helps):
    """Leave a job; who opened it waits until nobody is inside. Returns what it `lacks`, to a helper 0."""
    lock = job.lock
    left = fetch_add(job.busy, -1)
    if helps != 0:
        if left == 1:
            call(own.release, lock)
        return 0
    if left != 1:
        acquire(own.acquire, lock)
    return job.lacks


@exact
def too_early(job):
    """What a helper returns that cannot come in: 1 if the job is still to be opened, 0 if it is over."""
    return xp.where(job.next[0] < job.n, 1, 0)


@exact
def work_memory(own, need):
    """The address of at least `need` bytes of the thread's own, at the start of a cache line; 0 if there are none."""
    if own.bytes < need:
        call(own.free, own.memory)
        own.memory = allocate(own.allocate, need + LINE)
        own.bytes = need
        if own.memory == 0:
            own.bytes = 0
            return 0
        if (own.advise != 0) & (need >= LARGE):
            page = (own.memory + PAGE - 1) // PAGE * PAGE
            advise(own.advise, page, (own.memory + need - page) // PAGE * PAGE)
    return (own.memory + LINE - 1) // LINE * LINE
