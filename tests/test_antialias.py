"""Resize and RandomResizedCrop against torchvision, Pillow and closed forms: antialias, upscales, nearest."""

from __future__ import annotations

import judges
import numpy as np
import PIL.Image
import pytest
import torch
from refusals import refusal
from torch import Tensor
from torchvision.transforms.v2 import functional as F

import gpuaug as ga

FACTORS = (1.0, 1.3, 1.5, 2.0, 2.7, 3.0, 4.0, 5.5, 7.1, 8.0)  # how many times smaller
UPSCALES = (0.21, 0.5, 0.8, 0.97)
if judges.INTERPRETED:  # seconds each
    FACTORS, UPSCALES = (2.7,), (0.8,)
HEIGHT, WIDTH = (24, 20) if judges.INTERPRETED else (152, 136)
PILLOW = {mode: PIL.Image.Resampling[mode.upper()] for mode in judges.ANTIALIASED}
FILTERS = [*judges.SMOOTH, pytest.param("lanczos", marks=judges.judged_lanczos)]
WAYS = [(mode, True) for mode in judges.SMOOTH] + [pytest.param("lanczos", True, marks=judges.judged_lanczos)]
WAYS += [(mode, False) for mode in judges.SMOOTH]
backends = pytest.mark.parametrize("backend", judges.BACKENDS)
modes = pytest.mark.parametrize("mode", judges.SMOOTH)
antialiased = pytest.mark.parametrize("mode", FILTERS)


@pytest.fixture(scope="session")
def images(photos: list[Tensor]) -> Tensor:
    """Crops of real photos with fine detail, uint8 [3, 3, HEIGHT, WIDTH]."""
    return judges.patches(judges.thumbnails(photos, 160), 3, HEIGHT, WIDTH, seed=3)


def run(transforms: list, images: Tensor, backend: str) -> Tensor:
    augment = ga.Compose(transforms, seed=0, backend=backend)
    return augment(images.to(judges.device_of(backend)), ids=range(images.shape[0]), epoch=0).cpu()


def exact(images: Tensor, size: tuple[int, int], mode: str, antialias: bool) -> Tensor:
    """The resize in float64 by the closed form of its weights, [B, C, *size]."""
    pairs = zip(images.shape[-2:], size, strict=True)
    rows, columns = (judges.resample_matrix(a, b, mode, antialias) for a, b in pairs)
    return rows @ images.double() @ columns.T


X, PLAIN = torch.zeros(1, 3, 8, 8), dict(interpolation="lanczos", antialias=False)


def pillow(image: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Pillow's own antialiased resize of one [C, H, W] image: uint8 as RGB, float channel by channel."""
    planes = [image.permute(1, 2, 0).numpy()] if image.dtype == torch.uint8 else list(image.numpy())
    resized = [np.asarray(PIL.Image.fromarray(p).resize(size[::-1], PILLOW[mode])) for p in planes]
    stacked = resized[0].transpose(2, 0, 1) if image.dtype == torch.uint8 else np.stack(resized)
    return torch.from_numpy(stacked.copy())


def assert_within_a_level(
    output: Tensor, peer: Tensor, images: Tensor, mode: str, antialias: bool, rarely: float = 0.0
) -> None:
    """Within one level of a peer, but where the peer's own first pass was clipped; a share `rarely` within two.

    Both peers resize uint8 along the rows first (Pillow 13 along the columns, where that leaves less) and clamp what
    they get to uint8 before the second pass: next to white or black they lose an overshoot that counts in the exact
    result.
    """
    (h, w), (height, width) = images.shape[-2:], output.shape[-2:]

    def clipped(size: tuple[int, int]) -> Tensor:
        first = exact(images, size, mode, antialias)
        return ((first < -0.5) | (first > 255.5)).double()

    rows, columns = (judges.resample_matrix(a, b, mode, antialias).abs() for a, b in ((h, height), (w, width)))
    reached = (rows @ clipped((h, width)) + clipped((height, w)) @ columns.T) > 0
    difference = (output.int() - peer.int()).abs()[~reached]
    over = difference > 1
    assert over.double().mean() <= rarely, f"{int(over.sum())} values are over a level off"
    assert not len(difference) or int(difference.max()) <= 1 + (rarely > 0.0)


def assert_float_close(output: Tensor, eager: Tensor, true: Tensor) -> None:
    """At most twice the error of torchvision's float32 path, and a rounding floor."""
    error, peer = ((x.double() - true).abs().max().item() for x in (output, eager))
    assert error <= judges.FLOAT_TOLERANCE
    assert error <= 2 * peer + 2.0**-18, f"error {error:.3g} against float64, torchvision's own is {peer:.3g}"


@backends
@antialiased
@pytest.mark.parametrize("factor", FACTORS + UPSCALES)
def test_antialiased_uint8(factor: float, mode: str, backend: str, images: Tensor) -> None:
    size = (round(HEIGHT / factor), round(WIDTH / factor))
    output = run([ga.Resize(size, interpolation=mode, antialias=True)], images, backend)
    true = exact(images, size, mode, True)
    off = (output.double() - true.clamp(0, 255)).abs().max().item()
    assert off <= 0.5 + 255 * judges.VALUE_ERROR, f"not the nearest level to the exact value: {off:.4f} off"
    native = F.resize(images, list(size), interpolation=F.InterpolationMode(mode), antialias=True)
    assert_within_a_level(output, native, images, mode, True)
    assert_within_a_level(output, torch.stack([pillow(i, size, mode) for i in images]), images, mode, True)


@backends
@antialiased
@pytest.mark.parametrize("factor", FACTORS + UPSCALES)
def test_antialiased_float(factor: float, mode: str, backend: str, images: Tensor) -> None:
    images = F.to_dtype(images, torch.float32, scale=True)
    size = (round(HEIGHT / factor), round(WIDTH / factor))
    output = run([ga.Resize(size, interpolation=mode, antialias=True)], images, backend)
    eager = F.resize(images, list(size), interpolation=F.InterpolationMode(mode), antialias=True)
    assert_float_close(output, eager, exact(images, size, mode, True))
    peer = torch.stack([pillow(i, size, mode) for i in images])
    torch.testing.assert_close(output, peer, rtol=0, atol=judges.FLOAT_TOLERANCE)


@backends
@modes
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("factor", FACTORS[::2] + UPSCALES)
def test_without_antialias(factor: float, dtype: torch.dtype, mode: str, backend: str, images: Tensor) -> None:
    images = images if dtype == torch.uint8 else F.to_dtype(images, dtype, scale=True)
    size = (round(HEIGHT / factor), round(WIDTH / factor))
    output = run([ga.Resize(size, interpolation=mode, antialias=False)], images, backend)
    true = exact(images, size, mode, False)
    eager = F.resize(images, list(size), interpolation=F.InterpolationMode(mode), antialias=False)
    if dtype == torch.uint8:
        assert (output.double() - true.clamp(0, 255)).abs().max() <= 0.5 + 255 * judges.VALUE_ERROR
        assert_within_a_level(output, eager, images, mode, False)
    else:
        assert_float_close(output, eager, true)


@backends
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_nearest(mode: str, dtype: torch.dtype, backend: str, images: Tensor) -> None:
    """Many pairs of sizes, equal to the bit but where a coordinate lies between two pixels up to float32 rounding."""
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randint(1, min(HEIGHT, WIDTH) + 1, (8 if judges.INTERPRETED else 60, 4), generator=generator)
    for height, width, *size in pairs.tolist():
        window = images[:, :, :height, :width]
        window = window if dtype == torch.uint8 else F.to_dtype(window, dtype, scale=True)
        kwargs = {"size": size, "interpolation": mode, "max_size": None, "antialias": True}
        output = run([ga.Resize(size, interpolation=mode)], window, backend)
        for i in range(len(images)):
            judges.check(output[i], window[i], [{"call": "resize", "kwargs": kwargs}])


@backends
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("size", "out"), [(122, 26), (41, 41 * 3), (256, 224), (35, 21)])
def test_nearest_ties_fall_as_in_torch(size: int, out: int, flip: bool, backend: str) -> None:
    """Where an exact tie is decided by the rounding of torch's own float32 scale, also in front of a flip."""
    ramp = torch.arange(size, dtype=torch.uint8).expand(1, 1, 1, size)
    expected = F.resize(ramp, [1, out], interpolation=F.InterpolationMode.NEAREST)
    ops = [ga.Resize((1, out), interpolation="nearest"), ga.RandomHorizontalFlip(float(flip))]
    assert torch.equal(run(ops, ramp, backend), expected.flip(-1) if flip else expected)


@backends
@pytest.mark.parametrize("mode, antialias", WAYS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_random_windows(dtype: torch.dtype, antialias: bool, mode: str, backend: str, images: Tensor) -> None:
    """RandomResizedCrop from windows of 1/64 to all of the image: downscales of up to 8, and upscales."""
    images = images[:1] if judges.INTERPRETED else images.repeat(5, 1, 1, 1)
    images = images if dtype == torch.uint8 else F.to_dtype(images, dtype, scale=True)
    transform = ga.RandomResizedCrop((19, 17), (1 / 64, 1.0), (0.4, 2.5), interpolation=mode, antialias=antialias)
    augment = ga.Compose([transform], seed=1, backend=backend)
    device_images = images.to(judges.device_of(backend))
    params = augment.sample(device_images, ids=range(len(images)), epoch=0)
    output = augment.apply(device_images, params).cpu()
    judges.check_batch(output, images, params)
    heights = []
    for i in range(len(images)):
        (record,) = params.describe(i)
        window = {name: record["kwargs"][name] for name in ("top", "left", "height", "width")}
        heights.append(window["height"])
        true = exact(F.crop(images[i], **window), (19, 17), mode, antialias)
        true = true.clamp(0, 255) if dtype == torch.uint8 else true
        limit = 0.5 + 255 * judges.VALUE_ERROR if dtype == torch.uint8 else judges.VALUE_ERROR
        assert (output[i].double() - true).abs().max() <= limit, window
    assert judges.INTERPRETED or (min(heights) < 38 and max(heights) > 100), "both small and large windows are drawn"


@backends
@modes
@pytest.mark.parametrize("factor", [2.0] if judges.INTERPRETED else [2.0, 8.0, 0.6])
def test_a_constant_stays_and_a_ramp_stays_a_ramp(factor: float, mode: str, backend: str) -> None:
    """The weights sum to one up to the borders, and away from them they keep a linear function."""
    size = (round(HEIGHT / factor), round(WIDTH / factor))
    constant = torch.full((1, 3, HEIGHT, WIDTH), 0.7)
    output = run([ga.Resize(size, interpolation=mode)], constant, backend)
    torch.testing.assert_close(output, torch.full((1, 3, *size), 0.7), rtol=0, atol=1e-6)
    ramp = (torch.arange(WIDTH).float() / WIDTH).expand(1, 1, HEIGHT, WIDTH)
    output = run([ga.Resize(size, interpolation=mode)], ramp, backend)
    centres = ((torch.arange(size[1]) + 0.5) * (WIDTH / size[1]) - 0.5) / WIDTH
    torch.testing.assert_close(output[0, 0, :, 2:-2], centres[2:-2].expand(size[0], -1), rtol=0, atol=1e-5)


@backends
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_lanczos_of_many_sizes(dtype: torch.dtype, backend: str, images: Tensor) -> None:
    """To the closed form; and bytes are Pillow's own, or a level off. Two are possible: Pillow rounds between the two
    axes, too, and the weights of the second have 1.3 as the sum of their magnitudes: half a level, thrice."""
    generator, equal = torch.Generator().manual_seed(2), []
    pairs = torch.randint(3, min(HEIGHT, WIDTH) + 1, (2 if judges.INTERPRETED else 30, 4), generator=generator)
    for height, width, *size in pairs.tolist():
        window = images[:, :, :height, :width]
        window = window if dtype == torch.uint8 else F.to_dtype(window, dtype, scale=True)
        output, true = run([ga.Resize(size, "lanczos")], window, backend), exact(window, tuple(size), "lanczos", True)
        limit = 0.5 + 255 * judges.VALUE_ERROR if dtype == torch.uint8 else judges.VALUE_ERROR
        true = true.clamp(0, 255) if dtype == torch.uint8 else true
        assert (output.double() - true).abs().max() <= limit, (height, width, size)
        peer = torch.stack([pillow(i, tuple(size), "lanczos") for i in window])
        if dtype == torch.uint8:
            assert_within_a_level(output, peer, window, "lanczos", True, rarely=1e-3)
            equal.append(float((output == peer).double().mean()))
        else:
            torch.testing.assert_close(output, peer, rtol=0, atol=judges.FLOAT_TOLERANCE)
    if equal:
        print(f"{backend}: {sum(equal) / len(equal):.2%} of the bytes are Pillow's")
        assert sum(equal) / len(equal) > 0.7


@judges.judged_lanczos
@backends
def test_lanczos_elsewhere(backend: str, images: Tensor) -> None:
    """Every op that resizes; Pillow's number; a mask stays nearest; beside another filter; behind a flip."""
    by = dict(interpolation="lanczos")
    ops = [ga.ScaleJitter((40, 40), **by), ga.RandomResize(20, 70, **by), ga.RandomShortestSize([30, 99], **by)]
    ops += [ga.Resize(31, 1, max_size=37), ga.RandomChoice([ga.Resize(30, **by), ga.Resize(30, "bicubic")])]
    for op in ops[3:] if judges.INTERPRETED else ops:
        augment = ga.Compose([ga.RandomHorizontalFlip(), op], seed=3, backend=backend)
        given = images.to(judges.device_of(backend))
        params = augment.sample(given, ids=range(len(images)), epoch=0)
        for i, output in enumerate(augment.apply(given, params)):
            judges.check(output.cpu(), images[i], params.describe(i))
    masks = images[:, 0].to(judges.device_of(backend))
    moved = ga.Compose([ga.Resize((50, 44), **by)], backend=backend)(given, masks=masks)[1]
    nearest = F.resize(masks[:, None].cpu(), [50, 44], F.InterpolationMode.NEAREST)[:, 0]
    assert torch.equal(moved.cpu(), nearest)


def test_lanczos_needs_antialias() -> None:
    makes = [lambda: ga.Resize(9, "lanczos", antialias=False), lambda: ga.RandomResizedCrop(9, **PLAIN)]
    makes += [lambda: ga.RandomResize(8, 9, **PLAIN), lambda: ga.ScaleJitter((8, 9), **PLAIN)]
    makes += [lambda: ga.RandomShortestSize(8, **PLAIN), lambda: ga.functional.resize(X, 9, **PLAIN)]
    makes += [lambda: ga.functional.resized_crop(X, 0, 0, 4, 4, (9, 9), **PLAIN)]
    for make in makes:
        refusal(make, ["interpolation 'lanczos' needs antialias=True"])
    for other in ("box", 4, F.InterpolationMode.HAMMING, 5):
        refusal(lambda mode=other: ga.Resize(9, mode), ["Resize", "interpolation", "lanczos, got"])


@backends
def test_the_same_size_is_untouched(backend: str, images: Tensor) -> None:
    for transform in (ga.Resize((HEIGHT, WIDTH)), ga.Resize((HEIGHT, WIDTH), interpolation="bicubic", antialias=False)):
        assert torch.equal(run([transform], images, backend), images)
