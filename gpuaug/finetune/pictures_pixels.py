"""Pictures of a segmentation: training images under their masks, and where the answers are wrong."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import gpuaug as ga
from gpuaug.data import DataError, Source, read
from gpuaug.drawing import Marks, Tile, colour_of, contact_sheet
from gpuaug.preview import annotated_rows, one_line

from . import pictures, runs
from .metrics import percent
from .semantic import IGNORED

MISSED, INVENTED, OTHER = (214, 39, 40), (31, 111, 180), (217, 95, 2)
MASKS = "predictions"  # the folder of predicted masks
MOST = 8  # images of the sheet of mistakes
SHARES = 3  # classes named under an answer


def write_contact_sheet(
    path: Path,
    augment: ga.Compose,
    source: Source,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    name: str,
    augmented: bool = True,
    images: int = 6,
    epochs: int = 6,
) -> None:
    """A few training images with their masks, and what the model sees of them in its first epochs."""
    if not isinstance(augment, ga.Compose):
        return
    epochs, known, ids = epochs if augmented else 1, [], []
    for i in range(0, len(source), max(1, len(source) // images)):
        try:
            one = source.targets[i]
            read(one.path)
        except DataError:
            continue  # the loader has told
        known.append(one)
        ids.append([int(source.ids[i])])
    known, ids = known[:images], ids[:images]
    seen = [annotated_rows(known, augment, ids, None, mean, std, epoch) for epoch in range(epochs if known else 0)]
    rows = [[row[0], *(other[n][1] for other in seen)] for n, row in enumerate(seen[0] if seen else [])]
    when = f"epochs 1 to {epochs}" if augmented else "every epoch"
    title = f"{name}: training images with their masks, and what the model sees of them in {when}"
    if rows:
        legend = {"legend": known[0].classes[1:], "first": 1}
        pictures.write_image(path, contact_sheet(rows, title, one_line(augment), **legend))


def write_mistakes(path: Path, run: runs.Run, source: Source) -> None:
    """The test images with the lowest IoU: the image, the truth, the answer, and where they differ.

    In the last picture red is what was missed, blue what was seen and is not there, orange one class for another.
    """
    found, files = run.evaluation, mask_files(run, source)
    order = sorted(range(len(source)), key=lambda i: -1.0 if found.per_image[i] is None else found.per_image[i])
    rows = []
    for i in [i for i in order if found.per_image[i] is not None][:MOST]:
        known = source.targets[i]
        try:
            image = read(known.path)
            with Image.open(files[int(source.ids[i])]) as stored:
                answer = np.asarray(stored)
        except (DataError, OSError):
            continue
        if answer.shape != known.masks.shape:  # it was predicted at another scale
            answer = np.asarray(Image.fromarray(answer).resize(known.masks.shape[::-1], Image.Resampling.NEAREST))
        photo = Image.fromarray(np.ascontiguousarray(image))
        words = f"{known.path.stem}\nIoU {percent(found.per_image[i])}"
        rows.append(
            [
                Tile(photo, words),
                Tile(coloured(known.masks), "truth"),
                Tile(coloured(answer), "answer"),
                Tile(differences(image, known.masks, answer), "red: missed, blue: invented"),
            ]
        )
    if rows:
        title = "The test images with the lowest IoU, and where answers and masks differ"
        pictures.write_image(path, contact_sheet(rows, title, side=220, legend=found.classes[1:], first=1))


def mask_files(run: runs.Run, source: Source) -> dict[int, Path]:
    """By id, where a run keeps the mask that it predicted of an image."""
    return files_below(run.path(MASKS), source)


def files_below(folder: Path, source: Source) -> dict[int, Path]:
    """By id, a file in ``folder`` for the mask of each image: the image's path below the folder that all have in
    common, with .png in place of its ending, or behind it where two images differ in that alone; the id of an image
    that is no file."""
    ids = source.ids.tolist()
    if source.images is not None or not all(isinstance(item, str | os.PathLike) for item in source.items):
        return {id: folder / f"{id}.png" for id in ids}
    paths = [Path(os.path.abspath(item)) for item in source.items]
    root = os.path.commonpath([path.parent for path in paths])
    names = [path.relative_to(root) for path in paths]
    often = Counter(name.with_suffix("") for name in names)
    return {
        id: folder / (name.with_suffix(".png") if often[name.with_suffix("")] == 1 else f"{name}.png")
        for id, name in zip(ids, names, strict=True)
    }


def write_answers(target: Any, some: Sequence[tuple[Any, Any]], title: str, classes: Sequence[str]) -> None:
    """Images, each beside itself under its predicted mask: (:class:`gpuaug.finetune.predictions_pixels.Mask`, item)."""
    from .predictions import thumbnail

    rows = []
    for one, item in some:
        photo, name = thumbnail(item), pictures.short(Path(one.path).name)
        if one.error:
            rows.append([Tile(photo, f"{one.error}\n{name}")])
            continue
        shares = [f"{label} {share:.1%}" for label, share in one.shares[1:] if share]
        words = ", ".join(shares[:SHARES]) + ", ..." * (len(shares) > SHARES) or f"only {classes[0]}"
        mask = np.asarray(Image.fromarray(one.mask).resize(photo.size, Image.Resampling.NEAREST))
        rows.append([Tile(photo, name), Tile(photo, words, Marks(masks=mask))])
    pictures.write_image(target, contact_sheet(rows, title, side=300, legend=classes[1:], first=1))


def colours() -> np.ndarray:
    """uint8 [256, 3], of each class: black is class 0, grey is 255, of none."""
    return np.array([(0, 0, 0), *map(colour_of, range(1, IGNORED)), (128, 128, 128)], np.uint8)


def with_palette(mask: np.ndarray) -> Image.Image:
    """A mask of classes, [H, W], as a picture whose pixels are their numbers and whose palette is :func:`colours`."""
    image = Image.fromarray(mask.astype(np.uint8), "P")
    image.putpalette(colours().tobytes())
    return image


def coloured(mask: np.ndarray) -> Image.Image:
    """A mask of classes in their colours."""
    return with_palette(mask).convert("RGB")


def differences(image: np.ndarray, truth: np.ndarray, answer: np.ndarray) -> Image.Image:
    """The image in grey, with the wrong pixels in the colours of their kind."""
    grey = np.repeat((0.6 * image.mean(2, keepdims=True) + 80).clip(0, 255).astype(np.uint8), 3, axis=2)
    counted = truth != IGNORED
    grey[counted & (truth > 0) & (answer == 0)] = MISSED
    grey[counted & (truth == 0) & (answer > 0)] = INVENTED
    grey[counted & (truth > 0) & (answer > 0) & (truth != answer)] = OTHER
    return Image.fromarray(grey)
