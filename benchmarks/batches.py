"""What lists, views, clips, gathering by an index and mixing cost, beside the nearest thing without, in one run.

    python -m gpuaug.benchmarks.batches [--only NAME ...] [--device cuda] [--threads N] [--json FILE]

Each pair takes turns, so that noise hits both alike; a line says the time a sample of the one over that of the other,
its median and its 20th and 80th percentile over the rounds, and the target.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import gpuaug as ga

from . import timing

ROUNDS, SLICE_S = 15, 0.15
SIZES = [(h, w) for h in range(180, 520, 48) for w in (224, 256, 333, 375, 448, 500)]  # as photos have them: 48
TAIL = [ga.ToDtype(torch.float32, scale=True), ga.Normalize(ga.IMAGENET_MEAN, ga.IMAGENET_STD)]
IMAGENET = [ga.RandomResizedCrop(224), ga.RandomHorizontalFlip(), ga.ColorJitter(0.4, 0.4, 0.4, 0.1), *TAIL]
CIFAR = [ga.RandomCrop(32, padding=4), ga.RandomHorizontalFlip(), *TAIL]


@dataclass(frozen=True)
class Pair:
    """Two calls, and how long one takes over the other.

    Attributes:
        call, beside: what is timed, and what it is held against.
        target: the most that the ratio of their times may be.
    """

    title: str
    call: Callable[[], object]
    beside: Callable[[], object]
    target: float


def noise(*shape: int, device: torch.device) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).to(device)


def compose(ops: list) -> ga.Compose:
    return ga.Compose(ops, seed=0, memory_format=torch.contiguous_format)


def a_list(device: torch.device) -> Pair:
    sizes = [SIZES[i % len(SIZES)] for i in range(64)]
    side = round(math.sqrt(np.mean([h * w for h, w in sizes])))
    images, batch = [noise(3, h, w, device=device) for h, w in sizes], noise(64, 3, side, side, device=device)
    augment = compose([ga.RandomResizedCrop(224), ga.RandomHorizontalFlip(), *TAIL])
    title = "64 images of 48 sizes, RandomResizedCrop and flip / a batch of one size and as many pixels"
    return Pair(title, lambda: augment(images), lambda: augment(batch), 1.15)


def an_index(device: torch.device) -> Pair:
    resident = noise(50_000, 3, 32, 32, device=device)
    index = torch.randint(0, 50_000, (1024,), generator=torch.Generator().manual_seed(1)).to(device)
    augment = compose(CIFAR)
    return Pair(
        "1,024 of a resident CIFAR by index, crop and flip / index_select, then the same",
        lambda: augment(resident, index=index),
        lambda: augment(resident.index_select(0, index)),
        1 / 1.3,
    )


def mixing(blend: ga.Transform, name: str) -> Callable[[torch.device], Pair]:
    def pair(device: torch.device) -> Pair:
        images = noise(64, 3, 256, 256, device=device)
        plain, mixed = compose(IMAGENET), compose([*IMAGENET, blend])
        return Pair(
            f"imagenet_train, 64 images of 256 pixels, with {name} / without",
            lambda: mixed(images),
            lambda: plain(images),
            1.35,
        )

    return pair


def views(device: torch.device) -> Pair:
    images, augment, ids = noise(64, 3, 256, 256, device=device), compose(IMAGENET), torch.arange(64, device=device)
    return Pair(
        "imagenet_train, views=2 / two calls",
        lambda: augment(images, ids=ids, epoch=0, views=2),
        lambda: [augment(images, ids=ids, epoch=0, view=v) for v in (0, 1)],
        1.05,
    )


def clips(device: torch.device) -> Pair:
    clips, augment = noise(8, 8, 3, 256, 256, device=device), compose(IMAGENET)
    frames = clips.flatten(0, 1)
    title = "imagenet_train, 8 clips of 8 frames / their frames as a batch"
    return Pair(title, lambda: augment(clips), lambda: augment(frames), 1.05)


PAIRS = {
    "list": a_list,
    "index": an_index,
    "mixup": mixing(ga.MixUp(), "MixUp"),
    "cutmix": mixing(ga.CutMix(), "CutMix"),
    "views": views,
    "clips": clips,
}


def measured(pair: Pair, device: torch.device) -> dict:
    """The rounds' ratios and medians, in milliseconds."""
    counts, medians = [], [[], []]
    for call in (pair.call, pair.beside):
        seconds, _ = timing.burst(lambda _, call=call: call(), 0, 3, device)
        counts.append(max(1, int(SLICE_S / seconds[-1])))
    for _ in range(ROUNDS):
        for call, count, found in zip((pair.call, pair.beside), counts, medians, strict=True):
            seconds, _ = timing.burst(lambda _, call=call: call(), 0, count, device)
            found.append(1e3 * float(np.median(seconds)))
    low, middle, high = np.percentile(np.divide(*medians), [20, 50, 80])
    times = {"ms": float(np.median(medians[0])), "beside_ms": float(np.median(medians[1]))}
    ratios = {"ratio": float(middle), "p20": float(low), "p80": float(high)}
    return {"title": pair.title, "target": pair.target, **ratios, **times}


def main(argv: list[str] | None = None) -> int:
    """Print a line a pair."""
    parser = argparse.ArgumentParser(prog="gpuaug.benchmarks.batches", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=tuple(PAIRS), default=tuple(PAIRS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    device, found = torch.device(args.device), {}
    for name in args.only:
        row = found[name] = measured(PAIRS[name](device), device)
        spread = f"{row['ratio']:.3f} ({row['p20']:.3f} to {row['p80']:.3f}), target {row['target']:.2f}"
        print(f"{row['ms']:8.2f} ms / {row['beside_ms']:8.2f} ms = {spread}: {row['title']}", flush=True)
    if args.json:
        args.json.write_text(
            json.dumps({"threads": args.threads, "device": str(device), "pairs": found}, indent=1) + "\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
