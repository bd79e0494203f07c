"""Worker processes that open and decode samples, for sources whose own code holds the interpreter lock.

A process has the source's items, and does what `Hands` do: it opens samples, and decodes parts of them into a room that
it shares with the loader's process. Draws, the cache and the pipeline stay there. Each process serves one thread of a
feed, which asks and waits; whoever is no longer wanted sees the next question, or the end of the connection, and stops.

Processes are spawned: a fork would copy locks that other threads hold, and a server that forks is one for the whole
program, with what it has imported.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import random
import signal
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from multiprocessing.sharedctypes import RawValue
from typing import Any

import numpy as np
import torch

from .feed import Stopped
from .hands import Hands, Known, Wanted
from .rooms import Room

SPAWN = multiprocessing.get_context("spawn")
LOOK = 0.1  # seconds after which one that waits looks whether anybody still waits for it
LEAVING = 2.0  # seconds that a process may take to end
NOWHERE = -1


class WorkerError(RuntimeError):
    """A worker process has died, or failed at something else than an image."""


class Parcel:
    """Something on its way to a process, which opens it when it is ready to say what is wrong with it."""

    def __init__(self, value: Any):
        self.value = value

    def __getstate__(self) -> bytes:
        return bytes(ForkingPickler.dumps(self.value))

    def __setstate__(self, data: bytes) -> None:
        self.data = data

    def opened(self) -> Any:
        """What is in it, where it has arrived."""
        return pickle.loads(self.data)


class Process(Hands):
    """Hands in a process of their own. One thread at a time asks.

    Args:
        number: what errors call it.

    Raises:
        TypeError: the items cannot be pickled.
    """

    def __init__(self, items: Sequence[Any], number: int):
        self.items, self.number, self.free = items, number, True
        self._place, self._asked, self._owner = RawValue("q", NOWHERE), 0, os.getpid()
        self._connection, theirs = SPAWN.Pipe()
        seed = (torch.initial_seed() + number + 1) % 2**63
        arguments = theirs, Parcel(items), self._place, seed
        self._process = SPAWN.Process(target=serve, args=arguments, name=f"gpuaug worker {number}", daemon=True)
        try:
            with _without_interrupts():
                self._process.start()
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(
                f'mode="processes" needs items that can be pickled, and these, such as {items[0]}, cannot be: {error}; '
                'define their functions and classes at the top of a module, or use mode="threads"'
            ) from None
        finally:
            theirs.close()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.is_alive()

    def open(self, places: Sequence[int], check: Callable[[], None]) -> list[Known | str]:
        return self._answer(check, "open", list(places))

    def read(
        self, wanted: dict[int, Wanted], room: Room, check: Callable[[], None], shorter: int | None = None
    ) -> list[str | None]:
        return self._answer(check, "read", wanted, shorter, room=room)

    def forget(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.send((self._asked, "forget"))

    def _answer(self, check: Callable[[], None], *question: Any, room: Room | None = None) -> list[Any]:
        """What it answers; `check` is called while it takes its time. It is not free until then."""
        self._asked += 1
        self.free = False
        try:
            self._connection.send((self._asked, *question))
            if room is not None:
                room.shared.send(self._connection, self._process.pid)
            answered = None
            while answered != self._asked:  # else it is what somebody no longer waited for
                self._wait(check)
                answered, found, error, trace = self._connection.recv()
        except Stopped:
            self.free = True
            raise
        except (EOFError, OSError):
            raise WorkerError(self._death()) from None
        self.free = True
        if error is not None:
            raise error from WorkerError(trace)
        return found

    def _wait(self, check: Callable[[], None]) -> None:
        while not wait([self._connection], LOOK):
            check()
            if not self.alive and not wait([self._connection], 0):  # a process of its own may hold the other end
                raise EOFError

    def _death(self) -> str:
        """How it ended, and at what."""
        self._process.join(LEAVING)
        code, place = self._process.exitcode, self._place.value
        how = f"ended with exit code {code}"
        if code is not None and code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        told = f"worker process {self.number} of the Loader (pid {self._process.pid}) {how}"
        if place == NOWHERE:
            return (
                f"{told} before it read an image; what it printed says why. A program's own part has to stand behind "
                'if __name__ == "__main__":, as processes import its file'
            )
        hint = "; SIGKILL often means that memory ran out: take fewer workers" if code == -signal.SIGKILL else ""
        return f'{told} while it read {self.items[place]}{hint}; mode="threads" does without processes'

    def end(self) -> None:
        """End it, whatever it does."""
        if os.getpid() != self._owner:  # a fork's copy
            return
        self._connection.close()
        for stop in (self._process.terminate, self._process.kill):
            stop()
            self._process.join(LEAVING)
            if not self._process.is_alive():
                return


class Workers:
    """The worker processes of a source: kept for later passes, ended by `close`, or with this, or with the program."""

    def __init__(self, items: Sequence[Any]):
        self._items, self._lock = items, threading.Lock()
        self._idle: list[Process] = []
        self._all: list[Process] = []
        self._count = 0
        weakref.finalize(self, _end, self._all)

    def lease(self, count: int) -> list[Process]:
        """So many processes for a pass of its own. Those that died idly are replaced."""
        with self._lock:
            found = [self._idle.pop() for _ in range(min(count, len(self._idle)))]
            leased = [one for one in found if one.alive]
            self._all[:] = [one for one in self._all if one.alive]
            try:
                while len(leased) < count:
                    leased.append(Process(self._items, self._count))
                    self._all.append(leased[-1])
                    self._count += 1
            except BaseException:
                _end(leased)
                raise
            return leased

    def park(self, leased: Sequence[Process]) -> None:
        """Have them back. One that somebody still waits for, or that has failed, is ended."""
        with self._lock:
            ended = [one for one in leased if not one.free]
            self._idle += [one for one in leased if one.free]
            _end(ended)

    def close(self) -> None:
        """End them."""
        with self._lock:
            _end(self._all)
            self._all.clear(), self._idle.clear()


def _end(processes: Sequence[Process]) -> None:
    for one in list(processes):
        one.end()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes that begin meanwhile are never interrupted by Ctrl-C: that is for the one that began them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# --- in the process ---------------------------------------------------------------------------------------------------
def serve(connection: Connection, parcel: Parcel, place: Any, seed: int) -> None:
    """Answer questions until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    random.seed(seed), torch.manual_seed(seed), np.random.seed(seed % 2**32)
    hands, failed = None, None
    try:
        hands = Hands(parcel.opened(), lambda i: setattr(place, "value", i))
    except Exception as error:
        failed = WorkerError(
            f"a worker process cannot open the source's items ({type(error).__name__}: {error}); define their classes "
            'and functions in a module, not in a notebook or a shell, or use mode="threads"'
        )

    def check() -> None:
        if connection.poll():  # the next question, or the end
            raise Stopped

    with contextlib.suppress(EOFError, OSError):
        while True:
            asked, what, *words = connection.recv()
            room = Room.received(connection) if what == "read" else None
            if failed is not None:
                connection.send((asked, None, failed, ""))
            elif what == "forget":
                hands.forget()
            else:
                _answer(connection, asked, hands, check, words, room)


def _answer(connection: Connection, asked: int, hands: Hands, check: Callable, words: list, room: Room | None) -> None:
    """Do what a question asks for, and send (its number, result, error, the error's trace)."""
    try:
        if room is None:
            answer = asked, hands.open(*words, check), None, ""
        else:
            wanted, shorter = words
            answer = asked, hands.read(wanted, room, check, shorter), None, ""
    except Stopped:
        return
    except Exception as error:
        answer = asked, None, _portable(error), "".join(traceback.format_exception(error))
    connection.send(answer)


def _portable(error: Exception) -> Exception:
    """The error, or, where pickle does not take it, one that says the same."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return WorkerError(f"{type(error).__name__}: {error}")


def _leave_with_parent() -> None:
    parent, begun = multiprocessing.parent_process(), os.getppid()
    while not wait([parent.sentinel], 1.0) and os.getppid() == begun:  # forks of the parent may hold the sentinel
        pass
    os._exit(1)
