"""The pictures of a run, from plain data: what it learned, what it takes for what, how sure it is, what it bears.

Every function writes one PNG to a path or a binary file, without a display. Shares are 0 to 1 where they come in, and
percent where they are drawn.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from gpuaug.drawing import FAINT, GAP, INK, MARGIN, TEXT, Tile, contact_sheet, heights_of, place, wrapped, write
from gpuaug.drawing import font_for as face_of
from gpuaug.preview import to_image

from . import robustness, runs
from .metrics import percent, wilson

Target = str | Path | BinaryIO
COLOURS = ("#1f6fb4", "#d95f02", "#2a9d5c", "#8e5bb5", "#c43c5c", "#8a6d1f", "#3d8f9b", "#6b7280")
VAL, TRAIN, REST = COLOURS[0], COLOURS[1], COLOURS[-1]
SHARES = {"waiting": "#b9bec8", "augment": TRAIN, "model": VAL}  # of the time of an epoch
NAMES = {"iou": "IoU", "map": "mAP", "map50": "mAP@50"}  # as pictures and pages write them
MOST_LETTERS = 28  # of a class's name
NAMED = 100  # classes whose names stand beside a confusion matrix
FLAT = 4  # classes whose names are written straight below it
COUNTED = 30  # classes whose numbers stand in its cells
DPI = 130
SIDE, COLUMNS = 150, 6  # of the sheet of mistakes: pixels of a tile, tiles of a row


# --- matplotlib without a display -------------------------------------------------------------------------------------
@contextlib.contextmanager
def drawn(target: Target, width: float, height: float, title: str = "", box: str | None = None) -> Iterator:
    """A figure of so many inches, which is written once it is drawn; "tight": without its empty borders."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", **lettered([title]))
    yield figure
    content = io.BytesIO()
    figure.savefig(content, dpi=DPI, format="png", bbox_inches=box)
    _put(content, target)


def write_image(target: Target, image: Image.Image) -> None:
    """An image as a PNG."""
    content = io.BytesIO()
    image.save(content, "PNG")
    _put(content, target)


def _put(content: io.BytesIO, target: Target) -> None:
    """Into a file, whole or not at all, or into one that is open."""
    if isinstance(target, str | Path):
        runs.write(Path(target), content)
    else:
        target.write(content.getbuffer())


def lettered(texts: Sequence[str]) -> dict:
    """Of a matplotlib text: fonts that have the letters of all these, and a $ that is a $."""
    families = dict.fromkeys(["DejaVu Sans", *(face_of(word, TEXT).getname()[0] for t in texts for word in t.split())])
    return {"fontfamily": list(families), "parse_math": False}


def plain(ax, title: str = "", xlabel: str = "", ylabel: str = "") -> None:
    """Axes without a box around them, with lines across."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", alpha=0.25)
    ax.set_axisbelow(True)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_title(title, loc="left", fontsize=10)


def short(name: str, most: int = MOST_LETTERS) -> str:
    """A name of at most so many letters, its middle left out."""
    return name if len(name) <= most else f"{name[: most // 2]}…{name[len(name) - (most - most // 2 - 1) :]}"


# --- the evaluation ---------------------------------------------------------------------------------------------------
def write_confusion(target: Target, confusion: np.ndarray | Sequence, classes: Sequence[str]) -> None:
    """The confusion matrix [K, K], rows of true classes, each cell coloured by its share of the row.

    Up to 30 classes with the numbers, up to 100 with all names; beyond, every n-th class is named. The picture grows
    with the classes: of 100 it has about 2,300 pixels a side.
    """
    counts = np.asarray(confusion)
    k = len(classes)
    cell = float(np.interp(k, [2, 10, 30, NAMED], [1.1, 0.55, 0.34, 0.17]))  # inches
    if k > NAMED:
        cell = 17 / k
    size = max(k * cell, 1.6)
    flat = k <= FLAT
    with np.errstate(invalid="ignore"):
        shares = counts / counts.sum(1, keepdims=True)
    with drawn(target, size + 3.6, size + 2.0, "confusion matrix", "tight") as figure:
        from matplotlib import colormaps
        from matplotlib.colors import PowerNorm

        ax = figure.subplots()
        colours = colormaps["Blues"].with_extremes(bad="#e5e5e5")
        seen = ax.imshow(np.ma.masked_invalid(shares), cmap=colours, norm=PowerNorm(0.5, 0, 1))  # 1% is to be seen
        step = -(-k // NAMED)
        places, names = range(0, k, step), [short(name) for name in classes[::step]]
        letters = {"fontsize": min(9.0, 72 * cell * step * 0.7), **lettered(names)}
        ax.set_xticks(
            places, [fill(name, 12) if flat else name for name in names], rotation=0 if flat else 90, **letters
        )
        ax.set_yticks(places, names, **letters)
        ax.set_xticks(np.arange(k + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(k + 1) - 0.5, minor=True)
        ax.grid(which="minor", color="#ffffff" if k <= COUNTED else "#eef0f3", linewidth=0.8 if k <= COUNTED else 0.3)
        ax.tick_params(which="minor", length=0)
        ax.spines[:].set_visible(False)
        ax.set(xlabel="answer", ylabel="true class")
        ticks = [0, 0.01, 0.05, 0.2, 0.5, 1]
        bar = figure.colorbar(seen, ax=ax, format="{x:.0%}", ticks=ticks, shrink=min(1, 3 / size), aspect=14)
        bar.set_label("of the true class", fontsize=8)
        if k <= COUNTED:
            _write_counts(ax, counts, shares, 72 * cell)


def _write_counts(ax, counts: np.ndarray, shares: np.ndarray, points: float) -> None:
    """The numbers into their cells of so many points a side."""
    longest = len(str(counts.max()))
    size = min(9.0, points * 0.5, points / (0.7 * longest))
    for (row, column), n in np.ndenumerate(counts):
        if n:
            colour = "#ffffff" if shares[row, column] > 0.35 else "#202228"
            ax.text(column, row, str(n), ha="center", va="center", fontsize=size, color=colour)


def write_calibration(target: Target, calibration: Sequence[dict], ece: float) -> None:
    """How often the model is right by how sure it is, with Wilson's intervals of 95%, and how many answers that are.

    ``calibration``: bins as :attr:`gpuaug.finetune.metrics.Evaluation.calibration` has them.
    """
    full = [line for line in calibration if line["n"]]
    x = [100 * line["confidence"] for line in full]
    y = np.array([100 * line["accuracy"] for line in full])
    ends = 100 * np.array([wilson(round(line["accuracy"] * line["n"]), line["n"]) for line in full])
    edges = [100 * line["low"] for line in calibration]
    with drawn(target, 5.2, 5.4) as figure:
        top, bottom = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
        top.plot([0, 100], [0, 100], color=REST, linestyle="--", linewidth=1, label="as sure as right")
        bars = np.clip([y - ends[:, 0], ends[:, 1] - y], 0, None)
        top.errorbar(x, y, bars, color=VAL, marker="o", markersize=5, linewidth=1.6, capsize=2, label="the model")
        top.set(xlim=(0, 100), ylim=(0, 102))
        top.legend(frameon=False, fontsize=9, loc="upper left")
        plain(top, f"calibration: sure and right are {percent(ece)} apart (ECE)", ylabel="right, %")
        bottom.bar(edges, [line["n"] for line in calibration], width=100 / len(edges), align="edge", color=VAL)
        plain(bottom, xlabel="confidence, %", ylabel="answers")


# --- training ---------------------------------------------------------------------------------------------------------
def _series(history: Sequence[Mapping], key: str) -> tuple[list, list]:
    """(epochs, values) of those that have one."""
    pairs = [(line["epoch"], line[key]) for line in history if line.get(key) is not None]
    return [epoch for epoch, _ in pairs], [value for _, value in pairs]


def write_curves(
    target: Target,
    history: Sequence[Mapping],
    *,
    before: float | None = None,
    after: float | None = None,
    title: str = "",
    augmented: bool = True,
    main: str = "accuracy",
    hit: str = "accuracy",
) -> None:
    """Loss, accuracy, learning rate and where the time goes, by epoch; what the history lacks is left out.

    ``history``: the epochs' lines of ``metrics.jsonl``. ``before``, ``after``: accuracy on the test set.
    ``main``: what stands in place of accuracy in validation and test, ``hit`` in training, in the lines' names.
    """
    words = f"{NAMES.get(main, main)}, %" if main == hit else f"{NAMES.get(main, main)}; in training of {hit}, %"
    panels = [("loss", "train_loss", "val_loss", 1), (words, f"train_{hit}", f"val_{main}", 100)]
    rates, timed = _series(history, "lr"), [line for line in history if line.get("shares")]
    n = len(panels) + bool(rates[0]) + bool(timed)
    rows = -(-n // 2)
    with drawn(target, 10.4, 3.5 * rows + 0.3, title) as figure:
        axes = list(figure.subplots(rows, 2, squeeze=False).flat)
        style = {"marker": "o" if len(history) < 40 else None, "markersize": 4, "linewidth": 1.8}
        for ax, (name, train, val, scale) in zip(axes, panels, strict=False):
            plain(ax, name, "epoch")
            for key, colour, word in (
                (train, TRAIN, "train, augmented" if augmented else "train"),
                (val, VAL, "validation"),
            ):
                x, y = _series(history, key)
                if x:
                    ax.plot(x, [scale * value for value in y], color=colour, label=word, **style)
        for value, dashes, word in ((before, ":", "before"), (after, "--", "after")):
            if value is not None:
                axes[1].axhline(100 * value, color=REST, linestyle=dashes, label=f"test {word}: {100 * value:.1f}%")
        rest = iter(axes[len(panels) :])
        if rates[0]:
            ax = next(rest)
            ax.plot(*rates, color=COLOURS[2], **style)
            ax.set_ylim(bottom=0)
            plain(ax, "learning rate at the end of the epoch", "epoch")
        if timed:
            _draw_shares(next(rest), timed)
        for ax in rest:
            ax.remove()
        for ax in axes[:n]:
            ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            if ax.get_legend_handles_labels()[0] and not ax.get_legend():
                ax.legend(frameon=False, fontsize=8)


def _draw_shares(ax, history: Sequence[Mapping]) -> None:
    """Of the time of each epoch, stacked."""
    x, bottom = [line["epoch"] for line in history], np.zeros(len(history))
    for name, colour in SHARES.items():
        part = np.array([100 * (line["shares"].get(name) or 0.0) for line in history])
        ax.bar(x, part, bottom=bottom, width=0.8, color=colour, label=f"{name} {part.mean():.0f}%")
        bottom += part
    ax.set_ylim(0, 118)
    ax.set_yticks(range(0, 101, 25))
    plain(ax, "where the time goes, %", "epoch")
    ax.legend(frameon=False, fontsize=8, ncols=len(SHARES), loc="upper left")


def write_overlaid(
    target: Target,
    histories: Mapping[str, Sequence[Mapping]],
    title: str = "",
    *,
    main: str = "accuracy",
    hit: str = "accuracy",
) -> None:
    """Several runs' loss and accuracy on validation images, of those without any on the training ones; by name.

    ``main``, ``hit``: as in :func:`write_curves`.
    """
    words = f"{NAMES.get(main, main)}, %"
    panels = (("loss", "val_loss", "train_loss", 1), (words, f"val_{main}", f"train_{hit}", 100))
    trained = " (training)" if main == hit else f" ({hit} in training)"
    with drawn(target, 10.4, 3.9, title) as figure:
        for ax, (name, val, train, scale) in zip(figure.subplots(1, 2), panels, strict=True):
            lines, words = [], []
            for i, (run, history) in enumerate(histories.items()):
                x, y = _series(history, val)
                dashes = "-" if x else "--"
                if not x:
                    x, y = _series(history, train)
                colour = COLOURS[i % len(COLOURS)]
                style = {"color": colour, "linestyle": dashes, "linewidth": 1.8, "marker": "o" if len(x) == 1 else None}
                lines += ax.plot(x, [scale * v for v in y], **style)  # a line of one epoch would not be seen
                words.append(short(run, 44) + ("" if dashes == "-" else trained if scale > 1 else " (training)"))
            plain(ax, name, "epoch")
            ax.xaxis.get_major_locator().set_params(integer=True)
            ax.legend(lines, words, frameon=False, prop={"size": 8, "family": lettered(words)["fontfamily"]})


# --- robustness -------------------------------------------------------------------------------------------------------
def write_robustness(target: Target, measured: Mapping[str, dict], title: str = "") -> None:
    """The score against each corruption's strength, with its interval of 95%, of one run or of several.

    ``measured``: by the runs' names, what :func:`gpuaug.finetune.robustness.measure` returns. A corruption that only
    some have is drawn of those.
    """
    every = list(dict.fromkeys(line["name"] for one in measured.values() for line in one["corruptions"]))
    rows = max(1, -(-len(every) // 3))
    with drawn(target, 11, 2.9 * rows + 0.9, title) as figure:
        axes = figure.subplots(rows, 3, squeeze=False, sharey=True)
        for ax, name in zip(axes.flat, every, strict=False):
            for i, one in enumerate(measured.values()):
                _draw_corruption(ax, one, name, COLOURS[i % len(COLOURS)])
        for ax in list(axes.flat)[len(every) :]:
            ax.remove()
        words = [
            f"{short(run, 44)}: {percent(one['clean']['score'])} clean, {percent(one['mean'])} corrupted (mean)"
            for run, one in measured.items()
        ]
        lines = axes.flat[0].get_lines()
        axes.flat[0].set_ylim(0, 103)
        for ax in axes[:, 0]:
            ax.set_ylabel(f"{next(iter(measured.values()))['metric']}, %")
        family = lettered(words)["fontfamily"]
        figure.legend(lines, words, frameon=False, loc="outside lower left", prop={"size": 9, "family": family})


def _draw_corruption(ax, measured: dict, name: str, colour: str) -> None:
    lines = [line for line in measured["corruptions"] if line["name"] == name]
    if not lines:
        return
    points = [measured["clean"], *lines]
    x = [0, *(line["strength"] for line in lines)]
    low, high = (100 * np.array([point["interval"][end] for point in points]) for end in (0, 1))
    ax.plot(x, [100 * point["score"] for point in points], color=colour, marker="o", markersize=4, linewidth=1.8)
    ax.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    ax.set_xticks(x, ["clean", *(line["words"].removeprefix("quality ") for line in lines)], fontsize=8)
    plain(ax, name, lines[0]["unit"])
    ax.xaxis.label.set_size(8)


def write_corruptions(
    target: Target, images: Sequence[Tensor], ids: Sequence[int], size: int, resize: int | None, **keywords: Any
) -> None:
    """What each corruption does to a few images, uint8 [3, H, W], at strengths 1 to 5, in a sheet.

    ``ids``: of the samples, for their draws. ``size``, ``resize``, ``keywords``: as in
    :func:`gpuaug.finetune.robustness.pipelines`.
    """
    names = list(robustness.CORRUPTIONS)
    rows = {name: [[] for _ in images] for name in names}
    for name, strength, pipeline in robustness.pipelines(size, resize, (0.0,) * 3, (1.0,) * 3, **keywords):
        seen = [to_image(pipeline(image[None], ids=[i], epoch=0)[0]) for image, i in zip(images, ids, strict=True)]
        for i, picture in enumerate(seen):
            for row in names if name == "clean" else [name]:
                words = f"{row}, clean" if name == "clean" else robustness.CORRUPTIONS[name].words(strength)
                rows[row][i].append(Tile(picture, words))
    title = "What the corruptions of strengths 1 to 5 do to test images"
    write_image(target, contact_sheet([row for name in names for row in rows[name]], title, side=120))


# --- mistakes ---------------------------------------------------------------------------------------------------------
def write_mistakes(target: Target, mistakes: Sequence[Mapping], images: Sequence[Tensor], title: str = "") -> None:
    """The worst mistakes as a sheet: under each image what the model said, how sure it was, and what is true.

    ``mistakes``: as :func:`gpuaug.finetune.metrics.mistakes` gives them, with a "name" of the image if it shall be
    shown; ``images``: uint8 [3, H, W], one for each, of any sizes. Of none the sheet says so.
    """
    tiles = []
    for line, image in zip(mistakes, images, strict=True):
        words = f"said {line['predicted']} ({line['confidence']:.0%}), is {line['true']}"
        tiles.append(Tile(to_image(image), f"{words}\n{short(line.get('name', ''))}".strip()))
    title = title or "The answers that were surest and wrong"
    write_tiles(target, tiles, title, "None: every answer was right.")


def write_tiles(target: Target, tiles: Sequence[Tile], title: str, none: str = "") -> None:
    """Tiles in rows under a title, the first line under each dark. ``none``: what the sheet says where there are
    none."""
    width = 2 * MARGIN + COLUMNS * (SIDE + GAP) - GAP
    titles = wrapped(title, width - 2 * MARGIN, 20)
    head = MARGIN + 28 * len(titles) + 8
    rows = [tiles[i : i + COLUMNS] for i in range(0, len(tiles), COLUMNS)]
    heights = [heights_of(row, SIDE) for row in rows]
    sheet = Image.new("RGB", (width, head + max(40, sum(whole for _, whole in heights)) + MARGIN // 2), (255, 255, 255))
    pen, y = ImageDraw.Draw(sheet), head
    for i, line in enumerate(titles):
        write(pen, MARGIN, MARGIN - 6 + 28 * i, line, INK, 20)
    if not rows:
        write(pen, MARGIN, y, none, FAINT, 14)
    for row, (tall, whole) in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            place(sheet, tile, MARGIN + column * (SIDE + GAP), y, SIDE, tall, dark=True)
        y += whole
    write_image(target, sheet)
