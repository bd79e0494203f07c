"""The gallery: every op and policy once, on scikit-learn's two sample photos, which may be redistributed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image, ImageDraw

import gpuaug as ga
from gpuaug.preview import FAINT, GAP, INK, MARGIN, PAPER, Tile, caption, check_sheet, font, shorten, to_image

SIDE = 192  # of a photo in the gallery, pixels
COLUMNS = 7
CROP, LINE = 168, 15
FIRST_ID = 11  # of the samples: with it each policy does something

SECTIONS: dict[str, dict[str, Callable[[], list]]] = {
    "Geometry": {
        "Resize": lambda: [ga.Resize((96, 160))],
        "CenterCrop": lambda: [ga.CenterCrop(128)],
        "RandomCrop": lambda: [ga.RandomCrop(CROP, padding=32, padding_mode="reflect")],
        "Pad": lambda: [ga.Pad(24, fill=(235, 235, 230))],
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


def tile(name: str, ops: list, photos: torch.Tensor, sample: int) -> Tile:
    """What `ops` make of the first photo under a sample id, and what was drawn."""
    augment = ga.Compose(ops, seed=0)
    params = augment.sample(photos, ids=range(sample, sample + len(photos)), epoch=0)
    out = augment.apply(photos, params)[0]
    mean, std = ((0.5,) * 3, (0.25,) * 3) if out.is_floating_point() else (None, None)
    records = params.describe(0)
    drawn = caption(records) if params.columns else ""  # nothing is drawn, and nothing to be said
    if drawn == "unchanged" and out.shape[1:] != photos.shape[2:]:
        drawn = "to {1}x{0}".format(*out.shape[1:])
    return Tile(to_image(out, mean, std), f"{name.strip()}\n{drawn}")


def gallery(out: str | Path) -> Path:
    """Write the gallery; returns its path. Raises ValueError for an output that is not an image file."""
    out = check_sheet(out)
    photos = torch.stack(sample_photos())
    rows: list[tuple[str, list[Tile]]] = []
    for title, ops in SECTIONS.items():
        makers = enumerate(ops.items())
        tiles = [tile(name, make(), photos.roll(-i, 0), FIRST_ID + i) for i, (name, make) in makers]
        rows += [(title if i == 0 else "", tiles[i : i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)]
    step = SIDE + 2 * LINE + 14
    titled = sum(bool(title) for title, _ in rows)
    width = 2 * MARGIN + COLUMNS * (SIDE + GAP) - GAP
    sheet = Image.new("RGB", (width, 2 * MARGIN + len(rows) * step + titled * 34), PAPER)
    pen, y = ImageDraw.Draw(sheet), MARGIN
    for title, tiles in rows:
        if title:
            pen.text((MARGIN, y), title, INK, font=font(20))
            y += 34
        for c, one in enumerate(tiles):
            _draw(sheet, pen, one, MARGIN + c * (SIDE + GAP), y)
        y += step
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out)
    return out


def _draw(sheet: Image.Image, pen: ImageDraw.ImageDraw, one: Tile, x: int, y: int) -> None:
    picture = one.image
    if max(picture.size) > SIDE:
        picture = picture.resize([round(s * SIDE / max(picture.size)) for s in picture.size], Image.Resampling.LANCZOS)
    sheet.paste(picture, (x + (SIDE - picture.width) // 2, y + (SIDE - picture.height) // 2))
    name, drawn = one.caption.split("\n")
    small = font(11)
    pen.text((x + SIDE / 2, y + SIDE + 5), shorten(name, SIDE, small), INK, font=small, anchor="ma")
    pen.text((x + SIDE / 2, y + SIDE + 5 + LINE), shorten(drawn, SIDE, small), FAINT, font=small, anchor="ma")
