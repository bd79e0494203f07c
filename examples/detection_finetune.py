"""Fine-tune a detector on a folder of images with boxes, and let it find things in other images.

    python examples/detection_finetune.py FOLDER [WEIGHTS.safetensors]

FOLDER holds images/ and coco.json (or annotations/*.xml in VOC's format), or train/ and test/ with such in them. What
comes out lies in runs/. The command line does the same: gpuaug finetune --data FOLDER; gpuaug predict 1 images/
"""

from __future__ import annotations

import sys
from pathlib import Path

import gpuaug as ga
from gpuaug.finetune import Config, Result, finetune


def main(folder: str, weights: str | None = None, **options) -> Result:
    """Fine-tune on ``folder``; ``options`` are fields of :class:`gpuaug.finetune.Config`."""
    options = {"augment": "detection_train:vertical_flip=0.5"} | options  # where up and down do not matter
    result = finetune(Config(data=folder, task="detect", weights=weights, **options))
    print(f"mAP {result.after:.1%}, mAP@50 {result.metrics['map50']:.1%}; see {result.run}")

    model = ga.load(result.run)
    images = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".png"))[:8]
    found = model.predict(images)  # boxes in the pixels of each image
    for one in found:
        counts = {name: sum(answer.name == name for answer in one) for name in model.classes}
        print(Path(one.path).name, ", ".join(f"{n} {name}" for name, n in counts.items() if n) or "nothing")
    print("wrote", found.save(result.run / "found.json"), found.save(result.run / "found.png"))  # COCO's JSON, a sheet
    return result


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:3])
