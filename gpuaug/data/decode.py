"""From an image file to a uint8 tensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError


class DataError(ValueError):
    """The data set cannot be used as it is; the message names the file or folder and the mend."""


def open_rgb(path: str | Path, shorter: int | None = None) -> Image.Image:
    """An image file as an upright RGB picture (the camera's orientation tag applied, 16-bit grey scaled to 8).

    ``shorter``: scale the shorter side to this many pixels, antialiased bilinear. Raises :class:`DataError`, naming
    the file, where the file is missing, truncated, or no image.
    """
    path = Path(path)
    try:
        with Image.open(path) as file:
            if shorter is not None:  # JPEG only: decode at the nearest power-of-two fraction that is still large enough
                file.draft("RGB", (shorter, shorter))
            image = ImageOps.exif_transpose(file)
            if image.mode.startswith("I;16"):
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            elif image.mode in ("I", "F"):
                raise DataError(
                    f"{path}: pixel mode {image.mode!r} has no fixed range; save it as 8 or 16 bits a channel"
                )
            image = image.convert("RGB")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except UnidentifiedImageError:
        raise DataError(
            f"{path}: not an image file that Pillow can read; remove it or convert it to JPEG or PNG"
        ) from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: damaged image file ({error}); remove it or fetch it again") from None
    if shorter is not None and min(image.size) != shorter:
        scale = shorter / min(image.size)
        sides = tuple(max(shorter, round(side * scale)) for side in image.size)
        image = image.resize(sides, Image.Resampling.BILINEAR)
    return image


def decode(path: str | Path, size: int) -> torch.Tensor:
    """uint8 [3, size, size]: the shorter side scaled to ``size`` (antialiased bilinear), the centre cropped.

    Raises :class:`DataError` as :func:`open_rgb` does.
    """
    image = open_rgb(path, size)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    pixels = np.array(image.crop((left, top, left + size, top + size)))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
