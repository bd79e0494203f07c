"""What a fine-tuned model answers for images: decoded ahead while it works, and kept as a table, in their order."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gpuaug.data import DataError, Loader, Source, header, read
from gpuaug.messages import shown

from . import models
from .asking import ON_CPU, ON_DEVICE, Answers, Asking, Chunk
from .predicting import answered

if TYPE_CHECKING:
    from .saved import Classifier

ON_SHEET = 120  # images at most
THRESHOLD = 0.5
ON_THE_WAY = 1  # batches whose answers a CUDA device still works on
THUMBNAIL = 300  # pixels of the shorter side, at least, that an image is decoded to for the sheet


# --- what comes out ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Prediction:
    """What the model answers for one image.

    Attributes:
        path: the file as it was named or found; "image 3" of what is none.
        answers: (class, probability) of those asked for, the surest first; may be empty for several labels a sample.
        error: why the image could not be read, "" where it could.
    """

    path: str
    answers: tuple[tuple[str, float], ...] = ()
    error: str = ""

    @property
    def answer(self) -> str:
        """The surest, "" of none."""
        return self.answers[0][0] if self.answers else ""

    @property
    def probability(self) -> float | None:
        """Of the surest."""
        return self.answers[0][1] if self.answers else None

    def as_row(self, columns: int) -> dict[str, Any]:
        """path, answer, probability, answer_2, probability_2 and so on to so many, error. None: there is no such."""
        row: dict[str, Any] = {"path": self.path}
        for i in range(columns):
            name, value = self.answers[i] if i < len(self.answers) else (None, None)
            more = f"_{i + 1}" * bool(i)
            row |= {f"answer{more}": name, f"probability{more}": value}
        return row | {"error": self.error or None}

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        answers = [{"answer": name, "probability": value} for name, value in self.answers]
        return {"path": self.path, "answers": answers, "error": self.error or None}


@dataclass(frozen=True, eq=False, repr=False)
class Predictions(Answers):
    """One :class:`Prediction` for each image, in the order given.

    Attributes:
        classes: names, [K]. probabilities: float32 [N, K] of all classes, on the host; NaN for images that could not be
            read.
    """

    made: list[Prediction]
    classes: tuple[str, ...]
    probabilities: Tensor
    columns: int
    source: Source = field(repr=False)

    def as_rows(self) -> list[dict[str, Any]]:
        """A flat dict an image, all with the same keys, as a DataFrame takes them: see :meth:`Prediction.as_row`."""
        return [one.as_row(self.columns) for one in self.made]

    def as_csv(self) -> str:
        return "".join(csv_lines(self.made, self.columns))

    def as_json(self) -> str:
        """A list with an object an image: path, answers, error."""
        return json.dumps([one.as_dict() for one in self.made], indent=1) + "\n"

    def as_sheet(self) -> bytes:
        """A PNG of the images, each with its answers; of the first 120, which its title then says."""
        from gpuaug.drawing import Tile

        from .pictures import short, write_tiles

        some, tiles = self.made[:ON_SHEET], []
        for one, item in zip(some, self.source.items, strict=False):
            words = [f"{name}  {value:.1%}" for name, value in one.answers]
            words = [one.error] if one.error else words or ["none of the classes"]
            name = short(Path(one.path).name)
            tiles.append(Tile(thumbnail(item), "\n".join([*words, name])))
        title = f"{len(self):,} image{'s' * (len(self) != 1)}"
        if len(self) > len(some):
            title = f"The first {len(some)} of {len(self):,} images"
        content = io.BytesIO()
        write_tiles(content, tiles, f"{title}, and what the model answers")
        return content.getvalue()


def thumbnail(item: Any):
    """A picture of an image, grey of one that cannot be read."""
    from PIL import Image

    from gpuaug.preview import to_image

    if isinstance(item, Tensor) and item.ndim == 3 and item.shape[0] == 3:
        return to_image(item)
    with contextlib.suppress(DataError):
        known = header(item)
        shrink = next(s for s in (8, 4, 2, 1) if s == 1 or min(known.height, known.width) // s >= THUMBNAIL)
        return Image.fromarray(np.ascontiguousarray(read(item, shrink=shrink)))
    return Image.new("RGB", (THUMBNAIL, THUMBNAIL), (225, 225, 225))


def csv_lines(made: Iterable[Prediction], columns: int, kind: type[Prediction] = Prediction) -> Iterator[str]:
    """A line of CSV with the names of the columns of such a ``kind``, and one for each of them."""
    content = io.StringIO()
    writer = csv.DictWriter(content, kind("").as_row(columns), lineterminator="\n")

    def line() -> str:
        text = content.getvalue()
        content.seek(content.truncate(0))
        return text

    writer.writeheader()
    yield line()
    for one in made:
        writer.writerow(one.as_row(columns))
        yield line()


# --- between ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Asked(Asking):
    """What is wanted of a classifier, checked: see :meth:`gpuaug.finetune.saved.Classifier.predict`."""

    model: Classifier
    top: int | None = None
    threshold: float | None = None
    tta: str = "none"

    def __post_init__(self) -> None:
        most, about = len(self.model.classes), self.model.about
        if self.top is not None and not 1 <= self.top <= most:
            raise ValueError(f"top must be in 1 .. {most}, the classes of {about.model}; got {self.top}")
        if self.threshold is not None and not about.several:
            raise ValueError("threshold is for models of several labels a sample, and this has one; leave it out")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be in 0 .. 1, got {self.threshold}")
        if self.tta not in ("none", "flip"):
            raise ValueError(f"tta must be one of none, flip; got {shown(self.tta)}")
        super().__post_init__()

    @property
    def several(self) -> bool:
        return self.model.about.several

    @property
    def most(self) -> int:
        """Answers an image, at most."""
        return self.top or (len(self.model.classes) if self.several else 1)

    @property
    def usual_batch(self) -> int:
        """Samples that the model gets at a time, where nothing is said."""
        return ON_CPU if self.model.device.type == "cpu" else ON_DEVICE

    def loader(self, source: Source) -> Loader:
        """Of the model's input."""
        device = self.model.device
        batch_size = self.batch_size or self.usual_batch
        pipeline = self.model._input(memory_format=models.layout(device)).plain()
        return Loader(source, batch_size, pipeline, device=device, workers=self.workers, max_bad=1.0)

    def answers(self, probabilities: Tensor) -> list[tuple[tuple[str, float], ...]]:
        """Of each row, [B, K] on the host."""
        values, places = probabilities.topk(self.most, dim=1)
        least = (THRESHOLD if self.threshold is None else self.threshold) if self.several else 0.0
        classes = self.model.classes
        return [
            tuple((classes[k], float(f"{p:.6g}")) for p, k in zip(*row, strict=True) if p >= least)
            for row in zip(values.tolist(), places.tolist(), strict=True)
        ]

    def answered(
        self, loader: Loader, names: Sequence[str]
    ) -> Iterator[tuple[list[int], list[Prediction], Sequence[Tensor]]]:
        """(places, predictions, probabilities float32 [K] of each) of those that could be read."""
        for places, probabilities in _batches(self, loader):
            made = zip(places, self.answers(probabilities), strict=True)
            yield places, [Prediction(names[place], answers) for place, answers in made], probabilities.unbind()

    def missing(self, name: str, error: str) -> Prediction:
        return Prediction(name, error=error)

    def gathered(self, source: Source, chunks: Iterable[Chunk]) -> Predictions:
        chunks, none = list(chunks), torch.full((len(self.model.classes),), torch.nan)
        made = [one for some, _ in chunks for one in some]
        rows = [none if row is None else row for _, some in chunks for row in some]
        return Predictions(made, self.model.classes, torch.stack(rows), self.columns(made), source)

    def columns(self, made: Iterable[Prediction] = ()) -> int:
        """How many answers a row has room for: of several labels as many as one image got, but one."""
        return max((len(one.answers) for one in made), default=1) or 1 if self.several else self.most

    def lines(self, chunks: Iterable[Chunk]) -> Iterator[str] | None:
        return None if self.several else csv_lines((one for some, _ in chunks for one in some), self.columns())


def _batches(asked: Asked, loader: Loader) -> Iterator[tuple[list[int], Tensor]]:
    """(places, probabilities float32 [B, K] on the host) of those that could be read."""
    model = asked.model

    @torch.no_grad()
    def made(x: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        return ids, model.probabilities(answered(model.model, x, asked.tta).float())

    batches = ((x, ids) for x, _, ids in loader)
    if model.device.type == "cpu":
        found = on_cores(made, batches, len(loader.source) // loader.batch_size)
    else:
        found = _one_ahead(made, batches)
    with contextlib.closing(found):
        for ids, probabilities in found:
            yield ids.tolist(), probabilities.cpu()


def on_cores(made: Callable[..., Any], batches: Iterator[tuple], several: int) -> Iterator[Any]:
    """What ``made`` makes of each batch on a CPU, in order. Where there are ``several`` for each core, a batch has one
    to itself, so that none waits for another at every layer, or for one that decodes."""
    threads = torch.get_num_threads()
    if threads == 1 or several < 2 * threads:
        yield from (made(*batch) for batch in batches)
        return
    pool = ThreadPoolExecutor(threads, "predict", torch.set_num_threads, (1,))
    waiting: deque[Future] = deque()
    try:
        for batch in batches:
            waiting.append(pool.submit(made, *batch))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # each thread has a number of its own, and MKL one for all


def _one_ahead(made: Callable[..., Any], batches: Iterator[tuple]) -> Iterator[tuple[Tensor, Tensor]]:
    """The same, on a device: on CUDA the next batch is launched before the last one's answers are waited for."""
    waiting: deque[tuple] = deque()
    for batch in batches:
        found = made(*batch)
        if found[0].device.type != "cuda":
            yield found
            continue
        known = [one.to("cpu", non_blocking=True) for one in found]
        waiting.append((known, torch.cuda.current_stream().record_event()))
        if len(waiting) > ON_THE_WAY:
            known, done = waiting.popleft()
            done.synchronize()  # SYNC: once a batch, of the one before
            yield known
    for known, done in waiting:
        done.synchronize()
        yield known
