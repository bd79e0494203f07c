"""One op with explicit parameters: descriptions whose arguments the caller gives as columns of the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from .compose import Compose, Params
from .transforms.base import Transform, fill_by_channel
from .transforms.blur import check_kernel
from .transforms.erasing import colour_blocks

if TYPE_CHECKING:
    from .lowering import Lowering


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
        fill = None if self.fill is None else fill_by_channel(build, self.fill)
        if self.kind == "pixel":
            if options.pop("colour", False):
                build.require_colour()
            blocks = None if fill is None else colour_blocks(build, fill)
            build.pixel(self.op, arguments, columns=self.columns, by_channel=blocks, call=_no_call, **options)
        else:
            build.geometry(self.op, arguments, columns=self.columns, fill=fill, call=_no_call, **options)


@dataclass(frozen=True)
class ExplicitBlur(Transform):
    """Both axes of a blur, each with a standard deviation given by the caller."""

    kernel: tuple[int, int]
    op = "gaussian_blur"
    columns = ("sigma_x", "sigma_y")

    def lower(self, build: Lowering) -> None:
        check_kernel(build, self.kernel)
        for last, (op, size, column) in enumerate(zip(("blur_x", "blur_y"), self.kernel, self.columns, strict=True)):
            build.pixel(op, (0, size // 2, last), columns=(column,), needs="neighbours", call=_no_call)


def _no_call(values, canvas) -> list:
    return []


@lru_cache(maxsize=256)
def _pipeline(description: Transform, backend: str) -> Compose:
    return Compose([description], seed=0, backend=backend)


def run(images: torch.Tensor, description: Transform, values: Sequence[Any], backend: str) -> torch.Tensor:
    """Run one description with the given column values, each a number, a sequence [B] or a tensor [B]."""
    pipeline = _pipeline(description, backend)
    b = images.shape[0] if images.dim() == 4 else 1
    columns = []
    for name, value in zip(getattr(description, "columns", ()), values, strict=True):
        if isinstance(value, torch.Tensor):
            value = value.to(images.device, torch.float32)
        elif isinstance(value, Sequence):
            value = torch.tensor([float(v) for v in value], device=images.device)
        else:
            value = torch.full((), float(value), device=images.device)
        if value.dim() > 1 or value.numel() not in (1, b):
            raise ValueError(f"{description.op}: {name} must be one number or {b}, got the shape {tuple(value.shape)}")
        columns.append(value.reshape(-1).expand(b))
    table = torch.stack(columns, 1) if columns else torch.empty((b, 0), device=images.device)
    recipe = pipeline.recipe(images)
    return pipeline.apply(images, Params(table, recipe.program.columns, recipe.program, recipe.canvas))


def last_axis(name: str, value: Any, n: int) -> list[Any]:
    """The n components of a vector given once or for each sample."""
    if isinstance(value, torch.Tensor):
        if value.shape[-1:] != (n,):
            raise ValueError(f"{name} must end in an axis of {n}, got the shape {tuple(value.shape)}")
        return list(value.unbind(-1))
    if len(value) == n and not isinstance(value[0], Sequence | torch.Tensor):
        return list(value)
    return last_axis(name, torch.tensor(value, dtype=torch.float32), n)


def host_checked(op: str, name: str, value: Any, low: float, high: float = float("inf")) -> Any:
    """Raise on a host value below `low` or above `high`; a tensor is not looked at."""
    values = value if isinstance(value, Sequence) else [value]
    if not isinstance(value, torch.Tensor) and not all(low <= float(v) <= high for v in values):
        limits = f"be at least {low:g}" if high == float("inf") else f"lie in [{low:g}, {high:g}]"
        raise ValueError(f"{op}: {name} must {limits}, got {value!r}")
    return value


def check_window(op: str, images: torch.Tensor, top: Any, left: Any, height: Any, width: Any) -> None:
    """Raise on a window that is empty or leaves the image, as far as its numbers are on the host."""
    h, w = images.shape[-2:]
    for name, start, length, size, limit in (("top", top, "height", height, h), ("left", left, "width", width, w)):
        starts, sizes = (list(v) if isinstance(v, Sequence) else [v] for v in (start, size))
        n = max(len(starts), len(sizes))
        for a, b in zip(starts * (n // len(starts)), sizes * (n // len(sizes)), strict=False):
            least = 1 if isinstance(b, torch.Tensor) else b
            fits = 1 <= least <= limit and (isinstance(a, torch.Tensor) or 0 <= a <= limit - least)
            if not fits:
                raise ValueError(f"{op}: {name}={a!r} with {length}={b!r} leaves the image of {h}x{w}; pad it first")
