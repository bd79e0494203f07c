"""Images of any format and mode by Pillow, as upright RGB."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import IO

import numpy as np
from PIL import Image, ImageFile

from .errors import DataError
from .headers import Header, valid

WHITE = (255, 255, 255)
UNREAD = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "FPX"}  # other programs would decode these, or nobody
TURNS = {  # from stored to upright: flip rows, flip columns, and then swap the two
    2: (False, True, False),
    3: (True, True, False),
    4: (True, False, False),
    5: (False, False, True),
    6: (True, False, True),
    7: (True, True, True),
    8: (False, True, True),
}
HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Stored pixels [H, W, C] upright, as a view."""
    rows, columns, swap = TURNS.get(orientation, (False, False, False))
    pixels = pixels[:: -1 if rows else 1, :: -1 if columns else 1]
    return pixels.swapaxes(0, 1) if swap else pixels


def opened(file: IO[bytes], name: str) -> ImageFile.ImageFile:
    """A file as Pillow opens it, by what it holds and not by its name; of any size: limits are the caller's."""
    prefix = file.read(16)
    if prefix[4:8] == b"ftyp" and prefix[8:12] in HEIF and (image := _heif(file, name)) is not None:
        return image
    Image.preinit()
    tried: set[str] = set()
    for everything in (False, True):  # first the usual formats, then all, as Pillow does
        if everything:
            Image.init()
        for format in [one for one in Image.ID if one not in tried and one not in UNREAD]:
            tried.add(format)
            factory, accept = Image.OPEN[format]
            try:
                verdict = not accept or accept(prefix)
                if verdict and not isinstance(verdict, str):
                    file.seek(0)
                    return factory(file, None)
            except (SyntaxError, IndexError, TypeError, struct.error):
                continue
    raise DataError(f"{name}: not an image file that Pillow can read; remove it or convert it to JPEG or PNG")


def _heif(file: IO[bytes], name: str) -> ImageFile.ImageFile | None:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise DataError(f"{name}: a HEIC file, which needs pillow-heif: pip install pillow-heif") from None
    file.seek(0)
    return HeifImageFile(file, None)


def header_of(image: ImageFile.ImageFile) -> Header:
    """Of an image that is open and not decoded."""
    width, height = image.size
    if (
        image.format == "TIFF"
    ):  # whose size is upright already in some versions of Pillow, and whose tag goes as it loads
        width, height = (int(image.tag_v2[key]) for key in (256, 257))
    orientation = tag_of(image)
    if orientation > 4:
        width, height = height, width
    return Header(height, width, image.format or "", len(image.getbands()), orientation)


def tag_of(image: Image.Image) -> int:
    """The orientation that an image still has to be given."""
    try:
        return valid(image.getexif().get(0x0112))
    except Exception:  # what is no EXIF says nothing
        return 1


def eight_bits(image: Image.Image, name: str = "the image") -> Image.Image:
    """Grey of 16 bits, or of 12, by their upper 8; other modes as they are. Raises DataError for what has no range."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        tags = getattr(image, "tag_v2", {})
        down = 4 if tags.get(258) in (12, (12,)) else 8
        return Image.fromarray((np.asarray(image) >> down).clip(0, 255).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DataError(f"{name}: pixel mode {image.mode!r} has no fixed range; save it as 8 or 16 bits a channel")
    return image


def rgb(image: Image.Image, background: Sequence[int] = WHITE, name: str = "the image") -> np.ndarray:
    """uint8 [H, W, 3] as stored, not turned; what is transparent shows ``background``. Grey is one plane, seen thrice.

    Raises DataError for a mode without a fixed range of values.
    """
    image = eight_bits(image, name)
    if image.has_transparency_data:
        return on_background(np.asarray(image.convert("RGBA")), background)
    if image.mode in ("L", "1"):
        grey = np.asarray(image if image.mode == "L" else image.convert("L"))
        return np.broadcast_to(grey[..., None], (*grey.shape, 3))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def on_background(pixels: np.ndarray, background: Sequence[int] = WHITE) -> np.ndarray:
    """uint8 [H, W, 4], not premultiplied, blended onto a colour, rounded: [H, W, 3]."""
    alpha = pixels[..., 3:]
    if alpha.min() == 255:
        return pixels[..., :3]
    lines = np.empty((*pixels.shape[:2], 3), np.uint8)
    under = np.asarray(background, np.uint32)
    for top in range(0, len(pixels), 256):  # wide numbers of a few lines at a time
        a = alpha[top : top + 256].astype(np.uint32)
        lines[top : top + 256] = (pixels[top : top + 256, :, :3] * a + under * (255 - a) + 127) // 255
    return lines


def upright(image: Image.Image, background: Sequence[int] = WHITE) -> np.ndarray:
    """uint8 [H, W, 3] of a Pillow image, the orientation that it still has applied."""
    pixels = rgb(image, background)
    return turned(pixels, tag_of(image))


def reduced(pixels: np.ndarray, factor: int) -> np.ndarray:
    """uint8 [ceil(H / factor), ceil(W / factor), 3]: means of factor x factor pixels, fewer at the right and bottom."""
    if factor == 1:
        return pixels
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).reduce(factor))
