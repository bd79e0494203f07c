"""Blends: how the layers of an output become one image.

A blend goes over the layers, k = 0 (the output's own), 1, ..., and folds each into a channel of what it has so far: a
function of `k`, `total` (0 in front of the first), the layer's value `v`, the pixel's column and row `x, y` in the
output, and `p`, the eight arguments of the own row's step. `settled` ends it: p[7] says how.
"""

FLOAT = 0.0  # the sum as it is
ROUND = 1.0  # half to even, back onto the lattice
TRUNCATE = 2.0


def mixup(k, total, v, x, y, p):
    """(1 - p[0]) own + p[0] partner (Zhang et al., "mixup", arXiv 1710.09412)."""
    return xp.where(k == 0, v * (1.0 - p[0]), total + v * p[0])


def cutmix(k, total, v, x, y, p):
    """The partner inside of the rectangle p[0 .. 3] (Yun et al., "CutMix", arXiv 1905.04899)."""
    return xp.where((k == 0) | within(x, y, p), v, total)


def augmix(k, total, v, x, y, p):
    """The sum of p[k] times layer k, for up to seven (Hendrycks et al., "AugMix", arXiv 1912.02781)."""
    low = xp.where(k == 0, p[0], xp.where(k == 1, p[1], xp.where(k == 2, p[2], p[3])))
    share = xp.where(k < 4, low, xp.where(k == 4, p[4], xp.where(k == 5, p[5], p[6])))
    return xp.where(k == 0, v * share, total + v * share)


def mosaic(k, total, v, x, y, p):
    """Layer k in quadrant k about the point p[0], p[1]: upper left, upper right, lower left, lower right."""
    quadrant = xp.where(x < p[0], 0, 1) + xp.where(y < p[1], 0, 2)
    return xp.where((k == 0) | (quadrant == k), v, total)


CASES = {24: "mixup", 25: "cutmix", 26: "augmix", 27: "mosaic"}


def settled(v, p):
    """A channel behind all layers."""
    return xp.where(p[7] == ROUND, half_even(v), xp.where(p[7] == TRUNCATE, xp.floor(v), v))
