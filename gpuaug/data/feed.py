"""Threads that make things ahead of who asks for them, in order: no more than a number of them, nor than fit."""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Made = TypeVar("Made")
PATIENCE = 5.0  # seconds that an end waits for threads: each first ends the image that it decodes
_open: weakref.WeakSet = weakref.WeakSet()


class Stopped(Exception):
    """Nobody waits for what is being made."""


class Turn:
    """What is made in one go, as `make` sees it; this one by itself, which nobody waits for.

    Attributes:
        thread: the number of the thread that it is made in.
    """

    thread = 0

    def check(self) -> None:
        """Raise Stopped once nobody waits any more."""

    def reserve(self, size: int) -> None:
        """Wait until so many bytes may be taken, for as long as what is being made is kept."""

    def release(self, size: int) -> None:
        """So many of them are free already."""


class Feed(Generic[Made]):
    """What `make(n, turn)` gives for n = 0 .. total - 1, in order; at most `ahead` of them are there or being made.

    An exception in `make` comes up where its turn is, and ends the feed. `make` calls `turn.check` now and then, which
    raises Stopped once the feed is closed. A feed that nobody holds any more is closed.

    Args:
        workers: threads; 0 makes each when it is asked for.
        most: bytes that what is there or being made may have reserved. The next in order gets what it wants.

    Attributes:
        waited: seconds that the one who asks has waited.
    """

    def __init__(
        self, make: Callable[[int, Turn], Made], total: int, workers: int, ahead: int, most: int | None = None
    ):
        self.waited, self._work = 0.0, _Work(make, total, ahead, most)
        self._threads = [
            threading.Thread(target=self._work.run, args=(i,), name=f"gpuaug feed {i}", daemon=True)
            for i in range(min(workers, total))
        ]
        _open.add(self)
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> Iterator[Made]:
        return self

    def __next__(self) -> Made:
        work = self._work
        if work.ended or work.taken >= work.total:
            self.close()
            raise StopIteration
        self.let_go()
        begin = time.perf_counter()
        made, error = work.take() if self._threads else work.now()
        self.waited += time.perf_counter() - begin
        if error is not None:
            self.close()
            raise error
        return made

    def is_ready(self) -> bool:
        """Whether the next is there already."""
        return self._work.taken in self._work.done

    def let_go(self) -> None:
        """What was handed out last takes no bytes any more; so it is at the latest when the next is asked for."""
        self._work.free(self._work.taken - 1)

    def close(self) -> None:
        """End the threads and let go of what they made. Ctrl-C meanwhile comes up behind that."""
        self._work.end()
        until, interrupt = time.monotonic() + PATIENCE, None
        for thread in self._threads:
            while thread.is_alive() and thread is not threading.current_thread() and time.monotonic() < until:
                try:
                    thread.join(max(until - time.monotonic(), 0.0))
                except KeyboardInterrupt as error:
                    interrupt = error
        if interrupt is not None:
            raise interrupt

    def __del__(self) -> None:
        self._work.end()


class _Work(Generic[Made]):
    """What the threads of a feed share with it; they do not hold the feed itself."""

    def __init__(self, make: Callable[[int, Turn], Made], total: int, ahead: int, most: int | None):
        self.make, self.total, self.ahead, self.most = make, total, ahead, most
        self.next, self.taken, self.ended = 0, 0, False
        self.done: dict[int, tuple[Made | None, BaseException | None]] = {}
        self.held: dict[int, int] = {}  # bytes that each has reserved
        self.changed = threading.Condition()

    def run(self, thread: int) -> None:
        """Make what is next, until all is made or the feed has ended."""
        while True:
            with self.changed:
                while not self.ended and self.next < self.total and self.next >= self.taken + self.ahead:
                    self.changed.wait()
                if self.ended or self.next >= self.total:
                    return
                n, self.next = self.next, self.next + 1
            made = self._made(n, thread)
            with self.changed:
                if not self.ended:
                    self.done[n] = made
                    self.changed.notify_all()
            del made  # an error's trace holds this frame

    def take(self) -> tuple[Made | None, BaseException | None]:
        """The next in order, once it is there."""
        with self.changed:
            while self.taken not in self.done:
                self.changed.wait()
            self.taken += 1
            self.changed.notify_all()
            return self.done.pop(self.taken - 1)

    def now(self) -> tuple[Made | None, BaseException | None]:
        """The next in order, made here."""
        self.taken += 1
        return self._made(self.taken - 1, 0)

    def _made(self, n: int, thread: int) -> tuple[Made | None, BaseException | None]:
        try:
            return self.make(n, _Ordered(self, n, thread)), None
        except BaseException as error:  # else the thread would end, and who waits for it would wait on
            return None, error

    def reserve(self, n: int, size: int) -> None:
        """Count bytes for what is being made, once they fit or it is the next in order. Raises Stopped."""
        with self.changed:
            while not self.ended and n > self.taken and self.most is not None:
                if sum(self.held.values()) + size <= self.most:
                    break
                self.changed.wait()
            if self.ended:
                raise Stopped
            self.held[n] = self.held.get(n, 0) + size

    def free(self, n: int, size: int | None = None) -> None:
        """Count bytes no more; None: all that were reserved."""
        with self.changed:
            self.held[n] = 0 if size is None else self.held.get(n, 0) - size
            if not self.held[n]:
                del self.held[n]
            self.changed.notify_all()

    def end(self) -> None:
        self.ended = True
        with self.changed:
            self.done.clear()
            self.changed.notify_all()


class _Ordered(Turn):
    """Number n of a feed."""

    def __init__(self, work: _Work, n: int, thread: int):
        self.work, self.n, self.thread = work, n, thread

    def check(self) -> None:
        if self.work.ended:
            raise Stopped

    def reserve(self, size: int) -> None:
        self.work.reserve(self.n, size)

    def release(self, size: int) -> None:
        self.work.free(self.n, size)


@atexit.register
def _close_all() -> None:
    for feed in list(_open):
        feed.close()
