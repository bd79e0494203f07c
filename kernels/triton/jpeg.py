"""JPEG on Triton: an ask puts its tiles, of whole blocks of luma and chroma, through it, and a story reads the planes.

What is kept of an image h x w: luma where its first channel would lie; chroma at half the resolution, lines w apart,
where its second and third begin. A tile of pixels is one-dimensional, line by line.
"""

import sys

import triton.language as tl

from ..shared.jpeg import (
    BACK_COLUMNS_SHIFT,
    BACK_LINES_SHIFT,
    BASIS,
    CHROMA,
    COLUMNS_SHIFT,
    LINES_SHIFT,
    LUMA,
    MIDDLE,
    NARROW,
    blue_of,
    colour_of,
    divisor,
    luma_of,
    mean_of_four,
    quantised,
    red_of,
    restored,
    scale_of,
    upsampled,
)
from ..shared.pixel import level_of, of_level
from . import dialect


def table(VALUES: tl.constexpr):
    """Sixty-four numbers as a tile [8, 8]."""
    i_value = tl.arange(0, 64)
    v = i_value * 0
    for k in tl.static_range(64):
        v = tl.where(i_value == k, VALUES[k], v)
    return tl.reshape(v, (8, 8))


def tables(quality):
    """The basis, and the divisors of luma and chroma by frequency along lines, then along columns."""
    scale = scale_of(quality)
    b_luma = divisor(tl.trans(table(LUMA)).to(tl.float32), scale)
    return table(BASIS), b_luma, divisor(tl.trans(table(CHROMA)).to(tl.float32), scale)


def transform(v, basis, SHIFT: tl.constexpr):
    """Sums [n, 8] over the basis [8, 8] of numbers [n, 8], divided by 2^SHIFT and rounded half up."""
    return ((tl.sum(v[:, None, :] * basis[None, :, :], axis=2) >> (SHIFT - 1)) + 1) >> 1


def repeating(basis, i_last):
    """The basis where all pixels behind pixel `i_last` are the same as it."""
    i = tl.arange(0, 8)
    m_taken = tl.minimum(i, i_last)[:, None] == i[None, :]
    return tl.sum(basis[:, :, None] * m_taken.to(tl.int32)[None, :, :], axis=1)


def blocks(v, basis, b_down, b_divisor, LINES: tl.constexpr, N: tl.constexpr):
    """A tile of levels, LINES times N blocks, through the DCT, the divisors, and the inverse DCT; `b_down` is the basis
    along columns on the way there."""
    v = tl.reshape((v - MIDDLE).to(tl.int32), (LINES * 8 * N, 8))
    v = tl.reshape(transform(v, basis, LINES_SHIFT), (LINES, 8, N, 8))
    v = tl.reshape(tl.permute(v, (0, 2, 3, 1)), (LINES * N * 8, 8))
    v = tl.reshape(transform(v, b_down, COLUMNS_SHIFT), (LINES * N, 8, 8))
    v = quantised(v.to(tl.float32), b_divisor[None, :, :]).to(tl.int32)
    b_back = tl.trans(basis)
    v = transform(tl.reshape(v, (LINES * N * 8, 8)), b_back, BACK_COLUMNS_SHIFT)
    v = tl.permute(tl.reshape(v, (LINES, N, 8, 8)), (0, 3, 1, 2))
    v = transform(tl.reshape(v, (LINES * 8 * N, 8)), b_back, BACK_LINES_SHIFT)
    return restored(tl.reshape(v, (LINES * 8 * N * 8,)).to(tl.float32))


def halved(v, TILE_H: tl.constexpr, TILE_W: tl.constexpr):
    """The chroma of each four pixels."""
    v = tl.sum(tl.sum(tl.reshape(v, (TILE_H // 2, 2, TILE_W // 2, 2)), axis=3), axis=1)
    v = tl.reshape(v, (TILE_H * TILE_W // 4,))
    return mean_of_four(v, (tl.arange(0, TILE_H * TILE_W // 4) % 2).to(tl.float32))


def keep_plane(o_plane, v, known, i_x, i_y, h, w, pitch, TILE_H: tl.constexpr, TILE_W: tl.constexpr):
    """Keep what JPEG makes of a tile of a plane h x w, its corner at column i_x and line i_y. `known`: as `blocks`."""
    v = blocks(v, *known, TILE_H // 8, TILE_W // 8)
    i_pixel = tl.arange(0, TILE_H * TILE_W)
    i_x, i_y = i_x + i_pixel % TILE_W, i_y + i_pixel // TILE_W
    o_pixel = o_plane + i_y.to(tl.int64) * pitch + i_x
    tl.store(o_pixel, v.to(o_plane.dtype.element_ty), mask=(i_x < w) & (i_y < h))


def keep_jpeg(
    o_kept,
    rgb,
    quality,
    corner,
    size,
    lattice,
    channels,
    TILE_H: tl.constexpr,
    TILE_W: tl.constexpr,
    CAN: tl.constexpr,
):
    """Keep what JPEG makes of a tile, whole blocks of chroma, of an image of `size`; what lies outside of the image
    repeats its last line and column."""
    x_tile, y_tile = corner
    h, w = size
    r, g, b = level_of(rgb[0], lattice), level_of(rgb[1], lattice), level_of(rgb[2], lattice)
    basis, b_luma, b_chroma = tables(quality)
    v = r
    if CAN.channels > 1:
        v = tl.where(channels == 1.0, r, luma_of(r, g, b))
    keep_plane(o_kept, v, (basis, basis, b_luma), x_tile, y_tile, h, w, w, TILE_H, TILE_W)
    if CAN.channels > 1:
        if channels > 1.0:
            blue, red = halved(blue_of(r, g, b), TILE_H, TILE_W), halved(red_of(r, g, b), TILE_H, TILE_W)
            half_h, half_w, area = (h + 1) // 2, (w + 1) // 2, h.to(tl.int64) * w
            x_half, y_half = x_tile // 2, y_tile // 2
            half = (basis, repeating(basis, half_h - 1 - y_half), b_chroma)
            o_blue, o_red = o_kept + area, o_kept + 2 * area
            keep_plane(o_blue, blue, half, x_half, y_half, half_h, half_w, w, TILE_H // 2, TILE_W // 2)
            keep_plane(o_red, red, half, x_half, y_half, half_h, half_w, w, TILE_H // 2, TILE_W // 2)


def half_pixel(i, n):
    """The nearest two columns of chroma, or lines, to column i of n; the same one twice where there is no other."""
    i_near, i_last = i // 2, (n + 1) // 2 - 1
    i_far = tl.minimum(tl.maximum(i_near + i % 2 * 2 - 1, 0), i_last)
    return i_near, i_far


def chroma_at(o_plane, i_near, i_far, o_near, o_far, odd):
    """A chroma at pixels, of the two columns and the two lines next to them."""
    near = 3.0 * tl.load(o_plane + (o_near + i_near)).to(tl.float32) + tl.load(o_plane + (o_far + i_near)).to(
        tl.float32
    )
    far = 3.0 * tl.load(o_plane + (o_near + i_far)).to(tl.float32) + tl.load(o_plane + (o_far + i_far)).to(tl.float32)
    return upsampled(near, far, odd)


def jpeg_colour(o_kept, i_x, i_y, h, w, lattice, channels, CAN: tl.constexpr):
    """The colour of pixels of an image that was kept by `keep_jpeg`."""
    r = tl.load(o_kept + (i_y.to(tl.int64) * w + i_x)).to(tl.float32)
    g, b = r, r
    if CAN.channels > 1:
        if channels > 1.0:
            area, odd = h.to(tl.int64) * w, (i_x % 2).to(tl.float32)
            x_near, x_far = half_pixel(i_x, w)
            y_near, y_far = half_pixel(i_y, h)
            wide = (w + 1) // 2 > NARROW
            x_far, y_far = tl.where(wide, x_far, x_near), tl.where(wide, y_far, y_near)
            o_near, o_far = y_near.to(tl.int64) * w, y_far.to(tl.int64) * w
            blue = chroma_at(o_kept + area, x_near, x_far, o_near, o_far, odd)
            red = chroma_at(o_kept + 2 * area, x_near, x_far, o_near, o_far, odd)
            r, g, b = colour_of(r, blue, red)
    return of_level(r, lattice), of_level(g, lattice), of_level(b, lattice)


dialect.bind_module(sys.modules[__name__])  # for those that import it
