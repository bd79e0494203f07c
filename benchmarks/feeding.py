"""Whole epochs over photos as files: Loader against torchvision's ImageFolder, DataLoader and transforms.v2.

    python -m gpuaug.benchmarks.feeding FOLDER_OF_PHOTOS [--cifar FOLDER] [--out FILE.json]
    python -m gpuaug.benchmarks.feeding FOLDER_OF_PHOTOS --names 256 --large 16 --rounds 1    # a trial

The photos are linked to 4,000 names, and 8 of them, enlarged to 12 megapixels, to 500 others. The ways take turns, with
as many workers each; figures are medians of 5 epochs, and ratios of medians. Before anything is timed, a batch has to
be, to the bit, what the pipeline makes of the photos decoded whole by Pillow. Rows:

- a first epoch, of photos as they are and of 12 megapixels, against torchvision's;
- that epoch against 1 / (1 / decoding alone + 1 / engine alone), all in images a second;
- an epoch from the cache against torchvision's;
- CIFAR's small files from the cache, in batches of 1,024, against the engine alone on one tensor of all images, under
  the same pipeline and under CIFAR's own, a crop and a flip, which leaves the rest less time;
- what decode="scaled" changes in pixels (`scaled.py`).

A whole run takes 6 minutes on two idle cores and writes benchmarks/results/feeding-NAME.json.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import gpuaug as ga
from gpuaug import presets
from gpuaug.data import Loader, Source, folder
from gpuaug.data.batches import Batch
from gpuaug.data.feed import Feed, Turn
from gpuaug.data.hands import Hands

from . import RESULTS, scaled
from .run import commit, file_name, machine, versions

BATCH, SIDE, CLASSES = 64, 224, 8
SMALL_BATCH, SMALL_PASSES = 1024, 10  # of CIFAR; how many epochs are timed as one
ENLARGED = 8  # photos
NORMALISED = ga.Normalize(ga.IMAGENET_MEAN, ga.IMAGENET_STD)
TARGETS = {
    "first epoch over torchvision": 3.5,
    "first epoch over its parts": 0.95,
    "from the cache over torchvision": 20.0,
    "first epoch over torchvision, 12 megapixels": 5.0,
    "CIFAR from the cache over the engine": 0.6,
    "CIFAR from the cache over the engine, crop and flip": 0.6,
}
WHOLE = {"names": 4000, "large": 500, "rounds": 5, "workers": 2}


def pipeline(side: int = SIDE) -> ga.Compose:
    """RandomResizedCrop, flip and ColorJitter to normalised float32."""
    ops = [ga.RandomResizedCrop(side), ga.RandomHorizontalFlip(), ga.ColorJitter(0.4, 0.4, 0.4, 0.1)]
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
    """As `linked`, of some photos at 12 megapixels."""
    kept = root.parent / f"{root.name}-files"
    kept.mkdir()
    return linked([scaled.enlarge(photo, kept) for photo in photos[:ENLARGED]], root, names)


def pillow(paths: Sequence[Path]) -> list[torch.Tensor]:
    """Images uint8 [3, H, W], decoded whole."""
    return [torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1) for path in paths]


def check(root: Path, workers: int) -> None:
    """Raise unless a batch is what the pipeline makes of whole photos."""
    source, augment = folder(root), pipeline()
    images, _, ids = next(iter(Loader(source.subset(range(BATCH)), BATCH, augment, decode="full", workers=workers)))
    if not torch.equal(images, augment(pillow(source.items[:BATCH]), ids=ids, epoch=0)):
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
    hands = [Hands(loader.source.items) for _ in range(max(loader.workers, 1))]

    def make(n: int, turn: Turn) -> Batch:
        return maker.make(parts[n], 0, turn, hands[turn.thread])

    for batch in Feed(make, len(parts), loader.workers, loader.workers + 2):
        maker.rooms.append(batch.room)
    return (time.perf_counter() - begin) / len(order)


def engine(loader: Loader) -> float:
    """Seconds an image of the pipeline alone, on parts that are decoded."""
    maker, spent, n = loader._maker, 0.0, 0
    for at in range(0, min(len(loader.source), 8 * BATCH), BATCH):
        batch = maker.make(loader.order(0)[at : at + BATCH], 0)
        begin = time.perf_counter()
        maker.launch(batch)
        spent, n = spent + time.perf_counter() - begin, n + len(batch.positions)
    return spent / n


def taken(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each takes, in turns; the first turn does not count."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, run in ways.items():
            seconds = run()
            if number:
                found[name].append(seconds)
    return found


def measured(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of each."""
    return {name: statistics.median(values) for name, values in taken(ways, rounds).items()}


def of_folder(root: Path, workers: int, rounds: int, cache: Path | None) -> dict[str, list[float]]:
    """Seconds an image of each way."""
    source, augment = folder(root), pipeline()
    loader = Loader(source, BATCH, augment, shuffle=True, workers=workers)
    ways = {"torchvision": lambda: epoch(peer(root, workers)), "gpuaug": lambda: epoch(loader)}
    ways |= {"decoding": lambda: decoding(loader), "engine": lambda: engine(loader)}
    if cache is not None:
        cached = Loader(source, BATCH, augment, shuffle=True, workers=workers, cache=cache)
        epoch(cached)
        ways["cache"] = lambda: epoch(cached)
    return taken(ways, rounds)


def of_cifar(source: Source, augment: ga.Compose, workers: int, rounds: int, cache: Path) -> dict[str, list[float]]:
    """Seconds an image of epochs from the cache, and of the engine alone."""
    cached = Loader(source, SMALL_BATCH, augment, shuffle=True, workers=workers, cache=cache)
    epoch(cached)
    images, ids = torch.stack(pillow(source.items)), source.ids
    found, _, known = next(iter(cached))
    places = {one: i for i, one in enumerate(ids.tolist())}
    index = torch.tensor([places[one] for one in known.tolist()])
    if not torch.equal(found, augment(images[index], ids=known, epoch=1)):
        raise SystemExit("a batch from the cache differs from what the pipeline makes of CIFAR: nothing is timed")

    def alone() -> float:
        begin = time.perf_counter()
        for at in range(0, len(images), SMALL_BATCH):
            augment(images[at : at + SMALL_BATCH], ids=ids[at : at + SMALL_BATCH], epoch=0)
        return (time.perf_counter() - begin) / len(images)

    def several(run: Callable[[], float]) -> Callable[[], float]:
        return lambda: statistics.mean(run() for _ in range(SMALL_PASSES))

    return taken({"cache": several(lambda: epoch(cached)), "engine": several(alone)}, rounds)


def ratios(found: dict[str, dict[str, list[float]]]) -> dict[str, float]:
    """What TARGETS names, of what was measured."""
    known = {part: {way: statistics.median(values) for way, values in ways.items()} for part, ways in found.items()}
    photos, told = known["photos"], {}
    told["first epoch over torchvision"] = photos["torchvision"] / photos["gpuaug"]
    told["first epoch over its parts"] = (photos["decoding"] + photos["engine"]) / photos["gpuaug"]
    told["from the cache over torchvision"] = photos["torchvision"] / photos["cache"]
    if large := known.get("12 megapixels"):
        told["first epoch over torchvision, 12 megapixels"] = large["torchvision"] / large["gpuaug"]
    for part, more in (("CIFAR", ""), ("CIFAR, crop and flip", ", crop and flip")):
        told[f"CIFAR from the cache over the engine{more}"] = known[part]["engine"] / known[part]["cache"]
    return told


def show(result: dict) -> None:
    """The tables."""
    for part, ways in result["seconds_an_image"].items():
        rates = {way: 1 / statistics.median(values) for way, values in ways.items()}
        print(f"{part:20s} images/s: " + ", ".join(f"{way} {rate:,.0f}" for way, rate in rates.items()))
        if "decoding" in ways:
            both = 1 / rates["decoding"] + 1 / rates["engine"]
            shares = ", ".join(f"{way} {1 / rates[way] / both:.0%}" for way in ("decoding", "engine"))
            print(f"{'':20s} of its parts' time: {shares}")
    for name, value in result["ratios"].items():
        target = TARGETS[name]
        print(f"{name:51s} {value:8.2f}  (target {target:g}: {'met' if value >= target else 'MISSED'})")
    print(*map(scaled.told, result["scaled"]), sep="\n")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of JPEG files")
    parser.add_argument(
        "--cifar", type=Path, help="a folder of small images; by default cifar10/train beside the photos"
    )
    parser.add_argument("--out", type=Path, help="the JSON file; by default named after the machine, for a whole run")
    for name, value in WHOLE.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args(argv)
    if given.names < BATCH:
        parser.error(f"--names must be at least {BATCH}, a batch, got {given.names}")
    given.cifar = given.cifar or given.photos.parent / "cifar10" / "train"
    if not given.cifar.is_dir():
        parser.error(f"--cifar: {given.cifar} is no folder")
    return given


def main(argv: Sequence[str] | None = None) -> None:
    given, load = arguments(argv), os.getloadavg()[0]
    photos, found = scaled.photos_in(given.photos), {}
    with tempfile.TemporaryDirectory() as kept:
        place = Path(kept)
        root = linked(photos, place / "photos", given.names)
        check(root, given.workers)
        found["photos"] = of_folder(root, given.workers, given.rounds, place / "cache")
        for name, augment in {"CIFAR": pipeline(32), "CIFAR, crop and flip": presets.cifar_train(seed=0)}.items():
            found[name] = of_cifar(folder(given.cifar), augment, given.workers, given.rounds, place / "cifar")
        if given.large:
            large = enlarged(photos, place / "large", given.large)
            found["12 megapixels"] = of_folder(large, given.workers, given.rounds, None)
        some = sorted((place / "large-files").glob("*")) if given.large else []
        changed = scaled.measured(photos, some)
    result = {
        "machine": machine(torch.device("cpu"), torch.get_num_threads()) | {"load_before": load},
        "versions": versions(),
        "commit": commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "settings": {name: getattr(given, name) for name in WHOLE},
        "seconds_an_image": found,
        "ratios": ratios(found),
        "targets": TARGETS,
        "scaled": changed,
    }
    print(f"load before: {load:.1f} on {os.cpu_count()} cores; {given.workers} workers, {given.rounds} rounds")
    show(result)
    whole = result["settings"] == WHOLE
    out = given.out or (RESULTS / f"feeding-{file_name(result['machine'])}" if whole else None)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(f"wrote {out}")


if __name__ == "__main__":
    main()
