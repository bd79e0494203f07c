"""What a pixel must know of the whole image, for all rows at once, in torch: statistics, tables, neighbours.

Images are [R, C, Y, X] float32; `inside` [R, Y, X] tells which pixels a row's own canvas has, None for all; `stage` is
(bound, lattice, channels), each a number or [R, 1, 1]; `p` the eight arguments of an op, each [R, 1, 1]. No result
depends on the other rows or on the pixels outside: sums over an image add halves to each other.
"""

import torch

from ..shared import geometry, pixel
from .dialect import GEOMETRY, PIXEL
from .jpeg import compressed
from .sample import deep, grid, whole

LEVELS = 256


def colour(image: torch.Tensor, t: int = 0) -> list[torch.Tensor]:
    """The t-th three channels [R, Y, X]; the last one stands for those that are missing."""
    return [image[:, min(3 * t + i, image.shape[1] - 1)] for i in range(3)]


def halving_sum(v: torch.Tensor) -> torch.Tensor:
    """Sums [R] of [R, Y, X] by adding halves of a power of two: the same bits for any R and any padding with zeros."""
    for axis in (1, 2):
        while (n := v.shape[axis]) > 1:
            half = 1 << (n - 1).bit_length() - 1
            alone = v.narrow(axis, n - half, 2 * half - n)
            v = v.narrow(axis, 0, n - half) + v.narrow(axis, half, n - half)
            v = torch.cat((v, alone), axis) if n < 2 * half else v
    return v[:, 0, 0]


def mean_grey(image: torch.Tensor, inside, stage, pixels: torch.Tensor) -> torch.Tensor:
    """The mean of `pixel.luma` over a row's `pixels` [R, 1, 1] pixels, [R, 1]."""
    grey = PIXEL["luma"](*colour(image), stage.lattice, stage.channels)
    if inside is not None:
        grey = torch.where(inside, grey, 0.0)
    return halving_sum(grey)[:, None] / pixels[:, 0].clamp(min=1.0)


def extremes(image: torch.Tensor, inside) -> torch.Tensor:
    """Each channel's least value, then each one's greatest, NaN left out, for three channels [R, 6]."""
    known = ~image.isnan() if inside is None else inside[:, None] & ~image.isnan()
    low, high = (torch.where(known, image, end) for end in (float("inf"), -float("inf")))
    return torch.cat([low.amin((2, 3)).expand(-1, 3), high.amax((2, 3)).expand(-1, 3)], 1)


def levels(image: torch.Tensor, lattice) -> torch.Tensor:
    """`pixel.level_of` as an index, int64."""
    return PIXEL["level_of"](image.detach(), deep(lattice)).long()


@torch.no_grad()
def equalize_table(image: torch.Tensor, inside, lattice) -> torch.Tensor:
    """What equalize makes of each level of each channel, int64 [R, C, 256]."""
    index = levels(image, lattice)
    if inside is not None:
        index = torch.where(inside[:, None], index, LEVELS)  # what lies outside is counted beyond the last level
    index = index.flatten(2)
    counts = torch.zeros((*index.shape[:2], LEVELS + 1), dtype=torch.int64, device=image.device)
    counts = counts.scatter_add_(2, index, torch.ones_like(index))[..., :LEVELS]
    level = torch.arange(LEVELS, device=image.device)
    brightest = torch.where(counts > 0, level, 0).amax(2, keepdim=True)
    step = (counts.sum(2, keepdim=True) - counts.gather(2, brightest)) // 255
    return PIXEL["equalized"](level, counts.cumsum(2) - counts, step)


def equalize(image: torch.Tensor, table: torch.Tensor, lattice) -> torch.Tensor:
    """The table [R, C, 256] looked up."""
    index = levels(image, lattice)
    return PIXEL["of_level"](table.gather(2, index.flatten(2)).view_as(index).float(), deep(lattice))


def neighbourhood(op: int, image: torch.Tensor, p, stage, height, width, radii: dict[int, int]) -> torch.Tensor:
    """SHARPNESS, BLUR_X, BLUR_Y or JPEG of images whose canvas is `height` x `width` [R, 1, 1] at the upper left.

    Args:
        radii: the most that each blur reaches.
    """
    if op == pixel.JPEG:
        return compressed(image, p[0], stage, height, width)
    p, (bound, lattice, _) = [v[:, None] for v in p], map(deep, stage)
    if op == pixel.SHARPNESS:
        value = PIXEL["sharpen"](image, around(image), p, bound, lattice)
        x, y = grid(image.shape[2:], image.device)
        inner = (x > 0.0) & (y > 0.0) & (x < width - 1.0) & (y < height - 1.0)
        edge = PIXEL["sharpen_edge"](image, height[:, None], width[:, None], bound, lattice)
        return torch.where(inner[:, None], value, edge)
    axis, length = (3, width) if op == pixel.BLUR_X else (2, height)
    return PIXEL["blurred"](blur(image, p, axis, length[:, 0], radii[op]), p, bound, lattice)


def around(image: torch.Tensor) -> torch.Tensor:
    """The sum of the eight neighbours; 0 stands for those outside."""
    height, width = image.shape[2:]
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1))
    tall = sum(padded[:, :, k : k + height] for k in range(3))
    return sum(tall[..., k : k + width] for k in range(3)) - image


def blur(image: torch.Tensor, p, axis: int, length: torch.Tensor, radius: int) -> torch.Tensor:
    """The mean of the pixels up to p[1] away along an axis by `pixel.blur_weight`, the canvas, `length` [R, 1] long,
    reflected."""
    n = image.shape[axis]
    at = torch.arange(-radius, n + radius, device=image.device, dtype=torch.float32)[None]
    at = whole(GEOMETRY["fold"](at, 0.0, length - 1.0, geometry.REFLECT), torch.full_like(length, n - 1).long())
    shape = [len(image), 1, 1, 1]
    shape[axis] = n + 2 * radius
    size = [*image.shape]
    size[axis] = n + 2 * radius
    padded = image.gather(axis, at.view(shape).expand(size))
    weights = [torch.where(p[1] >= k, PIXEL["blur_weight"](float(k), p), 0.0) for k in range(radius + 1)]
    total = weights[0] + 2.0 * sum(weights[1:])
    value = padded.narrow(axis, radius, n) * (weights[0] / total)
    for k in range(1, radius + 1):
        both = padded.narrow(axis, radius - k, n) + padded.narrow(axis, radius + k, n)
        value = torch.addcmul(value, both, weights[k] / total)
    return value
