"""Changes of dtype, normalisation, and names that ported code expects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..forms import MADE, TV, Form, check_mode
from ..lowering import DTYPES, Lowering
from ..messages import shown
from .arguments import flag, is_number, plain
from .base import Transform

KINDS = ("image", "mask", "boxes", "keypoints")
SMALLEST = 1e-37  # of a standard deviation: its reciprocal is a float32


def check_dtype(op: str, dtype: Any) -> None:
    """Raise unless images can be of this dtype."""
    if not isinstance(dtype, torch.dtype) or dtype not in DTYPES:
        raise ValueError(f"{op}: dtype must be torch.uint8, float16, bfloat16 or float32, got {shown(dtype)}")


def dtypes_by_kind(op: str, dtypes: Mapping[Any, Any]) -> dict[str, torch.dtype | None]:
    """Those of "image", "mask", "boxes" and "keypoints", of a dict by these, "others" or torchvision's types."""
    if not dtypes:
        raise ValueError(f"{op}: dtype must be a torch.dtype, or name one for a kind, got {shown(dtypes)}")
    named: dict[str, Any] = {}
    for key, dtype in dtypes.items():
        name = key.__name__ if isinstance(key, type) else key
        kind = {**TV, "Video": "image", "Tensor": "image", "others": "others"}.get(name, name)
        if kind not in (*KINDS, "others"):
            known = ", ".join(map(repr, KINDS))
            raise ValueError(f"{op}: dtype is by {known} and 'others', got {shown(key)}")
        if dtype is not None and not isinstance(dtype, torch.dtype):
            raise ValueError(f"{op}: dtype[{name!r}] must be a torch.dtype or None, got {shown(dtype)}")
        if named.setdefault(kind, dtype) != dtype:
            raise ValueError(f"{op}: dtype has two values for {kind}, {named[kind]} and {dtype}")
    return {kind: named.get(kind, named.get("others")) for kind in KINDS}


def mean_and_std(op: str, mean: Any, std: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Both as finite numbers of one count, one for each channel or one for all; no standard deviation is 0."""
    both = []
    for name, value in (("mean", plain(mean)), ("std", plain(std))):
        values = value if isinstance(value, tuple) else (value,)
        if not values or not all(is_number(v) for v in values):
            raise ValueError(f"{op}: {name} must be a finite number for each channel, got {shown(value)}")
        both.append(tuple(float(v) for v in values))
    n = max(len(values) for values in both)
    if any(len(values) not in (1, n) for values in both):
        raise ValueError(f"{op}: mean has {len(both[0])} values and std {len(both[1])}; give each channel one of both")
    if not all(abs(s) > SMALLEST for s in both[1]):
        raise ValueError(f"{op}: std must not be 0, got {shown(std)}")
    return both[0] * (n // len(both[0])), both[1] * (n // len(both[1]))


@dataclass(frozen=True)
class ToDtype(Transform):
    """Change the dtype (torchvision.transforms.v2.ToDtype).

    Args:
        dtype: of images: torch.uint8, float16, bfloat16 or float32. Arithmetic stays float32 until the store. Or by
            kind: "image", "mask", "boxes", "keypoints" and "others", or torchvision's types, as {"image":
            torch.float32, "mask": torch.int64}; a kind that is not named, or has None, keeps its dtype. Masks, boxes
            and keypoints are cast at the pipeline's end.
        scale: of images: map [0, 255] to [0, 1] on the way to floating point; back, times 255.999 and truncate.
    """

    dtype: torch.dtype | Mapping[Any, torch.dtype | None]
    scale: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.dtype, Mapping):
            self._set(dtype=dtypes_by_kind("ToDtype", self.dtype))
        if self.becomes("image") is not None or not isinstance(self.dtype, Mapping):
            check_dtype("ToDtype", self.becomes("image"))
        flag("ToDtype", "scale", self.scale)

    def becomes(self, kind: str) -> torch.dtype | None:
        """Of an "image", a "mask", "boxes" or "keypoints"; None where it stays."""
        if isinstance(self.dtype, Mapping):
            return self.dtype.get(kind)
        return self.dtype if kind == "image" else None

    @property
    def affine(self) -> bool:
        dtype = self.becomes("image")
        return dtype is None or dtype.is_floating_point

    def lower(self, build: Lowering) -> None:
        dtype = self.becomes("image")
        if dtype is not None:
            build.to_dtype(dtype, bool(self.scale))


@dataclass(frozen=True)
class ConvertImageDtype(Transform):
    """Change the dtype of images, and scale their values (torchvision.transforms.v2.ConvertImageDtype): the old name of
    `ToDtype(dtype, scale=True)`.

    Args:
        dtype: torch.uint8, float16, bfloat16 or float32.
    """

    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        check_dtype("ConvertImageDtype", self.dtype)

    @property
    def affine(self) -> bool:
        return self.dtype.is_floating_point

    def lower(self, build: Lowering) -> None:
        build.to_dtype(self.dtype, True)


@dataclass(frozen=True)
class Normalize(Transform):
    """(image - mean) / std for each channel (torchvision.transforms.v2.Normalize).

    Args:
        mean, std: a number for each channel, or one for all, in the units of the floating-point image; std is not 0.
        inplace: accepted for torchvision's sake; the output is always new.

    Raises:
        TypeError: on integer images; put `ToDtype(torch.float32, scale=True)` in front.
    """

    mean: Sequence[float]
    std: Sequence[float]
    inplace: bool = False

    def __post_init__(self) -> None:
        mean, std = mean_and_std("Normalize", self.mean, self.std)
        flag("Normalize", "inplace", self.inplace)
        self._set(mean=mean, std=std)

    @property
    def affine(self) -> bool:
        return True

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

    @property
    def affine(self) -> bool:
        return True

    def lower(self, build: Lowering) -> None:
        pass


@dataclass(frozen=True)
class ToImage(Identity):
    """Plain tensors, arrays and Pillow images go out as `tv_tensors.Image` (torchvision.transforms.v2.ToImage).

    Pixels stay as they are. Masks, boxes, keypoints and `tv_tensors.Video` keep their form.
    """

    def makes(self, form: Form, kind: str) -> Form:
        return Form("image") if kind == "image" and form.name in ("tensor", "array", "pillow") else form


@dataclass(frozen=True)
class PILToTensor(Identity):
    """Pillow images go out as plain tensors, other forms stay (torchvision.transforms.v2.PILToTensor).

    Pixels stay as they are.
    """

    def makes(self, form: Form, kind: str) -> Form:
        return Form("tensor") if form.name == "pillow" else form


@dataclass(frozen=True)
class ToPureTensor(Identity):
    """Images, masks, boxes and keypoints of `torchvision.tv_tensors` go out as plain tensors
    (torchvision.transforms.v2.ToPureTensor).

    Pixels stay as they are, and so do arrays and Pillow images.
    """

    def makes(self, form: Form, kind: str) -> Form:
        return Form("tensor") if form.name in TV.values() else form


@dataclass(frozen=True)
class ToTensor(Transform):
    """Images go out as plain tensors, float32 in [0, 1] (torchvision.transforms.v2.ToTensor).

    The short form of `ToImage(), ToDtype(torch.float32, scale=True), ToPureTensor()`. Otherwise than torchvision's,
    which leaves tensors alone, it makes floats of uint8 tensors, too.
    """

    @property
    def affine(self) -> bool:
        return True

    def lower(self, build: Lowering) -> None:
        build.to_dtype(torch.float32, True)

    def makes(self, form: Form, kind: str) -> Form:
        return Form("tensor") if kind == "image" else form


@dataclass(frozen=True)
class ToPILImage(Transform):
    """Plain tensors, arrays and `tv_tensors.Image` go out as Pillow images, of a batch as a list of them
    (torchvision.transforms.v2.ToPILImage).

    Pixels of uint8 stay as they are. Floats become uint8 where it stands in the pipeline: times 255, truncated,
    clamped to [0, 255]; not where the mode is "F". Masks, boxes, keypoints and `tv_tensors.Video` keep their form.

    Args:
        mode: of the Pillow images, "L" or "F" of one channel, "LA" of two, "RGB", "YCbCr" or "HSV" of three, "RGBA",
            "CMYK" or "RGBX" of four; values are not converted. None takes L, LA, RGB or RGBA.

    Raises:
        ValueError: when used, images of other channels than the mode has, or of more than four.
        TypeError: when used, images of another dtype than float32 for "F".
    """

    mode: str | None = None

    def __post_init__(self) -> None:
        check_mode(self.mode)

    def lower(self, build: Lowering) -> None:
        modes = MADE.get(build.channels, ())
        if self.mode == "F" and build.channels == 1:
            if build.dtype != torch.float32:
                raise TypeError(f"ToPILImage: mode F takes float32 but meets {build.dtype}; put ToDtype in front")
            return
        if not modes or self.mode not in (None, *modes):
            kinds = " or ".join(modes) or "1 to 4 channels"
            raise build.fail(
                f"Pillow images of {build.channels} channels cannot be {self.mode or 'made'}, only {kinds}"
            )
        if build.dtype.is_floating_point:
            calls = [("to_pil_image", {"mode": self.mode}), ("pil_to_tensor", {})]
            build.pixel("convert", (255.0, 1.0), call=lambda values, canvas: [(name, dict(kw)) for name, kw in calls])
            build.dtype = torch.uint8

    def makes(self, form: Form, kind: str) -> Form:
        return Form("pillow", self.mode) if kind == "image" and form.name in ("tensor", "array", "image") else form
