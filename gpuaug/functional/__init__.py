"""The ops with explicit parameters, one value for the batch or one for each sample: torchvision.transforms.v2's
functional, by its names, of every kind that it takes. `solarize_add`, `salt_and_pepper` and `grid_mask` are our own.

What is given is an image, or many: a tensor [..., C, H, W], an Image or Video of `torchvision.tv_tensors`, a Pillow
image, an array [H, W, C]. Geometry takes Mask, BoundingBoxes and KeyPoints, too. Each comes back in its form.

Images that are computed with are uint8, float16, bfloat16 or float32; flips, crops and pads take any dtype. Where an
argument is called *per sample*, it takes a number, a sequence of B numbers or a tensor [B] (a pair takes [2] or [B, 2],
corners [4, 2] or [B, 4, 2]); the samples lie along the first axis of images [B, C, H, W], clips [B, T, C, H, W], masks
[B, H, W] or [B, N, H, W], boxes [B, N, 4] and keypoints [B, N, 2]. Numbers are checked: they are finite, and lie in the
range that is told. A tensor is not looked at, and where it lies on the host it reaches a GPU without a wait. What
computes pixels takes `backend`.

`affine_image`, `affine_mask`, `affine_bounding_boxes` and the like do the same to plain tensors of that kind.

Raises:
    TypeError: something that is no image, or of the wrong dtype or number of channels; a keyword that is not known.
    ValueError: another argument that the function cannot take. All errors are one line that names the function.
"""

from __future__ import annotations

from typing import Any

from ..enums import InterpolationMode
from ..messages import no_attribute
from .color import (
    adjust_brightness,
    adjust_contrast,
    adjust_gamma,
    adjust_hue,
    adjust_saturation,
    adjust_sharpness,
    autocontrast,
    equalize,
    grayscale_to_rgb,
    invert,
    permute_channels,
    posterize,
    rgb_to_grayscale,
    solarize,
    solarize_add,
    to_grayscale,
)
from .conversion import pil_to_tensor, to_image, to_pil_image, to_tensor, uniform_temporal_subsample
from .displace import elastic, elastic_transform
from .geometry import (
    center_crop,
    crop,
    five_crop,
    hflip,
    horizontal_flip,
    pad,
    resize,
    resized_crop,
    ten_crop,
    vertical_flip,
    vflip,
)
from .kernels import KERNELS
from .kinds import register_kernel
from .meta import (
    clamp_bounding_boxes,
    clamp_keypoints,
    convert_bounding_box_format,
    get_dimensions,
    get_image_num_channels,
    get_image_size,
    get_num_channels,
    get_num_frames,
    get_size,
    is_pure_tensor,
    sanitize_bounding_boxes,
    sanitize_keypoints,
)
from .pixels import (
    convert_image_dtype,
    erase,
    gaussian_blur,
    gaussian_noise,
    grid_mask,
    jpeg,
    normalize,
    salt_and_pepper,
    to_dtype,
)
from .warp import affine, perspective, rotate

globals().update(KERNELS)


def __getattr__(name: str) -> Any:
    raise no_attribute(__name__, name, __all__)


def __dir__() -> list[str]:
    return [*__all__, "__all__", "__doc__", "__name__"]


__all__ = [
    "InterpolationMode",
    "adjust_brightness",
    "adjust_contrast",
    "adjust_gamma",
    "adjust_hue",
    "adjust_saturation",
    "adjust_sharpness",
    "affine",
    "autocontrast",
    "center_crop",
    "clamp_bounding_boxes",
    "clamp_keypoints",
    "convert_bounding_box_format",
    "convert_image_dtype",
    "crop",
    "elastic",
    "elastic_transform",
    "equalize",
    "erase",
    "five_crop",
    "gaussian_blur",
    "gaussian_noise",
    "get_dimensions",
    "get_image_num_channels",
    "get_image_size",
    "get_num_channels",
    "get_num_frames",
    "get_size",
    "grayscale_to_rgb",
    "grid_mask",
    "hflip",
    "horizontal_flip",
    "invert",
    "is_pure_tensor",
    "jpeg",
    "normalize",
    "pad",
    "permute_channels",
    "perspective",
    "pil_to_tensor",
    "posterize",
    "register_kernel",
    "resize",
    "resized_crop",
    "rgb_to_grayscale",
    "rotate",
    "salt_and_pepper",
    "sanitize_bounding_boxes",
    "sanitize_keypoints",
    "solarize",
    "solarize_add",
    "ten_crop",
    "to_dtype",
    "to_grayscale",
    "to_image",
    "to_pil_image",
    "to_tensor",
    "uniform_temporal_subsample",
    "vertical_flip",
    "vflip",
    *KERNELS,
]
