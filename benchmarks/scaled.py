"""What decode="scaled" changes against decode="full": pixels behind a training crop, and a network's answers.

    python -m gpuaug.benchmarks.scaled FOLDER_OF_PHOTOS [--weights FILE] [--out benchmarks/results/scaled.json]

Pixels: of RandomResizedCrop and a flip, in levels of 255, over the images that were decoded smaller. Answers: those of
timm's tf_efficientnet_lite0 with ImageNet weights to the same photos decoded both ways, behind Resize and CenterCrop; a
photo's name begins with its WordNet id (n01514668_cock.jpg). The photos are taken as they are, and enlarged to 12
megapixels; as they are, few of them are large enough to be decoded smaller, so they are cropped smaller, too.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import gpuaug as ga
from gpuaug.data import Loader, Source
from gpuaug.data.decode import header
from gpuaug.data.reading import Reading

from . import ROOT
from .run import commit, versions

WEIGHTS = Path(os.environ.get("GPUAUG_DATA", ROOT.parent / "shared" / "data")).parent / "weights"
WEIGHTS /= "tf_efficientnet_lite0_imagenet.safetensors"
LARGE = 4000, 3000  # pixels of an enlarged photo, width and height
BATCH, EPOCHS = 16, 4
SIDES = (224, 128)  # of crops of photos as they are
PART = 0.875  # of the resized image is the centre, as timm evaluates this network
TO_FLOAT = ga.ToDtype(torch.float32, scale=True)


def photos_in(folder: Path) -> list[Path]:
    """Its JPEG files."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))


def enlarge(photo: Path, folder: Path) -> Path:
    """A copy of 12 megapixels, as JPEG of quality 90."""
    with Image.open(photo) as image:
        image.convert("RGB").resize(LARGE, Image.Resampling.BICUBIC).save(folder / photo.name, quality=90)
    return folder / photo.name


def source_of(photos: Sequence[Path]) -> Source:
    return Source(tuple(photos), torch.arange(len(photos)))


def outputs(source: Source, augment: ga.Compose, decode: str, epoch: int) -> torch.Tensor:
    """Of an epoch, in the source's order."""
    loader = Loader(source, BATCH, augment, decode=decode)
    loader.set_epoch(epoch)
    return torch.cat([images for images, *_ in loader])


def smaller(source: Source, augment: ga.Compose, epoch: int) -> np.ndarray:
    """By how much each image is decoded smaller, int64 [N]."""
    known = [header(item) for item in source.items]
    sizes, can = [(one.height, one.width) for one in known], [one.shrinks for one in known]
    return Reading(augment, sizes, source.ids, epoch, decode="scaled", shrinkable=can).shrinks


def pixels(what: str, source: Source, side: int, epochs: int = EPOCHS) -> dict:
    """How far outputs are from each other, in levels of 255, over those that were decoded smaller."""
    augment = ga.Compose([ga.RandomResizedCrop(side), ga.RandomHorizontalFlip(), TO_FLOAT], seed=0)
    far, by = [], []
    for epoch in range(epochs):
        full, scaled = (outputs(source, augment, decode, epoch) for decode in ("full", "scaled"))
        by.append(smaller(source, augment, epoch))
        far.append((255 * (full - scaled).abs()).numpy()[by[-1] > 1].reshape(-1))
        if not torch.equal(full[by[-1] == 1], scaled[by[-1] == 1]):
            raise SystemExit("images that were not decoded smaller differ: nothing is reported")
    far, by = np.concatenate(far), np.concatenate(by)
    found = {"photos": what, "side": side, "images": len(by), "smaller": int((by > 1).sum())}
    if len(far):
        found |= {"mean": float(far.mean(dtype=np.float64)), "p99_9": float(np.percentile(far, 99.9))}
    return found


def network(weights: Path) -> torch.nn.Module:
    import timm
    from safetensors.torch import load_file

    model = timm.create_model("tf_efficientnet_lite0").eval()
    model.load_state_dict(load_file(weights))
    return model


def classes(photos: Sequence[Path]) -> torch.Tensor:
    """int64 [N]: ImageNet's classes by the WordNet ids that names begin with; -1 where one begins otherwise."""
    from timm.data import ImageNetInfo

    number = {name: i for i, name in enumerate(ImageNetInfo().label_names())}
    return torch.tensor([number.get(photo.name.split("_")[0], -1) for photo in photos])


@torch.inference_mode()
def answers(what: str, source: Source, side: int, model: torch.nn.Module) -> dict:
    """A network's logits and first answers to the photos, decoded both ways."""
    ops = [ga.Resize(round(side / PART), interpolation="bicubic"), ga.CenterCrop(side), TO_FLOAT]
    augment = ga.Compose([*ops, ga.Normalize((0.5,) * 3, (0.5,) * 3)], seed=0)
    full, scaled = (model(outputs(source, augment, decode, 0)) for decode in ("full", "scaled"))
    truth, far = classes(source.items), (full - scaled).abs()
    first, second = full.argmax(1), scaled.argmax(1)
    return {
        "photos": what,
        "side": side,
        "images": len(source),
        "smaller": int((smaller(source, augment, 0) > 1).sum()),
        "logits_mean": float(far.mean()),
        "logits_most": float(far.max()),
        "logits_deviation": float(full.std()),
        "same_answer": int((first == second).sum()),
        "right_full": int((first == truth).sum()),
        "right_scaled": int((second == truth).sum()),
    }


def measured(photos: Sequence[Path], large: Sequence[Path], epochs: int = EPOCHS) -> list[dict]:
    """`pixels` of photos as they are, and of those that were enlarged."""
    ways = [("as they are", photos, side) for side in SIDES] + [("12 megapixels", large, SIDES[0])]
    return [pixels(what, source_of(some), side, epochs) for what, some, side in ways if some]


def told(row: dict) -> str:
    """A line of `measured`."""
    begin = f"scaled, {row['photos']} -> {row['side']}: {row['smaller']} of {row['images']} decoded smaller"
    return begin + (f", mean {row['mean']:.2f}, 99.9% {row['p99_9']:.1f} levels" if "mean" in row else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of JPEG files")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="safetensors of timm's tf_efficientnet_lite0")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="draws of each photo, of pixels")
    parser.add_argument("--out", type=Path, help="a JSON file")
    given = parser.parse_args()
    photos = photos_in(given.photos)
    with tempfile.TemporaryDirectory() as place:
        large = [enlarge(photo, Path(place)) for photo in photos]
        rows = measured(photos, large, given.epochs)
        print(*map(told, rows), sep="\n")
        result: dict = {"versions": versions(), "commit": commit(), "pixels": rows, "answers": []}
        if given.weights.is_file():
            model = network(given.weights)
            ways = [("as they are", photos, side) for side in SIDES] + [("12 megapixels", large, SIDES[0])]
            result["answers"] = [answers(what, source_of(some), side, model) for what, some, side in ways]
        else:
            print(f"no answers: {given.weights} is missing")
    for row in result["answers"]:
        print(
            f"{row['photos']} -> {row['side']}: {row['smaller']} of {row['images']} decoded smaller; "
            f"{row['same_answer']} answers alike, right {row['right_full']} full, {row['right_scaled']} scaled; "
            f"logits {row['logits_mean']:.3f} apart, at most {row['logits_most']:.2f}, of {row['logits_deviation']:.2f}"
        )
    if given.out is not None:
        given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
