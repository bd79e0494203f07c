"""What a conversion has found so far: where it stands, what has no counterpart, and what is only different."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..messages import shown
from ..transforms import Identity, RandomApply, RandomChoice, Transform

MOST_CHOICES = 12  # of RandomChoice
STEPS = 8  # values that stand for a range where ours takes one number


class Reading:
    """The state of one conversion.

    Attributes:
        missing: what has no counterpart, each with its place and what to do instead.
        different: what is converted, but not the same.
        bound: the largest value of a pixel where the conversion stands: 255, or 1 behind a change to floats.
        canvas: (height, width) where it stands, if that is known.
        same_on_batch: what was said by each op that draws, with its place.
        around: what the containers around an op say of it, from the outside in.
        in_floats: an argument is in units of [0, 1].
    """

    def __init__(self, read: Callable[[Any, Reading], list[Transform]]):
        self._read = read
        self.missing: list[str] = []
        self.different: list[str] = []
        self.bound = 255
        self.canvas: tuple[int, int] | None = None
        self.same_on_batch: list[tuple[str, bool]] = []
        self.around: list[bool | None] = []
        self.in_floats = False
        self._indices: list[int] = []
        self._op = ""

    @property
    def place(self) -> str:
        """Of the op that is read: its path of indices and its name."""
        return ".".join([*map(str, self._indices), self._op])

    @contextmanager
    def at(self, index: int | None, source: Any) -> Iterator[None]:
        """The op, the index-th of those around it, is read; None is the pipeline itself."""
        before = self._op
        self._op = getattr(source, "__name__", None) or type(source).__name__
        if index is not None:
            self._indices.append(index)
        try:
            yield
        finally:
            self._op = before
            if index is not None:
                self._indices.pop()

    def read(self, source: Any) -> list[Transform]:
        """An op or a pipeline of any library inside of another."""
        return self._read(source, self)

    def each(self, sources: Iterable[Any]) -> list[list[Transform]]:
        """What each of several becomes, at its place."""
        found = []
        for index, source in enumerate(sources):
            with self.at(index, source):
                found.append(self.read(source))
        return found

    def read_all(self, sources: Iterable[Any]) -> list[Transform]:
        """Several, one after the other."""
        return [op for ops in self.each(sources) for op in ops]

    def called(self) -> None:
        """Tell how a callable is called."""
        self.differs("is called on what comes to it: of a batch the tensor [B, C, H, W]")

    def lacks(self, mend: str, **arguments: Any) -> list[Transform]:
        """Note that the op, or these arguments of it, have no counterpart."""
        told = ", ".join(f"{name}={shown(value)}" for name, value in arguments.items())
        self.missing.append(f"{self.place}({told}): {mend}" if told else f"{self.place}: {mend}")
        return []

    def refuse(self, source: Any, mend: str, **wanted: Any) -> None:
        """Note each argument that is not what alone has a counterpart."""
        for name, value in wanted.items():
            found = getattr(source, name, value)
            if found != value and str(found) != str(value):
                self.lacks(f"{mend} ({name}={shown(value)} has a counterpart)", **{name: found})

    def differs(self, what: str) -> None:
        """Note that the op is converted, but not the same."""
        self.different.append(f"{self.place}: {what}")

    def make(self, kind: Callable[..., Transform], **arguments: Any) -> list[Transform]:
        """The op of these arguments in a list, or none where it refuses them."""
        try:
            return [kind(**arguments)]
        except (ValueError, TypeError) as error:
            text = str(error)
            name = getattr(kind, "__name__", "")
            text = text.removeprefix(f"{name}: ")
            word = text.partition(" ")[0]
            if word in arguments:
                return self.lacks(text, **{word: arguments[word]})
            return self.lacks(text)

    def spread(
        self, kind: Callable[..., Transform], name: str, ends: Sequence[float], p: float, /, **rest: Any
    ) -> list:
        """An op whose argument is drawn from a range, where ours takes one number: one of so many, equally likely."""
        low, high = ends
        if low == high:
            return self.applied(self.make(kind, **{name: low}, **rest), p)
        self.differs(f"{name} is one of {STEPS} values in [{low:g}, {high:g}]")
        values = [round(low + (high - low) * (i + 0.5) / STEPS, 6) for i in range(STEPS)]
        found = [op for value in values for op in self.make(kind, **{name: value}, **rest)]
        return self.applied([RandomChoice(found)] if len(found) == STEPS else [], p)

    def any_of(self, kind: Callable[..., Transform], name: str, low: int, high: int, p: float, /, **rest: Any) -> list:
        """An op whose argument is a whole number of low .. high, each as likely."""
        found = [op for value in range(low, high + 1) for op in self.make(kind, **{name: value}, **rest)]
        return self.applied([RandomChoice(found)] if len(found) > 1 else found, p)

    @staticmethod
    def applied(transforms: list[Transform], p: float) -> list[Transform]:
        """All of them with probability p."""
        return transforms if p >= 1.0 or not transforms else [RandomApply(transforms, p=p)]


def together(transforms: list[Transform]) -> Transform:
    """Several ops as one."""
    if len(transforms) == 1:
        return transforms[0]
    return RandomApply(transforms, p=1.0) if transforms else Identity()


def chosen(options: Sequence[list[Transform]], weights: Sequence[float] | None = None) -> list[Transform]:
    """One of several lists of ops."""
    if len(options) == 1:
        return list(options[0])
    equal = weights is None or len(set(weights)) == 1
    return [RandomChoice([together(option) for option in options], p=None if equal else list(weights))]


def subsets(options: Sequence[list[Transform]], count: int, ordered: bool) -> list[list[Transform]] | None:
    """All ways to take so many of them, in their order or in any; None where those are too many."""
    ways = itertools.permutations(options, count) if ordered else itertools.combinations(options, count)
    found = list(itertools.islice(ways, MOST_CHOICES + 1))
    if len(found) > MOST_CHOICES:
        return None
    return [[op for option in way for op in option] for way in found]


def plain_number(value: Any) -> float:
    """A number as Python's; of float32 the shortest that is it."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, int):
        return value
    short = float(str(np.float32(value)))
    return short if np.float32(value) == np.float32(short) else float(value)
