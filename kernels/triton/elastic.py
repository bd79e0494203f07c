"""Elastic transforms on Triton: two asks keep what moves an image behind its channels, and a story reads what is moved.

The first ask keeps the noise, the second what is left of it by the blur along x; the one along y is the story's.
"""

import sys

import triton.language as tl

from ..shared.elastic import blur_radius, cut_weight, drift, landing, settled, smooth_kind
from ..shared.geometry import CUBIC, first_tap, reach, weight
from ..shared.pixel import ELASTIC, ELASTIC_NOISE
from . import dialect
from .pixels import mirrored, offset, read


def blurred_drift(o_drift, i_x, i_y, h, w, p, DOWN: tl.constexpr, CAN: tl.constexpr):
    """What moves pixels along x and y, of two planes h x w, blurred along y if DOWN, else along x."""
    radius_x, radius_y = blur_radius(p[2]), blur_radius(p[3])
    area, n_taps = h.to(tl.int64) * w, tl.maximum(radius_x, radius_y).to(tl.int32) + 1
    by_x, by_y = i_x.to(tl.float32) * 0.0, i_x.to(tl.float32) * 0.0
    sum_x, sum_y = p[0] * 0.0, p[0] * 0.0
    i_tap = 1 - n_taps
    while i_tap < n_taps:
        k = i_tap.to(tl.float32)
        if DOWN:
            wx, wy = cut_weight(k, p[3], radius_x), cut_weight(k, p[3], radius_y)
            o_pixel = offset(i_x, mirrored(i_y + i_tap, h), 1, w, CAN)
        else:
            wx, wy = cut_weight(k, p[2], radius_x), cut_weight(k, p[2], radius_y)
            o_pixel = offset(mirrored(i_x + i_tap, w), i_y, 1, w, CAN)
        by_x += wx * tl.load(o_drift + o_pixel)
        by_y += wy * tl.load(o_drift + area + o_pixel)
        sum_x += wx
        sum_y += wy
        i_tap += 1
    return by_x / sum_x, by_y / sum_y


def keep_drift(o_kept, scratch, op, p, i_x, i_y, h, w, m_pixel, CAN: tl.constexpr):
    """Keep what moves the pixels of a tile of an image h x w, for the noise of which or for what `scratch` holds of it
    the step asks whose opcode and arguments are given."""
    area = h.to(tl.int64) * w
    o_pixel = o_kept + CAN.channels * area + offset(i_x, i_y, 1, w, CAN)
    if op == ELASTIC_NOISE:
        by_x, by_y = drift(i_x.to(tl.float32), i_y.to(tl.float32), p)
        tl.store(o_pixel, by_x, mask=m_pixel)
        tl.store(o_pixel + area, by_y, mask=m_pixel)
    if op == ELASTIC:
        by_x, by_y = blurred_drift(scratch + CAN.channels * area, i_x, i_y, h, w, p, False, CAN)
        tl.store(o_pixel, by_x, mask=m_pixel)
        tl.store(o_pixel + area, by_y, mask=m_pixel)


def one_tap(c, i_tap, n, kind):
    """A tap along an axis of n pixels about coordinate c: its pixel, and its weight, 0 outside."""
    tap = first_tap(c, reach(kind)) + i_tap.to(tl.float32)
    m_in = (tap >= 0.0) & (tap < n)
    i_pixel = tl.minimum(tl.maximum(tap, 0.0), n - 1.0).to(tl.int32)
    return i_pixel, tl.where(m_in, weight(tap - c, kind), 0.0)


def elastic_colour(scratch, i_x, i_y, h, w, p, bound, lattice, i_channel, CAN: tl.constexpr):
    """The colour that the second step leaves at pixels, of what two asks have kept."""
    area = h.to(tl.int64) * w
    by_x, by_y = blurred_drift(scratch + CAN.channels * area, i_x, i_y, h, w, p, True, CAN)
    wide, tall, kind = w.to(tl.float32), h.to(tl.float32), smooth_kind(p[4])
    cx = landing(i_x.to(tl.float32), by_x, p[0], wide, p[4])
    cy = landing(i_y.to(tl.float32), by_y, p[1], tall, p[4])
    n_taps = tl.where(kind == CUBIC, 4, 2)
    strides = (area, w, tl.full((), 1, tl.int32))
    sum_r = by_x * 0.0
    sum_g, sum_b, cover = sum_r, sum_r, sum_r
    i_tap = n_taps * 0
    while i_tap < n_taps * n_taps:
        x, wx = one_tap(cx, i_tap % n_taps, wide, kind)
        y, wy = one_tap(cy, i_tap // n_taps, tall, kind)
        r, g, b = read(scratch, strides, x, y, i_channel, CAN)
        k = wx * wy
        sum_r += k * r
        sum_g += k * g
        sum_b += k * b
        cover += k
        i_tap += 1
    r = settled(sum_r + p[5] * (1.0 - cover), bound, lattice)
    g = settled(sum_g + p[6] * (1.0 - cover), bound, lattice)
    b = settled(sum_b + p[7] * (1.0 - cover), bound, lattice)
    return r, g, b


dialect.bind_module(sys.modules[__name__])  # for those that import it
