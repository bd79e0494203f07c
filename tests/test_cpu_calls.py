"""Calls of the CPU engine: their threads, whatever interrupts them, the end of a process."""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
from collections.abc import Callable

import pytest
import torch
from calls import HANG_S, own_helpers, pixels, run_script, torchs_threads  # noqa: F401, fixtures among them

import gpuaug as ga
from gpuaug.backends import cpu, cpu_helpers
from gpuaug.backends.engine import Key
from gpuaug.kernels.cpu import frame as F
from gpuaug.keys import new_state

FLIP = [ga.RandomHorizontalFlip(), ga.ToDtype(torch.float32, scale=True)]


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
        self.plans = self.engine.plan(self.rows, self.table, Key(self.ids, 0, self.state))
        self.job = self.plans.job
        self.engine._images(self.job, self.x, self.out)
        self.records = self.plans._memory
        self.records.fill(0)
        self.job.writes = 1

    def run(self, helps: int) -> int:
        return self.engine.run_rows(ctypes.addressof(self.job), cpu_helpers.own().address, helps)

    def untouched(self) -> bool:
        return bool((self.out == 7).all()) and not self.records.any()


def test_a_helper_writes_only_while_the_caller_is_inside() -> None:
    made = Job()
    assert made.run(1) == 1 and made.untouched(), "too early: it may come again"
    assert made.run(0) == 0 and torch.equal(made.out, made.x.flip(3))
    made.out.fill_(7)
    made.records.fill(0)
    made.job.next[0] = 4
    assert made.run(1) == 0 and made.untouched(), "too late: there is nothing to come for"


def test_a_helper_that_comes_late_has_nothing_to_come_again_for() -> None:
    made = Job()
    for step in (lambda: made.plans.words, lambda: made.engine.write(made.x, made.rows, made.plans, made.out)):
        step()
        assert made.run(1) == 0
    assert torch.equal(made.out, made.x.flip(3))
    made.out.fill_(7)
    made.engine.write(made.x, made.rows, made.plans, made.out)
    assert made.run(1) == 0 and torch.equal(made.out, made.x.flip(3)), "the same plans, written again"


def test_the_caller_waits_for_a_helper_inside() -> None:
    made, returned = Job(), []
    made.job.busy[0] = 1  # one helper is in; it has taken row 0
    made.job.next[0] = 1
    caller = threading.Thread(target=lambda: returned.append(made.run(0)))
    caller.start()
    caller.join(0.3)
    assert caller.is_alive() and not returned, "it returned with a helper inside"
    assert made.job.busy[0] == 1 and torch.equal(made.out[1:], made.x[1:].flip(3)), "its own rows are done"
    made.job.busy[0] = 0
    cpu_helpers._release(made.job.lock)
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

        cpu_helpers.run(run_rows, F.Job(), n)
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

    assert cpu_helpers.run(run_rows, F.Job(), 2) == 0
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
class Holder: pass
held, cycle = call(), Holder()  # outputs that end when the interpreter does
cycle.itself, cycle.held = cycle, call()
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
