"""What ``--search`` says: options of a run, each over a range or a list."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gpuaug.messages import meant, shown

from . import unused
from .config import Config, kinds_of_fields

if TYPE_CHECKING:
    from optuna.trial import Trial

SEARCHED = (  # those that others depend on come first
    "recipe", "schedule", "freeze", "model", "size", "lora", "lora_layers", "lora_alpha", "optimizer",
    "augment", "feature_augment", "lr", "epochs",
    "batch_size", "accumulate", "warmup_epochs", "plateau_patience", "weight_decay", "l1", "layer_decay", "head_lr",
    "head_epochs", "frozen_bn", "dropout", "drop_path", "label_smoothing", "mixup", "cutmix", "copy_paste", "balance",
    "clip", "ema", "swa", "distill_temperature", "distill_weight", "decoder", "detector", "max_tokens", "vocab_size",
    "frames", "stride", "pooling",
)  # fmt: skip
USUAL = ("lr", "augment", "recipe")  # where nothing is said
TIMES = {"lr": (0.1, 10.0), "weight_decay": (0.1, 10.0)}  # of the recipe's default
RANGES = {
    "layer_decay": (0.6, 1.0), "label_smoothing": (0.0, 0.2), "mixup": (0.0, 0.8), "cutmix": (0.0, 1.0),
    "dropout": (0.0, 0.5), "drop_path": (0.0, 0.3), "head_lr": (1.0, 10.0),
}  # fmt: skip
LOGARITHMIC = ("lr", "weight_decay", "l1", "head_lr", "clip")  # where nothing is said
DIGITS = 3  # of a number that is drawn


@dataclass(frozen=True)
class Option:
    """One searched option.

    Attributes:
        name: a field of Config. choices: what it may be; where there are none it is between ``low`` and ``high``.
        log: drawn by its logarithm. whole: a whole number. times: the range is of multiples of the recipe's default.
    """

    name: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    times: bool = False
    choices: tuple = field(default=())

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Option:
        """Of what ``dataclasses.asdict`` gave, from JSON."""
        return cls(**{**fields, "choices": tuple(fields["choices"])})

    def suggest(self, trial: Trial) -> Any:
        """What optuna draws: a choice, a number, or of ``times`` a factor."""
        if self.choices:
            return trial.suggest_categorical(self.name, self.choices)
        if self.whole:
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)

    def value(self, drawn: Any, usual: float | None) -> Any:
        """What the run gets of it; ``usual``: the recipe's default. Of DIGITS digits, as a command line has it."""
        if self.choices or self.whole:
            return drawn
        number = float(f"{drawn * usual if self.times else drawn:.{DIGITS}g}")
        return number if self.times else min(max(number, self.low), self.high)

    def ends(self, usual: float | None) -> tuple:
        """Values that may be refused, if any is."""
        return self.choices or tuple(self.value(end, usual) for end in (self.low, self.high))

    @property
    def words(self) -> str:
        """In words."""
        if self.choices:
            return " | ".join(map(str, self.choices))
        how = ", logarithmic" if self.log else ""
        return f"{self.low:g} to {self.high:g}{' times the usual' if self.times else ''}{how}"


def parse(search: Sequence[str], config: Config) -> list[Option | str]:
    """What ``--search`` says, in the order of SEARCHED: an Option, or only its name where no range was given. Raises
    ValueError for a name that cannot be searched, a range that cannot be, and an option that ``config`` gives."""
    found: dict[str, Option | str] = {}
    for text in search:
        name, equals, said = text.partition("=")
        name = name.strip().replace("-", "_")
        _check_name(name)
        if name in found:
            raise ValueError(f"search: {name} stands there twice; leave one out")
        if getattr(config, name) != unused.DEFAULTS[name]:
            raise ValueError(f"search: {name} is searched, and given as {getattr(config, name)}; leave one out")
        found[name] = _option(name, said.strip(), text) if equals else name
        if isinstance(found[name], Option):
            _check_values(found[name], config, text)
    return [found[name] for name in SEARCHED if name in found]


def _check_name(name: str) -> None:
    if name in SEARCHED:
        return
    if name in unused.DEFAULTS:
        raise ValueError(
            f"search: {name} cannot be searched: it changes nothing of what is learned, or what trials are judged by"
        )
    hint = meant(name, SEARCHED) or f"; such as {', '.join((*USUAL, *RANGES))}"
    raise ValueError(f"search: there is no option {name!r}{hint}")


def _option(name: str, said: str, text: str) -> Option:
    kinds = kinds_of_fields()[name]
    numeric = (int in kinds or float in kinds) and bool not in kinds
    if numeric and ":" in said:
        return _range(name, said, text, whole=float not in kinds)
    choices = tuple(_choice(one, kinds, name, text) for one in listed(said))
    if len(set(map(repr, choices))) < max(2, len(choices)):
        range_ = f" or a range, '{name}=LOW:HIGH'" if numeric else ""
        raise ValueError(f"search: {shown(text)}: give at least two different values, '{name}=A,B,...'{range_}")
    return Option(name, choices=choices)


def _range(name: str, said: str, text: str, whole: bool) -> Option:
    low, high, *how = (part.strip() for part in said.split(":"))
    if len(how) > 1 or (how and how[0] not in ("log", "linear")):
        raise ValueError(f"search: {shown(text)}: a range is LOW:HIGH, LOW:HIGH:log or LOW:HIGH:linear")
    ends = [_number(end, whole, text) for end in (low, high)]
    if not ends[0] < ends[1]:
        raise ValueError(f"search: {shown(text)}: a range begins with its smaller end, and {low} is not below {high}")
    log = how == ["log"] or (not how and name in LOGARITHMIC and ends[0] > 0)
    if log and ends[0] <= 0:
        raise ValueError(f"search: {shown(text)}: a logarithmic range begins above 0, got {low}")
    return Option(name, *ends, log=log, whole=whole)


def _number(text: str, whole: bool, said: str) -> float:
    try:
        number = int(text) if whole else float(text)
    except ValueError:
        raise ValueError(f"search: {shown(said)}: {text!r} is no {'whole ' * whole}number") from None
    if not math.isfinite(number):
        raise ValueError(f"search: {shown(said)}: {text} is not finite")
    return number


def _choice(text: str, kinds: tuple, name: str, said: str) -> Any:
    """A value of a list: a whole number, a number, True or False, or a word."""
    if bool in kinds:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"search: {shown(said)}: {name} is True or False, got {text!r}")
        return text.lower() == "true"
    if float in kinds:
        return _number(text, False, said)
    if int in kinds and text not in kinds:
        return _number(text, True, said)
    return text


def listed(text: str) -> list[str]:
    """The values of a list with commas, of which those in brackets, and those in front of a preset's further
    arguments, do not separate: two of ``none,geometric:degrees=10,scale=(1, 2)``."""
    found: list[str] = []
    for part in re.split(r",(?![^(\[]*[)\]])", text):
        if found and re.match(r"\s*\w+\s*=", part) and ":" in found[-1]:
            found[-1] += f",{part}"
        else:
            found.append(part.strip())
    return [part for part in found if part]


def _check_values(option: Option, config: Config, text: str) -> None:
    for value in option.ends(None):
        try:
            replace(config, **{option.name: value})
        except ValueError as error:
            raise ValueError(f"search: {shown(text)}: {error}") from None
