"""``gpuaug tune``: search the options of a run."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated

import tyro

from gpuaug.finetune.config import Config

from .finetune import Finetune


@dataclass(frozen=True)
class Tune(Finetune):
    """Search learning rate, augmentation and recipe, or what --search names, by trials on the validation part, and run
    once with the best; needs the extra gpuaug[tune].

    Takes the options of gpuaug finetune, which all trials have.
    """

    trials: int | None = None
    """How many, 20 by default. The first one has the defaults. With --resume: in all."""
    timeout: float | None = None
    """Minutes of trials, after which none begins any more."""
    search: tuple[str, ...] = ()
    """What is searched: names of options, which have a usual range, or ranges and lists, such as lr=1e-4:1e-2,
    epochs=3:12 or recipe=finetune,full. By default lr (a tenth to ten times the recipe's), augment (the candidates of
    --augment auto) and, where the model has weights, recipe."""
    prune: bool = True
    """End trials that are worse than the median of the others at the same share of their run."""
    final: bool = True
    """Train a run with the best options at the end, with its report."""
    resume: Annotated[str | None, tyro.conf.arg(metavar="STUDY")] = None
    """Go on with a search that was stopped, or had fewer trials: its folder, or its name or number in --out."""


def run(command: Tune) -> None:
    """Search, or go on."""
    from gpuaug.finetune import tuning

    config = Config(**{field.name: getattr(command, field.name) for field in fields(Config)})
    if command.resume is None:
        known = {name: getattr(command, name) for name in ("timeout", "search", "prune", "final")}
        tuning.tune(config, trials=20 if command.trials is None else command.trials, **known)
        return
    other = [field.name for field in fields(Config) if getattr(config, field.name) != field.default]
    other += ["search"] * bool(command.search) + ["prune"] * (not command.prune)
    if other := [name for name in other if name != "out"]:
        raise ValueError(f"{other[0]} has no effect with resume (a search goes on as it was begun): leave it out")
    final = None if command.final else False
    tuning.resume(command.resume, command.out, trials=command.trials, timeout=command.timeout, final=final)
