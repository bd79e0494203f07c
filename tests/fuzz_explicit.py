"""Cases of a fuzz: every function of `gpuaug.functional`, and pipelines whose table is given by hand, with arguments
that no draw gives: NaN, infinity, 1e30, outside of the canvas.

A case follows from its number alone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import gpuaug as ga

SEED = "explicit parameters 1"
NAN, INF = math.nan, math.inf
FAR = (1e6, -1e6, 1e30, -1e30, NAN, NAN, INF, -INF, 1e-40, -1e-40, -0.0, 3.4e38, 16777217.0, 2.0**31, -(2.0**63))
DTYPES = (torch.uint8, torch.float32, torch.float32, torch.bfloat16, torch.float16)
PARAMETER_DTYPES = (*(torch.float32,) * 6, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32)
SIDES = (1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17, 24, 31, 33, 64)
LAYOUTS = ("planar", "planar", "last", "last", "sliced", "turned", "expanded", "spread", "single")
RESIZES = ("nearest", "nearest-exact", "bilinear", "bicubic")
WARPS = ("nearest", "bilinear", "bicubic")
MODES = ("constant", "edge", "reflect", "symmetric")


@dataclass(frozen=True)
class Case:
    """A call: of the function `name` with `arguments`, or of the pipeline of that name, with the changes that its
    table gets.

    Attributes:
        pixels: what the images hold, of their shape; `strides` in elements.
        tame: all numbers are finite, and the pixels in their range.
    """

    number: int
    name: str
    pixels: Tensor
    strides: tuple[int, ...]
    threads: int
    behind: bool
    tame: bool
    arguments: dict[str, Any] = field(default_factory=dict)
    pipeline: tuple = ()
    memory_format: torch.memory_format = torch.preserve_format
    changes: tuple[tuple[int, int, float], ...] = ()  # row, column (both modulo the table's), value
    table_dtype: torch.dtype = torch.float32
    out_layout: str = ""  # of `out=`; none where empty


class Draw:
    """The random numbers of a case, and the kind of image that they are for."""

    def __init__(self, number: int):
        self.rng = random.Random(f"{SEED}: {number}")
        self.wild = self.rng.choice((0.0, 0.1, 0.3, 0.3, 1.0))
        self.tame = True
        self.dtype = self.one_of(*DTYPES)
        self.layout = self.one_of(*LAYOUTS)
        self.b, self.c = self.one_of(1, 2, 3), self.one_of(1, 3, 3, 3, 3, 2, 4, 16)
        self.h, self.w = self.one_of(*SIDES), self.one_of(*SIDES)
        if self.chance(0.05):
            self.h, self.w = self.one_of((1, 257), (257, 1), (2, 130), (130, 3))
        self.large = self.chance(0.01)
        if self.large:
            self.b, self.c, self.h, self.w = 6, 3, 64, 64
        if self.layout == "single":
            self.b = 1

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def one_of(self, *values):
        return self.rng.choice(values)

    @property
    def colour(self) -> bool:
        return self.c in (1, 3)

    def value(self, low: float, high: float, whole: bool = False) -> float:
        """A number in low .. high or, as often as the case is wild, on an edge, outside or far."""
        if not self.chance(self.wild):
            return float(self.rng.randint(int(low), int(max(low, high)))) if whole else self.rng.uniform(low, high)
        near = (low, high, low - 1.0, high + 1.0, low - 0.5, high + 0.5, 2.0 * high + 1.0, 0.0, 1.0, 0.5, -1.0)
        value = self.one_of(*(near if self.chance(0.4) else FAR))
        self.tame &= math.isfinite(value)
        return value

    def values(self, low: float, high: float, *, whole: bool = False, last: tuple[int, ...] = ()) -> Any:
        """An argument per sample: a tensor [], [1] or [B] (and `last`), now and then a number or a view."""
        if not last and self.chance(0.05):
            return self.value(low, high, whole)
        ways = [(self.b,), (self.b,), (self.b,), ()] + ([] if last else [(1,)])
        shape = (*self.one_of(*ways), *last)
        dtype = self.one_of(*PARAMETER_DTYPES)
        numbers = [self.value(low, high, whole) for _ in range(math.prod(shape))]
        if not dtype.is_floating_point:  # what no integer is, stands for itself no more
            most = torch.iinfo(dtype).max // 2 + 1
            numbers = [0 if math.isnan(v) else int(max(min(v, most), -most)) for v in numbers]
        tensor = torch.tensor(numbers, dtype=dtype).reshape(shape)
        self.tame &= bool(tensor.isfinite().all())
        if self.chance(0.1):
            tensor = torch.stack((tensor, tensor), -1)[..., 0]
        return tensor

    def size(self, most: int = 40) -> tuple[int, int]:
        return self.rng.randint(1, most), self.rng.randint(1, most)

    def fill(self) -> float | list[float]:
        if self.dtype == torch.uint8:
            fills = [float(self.one_of(0, 1, 17, 255)) for _ in range(self.c)]
        else:
            fills = [self.value(0.0, 1.0) for _ in range(self.c)]
        return fills if self.chance(0.3) else fills[0]

    def center(self) -> list[float] | None:
        return [self.value(0, self.w), self.value(0, self.h)] if self.chance(0.3) else None

    def pixels(self) -> Tensor:
        """Images [B, C, H, W], with some values that no image should have where they are floats."""
        generator = torch.Generator().manual_seed(self.rng.getrandbits(40))
        shape = (self.b, self.c, self.h, self.w)
        if self.dtype == torch.uint8:
            images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
            return images if self.chance(0.8) else (images // 128) * 255
        images = torch.rand(shape, generator=generator, dtype=torch.float32)
        if self.chance(0.4):
            for _ in range(self.one_of(1, 1, 3, 9)):
                images.view(-1)[self.rng.randrange(images.numel())] = self.one_of(*FAR, -0.2, 1.2, 300.0)
            self.tame = False
        if self.chance(0.02):
            images, self.tame = images * NAN, False
        return images.to(self.dtype)


def strides_of(draw: Draw, layout: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides in elements of a batch [B, C, H, W]."""
    b, c, h, w = shape
    if layout == "last":
        return c * h * w, 1, c * w, c
    if layout == "sliced":  # a window of larger images
        step, right, below = draw.one_of(1, 2), draw.one_of(1, 5), draw.one_of(0, 3)
        row = w * step + right
        plane = (h + below) * row
        return c * plane + 7, plane, row, step
    if layout == "turned":  # height and width have changed places
        return c * h * w, h * w, 1, h
    if layout == "expanded":  # one image, or one channel, for all
        return (0, h * w, w, 1) if draw.chance(0.5) else (h * w, 0, w, 1)
    if layout == "spread":  # one row or one column for all
        return (c * w, w, 0, 1) if draw.chance(0.5) else (c * h, h, 1, 0)
    return c * h * w, h * w, w, 1


def loosened(draw: Draw, shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...]:
    """The strides with any numbers along axes of one element, where they mean nothing."""
    if not draw.chance(0.1):
        return strides
    return tuple(draw.one_of(0, 1, 7, 2**31, 2**40) if n == 1 else s for n, s in zip(shape, strides, strict=True))


# --- a generator of arguments for each function -----------------------------------------------------------------------
def _none(draw: Draw) -> dict:
    return {}


def _crop(draw: Draw) -> dict:
    height, width = draw.rng.randint(1, draw.h), draw.rng.randint(1, draw.w)
    tops, lefts = draw.values(0, draw.h - height, whole=True), draw.values(0, draw.w - width, whole=True)
    return {"top": tops, "left": lefts, "height": height, "width": width}


def _resized_crop(draw: Draw) -> dict:
    window = {
        "top": draw.values(0, draw.h / 2, whole=True),
        "left": draw.values(0, draw.w / 2, whole=True),
        "height": draw.values(1, max(draw.h / 2, 1), whole=True),
        "width": draw.values(1, max(draw.w / 2, 1), whole=True),
    }
    return window | {
        "size": list(draw.size()),
        "interpolation": draw.one_of(*RESIZES),
        "antialias": draw.chance(0.7),
    }


def _pad(draw: Draw) -> dict:
    padding = [draw.rng.randint(0, 5) for _ in range(draw.one_of(2, 4))]
    return {"padding": padding, "fill": draw.fill(), "padding_mode": draw.one_of(*MODES)}


def _resize(draw: Draw) -> dict:
    size, most = (list(draw.size()), None) if draw.chance(0.7) else (draw.rng.randint(1, 30), draw.one_of(None, 31))
    return {
        "size": size,
        "interpolation": draw.one_of(*RESIZES),
        "max_size": most,
        "antialias": draw.chance(0.7),
    }


def _warped(draw: Draw, **arguments: Any) -> dict:
    return arguments | {"interpolation": draw.one_of(*WARPS), "fill": draw.fill()}


def _rotate(draw: Draw) -> dict:
    return _warped(draw, angle=draw.values(-360, 360), center=draw.center())


def _affine(draw: Draw) -> dict:
    shift = draw.values(-draw.w, draw.w, last=(2,))
    arguments = {"angle": draw.values(-180, 180), "translate": shift, "scale": draw.values(0.1, 3.0)}
    return _warped(draw, **arguments, shear=draw.values(-60, 60, last=(2,)), center=draw.center())


def _perspective(draw: Draw) -> dict:
    if draw.chance(0.1):
        numbers = draw.values(-0.1, 1.0, last=(8,))
        return _warped(draw, startpoints=None, endpoints=None, coefficients=numbers)
    if draw.chance(0.5):
        ends = draw.values(0, max(draw.h, draw.w) - 1, last=(4, 2))
        starts = draw.values(0, max(draw.h, draw.w) - 1, last=(4, 2)) if draw.chance(0.3) else None
        return _warped(draw, startpoints=starts, endpoints=ends, coefficients=None)
    corners = torch.tensor([[0, 0], [draw.w - 1, 0], [draw.w - 1, draw.h - 1], [0, draw.h - 1]])
    moved = corners + torch.as_tensor(draw.values(-2, 2, last=(4, 2)))
    return _warped(draw, startpoints=None, endpoints=moved, coefficients=None)


def _posterize(draw: Draw) -> dict:
    return {"bits": draw.values(0, 8, whole=True)}


def _solarize_add(draw: Draw) -> dict:
    bound = 255 if draw.dtype == torch.uint8 else 1
    threshold = None if draw.chance(0.3) else draw.values(0, bound)
    return {"addition": draw.values(-bound, bound), "threshold": threshold}


def _blur(draw: Draw) -> dict:
    kernel = [draw.one_of(*range(1, 2 * min(side, 9), 2)) for side in (draw.w, draw.h)]
    ways = {0: None, 1: draw.value(0.1, 3.0), 2: draw.values(0.1, 3.0, last=(2,))}
    return {"kernel_size": kernel, "sigma": ways[draw.one_of(0, 1, 2, 2, 2)]}


def _noise(draw: Draw) -> dict:
    seeds = None if draw.chance(0.2) else draw.values(0, 1, last=(2,))
    return {
        "mean": draw.values(-0.5, 0.5),
        "sigma": draw.values(0, 0.5),
        "clip": draw.chance(0.7),
        "seeds": seeds,
    }


def _salt_and_pepper(draw: Draw) -> dict:
    seeds = None if draw.chance(0.2) else draw.values(0, 1, last=(2,))
    return {"amount": draw.values(0, 1), "salt_vs_pepper": draw.values(0, 1), "seeds": seeds}


def _erase(draw: Draw) -> dict:
    window = {
        "i": draw.values(0, draw.h, whole=True),
        "j": draw.values(0, draw.w, whole=True),
        "h": draw.values(0, draw.h, whole=True),
        "w": draw.values(0, draw.w, whole=True),
    }
    bound = 255 if draw.dtype == torch.uint8 else 1
    v = draw.fill() if draw.chance(0.5) else torch.as_tensor(draw.values(0, bound, last=(draw.c,)))
    return window | {"v": v[..., None, None] if isinstance(v, Tensor) and draw.chance(0.5) else v}


def _grid_mask(draw: Draw) -> dict:
    names = ("offset_x", "offset_y", "side")
    arguments = {name: draw.values(0, 20, whole=True) for name in names}
    return arguments | {"period": draw.values(1, 20, whole=True), "fill": draw.fill()}


def _normalize(draw: Draw) -> dict:
    mean, std = [draw.value(0, 1) for _ in range(draw.c)], [draw.value(0.1, 1) for _ in range(draw.c)]
    return {"mean": mean, "std": std}


def _of(name: str, low: float, high: float) -> Callable[[Draw], dict]:
    return lambda draw: {name: draw.values(low, high)}


GENERATORS: dict[str, Callable[[Draw], dict]] = {
    "adjust_brightness": _of("brightness_factor", 0, 3),
    "adjust_contrast": _of("contrast_factor", 0, 3),
    "adjust_gamma": lambda draw: {"gamma": draw.values(0, 3), "gain": draw.values(0, 2)},
    "adjust_hue": _of("hue_factor", -0.5, 0.5),
    "adjust_saturation": _of("saturation_factor", 0, 3),
    "adjust_sharpness": _of("sharpness_factor", 0, 3),
    "affine": _affine,
    "autocontrast": _none,
    "center_crop": lambda draw: {"output_size": list(draw.size())},
    "convert_image_dtype": lambda draw: {"dtype": draw.one_of(*DTYPES)},
    "crop": _crop,
    "equalize": _none,
    "erase": _erase,
    "gaussian_blur": _blur,
    "gaussian_noise": _noise,
    "grid_mask": _grid_mask,
    "horizontal_flip": _none,
    "invert": _none,
    "jpeg": lambda draw: {"quality": draw.values(1, 100, whole=True)},
    "normalize": _normalize,
    "pad": _pad,
    "permute_channels": lambda draw: {"permutation": draw.values(0, min(draw.c, 3) - 1, whole=True, last=(draw.c,))},
    "perspective": _perspective,
    "posterize": _posterize,
    "resize": _resize,
    "resized_crop": _resized_crop,
    "rgb_to_grayscale": lambda draw: {"num_output_channels": draw.one_of(1, 3)},
    "rotate": _rotate,
    "salt_and_pepper": _salt_and_pepper,
    "solarize": lambda draw: {"threshold": draw.values(0, 255 if draw.dtype == torch.uint8 else 1)},
    "solarize_add": _solarize_add,
    "to_dtype": lambda draw: {"dtype": draw.one_of(*DTYPES), "scale": draw.chance(0.7)},
    "vertical_flip": _none,
}
MANY = ("affine", "crop", "equalize", "erase", "perspective", "resized_crop", "resized_crop", "rotate")  # drawn again


# --- pipelines --------------------------------------------------------------------------------------------------------
def _sides(draw: Draw) -> tuple[int, int]:
    """A size that fits into the images."""
    return draw.rng.randint(1, draw.h), draw.rng.randint(1, draw.w)


PIPELINES: dict[str, Callable[[Draw], list]] = {
    "window": lambda d: [ga.RandomResizedCrop(d.size(), interpolation=d.one_of(*RESIZES), antialias=d.chance(0.6))],
    "window, turned": lambda d: [
        ga.RandomResizedCrop(d.size(), interpolation=d.one_of("bilinear", "bicubic")),
        ga.RandomAffine(30, (0.3, 0.3), (0.5, 2.0), 20, interpolation=d.one_of(*WARPS)),
        ga.RandomHorizontalFlip(),
    ],
    "crop, turned": lambda d: [
        ga.RandomCrop(_sides(d), padding=d.one_of(0, 1, 3), pad_if_needed=True, padding_mode=d.one_of(*MODES[:2])),
        ga.RandomRotation(90, interpolation=d.one_of(*WARPS)),
    ],
    "crop, resized": lambda d: [
        ga.RandomCrop(_sides(d)),
        ga.Resize(d.size(), interpolation=d.one_of(*RESIZES), antialias=d.chance(0.5)),
        ga.RandomVerticalFlip(),
    ],
    "reflected": lambda d: [
        ga.Pad(min(d.h, d.w) - 1, padding_mode=d.one_of("reflect", "symmetric")),
        ga.RandomCrop(_sides(d)),
        ga.RandomAffine(20, (0.2, 0.2), interpolation=d.one_of(*WARPS)),
    ],
    "perspective, equalize": lambda d: [
        ga.RandomPerspective(0.6, p=1.0, interpolation=d.one_of(*WARPS)),
        ga.RandomEqualize(p=0.7),
    ],
    "jitter": lambda d: [ga.ColorJitter(0.4, 0.4, 0.4, 0.2), ga.RandomEqualize(p=0.6)],
    "distort": lambda d: [ga.RandomPhotometricDistort(), ga.RandomPosterize(3), ga.RandomEqualize(p=1.0)],
    "order": lambda d: [
        ga.RandomOrder(
            [ga.RandomRotation(40, interpolation=d.one_of(*WARPS)), ga.RandomEqualize(), ga.RandomAutocontrast()]
        ),
        ga.RandomSolarize(0.5 if d.dtype.is_floating_point else 128),
    ],
    "choice": lambda d: [
        ga.RandomChoice([ga.RandomRotation(180, interpolation="bilinear"), ga.RandomInvert(), ga.RandomEqualize()]),
        ga.RandomApply([ga.RandomResizedCrop((d.h, d.w))], 0.5),
    ],
    "RandAugment": lambda d: [ga.RandAugment(2, 9, interpolation=d.one_of("nearest", "bilinear"))],
    "AutoAugment": lambda d: [ga.AutoAugment(interpolation=d.one_of("nearest", "bilinear"))],
    "TrivialAugmentWide": lambda d: [ga.TrivialAugmentWide(interpolation=d.one_of("nearest", "bilinear"))],
    "timm": lambda d: [ga.timm_augment("rand-m9-mstd0.5-inc1")],
    "blur, sharpness": lambda d: [ga.GaussianBlur(2 * min(d.h, d.w, 4) - 1), ga.RandomAdjustSharpness(2.0)],
    "erasing": lambda d: [
        ga.RandomErasing(p=0.7, value=0 if d.dtype == torch.uint8 else d.one_of(0, "random")),
        ga.RandomRotation(30, interpolation="nearest"),
    ],
    "holes": lambda d: [ga.RandomRotation(30), ga.CoarseDropout((1, 3), p=0.7), ga.GridMask((3, 9), p=0.7)],
    "noise": lambda d: [ga.GaussianNoise(0.1, 0.2), ga.SaltAndPepper((0.1, 0.4), p=0.7), ga.RandomEqualize(p=0.5)],
    "posterize": lambda d: [ga.RandomPosterize(2, p=0.7), ga.RandomEqualize(p=0.7), ga.RandomGamma((0.5, 2.0))],
    "training": lambda d: [
        ga.RandomResizedCrop(d.size()),
        ga.RandomHorizontalFlip(),
        ga.ColorJitter(0.4, 0.4, 0.4, 0.1),
        ga.ToDtype(torch.float32, scale=True),
        ga.RandomErasing(p=0.5, value="random"),
    ],
}
SELDOM = ("AutoAugment", "timm")  # whose programs are so long that the kornia backend takes half a second
BY_COLOUR = {"jitter", "distort", "RandAugment", "AutoAugment", "TrivialAugmentWide", "timm", "blur, sharpness"}
BY_COLOUR |= {"erasing", "holes", "noise", "posterize", "training", "order", "choice", "perspective, equalize"}


def _changes(draw: Draw) -> tuple[tuple[int, int, float], ...]:
    """What overwrites a table: some entries, or all."""
    n = draw.one_of(1, 2, 4, 400)
    values = [draw.value(-2.0, 40.0, draw.chance(0.5)) for _ in range(n)]
    return tuple((draw.rng.randrange(draw.b), draw.rng.randrange(400), v) for v in values)


def _pipeline(draw: Draw) -> tuple[str, dict]:
    name = draw.one_of(*PIPELINES)
    if name in SELDOM and draw.chance(0.7):
        name = draw.one_of(*PIPELINES)
    if name in BY_COLOUR and not draw.colour:
        draw.c = 3
    memory_format = draw.one_of(torch.preserve_format, torch.contiguous_format, torch.channels_last)
    words = {"pipeline": tuple(PIPELINES[name](draw)), "memory_format": memory_format}
    draw.wild = max(draw.wild, 0.3)
    words |= {"changes": _changes(draw), "table_dtype": draw.one_of(torch.float32, torch.float32, torch.float64)}
    draw.tame = False  # a table is not held against what its columns may be
    return name, words | {"out_layout": draw.one_of("", "planar", "last", "sliced", "turned")}


def case(number: int) -> Case:
    """The case of that number, the same on any machine."""
    draw = Draw(number)
    if draw.chance(0.4):
        name, words = _pipeline(draw)
    else:
        name = draw.one_of(*GENERATORS, *MANY)
        if not draw.colour and name not in ("crop", "resized_crop", "affine") and draw.chance(0.8):
            draw.c = 3
        words = {"arguments": GENERATORS[name](draw)}
    pixels = draw.pixels()
    strides = strides_of(draw, draw.layout, tuple(pixels.shape))
    if draw.layout == "single":
        pixels, strides = pixels[0], strides[1:]
    threads, behind = 2 if draw.large or draw.chance(0.1) else 1, draw.chance(0.5)
    strides = loosened(draw, tuple(pixels.shape), strides)
    return Case(number, name, pixels, strides, threads, behind, draw.tame, **words)
