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
    raises Stopped once the feed is closed.

    Args:
        workers: threads; 0 makes each when it is asked for.

    Attributes:
        waited: seconds that the one who asks has waited.
    """

    def __init__(self, make: Callable[[int, Callable[[], None]], Made], total: int, workers: int, ahead: int):
        self.make, self.total, self.ahead, self.waited = make, total, ahead, 0.0
        self._next, self._taken, self._ended = 0, 0, False
        self._done: dict[int, tuple[Made | None, BaseException | None]] = {}
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, name=f"gpuaug feed {i}", daemon=True)
            for i in range(min(workers, total))
        ]
        _open.add(self)
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> Iterator[Made]:
        return self

    def __next__(self) -> Made:
        if self._ended or self._taken >= self.total:
            self.close()
            raise StopIteration
        begin = time.perf_counter()
        try:
            made, error = self._take()
        except BaseException:  # Ctrl-C while waiting
            self.close()
            raise
        self.waited += time.perf_counter() - begin
        if error is not None:
            self.close()
            raise error
        return made

    def _take(self) -> tuple[Made | None, BaseException | None]:
        n = self._taken
        if not self._threads:
            self._taken += 1
            return self._made(n)
        with self._changed:
            while n not in self._done:
                self._changed.wait()
            self._taken += 1
            self._changed.notify_all()
            return self._done.pop(n)

    def _made(self, n: int) -> tuple[Made | None, BaseException | None]:
        try:
            return self.make(n, self.check), None
        except Exception as error:
            return None, error

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._ended and self._next < self.total and self._next >= self._taken + self.ahead:
                    self._changed.wait()
                if self._ended or self._next >= self.total:
                    return
                n, self._next = self._next, self._next + 1
            made = self._made(n)
            with self._changed:
                if self._ended:
                    return
                self._done[n] = made
                self._changed.notify_all()

    def check(self) -> None:
        """Raise Stopped once the feed is closed."""
        if self._ended:
            raise Stopped

    def close(self) -> None:
        """End the threads and let go of what they made."""
        with self._changed:
            self._ended = True
            self._done.clear()
            self._changed.notify_all()
        until = time.monotonic() + PATIENCE
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(until - time.monotonic(), 0.0))
        _open.discard(self)


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
