"""A small folder of class folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

NAMES = [
    f"{c}/{place}{i}{ending}"
    for c in ("cat", "dog")
    for i, (place, ending) in enumerate((("", ".jpg"), ("", ".png"), ("inner/", ".jfif"), ("inner/deeper/", ".WEBP")))
]


def save(path: Path, seed: int = 0, size: tuple[int, int] = (20, 24)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, {".jfif": "JPEG", ".webp": "WEBP"}.get(path.suffix.lower()))
    return path
