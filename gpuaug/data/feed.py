"""Threads that make things ahead of who asks for them, in order, and memory that they make them in."""

from __future__ import annotations

import atexit
import mmap
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import numpy as np
import torch

Made = TypeVar("Made")
PATIENCE = 5.0  # seconds that an end waits for threads: each first ends the image that it decodes
_open: weakref.WeakSet = weakref.WeakSet()


class Stopped(Exception):
    """Nobody waits for what is being made."""


class Feed(Generic[Made]):
    """What `make(n, check)` gives for n = 0 .. total - 1, in order; at most `ahead` of them are there or being made.

    An exception in `make` comes up where its turn is, and ends the feed. `make` calls `check` now and then, which
    raises Stopped once the feed is closed. A feed that nobody holds any more is closed.

    Args:
        workers: threads; 0 makes each when it is asked for.

    Attributes:
        waited: seconds that the one who asks has waited.
    """

    def __init__(self, make: Callable[[int, Callable[[], None]], Made], total: int, workers: int, ahead: int):
        self.waited, self._work = 0.0, _Work(make, total, ahead)
        self._threads = [
            threading.Thread(target=self._work.run, name=f"gpuaug feed {i}", daemon=True)
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

    def __init__(self, make: Callable[[int, Callable[[], None]], Made], total: int, ahead: int):
        self.make, self.total, self.ahead = make, total, ahead
        self.next, self.taken, self.ended = 0, 0, False
        self.done: dict[int, tuple[Made | None, BaseException | None]] = {}
        self.changed = threading.Condition()

    def run(self) -> None:
        """Make what is next, until all is made or the feed has ended."""
        while True:
            with self.changed:
                while not self.ended and self.next < self.total and self.next >= self.taken + self.ahead:
                    self.changed.wait()
                if self.ended or self.next >= self.total:
                    return
                n, self.next = self.next, self.next + 1
            made = self._made(n)
            with self.changed:
                if self.ended:
                    return
                self.done[n] = made
                self.changed.notify_all()

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
        return self._made(self.taken - 1)

    def _made(self, n: int) -> tuple[Made | None, BaseException | None]:
        try:
            return self.make(n, self.check), None
        except Exception as error:
            return None, error

    def check(self) -> None:
        """Raise Stopped once the feed is closed."""
        if self.ended:
            raise Stopped

    def end(self) -> None:
        self.ended = True
        with self.changed:
            self.done.clear()
            self.changed.notify_all()


@atexit.register
def _close_all() -> None:
    for feed in list(_open):
        feed.close()


class Room:
    """Memory for the parts of a batch's images, of which as much again as the largest image has is readable on either
    side: rows of parts begin in front of them (`gpuaug.data.reading`). The sides are no more than addresses.

    Args:
        pinned: memory that a GPU copies from, without sides.

    Attributes:
        source: uint8, one axis, from whose element `margin` on there is room for `size` bytes.
        pixels: the same, of numpy.
    """

    def __init__(self, pinned: bool = False) -> None:
        self.margin, self.size, self.pinned = 0, 0, pinned
        self.source = torch.empty(0, dtype=torch.uint8)
        self.pixels = np.empty(0, np.uint8)

    def reserve(self, size: int, margin: int) -> None:
        """Have at least so much; what lay here is lost where there was less."""
        margin = 0 if self.pinned else margin
        if size <= self.size and margin <= self.margin:
            return
        self.size = _rounded(max(size, self.size))
        self.margin = _rounded(max(margin, self.margin)) if margin else 0
        if self.pinned:
            self.source = torch.empty(self.size, dtype=torch.uint8, pin_memory=True)
        else:
            self.source = torch.frombuffer(_addresses(2 * self.margin + self.size), dtype=torch.uint8)
        self.pixels = self.source.numpy()

    def payload(self, size: int) -> torch.Tensor:
        """The first `size` bytes of the room."""
        return self.source[self.margin : self.margin + size]


def _rounded(size: int) -> int:
    """A little more: few sizes, so that what grows is seldom made anew."""
    step = 1 << max(size.bit_length() - 3, 12)
    return -(-size // step) * step


def _addresses(size: int) -> Any:
    """So many bytes, which take memory as they are written to."""
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    return mmap.mmap(-1, size, flags=flags)
