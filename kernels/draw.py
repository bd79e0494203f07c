"""Draws: counter-based randomness and the decisions made from it.

Every decision uses exactly rounded operations only (+ - * floor, `div_rn`, `sqrt_rn`, integers), in one order, so that
it is equal to the bit in every dialect. A draw function takes

- `key`: six integers, the Philox counter (id low, id high, epoch, stream) and the two seed words;
- `c`: twelve floats, the op's configuration;
- `h, w`: the canvas in front of the op, in pixels;

and returns eight floats, of which the op's table columns take the first ones.
"""

M0 = 0xD2511F53
M1 = 0xCD9E8D57
W0 = 0x9E3779B9
W1 = 0xBB67AE85
WORD = 0xFFFFFFFF
UNIT = 5.9604644775390625e-08
TRIES = 10


def philox(c0, c1, c2, c3, k0, k1):
    """Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): four words from a counter
    and a key.

    Words are int64 in [0, 2^32); the products wrap modulo 2^64, and the masks undo the sign.
    """
    for _ in range(10):
        p0 = c0 * M0
        p1 = c2 * M1
        c0 = ((p1 >> 32) & WORD) ^ c1 ^ k0
        c2 = ((p0 >> 32) & WORD) ^ c3 ^ k1
        c1 = p1 & WORD
        c3 = p0 & WORD
        k0 = (k0 + W0) & WORD
        k1 = (k1 + W1) & WORD
    return c0, c1, c2, c3


def words(key, block):
    """Four words of the key's stream; `block` counts them off."""
    return philox(key[0], key[1], key[2], key[3] + block, key[4], key[5])


def unit(word):
    """A float32 in [0, 1), a multiple of 2^-24."""
    return xp.f32(word >> 8) * UNIT


def between(word, low, high):
    """Uniform in [low, high)."""
    return low + (high - low) * unit(word)


def integer(word, n):
    """A whole float32 uniform in 0 .. n - 1, for a whole float n below 2^24."""
    return xp.f32((word * xp.i64(n)) >> 32)


def half_even(x):
    """Round to the nearest whole number, ties to even, as Python's `round`."""
    low = xp.floor(x)
    rest = x - low
    odd = low - 2.0 * xp.floor(low * 0.5)
    return xp.where(rest > 0.5, low + 1.0, xp.where((rest == 0.5) & (odd == 1.0), low + 1.0, low))


def exponential(x):
    """exp(x) for |x| <= 5, relative error below 3e-6: a Taylor polynomial of x / 16, squared four times."""
    y = x * 0.0625
    p = y * 0.001388888888888889 + 0.008333333333333333
    p = p * y + 0.041666666666666664
    p = p * y + 0.16666666666666666
    p = p * y + 0.5
    p = p * y + 1.0
    p = p * y + 1.0
    p = p * p
    p = p * p
    p = p * p
    return p * p


def position(code, child, n):
    """Where `child` stands in permutation number `code` of 0 .. n - 1, for 0 <= code < n!.

    The digits of `code` in the factorial base say where each next child is inserted among the earlier ones.
    """
    at = code * 0
    rest = code
    k = 0
    while k < n:
        digit = rest % (k + 1)
        rest = rest // (k + 1)
        at = xp.where(k == child, digit, xp.where((k > child) & (digit <= at), at + 1, at))
        k += 1
    return at


def draw_accept(key, c, h, w):
    """1 with probability c[0], else 0."""
    word, _, _, _ = words(key, 0)
    one = xp.f32(xp.where(unit(word) < c[0], 1, 0))
    return one, one, one, one, one, one, one, one


def draw_integer(key, c, h, w):
    """A whole number uniform in 0 .. c[0] - 1: which child, or which permutation."""
    word, _, _, _ = words(key, 0)
    k = integer(word, c[0])
    return k, k, k, k, k, k, k, k


def draw_weighted(key, c, h, w):
    """Which of up to twelve children: how many of the ascending thresholds c[0], ..., c[10] a uniform draw has
    reached."""
    word, _, _, _ = words(key, 0)
    u = unit(word)
    k = xp.f32(xp.where(u >= c[0], 1, 0))
    for i in xp.static_range(1, 11):
        k = k + xp.f32(xp.where(u >= c[i], 1, 0))
    return k, k, k, k, k, k, k, k


def draw_uniform(key, c, h, w):
    """Up to four values, the i-th uniform in [c[2i], c[2i + 1])."""
    a, b, d, e = words(key, 0)
    first, second, third = between(a, c[0], c[1]), between(b, c[2], c[3]), between(d, c[4], c[5])
    fourth = between(e, c[6], c[7])
    return first, second, third, fourth, fourth, fourth, fourth, fourth


def draw_offset(key, c, h, w):
    """Top and left of a window c[0] x c[1] uniform inside the canvas."""
    a, b, _, _ = words(key, 0)
    top, left = integer(a, h - c[0] + 1.0), integer(b, w - c[1] + 1.0)
    return top, left, left, left, left, left, left, left


def draw_resized_crop(key, c, h, w):
    """torchvision's RandomResizedCrop window: top, left, height, width.

    c: area low, high (fractions), log ratio low, high, ratio low, high. Ten tries, then the largest centred window
    whose ratio lies in range.
    """
    area = h * w
    found = h < 0.0
    top, left, height, width = h * 0.0, h * 0.0, h, w
    k = 0
    while (k < TRIES) & xp.pending(found):
        a, b, d, e = words(key, k)
        target = area * between(a, c[0], c[1])
        ratio = exponential(between(b, c[2], c[3]))
        cw = half_even(xp.sqrt_rn(target * ratio))
        ch = half_even(xp.sqrt_rn(xp.div_rn(target, ratio)))
        fits = (cw > 0.0) & (cw <= w) & (ch > 0.0) & (ch <= h) & (found == 0)
        top = xp.where(fits, integer(d, xp.where(fits, h - ch + 1.0, 1.0)), top)
        left = xp.where(fits, integer(e, xp.where(fits, w - cw + 1.0, 1.0)), left)
        height = xp.where(fits, ch, height)
        width = xp.where(fits, cw, width)
        found = found | fits
        k += 1
    ratio = xp.div_rn(w, h)
    narrow, wide = (found == 0) & (ratio < c[4]), (found == 0) & (ratio > c[5])
    height = xp.where(narrow, half_even(xp.div_rn(w, c[4])), height)
    width = xp.where(wide, half_even(h * c[5]), width)
    top = xp.where(found, top, xp.floor((h - height) * 0.5))
    left = xp.where(found, left, xp.floor((w - width) * 0.5))
    return top, left, height, width, width, width, width, width


def draw_affine(key, c, h, w):
    """Angle, tx, ty, scale, shear x, shear y. c: pairs low, high; the translation's are fractions of the canvas,
    rounded."""
    a, b, d, e = words(key, 0)
    f, g, _, _ = words(key, 1)
    tx = half_even(between(b, c[2] * w, c[3] * w))
    ty = half_even(between(d, c[4] * h, c[5] * h))
    sx, sy = between(f, c[8], c[9]), between(g, c[10], c[11])
    return between(a, c[0], c[1]), tx, ty, between(e, c[6], c[7]), sx, sy, sy, sy


def draw_perspective(key, c, h, w):
    """Where the four corners go (x, y; top left, top right, bottom right, bottom left), c[0] being the distortion
    scale."""
    bh = xp.floor(c[0] * xp.floor(h * 0.5)) + 1.0
    bw = xp.floor(c[0] * xp.floor(w * 0.5)) + 1.0
    a, b, d, e = words(key, 0)
    f, g, i, j = words(key, 1)
    right, bottom = w - bw, h - bh
    x1, y1 = right + integer(d, bw), integer(e, bh)
    x2, y2 = right + integer(f, bw), bottom + integer(g, bh)
    return integer(a, bw), integer(b, bh), x1, y1, x2, y2, integer(i, bw), bottom + integer(j, bh)


CASES = {
    1: "draw_accept",
    2: "draw_integer",
    3: "draw_uniform",
    4: "draw_offset",
    5: "draw_resized_crop",
    6: "draw_affine",
    7: "draw_perspective",
    8: "draw_weighted",
}
