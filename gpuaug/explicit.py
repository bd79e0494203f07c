"""One op with explicit parameters: descriptions whose arguments the caller gives as columns of the table."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from .compose import Compose, Params
from .images import check_images
from .messages import check_keywords, shown
from .transforms.arguments import INF, limits, plain
from .transforms.base import Transform, fill_by_channel
from .transforms.blur import check_kernel
from .transforms.erasing import colour_blocks

if TYPE_CHECKING:
    from .lowering import Lowering

_PLACE = re.compile(r"(?:\d+\.)*[A-Za-z_]\w*: ")  # what an error of a pipeline begins with, "0.Resize: "


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
            build.geometry(self.op, arguments, columns=self.columns, fill=fill, call=_no_call, **options)


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


def of_images(function: Callable) -> Callable:
    """A decorator: what every function of images checks in its own name, its images and its keywords."""
    names = tuple(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(images, *arguments: Any, **keywords: Any) -> torch.Tensor:
        check_keywords(function.__name__, keywords, names)
        check_images(function.__name__, images)
        return function(images, *arguments, **keywords)

    return checked


@lru_cache(maxsize=256)
def _pipeline(description: Transform, backend: str) -> Compose:
    return Compose([description], seed=0, backend=backend)


def run(
    op: str, images: torch.Tensor, description: Transform, backend: str, columns: Sequence[torch.Tensor] = ()
) -> torch.Tensor:
    """Run one description with the given columns of the table, each [1] or [B]; errors name the function `op`."""
    if not isinstance(backend, str):
        raise ValueError(f"{op}: backend must be a name, got {shown(backend)}")
    try:
        pipeline = _pipeline(description, backend)
        recipe = pipeline.recipe(images)
    except (TypeError, ValueError) as error:
        place = _PLACE.match(str(error))
        raise type(error)(f"{op}: {str(error)[place.end() if place else 0 :]}") from None
    drawn = table(columns, count(images), images.device)
    return pipeline.apply(images, Params(drawn, recipe.program.columns, recipe.program, recipe.canvas))


def count(images: torch.Tensor) -> int:
    """B, or 1 for [C, H, W]."""
    return images.shape[0] if images.dim() == 4 else 1


def table(columns: Sequence[torch.Tensor], b: int, device: torch.device) -> torch.Tensor:
    """The columns as float32 [B, P] on the device, without waiting for it."""
    if not columns:
        return torch.empty((b, 0), dtype=torch.float32, device=device)
    columns = [c.to(torch.float32).expand(b) for c in columns]
    if all(c.device.type == "cpu" for c in columns):
        return to_device(torch.stack(columns, 1), device)
    return torch.stack([to_device(c, device) for c in columns], 1)


def to_device(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A copy on the device for which the host does not wait."""
    if values.device.type == "cpu" and device.type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def column(op: str, name: str, value: Any, b: int, **limited: Any) -> torch.Tensor:
    """One column, as `vector`; `limited` as `host_numbers`."""
    return vector(op, name, value, (), b, **limited)[0]


def vector(op: str, name: str, value: Any, shape: tuple[int, ...], b: int, **limited: Any) -> list[torch.Tensor]:
    """The columns, each [1] or [B], of an argument of `shape`, given once or for each of `b` samples: a tensor [*shape]
    or [B, *shape], numbers nested likewise, or a sequence of columns where `shape` is (n,).

    Tensors of the caller's are float32 and not looked at; numbers are checked, and float64 on the host.
    """
    parts = value if isinstance(value, Sequence) and (len(value),) == shape else ()
    if any(isinstance(part, torch.Tensor) for part in parts):
        return [column(op, f"{name}[{i}]", part, b, **limited) for i, part in enumerate(parts)]
    if isinstance(value, torch.Tensor):
        if value.is_complex() or value.is_meta or value.layout != torch.strided:
            kind = f"{value.dtype}, {value.layout}, on {value.device}"
            raise ValueError(f"{op}: {name} must be a tensor of real numbers, got one of {kind}")
        given = value.to(torch.float32)
    else:
        given = host_numbers(op, name, value, **limited)
    if tuple(given.shape) == shape:
        given = given[None]
    elif given.shape[1:] != shape or given.dim() == 0 or given.shape[0] not in (1, b):
        one, each = ("one number", str(b)) if not shape else (str(list(shape)), str([b, *shape]))
        raise ValueError(f"{op}: {name} must be {one}, or {each} for {b} images, got the shape {tuple(given.shape)}")
    return list(given.flatten(1).unbind(1)) if shape else [given]


def host_numbers(
    op: str,
    name: str,
    value: Any,
    low: float = -INF,
    high: float = INF,
    *,
    above: float | None = None,
    whole: bool = False,
) -> torch.Tensor:
    """Numbers, nested as they come, as float64 on the host: finite, in [low, high] or greater than `above`, whole if
    `whole`."""
    try:
        numbers = torch.tensor(plain(value), dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError, OverflowError):
        wanted = f"{limits(low, high, above)}, or one for each image"
        raise ValueError(f"{op}: {name} must be {wanted}, got {shown(value)}") from None
    fits = numbers.float().isfinite() & (numbers >= low) & (numbers <= high)
    if above is not None:
        fits &= numbers > above
    if not fits.all():
        raise ValueError(f"{op}: {name} must be {limits(low, high, above)}, got {numbers[~fits][0].item()!r}")
    if whole and not (numbers == numbers.floor()).all():
        raise ValueError(f"{op}: {name} must be whole, got {numbers[numbers != numbers.floor()][0].item()!r}")
    return numbers


def on_host(column: torch.Tensor) -> bool:
    """Whether a column of `vector` came as numbers."""
    return column.dtype == torch.float64


def check_window(op: str, images: torch.Tensor, top: Any, left: Any, height: Any, width: Any) -> list[torch.Tensor]:
    """The columns of a window; raises where it is empty or leaves the image, as far as it came as numbers."""
    h, w = images.shape[-2:]
    starts, sizes = [], []
    for name, start, length, size, limit in (("top", top, "height", height, h), ("left", left, "width", width, w)):
        starts.append(column(op, name, start, count(images), whole=True))
        sizes.append(column(op, length, size, count(images), low=1, high=limit, whole=True))
        end = starts[-1] + (sizes[-1] if on_host(sizes[-1]) else 1.0)
        if on_host(starts[-1]) and not ((starts[-1] >= 0.0) & (end <= limit)).all():
            window = f"{name}={shown(start)} with {length}={shown(size)}"
            raise ValueError(f"{op}: {window} leaves the image of {h}x{w}; pad it first")
    return [*starts, *sizes]
