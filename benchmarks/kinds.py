"""What masks and boxes beside images cost, against torchvision; and pipelines inside of DataLoader workers.

    python -m gpuaug.benchmarks.kinds [--only detection workers single] [--rounds N] [--threads N] [--json FILE]

All that is compared takes turns in one run: ratios are medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import gpuaug as ga

BATCH, OBJECTS, PLANES = 64, 20, 10
WORKERS, DECODED = 2, 512  # of the second comparison: images of 256 x 320


def seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def medians(calls: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of what each gives, over rounds in which they take turns, behind one round to warm up."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for k in range(rounds + 1):
        for name, call in calls.items():
            value = call()
            found[name] += [value] if k else []
    return {name: float(np.median(values)) for name, values in found.items()}


def detection(rounds: int) -> dict[str, float]:
    """Large-scale jitter of 64 images of 480 x 640 with 20 boxes and 10 masks each; torchvision's time is eight times
    that of 8 images, one by one."""
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    generator = torch.Generator().manual_seed(0)

    def sample() -> dict:
        at = torch.rand(OBJECTS, 2, generator=generator) * torch.tensor([500.0, 350.0])
        boxes = torch.cat((at, at + 90.0), 1)
        masks = torch.zeros(PLANES, 480, 640, dtype=torch.uint8)
        for mask, (x, y) in zip(masks, at.long().tolist(), strict=False):
            mask[y : y + 80, x : x + 90] = 1
        image = torch.randint(0, 256, (3, 480, 640), dtype=torch.uint8, generator=generator)
        return {
            "image": tv_tensors.Image(image),
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(480, 640)),
            "masks": tv_tensors.Mask(masks),
            "labels": torch.arange(OBJECTS),
        }

    def recipe(library) -> list:
        fill = {tv_tensors.Image: 124, "others": 0}
        ops = [library.ScaleJitter((1024, 1024)), library.RandomCrop(1024, pad_if_needed=True, fill=fill)]
        dtypes = {tv_tensors.Image: torch.float32, "others": None}
        return [*ops, library.RandomHorizontalFlip(), library.ToDtype(dtypes, scale=True)]

    samples, part = [sample() for _ in range(BATCH)], BATCH // 8
    ours, theirs = ga.Compose(recipe(ga), seed=0), v2.Compose(recipe(v2))
    found = medians(
        {
            "ours_ms": lambda: 1e3 * seconds(lambda: ours(samples, ids=range(BATCH), epoch=0)),
            "torchvision_ms": lambda: 8e3 * seconds(lambda: [theirs(one) for one in samples[:part]]),
        },
        rounds,
    )
    return found | {"times_torchvision": found["torchvision_ms"] / found["ours_ms"], "target": 8.0}


class Decoded(torch.utils.data.Dataset):
    """Images that lie in memory, and what is done with each."""

    def __init__(self, transform: Callable[[torch.Tensor, int], torch.Tensor]):
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randint(0, 256, (64, 3, 256, 320), dtype=torch.uint8, generator=generator)
        self.transform = transform

    def __len__(self) -> int:
        return DECODED

    def __getitem__(self, i: int) -> torch.Tensor:
        return self.transform(self.images[i % 64], i)


def workers(rounds: int) -> dict[str, float]:
    """Images a second out of a DataLoader of two workers: RandomResizedCrop, flip, ToDtype, Normalize of one image at a
    time in the worker; against a transform that gives a tensor that is ready."""
    from torchvision.transforms import v2

    ready = torch.zeros(3, 224, 224)

    def recipe(library) -> list:
        ops = [library.RandomResizedCrop(224), library.RandomHorizontalFlip()]
        last = library.Normalize(list(ga.IMAGENET_MEAN), list(ga.IMAGENET_STD))
        return [*ops, library.ToDtype(torch.float32, scale=True), last]

    ours, theirs = ga.Compose(recipe(ga), seed=0), v2.Compose(recipe(v2))
    ours(torch.zeros(3, 256, 320, dtype=torch.uint8), ids=0, epoch=0)  # compiled before the workers are forked
    transforms = {
        "ready": lambda image, i: ready.clone(),
        "ours": lambda image, i: ours(image, ids=i, epoch=0),
        "torchvision": lambda image, i: theirs(image),
    }

    def rate(transform: Callable) -> float:
        loader = torch.utils.data.DataLoader(Decoded(transform), 32, num_workers=WORKERS)
        return DECODED / seconds(lambda: [None for _ in loader])

    found = medians({name: lambda t=t: rate(t) for name, t in transforms.items()}, rounds)
    shares = {"of_ready": found["ours"] / found["ready"], "times_torchvision": found["ours"] / found["torchvision"]}
    return {f"{name}_images_s": value for name, value in found.items()} | shares


def single(rounds: int) -> dict[str, float]:
    """Microseconds of one image of a size that was not met before, on one thread, over those of one that was."""
    augment = ga.Compose([ga.RandomResizedCrop(224), ga.RandomHorizontalFlip()], seed=0)
    threads, sizes = torch.get_num_threads(), iter(range(200, 100_000))
    torch.set_num_threads(1)

    def mean(images: list[torch.Tensor]) -> float:
        return 1e6 * seconds(lambda: [augment(x, ids=i, epoch=0) for i, x in enumerate(images)]) / len(images)

    def images(fresh: bool) -> list[torch.Tensor]:
        return [torch.zeros(3, 300 + (next(sizes) if fresh else 0) % 400, 401, dtype=torch.uint8) for _ in range(50)]

    found = medians({"new_us": lambda: mean(images(True)), "known_us": lambda: mean(images(False))}, rounds)
    torch.set_num_threads(threads)
    return found | {"more_us": found["new_us"] - found["known_us"]}


COMPARISONS = {"detection": detection, "workers": workers, "single": single}


def main(argv: list[str] | None = None) -> int:
    """Print a line a comparison."""
    parser = argparse.ArgumentParser(prog="gpuaug.benchmarks.kinds", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=tuple(COMPARISONS), default=tuple(COMPARISONS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    found = {}
    for name in args.only:
        found[name] = COMPARISONS[name](args.rounds)
        print(f"{name:10s}", ", ".join(f"{key} {value:.2f}" for key, value in found[name].items()), flush=True)
    if args.json:
        args.json.write_text(json.dumps({"threads": args.threads, **found}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
