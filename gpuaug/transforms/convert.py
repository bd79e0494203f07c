"""Changes of dtype, normalisation, and names that ported code expects."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from .base import Transform

if TYPE_CHECKING:
    from ..lowering import Lowering

DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32)


@dataclass(frozen=True)
class ToDtype(Transform):
    """Change the dtype (torchvision.transforms.v2.ToDtype).

    Args:
        dtype: torch.uint8, float16, bfloat16 or float32. Arithmetic stays float32 until the store.
        scale: map [0, 255] to [0, 1] on the way to floating point; back, times 255.999 and truncate.
    """

    dtype: torch.dtype
    scale: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"ToDtype: dtype must be uint8, float16, bfloat16 or float32, got {self.dtype!r}")

    def lower(self, build: Lowering) -> None:
        build.to_dtype(self.dtype, self.scale)


@dataclass(frozen=True)
class Normalize(Transform):
    """(image - mean) / std for each channel (torchvision.transforms.v2.Normalize).

    Args:
        mean, std: a number for each channel, in the units of the floating-point image.
        inplace: accepted for torchvision's sake; the output is always new.

    Raises:
        TypeError: on integer images; put `ToDtype(torch.float32, scale=True)` in front.
    """

    mean: Sequence[float]
    std: Sequence[float]
    inplace: bool = False

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            value = getattr(self, name)
            value = [value] if isinstance(value, numbers.Real) else list(value)
            self._set(**{name: tuple(float(v) for v in value)})
        if len(self.mean) != len(self.std):
            raise ValueError(f"Normalize: mean has {len(self.mean)} values and std {len(self.std)}")
        if not all(s > 0 for s in self.std):
            raise ValueError(f"Normalize: std must be positive, got {self.std}")

    def lower(self, build: Lowering) -> None:
        build.require_float()
        n = build.channels
        if len(self.mean) not in (1, n):
            raise build.fail(f"mean and std have {len(self.mean)} values for images of {n} channels")
        mean, std = (build.by_channel(list(v) * (n // len(v))) for v in (self.mean, self.std))
        n = build.width
        blocks = []
        for start in range(0, n, 3):
            pad = [0.0] * (start + 3 - min(n, start + 3))
            blocks.append(mean[start : start + 3] + pad + [1.0 / s for s in std[start : start + 3]] + pad + [0.0, 0.0])
        kwargs = {"mean": list(self.mean), "std": list(self.std)}
        build.pixel("normalize", by_channel=blocks, call=lambda values, canvas: [("normalize", dict(kwargs))])


@dataclass(frozen=True)
class Identity(Transform):
    """Nothing (torchvision.transforms.v2.Identity)."""

    def lower(self, build: Lowering) -> None:
        pass


@dataclass(frozen=True)
class ToImage(Identity):
    """Nothing: images are tensors already. For code ported from torchvision."""


@dataclass(frozen=True)
class ToPureTensor(Identity):
    """Nothing: images are plain tensors already. For code ported from torchvision."""
