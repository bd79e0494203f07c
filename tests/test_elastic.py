"""Elastic transforms against torchvision, given the displacement that `describe` tells, and what that is made of."""

from __future__ import annotations

import judges
import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

import gpuaug as ga

CASES = {  # size; alpha, sigma, interpolation, fill on [0, 1]
    "one pixel": ((1, 1), (40.0, 0.0, "bilinear", 0.3)),
    "one line": ((1, 21), (9.0, 0.0, "bilinear", 0.0)),
    "odd": ((7, 9), (30.0, 0.3, "bilinear", 0.6)),
    "axes": ((13, 18), ((20.0, 60.0), (1.3, 0.7), "bilinear", 0.0)),
    "nearest": ((9, 14), (30.0, 0.5, "nearest", 0.6)),
    "bicubic": ((14, 17), (40.0, 1.0, "bicubic", 0.3)),
    "default": ((45, 38), (50.0, 5.0, "bilinear", 0.0)),
    "far": ((8, 11), (4000.0, 0.4, "bilinear", 0.6)),
}
if judges.INTERPRETED:
    CASES = {name: CASES[name] for name in ("axes", "nearest", "bicubic")}


def smooth(shape: tuple[int, ...]) -> Tensor:
    coarse = torch.rand((*shape[:-2], 5, 5), generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, shape[-2:], mode="bicubic", align_corners=False).clamp(0, 1)


def moved(image: Tensor, displacement: Tensor, interpolation: str, fill: float) -> Tensor:
    """torchvision's, the fill blended once."""
    bare = F.elastic(image.float(), displacement, F.InterpolationMode(interpolation))
    cover = F.elastic(torch.ones_like(bare[:1]), displacement, F.InterpolationMode(interpolation))
    value = bare + fill * (1 - cover)
    return value if image.is_floating_point() else value.round().clamp(0, 255)


@pytest.mark.parametrize("backend", judges.BACKENDS)
@pytest.mark.parametrize("channels", [3] if judges.INTERPRETED else [1, 3, 5])
@pytest.mark.parametrize("name", CASES)
def test_torchvisions_pixels(name: str, channels: int, backend: str) -> None:
    size, (alpha, sigma, mode, fill) = CASES[name]
    floats = smooth((2, channels, *size))
    for images in (floats, (floats * 255).to(torch.uint8)):
        lattice = not images.is_floating_point()
        colour = round(fill * 255) if lattice else fill
        augment = ga.Compose([ga.ElasticTransform(alpha, sigma, mode, colour)], seed=3, backend=backend)
        on_device = images.to(judges.device_of(backend))
        params = augment.sample(on_device, ids=[1, 2], epoch=0)
        for i, found in enumerate(augment.apply(on_device, params).cpu()):
            (record,) = params.describe(i)
            assert record["call"] == "elastic" and record["kwargs"]["displacement"].shape == (1, *size, 2)
            assert found.dtype == images.dtype
            apart = (found.float() - moved(images[i], **record["kwargs"])).abs()
            limit = 1 if lattice else 5e-2 if name == "far" else judges.FLOAT_TOLERANCE
            assert (apart > limit).float().mean() <= (0.02 if name in ("far", "nearest") else 0), float(apart.max())


@pytest.mark.parametrize(("alpha", "sigma"), [(50.0, 2.0), ((30.0, 90.0), (1.0, 2.5))])
def test_displacements_are_torchvisions(alpha: object, sigma: object) -> None:
    """In distribution: its own draws pool to the same standard deviations, and each end to the same spread."""
    size, n = (40, 28), 60
    images = torch.zeros(n, 1, *size)
    params = ga.Compose([ga.ElasticTransform(alpha, sigma)], seed=0, backend="kornia").sample(
        images, ids=range(n), epoch=0
    )
    ours = torch.cat([params.describe(i)[0]["kwargs"]["displacement"] for i in range(n)])
    torch.manual_seed(0)
    transform = v2.ElasticTransform(alpha, sigma)
    theirs = torch.cat([transform.make_params([images[0]])["displacement"] for _ in range(n)])
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    for axis in (0, 1):
        one, other = (d[..., axis] for d in (ours, theirs))
        assert one.std().item() == pytest.approx(other.std().item(), rel=0.1)
        assert stats.ks_2samp(one[:, ::9, ::9].flatten(), other[:, ::9, ::9].flatten()).pvalue > 1e-4
        for lag in (1, 3):
            assert _correlation(one, lag) == pytest.approx(_correlation(other, lag), abs=0.05)


def _correlation(v: Tensor, lag: int) -> float:
    return torch.corrcoef(torch.stack([v[:, :, lag:].flatten(), v[:, :, :-lag].flatten()]))[0, 1].item()


@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_each_sample_its_own_in_any_batch(backend: str) -> None:
    ids = [5, 2**40] if judges.INTERPRETED else [5, 2**40, 0, 77]
    images = smooth((len(ids), 3, 15, 18))
    transforms = [
        ga.RandomApply([ga.ElasticTransform(30.0, 1.0)], p=0.7),
        ga.RandomHorizontalFlip(),
        ga.RandomOrder([ga.ElasticTransform(20.0, 0.5, fill=0.4), ga.RandomInvert()]),
    ]
    augment = ga.Compose(transforms, seed=3, backend=backend)
    together = augment(images.to(judges.device_of(backend)), ids=ids, epoch=1)
    for i in range(len(images)):
        alone = augment(images[i : i + 1].to(together.device), ids=ids[i : i + 1], epoch=1)
        assert torch.equal(alone[0], together[i])
    assert not torch.equal(together, augment(images.to(together.device), ids=ids, epoch=2))


@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_alpha_0_moves_nothing(backend: str) -> None:
    images = smooth((2, 3, 12, 9)).to(judges.device_of(backend))
    for mode in ("nearest", "bilinear", "bicubic"):
        out = ga.Compose([ga.ElasticTransform(0.0, 1.0, mode, 0.9)], seed=0, backend=backend)(images)
        torch.testing.assert_close(out, images, rtol=0, atol=1e-6)


@pytest.mark.skipif(judges.INTERPRETED, reason="the differentiable backend is kornia's")
def test_gradients() -> None:
    images = smooth((2, 3, 12, 14)).requires_grad_()
    augment = ga.Compose([ga.ElasticTransform(20.0, 1.0, fill=0.4)], seed=2)
    out = augment(images, ids=[0, 1], epoch=0)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad((out * weights).sum(), images)
    other = (images.detach() + 0.1).requires_grad_()
    ahead = augment(other, ids=[0, 1], epoch=0)
    slope = ((ahead - out) * weights).sum().item()
    assert slope == pytest.approx((gradient * 0.1).sum().item(), rel=1e-3, abs=1e-3), "it is linear in the pixels"
