"""Independent judges of the engine: a replay in torchvision, and the bounds of every right answer in float64.

``judge(image, records)`` replays what ``params.describe(i)`` says through ``torchvision.transforms.v2.functional`` and
carries, beside torchvision's own result, an interval ``[lo, hi]`` per pixel, worked out in float64 from closed forms.
The interval is one number wide except where two right implementations may disagree:

- a nearest snap whose coordinate lies within a few float32 roundings of a boundary (both neighbours are right);
- a smooth sample whose rounding to the uint8 lattice lies within the float32 error of a tie, or where torchvision's
  fixed-point uint8 resize differs from its own float path;
- whatever a later truncation, threshold or contrast makes of these;
- torchvision's two shortcuts under bilinear and bicubic: it blends the fill of a warp twice (an edge pixel half covered
  by fill gets a quarter of the image), and on the CPU it resizes uint8 in fixed point and rounds between two passes.

Where the interval is narrow the engine must agree with torchvision, everywhere else it must stay inside the interval.
Calls with a shortcut are judged a second time with ``exact=True``: torchvision is called with no fill, which is then
blended by the cover that torchvision finds for an image of ones, and uint8 is resized in float32, as torchvision
itself does on a GPU. Then those pixels are as narrow as all others. No pixel is left unjudged, and the shares of wide
ones are returned so that a test can bound them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

Record = Mapping[str, Any]
FLOAT_TOLERANCE = 1e-3  # of a [0, 1] image, DESIGN section 6
COORDINATE_ERROR = 96 * 2.0**-24  # of a source coordinate, in pixels per pixel of the longer side
VALUE_ERROR = 1e-5  # of a smooth sample or a blend, relative to the white level
SMOOTH = ("bilinear", "bicubic")
WARPS = ("affine", "rotate", "perspective")
SAMPLED = ("resize", "resized_crop", *WARPS)


INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
TRITON = pytest.param("triton", marks=pytest.mark.gpu)
BACKENDS = ["triton"] if INTERPRETED else ["cpu", "kornia", TRITON]  # Triton's interpreter takes its own process


def device_of(backend: str) -> str:
    return "cuda" if backend == "triton" and not INTERPRETED else "cpu"


def thumbnails(photos: Sequence[Tensor], size: int = 128) -> list[Tensor]:
    """The colour photos, uint8 [3, H, W], with their shorter side at ``size``: more detail in each small crop."""
    return [F.resize(photo, [size], antialias=True) for photo in photos if photo.shape[0] == 3]


def patches(photos: Sequence[Tensor], count: int, height: int, width: int, seed: int = 0) -> Tensor:
    """``count`` crops uint8 [count, C, height, width] at random places of random photos."""
    generator = torch.Generator().manual_seed(seed)

    def below(limit: int) -> int:
        return int(torch.randint(limit, (), generator=generator))

    chosen = [photos[below(len(photos))] for _ in range(count)]
    corners = [(below(p.shape[1] - height + 1), below(p.shape[2] - width + 1)) for p in chosen]
    return torch.stack([p[:, y : y + height, x : x + width] for p, (y, x) in zip(chosen, corners, strict=True)])


def replay(image: Tensor, records: Sequence[Record]) -> Tensor:
    """Apply the calls of ``params.describe(i)`` to one [C, H, W] image through torchvision."""
    for record in records:
        image = getattr(F, record["call"])(image, **record["kwargs"])
    return image


@dataclass
class Verdict:
    """What one sample may become: torchvision's answer ``ref`` and the bounds ``lo <= right <= hi``, each [C, H, W]."""

    ref: Tensor
    lo: Tensor
    hi: Tensor
    smooth: bool = False
    exact: bool = False

    @property
    def lattice(self) -> bool:
        return not self.ref.is_floating_point()

    @property
    def white(self) -> float:
        return 255.0 if self.lattice else 1.0

    @property
    def tolerance(self) -> float:
        """Equal to the bit for pointwise uint8, one level after interpolation, 1e-3 for floats."""
        return float(self.smooth) if self.lattice else FLOAT_TOLERANCE

    def wide(self) -> Tensor:
        """Pixels where right implementations may differ by more than the tolerance."""
        return self.hi - self.lo > max(self.tolerance, 0.5 if self.lattice else 0.0)

    def complaint(self, output: Tensor) -> str:
        """Why ``output`` is wrong, or an empty string."""
        if tuple(output.shape) != tuple(self.ref.shape):
            return f"shape {tuple(output.shape)}, expected {tuple(self.ref.shape)}"
        if output.dtype != self.ref.dtype:
            return f"dtype {output.dtype}, expected {self.ref.dtype}"
        got = output.detach().cpu().double()
        near = (got - self.ref.double()).abs() <= self.tolerance
        inside = (got >= self.lo - self.tolerance) & (got <= self.hi + self.tolerance)
        bad = ~torch.where(self.wide(), inside, near & inside)
        if not bad.any():
            return ""
        c, y, x = bad.nonzero()[0].tolist()
        return (
            f"{int(bad.sum())} of {bad.numel()} values are wrong, first at channel {c}, row {y}, column {x}: "
            f"got {got[c, y, x]:.6g}, torchvision {float(self.ref[c, y, x]):.6g}, "
            f"right within [{self.lo[c, y, x]:.6g}, {self.hi[c, y, x]:.6g}] +- {self.tolerance:g}"
        )

    def accepts(self, output: Tensor) -> bool:
        return not self.complaint(output)


def judge(image: Tensor, records: Sequence[Record], exact: bool = False) -> Verdict:
    """Replay ``records`` on one uint8 or float32 [C, H, W] image in torchvision and bound every right answer.

    ``exact``: without torchvision's shortcuts, see ``without_shortcut``.
    """
    verdict = Verdict(ref=image, lo=image.double(), hi=image.double(), exact=exact)
    for record in records:
        call, kwargs = record["call"], dict(record["kwargs"])
        replayed = without_shortcut if exact and has_shortcut(record) else replay
        ref = replayed(verdict.ref, [record])
        lo, hi, smooth = BOUNDS[call](verdict, kwargs, ref)
        verdict = Verdict(ref, lo, hi, verdict.smooth or smooth, exact)
    return verdict


def has_shortcut(record: Record) -> bool:
    """Warps and resizes that interpolate smoothly."""
    default = {"resize": "bilinear", "resized_crop": "bilinear"}.get(record["call"], "nearest")
    return record["call"] in SAMPLED and name_of(record["kwargs"].get("interpolation", default)) in SMOOTH


def without_shortcut(image: Tensor, records: Sequence[Record]) -> Tensor:
    """Smooth calls of torchvision in float32, the fill weighted by the uncovered part of each pixel, one rounding."""
    value = image.float()
    for record in records:
        call, kwargs = getattr(F, record["call"]), dict(record["kwargs"])
        fill = fill_column(kwargs.pop("fill", None), image.shape[0]).float()
        bare = call(value, **kwargs)
        value = bare + fill * (1 - call(torch.ones_like(value[:1]), **kwargs)) if record["call"] in WARPS else bare
    return value if image.is_floating_point() else value.clamp(0, 255).round().to(image.dtype)


@dataclass
class Shares:
    """The shares of wide pixels against plain torchvision, and against torchvision without its shortcuts."""

    plain: float
    exact: float


def check(output: Tensor, image: Tensor, records: Sequence[Record]) -> Shares:
    """Assert that ``output`` is a right answer for ``records`` on ``image``; return the shares of wide pixels."""
    shares = []
    for exact in (False, True) if any(has_shortcut(record) for record in records) else (False,):
        verdict = judge(image, records, exact)
        own = verdict.complaint(verdict.ref)
        assert not own, f"the judge disagrees with torchvision itself: {own}\n{records}"
        problem = verdict.complaint(output)
        assert not problem, f"{problem}\n{exact=}, image {tuple(image.shape)} {image.dtype}, calls: {records}"
        shares.append(float(verdict.wide().double().mean()) if verdict.lo.numel() else 0.0)
    return Shares(shares[0], shares[-1])


def check_batch(outputs: Tensor, images: Tensor, params: Any) -> list[Shares]:
    """``check`` for every sample of a batch; ``params`` is what ``augment.sample`` returned."""
    assert outputs.shape[0] == images.shape[0]
    return [check(outputs[i], images[i], params.describe(i)) for i in range(images.shape[0])]


# --- bounds: one function per functional call, (state, kwargs, torchvision's result) -> lo, hi, smooth ---------------
def _moved(call: str) -> Callable:
    """Calls that only move pixels by whole steps: torchvision's own function on both bounds."""

    def bounds(state: Verdict, kwargs: dict, ref: Tensor) -> tuple[Tensor, Tensor, bool]:
        return getattr(F, call)(state.lo, **kwargs), getattr(F, call)(state.hi, **kwargs), False

    return bounds


def _pad(state: Verdict, kwargs: dict, ref: Tensor) -> tuple[Tensor, Tensor, bool]:
    if kwargs.get("padding_mode", "constant") == "constant":
        kwargs["fill"] = fill_column(kwargs.get("fill"), state.lo.shape[0]).flatten().tolist()
    return F.pad(state.lo, **kwargs), F.pad(state.hi, **kwargs), False


def _on_lattice(state: Verdict, lo: Tensor, hi: Tensor, ref: Tensor | None = None) -> tuple[Tensor, Tensor]:
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
    if mode not in SMOOTH:
        return *_resize_nearest(state, mode, ref.shape[-2:]), False
    antialias = bool(kwargs.get("antialias", True))
    sizes = zip(state.lo.shape[-2:], ref.shape[-2:], strict=True)
    rows, columns = (resample_matrix(size, out, mode, antialias) for size, out in sizes)
    middle, radius = (state.lo + state.hi) / 2, (state.hi - state.lo) / 2
    middle = rows @ middle @ columns.T
    radius = rows.abs() @ radius @ columns.abs().T + VALUE_ERROR * state.white
    return *_on_lattice(state, middle - radius, middle + radius, None if state.exact else ref), True


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
    crop = Verdict(*(F.crop(plane, **window) for plane in (state.ref, state.lo, state.hi)), exact=state.exact)
    return _resize(crop, kwargs, ref)


def _warp(coordinates: Callable) -> Callable:
    """Warps: ``coordinates(kwargs, H, W)`` gives each output pixel's source (x, y) in float64, in pixel indices."""

    def bounds(state: Verdict, kwargs: dict, ref: Tensor) -> tuple[Tensor, Tensor, bool]:
        height, width = state.lo.shape[-2:]
        x, y = coordinates(kwargs, height, width)
        delta = COORDINATE_ERROR * max(height, width)
        fill = fill_column(kwargs.get("fill"), state.lo.shape[0])
        mode = name_of(kwargs.get("interpolation", "nearest"))
        sample = _nearest if mode == "nearest" else _bilinear
        lo = torch.full_like(state.lo, math.inf)
        hi = torch.full_like(state.hi, -math.inf)
        for dx, dy in ((0, 0), (-delta, -delta), (-delta, delta), (delta, -delta), (delta, delta)):
            for plane in (state.lo, state.hi):
                for value in sample(plane, x + dx, y + dy, fill)[: 1 if state.exact else 2]:
                    lo, hi = torch.minimum(lo, value), torch.maximum(hi, value)
        if mode == "nearest":
            return lo, hi, False
        error = VALUE_ERROR * state.white
        return *_on_lattice(state, lo - error, hi + error), True

    return bounds


def _tap(plane: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Values [C, OH, OW] at whole coordinates, zero outside, and whether each lies inside."""
    height, width = plane.shape[-2:]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    value = plane[:, y.clamp(0, height - 1).long(), x.clamp(0, width - 1).long()]
    return value * inside, inside


def _nearest(plane: Tensor, x: Tensor, y: Tensor, fill: Tensor) -> tuple[Tensor]:
    value, inside = _tap(plane, x.round(), y.round())
    return (torch.where(inside, value, fill),)


def _bilinear(plane: Tensor, x: Tensor, y: Tensor, fill: Tensor) -> tuple[Tensor, Tensor]:
    """The sample with its fill blended once, and blended twice."""
    left, top = x.floor(), y.floor()
    value, cover = 0.0, 0.0
    for ix, wx in ((left, left + 1 - x), (left + 1, x - left)):
        for iy, wy in ((top, top + 1 - y), (top + 1, y - top)):
            tap, inside = _tap(plane, ix, iy)
            value, cover = value + wx * wy * tap, cover + wx * wy * inside
    return value + fill * (1 - cover), (value - fill) * cover + fill


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
    assert not kwargs.get("expand", False)
    return _affine_coordinates({"angle": -kwargs["angle"], "center": kwargs.get("center")}, height, width)


def _perspective_coordinates(kwargs: dict, height: int, width: int) -> tuple[Tensor, Tensor]:
    coefficients = kwargs.get("coefficients")
    if coefficients is None:
        coefficients = homography(kwargs["endpoints"], kwargs["startpoints"])
    a, b, c, d, e, f, g, h = (float(v) for v in coefficients)
    y, x = torch.meshgrid(torch.arange(height).double() + 0.5, torch.arange(width).double() + 0.5, indexing="ij")
    depth = g * x + h * y + 1
    return (a * x + b * y + c) / depth - 0.5, (d * x + e * y + f) / depth - 0.5


def homography(source: Sequence, target: Sequence) -> list[float]:
    """The eight coefficients that carry four ``source`` points onto four ``target`` points, solved in float64."""
    rows, right = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        right += [u, v]
    return np.linalg.solve(np.array(rows, dtype=np.float64), np.array(right, dtype=np.float64)).tolist()


def _brightness(state: Verdict, kwargs: dict, ref: Tensor) -> tuple[Tensor, Tensor, bool]:
    factor = kwargs["brightness_factor"]
    if not state.lattice:
        return *_clamped(state, state.lo * factor, state.hi * factor), False
    lo, hi = (bound.float().mul(factor).clamp(0, 255).floor().double() for bound in (state.lo, state.hi))
    return lo, hi, False


def _contrast(state: Verdict, kwargs: dict, ref: Tensor) -> tuple[Tensor, Tensor, bool]:
    factor = kwargs["contrast_factor"]
    least, most, rest = _mean_grey(state, state.lo)[0], _mean_grey(state, state.hi)[1], 1 - factor
    below, above = (least, most) if rest >= 0 else (most, least)
    return *_clamped(state, factor * state.lo + rest * below, factor * state.hi + rest * above), False


def _mean_grey(state: Verdict, plane: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest mean grey that float32 arithmetic may find for one plane."""
    if plane.shape[0] == 1:
        grey, error = plane, 0.0
    else:
        weights = torch.tensor([0.2989, 0.587, 0.114], dtype=torch.float64).view(3, 1, 1)
        grey, error = (weights * plane).sum(0), VALUE_ERROR * state.white
    if state.lattice and error:
        return (grey - error).clamp_min(0).floor().mean() - error, (grey + error).floor().mean() + error
    return grey.mean() - VALUE_ERROR * state.white, grey.mean() + VALUE_ERROR * state.white


def _clamped(state: Verdict, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
    error = VALUE_ERROR * state.white
    lo, hi = (lo - error).clamp(0, state.white), (hi + error).clamp(0, state.white)
    return (lo.floor(), hi.floor()) if state.lattice else (lo, hi)


def _solarize(state: Verdict, kwargs: dict, ref: Tensor) -> tuple[Tensor, Tensor, bool]:
    threshold, white, lo, hi = float(np.float32(kwargs["threshold"])), state.white, state.lo, state.hi
    turned_lo, turned_hi = white - hi, white - torch.maximum(lo, torch.full_like(lo, threshold))
    kept_hi = torch.minimum(hi, torch.full_like(hi, threshold))
    never, always = hi < threshold, lo >= threshold
    low = torch.where(never, lo, torch.where(always, turned_lo, torch.minimum(lo, turned_lo)))
    high = torch.where(never, hi, torch.where(always, turned_hi, torch.maximum(kept_hi, turned_hi)))
    return low, high, False


def _invert(state: Verdict, kwargs: dict, ref: Tensor) -> tuple[Tensor, Tensor, bool]:
    return state.white - state.hi, state.white - state.lo, False


def _to_dtype(state: Verdict, kwargs: dict, ref: Tensor) -> tuple[Tensor, Tensor, bool]:
    dtype, scale = kwargs.get("dtype", torch.float32), kwargs.get("scale", False)
    if not scale or dtype.is_floating_point == (not state.lattice):
        bounds = (state.lo, state.hi)
    elif dtype.is_floating_point:
        bounds = (state.lo / 255, state.hi / 255)
    else:  # torchvision multiplies by just under 256 and truncates
        bounds = tuple((b * 255.999 + e).floor() for b, e in ((state.lo, -VALUE_ERROR), (state.hi, VALUE_ERROR)))
    return *bounds, False


def _normalize(state: Verdict, kwargs: dict, ref: Tensor) -> tuple[Tensor, Tensor, bool]:
    mean, std = (torch.as_tensor(kwargs[name], dtype=torch.float64).view(-1, 1, 1) for name in ("mean", "std"))
    return (state.lo - mean) / std, (state.hi - mean) / std, False


BOUNDS: dict[str, Callable] = {
    **{call: _moved(call) for call in ("horizontal_flip", "hflip", "vertical_flip", "vflip", "crop", "center_crop")},
    "pad": _pad,
    "resize": _resize,
    "resized_crop": _resized_crop,
    "affine": _warp(_affine_coordinates),
    "rotate": _warp(_rotate_coordinates),
    "perspective": _warp(_perspective_coordinates),
    "adjust_brightness": _brightness,
    "adjust_contrast": _contrast,
    "solarize": _solarize,
    "invert": _invert,
    "to_dtype": _to_dtype,
    "normalize": _normalize,
}


# --- closed forms -----------------------------------------------------------------------------------------------------
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

    Antialiased: triangle or cubic (a = -0.5) whose support grows with the downscale, cut at the borders and
    normalised. Otherwise 2 or 4 taps (a = -0.75) with indices clamped to the image.
    """
    scale = size / out
    centre = (torch.arange(out).double() + 0.5) * scale - 0.5
    weights = torch.zeros(out, size, dtype=torch.float64)
    if antialias:
        stretch = max(scale, 1.0)
        t = (torch.arange(size).double()[None] - centre[:, None]) / stretch
        weights = (1 - t.abs()).clamp_min(0) if mode == "bilinear" else cubic(t, -0.5)
        return weights / weights.sum(1, keepdim=True)
    centre = centre.clamp_min(0) if mode == "bilinear" else centre
    first = centre.floor()
    for k in (0, 1) if mode == "bilinear" else (-1, 0, 1, 2):
        t = centre - first - k
        weight = 1 - t.abs() if mode == "bilinear" else cubic(t, -0.75)
        weights.scatter_add_(1, (first + k).clamp(0, size - 1).long()[:, None], weight[:, None])
    return weights
