"""The threads of the CPU backend: a job runs on its caller's, and on helpers that are kept.

`run_rows` of the kernels opens a job when its caller is in it, and closes it, waiting for the helpers inside, before
the caller is out again. That is one C function, which no exception interrupts: no helper touches memory that the
caller does not hold, wherever Ctrl-C hits. A helper that comes too late, or never, leaves its rows to the others; so
where no thread can be started any more, as at the end of a process, calls run on the caller's.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

from ..kernels.cpu import frame as F

PATIENCE = 100  # how often a helper that is too early comes again, a millisecond later
_local = threading.local()


@dataclass(frozen=True)
class Own:
    """What a thread has of its own, at `address`. Its end frees work memory and lock."""

    words: F.Own
    address: int


def _address(name: str, library: ctypes.CDLL = ctypes.pythonapi) -> int:
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value


def _c(name: str, result: type | None, *arguments: type) -> Callable:
    """A function of Python's C interface that runs without the interpreter lock."""
    return ctypes.CFUNCTYPE(result, *arguments)(_address(name))


_free = _c("PyMem_RawFree", None, ctypes.c_void_p)
_acquire = _c("PyThread_acquire_lock", ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_release = _c("PyThread_release_lock", None, ctypes.c_void_p)
_new_lock = _c("PyThread_allocate_lock", ctypes.c_void_p)
_free_lock = _c("PyThread_free_lock", None, ctypes.c_void_p)
_ADDRESSES = {
    "allocate": _address("PyMem_RawMalloc"),
    "free": _address("PyMem_RawFree"),
    "acquire": _address("PyThread_acquire_lock"),
    "release": _address("PyThread_release_lock"),
    "advise": _address("madvise", ctypes.CDLL(None)) if sys.platform == "linux" else 0,
}


def own() -> Own:
    """This thread's own, made at its first call."""
    try:
        return _local.own
    except AttributeError:
        words = F.Own(**_ADDRESSES)
        words.lock = lock = _new_lock()
        if not lock:
            raise MemoryError("the CPU backend: no lock can be made for this thread") from None
        _acquire(lock, 1)
        _local.own = mine = Own(words, ctypes.addressof(words))
        weakref.finalize(mine, _end, words).atexit = False
        return mine


def _end(words: F.Own) -> None:
    _free(words.memory)
    _release(words.lock)
    _free_lock(words.lock)


def run(run_rows: Callable, job: F.Task, threads: int) -> int:
    """Run a job on up to so many threads, the caller's among them.

    Returns:
        0, or the bytes of work memory that one of them could not get: then rows were left out.
    """
    mine = own()
    if threads > 1:
        _ask(threads - 1, (run_rows, job, mine))
    return run_rows(ctypes.addressof(job), mine.address, 0)


def _ask(helpers: int, ticket: tuple) -> None:
    """Have so many helpers look at a job; they keep what the ticket holds until they have."""
    if len(_threads) < helpers:
        with _starting, contextlib.suppress(RuntimeError):  # no thread can be started: out of them, or at the end
            while len(_threads) < helpers:
                thread = threading.Thread(target=_help, args=(_tickets, _threads), name="gpuaug", daemon=True)
                thread.start()
                _threads.add(thread)
    for _ in range(min(helpers, len(_threads))):
        _tickets.put(ticket)


def _help(tickets: SimpleQueue, threads: set[threading.Thread]) -> None:
    try:
        mine = own()
        while True:
            run_rows, job, asker = tickets.get()
            for _ in range(PATIENCE):
                if not run_rows(ctypes.addressof(job), mine.address, 1):
                    break
                time.sleep(0.001)
            del run_rows, job, asker
    finally:
        threads.discard(threading.current_thread())


def _renew() -> None:
    """Begin without helpers, as a forked child must: its parent's are not there."""
    global _tickets, _threads, _starting
    _tickets, _threads, _starting = SimpleQueue(), set(), threading.RLock()


_renew()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
