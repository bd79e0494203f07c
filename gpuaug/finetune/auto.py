"""``--augment auto``: which augmentation suits the data, by successive halving (Jamieson and Talwalkar, 2016, "Non-
stochastic best arm identification and hyperparameter optimization") on what the model does not learn from.

All candidates begin with the same weights, and see the same images in the same order. In each rung those that are left
train for as many batches, a short run of its own whose rates fall to their end, and the better half goes on with the
weights that it has. What is hard to learn from looks worse in a short run than in a long one: so weak, medium and
strong candidates are halved each among themselves, and the best of each meet in a last rung, which gets half of the
budget. Nothing asks a clock: the same data, seed and options choose the same.
"""

from __future__ import annotations

import contextlib
import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from tqdm.auto import tqdm

from gpuaug.data import Parts, Source

from . import feed, feeds, runs
from .checkpoint import Interrupt
from .config import AUTO
from .feed import Feed
from .metrics import wilson
from .recipes import Diverged
from .screen import Screen

if TYPE_CHECKING:
    from .loop import Trainer
    from .opening import Job

# By the preset that is usual for the data: weak, medium, strong ones; those that a small budget has room for come first
CANDIDATES: dict[str, tuple[tuple[str, ...], ...]] = {
    feed.PHOTOS: (
        (
            "none",
            "imagenet_train:scale=(0.7, 1.0)",
            "geometric:degrees=10,translate=0.05",
            "imagenet_train:scale=(0.7, 1.0),color_jitter=0.4",
        ),
        (
            feed.PHOTOS,
            "rotate_shift:degrees=30,translate=0.1",
            "geometric:degrees=30,translate=0.1",
            "imagenet_train:scale=(0.35, 1.0),erase=0.25",
        ),
        (
            "trivialaugment:scale=(0.35, 1.0)",
            "geometric:degrees=60,translate=0.15,scale=(0.7, 1.3)",
            "imagenet_train:scale=(0.08, 1.0)",
            "randaugment:magnitude=9,scale=(0.35, 1.0)",
        ),
    ),
    feed.DIGITS: (
        (
            "none",
            "rotate_shift:degrees=10,translate=0.05",
            "rotate_shift:degrees=0,translate=0.1",
            "imagenet_train:scale=(0.7, 1.0),flip=0",
        ),
        (
            "rotate_shift:degrees=15,translate=0.1",
            "imagenet_train:scale=(0.35, 1.0),flip=0",
            "randaugment:magnitude=5,scale=(0.7, 1.0),flip=0",
            "imagenet_train:scale=(0.7, 1.0),flip=0,erase=0.25",
        ),
        (
            feed.DIGITS,
            "trivialaugment:scale=(0.7, 1.0),flip=0",
            "rotate_shift:degrees=30,translate=0.1,scale=(0.7, 1.3)",
            "rotate_shift:degrees=90,translate=0.1",
        ),
    ),
}
USUAL = 3  # times the run, the budget where nothing is said; for each of the folds, where there are such
LEAST = 20  # steps that the first rung takes at least
ENOUGH = 100  # images to judge by; of fewer, folds are made, or the loss decides
FOLDS = 3


# --- the budget -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Rung:
    """``arms`` train for ``batches`` each, on each of the folds."""

    arms: int
    batches: int


def rungs(sizes: Sequence[int], budget: int, folds: int = 1, every: int = 1) -> list[Rung]:
    """The rungs for groups of so many arms: each group is halved until it has one, then these meet. That last rung gets
    half of ``budget``, in batches, since how a long run ends is what is asked for; the others share the rest.

    ``every``: batches that make one step. All rungs together take at most ``budget``.
    """
    counts, left = [], list(sizes)
    while max(left) > 1:
        counts.append(sum(left))
        left = [-(-n // 2) for n in left]
    counts += [len(left)] if len(left) > 1 else []
    each = budget // 2 // max(len(counts) - 1, 1)
    budgets = [each] * (len(counts) - 1) + [budget - each * (len(counts) - 1)]
    return [Rung(n, some // (n * folds * every) * every) for n, some in zip(counts, budgets, strict=True)]


def planned(
    groups: Sequence[Sequence[str]], run: int, times: float | None, folds: int = 1, every: int = 1
) -> tuple[list[list[str]], list[Rung]]:
    """(the arms that there is room for, in their groups; the rungs).

    ``run``: batches of the run itself. ``times``: so many of these are the budget; None: USUAL, for each fold, and what
    two of each group need.
    Raises ValueError where there is no room for one of each group.
    """
    usual = max(USUAL * folds * run, 4 * len(groups) * folds * LEAST * every)  # half of it is for the first rung
    budget = usual if times is None else math.floor(times * run)
    for most in range(max(map(len, groups)), 0, -1):
        some = [list(group[:most]) for group in groups]
        plan = rungs([len(group) for group in some], budget, folds, every)
        if plan[0].batches >= LEAST * every:
            return some, plan
    raise ValueError(
        f"auto_budget={times:g}: {budget} batches are too few to compare {len(groups)} augmentations by; give at least "
        f"{math.ceil(100 * len(groups) * folds * LEAST * every / run) / 100:g}"
    )


# --- what is trained on, and what judges ------------------------------------------------------------------------------
@dataclass(frozen=True)
class Judge:
    """Feeds of (training, what judges), one pair for each fold; the metric, with a minus where less is better; what it
    is, in words; how many images judge."""

    pairs: list[tuple[Feed, Feed]]
    metric: str
    words: str
    images: int


def judge_of(job: Job) -> Judge:
    """The validation part. A small one that was set aside at random is laid together with the training part again, and
    this comes in folds; a small one that was given is all that there is, and its loss says more than a few hits."""
    parts, given = job.parts, "parts" in job.facts["resolved"]["given"]
    if parts.val is not None and len(parts.val) >= ENOUGH:
        return Judge([(job.train, job.val)], job.best, "validation", len(parts.val))
    pool = parts
    if parts.val is not None and not given:
        pool, _ = feeds.readable(job.task.open_parts(replace(job.config, val_fraction=0.0))[0], job.config)
    if pool.val is not None:
        return Judge([(job.train, job.val)], "-loss", "the loss of validation", len(parts.val))
    pairs, fixed = [], (job.model, job.config, job.recipe)
    for train, rest in folded(pool.train):
        some, silent = Parts(parts.name, train, rest, rest), Screen(True, False, False)
        (learned, judging, _), _ = job.task.open_feeds(*fixed, some, job.input, job.augment, job.accelerator, silent)
        pairs.append((learned, judging))
    metric = job.best if len(pool.train) >= ENOUGH else "-loss"
    words = f"{FOLDS} folds of the training images" if metric == job.best else f"the loss in {FOLDS} folds"
    return Judge(pairs, metric, words, len(pool.train))


def folded(source: Source) -> list[tuple[Source, Source]]:
    """(all but a fold, the fold), for each of FOLDS; classes in proportion where each has as many images."""
    from sklearn.model_selection import KFold, StratifiedKFold

    if len(source) < 2 * FOLDS:
        raise ValueError(f"augment auto: {len(source)} training images are too few to judge by; name a preset")
    single = source.labels.ndim == 1 and int(feed.counts(source).min()) >= FOLDS
    kind, labels = (StratifiedKFold, source.labels.numpy()) if single else (KFold, None)
    places = kind(FOLDS, shuffle=True, random_state=0).split(np.zeros(len(source)), labels)
    return [(source.subset(rest.tolist()), source.subset(fold.tolist())) for rest, fold in places]


class Part(Feed):
    """``length`` batches of a feed behind another pipeline, from the ``begin``-th on, over as many epochs as it takes;
    the next pass goes on where the last one ended."""

    def __init__(self, whole: Feed, augment: Any, begin: int):
        super().__init__(whole.loader.behind(augment), whole.size)
        self.begin, self.length = begin, 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple]:
        loader, left = self.loader, self.length
        while left:
            epoch, at = divmod(self.begin, len(loader))
            position = at * loader.batch_size * loader.world
            self.load_state_dict({"epoch": epoch, "position": position, "seed": loader.seed})
            with contextlib.closing(super().__iter__()) as batches:
                for batch, _ in zip(batches, range(min(left, len(loader) - at)), strict=False):
                    yield batch
            done = min(left, len(loader) - at)
            left, self.begin = left - done, self.begin + done

    def set_epoch(self, epoch: int) -> None:
        """The trainer's epochs are not those of the images here."""


# --- the search -------------------------------------------------------------------------------------------------------
class Arm:
    """A candidate: its weights lie in a folder, since all together may take more than there is memory."""

    def __init__(self, spec: str, group: int, folder: Path, trainer: type[Trainer]):
        self.spec, self.group, self.folder, self.trainer, self.scores = spec, group, folder, trainer, {}

    def path(self, fold: int) -> Path:
        return self.folder / f"{fold}.pt"

    def train(self, job: Job, pair: tuple[Feed, Feed], fold: int, begin: int, batches: int, interrupt: Interrupt):
        """Go on for ``batches``, ``begin`` of which it has had; returns the scores of what judges, NaN where the loss
        did not stay finite."""
        made = feed.mixed(job.input.augmented(self.spec), job.config, len(job.parts.train.classes))
        part = Part(pair[0], made, begin)
        part.length, recipe, every = batches, job.recipe, job.config.accumulate
        head = 0
        if begin == 0 and recipe.head_epochs:
            head = min(max(1, round(batches // every * recipe.head_epochs / recipe.epochs)) * every, batches)
        kind = recipe.schedule if recipe.schedule in ("cosine", "onecycle") else "cosine"  # such as come to an end
        warm = recipe.warmup_epochs / recipe.epochs
        few = replace(recipe, epochs=1, head_epochs=int(head > 0), schedule=kind, warmup_epochs=warm)
        trainer = self.trainer(replace(job, recipe=few, train=part, val=pair[1], augment=made))
        for epoch, part.length in ((1, head), (2, batches - head)):
            if part.length:
                diverged = False
                try:
                    trainer.train(epoch, interrupt)
                except Diverged:  # by the mean over all processes: each of them is here
                    diverged = True
                trainer.stop_if(trainer.agreement.now(interrupt.asked))
                if diverged:
                    return dict.fromkeys((*job.task.metrics, job.best.removeprefix("-"), *job.metrics), math.nan)
        torch.save(job.model.state_dict(), self.path(fold))
        return trainer.test(pair[1])


@dataclass
class Search:
    """A search that goes on."""

    job: Job
    judge: Judge
    arms: list[Arm]
    plan: list[Rung]

    def run(self, interrupt: Interrupt) -> list[dict[str, Any]]:
        """All rungs; of each {"batches", "arms": [{"augment", "stays", and scores}]}, the best first. They end early
        where one candidate is left; where none is, as the loss was never finite, this raises Diverged."""
        start = {name: value.detach().clone() for name, value in self.job.model.state_dict().items()}
        table, begin = [], 0
        try:
            for number, rung in enumerate(self.plan, 1):
                self.train(start, rung, begin, number, interrupt)
                self.arms.sort(key=self.key, reverse=True)
                stay = self.better_halves() if number < len(self.plan) else self.finite()[:1]
                rows = [{"augment": arm.spec, "stays": arm in stay, **arm.scores} for arm in self.arms]
                rows = broadcast_object_list([rows])[0]  # sums of other orders may differ by a bit
                by_spec = {arm.spec: arm for arm in self.arms}
                self.arms = [by_spec[row["augment"]] for row in rows if row["stays"]]
                table.append({"batches": rung.batches, "arms": rows})
                self.job.screen.say(rung_words(number, len(self.plan), table[-1], self.judge))
                begin += rung.batches
                if not self.arms:
                    raise Diverged(
                        f"augment auto: the loss is finite with no candidate: lower lr (now {self.job.recipe.lr:g})"
                    )
                if len(self.arms) == 1:
                    break
        finally:
            self.job.model.load_state_dict(start)
        return table

    def train(self, start: dict, rung: Rung, begin: int, number: int, interrupt: Interrupt) -> None:
        """One rung."""
        model, pairs, found = self.job.model, self.judge.pairs, {arm.spec: [] for arm in self.arms}
        bar = tqdm(
            total=len(self.arms) * len(pairs), desc=f"augment auto, rung {number}", leave=False, unit="training",
            disable=None if self.job.screen.words else True, dynamic_ncols=True,
        )  # fmt: skip
        with bar:
            for fold, pair in enumerate(pairs):
                for arm in self.arms:
                    model.load_state_dict(torch.load(arm.path(fold), weights_only=True) if begin else start)
                    job = quiet(self.job)
                    found[arm.spec].append(arm.train(job, pair, fold, begin, rung.batches, interrupt))
                    bar.update()
        counts = [len(judging.loader.source) for _, judging in pairs]
        for arm in self.arms:
            names = found[arm.spec][0]
            arm.scores = {name: float(np.average([s[name] for s in found[arm.spec]], weights=counts)) for name in names}

    def better_halves(self) -> list[Arm]:
        """Of each group, of arms that are sorted; without those whose loss is not finite."""
        groups = [[arm for arm in self.arms if arm.group == k] for k in sorted({arm.group for arm in self.arms})]
        halves = [arm for group in groups for arm in group[: -(-len(group) // 2)]]
        return [arm for arm in self.finite() if arm in halves]

    def finite(self) -> list[Arm]:
        """The arms whose loss is finite, in their order."""
        return [arm for arm in self.arms if math.isfinite(arm.scores["loss"])]

    def key(self, arm: Arm) -> tuple[float, float]:
        """More is better; what is not finite comes last."""
        name = self.judge.metric
        if not math.isfinite(arm.scores["loss"]):
            return -math.inf, -math.inf
        values = (-arm.scores[name[1:]] if name[0] == "-" else arm.scores[name], -arm.scores["loss"])
        return tuple(value if math.isfinite(value) else -math.inf for value in values)


def quiet(job: Job) -> Job:
    """A job that writes and shows nothing."""
    config = replace(job.config, keep=0, checkpoint_steps=0, compile=False, quiet=True, json=False, swa=0.0)
    return replace(job, config=config, screen=Screen(True, False, False), lines=[])


def search(job: Job, groups: Sequence[Sequence[str]] | None = None, *, trainer: type[Trainer]) -> dict[str, Any]:
    """Choose one preset of ``groups``, by default of those for the data; what was found, as config.json keeps it. The
    model is as before afterwards. ``trainer``: the class that trains, of the module that calls.

    Raises ValueError for a task without candidates, too small a budget or too few images; KeyboardInterrupt after
    Ctrl-C.
    """
    judge, run = judge_of(job), job.recipe.epochs * len(job.train)
    groups = candidates(job) if groups is None else groups
    groups, plan = planned(groups, run, job.config.auto_budget, len(judge.pairs), job.config.accumulate)
    cost = sum(rung.arms * rung.batches for rung in plan) * len(judge.pairs)
    job.screen.say(
        f"search   augment auto: {plan[0].arms} candidates, judged by {judge.words}, n={judge.images:,}; {cost:,} "
        f"batches, {cost / run:.2g} x the run's"
    )
    scaler, device = job.accelerator.scaler, job.accelerator.device
    scale = None if scaler is None else scaler.state_dict()
    interrupt = Interrupt("step", not job.screen.words, job.launched)
    interrupt.words = "stopping the search for an augmentation; nothing of it is kept"
    try:
        with (
            TemporaryDirectory(prefix="gpuaug-auto-") as folder,
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            interrupt,
        ):
            specs = [(spec, k) for k, group in enumerate(groups) for spec in group]
            arms = [Arm(spec, k, Path(folder) / str(i), trainer) for i, (spec, k) in enumerate(specs)]
            for arm in arms:
                arm.folder.mkdir()
            table = Search(job, judge, arms, plan).run(interrupt)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped in the search for an augmentation; nothing of it is kept") from None
    if scale is not None:
        scaler.load_state_dict(scale)
    return {"budget": cost / run, "batches": cost, "run": run, "rungs": table} | verdict(table, judge)


def candidates(job: Job) -> tuple[tuple[str, ...], ...]:
    """For the data of a job. Raises ValueError for a task whose usual augmentation is of another kind."""
    given = "parts" in job.facts["resolved"]["given"]
    usual = job.task.usual(job.config, job.parts if given else None)
    if usual not in CANDIDATES:
        raise ValueError(f"augment auto knows no candidates for the task {job.task.name}; name a preset")
    return CANDIDATES[usual]


def verdict(table: list[dict[str, Any]], judge: Judge) -> dict[str, Any]:
    """Of the last rung: what was chosen, by what, and how sure that is."""
    first, second = table[-1]["arms"][:2]
    name = judge.metric.removeprefix("-")
    found = {"chosen": first["augment"], "metric": name, "judged": judge.words, "images": judge.images}
    interval = wilson(round(first[name] * judge.images), judge.images) if name == "accuracy" else None
    close = judge.images < ENOUGH or (interval is not None and second[name] >= interval[0])
    return found | {"interval": interval, "runner_up": second["augment"], "uncertain": close}


# --- what a run does with it ------------------------------------------------------------------------------------------
def settle(job: Job, run: Path | None, trainer: type[Trainer]) -> None:
    """Where ``augment`` is auto: search, or take what the run that goes on has found; and train with that. ``trainer``
    as for :func:`search`."""
    if job.config.augment != AUTO:
        return
    known = job.facts["resolved"]
    found = None if run is None else runs.Run(run).resolved.get("auto")
    found = found or search(job, trainer=trainer)
    job.augment = feed.mixed(job.input.augmented(found["chosen"]), job.config, len(job.parts.train.classes))
    job.train = Feed(job.train.loader.behind(job.augment), job.input.size)
    known |= {"augment": repr(job.augment), "auto": found}
    known["decisions"].append(chosen_words(found))


def shown(name: str, value: float | None) -> str:
    if value is None or not math.isfinite(value):  # config.json says null
        return f"{name} not finite"
    return f"{value:.3f}" if name == "loss" else f"{value:.1%}"


def rung_words(number: int, total: int, rung: dict[str, Any], judge: Judge) -> str:
    """A rung on the screen: who stays, who is out."""
    name = judge.metric.removeprefix("-")
    said = {
        stays: "; ".join(f"{shown(name, row[name])} {row['augment']}" for row in rung["arms"] if row["stays"] == stays)
        for stays in (True, False)
    }
    words = f"search   rung {number}/{total}, {rung['batches']} batches each: {said[True]} | out: {said[False]}"
    return textwrap.fill(words, 120, subsequent_indent=" " * 9, break_on_hyphens=False)


def chosen_words(found: dict[str, Any]) -> str:
    """What was chosen, in one sentence."""
    name, (first, second) = found["metric"], found["rungs"][-1]["arms"][:2]
    sure = ""
    if found["interval"] is not None:
        sure = ", 95%: {:.1f} to {:.1f}".format(*(100 * end for end in found["interval"]))
    close = "; uncertain: the runner-up may be as good" if found["uncertain"] else ""
    return (
        f"augment auto chose {found['chosen']} ({found['judged']}: {name} {shown(name, first[name])}, "
        f"n={found['images']:,}{sure}; runner-up {found['runner_up']}, {shown(name, second[name])}{close})"
    )
