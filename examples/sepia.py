"""A pixel op of one's own: one function over `xp`, which every backend runs, fused with the ops around it.

    python examples/sepia.py [PHOTO] [SHEET.png]

Without a photo it takes one of scikit-learn's. The strength is drawn for each sample; the vignette needs the pixel's
place, and so takes x and y.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from PIL import Image

import gpuaug as ga
from gpuaug import xp


@ga.pixel_op
def sepia(r, g, b, amount):
    """Blend a colour with its sepia tone (the weights of the usual photo filter)."""
    tone_r = 0.393 * r + 0.769 * g + 0.189 * b
    tone_g = 0.349 * r + 0.686 * g + 0.168 * b
    tone_b = 0.272 * r + 0.534 * g + 0.131 * b
    return r + amount * (tone_r - r), g + amount * (tone_g - g), b + amount * (tone_b - b)


@ga.pixel_op
def vignette(r, g, b, x, y, strength, radius):
    """Darken away from the middle of a photo of side 2 radius."""
    u, v = xp.div_rn(x - radius, radius), xp.div_rn(y - radius, radius)
    light = xp.maximum(1.0 - strength * (u * u + v * v), 0.0)
    return r * light, g * light, b * light


def main(photo: str | None = None, sheet: str = "sepia.png") -> torch.Tensor:
    """Write six versions of a photo side by side; returns them, uint8 [6, 3, 224, 224]."""
    if photo is None:
        from sklearn.datasets import load_sample_image

        pixels = load_sample_image("flower.jpg")
    else:
        pixels = np.asarray(Image.open(photo).convert("RGB"))
    images = torch.from_numpy(pixels.transpose(2, 0, 1).copy()).expand(6, -1, -1, -1)
    augment = ga.Compose(
        [
            ga.RandomResizedCrop(224, scale=(0.3, 1.0)),
            sepia(amount=(0.0, 1.0)),
            ga.RandomHorizontalFlip(),
            vignette(strength=(0.2, 0.6), radius=112.0, p=0.5),
        ],
        seed=0,
    )
    versions = augment(images)
    Image.fromarray(torch.cat(list(versions), 2).permute(1, 2, 0).numpy()).save(sheet)
    print(f"wrote {sheet}")
    return versions


if __name__ == "__main__":
    main(*sys.argv[1:3])
