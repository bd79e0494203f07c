"""The gallery: every op and policy, on scikit-learn's two sample photos, which may be redistributed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

import gpuaug as ga
from gpuaug.drawing import GAP, INK, MARGIN, PAPER, Marks, Tile, heights_of, place, write
from gpuaug.preview import caption, check_sheet, to_image

SIDE = 192  # of a photo in the gallery, pixels
COLUMNS = 7
CROP = 168
MARKED = "With boxes, masks and keypoints"
FIRST_ID = 11  # of the samples: with it each policy does something

SECTIONS: dict[str, dict[str, Callable[[], list]]] = {
    "Geometry": {
        "Resize": lambda: [ga.Resize((96, 160))],
        "CenterCrop": lambda: [ga.CenterCrop(128)],
        "RandomCrop": lambda: [ga.RandomCrop(CROP, padding=32, padding_mode="reflect")],
        "Pad": lambda: [ga.Pad(24, fill=(235, 235, 230))],
        "PadIfNeeded": lambda: [ga.CenterCrop((96, 160)), ga.PadIfNeeded(SIDE, fill=(235, 235, 230))],
        "TrimBorder": lambda: [ga.TrimBorder(32)],
        "ResizeKeepRatio": lambda: [ga.ResizeKeepRatio(SIDE, random_scale_prob=1.0, random_scale_range=(0.5, 1.0))],
        "CenterCropOrPad": lambda: [ga.CenterCropOrPad((SIDE + 32, SIDE - 48))],
        "RandomCropOrPad": lambda: [ga.RandomCropOrPad((SIDE + 32, SIDE - 48))],
        "RandomResizedCrop": lambda: [ga.RandomResizedCrop(SIDE, scale=(0.2, 0.6))],
        "RandomHorizontalFlip": lambda: [ga.RandomHorizontalFlip(1.0)],
        "RandomVerticalFlip": lambda: [ga.RandomVerticalFlip(1.0)],
        "RandomRotation": lambda: [ga.RandomRotation(45, interpolation="bilinear")],
        "RandomAffine": lambda: [ga.RandomAffine(30, (0.1, 0.1), (0.7, 1.3), 20, interpolation="bilinear")],
        "ElasticTransform": lambda: [ga.ElasticTransform(120.0, 6.0)],
        "RandomPerspective": lambda: [ga.RandomPerspective(0.6, 1.0)],
        "RandomRotation, expand": lambda: [ga.RandomRotation((20, 70), interpolation="bilinear", expand=True)],
        "ScaleJitter": lambda: [ga.ScaleJitter((160, 160), (0.4, 1.0))],
        "RandomResize": lambda: [ga.RandomResize(64, 192)],
        "RandomShortestSize": lambda: [ga.RandomShortestSize([96, 128, 160])],
    },
    "Colour": {
        "ColorJitter": lambda: [ga.ColorJitter(0.5, 0.5, 0.5, 0.2)],
        "brightness": lambda: [ga.ColorJitter(brightness=(1.5, 1.5))],
        "contrast": lambda: [ga.ColorJitter(contrast=(2.0, 2.0))],
        "saturation": lambda: [ga.ColorJitter(saturation=(2.5, 2.5))],
        "hue": lambda: [ga.ColorJitter(hue=(0.3, 0.3))],
        "RandomPhotometricDistort": lambda: [ga.RandomPhotometricDistort(p=0.9)],
        "RandomGrayscale": lambda: [ga.RandomGrayscale(1.0)],
        "Grayscale": lambda: [ga.Grayscale(3)],
        "RandomChannelPermutation": lambda: [ga.RandomChannelPermutation()],
        "RandomInvert": lambda: [ga.RandomInvert(1.0)],
        "RandomPosterize": lambda: [ga.RandomPosterize(2, 1.0)],
        "RandomSolarize": lambda: [ga.RandomSolarize(128, 1.0)],
        "SolarizeAdd": lambda: [ga.SolarizeAdd(80, p=1.0)],
        "RandomGamma": lambda: [ga.RandomGamma((2.2, 2.2), p=1.0)],
        "RandomAutocontrast": lambda: [ga.ColorJitter(contrast=(0.4, 0.4)), ga.RandomAutocontrast(1.0)],
        "RandomEqualize": lambda: [ga.RandomEqualize(1.0)],
        "RandomAdjustSharpness": lambda: [ga.RandomAdjustSharpness(8.0, 1.0)],
        "GaussianBlur": lambda: [ga.GaussianBlur(9, (3.0, 3.0))],
        "JPEG": lambda: [ga.JPEG(5)],
    },
    "Erasing and noise": {
        "RandomErasing": lambda: [ga.RandomErasing(1.0)],
        "RandomErasing, random": lambda: [*_floats(), ga.RandomErasing(1.0, value="random")],
        "CoarseDropout": lambda: [ga.CoarseDropout((6, 12), (0.08, 0.2), (0.08, 0.2), p=1.0)],
        "GridMask": lambda: [ga.GridMask((32, 64), p=1.0)],
        "GaussianNoise": lambda: [ga.GaussianNoise(sigma=0.15)],
        "SaltAndPepper": lambda: [ga.SaltAndPepper(0.08, p=1.0)],
    },
    "Mixing": {
        "MixUp": lambda: [ga.MixUp()],
        "CutMix": lambda: [ga.CutMix()],
        "AugMix": lambda: [ga.AugMix(severity=5)],
    },
    MARKED: {
        "RandomResizedCrop": lambda: [ga.RandomResizedCrop(SIDE, scale=(0.3, 0.7))],
        "RandomRotation": lambda: [ga.RandomRotation(45, interpolation="bilinear")],
        "RandomAffine": lambda: [ga.RandomAffine(30, (0.1, 0.1), (0.7, 1.3), 20, interpolation="bilinear")],
        "RandomPerspective": lambda: [ga.RandomPerspective(0.6, 1.0)],
        "ElasticTransform": lambda: [ga.ElasticTransform(120.0, 6.0)],
        "RandomZoomOut": lambda: [ga.RandomZoomOut((123, 117, 104), p=1.0)],
        "RandomIoUCrop": lambda: [ga.RandomIoUCrop(sampler_options=[0.3, 0.5])],
        "RandAugment": lambda: [ga.RandAugment(num_ops=3, magnitude=15)],
        "Mosaic": lambda: [ga.Resize(128), ga.RandomHorizontalFlip(), ga.Mosaic(SIDE)],
        "CopyPaste": lambda: [ga.RandomHorizontalFlip(), ga.CopyPaste()],
    },
    "Policies": {
        "RandAugment": lambda: [ga.RandAugment()],
        "RandAugment ": lambda: [ga.RandAugment(num_ops=3, magnitude=15)],
        "TrivialAugmentWide": lambda: [ga.TrivialAugmentWide()],
        "AutoAugment": lambda: [ga.AutoAugment()],
        "AutoAugment, cifar10": lambda: [ga.AutoAugment("cifar10")],
        "AutoAugment, svhn": lambda: [ga.AutoAugment("svhn")],
        "rand-m9-mstd0.5-inc1": lambda: [ga.timm_augment("rand-m9-mstd0.5-inc1")],
    },
}


def _floats() -> list:
    return [ga.ToDtype(torch.float32, scale=True), ga.Normalize((0.5,), (0.25,))]


def sample_photos() -> list[torch.Tensor]:
    """scikit-learn's two photos, uint8 [3, SIDE, SIDE]: their centres, scaled."""
    from sklearn.datasets import load_sample_images

    photos = [torch.from_numpy(image.transpose(2, 0, 1).copy()) for image in load_sample_images().images]
    fit = ga.Compose([ga.Resize(SIDE), ga.CenterCrop(SIDE)], seed=0)
    return [fit(photo) for photo in photos]


def sample_marks(photo: torch.Tensor, flower: bool) -> dict[str, torch.Tensor]:
    """Of one of the photos: boxes and masks of two objects, and points of the first one."""
    y, x = torch.arange(SIDE)[:, None], torch.arange(SIDE)
    if flower:
        red = photo[0] > photo[1].int() + 15
        masks = torch.stack([red & (y < 163), red & (y >= 163) & (x > 75)])
        points = [[90, 99], [90, 38], [152, 99], [90, 162], [28, 99]]
    else:
        tower = (y > 13) & (x < 44 + 0.55 * (y - 13)) & (x > 44 - 1.1 * (y - 13)) & (y < 165)
        masks = torch.stack([tower & (x < 118), (y > 192 - 0.75 * (x - 103)) & (y > 128)])
        points = [[44, 14], [95, 55], [100, 80], [110, 113], [119, 148]]
    sides = [(mask.any(0).nonzero(), mask.any(1).nonzero()) for mask in masks]
    boxes = [[h[0], v[0], h[-1] + 1, v[-1] + 1] for h, v in sides]
    return {"masks": masks.byte(), "boxes": torch.tensor(boxes).float(), "keypoints": torch.tensor(points).float()}


def parameters(ops: Sequence) -> str:
    """What was asked of ops, but for what is as it would be without saying: ``degrees=(-30.0, 30.0), p=1.0``."""
    words = []
    for op in ops:
        if isinstance(op, ga.ToDtype | ga.Normalize):
            continue
        fields = [field for field in dataclasses.fields(op) if field.init and field.repr]
        said = [f"{f.name}={_short(getattr(op, f.name))}" for f in fields if getattr(op, f.name) != f.default]
        words.append(", ".join(said) if op is ops[-1] else f"{type(op).__name__}({', '.join(said)})")
    return " · ".join(word for word in words if word)


def _short(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_short, value))})"
    return f"{value:.3g}" if isinstance(value, float) else repr(value)


def tile(name: str, ops: list, photos: torch.Tensor, sample: int) -> Tile:
    """What `ops` make of the first photo under a sample id, what was asked for, and what was drawn."""
    augment = ga.Compose(ops, seed=0)
    params = augment.sample(photos, ids=range(sample, sample + len(photos)), epoch=0)
    out = augment.apply(photos, params)[0]
    mean, std = ((0.5,) * 3, (0.25,) * 3) if out.is_floating_point() else (None, None)
    return Tile(to_image(out, mean, std), _told(name, ops, params))


def marked_tile(name: str, ops: list, photos: torch.Tensor, sample: int, marks: list[dict]) -> Tile:
    """As `tile`, of photos with what lies over them."""
    augment = ga.Compose(ops, seed=0)
    kinds = {kind: [one[kind] for one in marks] for kind in ("masks", "boxes", "keypoints")}
    labels = [torch.arange(2)] * len(marks)
    if name == "CopyPaste":
        del kinds["keypoints"]  # which it does not take
    ids, images = range(sample, sample + len(photos)), list(photos)
    params = augment.sample(images, boxes=kinds["boxes"], ids=ids, epoch=0)
    out, labels, *moved = augment.apply(images, params, labels=labels, **kinds)
    found = {kind: value[0].numpy() for kind, value in zip(kinds, moved, strict=True)}
    return Tile(to_image(out[0]), _told(name, ops, params), Marks(**found, classes=labels[0].tolist()))


def _told(name: str, ops: list, params: ga.Params) -> str:
    drawn = caption(params.describe(0)) if params.columns else ""  # nothing is drawn, and nothing to be said
    return "\n".join([name.strip(), parameters(ops), "" if drawn == "unchanged" and parameters(ops) else drawn])


def section(title: str, ops: dict[str, Callable[[], list]], photos: torch.Tensor) -> list[Tile]:
    """The two photos as they are, and what the ops of a section make of one or the other."""
    if title != MARKED:
        first = [Tile(to_image(photo), "original") for photo in photos]
        return first + [tile(n, make(), photos.roll(-i, 0), FIRST_ID + i) for i, (n, make) in enumerate(ops.items())]
    marks = [sample_marks(photo, flower=i == 1) for i, photo in enumerate(photos)]
    tiles = []
    for photo, one in zip(photos, marks, strict=True):
        shown = {kind: np.asarray(value) for kind, value in one.items()}
        tiles.append(Tile(to_image(photo), "original", Marks(**shown, classes=[0, 1])))
    for i, (name, make) in enumerate(ops.items()):
        four = photos.roll(-i, 0).repeat(2, 1, 1, 1)
        tiles.append(marked_tile(name, make(), four, FIRST_ID + i, (marks[i % 2 :] + marks[: i % 2]) * 2))
    return tiles


def gallery(out: str | Path) -> Path:
    """Write the gallery; returns its path. Raises ValueError for an output that is not an image file."""
    out = check_sheet(out)
    photos = torch.stack(sample_photos())
    rows: list[tuple[str, list[Tile]]] = []
    for title, ops in SECTIONS.items():
        tiles = section(title, ops, photos)
        rows += [(title if i == 0 else "", tiles[i : i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)]
    heights = [heights_of(tiles, SIDE) for _, tiles in rows]
    high = 2 * MARGIN + sum(whole for _, whole in heights) + 34 * len(SECTIONS)
    sheet, y = Image.new("RGB", (2 * MARGIN + COLUMNS * (SIDE + GAP) - GAP, high), PAPER), MARGIN
    for (title, tiles), (tall, whole) in zip(rows, heights, strict=True):
        if title:
            write(ImageDraw.Draw(sheet), MARGIN, y, title, INK, 20)
            y += 34
        for c, one in enumerate(tiles):
            place(sheet, one, MARGIN + c * (SIDE + GAP), y, SIDE, tall, dark=True)
        y += whole
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out)
    return out
