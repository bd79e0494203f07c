"""Reading pixels of images in memory."""

import sys

import triton.language as tl

from . import dialect


def second_third(i_channel, CAN: tl.constexpr):
    """The other two channels of a triple; the last one again where there are fewer."""
    return tl.minimum(i_channel + 1, CAN.channels - 1), tl.minimum(i_channel + 2, CAN.channels - 1)


def offset(i_x, i_y, stride_x, stride_y, CAN: tl.constexpr):
    """Of pixels of one channel, in elements."""
    if CAN.wide:
        o_pixel = i_y.to(tl.int64) * stride_y + i_x.to(tl.int64) * stride_x
    else:
        o_pixel = i_y * stride_y + i_x * stride_x
    return o_pixel


def read(source, strides, i_x, i_y, i_channel, CAN: tl.constexpr):
    """The colour of pixels of an image with strides C, Y, X."""
    stride_c, stride_y, stride_x = strides
    o_pixel = offset(i_x, i_y, stride_x, stride_y, CAN)
    r = tl.load(source + i_channel * stride_c + o_pixel).to(tl.float32)
    g, b = r, r
    if CAN.channels > 1:
        i_second, i_third = second_third(i_channel, CAN)
        g = tl.load(source + i_second * stride_c + o_pixel).to(tl.float32)
        b = tl.load(source + i_third * stride_c + o_pixel).to(tl.float32)
    return r, g, b


def mirrored(i, n):
    """The pixel of 0 .. n - 1 that stands for pixel i, less than n away: the border is not repeated."""
    return tl.maximum(n - 1 - tl.abs(n - 1 - tl.abs(i)), 0)


dialect.bind_module(sys.modules[__name__])  # for those that import it
