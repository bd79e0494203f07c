"""Everything that stands before the first epoch: the device, the data, the model, the feeds, the run's folder."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, patch_environment
from torch import nn

import gpuaug as ga
from gpuaug.data import Parts
from gpuaug.data.annotated_parts import has_polygons, kind_of
from gpuaug.data.clips import are_clips
from gpuaug.messages import meant
from gpuaug.text.reading import is_text

from . import (
    averaging,
    beginning,
    checkpoint,
    distilling,
    feed,
    feeds,
    lora,
    models,
    recipes,
    report,
    runs,
    sharing,
    tensorboard,
    unused,
)
from .classify import Classify
from .config import AUTO, Config
from .detect import Detect
from .distilling import Teacher
from .feed import Features, Feed, Input
from .recipes import Recipe
from .saved import About
from .screen import Screen, begin_words
from .segment import Segment
from .task import Task
from .text import Text
from .video import Video
from .video_data import MOTION, is_of_clips


@dataclass(eq=False)
class Job:
    """What a run works with.

    Attributes:
        task: what is learned. model: what is kept. learner: what is trained and tested, the model, or with the recipe
            probe its classifier.
        never: names of the learner's parameters that never learn.
        train, val, test: what they are fed with; val may be None, and test of what was opened without it.
        loss: of (logits, labels), a mean, in training. judged: the same in validation and test.
        metrics: further ones, of (logits, labels), on the host.
        facts: config.json. lines: metrics.jsonl. teacher: from whom it learns, too. adapters: those in the model.
    """

    task: Task
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
    test: Feed | Features | None
    loss: Callable
    judged: Callable
    metrics: dict[str, Callable]
    facts: dict[str, Any]
    run: Path | None = None
    lines: list[dict[str, Any]] = field(default_factory=list)
    teacher: Teacher | None = None
    adapters: lora.Adapters | None = None

    @property
    def main(self) -> bool:
        """Whether this process writes and shows."""
        return self.accelerator.is_main_process

    @property
    def launched(self) -> bool:
        """Whether several processes share the run."""
        return self.accelerator.num_processes > 1

    @property
    def best(self) -> str:
        """The validation's metric that chooses, with a minus in front where less is better."""
        name = self.config.best or self.task.metrics[0]
        return f"-{name}" if name == "loss" else name

    @property
    def about(self) -> About:
        """What best.safetensors says of itself."""
        known = self.facts["resolved"]
        return About(**{field.name: known[field.name] for field in fields(About)})


TASKS = {task.name: task for task in (Classify, Detect, Segment, Text, Video)}
TASK_OF = {"masks": "segment", "coco": "detect", "voc": "detect", "text": "text"}


def chosen(config: Config, parts: Parts | None) -> Task:
    """The task of ``config``; where it says nothing, what its data are for, or the ``parts`` that were given."""
    if parts is not None:
        usual = of_parts(parts)
    elif config.data == MOTION or are_clips(config.data):
        usual = "video"
    else:
        kind = None if config.data == "digits" else kind_of(config.data) or ("text" if is_text(config.data) else None)
        usual = "segment" if kind == "coco" and has_polygons(config.data) else TASK_OF.get(kind, "classify")
    return TASKS[config.task or usual]()


def of_parts(parts: Parts) -> str:
    """The task that given parts are for."""
    train = parts.train
    if is_of_clips(train):
        return "video"
    if train.labels is not None or train.targets is None:
        return "classify"
    return "segment" if getattr(train.targets[0], "boxes", None) is None else "detect"


def open_job(config: Config, parts, model, augment, loss, metrics, run: Path | None = None, blind: bool = False) -> Job:
    """Open everything that a run needs; ``run``: the folder of one that goes on; ``blind``: without the test part, for
    what must not choose by it. Raises ValueError for whatever in it cannot be."""
    named = {"parts": parts, "model": model, "augment": augment, "loss": loss, "metrics": metrics}
    given = [name for name, value in named.items() if value is not None]
    for part in (tensorboard, lora, sharing):
        part.check(config)
    accelerator = open_accelerator(config)
    screen = Screen(config.quiet, config.json, accelerator.is_main_process)
    feed.check_augment(augment)

    # What there is
    asked = config.as_dict() | ({"data": parts.name} if parts else {})
    config, fixed = beginning.as_begun(config, run), parts
    task = chosen(config, parts)
    task.run, screen.noun = run, task.noun
    config, opened_with, parts, told = open_data(task, config, parts, model, accelerator.num_processes, blind)
    usual = task.usual(config, fixed)
    card, layout = task.card(config, model), task.layout(config, layout_of(config, accelerator))
    input = task.input(config, card, fixed, layout)
    pretrained = task.has_weights(config, model)
    each = len(parts.train) // accelerator.num_processes
    recipe, decided = recipes.resolve(config, pretrained, each, task.batch, task.noun)
    corrupted, words = (0, []) if blind else task.corrupted(config, recipe, parts)
    told, new = decided + told + words, run is None
    if new:
        unused.check(unused.Asked(config, given, recipe, parts.val is not None, task.name, pretrained))

    # The model
    model, name, origin, files, words = beginning.open_model(task, config, model, parts, input, run)
    unused.check_model(config, model, name)
    model.to(accelerator.device, memory_format=layout)
    check = functools.partial(task.check_model, model, name, parts, input, accelerator)
    check()
    never = recipes.frozen(model, config.freeze)
    recipe, decided = recipes.head_first(config, recipe, model, never, pretrained, models.NEW in origin)
    told += words + decided + averaging.words(config, recipe)

    # The pipelines and the feeds
    augment, decided = pipeline(config, recipe, input, augment, usual, len(parts.train.classes))
    unused.check_feeds(config, new and feed.in_memory(parts, config, accelerator.device))
    opened, words = task.open_feeds(model, config, recipe, parts, input, augment, accelerator, screen)
    unused.check_steps(config, new and -(-len(opened[0]) // config.accumulate))
    learner = next(iter(models.heads(model).values())) if recipe.name == "probe" else model
    teacher = distilling.open_teacher(config, parts, input, accelerator, run)
    adapters = lora.adapted(config, model, name, check)
    resolved = {
        "task": task.name, **data_facts(parts, input), "model": name, "weights": origin, "files": files,
        "recipe": recipe.name, "options": dict(vars(recipe)), "augment": repr(augment), "robustness": corrupted,
        "decisions": told + decided + words + distilling.words(teacher) + lora.words(adapters), "given": given,
        "opened_with": opened_with, "metrics": list(metrics or {}), "details": task.details(config, model, parts),
        "teacher": teacher.record if teacher else [],
    }  # fmt: skip
    facts = {"asked": asked, "resolved": resolved, "environment": environment(accelerator)}
    training, judged = task.losses(config, recipe, parts.train, loss, accelerator.device)
    never = adapters.never if adapters else set() if learner is not model else never
    return Job(
        task, config, recipe, accelerator, screen, model, learner, never, augment, input, parts, *opened, training,
        judged, dict(metrics or {}), facts, teacher=teacher, adapters=adapters,
    )  # fmt: skip


def pipeline(
    config: Config, recipe: Recipe, input: Input, given: Callable | None, usual: str, classes: int
) -> tuple[Callable, list[str]]:
    """(what augments, and mixes; what was decided, in words); ``given``: a pipeline in Python, ``usual``: the preset
    where nothing is said."""
    if recipe.name == "probe":
        return input.plain(), []
    told = [f"augment {usual}"] if config.augment is None and given is None else []
    spec = usual if config.augment in (None, AUTO) else config.augment  # auto.settle puts its choice in its place
    return feed.mixed(given or input.augmented(spec), config, classes), told


def open_data(
    task: Task, config: Config, given: Parts | None, model: nn.Module | None, processes: int, blind: bool = False
) -> tuple[Config, dict[str, Any], Parts, list[str]]:
    """(``config`` with a model and a size where these are decided here, what of it the data were opened with, the
    parts, what was decided, in words); ``given``, ``model``: the parts and the model that were given, if any;
    ``blind``: without the test part."""
    told = []
    if model is None:
        config, told = task.of_weights(config, given)
    opened_with = {"task": task.name} | task.settled(config)
    parts, words = (given, ["parts as they were given"]) if given else task.open_parts(config)
    parts = replace(parts, test=None) if blind else parts
    parts, bad = feeds.readable(parts, config)
    task.check_parts(parts, processes)
    told = words + bad + told
    if model is None:
        config, decided = task.chosen(config, given, parts)
        told += decided
    return config, opened_with, parts, told


def check_metrics(job: Job) -> None:
    """Raises ValueError for a metric that chooses and that there is not."""
    known = (*job.task.metrics, *job.task.further, *job.metrics)
    name = job.best.removeprefix("-")
    if name not in known:
        raise ValueError(f"best: there is no metric {name!r}; choose one of {', '.join(known)}{meant(name, known)}")
    if name == "balanced_accuracy" and job.parts.train.labels.ndim > 1:
        raise ValueError("best=balanced_accuracy wants one class a sample, and these may have several; take f1")
    if job.val is None and (job.config.patience or job.recipe.schedule == "plateau"):
        raise ValueError("patience and plateau go by the validation, and there is none; give val_fraction")


def begin(job: Job, run: Path | None) -> None:
    """Make the run's folder, or take the one of a run that goes on; and say what is about to happen."""
    known = job.facts["resolved"]
    start = None
    given = job.model if "model" in known["given"] else None
    if run is None and job.config.keep and job.task.has_weights(job.config, given):
        start = sharing.whole(job.model.state_dict())  # of each process, its part
        start = job.adapters.plain(start) if job.adapters else start
    if run is not None:
        before = runs.Run(run).resolved
        if before["data"]["fingerprint"] != known["data"]["fingerprint"]:
            raise ValueError(f"{run}: the data are no longer those that it began with; start a new run")
        if job.main:
            runs.clean(run)
    elif job.main:
        job.run = run = runs.new(
            job.config.out, f"{known['model'].rpartition('/')[2]}-{job.parts.name}-{known['recipe']}"
        )
        if start is not None:
            known["start"] = beginning.write(run, start)
        runs.Run(run).write_json(runs.CONFIG, job.facts)
    job.run = broadcast_object_list([run])[0]
    data = job.task.described(known, job.parts.name)
    millions = sum(p.numel() for name, p in job.model.named_parameters() if not lora.is_adapters(name)) / 1e6
    called = job.task.called(job.config, known["model"])
    model = f"{called}, {millions:.2f} M parameters, {known['weights']}, on {known_device(job)}"
    job.screen.say(begin_words(job.run, data, model, job.augment, known["decisions"]))
    report.before(job)


@contextlib.contextmanager
def failing(job: Job, new: bool) -> Iterator[None]:
    """A run that ends early leaves no adapters in its model; and no folder if it is ``new`` and has done no epoch and
    written no checkpoint: there is nothing in it."""
    try:
        yield
    except BaseException:
        epochs = any(line["event"] == "epoch" for line in job.lines)
        if job.main and new and job.run is not None and not epochs and not checkpoint.found(job.run):
            shutil.rmtree(job.run, ignore_errors=True)
        if job.adapters:
            job.adapters.remove()
        raise


def known_device(job: Job) -> str:
    device, processes = job.facts["environment"]["device"], job.accelerator.num_processes
    return device if processes == 1 else f"{processes} x {device}, {job.facts['environment']['sharing']}"


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
        raise ValueError(
            f"device {config.device!r} cannot be used, and auto takes what there is: {str(error).splitlines()[0]}"
        ) from None
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
    """What the config says, else the fastest; FSDP takes weights in the usual layout alone."""
    if sharing.asked_to_shard():
        return torch.preserve_format
    if config.channels_last is None:
        return models.layout(accelerator.device)
    return torch.channels_last if config.channels_last else torch.preserve_format


def data_facts(parts: Parts, input: Input) -> dict[str, Any]:
    """What config.json says of the data, and of their way into the model."""
    images = {name: getattr(parts, name) for name in ("train", "val", "test")}
    return {
        "classes": list(parts.train.classes), "images": {name: len(part) for name, part in images.items() if part},
        "several": parts.train.labels is not None and parts.train.labels.ndim > 1,
        "size": input.size, "resize": input.resize, "interpolation": input.interpolation,
        "mean": list(input.mean), "std": list(input.std),
        "data": {"name": parts.name, "fingerprint": fingerprint(parts)},
    }  # fmt: skip


def fingerprint(parts: Parts) -> str:
    """Of which samples are in which part, with their labels."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (parts.train, parts.val, parts.test):
        if part is not None:
            for value in (part.ids, part.labels):
                if value is None:
                    continue
                digest.update(value.contiguous().numpy().tobytes())
        digest.update(repr(parts.train.classes).encode())
    return digest.hexdigest()


# --- facts ------------------------------------------------------------------------------------------------------
def environment(accelerator: Accelerator) -> dict[str, Any]:
    """What a run ran on."""
    import timm

    return {
        "gpuaug": ga.__version__, "commit": _commit(), "python": platform.python_version(), "torch": torch.__version__,
        "timm": timm.__version__, "device": report.device_name(accelerator.device),
        "processes": accelerator.num_processes, "sharing": sharing.name(accelerator),
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
