"""Everything that stands before the first epoch: the device, the data, the model, the feeds, the run's folder."""

from __future__ import annotations

import functools
import hashlib
import platform
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, patch_environment
from torch import nn
from torch.nn import functional as F

import gpuaug as ga
from gpuaug.data import Loader, Parts, Source, open_parts
from gpuaug.data.folders import part_of

from . import feed, models, recipes, runs
from .config import Config
from .feed import Features, Feed, Input
from .predicting import predict
from .recipes import Recipe
from .report import device_name
from .saved import About
from .screen import Screen, begin_words


@dataclass(eq=False)
class Job:
    """What a run works with.

    Attributes:
        model: what is kept. learner: what is trained and tested, the model, or with the recipe probe its classifier.
        never: names of the learner's parameters that never learn.
        train, val, test: what they are fed with; val may be None.
        loss: of (logits, labels), a mean, in training. judged: the same in validation and test.
        metrics: further ones, of (logits, labels), on the host.
        facts: config.json. lines: metrics.jsonl.
    """

    config: Config
    recipe: Recipe
    accelerator: Accelerator
    screen: Screen
    model: nn.Module
    learner: nn.Module
    never: set[str]
    augment: Callable
    input: Input
    parts: Parts
    train: Feed | Features
    val: Feed | Features | None
    test: Feed | Features
    loss: Callable
    judged: Callable
    metrics: dict[str, Callable]
    facts: dict[str, Any]
    run: Path | None = None
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def main(self) -> bool:
        """Whether this process writes and shows."""
        return self.accelerator.is_main_process

    @property
    def several(self) -> bool:
        """Whether a sample may have several labels."""
        return self.parts.train.labels.ndim > 1

    @property
    def about(self) -> About:
        """What best.safetensors says of itself."""
        known = self.facts["resolved"]
        return About(**{field.name: known[field.name] for field in fields(About)})


def open_job(config: Config, parts, model, augment, loss, metrics) -> Job:
    """Open everything that a run needs. Raises ValueError for whatever in it cannot be."""
    given = {"parts": parts, "model": model, "augment": augment, "loss": loss, "metrics": metrics}
    accelerator = open_accelerator(config)
    screen = Screen(config.quiet, config.json, accelerator.is_main_process)
    feed.check_augment(augment)

    # What there is
    asked, fixed = config.as_dict() | ({"data": parts.name} if parts else {}), parts
    parts, told = (parts, ["parts as they were given"]) if parts else divided(config)
    feed.checked(parts, accelerator.num_processes)
    usual = feed.DIGITS if feed.of_digits(config, fixed) else feed.PHOTOS
    if model is None:
        config, decided = models.chosen(config, fixed.train.size if fixed else None, feed.side(parts.train))
        told += decided
    card = models.card(config.model) if model is None else models.ModelCard.of(getattr(model, "pretrained_cfg", None))
    layout = layout_of(config, accelerator)
    input = Input.of(config, card, fixed, layout)
    names = parts.train.classes
    pretrained = config.weights is not None or model is not None
    recipe, decided = recipes.resolve(config, pretrained, len(parts.train) // accelerator.num_processes)
    told = decided + told

    # The model
    model, name, origin = open_model(config, model, names, input.size)
    model.to(accelerator.device, memory_format=layout)
    check_model(model, name, input.size, len(names), accelerator)
    never = recipes.frozen(model, config.freeze)
    recipe, decided = recipes.head_first(config, recipe, model, never, pretrained, models.NEW in origin)
    told += decided

    # The pipelines and the feeds
    spec = config.augment or ("none" if recipe.name == "probe" else usual)
    if recipe.name == "probe" and (augment is not None or spec != "none" or config.mixup or config.cutmix):
        raise ValueError(
            "recipe probe computes features once, of images as they are; leave augment, mixup and cutmix out, or take "
            "recipe finetune with freeze=backbone"
        )
    if augment is None and recipe.name != "probe":
        told += [f"augment {spec}"] if config.augment is None else []
        augment = input.augmented(spec)
    augment = input.plain() if augment is None else feed.mixed(augment, config, len(names))
    shared = (config, recipe, parts, input, augment, accelerator, screen)
    feeds, words = probe_feeds(model, *shared) if recipe.name == "probe" else image_feeds(*shared)
    learner = next(iter(models.heads(model).values())) if recipe.name == "probe" else model
    facts = {
        "asked": asked,
        "resolved": {
            "classes": list(names),
            "images": {k: len(p) for k, p in (("train", parts.train), ("val", parts.val), ("test", parts.test)) if p},
            "several": parts.train.labels.ndim > 1, "size": input.size, "resize": input.resize,
            "interpolation": input.interpolation, "mean": list(input.mean), "std": list(input.std),
            "model": name, "recipe": recipe.name, "options": dict(vars(recipe)), "augment": repr(augment),
            "weights": origin, "decisions": told + words, "given": [k for k, v in given.items() if v is not None],
            "metrics": list(metrics or {}), "data": {"name": parts.name, "fingerprint": fingerprint(parts)},
        },
        "environment": environment(accelerator),
    }  # fmt: skip
    training, judged = losses(config, recipe, parts.train, loss, accelerator.device)
    return Job(
        config, recipe, accelerator, screen, model, learner, set() if learner is not model else never, augment, input,
        parts, *feeds, training, judged, dict(metrics or {}), facts,
    )  # fmt: skip


def begin(job: Job, run: Path | None) -> None:
    """Make the run's folder, or take the one of a run that goes on; and say what is about to happen."""
    known = job.facts["resolved"]
    if run is not None:
        before = runs.Run(run).resolved
        if before["data"]["fingerprint"] != known["data"]["fingerprint"]:
            raise ValueError(f"{run}: the data are no longer those that it began with; start a new run")
        if job.main:
            runs.clean(run)
    elif job.main:
        run = runs.new(job.config.out, f"{known['model']}-{job.parts.name}-{known['recipe']}")
        runs.Run(run).write_json(runs.CONFIG, job.facts)
    job.run = broadcast_object_list([run])[0]
    counts = ", ".join(f"{n:,} {part}" for part, n in known["images"].items())
    side = f"{job.input.size}x{job.input.size}"
    data = f"{job.parts.name}: {counts} images of {len(known['classes'])} classes, {side}"
    millions = sum(p.numel() for p in job.model.parameters()) / 1e6
    model = f"{known['model']}, {millions:.2f} M parameters, {known['weights']}, on {known_device(job)}"
    job.screen.say(begin_words(job.run, data, model, job.augment, known["decisions"]))


def known_device(job: Job) -> str:
    device, processes = job.facts["environment"]["device"], job.accelerator.num_processes
    return device if processes == 1 else f"{processes} x {device}"


def open_accelerator(config: Config) -> Accelerator:
    """Accelerate's view of the device. Raises ValueError for a device that is not there, or that this process cannot
    change to any more."""
    on_cpu = config.device == "cpu" or (config.device == "auto" and not torch.accelerator.is_available())
    if on_cpu and config.precision == "fp16":
        raise ValueError("precision fp16 needs a GPU; on CPU there are bf16 and no (float32)")
    if config.device in ("auto", "cpu"):
        return _accelerator(config, cpu=config.device == "cpu")
    try:
        wanted = torch.device(config.device)
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {config.device!r} cannot be used: {str(error).splitlines()[0]}") from None
    with patch_environment(accelerate_torch_device=config.device):
        accelerator = _accelerator(config)
    if accelerator.device.type != wanted.type or wanted.index not in (None, accelerator.device.index):
        raise ValueError(
            f"device {config.device!r}: this process already trains on {accelerator.device}; start a new one"
        )
    return accelerator


def _accelerator(config: Config, **keywords: bool) -> Accelerator:
    try:
        return Accelerator(mixed_precision=config.precision, **keywords)
    except ValueError as error:  # accelerate keeps the first device and precision of a process
        raise ValueError(
            f"device {config.device!r}, precision {config.precision!r}: this process already trains with others; start "
            f"a new one"
        ) from error


def layout_of(config: Config, accelerator: Accelerator) -> torch.memory_format:
    """channels_last on CUDA, where its convolutions are faster, if nothing else is said."""
    wanted = accelerator.device.type == "cuda" if config.channels_last is None else config.channels_last
    return torch.channels_last if wanted else torch.preserve_format


# --- data -------------------------------------------------------------------------------------------------------------
def divided(config: Config) -> tuple[Parts, list[str]]:
    """The parts of ``config.data``, and in words where each comes from."""
    parts = open_parts(config.data, config.size, val_fraction=0.0)
    root, told, few = Path(config.data), [], False
    if parts.val is None:
        fraction, few = recipes.held_out(config, len(parts.train))
        if fraction:
            train, val = parts.train.split(fraction, 0, "validation")
            parts = replace(parts, train=train, val=val)
    for name, part in (("validation", parts.val), ("test", parts.test)):
        if part is None:
            why = ", too few images to set some aside and choose by them" * few
            told.append(f"no validation{why}: the last weights are kept")
            continue
        folder = None if config.data == "digits" else _top(part, root)
        if folder is not None and part_of(folder) and folder != _top(parts.train, root):
            told.append(f"{name}: the folder {folder}")
        else:
            told.append(f"{name}: {len(part):,} images set aside, the same ones each time")
    return parts, told


def _top(part: Source, root: Path) -> str:
    return part.items[0].relative_to(root).parts[0]


def fingerprint(parts: Parts) -> str:
    """Of which samples are in which part, with their labels."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (parts.train, parts.val, parts.test):
        if part is not None:
            for value in (part.ids, part.labels):
                digest.update(value.contiguous().numpy().tobytes())
        digest.update(repr(parts.train.classes).encode())
    return digest.hexdigest()


def image_feeds(
    config, recipe, parts, input, augment, accelerator, screen, shuffle=True
) -> tuple[list[Feed | None], list[str]]:
    """Feeds of images, and what was decided for them."""
    rank, world, device = accelerator.process_index, accelerator.num_processes, accelerator.device
    train = feed.balanced(parts.train, config.seed) if config.balance == "sampling" else parts.train
    each = len(train) // world
    drops = shuffle and each > recipe.batch_size and bool(each % recipe.batch_size)
    function = None if isinstance(augment, ga.Compose) else augment
    shared = {
        "device": device, "seed": config.seed, "workers": config.workers, "strict": world > 1, "rank": rank,
        "world": world, "cache_size": max(512, input.resize or input.size),
    }  # fmt: skip

    def open_feed(name: str, source: Source, pipeline, function=None, **keywords) -> Feed:
        resident = feed.fits(source, config, device)
        cache = None if resident else config.cache
        keywords |= {"resident": resident, "cache": cache, **shared}
        loader = Loader(source, recipe.batch_size, None if function else pipeline, **keywords)
        if resident and source.images is None:
            screen.say(f"reading  {len(source):,} {name} images into memory")
            loader.keep()
        return Feed(loader, input.size, function)

    feeds = [open_feed("train", train, augment, function, shuffle=shuffle, drop_last=drops)]
    for name, part in (("val", parts.val), ("test", parts.test)):
        feeds.append(open_feed(name, part, input.plain()) if part else None)
    told = []
    if len(train) > len(parts.train):
        told.append(f"{len(train):,} images an epoch: those of small classes come several times, each time drawn anew")
    if drops:
        told.append(f"a last batch of {each % recipe.batch_size} is left out each epoch; the order decides whose")
    if feeds[0].loader.resident:
        told.append(f"training images resident in memory, {feed.nbytes(train) / 1e6:,.0f} MB")
    else:
        where = f", and kept in {config.cache}" if config.cache else " as far as the pipeline reads them"
        told.append(f"training images streamed: {config.workers} threads decode them{where}")
    return feeds, told


def probe_feeds(
    model, config, recipe, parts, input, augment, accelerator, screen
) -> tuple[list[Features | None], list[str]]:
    """Feeds of features, which the model makes of every image once."""
    if config.balance == "sampling":
        feed.check_balance(parts.train)
    once = replace(config, balance="no")
    feeds, _ = image_feeds(once, recipe, parts, input, augment, accelerator, screen, shuffle=False)
    order = {"seed": config.seed, "rank": accelerator.process_index, "world": accelerator.num_processes}
    device, found = accelerator.device, []
    for name, images in zip(("train", "val", "test"), feeds, strict=True):
        if images is None:
            found.append(None)
            continue
        screen.say(f"features {len(images.loader.source):,} {name} images go through the model once")
        with models.backbone(model) as features:
            made = predict(model, images, accelerator, "none" if name == "train" else config.tta, features)
        ids, labels, x = made.ids, made.labels, made.outputs
        if name == "train" and config.balance == "sampling":
            many = feed.balanced(Source(range(len(ids)), ids, labels, parts.train.classes), config.seed)
            ids, labels, x = many.ids, many.labels, x[list(many.items)]
        inputs = [value.to(device) for value in (x, labels, ids)]
        found.append(Features(*inputs, recipe.batch_size, shuffle=name == "train", **order))
    return found, [f"features of {found[0].x.shape[1]} numbers, computed once and kept in memory; images as they are"]


# --- model ------------------------------------------------------------------------------------------------------------
def open_model(
    config: Config, model: nn.Module | None, classes: Sequence[str], size: int
) -> tuple[nn.Module, str, str]:
    """(the model that was given or is asked for, its name, one sentence on where its weights come from)."""
    if model is not None:
        return model, type(model).__name__, models.adapt(model, len(classes))
    rates = {"dropout": config.dropout, "drop_path": config.drop_path}
    model, origin = models.build(config.model, len(classes), config.weights, size, classes=classes, **rates)
    return model, config.model, origin


@torch.no_grad()
def check_model(model: nn.Module, name: str, size: int, classes: int, accelerator: Accelerator) -> None:
    """Raises ValueError for a model that does not make logits [B, classes] of images [B, 3, size, size]."""
    training = model.training
    model.eval()
    try:
        with accelerator.autocast():
            logits = model(torch.zeros(2, 3, size, size, device=accelerator.device))
    except Exception as error:  # whatever a model raises
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"model {name}: it takes no images of {size} x {size} ({reason}); give another size"
        ) from error
    finally:
        model.train(training)
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, classes):
        got = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ValueError(f"model {name}: it must make logits [2, {classes}] of 2 images, and makes {got}")


# --- loss, facts ------------------------------------------------------------------------------------------------------
def losses(config: Config, recipe: Recipe, train: Source, loss: Callable | None, device) -> tuple[Callable, Callable]:
    """(in training, in validation and test). Where a sample may have several labels each class is a question of yes or
    no."""
    if loss is not None:
        return loss, loss
    weight = None
    if config.balance == "weights":
        counts = feed.counts(train).clamp(min=1)
        weight = (counts.sum() / (len(counts) * counts)).float().to(device)
    if train.labels.ndim > 1:
        smooth = recipe.label_smoothing

        def questions(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return F.binary_cross_entropy_with_logits(logits, labels * (1 - smooth) + smooth / 2, weight)

        return questions, F.binary_cross_entropy_with_logits
    return functools.partial(F.cross_entropy, weight=weight, label_smoothing=recipe.label_smoothing), F.cross_entropy


def environment(accelerator: Accelerator) -> dict[str, Any]:
    """What a run ran on."""
    import timm

    return {
        "gpuaug": ga.__version__, "commit": _commit(), "python": platform.python_version(), "torch": torch.__version__,
        "timm": timm.__version__, "device": device_name(accelerator.device), "processes": accelerator.num_processes,
    }  # fmt: skip


@functools.lru_cache(maxsize=1)
def _commit() -> str | None:
    """Of gpuaug's checkout, None where it is installed from a package."""
    place = Path(ga.__file__).parent

    def git(*words: str) -> Sequence[str]:
        done = subprocess.run(["git", "-C", str(place), *words], capture_output=True, text=True)
        return done.stdout.split() if done.returncode == 0 else []

    try:
        return git("rev-parse", "HEAD")[0] if git("ls-files", "__init__.py") else None
    except OSError:
        return None
