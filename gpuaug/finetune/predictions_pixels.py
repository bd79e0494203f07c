"""What a segmenter answers for images: a mask of classes each, as PNG files, a table of shares, or a sheet."""

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
from torch.nn import functional as F

from gpuaug.data import Loader, Source, header

from . import pictures_pixels, runs, segmenters
from .asking import FORMATS, Answers, Asking, Chunk, encoded, format_of

if TYPE_CHECKING:
    from torch import Tensor

    from .saved_pixels import Segmenter

WINDOWS = 8  # that the model gets at a time
IMAGES = 4  # that are decoded together


# --- what comes out ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Mask:
    """What the model answers for one image.

    Attributes:
        path: the file as it was named or found; "image 3" of what is none.
        mask: uint8 [H, W] of classes, as large as the image; None of one that could not be read, and where masks were
            written as they came.
        shares: of the pixels, by class, 0 to 1. error: why the image could not be read, "" where it could.
        file: where the mask was written, below its folder; "" where it was not.
    """

    path: str
    mask: np.ndarray | None = None
    shares: tuple[tuple[str, float], ...] = ()
    error: str = ""
    file: str = ""

    def as_row(self, classes: Sequence[str]) -> dict[str, Any]:
        """path, share of each class, error. None: there is no such."""
        shares = dict(self.shares)
        row = {"path": self.path, **{f"share {name}": shares.get(name) for name in classes}}
        return row | {"error": self.error or None}

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"path": self.path, "shares": dict(self.shares) or None, "error": self.error or None}


@dataclass(frozen=True, eq=False, repr=False)
class Masks(Answers):
    """One :class:`Mask` for each image, in the order given.

    Attributes:
        classes: names, the place of each is its number in masks. source: the images.
    """

    made: list[Mask]
    classes: tuple[str, ...]
    source: Source = field(repr=False)

    def as_rows(self) -> list[dict[str, Any]]:
        """A flat dict an image, as a DataFrame takes them: see :meth:`Mask.as_row`."""
        return [one.as_row(self.classes) for one in self.made]

    def save(self, path: str | Path, format: str | None = None) -> Path:
        """Write "csv", "json", "sheet", a PNG, or "masks", a folder with a PNG of classes for each image and a table,
        masks.csv; None: by the path's ending, which a folder has not."""
        path = Path(path)
        format = format_of(path, format, FORMATS | {"": "masks"})
        if format != "masks":
            return super().save(path, format)
        writer = Writer(path, self.source)
        table = [writer.put(i, one) for i, one in enumerate(self.made)]
        writer.close(table, self.classes)
        return path

    def as_csv(self) -> str:
        return "".join(csv_lines(self.made, self.classes))

    def as_json(self) -> str:
        """A list with an object an image: path, shares, error."""
        return json.dumps([one.as_dict() for one in self.made], indent=1) + "\n"

    def as_sheet(self, most: int = 40) -> bytes:
        """A PNG: each image, and its mask over it; of the first 40, which its title then says."""
        some = list(zip(self.made, self.source.items, strict=True))[:most]
        title = f"{len(self):,} image{'s' * (len(self) != 1)}"
        if len(self) > len(some):
            title = f"The first {len(some)} of {len(self):,} images"
        content = io.BytesIO()
        pictures_pixels.write_answers(content, some, f"{title}, and what the model answers", self.classes)
        return content.getvalue()


def csv_lines(made: Iterable[Mask], classes: Sequence[str], files: bool = False) -> Iterator[str]:
    """A line of CSV with the names of the columns, and one for each image; with ``files`` also where its mask is."""

    def row(one: Mask) -> dict[str, Any]:
        known = one.as_row(classes)
        return {"path": known.pop("path"), "mask": one.file or None, **known} if files else known

    content = io.StringIO()
    writer = csv.DictWriter(content, row(Mask("")), lineterminator="\n")

    def line() -> str:
        text = content.getvalue()
        content.seek(content.truncate(0))
        return text

    writer.writeheader()
    yield line()
    for one in made:
        shares = tuple((name, float(f"{share:.6g}")) for name, share in one.shares)
        writer.writerow(row(Mask(one.path, None, shares, one.error, one.file)))
        yield line()


class Writer:
    """Masks into a folder, each as soon as it is there: named as the images are below the folder that all have in
    common, and in masks.csv beside them."""

    def __init__(self, folder: Path, source: Source):
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder}: a file; masks go into a folder")
        self.folder, self.files = folder, pictures_pixels.files_below(folder, source)
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, i: int, one: Mask) -> Mask:
        """Write the mask of image i; the same without its pixels."""
        if one.mask is None:
            return one
        path = self.files[i]
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        pictures_pixels.with_palette(one.mask).save(content, "png")
        runs.write(path, content.getvalue())
        return Mask(one.path, None, one.shares, one.error, path.relative_to(self.folder).as_posix())

    def close(self, table: Sequence[Mask], classes: Sequence[str]) -> None:
        runs.write(self.folder / "masks.csv", encoded("".join(csv_lines(table, classes, files=True))))


# --- between ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Asked(Asking):
    """What is wanted of a segmenter, checked: see :meth:`gpuaug.finetune.saved_pixels.Segmenter.predict`."""

    model: Segmenter

    def loader(self, source: Source) -> Loader:
        pipeline = self.model.input().plain()
        return Loader(source, IMAGES, pipeline, device=self.model.device, workers=self.workers, max_bad=1.0)

    @torch.no_grad()
    def answered(self, loader: Loader, names: Sequence[str]) -> Iterator[tuple[list[int], list[Mask], list[None]]]:
        model, items = self.model, loader.source.items
        for images, _, ids in loader:
            places, made = ids.tolist(), []
            for image, place in zip(images, places, strict=True):
                logits = segmenters.windowed(model.model, image, model.size, self.batch_size or WINDOWS)
                if model.about.resize is not None:  # the image was scaled
                    logits = F.interpolate(logits[None], size_of(items[place]), mode="bilinear")[0]
                made.append(self.answer(names[place], logits))
            yield places, made, [None] * len(places)

    def answer(self, name: str, logits: Tensor) -> Mask:
        """Of logits [K, H, W]."""
        classes, numbers = self.model.classes, logits.argmax(0).to(torch.uint8)
        counts = torch.bincount(numbers.flatten().long(), minlength=len(classes)).tolist()
        shares = tuple((one, n / numbers.numel()) for one, n in zip(classes, counts, strict=True))
        return Mask(name, numbers.cpu().numpy(), shares)

    def missing(self, name: str, error: str) -> Mask:
        return Mask(name, error=error)

    def gathered(self, source: Source, chunks: Iterable[Chunk]) -> Masks:
        return Masks([one for some, _ in chunks for one in some], self.model.classes, source)

    def lines(self, chunks: Iterable[Chunk]) -> Iterator[str]:
        return csv_lines((one for some, _ in chunks for one in some), self.model.classes)

    def saved(self, source: Source, chunks: Iterable[Chunk], path: Path, format: str) -> None:
        """Masks are written as they come, and not held."""
        if format != "masks":
            return super().saved(source, chunks, path, format)
        writer = Writer(path, source)
        made = enumerate(one for some, _ in chunks for one in some)
        writer.close([writer.put(i, one) for i, one in made], self.model.classes)
        return None


def size_of(item: Any) -> tuple[int, int]:
    """(height, width) of an image."""
    if isinstance(item, torch.Tensor | np.ndarray):
        return tuple(item.shape[-2:])
    known = header(item)
    return known.height, known.width
