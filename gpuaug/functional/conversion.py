"""From one form of images to another, and frames of clips. No pixel is computed, but by `to_tensor`."""

from __future__ import annotations

import numpy as np
import torch

from .. import forms
from ..forms import MADE, of_type
from ..messages import shown, warn
from ..transforms.arguments import whole
from .kinds import refused


def to_image(inpt):
    """A tensor, an array [H, W, C] or [H, W], or a Pillow image as `torchvision.tv_tensors.Image`."""
    from torchvision.tv_tensors import Image

    form = of_type(type(inpt))
    if form == "array":
        return Image(_planes(inpt).contiguous())
    if form == "pillow":
        return Image(pil_to_tensor(inpt))
    if isinstance(inpt, torch.Tensor):
        return Image(forms.plain(inpt))
    raise TypeError(refused("to_image", forms.IMAGES, inpt))


def _planes(array: np.ndarray) -> torch.Tensor:
    """An array [H, W] or [H, W, C] as a tensor [C, H, W] in the same memory."""
    if array.ndim not in (2, 3):
        raise ValueError(f"arrays must be [H, W, C] or [H, W], got the shape {array.shape}")
    return forms.other_tensor(np.atleast_3d(array), "array").permute(2, 0, 1)


def pil_to_tensor(pic):
    """A Pillow image of any mode as a tensor [C, H, W] of its own values."""
    if of_type(type(pic)) != "pillow":
        raise TypeError(f"pil_to_tensor: takes a Pillow image, got {type(pic)}")
    if pic.mode in forms.MODES:
        return forms.image_tensor(pic, "pillow").contiguous()
    array = np.array(pic)
    return _planes(array.astype(np.uint8) if array.dtype == bool else array).contiguous()


def to_tensor(inpt):
    """A Pillow image, or an array [H, W, C] or [H, W], as a tensor [C, H, W]: uint8 as float32 in [0, 1], other values
    as they are."""
    warn(
        "to_tensor is deprecated, in torchvision, too: take to_image(...) and to_dtype(..., torch.float32, scale=True)"
    )
    form = of_type(type(inpt))
    if form not in ("pillow", "array"):
        raise TypeError(f"to_tensor: takes a Pillow image or an array, got {type(inpt)}")
    found = _planes(inpt).contiguous() if form == "array" else pil_to_tensor(inpt)
    if form == "pillow" and inpt.mode == "1":
        found = found * 255
    return found.to(torch.float32) / 255 if found.dtype == torch.uint8 else found


def to_pil_image(pic, mode: str | None = None):
    """A tensor [C, H, W] or [H, W], or an array [H, W, C] or [H, W], as a Pillow image.

    Floats are times 255 and truncated, but of the mode "F".

    Args:
        mode: of the image; None takes L, LA, RGB or RGBA by the channels, or what holds int16, int32 or float32.
    """
    from PIL import Image

    form = of_type(type(pic))
    if form == "array":
        planes = np.atleast_3d(pic)
        if planes.dtype.kind == "f" and mode != "F":
            planes = (planes * 255).astype(np.uint8)
    elif isinstance(pic, torch.Tensor):
        tensor = forms.plain(pic).detach().cpu()
        if tensor.is_floating_point() and mode != "F":
            tensor = (tensor * 255).byte()
        if not 2 <= tensor.dim() <= 3:
            raise ValueError(f"to_pil_image: takes one image [C, H, W] or [H, W], got the shape {tuple(pic.shape)}")
        planes = (tensor if tensor.dim() == 3 else tensor[None]).permute(1, 2, 0).numpy()
    else:
        raise TypeError(f"to_pil_image: takes a tensor or an array, got {type(pic)}")
    if planes.ndim != 3 or not 1 <= planes.shape[-1] <= 4:
        raise ValueError(f"to_pil_image: takes an image of 1 to 4 channels, got the shape {tuple(pic.shape)}")
    c = planes.shape[-1]
    if c == 1:
        own = {"uint8": "L", "int16": "I;16", "uint16": "I;16", "int32": "I", "float32": "F"}.get(planes.dtype.name)
        allowed = (own,)
    else:
        own, allowed = MADE[c][0], MADE[c]
    if own is None or (c > 1 and planes.dtype != np.uint8):
        raise TypeError(f"to_pil_image: no Pillow image of {c} channels holds {planes.dtype}; convert it first")
    if mode is not None and mode not in allowed:
        made = ", ".join(allowed)
        raise ValueError(f"to_pil_image: mode must be {made} for {c} channels of {planes.dtype}, got {shown(mode)}")
    h, w = planes.shape[:2]
    return Image.frombytes(mode or own, (w, h), np.ascontiguousarray(planes).tobytes())


def uniform_temporal_subsample(inpt, num_samples: int):
    """So many frames of clips [..., T, C, H, W], at even distances; see `gpuaug.UniformTemporalSubsample`."""
    form = of_type(type(inpt))
    if form not in ("tensor", "video"):
        raise TypeError(refused("uniform_temporal_subsample", ("tensor", "video"), inpt))
    clips = forms.plain(inpt)
    if clips.dim() < 4 or not clips.shape[-4]:
        raise ValueError(f"uniform_temporal_subsample: takes [..., T, C, H, W], got the shape {tuple(clips.shape)}")
    n = whole("uniform_temporal_subsample", "num_samples", num_samples, 1)
    last = clips.shape[-4] - 1
    index = torch.linspace(0, last, n, device=clips.device).long()
    return forms.give_back("image", inpt, clips.index_select(-4, index))
