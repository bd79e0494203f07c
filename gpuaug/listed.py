"""A pipeline as the list of its ops: its length, parts, sums, and how it prints."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from .inputs import children_of
from .messages import shown


class Listed:
    """The part of `compose.Compose` that is a list of transforms, as torch.nn.Sequential is one."""

    def __len__(self) -> int:
        return len(self.transforms)

    def __bool__(self) -> bool:
        return True  # a pipeline without ops is one, too

    def __iter__(self) -> Iterator[Any]:
        return iter(self.transforms)

    def __contains__(self, transform: Any) -> bool:
        return transform in self.transforms

    def __getitem__(self, index: int | slice) -> Any:
        """An op; or, of a slice, a pipeline of the same seed and settings, with a counter of its own. Without a step
        its ops draw what they draw in the whole pipeline, where sizes are the same."""
        if not isinstance(index, slice):
            return self.transforms[_number(index)]
        start, _, step = index.indices(len(self))
        front = [*self._front, *self.transforms[:start]] if step == 1 else []
        return self._like(self.transforms[index], front)

    def __setitem__(self, index: int | slice, transform: Any) -> None:
        if isinstance(index, slice):
            self.transforms[index] = children_of("Compose", transform)
        else:
            (self.transforms[_number(index)],) = children_of("Compose", [transform])

    def __delitem__(self, index: int | slice) -> None:
        del self.transforms[index]

    def __add__(self, other: Any) -> Any:
        """The ops of both, with this one's seed and settings; or of this one and a list."""
        return self._like([*self.transforms, *_ops_of(other)], self._front) if _adds(other) else NotImplemented

    def __radd__(self, other: Any) -> Any:
        return self._like([*_ops_of(other), *self.transforms], []) if _adds(other) else NotImplemented

    def append(self, transform: Any) -> Any:
        """Add an op behind all others; returns the pipeline."""
        return self.extend([transform])

    def insert(self, index: int, transform: Any) -> Any:
        """Add an op in front of that of a number; returns the pipeline."""
        self.transforms.insert(_number(index), *children_of("Compose", [transform]))
        return self

    def extend(self, transforms: Iterable[Any]) -> Any:
        """Add ops behind all others; returns the pipeline."""
        self.transforms.extend(children_of("Compose", transforms))
        return self

    def pop(self, index: int = -1) -> Any:
        """Take an op out, and return it."""
        return self.transforms.pop(_number(index))

    def _like(self, transforms: list, front: list) -> Any:
        """A pipeline of other ops with the same seed and settings.

        Args:
            front: ops that stand in front of them elsewhere: those here draw as they do there.
        """
        new = type(self)(transforms, seed=self.seed, backend=self.backend, memory_format=self.memory_format)
        new.check, new.same_on_batch, new.epoch = self.check, self.same_on_batch, self.epoch
        new._behind(list(front))
        return new

    def __repr__(self) -> str:
        transforms = [*self._front, *self.transforms]
        lines = "".join(f"    {_shown(t)},\n" for t in transforms)
        extras = f"seed={self.seed}"
        extras += "" if self.backend == "auto" else f", backend={self.backend!r}"
        extras += "" if self.memory_format == torch.preserve_format else f", memory_format={self.memory_format}"
        extras += "".join(f", {name}=True" for name in ("check", "same_on_batch") if getattr(self, name))
        part = f"[{len(self._front)}:]" if self._front else ""
        return f"Compose([\n{lines}], {extras}){part}" if lines else f"Compose([], {extras})"


def _number(index: Any) -> int:
    try:
        return operator.index(index)
    except TypeError:
        raise TypeError(f"Compose: ops are numbered by whole numbers and slices, got {shown(index)}") from None


def _adds(other: Any) -> bool:
    return isinstance(other, Listed | list | tuple)


def _ops_of(other: Any) -> Iterable[Any]:
    return other.transforms if isinstance(other, Listed) else other


def _shown(transform: Any) -> str:
    """As code, if it has any; a function by its name."""
    name = getattr(transform, "__qualname__", None)
    if name is None or isinstance(transform, type) or name.startswith("<"):
        return repr(transform)
    module = getattr(transform, "__module__", None)
    return name if module in (None, "builtins", "__main__") else f"{module}.{name}"
