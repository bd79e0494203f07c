"""Smooth passes by lines and columns, where vectors, strips and blocks of lines end: the CPU engine against float64."""

from __future__ import annotations

import judges
import pytest
import torch
from torch import Tensor

pytest.importorskip("numba")

import gpuaug as ga  # noqa: E402
from gpuaug.kernels.cpu import frame  # noqa: E402

STRIP = frame.STRIP_COLUMNS
LAYOUTS = ("planes", "pixels", "columns", "gaps")
WIDTHS = (1, 3, 7, 8, 15, 16, 17, 33, 47, STRIP - 1, STRIP, STRIP + 1, STRIP + 15, STRIP + 17, 2 * STRIP + 40)


def noise(channels: int, height: int, width: int, dtype: torch.dtype = torch.uint8, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    image = torch.randint(0, 256, (batch, channels, height, width), dtype=torch.uint8, generator=generator)
    return image if dtype == torch.uint8 else image.to(dtype) / 255


def laid_out(image: Tensor, layout: str) -> Tensor:
    """The images inside of larger ones, which are white or NaN elsewhere: what is read beside them shows."""
    b, c, h, w = image.shape
    around = torch.full(
        (b, c, h + 2, 2 * w + 3), 255 if image.dtype == torch.uint8 else float("nan"), dtype=image.dtype
    )
    step = 2 if layout == "gaps" else 1
    if layout == "pixels":
        around = around.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    elif layout == "columns":
        around = around.transpose(2, 3).contiguous().transpose(2, 3)
    window = around[:, :, 1 : h + 1, 2 : 2 + step * w : step]
    window.copy_(image)
    return window


def resize(image: Tensor, size: tuple[int, int], mode: str = "bilinear", antialias: bool = True, *more) -> Tensor:
    pipeline = [ga.Resize(size, interpolation=mode, antialias=antialias), *more]
    return ga.Compose(pipeline, seed=0, backend="cpu")(image, ids=range(len(image)), epoch=0)


def assert_exact(output: Tensor, image: Tensor, mode: str = "bilinear", antialias: bool = True) -> None:
    """As the closed form in float64 has it; uint8 the nearest level, or at a tie one of both.

    A coordinate is a product and a sum in float32, by a scale that was rounded: off by 3 x 2^-24 of its axis at the
    most. The weights of a triangle together change by at most 2 a pixel, those of a cubic by 4.
    """
    pairs = zip(image.shape[-2:], output.shape[-2:], strict=True)
    rows, columns = (judges.resample_matrix(a, b, mode, antialias) for a, b in pairs)
    true = rows @ image.double() @ columns.T
    limit = judges.VALUE_ERROR + (2 if mode == "bilinear" else 4) * 3 * 2.0**-24 * sum(image.shape[-2:])
    if image.dtype == torch.uint8:
        true, limit = true.clamp(0, 255), 0.5 + 255 * limit
    assert (output.double() - true).abs().max() <= limit


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_where_strips_and_vectors_end(dtype: torch.dtype, layout: str) -> None:
    for width in WIDTHS:
        image = noise(3, 21, width, dtype)
        for size in ((13, max(width * 5 // 8, 1)), (8, 3), (9, width + 5)):
            assert_exact(resize(laid_out(image, layout), size), image)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 7, 16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_channels_by_threes_and_by_one(channels: int, layout: str) -> None:
    image = noise(channels, 37, 43)
    for size in ((16, 24), (7, 1), (1, 2), (17, 5), (11, 9)):
        for mode in ("bilinear", "bicubic"):
            assert_exact(resize(laid_out(image, layout), size, mode), image, mode)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("size", [(2, 900), (900, 2), (3, 3), (40, 1), (1, 40)])
def test_huge_ratios(size: tuple[int, int], dtype: torch.dtype) -> None:
    for shape in ((1, 2000), (1500, 1), (600, 700)):
        image = noise(3, *shape, dtype)
        for layout in ("planes", "pixels"):
            assert_exact(resize(laid_out(image, layout), size), image)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("factor", [1.7, 2.5, 9.0])
def test_lines_that_no_tap_reads(factor: float, mode: str) -> None:
    """Without antialias a block's lines span more than its taps; white lines between them must not show."""
    image = noise(3, 200, 50)
    size = (round(200 / factor), 31)
    read = judges.resample_matrix(200, size[0], mode, False).abs().sum(0) > 0
    for layout in ("planes", "pixels"):
        found = resize(laid_out(image, layout), size, mode, False)
        assert_exact(found, image, mode, False)
        painted = torch.where(read[:, None], image, torch.tensor(255, dtype=torch.uint8))
        assert torch.equal(resize(laid_out(painted, layout), size, mode, False), found)


@pytest.mark.parametrize("layout", ["planes", "pixels"])
def test_lines_backwards(layout: str) -> None:
    """A flip in front of a resize, or behind it, is the resize of the flipped image."""
    image = noise(3, 90, 70)
    flip = ga.RandomVerticalFlip(1.0)
    assert_exact(resize(laid_out(image, layout), (37, 29), "bilinear", True, flip), image.flip(2))
    augment = ga.Compose([flip, ga.Resize((37, 29))], seed=0, backend="cpu")
    assert_exact(augment(laid_out(image, layout)), image.flip(2))


@pytest.mark.parametrize("layout", ["planes", "pixels"])
def test_lines_in_no_order(layout: str) -> None:
    """A reflected border behind a resize: blocks of eight lines whose sources go there and back."""
    image = noise(3, 60, 50)
    augment = ga.Compose([ga.Resize((30, 25)), ga.Pad(21, padding_mode="reflect")], seed=0, backend="cpu")
    expected = torch.nn.functional.pad(resize(image, (30, 25)).float(), (21,) * 4, mode="reflect")
    found = augment(laid_out(image, layout)).float()
    assert (found - expected).abs().max() <= 1
    assert (found != expected).double().mean() < 1e-3, "only ties may fall otherwise"


def test_bits_do_not_hang_on_the_layout() -> None:
    image = noise(3, 300, 411, batch=4)
    augment = ga.Compose([ga.RandomResizedCrop(96), ga.RandomHorizontalFlip()], seed=4, backend="cpu")
    first = augment(image, ids=range(4), epoch=0)
    for layout in ("pixels", "columns"):
        assert torch.equal(augment(laid_out(image, layout), ids=range(4), epoch=0), first)


def test_nan_stays_where_it_is_weighed() -> None:
    """What the taps of a pixel do not reach does not reach the pixel, at the ends of strips too."""
    width = 2 * STRIP + 40
    image = noise(3, 40, width, torch.float32)
    for column in (0, STRIP - 1, STRIP, width - 1):
        image[0, 1, 20, column] = float("nan")
    size = (23, width * 5 // 8)
    rows, columns = (
        judges.resample_matrix(*pair, "bilinear", True) != 0 for pair in zip((40, width), size, strict=True)
    )
    touched = (rows.double() @ image.isnan().double() @ columns.double().T) > 0
    found = resize(laid_out(image, "planes"), size).isnan()
    assert torch.all(found | ~touched), "NaN spreads to all that weighs it"
    near = torch.nn.functional.max_pool2d(touched.double(), 5, 1, 2) > 0
    assert not torch.any(found & ~near), "and to no pixel but those whose last tap has the weight 0"
