"""What a run leaves behind: its folder, the contact sheet, the curves."""

from __future__ import annotations

import json
import platform
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

import torch

from gpuaug.data import Parts, Source
from gpuaug.drawing import Tile, contact_sheet
from gpuaug.preview import draw_tiles, one_line, to_image

from .config import Config

TRAIN, VAL, REST = "#d95f02", "#1f6fb4", "#6b7280"


def new_folder(out: str | Path, name: str) -> Path:
    """A folder ``out/NNN-name`` that was not there before; NNN counts up. Safe against a second run starting now."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9_.=-]+", "-", name).strip("-")
    taken = [int(m[1]) for entry in out.iterdir() if (m := re.match(r"(\d+)-", entry.name))]
    number = max(taken, default=0) + 1
    while True:
        path = out / f"{number:03d}-{name}"
        try:
            path.mkdir()
            return path
        except FileExistsError:
            number += 1


def append_metrics(run: Path, record: dict) -> None:
    """Add one line to ``metrics.jsonl``."""
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


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


def run_words(run: Path, config: Config, parts: Parts, model, origin: str, augment, train) -> str:
    """What is about to happen, for the screen."""
    counts = f"{len(parts.train):,} training"
    counts += f", {len(parts.val):,} validation" if parts.val else ""
    where = "resident on the device" if train.resident else f"streamed by {config.workers} workers"
    pipeline = textwrap.indent(repr(augment), " " * 9).lstrip()
    side, k, m = parts.train.size, len(parts.train.classes), sum(p.numel() for p in model.parameters()) / 1e6
    return (
        f"run      {run}\n"
        f"data     {parts.name}: {counts} and {len(parts.test):,} test images, {k} classes, {side}x{side}, {where}\n"
        f"model    {config.model}, {m:.2f} M parameters, {origin}, on {device_name(train.device)}\n"
        f"augment  {config.augment}:\n         {pipeline}"
    )


def epoch_words(line: dict, epochs: int, best: bool) -> str:
    """One epoch in one line for the screen."""
    val = "" if line["val_accuracy"] is None else f"  val {line['val_accuracy']:6.1%}"
    share = "" if line["augment_share"] is None else f"  augment {line['augment_share']:4.0%} of the time"
    return (
        f"epoch {line['epoch']:2d}/{epochs}  loss {line['train_loss']:.3f}  train {line['train_accuracy']:6.1%}{val}"
        f"  {line['images_per_second']:7,.0f} images/s{share}{'  best' if val and best else ''}"
    )


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
    by_class = torch.argsort(source.labels, stable=True)[step // 2 :: step][:images]
    some = source.subset(by_class.tolist()).decoded()
    rows = []
    for image, label, i in zip(some.images, some.labels, some.ids, strict=True):
        seen = [draw_tiles(image.to(device), augment, [int(i)], mean, std, epoch)[0] for epoch in range(epochs)]
        rows.append([Tile(to_image(image), f"{some.classes[label]}  #{int(i)}"), *seen])
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
