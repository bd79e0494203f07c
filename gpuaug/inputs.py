"""What comes in to a pipeline: ops, images, labels, output buffers. Each is taken as it is, or refused in one line."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch._subclasses import FakeTensor

from .lowering import MAX_CHANNELS
from .messages import shown

NO_TRACE = "torch.jit cannot trace a gpuaug pipeline; use torch.export, or leave it out of the traced model"
_CHANNELS_LAST = {
    3: ("2, 0, 1", "[H, W, C]"),
    4: ("0, 3, 1, 2", "[B, H, W, C]"),
    5: ("0, 1, 4, 2, 3", "[B, T, H, W, C]"),
}
_LAST = (1, 3, 4)  # channels of an image whose last axis may be taken for them
_MENDS = {
    "Image": "torchvision.transforms.v2.functional.pil_to_tensor makes one",
    "ndarray": "torch.from_numpy makes one",
    "tuple": "a list of images is a batch",
}


def children_of(op: str, transforms) -> tuple:
    """The children as a tuple, each of which can lower itself or be called."""
    try:
        children = tuple(transforms)
    except TypeError:
        raise TypeError(f"{op}: transforms must be a list of transforms, got {shown(transforms)}") from None
    for index, child in enumerate(children):
        if isinstance(child, type | str | bytes) or not (callable(getattr(child, "lower", None)) or callable(child)):
            made = "; make one of the class" if isinstance(child, type) else ""
            raise TypeError(
                f"{op}: transforms[{index}] is {shown(child)}, which is neither a transform nor a callable{made}"
            )
    return children


def moved(tensor: torch.Tensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """The tensor on the device; from the host through pinned memory, so that nobody waits for a GPU."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.to(dtype).pin_memory().to(device, non_blocking=True)
    return tensor.to(device, dtype)


def as_images(images: Any) -> torch.Tensor:
    """Images as a plain tensor whose memory holds their values.

    Raises:
        TypeError: anything that is not an image, or a batch of them, as a tensor.
    """
    kind = type(images)
    if kind is not torch.Tensor:
        check_images("Compose", images)
        images = images.as_subclass(torch.Tensor)
    return images.resolve_neg() if images.is_neg() else images


def is_fake(images: Any) -> bool:
    """Whether it stands for images that there are not, as while torch.export traces, or under FakeTensorMode."""
    return isinstance(images, FakeTensor)


def is_clip(images: Any) -> bool:
    """Whether it is one clip [T, C, H, W] by its type."""
    return _is_tv_tensor(images) and type(images).__name__ == "Video" and images.dim() == 4


def _is_tv_tensor(value: Any) -> bool:
    return type(value).__module__.startswith("torchvision.tv_tensors")


def check_images(op: str, images: Any) -> None:
    """Raise unless `images` is a tensor [B, C, H, W] or [C, H, W] with a pixel and a channel to work on.

    Raises:
        TypeError: something else, which the error names.
        ValueError: another shape; channels that stand last are named as such.
    """
    if not isinstance(images, torch.Tensor):
        kind = "None" if images is None else type(images).__name__
        mend = next((f"; {_MENDS[c.__name__]}" for c in type(images).__mro__ if c.__name__ in _MENDS), "")
        raise TypeError(f"{op}: images must be a tensor [B, C, H, W] or [C, H, W], got {kind}{mend}")
    if _is_tv_tensor(images) and type(images).__name__ not in ("Image", "Video"):
        raise TypeError(
            f"{op}: images must be images, got {type(images).__name__}, which this version does not transform"
        )
    if images.layout != torch.strided:
        raise TypeError(f"{op}: images must be a dense tensor, got one of {images.layout}; take images.to_dense()")
    shape = tuple(images.shape)
    if len(shape) not in (3, 4, 5):
        raise ValueError(
            f"{op}: images must be [B, C, H, W], [C, H, W] or clips [B, T, C, H, W], got the shape {shape}"
        )
    if not 1 <= shape[-3] <= MAX_CHANNELS:
        if shape[-1] in _LAST:
            order, axes = _CHANNELS_LAST[len(shape)]
            raise ValueError(f"{op}: images of the shape {shape} look like {axes}; take images.permute({order})")
        raise ValueError(
            f"{op}: images must have 1 to {MAX_CHANNELS} channels, got {shape[-3]}; is the shape {shape} [B, C, H, W]?"
        )
    if min(shape[-2:]) < 1:
        raise ValueError(f"{op}: images must have at least one pixel, got the shape {shape}")


def check_list(op: str, images: list) -> None:
    """Raise unless `images` are tensors [C, H, W] of one dtype and number of channels, on one device.

    Raises:
        TypeError: other items, which the error names.
        ValueError: no images, or other shapes.
    """
    if not images:
        raise ValueError(f"{op}: an empty list of images says nothing of their channels and dtype")
    first = images[0]
    for i, image in enumerate(images):
        if type(image) is not torch.Tensor or image.dim() != 3 or image.layout != torch.strided:
            if isinstance(image, torch.Tensor) and image.dim() != 3:
                raise ValueError(f"{op}: images of a list must be [C, H, W], got the shape {tuple(image.shape)} at {i}")
            check_images(f"{op}: item {i} of the list", image)
        if image.dtype != first.dtype or image.device != first.device or image.shape[0] != first.shape[0]:
            told = " and ".join(f"{x.dtype} of {x.shape[0]} channels on {x.device}" for x in (first, image))
            raise ValueError(f"{op}: images of a list must have one dtype, device and number of channels, got {told}")
        if not 1 <= image.shape[0] <= MAX_CHANNELS or min(image.shape[1:]) < 1:
            check_images(op, image)


def check_labels(labels: Any, single: bool) -> None:
    """Raise on what must not be handed back as it is beside images that moved: masks, boxes, keypoints.

    Args:
        single: they go with one sample, not with a batch.

    Raises:
        TypeError: labels other than tensors or arrays [B] or [B, K], or lists.
    """
    most = 1 if single else 2
    if isinstance(labels, dict) or any(_is_tv_tensor(v) for v in (labels, *_items(labels))):
        got = f"a {type(labels).__name__}"
    elif isinstance(labels, torch.Tensor | np.ndarray) and labels.ndim > most:
        got = f"the shape {tuple(labels.shape)}"
    else:
        return
    wanted = "[B] or [B, K]" if most == 2 else "[] or [K]"
    raise TypeError(
        f"labels must be {wanted}, got {got}, which would come back as it was; masks, boxes and keypoints go by those "
        "keywords"
    )


def _items(labels: Any) -> tuple:
    return tuple(labels) if isinstance(labels, list | tuple) else ()


def check_pixels(images: torch.Tensor) -> None:
    """Raise on NaN, and on floats outside of [0, 1]. Waits for the device."""
    if not images.is_floating_point() or images.numel() == 0:
        return
    low, high = (float(v) for v in torch.aminmax(images))
    if not (low >= 0.0 and high <= 1.0):
        raise ValueError(
            f"images of {images.dtype} must lie in [0, 1], got values from {low:g} to {high:g}; "
            "scale them, or use check=False"
        )


def check_out(out: Any, shape: tuple[int, ...], dtype: torch.dtype, images: torch.Tensor) -> None:
    """Raise unless `out` is a buffer of that shape and dtype beside the images, which shares no memory with them, and
    whose elements share none with each other."""
    if not isinstance(out, torch.Tensor):
        raise TypeError(f"out must be a tensor, got {type(out).__name__}")
    if tuple(out.shape) != shape or out.dtype != dtype or out.device != images.device:
        expected = f"{shape} {dtype} on {images.device}"
        raise ValueError(f"out must be {expected}, got {tuple(out.shape)} {out.dtype} on {out.device}")
    if out.is_neg() or out.requires_grad:
        raise ValueError("out must be plain memory, got a tensor that requires grad or negates its values when read")
    if out.numel() == 0:
        return
    if _overlaps_itself(out):
        raise ValueError(f"out must have memory for each element, got the strides {out.stride()} for {shape}")
    if _overlap(out, images):
        raise ValueError("out must not share memory with the images: pixels would be read after they were overwritten")


def _overlaps_itself(tensor: torch.Tensor) -> bool:
    """Whether steps along some axis are not longer than all that the shorter ones span: so it is for `expand`,
    overlapping windows and the like, and not for what slicing and permuting make of a tensor."""
    span = 0
    for stride, n in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if n > 1 and stride <= span:
            return True
        span += (n - 1) * stride
    return False


class _Memory:
    """The addresses of a tensor's elements, for numpy, which does not read them."""

    def __init__(self, tensor: torch.Tensor):
        size = tensor.element_size()
        strides = tuple(stride * size for stride in tensor.stride())
        layout = {"shape": tuple(tensor.shape), "strides": strides, "typestr": f"|V{size}"}
        self.__array_interface__ = {**layout, "data": (tensor.data_ptr(), True), "version": 3}


def _overlap(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.numel() == 0 or other.numel() == 0:
        return False
    one, other = np.asarray(_Memory(one)), np.asarray(_Memory(other))
    return np.may_share_memory(one, other) and np.shares_memory(one, other)
