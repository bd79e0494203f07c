"""A user's own pixel op: one function over `xp`, which every backend runs in any place of a pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..kernels.shared import user
from ..kernels.torch import dialect as torch_dialect
from ..lowering import Lowering
from ..messages import check_keywords
from .arguments import ends, interval, plain, probability
from .base import Transform

MOST_ARGUMENTS = 4


class PixelOp:
    """What `pixel_op` makes of a function: called with its arguments, it gives the description of an op."""

    def __init__(self, function: Callable):
        self.function = function
        self.__module__, self.__qualname__ = function.__module__, function.__qualname__
        self.__name__, self.__doc__ = function.__name__, function.__doc__
        self.opcode, self.formula = user.register(function)
        if len(self.formula.arguments) > MOST_ARGUMENTS:
            raise TypeError(
                f"pixel_op {self.__name__}: takes {len(self.formula.arguments)} arguments of its own, "
                f"at most {MOST_ARGUMENTS} can be drawn"
            )
        self._try()

    def _try(self) -> None:
        """Run the function once on torch tensors, so that mistakes show where it is written."""
        formula = torch_dialect.formula(self.opcode)
        half = torch.full((1, 1, 1), 0.5, dtype=torch.float32, device="cpu")
        pixels = [half] * (5 if self.formula.placed else 3 if self.formula.colour else 1)
        try:
            values = formula(*pixels, [half] * 8, 1.0, 0.0, 3.0)
        except Exception as error:
            raise TypeError(f"pixel_op {self.__name__}: fails on a pixel of 0.5: {error}") from error
        values = values if self.formula.colour else (values,)
        if not all(isinstance(v, torch.Tensor) for v in values):
            raise TypeError(f"pixel_op {self.__name__}: must return a value of the pixel, got {values!r}")

    def __call__(self, p: float = 1.0, **arguments: float | tuple[float, float]) -> Transform:
        """The op with probability `p`; each argument a number, or (low, high) to draw from, uniformly, by sample."""
        wanted = self.formula.arguments
        check_keywords(self.__name__, arguments, (*wanted, "p"))
        missing = [name for name in wanted if name not in arguments]
        if missing:
            raise TypeError(f"{self.__name__}: needs the argument {missing[0]!r}, a number or (low, high)")
        ranges = []
        for name in wanted:
            ranges.append(interval(self.__name__, name, ends(plain(arguments[name]))))
        return UserOp(self, tuple(ranges), probability(self.__name__, p))

    def __repr__(self) -> str:
        return self.__name__

    def __reduce__(self) -> str:
        return self.__qualname__


def pixel_op(function: Callable) -> PixelOp:
    """Make a pixel op of a function over `gpuaug.xp`, which runs on every backend, fused with its neighbours.

    The function takes one channel, `v`, or a colour, `r, g, b` (images of 1 or 3 channels); after `r, g, b` it may take
    `x, y`, the pixel's column and row; then at most four arguments of its own, drawn for each sample; and, by these
    names, `bound` (the largest value: 255 for uint8, 1 for floats) and `lattice` (1 for uint8, else 0). It returns the
    new `v`, or `r, g, b`, which are then clamped to [0, bound] and, for uint8, truncated. Values are float32.

    It may use `xp.where, minimum, maximum, floor, abs, sqrt_rn, div_rn, exp, pow, fma, f32`, + - * and comparisons,
    global numbers, and plain functions of that kind. `and`, `or` and `if` on values of pixels do not work: use `&`, `|`
    and `xp.where`.

    Returns:
        A callable: `sepia(amount=(0.2, 1.0), p=0.5)` is the description of an op, for `Compose`.

    Raises:
        TypeError: a function that could not run on every backend.

    Example:
        >>> import gpuaug as ga
        >>> from gpuaug import xp
        >>> @ga.pixel_op
        ... def fade(v, amount, bound):
        ...     return v + amount * (bound - v)
        >>> augment = ga.Compose([ga.RandomHorizontalFlip(), fade(amount=(0.0, 0.5))])
    """
    return PixelOp(function)


@dataclass(frozen=True)
class UserOp(Transform):
    """A `PixelOp` with the ranges of its arguments."""

    op: PixelOp
    ranges: tuple[tuple[float, float], ...]
    p: float = 1.0

    def lower(self, build: Lowering) -> None:
        names = self.op.formula.arguments
        if self.op.formula.colour:
            build.require_colour()
        with build.accept(self.p):
            build.pixel(
                self.op.opcode,
                draw="draw_uniform" if names else None,
                configuration=[v for pair in self.ranges for v in pair],
                columns=names,
                needs="place" if self.op.formula.placed else "pixel",
                call=lambda values, canvas: [(self.op.__name__, dict(zip(names, values, strict=True)))],
            )

    def __repr__(self) -> str:
        pairs = zip(self.op.formula.arguments, self.ranges, strict=True)
        values = [f"{name}={low if low == high else (low, high)}" for name, (low, high) in pairs]
        return f"{self.op}({', '.join([*values, f'p={self.p}'])})"
