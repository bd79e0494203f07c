"""Calls of the CPU engine: their threads, whatever interrupts them, work memory, kept buffers, the end of a process."""

from __future__ import annotations

import ctypes
import gc
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

import gpuaug as ga
from gpuaug.backends import cpu, cpu_buffers, cpu_helpers
from gpuaug.compose import new_state
from gpuaug.kernels import cpu_frame as F

HANG_S = 600  # a test that waits as long has hung; nothing is measured
MiB = 1 << 20
FLIP = [ga.RandomHorizontalFlip(), ga.ToDtype(torch.float32, scale=True)]


def pixels(n: int, size: int, seed: int = 0) -> Tensor:
    return torch.randint(
        0, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed), device="cpu"
    )


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def helpers() -> Iterator[None]:
    """Helpers of the test's own: those of before are asked for nothing meanwhile."""
    before = cpu_helpers._tickets, cpu_helpers._threads
    cpu_helpers._renew()
    yield
    cpu_helpers._tickets, cpu_helpers._threads = before


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """The bytes of the buffers that are kept, none at first; at most 8 MiB."""
    gc.collect()
    cpu_buffers.forget()
    monkeypatch.setattr(cpu_buffers, "GIVEN", 8 * MiB)
    yield lambda: sum(size * len(free) for size, free in cpu_buffers._free.items())
    cpu_buffers.forget()


def run_script(script: str, *arguments: str, silent: bool = True) -> str:
    command = [sys.executable, "-W", "ignore", "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr[-2000:]}"
    assert not (silent and done.stderr), done.stderr
    return done.stdout


# --- a job, and who is inside -----------------------------------------------------------------------------------------
class Job:
    """A job of four images that no caller has opened yet, with an output that is 7 where nothing was written."""

    def __init__(self):
        self.x = pixels(4, 16)
        augment = ga.Compose([ga.RandomHorizontalFlip(1.0)], seed=0, backend="cpu")
        recipe = augment.recipe(self.x)
        self.engine, self.rows = recipe.engine, recipe.rows
        self.out, self.table = torch.full_like(self.x, 7), torch.zeros((4, self.engine.columns), dtype=torch.float32)
        self.ids, self.state = torch.arange(4), new_state(0, 0, 0, self.x.device)
        self.job = self.engine._job(self.rows, self.table)
        self.engine._key(self.job, self.rows, self.ids, 0, self.state)
        self.engine._images(self.job, self.x, self.out)
        self.records = np.zeros((4, self.engine.record_bytes), np.uint8)
        self.job[F.JOB_RECORDS], self.job[F.JOB_N], self.job[F.JOB_WRITES] = self.records.ctypes.data, 4, 1

    def run(self, helps: int) -> int:
        return self.engine.run_rows(self.job.ctypes.data, cpu_helpers.own().address, helps)

    def untouched(self) -> bool:
        return bool((self.out == 7).all()) and not self.records.any()


def test_a_helper_writes_only_while_the_caller_is_inside() -> None:
    made = Job()
    assert made.run(1) == 1 and made.untouched(), "too early: it may come again"
    assert made.run(0) == 0 and torch.equal(made.out, made.x.flip(3))
    made.out.fill_(7)
    made.records.fill(0)
    made.job[F.JOB_NEXT] = 4
    assert made.run(1) == 0 and made.untouched(), "too late: there is nothing to come for"


def test_the_caller_waits_for_a_helper_inside() -> None:
    made, returned = Job(), []
    made.job[F.JOB_BUSY] = 1  # one helper is in; it has taken row 0
    made.job[F.JOB_NEXT] = 1
    caller = threading.Thread(target=lambda: returned.append(made.run(0)))
    caller.start()
    caller.join(0.3)
    assert caller.is_alive() and not returned, "it returned with a helper inside"
    assert made.job[F.JOB_BUSY] == 1 and torch.equal(made.out[1:], made.x[1:].flip(3)), "its own rows are done"
    made.job[F.JOB_BUSY] = 0
    cpu_helpers._release(int(made.job[F.JOB_LOCK]))
    caller.join(HANG_S)
    assert returned == [0] and bool((made.out[0] == 7).all())


# --- interrupts -------------------------------------------------------------------------------------------------------
class Stop(Exception):
    pass


def interrupted_at(step: int, call: Callable[[], object], modules: tuple[str, ...]) -> bool:
    """Make a call, and raise Stop in it where its frames of the modules come to their so many-th byte code; whether
    they came to it."""
    left = step

    def trace(frame, what: str, _):
        nonlocal left
        if frame.f_code.co_filename not in modules:
            return None
        frame.f_trace_opcodes = True
        if what == "opcode":
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise Stop
        return trace

    sys.settrace(trace)
    try:
        call()
    except Stop:
        return True
    finally:
        sys.settrace(None)
    return False


def test_an_exception_at_any_byte_code_leaves_no_helper_behind(threads, helpers, monkeypatch) -> None:
    """What comes after the exception is not written to any more, and the next call is right."""
    monkeypatch.setattr(cpu, "SMALL_WORK", 0)
    monkeypatch.setattr(cpu_helpers, "PATIENCE", 2)
    threads(2)
    x = pixels(6, 24)
    augment = ga.Compose([ga.RandomHorizontalFlip(), ga.RandomVerticalFlip()], seed=1, backend="cpu")
    params = augment.sample(x, ids=range(6), epoch=0)
    expected, out = augment.apply(x, params), torch.empty_like(x)
    step = 0
    while interrupted_at(step, lambda: augment.apply(x, params, out=out), (cpu.__file__, cpu_helpers.__file__)):
        out.fill_(7)
        while cpu_helpers._tickets.qsize():  # until the helper has looked at whatever it was asked for
            pass
        assert bool((out == 7).all()), f"written after the exception at byte code {step}"
        assert torch.equal(augment.apply(x, params), expected), step
        step += 1
    assert step > 100 and torch.equal(out, expected)
    assert len(cpu_helpers._threads) == 1


INTERRUPTED = """
import ctypes, random, signal, sys, threading, time, torch, gpuaug as ga
class Stop(Exception): pass
torch.set_num_threads(2)
x = torch.randint(0, 256, (32, 3, 128, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
other = 255 - x
augment = ga.Compose([ga.RandomHorizontalFlip(), ga.ToDtype(torch.float32, scale=True)], seed=0, backend="cpu")
call = lambda v: augment(v, ids=range(32), epoch=0)
expected = call(other).clone()
start = time.perf_counter(); call(x); took = time.perf_counter() - start
rng = random.Random(0)

def victim():
    while True: call(x)

def by_signals():
    def stop(signum, frame):
        while frame is not None:
            if frame.f_code is victim.__code__: raise Stop
            frame = frame.f_back
    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.02, 1.2) * took, 1e-4)
    try: victim()
    except Stop: pass
    signal.setitimer(signal.ITIMER_REAL, 0)

def by_another_thread():
    thread = threading.Thread(target=victim)
    thread.start()
    time.sleep(rng.uniform(0.02, 1.2) * took)
    while thread.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Stop))
        thread.join(1e-4)

wrong = 0
for _ in range(150):
    by_signals() if sys.argv[1] == "signals" else by_another_thread()
    y = call(other)
    time.sleep(took)
    wrong += not torch.equal(y, expected)
print(wrong)
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs signal.setitimer")
@pytest.mark.parametrize("how", ["signals", "another thread"])
def test_interrupted_calls_change_no_later_result(how: str) -> None:
    """150 calls on two threads, interrupted anywhere, and again while the first exception is on its way."""
    out = run_script(INTERRUPTED, how, silent=False)  # Python tells of a Stop in a finalizer, and of the second ones
    assert out.split() == ["0"]


# --- threads ----------------------------------------------------------------------------------------------------------
def test_as_many_threads_as_asked_for_and_no_more_are_kept(helpers) -> None:
    for n in (1, 3, 2, 4, 2):
        seen: set[int] = set()
        met = threading.Barrier(n)

        def run_rows(job: int, own: int, helps: int, seen=seen, met=met) -> int:
            seen.add(threading.get_ident())
            met.wait(HANG_S)
            return 0

        cpu_helpers.run(run_rows, np.zeros(F.JOB_WORDS, np.int64), n)
        assert len(seen) == n and threading.get_ident() in seen
    assert len(cpu_helpers._threads) == 3


def test_threads_of_torch_may_change_between_calls(threads) -> None:
    x, augment = pixels(16, 96), ga.Compose(FLIP, seed=1, backend="cpu")
    outputs = []
    for n in (1, 3, 2, 5):
        threads(n)
        outputs.append(augment(x, ids=range(16), epoch=0))
    assert all(torch.equal(y, outputs[0]) for y in outputs)


def test_a_call_runs_alone_where_no_thread_can_be_started(threads, helpers, monkeypatch) -> None:
    def start(self) -> None:
        raise RuntimeError("can't start new thread")

    x, augment = pixels(16, 96), ga.Compose(FLIP, seed=1, backend="cpu")
    threads(1)
    expected = augment(x, ids=range(16), epoch=0)
    threads(2)
    monkeypatch.setattr(threading.Thread, "start", start)
    assert torch.equal(augment(x, ids=range(16), epoch=0), expected)
    assert not cpu_helpers._threads


def test_a_helper_that_is_too_early_comes_again(helpers) -> None:
    tries, done = [], threading.Event()

    def run_rows(job: int, own: int, helps: int) -> int:
        if not helps:
            assert done.wait(HANG_S)
            return 0
        tries.append(job)
        if len(tries) < 3:
            return 1
        done.set()
        return 0

    assert cpu_helpers.run(run_rows, np.zeros(F.JOB_WORDS, np.int64), 2) == 0
    assert len(tries) == 3


AT_THE_END = """
import atexit, sys, threading, torch, gpuaug as ga
x = torch.randint(0, 256, (16, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
augment = ga.Compose([ga.RandomHorizontalFlip(), ga.ToDtype(torch.float32, scale=True)], seed=0, backend="cpu")
call = lambda: augment(x, ids=range(16), epoch=0)
torch.set_num_threads(1)
expected = call()
torch.set_num_threads(2)
if sys.argv[1] == "used before": call()
def check(name): print(name, torch.equal(call(), expected), flush=True)
atexit.register(check, "atexit")
def outlive():
    threading.main_thread().join()
    check("thread")
    check("thread")
threading.Thread(target=outlive).start()
"""


@pytest.mark.parametrize("helpers_were", ["used before", "never used"])
def test_calls_at_the_end_of_a_process(helpers_were: str) -> None:
    """From a thread that outlives the main one, and from atexit."""
    lines = run_script(AT_THE_END, helpers_were).splitlines()
    assert lines == ["thread True", "thread True", "atexit True"]


# --- work memory ------------------------------------------------------------------------------------------------------
ALLOCATES = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t)


def address(function) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value


@pytest.fixture
def own() -> Iterator[cpu_helpers.Own]:
    """This thread's own, without work memory; afterwards as it was."""
    mine = cpu_helpers.own()
    before = mine.words.copy()
    mine.words[[F.OWN_MEMORY, F.OWN_BYTES]] = 0
    yield mine
    cpu_helpers._free(int(mine.words[F.OWN_MEMORY]))
    mine.words[:] = before


def test_work_memory_is_each_threads_own_and_freed_with_it(own, monkeypatch) -> None:
    """It grows to the largest row and stays, and every row's begins with a cache line."""
    made, ended = [], []
    malloc = ALLOCATES(int(own.words[F.OWN_ALLOCATE]))

    def count(size: int) -> int:
        made.append(size)
        return malloc(size)

    counting = ALLOCATES(count)
    monkeypatch.setitem(cpu_helpers._ADDRESSES, F.OWN_ALLOCATE, address(counting))
    monkeypatch.setattr(cpu_helpers, "_end", ended.append)
    augment = ga.Compose([ga.RandomRotation(30)], seed=1, backend="cpu")

    def work() -> None:
        for size in (20, 10, 200, 40):
            augment(pixels(1, size), ids=[0], epoch=0)
        words.append(cpu_helpers.own().words)

    words: list[np.ndarray] = []
    for _ in range(2):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(HANG_S)
    assert len(made) == 4 and made[:2] == made[2:] and made[0] < made[1]
    assert words[0][F.OWN_MEMORY] != words[1][F.OWN_MEMORY]
    assert words[0][F.OWN_BYTES] >= made[1] - 64
    gc.collect()
    assert [id(w) for w in ended] == [id(w) for w in words]
    monkeypatch.undo()
    for w in ended:
        cpu_helpers._end(w)


def test_work_memory_that_cannot_be_had_is_an_error_of_the_call(own) -> None:
    none = ALLOCATES(lambda size: 0)
    malloc = int(own.words[F.OWN_ALLOCATE])
    x, augment = pixels(3, 32), ga.Compose([ga.RandomRotation(30)], seed=1, backend="cpu")
    cpu_buffers.forget()
    own.words[F.OWN_ALLOCATE] = address(none)
    with pytest.raises(MemoryError, match=r"^images of 32 x 32 into 32 x 32 take \d+ bytes of work memory"):
        augment(x, ids=range(3), epoch=0)
    own.words[F.OWN_ALLOCATE] = malloc
    y = augment(x, ids=range(3), epoch=0)
    assert torch.equal(y, ga.Compose([ga.RandomRotation(30)], seed=1, backend="cpu")(x, ids=range(3), epoch=0))


def test_work_memory_is_asked_for_again_without_the_kept_buffers(own, kept) -> None:
    x, augment = pixels(3, 32), ga.Compose([ga.RandomRotation(30)], seed=1, backend="cpu")
    malloc = ALLOCATES(int(own.words[F.OWN_ALLOCATE]))
    full = ALLOCATES(lambda size: 0 if kept() else malloc(size))
    cpu_buffers._give_back(np.zeros(2 * MiB, np.uint8))
    own.words[F.OWN_ALLOCATE] = address(full)
    y = augment(x, ids=range(3), epoch=0)
    own.words[F.OWN_ALLOCATE] = address(malloc)
    assert kept() == 0 and torch.equal(y, augment(x, ids=range(3), epoch=0))


def test_work_memory_that_a_helper_cannot_have_is_an_error_of_the_call(own, threads, helpers, monkeypatch) -> None:
    """The caller holds row 0 until a helper has failed with another."""
    failed, malloc = threading.Event(), ALLOCATES(int(own.words[F.OWN_ALLOCATE]))

    def none(size: int) -> int:
        failed.set()
        return 0

    def waits(size: int) -> int:
        assert failed.wait(HANG_S)
        return malloc(size)

    fails, waiting = ALLOCATES(none), ALLOCATES(waits)
    monkeypatch.setattr(cpu, "SMALL_WORK", 0)
    monkeypatch.setitem(cpu_helpers._ADDRESSES, F.OWN_ALLOCATE, address(fails))
    own.words[F.OWN_ALLOCATE] = address(waiting)
    cpu_buffers.forget()
    x, augment = pixels(8, 32), ga.Compose([ga.RandomRotation(30)], seed=1, backend="cpu")
    threads(2)
    with pytest.raises(MemoryError, match="bytes of work memory"):
        augment(x, ids=range(8), epoch=0)
    assert failed.is_set()
    own.words[F.OWN_ALLOCATE] = address(malloc)
    monkeypatch.undo()
    cpu_helpers._renew()
    y = augment(x, ids=range(8), epoch=0)
    threads(1)
    assert torch.equal(y, augment(x, ids=range(8), epoch=0))


OUT_OF_MEMORY = """
import resource, torch, gpuaug as ga
torch.set_num_threads(1)
small = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
make = lambda: ga.Compose([ga.RandomRotation(30, interpolation="bilinear")], seed=0, backend="cpu")
expected = make()(small, ids=range(2), epoch=0)
resize, wide = ga.Compose([ga.Resize((9000, 9000))], seed=0, backend="cpu"), ga.Compose(
    [ga.Resize((3000, 3000)), ga.GaussianBlur(3), ga.Resize((8, 8))], seed=0, backend="cpu")
for augment in (resize, wide): augment.recipe(small)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), hard))
for augment in (resize, wide):
    try: augment(small, ids=range(2), epoch=0)
    except MemoryError as error: print(error)
print(torch.equal(make()(small, ids=range(2), epoch=0), expected))
resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
print(tuple(wide(small, ids=range(2), epoch=0).shape))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space by RLIMIT_AS, and reads /proc")
def test_a_process_out_of_memory_says_so_and_goes_on() -> None:
    output, work, right, shape = run_script(OUT_OF_MEMORY).splitlines()
    assert output.startswith("an output of (2, 3, 9000, 9000) torch.uint8: 486000064 bytes cannot be had")
    assert work.startswith("images of 16 x 16 into 8 x 8 take ") and "bytes of work memory" in work
    assert (right, shape) == ("True", "(2, 3, 8, 8)")


# --- kept buffers -----------------------------------------------------------------------------------------------------
def outputs(n: int, megabytes: int) -> list[Tensor]:
    shape = (megabytes, 1, 1024, 1024)
    return [cpu_buffers.allocate(shape, torch.uint8, torch.device("cpu"), torch.contiguous_format) for _ in range(n)]


def test_kept_buffers_have_a_byte_limit(kept) -> None:
    held = outputs(12, 1)
    assert kept() == 0
    del held
    assert kept() == 8 * MiB
    held = outputs(3, 1)
    assert kept() == 5 * MiB, "a buffer that nobody holds is used again"
    two = outputs(1, 2)
    del two
    assert kept() == 7 * MiB and set(cpu_buffers._free) == {MiB, 2 * MiB}
    del held
    assert kept() <= 8 * MiB
    large = outputs(1, 9)
    before = kept()
    del large
    assert kept() == before, "one that is larger than the limit is not kept, and pushes none out"


def test_sizes_not_used_lately_go_first(kept) -> None:
    for megabytes in (1, 2, 3):
        del [outputs(1, megabytes)][0]
    assert list(cpu_buffers._free) == [MiB, 2 * MiB, 3 * MiB]
    del [outputs(1, 1)][0]
    del [outputs(1, 4)][0]
    assert list(cpu_buffers._free) == [3 * MiB, MiB, 4 * MiB]


def test_no_buffer_is_kept_under_a_limit_of_0(kept, monkeypatch) -> None:
    monkeypatch.setattr(cpu_buffers, "GIVEN", 0)
    del [outputs(2, 1)][0]
    assert kept() == 0


def test_the_limit_is_a_quarter_of_what_was_resident(monkeypatch) -> None:
    monkeypatch.setattr(cpu_buffers, "GIVEN", None)
    assert 0 < cpu_buffers.limit() <= 256 * MiB
    for resident, limit in ((100 * MiB, 25 * MiB), (1 << 40, 256 * MiB)):
        monkeypatch.setattr(cpu_buffers, "_resident", lambda resident=resident: resident)
        assert cpu_buffers.limit() == limit
    assert [cpu_buffers.given_limit(text) for text in (None, "0", "4096")] == [None, 0, 4096]
    for text in ("-1", "8M", ""):
        with pytest.raises(ValueError, match="GPUAUG_KEPT_BYTES must be a whole number of bytes"):
            cpu_buffers.given_limit(text)


def test_an_allocation_that_fails_is_tried_again_without_them(kept, monkeypatch) -> None:
    empty = np.empty

    def full(size, *arguments):
        if kept():
            raise MemoryError
        return empty(size, *arguments)

    held = outputs(4, 1)
    del held
    assert kept() == 4 * MiB
    monkeypatch.setattr(np, "empty", full)
    held = outputs(1, 3)
    assert kept() == 0 and held[0].nbytes == 3 * MiB
    monkeypatch.setattr(np, "empty", lambda size, kind: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(MemoryError, match=r"an output of \(5, 1, 1024, 1024\) torch.uint8: \d+ bytes cannot be had"):
        outputs(1, 5)
    with pytest.raises(MemoryError, match="cannot be had"):
        cpu_buffers.allocate((1 << 40, 1 << 20, 8, 8), torch.float32, torch.device("cpu"), torch.contiguous_format)


def test_buffers_that_end_on_many_threads(kept) -> None:
    """No two callers hold one memory, the limit holds, and nothing is lost from sight."""

    def work(name: int) -> None:
        for i in range(200):
            held = outputs(2, 1 + (i + name) % 2)
            for y in held:
                y[0, 0, 0, :8] = name
            assert all(bool((y[0, 0, 0, :8] == name).all()) for y in held)
            places = {y.data_ptr() for y in held}
            assert len(places) == 2
        del held

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    errors: list[BaseException] = []

    def guarded(name: int) -> None:
        try:
            work(name)
        except BaseException as error:
            errors.append(error)

    try:
        running = [threading.Thread(target=guarded, args=(name,)) for name in range(6)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join(HANG_S)
    finally:
        sys.setswitchinterval(before)
    assert not errors
    del running
    gc.collect()
    held = outputs(1, 1)
    del held
    assert 0 < kept() <= 8 * MiB


# --- defaults of torch ------------------------------------------------------------------------------------------------
UNDER_DEFAULTS = """
import sys, torch, gpuaug as ga
from gpuaug.compose import batch_rows, new_state
torch.set_num_threads(1)
x = torch.randint(0, 256, (16, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
augment = ga.Compose([ga.RandomAffine(30, (0.1, 0.1), (0.8, 1.2)), ga.RandomSolarize(100)], seed=0, backend="cpu")
recipe, ids, state = augment.recipe(x), torch.arange(16), new_state(0, 0, 0, x.device)
engine, rows = recipe.engine, recipe.rows
def results():
    table = engine.draw(rows, 16, ids, 0, state)
    out = [recipe.module.allocate((16, 3, s, s), torch.uint8, x.device, torch.contiguous_format) for s in (16, 512)]
    assert [o.device.type for o in out] == ["cpu", "cpu"]
    return [table, engine.draw_and_run(x, rows, 16, ids, 0, state, out[0]), out[0]]
expected = results()
torch.set_default_dtype(getattr(torch, sys.argv[1]))
with torch.device(sys.argv[2]): got = results()
print(all(torch.equal(a, b) for a, b in zip(expected, got)))
"""


@pytest.mark.parametrize("dtype, device", [("float64", "cpu"), ("bfloat16", "cpu"), ("float32", "meta")])
def test_memory_of_kernels_names_its_dtype_and_device(dtype: str, device: str) -> None:
    assert run_script(UNDER_DEFAULTS, dtype, device).split() == ["True"]
