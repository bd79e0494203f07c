"""JPEG for all rows at once, in torch. The DCT's sums are of whole numbers, in int32."""

import functools

import torch

from ..shared import jpeg
from ..shared.jpeg import BACK_COLUMNS_SHIFT, BACK_LINES_SHIFT, BLOCK, COLUMNS_SHIFT, LINES_SHIFT, MCU, NARROW
from .dialect import JPEG, PIXEL
from .sample import deep, grid

FORTH, BACK = 1, 0  # the axis of the basis that is summed over


@functools.lru_cache(maxsize=16)
def constants(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The basis, int32 [8, 8], and the standard divisors of luma and chroma, float32 [2, 8, 8]."""
    basis = torch.tensor(jpeg.BASIS, dtype=torch.int32, device=device)
    tables = torch.tensor([jpeg.LUMA, jpeg.CHROMA], dtype=torch.float32, device=device)
    return basis.view(BLOCK, BLOCK), tables.view(2, BLOCK, BLOCK)


def transform(v: torch.Tensor, axis: int, way: int, shift: int) -> torch.Tensor:
    """The sums over one axis of blocks, int32, divided by 2^shift and rounded half up."""
    basis = constants(v.device)[0].unbind(way)
    shape = [1] * v.dim()
    shape[axis] = BLOCK
    total = sum(v.narrow(axis, i, 1) * basis[i].view(shape) for i in range(BLOCK))
    return (total + (1 << (shift - 1))) >> shift


def blocks(plane: torch.Tensor, divisors: torch.Tensor) -> torch.Tensor:
    """Planes [R, Y, X] of whole blocks through the DCT, the divisors [R, 1, 8, 1, 8], and the inverse DCT."""
    r, height, width = plane.shape
    v = (plane - jpeg.MIDDLE).to(torch.int32).view(r, height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    v = transform(transform(v, 4, FORTH, LINES_SHIFT), 2, FORTH, COLUMNS_SHIFT)
    v = JPEG["quantised"](v.float(), divisors).to(torch.int32)
    v = transform(transform(v, 2, BACK, BACK_COLUMNS_SHIFT), 4, BACK, BACK_LINES_SHIFT)
    return JPEG["restored"](v.float()).view(r, height, width)


def at(plane: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """A plane [R, Y, X] at columns [R, 1, X'] and lines [R, Y', 1]."""
    lines = plane.gather(1, y.long().expand(-1, -1, plane.shape[2]))
    return lines.gather(2, x.long().expand(-1, lines.shape[1], -1))


def halved(plane: torch.Tensor, lines: torch.Tensor) -> torch.Tensor:
    """A chroma of each four pixels, the last of `lines` [R, 1, 1] repeated."""
    total = sum(plane[:, i::2, j::2] for i in (0, 1) for j in (0, 1))
    x, y = grid(total.shape[1:], plane.device)
    half = JPEG["mean_of_four"](total, x % 2.0)
    return at(half, x.expand(len(half), -1, -1), torch.minimum(y, lines - 1.0))


def doubled(plane: torch.Tensor, size: torch.Size, height: torch.Tensor, width: torch.Tensor) -> torch.Tensor:
    """A chroma of `height` x `width` [R, 1, 1] at each pixel of planes of twice that size."""
    x, y = (v.expand(len(plane), -1, -1) for v in grid(size, plane.device))
    odd_x, odd_y, right, bottom = x % 2.0, y % 2.0, width - 1.0, height - 1.0
    near = torch.minimum((x - odd_x) / 2.0, right), torch.minimum((y - odd_y) / 2.0, bottom)
    far_x = torch.minimum((near[0] + 2.0 * odd_x - 1.0).clamp(min=0.0), right)
    far_y = torch.minimum((near[1] + 2.0 * odd_y - 1.0).clamp(min=0.0), bottom)
    columns = [3.0 * at(plane, x, near[1]) + at(plane, x, far_y) for x in (near[0], far_x)]
    return torch.where(width <= NARROW, at(plane, *near), JPEG["upsampled"](*columns, odd_x))


def in_colour(r, g, b, divisors, height, width) -> torch.Tensor:
    """Planes [R, Y, X] of whole blocks through JPEG, as [R, 3, Y, X]."""
    height, width = (torch.floor((n + 1.0) / 2.0) for n in (height, width))
    luma = blocks(JPEG["luma_of"](r, g, b), divisors[0])
    chroma = [halved(JPEG[name](r, g, b), height) for name in ("blue_of", "red_of")]
    chroma = [doubled(blocks(c, divisors[1]), luma.shape[1:], height, width) for c in chroma]
    return torch.stack(JPEG["colour_of"](luma, *chroma), 1)


@torch.no_grad()
def compressed(image: torch.Tensor, quality: torch.Tensor, stage, height, width) -> torch.Tensor:
    """What JPEG makes of images [R, C, Y, X] whose canvas is `height` x `width` [R, 1, 1] at the upper left, at a
    quality [R, 1, 1]."""
    lattice, channels, (rows, c, *size) = deep(stage.lattice), deep(stage.channels), image.shape
    height, width = height.clamp(min=1.0), width.clamp(min=1.0)  # of a row that does not ask, 0
    x, y = (v.expand(rows, -1, -1) for v in grid([-(-n // MCU) * MCU for n in size], image.device))
    x, y = torch.minimum(x, width - 1.0), torch.minimum(y, height - 1.0)
    planes = [at(plane, x, y) for plane in PIXEL["level_of"](image, lattice).unbind(1)]
    scale = JPEG["scale_of"](quality)[:, :, None, None]
    divisors = [JPEG["divisor"](table[None, None, :, None], scale) for table in constants(image.device)[1]]
    if c == 1 or stage.channels == 1.0:
        result = blocks(planes[0], divisors[0])[:, None].expand(-1, c, -1, -1)
    else:
        result = in_colour(*planes, divisors, height, width)
        if isinstance(channels, torch.Tensor):
            result = torch.where(channels == 1.0, blocks(planes[0], divisors[0])[:, None], result)
    return PIXEL["of_level"](result[:, :, : size[0], : size[1]], lattice)
