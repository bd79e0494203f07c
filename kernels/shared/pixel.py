"""Pixel formulas: what a slot does to a colour.

A formula takes either one channel, `v`, or all three, `r, g, b`, as float32; then `x, y`, if it depends on where the
pixel lies: its column and row, whole numbers, in the canvas in front of the op; then

- `p`: eight floats, the op's arguments, drawn ones first. p[7] is the mean grey of the image for an op that asks for
  it, and which triple of channels it is (0, 1, ...) for a formula over `x, y`;
- `bound`: the largest value of the stage, 255 for uint8, 1 for float;
- `lattice`: 1 while pixels live on uint8's integer lattice, else 0;
- `channels`: of the stage. Of an image of one channel, `r, g, b` are the same.

torchvision.transforms.v2.functional is the source of the semantics unless a docstring says otherwise. Where it fuses a
product into a sum, so does `xp.fma`: on the lattice a last place decides a whole level.
"""

SEEDS = 16777216.0
BYTE = 0.00392156862745098
TO_BYTE = 255.999
SHARPEST = 1e-06


def settle(v, bound, lattice):
    """Clamp to [0, bound], and truncate on the lattice."""
    v = xp.minimum(xp.maximum(v, 0.0), bound)
    return xp.where(lattice > 0.0, xp.floor(v), v)


def blend(v, other, ratio, bound, lattice):
    """ratio v + (1 - ratio) other."""
    return settle(xp.fma(other, 1.0 - ratio, v * ratio), bound, lattice)


def luma(r, g, b, lattice, channels):
    """Grey of a colour (ITU-R 601), floored on the lattice; the channel itself where there is one."""
    grey = xp.fma(b, 0.114, xp.fma(g, 0.587, r * 0.2989))
    grey = xp.where(lattice > 0.0, xp.floor(grey), grey)
    return xp.where(channels == 1.0, r, grey)


def to_unit(v, lattice):
    """The stage's value in [0, 1]."""
    return xp.where(lattice > 0.0, v * BYTE, v)


def from_unit(v, lattice):
    """The stage's value of one in [0, 1], truncated on the lattice."""
    return xp.where(lattice > 0.0, xp.floor(v * TO_BYTE), v)


def in_unit(u, lattice):
    """u within [0, 1], where it may lie outside: on the lattice it does not."""
    return xp.where(lattice > 0.0, u, xp.minimum(xp.maximum(u, 0.0), 1.0))


# --- one channel, or one colour ---------------------------------------------------------------------------------------
def convert(v, p, bound, lattice, channels):
    """Change of dtype: times p[0], truncated and clamped to [0, 255] if p[1] is 1 (float to uint8)."""
    v = v * p[0]
    return xp.where(p[1] > 0.0, xp.floor(xp.minimum(xp.maximum(v, 0.0), 255.0)), v)


def normalize(r, g, b, p, bound, lattice, channels):
    """(v - mean) / std; p holds three means, then three reciprocals of std."""
    return (r - p[0]) * p[3], (g - p[1]) * p[4], (b - p[2]) * p[5]


def brightness(v, p, bound, lattice, channels):
    """v p[0]."""
    return settle(v * p[0], bound, lattice)


def contrast(v, p, bound, lattice, channels):
    """Blend with the image's mean grey p[7]: p[0] v + (1 - p[0]) mean."""
    return blend(v, p[7], p[0], bound, lattice)


def saturation(r, g, b, p, bound, lattice, channels):
    """Blend with the pixel's own grey: p[0] v + (1 - p[0]) grey. One channel stays as it is."""
    grey, one = luma(r, g, b, lattice, channels), channels == 1.0
    nr, ng = blend(r, grey, p[0], bound, lattice), blend(g, grey, p[0], bound, lattice)
    nb = blend(b, grey, p[0], bound, lattice)
    return xp.where(one, r, nr), xp.where(one, g, ng), xp.where(one, b, nb)


def hue(r, g, b, p, bound, lattice, channels):
    """Turn the hue in HSV by p[0] (in turns). One channel stays as it is."""
    ur, ug, ub = to_unit(r, lattice), to_unit(g, lattice), to_unit(b, lattice)
    most = xp.maximum(xp.maximum(ur, ug), ub)
    span = most - xp.minimum(xp.minimum(ur, ug), ub)
    grey = span == 0.0
    s = xp.div_rn(span, xp.where(most > 0.0, most, 1.0))
    divisor = xp.where(grey, 1.0, span)
    red, green = most == ur, most == ug
    more = xp.where(red, ub, xp.where(green, ur, ug))
    less = xp.where(red, ug, xp.where(green, ub, ur))
    turn = xp.where(red, 0.0, xp.where(green, 2.0, 4.0))
    sector = xp.div_rn(most - more, divisor) + turn - xp.div_rn(most - less, divisor)
    h = sector * 0.16666666666666666 + 1.0
    h = h - xp.floor(h) + p[0]
    h6 = (h - xp.floor(h)) * 6.0
    i = xp.floor(h6)
    part = s * (h6 - i)
    rest = 1.0 - s
    low, down = in_unit(rest * most, lattice), in_unit((1.0 - part) * most, lattice)
    up = in_unit(xp.minimum((part + rest) * most, 1.0), lattice)
    i = xp.where(i >= 6.0, 0.0, i)
    nr = xp.where((i == 0.0) | (i == 5.0), most, xp.where(i == 1.0, down, xp.where(i == 4.0, up, low)))
    ng = xp.where((i == 1.0) | (i == 2.0), most, xp.where(i == 3.0, down, xp.where(i == 0.0, up, low)))
    nb = xp.where((i == 3.0) | (i == 4.0), most, xp.where(i == 5.0, down, xp.where(i == 2.0, up, low)))
    one = channels == 1.0
    nr, ng, nb = from_unit(nr, lattice), from_unit(ng, lattice), from_unit(nb, lattice)
    return xp.where(one, r, nr), xp.where(one, g, ng), xp.where(one, b, nb)


def grayscale(r, g, b, p, bound, lattice, channels):
    """The colour's grey, in all channels."""
    grey = luma(r, g, b, lattice, channels)
    return grey, grey, grey


def pick(r, g, b, k):
    """Channel k of three."""
    return xp.where(k == 0.0, r, xp.where(k == 1.0, g, b))


def permute_channels(r, g, b, p, bound, lattice, channels):
    """Channel i becomes what channel p[i] was."""
    return pick(r, g, b, p[0]), pick(r, g, b, p[1]), pick(r, g, b, p[2])


def posterize(v, p, bound, lattice, channels):
    """Keep p[0] levels, a power of two."""
    bins = xp.where(lattice > 0.0, p[0] * 0.00390625, p[0])
    return xp.minimum(xp.maximum(xp.floor(v * bins), 0.0), p[0] - 1.0) * xp.div_rn(1.0, bins)


def solarize(v, p, bound, lattice, channels):
    """Invert what is at least p[0]."""
    return xp.where(v >= p[0], bound - v, v)


def solarize_add(v, p, bound, lattice, channels):
    """Add p[0] to what is below p[1], and clamp (Cubuk et al., "AutoAugment", arXiv 1805.09501, as TPU code has it)."""
    return xp.where(v < p[1], xp.minimum(xp.maximum(v + p[0], 0.0), bound), v)


def invert(v, p, bound, lattice, channels):
    """bound - v."""
    return bound - v


def gamma(v, p, bound, lattice, channels):
    """p[1] v ^ p[0] in [0, 1], what is below 0 counting as 0; clamped if p[1] is not 1."""
    u = xp.pow(xp.maximum(to_unit(v, lattice), 0.0), p[0])
    u = xp.where(p[1] == 1.0, u, clamp(u * p[1], 0.0, 1.0))
    return from_unit(u, lattice)


def stretch_levels(v, low, high, bound, lattice):
    """Take low .. high to 0 .. bound; nothing where they are equal."""
    span = (high - low) * xp.where(bound > 1.0, BYTE, 1.0)
    flat = high == low
    return xp.where(flat, v, settle(xp.div_rn(v - low, xp.where(flat, 1.0, span)), bound, lattice))


def autocontrast(r, g, b, p, bound, lattice, channels):
    """Stretch each channel from its least value in the image (p[0 .. 2]) and its greatest (p[3 .. 5]) to the range."""
    nr = stretch_levels(r, p[0], p[3], bound, lattice)
    ng = stretch_levels(g, p[1], p[4], bound, lattice)
    return nr, ng, stretch_levels(b, p[2], p[5], bound, lattice)


# --- what depends on where the pixel lies -----------------------------------------------------------------------------
def within(x, y, p):
    """Whether a pixel lies in the rectangle p[0 .. 3]: top, left, height, width."""
    return (y >= p[0]) & (y < p[0] + p[2]) & (x >= p[1]) & (x < p[1] + p[3])


def erase(r, g, b, x, y, p, bound, lattice, channels):
    """The colour p[4 .. 6] inside of the rectangle p[0 .. 3]."""
    on = within(x, y, p)
    return xp.where(on, p[4], r), xp.where(on, p[5], g), xp.where(on, p[6], b)


def noise_words(x, y, a, b, stream):
    """Four random words of a pixel, from two seeds in [0, 1]."""
    column, row = xp.i64(clamp(x, 0.0, SEEDS)), xp.i64(clamp(y, 0.0, SEEDS))
    one, other, zero = xp.i64(clamp(a, 0.0, 1.0) * SEEDS), xp.i64(clamp(b, 0.0, 1.0) * SEEDS), column * 0
    return philox(column, row, zero + xp.i64(stream), zero, one, other)


def three_normals(x, y, a, b, stream):
    """Three standard normal numbers of a pixel, from two seeds."""
    c0, c1, c2, c3 = noise_words(x, y, a, b, stream + stream)
    d0, d1, _, _ = noise_words(x, y, a, b, stream + stream + 1.0)
    return normal(unit(c0), unit(c1)), normal(unit(c2), unit(c3)), normal(unit(d0), unit(d1))


def erase_noise(r, g, b, x, y, p, bound, lattice, channels):
    """Standard normal numbers from the seeds p[4], p[5] inside of the rectangle p[0 .. 3]: by pixel if p[6] is 1, else
    by channel."""
    on = within(x, y, p)
    nr, ng, nb = three_normals(x * p[6], y * p[6], p[4], p[5], p[7])
    return xp.where(on, nr, r), xp.where(on, ng, g), xp.where(on, nb, b)


def grid_mask(r, g, b, x, y, p, bound, lattice, channels):
    """The colour p[4 .. 6] in squares of side p[3], one in each period p[0] of both axes, shifted by p[1], p[2] (Chen
    et al., "GridMask data augmentation", arXiv 2001.04086)."""
    u, v = x + p[1], y + p[2]
    u, v = u - p[0] * xp.floor(xp.div_rn(u, p[0])), v - p[0] * xp.floor(xp.div_rn(v, p[0]))
    on = (u < p[3]) & (v < p[3])
    return xp.where(on, p[4], r), xp.where(on, p[5], g), xp.where(on, p[6], b)


def with_noise(v, n, p, bound, lattice):
    """v + mean p[2] + n times the standard deviation p[3], both in units of the bound; clamped if p[4] is 1."""
    shift = p[2] * bound + n * (p[3] * bound)
    v = v + xp.where(lattice > 0.0, truncate(shift), shift)
    return xp.where(p[4] > 0.0, xp.minimum(xp.maximum(v, 0.0), bound), v)


def gaussian_noise(r, g, b, x, y, p, bound, lattice, channels):
    """Add normal noise of mean p[2] and standard deviation p[3], from the seeds p[0], p[1]."""
    nr, ng, nb = three_normals(x, y, p[0], p[1], p[7])
    nr, ng = with_noise(r, nr, p, bound, lattice), with_noise(g, ng, p, bound, lattice)
    return nr, ng, with_noise(b, nb, p, bound, lattice)


def salt_and_pepper(r, g, b, x, y, p, bound, lattice, channels):
    """A share p[2] of the pixels becomes white, with probability p[3], or black; from the seeds p[0], p[1]."""
    c0, c1, _, _ = noise_words(x, y, p[0], p[1], p[7] * 0.0)
    on = unit(c0) < p[2]
    grain = xp.where(unit(c1) < p[3], bound, 0.0)
    return xp.where(on, grain, r), xp.where(on, grain, g), xp.where(on, grain, b)


CASES = {
    1: "convert",
    2: "normalize",
    3: "brightness",
    4: "contrast",
    5: "solarize",
    6: "invert",
    7: "saturation",
    8: "hue",
    9: "grayscale",
    10: "permute_channels",
    11: "posterize",
    12: "solarize_add",
    13: "gamma",
    14: "autocontrast",
    15: "erase",
    16: "erase_noise",
    17: "grid_mask",
    18: "gaussian_noise",
    19: "salt_and_pepper",
}


# --- what needs a table, or neighbours: the loops are the backends' own -----------------------------------------------
EQUALIZE = 20
SHARPNESS = 21
BLUR_X = 22
BLUR_Y = 23
JPEG = 24  # see `jpeg`
ELASTIC_NOISE = 25  # see `elastic`
ELASTIC = 26
LOOPS = {EQUALIZE: "equalize", SHARPNESS: "sharpness", BLUR_X: "blur_x", BLUR_Y: "blur_y", JPEG: "jpeg"}
LOOPS |= {ELASTIC_NOISE: "elastic_noise", ELASTIC: "elastic"}


def level_of(v, lattice):
    """The level 0 .. 255 that the histogram counts a value as; 0 for NaN."""
    return clamp(xp.where(lattice > 0.0, v, xp.floor(clamp(v, 0.0, 1.0) * TO_BYTE)), 0.0, 255.0)


def of_level(k, lattice):
    """The stage's value of a level."""
    return xp.where(lattice > 0.0, k, k * BYTE)


def equalized(level, below, step):
    """What equalize makes of a level: `below` pixels are darker; `step` = (pixels but those of the brightest level) //
    255. All whole numbers."""
    safe = xp.maximum(step, 1)
    return xp.where(step > 0, xp.minimum((below + step // 2) // safe, 255), level)


def sharpen(v, around, p, bound, lattice):
    """Blend v with the mean of itself (five times) and its eight neighbours, whose sum is `around`: p[0] = 0 smooths, 1
    keeps, 2 sharpens."""
    mean = xp.div_rn(around + 5.0 * v, 13.0)
    mean = xp.where(lattice > 0.0, xp.floor(mean + 0.5), mean)
    return settle(xp.fma(mean - v, 1.0 - p[0], v), bound, lattice)


def sharpen_edge(v, h, w, bound, lattice):
    """An outermost pixel of an image h x w, which is clamped as the others are; not so below three lines or columns."""
    return xp.where((h > 2) & (w > 2), settle(v, bound, lattice), v)


def blur_weight(k, p):
    """The weight, not normalised, of a neighbour k pixels away: a Gaussian of standard deviation p[0], cut off beyond
    p[1] pixels; of one near 0 nothing but the pixel itself is left."""
    t = k / xp.maximum(p[0], SHARPEST)
    return xp.exp(t * t * -0.5)


def blurred(v, p, bound, lattice):
    """What is left of a blur after its last sum: on the lattice rounded (p[2] is 1 behind the second axis)."""
    return xp.where((lattice > 0.0) & (p[2] > 0.0), half_even(v), v)
