"""From an image file to upright uint8 RGB: the whole, or only the part and the scale that are wanted."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from . import items, jpeg
from .errors import DataError, named
from .headers import Header, jpeg_header, png_header
from .items import Encoded, Files, Made, Slice, load

__all__ = ["DataError", "Encoded", "Files", "Header", "Made", "Slice", "decode", "header", "load", "read"]
__all__ += ["rows_into", "straight"]

SHRINKS = (1, 2, 4, 8)
FIRST = 1 << 16  # bytes of a file that are read for its header


def header(item: Any) -> Header:
    """What an image is, without its pixels: of a JPEG or PNG its first bytes are read, of a file elsewhere no more
    than Pillow asks for. ``item`` as for :func:`gpuaug.data.items.load`, whose result keeps the answer.

    Raises:
        DataError: missing, empty, no image, or damaged so far.
    """
    if isinstance(item, (str, os.PathLike)):
        with named(item), open(item, "rb") as file:
            first = file.read(FIRST)
            if not first:
                load(item)  # says that it is empty

            def part(offset: int, length: int) -> bytes:
                if offset + length <= len(first) or len(first) < FIRST:
                    return first[offset : offset + length]
                file.seek(offset)
                return file.read(length)

            return _own(first, part) or _by_pillow(file, str(item))
    one = load(item)
    if one.known is None:
        with named(one.name):
            if one.pixels is not None:
                one.known = Header(*one.pixels.shape[:2], "pixels", 3)
            else:
                one.known = _own(one.data, one.part) or _by_pillow(io.BytesIO(one.data), one.name)
    return one.known


def _own(first: bytes, part) -> Header | None:
    if first[:3] == b"\xff\xd8\xff":
        return jpeg_header(part)
    return png_header(part) if first[:8] == b"\x89PNG\r\n\x1a\n" else None


def _by_pillow(file, name: str) -> Header:
    from .pictures import header_of, opened

    file.seek(0)
    return header_of(opened(file, name))


def read(
    item: Any,
    window: tuple[int, int, int, int] | None = None,
    shrink: int = 1,
    *,
    out: np.ndarray | None = None,
    background: Sequence[int] = (255, 255, 255),
) -> np.ndarray:
    """An image, or a part of it, upright and RGB: uint8 [H, W, 3], maybe a view of a larger array; do not write there.

    The first frame of several; grey of 16 or 12 bits by its upper 8; without its colour profile.

    Args:
        item: as for :func:`gpuaug.data.items.load`.
        window: (top, left, height, width) in pixels of the upright image at its full size; None: all of it. With
            ``shrink`` it is widened to whole pixels of the result: pass multiples, or the image's end.
        shrink: 1, 2, 4 or 8. A JPEG is decoded at that fraction of its size, as libjpeg-turbo does it; of all else
            squares of pixels are averaged, with fewer at the image's right and bottom.
        out: uint8 [H, W, 3] of the result's size; it is filled and returned.
        background: what is seen through transparent pixels.

    Raises:
        DataError: missing, empty, no image, damaged, of a mode that has no range, or more than
            ``gpuaug.data.items.MAX_PIXELS`` would have to be decoded.
        ValueError: a window that leaves the image, or another shrink.
    """
    if shrink not in SHRINKS:
        raise ValueError(f"shrink is 1, 2, 4 or 8, got {shrink}")
    one = load(item)
    known = header(one)
    top, left, height, width = _window(window, known, shrink, one.name)
    with named(one.name):
        if one.pixels is not None:
            pixels = _reduced(one.pixels[top : top + height, left : left + width], shrink)
        else:
            pixels = _decoded(one, known, (top, left, height, width), shrink, background, out)
    if out is None or pixels is out:
        return pixels
    if out.shape != pixels.shape or out.dtype != np.uint8:
        raise ValueError(f"out is {out.dtype} {out.shape}, and the image is uint8 {pixels.shape}")
    np.copyto(out, pixels)
    return out


def straight(known: Header, window: tuple[int, int, int, int], shrink: int, whole: bool) -> int:
    """How many rows of a JPEG :func:`rows_into` decodes so that a window, aligned as `read` has it, is among them; 0
    where it cannot, or where less than a quarter of these pixels is wanted, so that `read` takes less memory.

    Args:
        whole: the file ends as it should (`jpeg.ends`).
    """
    if known.orientation != 1 or _scale(known, shrink) != shrink or not jpeg.decodes(known.frame, known.channels):
        return 0
    top, _, height, width = window
    rows = jpeg.rows_for(known.frame, known.channels, top + height, whole) or known.height
    return rows if rows * known.width <= 4 * height * width else 0


def rows_into(one: Encoded, rows: int, shrink: int, out: np.ndarray) -> None:
    """Decode a JPEG's first rows, as :func:`straight` says, whole into `out`, and nothing is copied. Those below the
    window that was asked for are not exact. Raises as :func:`read` does."""
    known = one.known
    with named(one.name):
        check_pixels(out.shape[0] * out.shape[1], one.name)
        done = jpeg.decoded(one.data, known.frame, known.channels, rows, shrink, out)
    if done is None:
        read(one, (0, 0, rows, known.width), shrink, out=out)


def _window(window, known: Header, shrink: int, name: str) -> tuple[int, int, int, int]:
    if window is None:
        return 0, 0, known.height, known.width
    top, left, height, width = map(int, window)
    bottom, right = top + height, left + width
    if not (0 <= top < bottom <= known.height and 0 <= left < right <= known.width):
        raise ValueError(
            f"window (top, left, height, width) = {tuple(window)} leaves {name}, {known.height} x {known.width}"
        )
    top, left = top - top % shrink, left - left % shrink
    bottom, right = (min(-(-a // shrink) * shrink, b) for a, b in ((bottom, known.height), (right, known.width)))
    return top, left, bottom - top, right - left


def _reduced(pixels: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return pixels
    from .pictures import reduced

    return reduced(pixels, factor)


def _stored(window: tuple[int, int, int, int], known: Header) -> tuple[int, int, int, int]:
    """The upright window as it lies in the stored image."""
    if known.orientation == 1:
        return window
    top, left, height, width = window
    below, right = known.height - top - height, known.width - left - width
    return {
        2: (top, right, height, width),
        3: (below, right, height, width),
        4: (below, left, height, width),
        5: (left, top, width, height),
        6: (right, top, width, height),
        7: (right, below, width, height),
        8: (left, below, width, height),
    }[known.orientation]


def _decoded(
    one: Encoded, known: Header, window: tuple[int, int, int, int], shrink: int, background, out
) -> np.ndarray:
    """The window of an encoded image. The decoder's own scale where the grid of its pixels begins at the right end."""
    from .pictures import turned

    top, left, height, width = _stored(window, known)
    scale = _scale(known, shrink)
    pixels = _of_jpeg(one, known, top + height, scale, out if window[2:] == (known.height, known.width) else None)
    if pixels is None:
        pixels = _of_any(one, known, scale, background)
    if pixels is out:
        return out
    first, last = (top // scale, left // scale), (-(-(top + height) // scale), -(-(left + width) // scale))
    pixels = turned(pixels[first[0] : last[0], first[1] : last[1]], known.orientation)
    return _reduced(pixels, shrink // scale)


def _scale(known: Header, shrink: int) -> int:
    """The part of ``shrink`` that is the JPEG decoder's, which counts from the stored top and left."""
    if shrink == 1 or not known.shrinks or min(known.height, known.width) < 8:
        return 1
    flipped = [known.height] * (known.orientation in (3, 4, 7, 8)) + [known.width] * (known.orientation in (2, 3, 6, 7))
    return next(scale for scale in (8, 4, 2, 1) if scale <= shrink and not any(side % scale for side in flipped))


def _of_jpeg(one: Encoded, known: Header, bottom: int, scale: int, out) -> np.ndarray | None:
    frame = known.frame
    if frame is None:
        return None
    rows = jpeg.rows_for(frame, known.channels, bottom, jpeg.ends(one.data)) or frame.height
    check_pixels(-(-rows // scale) * -(-frame.width // scale), one.name)
    if out is not None:
        fits = known.orientation == 1 and out.shape == (-(-frame.height // scale), -(-frame.width // scale), 3)
        out = out if fits and out.flags.c_contiguous and out.dtype == np.uint8 else None
    pixels = jpeg.decoded(one.data, frame, known.channels, rows, scale, out)
    return out if out is not None and pixels is not None else pixels


def _of_any(one: Encoded, known: Header, scale: int, background) -> np.ndarray:
    """All of the stored image, at a JPEG's ``scale``, by Pillow."""
    from .pictures import opened, rgb, tag_of, turned

    image = opened(io.BytesIO(one.data), one.name)
    stored = known.height, known.width
    if known.orientation > 4:
        stored = stored[::-1]
    if scale > 1:
        image.draft(image.mode, (stored[1] // scale, stored[0] // scale))
    check_pixels(image.width * image.height, one.name)
    image.load()
    pixels = rgb(image, background, one.name)
    if known.format == "TIFF" and known.orientation > 1 and tag_of(image) == 1:  # turned as it was loaded
        pixels = turned(pixels, {6: 8, 8: 6}.get(known.orientation, known.orientation))
    if pixels.shape[:2] != tuple(-(-side // scale) for side in stored):
        raise DataError(f"{one.name}: damaged image file (it is of another size than it says); fetch it again")
    return pixels


def check_pixels(count: int, name: str) -> None:
    """Raises DataError for more pixels than may be decoded at once."""
    if count > items.MAX_PIXELS:
        raise DataError(
            f"{name}: {count / 1e6:.0f} megapixels would be decoded, and {items.MAX_PIXELS / 1e6:.0f} may be; raise "
            f"gpuaug.data.items.MAX_PIXELS (or the environment's GPUAUG_MAX_PIXELS), or save a smaller image"
        )


def decode(item: Any, size: int) -> torch.Tensor:
    """uint8 [3, size, size]: the shorter side scaled to ``size`` (antialiased bilinear), the centre cropped.

    Raises :class:`DataError` as :func:`read` does.
    """
    pixels = np.empty((size, size, 3), np.uint8)
    cover(item, pixels)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def covering(sides: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
    """(H, W) of an image of these sides, scaled to the least size that covers the wanted one."""
    least, most = max(zip(sides, wanted, strict=True), key=lambda pair: pair[1] / pair[0])
    return tuple(max(whole, round(side * most / least)) for side, whole in zip(sides, wanted, strict=True))


def cover(item: Any, out: np.ndarray) -> None:
    """Fill `out`, uint8 [h, w, 3], with the centre of an image that is scaled (antialiased bilinear) to the least size
    that covers it. Raises :class:`DataError` as :func:`read` does."""
    from PIL import Image

    one = load(item)
    known, wanted = header(one), out.shape[:2]
    sides = known.height, known.width
    if sides == wanted:
        read(one, out=out)
        return
    least = min(side // whole for side, whole in zip(sides, wanted, strict=True))
    shrink = next(s for s in (8, 4, 2, 1) if s == 1 or (known.shrinks and s <= least))
    picture = Image.fromarray(np.ascontiguousarray(read(one, shrink=shrink)))
    box: list[float] = []  # top, bottom, left, right of the middle, which alone is scaled
    for side, scaled, whole in zip(picture.size[::-1], covering(picture.size[::-1], wanted), wanted, strict=True):
        first = (scaled - whole) // 2
        box += [first * side / scaled, (first + whole) * side / scaled]
    box = box[2], box[0], box[3], box[1]
    out[:] = np.asarray(picture.resize(wanted[::-1], Image.Resampling.BILINEAR, box=box))
