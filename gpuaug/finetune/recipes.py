"""What a recipe means: its defaults, which parameters learn and how fast, the optimiser, the schedule."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from gpuaug.messages import meant

from . import models
from .config import Config

SMALLEST_BATCH = 8  # of those that are chosen here
EPOCH_STEPS = {"probe": 8, "finetune": 8, "full": 16}  # at least so many steps has an epoch of few images
RUN_STEPS = {"probe": 0, "finetune": 240, "full": 1000}  # and at least so many a run, by more epochs,
MOST_EPOCHS = 4  # times the recipe's
WARMUP_SHARE = 0.2  # of all epochs, at most
VAL_FRACTION, SMALLEST_VALIDATION = 0.1, 100


@dataclass(frozen=True)
class Recipe:
    """The options of :class:`Config` that a recipe decides, each with a value."""

    name: str
    epochs: int
    batch_size: int
    optimizer: str
    lr: float
    schedule: str
    warmup_epochs: float
    weight_decay: float
    layer_decay: float
    head_lr: float
    head_epochs: int
    label_smoothing: float
    clip: float | None


PROBE = Recipe("probe", 100, 256, "adamw", 3e-3, "cosine", 0.0, 0.01, 1.0, 1.0, 0, 0.0, None)
FINETUNE = Recipe("finetune", 20, 64, "adamw", 1e-3, "cosine", 1.0, 0.05, 0.9, 1.0, 1, 0.1, 1.0)
FULL = Recipe("full", 30, 128, "sgd", 0.1, "onecycle", 0.0, 5e-4, 1.0, 1.0, 0, 0.1, None)
RECIPES = {recipe.name: recipe for recipe in (PROBE, FINETUNE, FULL)}


def resolve(
    config: Config, pretrained: bool, images: int, largest: int | None = None, noun: str = "image"
) -> tuple[Recipe, list[str]]:
    """(the recipe with what ``config`` says in place of its defaults, what was decided, in words).

    ``pretrained``: the model has weights. ``images``: in the training part, of each process, called ``noun``.
    ``largest``: batch where nothing is said.
    """
    name = config.recipe or ("finetune" if pretrained else "full")
    why = "" if config.recipe else ": the model has weights" if pretrained else ": the weights begin at random"
    told = [f"recipe {name}{why}"]
    asked = {f.name: getattr(config, f.name) for f in fields(Recipe) if f.name != "name"}
    recipe = replace(RECIPES[name], **{option: value for option, value in asked.items() if value is not None})
    if config.lora is not None and config.layer_decay is None:
        recipe = replace(recipe, layer_decay=1.0)
        told += [] if RECIPES[name].layer_decay == 1 else ["layer_decay 1: all adapters learn at one rate"]
    if config.batch_size is None and largest is not None:
        recipe = replace(recipe, batch_size=min(recipe.batch_size, largest))
    few = max(SMALLEST_BATCH, images // EPOCH_STEPS[name])
    if config.batch_size is None and few < recipe.batch_size:
        recipe = replace(recipe, batch_size=few)
        told.append(f"batches of {few}: {images:,} {noun}s make {max(1, images // few)} steps an epoch then")
    steps = max(1, images // (recipe.batch_size * config.accumulate))
    epochs = min(-(-RUN_STEPS[name] // steps), MOST_EPOCHS * recipe.epochs)
    if config.epochs is None and epochs > recipe.epochs:
        recipe = replace(recipe, epochs=epochs)
        told.append(f"{epochs} epochs: {epochs * steps:,} steps, as one of {images:,} {noun}s has {steps}")
    if config.warmup_epochs is None:
        recipe = replace(recipe, warmup_epochs=min(recipe.warmup_epochs, WARMUP_SHARE * recipe.epochs))
    if recipe.head_epochs >= recipe.epochs and config.head_epochs is None:
        recipe = replace(recipe, head_epochs=0)
    if name == "probe" and not pretrained:
        told.append("features of random weights say little: --weights FILE or --weights pretrained probes learned ones")
    return recipe, told


class Diverged(ValueError):
    """A loss that is no longer finite, or a metric that chooses and was never a number."""


def held_out(config: Config, images: int) -> tuple[float, bool]:
    """(the fraction of the training part that becomes the validation part, whether it is 0 for want of images).

    Choosing the best of many epochs by a few images chooses by chance, and costs these images.
    """
    if config.val_fraction is not None:
        return config.val_fraction, False
    needed = config.patience is not None or config.schedule == "plateau" or config.best is not None
    few = images * VAL_FRACTION < SMALLEST_VALIDATION and not needed
    return (0.0 if few else VAL_FRACTION), few


# --- parameters -------------------------------------------------------------------------------------------------------
def layers(model: nn.Module) -> dict[str, int]:
    """For each parameter its layer, 0 at the input; the classifier is the last. timm's models say what a layer is; of
    other models each child is one, and each of a Sequential's."""
    if hasattr(model, "group_matcher"):
        from timm.models import group_parameters

        found = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
    else:
        places: dict[str, int] = {}
        for name, _ in model.named_parameters():
            first, *rest = name.split(".")
            inside = rest and isinstance(getattr(model, first), nn.Sequential)
            places.setdefault(f"{first}.{rest[0]}" if inside else first, len(places))
        found = {}
        for name, _ in model.named_parameters():
            place = ".".join(name.split(".")[:2])
            found[name] = places[place] if place in places else places[name.split(".")[0]]
    head = models.head_prefixes(model)
    last = max((layer for name, layer in found.items() if not name.startswith(head)), default=-1) + 1
    return {name: last if name.startswith(head) else layer for name, layer in found.items()}


def frozen(model: nn.Module, spec: str | None) -> set[str]:
    """Names of the parameters that never learn, see ``Config.freeze``. Raises ValueError for a spec that freezes
    nothing, everything, or is no regular expression."""
    if spec is None:
        return set()
    by_layer = layers(model)
    last = max(by_layer.values())
    if spec == "backbone":
        found = {name for name, layer in by_layer.items() if layer < last}
    elif spec.isdecimal():
        found = {name for name, layer in by_layer.items() if layer < int(spec)}
    else:
        try:
            found = {name for name in by_layer if re.search(spec, name)}
        except re.error as error:
            raise ValueError(f"freeze={spec!r} is no regular expression: {error}") from None
    if not found or len(found) == len(by_layer):
        what = "nothing" if not found else "everything"
        raise ValueError(
            f"freeze={spec!r} freezes {what}; backbone, a number of layers from 1 to {last}, or a regular expression "
            f"for names such as {', '.join(list(by_layer)[:3])}"
        )
    return found


def head_first(
    config: Config, recipe: Recipe, model: nn.Module, never: set[str], pretrained: bool, new: bool
) -> tuple[Recipe, list[str]]:
    """(the recipe with the epochs in which only the classifier learns, what was decided, in words).

    ``never``: see :func:`frozen`. ``pretrained``: the model has weights. ``new``: its classifier has none.
    Raises ValueError where such epochs are asked for and the classifier is frozen.
    """
    if not recipe.head_epochs:
        return recipe, []
    head = models.head_prefixes(model)
    if all(name in never for name, _ in model.named_parameters() if name.startswith(head)):
        if config.head_epochs:
            raise ValueError(
                f"head_epochs={config.head_epochs}: only the classifier learns in these, and freeze={config.freeze!r} "
                "freezes it; leave one of both out"
            )
        why = "the classifier is frozen: what is not learns"
    elif config.head_epochs is None and not pretrained:
        why = "the weights begin at random: everything learns"
    elif config.head_epochs is None and not new:
        why = "the classifier is not new: everything learns"
    else:
        return recipe, []
    return replace(recipe, head_epochs=0), [f"{why} from the first epoch on"]


def let_learn(model: nn.Module, never: set[str], head_only: bool) -> None:
    """Which parameters have gradients: not those of ``never``, and with ``head_only`` the classifier's alone."""
    head = models.head_prefixes(model) if head_only else ("",)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in never and name.startswith(head))


def train_mode(model: nn.Module, frozen_bn: bool) -> None:
    """Training mode; a batch norm that does not learn keeps its statistics, with ``frozen_bn`` each does."""
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            parameters = list(module.parameters(recurse=False))
            if frozen_bn or (parameters and not any(p.requires_grad for p in parameters)):
                module.eval()


def groups(model: nn.Module, recipe: Recipe, never: set[str]) -> list[dict[str, Any]]:
    """Parameter groups for an optimiser, with their lr and weight_decay.

    The classifier has ``lr * head_lr``, the layer in front of it ``lr``, the one before ``lr * layer_decay``, and so
    on (Clark et al., arXiv 2003.10555, section 3.3). Norms, biases and what the model says itself do not decay.
    """
    by_layer, found = layers(model), {}
    last = max(by_layer.values())
    spared = model.no_weight_decay() if hasattr(model, "no_weight_decay") else set()
    for name, parameter in model.named_parameters():
        if name not in never:
            depth = last - by_layer[name]
            scale = recipe.head_lr if depth == 0 else recipe.layer_decay ** (depth - 1)
            decays = parameter.ndim > 1 and name not in spared
            found.setdefault((scale, decays), []).append(parameter)
    return [
        {"params": some, "lr": recipe.lr * scale, "weight_decay": recipe.weight_decay * decays}
        for (scale, decays), some in found.items()
    ]


# --- optimiser, schedule ----------------------------------------------------------------------------------------------
def optimizer(
    model: nn.Module, recipe: Recipe, never: set[str], more: Sequence[nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """timm's, by name; ``more``: what learns beside the model, without decay. Raises ValueError for a name that it does
    not know."""
    from timm.optim import create_optimizer_v2

    check_optimizer(recipe.optimizer)
    try:
        every = groups(model, recipe, never)
        every += [{"params": list(more), "lr": recipe.lr, "weight_decay": 0.0}] if more else []
        return create_optimizer_v2(every, recipe.optimizer, recipe.lr)
    except (ImportError, AssertionError, TypeError) as error:
        raise ValueError(f"optimizer {recipe.optimizer!r} cannot be used here: {error}") from error


def check_optimizer(name: str) -> None:
    """Raises ValueError for a name that timm does not know."""
    from timm.optim import list_optimizers

    if name not in list_optimizers():
        hint = meant(name, list_optimizers()) or "; adamw, sgd, lamb, lion, adopt, ..."
        raise ValueError(f"there is no optimizer {name!r}{hint}")


class Schedule:
    """The learning rates of all groups: :meth:`step` after each step, :meth:`epoch` after each epoch.

    Args:
        steps: of the whole run. per_epoch: of an epoch. patience: of plateau, in epochs. hold: after so many steps the
            rates stay as they are.

    Attributes:
        used: the highest rate of the last step.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        recipe: Recipe,
        steps: int,
        per_epoch: int,
        patience: int = 3,
        hold: int | None = None,
    ):
        from torch.optim import lr_scheduler as lr

        self.optimizer, self.by_epoch, self.hold = optimizer, None, hold
        self.used = self.lr
        warm = min(round(recipe.warmup_epochs * per_epoch), steps - 1)

        def factor(step: int) -> float:
            if step < warm:
                return 0.01 + 0.99 * step / warm
            if recipe.schedule == "constant":
                return 1.0
            return 0.01 + 0.99 * (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1))) / 2

        if recipe.schedule == "onecycle":
            highest = [group["lr"] for group in optimizer.param_groups]
            self.by_step = lr.OneCycleLR(optimizer, highest, total_steps=steps, cycle_momentum=False)
        elif recipe.schedule == "plateau":
            self.by_step = lr.LinearLR(optimizer, 0.01 if warm else 1.0, total_iters=max(warm, 1))
            self.by_epoch = lr.ReduceLROnPlateau(optimizer, "max", factor=0.1, patience=patience)
        else:
            self.by_step = lr.LambdaLR(optimizer, factor)

    def step(self) -> None:
        self.used = self.lr
        if self.hold is None or self.by_step.last_epoch < self.hold:
            self.by_step.step()

    def epoch(self, value: float | None) -> None:
        """An epoch has ended, with this value of the metric that chooses, more being better."""
        if self.by_epoch is not None and value is not None:
            self.by_epoch.step(value)

    @property
    def lr(self) -> float:
        """The highest rate that a group has just now."""
        return max(group["lr"] for group in self.optimizer.param_groups)

    def state_dict(self) -> list[dict[str, Any]]:
        """Of its parts."""
        return [part.state_dict() for part in self._parts()]

    def load_state_dict(self, state: Sequence[Mapping[str, Any]]) -> None:
        for part, saved in zip(self._parts(), state, strict=True):
            part.load_state_dict(saved)

    def _parts(self) -> list:
        return [part for part in (self.by_step, self.by_epoch) if part is not None]
