"""Elastic transforms: a displacement of each pixel, noise that is blurred.

The first of an op's two steps draws the noise, from two seeds p[0 .. 1]. The second moves the pixels: p[0 .. 1] is half
of alpha, along x and y, in pixels; p[2 .. 3] the standard deviation along x and y of both blurs; p[4] how it reads
between pixels, as `geometry.NEAREST`, ...; p[5 .. 7] the fill. torchvision.transforms.v2.ElasticTransform is the source
of the semantics: the displacement along x is cut off as p[2] says, on both axes, and that along y as p[3] says.
"""


def drift(x, y, p):
    """The noise of a pixel: two numbers uniform in [-1, 1)."""
    c0, c1, _, _ = noise_words(x, y, p[0], p[1], p[0] * 0.0)
    return 2.0 * unit(c0) - 1.0, 2.0 * unit(c1) - 1.0


def blur_radius(sigma):
    """Beyond how many pixels a blur is cut off; 0 for no blur."""
    return xp.floor(xp.floor(8.0 * sigma + 1.0) * 0.5)


def cut_weight(k, sigma, radius):
    """A blur's weight of a neighbour k pixels away, not normalised."""
    return xp.where(xp.abs(k) <= radius, blur_weight(k, (sigma, radius)), 0.0)


def landing(x, moved, alpha, n, kind):
    """The coordinate that a pixel is read at, along an axis of n pixels, of its displacement; far outside is enough."""
    c = clamp(x + alpha * moved, -4.0, n + 3.0)
    return xp.where(kind == NEAREST, snap(c), c)


def smooth_kind(kind):
    """The filter whose weights a step takes: a nearest pixel is a whole coordinate of a linear one."""
    return xp.where(kind == NEAREST, xp.f32(LINEAR), kind)


def settled(v, bound, lattice):
    """A resampled value, rounded and clamped on the lattice."""
    return xp.where(lattice > 0.0, clamp(half_even(v), 0.0, bound), v)
