"""Flips, crops, pads and resizes: of images, masks, boxes and keypoints."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..explicit import Column, Explicit, column, count, inside, run
from ..kernels.torch import dialect as torch_dialect
from ..messages import shown
from ..transforms.arguments import choice, flag, pair, plain, whole
from ..transforms.base import resampling, resize_argument
from ..transforms.geometry import PADDING_MODES, CenterCrop, Pad, Resize, pad_sides, resize_lengths
from .kinds import EVERY, IMAGES, fill_of, taking

START, EXACT = ("top", "left"), (("exact", True),)


@taking(EVERY, exact=True)
def horizontal_flip(inpt, *, backend: str = "auto"):
    """Mirror left and right."""
    return run("horizontal_flip", inpt, backend, (), Explicit, "geometry", "flip_horizontal", (), options=EXACT)


@taking(EVERY, exact=True)
def vertical_flip(inpt, *, backend: str = "auto"):
    """Mirror top and bottom."""
    return run("vertical_flip", inpt, backend, (), Explicit, "geometry", "flip_vertical", (), options=EXACT)


@taking(EVERY, exact=True)
def crop(inpt, top, left, height: int, width: int, *, backend: str = "auto"):
    """Cut out a window; top and left per sample, in whole pixels. What lies outside of the image is 0.

    A window given as a tensor is not looked at; one that leaves the image is led back inside.
    """
    size = whole("crop", "height", height, 1), whole("crop", "width", width, 1)
    starts = [column("crop", n, v, count(inpt), whole=True) for n, v in zip(START, (top, left), strict=True)]
    return _cropped("crop", inpt, starts, size, backend)


def _cropped(op: str, images, starts: Sequence[Column], size: tuple[int, int], backend: str):
    """A window of one size, by its corner: of an image, or beyond it, too."""
    within = [inside(at, (float(n),), limit) for at, n, limit in zip(starts, size, images.shape[-2:], strict=True)]
    if all(within):
        return run(op, images, backend, starts, Explicit, "geometry", "crop", START, size, options=EXACT)
    corner = [tuple(-v for v in at) if isinstance(at, tuple) else -at for at in starts[::-1]]
    return run(op, images, backend, corner, Explicit, "geometry", "place", ("x", "y"), (*size, 0, 0), 0)


@taking(EVERY, exact=True)
def center_crop(inpt, output_size, *, backend: str = "auto"):
    """Cut out the middle, padding with 0 where the image is smaller."""
    return run("center_crop", inpt, backend, (), CenterCrop, pair("center_crop", "output_size", output_size))


@taking(EVERY, exact=True)
def pad(inpt, padding, fill=None, padding_mode: str = "constant", *, backend: str = "auto"):
    """Pad the border; see `gpuaug.Pad`. None as fill is 0."""
    sides, colour = pad_sides("pad", padding), fill_of("pad", fill, inpt)
    mode = choice("pad", "padding_mode", padding_mode, PADDING_MODES)
    return run("pad", inpt, backend, (), Pad, sides, colour, mode)


@taking(EVERY)
def resize(
    inpt, size, interpolation="bilinear", max_size: int | None = None, antialias: bool = True, *, backend="auto"
):
    """Resample to a size; see `gpuaug.Resize`. Masks are read nearest."""
    _, longest = resize_lengths("resize", size, max_size)
    mode = resize_argument("resize", interpolation, antialias)
    smooth = flag("resize", "antialias", antialias)
    return run("resize", inpt, backend, (), Resize, plain(size), mode, longest or None, smooth)


@taking(EVERY)
def resized_crop(
    inpt, top, left, height, width, size, interpolation="bilinear", antialias: bool = True, *, backend: str = "auto"
):
    """Cut out a window (all four per sample, in whole pixels) and resample it to `size`; what lies outside is 0.

    A window given as a tensor is not looked at; one that leaves the image is led back inside.

    Args:
        size: (height, width), or one number for the window's shorter side, which all windows must agree on then.

    Raises:
        ValueError: windows that leave the image, or one number as size, with windows of several sizes.
    """
    name, b = "resized_crop", count(inpt)
    mode = resize_argument(name, interpolation, antialias)
    smooth = flag(name, "antialias", antialias)
    starts = [column(name, n, v, b, whole=True) for n, v in zip(START, (top, left), strict=True)]
    sizes = [column(name, n, v, b, low=1, whole=True) for n, v in (("height", height), ("width", width))]
    one = all(isinstance(side, tuple) and len(set(side)) == 1 for side in sizes)
    window = tuple(int(side[0]) for side in sizes) if one else None
    shape = pair(name, "size", size)
    if not isinstance(plain(size), tuple) or len(plain(size)) == 1:
        if window is None:
            raise ValueError(f"{name}: size must be (height, width) for windows of several sizes, got {shown(size)}")
        shape = shorter_side(window, shape[0])
    if not all(inside(at, side, limit) for at, side, limit in zip(starts, sizes, inpt.shape[-2:], strict=True)):
        if window is None:
            told = f"windows of several sizes leave the image of {inpt.shape[-2]}x{inpt.shape[-1]}"
            raise ValueError(f"{name}: {told}, got top={shown(top)}, left={shown(left)}; pad it first")
        cut = _cropped(name, inpt, starts, window, backend)
        return run(name, cut, backend, (), Resize, shape, mode, None, smooth)
    sampling, border, rule = resampling(mode, smooth)
    arguments, options = (*shape, *rule), (("border", border), ("sampling", sampling))
    names = (*START, "height", "width")
    return run(name, inpt, backend, [*starts, *sizes], Explicit, "geometry", name, names, arguments, options=options)


def shorter_side(canvas: tuple[int, int], size: int) -> tuple[int, int]:
    """What a canvas (H, W) becomes when its shorter side becomes `size`."""
    short, long = map(int, torch_dialect.GEOMETRY["resize_length"](float(min(canvas)), float(max(canvas)), size, 0.0))
    return (short, long) if canvas[0] <= canvas[1] else (long, short)


# --- views ------------------------------------------------------------------------------------------------------------
@taking(IMAGES)
def five_crop(inpt, size) -> tuple:
    """The four corners and the middle, as views of the image: upper left, upper right, lower left, lower right, middle.

    Raises:
        ValueError: a size larger than the image.
    """
    return _five("five_crop", inpt, pair("five_crop", "size", size))


def _five(op: str, images: torch.Tensor, size: tuple[int, int]) -> tuple[torch.Tensor, ...]:
    (h, w), (height, width) = size, images.shape[-2:]
    if h > height or w > width:
        raise ValueError(f"{op}: size must fit into the image of {height}x{width}, got {h}x{w}")
    top, left = round((height - h) / 2.0), round((width - w) / 2.0)
    corners = ((0, 0), (0, width - w), (height - h, 0), (height - h, width - w), (top, left))
    return tuple(images[..., y : y + h, x : x + w] for y, x in corners)


@taking(IMAGES)
def ten_crop(inpt, size, vertical_flip: bool = False) -> tuple:
    """`five_crop`, and the same of the image mirrored left and right, or top and bottom.

    Raises:
        ValueError: a size larger than the image.
    """
    shape, axis = pair("ten_crop", "size", size), -2 if flag("ten_crop", "vertical_flip", vertical_flip) else -1
    return _five("ten_crop", inpt, shape) + _five("ten_crop", inpt.flip(axis), shape)


hflip, vflip = horizontal_flip, vertical_flip
