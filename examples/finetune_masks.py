"""Fine-tune a segmenter on a folder of images and masks, then write masks for other images.

    python examples/finetune_masks.py FOLDER IMAGES MASKS [WEIGHTS.safetensors]

FOLDER holds images/ and masks/ of the same names; or train/ and test/ with such folders in them. IMAGES are other ones,
a file or a folder, of any sizes; their masks come to lie in MASKS. WEIGHTS are those of a classifier, whose encoder is
taken. The command line does the same: gpuaug finetune --data FOLDER, gpuaug predict 1 IMAGES --out MASKS
"""

from __future__ import annotations

import sys

import gpuaug as ga
from gpuaug.finetune import Config, Result, finetune

AUGMENT = "segmentation_train:degrees=180,vertical_flip=0.5"  # of what has no upside


def main(folder: str, images: str, masks: str, weights: str | None = None, **options) -> Result:
    """Fine-tune on ``folder``, and write masks of ``images`` to ``masks``; ``options`` are fields of
    :class:`gpuaug.finetune.Config`."""
    result = finetune(Config(data=folder, task="segment", weights=weights, **({"augment": AUGMENT} | options)))
    print(f"IoU {result.before:.1%} before, {result.after:.1%} after; see {result.run}")
    found = ga.load(result.run).predict(images, progress=True)
    for one in found:
        print(one.path, one.error or ", ".join(f"{name} {share:.1%}" for name, share in one.shares))
    print(f"wrote {found.save(masks, 'masks')}")
    return result


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:5])
