"""The kornia backend's gradients with respect to the images."""

from __future__ import annotations

import judges
import pytest
import torch
from test_kornia import FLOAT, TURN, compose, run
from torch import Tensor
from torchvision.transforms.v2 import functional as F

import gpuaug as ga
from gpuaug.backends import kornia as backend


@pytest.fixture(scope="session")
def batch(photos: list[Tensor]) -> Tensor:
    """Crops of real photos, uint8 [4, 3, 22, 20]."""
    return judges.patches(judges.thumbnails(photos, 64), 4, 22, 20, seed=3)


LINEAR: dict[str, list] = {
    "resized-crop": [ga.RandomResizedCrop((15, 17)), ga.RandomHorizontalFlip(), ga.Normalize([0.4] * 3, [0.2] * 3)],
    "warp": [ga.RandomAffine(**TURN, interpolation="bilinear", fill=0.2), ga.RandomInvert()],
    "bicubic": [ga.Pad(3, padding_mode="reflect"), ga.RandomRotation(40, interpolation="bicubic"), ga.RandomCrop(16)],
    "nearest": [ga.RandomPerspective(0.5, p=1, interpolation="nearest"), ga.Resize((30, 31), interpolation="nearest")],
    "perhaps": [ga.RandomPerspective(0.5, p=0.5), ga.RandomApply([ga.RandomInvert(p=1)], p=0.5)],
    "mean": [ga.RandomResizedCrop(16), ga.ColorJitter(contrast=(0.5, 0.6)), ga.RandomRotation(20)],
    "saturation": [ga.RandomHorizontalFlip(), ga.ColorJitter(saturation=(0.4, 0.7)), ga.RandomGrayscale(0.5)],
    "sharpness": [ga.RandomAdjustSharpness(0.4, p=0.6), ga.RandomRotation(20), ga.GaussianBlur((3, 5), (0.4, 1.2))],
    "sharpness-inline": [ga.RandomRotation(20, interpolation="bilinear"), ga.RandomAdjustSharpness(0.4, p=0.6)],
    "erase": [ga.RandomErasing(0.7, value="random"), ga.RandomRotation(20), ga.GridMask((4, 7), p=0.6)],
}


def as_floats(batch: Tensor) -> Tensor:
    """In [0.3, 0.7], so that mild pixel ops clamp nothing."""
    return F.to_dtype(batch, torch.float32, scale=True) * 0.4 + 0.3


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradient_is_the_adjoint(name: str, memory_format: torch.memory_format, batch: Tensor) -> None:
    """Of an affine pipeline f: <u, f(x + v) - f(x)> = <grad, v>, whatever the step v."""
    x = as_floats(batch).to(memory_format=memory_format).requires_grad_()
    augment, generator = compose(LINEAR[name]), torch.Generator().manual_seed(0)
    params = augment.sample(x, ids=range(4), epoch=0)
    y = augment.apply(x, params)
    u = torch.randn(y.shape, generator=generator)
    (gradient,) = torch.autograd.grad(y, x, u)
    noise = torch.rand(x.shape, generator=generator) - 0.5
    for v in (noise * 0.2, gradient.sign() * 0.1):
        change = augment.apply(x.detach() + v, params).double() - y.detach().double()
        expected, got = (u.double() * change).sum(), (gradient.double() * v.double()).sum()
        assert abs(expected - got) < 2e-5 * u.double().norm() * change.norm()
    assert expected > 0.1 * u.norm() * change.norm()


def test_gradient_by_finite_differences(batch: Tensor) -> None:
    """Brightness, contrast with its mean, and the normalisation, around a smooth crop: products of functions of x."""
    transforms = [
        ga.ColorJitter(contrast=(0.6, 0.8)),
        ga.RandomResizedCrop((15, 17)),
        ga.ColorJitter(brightness=(0.8, 1.1), contrast=(0.7, 1.2)),
        ga.Normalize(ga.IMAGENET_MEAN, ga.IMAGENET_STD),
    ]
    x = as_floats(batch).requires_grad_()
    augment, generator = compose(transforms), torch.Generator().manual_seed(1)
    params = augment.sample(x, ids=range(4), epoch=0)

    def loss(images: Tensor) -> Tensor:
        return augment.apply(images, params).double().pow(2).mean()

    (gradient,) = torch.autograd.grad(loss(x), x)
    for _ in range(4):
        v, step = torch.randn(x.shape, generator=generator).sign(), 1e-2
        slope = (loss(x.detach() + step * v) - loss(x.detach() - step * v)) / (2 * step)
        assert abs(slope - (gradient * v).double().sum()) < 2e-4 * abs(slope) + 1e-5


def test_slopes_of_other_rows_stay_finite(batch: Tensor) -> None:
    """The power of a gamma is infinitely steep at 0, the hue of a grey has no slope: neither reaches other samples."""
    transforms = [
        ga.RandomGamma((0.4, 0.5), p=0.5),
        ga.ColorJitter(0.2, 0.2, 0.2, 0.3),
        ga.RandomChoice([ga.RandomAutocontrast(1), ga.RandomEqualize(1), ga.GaussianBlur(3), ga.RandomPosterize(3, 1)]),
        ga.RandomRotation(30, interpolation="bilinear"),
    ]
    x = as_floats(batch.repeat(4, 1, 1, 1))
    augment = compose(transforms)
    params = augment.sample(x, ids=range(16), epoch=0)
    calls = [{record["call"] for record in params.describe(i)} for i in range(16)]
    dark = torch.tensor(["adjust_gamma" not in names for names in calls])
    steep = torch.tensor([not names & {"equalize", "posterize"} for names in calls])
    assert 4 < dark.sum() < 12
    x[dark, :, 3:6] = 0.0
    x.requires_grad_()
    augment.apply(x, params).pow(2).sum().backward()
    assert x.grad.isfinite().all() and torch.equal(x.grad.abs().sum((1, 2, 3)) > 0, steep)


def test_lattice_has_no_slope_and_auto_takes_kornia(batch: Tensor) -> None:
    x = as_floats(batch).requires_grad_()
    augment = ga.Compose([ga.RandomResizedCrop(8)], seed=0)
    assert augment.recipe(x).module is backend
    augment(x, ids=range(4), epoch=0).sum().backward()
    torch.testing.assert_close(x.grad.sum((2, 3)), torch.full((4, 3), 64.0))
    rounded = run([ga.ToDtype(torch.uint8, scale=True), ga.RandomResizedCrop(8), *FLOAT], x)
    (gradient,) = torch.autograd.grad(rounded.sum(), x, allow_unused=True)
    assert gradient is None or not gradient.any()
    with pytest.raises(RuntimeError, match="not differentiable"):
        ga.Compose([ga.RandomResizedCrop(8)], seed=0, backend="cpu")(x)
