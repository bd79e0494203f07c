"""What a detector answers for images: boxes with classes and scores each, as COCO's JSON, a table, or a sheet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gpuaug.data import Loader, Source, header

from . import boxes, pictures, pictures_boxes
from .asking import ON_CPU, ON_DEVICE, Answers, Asking, Chunk
from .boxes import Boxes

if TYPE_CHECKING:
    from .saved_boxes import Detector

ON_SHEET = 60  # images at most
COLUMNS = ("path", "class", "score", "left", "top", "right", "bottom", "error")


@dataclass(frozen=True)
class Object:
    """One answer: a class by its name, how sure it is, 0 to 1, and where, in pixels of the image."""

    name: str
    score: float
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, eq=False)
class Objects(Sequence):
    """What the model finds in one image, the surest first.

    Attributes:
        path: the file as it was named or found; "image 3" of what is none. width, height: of the image, in pixels.
        found: the answers. error: why the image could not be read, "" where it could.
    """

    path: str
    width: int = 0
    height: int = 0
    found: tuple[Object, ...] = ()
    error: str = ""

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, i: Any) -> Any:
        return self.found[i]

    def boxes(self, classes: Sequence[str]) -> Boxes:
        """The same as arrays."""
        corners = [(one.left, one.top, one.right, one.bottom) for one in self.found]
        return Boxes.of(corners, [classes.index(one.name) for one in self.found], [one.score for one in self.found])

    def as_rows(self) -> list[dict[str, Any]]:
        """A flat dict an answer, with the keys of COLUMNS; of an image without answers one with its path."""
        rows = []
        for one in self.found or (None,):
            values = (None,) * 6 if one is None else tuple(vars(one).values())
            rows.append(dict(zip(COLUMNS, (self.path, *values, self.error or None), strict=True)))
        return rows


@dataclass(frozen=True, eq=False, repr=False)
class Detections(Answers):
    """One :class:`Objects` for each image, in the order given.

    Attributes:
        classes: names. source: the images.
    """

    made: list[Objects]
    classes: tuple[str, ...]
    source: Source = field(repr=False)

    def counted(self) -> str:
        return f"{sum(map(len, self.made)):,} objects in {len(self)} images"

    def as_rows(self) -> list[dict[str, Any]]:
        """A flat dict an answer, as a DataFrame takes them: see :meth:`Objects.as_rows`."""
        return [row for one in self.made for row in one.as_rows()]

    def as_csv(self) -> str:
        return "".join(csv_lines(self.made))

    def as_coco(self) -> dict[str, Any]:
        """COCO's JSON: "images" with file_name, width, height, and an "error" where one could not be read;
        "annotations" with a score each, which pycocotools' loadRes takes; "categories". Ids count from 1."""
        facts = [
            {
                "file_name": one.path,
                "width": one.width,
                "height": one.height,
                **({"error": one.error} if one.error else {}),
            }
            for one in self.made
        ]
        return boxes.as_coco([one.boxes(self.classes) for one in self.made], self.classes, facts)

    def as_json(self) -> str:
        return json.dumps(self.as_coco()) + "\n"

    def as_sheet(self) -> bytes:
        """A PNG of the images with the boxes on them; of the first 60, which its title then says."""
        from gpuaug.drawing import Tile, contact_sheet

        some, tiles = self.made[:ON_SHEET], []
        for one, item in zip(some, self.source.items, strict=False):
            photo = picture_of(item, one)
            seen = photo if one.error else pictures_boxes.answered(photo, one.boxes(self.classes), self.classes)
            told = one.error or f"{len(one)} object{'s' * (len(one) != 1)}"
            tiles.append(Tile(seen, f"{pictures.short(Path(one.path).name)}\n{told}"))
        title = f"{len(self):,} image{'s' * (len(self) != 1)}"
        if len(self) > len(some):
            title = f"The first {len(some)} of {len(self):,} images"
        rows = [tiles[i : i + 3] for i in range(0, len(tiles), 3)]
        content, side = io.BytesIO(), pictures_boxes.SIDE
        sheet = contact_sheet(rows, f"{title}, and what the model finds", side=side, legend=self.classes)
        pictures.write_image(content, sheet)
        return content.getvalue()


def picture_of(item: Any, one: Objects) -> Any:
    """A picture of an image as large as its boxes say, grey of one that cannot be read."""
    from PIL import Image

    from gpuaug.data import read
    from gpuaug.preview import to_image

    if one.error:
        return Image.new("RGB", (300, 300), (225, 225, 225))
    if isinstance(item, torch.Tensor):
        return to_image(item)
    return Image.fromarray(np.ascontiguousarray(read(item)))


def csv_lines(made: Iterable[Objects]) -> Iterator[str]:
    """A line of CSV with the names of the columns, and one for each answer, or image without any."""
    content = io.StringIO()
    writer = csv.DictWriter(content, COLUMNS, lineterminator="\n")

    def line() -> str:
        text = content.getvalue()
        content.seek(content.truncate(0))
        return text

    writer.writeheader()
    yield line()
    for one in made:
        for row in one.as_rows():
            writer.writerow({key: round(v, 4) if isinstance(v, float) else v for key, v in row.items()})
        yield line()


# --- between ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Asked(Asking):
    """What is wanted of a detector, checked: see :meth:`gpuaug.finetune.saved_boxes.Detector.predict`."""

    model: Detector
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be in 0 .. 1, got {self.threshold}")
        super().__post_init__()

    def loader(self, source: Source) -> Loader:
        device = self.model.device
        batch_size = self.batch_size or (ON_CPU if device.type == "cpu" else ON_DEVICE)
        pipeline = self.model.input().plain()
        return Loader(source, batch_size, pipeline, device=device, workers=self.workers, max_bad=1.0)

    def answered(self, loader: Loader, names: Sequence[str]) -> Iterator[tuple[list[int], list[Objects], list[None]]]:
        least = self.model.threshold if self.threshold is None else self.threshold
        for images, _, ids in loader:
            places = ids.tolist()
            sizes = [size_of(loader.source.items[place]) for place in places]
            found = self.model.found(list(images), sizes)
            made = zip(places, sizes, found, strict=True)
            yield (
                places,
                [self.objects(names[i], size, one.above(least)) for i, size, one in made],
                [None] * len(places),
            )

    def objects(self, name: str, size: tuple[int, int], found: Boxes) -> Objects:
        """Of what was found in an image of a (width, height)."""
        lines = zip(found.labels.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True)
        classes = self.model.classes
        answers = (Object(classes[k], float(f"{score:.6g}"), *corners) for k, score, corners in lines)
        return Objects(name, *size, tuple(answers))

    def missing(self, name: str, error: str) -> Objects:
        return Objects(name, error=error)

    def gathered(self, source: Source, chunks: Iterable[Chunk]) -> Detections:
        return Detections([one for some, _ in chunks for one in some], self.model.classes, source)

    def lines(self, chunks: Iterable[Chunk]) -> Iterator[str]:
        return csv_lines(one for some, _ in chunks for one in some)


def size_of(item: Any) -> tuple[int, int]:
    """(width, height) of an image."""
    if isinstance(item, torch.Tensor):
        return item.shape[-1], item.shape[-2]
    known = header(item)
    return known.width, known.height
