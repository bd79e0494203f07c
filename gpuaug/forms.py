"""The forms in which images and what goes with them come and go: tensors, arrays, Pillow images, tv_tensors.

Types are told by module and name, so that nobody has to install or import torchvision and Pillow.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from .messages import shown

TV = {"Image": "image", "Video": "video", "Mask": "mask", "BoundingBoxes": "boxes", "KeyPoints": "keypoints"}
PICTURES = ("image", "video", "pillow")  # which are images wherever they stand
IMAGES = ("tensor", "array", *PICTURES)
MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "F": 1}  # of Pillow images, and their channels
MADE = {1: ("L", "F"), 2: ("LA",), 3: ("RGB", "YCbCr", "HSV"), 4: ("RGBA", "CMYK", "RGBX")}  # what ToPILImage makes
_MEND_MODE = {
    "I": "scale it to floats: torch.from_numpy(np.asarray(image) / np.float32(65535))[None]",
    "P": 'take image.convert("RGB"), or give a map of classes as masks= or tv_tensors.Mask(image)',
    "1": 'take image.convert("L"), or give a mask as masks= or tv_tensors.Mask(image)',
}
_FEW = (1, 2, 3, 4)  # channels of an array's last axis that leave no doubt


class Form(NamedTuple):
    """What something is, to whoever looks at it.

    Attributes:
        name: "tensor", "array", "pillow", of tv_tensors "image", "video", "mask", "boxes" or "keypoints"; "" is none
            of them.
        mode: of a Pillow image that `ToPILImage` makes; None for the one that fits.
    """

    name: str
    mode: str | None = None


@functools.lru_cache(256)
def of_type(kind: type) -> str:
    """The name of the form of all that are of this type."""
    for base in kind.__mro__:
        if base.__module__.startswith("torchvision.tv_tensors") and base.__name__ in TV:
            return TV[base.__name__]
        if base.__module__ == "PIL.Image" and base.__name__ == "Image":
            return "pillow"
        if base.__module__.startswith("torchvision.tv_tensors"):
            return ""
    if issubclass(kind, torch.Tensor):
        return "tensor"
    return "array" if issubclass(kind, np.ndarray) else ""


# --- what comes in ----------------------------------------------------------------------------------------------------
def plain(value: torch.Tensor) -> torch.Tensor:
    """A tensor of a class of torchvision's as one of torch's, in the same memory."""
    with torch._C.DisableTorchFunctionSubclass():
        return value.as_subclass(torch.Tensor)


def image_tensor(value: Any, form: str) -> torch.Tensor:
    """An image, or a batch of them, as a tensor [..., C, H, W], in the same memory where that can be.

    Raises:
        TypeError: an array or a Pillow image of values that the pipeline does not take.
        ValueError: an array whose channels do not stand last.
    """
    if form == "tensor":
        return value
    if form == "pillow":
        return _picture(value)
    return _pixels(value) if form == "array" else plain(value)


def other_tensor(value: Any, form: str) -> torch.Tensor:
    """Masks, boxes or keypoints as a tensor with their axes."""
    if form == "tensor":
        return value
    if form == "array":
        return _shared(value)
    if form != "pillow":
        return plain(value)
    if value.mode not in ("1", "L", "P", "I", "I;16"):
        raise TypeError(
            f'masks must be Pillow images of the mode 1, L, P or I, got {value.mode}; convert("L") makes one'
        )
    found = np.array(value)
    return torch.from_numpy(found.astype(np.int32) if found.dtype == np.uint16 else found)


def _picture(image: Any) -> torch.Tensor:
    mode, (w, h) = image.mode, image.size
    if mode not in MODES:
        mend = _MEND_MODE.get(mode.partition(";")[0], 'take image.convert("RGB")')
        raise TypeError(f"a Pillow image of the mode {mode} does not hold what the pipeline works on; {mend}")
    c = MODES[mode]
    if not h or not w:
        return torch.empty((c, h, w), dtype=torch.uint8, device="cpu")
    size, dtype = (c * h * w, np.uint8) if mode != "F" else (4 * h * w, np.float32)
    memory = np.asarray(_Writable(np.frombuffer(_raw(image, size), dtype)))
    return torch.from_numpy(memory).as_strided((c, h, w), (1, w * c, c))


def _raw(image: Any, size: int) -> bytes:
    """`image.tobytes()`, written at once where Pillow's encoder is found: `tobytes` joins pieces of 64 KiB."""
    encoder = getattr(sys.modules["PIL.Image"], "_getencoder", None)
    if encoder is None:
        return image.tobytes()
    image.load()
    writer = encoder(image.mode, "raw", (image.mode,))
    try:
        writer.setimage(image.im, (0, 0, *image.size))
        _, code, data = writer.encode(size)
    finally:
        writer.cleanup()
    return data if code == 1 and len(data) == size else image.tobytes()


def _pixels(array: np.ndarray) -> torch.Tensor:
    """[H, W], [H, W, C], [B, H, W, C] or [B, T, H, W, C] with the channels in front of the rows."""
    shape, dtype = array.shape, array.dtype
    if dtype != np.uint8 and dtype != np.float32 and dtype != np.float16:
        mends = {"f": "array.astype(np.float32)", "u": "array / np.float32(65535)"}
        mend = mends.get(dtype.kind if dtype.kind != "u" or dtype.itemsize == 2 else "", "array.astype(np.uint8)")
        raise TypeError(f"images as arrays must be uint8, or float16 or float32 in [0, 1], got {dtype}; take {mend}")
    if not 2 <= len(shape) <= 5:
        raise ValueError(f"images as arrays must be [H, W, C], [H, W] or [B, H, W, C], got the shape {shape}")
    tensor = _shared(array)
    if len(shape) == 2:
        return tensor[None]
    if shape[-1] not in _FEW and (shape[-3] in (1, 3, 4) or shape[-1] > 16):
        found = f"images as arrays have their channels last, [H, W, C], and the shape {shape} looks otherwise"
        raise ValueError(f"{found}; take torch.from_numpy(array)")
    return tensor.permute(*range(len(shape) - 3), -1, -3, -2)


class _Writable:
    """An array that only may be read, for torch, which warns of such and does not write to it here."""

    def __init__(self, array: np.ndarray):
        self.array = array
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


def _shared(array: np.ndarray) -> torch.Tensor:
    """An array as a tensor in the same memory, or in a copy where torch cannot read it there."""
    if not array.dtype.isnative or not array.flags.aligned or any(step < 0 for step in array.strides):
        array = array.astype(array.dtype.newbyteorder("="), order="C", copy=True)
    if not array.flags.writeable and array.size:
        array = np.asarray(_Writable(array))
    try:
        return torch.from_numpy(array)
    except TypeError:
        raise TypeError(f"an array of {array.dtype} is no tensor's; take array.astype(np.float32)") from None


# --- what goes out ----------------------------------------------------------------------------------------------------
def end(transforms: Iterable, form: Form, kind: str) -> Form:
    """In what form something leaves a pipeline that it enters in `form`.

    Args:
        kind: "image", "mask", "boxes" or "keypoints".
    """
    for transform in transforms:
        if hasattr(transform, "makes"):
            form = transform.makes(form, kind)
        elif hasattr(transform, "transforms"):
            form = end(transform.transforms, form, kind)
    return form


def dtype_behind(transforms: Iterable, kind: str) -> torch.dtype | None:
    """The dtype that a pipeline gives to a "mask", "boxes" or "keypoints"; None where it gives none."""
    dtype = None
    for transform in transforms:
        if hasattr(transform, "becomes"):
            dtype = transform.becomes(kind) or dtype
        elif hasattr(transform, "transforms"):
            dtype = dtype_behind(transform.transforms, kind) or dtype
    return dtype


def give_back(
    kind: str, like: Any, value: Any, transforms: Sequence = (), canvas: tuple[int, int] | Sequence | None = None
) -> Any:
    """A result in the form in which what it was made of came, or in that which the pipeline makes of it.

    Pillow images, arrays and tv_tensors come back as such. Where Pillow or numpy cannot hold the values, plain tensors
    take their place: Pillow images are uint8 (or float32 where they came in the mode F), arrays not bfloat16.

    Args:
        kind: "image", "mask", "boxes", "keypoints" or "labels", which stay as they are.
        like: the object as it came, or a list or tuple of such.
        value: a tensor: images [..., C, H, W], masks [..., H, W], boxes, keypoints; for a list one with the list's
            axis in front, or a list of tensors.
        transforms: the pipeline's ops, which may say in what form it goes out.
        canvas: (H, W) of the output, which boxes and keypoints carry; of a list one for each where they differ.

    Returns:
        A list's results as one tensor where all are tensors of one class and `value` is one, else as a list.
    """
    if kind == "labels":
        return value
    if type(like) is list or type(like) is tuple:
        return _items_back(kind, like, value, transforms, canvas)
    form = end(transforms, Form(of_type(type(like))), kind)
    if type(value) is list:
        each = canvas if canvas and not isinstance(canvas[0], int) else [canvas] * len(value)
        return [_back(form, kind, like, one, c) for one, c in zip(value, each, strict=True)]
    return _back(form, kind, like, value, canvas)


def _items_back(kind: str, like: list | tuple, value: Any, transforms: Sequence, canvas: Any) -> Any:
    forms = [end(transforms, Form(of_type(type(item))), kind) for item in like]
    together = ("tensor", "image") if kind == "image" else ("tensor", "mask")
    if isinstance(value, torch.Tensor) and forms[0].name in together and len(set(forms)) == 1:
        return _back(forms[0], kind, like[0], value, None)
    if len(value) != len(like):
        raise ValueError(f"{len(value)} results for a list of {len(like)}")
    each = canvas if canvas and not isinstance(canvas[0], int) else [canvas] * len(like)
    found = zip(forms, like, value, each, strict=True)
    return type(like)(_back(form, kind, item, v, c) for form, item, v, c in found)


def _back(form: Form, kind: str, like: Any, value: torch.Tensor, canvas: tuple[int, int] | None) -> Any:
    name = form.name
    if name == "tensor":
        return value
    if name == "array":
        return _as_array(value, like, kind)
    if name == "pillow":
        return _as_picture(value, like, form.mode) if kind == "image" else _as_map(value, like)
    cls = (
        type(like) if of_type(type(like)) == name else getattr(sys.modules.get("torchvision.tv_tensors"), "Image", None)
    )
    if cls is None:
        from torchvision.tv_tensors import Image as cls  # noqa: N813
    found = value.as_subclass(cls)
    if name == "boxes" or name == "keypoints":
        for trait in ("format", "clamping_mode"):
            if hasattr(like, trait):
                setattr(found, trait, getattr(like, trait))
        found.canvas_size = like.canvas_size if canvas is None else tuple(canvas)
    return found


def _as_array(value: torch.Tensor, like: Any, kind: str) -> Any:
    if value.dtype == torch.bfloat16:
        return value
    array = value.detach().cpu()
    if kind != "image":
        return array.numpy()
    if like.ndim == 2 and array.dim() == 3 and array.shape[0] == 1:
        return array[0].numpy()
    return _channels_last(array.numpy())


def _channels_last(planes: np.ndarray) -> np.ndarray:
    """[..., C, H, W] as [..., H, W, C] in one piece: plane by plane, as numpy and torch copy pixels of three bytes one
    by one."""
    found = np.moveaxis(planes, -3, -1)
    if not found.flags.c_contiguous:
        found = np.empty(found.shape, found.dtype)
        for i in range(planes.shape[-3]):
            found[..., i] = planes[..., i, :, :]
    return found


def _as_picture(value: torch.Tensor, like: Any, mode: str | None) -> Any:
    """A Pillow image of [C, H, W]; of a batch a list of them."""
    if value.dim() > 3:
        return [_as_picture(v, like, mode) for v in value]
    c, h, w = value.shape
    came = like.mode if of_type(type(like)) == "pillow" else None
    if mode is None:
        if value.dtype == torch.uint8:
            mode = came if came != "F" and MODES.get(came) == c else MADE.get(c, (None,))[0]
        elif value.dtype == torch.float32 and came == "F" and c == 1:
            mode = "F"
        else:
            return value
    if mode is None:
        raise ValueError(
            f"a Pillow image has 1 to 4 channels, and the result has {c}; put ToPureTensor() or ToImage() last"
        )
    from PIL import Image

    planes = value.detach().cpu().numpy()
    if c > 1 and planes.flags.c_contiguous and mode in ("RGB", "RGBA") and h and w:
        return Image.merge(mode, [Image.frombuffer("L", (w, h), plane, "raw", "L", 0, 1) for plane in planes])
    return Image.frombytes(mode, (w, h), _channels_last(planes))


def _as_map(value: torch.Tensor, like: Any) -> Any:
    """A mask [H, W] as the Pillow image that it came as."""
    from PIL import Image

    array = value.detach().cpu().contiguous().numpy()
    if like.mode == "1":
        return Image.fromarray(array.astype(bool))
    if like.mode in ("L", "P"):
        found = Image.frombytes(like.mode, array.shape[::-1], array.astype(np.uint8))
        if like.mode == "P":
            found.putpalette(like.getpalette())
        return found
    return Image.fromarray(array.astype(np.uint16 if like.mode == "I;16" else np.int32))


def check_mode(mode: Any) -> None:
    """Raise unless `ToPILImage` can make images of this mode."""
    names = [name for names in MADE.values() for name in names]
    if mode is not None and not (isinstance(mode, str) and mode in names):
        raise ValueError(f"ToPILImage: mode must be None or one of {', '.join(names)}, got {shown(mode)}")
