"""Memory of the CPU backend: output buffers that are used again, and what is tried where memory cannot be had.

Fresh memory costs more than the pixels (page faults), so an output buffer of a megabyte or more is used again once
nobody holds it: the tensor's storage keeps a numpy view alive, whose end gives the memory back. No more than `limit()`
bytes are kept so: by default a quarter of the most memory that the process has had resident, 256 MiB at the most.
Beyond it the sizes not used lately go first, and a buffer larger than the limit is not kept. Where an allocation of
this backend fails, all that is kept is freed, and it is tried again.

The environment variable GPUAUG_KEPT_BYTES, read at import, sets another limit; 0 keeps nothing.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import weakref
from collections import deque

import numpy as np
import torch

LARGE = 1 << 20  # bytes of a buffer from which on it is worth keeping
MOST_KEPT = 256 << 20
LINE = 64
# The free buffers by their bytes, the size used last at the end. A view ends on any thread and between any two steps of
# the functions below, so there is no lock: each step is one operation of a dict or a deque, which are safe by
# themselves, and the worst that comes of two threads that meet is a buffer that is freed and not kept.
_free: dict[int, deque[np.ndarray]] = {}


def given_limit(text: str | None) -> int | None:
    """What GPUAUG_KEPT_BYTES says, None for nothing."""
    if text is not None and not text.isdecimal():
        raise ValueError(f"GPUAUG_KEPT_BYTES must be a whole number of bytes, got {text!r}")
    return None if text is None else int(text)


GIVEN = given_limit(os.environ.get("GPUAUG_KEPT_BYTES"))


def limit() -> int:
    """How many bytes of free buffers are kept."""
    return min(MOST_KEPT, _resident() // 4) if GIVEN is None else GIVEN


def _resident() -> int:
    """The most bytes that the process has had resident; more than enough where the system does not say."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return 4 * MOST_KEPT
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def allocate(
    shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, memory_format: torch.memory_format
) -> torch.Tensor:
    """An output buffer [R, C, OH, OW], not initialised.

    Raises:
        MemoryError: it cannot be had.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < LARGE:
        return torch.empty(shape, dtype=dtype, device=device, memory_format=memory_format)
    try:
        memory = _free[size].pop()
    except (KeyError, IndexError):
        memory = empty(size + LINE, f"an output of {tuple(shape)} {dtype}")
        start = -memory.ctypes.data % LINE
        memory = memory[start : start + size]
    view = memory[:]
    weakref.finalize(view, _give_back, memory).atexit = False
    flat = torch.from_numpy(view).view(dtype)
    if memory_format == torch.channels_last:
        r, c, h, w = shape
        return flat.view(r, h, w, c).permute(0, 3, 1, 2)
    return flat.view(shape)


def empty(size: int, what: str) -> np.ndarray:
    """`size` bytes for `what`, uint8, not initialised.

    Raises:
        MemoryError: they cannot be had, not even without the buffers that were kept.
    """
    while True:
        try:
            return np.empty(size, np.uint8)
        except (MemoryError, ValueError):  # ValueError: more than an array can have
            if not forget():
                raise MemoryError(f"{what}: {size} bytes cannot be had") from None


def forget() -> int:
    """Free all buffers that are kept; returns how many bytes."""
    return _shrink(0)


def _give_back(memory: np.ndarray) -> None:
    """Keep a buffer for later calls."""
    most = limit()
    if memory.nbytes <= most:
        free = _free.pop(memory.nbytes, None) or deque()
        free.append(memory)
        _free[memory.nbytes] = free
        _shrink(most)


def _shrink(most: int) -> int:
    """Free buffers, the sizes not used lately first, until `most` bytes are kept; returns how many bytes."""
    sizes = list(_free.items())
    before = left = sum(size * len(free) for size, free in sizes)
    for size, free in sizes:
        while left > most and free:
            with contextlib.suppress(IndexError):
                free.popleft()
            left -= size
        if not free:
            _free.pop(size, None)
    return before - left
