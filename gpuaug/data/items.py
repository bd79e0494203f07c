"""What a sample is read from, and its bytes: a file, a part of a file, bytes, an array of pixels, or a function."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .errors import DataError, named

FIRST_MEMORY, KEPT_MEMORY = 1 << 20, 256 << 20  # bytes that `Files` begins with, and keeps at most
MAX_PIXELS = int(os.environ.get("GPUAUG_MAX_PIXELS", 178956970))  # of an image, once decoded: where Pillow stops, too


@dataclass(frozen=True)
class Slice:
    """``length`` bytes at ``offset`` of the file ``path``: a member of a tar. ``name`` is what errors call it."""

    path: Path
    offset: int
    length: int
    name: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.name}" if self.name else f"{self.path} at {self.offset}"


@dataclass(frozen=True)
class Made:
    """What ``make(index)`` gives: an item of any other kind, or a Pillow image. ``name`` is what errors call it."""

    make: Callable[[int], Any]
    index: int
    name: str = ""

    def __str__(self) -> str:
        return self.name or f"sample {self.index}"


@dataclass(eq=False)
class Encoded:
    """An item whose bytes are in memory: ``data``, the file's bytes; or ``pixels``, uint8 [H, W, 3], decoded already.

    ``name``: what errors call it. ``known``: its header, once somebody asked. A ``memoryview`` as data may be written
    to while it is decoded: nobody else reads it.
    """

    name: str
    data: bytes | memoryview = b""
    pixels: np.ndarray | None = None
    known: Any = None

    def part(self, offset: int, length: int) -> bytes:
        """So many of its bytes, fewer at the end."""
        return bytes(self.data[offset : offset + length])


class Files:
    """Memory that files are read into, one behind the other, and used again: new memory takes longer than the reading.

    One thread at a time may use it.
    """

    def __init__(self) -> None:
        self.memory, self.end = memoryview(bytearray(FIRST_MEMORY)), 0

    def load(self, item: str | os.PathLike | Slice) -> Encoded:
        """As :func:`load`. The bytes are there until :meth:`clear`."""
        path, offset, size = (item.path, item.offset, item.length) if isinstance(item, Slice) else (item, 0, 0)
        with named(item), open(path, "rb", buffering=0) as file:
            wanted, got = size or os.fstat(file.fileno()).st_size, 0
            if not wanted:
                return load(item)
            if self.end + wanted > len(self.memory):  # what was read before keeps the memory where it lies
                self.memory, self.end = memoryview(bytearray(max(2 * len(self.memory), wanted))), 0
            place = self.memory[self.end : self.end + wanted]
            file.seek(offset)
            while got < wanted and (count := file.readinto(place[got:])):
                got += count
            self.end += got
            return _whole(Encoded(str(item), place[:got]), size)

    def clear(self, end: int = 0) -> None:
        """Forget what was read since the memory was full up to `end`; more of it than is kept is given back."""
        self.end = min(end, self.end)
        if not self.end and len(self.memory) > KEPT_MEMORY:
            self.memory = memoryview(bytearray(FIRST_MEMORY))


def load(item: Any, name: object = None) -> Encoded:
    """The bytes of an item, read once.

    Args:
        item: a path, a :class:`Slice`, a :class:`Made` or another function without arguments, bytes or a uint8 array
            [N] of a whole image file, pixels as uint8 array [H, W], [H, W, C] or tensor [C, H, W] with C in 1, 3, 4,
            a Pillow image, or what this function returned before.
        name: what errors call it, where the item itself does not say.

    Raises:
        DataError: the file is missing, empty or may not be read; the item is of no such kind.
    """
    if isinstance(item, Encoded):
        return item
    if isinstance(item, (str, os.PathLike)):
        with named(item):
            return _whole(Encoded(str(item), Path(item).read_bytes()))
    if isinstance(item, Slice):
        with named(item), open(item.path, "rb") as file:
            file.seek(item.offset)
            return _whole(Encoded(str(item), file.read(item.length)), item.length)
    if isinstance(item, Made) or callable(item):
        with named(item):
            return load(item.make(item.index) if isinstance(item, Made) else item(), str(item))
    name = "an image in memory" if name is None else str(name)
    if isinstance(item, (bytes, bytearray, memoryview)):
        return _whole(Encoded(name, item if isinstance(item, bytes) else bytes(item)))
    if isinstance(item, (np.ndarray, torch.Tensor)):
        return _of_array(item, name)
    if hasattr(item, "convert") and hasattr(item, "mode"):
        from .pictures import upright

        with named(name):
            return Encoded(name, pixels=upright(item))
    raise DataError(f"{name}: no image can be read from {type(item).__name__}; give a path, bytes or a uint8 array")


def _whole(encoded: Encoded, length: int = 0) -> Encoded:
    if not len(encoded.data):
        raise DataError(f"{encoded.name}: not an image file: it is empty; remove it or fetch it again")
    if len(encoded.data) < length:
        raise DataError(f"{encoded.name}: damaged file: it ends before this image does; fetch it again")
    return encoded


def _of_array(array: np.ndarray | torch.Tensor, name: str) -> Encoded:
    first = isinstance(array, torch.Tensor)
    dtype = str(array.dtype).removeprefix("torch.")
    if dtype != "uint8":
        raise DataError(f"{name}: pixels are uint8, and this array is {dtype}; scale them to 0 .. 255")
    pixels = array.detach().cpu().numpy() if first else array
    if pixels.ndim == 1:
        return _whole(Encoded(name, pixels.tobytes()))
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    elif pixels.ndim == 3 and first:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or 0 in pixels.shape:
        wanted = "[C, H, W]" if first else "[H, W, C]"
        raise DataError(f"{name}: of shape {tuple(array.shape)}; pixels are {wanted} with C in 1, 3, 4, or [H, W]")
    if pixels.shape[2] == 4:
        from .pictures import on_background

        pixels = on_background(pixels)
    return Encoded(name, pixels=np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
