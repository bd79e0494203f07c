"""ga.collate and WithIds: what a batch is, that a DataLoader gives what a call gives, and what is refused."""

from __future__ import annotations

import pickle
from collections import namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, default_collate, random_split

import gpuaug as ga
from gpuaug.collate import Identified

N = 10
ARRAYS = [np.random.default_rng(i).integers(0, 256, (20 + i, 30, 3), dtype=np.uint8) for i in range(N)]
IMAGES = [torch.from_numpy(array).permute(2, 0, 1) for array in ARRAYS]
PAIRS = [(image, i % 4) for i, image in enumerate(IMAGES)]
LABELS = torch.arange(N) % 4


def pipeline(*more: Any, epoch: int | None = 0) -> ga.Compose:
    ops = [ga.RandomResizedCrop(16), ga.RandomHorizontalFlip(), ga.ToDtype(torch.float32, scale=True)]
    augment = ga.Compose([*ops, *more], seed=0)
    augment.epoch = epoch
    return augment


def tv() -> Any:
    return pytest.importorskip("torchvision.tv_tensors", reason="torchvision is not installed")


def pictures() -> list[Any]:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    return list(map(image.fromarray, ARRAYS))


def boxes_of(i: int) -> torch.Tensor:
    return torch.tensor([[2.0, 3.0, 12.0 + i, 15.0], [10.0, 1.0, 29.0, 9.0 + i]])[: 1 + i % 2]


# --- in a DataLoader --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("start", [None, "fork", "spawn"])
def test_a_loader_gives_what_a_call_by_ids_gives(start: str | None) -> None:
    """In whatever order and batches, in each epoch; persistent workers follow the epoch."""
    augment = pipeline(epoch=None)
    workers = {None: 0, "fork": 2, "spawn": 1}[start]
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0)).tolist()
    loader = DataLoader(
        ga.WithIds(PAIRS),
        4,
        sampler=order,
        num_workers=workers,
        multiprocessing_context=start,
        persistent_workers=workers > 0,
        collate_fn=ga.collate(augment),
    )
    for epoch in (0, 3):
        augment.set_epoch(epoch)
        images, labels = map(torch.cat, zip(*loader, strict=True))
        assert torch.equal(images, augment(IMAGES, ids=range(N))[order]), f"epoch {epoch}"
        assert torch.equal(labels, LABELS[order])


def test_ids_are_those_of_all_data_or_of_a_part() -> None:
    augment = pipeline()
    expected = augment(IMAGES, ids=range(N))
    for data, wanted in (
        (Subset(ga.WithIds(PAIRS), [7, 2, 9]), expected[[7, 2, 9]]),
        (ga.WithIds(Subset(PAIRS, [7, 2, 9])), augment([IMAGES[i] for i in (7, 2, 9)], ids=range(3))),
        (ga.WithIds(ConcatDataset([PAIRS[:4], PAIRS[4:]])), expected),
        (random_split(ga.WithIds(PAIRS), [6, 4], torch.Generator().manual_seed(0))[1], None),
    ):
        (batch,) = DataLoader(data, N, collate_fn=ga.collate(augment))
        wanted = expected[list(data.indices)] if wanted is None else wanted
        assert torch.equal(batch[0], wanted)
    assert ga.WithIds(PAIRS)[-1].id == N - 1 and len(ga.WithIds(PAIRS)) == N


def test_data_sets_that_are_asked_for_several_samples_at_once_are() -> None:
    class Several(list):
        asked = 0

        def __getitems__(self, indices: list[int]) -> list:
            self.asked += 1
            return [self[i] for i in indices]

    data = Several(PAIRS)
    batches = list(DataLoader(ga.WithIds(data), 5, collate_fn=ga.collate(pipeline())))
    assert data.asked == 2 and torch.equal(batches[1][1], LABELS[5:])


def test_without_a_collate_function_of_ours_ids_come_beside_the_batch() -> None:
    same = [(image[:, :20], label) for image, label in PAIRS]
    ((images, labels), ids), _ = DataLoader(ga.WithIds(same), 6)
    assert images.shape == (6, 3, 20, 30) and torch.equal(labels, LABELS[:6]) and torch.equal(ids, torch.arange(6))


def test_samples_that_carry_their_id() -> None:
    augment = pipeline()
    expected = augment(IMAGES[:3], ids=[5, 8, 11])
    rows = [{"image": IMAGES[k], "key": 5 + 3 * k} for k in range(3)]
    found = ga.collate(augment, ids="key")(rows)
    assert torch.equal(found["image"], expected) and found["key"].tolist() == [5, 8, 11]
    assert torch.equal(ga.collate(augment, ids=1)([tuple(row.values()) for row in rows])[0], expected)


def test_without_ids_samples_are_counted() -> None:
    one, other = ga.collate(pipeline()), pipeline()
    for part in (PAIRS[:4], PAIRS[4:8]):
        assert torch.equal(one(part)[0], other([image for image, _ in part]))


def test_it_is_pickled_with_its_pipeline() -> None:
    made = ga.collate(pipeline())
    again = pickle.loads(pickle.dumps(made))
    data = [ga.WithIds(PAIRS)[i] for i in range(4)]
    assert again.augment is not made.augment and torch.equal(again(data)[0], made(data)[0])


# --- what a batch is --------------------------------------------------------------------------------------------------
def test_any_image_in_any_form_of_sample() -> None:
    augment, point = pipeline(), namedtuple("point", "label photo")
    expected = augment(IMAGES, ids=range(N))
    for form in (IMAGES, ARRAYS, pictures(), list(map(tv().Image, IMAGES))):
        for samples, place in (
            (form, None),
            ([(x,) for x in form], 0),
            ([(x, i % 4) for i, x in enumerate(form)], 0),
            ([[i % 4, x] for i, x in enumerate(form)], 1),
            ([point(i % 4, x) for i, x in enumerate(form)], 1),
            ([{"name": str(i), "image": x, "label": i % 4} for i, x in enumerate(form)], "image"),
        ):
            (found,) = DataLoader(ga.WithIds(samples), N, collate_fn=ga.collate(augment))
            images = found if place is None else found[place]
            assert type(images) is torch.Tensor and torch.equal(images, expected)
            if isinstance(found, dict):
                assert list(found) == ["name", "image", "label"] and found["name"] == [str(i) for i in range(N)]
                assert torch.equal(found["label"], LABELS)
            elif place is not None and len(found) > 1:
                assert torch.equal(found[1 - place], LABELS)


def test_what_is_no_image_is_as_default_collate_makes_it() -> None:
    rows = [
        {"image": x, "i": i, "f": 0.5, "t": torch.ones(3) * i, "a": np.float32(2), "s": "x", "b": True, "n": None}
        for i, x in enumerate(IMAGES)
    ]
    found = ga.collate(pipeline())(rows)
    plain = default_collate([{k: v for k, v in row.items() if k not in ("image", "n")} for row in rows])
    for key, value in plain.items():
        same = torch.equal(found[key], value) and found[key].dtype == value.dtype if key != "s" else found[key] == value
        assert same, key
    assert found["n"] == [None] * N
    depth = torch.rand(N, 1, 20, 30)
    still = ga.collate(pipeline())([{"image": x[:, :20], "depth": d} for x, d in zip(IMAGES, depth, strict=True)])
    assert torch.equal(still["depth"], depth)


def test_images_that_keep_several_sizes_are_a_list() -> None:
    flip = ga.Compose([ga.RandomHorizontalFlip()], seed=0)
    for form in (IMAGES, pictures()):
        images, labels = ga.collate(flip)(list(zip(form, LABELS, strict=True)))
        assert [tuple(image.shape) for image in images] == [tuple(image.shape) for image in IMAGES]
        assert {type(image) for image in images} == {torch.Tensor} and torch.equal(labels, LABELS)
    batch = ga.collate(flip)([x.crop((0, 0, 20, 20)) for x in pictures()])
    assert batch.shape == (N, 3, 20, 20) and batch.dtype == torch.uint8


def test_labels_become_soft_where_the_pipeline_mixes() -> None:
    mix = pipeline(ga.RandomChoice([ga.MixUp(num_classes=4), ga.CutMix(num_classes=4)]))
    images, soft = mix(IMAGES, LABELS, ids=range(N))
    for form in (PAIRS, [{"label": i, "image": x} for x, i in zip(pictures(), LABELS, strict=True)]):
        (found,) = DataLoader(ga.WithIds(form), N, collate_fn=ga.collate(mix))
        found = tuple(found.values())[::-1] if isinstance(found, dict) else found
        assert torch.equal(found[0], images) and torch.equal(found[1], soft)


def test_masks_by_class_and_by_name() -> None:
    augment, masks = pipeline(), [torch.from_numpy(array[..., 0] // 64) for array in ARRAYS]
    images, moved = augment(IMAGES, masks=masks, ids=range(N))
    moved = torch.stack(moved)
    maps = [type(picture).convert(picture, "L") for picture in pictures()]
    for picture, mask in zip(maps, masks, strict=True):
        picture.putdata(mask.flatten().tolist())
    for made, rows in (
        (ga.collate(augment), [(x, tv().Mask(m), i) for i, (x, m) in enumerate(zip(IMAGES, masks, strict=True))]),
        (ga.collate(augment, masks=1), [(x, m, i) for i, (x, m) in enumerate(zip(pictures(), masks, strict=True))]),
        (ga.collate(augment, masks=1), [(x, m.numpy(), i) for i, (x, m) in enumerate(zip(ARRAYS, masks, strict=True))]),
        (ga.collate(augment, masks=1), [(x, m, i) for i, (x, m) in enumerate(zip(pictures(), maps, strict=True))]),
    ):
        (found,) = DataLoader(ga.WithIds(rows), N, collate_fn=made)
        assert torch.equal(found[0], images) and torch.equal(found[1], moved) and found[2].tolist() == list(range(N))
        assert type(found[1]) is torch.Tensor and found[1].dtype == torch.uint8


def test_boxes_and_what_belongs_to_them() -> None:
    """As detectors take them: a dict a sample, or keys of the sample; what is dropped is dropped in all."""
    augment = pipeline(ga.SanitizeBoundingBoxes(min_size=3))
    boxes = [
        tv().BoundingBoxes(boxes_of(i), format="XYXY", canvas_size=tuple(x.shape[-2:])) for i, x in enumerate(IMAGES)
    ]
    labels = [torch.arange(len(b)) for b in boxes]
    alone = [
        augment((x, {"boxes": b, "labels": n}), ids=i)
        for i, (x, b, n) in enumerate(zip(IMAGES, boxes, labels, strict=True))
    ]
    assert len({len(target["boxes"]) for _, target in alone}) > 1, "nothing is dropped here"
    nested = [(x, {"boxes": b, "labels": n}) for x, b, n in zip(IMAGES, boxes, labels, strict=True)]
    flat = [{"image": x, "boxes": b, "labels": n} for x, b, n in zip(pictures(), boxes, labels, strict=True)]
    ((images, targets),) = DataLoader(ga.WithIds(nested), N, collate_fn=ga.collate(augment))
    (batch,) = DataLoader(ga.WithIds(flat), N, collate_fn=ga.collate(augment))
    for i, (image, target) in enumerate(alone):
        assert torch.equal(images[i], image) and torch.equal(batch["image"][i], image)
        for found in (targets[i], {key: batch[key][i] for key in ("boxes", "labels")}):
            assert torch.equal(found["boxes"], target["boxes"]) and torch.equal(found["labels"], target["labels"])
            assert found["boxes"].canvas_size == (16, 16)


def test_what_is_a_list_does_not_hang_on_the_sizes_of_a_batch() -> None:
    """Two samples of one size with as many boxes: these and their labels are lists all the same, and masks move."""
    augment, image, mask = pipeline(), IMAGES[0], torch.from_numpy(ARRAYS[0][..., 0] // 64)
    boxes = tv().BoundingBoxes(boxes_of(1), format="XYXY", canvas_size=tuple(image.shape[-2:]))
    row = {"image": image, "boxes": boxes, "labels": torch.arange(2), "mask": tv().Mask(mask)}
    found = ga.collate(augment)([Identified(dict(row), i) for i in range(2)])
    _, masks, moved = augment(torch.stack([image] * 2), masks=[mask] * 2, boxes=[boxes] * 2, ids=range(2))
    assert [type(found[key]) for key in ("boxes", "labels")] == [list, list]
    assert all(map(torch.equal, found["boxes"], moved)) and found["boxes"][0].canvas_size == (16, 16)
    assert type(found["mask"]) is torch.Tensor and torch.equal(found["mask"], torch.stack(list(masks)))


def test_boxes_and_keypoints_by_name() -> None:
    augment = pipeline()
    boxes, points = [boxes_of(i) for i in range(N)], [torch.rand(2, 2) * 20 for _ in range(N)]
    expected = augment(IMAGES, boxes=boxes, keypoints=points, ids=range(N))
    rows = [{"box": b, "image": x, "at": k, "label": 1} for b, x, k in zip(boxes, IMAGES, points, strict=True)]
    found = ga.collate(augment, keypoints="at", boxes="box")([Identified(row, i) for i, row in enumerate(rows)])
    assert list(found) == ["box", "image", "at", "label"] and torch.equal(found["image"], expected[0])
    assert all(map(torch.equal, found["box"], expected[1])) and all(map(torch.equal, found["at"], expected[2]))


def test_two_images_of_a_sample_share_its_draw() -> None:
    rows = [{"left": x, "right": x} for x in pictures()]
    found = ga.collate(pipeline())(rows)
    assert type(found["left"]) is torch.Tensor and torch.equal(found["left"], found["right"])


def test_clips() -> None:
    clips, augment = torch.randint(0, 256, (4, 3, 3, 20, 24), dtype=torch.uint8), pipeline()
    expected = augment(clips, ids=range(4))
    for form in (clips, map(tv().Video, clips)):
        samples = [Identified((clip, 3), i) for i, clip in enumerate(form)]
        assert torch.equal(ga.collate(augment)(samples)[0], expected)


def test_columns_are_chosen_and_named() -> None:
    augment = pipeline()
    made = ga.collate(augment, ids="id", columns={"label": "labels", "image": "pixel_values"})
    columns = {"image": IMAGES, "label": [i % 4 for i in range(N)], "id": list(range(N)), "more": ["x"] * N}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    for found in (made(rows), made(columns)):
        assert list(found) == ["labels", "pixel_values"] and torch.equal(found["labels"], LABELS)
        assert torch.equal(found["pixel_values"], augment(IMAGES, ids=range(N)))


# --- other libraries' loops -------------------------------------------------------------------------------------------
def test_accelerate_prepares_a_loader_with_it(tmp_path: Any) -> None:
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    augment, accelerator = pipeline(), accelerate.Accelerator(cpu=True)
    loader = accelerator.prepare(DataLoader(ga.WithIds(PAIRS), 4, num_workers=1, collate_fn=ga.collate(augment)))
    for epoch in range(2):
        augment.set_epoch(epoch)
        assert torch.equal(torch.cat([images for images, _ in loader]), augment(IMAGES, ids=range(N)))
    accelerator.register_for_checkpointing(augment)
    accelerator.save_state(tmp_path)
    augment.seed, augment.epoch = 5, 7
    accelerator.load_state(tmp_path)
    assert (augment.seed, augment.epoch) == (0, 1)


def test_timms_loader_leaves_the_transform_to_it() -> None:
    data = pytest.importorskip("timm.data", reason="timm is not installed")
    augment = pipeline(ga.MixUp(num_classes=4))
    loader = data.create_loader(
        ga.WithIds([(x, i % 4) for i, x in enumerate(pictures())]),
        input_size=16,
        batch_size=5,
        is_training=True,
        use_prefetcher=False,
        num_workers=0,
        collate_fn=ga.collate(augment),
    )
    batches = list(loader)
    assert len(batches) == 2 and all(x.shape == (5, 3, 16, 16) and soft.shape == (5, 4) for x, soft in batches)


# --- what cannot be ---------------------------------------------------------------------------------------------------
class Stream(IterableDataset):
    def __iter__(self) -> Any:
        return iter(PAIRS)


def refused(error: type, message: str, *samples: Any, **keywords: Any) -> Any:
    """What a collate function with these keywords says of these samples."""
    return pytest.param(lambda: ga.collate(pipeline(), **keywords)(list(samples)), error, message, id=message)


FIRST = ga.WithIds(PAIRS)[0]
CALLS = [
    (lambda: ga.collate([]), TypeError, "collate: augment must be a gpuaug.Compose, got ..; ga.convert makes one"),
    (lambda: ga.collate(pipeline(), mask=1), TypeError, "collate: takes no argument 'mask'; did you mean 'masks'?"),
    (lambda: ga.WithIds(Stream()), TypeError, 'WithIds: the data set must be read by index, got .*ids="id"'),
    (lambda: ga.WithIds(PAIRS)["x"], TypeError, "WithIds: an index must be a whole number, got 'x'"),
    refused(ValueError, "collate: a batch has at least one sample, got none"),
    refused(TypeError, "all samples must have ids or none, got 1 of 2", FIRST, PAIRS[1]),
    refused(TypeError, "samples of WithIds have their ids; leave out ids=1", FIRST, ids=1),
    refused(ValueError, r"collate: ids names 'id', and a sample holds \[0, 1\]", PAIRS[0], ids="id"),
    refused(TypeError, "ids must be whole numbers", (IMAGES[0], "a"), ids=1),
    refused(ValueError, "collate: masks names 2, and", PAIRS[0], masks=2),
    refused(TypeError, "columns are those of dicts, and a sample is a tuple", PAIRS[0], columns={0: "x"}),
    refused(ValueError, "columns names 'x'", {"image": IMAGES[0]}, columns={"x": "y"}),
    refused(TypeError, r"must hold the same, got \[0, 1\] and, at 1, \[0\]", PAIRS[0], PAIRS[1][:1]),
    refused(ValueError, "not deeper inside; it holds dict, int", ({"image": IMAGES[0]}, 1)),
    refused(TypeError, "holds no images", (1, 2)),
    refused(TypeError, r"shape \(20, 30\), which would not move; .*masks=1", (IMAGES[0], torch.ones(20, 30))),
    refused(ValueError, "one dtype, device and number of channels", PAIRS[0], (IMAGES[1][:1], 1)),
]


@pytest.mark.parametrize("call, error, message", CALLS)
def test_what_cannot_be_is_refused(call: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        call()
