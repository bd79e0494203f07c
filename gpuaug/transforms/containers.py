"""Ops made of ops: applied together, one of several, in any order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..forms import Form, end
from ..inputs import children_of
from ..kernels.torch import dialect
from ..lowering import Lowering
from ..messages import shown
from .arguments import number, plain, probability
from .base import Transform

PERMUTED = dialect.DRAW["position"]


@dataclass(frozen=True)
class _Container(Transform):
    transforms: Sequence
    takes_one = False  # op in place of a list

    @property
    def gated(self) -> int:
        """How many numbers it draws to choose a way."""
        return 1

    def __post_init__(self) -> None:
        name, given = type(self).__name__, self.transforms
        children = children_of(name, [given] if hasattr(given, "lower") and self.takes_one else given)
        if not children:
            raise ValueError(f"{name}: transforms must hold at least one transform")
        self._set(transforms=list(children))

    def __hash__(self) -> int:
        return hash((type(self), tuple(self.transforms)))

    @property
    def sums(self) -> bool:
        return all(getattr(child, "sums", False) for child in self.transforms)

    @property
    def shared(self) -> bool:
        return all(getattr(child, "shared", False) for child in self.transforms)

    def makes(self, form: Form, kind: str) -> Form:
        return end(self.transforms, form, kind)

    def _lowerers(self, build: Lowering) -> list:
        def lowerer(index, child):
            def run() -> None:
                with build.op(index, child):
                    child.lower(build)

            return run

        return [lowerer(i, child) for i, child in enumerate(self.transforms)]


@dataclass(frozen=True)
class RandomApply(_Container):
    """All of `transforms`, one after the other, with probability `p` (torchvision.transforms.v2.RandomApply).

    As in `RandomChoice` and `RandomOrder`, there may be callables among them: samples that go the same way are then run
    together, for which the host must know the draw.

    Of blends that share their draws, `MixUp(per="batch")`, it draws once for those that do.
    """

    p: float = 0.5
    takes_one = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(p=probability("RandomApply", self.p))

    __hash__ = _Container.__hash__

    @property
    def gated(self) -> int:
        return int(self.p < 1.0)

    def draw_way(self, build: Lowering) -> None:
        """Append what draws a way, without the ways."""
        if self.gated:
            build.gate("draw_accept", (self.p,), "applied")

    def way(self, drawn: float) -> tuple[int, ...]:
        """The numbers of those that act on a sample with such a draw, in order."""
        return tuple(range(len(self.transforms))) if drawn else ()

    def lower(self, build: Lowering) -> None:
        with build.accept(self.p, self.shared):
            for run in self._lowerers(build):
                run()


@dataclass(frozen=True)
class RandomChoice(_Container):
    """One of `transforms` for each sample (torchvision.transforms.v2.RandomChoice).

    Among blends that share their draws, `[MixUp(per="batch"), CutMix(per="batch")]`, it draws once for those that do.

    Args:
        transforms: the ops to choose from; all must give the same image size.
        p: a weight for each, at most twelve; None means equal.
    """

    p: Sequence[float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.p is not None:
            p = plain(self.p)
            if not isinstance(p, tuple):
                raise ValueError(f"RandomChoice: p must be a weight for each transform, got {shown(self.p)}")
            if len(p) != len(self.transforms):
                raise ValueError(f"RandomChoice: p has {len(p)} weights for {len(self.transforms)} transforms")
            p = [number("RandomChoice", f"p[{i}]", v, 0.0) for i, v in enumerate(p)]
            if not sum(p) > 0.0:
                raise ValueError(f"RandomChoice: p must not all be 0, got {shown(self.p)}")
            self._set(p=p)

    __hash__ = _Container.__hash__

    def makes(self, form: Form, kind: str) -> Form:
        made = [end([child], form, kind) for child in self.transforms]
        if len(set(made)) > 1:
            names = " or ".join(dict.fromkeys(found.name for found in made))
            raise TypeError(f"RandomChoice: what goes out would be {names} by chance; put the conversion behind it")
        return made[0]

    def draw_way(self, build: Lowering) -> None:
        build.chosen(len(self.transforms), self.p)

    def way(self, drawn: float) -> tuple[int, ...]:
        return (int(drawn),)

    def lower(self, build: Lowering) -> None:
        build.branches(self._lowerers(build), self.p, self.shared)


@dataclass(frozen=True)
class RandomOrder(_Container):
    """All of `transforms` (at most ten), in an order drawn for each sample (torchvision.transforms.v2.RandomOrder)."""

    __hash__ = _Container.__hash__

    def draw_way(self, build: Lowering) -> None:
        build.order(len(self.transforms))

    def way(self, drawn: float) -> tuple[int, ...]:
        n = len(self.transforms)
        return tuple(sorted(range(n), key=lambda child: PERMUTED(int(drawn), child, n)))

    def lower(self, build: Lowering) -> None:
        build.shuffled(self._lowerers(build))
