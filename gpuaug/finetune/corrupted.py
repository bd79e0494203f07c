"""Robustness as a run and an evaluation have it measured: on which images, by which model, and what is left of it."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

import gpuaug as ga
from gpuaug.data import DataError, Loader, Parts, Source

from . import evaluating, feed, pictures, robustness, runs, sharing
from .config import Config
from .feed import Input
from .metrics import percent
from .predicting import answered
from .recipes import Recipe

if TYPE_CHECKING:
    from .opening import Job

LEAST, MOST = 40, 1000  # images, where nothing is said
PASSES = 1 + len(robustness.CORRUPTIONS) * len(robustness.STRENGTHS)
BACKWARD = 3  # times the work of an image that is only looked at, for one that is learned from
SHARE = 0.1  # of the training's work, at most, where LEAST does not ask for more
SHOWN = 2  # images in corruptions.png
LEFT_OUT = r"\d+ files were left out of epoch"  # what a Loader warns of


# --- which images -----------------------------------------------------------------------------------------------------
def decided(
    config: Config, recipe: Recipe, parts: Parts, passes: int = PASSES, noun: str = "image"
) -> tuple[int, list[str]]:
    """(how many test images are corrupted, what was decided, in words).

    Where nothing is said so many that looking at them ``passes`` times is a tenth of the training's work, which is
    three looks at each training image in each epoch, or with the recipe probe one at every image; at least 40, at most
    1,000.
    """
    there = len(parts.test)
    if config.robustness is not None:
        return min(config.robustness, there), []
    every = (parts.train, parts.val, parts.test)
    looks = BACKWARD * recipe.epochs * len(parts.train)
    if recipe.name == "probe":
        looks = sum(len(part) for part in every if part is not None)
    n = min(max(int(SHARE * looks / passes), LEAST), MOST, there)
    which, share = f"all {n:,}" if n == there else f"{n:,} of the {there:,}", passes * n / looks
    least = "; fewer would say nothing, and 0 leaves it out" if share > 2 * SHARE else ""
    return n, [f"robustness: {which} test {noun}s under {passes - 1} corruptions, {share:.0%} more work{least}"]


def spread(source: Source, n: int) -> Source:
    """``n`` samples, or all where there are fewer: of each class in proportion, and always the same ones of a data set,
    in whatever order it comes."""
    if n >= len(source):
        return source
    labels = torch.zeros(len(source)) if source.labels is None else source.labels
    first = labels if labels.ndim == 1 else labels.argmax(1)
    order = np.lexsort((source.ids.numpy(), first.numpy()))
    places = order[((np.arange(n) + 0.5) * len(source) / n).astype(int)]
    return source.subset(sorted(places.tolist()))


def mark(source: Source) -> str:
    """Of which samples they are, in whatever order."""
    return hashlib.blake2b(np.sort(source.ids.numpy()).tobytes(), digest_size=8).hexdigest()


def read_once(source: Source, input: Input, workers: int, whole: bool = True) -> Source:
    """The samples in memory, those that can be read: uint8 images as they are, or of the model's shorter side."""
    if source.images is not None:
        return source
    side = input.size if input.resize is None else input.resize
    scaled = None if whole else ga.Compose([ga.Resize(side, input.interpolation, antialias=True)], seed=0)
    loader, found = Loader(source, 32, scaled, workers=workers, max_bad=1.0), {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", LEFT_OUT)
        for images, _, ids in loader:
            found |= zip(ids.tolist(), images, strict=True)
    if not found:
        raise DataError(f"robustness: none of {len(source)} images can be read, {loader.report.bad[0]}")
    good = source.subset([i for i, id in enumerate(source.ids.tolist()) if id in found])
    images = [found[id] for id in good.ids.tolist()]
    if len({image.shape for image in images}) == 1:
        return replace(good, items=torch.stack(images), clips=None)
    return replace(good, items=tuple(image.permute(1, 2, 0).contiguous().numpy() for image in images))


# --- the measurement --------------------------------------------------------------------------------------------------
def measure(
    predict: Callable[[Tensor], Tensor],
    source: Source,
    n: int,
    input: Input,
    config: Config,
    batch_size: int,
    device: torch.device,
    progress: Callable[[Iterable], Iterable] = iter,
) -> tuple[dict[str, Any], Source]:
    """(what :func:`gpuaug.finetune.robustness.measure` returns, of ``n`` of the samples of ``source``; these samples).

    Beside it stand "images", a mark of which samples these are, and "of", how many there were. ``predict``: images
    [B, 3, size, size] on ``device`` -> logits [B, K].
    """
    some = spread(source, n)
    some = read_once(some, input, config.workers, feed.fits(some, config, torch.device("cpu")))

    def loader_of(pipeline: ga.Compose) -> Loader:
        return Loader(some, batch_size, pipeline, device=device, workers=config.workers)

    compose = {name: value for name, value in input.compose.items() if name != "seed"}
    found = robustness.measure(
        predict, loader_of, source.classes, input.size, input.resize, input.mean, input.std, progress,
        dtype=input.dtype, interpolation=input.interpolation, **compose,
    )  # fmt: skip
    return found | {"images": mark(some), "of": len(source)}, some


def leave(run: runs.Run, measured: dict[str, Any], some: Source, input: Input) -> None:
    """robustness.json and pictures/corruptions.png; the curves follow from the first."""
    shown = spread(some, SHOWN)
    images = [evaluating.image_of(shown, id) for id in shown.ids.tolist()]
    path, sizes = run.picture("corruptions"), (input.size, input.resize)
    pictures.write_corruptions(path, images, shown.ids.tolist(), *sizes, interpolation=input.interpolation)
    robustness.write(run.folder, measured)


def of_run(job: Job, run: runs.Run, measured: Callable[[int, Callable], tuple[dict[str, Any], Source]]) -> None:
    """Where it was asked for and is not there yet: measure the best weights of a run that is done, each process the
    same images, so that a model that is shared among them is asked by all at once; one leaves what comes out.

    ``measured``: (how many images, what wraps the passes) -> as :func:`measure`.
    """
    n = job.facts["resolved"]["robustness"]
    if not n or run.path(runs.ROBUSTNESS).exists():
        return
    sharing.load(job.model, load_file(run.path(runs.WEIGHTS)))
    job.model.eval()
    found, some = measured(n, lambda passes: job.screen.counted(passes, "robustness"))
    if job.main:
        leave(run, found, some, job.input)
    job.screen.say(f"robust   {words(found, job.task.noun)}")


def of_classifier(job: Job, n: int, progress: Callable[[Iterable], Iterable]) -> tuple[dict[str, Any], Source]:
    """As :func:`measure`, of a run's model."""

    def answers(x: Tensor) -> Tensor:
        with torch.no_grad(), job.accelerator.autocast():
            return answered(job.model, x, job.config.tta).float()

    shared = (job.input, job.config, job.recipe.batch_size, job.accelerator.device)
    return measure(answers, job.parts.test, n, *shared, progress)


def words(measured: dict[str, Any], noun: str = "image") -> str:
    """What was measured, in one line."""
    clean = percent(measured["clean"]["score"], measured["clean"]["interval"])
    return (
        f"{measured['metric']} {clean} on {measured['n']:,} clean {noun}s, {percent(measured['mean'])} on corrupted "
        f"ones (mean of {len(measured['corruptions'])})"
    )
