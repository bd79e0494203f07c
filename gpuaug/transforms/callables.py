"""Ops that are called on what the ops in front of them made: a function of the user's, crops, a matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .. import forms
from ..barriers import Crops
from ..forms import of_type
from ..messages import shown
from .arguments import flag, pair
from .base import Transform


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Lambda(Transform):
    """Call a function on each input of some classes (torchvision.transforms.v2.Lambda).

    Args:
        lambd: from an input to what becomes of it. Of a batch it gets the tensor [B, C, H, W], of a list each item.
        types: the classes; none means all. Beside images that are known by their class, or a first plain tensor, other
            plain tensors pass through.
    """

    lambd: Callable[[Any], Any]
    types: tuple[type, ...]
    _transformed_types = (object,)

    def __init__(self, lambd: Callable[[Any], Any], *types: type):
        if not callable(lambd):
            raise TypeError(f"Lambda: lambd must be callable, got {shown(lambd)}")
        for kind in types:
            if not isinstance(kind, type):
                raise TypeError(f"Lambda: types must be classes, got {shown(kind)}")
        self._set(lambd=lambd, types=types or self._transformed_types)

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return self.lambd(inpt) if isinstance(inpt, self.types) else inpt

    def __repr__(self) -> str:
        types = "".join(f", {kind.__name__}" for kind in self.types if kind is not object)
        return f"Lambda({getattr(self.lambd, '__name__', repr(self.lambd))}{types})"


class _OfImages(Transform):
    """An op that is called on images, and raises beside what would have to move with them."""

    def check_inputs(self, flat_inputs: list) -> None:
        found = next((x for x in flat_inputs if of_type(type(x)) in ("mask", "boxes", "keypoints")), None)
        if found is not None:
            name = type(self).__name__
            raise TypeError(f"{name}: takes images alone, got {type(found).__name__}, which would stay as it is")

    def needs(self, inpt: Any) -> bool:
        form = of_type(type(inpt))
        return form in forms.IMAGES and (form != "array" or inpt.ndim >= 3)


@dataclass(frozen=True)
class FiveCrop(_OfImages):
    """A tuple of five windows of each image: its corners and its middle (torchvision.transforms.v2.FiveCrop): top left,
    top right, bottom left, bottom right, middle.

    Of tensors [..., C, H, W] and arrays they are views of the same memory. The ops behind act on each window, by one
    draw a sample; a function gets the tuple.

    Args:
        size: (height, width), or one number for both, in pixels.

    Raises:
        ValueError: when used, an image smaller than that.
        TypeError: when used, masks, boxes or keypoints beside the image.
    """

    size: Any

    def __post_init__(self) -> None:
        self._set(size=pair(type(self).__name__, "size", self.size))

    @property
    def crops_to(self) -> tuple[int, int]:
        """(H, W) of a window."""
        return self.size

    def transform(self, inpt: Any, params: dict[str, Any]) -> Crops:
        h, w = _sides(inpt)
        oh, ow = self.size
        if oh > h or ow > w:
            raise ValueError(f"{type(self).__name__}: size {oh}x{ow} is larger than an image of {h}x{w}")
        middle = int(round((h - oh) / 2.0)), int(round((w - ow) / 2.0))
        return Crops(_window(inpt, *at, oh, ow) for at in ((0, 0), (0, w - ow), (h - oh, 0), (h - oh, w - ow), middle))


@dataclass(frozen=True)
class TenCrop(FiveCrop):
    """`FiveCrop` of each image, and then of its mirror image (torchvision.transforms.v2.TenCrop). The last five are
    views of one copy.

    Args:
        vertical_flip: mirror top and bottom, not left and right.
    """

    vertical_flip: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(vertical_flip=flag("TenCrop", "vertical_flip", self.vertical_flip))

    def transform(self, inpt: Any, params: dict[str, Any]) -> Crops:
        five = super().transform
        return Crops((*five(inpt, params), *five(_mirrored(inpt, self.vertical_flip), params)))


def _sides(image: Any) -> tuple[int, int]:
    form = of_type(type(image))
    if form == "pillow":
        return image.size[::-1]
    return tuple(image.shape[-3:-1] if form == "array" else image.shape[-2:])


def _window(image: Any, top: int, left: int, height: int, width: int) -> Any:
    form = of_type(type(image))
    if form == "pillow":
        return image.crop((left, top, left + width, top + height))
    if form == "array":
        return image[..., top : top + height, left : left + width, :]
    window = forms.plain(image)[..., top : top + height, left : left + width]
    return window if form == "tensor" else window.as_subclass(type(image))


def _mirrored(image: Any, vertical: bool) -> Any:
    form = of_type(type(image))
    if form == "pillow":
        return image.transpose(1 if vertical else 0)  # FLIP_TOP_BOTTOM, FLIP_LEFT_RIGHT
    if form == "array":
        return np.ascontiguousarray(np.flip(image, -3 if vertical else -2))
    flipped = forms.plain(image).flip(-2 if vertical else -1)
    return flipped if form == "tensor" else flipped.as_subclass(type(image))


@dataclass(frozen=True, eq=False)
class LinearTransformation(_OfImages):
    """(pixels - mean) times a matrix, all pixels of an image being one row (torchvision.transforms.v2.
    LinearTransformation), as for whitening.

    Args:
        transformation_matrix: [D, D], D = C H W.
        mean_vector: [D], of the same dtype and on the same device.

    Raises:
        ValueError: when used, images of another number of values, or on another kind of device.
        TypeError: when used, Pillow images or arrays; put ToImage() in front.
    """

    transformation_matrix: torch.Tensor
    mean_vector: torch.Tensor

    def __post_init__(self) -> None:
        matrix, mean = self.transformation_matrix, self.mean_vector
        for name, value, axes in (("transformation_matrix", matrix, 2), ("mean_vector", mean, 1)):
            if not isinstance(value, torch.Tensor) or value.dim() != axes or not value.is_floating_point():
                shape = "[D, D]" if axes == 2 else "[D]"
                raise ValueError(f"LinearTransformation: {name} must be a float tensor {shape}, got {shown(value)}")
        if matrix.shape[0] != matrix.shape[1] or matrix.shape[0] != mean.shape[0]:
            raise ValueError(
                f"LinearTransformation: transformation_matrix is {tuple(matrix.shape)} and mean_vector "
                f"{tuple(mean.shape)}, and they must be [D, D] and [D]"
            )
        if matrix.device != mean.device or matrix.dtype != mean.dtype:
            told = f"{matrix.dtype} on {matrix.device} and {mean.dtype} on {mean.device}"
            raise ValueError(
                f"LinearTransformation: transformation_matrix and mean_vector must have one dtype and device, got "
                f"{told}"
            )

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if of_type(type(inpt)) in ("pillow", "array"):
            raise TypeError("LinearTransformation: takes tensors; put ToImage() and ToDtype(torch.float32) in front")
        image, n = forms.plain(inpt), len(self.mean_vector)
        if n != image.shape[-3:].numel():
            raise ValueError(
                f"LinearTransformation: the matrix is for {n} values, and an image is {tuple(image.shape[-3:])}"
            )
        if image.device.type != self.mean_vector.device.type:
            told = f"{self.mean_vector.device}, the images on {image.device}"
            raise ValueError(f"LinearTransformation: matrix and vector are on {told}; move them")
        flat = image.reshape(-1, n) - self.mean_vector
        found = (flat @ self.transformation_matrix.to(flat.dtype)).reshape(image.shape)
        return found if type(inpt) is torch.Tensor else found.as_subclass(type(inpt))
