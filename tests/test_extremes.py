"""Numbers at their ends: NaN and infinity where a float becomes an index, windows that leave the canvas, far zooms."""

from __future__ import annotations

import math

import judges
import numpy as np
import pytest
import torch
import torch.nn.functional as nn
from gpu_pipelines import check_nan_stays
from torch import Tensor

import gpuaug as ga
import gpuaug.functional as F
from gpuaug.kernels.torch import dialect as torch_dialect

backends = pytest.mark.parametrize("backend", judges.BACKENDS)
NAN, INF = math.nan, math.inf


def photo_like(b: int, h: int = 24, w: int = 30, seed: int = 0) -> Tensor:
    """Smooth noise, float32 [b, 3, h, w]."""
    noise = torch.rand((b, 3, h // 4, w // 4), generator=torch.Generator().manual_seed(seed))
    return nn.interpolate(noise, (h, w), mode="bicubic", align_corners=False).clamp(0, 1)


def run(name: str, images: Tensor, *arguments, backend: str, **keywords) -> Tensor:
    device = judges.device_of(backend)
    placed = [a.to(device) if isinstance(a, Tensor) else a for a in arguments]
    return getattr(F, name)(images.to(device), *placed, backend=backend, **keywords).cpu()


# --- values that become indices ---------------------------------------------------------------------------------------
@backends
def test_nan_counts_as_black_for_equalize(backend: str) -> None:
    x = photo_like(2)
    broken, black = x.clone(), x.clone()
    broken[0, :, 3, 5], black[0, :, 3, 5] = NAN, 0.0
    assert torch.equal(run("equalize", broken, backend=backend), run("equalize", black, backend=backend))
    everywhere = run("equalize", torch.full_like(x, NAN), backend=backend)
    assert torch.equal(everywhere, torch.zeros_like(x)), "one level stays as it is"
    for value, level in ((INF, 1.0), (-INF, 0.0), (1e30, 1.0), (-1e30, 0.0)):
        broken[0, :, 3, 5] = value
        black[0, :, 3, 5] = level
        assert torch.equal(run("equalize", broken, backend=backend), run("equalize", black, backend=backend))


@backends
def test_nan_behind_a_factor_reaches_no_table(backend: str) -> None:
    """On uint8, too: a factor of NaN makes NaN of the lattice's values."""
    x = photo_like(2).mul(255).round().to(torch.uint8)
    augment = ga.Compose([ga.ColorJitter(brightness=(0.9, 1.1)), ga.RandomEqualize(1.0)], seed=0, backend=backend)
    params = augment.sample(x.to(judges.device_of(backend)), ids=range(2), epoch=0)
    fine = augment.apply(x.to(params.table.device), params).cpu()
    params.table[0, 0] = NAN
    out = augment.apply(x.to(params.table.device), params).cpu()
    assert torch.equal(out[1], fine[1]) and (out[0] == out[0, :, :1, :1]).all()


@backends
def test_nan_stays(backend: str) -> None:
    check_nan_stays(backend, judges.device_of(backend))


@backends
def test_autocontrast_leaves_nan_out_of_its_extremes(backend: str) -> None:
    x = photo_like(1)
    expected = run("autocontrast", x, backend=backend)
    x[0, :, 7, 7] = NAN
    out = run("autocontrast", x, backend=backend)
    assert out[0, :, 7, 7].isnan().all()
    out[0, :, 7, 7] = expected[0, :, 7, 7]
    assert torch.allclose(out, expected, atol=1e-6)


WINDOWS = [  # top, left; what they are led back to in a canvas of 24 x 30, for windows of 10 x 12
    ((5000.0, 3.0), (14, 3)),
    ((-7.0, 40.0), (0, 18)),
    ((NAN, -INF), (0, 0)),
    ((INF, 1e30), (14, 18)),
    ((2.9, 17.5), (2, 17)),
]


@backends
@pytest.mark.parametrize(("given", "led"), WINDOWS)
def test_windows_as_tensors_are_led_back(given: tuple, led: tuple, backend: str) -> None:
    x = photo_like(2)
    (top, left), (t, s) = (torch.tensor([v, 1.0]) for v in given), led
    out = run("crop", x, top, left, 10, 12, backend=backend)
    assert torch.equal(out[0], x[0, :, t : t + 10, s : s + 12]) and torch.equal(out[1], x[1, :, 1:11, 1:13])
    resized = run("resized_crop", x, top, left, 10.0, 12.0, [5, 6], backend=backend)
    expected = run("resize", x[:1, :, t : t + 10, s : s + 12], [5, 6], backend=backend)
    assert torch.allclose(resized[:1], expected, atol=1e-6)


@backends
@pytest.mark.parametrize(
    ("given", "size"), [((NAN, 60000.0), (1, 30)), ((INF, -3.0), (24, 1)), ((0.0, 1e30), (1, 30)), ((7.9, 8.2), (7, 8))]
)
def test_sizes_as_tensors_lie_in_the_canvas(given: tuple, size: tuple, backend: str) -> None:
    x = photo_like(1)
    height, width = (torch.tensor([v]) for v in given)
    out = run("resized_crop", x, torch.tensor([0.0]), torch.tensor([0.0]), height, width, [9, 9], backend=backend)
    expected = run("resize", x[:, :, : size[0], : size[1]], [9, 9], backend=backend)
    assert torch.allclose(out, expected, atol=1e-6)


@backends
def test_rectangles_as_tensors_cover_what_they_cover(backend: str) -> None:
    x = torch.ones(4, 3, 24, 30)
    i, h = torch.tensor([-1e30, NAN, 3.0, INF]), torch.tensor([2e30, 5.0, INF, 4.0])
    out = run("erase", x, i, torch.zeros(4), h, torch.full((4,), 1e9), 0.0, backend=backend)
    rows = [out[k, 0, :, 0] for k in range(4)]
    assert (rows[0] == 0).all() and (rows[1] == 1).all() and (rows[3] == 1).all()
    assert (rows[2][:3] == 1).all() and (rows[2][3:] == 0).all()
    assert torch.equal(out, out[:, :1, :, :1].expand_as(out))


@backends
def test_a_blur_of_no_width_keeps_the_image(backend: str) -> None:
    x = photo_like(2)
    for sigma in (0.0, 1e-40, -1.0):
        assert torch.equal(run("gaussian_blur", x, [5, 5], torch.tensor([sigma, sigma]), backend=backend), x)


@backends
def test_gamma_of_black_below_zero_has_a_place(backend: str) -> None:
    x = torch.zeros(1, 3, 4, 4)
    out = run("adjust_gamma", x, torch.tensor([-1.0]), torch.tensor([0.0]), backend=backend)
    assert torch.equal(out, x)


@backends
@pytest.mark.parametrize("fill", [1e30, -1e6, INF])
def test_a_far_fill_leaves_the_inside_alone(fill: float, backend: str) -> None:
    x = photo_like(1)
    turn = (torch.tensor([20.0]), "bilinear", False, None)
    near = run("rotate", x, *turn, 0.5, backend=backend)
    cover = run("rotate", torch.ones_like(x), *turn, 0.0, backend=backend)
    far = ga.Compose([ga.RandomRotation((20, 20), "bilinear", fill=min(fill, 3e38))], seed=0, backend=backend)
    out = far(x.to(judges.device_of(backend))).cpu()
    inside = cover > 0.99999
    assert inside.float().mean() > 0.5 and torch.allclose(out[inside], near[inside], atol=1e-4)


@backends
def test_coordinates_that_are_no_numbers_are_outside(backend: str) -> None:
    x = photo_like(1)
    for interpolation in ("nearest", "bilinear", "bicubic"):
        out = run("rotate", x, torch.tensor([NAN]), interpolation, False, None, 0.25, backend=backend)
        assert torch.equal(out, torch.full_like(x, 0.25)), interpolation


# --- far zooms --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("power", [-6, -3, -1, 1, 3, 6])
def test_backends_agree_at_any_zoom(power: int, interpolation: str) -> None:
    x = photo_like(4)
    angle = torch.tensor([10.0, 33.0, -70.0, 1e6])
    images = [
        F.affine(x, angle, [1.0, 2.0], 10.0**power, [5.0, 0.0], interpolation, fill=0.5, backend=backend)
        for backend in ("cpu", "kornia")
    ]
    assert (images[0] - images[1]).abs().max() <= (0.0 if interpolation == "nearest" else 1e-3)


def test_backends_agree_behind_a_wild_perspective() -> None:
    """As README says: what a tie decides is another pixel, or another level, for one in 10,000 at the most."""
    x = photo_like(48, 32, 40)
    ends = (torch.rand((48, 4, 2), generator=torch.Generator().manual_seed(1)) * 100 - 30).round()
    for interpolation in ("nearest", "bilinear"):
        one, other = (F.perspective(x, None, ends, interpolation, 0.2, backend=b) for b in ("cpu", "kornia"))
        apart = (one - other).abs() > 1e-3
        assert apart.float().mean() <= (1e-4 if interpolation == "nearest" else 0.0)
    levels = [
        F.equalize(F.perspective(x, None, ends, "bilinear", 0.2, backend=b), backend=b) for b in ("cpu", "kornia")
    ]
    apart = (levels[0] - levels[1]).abs()
    assert (apart > 1e-3).float().mean() <= 1e-4 and apart.max() <= 1.001 / 255


def test_square_roots_are_rounded_once() -> None:
    """torch's own float32 root is not, on CPUs; decisions are made from it."""
    x = torch.rand(200_000, generator=torch.Generator().manual_seed(0)) * 1e4
    assert np.array_equal(torch_dialect.xp.sqrt_rn(x).numpy(), np.sqrt(x.numpy()))


def test_timms_magnitudes_are_equal_to_the_bit() -> None:
    x = torch.zeros((1, 3, 8, 8), dtype=torch.uint8).expand(5000, -1, -1, -1)
    one, other = (
        ga.Compose([ga.timm_augment("rand-m9-mstd0.5-inc1")], seed=1, backend=b)
        .sample(x, ids=range(5000), epoch=0)
        .table
        for b in ("cpu", "kornia")
    )
    assert torch.equal(one, other)
