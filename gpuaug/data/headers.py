"""What JPEG and PNG files say of themselves before any pixel: size, channels, and the camera's orientation."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ORIENTATION = 0x0112
XMP = re.compile(rb'tiff:Orientation(="|>)([0-9])')
FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # PNG's colour types
Part = Callable[[int, int], bytes]  # (offset, length): so many bytes there


@dataclass(frozen=True)
class Header:
    """An image before it is decoded.

    ``height``, ``width``: upright, in pixels. ``format``: as Pillow calls it, or ``"pixels"``. ``channels``: stored
    ones. ``orientation``: EXIF's, 1 to 8; 1 where the file says none, or none that there is. ``frame``: of JPEG.
    """

    height: int
    width: int
    format: str
    channels: int
    orientation: int = 1
    frame: Frame | None = None

    @property
    def shrinks(self) -> bool:
        """A half, a quarter and an eighth of the size are cheaper to decode than the whole."""
        return self.format in ("JPEG", "MPO")


@dataclass(frozen=True)
class Frame:
    """A JPEG's frame: its marker, where it lies, rows of pixels in a row of blocks, and channels in the first scan."""

    marker: int
    offset: int
    bits: int
    height: int
    width: int
    block: int
    scanned: int


def orientation_of(exif: bytes = b"", xmp: bytes = b"") -> int:
    """1 to 8, from the bytes of EXIF and, where these say nothing, of XMP; 1 where neither says what there is."""
    value = None
    if exif:
        while exif.startswith(b"Exif\x00\x00"):
            exif = exif[6:]
        value = _tag(exif)
    if value is None and (found := XMP.search(xmp)):
        value = int(found[2])
    return valid(value)


def valid(value: Any) -> int:
    """A tag's value, of any type, as an orientation."""
    try:
        return int(value) if value in (2, 3, 4, 5, 6, 7, 8) else 1
    except (TypeError, ValueError, ArithmeticError):
        return 1


def _tag(exif: bytes) -> Any:
    """The tag's value, mostly a short; None: no such tag, or EXIF that ends before it."""
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(exif[:4])
    value = None
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, values = struct.unpack_from(f"{order}HHI", exif, at)
            if tag == ORIENTATION:
                if kind != 3 or values != 1:
                    return _by_pillow(exif)
                (value,) = struct.unpack_from(f"{order}H", exif, at + 8)
    except struct.error:
        pass
    return value


def _by_pillow(exif: bytes) -> Any:
    from PIL import Image

    try:
        tags = Image.Exif()
        tags.load(exif)
        return tags.get(ORIENTATION)
    except Exception:  # what is no EXIF says nothing
        return None


# --- JPEG -------------------------------------------------------------------------------------------------------------
def jpeg_header(part: Part) -> Header | None:
    """Of a JPEG file; None: not one as the standard has it, ask Pillow."""
    at, frame, channels, exif, xmp = 2, None, 0, b"", b""
    while True:
        head = part(at, 4)
        if len(head) < 4 or head[0] != 0xFF:
            return None
        marker, length = head[1], head[2] << 8 | head[3]
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0xDA:
            break
        if marker == 0x01 or 0xD0 <= marker <= 0xD9 or length < 2:
            return None
        if marker in FRAMES:
            body = part(at + 4, length - 2)
            if frame is not None or len(body) < 6 + 3 * (channels := body[5]) or not channels:
                return None
            height, width = body[1] << 8 | body[2], body[3] << 8 | body[4]
            block = 8 * max(body[7 + 3 * k] & 15 for k in range(channels))
            frame = (marker, at, body[0], height, width, block)
        elif marker == 0xE1:
            body = part(at + 4, length - 2)
            if body.startswith(b"Exif\x00\x00"):
                exif += body[6:]
            elif body.startswith(b"http://ns.adobe.com/xap/1.0/\x00"):
                xmp = body
        at += 2 + length
    if frame is None or not frame[3] or not frame[4] or not frame[5]:
        return None
    orientation = orientation_of(exif, xmp)
    height, width = frame[3:5] if orientation < 5 else frame[4:2:-1]
    scanned = (part(at + 4, 1) or b"\0")[0]
    return Header(height, width, "JPEG", channels, orientation, Frame(*frame, scanned))


# --- PNG --------------------------------------------------------------------------------------------------------------
def png_header(part: Part) -> Header | None:
    """Of a PNG file; None: not one as the standard has it, ask Pillow. Pixels are passed over, not read."""
    head = part(8, 18)
    if len(head) < 18 or head[4:8] != b"IHDR" or head[17] not in CHANNELS:
        return None
    width, height = struct.unpack(">II", head[8:16])
    kind = head[17]
    if not width or not height:
        return None
    at, exif, xmp, said = 8, b"", b"", False
    while len(head := part(at, 8)) == 8 and head[4:] != b"IEND":
        (length,) = struct.unpack(">I", head[:4])
        if head[4:] == b"eXIf":
            exif, said = part(at + 8, length), True
        elif head[4:] in (b"tEXt", b"zTXt", b"iTXt") and length < 1 << 24:
            key, _, text = part(at + 8, length).partition(b"\x00")
            if key == b"XML:com.adobe.xmp":
                xmp = text if head[4:] != b"iTXt" else _international(text)
            elif key == b"Raw profile type exif" and not said:
                exif = _profile(_inflated(text[1:]) if head[4:] == b"zTXt" else text)
        at += 12 + length
    orientation = orientation_of(exif, xmp)
    if orientation > 4:
        height, width = width, height
    return Header(height, width, "PNG", CHANNELS[kind], orientation)


def _inflated(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(packed, 1 << 20)
    except zlib.error:
        return b""


def _international(text: bytes) -> bytes:
    """The text of an iTXt chunk behind its keyword: a flag, a method, a language, a translated keyword, the text."""
    packed, rest = text[:1] == b"\x01", text[2:].split(b"\x00", 2)
    if len(rest) < 3:
        return b""
    return _inflated(rest[2]) if packed else rest[2]


def _profile(text: bytes) -> bytes:
    """EXIF as ImageMagick writes it: a name, a length, and lines of hexadecimal digits."""
    try:
        return bytes.fromhex("".join(text.decode("latin-1").split("\n")[3:]))
    except ValueError:
        return b""
