"""JPEG by simplejpeg, which is libjpeg-turbo as Pillow has it, to the bit, with the interpreter lock let go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache

import numpy as np

from .headers import Frame

HUFFMAN = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive
SEQUENTIAL = (0xC0, 0xC1)


@cache
def library():
    """simplejpeg, or None where it is not installed."""
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg


def rows_for(data: bytes | memoryview, frame: Frame, channels: int, bottom: int) -> int:
    """How many rows must be decoded so that those above ``bottom`` are right; 0: all, where rows do not come in order.

    One row of blocks more where chroma has fewer rows, because it is interpolated across.
    """
    rows = (-(-bottom // frame.block) + (frame.block > 8)) * frame.block
    whole = data[-2:] == b"\xff\xd9"  # else it is truncated, or something follows: look at all of it
    return rows if rows < frame.height and whole and frame.marker in SEQUENTIAL and frame.scanned == channels else 0


@contextmanager
def shortened(data: bytes | memoryview, frame: Frame, rows: int) -> Iterator[bytearray | memoryview]:
    """The same file, which says that it has only so many rows: a copy, or what may be written to, for so long."""
    lines = slice(frame.offset + 5, frame.offset + 7)
    data = bytearray(data) if isinstance(data, bytes) else data
    said, data[lines] = bytes(data[lines]), rows.to_bytes(2, "big")
    try:
        yield data
    finally:
        data[lines] = said


def decodes(frame: Frame | None, channels: int) -> bool:
    """Whether `decoded` takes such a file."""
    known = frame is not None and frame.bits == 8 and frame.marker in HUFFMAN and channels in (1, 3)
    return known and library() is not None


def decoded(
    data: bytes | memoryview,
    frame: Frame | None,
    channels: int,
    rows: int,
    shrink: int,
    out: np.ndarray | None = None,
) -> np.ndarray | None:
    """uint8 [ceil(rows / shrink), ceil(W / shrink), 3] as stored; None: something is odd, and Pillow is to judge it."""
    if not decodes(frame, channels):
        return None
    size = {}
    if shrink > 1:
        size = {"min_height": -(-rows // shrink), "min_width": -(-frame.width // shrink), "min_factor": shrink}
    cut = rows < frame.height
    if out is not None:
        size["buffer"] = out
    try:
        with shortened(data, frame, rows) if cut else nullcontext(data) as data:
            pixels = library().decode_jpeg(data, strict=not cut, **size)
    except (ValueError, MemoryError):
        return None
    return pixels if pixels.shape == (-(-rows // shrink), -(-frame.width // shrink), 3) else None
