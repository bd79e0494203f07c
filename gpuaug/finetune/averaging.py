"""Averages of weights, of several runs or in one, and the batch norms in them, whose statistics are those of images."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel

from . import sharing
from .feed import Feed

if TYPE_CHECKING:
    from .config import Config
    from .opening import Job
    from .recipes import Recipe


def mean_of(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of states of one model, in float64; what counts (integers) is that of the first."""
    found = {}
    for name, first in states[0].items():
        if first.is_floating_point():
            found[name] = torch.stack([state[name].double() for state in states]).mean(0).to(first.dtype)
        else:
            found[name] = first.clone()
    return found


def batch_norms(model: nn.Module) -> dict[str, nn.Module]:
    """A model's batch norms that keep statistics, by name."""
    found = {name: one for name, one in model.named_modules() if isinstance(one, _BatchNorm)}
    return {name: one for name, one in found.items() if one.track_running_stats}


@torch.no_grad()
def refresh_bn(
    model: nn.Module,
    batches: Iterable[tuple],
    names: Collection[str],
    autocast: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
) -> None:
    """Give the batch norms of these names the mean statistics of ``batches``, (x, ...) each, which are gone over once.

    As torch.optim.swa_utils.update_bn, but that the rest of the model, dropout and other batch norms, is in eval mode.
    Batches of one image behind the first are left out: it has no variance.
    """
    if not names:
        return
    some, training = [model.get_submodule(name) for name in names], model.training
    momenta = [one.momentum for one in some]
    model.eval()
    for one in some:
        one.reset_running_stats()
        one.momentum = None  # the mean over all batches
        one.train()
    try:
        for i, (x, *_) in enumerate(batches):
            if i == 0 or len(x) > 1:
                with autocast():
                    model(x)
    finally:
        model.train(training)
        for one, momentum in zip(some, momenta, strict=True):
            one.momentum = momentum


# --- in a run ---------------------------------------------------------------------------------------------------------
class Ema:
    """The exponential moving average of a learner's weights and buffers, each step (timm's).

    Attributes:
        module: the averaged one.
    """

    def __init__(self, job: Job):
        from timm.utils import ModelEmaV3

        together = not sharing.asked_to_shard()
        self.made = ModelEmaV3(job.learner, decay=job.config.ema, use_warmup=True, foreach=together)
        self.module = self.made.module
        sharing.shard(self.module, job.accelerator)

    def step(self, learner: nn.Module, updates: int) -> None:
        """After the ``updates``-th step."""
        self.made.update(learner, updates)

    def epoch(self, epoch: int) -> None:
        """After an epoch."""

    def tested(self, learner: nn.Module) -> nn.Module:
        """What is tested and kept."""
        return self.module

    def load(self, state: Mapping[str, Any], epochs: int) -> None:
        """Go on with the ``module``'s state after so many epochs."""
        sharing.load(self.module, state)


class Swa:
    """The mean of a learner's weights after each of the last epochs, by torch's AveragedModel, with batch norms of its
    own (Izmailov et al., 2018, arXiv 1803.05407). Attributes and methods as :class:`Ema`."""

    def __init__(self, job: Job):
        self.job, self.first, self.epochs = job, first_epoch(job.config, job.recipe), 0
        self.made = AveragedModel(job.learner)
        self.module = self.made.module

    def step(self, learner: nn.Module, updates: int) -> None:
        pass

    def epoch(self, epoch: int) -> None:
        if epoch < self.first:
            return
        job, self.epochs = self.job, self.epochs + 1
        self.made.update_parameters(job.learner)
        learns = [name for name, one in batch_norms(job.learner).items() if one.training]
        if learns:
            plain = Feed(job.train.loader.behind(job.input.plain()), job.input.size)
            with contextlib.closing(iter(plain)) as batches:
                refresh_bn(self.module, batches, learns, job.accelerator.autocast)

    def tested(self, learner: nn.Module) -> nn.Module:
        return self.module if self.epochs else learner

    def load(self, state: Mapping[str, Any], epochs: int) -> None:
        sharing.load(self.module, state)
        self.epochs = max(0, epochs - self.first + 1)
        self.made.n_averaged.fill_(self.epochs)


def of_run(job: Job) -> Ema | Swa | None:
    """The average that a run keeps, if it keeps one."""
    if job.config.ema:
        return Ema(job)
    return Swa(job) if job.config.swa else None


def first_epoch(config: Config, recipe: Recipe) -> int:
    """Of swa, from 1."""
    return recipe.epochs - max(1, round(config.swa * recipe.epochs)) + 1


def words(config: Config, recipe: Recipe) -> list[str]:
    """What was decided for swa."""
    if not config.swa:
        return []
    first = first_epoch(config, recipe)
    return [f"the weights after epochs {first} to {recipe.epochs} are averaged, and the rate stays where it was then"]
