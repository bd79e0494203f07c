"""One op with explicit parameters: descriptions whose arguments the caller gives as columns of the table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from operator import ne
from typing import Any

import numpy as np
import torch

from .compose import Compose
from .inputs import moved
from .lowering import Lowering
from .messages import shown
from .transforms.arguments import FLOAT32, INF, mask_fill, number, plain
from .transforms.base import Transform, fill_by_channel
from .transforms.blur import check_kernel
from .transforms.erasing import colour_blocks

Column = torch.Tensor | tuple[float, ...]
_NUMBERS = {float, int}
_PREFIX = re.compile(r"(?:\d+\.)*[A-Za-z_]\w*: ")  # what an error of a pipeline begins with, "0.Resize: "


@dataclass(frozen=True)
class Explicit(Transform):
    """A slot whose leading arguments are given by the caller, as columns of the table."""

    kind: str
    op: str
    columns: tuple[str, ...]
    arguments: tuple[float, ...] = ()
    fill: Any = None
    options: tuple[tuple[str, Any], ...] = ()

    def lower(self, build: Lowering) -> None:
        options = dict(self.options)
        arguments = (0.0,) * len(self.columns) + self.arguments
        fill = None if self.fill is None else fill_by_channel(build, self.fill, options.pop("called", "fill"))
        if self.kind == "pixel":
            if options.pop("colour", False):
                build.require_colour()
            blocks = None if fill is None else colour_blocks(build, fill)
            build.pixel(self.op, arguments, columns=self.columns, by_channel=blocks, call=_no_call, **options)
        else:
            both = {} if fill is None else {"fill": fill, "mask_fill": mask_fill(self.fill)}
            build.geometry(self.op, arguments, columns=self.columns, **both, call=_no_call, **options)


@dataclass(frozen=True)
class ExplicitBlur(Transform):
    """Both axes of a blur, each with a standard deviation given by the caller."""

    kernel: tuple[int, int]
    columns = ("sigma_x", "sigma_y")

    def lower(self, build: Lowering) -> None:
        check_kernel(build, self.kernel)
        for last, (op, size, column) in enumerate(zip(("blur_x", "blur_y"), self.kernel, self.columns, strict=True)):
            build.pixel(op, (0, size // 2, last), columns=(column,), needs="neighbours", call=_no_call)


def _no_call(values, canvas) -> list:
    return []


@lru_cache(maxsize=256)
def _pipeline(backend: str, kind: type, *fields: Any, **named: Any) -> Compose:
    return Compose([kind(*fields, **named)], seed=0, backend=backend)


def run(op: str, images, backend: str, columns: Sequence[Column], kind: type, *fields: Any, **named: Any):
    """Run the description `kind(*fields, **named)` with the given columns of the table; errors name the function `op`.

    The description is made once for its fields, which are hashable.

    Args:
        images: a tensor, or what stands in the place of one (`functional.kinds.Beside`).
    """
    if not isinstance(backend, str):
        raise ValueError(f"{op}: backend must be a name, got {shown(backend)}")
    try:
        pipeline = _pipeline(backend, kind, *fields, **named)
        if not isinstance(images, torch.Tensor):
            return images.moved(columns, pipeline)
        images, recipe = pipeline.take(images)
    except (TypeError, ValueError) as error:
        prefix = _PREFIX.match(str(error))
        raise type(error)(f"{op}: {str(error)[prefix.end() if prefix else 0 :]}") from None
    return pipeline.replay(images, recipe, table(columns, count(images), images.device))


def count(images: torch.Tensor) -> int:
    """B of images or clips, or 1 for [C, H, W]."""
    return images.shape[0] if images.dim() > 3 else 1


def table(columns: Sequence[Column], b: int, device: torch.device) -> torch.Tensor:
    """The columns as float32 [B, P] on the device, without waiting for it."""
    if not columns:
        return torch.empty((b, 0), dtype=torch.float32, device=device)
    if all(isinstance(c, tuple) for c in columns):
        n = 1 if all(len(c) == 1 for c in columns) else b
        rows = np.array([c if len(c) == n else c * n for c in columns], np.float32).T
        rows = np.ascontiguousarray(rows if n == b else rows.repeat(b, 0))
        return moved(torch.from_numpy(rows), device, torch.float32)
    tensors = [torch.tensor(c, dtype=torch.float32, device="cpu") if isinstance(c, tuple) else c for c in columns]
    return torch.stack([moved(c, device, torch.float32).expand(b) for c in tensors], 1)


def column(op: str, name: str, value: Any, b: int, **limited: Any) -> Column:
    """One column, as `vector`."""
    if type(value) in (float, int):
        return (host_number(op, name, value, **limited),)
    return vector(op, name, value, (), b, **limited)[0]


def vector(op: str, name: str, value: Any, shape: tuple[int, ...], b: int, **limited: Any) -> list[Column]:
    """The columns of an argument of `shape`, given once or for each of `b` samples: a tensor [*shape] or [B, *shape],
    numbers nested likewise, or a sequence of columns where `shape` is (n,).

    Args:
        limited: what numbers must be, as `host_number`.

    Returns:
        Tensors of the caller's, [1] or [B], not looked at; numbers, checked, as tuples of one or of B.
    """
    if isinstance(value, torch.Tensor):
        return _tensor_columns(op, name, value, shape, b)
    parts = value if isinstance(value, Sequence) and (len(value),) == shape else ()
    if any(isinstance(part, torch.Tensor) for part in parts):
        return [column(op, f"{name}[{i}]", part, b, **limited) for i, part in enumerate(parts)]
    v = plain(value)
    rows = (v,) if _has_shape(v, shape) else v
    if not (isinstance(rows, tuple) and len(rows) in (1, b) and _has_shape(rows, (len(rows), *shape))):
        got = f"the shape {_shape(v)}" if isinstance(v, tuple) else shown(value)
        raise ValueError(f"{op}: {name} must be {_wanted(shape, b)}, got {got}")
    for _ in shape[1:]:
        rows = [tuple(chain.from_iterable(row)) for row in rows]
    return [host_numbers(op, name, numbers, **limited) for numbers in (zip(*rows, strict=True) if shape else (rows,))]


def _tensor_columns(op: str, name: str, value: torch.Tensor, shape: tuple[int, ...], b: int) -> list[torch.Tensor]:
    if value.is_complex() or value.is_meta or value.layout != torch.strided:
        kind = f"{value.dtype}, {value.layout}, on {value.device}"
        raise ValueError(f"{op}: {name} must be a tensor of real numbers, got one of {kind}")
    given = value[None] if tuple(value.shape) == shape else value
    if given.dim() == 0 or given.shape[1:] != shape or given.shape[0] not in (1, b):
        raise ValueError(f"{op}: {name} must be {_wanted(shape, b)}, got the shape {tuple(value.shape)}")
    return list(given.flatten(1).unbind(1)) if shape else [given]


def _wanted(shape: tuple[int, ...], b: int) -> str:
    return f"{list(shape)}, or {[b, *shape]} for {b} images" if shape else f"one number or {b}, one for each image"


def _has_shape(v: Any, shape: tuple[int, ...]) -> bool:
    if not shape or not isinstance(v, tuple):
        return not shape and not isinstance(v, tuple)
    if len(v) != shape[0]:
        return False
    return tuple not in map(type, v) if len(shape) == 1 else all(_has_shape(part, shape[1:]) for part in v)


def _shape(v: Any) -> tuple[int, ...]:
    return (len(v), *(_shape(v[0]) if v else ())) if isinstance(v, tuple) else ()


def host_number(op: str, name: str, value: Any, *, whole: bool = False, **limited: Any) -> float:
    """A number, whole if `whole`; further as `arguments.number`."""
    v = number(op, name, value, **limited)
    if whole and not v.is_integer():
        raise ValueError(f"{op}: {name} must be whole, got {shown(value)}")
    return v


def host_numbers(op: str, name: str, values: tuple, **limited: Any) -> tuple[float, ...]:
    """As `host_number`, several."""
    low, high = max(limited.get("low", -INF), -FLOAT32), min(limited.get("high", INF), FLOAT32)
    if values and _NUMBERS.issuperset(map(type, values)) and not any(map(ne, values, values)):  # a NaN is not itself
        least, most = min(values), max(values)
        if low <= least and most <= high and least > limited.get("above", -INF):
            numbers = tuple(map(float, values))
            if not limited.get("whole") or all(map(float.is_integer, numbers)):
                return numbers
    return tuple(host_number(op, name, n, **limited) for n in values)


def inside(start: Column, size: Column, limit: int) -> bool:
    """Whether [start, start + size) lies in [0, limit), as far as both are numbers."""
    if not isinstance(start, tuple):
        return True
    sizes = size if isinstance(size, tuple) else (1.0,)
    n = max(len(start), len(sizes))
    pairs = zip(start * (n // max(len(start), 1)), sizes * (n // max(len(sizes), 1)), strict=True)
    return all(0.0 <= a <= limit - length for a, length in pairs)
