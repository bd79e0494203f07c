"""The demonstration: what augmentation does for fine-tuning on a few labelled images.

scikit-learn's handwritten digits, real and embedded. A small network learns 997 upright digits. Then its job changes:
the digits to be read are rotated by up to 45 degrees and shifted by up to 4 of 32 pixels, and only ten of each class
are labelled. It is fine-tuned on these hundred twice, for as many steps from the same weights: as they are, and
augmented with ``rotate_shift``. The 500 test digits were moved once, by torchvision and not by the engine shown here;
each seed picks other labelled digits. On one thread of an AMD EPYC, n = 3 seeds: 49.0% before, 66.5% without, 85.8%
with augmentation; other machines differ by a point or two.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from tqdm.auto import tqdm

from gpuaug.data import Parts, Source, digits

from . import pictures
from . import runs as folders
from .config import Config
from .loop import Result, finetune

MODEL = "test_resnet"  # timm's smallest ResNet, 0.37 M parameters
SIZE, TEST, POOL, LABELLED = 32, 500, 300, 10
ARMS = {"without augmentation": "none", "with augmentation": "rotate_shift"}
COLOURS = dict(zip(ARMS, (pictures.VAL, pictures.TRAIN), strict=True))


def moved(source: Source, seed: int) -> Source:
    """Each image rotated by U(-45, 45) degrees and shifted by up to 4 pixels, once (by torchvision, bilinear)."""
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import affine

    rng = torch.Generator().manual_seed(seed)
    angles = (torch.rand(len(source), generator=rng) * 90 - 45).tolist()
    shifts = torch.randint(-4, 5, (len(source), 2), generator=rng).tolist()
    images = [
        affine(
            image, angle=angle, translate=shift, scale=1.0, shear=[0.0, 0.0], interpolation=InterpolationMode.BILINEAR
        )
        for image, angle, shift in zip(source.images, angles, shifts, strict=True)
    ]
    return replace(source, items=torch.stack(images))


def labelled(pool: Source, seed: int) -> Source:
    """LABELLED images of each class of ``pool``, picked by ``seed``."""
    rng = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(pool), generator=rng)
    picks = [order[pool.labels[order] == c][:LABELLED] for c in range(len(pool.classes))]
    return pool.subset(torch.cat(picks).tolist())


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Batches this small gain nothing from a second thread, and lose much where another program has its core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@one_thread()
def demo(out: Path = Path("runs"), seeds: int = 3) -> dict:
    """Run it, print a table, and leave a folder with result.json, curves.png, contact_sheet.png and the runs.

    ``seeds``: repetitions, at least 1. Returns what result.json says; accuracies are 0 to 1.
    """
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}")
    start = time.perf_counter()
    folder = folders.new(out, "demo")
    rest, test = digits(SIZE).split(TEST / 1797, seed=0)
    upright, pool = rest.split(POOL / len(rest), seed=0)
    test_moved, pool = moved(test, seed=1), moved(pool, seed=2)
    print(
        f"scikit-learn's handwritten digits: {len(upright)} upright ones to learn from.\n"
        f"Then only {LABELLED} of each class are labelled, rotated by up to 45 degrees and shifted by up to 4 pixels;\n"
        f"{len(test)} others, moved in the same way, are the test.\n"
    )
    base = Config(
        model=MODEL, recipe="full", augment="none", epochs=8, batch_size=50, lr=0.1, val_fraction=0.0, keep=0,
        robustness=0, quiet=True, out=folder / "upright",
    )  # fmt: skip
    pretrained = finetune(base, parts=Parts("upright", upright, None, test))
    print(f"pre-trained {MODEL} of timm: {pretrained.after:.1%} of {len(test)} upright test digits right")

    weights = str(pretrained.run / folders.WEIGHTS)
    runs: dict[str, list[Result]] = {arm: [] for arm in ARMS}
    jobs = [(seed, arm) for seed in range(seeds) for arm in ARMS]
    for seed, arm in tqdm(jobs, "fine-tuning", unit="run", leave=False, disable=None):
        config = replace(base, augment=ARMS[arm], epochs=30, lr=0.05, seed=seed, weights=weights, out=folder / "moved")
        few = labelled(pool, seed)
        runs[arm].append(finetune(config, parts=Parts("digits", few, None, test_moved)))

    result = summary(pretrained, runs)
    folders.Run(folder).write_json("result.json", result)
    write_curves(folder / "curves.png", runs)
    sheet = folders.Run(runs["with augmentation"][0].run).picture("contact_sheet")
    folders.write(folder / sheet.name, sheet.read_bytes())
    print(table(result))
    print(f"\nlook at {folder}/contact_sheet.png and {folder}/curves.png; it took {time.perf_counter() - start:.0f} s")
    return result


def summary(pretrained: Result, runs: dict[str, list[Result]]) -> dict:
    """The figures of the demonstration, as result.json keeps them."""
    none, augmented = ([r.after for r in runs[arm]] for arm in ARMS)
    return {
        "upright_test_accuracy": pretrained.after,
        "before": runs["with augmentation"][0].before,
        "without_augmentation": none,
        "with_augmentation": augmented,
        "difference": [b - a for a, b in zip(none, augmented, strict=True)],
        "train_accuracy": {ARMS[arm]: [r.history[-1]["train_accuracy"] for r in done] for arm, done in runs.items()},
    }


def table(result: dict) -> str:
    """Both results side by side, in percent of the test digits."""
    none, augmented, gain = (result[k] for k in ("without_augmentation", "with_augmentation", "difference"))
    rows = [(f"seed {i}", *row) for i, row in enumerate(zip(none, augmented, gain, strict=True))]
    if len(rows) > 1:
        rows.append(("mean", *(statistics.mean(column) for column in (none, augmented, gain))))
    line = "─" * 10 + "┼" + "─" * 14 + "┼" + "─" * 22 + "┼" + "─" * 19 + "┼" + "─" * 14
    lines = [
        "",
        "rotated, shifted test digits read right",
        "",
        f"{'':10}│{'before':>13} │{'fine-tuned without':>21} │{'with augmentation':>18} │{'difference':>13} ",
    ]
    for name, a, b, d in rows:
        if name in ("seed 0", "mean"):
            lines.append(line)
        lines.append(f" {name:9}│{result['before']:>13.1%} │{a:>21.1%} │{b:>18.1%} │{100 * d:>+13.1f} ")
    return "\n".join(lines)


def write_curves(path: Path, runs: dict[str, list[Result]]) -> None:
    """Left: training accuracy by epoch. Right: test accuracy of each seed, before, without and with augmentation."""
    title = "ten labelled digits a class, rotated and shifted"
    with pictures.drawn(path, 10.4, 3.8, title) as figure:
        left, right = figure.subplots(1, 2)
        _draw_training(left, runs)
        _draw_tests(right, runs)


def _draw_training(ax, runs: dict[str, list[Result]]) -> None:
    for arm, done in runs.items():
        for i, r in enumerate(done):
            x, y = [h["epoch"] for h in r.history], [100 * h["train_accuracy"] for h in r.history]
            ax.plot(x, y, color=COLOURS[arm], alpha=0.8, linewidth=1.3, label=None if i else arm)
    pictures.plain(ax, "training accuracy, % (of what the model sees)", "epoch")
    ax.legend(frameon=False, fontsize=9, loc="lower right")


def _draw_tests(ax, runs: dict[str, list[Result]]) -> None:
    before = next(iter(runs.values()))[0].before
    for both in zip(*runs.values(), strict=True):
        ax.plot([0, 1, 2], [100 * before, *(100 * r.after for r in both)], color="#c4c8d0", linewidth=1, zorder=1)
    points = [([before], pictures.REST), *(([r.after for r in done], COLOURS[arm]) for arm, done in runs.items())]
    for x, (values, colour) in enumerate(points):
        ax.scatter([x] * len(values), [100 * v for v in values], color=colour, s=36, zorder=2)
        words, above = f"{100 * statistics.mean(values):.1f}%", (x, 100 * max(values))
        ax.annotate(words, above, (0, 9), textcoords="offset points", ha="center", color=colour, fontweight="bold")
    ax.set_xticks([0, 1, 2], ["before", "fine-tuned without", "fine-tuned with\naugmentation"])
    ax.set(xlim=(-0.5, 2.5), ylim=(min(ax.get_ylim()[0], 100 * before) - 5, 100))
    pictures.plain(ax, "test accuracy, % (each seed, and the mean)")
