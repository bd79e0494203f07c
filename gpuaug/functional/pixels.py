"""Blur, compression, noise, erasing, normalisation, dtypes: of images alone, but for dtypes."""

from __future__ import annotations

from typing import Any

import torch

from ..explicit import Column, Explicit, ExplicitBlur, column, count, run, vector
from ..inputs import moved
from ..lowering import DTYPES
from ..messages import shown
from ..transforms.arguments import fill_argument, flag, kernel_sizes, plain
from ..transforms.convert import Normalize, ToDtype, mean_and_std
from ..transforms.jpeg import QUALITIES
from ..transforms.noise import SEEDS
from .kinds import PURE, Beside, fill_of, taking

PLACE = (("needs", "place"),)


@taking()
def gaussian_blur(inpt, kernel_size, sigma=None, *, backend: str = "auto"):
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
    columns = vector(name, "sigma", value, (2,), count(inpt), above=0.0)
    return run(name, inpt, backend, columns, ExplicitBlur, kernel)


@taking()
def jpeg(image, quality, *, backend: str = "auto"):
    """Compress as JPEG at a whole quality in 1 .. 100, per sample, and decompress; see `gpuaug.JPEG`."""
    low, high = QUALITIES
    columns = [column("jpeg", "quality", quality, count(image), low=low, high=high, whole=True)]
    options = (("colour", True), ("needs", "neighbours"))
    return run("jpeg", image, backend, columns, Explicit, "pixel", "jpeg", ("quality",), options=options)


def _seeds(op: str, images: torch.Tensor, seeds: Any) -> list[Column]:
    """Two seeds per sample, by default from torch's own generator."""
    if seeds is None:
        seeds = torch.rand(count(images), 2, dtype=torch.float32, device=images.device)
    return vector(op, "seeds", seeds, (2,), count(images), low=0.0, high=1.0)


@taking()
def gaussian_noise(inpt, mean=0.0, sigma=0.1, clip: bool = True, *, seeds=None, backend: str = "auto"):
    """Add normal noise to each value; see `gpuaug.GaussianNoise`.

    Args:
        mean, sigma: per sample, of the range [0, 1].
        seeds: two numbers in [0, 1) per sample, on which the noise depends alone; None takes them from torch.
    """
    name, b = "gaussian_noise", count(inpt)
    clip = flag(name, "clip", clip)
    if not clip and not inpt.is_floating_point():
        raise ValueError("gaussian_noise: clip=False would wrap around in uint8 images; leave clip=True")
    spread = [column(name, "mean", mean, b), column(name, "sigma", sigma, b, low=0.0)]
    columns, names = [*_seeds(name, inpt, seeds), *spread], (*SEEDS, "mean", "sigma")
    return run(name, inpt, backend, columns, Explicit, "pixel", name, names, (float(clip),), options=PLACE)


@taking()
def salt_and_pepper(inpt, amount, salt_vs_pepper=0.5, *, seeds=None, backend: str = "auto"):
    """Make a share of the pixels white or black; see `gpuaug.SaltAndPepper`.

    Args:
        amount, salt_vs_pepper: per sample, in [0, 1].
        seeds: as `gaussian_noise`.
    """
    name, b = "salt_and_pepper", count(inpt)
    shares = [
        column(name, "amount", amount, b, low=0.0, high=1.0),
        column(name, "salt_vs_pepper", salt_vs_pepper, b, low=0.0, high=1.0),
    ]
    columns, names = [*_seeds(name, inpt, seeds), *shares], (*SEEDS, "amount", "salt_vs_pepper")
    return run(name, inpt, backend, columns, Explicit, "pixel", name, names, options=PLACE)


@taking()
def erase(inpt, i, j, h, w, v, inplace: bool = False, *, backend: str = "auto"):
    """Fill a rectangle: top i, left j, height h, width w per sample, in whole pixels.

    Args:
        v: a number or one for each channel; as a tensor [C], [C, 1, 1], [B, C] or [B, C, 1, 1], of at most 3 channels.
            Or a value for each pixel of one rectangle that lies within the image: [..., C, h, w].
        inplace: write into what is given.
    """
    over = flag("erase", "inplace", inplace)
    names, b = ("i", "j", "h", "w"), count(inpt)
    sides = [column("erase", n, s, b, low=0, whole=True) for n, s in zip(names, (i, j, h, w), strict=True)]
    if not isinstance(v, torch.Tensor):
        fill = fill_argument("erase", v, "v")
        options = (*PLACE, ("called", "v"))
        out = run("erase", inpt, backend, sides, Explicit, "pixel", "erase", names, fill=fill, options=options)
        return inpt.copy_(out) if over else out
    c = inpt.shape[-3]
    colour = v[..., 0, 0] if v.shape[-2:] == (1, 1) and v.dim() > 2 else v
    if v.dim() > 2 and (colour is v or c > 3):
        return _patched(inpt, sides, v, over)
    if colour.shape[-1:] not in ((), (1,), (c,)) or colour.dim() > 2 or c > 3:
        raise ValueError(
            f"erase: v must be [C] or [B, C] with at most 3 channels, or [C, h, w], got the shape {tuple(v.shape)} for "
            f"{c} channels"
        )
    colour = colour.to(inpt.dtype).to(torch.float32)
    colour = (colour.reshape(1) if colour.dim() == 0 else colour).expand(*colour.shape[:-1], c)
    colours = vector("erase", "v", colour, (c,), b)
    names = (*names, *(f"v{k}" for k in range(c)))
    out = run("erase", inpt, backend, [*sides, *colours], Explicit, "pixel", "erase", names, options=PLACE)
    return inpt.copy_(out) if over else out


def _patched(images: torch.Tensor, sides: list[Column], v: torch.Tensor, over: bool) -> torch.Tensor:
    """Images with a patch of pixels at one place."""
    if not all(isinstance(side, tuple) and len(set(side)) == 1 for side in sides):
        raise ValueError("erase: v with a value for each pixel goes with one rectangle, given by numbers")
    top, left, height, width = (int(side[0]) for side in sides)
    place = images[..., top : top + height, left : left + width]
    try:
        v.expand(place.shape)
    except RuntimeError:
        told = f"v must have the shape {list(place.shape[-3:])} of the rectangle in the image, or [C, 1, 1]"
        raise ValueError(f"erase: {told}, got {list(v.shape)}") from None
    out = images if over else images.clone()
    out[..., top : top + height, left : left + width] = moved(v, images.device, images.dtype)
    return out


@taking()
def grid_mask(inpt, period, offset_x, offset_y, side, fill=0, *, backend: str = "auto"):
    """Fill the squares of a grid: those pixels whose (x + offset_x) mod period and (y + offset_y) mod period are both
    less than side; all four per sample, in pixels.
    """
    names, b = ("period", "offset_x", "offset_y", "side"), count(inpt)
    values, least = (period, offset_x, offset_y, side), (1.0, -float("inf"), -float("inf"), 0.0)
    columns = [column("grid_mask", n, v, b, low=low) for n, v, low in zip(names, values, least, strict=True)]
    fill = fill_of("grid_mask", fill, inpt)
    return run("grid_mask", inpt, backend, columns, Explicit, "pixel", "grid_mask", names, fill=fill, options=PLACE)


@taking(PURE)
def normalize(inpt, mean, std, inplace: bool = False, *, backend: str = "auto"):
    """(image - mean) / std for each channel of floating-point images.

    Args:
        inplace: write into what is given.
    """
    over = flag("normalize", "inplace", inplace)
    out = run("normalize", inpt, backend, (), Normalize, *mean_and_std("normalize", mean, std))
    return inpt.copy_(out) if over else out


@taking((*PURE, "mask", "boxes", "keypoints"))
def to_dtype(inpt, dtype: torch.dtype = torch.float32, scale: bool = False, *, backend: str = "auto"):
    """Change the dtype; see `gpuaug.ToDtype`. Masks, boxes and keypoints are cast, whatever `scale` is."""
    scaled = flag("to_dtype", "scale", scale)
    if not isinstance(dtype, torch.dtype) or dtype.is_complex:
        raise ValueError(f"to_dtype: dtype must be a torch.dtype of real numbers, got {shown(dtype)}")
    if type(inpt) is Beside:
        return Beside(inpt.kind, inpt.value.to(dtype), inpt.canvas, inpt.format, inpt.mode)
    if inpt.is_complex():
        raise TypeError(f"to_dtype: images must hold real numbers, got {inpt.dtype}")
    if dtype in DTYPES and inpt.dtype in DTYPES:
        return run("to_dtype", inpt, backend, (), ToDtype, dtype, scaled)
    return _scaled(inpt, dtype) if scaled else inpt.to(dtype)


@taking(PURE)
def convert_image_dtype(image, dtype: torch.dtype = torch.float32, *, backend: str = "auto"):
    """`to_dtype` with scale=True."""
    try:
        return to_dtype.__wrapped__(image, dtype, True, backend=backend)
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("to_dtype", "convert_image_dtype", 1)) from None


def _scaled(images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Images of a dtype from its range to that of another, as torchvision: one of both is none that pipelines take.

    Raises:
        RuntimeError: floats that do not hold the integers of `dtype`.
        TypeError: bool to integers, or back.
    """
    before = images.dtype
    if before == dtype:
        return images.clone()
    if not before.is_floating_point and not dtype.is_floating_point:
        if torch.bool in (before, dtype):
            raise TypeError(f"to_dtype: scale=True knows no way from {before} to {dtype}; take scale=False")
        fewer = _bits(before) - _bits(dtype)
        wide = images.to(torch.int64)
        return (wide >> fewer if fewer > 0 else wide << -fewer).to(dtype)
    if dtype.is_floating_point:
        return images.to(dtype) if before.is_floating_point else images.to(dtype) * (1.0 / (2 ** _bits(before) - 1))
    if (before, dtype) in ((torch.float32, torch.int32), (torch.float32, torch.int64), (torch.float64, torch.int64)):
        raise RuntimeError(f"to_dtype: the conversion from {before} to {dtype} cannot be performed safely")
    return (images * (2.0 ** _bits(dtype) - 1e-3)).to(dtype)


def _bits(dtype: torch.dtype) -> int:
    """How many bits the largest value of a whole-number dtype has."""
    return 1 if dtype == torch.bool else torch.iinfo(dtype).max.bit_length()
