"""Elementary functions from exactly rounded operations alone, equal to the bit in every dialect.

Only + - * floor, `div_rn`, `sqrt_rn` and `fma`, in one order: decisions may be made from their results.
"""

DEGREE = 0.017453292519943295
LN2 = 0.6931471805599453
LEAST = 5.9604644775390625e-08  # 2^-24


def clamp(x, low, high):
    """x within low .. high; low for NaN."""
    return xp.where(x > low, xp.minimum(x, high), low)


def half_even(x):
    """Round to the nearest whole number, ties to even, as Python's `round`."""
    low = xp.floor(x)
    rest = x - low
    odd = low - 2.0 * xp.floor(low * 0.5)
    return xp.where(rest > 0.5, low + 1.0, xp.where((rest == 0.5) & (odd == 1.0), low + 1.0, low))


def truncate(x):
    """Round towards zero, as Python's `int`."""
    return xp.where(x < 0.0, 0.0 - xp.floor(0.0 - x), xp.floor(x))


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


def decaying(x):
    """exp(x) for x <= 0, relative error below 1e-5; 0 below -80."""
    n = xp.floor(x * 1.4426950408889634 + 0.5)
    least = xp.maximum(n, -120.0)
    e, k = exponential(xp.maximum(x, -80.0) - least * LN2), 0.0 - least
    e, k = xp.where(k >= 64.0, e * 5.421010862427522e-20, e), xp.where(k >= 64.0, k - 64.0, k)
    e, k = xp.where(k >= 32.0, e * 2.3283064365386963e-10, e), xp.where(k >= 32.0, k - 32.0, k)
    e, k = xp.where(k >= 16.0, e * 1.52587890625e-05, e), xp.where(k >= 16.0, k - 16.0, k)
    e, k = xp.where(k >= 8.0, e * 0.00390625, e), xp.where(k >= 8.0, k - 8.0, k)
    e, k = xp.where(k >= 4.0, e * 0.0625, e), xp.where(k >= 4.0, k - 4.0, k)
    e, k = xp.where(k >= 2.0, e * 0.25, e), xp.where(k >= 2.0, k - 2.0, k)
    e = xp.where(k >= 1.0, e * 0.5, e)
    return xp.where(x < -80.0, 0.0, e)


def logarithm(x):
    """ln(x) for 2^-31 < x <= 1, absolute error below 1e-6: doublings into (0.7, 1.42], then the series of 2 atanh."""
    k = x * 0.0
    m = x
    k, m = xp.where(m < 1.52587890625e-05, k - 16.0, k), xp.where(m < 1.52587890625e-05, m * 65536.0, m)
    k, m = xp.where(m < 0.00390625, k - 8.0, k), xp.where(m < 0.00390625, m * 256.0, m)
    k, m = xp.where(m < 0.0625, k - 4.0, k), xp.where(m < 0.0625, m * 16.0, m)
    k, m = xp.where(m < 0.25, k - 2.0, k), xp.where(m < 0.25, m * 4.0, m)
    k, m = xp.where(m < 0.5, k - 1.0, k), xp.where(m < 0.5, m * 2.0, m)
    k, m = xp.where(m < 0.7071067811865476, k - 1.0, k), xp.where(m < 0.7071067811865476, m * 2.0, m)
    t = xp.div_rn(m - 1.0, m + 1.0)
    t2 = t * t
    s = t2 * 0.2222222222222222 + 0.2857142857142857
    s = s * t2 + 0.4
    s = s * t2 + 0.6666666666666666
    s = s * t2 + 2.0
    return k * LN2 + s * t


def sine_cosine(degrees):
    """(sin, cos) of an angle in degrees, exact at multiples of 90, error below 1e-7: quadrant plus Taylor
    polynomials."""
    quarter = xp.floor(degrees * 0.011111111111111112 + 0.5)
    x = (degrees - quarter * 90.0) * DEGREE
    x2 = x * x
    s = ((x2 * 2.7557319223985893e-06 - 0.0001984126984126984) * x2 + 0.008333333333333333) * x2 - 0.16666666666666666
    s = s * x2 * x + x
    c = ((x2 * 2.48015873015873e-05 - 0.001388888888888889) * x2 + 0.041666666666666664) * x2 - 0.5
    c = c * x2 + 1.0
    turn = quarter - 4.0 * xp.floor(quarter * 0.25)
    sin = xp.where(turn == 0.0, s, xp.where(turn == 1.0, c, xp.where(turn == 2.0, 0.0 - s, 0.0 - c)))
    cos = xp.where(turn == 0.0, c, xp.where(turn == 1.0, 0.0 - s, xp.where(turn == 2.0, 0.0 - c, s)))
    return sin, cos


def normal(u, v):
    """One standard normal number from two uniform ones in [0, 1), multiples of 2^-24 (Box and Muller, 1958)."""
    radius = xp.sqrt_rn(logarithm(u + LEAST) * -2.0)
    _, cos = sine_cosine(v * 360.0)
    return radius * cos
