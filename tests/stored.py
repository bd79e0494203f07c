"""Pictures in files of every format, and what Pillow makes of them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps

FORMATS = {
    "JPEG": {},
    "progressive": {"format": "JPEG", "progressive": True},
    "restarts": {"format": "JPEG", "restart_marker_blocks": 3, "subsampling": 2},
    "PNG": {},
    "TIFF": {},
    "TIFF-LZW": {"format": "TIFF", "compression": "tiff_lzw"},
    "WEBP": {"lossless": True},
    "AVIF": {},
}


def picture(height: int = 60, width: int = 90, seed: int = 0) -> Image.Image:
    """A smooth picture with some noise."""
    noise = np.random.default_rng(seed).integers(0, 40, (height, width, 3))
    y, x = np.arange(height)[:, None], np.arange(width)[None, :]
    slope = np.stack([y * 2 + 0 * x, x * 2 + 0 * y, y + x], -1)
    return Image.fromarray((slope * 0.8 + noise).clip(0, 255).astype(np.uint8))


def stored(image: Image.Image, format: str, **keywords) -> bytes:
    keywords = {**FORMATS.get(format, {}), **keywords}
    format = keywords.pop("format", format)
    file = io.BytesIO()
    image.save(file, format, **keywords)
    return file.getvalue()


def tagged(image: Image.Image, format: str, orientation: int) -> bytes:
    tag = Image.Exif()
    tag[0x0112] = orientation
    extra = {"tiffinfo": {0x0112: orientation}} if format.startswith("TIFF") else {"exif": tag}
    return stored(image, format, **extra)


def judged(data: bytes) -> np.ndarray:
    """The image as Pillow has it, upright."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def averaged(pixels: np.ndarray, factor: int) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).reduce(factor))


def has(format: str) -> bool:
    Image.init()
    name = FORMATS[format].get("format", format)
    return name in Image.SAVE and name in Image.OPEN
