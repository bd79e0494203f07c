"""JPEG against the libraries that write and read it: to the bit where they are built with libjpeg-turbo."""

from __future__ import annotations

import io
from collections import Counter

import judges
import numpy as np
import pytest
import torch
from PIL import Image, features
from torch import Tensor
from torchvision.transforms.v2 import functional as F

import gpuaug as ga

QUALITIES = [23] if judges.INTERPRETED else [1, *range(5, 100, 5), 49, 51, 100]
SIZES = [(1, 1), (7, 9), (1, 21), (21, 3), (17, 4), (18, 5), (16, 32), (33, 34)]
SIZES = [(7, 9), (18, 21)] if judges.INTERPRETED else SIZES
KINDS = ["noise", "smooth", "ends"]


def made(kind: str, shape: tuple[int, ...]) -> Tensor:
    """Synthetic images, uint8."""
    generator = torch.Generator().manual_seed(0)
    if kind == "ends":
        return torch.randint(0, 2, shape, generator=generator).mul(255).to(torch.uint8)
    if kind == "noise":
        return torch.randint(0, 256, shape, generator=generator).to(torch.uint8)
    coarse = torch.rand((*shape[:-2], 4, 4), generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, shape[-2:], mode="bicubic", align_corners=False)
    return (smooth * 255).clamp(0, 255).to(torch.uint8)


def pillow(image: Tensor, quality: int) -> Tensor:
    """Written and read by Pillow."""
    array, file = image.permute(1, 2, 0).squeeze(2).numpy(), io.BytesIO()
    Image.fromarray(array).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return torch.from_numpy(np.atleast_3d(np.array(Image.open(file))).copy()).permute(2, 0, 1)


def assert_alike(found: Tensor, expected: Tensor) -> None:
    """To the bit; where another decoder stands behind Pillow, but for what a decoder may choose."""
    if features.check_feature("libjpeg_turbo"):
        assert torch.equal(found, expected)
    apart = (found.int() - expected.int()).abs().double()
    assert apart.mean() <= 1.0 and (apart > 8).double().mean() <= 0.02


def run(transforms: list, images: Tensor, backend: str, **keywords) -> Tensor:
    augment = ga.Compose(transforms, seed=3, backend=backend)
    return augment(images.to(judges.device_of(backend)), **keywords).cpu()


@pytest.mark.parametrize("backend", judges.BACKENDS)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_pillows_pixels(channels: int, size: tuple[int, int], backend: str) -> None:
    images = torch.cat([made(kind, (1, channels, *size)) for kind in KINDS])
    for quality in QUALITIES:
        found = ga.functional.jpeg(images.to(judges.device_of(backend)), quality, backend=backend).cpu()
        for i in range(len(images)):
            assert_alike(found[i], pillow(images[i], quality))


@pytest.mark.skipif(judges.INTERPRETED, reason="whole photos take Triton's interpreter minutes")
@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_photos(backend: str, photos: list[Tensor]) -> None:
    for photo in photos[:4]:
        for quality in range(5, 100, 15 if backend == "kornia" else 5):
            assert_alike(run([ga.JPEG(quality)], photo[None], backend)[0], pillow(photo, quality))


@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_floats_are_levels(backend: str) -> None:
    """As torchvision takes them to uint8 and back; what no level is counts as the end, or as 0."""
    floats = torch.rand((2, 3, 9, 21), generator=torch.Generator().manual_seed(1)) * 1.2 - 0.1
    floats[0, 0, 0, 0], floats[0, 0, 0, 1] = float("nan"), float("inf")
    levels = F.to_dtype(floats.nan_to_num(0.0).clamp(0, 1), torch.uint8, scale=True)
    for transforms in ([ga.JPEG(40)], [ga.JPEG((20, 80))]):
        found = run(transforms, floats, backend, ids=[1, 2], epoch=0)
        expected = run(transforms, levels, backend, ids=[1, 2], epoch=0)
        torch.testing.assert_close(found, expected / 255, rtol=0, atol=1e-6)


@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_grey_in_the_middle(backend: str) -> None:
    """A stage of one channel in front of one of three has no chroma, and no luma of three equal channels."""
    images = made("smooth", (2, 3, 18, 23))
    found = run([ga.Grayscale(1), ga.JPEG(20), ga.Grayscale(3), ga.JPEG(70)], images, backend)
    for image, one in zip(images, found, strict=True):
        grey = pillow(F.rgb_to_grayscale(image, 1), 20)
        assert_alike(one, pillow(F.rgb_to_grayscale(grey, 3), 70))


@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_each_sample_its_own_quality_in_any_batch(backend: str) -> None:
    ids = [5, 2**40] if judges.INTERPRETED else [5, 2**40, 0, 77]
    images = made("smooth", (len(ids), 3, 19, 26))
    transforms = [ga.RandomApply([ga.JPEG((3, 90))], p=0.7), ga.RandomHorizontalFlip(), ga.RandomApply([ga.JPEG(30)])]
    together = run(transforms, images, backend, ids=ids, epoch=1)
    for i in range(len(images)):
        assert torch.equal(run(transforms, images[i : i + 1], backend, ids=ids[i : i + 1], epoch=1)[0], together[i])
    augment = ga.Compose(transforms, seed=3, backend=backend)
    params = augment.sample(images.to(judges.device_of(backend)), ids=ids, epoch=1)
    for i, image in enumerate(images):
        assert torch.equal(together[i], judges.replay(image, params.describe(i)))


@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_a_quality_on_the_device_is_led_back(backend: str) -> None:
    images = made("smooth", (5, 3, 10, 12)).to(judges.device_of(backend))
    asked = torch.tensor([float("nan"), -3.0, 0.0, 101.0, 60.9], device=images.device)
    taken = ga.functional.jpeg(images, [1, 1, 1, 100, 60], backend=backend)
    assert torch.equal(ga.functional.jpeg(images, asked, backend=backend), taken)


@pytest.mark.skipif(judges.INTERPRETED, reason="draws are judged in the other process")
def test_qualities_are_drawn_uniformly() -> None:
    n, images = 4000, torch.zeros((4000, 3, 1, 1), dtype=torch.uint8)
    params = ga.Compose([ga.JPEG((10, 13))], seed=0, backend="kornia").sample(images, ids=range(n), epoch=0)
    counts = Counter(params.describe(i)[0]["kwargs"]["quality"] for i in range(n))
    assert sorted(counts) == [10, 11, 12, 13]
    assert all(abs(count - n / 4) < 4 * (n * 3 / 16) ** 0.5 for count in counts.values())
