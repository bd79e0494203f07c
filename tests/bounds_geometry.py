"""Bounds of every right answer of the calls that move and resample pixels, in float64 from closed forms.

One function per functional call, `(state, kwargs, torchvision's result) -> lo, hi, smooth`; `state` is the
`judges.Verdict` before the call. See `judges` for what the interval means.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

if TYPE_CHECKING:
    from judges import Verdict

COORDINATE_ERROR = 96 * 2.0**-24  # of a source coordinate, in pixels per pixel of the longer side
VALUE_ERROR = 1e-5  # of a smooth sample or a blend, relative to the white level
SMOOTH = ("bilinear", "bicubic")
ANTIALIASED = (*SMOOTH, "lanczos")
WARPS = ("affine", "rotate", "perspective", "elastic")
SAMPLED = ("resize", "resized_crop", *WARPS)


def _moved(call: str) -> Callable:
    """Calls that only move pixels by whole steps: torchvision's own function on both bounds."""

    def bounds(state: Verdict, kwargs: dict, ref: Tensor) -> tuple[Tensor, Tensor, bool]:
        return getattr(F, call)(state.lo, **kwargs), getattr(F, call)(state.hi, **kwargs), False

    return bounds


def _pad(state: Verdict, kwargs: dict, ref: Tensor) -> tuple[Tensor, Tensor, bool]:
    if kwargs.get("padding_mode", "constant") == "constant":
        kwargs["fill"] = fill_column(kwargs.get("fill"), state.lo.shape[0]).flatten().tolist()
    return F.pad(state.lo, **kwargs), F.pad(state.hi, **kwargs), False


def on_lattice(state: Verdict, lo: Tensor, hi: Tensor, ref: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Round to the lattice where there is one; ``ref`` joins where torchvision resizes uint8 in fixed point."""
    if not state.lattice:
        return lo, hi
    lo, hi = lo.clamp(0, 255).round(), hi.clamp(0, 255).round()
    if ref is None:
        return lo, hi
    return torch.minimum(lo, ref.double()), torch.maximum(hi, ref.double())


def _resize(state: Verdict, kwargs: dict, ref: Tensor) -> tuple[Tensor, Tensor, bool]:
    mode = name_of(kwargs.get("interpolation", "bilinear"))
    if ref.shape[-2:] == state.ref.shape[-2:]:
        return state.lo, state.hi, False
    if mode not in ANTIALIASED:
        return *_resize_nearest(state, mode, ref.shape[-2:]), False
    antialias = bool(kwargs.get("antialias", True))
    sizes = zip(state.lo.shape[-2:], ref.shape[-2:], strict=True)
    rows, columns = (resample_matrix(size, out, mode, antialias) for size, out in sizes)
    middle, radius = (state.lo + state.hi) / 2, (state.hi - state.lo) / 2
    middle = rows @ middle @ columns.T
    radius = rows.abs() @ radius @ columns.abs().T + VALUE_ERROR * state.white
    return *on_lattice(state, middle - radius, middle + radius, None if state.exact else ref), True


def _resize_nearest(state: Verdict, mode: str, out: Sequence[int]) -> tuple[Tensor, Tensor]:
    sizes = zip(state.lo.shape[-2:], out, strict=True)
    rows, columns = (snapped(size, length, mode) for size, length in sizes)
    picks = [(y, x) for y in rows for x in columns]
    return (
        torch.stack([state.lo[:, y][:, :, x] for y, x in picks]).amin(0),
        torch.stack([state.hi[:, y][:, :, x] for y, x in picks]).amax(0),
    )


def _resized_crop(state: Verdict, kwargs: dict, ref: Tensor) -> tuple[Tensor, Tensor, bool]:
    window = {name: kwargs.pop(name) for name in ("top", "left", "height", "width")}
    crop = replace(state, **{name: F.crop(getattr(state, name), **window) for name in ("ref", "lo", "hi")})
    return _resize(crop, kwargs, ref)


def _warp(coordinates: Callable) -> Callable:
    """Warps: ``coordinates(kwargs, H, W)`` gives each output pixel's source (x, y) in float64, in pixel indices.

    The bounds are the least and the greatest sample at a source moved by the error of a coordinate either way.
    """

    def bounds(state: Verdict, kwargs: dict, ref: Tensor) -> tuple[Tensor, Tensor, bool]:
        channels, height, width = state.lo.shape
        places = coordinates(kwargs, height, width)
        x, y, size = places[0].flatten(), places[1].flatten(), places[0].shape
        planes = state.lo if torch.equal(state.lo, state.hi) else torch.cat([state.lo, state.hi])
        fill = fill_column(kwargs.get("fill"), channels)[:, 0].repeat(len(planes) // channels, 1)
        mode = name_of(kwargs.get("interpolation", "nearest"))
        delta = COORDINATE_ERROR * max(height, width)
        ends = _nearest(planes, x, y, delta, fill) if mode == "nearest" else _bilinear(planes, x, y, delta, fill)
        lo, hi = ends[0] if state.exact else (ends[0][0].minimum(ends[-1][0]), ends[0][1].maximum(ends[-1][1]))
        lo, hi = lo.view(-1, channels, *size).amin(0), hi.view(-1, channels, *size).amax(0)
        if mode == "nearest":
            return lo, hi, False
        error = VALUE_ERROR * state.white
        return *on_lattice(state, lo - error, hi + error), True

    return bounds


def _tap(planes: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Values [P, N] at whole coordinates [N], zero outside, and whether each lies inside."""
    height, width = planes.shape[-2:]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    place = torch.where(inside, y * width + x, 0.0).long()
    return planes.flatten(1).index_select(1, place) * inside, inside


def _nearest(planes: Tensor, x: Tensor, y: Tensor, delta: float, fill: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The least and the greatest sample [P, N]; only at a tie are there several."""

    def snapped(x: Tensor, y: Tensor) -> Tensor:
        value, inside = _tap(planes, x, y)
        return torch.where(inside, value, fill)

    left, right, top, bottom = (v.round() for v in (x - delta, x + delta, y - delta, y + delta))
    lo = snapped(left, top)
    hi = lo.clone()
    ties = ((left != right) | (top != bottom)).nonzero()[:, 0]
    for tie_x, tie_y in ((left, bottom), (right, top), (right, bottom)) if len(ties) else ():
        value = snapped(tie_x[ties], tie_y[ties])
        lo[:, ties], hi[:, ties] = lo[:, ties].minimum(value), hi[:, ties].maximum(value)
    return [(lo, hi)]


def _bilinear(planes: Tensor, x: Tensor, y: Tensor, delta: float, fill: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The least and the greatest sample [P, N] with its fill blended once, and blended twice."""

    def samples(x: Tensor, y: Tensor, moves: Sequence) -> tuple[list[Tensor], list[Tensor]]:
        """At all moves, which lead out of no pixel's cell."""
        left, top = ((v + move).floor() for v, move in zip((x, y), moves[0], strict=True))
        taps = [_tap(planes, left + i, top + j) for i in (0, 1) for j in (0, 1)]
        once, twice = [], []
        for dx, dy in moves:
            wx, wy = x + dx - left, y + dy - top
            weights = [u * v for u in (1 - wx, wx) for v in (1 - wy, wy)]
            value = sum(weight * tap for weight, (tap, _) in zip(weights, taps, strict=True))
            cover = sum(weight * inside for weight, (_, inside) in zip(weights, taps, strict=True))
            once.append(value + fill * (1 - cover))
            twice.append((value - fill) * cover + fill)
        return once, twice

    def ends(values: list[Tensor]) -> tuple[Tensor, Tensor]:
        stacked = torch.stack(values)
        return stacked.amin(0), stacked.amax(0)

    moves = [(0.0, 0.0), *((dx, dy) for dx in (-delta, delta) for dy in (-delta, delta))]
    found = [ends(values) for values in samples(x, y, moves)]
    crossing = [(v + delta).floor() != (v - delta).floor() for v in (x, y)]
    some = (crossing[0] | crossing[1]).nonzero()[:, 0]
    if len(some):
        apart = [samples(x[some], y[some], [move]) for move in moves]
        for i, (lo, hi) in enumerate(found):
            lo[:, some], hi[:, some] = ends([blends[i][0] for blends in apart])
    return found


def _affine_coordinates(kwargs: dict, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The inverse of M = T C R(angle) S SHy SHx C^-1, by matrix products; y down, positive angle clockwise."""
    angle = math.radians(kwargs["angle"])
    shear = kwargs.get("shear", 0.0)
    shear_x, shear_y = (math.radians(s) for s in (shear if isinstance(shear, Sequence) else (shear, 0.0)))
    center = kwargs.get("center")
    cx, cy = ((width - 1) / 2, (height - 1) / 2) if center is None else (center[0] - 0.5, center[1] - 0.5)
    tx, ty = kwargs.get("translate", (0.0, 0.0))
    scale = kwargs.get("scale", 1.0)
    rotate = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = rotate @ (
        scale * np.array([[1, 0], [-math.tan(shear_y), 1]]) @ np.array([[1, -math.tan(shear_x)], [0, 1]])
    )
    inverse = torch.from_numpy(np.linalg.inv(linear))
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    x, y = x - tx - cx, y - ty - cy
    return inverse[0, 0] * x + inverse[0, 1] * y + cx, inverse[1, 0] * x + inverse[1, 1] * y + cy


def _rotate_coordinates(kwargs: dict, height: int, width: int) -> tuple[Tensor, Tensor]:
    if kwargs.get("expand", False):
        angle = math.radians(-kwargs["angle"])
        tall, wide = F.rotate(torch.empty(1, height, width), kwargs["angle"], expand=True).shape[1:]
        y, x = torch.meshgrid(torch.arange(tall).double(), torch.arange(wide).double(), indexing="ij")
        x, y, cosine, sine = x - (wide - 1) / 2, y - (tall - 1) / 2, math.cos(angle), math.sin(angle)
        return cosine * x + sine * y + (width - 1) / 2, cosine * y - sine * x + (height - 1) / 2
    return _affine_coordinates({"angle": -kwargs["angle"], "center": kwargs.get("center")}, height, width)


def _perspective_coordinates(kwargs: dict, height: int, width: int) -> tuple[Tensor, Tensor]:
    coefficients = kwargs.get("coefficients")
    if coefficients is None:
        coefficients = homography(kwargs["endpoints"], kwargs["startpoints"])
    a, b, c, d, e, f, g, h = (float(v) for v in coefficients)
    y, x = torch.meshgrid(torch.arange(height).double() + 0.5, torch.arange(width).double() + 0.5, indexing="ij")
    depth = g * x + h * y + 1
    return (a * x + b * y + c) / depth - 0.5, (d * x + e * y + f) / depth - 0.5


def _elastic_coordinates(kwargs: dict, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Each pixel's own and its displacement, which is told in halves of the image's sides."""
    moved = kwargs["displacement"][0].double()
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    return x + moved[..., 0] * width / 2, y + moved[..., 1] * height / 2


GEOMETRY: dict[str, Callable] = {
    **{call: _moved(call) for call in ("horizontal_flip", "hflip", "vertical_flip", "vflip", "crop", "center_crop")},
    "pad": _pad,
    "resize": _resize,
    "resized_crop": _resized_crop,
    "affine": _warp(_affine_coordinates),
    "rotate": _warp(_rotate_coordinates),
    "perspective": _warp(_perspective_coordinates),
    "elastic": _warp(_elastic_coordinates),
}


# --- closed forms -----------------------------------------------------------------------------------------------------
def homography(source: Sequence, target: Sequence) -> list[float]:
    """The eight coefficients that carry four ``source`` points onto four ``target`` points, solved in float64."""
    rows, right = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        right += [u, v]
    return np.linalg.solve(np.array(rows, dtype=np.float64), np.array(right, dtype=np.float64)).tolist()


def name_of(interpolation: Any) -> str:
    """ "bilinear" for "bilinear" and for torchvision's enum member."""
    return getattr(interpolation, "value", interpolation)


def fill_column(fill: Any, channels: int) -> Tensor:
    """``fill`` as float64 [C, 1, 1], each the float32 that an image holds."""
    values = [0.0] if fill is None else list(fill) if isinstance(fill, Sequence) else [float(fill)]
    return torch.tensor(values, dtype=torch.float32).double().view(-1, 1, 1).expand(channels, 1, 1)


def snapped(size: int, out: int, mode: str) -> list[Tensor]:
    """The source indices [out] of a 1-D nearest resize: in whole numbers, and as torch's float32 scale rounds them."""
    i, half = torch.arange(out), int(mode == "nearest-exact")
    ramp = F.resize(torch.arange(size).float()[None, None], [1, out], interpolation=F.InterpolationMode(mode))
    return [(2 * i + half) * size // (2 * out), ramp[0, 0].long()]


def cubic(t: Tensor, a: float) -> Tensor:
    """Keys' cubic kernel."""
    t = t.abs()
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * (t**3 - 5 * t**2 + 8 * t - 4)
    return torch.where(t <= 1, near, torch.where(t < 2, far, torch.zeros_like(t)))


def resample_matrix(size: int, out: int, mode: str, antialias: bool) -> Tensor:
    """Weights [out, size] in float64 of a 1-D resize with half-pixel centres, as torchvision and Pillow define it.

    Antialiased: triangle, cubic (a = -0.5) or sinc windowed by sinc (a = 3) whose support grows with the downscale,
    cut at the borders and normalised. Otherwise 2 or 4 taps (a = -0.75) with indices clamped to the image.
    """
    scale = size / out
    centre = (torch.arange(out).double() + 0.5) * scale - 0.5
    weights = torch.zeros(out, size, dtype=torch.float64)
    if antialias:
        stretch = max(scale, 1.0)
        t = (torch.arange(size).double()[None] - centre[:, None]) / stretch
        sinc = torch.where(t.abs() < 3, torch.sinc(t) * torch.sinc(t / 3), 0.0)
        weights = {"bilinear": (1 - t.abs()).clamp_min(0), "bicubic": cubic(t, -0.5), "lanczos": sinc}[mode]
        return weights / weights.sum(1, keepdim=True)
    centre = centre.clamp_min(0) if mode == "bilinear" else centre
    first = centre.floor()
    for k in (0, 1) if mode == "bilinear" else (-1, 0, 1, 2):
        t = centre - first - k
        weight = 1 - t.abs() if mode == "bilinear" else cubic(t, -0.75)
        weights.scatter_add_(1, (first + k).clamp(0, size - 1).long()[:, None], weight[:, None])
    return weights
