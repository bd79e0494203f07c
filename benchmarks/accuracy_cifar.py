"""Fine-tuning the ResNet-20 on 4,000 real CIFAR-10 images: our flip + affine against torchvision's, image by image.

Both arms run the same loop (gpuaug.finetune) from the same weights with the same order of images for each seed; only
the augmentation differs: the preset ``geometric``, or torchvision.transforms.v2's RandomHorizontalFlip and RandomAffine
with the same ranges, called on one image after another. Each trained network is tested on the 1,000 test images as they
are and under 5 fixed sets of rotations by U(-45, 45) degrees (torchvision, bilinear). Differences are paired by seed
and rotation set.

    python benchmarks/accuracy_cifar.py [--seeds 3] [--epochs 6] [--out benchmarks/results/accuracy_cifar.json]

The data: $GPUAUG_DATA/cifar10, by default ../shared/data beside the checkout, and beside that folder
weights/resnet20_cifar10.safetensors. On 2 idle CPU cores a training takes about 70 s.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torchvision
from safetensors.torch import load_file
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug import presets
from gpuaug.data import Parts, Source, open_parts
from gpuaug.finetune import Config, finetune
from gpuaug.finetune.models import ResNet20
from gpuaug.finetune.report import device_name

from . import RESULTS, ROOT

DATA = Path(os.environ.get("GPUAUG_DATA", ROOT.parent / "shared" / "data"))
WEIGHTS = DATA.parent / "weights" / "resnet20_cifar10.safetensors"
ROTATIONS = 5
TARGETS = {"mean_difference_points_at_least": -0.5, "ours_rotated_mean_at_least": 0.715}


class ImageByImage:
    """torchvision's flip + affine, each image on its own with its own draw; the same calls as ``presets.geometric``."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.ops = v2.Compose(
            [
                v2.RandomHorizontalFlip(0.5),
                v2.RandomAffine(45, (3 / 32, 3 / 32), (0.9, 1.1), interpolation=v2.InterpolationMode.BILINEAR),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(ga.IMAGENET_MEAN, ga.IMAGENET_STD),
            ]
        )

    def set_epoch(self, epoch: int) -> None:
        torch.manual_seed(1000 * self.seed + epoch)

    def __call__(self, images: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
        return torch.stack([self.ops(image) for image in images.cpu()]).to(images.device)

    def __repr__(self) -> str:
        return repr(self.ops)


def rotated(source: Source, seed: int) -> torch.Tensor:
    """uint8 [N, 3, H, W]: each image of ``source`` rotated by its own U(-45, 45) degrees."""
    angles = torch.rand(len(source), generator=torch.Generator().manual_seed(seed)) * 90 - 45
    turn = {"interpolation": v2.InterpolationMode.BILINEAR}
    return torch.stack(
        [v2.functional.rotate(x, a, **turn) for x, a in zip(source.images, angles.tolist(), strict=True)]
    )


@torch.inference_mode()
def accuracy(weights: Path, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of right answers, 0 to 1, of the ResNet-20 in ``weights`` on uint8 ``images``; torchvision normalises."""
    model = ResNet20().eval()
    model.load_state_dict(load_file(weights))
    x = v2.functional.normalize(images.float() / 255, ga.IMAGENET_MEAN, ga.IMAGENET_STD)
    hits = sum((model(a).argmax(1) == b).sum() for a, b in zip(x.split(250), labels.split(250), strict=True))
    return float(hits) / len(labels)


def run_arm(name: str, seed: int, base: Config, parts: Parts, tests: list[torch.Tensor]) -> dict:
    """Train once and test; ``tests``: the plain images, then each set of rotated ones."""
    augment = ImageByImage(seed) if name == "torchvision" else presets.geometric(seed=seed)
    start = time.perf_counter()
    done = finetune(replace(base, seed=seed), parts=parts, augment=augment)
    seconds = time.perf_counter() - start
    plain, *turned = [accuracy(done.run / "best.safetensors", images, parts.test.labels) for images in tests]
    mean = statistics.mean(turned)
    print(f"seed {seed}  {name:12}  plain {plain:.1%}  rotated {mean:.1%}  {seconds:.0f} s", flush=True)
    return {
        "plain": plain,
        "rotated": turned,
        "rotated_mean": mean,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=RESULTS / "accuracy_cifar.json")
    args = parser.parse_args()
    if not (DATA / "cifar10").is_dir():
        raise SystemExit(f"{DATA / 'cifar10'} is missing: set GPUAUG_DATA to the folder that holds cifar10/")

    parts = open_parts(DATA / "cifar10", 32, val_fraction=0.0)
    parts = replace(parts, train=parts.train.decoded(), test=parts.test.decoded())
    tests = [parts.test.images, *(rotated(parts.test, seed) for seed in range(ROTATIONS))]
    before = [accuracy(WEIGHTS, images, parts.test.labels) for images in tests]
    print(f"given weights         plain {before[0]:.1%}  rotated {statistics.mean(before[1:]):.1%}")

    columns: dict[str, list[dict]] = {"gpuaug": [], "torchvision": []}
    with tempfile.TemporaryDirectory() as scratch:
        base = Config(
            weights=str(WEIGHTS),
            recipe="full",
            epochs=args.epochs,
            batch_size=128,
            lr=0.02,
            weight_decay=5e-4,
            label_smoothing=0.1,
            quiet=True,
            val_fraction=0.0,
            device=args.device,
            out=Path(scratch),
        )
        for seed in range(args.seeds):
            for name, column in columns.items():
                column.append(run_arm(name, seed, base, parts, tests))

    result = summary(columns) | {
        "before": {"plain": before[0], "rotated": before[1:], "rotated_mean": statistics.mean(before[1:])},
        "columns": columns,
        "targets": TARGETS,
        "recipe": {k: getattr(base, k) for k in ("epochs", "batch_size", "lr", "weight_decay", "label_smoothing")},
        "hardware": device_name(torch.device("cuda" if torch.cuda.is_available() and args.device != "cpu" else "cpu")),
        "versions": {
            "python": platform.python_version(),
            "gpuaug": ga.__version__,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"rotated, ours - torchvision, points: {result['difference_points']}")
    print(f"wrote {args.out}")


def summary(columns: dict[str, list[dict]]) -> dict:
    """Means of both columns and the differences in points, paired by seed and rotation set.

    The standard error is that of the seeds' means: the rotation sets of one network are not independent."""
    ours, theirs = columns["gpuaug"], columns["torchvision"]
    pairs = [
        [round(100 * (a - b), 3) for a, b in zip(o["rotated"], t["rotated"], strict=True)]
        for o, t in zip(ours, theirs, strict=True)
    ]
    by_seed = [statistics.mean(p) for p in pairs]
    error = statistics.stdev(by_seed) / len(by_seed) ** 0.5 if len(by_seed) > 1 else None
    mean = {
        k: {f: statistics.mean(run[f] for run in runs) for f in ("plain", "rotated_mean")}
        for k, runs in columns.items()
    }
    difference = statistics.mean(by_seed)
    return {
        "mean": mean,
        "difference_points": {"mean": difference, "standard_error": error, "n": len(by_seed), "pairs": pairs},
        "met": {
            "difference": difference >= TARGETS["mean_difference_points_at_least"],
            "rotated": mean["gpuaug"]["rotated_mean"] >= TARGETS["ours_rotated_mean_at_least"],
        },
    }


if __name__ == "__main__":
    main()
