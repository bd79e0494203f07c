"""Independent judges of the engine: a replay in torchvision, and the bounds of every right answer in float64.

``judge(image, records)`` replays what ``params.describe(i)`` says through ``torchvision.transforms.v2.functional`` and
carries, beside torchvision's own result, an interval ``[lo, hi]`` per pixel, worked out in float64 from closed forms.
The interval is one number wide except where two right implementations may disagree:

- a nearest snap whose coordinate lies within a few float32 roundings of a boundary (both neighbours are right);
- a smooth sample whose rounding to the uint8 lattice lies within the float32 error of a tie, or where torchvision's
  fixed-point uint8 resize differs from its own float path;
- a truncation on the lattice within a few float32 roundings of a whole number;
- whatever a later truncation, threshold, statistic or neighbourhood makes of these;
- torchvision's two shortcuts under bilinear and bicubic: it blends the fill of a warp twice (an edge pixel half covered
  by fill gets a quarter of the image), and on the CPU it resizes uint8 in fixed point and rounds between two passes.

Where the interval is narrow the engine must agree with torchvision, everywhere else it must stay inside the interval.
Calls with a shortcut are judged a second time with ``exact=True``: torchvision is called with no fill, which is then
blended by the cover that torchvision finds for an image of ones, and uint8 is resized in float32, as torchvision
itself does on a GPU. Then those pixels are as narrow as all others. No pixel is left unjudged, and the shares of wide
ones are returned so that a test can bound them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from bounds_geometry import (
    ANTIALIASED,
    GEOMETRY,
    SAMPLED,
    SMOOTH,
    VALUE_ERROR,
    WARPS,
    fill_column,
    name_of,
    resample_matrix,
)
from bounds_pixel import OWN, PIXEL
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from gpuaug.benchmarks.gate import torchvision_kwargs

__all__ = ["ANTIALIASED", "SMOOTH", "VALUE_ERROR", "resample_matrix"]

Record = Mapping[str, Any]
BOUNDS: dict[str, Callable] = {**GEOMETRY, **PIXEL}
FLOAT_TOLERANCE = 1e-3  # of a [0, 1] image, DESIGN section 6

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
TRITON = pytest.param("triton", marks=pytest.mark.gpu)


def _torch_has_lanczos() -> bool:
    try:
        torch.nn.functional.interpolate(torch.zeros(1, 1, 4, 4), size=2, mode="lanczos", antialias=True)
    except (NotImplementedError, ValueError):
        return False
    return True


judged_lanczos = pytest.mark.skipif(not _torch_has_lanczos(), reason=f"torch {torch.__version__} has no lanczos")
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
    """Apply the calls of ``params.describe(i)`` to one [C, H, W] image: torchvision's, or `OWN` where it has none."""
    for record in records:
        call = OWN.get(record["call"]) or getattr(F, record["call"])
        image = call(image, **torchvision_kwargs(record["kwargs"]))
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
    return record["call"] in SAMPLED and name_of(record["kwargs"].get("interpolation", default)) in ANTIALIASED


def without_shortcut(image: Tensor, records: Sequence[Record]) -> Tensor:
    """Smooth calls of torchvision in float32, the fill weighted by the uncovered part of each pixel, one rounding."""
    value = image.float()
    for record in records:
        call, kwargs = getattr(F, record["call"]), torchvision_kwargs(record["kwargs"])
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
