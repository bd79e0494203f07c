"""JPEG's loss (ITU-T T.81 and JFIF), to the bit as libjpeg has it with its defaults: 4:2:0, the integer "slow" DCT, the
standard tables, and what it calls fancy upsampling.

Values are levels 0 .. 255, whole numbers in float32, and so is every product and every sum of them below 2^24: these
formulas are exact in any order. Those of the DCT are not below; each backend sums them in a type that holds them.
"""

MIDDLE = 128.0  # which stands for 0 of a chroma, and is taken from each level in front of the DCT
SIXTEENTH = 0.0625
FRACTION = 1.52587890625e-05  # 2^-16: of the factors below
BLOCK = 8
MCU = 16  # the side in pixels of the four blocks of luma to one of each chroma
NARROW = 2  # columns of chroma, or fewer, are doubled, not interpolated

# BASIS[8 k + x]: 8192 sqrt(8) times the DCT's k-th cosine at pixel x, as the integers that libjpeg comes to. Columns
# follow lines, and lines follow columns on the way back; each sum is divided by a power of two, the following ones, and
# rounded half up. What lies between is eight times a coefficient.
BASIS = (
    (8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192)
    + (11363, 9633, 6437, 2260, -2260, -6437, -9633, -11363)
    + (10703, 4433, -4433, -10703, -10703, -4433, 4433, 10703)
    + (9633, -2259, -11362, -6436, 6436, 11362, 2259, -9633)
    + (8192, -8192, -8192, 8192, 8192, -8192, -8192, 8192)
    + (6437, -11362, 2261, 9633, -9633, -2261, 11362, -6437)
    + (4433, -10704, 10704, -4433, -4433, 10704, -10704, 4433)
    + (2260, -6436, 9633, -11363, 11363, -9633, 6436, -2260)
)
LINES_SHIFT, COLUMNS_SHIFT, BACK_COLUMNS_SHIFT, BACK_LINES_SHIFT = 11, 15, 11, 18

# The divisors of quality 50 (T.81, annex K), line by line.
LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61)
    + (12, 12, 14, 19, 26, 58, 60, 55)
    + (14, 13, 16, 24, 40, 57, 69, 56)
    + (14, 17, 22, 29, 51, 87, 80, 62)
    + (18, 22, 37, 56, 68, 109, 103, 77)
    + (24, 35, 55, 64, 81, 104, 113, 92)
    + (49, 64, 78, 87, 103, 121, 120, 101)
    + (72, 92, 95, 98, 112, 100, 103, 99)
)
CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99)
    + (18, 21, 26, 66, 99, 99, 99, 99)
    + (24, 26, 56, 99, 99, 99, 99, 99)
    + (47, 66, 99, 99, 99, 99, 99, 99)
    + (99,) * 32
)


def scale_of(quality):
    """The percentage that the tables are taken by, of a quality 1 .. 100; what lies outside is led back."""
    q = xp.floor(clamp(quality, 1.0, 100.0))
    return xp.where(q < 50.0, xp.floor(xp.div_rn(5000.0, q)), 200.0 - 2.0 * q)


def divisor(standard, scale):
    """A coefficient's divisor, of that of quality 50."""
    return clamp(xp.floor(xp.div_rn(standard * scale + 50.0, 100.0)), 1.0, 255.0)


def quantised(c, q):
    """What is left of eight times a coefficient: the multiple of its divisor q that is next to it, half away from 0."""
    k = xp.floor(xp.div_rn(xp.abs(c) + 4.0 * q, 8.0 * q)) * q
    return xp.where(c < 0.0, 0.0 - k, k)


def luma_of(r, g, b):
    """A colour's luma."""
    return xp.floor((19595.0 * r + 38470.0 * g + 7471.0 * b + 32768.0) * FRACTION)


def blue_of(r, g, b):
    """A colour's blue chroma."""
    return xp.floor((32768.0 * b - 11059.0 * r - 21709.0 * g + 8421375.0) * FRACTION)


def red_of(r, g, b):
    """A colour's red chroma."""
    return xp.floor((32768.0 * r - 27439.0 * g - 5329.0 * b + 8421375.0) * FRACTION)


def colour_of(y, cb, cr):
    """The colour (r, g, b) of luma and chroma."""
    u, v = cb - MIDDLE, cr - MIDDLE
    r = y + xp.floor((91881.0 * v + 32768.0) * FRACTION)
    g = y + xp.floor((32768.0 - 22554.0 * u - 46802.0 * v) * FRACTION)
    b = y + xp.floor((116130.0 * u + 32768.0) * FRACTION)
    return clamp(r, 0.0, 255.0), clamp(g, 0.0, 255.0), clamp(b, 0.0, 255.0)


def mean_of_four(total, odd):
    """The chroma of four pixels, of their sum; ties are rounded up in odd columns, down in even ones."""
    return xp.floor((total + 1.0 + odd) * 0.25)


def upsampled(near, far, odd):
    """The chroma of a pixel in an odd or even column: `near` and `far`, in the two nearest columns of chroma, are three
    times the value in the nearer line, plus that in the other one."""
    return xp.floor((3.0 * near + far + 8.0 - odd) * SIXTEENTH)


def restored(v):
    """A level, of what the inverse DCT leaves."""
    return clamp(v + MIDDLE, 0.0, 255.0)
