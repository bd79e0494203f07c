"""How a classifier bears what cameras, angles and networks do to images: its test set, corrupted at five strengths.

In the manner of Hendrycks and Dietterich, 2019 ("Benchmarking neural network robustness to common corruptions and
perturbations"): six corruptions, each an ordinary :class:`gpuaug.Compose` with a fixed seed, so that a sample has the
same draw, by its id, in every run. Strengths have units; noise and JPEG at one strength hurt small images more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gpuaug as ga
from gpuaug.messages import meant, shown
from gpuaug.presets import OPEN

from . import runs
from .metrics import Evaluation

STRENGTHS = (1, 2, 3, 4, 5)
SEED = 20190301  # of all draws; a sample leans to the same side at every strength


@dataclass(frozen=True)
class Corruption:
    """One thing that befalls images. Call it with a strength to get its ops.

    Attributes:
        values: of strengths 1 to 5, in ``unit``. said: a value in words, as "10°".
        make: (value, size) -> ops. framed: its ops work on the model's input, behind the crop; else on the whole image,
            in front of it, so that corners show what lies outside of the crop.
    """

    name: str
    unit: str
    values: tuple[float, float, float, float, float]
    said: str
    make: Callable[[float, int], list]
    framed: bool = True

    def __call__(self, strength: int, size: int = 224) -> list:
        """The ops of a strength in 1 .. 5, for inputs of ``size`` pixels a side. Raises ValueError for another one."""
        return self.make(self.value(strength), size)

    def value(self, strength: int) -> float:
        """What a strength in 1 .. 5 is in ``unit``."""
        if strength not in STRENGTHS:
            raise ValueError(f"{self.name}: strength must be a whole number in 1 .. 5, got {shown(strength)}")
        return self.values[STRENGTHS.index(strength)]

    def words(self, strength: int) -> str:
        """A strength as captions have it: ``10°``."""
        return self.said.format(self.value(strength))


def _rotation(degrees: float, size: int) -> list:
    turns = (ga.RandomRotation((a, a), interpolation="bilinear", fill=OPEN) for a in (degrees, -degrees))
    return [ga.RandomChoice(list(turns))]


def _scale(factor: float, size: int) -> list:
    zooms = (ga.RandomAffine(0, scale=(f, f), interpolation="bilinear", fill=OPEN) for f in (factor, 1 / factor))
    return [ga.RandomChoice(list(zooms))]


def _blur(percent: float, size: int) -> list:
    sigma = percent * size / 100
    return [ga.GaussianBlur(2 * min(math.ceil(3 * sigma), (size - 1) // 2) + 1, sigma)]


CORRUPTIONS: dict[str, Corruption] = {
    c.name: c
    for c in (
        Corruption("rotation", "degrees, to the left or the right", (10, 20, 30, 45, 60), "{:g}°", _rotation, False),
        Corruption("scale", "times larger or smaller", (1.1, 1.25, 1.5, 1.75, 2), "×÷{:g}", _scale, False),
        Corruption("blur", "standard deviation in % of the side", (0.5, 1, 1.5, 2, 3), "{:g}%", _blur),
        Corruption(
            "noise",
            "standard deviation, of black 0 to white 1",
            (0.02, 0.05, 0.1, 0.15, 0.2),
            "{:g}",
            lambda sigma, size: [ga.GaussianNoise(sigma=sigma)],
        ),
        Corruption(
            "contrast",
            "of the contrast is left",
            (0.7, 0.5, 0.35, 0.2, 0.1),
            "{:.0%}",
            lambda factor, size: [ga.ColorJitter(contrast=(factor, factor))],
        ),
        Corruption("jpeg", "quality", (50, 30, 20, 10, 5), "quality {:g}", lambda quality, size: [ga.JPEG(quality)]),
    )
}


def chosen(names: Sequence[str] | None = None) -> list[Corruption]:
    """The corruptions of these names, None for all. Raises ValueError for a name that is not there."""
    names = list(CORRUPTIONS) if names is None else list(names)
    for name in names:
        if name not in CORRUPTIONS:
            known = ", ".join(CORRUPTIONS)
            raise ValueError(f"there is no corruption {shown(name)}: choose of {known}{meant(name, CORRUPTIONS)}")
    return [CORRUPTIONS[name] for name in names]


def pipelines(
    size: int,
    resize: int | None,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    names: Sequence[str] | None = None,
    dtype: torch.dtype = torch.float32,
    interpolation: str = "bilinear",
    front: Sequence | None = None,
    **compose: Any,
) -> Iterator[tuple[str, int, ga.Compose]]:
    """(name, strength, pipeline), first ("clean", 0, what the model is tested with), then each corruption of ``names``.

    Every pipeline scales the shorter side to ``resize`` (``size`` if None), corrupts, cuts out the middle of ``size``
    pixels a side, and ends in ``dtype``, normalised. Call it with ``ids`` and ``epoch=0``, as a Loader's first pass is.
    ``interpolation``: of the scaling, which is antialiased. ``front``: ops in the place of it, behind which images stay
    whole; masks and boxes move with them, and what lies outside is 255 in masks.
    ``compose``: further keywords of Compose (``backend``, ``memory_format``). Raises ValueError for an unknown name.
    """

    def pipeline(before: list, framed: list) -> ga.Compose:
        scaled = ga.Resize(size if resize is None else resize, interpolation, antialias=True)
        ops = [scaled, *before, ga.CenterCrop(size), *framed]
        if front is not None:
            ops = [*front, *before, *framed]
        return ga.Compose([*ops, ga.ToDtype(dtype, scale=True), ga.Normalize(mean, std)], seed=SEED, **compose)

    picked = chosen(names)
    yield "clean", 0, pipeline([], [])
    for corruption in picked:
        for strength in STRENGTHS:
            ops = corruption(strength, size)
            yield corruption.name, strength, pipeline(*(([], ops) if corruption.framed else (ops, [])))


def measure(
    predict: Callable[[Tensor], Tensor],
    loader_of: Callable[[ga.Compose], Iterable[tuple[Tensor, Tensor, Any]]],
    classes: Sequence[str],
    size: int,
    resize: int | None,
    mean: Sequence[float],
    std: Sequence[float],
    progress: Callable[[Iterable], Iterable] = iter,
    **keywords: Any,
) -> dict[str, Any]:
    """How good ``predict`` is on the clean test set and on each corruption of it, as robustness.json keeps it.

    ``predict``: images [B, 3, size, size] -> logits [B, K]. ``loader_of``: of a pipeline, one pass over the test set's
    (images, labels, ids) through it, as ``lambda p: Loader(test, 256, p)``; it is asked 31 times. ``progress`` wraps
    that loop, as tqdm. The rest as in :func:`pipelines`.

    Returns {"metric": "accuracy" or "mAP", "n", "clean": {"score", "interval"}, "mean": of all corrupted scores,
    "corruptions": [{"name", "strength", "value", "words", "unit", "score", "interval"}]}; scores are 0 to 1.
    Raises ValueError for a loader without samples, and as :meth:`gpuaug.finetune.metrics.Evaluation.of`.
    """
    every = list(pipelines(size, resize, mean, std, **keywords))
    return collected(every, lambda pipeline: _evaluated(predict, loader_of(pipeline), classes), progress)


def collected(
    every: Sequence[tuple[str, int, ga.Compose]],
    evaluated: Callable[[ga.Compose], Any],
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict[str, Any]:
    """What :func:`measure` returns, of ``evaluated``: a pipeline to figures that have n, score, score_name and
    score_interval, or to None where a corruption leaves nothing to be judged. ``every``: as :func:`pipelines` gives
    them."""
    lines: list[dict] = []
    for name, strength, pipeline in progress(every):
        found = evaluated(pipeline)
        if found is None:
            continue
        score = {"score": found.score, "interval": list(found.score_interval)}
        if name == "clean":
            result = {"metric": found.score_name, "n": found.n, "clean": score}
            continue
        one = CORRUPTIONS[name]
        lines.append({"name": name, "strength": strength, "value": one.value(strength), "words": one.words(strength)})
        lines[-1] |= {"unit": one.unit, **score}
    mean_score = sum(line["score"] for line in lines) / len(lines) if lines else None
    return {**result, "mean": mean_score, "corruptions": lines}


def write(run: str | Path, measured: dict[str, Any]) -> Path:
    """Write what :func:`measure` returned as a run's robustness.json, and return its path.

    :func:`gpuaug.finetune.page.write` then shows it, with pictures/corruptions.png if
    :func:`gpuaug.finetune.pictures.write_corruptions` was asked for that.
    """
    found = runs.Run(run)
    found.write_json(runs.ROBUSTNESS, measured)
    return found.path(runs.ROBUSTNESS)


@torch.no_grad()
def _evaluated(predict: Callable[[Tensor], Tensor], loader: Iterable, classes: Sequence[str]) -> Evaluation:
    logits, labels = [], []
    for images, truth, *_ in loader:
        logits.append(predict(images))
        labels.append(truth)
    if not logits:
        raise ValueError("the loader of the test set gave no batch; there is nothing to evaluate")
    return Evaluation.of(torch.cat(logits), torch.cat(labels), classes)
