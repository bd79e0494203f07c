"""Soups: one model whose weights are the mean of several runs' (Wortsman et al., 2022, arXiv 2203.05482)."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gpuaug.data import Loader, Parts, Source

from . import averaging, combined, testing
from .combined import Member
from .corrupted import LEFT_OUT
from .evaluations import Made
from .metrics import percent
from .saved import Classifier

Bar = Callable[[Iterable, str], Iterable]
STATISTICS = ("running_mean", "running_var")
SAME = ("model", "mean", "std", "interpolation")  # of the members, beside what any several have in common


@dataclass(frozen=True)
class Pot:
    """What a soup is made with.

    Attributes:
        model: of the members' architecture, which is filled. train: the images for its batch norms. val: the held-out
            part, if there is one. how: it is tested.
    """

    model: Classifier
    train: Source
    val: Source | None
    how: dict[str, Any]
    bar: Bar

    def fill(self, members: Sequence[Member]) -> None:
        """The mean of their weights; of one alone its own."""
        self.model.model.load_state_dict(averaging.mean_of([one.model.model.state_dict() for one in members]))
        if names := mixed(members):
            self.refresh(names)

    def refresh(self, names: Sequence[str]) -> None:
        """Batch norms of these names have the statistics of the training images, as validation sees them."""
        input, size = testing.input_of(self.model, self.how["precision"]), self.how["batch_size"]
        alone = testing.Alone(self.model.device, self.how["precision"])
        loader = Loader(self.train, size, input.plain(), device=alone.device, workers=self.how["workers"], max_bad=1.0)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", LEFT_OUT)
            averaging.refresh_bn(self.model.model, self.bar(loader, "batch norms"), names, alone.autocast)

    def held_out(self, members: Sequence[Member]) -> dict[str, float]:
        """Accuracy and loss of their mean on the held-out part."""
        self.fill(members)
        tested = self.model.tested(self.val, progress=lambda feed: self.bar(feed, "held-out"), **self.how)
        return combined.measured(tested, self.model, "val")


def soup(
    names: Sequence[str | Path | int],
    out: str | Path = "runs",
    *,
    greedy: bool = False,
    parts: Parts | None = None,
    device: str = "auto",
    workers: int = 2,
    bar: Bar = lambda steps, words: steps,
) -> Made:
    """A new run folder of the mean of the weights of several runs of image classification, of one model on one data
    set. Where it has batch norms, their statistics are computed anew over the training images, without augmentation.

    Args:
        names: of the runs, as :func:`gpuaug.load` takes them, in ``out``, where the new folder lies, too.
        greedy: from the best run on the held-out part on, one after the other, a run is taken where the mean is no
            worse on that part with it; else it is left out.
        parts: the data, where the runs were given them in Python.

    Raises:
        ValueError: no such runs; other tasks, models, classes, inputs or data, with the first difference; greedy, where
            the runs had no held-out part.
    """
    found = combined.members(names, out, device, "a soup", SAME)
    for one in found:
        if one.model.about.kind == "ensemble":
            raise ValueError(f"{one.run.name}: an ensemble, and a soup is of single models; name its members")
        if one.model.about.kind == "int8":
            raise ValueError(f"{one.run.name}: it is int8, whose weights have no mean; name the run it was made of")
    check_tensors(found)
    first = found[0].run
    train = combined.part_of(first, "train", parts)
    model, val = copy.deepcopy(found[0].model), None
    if "val" in first.resolved["images"]:
        val = model.matched(combined.part_of(first, "val", parts))[0]
    elif greedy:
        raise ValueError(
            f"greedy goes by the held-out part, and {first.name} has none: leave greedy out, or train with val_fraction"
        )
    pot = Pot(model, model.matched(train)[0], val, combined.how_of(first, model, workers), bar)
    taken, records, told = _greedy(pot, found) if greedy else _uniform(pot, found)
    if val is None:
        pot.fill(taken)
    scores = {} if val is None else pot.held_out(taken)  # which fills it, too
    kind = f"{'greedy ' * greedy}soup of {len(taken)}"
    model.about = replace(model.about, recipe=kind)
    if mixed(taken):
        told.append(f"batch norms: statistics of the {len(pot.train):,} training images, without augmentation")
    name = f"{model.about.model.rpartition('/')[2]}-{first.resolved['data']['name']}-{'greedy-' * greedy}soup"
    shared = {"parts": parts, "scores": scores, "bar": bar, "workers": workers}
    return combined.write(found, model, out, name, records, told, **shared)


def mixed(members: Sequence[Member]) -> list[str]:
    """Names of the batch norms whose statistics are not the same in all of them: those that were frozen stay."""
    first, *others = (one.model.model.state_dict() for one in members)
    names = [f"{name}.{one}" for name in averaging.batch_norms(members[0].model.model) for one in STATISTICS]
    other = [name for name in names if any(not torch.equal(state[name], first[name]) for state in others)]
    return list(dict.fromkeys(name.rpartition(".")[0] for name in other))


def check_tensors(found: Sequence[Member]) -> None:
    """Raises ValueError for members with other tensors than the first."""
    shapes = [{name: value.shape for name, value in one.model.model.state_dict().items()} for one in found]
    for one, own in zip(found, shapes, strict=True):
        other = sorted(k for k in own.keys() | shapes[0].keys() if own.get(k) != shapes[0].get(k))
        if other:
            raise ValueError(
                f"{one.run.name}: its weights are not those of the model of {found[0].run.name}: {len(other)} tensors "
                f"differ: {', '.join(other[:4])}"
            )


def _uniform(pot: Pot, found: Sequence[Member]) -> tuple[list[Member], list[dict], list[str]]:
    """(who is in it, what is kept of each, what was decided)."""
    return list(found), [one.record() for one in found], [f"the mean of the weights of {len(found)} runs"]


def _greedy(pot: Pot, found: Sequence[Member]) -> tuple[list[Member], list[dict], list[str]]:
    """The same; in the order in which they were tried."""
    alone = {one.run.name: pot.held_out([one]) for one in found}
    order = sorted(found, key=lambda one: -alone[one.run.name]["val_accuracy"])
    taken, best, records, told = [], -1.0, [], [f"runs by their accuracy on the {len(pot.val):,} held-out images"]
    for one in order:
        reached = pot.held_out([*taken, one])["val_accuracy"]
        stays = reached >= best
        told.append(f"{one.run.name}: {'taken' if stays else 'left out'}, {percent(reached)} with it")
        own = alone[one.run.name]["val_accuracy"]
        records.append(one.record(val_accuracy=own, val_accuracy_with_it=reached, taken="yes" if stays else "no"))
        if stays:
            taken, best = [*taken, one], reached
    return taken, records, told
