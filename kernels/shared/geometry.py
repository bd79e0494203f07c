"""Geometry: what a slot does to coordinates, seen from its output.

A coordinate is a pixel's index as float32, so pixel i covers [i - 0.5, i + 0.5]. A geometry function takes

- `a`: twelve floats, the op's arguments (drawn ones first);
- `h, w`: its input canvas in pixels;

and returns seventeen floats: the matrix that takes an output coordinate (x, y, 1) to input coordinates, row by row
(nine); the input window that may be read, x low, x high, y low, y high, inclusive (four); the widths x, y of the
resampling filter in input pixels, 1 without antialias (two); the output canvas h, w (two).
"""

TIE = 0.000244140625

# How a coordinate outside of the window is answered.
FILL = 0
EDGE = 1
REFLECT = 2
SYMMETRIC = 3
DROP = 4

# How the input is read at a coordinate between pixels.
NEAREST = 0
LINEAR = 1
CUBIC = 2
CUBIC_AA = 3
LANCZOS = 4


def axis_aligned(mx, tx, my, ty, h, w, fx, fy, oh, ow):
    """The map x_in = mx x + tx, y_in = my y + ty over the whole canvas."""
    return mx, 0.0, tx, 0.0, my, ty, 0.0, 0.0, 1.0, 0.0, w - 1.0, 0.0, h - 1.0, fx, fy, oh, ow


def flip_horizontal(a, h, w):
    """x -> w - 1 - x."""
    return axis_aligned(-1.0, w - 1.0, 1.0, 0.0, h, w, 1.0, 1.0, h, w)


def flip_vertical(a, h, w):
    """y -> h - 1 - y."""
    return axis_aligned(1.0, 0.0, -1.0, h - 1.0, h, w, 1.0, 1.0, h, w)


def corner(x, room):
    """Where a window begins along one axis: a whole number in 0 .. room; 0 for NaN."""
    return clamp(xp.floor(x), 0.0, room)


def crop(a, h, w):
    """The window a = top, left, height, width; a corner that is not whole, or leaves the canvas with the window, is led
    back."""
    return axis_aligned(1.0, corner(a[1], w - a[3]), 1.0, corner(a[0], h - a[2]), h, w, 1.0, 1.0, a[2], a[3])


def center_crop(a, h, w):
    """The central window of a[0] x a[1], its corner rounded half to even (torchvision)."""
    return axis_aligned(1.0, half_even((w - a[1]) * 0.5), 1.0, half_even((h - a[0]) * 0.5), h, w, 1.0, 1.0, a[0], a[1])


def pad(a, h, w):
    """Pad by a = left, top, right, bottom, and further until the canvas has a[4] x a[5].

    What is missing is added on both sides in full (RandomCrop's pad_if_needed) or, if a[6] is 1, half of it, the
    smaller half in front (CenterCrop).
    """
    lack_y = xp.maximum(a[4] - h - a[1] - a[3], 0.0)
    lack_x = xp.maximum(a[5] - w - a[0] - a[2], 0.0)
    top = a[1] + xp.where(a[6] > 0.0, xp.floor(lack_y * 0.5), lack_y)
    left = a[0] + xp.where(a[6] > 0.0, xp.floor(lack_x * 0.5), lack_x)
    bottom = a[3] + xp.where(a[6] > 0.0, lack_y - xp.floor(lack_y * 0.5), lack_y)
    right = a[2] + xp.where(a[6] > 0.0, lack_x - xp.floor(lack_x * 0.5), lack_x)
    return axis_aligned(1.0, 0.0 - left, 1.0, 0.0 - top, h, w, 1.0, 1.0, h + top + bottom, w + left + right)


def place(a, h, w):
    """The canvas laid on one of a[2] x a[3], a corner of it at the point x, y = a[0], a[1]: its right edge there if
    a[4] is 1, its lower edge there if a[5] is 1."""
    left, top = xp.where(a[4] > 0.0, a[0] - w, a[0]), xp.where(a[5] > 0.0, a[1] - h, a[1])
    return axis_aligned(1.0, 0.0 - left, 1.0, 0.0 - top, h, w, 1.0, 1.0, a[2], a[3])


def resized_crop(a, h, w):
    """The window a = top, left, height, width, resampled to a[4] x a[5]. It is led back as that of `crop`.

    Half-pixel centres; a[6] is 1 to widen the filter with the downscale; a[7] is 1 for legacy nearest (x_in = floor(x
    scale), to the bit as torch has it), 2 for nearest-exact (floor((x + 0.5) scale), where a whole number is a tie,
    which torch's own rounding decides and TIE decides upward here).
    """
    height, width = clamp(xp.floor(a[2]), 1.0, h), clamp(xp.floor(a[3]), 1.0, w)
    top, left = corner(a[0], h - height), corner(a[1], w - width)
    sy, sx = xp.div_rn(height, a[4]), xp.div_rn(width, a[5])
    shift_y = xp.where(a[7] == 1.0, 0.0, sy * 0.5) + xp.where(a[7] == 2.0, TIE, 0.0) - 0.5
    shift_x = xp.where(a[7] == 1.0, 0.0, sx * 0.5) + xp.where(a[7] == 2.0, TIE, 0.0) - 0.5
    fy, fx = xp.where(a[6] > 0.0, xp.maximum(sy, 1.0), 1.0), xp.where(a[6] > 0.0, xp.maximum(sx, 1.0), 1.0)
    tx, ty, right, bottom = left + shift_x, top + shift_y, left + width - 1.0, top + height - 1.0
    return sx, 0.0, tx, 0.0, sy, ty, 0.0, 0.0, 1.0, left, right, top, bottom, fx, fy, a[4], a[5]


def resize_length(short, long, size, longest):
    """The longer side when the shorter becomes `size`, and both held below `longest` where that is positive
    (torchvision)."""
    new_long = xp.f32(xp.i64(size) * xp.i64(long) // xp.i64(short))
    over = (longest > 0.0) & (new_long > longest)
    new_short = xp.where(over, xp.f32(xp.i64(longest) * xp.i64(size) // xp.i64(new_long)), size)
    return new_short, xp.where(over, longest, new_long)


def resize_shorter(a, h, w):
    """The canvas resampled so that its shorter side becomes a[0], the longer at most a[1]; a[6], a[7] as
    `resized_crop`."""
    short, long = resize_length(xp.minimum(h, w), xp.maximum(h, w), a[0], a[1])
    oh, ow = xp.where(w <= h, long, short), xp.where(w <= h, short, long)
    return resized_crop((h * 0.0, h * 0.0, h, w, oh, ow, a[6], a[7]), h, w)


def resize(a, h, w):
    """The canvas resampled to a[0] x a[1]; a[6], a[7] as `resized_crop`."""
    return resized_crop((h * 0.0, h * 0.0, h, w, a[0], a[1], a[6], a[7]), h, w)


def shortest_lengths(h, w, size, longest):
    """Height and width when the shorter side becomes `size`, and both are held below `longest` where that is positive:
    scaled in float64 and truncated (torchvision's RandomShortestSize)."""
    factor = xp.f64(size) / xp.f64(xp.minimum(h, w))
    most = xp.f64(longest) / xp.f64(xp.maximum(h, w))
    factor = xp.where((longest > 0.0) & (most < factor), most, factor)
    return xp.f32(xp.i64(xp.f64(h) * factor)), xp.f32(xp.i64(xp.f64(w) * factor))


def resize_shortest(a, h, w):
    """The canvas resampled to the `shortest_lengths` of a[0] and a[1]; a[6], a[7] as `resized_crop`."""
    oh, ow = shortest_lengths(h, w, a[0], a[1])
    return resized_crop((h * 0.0, h * 0.0, h, w, oh, ow, a[6], a[7]), h, w)


def affine(a, h, w):
    """The inverse of M = T C R S Sh C^-1 (torchvision).

    a: angle (degrees, clockwise), tx, ty (pixels), scale, shear x, shear y (degrees), centre x, centre y (pixels from
    the corner; used if a[8] is 1, otherwise the middle of the canvas).
    """
    sin_x, cos_x = sine_cosine(a[4])
    sin_y, cos_y = sine_cosine(a[5])
    sin_d, cos_d = sine_cosine(a[0] - a[5])
    sin_r, cos_r = sine_cosine(a[0])
    tan = sin_x / cos_x
    m00, m10 = cos_d / cos_y, sin_d / cos_y
    m01, m11 = 0.0 - m00 * tan - sin_r, 0.0 - m10 * tan + cos_r
    i00, i01, i10, i11 = m11 / a[3], (0.0 - m01) / a[3], (0.0 - m10) / a[3], m00 / a[3]
    cx = xp.where(a[8] > 0.0, a[6] - 0.5, (w - 1.0) * 0.5)
    cy = xp.where(a[8] > 0.0, a[7] - 0.5, (h - 1.0) * 0.5)
    tx = cx - i00 * (cx + a[1]) - i01 * (cy + a[2])
    ty = cy - i10 * (cx + a[1]) - i11 * (cy + a[2])
    return i00, i01, tx, i10, i11, ty, 0.0, 0.0, 1.0, 0.0, w - 1.0, 0.0, h - 1.0, 1.0, 1.0, h, w


def rotate(a, h, w):
    """Turn by a[0] degrees counter-clockwise about centre x, y = a[1], a[2] if a[3] is 1, else about the middle."""
    zero = h * 0.0
    return affine((0.0 - a[0], zero, zero, zero + 1.0, zero, zero, a[1], a[2], a[3]), h, w)


def spanned(half, far):
    """How many whole pixels cover -far .. far about a middle at `half`, to 1e-4 (torchvision, after Pillow)."""
    high, low = truncate((half + far) * 10000.0) * 0.0001, truncate((half - far) * 10000.0) * 0.0001
    return xp.ceil(high) - xp.floor(low)


def rotate_expand(a, h, w):
    """Turn by a[0] degrees counter-clockwise, onto a canvas that holds the whole image."""
    sine, cosine = sine_cosine(0.0 - a[0])
    tall, wide = h * 0.5, w * 0.5
    oh = spanned(tall, wide * xp.abs(sine) + tall * xp.abs(cosine))
    ow = spanned(wide, wide * xp.abs(cosine) + tall * xp.abs(sine))
    x, y = (ow - 1.0) * 0.5, (oh - 1.0) * 0.5
    tx, ty = (w - 1.0) * 0.5 - cosine * x - sine * y, (h - 1.0) * 0.5 + sine * x - cosine * y
    minus = 0.0 - sine
    return cosine, sine, tx, minus, cosine, ty, 0.0, 0.0, 1.0, 0.0, w - 1.0, 0.0, h - 1.0, 1.0, 1.0, oh, ow


def shear_x(a, h, w):
    """x_in = x + a[0] y about the upper left corner."""
    return 1.0, a[0], a[0] * 0.5, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, w - 1.0, 0.0, h - 1.0, 1.0, 1.0, h, w


def shear_y(a, h, w):
    """y_in = y + a[0] x about the upper left corner."""
    return 1.0, 0.0, 0.0, a[0], 1.0, a[0] * 0.5, 0.0, 0.0, 1.0, 0.0, w - 1.0, 0.0, h - 1.0, 1.0, 1.0, h, w


def translate_x(a, h, w):
    """Shift right by a[0] pixels."""
    return axis_aligned(1.0, 0.0 - a[0], 1.0, 0.0, h, w, 1.0, 1.0, h, w)


def translate_y(a, h, w):
    """Shift down by a[0] pixels."""
    return axis_aligned(1.0, 0.0, 1.0, 0.0 - a[0], h, w, 1.0, 1.0, h, w)


def perspective(a, h, w):
    """The homography that takes the corners a (x, y; top left, top right, bottom right, bottom left) back to the
    canvas's own.

    Heckbert's square-to-quadrilateral map (Fundamentals of Texture Mapping, 1989), inverted by its adjugate, in
    float64. torchvision's homography acts on corner coordinates (pixel centres at + 0.5), hence the shifts by half a
    pixel.
    """
    x0, y0, x1, y1 = xp.f64(a[0]), xp.f64(a[1]), xp.f64(a[2]), xp.f64(a[3])
    x2, y2, x3, y3 = xp.f64(a[4]), xp.f64(a[5]), xp.f64(a[6]), xp.f64(a[7])
    ex, ey, fx, fy = x1 - x2, y1 - y2, x3 - x2, y3 - y2
    dx, dy = x0 - x1 + x2 - x3, y0 - y1 + y2 - y3
    det = ex * fy - fx * ey
    g, k = (dx * fy - fx * dy) / det, (ex * dy - dx * ey) / det
    wide, tall = xp.f64(w) - 1.0, xp.f64(h) - 1.0
    p00, p01, p02 = (x1 - x0 + g * x1) / wide, (x3 - x0 + k * x3) / tall, x0
    p10, p11, p12 = (y1 - y0 + g * y1) / wide, (y3 - y0 + k * y3) / tall, y0
    p20, p21 = g / wide, k / tall
    q00, q01, q02 = p11 - p12 * p21, p02 * p21 - p01, p01 * p12 - p02 * p11
    q10, q11, q12 = p12 * p20 - p10, p00 - p02 * p20, p02 * p10 - p00 * p12
    q20, q21, q22 = p10 * p21 - p11 * p20, p01 * p20 - p00 * p21, p00 * p11 - p01 * p10
    c0, c1, c2 = q02 + 0.5 * (q00 + q01), q12 + 0.5 * (q10 + q11), q22 + 0.5 * (q20 + q21)
    m02, m12, m22 = xp.f32((c0 - 0.5 * c2) / c2), xp.f32((c1 - 0.5 * c2) / c2), 1.0
    m00, m01 = xp.f32((q00 - 0.5 * q20) / c2), xp.f32((q01 - 0.5 * q21) / c2)
    m10, m11 = xp.f32((q10 - 0.5 * q20) / c2), xp.f32((q11 - 0.5 * q21) / c2)
    m20, m21 = xp.f32(q20 / c2), xp.f32(q21 / c2)
    return m00, m01, m02, m10, m11, m12, m20, m21, m22, 0.0, w - 1.0, 0.0, h - 1.0, 1.0, 1.0, h, w


def stays(t, kind, h, w):
    """Whether an op of filter `kind` leaves each pixel of its canvas h x w where it is, and adds none."""
    turns = (t[0] != 1.0) | (t[1] != 0.0) | (t[3] != 0.0) | (t[4] != 1.0) | (t[6] != 0.0) | (t[7] != 0.0)
    moves = (t[2] != 0.0) | (t[5] != 0.0) | (t[15] != h) | (t[16] != w)
    return (kind == NEAREST) & ((turns | moves) == 0)


def snap(x):
    """The pixel that holds a coordinate."""
    return xp.floor(x + 0.5)


def folds(border):
    """Whether a border rule mirrors."""
    return (border == REFLECT) | (border == SYMMETRIC)


def fold(x, low, high, border):
    """The window pixel that stands for pixel x outside of low .. high: edge, reflect or symmetric; others clamp.

    It lies in low .. high whatever x is.
    """
    n = high - low + 1.0
    repeat = xp.where(border == SYMMETRIC, 1.0, 0.0)
    period = xp.maximum(n + n - 2.0 + repeat + repeat, 1.0)
    t = x - low
    t = t - period * xp.floor(xp.div_rn(t, period))
    mirrored = clamp(xp.where(t > n - 1.0, period - repeat - t, t), 0.0, n - 1.0)
    clamped, inside = clamp(x, low, high), (x >= low) & (x <= high)
    outside = xp.where(folds(border), low + mirrored, clamped)
    return xp.where(inside, clamped, outside)


def reach(kind):
    """Half the support of a filter, in units of its width."""
    return xp.where(kind == LINEAR, 1.0, xp.where(kind == LANCZOS, 3.0, 2.0))


def first_tap(c, support):
    """The first pixel that a filter about coordinate c weighs."""
    return xp.floor(c - support) + 1.0


def tap_count(width, kind):
    """How many pixels a filter of that width weighs along an axis, at the most."""
    support = reach(kind) * width
    return xp.i32(xp.ceil(support + support))


def weight(d, kind):
    """A filter's weight at distance d (in units of its width): triangle, or Keys' cubic with a = -0.75, antialiased a =
    -0.5. That of LANCZOS is `windowed`."""
    t = xp.abs(d)
    a = xp.where(kind == CUBIC_AA, -0.5, -0.75)
    near = ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0
    far = ((t - 5.0) * t + 8.0) * t * a - 4.0 * a
    cubic = xp.where(t < 1.0, near, xp.where(t < 2.0, far, 0.0))
    return xp.where(kind == LINEAR, xp.maximum(1.0 - t, 0.0), cubic)


def windowed(d):
    """LANCZOS's weight at distance d: sinc(d) sinc(d / 3) below 3 (Pillow), absolute error below 3e-7.

    q is sinc(d / 3), a polynomial of d^2 within 2e-9; and sinc(d) = q (1 - 4/3 sin^2(pi d / 3)).
    """
    t = d * d
    q = t * 2.3675568533455855e-10 - 3.9218359869698046e-08
    q = q * t + 3.982239999061058e-06
    q = q * t - 0.0002616526072459734
    q = q * t + 0.010021496945768175
    q = q * t - 0.18277044375918178
    q = q * t + 0.9999999992570513
    q = q * q
    return xp.where(t < 9.0, q * (1.0 - t * 1.4621636149762012 * q), 0.0)


CASES = {
    1: "flip_horizontal",
    2: "flip_vertical",
    3: "crop",
    4: "center_crop",
    5: "pad",
    6: "resized_crop",
    7: "resize_shorter",
    8: "resize",
    9: "affine",
    10: "rotate",
    11: "perspective",
    12: "shear_x",
    13: "shear_y",
    14: "translate_x",
    15: "translate_y",
    16: "resize_shortest",
    17: "rotate_expand",
    19: "place",
}
TURNING = frozenset({"affine", "rotate", "rotate_expand", "perspective", "shear_x", "shear_y"})
AXIS_ALIGNED = frozenset(CASES.values()) - TURNING
FLOAT64 = frozenset({"perspective", "resize_shortest"})  # ops that compute in it
