"""Geometry that turns: of images, masks, boxes and keypoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import torch

from ..explicit import Column, Explicit, column, count, run, vector
from ..messages import shown, warn
from ..transforms.arguments import FILTERS, center_argument, flag, interpolation_name, plain
from ..transforms.warp import WARPS, center_words, turned_sizes
from .kinds import EVERY, fill_of, one_tensor, taking

CORNER_COLUMNS = tuple(f"{axis}{corner}" for corner in range(4) for axis in "xy")


def every_turn(canvas: tuple[int, int]) -> list[tuple[int, int]]:
    """The extremes of the canvases that hold an image turned by any angle."""
    return turned_sizes(canvas, (-180.0, 180.0))


@taking(EVERY)
def rotate(inpt, angle, interpolation="nearest", expand: bool = False, center=None, fill=None, *, backend="auto"):
    """Turn counter-clockwise by `angle` degrees, per sample, about `center` (x, y) or the middle.

    Args:
        expand: make the canvas as large as the turned image needs, about the middle, whatever `center` is. Images that
            become of several sizes come back as a list. Such a call waits for a GPU.
    """
    angles = [column("rotate", "angle", angle, count(inpt))]
    middle = center_argument("rotate", center)
    if not flag("rotate", "expand", expand):
        return run(
            "rotate",
            inpt,
            backend,
            angles,
            *_warp("rotate", ("angle",), center_words(middle), inpt, interpolation, fill),
        )
    if middle is not None:
        warn("rotate: center has no effect beside expand=True, which turns about the middle")
    warp = _warp("rotate_expand", ("angle",), (), inpt, interpolation, fill, ("sizes", every_turn), called="rotate")
    if isinstance(inpt, torch.Tensor) and not inpt.numel():  # what one image would become says the size
        one = run("rotate", inpt.new_zeros((1, *inpt.shape[-3:])), backend, angles, *warp)[0]
        return inpt.new_empty((*inpt.shape[:-3], *one.shape))
    return one_tensor(run("rotate", inpt, backend, angles, *warp))


@taking(EVERY)
def affine(
    inpt, angle, translate, scale, shear, interpolation="nearest", fill=None, center=None, *, backend: str = "auto"
):
    """Turn (clockwise), shift, scale and shear, all per sample.

    Args:
        angle: degrees. translate: (x, y) in pixels. scale: positive. shear: degrees, other than 90: one number for x,
            (x, y), or a sequence of one for both. center: (x, y) in pixels from the upper left corner; None is the
            middle.
    """
    b = count(inpt)
    names = ("angle", "translate_x", "translate_y", "scale", "shear_x", "shear_y")
    columns = [
        column("affine", "angle", angle, b),
        *vector("affine", "translate", translate, (2,), b),
        column("affine", "scale", scale, b, above=0.0),
        *_shears(shear, b),
    ]
    about = center_words(center_argument("affine", center))
    return run("affine", inpt, backend, columns, *_warp("affine", names, about, inpt, interpolation, fill))


def _shears(shear: Any, b: int) -> list[Column]:
    """Both columns of `affine`'s shear."""
    if isinstance(shear, torch.Tensor) and shear.dim() > 0:
        return vector("affine", "shear", shear, (2,), b)
    value = shear if isinstance(shear, torch.Tensor) else plain(shear)
    value = value if isinstance(value, tuple) else (value, 0.0)
    columns = vector("affine", "shear", value * 2 if len(value) == 1 else value, (2,), b)
    for given in columns:
        if isinstance(given, tuple) and any(v % 180.0 == 90.0 for v in given):
            raise ValueError(f"affine: shear must not be 90 degrees, at which nothing is left, got {shown(shear)}")
    return columns


@taking(EVERY)
def perspective(
    inpt, startpoints, endpoints, interpolation="bilinear", fill=None, coefficients=None, *, backend: str = "auto"
):
    """Move four points of the image to `endpoints` (x, y; top left, top right, bottom right, bottom left), per sample.

    Args:
        startpoints: those four points, per sample; None means the image's corners.
        coefficients: in place of both, the eight numbers of the map from output to input, per sample: x is
            (a x + b y + c) / (g x + h y + 1) and y (d x + e y + f) / (g x + h y + 1), in pixels from the upper left
            corner, where the first pixel's middle is at 0.5.

    Raises:
        ValueError: both, or neither; numbers that put three corners on a line.
    """
    name, b = "perspective", count(inpt)
    if coefficients is not None:
        if startpoints is not None or endpoints is not None:
            raise ValueError(f"{name}: coefficients stand for startpoints and endpoints; give None for both")
        columns = vector(name, "coefficients", coefficients, (8,), b)
        return _by_matrix(inpt, columns, interpolation, fill, backend)
    h, w = inpt.shape[-2:]
    ends = vector(name, "endpoints", endpoints, (4, 2), b)
    _check_corners("endpoints", ends, endpoints)
    if startpoints is None or plain(startpoints) == ((0, 0), (w - 1, 0), (w - 1, h - 1), (0, h - 1)):
        return run(name, inpt, backend, ends, *_warp(name, CORNER_COLUMNS, (), inpt, interpolation, fill))
    starts = vector(name, "startpoints", startpoints, (4, 2), b)
    _check_corners("startpoints", starts, startpoints)
    return _by_matrix(inpt, _between(starts, ends, b, inpt.device), interpolation, fill, backend)


def _by_matrix(images, columns: Sequence[Column], interpolation: Any, fill: Any, backend: str):
    names = tuple(f"coefficient{i}" for i in range(8))
    warp = _warp("homography", names, (), images, interpolation, fill, called="perspective")
    return run("perspective", images, backend, columns, *warp)


def _between(starts: list[Column], ends: list[Column], b: int, device: torch.device) -> list[torch.Tensor]:
    """The eight coefficients of the maps that take endpoints to startpoints, solved in float64."""
    both = [
        torch.stack([torch.as_tensor(c, dtype=torch.float64).to(device).expand(b) for c in columns], 1).view(b, 4, 2)
        for columns in (starts, ends)
    ]
    (u, v), (x, y) = (points.unbind(2) for points in both)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    rows = (
        torch.stack((x, y, one, zero, zero, zero, -u * x, -u * y), 2),
        torch.stack((zero, zero, zero, x, y, one, -v * x, -v * y), 2),
    )
    found, _ = torch.linalg.solve_ex(torch.cat(rows, 1), torch.cat((u, v), 1))
    return list(found.unbind(1))


def _check_corners(name: str, columns: list[Column], given: Any) -> None:
    """Raise where numbers put three of the four points of a sample on a line."""
    for x0, y0, x1, y1, x2, y2 in _corner_triples(columns) if isinstance(columns[0], tuple) else ():
        if (x1 - x0) * (y2 - y0) == (y1 - y0) * (x2 - x0):
            raise ValueError(f"perspective: {name} must not put three corners on a line, got {shown(given)}")


def _corner_triples(columns: list[Column]) -> Iterator[list[float]]:
    """Any three corners (x, y) of each sample's four."""
    for row in zip(*columns, strict=True):
        for a, b, c in combinations(range(0, 8, 2), 3):
            yield [*row[a : a + 2], *row[b : b + 2], *row[c : c + 2]]


def _warp(op: str, names: tuple[str, ...], arguments: tuple, images, interpolation, fill, *options, called="") -> tuple:
    """The kind and the fields of a warp, for `run`; errors name the function `called`."""
    sampling = FILTERS[interpolation_name(called or op, interpolation, WARPS)]
    colour = fill_of(called or op, fill, images)
    return Explicit, "geometry", op, names, arguments, colour, (("sampling", sampling), *options)
