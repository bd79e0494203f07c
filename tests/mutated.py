"""Image files with faults planted in them, by a seed."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

FORMATS = {
    "JPEG": ({}, {"progressive": True}, {"subsampling": 0, "restart_marker_blocks": 2}),
    "PNG": ({}, {"compress_level": 0}),
    "PPM": ({},),
    "TIFF": ({}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}, {"compression": "jpeg"}),
    "WEBP": ({}, {"lossless": True}),
    "GIF": ({},),
    "BMP": ({},),
}
MODES = {
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "L", "RGBA", "P", "I;16"),
    "PPM": ("RGB", "L", "1"),
    "TIFF": ("RGB", "L", "CMYK", "RGBA"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("P", "L"),
    "BMP": ("RGB", "L", "P"),
}


def sound(rng: np.random.Generator) -> tuple[str, bytes]:
    """(format, bytes) of a small image of a random format, mode and size, maybe with an orientation."""
    format = str(rng.choice(list(FORMATS)))
    mode, extra = str(rng.choice(MODES[format])), dict(rng.choice(FORMATS[format]))
    if extra.get("compression") == "jpeg":
        mode = "RGB"
    height, width = (int(x) for x in rng.integers(1, 70, 2))
    pixels = rng.integers(0, 256, (height, width, 3)) // 2 + np.arange(width)[:, None]
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif mode != "RGB":
        image = image.convert(mode)
    if format in ("JPEG", "PNG", "WEBP") and rng.random() < 0.5:
        extra["exif"] = tag = Image.Exif()
        tag[0x0112] = int(rng.integers(1, 9))
    file = io.BytesIO()
    image.save(file, format, **extra)
    return format, file.getvalue()


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """The same with a few bytes changed, cut out, doubled or put in, or without its end."""
    data = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        if not data:
            break
        kind, at = int(rng.integers(0, 6)), int(rng.integers(0, len(data)))
        if rng.random() < 0.5:  # most of what can go wrong stands at the beginning
            at = min(at, int(rng.integers(0, 200)))
        some = int(rng.integers(1, 9))
        if kind == 0:
            data[at] = int(rng.integers(0, 256))
        elif kind == 1:
            data[at : at + some] = bytes(rng.choice([0, 255, 127, 1], some).tolist())
        elif kind == 2:
            del data[at : at + some]
        elif kind == 3:
            data[at:at] = data[at : at + some]
        elif kind == 4:
            data[at:at] = rng.integers(0, 256, some, dtype=np.uint8).tobytes()
        else:
            del data[max(at, 1) :]
    return bytes(data)
