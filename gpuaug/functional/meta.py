"""What is known of images and boxes without a pixel; and boxes and keypoints that only have a canvas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .. import forms, rotated
from ..forms import of_type
from ..kernels.torch import dialect as torch_dialect
from ..messages import warn
from ..points import FORMATS, from_upright, upright
from ..trail import MODES
from ..transforms.arguments import choice, number
from ..transforms.boxes import check_mode
from .kinds import IMAGES, refused

MODES_OF_PILLOW = {"1": 1, "L": 1, "P": 1, "I": 1, "F": 1, "LA": 2, "PA": 2, "La": 2, "RGBA": 4, "CMYK": 4, "RGBX": 4}


def is_pure_tensor(inpt: Any) -> bool:
    """Whether it is a tensor, and none of torchvision's classes."""
    return of_type(type(inpt)) == "tensor"


def _shape(name: str, inpt: Any, taken: Sequence[str] = IMAGES) -> tuple[int, int, int]:
    """(C, H, W) of images of any form; C is 1 of what has two axes."""
    form = of_type(type(inpt))
    if form not in taken:
        raise TypeError(refused(name, taken, inpt))
    if form == "pillow":
        return MODES_OF_PILLOW.get(inpt.mode.partition(";")[0], 3), inpt.height, inpt.width
    if form in ("boxes", "keypoints"):
        return 0, *inpt.canvas_size
    shape = tuple(inpt.shape)
    if len(shape) < 2:
        raise TypeError(f"{name}: images must have at least two axes, got the shape {shape}")
    if form == "array":
        return (shape[-1], *shape[-3:-1]) if len(shape) > 2 else (1, *shape)
    return (shape[-3] if len(shape) > 2 else 1), *shape[-2:]


def get_dimensions(inpt) -> list[int]:
    """[C, H, W] of images."""
    return list(_shape("get_dimensions", inpt))


def get_num_channels(inpt) -> int:
    """C of images."""
    return _shape("get_num_channels", inpt)[0]


get_image_num_channels = get_num_channels


def get_size(inpt) -> list[int]:
    """[H, W] of images and masks, and of the canvas that boxes and keypoints lie on."""
    return list(_shape("get_size", inpt, (*IMAGES, "mask", "boxes", "keypoints"))[1:])


def get_image_size(inpt) -> list[int]:
    """[W, H] of images; `get_size` gives the other order."""
    warn("get_image_size is deprecated, in torchvision, too: get_size gives [H, W]")
    return list(_shape("get_image_size", inpt, (*IMAGES, "mask"))[:0:-1])


def get_num_frames(inpt) -> int:
    """T of clips [..., T, C, H, W]."""
    if of_type(type(inpt)) not in ("tensor", "video") or inpt.dim() < 4:
        raise TypeError(refused("get_num_frames", ("tensor", "video"), inpt) + " (clips [..., T, C, H, W])")
    return inpt.shape[-4]


# --- boxes ------------------------------------------------------------------------------------------------------------
def _format(op: str, format: Any) -> str:
    """The name of a format, also of torchvision's enum."""
    name = getattr(format, "value", format)
    return choice(op, "format", name.upper() if isinstance(name, str) else name, tuple(FORMATS))


def convert_bounding_box_format(inpt, old_format=None, new_format=None, inplace: bool = False):
    """Boxes in another format; see `gpuaug.ConvertBoundingBoxFormat`. Whole numbers are rounded down.

    Args:
        inpt: a tensor [..., 4], rotated [..., 5] or [..., 8], or tv_tensors.BoundingBoxes, which know their format.
        inplace: write into what is given, where the new format has as many numbers.

    Raises:
        TypeError: no `new_format`; other inputs.
        ValueError: `old_format` beside tv_tensors, or none beside a tensor; rotated ones to upright ones, or back.
    """
    op, form = "convert_bounding_box_format", of_type(type(inpt))
    if new_format is None:
        raise TypeError(f"{op}() missing 1 required argument: 'new_format'")
    if form not in ("tensor", "boxes"):
        raise TypeError(refused(op, ("tensor", "boxes"), inpt))
    if (old_format is None) == (form == "tensor"):
        told = "must be given with a tensor" if form == "tensor" else "is known of BoundingBoxes; leave it out"
        raise ValueError(f"{op}: old_format {told}")
    old, new = _format(op, inpt.format if form == "boxes" else old_format), _format(op, new_format)
    if (old in rotated.LENGTHS) != (new in rotated.LENGTHS):
        raise ValueError(f"{op}: cannot make {new} of {old}: one of them is rotated")
    given = forms.plain(inpt)
    found = given if old == new else _converted(given, old, new)
    if inplace and found.shape == given.shape:
        found = given.copy_(found) if found is not given else given
    if form == "tensor":
        return found
    back = forms.give_back("boxes", inpt, found)
    back.format = type(inpt.format)[new]
    return back


def _converted(boxes: torch.Tensor, old: str, new: str) -> torch.Tensor:
    floating = boxes.is_floating_point()
    flat = boxes.reshape(-1, boxes.shape[-1])
    flat = flat if floating else flat.double()
    if old in rotated.LENGTHS:
        found = rotated.converted(flat, old, new)
    else:
        found = from_upright(upright(flat, old), new)
        found = found if floating else found.floor()
    return found.to(boxes.dtype).view(*boxes.shape[:-1], found.shape[-1])


def _told(op: str, given: Any, format: Any, canvas_size: Any, kind: str = "boxes") -> tuple[torch.Tensor, Any, Any]:
    """(plain tensor, format, canvas) of boxes or keypoints, which tv_tensors know and tensors are given with."""
    form = of_type(type(given))
    if form not in ("tensor", kind):
        raise TypeError(refused(op, ("tensor", kind), given))
    named = {"format": format, "canvas_size": canvas_size} if kind == "boxes" else {"canvas_size": canvas_size}
    for name, value in named.items():
        if (value is None) == (form == "tensor"):
            told = "must be given with a tensor" if form == "tensor" else f"is known of {type(given).__name__}"
            raise ValueError(f"{op}: {name} {told}, got {name}={value}")
    if form == "tensor":
        return given, format, canvas_size
    return forms.plain(given), getattr(given, "format", None), given.canvas_size


def clamp_bounding_boxes(inpt, format=None, canvas_size=None, clamping_mode: str | None = "auto"):
    """Boxes clamped to their canvas; see `gpuaug.ClampBoundingBoxes`.

    Args:
        inpt: as `convert_bounding_box_format`. format, canvas_size (H, W): of a tensor.
        clamping_mode: "soft", "hard" or None; "auto" is the boxes' own, which tensors have none of.
    """
    op = "clamp_bounding_boxes"
    check_mode(op, clamping_mode, ("soft", "hard", "auto"))
    boxes, format, canvas = _told(op, inpt, format, canvas_size)
    if clamping_mode == "auto":
        if boxes is inpt:
            raise ValueError(f"{op}: clamping_mode must be soft, hard or None with a tensor, got 'auto'")
        clamping_mode = getattr(inpt, "clamping_mode", "soft")
    name, (h, w) = _format(op, format), canvas
    flat = boxes.reshape(-1, boxes.shape[-1])
    flat = flat if flat.is_floating_point() else flat.float()
    if clamping_mode is None or not flat.numel():
        found = flat.clone()
    elif name in rotated.LENGTHS:
        sides = [torch.full((len(flat),), float(v), device=flat.device) for v in (h, w, MODES[clamping_mode])]
        found = rotated.clamped(flat, name, *sides)
    else:
        corners = upright(flat, name)
        x, y = corners[:, 0::2].clamp(0, w), corners[:, 1::2].clamp(0, h)
        found = from_upright(torch.stack((x, y), -1).flatten(1), name)
    found = found.to(boxes.dtype).view(boxes.shape)
    return found if boxes is inpt else forms.give_back("boxes", inpt, found)


def clamp_keypoints(inpt, canvas_size=None):
    """Keypoints clamped to their canvas's pixels, 0 .. side - 1; see `gpuaug.ClampKeyPoints`."""
    points, _, (h, w) = _told("clamp_keypoints", inpt, None, canvas_size, "keypoints")
    found = torch.stack((points[..., 0].clamp(0, w - 1), points[..., 1].clamp(0, h - 1)), -1)
    return found if points is inpt else forms.give_back("keypoints", inpt, found)


def sanitize_bounding_boxes(bounding_boxes, format=None, canvas_size=None, min_size=1.0, min_area=1.0) -> tuple:
    """The boxes that are large enough and lie within their canvas, and which those are, bool [N]; see
    `gpuaug.SanitizeBoundingBoxes`. On a GPU it waits.

    Args:
        bounding_boxes: [N, 4], rotated [N, 5] or [N, 8]. format, canvas_size (H, W): of a tensor.
        min_size, min_area: in pixels.
    """
    op = "sanitize_bounding_boxes"
    size, area = number(op, "min_size", min_size), number(op, "min_area", min_area)
    boxes, format, (h, w) = _told(op, bounding_boxes, format, canvas_size)
    name, flat = _format(op, format), boxes if boxes.is_floating_point() else boxes.double()
    if flat.dim() != 2:
        raise ValueError(f"{op}: boxes must be [N, {FORMATS[name]}], got the shape {tuple(boxes.shape)}")
    if name in rotated.LENGTHS:
        sides = (torch.full((len(flat),), float(v), device=flat.device) for v in (h, w))
        valid = rotated.valid(flat, name, *sides, size, area)
    else:
        valid = torch_dialect.POINTS["is_valid"](upright(flat, name).unbind(1), float(h), float(w), size, area)
    found = boxes[valid]
    return (found if boxes is bounding_boxes else forms.give_back("boxes", bounding_boxes, found)), valid


def sanitize_keypoints(key_points, canvas_size=None) -> tuple:
    """The keypoints within their canvas, and which those are, bool [N]; of objects [N, ..., 2] all points, or none; see
    `gpuaug.SanitizeKeyPoints`. On a GPU it waits."""
    points, _, (h, w) = _told("sanitize_keypoints", key_points, None, canvas_size, "keypoints")
    x, y = points.unbind(-1)
    inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
    valid = inside.flatten(1).all(1) if inside.dim() > 1 else inside
    found = points[valid]
    return (found if points is key_points else forms.give_back("keypoints", key_points, found)), valid
