"""What ``gpuaug tune`` searches for the data at hand: as it was asked for, or as is usual.

What an option may be beside the others follows from the rules of :mod:`gpuaug.finetune.unused`: one that would change
nothing in a trial is not part of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from . import auto, recipes, unused
from .config import AUTO, Config, kinds_of_fields
from .searched import LOGARITHMIC, RANGES, SEARCHED, TIMES, USUAL, Option

if TYPE_CHECKING:
    from optuna.trial import Trial

    from .opening import Job

EACH = 9  # trials for each augmentation of a strength, of weak, medium and strong ones


@dataclass(frozen=True)
class Space:
    """All that is searched around a config, in the order in which it is drawn.

    Attributes:
        config: what all trials have. given: names of what was given in Python. pretrained: the model has weights.
        images: of the training part. task: its name. batch, noun: of the task.
    """

    options: tuple[Option, ...]
    config: Config
    given: tuple[str, ...]
    pretrained: bool
    images: int
    task: str
    batch: int | None
    noun: str

    @classmethod
    def of(cls, job: Job, config: Config, options: Sequence[Option] = ()) -> Space:
        """``job``: opened as all trials are."""
        known = job.facts["resolved"]
        pretrained = job.task.has_weights(config, None)
        fixed = (tuple(known["given"]), pretrained, len(job.parts.train), job.task.name, job.task.batch, job.task.noun)
        return cls(tuple(options), config, *fixed)

    def recipe(self, config: Config) -> recipes.Recipe:
        """What a trial's recipe is."""
        return recipes.resolve(config, self.pretrained, self.images, self.batch, self.noun)[0]

    def asked(self, config: Config) -> unused.Asked:
        return unused.Asked(config, self.given, self.recipe(config), True, self.task)

    def usual(self, name: str, config: Config) -> Any:
        """The default of an option, of the recipe where this has one; None where it is decided elsewhere."""
        recipe = self.recipe(replace(config, **{name: unused.DEFAULTS[name]}))
        return getattr(recipe, name, unused.DEFAULTS[name]) if name != "recipe" else recipe.name

    def ends(self, option: Option, config: Config) -> Sequence[Any]:
        """The values that an option is tried with beside others, in a trial that has ``config`` so far."""
        return option.ends(self.usual(option.name, config) if option.times else None)

    def refused(self, option: Option, config: Config) -> str:
        """Why an option has no effect in a trial that has ``config`` so far; empty where it has."""
        for value in self.ends(option, config):
            asked = self.asked(replace(config, **{option.name: value}))
            for rule in unused.RULES:
                named = rule.option.partition("=")[0]
                in_python = rule.option.endswith("=")
                mine = named == option.name and not in_python and unused.was_given(rule.option, asked)
                if mine and rule.where(asked):
                    return f"{rule.option} has no effect with {rule.beside}"
        return ""

    def drawn(self, trial: Trial) -> dict[str, Any]:
        """The options of a trial: those that have an effect beside the others."""
        found: dict[str, Any] = {}
        for option in self.options:
            config = replace(self.config, **found)
            if not self.refused(option, config):
                usual = self.usual(option.name, config) if option.times else None
                found[option.name] = option.value(option.suggest(trial), usual)
        return found

    def defaults(self, augment: str) -> dict[str, Any]:
        """What :meth:`drawn` draws where every option has its default, as far as this is in its range; ``augment``: the
        one that is usual for the data."""
        found: dict[str, Any] = {}
        for option in self.options:
            usual = augment if option.name == "augment" else self.usual(option.name, self.config)
            value = 1.0 if option.times else usual
            inside = value in option.choices if option.choices else _between(option, value)
            if inside:
                found[option.name] = value
        return found

    def as_list(self) -> list[dict[str, Any]]:
        """Its options, as plain JSON."""
        return [dataclasses.asdict(option) for option in self.options]


def _between(option: Option, value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and option.low <= value <= option.high


def opened(job: Job, config: Config, asked: Sequence[Option | str], trials: int) -> tuple[Space, list[str]]:
    """(what is searched around ``config``, what was decided, in words); ``asked``: of ``--search``, empty where nothing
    was said. Raises ValueError for what has no effect in any trial, and where nothing is left."""
    space, told = Space.of(job, config), []
    names: Sequence[Option | str] = asked or [
        name for name in SEARCHED if name in USUAL and getattr(config, name) == unused.DEFAULTS[name]
    ]
    for one in names:
        option = one if isinstance(one, Option) else usual(one, job, space, trials, bool(asked))
        if option is not None:
            space = _with(space, option, isinstance(one, Option) or bool(asked))
            _check_presets(job, option)
    if not space.options:
        raise ValueError("search: nothing is left to search; name options, such as --search lr weight_decay")
    told += [f"search   {option.name}: {option.words}" for option in space.options]
    return space, told


def usual(name: str, job: Job, space: Space, trials: int, asked: bool) -> Option | None:
    """The range of an option where none was given; None where there is none for the data and it was not ``asked``
    for."""
    if name == "recipe":
        choices = tuple(_recipes_for(job, space))
        if len(choices) < 2 and asked:
            raise ValueError(f"search: recipe can only be {choices[0]} here; give the choices, 'recipe=finetune,full'")
        return Option(name, choices=choices) if len(choices) > 1 else None
    if name == "augment":
        return _augment(job, space, trials, asked)
    if name in TIMES:
        return Option(name, *TIMES[name], log=True, times=True)
    if name in RANGES:
        return Option(name, *RANGES[name], log=name in LOGARITHMIC)
    words = [kind for kind in kinds_of_fields()[name] if isinstance(kind, str)]
    if len(words) > 1:
        return Option(name, choices=tuple(words))
    raise ValueError(f"search: {name} has no usual range; give one: '{name}=LOW:HIGH' or '{name}=A,B,...'")


def _recipes_for(job: Job, space: Space) -> list[str]:
    """Recipes that can be, beside what is given: without weights full alone."""
    if not space.pretrained:
        return [job.recipe.name]
    found = []
    for name in recipes.RECIPES:
        config = replace(space.config, recipe=name)
        if name == "probe" and job.task.name in ("detect", "segment"):
            continue
        try:
            unused.check(space.asked(config))
        except ValueError:
            continue
        found.append(name)
    return found


def _augment(job: Job, space: Space, trials: int, asked: bool) -> Option | None:
    """The candidates of augment=auto, as many of each strength as so many trials can tell apart."""
    if "augment" in space.given or (space.config.recipe == "probe" and not asked):
        return None
    try:
        groups = auto.candidates(job)
    except ValueError:
        if asked:
            raise ValueError(
                f"search: augment has no candidates for the task {job.task.name}; name them: 'augment=none,PRESET'"
            ) from None
        return None
    most = max(1, trials // EACH)
    return Option("augment", choices=tuple(spec for group in groups for spec in group[:most]))


def _with(space: Space, option: Option, asked: bool) -> Space:
    """``space`` and one more option. Raises ValueError where it has no effect whatever the recipe is, and where
    something else has none beside one of its values."""
    every = next((one.choices for one in space.options if one.name == "recipe"), (space.config.recipe,))
    configs = [space.config] if option.name == "recipe" else [replace(space.config, recipe=name) for name in every]
    why = [space.refused(option, config) for config in configs]
    if all(why) and all(space.refused(option, config) for config in _beside(space, configs)):
        if asked:
            raise ValueError(f"search: {why[0]}: leave it out")
        return space
    for config, refused in zip(configs, why, strict=True):
        for value in () if refused else space.ends(option, config):
            unused.check(space.asked(replace(config, **{option.name: value})))
    return replace(space, options=(*space.options, option))


def _beside(space: Space, configs: Sequence[Config]) -> list[Config]:
    """``configs``, each with one value of one option that is searched."""
    found = []
    for config in configs:
        for one in space.options:
            found += [replace(config, **{one.name: value}) for value in space.ends(one, config)]
    return found


def _check_presets(job: Job, option: Option) -> None:
    """Raises ValueError for a preset or an optimiser that there is not."""
    for value in option.choices:
        if option.name == "augment":
            if value == AUTO:
                raise ValueError("search: augment=auto is a search of its own; name presets")
            job.input.augmented(value)
        elif option.name == "optimizer":
            recipes.check_optimizer(value)
