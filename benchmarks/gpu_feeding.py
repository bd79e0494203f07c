"""Whole epochs over photos as files onto a GPU: each way of Loader, and torchvision's.

    python -m gpuaug.benchmarks.gpu_feeding FOLDER_OF_PHOTOS --names 4000 --rounds 3 --workers 12 --out FILE.json

The photos are linked to so many names. Batches of 64 come as normalised float32; the ways take turns, and what is
printed are medians. torchvision decodes and crops in processes, image by image, as its reference scripts do; the rest
of its pipeline then runs on the GPU, a batch at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

import gpuaug as ga
from gpuaug.data import Loader, Source, folder

from . import feeding

DEVICE = torch.device("cuda")


class Peer:
    """torchvision: RandomResizedCrop and flip in the workers, colours and normalising on the GPU."""

    def __init__(self, root: Path, workers: int):
        from torchvision.datasets import ImageFolder
        from torchvision.transforms import v2

        ops = [v2.PILToTensor(), v2.RandomResizedCrop(feeding.SIDE), v2.RandomHorizontalFlip()]
        data = ImageFolder(str(root), v2.Compose(ops))
        self.loader = torch.utils.data.DataLoader(
            data, feeding.BATCH, shuffle=True, num_workers=workers, pin_memory=True, persistent_workers=True
        )
        colours = [v2.ColorJitter(0.4, 0.4, 0.4, 0.1), v2.ToDtype(torch.float32, scale=True)]
        self.augment = v2.Compose([*colours, v2.Normalize(ga.IMAGENET_MEAN, ga.IMAGENET_STD)])

    def __iter__(self):
        for images, labels in self.loader:
            yield self.augment(images.to(DEVICE, non_blocking=True)), labels.to(DEVICE, non_blocking=True)


def timed(loader) -> float:
    """Seconds an image of a pass, the device's work in it."""
    torch.cuda.synchronize()
    return feeding.epoch(_waiting(loader))


def _waiting(loader):
    yield from loader
    torch.cuda.synchronize()


def ways(source: Source, root: Path, workers: int, place: Path) -> dict[str, Callable[[], float]]:
    """What is timed, by name; loaders are made once, and what they keep is there after their first pass."""
    common = {"shuffle": True, "device": DEVICE, "workers": workers}

    def loader(**keywords) -> Callable[[], float]:
        one = Loader(source, feeding.BATCH, feeding.pipeline(), **common, **keywords)
        return lambda: timed(one)

    peer = Peer(root, workers)
    found = {"torchvision": lambda: timed(peer), "full": loader(decode="full"), "scaled": loader()}
    found["scaled, processes"] = loader(mode="processes")
    try:
        found["nvjpeg"] = loader(decode="nvjpeg")
    except ValueError as error:
        print(error)
    found["cache"], found["resident"] = loader(cache=place / "cache"), loader(resident=True)
    return found


def main() -> None:
    """Measure, print, and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of JPEG files")
    for name, value in {"names": 4000, "rounds": 3, "workers": max(1, (os.cpu_count() or 2) - 4)}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--out", type=Path, help="a JSON file")
    given = parser.parse_args()
    photos = sorted(path for path in given.photos.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
    with tempfile.TemporaryDirectory() as place:
        root = feeding.linked(photos, Path(place) / "photos", given.names)
        found = feeding.measured(ways(folder(root), root, given.workers, Path(place)), given.rounds)
    print(f"{torch.cuda.get_device_name()}, {given.workers} workers, {given.names} photos, images/s:")
    for name, seconds in found.items():
        print(f"{name:18s} {1 / seconds:9,.0f} {found['torchvision'] / seconds:8.2f}x")
    if given.out:
        told = {"gpu": torch.cuda.get_device_name(), "cores": os.cpu_count(), "torch": torch.__version__}
        told |= {"workers": given.workers, "names": given.names, "rounds": given.rounds, "batch": feeding.BATCH}
        told["images_per_second"] = {name: round(1 / seconds, 1) for name, seconds in found.items()}
        given.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
