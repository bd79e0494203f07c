"""Whole epochs over photos as files: Loader against torchvision's ImageFolder, DataLoader and transforms.v2.

    python -m gpuaug.benchmarks.feeding FOLDER_OF_PHOTOS --names 4000 --rounds 5 --workers 2

The photos are linked to so many names, and 8 of them, enlarged to 12 megapixels, to others. The ways take turns, with
as many workers each; what is printed are medians, and ratios of medians. Before anything is timed, a batch has to be,
to the bit, what the pipeline makes of the photos decoded whole by Pillow.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import gpuaug as ga
from gpuaug.data import Loader, folder
from gpuaug.data.feed import Feed

BATCH, SIDE, CLASSES = 64, 224, 8
LARGE = 4000, 3000  # pixels of an enlarged photo, width and height
NORMALISED = ga.Normalize(ga.IMAGENET_MEAN, ga.IMAGENET_STD)
TARGETS = {"first epoch": 3.5, "first epoch, 12 megapixels": 5.0, "from the cache": 20.0}


def pipeline() -> ga.Compose:
    """RandomResizedCrop, flip and ColorJitter to normalised float32."""
    ops = [ga.RandomResizedCrop(SIDE), ga.RandomHorizontalFlip(), ga.ColorJitter(0.4, 0.4, 0.4, 0.1)]
    return ga.Compose([*ops, ga.ToDtype(torch.float32, scale=True), NORMALISED], seed=0)


def peer(root: Path, workers: int):
    """torchvision's own way to the same batches."""
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    ops = [v2.ToImage(), v2.RandomResizedCrop(SIDE), v2.RandomHorizontalFlip(), v2.ColorJitter(0.4, 0.4, 0.4, 0.1)]
    ops += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(ga.IMAGENET_MEAN, ga.IMAGENET_STD)]
    data = ImageFolder(str(root), v2.Compose(ops))
    return torch.utils.data.DataLoader(data, BATCH, shuffle=True, num_workers=workers)


def linked(photos: list[Path], root: Path, names: int) -> Path:
    """A folder of class folders with so many links to the photos."""
    for i, photo in zip(range(names), itertools.cycle(photos), strict=False):
        place = root / f"class{i % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i:06d}.jpg").symlink_to(photo.resolve())
    return root


def enlarged(photos: list[Path], root: Path, names: int) -> Path:
    """As `linked`, of 8 photos at 12 megapixels."""
    kept = root.parent / f"{root.name}-files"
    kept.mkdir()
    made = []
    for photo in photos[:8]:
        made.append(kept / photo.name)
        with Image.open(photo) as image:
            image.convert("RGB").resize(LARGE, Image.Resampling.BICUBIC).save(made[-1], quality=90)
    return linked(made, root, names)


def check(root: Path, workers: int) -> None:
    """Raise unless a batch is what the pipeline makes of whole photos."""
    source, augment = folder(root), pipeline()
    images, _, ids = next(iter(Loader(source.subset(range(BATCH)), BATCH, augment, decode="full", workers=workers)))
    photos = [np.array(Image.open(path).convert("RGB")) for path in source.paths[:BATCH]]
    whole = [torch.from_numpy(photo).permute(2, 0, 1) for photo in photos]
    if not torch.equal(images, augment(whole, ids=ids, epoch=0)):
        raise SystemExit("a batch differs from what the pipeline makes of the photos decoded whole: nothing is timed")


def epoch(loader) -> float:
    """Seconds an image of a pass."""
    begin, n = time.perf_counter(), 0
    for images, *_ in loader:
        n += len(images)
    return (time.perf_counter() - begin) / n


def decoding(loader: Loader) -> float:
    """Seconds an image of a pass whose batches are decoded, and dropped."""
    order, maker = loader.order(0), loader._maker
    parts = [order[at : at + BATCH] for at in range(0, len(order), BATCH)]
    begin = time.perf_counter()
    for batch in Feed(lambda n, stop: maker.make(parts[n], 0, stop), len(parts), loader.workers, loader.workers + 2):
        maker.rooms.append(batch.room)
    return (time.perf_counter() - begin) / len(order)


def engine(loader: Loader) -> float:
    """Seconds an image of the pipeline alone, on parts that are decoded."""
    maker, spent, n = loader._maker, 0.0, 0
    for at in range(0, min(len(loader.source), 8 * BATCH), BATCH):
        batch = maker.make(loader.order(0)[at : at + BATCH], 0)
        begin = time.perf_counter()
        maker.launch(batch)
        spent, n = spent + time.perf_counter() - begin, n + BATCH
    return spent / n


def measured(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of each, taken in turns; the first turn does not count."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, run in ways.items():
            seconds = run()
            if number:
                taken[name].append(seconds)
    return {name: statistics.median(values) for name, values in taken.items()}


def of_folder(root: Path, workers: int, rounds: int, cache: Path | None) -> dict[str, float]:
    """Seconds an image of each way."""
    source, augment = folder(root), pipeline()
    loader = Loader(source, BATCH, augment, shuffle=True, workers=workers)
    ways = {"torchvision": lambda: epoch(peer(root, workers)), "gpuaug": lambda: epoch(loader)}
    ways |= {"decoding": lambda: decoding(loader), "engine": lambda: engine(loader)}
    if cache is not None:
        cached = Loader(source, BATCH, augment, shuffle=True, workers=workers, cache=cache)
        epoch(cached)
        ways["cache"] = lambda: epoch(cached)
    return measured(ways, rounds)


def row(what: str, own: float, other: float) -> None:
    target = TARGETS.get(what)
    told = "" if target is None else f"  (target {target:g}x)"
    print(f"{what:34s} {1 / own:9,.0f} {1 / other:9,.0f} {other / own:8.2f}x{told}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of JPEG files")
    for name, value in {"names": 4000, "large": 500, "rounds": 5, "workers": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    photos = sorted(path for path in given.photos.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
    print(
        f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {given.workers} workers, "
        f"{given.rounds} rounds"
    )
    with tempfile.TemporaryDirectory() as place:
        root = linked(photos, Path(place) / "photos", given.names)
        check(root, given.workers)
        found = of_folder(root, given.workers, given.rounds, Path(place) / "cache")
        print(f"{'images/s':34s} {'gpuaug':>9s} {'peer':>9s}")
        row("first epoch", found["gpuaug"], found["torchvision"])
        row("from the cache", found["cache"], found["torchvision"])
        print(f"{'decoding alone':34s} {1 / found['decoding']:9,.0f}")
        print(f"{'engine alone':34s} {1 / found['engine']:9,.0f}")
        share = (found["decoding"] + found["engine"]) / found["gpuaug"]
        print(f"{'of 1 / (1 / both)':34s} {share:9.0%}  (target 95%)")
        if given.large:
            large = enlarged(photos, Path(place) / "large", given.large)
            found = of_folder(large, given.workers, given.rounds, None)
            row("first epoch, 12 megapixels", found["gpuaug"], found["torchvision"])


if __name__ == "__main__":
    main()
