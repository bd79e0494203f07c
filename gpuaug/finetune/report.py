"""What a run leaves behind: predictions, the contact sheet, the curves."""

from __future__ import annotations

import io
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from gpuaug.data import Loader, Source
from gpuaug.drawing import Tile, contact_sheet
from gpuaug.preview import draw_tiles, one_line, to_image

from . import runs

if TYPE_CHECKING:
    from .opening import Job

TRAIN, VAL, REST = "#d95f02", "#1f6fb4", "#6b7280"


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


def after(job: Job, history: Sequence[dict], before: float, done: float) -> None:
    """What a run leaves once it is done, beside its weights and numbers: pictures."""
    name, folder = job.parts.name, job.run / runs.PICTURES
    folder.mkdir(exist_ok=True)
    augmented = job.learner is job.model and job.config.augment != "none"
    style = {"mean": job.input.mean, "std": job.input.std, "name": name, "augmented": augmented}
    write_contact_sheet(folder / "contact_sheet.png", job.augment, job.parts.train, job.accelerator.device, **style)
    resolved = job.facts["resolved"]
    title = f"{resolved['model']} on {name}, {resolved['recipe']}"
    write_curves(folder / "curves.png", history, before, done, title, augmented)


def write_predictions(job: Job, ids: torch.Tensor, labels: torch.Tensor, logits: torch.Tensor) -> None:
    """predictions.npz of the test part: ids int64 [N], labels, logits float32 [N, K], and paths as strings."""
    source, content = job.parts.test, io.BytesIO()
    items = [""] * len(source) if source.images is not None else map(str, source.items)
    path_of = dict(zip(source.ids.tolist(), items, strict=True))
    paths = np.array([path_of[id] for id in ids.tolist()])
    np.savez(content, ids=ids.numpy(), labels=labels.numpy(), logits=logits.numpy(), paths=paths)
    runs.write(job.run / "predictions.npz", content)


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
    (in one of them where nothing is ``augmented``)."""
    epochs = epochs if augmented else 1
    step = max(1, len(source) // images)
    first = source.labels if source.labels.ndim == 1 else source.labels.argmax(1)
    by_class = torch.argsort(first, stable=True)[step // 2 :: step][:images]
    some, rows = source.subset(by_class.tolist()), []
    for pictures, labels, ids in Loader(some, 1, device=device, workers=0):
        label, i = labels[0], int(ids)
        names = some.classes[label] if label.ndim == 0 else ", ".join(some.classes[k] for k in label.nonzero()[:, 0])
        seen = [draw_tiles(pictures[0], augment, [i], mean, std, epoch)[0] for epoch in range(epochs)]
        rows.append([Tile(to_image(pictures[0]), f"{names}  #{i}"), *seen])
    when = f"epochs 1 to {epochs}" if augmented else "every epoch"
    title = f"{name}: training images, and what the model sees of them in {when}"
    contact_sheet(rows, title, one_line(augment)).save(path)


def new_figure(panels: int, title: str):
    """(figure, axes) of plain line plots side by side, drawn without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * panels, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", alpha=0.25)
        ax.set_xlabel("epoch")
    return figure, axes


def write_curves(
    path: Path, history: Sequence[dict], before: float, after: float, title: str, augmented: bool = True
) -> None:
    """Loss and accuracy by epoch; the test accuracy before and after as level lines."""
    figure, (left, right) = new_figure(2, title)
    x = [h["epoch"] for h in history]
    marker = "o" if len(x) < 40 else None
    train = "train, augmented" if augmented else "train"
    style = {"marker": marker, "markersize": 4, "linewidth": 1.8}
    left.plot(x, [h["train_loss"] for h in history], color=TRAIN, label=train, **style)
    right.plot(x, [100 * h["train_accuracy"] for h in history], color=TRAIN, label=train, **style)
    if history and history[0]["val_loss"] is not None:
        left.plot(x, [h["val_loss"] for h in history], color=VAL, label="validation", **style)
        right.plot(x, [100 * h["val_accuracy"] for h in history], color=VAL, label="validation", **style)
    for value, dashes, word in ((before, ":", "before"), (after, "--", "after")):
        right.axhline(100 * value, color=REST, linestyle=dashes, label=f"test {word}: {100 * value:.1f}%")
    left.set_title("loss", loc="left", fontsize=10)
    right.set_title("accuracy, %", loc="left", fontsize=10)
    for ax in (left, right):
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)
