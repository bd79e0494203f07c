"""Several views of each image by a Loader: those that the pipeline's, or MultiCrop's, call gives for whole images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import gpuaug as ga
from gpuaug.data import Loader, Source, folder
from gpuaug.data.crops import Crops, Views
from gpuaug.data.reading import Reading

pytest.importorskip("numba", reason="parts of images are read by the CPU engine")

TO_FLOAT = ga.ToDtype(torch.float32, scale=True)


def crops(size: int = 24, scale: tuple[float, float] = (0.1, 1.0), seed: int = 0) -> ga.Compose:
    return ga.Compose(
        [ga.RandomResizedCrop(size, scale), ga.RandomHorizontalFlip(), ga.ColorJitter(0.4), TO_FLOAT], seed=seed
    )


MULTI = {
    "of two sizes": lambda: ga.MultiCrop([(crops(32, (0.3, 1.0)), 2), (crops(12, (0.05, 0.3)), 4)]),
    "of one": lambda: ga.MultiCrop([(crops(), 3)]),
    "with callables": lambda: ga.MultiCrop([(crops(), 1), (ga.Compose([ga.Resize((9, 9)), torch.neg], seed=1), 2)]),
    "of drawn sizes": lambda: ga.MultiCrop([(crops(), 1), (ga.Compose([ga.RandomResize(8, 30), TO_FLOAT], seed=2), 2)]),
    "that pads": lambda: ga.MultiCrop([(ga.Compose([ga.RandomCrop(70, pad_if_needed=True), TO_FLOAT], seed=3), 2)]),
}


@pytest.fixture
def source(tmp_path: Path) -> Source:
    rng = np.random.default_rng(0)
    for i in range(20):
        h, w = rng.integers(30, 400, 2)
        waves = np.sin(np.mgrid[:h, :w][:, ..., None] / rng.uniform(4, 30, (2, 1, 1, 3))).sum(0)
        place = tmp_path / "photos" / "ab"[i % 2] / f"{i:02d}.{'png' if i % 5 == 0 else 'jpg'}"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.uint8(128 + 60 * waves)).save(place)
    return folder(tmp_path / "photos")


def whole(source: Source, ids: torch.Tensor) -> list[torch.Tensor]:
    where = {one: i for i, one in enumerate(source.ids.tolist())}
    paths = [source.items[where[one]] for one in ids.tolist()]
    return [torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1) for path in paths]


def flat(value) -> list[torch.Tensor]:
    return [x for one in value for x in flat(one)] if isinstance(value, list | tuple) else [value]


def assert_same(found, wanted) -> None:
    assert isinstance(found, list) == isinstance(wanted, list) and len(found) == len(wanted)
    for one, other in zip(flat(found), flat(wanted), strict=True):
        assert torch.equal(one, other)


def places(tmp_path: Path, name: str) -> dict:
    return {"cache": tmp_path / "cache", "cache_size": None} if name == "cache" else {"resident": name == "resident"}


@pytest.mark.parametrize("place", ["files", "cache", "resident"])
@pytest.mark.parametrize("name", MULTI)
def test_views_are_those_of_whole_images(source, tmp_path, name, place):
    augment = MULTI[name]()
    loader = Loader(source, 7, augment, shuffle=True, decode="full", **places(tmp_path, place))
    for epoch in range(2):
        for views, labels, ids in loader:
            assert_same(views, augment(whole(source, ids), ids=ids, epoch=epoch))
            assert len(labels) == len(ids)


@pytest.mark.parametrize("place", ["files", "cache", "resident"])
def test_a_pipeline_draws_several_views(source, tmp_path, place):
    mixing = ga.Compose([*crops().transforms, ga.MixUp(num_classes=2)], seed=0)
    staged = ga.Compose([ga.RandomResizedCrop(20), torch.neg], seed=0)
    for augment in (crops(), mixing, staged):
        loader = Loader(source, 7, augment, views=3, decode="full", **places(tmp_path, place))
        for views, labels, ids in loader:
            plain = source.labels[[source.ids.tolist().index(i) for i in ids.tolist()]]
            wanted = augment(whole(source, ids), labels=plain, ids=ids, epoch=0, views=3)
            assert_same(views, wanted[0])
            assert torch.equal(labels, wanted[1]) and len(views) == 3


class Known:
    masks = keypoints = None
    boxes = np.array([[1, 2, 20, 25], [5, 5, 9, 29]], np.float32)


def test_boxes_move_in_several_views(source):
    source, augment = replace(source, targets=[Known()] * 20), crops()
    for views, labels, targets, ids in Loader(source, 7, augment, views=2, decode="full"):
        boxes = [torch.from_numpy(Known.boxes)] * len(ids)
        plain = source.labels[[source.ids.tolist().index(i) for i in ids.tolist()]]
        wanted = augment(whole(source, ids), labels=plain, boxes=boxes, ids=ids, epoch=0, views=2)
        assert_same(views, wanted[0])
        assert_same(targets["boxes"], wanted[2])
        assert torch.equal(labels, torch.as_tensor(wanted[1]))


def test_one_part_is_read_for_all_views():
    """The least that holds what each pipeline reads, at the scale of the one that needs the most pixels."""
    sizes, ids = [(600, 800)] * 12, torch.arange(12)
    large, small = crops(100, (0.3, 0.5)), crops(24, (0.05, 0.1), seed=4)
    both = ga.MultiCrop([(large, 1), (small, 2)])
    for decode in ("full", "scaled"):
        alone = [Reading(large, sizes, ids, 0, decode=decode), Views(small, (1, 2), sizes, ids, 0, decode=decode)]
        found = Crops(both, sizes, ids, 0, decode=decode)
        assert len({part.shrink for part in found.parts}) == (1 if decode == "full" else 2)
        for part, *others in zip(found.parts, *(one.parts for one in alone), strict=True):
            assert part.shrink == min(other.shrink for other in others)
            ends = [(p.top, p.left, -p.top - p.height, -p.left - p.width) for p in (part, *others)]
            within = 0 if decode == "full" else 16  # other scales have other grids
            assert np.abs(np.subtract(ends[0], np.min(ends[1:], axis=0))).max() <= within
    unshrinkable = Crops(both, sizes, ids, 0, decode="scaled", shrinkable=[False] * 12)
    assert {part.shrink for part in unshrinkable.parts} == {1}


def test_scaled_views_change_little(source):
    augment = MULTI["of two sizes"]()
    full, scaled = (list(Loader(source, 20, augment, decode=decode))[0][0] for decode in ("full", "scaled"))
    far = torch.cat([(a - b).abs().flatten(1).mean(1) for a, b in zip(full, scaled, strict=True)])
    assert far.max() * 255 < 6 and (far > 0).any()


def test_what_views_cannot_be(source):
    mixing = ga.MultiCrop([(ga.Compose([ga.Resize((8, 8)), ga.RandomChoice([ga.MixUp(), ga.CutMix()])]), 1)])
    with pytest.raises(ValueError, match="a pipeline of MultiCrop mixes samples, and would leave their labels"):
        Loader(source, 4, mixing)
    assert len(list(Loader(replace(source, labels=None), 4, mixing))) == 5
    with pytest.raises(ValueError, match="MultiCrop moves images alone, and this source has targets"):
        Loader(replace(source, targets=[None] * 20), 4, MULTI["of one"]())
    for views, augment in ((2, None), (0, crops()), (2, MULTI["of one"]())):
        with pytest.raises(ValueError, match=f"views={views} takes at least one, and a Compose as augment"):
            Loader(source, 4, augment, views=views)


@pytest.mark.gpu
def test_views_on_a_gpu_are_those_of_the_cpu(source):
    augment = MULTI["of two sizes"]()
    for here, there in zip(Loader(source, 8, augment), Loader(source, 8, augment, device="cuda"), strict=True):
        for one, other in zip(here[0], there[0], strict=True):
            off = (one - other.cpu()).abs()  # a value between two levels of uint8 may fall to either
            assert off.max() <= 1 / 255 + 1e-3 and (off > 1e-3).float().mean() < 1e-3
