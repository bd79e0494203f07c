"""The shared arithmetic against closed forms, published vectors and numpy, in the torch dialect."""

import itertools
import math

import numpy as np
import pytest
import torch
from torchvision.transforms import functional as tv

from gpuaug.kernels.shared import geometry
from gpuaug.kernels.torch.dialect import DRAW, ELEMENTARY, GEOMETRY, PIXEL

RANDOM123 = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def _hex(words):
    return [int(w, 16) for w in words.split()]


@pytest.mark.parametrize(("counter", "key", "expected"), RANDOM123)
def test_philox_gives_random123s_published_vectors(counter, key, expected):
    assert list(DRAW["philox"](*_hex(counter), *_hex(key))) == _hex(expected)
    tensors = [torch.tensor([w], dtype=torch.int64) for w in _hex(counter) + _hex(key)]
    assert [int(w) for w in DRAW["philox"](*tensors)] == _hex(expected)


def test_unit_and_integer_stay_in_range_at_the_ends():
    words = torch.tensor([0, 255, 0xFFFFFFFF], dtype=torch.int64)
    u = DRAW["unit"](words)
    assert u.tolist() == [0.0, 0.0, 1.0 - 2.0**-24]
    for n in (1.0, 7.0, 16_000_000.0):
        k = DRAW["integer"](words, torch.full((3,), n))
        assert k[0] == 0 and k[2] == n - 1


def test_half_even_is_pythons_round():
    x = torch.arange(-20, 20, dtype=torch.float32) * 0.25
    assert ELEMENTARY["half_even"](x).tolist() == [float(round(v)) for v in x.tolist()]


def test_exponential_within_its_stated_error():
    x = torch.linspace(-5, 5, 2001)
    error = (ELEMENTARY["exponential"](x).double() / torch.exp(x.double()) - 1).abs().max()
    assert error < 3e-6


def test_position_enumerates_each_permutation_once():
    for n in (1, 2, 4):
        orders = {tuple(DRAW["position"](code, child, n) for child in range(n)) for code in range(math.factorial(n))}
        assert orders == set(itertools.permutations(range(n)))
    codes = torch.arange(24)
    places = torch.stack([DRAW["position"](codes, child, 4) for child in range(4)], 1)
    assert {tuple(p) for p in places.tolist()} == set(itertools.permutations(range(4)))


def test_sine_cosine_against_float64_and_exact_at_right_angles():
    degrees = torch.linspace(-720, 720, 20001)
    sin, cos = ELEMENTARY["sine_cosine"](degrees)
    radians = torch.deg2rad(degrees.double())
    assert (sin - radians.sin()).abs().max() < 1e-6 and (cos - radians.cos()).abs().max() < 1e-6
    sin, cos = ELEMENTARY["sine_cosine"](torch.tensor([0.0, 90.0, 180.0, 270.0, -90.0]))
    assert sin.tolist() == [0, 1, 0, -1, -1] and cos.tolist() == [1, 0, -1, 0, 0]


@pytest.mark.parametrize("center", [None, (0.0, 0.0), (5.0, 30.0)])
def test_affine_matrix_is_torchvisions(center):
    h, w = 40.0, 61.0
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        angle, sx, sy = ((torch.rand(3, generator=generator, dtype=torch.float64) - 0.5) * 100).tolist()
        scale, tx, ty = 0.7, 3.0, -5.0
        words = (0.0, 0.0, 0.0) if center is None else (*center, 1.0)
        t = GEOMETRY["affine"]((angle, tx, ty, scale, sx, sy, *words), h, w)
        middle = (w * 0.5, h * 0.5) if center is None else center
        expected = tv._get_inverse_affine_matrix(list(middle), angle, [tx, ty], scale, [sx, sy])
        corner = lambda x, y, m=expected: (  # noqa: E731
            m[0] * (x + 0.5) + m[1] * (y + 0.5) + m[2] - 0.5,
            m[3] * (x + 0.5) + m[4] * (y + 0.5) + m[5] - 0.5,
        )
        for x, y in [(0, 0), (60, 0), (13, 39)]:
            ours = (t[0] * x + t[1] * y + t[2], t[3] * x + t[4] * y + t[5])
            assert ours == pytest.approx(corner(x, y), abs=1e-4)


def test_homography_is_torchvisions():
    h, w = 48, 64
    start = [[0, 0], [w - 1, 0], [w - 1, h - 1], [0, h - 1]]
    end = [[5, 3], [60, 7], [50, 40], [9, 47]]
    m = tv._get_perspective_coeffs(start, end)
    corners = tuple(torch.tensor([float(v)]) for point in end for v in point)
    t = [float(v) for v in GEOMETRY["perspective"](corners, torch.tensor([float(h)]), torch.tensor([float(w)]))]
    for x, y in [(0, 0), (63, 0), (20, 31), (63, 47)]:
        u, v = x + 0.5, y + 0.5
        z = m[6] * u + m[7] * v + 1
        expected = ((m[0] * u + m[1] * v + m[2]) / z - 0.5, (m[3] * u + m[4] * v + m[5]) / z - 0.5)
        z = t[6] * x + t[7] * y + t[8]
        ours = ((t[0] * x + t[1] * y + t[2]) / z, (t[3] * x + t[4] * y + t[5]) / z)
        assert ours == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize(("border", "mode"), [(geometry.REFLECT, "reflect"), (geometry.SYMMETRIC, "symmetric")])
@pytest.mark.parametrize("n", [2, 5])
def test_fold_is_numpys_pad(border, mode, n):
    expected = np.pad(np.arange(n), 11, mode=mode)
    x = torch.arange(-11, n + 11, dtype=torch.float32)
    assert GEOMETRY["fold"](x, 0.0, float(n - 1), border).tolist() == expected.tolist()
    shifted = GEOMETRY["fold"](x + 7, 7.0, float(n + 6), border)
    assert shifted.tolist() == (expected + 7).tolist()


@pytest.mark.parametrize("kind", [geometry.LINEAR, geometry.CUBIC, geometry.CUBIC_AA])
def test_filters_interpolate_and_sum_to_one(kind):
    at = torch.arange(-3, 4, dtype=torch.float32)
    assert GEOMETRY["weight"](at, kind).tolist() == [0, 0, 0, 1, 0, 0, 0]
    for shift in (0.1, 0.5, 0.9):
        assert float(GEOMETRY["weight"](at + shift, kind).sum()) == pytest.approx(1.0, abs=1e-6)
    assert GEOMETRY["reach"](kind) == (1.0 if kind == geometry.LINEAR else 2.0)


@pytest.mark.parametrize(
    ("h", "w", "size", "longest"), [(30, 40, 20, 0), (41, 30, 20, 0), (30, 90, 20, 25), (7, 7, 3, 0)]
)
def test_shorter_side_is_torchvisions_rule(h, w, size, longest):
    from torchvision.transforms.v2 import functional as v2

    image = torch.zeros(1, h, w)
    expected = v2.resize(image, [size], max_size=longest or None, interpolation=0).shape[-2:]
    t = GEOMETRY["resize_shorter"]((float(size), float(longest), 0.0, 0.0, 0.0, 0.0, 1.0, 0.0), float(h), float(w))
    assert (t[15], t[16]) == tuple(expected)


def test_luma_is_the_channel_itself_where_there_is_one():
    v = torch.tensor([0.3, 0.9])
    assert torch.equal(PIXEL["luma"](v, v, v, 0.0, 1), v)
    grey = PIXEL["luma"](torch.tensor([200.0]), torch.tensor([100.0]), torch.tensor([50.0]), 1.0, 3)
    assert float(grey) == math.floor(200 * 0.2989 + 100 * 0.587 + 50 * 0.114)
