"""The ops with explicit parameters, one value for the batch or one for each sample.

Names and arguments are torchvision.transforms.v2.functional's; `solarize_add`, `salt_and_pepper` and `grid_mask` are
our own. Images are uint8, float16, bfloat16 or float32, [B, C, H, W] or [C, H, W]. Where an argument is called *per
sample*, it takes a number, a sequence of B numbers or a tensor [B] (a pair takes [2] or [B, 2], corners [4, 2] or
[B, 4, 2]). Numbers are checked: they are finite, and lie in the range that is told. A tensor is not looked at, and
where it lies on the host it reaches a GPU without a wait. Every function takes `backend`. There is no `elastic`: what
each pixel is moved by is no column of a table.

Raises:
    TypeError: images that are no tensor, of the wrong dtype or number of channels; a keyword that is not known.
    ValueError: another argument that the function cannot take. All errors are one line that names the function.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import torch

from .explicit import Column, Explicit, ExplicitBlur, check_window, column, count, of_images, run, vector
from .messages import no_attribute, shown
from .transforms.arguments import (
    FILTERS,
    center_argument,
    choice,
    fill_argument,
    flag,
    interpolation_name,
    kernel_sizes,
    pair,
    plain,
    whole,
)
from .transforms.base import resampling, resize_argument
from .transforms.color import Grayscale, grey_channels
from .transforms.convert import Normalize, ToDtype, check_dtype, mean_and_std
from .transforms.geometry import PADDING_MODES, CenterCrop, Pad, Resize, pad_sides, resize_lengths
from .transforms.jpeg import QUALITIES
from .transforms.noise import SEEDS
from .transforms.ops import ADJUSTMENTS
from .transforms.warp import WARPS, center_words

START, EXACT, PLACE = ("top", "left"), (("exact", True),), (("needs", "place"),)


@of_images
def horizontal_flip(images, *, backend: str = "auto"):
    """Mirror left and right."""
    return run("horizontal_flip", images, backend, (), Explicit, "geometry", "flip_horizontal", (), options=EXACT)


@of_images
def vertical_flip(images, *, backend: str = "auto"):
    """Mirror top and bottom."""
    return run("vertical_flip", images, backend, (), Explicit, "geometry", "flip_vertical", (), options=EXACT)


@of_images
def crop(images, top, left, height: int, width: int, *, backend: str = "auto"):
    """Cut out a window inside the image; top and left per sample, in whole pixels.

    Raises:
        ValueError: a window, given by numbers, that leaves the image (torchvision pads; use `pad` in front).
    """
    height, width = whole("crop", "height", height, 1), whole("crop", "width", width, 1)
    starts = check_window("crop", images, top, left, height, width)[:2]
    return run("crop", images, backend, starts, Explicit, "geometry", "crop", START, (height, width), options=EXACT)


@of_images
def center_crop(images, output_size, *, backend: str = "auto"):
    """Cut out the middle, padding with 0 where the image is smaller."""
    return run("center_crop", images, backend, (), CenterCrop, pair("center_crop", "output_size", output_size))


@of_images
def pad(images, padding, fill=0, padding_mode: str = "constant", *, backend: str = "auto"):
    """Pad the border; see `gpuaug.Pad`."""
    sides, colour = pad_sides("pad", padding), fill_argument("pad", fill)
    mode = choice("pad", "padding_mode", padding_mode, PADDING_MODES)
    return run("pad", images, backend, (), Pad, sides, colour, mode)


@of_images
def resize(
    images, size, interpolation="bilinear", max_size: int | None = None, antialias: bool = True, *, backend="auto"
):
    """Resample to a size; see `gpuaug.Resize`."""
    _, longest = resize_lengths("resize", size, max_size)
    mode = resize_argument("resize", interpolation, antialias)
    smooth = flag("resize", "antialias", antialias)
    return run("resize", images, backend, (), Resize, plain(size), mode, longest or None, smooth)


@of_images
def resized_crop(
    images, top, left, height, width, size, interpolation="bilinear", antialias: bool = True, *, backend: str = "auto"
):
    """Cut out a window (all four per sample, in whole pixels, inside the image) and resample it to `size`.

    Args:
        size: (height, width). One number, to torchvision the shorter side, would give each window a size of its own.
    """
    name = "resized_crop"
    shape = plain(size)
    if not isinstance(shape, tuple) or len(shape) != 2:
        raise ValueError(f"{name}: size must be (height, width), got {shown(size)}")
    mode = resize_argument(name, interpolation, antialias)
    sampling, border, rule = resampling(mode, flag(name, "antialias", antialias))
    arguments, options = (*pair(name, "size", shape), *rule), (("border", border), ("sampling", sampling))
    window = check_window(name, images, top, left, height, width)
    names = (*START, "height", "width")
    return run(name, images, backend, window, Explicit, "geometry", name, names, arguments, options=options)


@of_images
def rotate(images, angle, interpolation="nearest", expand: bool = False, center=None, fill=0, *, backend: str = "auto"):
    """Turn counter-clockwise by `angle` degrees, per sample, about `center` (x, y) or the middle."""
    if flag("rotate", "expand", expand):
        raise ValueError("rotate: expand=True would give each image its own size; pad first, and use expand=False")
    warp = _warp("rotate", ("angle",), center_words(center_argument("rotate", center)), interpolation, fill)
    return run("rotate", images, backend, [column("rotate", "angle", angle, count(images))], *warp)


@of_images
def affine(
    images, angle, translate, scale, shear, interpolation="nearest", fill=0, center=None, *, backend: str = "auto"
):
    """Turn (clockwise), shift, scale and shear, all per sample.

    Args:
        angle: degrees. translate: (x, y) in pixels. scale: positive. shear: degrees, other than 90: one number for x,
            (x, y), or a sequence of one for both. center: (x, y) in pixels from the upper left corner; None is the
            middle.
    """
    b = count(images)
    names = ("angle", "translate_x", "translate_y", "scale", "shear_x", "shear_y")
    warp = _warp("affine", names, center_words(center_argument("affine", center)), interpolation, fill)
    columns = [
        column("affine", "angle", angle, b),
        *vector("affine", "translate", translate, (2,), b),
        column("affine", "scale", scale, b, above=0.0),
        *_shears(shear, b),
    ]
    return run("affine", images, backend, columns, *warp)


def _shears(shear: Any, b: int) -> list[Column]:
    """Both columns of `affine`'s shear."""
    if isinstance(shear, torch.Tensor) and shear.dim() > 0:
        return vector("affine", "shear", shear, (2,), b)
    value = shear if isinstance(shear, torch.Tensor) else plain(shear)
    value = value if isinstance(value, tuple) else (value, 0.0)
    columns = vector("affine", "shear", value * 2 if len(value) == 1 else value, (2,), b)
    for given in columns:
        if isinstance(given, tuple) and any(v % 180.0 == 90.0 for v in given):
            raise ValueError(f"affine: shear must not be 90 degrees, at which nothing is left, got {shown(shear)}")
    return columns


@of_images
def perspective(images, startpoints, endpoints, interpolation="bilinear", fill=0, *, backend: str = "auto"):
    """Move the image's corners to `endpoints` (x, y; top left, top right, bottom right, bottom left), per sample.

    Raises:
        ValueError: `startpoints` other than None or the image's own corners; numbers that put three corners on a line.
    """
    h, w = images.shape[-2:]
    corners = ((0, 0), (w - 1, 0), (w - 1, h - 1), (0, h - 1))
    if startpoints is not None and plain(startpoints) != corners:
        raise ValueError(
            f"perspective: startpoints must be None or the image's corners {corners}, got {shown(startpoints)}"
        )
    columns = vector("perspective", "endpoints", endpoints, (4, 2), count(images))
    for x0, y0, x1, y1, x2, y2 in _corner_triples(columns) if isinstance(columns[0], tuple) else ():
        if (x1 - x0) * (y2 - y0) == (y1 - y0) * (x2 - x0):
            raise ValueError(f"perspective: endpoints must not put three corners on a line, got {shown(endpoints)}")
    names = tuple(f"{axis}{corner}" for corner in range(4) for axis in "xy")
    return run("perspective", images, backend, columns, *_warp("perspective", names, (), interpolation, fill))


def _corner_triples(columns: list[Column]) -> Iterator[list[float]]:
    """Any three corners (x, y) of each sample's four."""
    for row in zip(*columns, strict=True):
        for a, b, c in combinations(range(0, 8, 2), 3):
            yield [*row[a : a + 2], *row[b : b + 2], *row[c : c + 2]]


def _warp(op: str, names: tuple[str, ...], arguments: tuple[float, ...], interpolation: Any, fill: Any) -> tuple:
    """The kind and the fields of a warp, for `run`."""
    sampling = FILTERS[interpolation_name(op, interpolation, WARPS)]
    return Explicit, "geometry", op, names, arguments, fill_argument(op, fill), (("sampling", sampling),)


def _adjust(images: torch.Tensor, name: str, backend: str, *columns: Column) -> torch.Tensor:
    """An op of `ADJUSTMENTS` with its argument per sample, or none."""
    op = ADJUSTMENTS[name]
    options = (("colour", op.colour), ("needs", op.needs))
    names = (op.argument,) if op.argument else ()
    return run(op.call, images, backend, columns, Explicit, "pixel", name, names, options=options)


def _factor(images: torch.Tensor, name: str, value: Any, backend: str, low: float = 0.0, high: float = float("inf")):
    """An op of `ADJUSTMENTS` by a factor in [low, high], per sample."""
    op = ADJUSTMENTS[name]
    return _adjust(images, name, backend, column(op.call, op.argument, value, count(images), low=low, high=high))


@of_images
def adjust_brightness(images, brightness_factor, *, backend: str = "auto"):
    """Multiply by a factor >= 0, per sample, and clamp."""
    return _factor(images, "brightness", brightness_factor, backend)


@of_images
def adjust_contrast(images, contrast_factor, *, backend: str = "auto"):
    """Blend with the image's mean grey by a factor >= 0, per sample, and clamp."""
    return _factor(images, "contrast", contrast_factor, backend)


@of_images
def adjust_saturation(images, saturation_factor, *, backend: str = "auto"):
    """Blend with each pixel's grey by a factor >= 0, per sample, and clamp; one channel stays as it is."""
    return _factor(images, "saturation", saturation_factor, backend)


@of_images
def adjust_hue(images, hue_factor, *, backend: str = "auto"):
    """Turn the hue in HSV by a factor in [-0.5, 0.5] of the circle, per sample; one channel stays as it is."""
    return _factor(images, "hue", hue_factor, backend, -0.5, 0.5)


@of_images
def adjust_sharpness(images, sharpness_factor, *, backend: str = "auto"):
    """Blend with a smoothed copy by a factor >= 0, per sample: 0 smooths, 1 keeps, 2 sharpens."""
    return _factor(images, "sharpness", sharpness_factor, backend)


@of_images
def adjust_gamma(images, gamma, gain=1.0, *, backend: str = "auto"):
    """Raise values in [0, 1] to the power gamma >= 0 and multiply by gain, both per sample."""
    name, b = "adjust_gamma", count(images)
    columns = [column(name, "gamma", gamma, b, low=0.0), column(name, "gain", gain, b)]
    return run(name, images, backend, columns, Explicit, "pixel", "gamma", ("gamma", "gain"))


@of_images
def rgb_to_grayscale(images, num_output_channels: int = 1, *, backend: str = "auto"):
    """Grey in 1 or 3 channels; see `gpuaug.Grayscale`."""
    channels = grey_channels("rgb_to_grayscale", num_output_channels)
    return run("rgb_to_grayscale", images, backend, (), Grayscale, channels)


@of_images
def permute_channels(images, permutation, *, backend: str = "auto"):
    """Channel i becomes what channel permutation[i] was; per sample: [C] or [B, C], for 1 to 3 channels."""
    n = images.shape[-3]
    if n > 3:
        raise ValueError(f"permute_channels: images must have 1 to 3 channels, got {n}")
    columns = vector("permute_channels", "permutation", permutation, (n,), count(images), low=0, high=n - 1, whole=True)
    known = zip(*columns, strict=True) if all(isinstance(c, tuple) for c in columns) else ()
    if any(sorted(row) != list(range(n)) for row in known):
        raise ValueError(f"permute_channels: permutation must order 0 .. {n - 1}, got {shown(permutation)}")
    names = tuple(f"channel{i}" for i in range(n))
    return run("permute_channels", images, backend, columns, Explicit, "pixel", "permute_channels", names)


@of_images
def posterize(images, bits, *, backend: str = "auto"):
    """Keep the highest `bits` in 0 .. 8 of each value, per sample."""
    bits = column("posterize", "bits", bits, count(images), low=0, high=8, whole=True)
    if isinstance(bits, tuple):
        return _adjust(images, "posterize", backend, tuple(2.0**n for n in bits))
    kept = bits.to(torch.float32).nan_to_num(0.0).clamp(0, 8).to(torch.int64)
    return _adjust(images, "posterize", backend, torch.ones_like(kept) << kept)


@of_images
def solarize(images, threshold, *, backend: str = "auto"):
    """Invert what is at least `threshold`, per sample, in the units of the pixels.

    Raises:
        TypeError: a threshold, given by numbers, above the largest value, 255 or 1 (as torchvision's).
    """
    bound = 1.0 if images.is_floating_point() else 255.0
    levels = column("solarize", "threshold", threshold, count(images))
    if isinstance(levels, tuple) and any(level > bound for level in levels):
        raise TypeError(f"solarize: threshold must be at most {bound:g} for {images.dtype}, got {shown(threshold)}")
    return _adjust(images, "solarize", backend, levels)


@of_images
def solarize_add(images, addition, threshold=None, *, backend: str = "auto"):
    """Add to what is below `threshold`, both per sample in the units of the pixels, and clamp; None is half the
    range."""
    name, b = "solarize_add", count(images)
    if threshold is None:
        threshold = 0.5 if images.is_floating_point() else 128.0
    columns = [column(name, "addition", addition, b), column(name, "threshold", threshold, b)]
    return run(name, images, backend, columns, Explicit, "pixel", name, ("addition", "threshold"))


@of_images
def invert(images, *, backend: str = "auto"):
    """255 - v or 1 - v."""
    return _adjust(images, "invert", backend)


@of_images
def autocontrast(images, *, backend: str = "auto"):
    """Stretch each channel from its least and greatest value to the whole range."""
    return _adjust(images, "autocontrast", backend)


@of_images
def equalize(images, *, backend: str = "auto"):
    """Equalize each channel's histogram of 256 levels."""
    return _adjust(images, "equalize", backend)


@of_images
def gaussian_blur(images, kernel_size, sigma=None, *, backend: str = "auto"):
    """Blur with a Gaussian, the border reflected.

    Args:
        kernel_size: (width, height), odd, or one for both.
        sigma: standard deviation in pixels, positive: a number or a sequence of one for both axes, or per sample
            (x, y). None is 0.15 kernel_size + 0.35.
    """
    name = "gaussian_blur"
    kernel = kernel_sizes(name, kernel_size)
    if sigma is None:
        sigma = [size * 0.15 + 0.35 for size in kernel]
    value = sigma if isinstance(sigma, torch.Tensor) else plain(sigma)
    if isinstance(value, torch.Tensor) and value.dim() == 0:
        value = value.expand(2)
    elif not isinstance(value, torch.Tensor):
        value = value if isinstance(value, tuple) else (value,)
        value = value * 2 if len(value) == 1 and not isinstance(value[0], tuple) else value
    columns = vector(name, "sigma", value, (2,), count(images), above=0.0)
    return run(name, images, backend, columns, ExplicitBlur, kernel)


@of_images
def jpeg(images, quality, *, backend: str = "auto"):
    """Compress as JPEG at a whole quality in 1 .. 100, per sample, and decompress; see `gpuaug.JPEG`."""
    low, high = QUALITIES
    columns = [column("jpeg", "quality", quality, count(images), low=low, high=high, whole=True)]
    options = (("colour", True), ("needs", "neighbours"))
    return run("jpeg", images, backend, columns, Explicit, "pixel", "jpeg", ("quality",), options=options)


def _seeds(op: str, images: torch.Tensor, seeds: Any) -> list[Column]:
    """Two seeds per sample, by default from torch's own generator."""
    if seeds is None:
        seeds = torch.rand(count(images), 2, dtype=torch.float32, device=images.device)
    return vector(op, "seeds", seeds, (2,), count(images), low=0.0, high=1.0)


@of_images
def gaussian_noise(images, mean=0.0, sigma=0.1, clip: bool = True, *, seeds=None, backend: str = "auto"):
    """Add normal noise to each value; see `gpuaug.GaussianNoise`.

    Args:
        mean, sigma: per sample, of the range [0, 1].
        seeds: two numbers in [0, 1) per sample, on which the noise depends alone; None takes them from torch.
    """
    name, b = "gaussian_noise", count(images)
    clip = flag(name, "clip", clip)
    if not clip and not images.is_floating_point():
        raise ValueError("gaussian_noise: clip=False would wrap around in uint8 images; leave clip=True")
    spread = [column(name, "mean", mean, b), column(name, "sigma", sigma, b, low=0.0)]
    columns, names = [*_seeds(name, images, seeds), *spread], (*SEEDS, "mean", "sigma")
    return run(name, images, backend, columns, Explicit, "pixel", name, names, (float(clip),), options=PLACE)


@of_images
def salt_and_pepper(images, amount, salt_vs_pepper=0.5, *, seeds=None, backend: str = "auto"):
    """Make a share of the pixels white or black; see `gpuaug.SaltAndPepper`.

    Args:
        amount, salt_vs_pepper: per sample, in [0, 1].
        seeds: as `gaussian_noise`.
    """
    name, b = "salt_and_pepper", count(images)
    shares = [
        column(name, "amount", amount, b, low=0.0, high=1.0),
        column(name, "salt_vs_pepper", salt_vs_pepper, b, low=0.0, high=1.0),
    ]
    columns, names = [*_seeds(name, images, seeds), *shares], (*SEEDS, "amount", "salt_vs_pepper")
    return run(name, images, backend, columns, Explicit, "pixel", name, names, options=PLACE)


@of_images
def erase(images, i, j, h, w, v, inplace: bool = False, *, backend: str = "auto"):
    """Fill a rectangle: top i, left j, height h, width w per sample, in whole pixels.

    Args:
        v: a number or one for each channel; as a tensor [C], [C, 1, 1], [B, C] or [B, C, 1, 1], of at most 3 channels.
        inplace: accepted for torchvision's sake; the output is always new.

    Raises:
        ValueError: a tensor with a value for each pixel.
    """
    flag("erase", "inplace", inplace)
    names, b = ("i", "j", "h", "w"), count(images)
    sides = [column("erase", n, s, b, low=0, whole=True) for n, s in zip(names, (i, j, h, w), strict=True)]
    if not isinstance(v, torch.Tensor):
        fill = fill_argument("erase", v, "v")
        options = (*PLACE, ("called", "v"))
        return run("erase", images, backend, sides, Explicit, "pixel", "erase", names, fill=fill, options=options)
    c = images.shape[-3]
    colour = v[..., 0, 0] if v.shape[-2:] == (1, 1) and v.dim() > 2 else v
    if colour.shape[-1:] not in ((), (1,), (c,)) or colour.dim() > 2 or c > 3:
        raise ValueError(
            f"erase: v must be [C] or [B, C] with at most 3 channels, got the shape {tuple(v.shape)} for {c} channels; "
            'for noise take gpuaug.RandomErasing(value="random")'
        )
    colour = colour.to(images.dtype).to(torch.float32)
    colour = (colour.reshape(1) if colour.dim() == 0 else colour).expand(*colour.shape[:-1], c)
    colours = vector("erase", "v", colour, (c,), b)
    names = (*names, *(f"v{k}" for k in range(c)))
    return run("erase", images, backend, [*sides, *colours], Explicit, "pixel", "erase", names, options=PLACE)


@of_images
def grid_mask(images, period, offset_x, offset_y, side, fill=0, *, backend: str = "auto"):
    """Fill the squares of a grid: those pixels whose (x + offset_x) mod period and (y + offset_y) mod period are both
    less than side; all four per sample, in pixels.
    """
    names, b = ("period", "offset_x", "offset_y", "side"), count(images)
    values, least = (period, offset_x, offset_y, side), (1.0, -float("inf"), -float("inf"), 0.0)
    columns = [column("grid_mask", n, v, b, low=low) for n, v, low in zip(names, values, least, strict=True)]
    fill = fill_argument("grid_mask", fill)
    return run("grid_mask", images, backend, columns, Explicit, "pixel", "grid_mask", names, fill=fill, options=PLACE)


@of_images
def normalize(images, mean, std, inplace: bool = False, *, backend: str = "auto"):
    """(image - mean) / std for each channel of floating-point images."""
    flag("normalize", "inplace", inplace)
    return run("normalize", images, backend, (), Normalize, *mean_and_std("normalize", mean, std))


@of_images
def to_dtype(images, dtype: torch.dtype = torch.float32, scale: bool = False, *, backend: str = "auto"):
    """Change the dtype; see `gpuaug.ToDtype`."""
    check_dtype("to_dtype", dtype)
    return run("to_dtype", images, backend, (), ToDtype, dtype, flag("to_dtype", "scale", scale))


def __getattr__(name: str) -> Any:
    raise no_attribute(__name__, name, __all__)


__all__ = [name for name, value in dict(globals()).items() if getattr(value, "__wrapped__", None) is not None]
