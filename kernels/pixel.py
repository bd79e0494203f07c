"""Pixel formulas: what a slot does to a colour.

A formula takes either one channel, `v`, or all three, `r, g, b`, as float32, then

- `p`: eight floats, the op's arguments (drawn ones first; p[7] is the statistic of the whole image, for an op that has
  one);
- `bound`: the largest value of the stage, 255 for uint8, 1 for float;
- `lattice`: 1 while pixels live on uint8's integer lattice, else 0;
- `channels`: 1 or 3 for a formula over `r, g, b` (all three hold the one channel if 1), anything for one over `v`.

torchvision.transforms.v2.functional is the source of the semantics unless a docstring says otherwise.
"""


def settle(v, bound, lattice):
    """Clamp to [0, bound], and truncate on the lattice."""
    v = xp.minimum(xp.maximum(v, 0.0), bound)
    return xp.where(lattice > 0.0, xp.floor(v), v)


def luma(r, g, b, lattice, channels):
    """Grey of a colour (ITU-R 601), floored on the lattice; the channel itself where there is one."""
    grey = xp.where(channels == 1, r, 0.2989 * r + 0.587 * g + 0.114 * b)
    return xp.where(lattice > 0.0, xp.floor(grey), grey)


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
    return settle(v * p[0] + p[7] * (1.0 - p[0]), bound, lattice)


def solarize(v, p, bound, lattice, channels):
    """Invert what is at least p[0]."""
    return xp.where(v >= p[0], bound - v, v)


def invert(v, p, bound, lattice, channels):
    """bound - v."""
    return bound - v


CASES = {1: "convert", 2: "normalize", 3: "brightness", 4: "contrast", 5: "solarize", 6: "invert"}
