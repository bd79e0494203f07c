"""In which order a pipeline's ops are lowered: as they are written, but for weighted sums of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch


class Written(NamedTuple):
    """An op where it is written.

    Attributes:
        path: number and op of each level, from the pipeline's list down to the op itself.
        place: how many stand in front of it.
        early: it is lowered in front of the affine ops in front of it.
    """

    path: tuple[tuple[int, Any], ...]
    place: int
    early: bool = False

    @property
    def op(self) -> Any:
        return self.path[-1][1]


def in_order(transforms: Sequence, dtype: Callable[[], torch.dtype]) -> Iterator[Written]:
    """All ops, those of pipelines in the list in their place.

    A weighted sum of images comes in front of the affine ops that make floats of what it sums: of bytes it is cheaper,
    and no rounding lies between.

    Args:
        dtype: of the images behind what was lowered so far.
    """
    written = [Written(path, place) for place, path in enumerate(_paths(transforms))]
    start = 0
    while start < len(written):
        end = start
        while end < len(written) and getattr(written[end].op, "affine", False):
            end += 1
        floats = any(hasattr(one.op, "dtype") for one in written[start:end])
        if floats and dtype() == torch.uint8 and end < len(written) and getattr(written[end].op, "sums", False):
            yield written[end]._replace(early=True)
            yield from written[start:end]
            start = end + 1
        else:
            yield written[start]
            start += 1


def _paths(transforms: Sequence, path: tuple = ()) -> Iterator[tuple]:
    for index, transform in enumerate(transforms):
        here = (*path, (index, transform))
        if isinstance(transform, torch.nn.Module) and hasattr(transform, "transforms"):
            yield from _paths(transform.transforms, here)
        else:
            yield here


def within(transforms: Sequence) -> Iterator[Any]:
    """All ops of a list, and those inside of them."""
    for transform in transforms:
        yield transform
        yield from within(getattr(transform, "transforms", ()))
