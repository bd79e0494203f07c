"""The ops with explicit parameters, one value for the batch or one for each sample.

Names and arguments are torchvision.transforms.v2.functional's; `solarize_add`, `salt_and_pepper` and `grid_mask` are
our own. Images are uint8, float16, bfloat16 or float32, [B, C, H, W] or [C, H, W]. Where an argument is called *per
sample*, it takes a number, a sequence of B numbers or a tensor [B] (a pair takes [2] or [B, 2], corners [4, 2] or
[B, 4, 2]); a tensor on the images' device is never looked at by the host. Every function takes `backend`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .explicit import Explicit, ExplicitBlur, check_window, host_checked, last_axis, run
from .transforms.base import FILTERS, center_argument, fill_argument, interpolation_name, pair, resampling
from .transforms.blur import kernel_sizes
from .transforms.color import Grayscale
from .transforms.convert import Normalize, ToDtype
from .transforms.geometry import RESIZES, CenterCrop, Pad, Resize
from .transforms.noise import SEEDS
from .transforms.ops import ADJUSTMENTS
from .transforms.warp import WARPS, center_words


def horizontal_flip(images, *, backend: str = "auto"):
    """Mirror left and right."""
    return run(images, Explicit("geometry", "flip_horizontal", (), options=(("exact", True),)), (), backend)


def vertical_flip(images, *, backend: str = "auto"):
    """Mirror top and bottom."""
    return run(images, Explicit("geometry", "flip_vertical", (), options=(("exact", True),)), (), backend)


def crop(images, top, left, height: int, width: int, *, backend: str = "auto"):
    """Cut out a window inside the image; top and left per sample, in pixels.

    Raises:
        ValueError: a window, given by numbers, that leaves the image (torchvision pads; use `pad` in front).
    """
    check_window("crop", images, top, left, height, width)
    description = Explicit("geometry", "crop", ("top", "left"), (height, width), options=(("exact", True),))
    return run(images, description, (top, left), backend)


def center_crop(images, output_size, *, backend: str = "auto"):
    """Cut out the middle, padding with 0 where the image is smaller."""
    return run(images, CenterCrop(_frozen(output_size)), (), backend)


def pad(images, padding, fill=0, padding_mode: str = "constant", *, backend: str = "auto"):
    """Pad the border; see `gpuaug.Pad`."""
    return run(images, Pad(_frozen(padding), _frozen(fill), padding_mode), (), backend)


def resize(
    images, size, interpolation="bilinear", max_size: int | None = None, antialias: bool = True, *, backend="auto"
):
    """Resample to a size; see `gpuaug.Resize`."""
    return run(images, Resize(_frozen(size), interpolation, max_size, antialias), (), backend)


def resized_crop(
    images, top, left, height, width, size, interpolation="bilinear", antialias: bool = True, *, backend: str = "auto"
):
    """Cut out a window (all four per sample, in pixels, inside the image) and resample it to `size`."""
    check_window("resized_crop", images, top, left, height, width)
    sampling, border, rule = resampling(interpolation_name("resized_crop", interpolation, RESIZES), bool(antialias))
    description = Explicit(
        "geometry",
        "resized_crop",
        ("top", "left", "height", "width"),
        (*pair("resized_crop", "size", size), *rule),
        options=(("border", border), ("sampling", sampling)),
    )
    return run(images, description, (top, left, height, width), backend)


def rotate(images, angle, interpolation="nearest", expand: bool = False, center=None, fill=0, *, backend: str = "auto"):
    """Turn counter-clockwise by `angle` degrees, per sample, about `center` (x, y) or the middle."""
    if expand:
        raise ValueError("rotate: expand=True would give each image its own size; pad first, and use expand=False")
    description = _warp("rotate", ("angle",), center_words(center_argument("rotate", center)), interpolation, fill)
    return run(images, description, (angle,), backend)


def affine(
    images, angle, translate, scale, shear, interpolation="nearest", fill=0, center=None, *, backend: str = "auto"
):
    """Turn (clockwise), shift, scale and shear, all per sample.

    Args:
        angle: degrees. translate: (x, y) in pixels. scale: positive. shear: degrees, x or (x, y).
        center: (x, y) in pixels from the upper left corner; None is the middle.
    """
    host_checked("affine", "scale", scale, 1e-6)
    shear = (shear, 0.0) if isinstance(shear, int | float) else shear
    names = ("angle", "translate_x", "translate_y", "scale", "shear_x", "shear_y")
    description = _warp("affine", names, center_words(center_argument("affine", center)), interpolation, fill)
    shift, lean = last_axis("translate", translate, 2), last_axis("shear", shear, 2)
    return run(images, description, (angle, *shift, scale, *lean), backend)


def perspective(images, startpoints, endpoints, interpolation="bilinear", fill=0, *, backend: str = "auto"):
    """Move the image's corners to `endpoints` (x, y; top left, top right, bottom right, bottom left), per sample.

    Raises:
        ValueError: `startpoints` other than None or the image's own corners.
    """
    h, w = images.shape[-2:]
    corners = [[0, 0], [w - 1, 0], [w - 1, h - 1], [0, h - 1]]
    if startpoints is not None and [list(p) for p in startpoints] != corners:
        raise ValueError(f"perspective: startpoints must be the image's corners {corners} or None, got {startpoints!r}")
    points = endpoints if isinstance(endpoints, torch.Tensor) else torch.tensor(endpoints, dtype=torch.float32)
    if points.shape[-2:] != (4, 2):
        raise ValueError(f"perspective: endpoints must be [4, 2] or [B, 4, 2], got the shape {tuple(points.shape)}")
    names = tuple(f"{axis}{corner}" for corner in range(4) for axis in "xy")
    return run(
        images, _warp("perspective", names, (), interpolation, fill), list(points.flatten(-2).unbind(-1)), backend
    )


def _warp(op: str, names: tuple[str, ...], arguments: tuple[float, ...], interpolation: Any, fill: Any) -> Explicit:
    sampling = FILTERS[interpolation_name(op, interpolation, WARPS)]
    fill = fill_argument(op, _frozen(fill))
    return Explicit("geometry", op, names, arguments, fill, (("sampling", sampling),))


def _adjust(images: torch.Tensor, name: str, values: Sequence[Any], backend: str) -> torch.Tensor:
    """An op of `ADJUSTMENTS` with its argument per sample, or none."""
    op = ADJUSTMENTS[name]
    columns = (op.argument,) if op.argument else ()
    options = (("colour", op.colour), ("needs", op.needs))
    return run(images, Explicit("pixel", name, columns, options=options), values, backend)


def adjust_brightness(images, brightness_factor, *, backend: str = "auto"):
    """Multiply by a factor >= 0, per sample, and clamp."""
    host_checked("adjust_brightness", "brightness_factor", brightness_factor, 0.0)
    return _adjust(images, "brightness", (brightness_factor,), backend)


def adjust_contrast(images, contrast_factor, *, backend: str = "auto"):
    """Blend with the image's mean grey by a factor >= 0, per sample, and clamp."""
    host_checked("adjust_contrast", "contrast_factor", contrast_factor, 0.0)
    return _adjust(images, "contrast", (contrast_factor,), backend)


def adjust_saturation(images, saturation_factor, *, backend: str = "auto"):
    """Blend with each pixel's grey by a factor >= 0, per sample, and clamp; one channel stays as it is."""
    host_checked("adjust_saturation", "saturation_factor", saturation_factor, 0.0)
    return _adjust(images, "saturation", (saturation_factor,), backend)


def adjust_hue(images, hue_factor, *, backend: str = "auto"):
    """Turn the hue in HSV by a factor in [-0.5, 0.5] of the circle, per sample; one channel stays as it is."""
    host_checked("adjust_hue", "hue_factor", hue_factor, -0.5, 0.5)
    return _adjust(images, "hue", (hue_factor,), backend)


def adjust_sharpness(images, sharpness_factor, *, backend: str = "auto"):
    """Blend with a smoothed copy by a factor >= 0, per sample: 0 smooths, 1 keeps, 2 sharpens."""
    host_checked("adjust_sharpness", "sharpness_factor", sharpness_factor, 0.0)
    return _adjust(images, "sharpness", (sharpness_factor,), backend)


def adjust_gamma(images, gamma, gain=1.0, *, backend: str = "auto"):
    """Raise values in [0, 1] to the power gamma >= 0 and multiply by gain, both per sample."""
    host_checked("adjust_gamma", "gamma", gamma, 0.0)
    return run(images, Explicit("pixel", "gamma", ("gamma", "gain")), (gamma, gain), backend)


def rgb_to_grayscale(images, num_output_channels: int = 1, *, backend: str = "auto"):
    """Grey in 1 or 3 channels; see `gpuaug.Grayscale`."""
    return run(images, Grayscale(num_output_channels), (), backend)


def permute_channels(images, permutation, *, backend: str = "auto"):
    """Channel i becomes what channel permutation[i] was; per sample: [C] or [B, C], for 1 to 3 channels."""
    n = images.shape[-3]
    if n > 3:
        raise ValueError(f"permute_channels: images must have 1 to 3 channels, got {n}")
    columns = last_axis("permutation", permutation, n)
    rows = permutation if isinstance(permutation[0], Sequence) else [permutation]
    if not isinstance(permutation, torch.Tensor) and not all(sorted(row) == list(range(n)) for row in rows):
        raise ValueError(f"permute_channels: permutation must order 0 .. {n - 1}, got {permutation!r}")
    description = Explicit("pixel", "permute_channels", tuple(f"channel{i}" for i in range(n)))
    return run(images, description, columns, backend)


def posterize(images, bits, *, backend: str = "auto"):
    """Keep the highest `bits` in 0 .. 8 of each value, per sample."""
    host_checked("posterize", "bits", bits, 0, 8)
    if isinstance(bits, torch.Tensor):
        levels = torch.ones_like(bits, dtype=torch.int64) << bits.long()
    else:
        levels = [2.0**b for b in bits] if isinstance(bits, Sequence) else 2.0**bits
    return _adjust(images, "posterize", (levels,), backend)


def solarize(images, threshold, *, backend: str = "auto"):
    """Invert what is at least `threshold`, per sample, in the units of the pixels."""
    return _adjust(images, "solarize", (threshold,), backend)


def solarize_add(images, addition, threshold=None, *, backend: str = "auto"):
    """Add to what is below `threshold`, both per sample in the units of the pixels, and clamp; None is half the
    range."""
    if threshold is None:
        threshold = 0.5 if images.is_floating_point() else 128.0
    return run(images, Explicit("pixel", "solarize_add", ("addition", "threshold")), (addition, threshold), backend)


def invert(images, *, backend: str = "auto"):
    """255 - v or 1 - v."""
    return _adjust(images, "invert", (), backend)


def autocontrast(images, *, backend: str = "auto"):
    """Stretch each channel from its least and greatest value to the whole range."""
    return _adjust(images, "autocontrast", (), backend)


def equalize(images, *, backend: str = "auto"):
    """Equalize each channel's histogram of 256 levels."""
    return _adjust(images, "equalize", (), backend)


def gaussian_blur(images, kernel_size, sigma=None, *, backend: str = "auto"):
    """Blur with a Gaussian, the border reflected.

    Args:
        kernel_size: (width, height), odd, or one int.
        sigma: standard deviation in pixels, positive: a number, or per sample (x, y). None is 0.15 kernel_size + 0.35.
    """
    kernel = kernel_sizes("gaussian_blur", kernel_size)
    if sigma is None:
        sigma = [size * 0.15 + 0.35 for size in kernel]
    if isinstance(sigma, int | float):
        sigma = [sigma, sigma]
    sigmas = last_axis("sigma", sigma, 2)
    for value in sigmas:
        host_checked("gaussian_blur", "sigma", value, 1e-6)
    return run(images, ExplicitBlur(kernel), sigmas, backend)


def _seeds(images: torch.Tensor, seeds: Any) -> list[Any]:
    """Two seeds per sample, by default from torch's own generator."""
    if seeds is None:
        seeds = torch.rand(images.shape[0] if images.dim() == 4 else 1, 2, device=images.device)
    return last_axis("seeds", seeds, 2)


def gaussian_noise(images, mean=0.0, sigma=0.1, clip: bool = True, *, seeds=None, backend: str = "auto"):
    """Add normal noise to each value; see `gpuaug.GaussianNoise`.

    Args:
        mean, sigma: per sample, of the range [0, 1].
        seeds: two numbers in [0, 1) per sample, on which the noise depends alone; None takes them from torch.
    """
    host_checked("gaussian_noise", "sigma", sigma, 0.0)
    if not clip and not images.is_floating_point():
        raise ValueError("gaussian_noise: clip=False would wrap around in uint8 images; leave clip=True")
    description = Explicit(
        "pixel", "gaussian_noise", (*SEEDS, "mean", "sigma"), (float(clip),), options=(("needs", "place"),)
    )
    return run(images, description, (*_seeds(images, seeds), mean, sigma), backend)


def salt_and_pepper(images, amount, salt_vs_pepper=0.5, *, seeds=None, backend: str = "auto"):
    """Make a share of the pixels white or black; see `gpuaug.SaltAndPepper`.

    Args:
        amount, salt_vs_pepper: per sample, in [0, 1].
        seeds: as `gaussian_noise`.
    """
    host_checked("salt_and_pepper", "amount", amount, 0.0, 1.0)
    host_checked("salt_and_pepper", "salt_vs_pepper", salt_vs_pepper, 0.0, 1.0)
    columns = (*SEEDS, "amount", "salt_vs_pepper")
    description = Explicit("pixel", "salt_and_pepper", columns, options=(("needs", "place"),))
    return run(images, description, (*_seeds(images, seeds), amount, salt_vs_pepper), backend)


def erase(images, i, j, h, w, v, inplace: bool = False, *, backend: str = "auto"):
    """Fill a rectangle: top i, left j, height h, width w per sample, in pixels.

    Args:
        v: a number or one for each channel; as a tensor [C], [C, 1, 1], [B, C] or [B, C, 1, 1], of at most 3 channels.
        inplace: accepted for torchvision's sake; the output is always new.

    Raises:
        ValueError: a tensor with a value for each pixel.
    """
    for name, value in zip("ijhw", (i, j, h, w), strict=True):
        host_checked("erase", name, value, 0)
    names, place = ("i", "j", "h", "w"), (("needs", "place"),)
    if not isinstance(v, torch.Tensor):
        fill = fill_argument("erase", _frozen(v), "v")
        return run(images, Explicit("pixel", "erase", names, fill=fill, options=place), (i, j, h, w), backend)
    c = images.shape[-3]
    colour = v[..., 0, 0] if v.shape[-2:] == (1, 1) and v.dim() > 2 else v
    if colour.shape[-1:] not in ((), (1,), (c,)) or colour.dim() > 2 or c > 3:
        raise ValueError(
            f"erase: v must be [C] or [B, C] with at most 3 channels, got the shape {tuple(v.shape)} for {c} channels; "
            'for noise take gpuaug.RandomErasing(value="random")'
        )
    colour = colour.to(images.dtype).float()
    colours = (colour.reshape(1) if colour.dim() == 0 else colour).expand(*colour.shape[:-1], c).unbind(-1)
    description = Explicit("pixel", "erase", (*names, *(f"v{k}" for k in range(c))), options=place)
    return run(images, description, (i, j, h, w, *colours), backend)


def grid_mask(images, period, offset_x, offset_y, side, fill=0, *, backend: str = "auto"):
    """Fill the squares of a grid: those pixels whose (x + offset_x) mod period and (y + offset_y) mod period are both
    less than side; all four per sample, in pixels.
    """
    host_checked("grid_mask", "period", period, 1)
    fill = fill_argument("grid_mask", _frozen(fill))
    columns = ("period", "offset_x", "offset_y", "side")
    description = Explicit("pixel", "grid_mask", columns, fill=fill, options=(("needs", "place"),))
    return run(images, description, (period, offset_x, offset_y, side), backend)


def normalize(images, mean, std, inplace: bool = False, *, backend: str = "auto"):
    """(image - mean) / std for each channel of floating-point images."""
    return run(images, Normalize(mean, std), (), backend)


def to_dtype(images, dtype: torch.dtype = torch.float32, scale: bool = False, *, backend: str = "auto"):
    """Change the dtype; see `gpuaug.ToDtype`."""
    return run(images, ToDtype(dtype, scale), (), backend)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
