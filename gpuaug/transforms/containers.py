"""Ops made of ops: applied together, one of several, in any order."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .base import Transform, probability

if TYPE_CHECKING:
    from ..lowering import Lowering


def children_of(op: str, transforms) -> tuple:
    """The children as a tuple, each of which can lower itself."""
    if not isinstance(transforms, Sequence) and not hasattr(transforms, "__iter__"):
        raise TypeError(f"{op}: transforms must be a list of transforms, got {transforms!r}")
    children = tuple(transforms)
    for index, child in enumerate(children):
        if isinstance(child, type) or not callable(getattr(child, "lower", None)):
            raise TypeError(
                f"{op}: transforms[{index}] is {child!r}, which is not a gpuaug transform; "
                "use gpuaug's op of the same name"
            )
    return children


@dataclass(frozen=True)
class _Container(Transform):
    transforms: Sequence

    def __post_init__(self) -> None:
        name = type(self).__name__
        children = children_of(name, self.transforms)
        if not children:
            raise ValueError(f"{name}: pass at least one transform")
        self._set(transforms=list(children))

    def __hash__(self) -> int:
        return hash((type(self), tuple(self.transforms)))

    def _lowerers(self, build: Lowering) -> list:
        def lowerer(index, child):
            def run() -> None:
                with build.op(index, child):
                    child.lower(build)

            return run

        return [lowerer(i, child) for i, child in enumerate(self.transforms)]


@dataclass(frozen=True)
class RandomApply(_Container):
    """All of `transforms`, one after the other, with probability `p` (torchvision.transforms.v2.RandomApply)."""

    p: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        probability("RandomApply", self.p)

    __hash__ = _Container.__hash__

    def lower(self, build: Lowering) -> None:
        with build.accept(self.p):
            for run in self._lowerers(build):
                run()


@dataclass(frozen=True)
class RandomChoice(_Container):
    """One of `transforms` for each sample (torchvision.transforms.v2.RandomChoice).

    Args:
        transforms: the ops to choose from; all must give the same image size.
        p: a weight for each, at most twelve; None means equal.
    """

    p: Sequence[float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.p is not None:
            p = list(self.p)
            if len(p) != len(self.transforms):
                raise ValueError(f"RandomChoice: p has {len(p)} weights for {len(self.transforms)} transforms")
            if not all(isinstance(v, numbers.Real) and v >= 0 for v in p) or sum(p) <= 0:
                raise ValueError(
                    f"RandomChoice: p must hold weights that are not negative and not all 0, got {self.p!r}"
                )
            self._set(p=p)

    __hash__ = _Container.__hash__

    def lower(self, build: Lowering) -> None:
        build.branches(self._lowerers(build), self.p)


@dataclass(frozen=True)
class RandomOrder(_Container):
    """All of `transforms` (at most ten), in an order drawn for each sample (torchvision.transforms.v2.RandomOrder)."""

    __hash__ = _Container.__hash__

    def lower(self, build: Lowering) -> None:
        build.shuffled(self._lowerers(build))
