"""What is read of images that are known by their sizes, judged by the same pipeline on whole images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import gpuaug as ga
from gpuaug.data.reading import Part, Reading

pytest.importorskip("numba", reason="parts of images are read by the CPU engine")

TO_FLOAT = ga.ToDtype(torch.float32, scale=True)
PIPELINES = {
    "crop, flip, colours": [ga.RandomResizedCrop(48), ga.RandomHorizontalFlip(), ga.ColorJitter(0.4, 0.4, 0.4, 0.1)],
    "nearest crop": [ga.RandomResizedCrop(48, interpolation="nearest"), ga.RandomVerticalFlip(), TO_FLOAT],
    "bicubic crop": [ga.RandomResizedCrop(48, interpolation="bicubic")],
    "plain crop that pads": [ga.RandomCrop(64, padding=8, pad_if_needed=True, fill=9), ga.RandomHorizontalFlip()],
    "evaluation": [ga.Resize(56), ga.CenterCrop(48), TO_FLOAT],
    "lanczos": [ga.Resize(56, interpolation="lanczos"), ga.CenterCrop(20), TO_FLOAT],
    "turned behind a crop": [ga.RandomResizedCrop(48), ga.RandomRotation(30), ga.GaussianBlur(5)],
    "turned in front of a crop": [ga.RandomAffine(30, (0.2, 0.2), interpolation="bilinear"), ga.RandomCrop(40)],
    "perspective": [ga.RandomCrop(40), ga.RandomPerspective(0.5, p=1)],
    "policy": [ga.RandomResizedCrop(48), ga.RandAugment(2, 14)],
    "whole image first": [ga.RandomAutocontrast(p=0.5), ga.RandomResizedCrop(48)],
    "contrast first": [ga.ColorJitter(0.4, 0.4), ga.RandomResizedCrop(48)],
    "erased first": [ga.RandomErasing(1.0), ga.RandomResizedCrop(48)],
    "blurred first": [ga.RandomApply([ga.GaussianBlur(5)], p=0.5), ga.RandomCrop(40)],
    "mirrored border": [ga.Pad(20, padding_mode="reflect"), ga.RandomCrop(50)],
    "zoomed out": [ga.RandomZoomOut(p=0.5), ga.RandomResizedCrop(48)],
    "elastic": [ga.RandomCrop(40), ga.ElasticTransform()],
    "layers of its own": [ga.RandomResizedCrop(48), ga.AugMix()],
    "layers of others": [ga.RandomResizedCrop(48), ga.Mosaic((48, 48))],
    "nothing that moves": [ga.RandomHorizontalFlip()],
    "a size that is drawn": [ga.RandomApply([ga.RandomCrop(30)], p=0.7), ga.RandomResize(20, 40)],
}


def photos(n: int = 24, seed: int = 0) -> list[np.ndarray]:
    """Patchwork images uint8 [H, W, 3] of many sizes."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(40, 500, (n, 2)).tolist()
    patches = [rng.integers(0, 256, (-(-h // 8), -(-w // 8), 3), dtype=np.uint8) for h, w in sizes]
    return [np.kron(p, np.ones((8, 8, 1), np.uint8))[:h, :w] for p, (h, w) in zip(patches, sizes, strict=True)]


def means(pixels: np.ndarray, by: int) -> np.ndarray:
    """Shrunk by whole pixels."""
    h, w = (-(-n // by) for n in pixels.shape[:2])
    full = np.pad(pixels, ((0, h * by - pixels.shape[0]), (0, w * by - pixels.shape[1]), (0, 0)), mode="edge")
    return np.rint(full.reshape(h, by, w, by, 3).mean((1, 3))).astype(np.uint8)


def decoded(parts: list[Part], images: list[np.ndarray], seed: int = 1) -> tuple[torch.Tensor, list[int]]:
    """The parts in one piece of memory, with noise around and between them that nothing may come of."""
    margin = max(image.size for image in images)
    ends = np.cumsum([0] + [3 * part.size[0] * part.size[1] + 5 for part in parts]) + margin
    noise = np.random.default_rng(seed).integers(0, 256, ends[-1] + margin, dtype=np.uint8)
    for part, image, at in zip(parts, images, ends, strict=False):
        h, w = part.size
        pixels = image[part.top : part.top + part.height, part.left : part.left + part.width]
        noise[at : at + 3 * h * w] = means(pixels, part.shrink).reshape(-1)
    return torch.from_numpy(noise), ends[:-1].tolist()


def flat(value) -> list[torch.Tensor]:
    return [x for one in value for x in flat(one)] if isinstance(value, list | tuple) else [value]


def assert_same(found, wanted) -> None:
    found, wanted = flat(found), flat(wanted)
    assert len(found) == len(wanted) > 0
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype and torch.equal(one.nan_to_num(-7), other.nan_to_num(-7))


@pytest.mark.parametrize("name", PIPELINES)
def test_a_part_gives_what_the_whole_gives(name):
    images, ids = photos(), torch.arange(24) * 7
    augment = ga.Compose(PIPELINES[name], seed=3)
    reading = Reading(augment, [image.shape[:2] for image in images], ids, 2)
    source, offsets = decoded(reading.parts, images)
    found = reading.run(source, offsets)
    assert_same(found, augment([torch.from_numpy(i).permute(2, 0, 1) for i in images], ids=ids, epoch=2))
    assert reading.whole is None and all(part.shrink == 1 for part in reading.parts)


def read(augment, images, **keywords) -> Reading:
    return Reading(augment, [image.shape[:2] for image in images], torch.arange(len(images)), 0, **keywords)


def area(reading: Reading) -> float:
    """What part of the images' pixels is read."""
    return sum(part.height * part.width for part in reading.parts) / sum(h * w for h, w in reading.sizes)


def test_a_crop_reads_its_window_and_no_more():
    images = [np.zeros((300, 400, 3), np.uint8)] * 16
    augment = ga.Compose([ga.RandomResizedCrop(64, scale=(0.1, 0.3)), ga.RandomHorizontalFlip()], seed=1)
    reading = read(augment, images)
    params = augment.sample([torch.from_numpy(i).permute(2, 0, 1) for i in images], ids=range(16), epoch=0)
    for i, part in enumerate(reading.parts):
        window = params.describe(i)[0]["kwargs"]
        assert part[:4] == (window["top"], window["left"], window["height"], window["width"])
    assert area(reading) < 0.31
    assert area(read(ga.Compose([ga.Resize(64), ga.CenterCrop(32)]), images)) < 0.3


@pytest.mark.parametrize(
    "first",
    [ga.RandomAutocontrast(p=1), ga.RandomEqualize(p=1), ga.ColorJitter(contrast=0.5), ga.GaussianBlur(3)],
    ids=lambda op: type(op).__name__,
)
def test_what_must_know_the_whole_image_gets_it(first):
    images = photos(8)
    for decode in ("full", "scaled"):
        reading = read(ga.Compose([first, ga.RandomResizedCrop(16)], seed=0), images, decode=decode)
        assert [part[:4] for part in reading.parts] == [(0, 0, *image.shape[:2]) for image in images]
        assert set(reading.shrinks) == {1}
    assert area(read(ga.Compose([ga.RandomResizedCrop(16), first], seed=0), images)) < 0.9


def test_a_shrunk_part_is_at_least_as_large_as_the_output_and_aligned():
    images = photos(64)
    augment = ga.Compose([ga.RandomResizedCrop(24), ga.RandomHorizontalFlip()], seed=0)
    full, scaled = read(augment, images), read(augment, images, decode="scaled")
    assert {part.shrink for part in scaled.parts} == {1, 2, 4, 8}
    for one, part, image in zip(full.parts, scaled.parts, images, strict=True):
        least = min(one.height, one.width) / 24
        assert part.shrink == max([s for s in (1, 2, 4, 8) if s <= least + 1e-3], default=1)
        assert part.top % part.shrink == part.left % part.shrink == 0
        assert part.top <= one.top and part.left <= one.left
        for end, other, whole in zip(
            (part.top + part.height, part.left + part.width),
            (one.top + one.height, one.left + one.width),
            image.shape[:2],
            strict=True,
        ):
            assert other <= end <= whole and (end % part.shrink == 0 or end == whole)


def test_shrunk_parts_change_little_and_only_what_is_shrunk():
    # smooth images, shrunk by plain means: what remains is the order of two averages
    y, x = np.mgrid[:400, :500].astype(np.float64)
    rng = np.random.default_rng(0)
    waves = [128 + 100 * np.sin(x[..., None] / rng.uniform(15, 40, 3) + y[..., None] / 25) for _ in range(24)]
    images = [np.rint(wave).astype(np.uint8) for wave in waves]
    augment = ga.Compose([ga.RandomResizedCrop(40), ga.RandomHorizontalFlip(), TO_FLOAT], seed=0)
    wanted = augment([torch.from_numpy(i).permute(2, 0, 1) for i in images], ids=range(24), epoch=0)
    reading = read(augment, images, decode="scaled", shrinkable=[True] * 20 + [False] * 4)
    found = reading.run(*decoded(reading.parts, images))
    far = (found - wanted).abs().flatten(1) * 255
    for i, part in enumerate(reading.parts):
        assert far[i].max() == 0 if part.shrink == 1 else 0 < far[i].max() < 12 and far[i].mean() < 2.0
    assert set(reading.shrinks[20:]) == {1} and (reading.shrinks[:20] > 1).sum() > 12


@pytest.mark.parametrize("decode", ["full", "scaled"])
def test_labels_masks_and_boxes_move_with_parts(decode):
    images = photos(12)
    boxes = [torch.tensor([[1.0, 2.0, 30.0, 25.0], [5.0, 5.0, 20.0, 39.0]]) for _ in images]
    masks = [torch.from_numpy(image[..., 0] // 26) for image in images]
    augment = ga.Compose([ga.RandomResizedCrop(32), ga.RandomHorizontalFlip()], seed=5)
    labels, whole = torch.arange(12), [torch.from_numpy(i).permute(2, 0, 1) for i in images]
    reading = read(augment, images, decode=decode)
    found = reading.run(*decoded(reading.parts, images), labels=labels, targets={"masks": masks, "boxes": boxes})
    wanted = augment(whole, labels=labels, masks=masks, boxes=boxes, ids=range(12), epoch=0)
    assert len(found) == len(wanted) == 4
    assert_same(found[1:] if decode == "scaled" else found, wanted[1:] if decode == "scaled" else wanted)


def test_labels_that_are_mixed():
    images = photos(10)
    augment = ga.Compose([ga.RandomResizedCrop(32), TO_FLOAT, ga.MixUp(num_classes=4)], seed=5)
    labels, whole = torch.arange(10) % 4, [torch.from_numpy(i).permute(2, 0, 1) for i in images]
    reading = read(augment, images)
    assert_same(
        reading.run(*decoded(reading.parts, images), labels=labels), augment(whole, labels, ids=range(10), epoch=0)
    )


def test_pipelines_with_callables_read_whole_images():
    images = photos(6)
    augment = ga.Compose([ga.RandomResizedCrop(24), lambda batch: batch.flip(-1), ga.RandomInvert()], seed=2)
    reading = read(augment, images)
    assert "callables" in reading.whole and [part[:4] for part in reading.parts] == [
        (0, 0, *image.shape[:2]) for image in images
    ]
    source, offsets = decoded(reading.parts, images)
    whole = [torch.from_numpy(i).permute(2, 0, 1) for i in images]
    assert_same(reading.run(source, offsets), augment(whole, ids=range(6), epoch=0))


def test_images_go_out_in_the_form_that_the_pipeline_makes():
    tv_tensors = pytest.importorskip("torchvision.tv_tensors", reason="the form is torchvision's")
    images, labels = photos(4), torch.arange(4)
    for size in (24, (20, 30)):
        reading = read(ga.Compose([ga.RandomResizedCrop(size), ga.ToImage()], seed=2), images)
        source, offsets = decoded(reading.parts, images)
        found, same = reading.run(source, offsets, labels=labels)
        assert type(found) is tv_tensors.Image and len(found) == 4 and torch.equal(same, labels)


def test_the_kornia_backend_reads_whole_images():
    pytest.importorskip("kornia")
    images = photos(6)
    augment = ga.Compose([ga.RandomResizedCrop(16)], seed=0, backend="kornia")
    reading = read(augment, images, decode="scaled")
    assert "kornia" in reading.whole and [part[:4] for part in reading.parts] == [(0, 0, *i.shape[:2]) for i in images]
    whole = [torch.from_numpy(i).permute(2, 0, 1) for i in images]
    assert_same(reading.run(*decoded(reading.parts, images)), augment(whole, ids=range(6), epoch=0))
