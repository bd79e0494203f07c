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
BELOW_ONE = 0.9999999403953552
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


def row_key(name, epoch, view, low, high):
    """A row's key, of its sample's id or number, epoch, view and the seed's words; a slot adds its stream."""
    return name & WORD, (name >> 32) & WORD, epoch & WORD, view << 20, low, high


def with_lead(key, name):
    """A row's key, and behind it the two words of the id or number of its lead, which keys shared draws in place of its
    own."""
    return key + (name & WORD, (name >> 32) & WORD)


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
    """A whole number uniform in c[1] .. c[1] + c[0] - 1: which child, which permutation, how many."""
    word, _, _, _ = words(key, 0)
    k = c[1] + integer(word, c[0])
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


def attempt(key, k, area, c):
    """The k-th try at a window: sqrt(area * ratio), sqrt(area / ratio) of a part of the area; two words for its place.

    c: the part low, high, log ratio low, high.
    """
    a, b, d, e = words(key, k)
    target = area * between(a, c[0], c[1])
    ratio = exponential(between(b, c[2], c[3]))
    return half_even(xp.sqrt_rn(target * ratio)), half_even(xp.sqrt_rn(xp.div_rn(target, ratio))), d, e


def window_start(word, room, fits):
    """Where a window that leaves `room` begins, if it fits."""
    return integer(word, xp.where(fits, room + 1.0, 1.0))


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
        cw, ch, d, e = attempt(key, k, area, c)
        fits = (cw > 0.0) & (cw <= w) & (ch > 0.0) & (ch <= h) & (found == 0)
        top = xp.where(fits, window_start(d, h - ch, fits), top)
        left = xp.where(fits, window_start(e, w - cw, fits), left)
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


def draw_seeds(key, c, h, w):
    """Two seeds for the noise of an image's pixels, multiples of 2^-24 in [0, 1); a value uniform in c[0] .. c[1]."""
    a, b, d, _ = words(key, 0)
    value = between(d, c[0], c[1])
    return unit(a), unit(b), value, value, value, value, value, value


def draw_scale_jitter(key, c, h, w):
    """torchvision's ScaleJitter: height, width. c: target height, width, scale low, high."""
    a, _, _, _ = words(key, 0)
    factor = xp.minimum(xp.div_rn(c[1], h), xp.div_rn(c[0], w)) * between(a, c[2], c[3])
    height, width = xp.floor(h * factor), xp.floor(w * factor)
    return height, width, width, width, width, width, width, width


def draw_zoom_out(key, c, h, w):
    """torchvision's RandomZoomOut: by how much a canvas grows left, top, right, bottom. c: factor low, high."""
    a, b, d, _ = words(key, 0)
    factor = between(a, c[0], c[1])
    wide, tall = xp.floor(w * factor), xp.floor(h * factor)
    left, top = xp.floor((wide - w) * unit(b)), xp.floor((tall - h) * unit(d))
    right, bottom = wide - (left + w), tall - (top + h)
    return left, top, right, bottom, bottom, bottom, bottom, bottom


def draw_permutation(key, c, h, w):
    """A permutation of 0 .. c[0] - 1, for up to three."""
    word, _, _, _ = words(key, 0)
    n = xp.i32(c[0])
    code = xp.i32(integer(word, xp.where(c[0] > 2.0, 6.0, c[0])))
    first, second = xp.f32(position(code, 0, n)), xp.f32(position(code, 1, n))
    third = xp.f32(position(code, 2, n))
    return first, second, third, third, third, third, third, third


def draw_erase(key, c, h, w):
    """torchvision's RandomErasing rectangle: top, left, height, width, then two seeds for its noise.

    c: area low, high (fractions), log ratio (height over width) low, high. Ten tries; then an empty rectangle.
    """
    area = h * w
    found = h < 0.0
    top, left, height, width = h * 0.0, h * 0.0, h * 0.0, h * 0.0
    k = 0
    while (k < TRIES) & xp.pending(found):
        eh, ew, d, e = attempt(key, k, area, c)
        fits = (eh < h) & (ew < w) & (found == 0)
        top = xp.where(fits, window_start(d, h - eh, fits), top)
        left = xp.where(fits, window_start(e, w - ew, fits), left)
        height = xp.where(fits, eh, height)
        width = xp.where(fits, ew, width)
        found = found | fits
        k += 1
    a, b, _, _ = words(key, TRIES)
    return top, left, height, width, unit(a), unit(b), unit(b), unit(b)


def draw_hole(key, c, h, w):
    """A rectangle inside the canvas: top, left, height, width.

    c: height low, high, width low, high: in pixels, or in fractions of the canvas if c[4] is 1.
    """
    a, b, d, e = words(key, 0)
    tall = xp.where(c[4] > 0.0, xp.floor(h * between(a, c[0], c[1])), c[0] + integer(a, c[1] - c[0] + 1.0))
    wide = xp.where(c[4] > 0.0, xp.floor(w * between(b, c[2], c[3])), c[2] + integer(b, c[3] - c[2] + 1.0))
    tall, wide = xp.minimum(xp.maximum(tall, 1.0), h), xp.minimum(xp.maximum(wide, 1.0), w)
    top, left = integer(d, h - tall + 1.0), integer(e, w - wide + 1.0)
    return top, left, tall, wide, wide, wide, wide, wide


def draw_grid(key, c, h, w):
    """GridMask's period, offset x, offset y, and the side of its squares: period in c[0] .. c[1], side = c[2] period,
    rounded."""
    a, b, d, _ = words(key, 0)
    period = c[0] + integer(a, c[1] - c[0] + 1.0)
    side = half_even(period * c[2])
    return period, integer(b, period), integer(d, period), side, side, side, side, side


def linspace(start, end, n, i):
    """torch.linspace(start, end, n)[i] in float32, to the bit."""
    step = xp.div_rn(end - start, n - 1.0)
    last = n - 1.0 - i
    return xp.where(i < xp.floor(n * 0.5), xp.fma(step, i, start), xp.fma(0.0 - step, last, end))


def power_of_two(k):
    """2^k for whole k in 0 .. 8."""
    n, rest = k * 0.0 + 1.0, k
    for _ in xp.static_range(8):
        n, rest = xp.where(rest > 0.5, n + n, n), rest - 1.0
    return n


def draw_level(key, c, h, w):
    """A policy's magnitude as torchvision draws it: c[10] + c[11] m, m being one of n = c[5] steps from start to end.

    c: start, end; end grows by c[2] + c[3] (a sum beyond float32) times the width, or height if c[4] is 1; n; the
    lowest step and how many to choose from; c[8] is 1 to negate m half of the time; c[9] is 1 for m = 2^(8 - step /
    end), the exponent rounded half to even, and 2 to truncate m.
    """
    a, b, _, _ = words(key, 0)
    i = c[6] + integer(a, c[7])
    side = xp.where(c[4] > 0.0, h, w)
    end = c[1] + xp.fma(c[2], side, c[3] * side)
    m = linspace(c[0], end, c[5], i)
    bits = half_even(8.0 - xp.div_rn(i, xp.where(c[9] == 1.0, c[1], 1.0)))
    m = xp.where(c[9] == 1.0, power_of_two(bits), xp.where(c[9] == 2.0, truncate(m), m))
    m = xp.where((c[8] > 0.0) & (unit(b) < 0.5), 0.0 - m, m)
    value = c[10] + c[11] * m
    return value, value, value, value, value, value, value, value


def draw_noisy_level(key, c, h, w):
    """A policy's argument as timm draws it, from a magnitude c[0] with noise.

    The noise is normal of standard deviation c[1], or the magnitude uniform in [0, c[0]) if that is negative; clamped
    to [0, c[2]]. v = c[3] magnitude / 10, truncated if c[6] is 1, negated half of the time if c[5] is 1; plus c[4];
    clamped to [c[7], c[8]]; c[11] is 1 for 2^v, and 2 for a number uniform in [0.1, v); times c[9], and the width or
    height if c[10] is 1 or 2.
    """
    a, b, d, e = words(key, 0)
    noisy = xp.where(c[1] < 0.0, c[0] * unit(a), c[0] + xp.maximum(c[1], 0.0) * normal(unit(a), unit(b)))
    m = xp.maximum(xp.minimum(noisy, c[2]), 0.0)
    v = xp.div_rn(m, 10.0) * c[3]
    v = xp.where(c[6] > 0.0, truncate(v), v)
    v = xp.where((c[5] > 0.0) & (unit(d) < 0.5), 0.0 - v, v)
    v = xp.minimum(xp.maximum(v + c[4], c[7]), c[8])
    v = xp.where(c[11] == 1.0, power_of_two(v), xp.where(c[11] == 2.0, between(e, 0.1, v), v))
    v = v * c[9] * xp.where(c[10] == 1.0, w, xp.where(c[10] == 2.0, h, 1.0))
    return v, v, v, v, v, v, v, v


def symmetric_beta(a, b, c):
    """A number of the distribution Beta(alpha, alpha), from two words.

    Its lower half is s h(s), where s = (u alpha B(alpha, alpha))^(1 / alpha) for u uniform in (0, 0.5] and h is
    smooth; the upper one mirrors it, below 1 as torch's. c: 1 / alpha, ln s at u = 0.5, then z = c[2] s + c[3] in
    [0, 1], of which h is the polynomial c[4], c[5], ... (`gpuaug.transforms.beta.configuration`).
    """
    s = decaying(logarithm(unit(a) + UNIT) * c[0] + c[1])
    z = s * c[2] + c[3]
    h = c[11]
    for i in xp.static_range(7):
        h = h * z + c[10 - i]
    low = xp.minimum(s * h, 0.5)
    return xp.where(unit(b) < 0.5, low, xp.minimum(1.0 - low, BELOW_ONE))


def draw_mixup(key, c, h, w):
    """The partner's share. c: as `symmetric_beta`."""
    a, b, _, _ = words(key, 0)
    share = symmetric_beta(a, b, c)
    return share, share, share, share, share, share, share, share


def mixed_box(key, c, h, w):
    """torchvision's CutMix box (top, left, height, width), and the share of which it was made.

    Its centre is a pixel, its half sides are 0.5 sqrt(share) of the canvas's, truncated; it is clamped to the canvas.
    """
    a, b, d, e = words(key, 0)
    share = symmetric_beta(a, b, c)
    r = xp.sqrt_rn(share) * 0.5
    x, y, half_w, half_h = integer(d, w), integer(e, h), xp.floor(r * w), xp.floor(r * h)
    left, top = xp.maximum(x - half_w, 0.0), xp.maximum(y - half_h, 0.0)
    return top, left, xp.minimum(y + half_h, h) - top, xp.minimum(x + half_w, w) - left, share


def draw_cutmix(key, c, h, w):
    """CutMix's box (top, left, height, width), and the part of the canvas that it has. c: as `symmetric_beta`."""
    top, left, tall, wide, _ = mixed_box(key, c, h, w)
    share = xp.div_rn(tall * wide, h * w)
    return top, left, tall, wide, share, share, share, share


def draw_cutmix_drawn(key, c, h, w):
    """As `draw_cutmix`, with the share of which the box was made, whatever of it lies on the canvas."""
    top, left, tall, wide, share = mixed_box(key, c, h, w)
    return top, left, tall, wide, share, share, share, share


def draw_augmix(key, c, h, w):
    """AugMix's weights for alpha = 1: the image's own, uniform, and of the rest the parts of c[0] chains, at most six,
    of the distribution Dirichlet(1, ..., 1): exponential numbers over their sum."""
    own, a, b, d = words(key, 0)
    e, f, g, _ = words(key, 1)
    one, two, three = waited(a, 0.0, c[0]), waited(b, 1.0, c[0]), waited(d, 2.0, c[0])
    four, five, six = waited(e, 3.0, c[0]), waited(f, 4.0, c[0]), waited(g, 5.0, c[0])
    kept = unit(own)
    rest = xp.div_rn(1.0 - kept, one + two + three + four + five + six)
    return kept, rest * one, rest * two, rest * three, rest * four, rest * five, rest * six, kept


def waited(word, i, n):
    """An exponentially distributed number, above 0; 0 unless i < n."""
    return xp.where(i < n, UNIT - logarithm(unit(word) + UNIT), 0.0)


def draw_keep_ratio(key, c, h, w):
    """timm's ResizeKeepRatio: height, width, in float64 where nothing is drawn, as Python rounds them.

    c: target height, width; 1 to fit the longer side, 0 the shorter; probability of a scale, low, high, 1 if it is of
    areas and turned over; probability of an aspect, log aspect low, high.
    """
    a, b, d, e = words(key, 0)
    tall, wide = xp.f64(h) / xp.f64(c[0]), xp.f64(w) / xp.f64(c[1])
    most, least = xp.where(tall > wide, tall, wide), xp.where(tall > wide, wide, tall)
    longest = xp.f64(c[2])
    ratio = most * longest + least * (1.0 - longest)
    scale = between(b, c[4], c[5])
    scale = xp.where(c[6] > 0.0, xp.div_rn(1.0, xp.sqrt_rn(scale)), scale)
    scale = xp.where(unit(a) < c[3], scale, 1.0)
    aspect = xp.where(unit(d) < c[7], xp.sqrt_rn(exponential(between(e, c[8], c[9]))), 1.0)
    height = xp.f32(half_even(xp.f64(h) * xp.f64(xp.div_rn(scale, aspect)) / ratio))
    width = xp.f32(half_even(xp.f64(w) * xp.f64(scale * aspect) / ratio))
    return height, width, width, width, width, width, width, width


def draw_missing(key, c, h, w):
    """What a canvas lacks of c[0] x c[1], divided at random: by how much it grows left, top, right, bottom."""
    a, b, _, _ = words(key, 0)
    lack_y, lack_x = xp.maximum(c[0] - h, 0.0), xp.maximum(c[1] - w, 0.0)
    top, left = integer(a, lack_y + 1.0), integer(b, lack_x + 1.0)
    bottom = lack_y - top
    return left, top, lack_x - left, bottom, bottom, bottom, bottom, bottom


def draw_cutmix_between(key, c, h, w):
    """timm's CutMix box of sides from c[0] to below c[1] of the canvas's, truncated, inside of it (top, left, height,
    width), and the part of the canvas that it has."""
    a, b, d, e = words(key, 0)
    low_y, low_x = xp.floor(h * c[0]), xp.floor(w * c[0])
    tall, wide = low_y + integer(a, xp.floor(h * c[1]) - low_y), low_x + integer(b, xp.floor(w * c[1]) - low_x)
    top, left = integer(d, h - tall + 1.0), integer(e, w - wide + 1.0)
    share = xp.div_rn(tall * wide, h * w)
    return top, left, tall, wide, share, share, share, share


def draw_center(key, c, h, w):
    """A whole point x, y of a canvas c[0] x c[1] (h, w)."""
    a, b, _, _ = words(key, 0)
    x, y = integer(a, c[1]), integer(b, c[0])
    return x, y, x, y, x, y, x, y


CASES = {
    1: "draw_accept",
    2: "draw_integer",
    3: "draw_uniform",
    4: "draw_offset",
    5: "draw_resized_crop",
    6: "draw_affine",
    7: "draw_perspective",
    8: "draw_weighted",
    9: "draw_seeds",
    10: "draw_permutation",
    11: "draw_erase",
    12: "draw_hole",
    13: "draw_grid",
    14: "draw_level",
    15: "draw_noisy_level",
    16: "draw_mixup",
    17: "draw_cutmix",
    18: "draw_cutmix_drawn",
    19: "draw_scale_jitter",
    20: "draw_augmix",
    21: "draw_zoom_out",
    22: "draw_center",
    23: "draw_keep_ratio",
    24: "draw_missing",
    25: "draw_cutmix_between",
}
FLOAT64 = frozenset({"draw_keep_ratio"})  # draws that compute in it
