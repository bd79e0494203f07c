"""Pictures of a detection: training images with their boxes, the answers that are wrong, and errors by class."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

import gpuaug as ga
from gpuaug.data import DataError, Loader, Source, read
from gpuaug.drawing import TEXT, Colour, Marks, Tile, colour_of, contact_sheet, fitted, width_of, write
from gpuaug.preview import one_line, to_image

from . import boxes, pictures, runs
from .boxes import CONFUSED, FALSE, MISPLACED, MISSED, RIGHT, Boxes, DetectEvaluation
from .feed_boxes import BoxFeed
from .metrics import percent

if TYPE_CHECKING:
    from .opening import Job

COLOURS: dict[str, Colour] = {
    "right": (42, 157, 92), "confused": (217, 95, 2), "misplaced": (142, 91, 181), "missed": (214, 39, 40),
    "false": (31, 111, 180),
}  # fmt: skip
WORDS = {
    "right": "right", "confused": "of another class", "misplaced": "badly placed", "missed": "missed",
    "false": "false: nothing there, or twice",
}  # fmt: skip
MOST, SIDE = 8, 420  # images of the sheet of mistakes, and pixels of one


# --- training ---------------------------------------------------------------------------------------------------------
def write_contact_sheet(path: Path, job: Job, *, augmented: bool = True, images: int = 6, epochs: int = 5) -> None:
    """A few training images with their boxes, and what the model sees of them in its first epochs."""
    if not isinstance(job.augment, ga.Compose):
        return
    epochs, source = epochs if augmented else 1, job.parts.train
    some = source.subset(list(range(0, len(source), max(1, len(source) // images)))[:images])
    rows: dict[int, list[Tile]] = {}
    for id, known in zip(some.ids.tolist(), some.targets, strict=True):
        with contextlib.suppress(DataError):  # the loader tells
            marks = Marks(known.boxes, list(known.labels))
            rows[id] = [Tile(picture_of(some, known.path, id), known.path.stem, marks)]
    loader = Loader(some, len(some), job.augment, seed=job.config.seed, workers=0, max_bad=1.0)
    feed = BoxFeed(loader, job.input.size)
    for epoch in range(epochs):
        feed.set_epoch(epoch)
        for x, targets, ids in feed:
            for image, target, id in zip(x, targets, ids.tolist(), strict=True):
                marks = Marks(target["boxes"].cpu().numpy(), target["labels"].tolist())
                seen = to_image(image.float(), job.input.mean, job.input.std)
                rows[id].append(Tile(seen, f"epoch {epoch + 1}" if augmented else "", marks))
    when = f"epochs 1 to {epochs}" if augmented else "every epoch"
    title = f"{job.parts.name}: training images with their boxes, and what the model sees of them in {when}"
    if rows:
        sheet = contact_sheet(list(rows.values()), title, one_line(job.augment), side=200, legend=source.classes)
        pictures.write_image(path, sheet)


def picture_of(source: Source, path: Path, id: int) -> Image.Image:
    """An image of a source. Raises DataError where it cannot be read."""
    if source.images is not None:
        return to_image(source.images[source.ids.tolist().index(id)])
    return Image.fromarray(np.ascontiguousarray(read(path)))


# --- what was found ---------------------------------------------------------------------------------------------------
def answered(
    image: Image.Image, found: Boxes, classes: Sequence[str], side: int = SIDE, colours: Sequence[Colour] | None = None
) -> Image.Image:
    """An image with boxes and, where there is room, their classes and scores; ``colours``: of each, by default of its
    class."""
    picture = fitted(image, side).convert("RGB")
    pen, scale = ImageDraw.Draw(picture), picture.width / image.width
    colours = colours if colours is not None else [colour_of(k) for k in found.labels.tolist()]
    for i, (box, colour) in enumerate(zip((found.boxes * scale).tolist(), colours, strict=True)):
        left, top, right, bottom = box
        pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=tuple(colour), width=2)
        words = pictures.short(classes[found.labels[i]], 12)
        words += "" if found.scores is None else f" {found.scores[i]:.2f}"
        wide = width_of(words, TEXT - 2)
        if wide < 1.5 * (right - left):
            at = max(0, top - TEXT) if top >= TEXT else top
            pen.rectangle((left, at, left + wide + 3, at + TEXT), fill=tuple(colour))
            write(pen, left + 2, at - 1, words, (255, 255, 255), TEXT - 2)
    return picture


def write_mistakes(path: Path, run: runs.Run, source: Source) -> None:
    """The test images with the lowest F1: what is there, and what the answers are: right, of another class, badly
    placed, false; and what was missed."""
    found = run.evaluation
    stored = answers_of(run.json(runs.ANSWERS), found.threshold)
    paths = {known.path.as_posix(): known for known in source.targets}
    ids = dict(zip(paths, source.ids.tolist(), strict=True))
    names = [next((p for p in paths if p.endswith(name)), None) for name, _ in stored]
    order = sorted((i for i, f1 in enumerate(found.per_image) if f1 is not None), key=lambda i: found.per_image[i])
    rows = []
    for i in order:
        if len(rows) == MOST or names[i] is None:
            continue
        known, answers = paths[names[i]], stored[i][1]
        truth = Boxes.of(known.boxes, known.labels)
        try:
            photo = picture_of(source, known.path, ids[names[i]])
        except DataError:
            continue
        of_object, of_answer = boxes.kinds(truth, answers)
        there = _in_kinds(photo, truth, found.classes, of_object, "missed")
        seen = _in_kinds(photo, answers, found.classes, of_answer, "false")
        counts = ", ".join(f"{(of_object == k).sum()} {boxes.KINDS[k]}" for k in (RIGHT, CONFUSED, MISPLACED, MISSED))
        words = f"{known.path.stem}\nF1 {percent(found.per_image[i])}"
        told = f"{counts}, {(of_answer == FALSE).sum()} false"
        rows.append(
            [Tile(there, f"{words}; what is there"), Tile(seen, f"answers from {found.threshold:.2f} on\n{told}")]
        )
    if rows:
        pictures.write_image(path, _sheet(rows))


def _in_kinds(photo: Image.Image, one: Boxes, classes: Sequence[str], kinds: np.ndarray, last: str) -> Image.Image:
    names = [*boxes.KINDS[:-1], last]
    return answered(photo, one, classes, SIDE, [COLOURS[names[k]] for k in kinds.tolist()])


def _sheet(rows: list[list[Tile]]) -> Image.Image:
    """With a legend of the kinds' colours."""
    sheet = contact_sheet(rows, "The test images with the lowest F1", "", side=SIDE)
    strip = Image.new("RGB", (sheet.width, 28), (255, 255, 255))
    pen, x = ImageDraw.Draw(strip), 24.0
    for name, colour in COLOURS.items():
        pen.rectangle((x, 8, x + 12, 20), fill=colour)
        write(pen, x + 18, 5, WORDS[name], (32, 34, 40), TEXT + 1)
        x += 18 + width_of(WORDS[name], TEXT + 1) + 18
    whole = Image.new("RGB", (max(sheet.width, int(x)), sheet.height + strip.height), (255, 255, 255))
    whole.paste(sheet, (0, 0))
    whole.paste(strip, (0, sheet.height))
    return whole


def answers_of(stored: dict[str, Any], least: float = 0.0) -> list[tuple[str, Boxes]]:
    """(file name, answers with at least a score) of each image of COCO's JSON of answers."""
    mine: dict[int, list[dict]] = {image["id"]: [] for image in stored["images"]}
    for one in stored["annotations"]:
        mine[one["image_id"]].append(one)
    made = []
    for image in stored["images"]:
        lines = mine[image["id"]]
        corners = np.array([one["bbox"] for one in lines], float).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        found = Boxes.of(corners, [one["category_id"] - 1 for one in lines], [one["score"] for one in lines])
        made.append((image["file_name"], found.above(least)))
    return made


def write_errors(target: pictures.Target, found: DetectEvaluation) -> None:
    """What became of each class's objects, and how many answers were false, in bars."""
    lines = list(reversed(found.per_class))
    with pictures.drawn(target, 8.4, 1.5 + 0.42 * len(lines), "what became of the objects, by class") as figure:
        ax = figure.subplots()
        left = np.zeros(len(lines))
        for name in (*boxes.KINDS, "false"):
            counts = np.array([line[name] for line in lines], float)
            colour = tuple(value / 255 for value in COLOURS[name])
            start = np.zeros(len(lines)) if name == "false" else left
            bars = ax.barh(range(len(lines)), counts * (-1 if name == "false" else 1), left=start, color=colour)
            bars.set_label(WORDS[name])
            left = left if name == "false" else left + counts
            for y, n in enumerate(counts):
                if n >= 0.04 * max(left.max(), 1):
                    x = -n / 2 if name == "false" else start[y] + n / 2
                    ax.text(x, y, f"{n:.0f}", ha="center", va="center", fontsize=8, color="#ffffff")
        names = [f"{pictures.short(line['class'])}, AP@50 {percent(line['ap50'])}" for line in lines]
        ax.set_yticks(range(len(lines)), names, fontsize=9, **pictures.lettered(names))
        ax.axvline(0, color="#202228", linewidth=0.8)
        ax.xaxis.set_major_formatter(lambda value, _: f"{abs(value):,.0f}")
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.set_xlabel(f"boxes; answers from {found.threshold:.2f} on, IoU 0.5", fontsize=9)
        figure.legend(frameon=False, fontsize=8, ncols=5, loc="outside lower left")
