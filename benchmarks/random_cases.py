"""Random cases for `same`: any op, with any arguments, in any place, on images of any kind.

A case is a function of (seed, number, tiny) alone, and names nothing of gpuaug but what its users see: two commits are
given the same ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor

import gpuaug as ga
from gpuaug import xp

DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32)
FORMATS = (torch.preserve_format, torch.contiguous_format, torch.channels_last)
SMOOTH = ("nearest", "bilinear", "bicubic")
RESIZES = (*SMOOTH, "nearest-exact")
PADDINGS = ("constant", "edge", "reflect", "symmetric")
CONTENTS = ("noise", "ramp", "few", "flat", "ends", "between", "wild")
LAYOUTS = ("contiguous", "channels_last", "sliced", "permuted", "expanded")
LARGE = 128  # one case in so many is large
TIMM = ("rand-m9-mstd0.5-inc1", "rand-m5-n3-p0.8", "rand-t3a-m7")
TIMM += ("original-mstd0.5", "originalr", "v0", "v0r-mstd1", "3a")


@ga.pixel_op
def fade(v, amount, bound):
    return v + amount * (bound - v)


@ga.pixel_op
def vignette(r, g, b, x, y, strength, lattice):
    shade = 1.0 / (1.0 + strength * (x * x + y * y) * 0.001)
    return r * shade, xp.minimum(g, b) + 0.25 * lattice, b * shade


@dataclass
class Input:
    """Images, and how they are given.

    Attributes:
        shape: [B, C, H, W], of which `single` takes the first as [C, H, W].
        order: of the axes in memory, for the layout "permuted".
        axis: the one of which all is the same, for "expanded".
        out: the layout of a buffer to write into, or None.
    """

    shape: tuple[int, int, int, int]
    single: bool
    dtype: torch.dtype
    content: str
    layout: str
    order: tuple[int, ...]
    axis: int
    seed: int
    ids: Any
    epoch: int
    counted: bool
    grad: bool
    out: str | None

    def images(self) -> Tensor:
        pixels = laid(self._pixels(), self.layout, self.order, self.axis)
        return pixels[0] if self.single else pixels

    def _pixels(self) -> Tensor:
        """Of all values that there are: levels of 255 but for "between", within the range but for "wild"."""
        random = torch.Generator().manual_seed(self.seed)
        b, c, h, w = self.shape
        levels = torch.randint(0, 256, self.shape, generator=random)
        if self.content == "ramp":
            rows, columns = torch.arange(h).view(h, 1), torch.arange(w).view(1, w)
            levels = (levels[:, :, :1, :1] + 5 * rows + 3 * columns) % 256
        elif self.content == "few":
            levels = 90 + levels % 5 * 7
        elif self.content == "flat":
            levels = levels[:, :, :1, :1].expand(self.shape)
        elif self.content == "ends":
            levels = levels // 128 * 255
        if self.dtype == torch.uint8:
            return levels.to(torch.uint8).contiguous()
        values = levels.float() / 255.0
        if self.content == "between":
            values = torch.rand(self.shape, generator=random)
        elif self.content == "wild":
            values = 3.0 * torch.randn(self.shape, generator=random)
            odd = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0, 1e-40, 3e38])
            values.view(-1)[:: 1 + levels[0, 0, 0, 0]] = odd[levels[0, 0, 0, -1] % len(odd)]
        return values.to(self.dtype).contiguous()


def laid(pixels: Tensor, layout: str, order: tuple[int, ...], axis: int) -> Tensor:
    """[B, C, H, W] in memory as the layout says; "expanded" keeps the first along the axis."""
    if layout == "channels_last":
        return pixels.contiguous(memory_format=torch.channels_last)
    if layout == "permuted":
        return pixels.permute(order).contiguous().permute([order.index(i) for i in range(4)])
    if layout == "expanded":
        return pixels.narrow(axis, 0, 1).contiguous().expand(pixels.shape)
    if layout == "sliced":
        b, c, h, w = pixels.shape
        place = pixels.new_full((b + 1, c, h + 3, 2 * w + 1), 1)[1:, :, 1:-2, 1::2]
        return place.copy_(pixels)
    return pixels


@dataclass
class Case:
    """A pipeline, and what it is called with.

    Attributes:
        replayed: the calls that `describe` names for the first sample are made by `gpuaug.functional`, too.
        large: outputs beyond the caches, for several threads; in Python's loops it would take minutes.
    """

    transforms: list[Any]
    seed: int
    memory_format: torch.memory_format
    inputs: list[Input]
    replayed: bool
    large: bool
    threads: int


@dataclass
class Canvas:
    """What the next op sees, and the random numbers that choose it."""

    random: Random
    channels: int
    height: int
    width: int
    lattice: bool
    least: int
    most: int
    images: int

    def one(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def chance(self, n: int) -> bool:
        """One in n."""
        return self.random.randrange(n) == 0

    def whole(self, low: int, high: int) -> int:
        """One in eight is an end."""
        return self.one(low, high) if self.chance(8) else self.random.randint(low, high)

    def real(self, low: float, high: float) -> float:
        """One in eight is an end."""
        return float(self.one(low, high)) if self.chance(8) else round(self.random.uniform(low, high), 4)

    def span(self, low: float, high: float) -> tuple[float, float]:
        return tuple(sorted((self.real(low, high), self.real(low, high))))

    def p(self) -> float:
        return self.one(0.5, 1.0, 0.8)

    def size(self) -> tuple[int, int]:
        return self.whole(self.least, self.most), self.whole(self.least, self.most)

    def level(self) -> float:
        return self.whole(0, 255) if self.lattice else self.real(0, 1)

    def colour(self) -> Any:
        return [self.level() for _ in range(self.channels)]

    def fill(self) -> Any:
        return self.one(0, self.level(), self.colour())

    def center(self) -> list[float] | None:
        return self.one(None, [self.real(0, self.width), self.real(0, self.height)])

    def become(self, size: tuple[int, int]) -> tuple[int, int]:
        self.height, self.width = size
        return size


# --- one function a kind: the op, drawn; `c` becomes what the next op sees --------------------------------------------
def jitter(c: Canvas) -> Any:
    spans = {name: c.span(0, 2.5) for name in ("brightness", "contrast", "saturation")} | {"hue": c.span(-0.5, 0.5)}
    chosen = c.random.sample(list(spans), c.one(1, 2, 4))
    return ga.ColorJitter(**{name: spans[name] for name in chosen})


def photometric(c: Canvas) -> Any:
    return ga.RandomPhotometricDistort(c.span(0.5, 1.5), c.span(0.3, 2), c.span(0, 2), c.span(-0.5, 0.5), c.p())


def gamma(c: Canvas) -> Any:
    return ga.RandomGamma(c.span(0.2, 3), gain=c.one(1.0, c.real(0.5, 2)), p=c.p())


def add_below(c: Canvas) -> Any:
    addition = c.whole(-60, 120) if c.lattice else c.real(-0.3, 0.5)
    return ga.SolarizeAdd(addition, c.one(None, c.level()), p=c.p())


def blur(c: Canvas) -> Any:
    kernel = [2 * c.whole(0, min(4, side - 1)) + 1 for side in (c.width, c.height)]
    return ga.GaussianBlur(kernel, c.one(c.real(0.1, 3), c.span(0.1, 3)))


def elastic(c: Canvas) -> Any:
    most = min(c.height, c.width) / 4 - 0.25  # a blur reaches four times its sigma
    sigma = c.real(0.05, min(most, 3)) if most > 0.05 else 0.0
    return ga.ElasticTransform(c.one(c.real(0, 60), (c.real(0, 60), c.real(0, 60))), sigma, c.one(*SMOOTH), c.fill())


def jpeg(c: Canvas) -> Any:
    return ga.JPEG(c.one(c.whole(1, 100), tuple(sorted((c.whole(1, 100), c.whole(1, 100))))))


def erase(c: Canvas) -> Any:
    noise = () if c.lattice else ("random", "channel")
    return ga.RandomErasing(c.p(), c.span(0.02, 0.6), c.span(0.3, 3), c.one(c.fill(), *noise))


def dropout(c: Canvas) -> Any:
    holes = c.one(c.whole(1, 3), tuple(sorted((c.whole(1, 4), c.whole(1, 4)))))
    if c.chance(2):
        return ga.CoarseDropout(holes, c.span(0.05, 0.6), c.real(0.05, 0.6), fill=c.fill(), p=c.p())
    return ga.CoarseDropout(holes, c.whole(1, 9), tuple(sorted((c.whole(1, 9), c.whole(1, 9)))), fill=c.fill(), p=c.p())


def grid(c: Canvas) -> Any:
    period = c.one(c.whole(2, 20), tuple(sorted((c.whole(2, 20), c.whole(2, 20)))))
    return ga.GridMask(period, c.real(0, 1), fill=c.fill(), p=c.p())


def noise(c: Canvas) -> Any:
    return ga.GaussianNoise(c.one(0.0, c.real(-0.3, 0.3)), c.real(0, 0.4), clip=c.lattice or c.one(True, False))


def salt(c: Canvas) -> Any:
    return ga.SaltAndPepper(c.one(c.real(0, 0.5), c.span(0, 0.5)), c.real(0, 1), p=c.p())


def normalize(c: Canvas) -> Any:
    if c.lattice:
        return ga.Identity()
    mean, std = ([c.real(-1, 1) for _ in range(c.channels)] for _ in range(2))
    return ga.Normalize(c.one(0.45, mean), [abs(s) + 0.05 for s in std] if c.chance(2) else 0.27)


def rotation(c: Canvas) -> Any:
    turn = c.one(c.real(0, 180), c.span(-180, 180), (90.0, 90.0))
    return ga.RandomRotation(turn, c.one(*SMOOTH), center=c.center(), fill=c.fill())


def affine(c: Canvas) -> Any:
    return ga.RandomAffine(
        c.real(0, 90),
        translate=c.one(None, (c.real(0, 0.5), c.real(0, 0.5))),
        scale=c.one(None, c.span(0.4, 2)),
        shear=c.one(None, c.real(0, 30), c.span(-40, 40), [*c.span(-30, 30), *c.span(-9, 9)]),
        interpolation=c.one(*SMOOTH),
        fill=c.fill(),
        center=c.center(),
    )


def perspective(c: Canvas) -> Any:
    return ga.RandomPerspective(c.real(0, 0.8), c.p(), c.one(*SMOOTH), fill=c.fill())


def resize(c: Canvas) -> Any:
    options = {"interpolation": c.one(*RESIZES), "antialias": c.one(True, False)}
    if not c.chance(4):
        return ga.Resize(c.become(c.size()), **options)
    size = c.whole(c.least, c.most)
    most = c.one(None, c.whole(size + 1, 2 * size + 1))
    sides = shorter(c.height, c.width, size, most)
    c.become(sides if c.height <= c.width else sides[::-1])
    return ga.Resize(size, max_size=most, **options)


def shorter(height: int, width: int, size: int, most: int | None) -> tuple[int, int]:
    """The shorter and the longer side that Resize(size, max_size=most) makes."""
    long = size * max(height, width) // min(height, width)
    return (most * size // long, most) if most and most < long else (size, long)


def resized_crop(c: Canvas) -> Any:
    options = {"interpolation": c.one(*RESIZES), "antialias": c.one(True, False)}
    return ga.RandomResizedCrop(c.become(c.size()), c.span(0.05, 1), c.span(0.5, 2), **options)


def center_crop(c: Canvas) -> Any:
    return ga.CenterCrop(c.become(c.size()))


def padding(c: Canvas) -> tuple[Any, dict[str, Any]]:
    """1, 2 or 4 numbers and a mode; the canvas grows."""
    mode, most = c.one(*PADDINGS), min(6, c.height - 1, c.width - 1)
    sides = [c.whole(0, most) for _ in range(c.one(1, 2, 4))]
    left, top, right, bottom = (sides * 4)[:4]
    fill = c.fill() if mode == "constant" else 0
    c.become((c.height + top + bottom, c.width + left + right))
    return (sides[0] if len(sides) == 1 else sides), {"fill": fill, "padding_mode": mode}


def pad(c: Canvas) -> Any:
    sides, options = padding(c)
    return ga.Pad(sides, **options)


def crop(c: Canvas) -> Any:
    if c.chance(3):
        return ga.RandomCrop(c.become(c.size()), pad_if_needed=True, fill=c.fill())
    sides, options = padding(c) if c.chance(2) else (None, {})
    height, width = c.size()
    return ga.RandomCrop(c.become((min(c.height, height), min(c.width, width))), padding=sides, **options)


def policy(c: Canvas) -> Any:
    options = {"interpolation": c.one(*SMOOTH), "fill": c.one(None, c.fill())}
    bins = c.whole(2, 31)
    kind = c.whole(0, 3)
    if kind == 0:
        return ga.RandAugment(c.one(1, 2, 2, 3), c.whole(0, bins - 1), bins, **options)
    if kind == 1:
        return ga.TrivialAugmentWide(bins, **options)
    if kind == 2:
        return ga.AutoAugment(c.one("imagenet", "cifar10", "svhn"), **options)
    return ga.timm_augment(c.one(*[name for name in TIMM if "3a" not in name or min(c.height, c.width) > 6]), **options)


def nested(c: Canvas) -> Any:
    return ga.Compose([keeping(c) for _ in range(c.whole(0, 3))], seed=c.whole(0, 9))


def container(c: Canvas) -> Any:
    """RandomApply, RandomChoice or RandomOrder of ops that keep the size, with others inside of them now and then."""
    kind = c.one("apply", "choice", "order")
    children = [container(c) if c.chance(8) else keeping(c) for _ in range(c.whole(1, 3))]
    if kind == "apply":
        return ga.RandomApply(children, p=c.p())
    if kind == "order":
        return ga.RandomOrder(children)
    return ga.RandomChoice(children, p=c.one(None, [c.real(0.125, 1) for _ in children]))


def uncertain(c: Canvas) -> Any:
    """Sizes that depend on the draw, until an op of a fixed size."""
    before, sizes, children = (c.height, c.width), [], []
    for _ in range(c.whole(1, 3)):
        c.become(before)
        children.append(c.one(resize, pad, crop, center_crop, resized_crop)(c))
        sizes.append((c.height, c.width))
    chosen = ga.RandomApply(children[:1], p=c.p()) if c.chance(2) else ga.RandomChoice(children)
    heights, widths = zip(before, *sizes, strict=True)
    c.become((min(heights), min(widths)))
    between = [keeping(c) for _ in range(c.whole(0, 2))]
    last = c.one(ga.Resize, ga.CenterCrop, ga.RandomResizedCrop)(c.become(c.size()))
    return ga.Compose([chosen, *between, last], seed=0)


def to_dtype(c: Canvas) -> Any:
    dtype = c.one(*DTYPES)
    c.lattice = dtype == torch.uint8
    return ga.ToDtype(dtype, scale=c.chance(8) is False)


def either_dtype(c: Canvas) -> Any:
    """The dtype changes in each of two branches."""
    dtype, ops = c.one(*DTYPES), [keeping(c), keeping(c)]
    c.lattice = dtype == torch.uint8
    return ga.RandomChoice([ga.Compose([op, ga.ToDtype(dtype, scale=True)], seed=0) for op in ops])


def grayscale(c: Canvas) -> Any:
    c.channels = c.one(1, 3)
    return ga.Grayscale(c.channels)


Kind = Callable[[Canvas], Any]
WARPS: list[Kind] = [
    lambda c: ga.RandomHorizontalFlip(c.p()),
    lambda c: ga.RandomVerticalFlip(c.p()),
    *[rotation, affine, affine, perspective, elastic],
]
PIXELS: list[Kind] = [  # of any number of channels
    lambda c: ga.RandomInvert(c.p()),
    lambda c: ga.RandomPosterize(c.whole(0, 8), p=c.p()),
    lambda c: ga.RandomSolarize(c.level(), p=c.p()),
    lambda c: fade(amount=c.span(-1, 1), p=c.p()),
    lambda c: c.one(ga.Identity, ga.ToImage, ga.ToPureTensor)(),
    *[add_below, gamma, blur, erase, dropout, grid, noise, salt, normalize],
]
COLOURS: list[Kind] = [  # of 1 or 3
    lambda c: ga.RandomGrayscale(c.p()),
    lambda c: ga.RandomAutocontrast(c.p()),
    lambda c: ga.RandomEqualize(c.p()),
    lambda c: ga.RandomAdjustSharpness(c.one(0.0, 0.5, 2.0, c.real(0, 3)), p=c.p()),
    lambda c: vignette(strength=c.span(0, 2), p=c.p()),
    lambda c: ga.RandomChannelPermutation(),
    *[jitter, jitter, photometric, policy, policy, jpeg],
]
SIZES: list[Kind] = [resize, resized_crop, center_crop, crop, pad]


def keeping(c: Canvas) -> Any:
    """An op that keeps size, dtype and channels."""
    kinds = c.one(WARPS, PIXELS, COLOURS if c.channels in (1, 3) else PIXELS)
    return nested(c) if c.chance(24) else c.one(*kinds)(c)


def any_op(c: Canvas) -> Any:
    chosen = c.random.random()
    if chosen < 0.22:
        return c.one(*SIZES)(c)
    if chosen < 0.34:
        return container(c)
    if chosen < 0.42:
        return c.one(to_dtype, to_dtype, either_dtype, uncertain, uncertain)(c)
    if chosen < 0.45 and c.channels in (1, 3):
        return grayscale(c)
    return keeping(c)


def ending(c: Canvas) -> list[Any]:
    """What stands last. The cpu engine compiles a store for each two pointwise ops that can: few, but for one in 20."""
    if c.chance(20):
        return []
    if c.chance(3):
        return [ga.RandomHorizontalFlip()]
    if c.lattice and c.chance(2):
        return [ga.RandomResizedCrop(c.become(c.size()))]
    dtype = c.one(*DTYPES[1:])
    last = [ga.ToDtype(dtype, scale=True)] if c.lattice or c.chance(2) else []
    c.lattice = False
    return [ga.RandomVerticalFlip(), *last, ga.Normalize(0.4, 0.3)]


def input_of(c: Canvas, dtype: torch.dtype, large: bool) -> Input:
    """Images of what `c` is at first."""
    single = c.chance(10)
    b = 1 if single else c.one(64, 96) if large else c.whole(1, c.images)
    draws = c.random
    many = [draws.randrange(-(2**63), 2**63) for _ in range(b)]
    first = draws.randrange(10**6)
    ids = c.one(range(first, first + b), [abs(i) for i in many], torch.tensor(many), list(range(b)))
    return Input(
        shape=(b, c.channels, c.height, c.width),
        single=single,
        dtype=dtype,
        content=c.one(*CONTENTS),
        layout=c.one(*LAYOUTS),
        order=tuple(draws.sample(range(4), 4)),
        axis=draws.randrange(4),
        seed=draws.randrange(2**31),
        ids=ids,
        epoch=c.one(0, draws.randrange(100), draws.randrange(2**32)),
        counted=c.chance(8),
        grad=dtype != torch.uint8 and c.chance(12),
        out=c.one(*LAYOUTS[:4]) if c.chance(8) else None,
    )


def case_of(seed: int, number: int, tiny: bool = False) -> Case:
    """The case of that number; `tiny` ones are for the interpreter.

    Raises:
        Exception: an op that cannot be made, with what it says.
    """
    random = Random(f"{seed} {number}")
    large = not tiny and number % LARGE == LARGE - 1
    least, most = (8, 14) if tiny else (100, 230) if large else (8, 40)
    if not large and random.randrange(16) == 0:
        least = 2
    dtype, channels = random.choice(DTYPES), random.choice([3] * 7 + [1] * 3 + [2, 4, 7])
    c = Canvas(random, channels, 0, 0, dtype == torch.uint8, least, most, 2 if tiny else 5)
    size = c.become(c.size())
    inputs = [input_of(c, dtype, large)]
    while c.chance(6) and len(inputs) < 3:
        c.become(size if c.chance(2) else c.size())
        inputs.append(input_of(c, dtype, large))
    c.become(size)
    transforms = [any_op(c) for _ in range(c.one(1, 2) if tiny else c.whole(1, 5))]
    return Case(
        transforms=[*transforms, *ending(c)],
        seed=random.randrange(2**64),
        memory_format=c.one(*FORMATS),
        inputs=inputs,
        replayed=c.chance(10),
        large=large,
        threads=2 if large else 1,
    )
