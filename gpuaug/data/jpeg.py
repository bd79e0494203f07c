"""JPEG by simplejpeg, which is libjpeg-turbo as Pillow has it, to the bit, with the interpreter lock let go."""

from __future__ import annotations

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


def rows_for(data: bytes, frame: Frame, channels: int, bottom: int) -> int:
    """How many rows must be decoded so that those above ``bottom`` are right; all, where rows do not come in order.

    One row of blocks more, because chroma is interpolated across.
    """
    rows = (-(-bottom // frame.block) + 1) * frame.block
    whole = data[-2:] == b"\xff\xd9"  # else it is truncated, or something follows: look at all of it
    return rows if rows < frame.height and whole and frame.marker in SEQUENTIAL and frame.scanned == channels else 0


def shorter(data: bytes, frame: Frame, rows: int) -> bytearray:
    """The same file, which says that it has only so many rows."""
    data = bytearray(data)
    data[frame.offset + 5 : frame.offset + 7] = rows.to_bytes(2, "big")
    return data


def decoded(
    data: bytes, frame: Frame, channels: int, rows: int, shrink: int, out: np.ndarray | None = None
) -> np.ndarray | None:
    """uint8 [ceil(rows / shrink), ceil(W / shrink), 3] as stored; None: something is odd, and Pillow is to judge it."""
    simplejpeg = library()
    if simplejpeg is None or channels not in (1, 3) or frame.bits != 8 or frame.marker not in HUFFMAN:
        return None
    size = {}
    if shrink > 1:
        size = {"min_height": -(-rows // shrink), "min_width": -(-frame.width // shrink), "min_factor": shrink}
    cut = rows < frame.height
    if out is not None:
        size["buffer"] = out
    try:
        pixels = simplejpeg.decode_jpeg(shorter(data, frame, rows) if cut else data, strict=not cut, **size)
    except (ValueError, MemoryError):
        return None
    return pixels if pixels.shape == (-(-rows // shrink), -(-frame.width // shrink), 3) else None
