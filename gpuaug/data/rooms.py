"""Memory that batches are decoded into, used again: private, pinned for a GPU, or shared with worker processes."""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
import threading
import uuid
import weakref
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch


class Room:
    """Memory for the parts of a batch's images, of which as much again as the largest image has is readable on either
    side: rows of parts begin in front of them (`gpuaug.data.reading`). The sides are no more than addresses.

    Args:
        device: a GPU that copies from it: pinned memory, without sides.
        shared: memory that other processes can map.

    Attributes:
        source: uint8, one axis, from whose element `margin` on there is room for `size` bytes.
        pixels: the same, of numpy. shared: what other processes map, or None.
    """

    def __init__(self, device: torch.device | None = None, shared: bool = False) -> None:
        self.margin, self.size, self.device, self.shares = 0, 0, device, shared
        self.shared: Shared | None = None
        self.source = torch.empty(0, dtype=torch.uint8)
        self.pixels = np.empty(0, np.uint8)

    @classmethod
    def received(cls, connection: Connection) -> Room:
        """The room that the other end of a connection has sent (:meth:`Shared.send`)."""
        room = cls()
        room.pixels = _mapped(connection)
        return room

    def reserve(self, size: int, margin: int) -> None:
        """Have at least so much; what lay here is lost where there was less."""
        margin = 0 if self.device is not None else margin
        if size <= self.size and margin <= self.margin:
            return
        self.size = _rounded(max(size, self.size))
        self.margin = _rounded(max(margin, self.margin)) if margin else 0
        if self.shares:
            self.shared = Shared(2 * self.margin + self.size)
            self.source = torch.frombuffer(self.shared.memory, dtype=torch.uint8)
            if self.device is not None:
                _pin(self.source, self.device)
        elif self.device is not None:
            self.source = torch.empty(self.size, dtype=torch.uint8, pin_memory=True)
        else:
            self.source = torch.frombuffer(_addresses(2 * self.margin + self.size), dtype=torch.uint8)
        self.pixels = self.source.numpy()

    def payload(self, size: int) -> torch.Tensor:
        """The first `size` bytes of the room."""
        return self.source[self.margin : self.margin + size]


class Rooms:
    """Rooms for those that ask.

    Args:
        most: bytes that rooms may take before those that nobody uses are let go.
    """

    def __init__(self, most: int, device: torch.device | None = None, shared: bool = False):
        self.most, self.device, self.shared = most, device, shared
        self.free: list[Room] = []
        self._all: weakref.WeakSet[Room] = weakref.WeakSet()
        self._lock = threading.Lock()

    def take(self, size: int, margin: int) -> Room:
        """One that is free: the smallest that is large enough, or else the largest, which grows; or a new one."""
        with self._lock:
            fitting = [room for room in self.free if room.size >= size]
            if not fitting:
                self._let_go(size)
            if self.free:
                room = min(fitting, key=_size) if fitting else max(self.free, key=_size)
                self.free.remove(room)
            else:
                room = Room(self.device, self.shared)
                self._all.add(room)
            room.reserve(size, margin)
            return room

    def append(self, room: Room) -> None:
        """Have back a room that nobody uses any more."""
        with self._lock:
            self._let_go(0)
            if not self.free or self.bytes <= self.most:
                self.free.append(room)

    @property
    def bytes(self) -> int:
        """Of all rooms that there are."""
        return sum(room.size for room in self._all)

    def _let_go(self, size: int) -> None:
        """Drop free rooms, the smallest first, until so much more may come."""
        self.free.sort(key=_size, reverse=True)
        while self.free and self.bytes + size > self.most:
            self._all.discard(self.free.pop())


class Shared:
    """So many bytes that other processes can map. They end with the last process that maps them, however it ends.

    Attributes:
        memory: the bytes. name: how a process on Windows finds them.
    """

    def __init__(self, size: int):
        self.size, self.name = size, ""
        if sys.platform == "win32":
            self.name = f"gpuaug-{uuid.uuid4().hex}"
            self.memory = mmap.mmap(-1, size, tagname=self.name)
            return
        self._file = _unnamed()
        weakref.finalize(self, os.close, self._file)
        os.ftruncate(self._file, size)  # pages take memory as they are written to
        self.memory = mmap.mmap(self._file, size)

    def send(self, connection: Connection, pid: int) -> None:
        """Let the process at the other end of a connection map them, by :meth:`Room.received`."""
        connection.send((self.size, self.name))
        if not self.name:
            reduction.send_handle(connection, self._file, pid)


def _pin(memory: torch.Tensor, device: torch.device) -> None:
    """Have a GPU copy from memory that is there without the host waiting. It is let go before the memory is."""
    runtime, address = torch.cuda.cudart(), memory.data_ptr()
    with torch.cuda.device(device):
        status = int(runtime.cudaHostRegister(address, memory.nbytes, 0))
    if status:
        raise RuntimeError(f"{memory.nbytes} bytes of shared memory cannot be pinned for the GPU: CUDA error {status}")
    weakref.finalize(memory, runtime.cudaHostUnregister, address)


def _mapped(connection: Connection) -> np.ndarray:
    size, name = connection.recv()
    if name:
        return np.frombuffer(mmap.mmap(-1, size, tagname=name), np.uint8)
    file = reduction.recv_handle(connection)
    try:
        return np.frombuffer(mmap.mmap(file, size), np.uint8)
    finally:
        os.close(file)


def _unnamed() -> int:
    """A file without a name, in memory where the system has such (it is no part of /dev/shm and its limit)."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("gpuaug")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _size(room: Room) -> int:
    return room.size


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
