"""What any saved model is asked for predictions: inputs in, answers out in their order, of whatever task."""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gpuaug.data import Loader, Source, arrays, folder
from gpuaug.data.items import Made, Slice
from gpuaug.messages import shown

from . import runs

if TYPE_CHECKING:
    from .saved import Saved

LEFT_OUT = r"\d+ files were left out of epoch"  # what a Loader warns of; here the answers say it
ON_CPU, ON_DEVICE = 16, 64  # images of a batch
FORMATS = {".csv": "csv", ".json": "json", ".png": "sheet"}  # of answers, by the ending of a file

Chunk = tuple[list[Any], list[Any]]
"""Answers for a few inputs, in order; and of each what :meth:`Asking.gathered` wants besides, None of unreadable ones.
"""


# --- between ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Asking(ABC):
    """What is wanted of a model's predict, checked; of a class for each task, whose fields are its options.

    An answer is any object with the attributes ``path`` and ``error``: why the input could not be read, "" where it
    could. Answers together have ``bad``, ``save(path, format)`` and, where the task has such, ``as_csv``, ``as_json``.
    """

    model: Saved
    batch_size: int | None = None
    workers: int = 2

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("workers", 0)):
            if getattr(self, name) is not None and getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")

    def listed(self, inputs: Any) -> tuple[Source, list[str]]:
        """The inputs as a source whose ids are their places, and what each is called."""
        return listed(inputs)

    @abstractmethod
    def loader(self, source: Source) -> Loader:
        """Of the model's input."""

    @abstractmethod
    def answered(self, loader: Loader, names: Sequence[str]) -> Iterator[tuple[list[int], list[Any], Sequence[Any]]]:
        """(places, answers, what :meth:`gathered` wants of each besides) of a few inputs that could be read."""

    @abstractmethod
    def missing(self, name: str, error: str) -> Any:
        """The answer for an input that could not be read."""

    @abstractmethod
    def gathered(self, source: Source, chunks: Iterable[Chunk]) -> Any:
        """What :meth:`stream` gives, together."""

    def lines(self, chunks: Iterable[Chunk]) -> Iterator[str] | None:
        """CSV, a line as soon as it is known; None where the columns follow from all answers."""
        return None

    def saved(self, source: Source, chunks: Iterable[Chunk], path: Path, format: str) -> None:
        """Write all answers."""
        self.gathered(source, chunks).save(path, format)

    def stream(self, source: Source, names: Sequence[str]) -> Iterator[Chunk]:
        """Answers for a few inputs at a time, in order; see :meth:`listed`."""
        self.model.eval()
        loader, told, done = self.loader(source), _Told(names), 0

        def missing(until: int) -> list[Any]:
            return [self.missing(names[i], told.why(names[i], loader.report.bad)) for i in range(done, until)]

        for places, answers, more in self.answered(loader, names):
            made, beside = [], []
            for place, answer, one in zip(places, answers, more, strict=True):
                lacking = missing(place)
                made += [*lacking, answer]
                beside += [*[None] * len(lacking), one]
                done = place + 1
            yield made, beside
        if done < len(names):
            lacking = missing(len(names))
            yield lacking, [None] * len(lacking)


def predict(model: Saved, inputs: Any, *, progress: bool = False, **options: Any) -> Any:
    """See :meth:`gpuaug.finetune.saved.Saved.predict`."""
    asked = model.asked(**options)
    source, names = asked.listed(inputs)
    return asked.gathered(source, watched(asked.stream(source, names), len(names), progress, model.noun))


def watched(chunks: Iterable[Chunk], total: int, progress: bool, noun: str = "image") -> Iterator[Chunk]:
    """The chunks, with a bar on stderr if so asked; a loader's warning is left out."""
    from tqdm.auto import tqdm

    with warnings.catch_warnings(), tqdm(total=total, unit=noun, leave=False, disable=not progress) as bar:
        warnings.filterwarnings("ignore", LEFT_OUT)
        for chunk in chunks:
            yield chunk
            bar.update(len(chunk[0]))


class _Told:
    """What a loader said of files that it left out, by name."""

    def __init__(self, names: Sequence[str]):
        self.names, self.known, self.others, self.read = frozenset(names), {}, deque(), 0

    def why(self, name: str, bad: list[str]) -> str:
        """What is wrong with one of them; ``bad``: all that was said so far."""
        for message in bad[self.read :]:
            parts = message.split(": ")
            ends = (": ".join(parts[:i]) for i in range(len(parts) - 1, 0, -1))
            of = next((end for end in ends if end in self.names), None)
            if of is None:
                self.others.append(message)  # of a file that an item led to
            else:
                self.known[of] = message[len(of) + 2 :]
        self.read = len(bad)
        return self.known.get(name) or (self.others.popleft() if self.others else "it cannot be read")


# --- what goes in -----------------------------------------------------------------------------------------------------
def listed(images: Any) -> tuple[Source, list[str]]:
    """The images as a source whose ids are their places, and what each is called. ``images`` as for
    :meth:`gpuaug.finetune.saved.Classifier.predict`. Raises ValueError where there are none, or no uint8."""
    if isinstance(images, Source):
        items = images.items
    elif isinstance(images, np.ndarray | Tensor):
        items = _of_array(images)
    else:
        several = isinstance(images, Iterable) and not isinstance(images, str | os.PathLike | bytes | bytearray)
        several = several and not hasattr(images, "convert")  # a Pillow image
        items = [item for one in (images if several else [images]) for item in _items(one)]
    if not len(items):
        raise ValueError("there are no images; name files or folders")
    if not isinstance(items, Tensor):
        items = [_named(items[i], i) for i in range(len(items))]
    names = [f"image {i}" if isinstance(item, Tensor) else str(item) for i, item in enumerate(items)]
    return Source(items, torch.arange(len(items))), names


def _items(one: Any) -> Sequence[Any]:
    if isinstance(one, str | os.PathLike) and Path(one).is_dir():
        return folder(one, labelled=False).items
    if isinstance(one, np.ndarray | Tensor):
        return _of_array(one)
    return [one]


def _of_array(images: np.ndarray | Tensor) -> Sequence[Any]:
    if str(images.dtype).removeprefix("torch.") != "uint8":
        raise ValueError(
            f"images are uint8, and this {type(images).__name__} is {images.dtype}; scale it to 0 .. 255, or call the "
            "model itself with float32 [B, 3, size, size] of 0 to 1"
        )
    if images.ndim < 4:
        return [images]
    if isinstance(images, Tensor):
        return images if images.ndim == 4 and images.shape[1] == 3 else list(images)
    return arrays(images).items


def _named(item: Any, i: int) -> Any:
    """An item that errors call by its path, or by its place."""
    if isinstance(item, str | os.PathLike):
        return Path(item)
    return item if isinstance(item, Slice | Made) else Made(lambda _: item, i, f"image {i}")


# --- what comes out ---------------------------------------------------------------------------------------------------
class Answers(Sequence):
    """What a model's predict gives: an answer for each input, in their order, in ``made``."""

    made: list[Any]

    def __len__(self) -> int:
        return len(self.made)

    def __getitem__(self, i: Any) -> Any:
        return self.made[i]

    def __repr__(self) -> str:
        bad = f", {len(self.bad)} of them could not be read" if self.bad else ""
        return f"{type(self).__name__}({self.counted()}{bad})"

    def counted(self) -> str:
        """How many there are, in words."""
        return f"{len(self)} images"

    @property
    def bad(self) -> list[Any]:
        """Those that could not be read."""
        return [one for one in self.made if one.error]

    def save(self, path: str | Path, format: str | None = None) -> Path:
        """Write "csv", "json" or "sheet", a PNG, whole or not at all; None: by the path's ending."""
        path = Path(path)
        made = {"csv": self.as_csv, "json": self.as_json, "sheet": self.as_sheet}[format_of(path, format)]()
        runs.write(path, made if isinstance(made, bytes) else encoded(made))
        return path

    @abstractmethod
    def as_csv(self) -> str:
        """A table."""

    @abstractmethod
    def as_json(self) -> str:
        """All that is known."""

    @abstractmethod
    def as_sheet(self) -> bytes:
        """A PNG."""


def encoded(text: str) -> bytes:
    """UTF-8; names of files that are none come out as they were."""
    return text.encode("utf-8", "surrogateescape")


def format_of(path: Path | None, format: str | None, known: Mapping[str, str] = FORMATS) -> str:
    """Of a file of answers, one of ``known``, by endings; the first one of no file. Raises ValueError for an ending
    that says nothing, or something else, and for a format that is not among them."""
    if format not in (None, *known.values()):
        raise ValueError(f"format must be one of {', '.join(known.values())}; got {shown(format)}")
    ending = None if path is None else known.get(path.suffix.lower())
    folders = "" in known and (format or ending) == known[""]
    if path is not None and path.is_dir() and not folders:
        raise ValueError(f"{path}: a folder; name the file to be written (where runs lie is --runs)")
    if path is not None and ending is None and format is None:
        *others, last = (one for one in known if one)
        raise ValueError(f"{path}: no format by this ending; name it {', '.join(others)} or {last}, or say format")
    if format == "sheet" and ending != "sheet":
        raise ValueError(f"{'stdout' if path is None else path}: a sheet is a PNG; give a file that ends in .png")
    if format is not None and ending not in (None, format):
        raise ValueError(f"{path}: format {format} was asked for, and the ending says {ending}; change one of both")
    return format or ending or next(iter(known.values()))
