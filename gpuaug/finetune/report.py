"""What a run leaves behind: predictions, the contact sheet, the page."""

from __future__ import annotations

import contextlib
import io
import os
import platform
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gpuaug.data import Loader, Source
from gpuaug.data.clips import Clip
from gpuaug.data.items import Made, Slice
from gpuaug.drawing import Tile, contact_sheet
from gpuaug.preview import draw_tiles, one_line, to_image

from . import evaluating, page, pictures, runs, tensorboard

if TYPE_CHECKING:
    from .checkpoint import Interrupt
    from .opening import Job

LETTERS = 300  # of a text that are kept beside its prediction


def device_name(device: torch.device) -> str:
    """The hardware's own name, with the number of threads on a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return str(device)
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    name = found[1].strip() if found else platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads"


def before(job: Job) -> None:
    """What a run leaves before its first epoch, beside config.json: what the model is going to see."""
    if job.main:
        job.task.before(job, runs.Run(job.run))


@contextlib.contextmanager
def kept(job: Job, interrupt: Interrupt) -> Iterator[None]:
    """A run that ends early inside of this leaves its curves and a page that says so; asked twice it ends at once."""
    try:
        yield
    except BaseException as error:
        tested = any(line["event"] == "after" for line in job.lines)  # then resume writes what is lacking
        if job.main and not tested and not interrupt.again:
            _stopped(job, error)
        raise


def _stopped(job: Job, error: BaseException) -> None:
    try:
        page.write(job.run, str(error))
    except Exception as second:  # the first error is the one to be told
        job.screen.say(f"report   not written: {second}")


def after(job: Job) -> None:
    """What a run leaves once it is done, beside its weights and numbers: robustness, pictures and report.html. Every
    process calls it, one writes."""
    job.task.measure(job, runs.Run(job.run))
    if job.main:
        job.task.after(job, runs.Run(job.run))
        evaluating.complete(job.run)
        tensorboard.after(job)
        page.write(job.run)


def write_predictions(job: Job, ids: torch.Tensor, labels: torch.Tensor, logits: torch.Tensor) -> None:
    """predictions.npz of the test part."""
    store_predictions(job.run, job.parts.test, ids, labels, logits)


def store_predictions(
    folder: Path, source: Source, ids: torch.Tensor, labels: torch.Tensor, logits: torch.Tensor
) -> None:
    """predictions.npz in a folder: ids int64 [N], labels, logits float32 [N, K], and paths as strings, empty for images
    of ``source`` that have none."""
    content = io.BytesIO()
    items = [""] * len(source) if source.images is not None else map(_path, source.items)
    path_of = dict(zip(source.ids.tolist(), items, strict=True))
    paths = np.array([path_of[id] for id in ids.tolist()])
    np.savez(content, ids=ids.numpy(), labels=labels.numpy(), logits=logits.numpy(), paths=paths)
    runs.write(folder / runs.PREDICTIONS, content)


def store_texts(folder: Path, source: Source, ids: torch.Tensor, labels: torch.Tensor, logits: torch.Tensor) -> None:
    """As :func:`store_predictions`, of texts: the beginning of each in place of a path."""
    content = io.BytesIO()
    text_of = dict(zip(source.ids.tolist(), source.items, strict=True))
    texts = np.array([text_of[id][:LETTERS] for id in ids.tolist()])
    np.savez_compressed(content, ids=ids.numpy(), labels=labels.numpy(), logits=logits.numpy(), texts=texts)
    runs.write(folder / runs.PREDICTIONS, content)


def _path(item: Any) -> str:
    return str(item) if isinstance(item, str | os.PathLike | Slice | Made | Clip) else ""


def write_contact_sheet(
    path: Path,
    augment,
    source: Source,
    device: torch.device,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    name: str,
    augmented: bool = True,
    images: int = 8,
    epochs: int = 6,
) -> None:
    """``images`` training images, spread over the classes, and what the model sees of each in its first ``epochs``
    (in one of them where nothing is ``augmented``). Damaged ones are left out; of none there is no sheet."""
    epochs = epochs if augmented else 1
    step = max(1, len(source) // images)
    first = source.labels if source.labels.ndim == 1 else source.labels.argmax(1)
    by_class = torch.argsort(first, stable=True)[step // 2 :: step][:images]
    some, rows = source.subset(by_class.tolist()), []
    for shown, labels, ids in Loader(some, 1, device=device, workers=0, max_bad=1.0):
        label, i = labels[0], int(ids)
        names = some.classes[label] if label.ndim == 0 else ", ".join(some.classes[k] for k in label.nonzero()[:, 0])
        seen = [draw_tiles(shown[0], augment, [i], mean, std, epoch)[0] for epoch in range(epochs)]
        rows.append([Tile(to_image(shown[0]), f"{names}  #{i}"), *seen])
    when = ("epoch 1" if epochs == 1 else f"epochs 1 to {epochs}") if augmented else "every epoch"
    title = f"{name}: training images, and what the model sees of them in {when}"
    if rows:
        pictures.write_image(path, contact_sheet(rows, title, one_line(augment)))
