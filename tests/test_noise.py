"""Noise: its distribution, and what it hangs on: the sample, the epoch, the op, the pixel and the channel."""

from __future__ import annotations

import math

import judges
import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

import gpuaug as ga

COUNT, HEIGHT, WIDTH = (2, 24, 32) if judges.INTERPRETED else (6, 64, 80)
LEAST_P = 0.01  # ids are fixed: a test that passes keeps passing
ERASE = ga.RandomErasing(1.0, (0.5, 0.9), (0.5, 2.0), value="random")

NOISES = {
    "gaussian": ga.GaussianNoise(0.1, 0.2),
    "salt": ga.SaltAndPepper(0.3, p=1.0),
    "erase": ERASE,
    "uint8-gaussian": ga.GaussianNoise(0.1, 0.2),
    "uint8-salt": ga.SaltAndPepper(0.3, p=1.0),
}  # normal noise in place of a uint8 rectangle has no meaning: RandomErasing refuses it


def run(transforms: list, images: Tensor, backend: str, ids: list[int] | None = None, epoch: int = 0) -> Tensor:
    augment = ga.Compose(transforms, seed=13, backend=backend)
    return augment(images.to(judges.device_of(backend)), ids=ids or range(10, 10 + len(images)), epoch=epoch).cpu()


def flat(value: float, dtype: torch.dtype = torch.float32, channels: int = 3) -> Tensor:
    return torch.full((COUNT, channels, HEIGHT, WIDTH), value, dtype=dtype)


def gaussian(backend: str, mean: float = 0.0, sigma: float = 0.1, **keywords: int) -> Tensor:
    """The noise alone, [COUNT, 3, HEIGHT, WIDTH]."""
    return run([ga.GaussianNoise(mean, sigma, clip=False)], flat(0.5), backend, **keywords) - 0.5


def assert_unlike(one: Tensor, other: Tensor, what: str) -> None:
    r = np.corrcoef(one.flatten().numpy(), other.flatten().numpy())[0, 1]
    assert abs(r) < 4 / math.sqrt(one.numel()), f"{what}: correlation {r:.4f}"


def assert_counts(counts: list[int], shares: list[float], what: str) -> None:
    p = stats.chisquare(counts, [sum(counts) * share for share in shares]).pvalue
    assert p > LEAST_P, f"{what}: counts {counts} against shares {shares}, chi-square p = {p:.2g}"


# --- distributions ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("backend", judges.BACKENDS)
@pytest.mark.parametrize(("mean", "sigma"), [(0.0, 0.1), (0.2, 0.03), (-0.1, 1.0)])
def test_gaussian_noise_is_normal(mean: float, sigma: float, backend: str) -> None:
    noise = gaussian(backend, mean, sigma)
    assert stats.kstest(noise.flatten().numpy(), stats.norm(mean, sigma).cdf).pvalue > LEAST_P
    tails = (noise - mean).abs() > 3 * sigma
    assert stats.binomtest(int(tails.sum()), tails.numel(), 2 * stats.norm.sf(3)).pvalue > LEAST_P


@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_gaussian_noise_is_clipped(backend: str) -> None:
    free = run([ga.GaussianNoise(0.1, 0.5, clip=False)], flat(0.5), backend)
    assert free.min() < 0 and free.max() > 1
    assert torch.equal(run([ga.GaussianNoise(0.1, 0.5)], flat(0.5), backend), free.clamp(0, 1))


@pytest.mark.skipif(judges.INTERPRETED, reason="the interpreter's narrow stores are not what is under test")
@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_gaussian_noise_on_the_lattice(backend: str) -> None:
    """torchvision truncates the noise, in levels, towards zero."""
    noise = run([ga.GaussianNoise(0.0, 0.01)], flat(100, torch.uint8), backend).int() - 100
    levels = torch.arange(-7, 8)
    ends = torch.stack([torch.where(levels > 0, levels, levels - 1), torch.where(levels < 0, levels, levels + 1)])
    low, high = stats.norm.cdf(ends.numpy() / 2.55)
    shares = [*(high - low), 1 - (high - low).sum()]
    counts = [int((noise == k).sum()) for k in levels.tolist()]
    assert_counts([*counts, noise.numel() - sum(counts)], shares, "levels")


@pytest.mark.parametrize("backend", judges.BACKENDS)
@pytest.mark.parametrize(("amount", "salt"), [(0.1, 0.5), (0.4, 0.2), (1.0, 1.0)])
def test_salt_and_pepper(amount: float, salt: float, backend: str) -> None:
    out = run([ga.SaltAndPepper(amount, salt, p=1.0)], flat(0.25), backend)
    assert (out == out[:, :1]).all(), "a pixel is salted in all channels"
    counts = [int((out[:, 0] == v).sum()) for v in (1.0, 0.0, 0.25)]
    shares = [amount * salt, amount * (1 - salt), 1 - amount]
    assert sum(counts) == out[:, 0].numel()
    kept = [i for i in range(3) if shares[i] > 0]
    assert sum(counts[i] for i in kept) == sum(counts)
    if len(kept) > 1:
        assert_counts([counts[i] for i in kept], [shares[i] for i in kept], "salt, pepper, neither")


@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_erase_with_noise(backend: str) -> None:
    """Standard normal by pixel and channel inside of the rectangle, nothing outside."""
    images = flat(0.25)
    augment = ga.Compose([ERASE], seed=13, backend=backend)
    params = augment.sample(images.to(judges.device_of(backend)), ids=range(10, 10 + COUNT), epoch=0)
    out = augment.apply(images.to(judges.device_of(backend)), params).cpu()
    noise = []
    for i in range(COUNT):
        for record in params.describe(i):
            top, left, height, width = (record["kwargs"][name] for name in "ijhw")
            noise.append(out[i, :, top : top + height, left : left + width].flatten().clone())
            out[i, :, top : top + height, left : left + width] = 0.25
    assert len(noise) >= COUNT / 2 and torch.equal(out, images)
    assert stats.kstest(torch.cat(noise).numpy(), stats.norm.cdf).pvalue > LEAST_P


# --- what it hangs on -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_gaussian_noise_is_white(backend: str) -> None:
    noise = gaussian(backend)
    for channel, other in ((0, 1), (0, 2), (1, 2)):
        assert_unlike(noise[:, channel], noise[:, other], f"channels {channel} and {other}")
    for dy, dx in ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (0, 16), (16, 0)):
        assert_unlike(noise[..., dy:, dx:], noise[..., : HEIGHT - dy, : WIDTH - dx], f"pixels ({dy}, {dx}) apart")
    assert_unlike(noise[:-1], noise[1:], "ids i and i + 1")
    assert_unlike(noise, gaussian(backend, epoch=1), "epochs")
    assert_unlike(noise, gaussian(backend, ids=[2**40 + i for i in range(COUNT)]), "ids far away")
    i, j = torch.triu_indices(HEIGHT, HEIGHT, 1)
    assert_unlike(noise[..., i, j], noise[..., j, i], "rows and columns")
    assert_unlike(noise.abs()[..., 1:], noise.abs()[..., :-1], "sizes of neighbours")


@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_two_noises_are_two(backend: str) -> None:
    first = gaussian(backend)
    both = run([ga.GaussianNoise(0.0, 0.1, clip=False)] * 2, flat(0.5), backend) - 0.5
    assert_unlike(first, both - first, "two ops in one pipeline")
    assert (both - first).std().item() == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("backend", judges.BACKENDS)
@pytest.mark.parametrize("name", ["gaussian", "salt", "erase"])
def test_noise_is_a_function_of_the_sample(name: str, backend: str) -> None:
    """Not of the batch, its order, or the number of times it is asked for."""
    images = torch.rand(COUNT, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    ids = [7, 0, 2**40 + 3, 2**62, 123456789, 8][:COUNT]
    whole = run([NOISES[name]], images, backend, ids, epoch=3)
    order = list(range(COUNT))[::-1]
    assert torch.equal(run([NOISES[name]], images[order], backend, [ids[i] for i in order], epoch=3), whole[order])
    assert torch.equal(run([NOISES[name]], images[1:2], backend, ids[1:2], epoch=3), whole[1:2])
    augment = ga.Compose([NOISES[name]], seed=13, backend=backend)
    on_device = images.to(judges.device_of(backend))
    params = augment.sample(on_device, ids=ids, epoch=3)
    once, twice = augment.apply(on_device, params), augment.apply(on_device, params)
    assert torch.equal(once, twice) and torch.equal(once.cpu(), whole)


@pytest.mark.parametrize("other", [b for b in judges.BACKENDS if b != "cpu"])
@pytest.mark.parametrize("name", [name for name in NOISES if not (judges.INTERPRETED and name.startswith("uint8"))])
def test_backends_make_the_same_noise(name: str, other: str) -> None:
    images = torch.rand(COUNT, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    tolerance = judges.FLOAT_TOLERANCE
    if name.startswith("uint8"):
        images, tolerance = (images * 255).to(torch.uint8), 1
    ours, theirs = (run([NOISES[name]], images, backend).double() for backend in ("cpu", other))
    assert (ours - theirs).abs().max() <= tolerance


@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_noise_belongs_to_the_pixels_where_it_is_written(backend: str) -> None:
    """In front of an enlargement it repeats, behind one it does not; a flip turns it round."""
    images = torch.rand(COUNT, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    noise = ga.GaussianNoise(0.0, 0.2)
    enlarge = ga.Resize((2 * HEIGHT, 2 * WIDTH), interpolation="nearest")
    noisy = run([noise], images, backend)
    large = run([noise, enlarge], images, backend)
    assert torch.equal(large, noisy.repeat_interleave(2, -1).repeat_interleave(2, -2))
    assert torch.equal(run([noise, ga.RandomHorizontalFlip(1.0)], images, backend), noisy.flip(-1))
    behind = run([enlarge, noise], images, backend)
    assert not torch.equal(behind[..., ::2], behind[..., 1::2])
