"""Fine-tune a model on a folder of class folders, with a pipeline of one's own.

    python examples/finetune_folder.py FOLDER [WEIGHTS.safetensors]

FOLDER holds cat/*.jpg, dog/*.jpg, ...; or train/ and test/ with such folders in them. What comes out lies in runs/.
The command line does the same with a preset: gpuaug finetune --data FOLDER --augment geometric
"""

from __future__ import annotations

import sys

import torch

import gpuaug as ga
from gpuaug.finetune import Config, Result, finetune


def main(folder: str, weights: str | None = None, size: int = 32, **options) -> Result:
    """Fine-tune on ``folder``, images of ``size`` pixels a side; ``options`` are fields of
    :class:`gpuaug.finetune.Config`."""
    augment = ga.Compose(
        [
            ga.Resize(size),
            ga.CenterCrop(size),
            ga.RandomHorizontalFlip(),
            ga.RandomAffine(20, translate=(0.1, 0.1), scale=(0.9, 1.1), interpolation="bilinear"),
            ga.ColorJitter(brightness=0.3, contrast=0.3),
            ga.ToDtype(torch.float32, scale=True),
            ga.Normalize(ga.IMAGENET_MEAN, ga.IMAGENET_STD),
        ],
        seed=0,
    )
    config = Config(data=folder, weights=weights, size=size, **options)
    result = finetune(config, augment=augment)
    print(f"{result.before:.1%} before, {result.after:.1%} after; see {result.run}")
    return result


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:3])
