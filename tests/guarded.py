"""Images between two pages that nobody may touch: who reads or writes beyond one ends the process (Linux)."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Sequence

import torch

PAGE = mmap.PAGESIZE
NOBODY = 0  # PROT_NONE
WHOLE = {1: torch.uint8, 2: torch.int16, 4: torch.int32}  # types without NaN, for bytes of any dtype


def reason_against() -> str | None:
    """None, or why there are no guard pages here."""
    return None if sys.platform == "linux" else f"guard pages need Linux's mprotect, this is {sys.platform}"


def _protect(address: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(PAGE), ctypes.c_int(NOBODY)):
        raise OSError(ctypes.get_errno(), f"mprotect: {os.strerror(ctypes.get_errno())}")


def span(shape: Sequence[int], strides: Sequence[int]) -> int:
    """Elements from the first to the last, both included."""
    return 1 + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))


class Guarded:
    """An image in memory of its own. The memory lives as long as this does, not as the image.

    Args:
        shape, strides: of the image, in elements; no axis is empty.
        behind: its last byte touches the page behind; or else its first byte the page in front.
        filler: what each byte of the memory holds, the image's own too.

    Attributes:
        image: the tensor.
    """

    def __init__(self, shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype, *, behind: bool, filler: int):
        self.shape, self.strides, self.filler = tuple(shape), tuple(strides), filler
        used = span(shape, strides) * dtype.itemsize
        size = -(-used // PAGE) * PAGE
        self._map = mmap.mmap(-1, size + 2 * PAGE)
        first = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        _protect(first)
        _protect(first + PAGE + size)
        self._memory = torch.frombuffer((ctypes.c_uint8 * size).from_address(first + PAGE), dtype=torch.uint8)
        self._memory.fill_(filler)
        self._start = size - used if behind else 0
        place = (ctypes.c_uint8 * used).from_address(first + PAGE + self._start)
        self.image = torch.frombuffer(place, dtype=dtype).as_strided(shape, strides)

    def fill(self, values: torch.Tensor) -> None:
        """Give the image values of its shape; of an axis without a stride the first ones."""
        part = tuple(slice(None) if stride else slice(0, 1) for stride in self.strides)
        self.image[part].copy_(values[part])

    def bytes(self) -> torch.Tensor:
        """A copy of the memory, uint8."""
        return self._memory.clone()

    def stray(self) -> bool:
        """Whether a byte that is not the image's does not hold the filler any more."""
        size = self.image.dtype.itemsize
        own = torch.zeros_like(self._memory)
        used = span(self.shape, self.strides) * size
        elements = own[self._start : self._start + used].view(WHOLE[size])
        elements.as_strided(self.shape, self.strides, elements.storage_offset()).fill_(-1 if size > 1 else 255)
        return bool(((own == 0) & (self._memory != self.filler)).any())
