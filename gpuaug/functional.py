"""The ops with explicit parameters, one value for the batch or one for each sample.

Names and arguments are torchvision.transforms.v2.functional's. Images are uint8, float16, bfloat16 or float32, [B, C,
H, W] or [C, H, W]. Where an argument is called *per sample*, it takes a number, a sequence of B numbers or a tensor [B]
(a pair takes [2] or [B, 2], corners [4, 2] or [B, 4, 2]); a tensor on the images' device is never looked at by the
host. Every function takes `backend`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from .compose import Compose, Params
from .transforms.base import (
    FILTERS,
    Transform,
    center_argument,
    fill_argument,
    fill_by_channel,
    interpolation_name,
    pair,
    resampling,
)
from .transforms.convert import Normalize, ToDtype
from .transforms.geometry import RESIZES, CenterCrop, Pad, Resize
from .transforms.warp import WARPS, center_words


@dataclass(frozen=True)
class _Explicit(Transform):
    """A slot whose leading arguments are given by the caller, as columns of the table."""

    kind: str
    op: str
    columns: tuple[str, ...]
    arguments: tuple[float, ...] = ()
    fill: Any = None
    options: tuple[tuple[str, Any], ...] = ()

    def lower(self, build) -> None:
        options = dict(self.options)
        arguments = (0.0,) * len(self.columns) + self.arguments
        if self.kind == "pixel":
            if options.pop("colour", False):
                build.require_colour()
            build.pixel(self.op, arguments, columns=self.columns, call=_no_call, **options)
        else:
            fill = None if self.fill is None else fill_by_channel(build, self.fill)
            build.geometry(self.op, arguments, columns=self.columns, fill=fill, call=_no_call, **options)


def _no_call(values, canvas) -> list:
    return []


@lru_cache(maxsize=256)
def _pipeline(description: Transform, backend: str) -> Compose:
    return Compose([description], seed=0, backend=backend)


def _run(images: torch.Tensor, description: Transform, values: Sequence[Any], backend: str) -> torch.Tensor:
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


def _last_axis(name: str, value: Any, n: int) -> list[Any]:
    """The n components of a vector given once or for each sample."""
    if isinstance(value, torch.Tensor):
        if value.shape[-1:] != (n,):
            raise ValueError(f"{name} must end in an axis of {n}, got the shape {tuple(value.shape)}")
        return list(value.unbind(-1))
    if len(value) == n and not isinstance(value[0], Sequence | torch.Tensor):
        return list(value)
    return _last_axis(name, torch.tensor(value, dtype=torch.float32), n)


def _host_checked(op: str, name: str, value: Any, low: float) -> Any:
    """Raise on a host value below `low`; a tensor is not looked at."""
    values = value if isinstance(value, Sequence) else [value]
    if not isinstance(value, torch.Tensor) and any(float(v) < low for v in values):
        raise ValueError(f"{op}: {name} must be at least {low:g}, got {value!r}")
    return value


def _check_window(op: str, images: torch.Tensor, top: Any, left: Any, height: Any, width: Any) -> None:
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


def horizontal_flip(images, *, backend: str = "auto"):
    """Mirror left and right."""
    return _run(images, _Explicit("geometry", "flip_horizontal", (), options=(("exact", True),)), (), backend)


def vertical_flip(images, *, backend: str = "auto"):
    """Mirror top and bottom."""
    return _run(images, _Explicit("geometry", "flip_vertical", (), options=(("exact", True),)), (), backend)


def crop(images, top, left, height: int, width: int, *, backend: str = "auto"):
    """Cut out a window inside the image; top and left per sample, in pixels.

    Raises:
        ValueError: a window, given by numbers, that leaves the image (torchvision pads; use `pad` in front).
    """
    _check_window("crop", images, top, left, height, width)
    description = _Explicit("geometry", "crop", ("top", "left"), (height, width), options=(("exact", True),))
    return _run(images, description, (top, left), backend)


def center_crop(images, output_size, *, backend: str = "auto"):
    """Cut out the middle, padding with 0 where the image is smaller."""
    return _run(images, CenterCrop(_frozen(output_size)), (), backend)


def pad(images, padding, fill=0, padding_mode: str = "constant", *, backend: str = "auto"):
    """Pad the border; see `gpuaug.Pad`."""
    return _run(images, Pad(_frozen(padding), _frozen(fill), padding_mode), (), backend)


def resize(
    images, size, interpolation="bilinear", max_size: int | None = None, antialias: bool = True, *, backend="auto"
):
    """Resample to a size; see `gpuaug.Resize`."""
    return _run(images, Resize(_frozen(size), interpolation, max_size, antialias), (), backend)


def resized_crop(
    images, top, left, height, width, size, interpolation="bilinear", antialias: bool = True, *, backend: str = "auto"
):
    """Cut out a window (all four per sample, in pixels, inside the image) and resample it to `size`."""
    _check_window("resized_crop", images, top, left, height, width)
    sampling, border, rule = resampling(interpolation_name("resized_crop", interpolation, RESIZES), bool(antialias))
    description = _Explicit(
        "geometry",
        "resized_crop",
        ("top", "left", "height", "width"),
        (*pair("resized_crop", "size", size), *rule),
        options=(("border", border), ("sampling", sampling)),
    )
    return _run(images, description, (top, left, height, width), backend)


def rotate(images, angle, interpolation="nearest", expand: bool = False, center=None, fill=0, *, backend: str = "auto"):
    """Turn counter-clockwise by `angle` degrees, per sample, about `center` (x, y) or the middle."""
    if expand:
        raise ValueError("rotate: expand=True would give each image its own size; pad first, and use expand=False")
    description = _warp("rotate", ("angle",), center_words(center_argument("rotate", center)), interpolation, fill)
    return _run(images, description, (angle,), backend)


def affine(
    images, angle, translate, scale, shear, interpolation="nearest", fill=0, center=None, *, backend: str = "auto"
):
    """Turn (clockwise), shift, scale and shear, all per sample.

    Args:
        angle: degrees. translate: (x, y) in pixels. scale: positive. shear: degrees, x or (x, y).
        center: (x, y) in pixels from the upper left corner; None is the middle.
    """
    _host_checked("affine", "scale", scale, 1e-6)
    shear = (shear, 0.0) if isinstance(shear, int | float) else shear
    names = ("angle", "translate_x", "translate_y", "scale", "shear_x", "shear_y")
    description = _warp("affine", names, center_words(center_argument("affine", center)), interpolation, fill)
    shift, lean = _last_axis("translate", translate, 2), _last_axis("shear", shear, 2)
    return _run(images, description, (angle, *shift, scale, *lean), backend)


def perspective(images, startpoints, endpoints, interpolation="bilinear", fill=0, *, backend: str = "auto"):
    """Move the image's corners to `endpoints` (x, y; top left, top right, bottom right, bottom left), per sample.

    Raises:
        ValueError: `startpoints` other than None or the image's own corners.
    """
    h, w = images.shape[-2:]
    corners = [[0, 0], [w - 1, 0], [w - 1, h - 1], [0, h - 1]]
    if startpoints is not None and [list(p) for p in startpoints] != corners:
        raise ValueError(f"perspective: startpoints must be the image's corners {corners} or None, got {startpoints!r}")
    points = endpoints if isinstance(endpoints, torch.Tensor) else torch.tensor(endpoints, dtype=torch.float32)
    if points.shape[-2:] != (4, 2):
        raise ValueError(f"perspective: endpoints must be [4, 2] or [B, 4, 2], got the shape {tuple(points.shape)}")
    names = tuple(f"{axis}{corner}" for corner in range(4) for axis in "xy")
    return _run(
        images, _warp("perspective", names, (), interpolation, fill), list(points.flatten(-2).unbind(-1)), backend
    )


def _warp(op: str, names: tuple[str, ...], arguments: tuple[float, ...], interpolation: Any, fill: Any) -> _Explicit:
    sampling = FILTERS[interpolation_name(op, interpolation, WARPS)]
    fill = fill_argument(op, _frozen(fill))
    return _Explicit("geometry", op, names, arguments, fill, (("sampling", sampling),))


def adjust_brightness(images, brightness_factor, *, backend: str = "auto"):
    """Multiply by a factor >= 0, per sample, and clamp."""
    _host_checked("adjust_brightness", "brightness_factor", brightness_factor, 0.0)
    description = _Explicit("pixel", "brightness", ("brightness_factor",), options=(("colour", True),))
    return _run(images, description, (brightness_factor,), backend)


def adjust_contrast(images, contrast_factor, *, backend: str = "auto"):
    """Blend with the image's mean grey by a factor >= 0, per sample, and clamp."""
    _host_checked("adjust_contrast", "contrast_factor", contrast_factor, 0.0)
    options = (("colour", True), ("statistic", True))
    description = _Explicit("pixel", "contrast", ("contrast_factor",), options=options)
    return _run(images, description, (contrast_factor,), backend)


def solarize(images, threshold, *, backend: str = "auto"):
    """Invert what is at least `threshold`, per sample, in the units of the pixels."""
    return _run(images, _Explicit("pixel", "solarize", ("threshold",)), (threshold,), backend)


def invert(images, *, backend: str = "auto"):
    """255 - v or 1 - v."""
    return _run(images, _Explicit("pixel", "invert", ()), (), backend)


def normalize(images, mean, std, inplace: bool = False, *, backend: str = "auto"):
    """(image - mean) / std for each channel of floating-point images."""
    return _run(images, Normalize(mean, std), (), backend)


def to_dtype(images, dtype: torch.dtype = torch.float32, scale: bool = False, *, backend: str = "auto"):
    """Change the dtype; see `gpuaug.ToDtype`."""
    return _run(images, ToDtype(dtype, scale), (), backend)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
