"""Pipelines as lists, one draw for a whole batch, and random choices among ops and callables."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
import torch
from test_callables import IDS, batch, inverted, itself  # noqa: F401
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2

import gpuaug as ga

OPS = [
    ga.RandomHorizontalFlip(),
    ga.RandomCrop(16),
    ga.ColorJitter(0.4, 0.4),
    ga.RandomVerticalFlip(),
    ga.RandomRotation(30),
]
CHOICES: dict[str, Callable] = {
    "apply": lambda x: ga.RandomApply([x, ga.RandomHorizontalFlip()], p=0.4),
    "always": lambda x: ga.RandomApply([x, ga.RandomHorizontalFlip()], p=1.0),
    "choice": lambda x: ga.RandomChoice([x, ga.RandomVerticalFlip(1.0), ga.RandomRotation(20)]),
    "weighted": lambda x: ga.RandomChoice([x, ga.RandomVerticalFlip(1.0)], p=[1, 2]),
    "order": lambda x: ga.RandomOrder([x, ga.RandomVerticalFlip(), ga.RandomRotation(20)]),
    "nested": lambda x: ga.RandomApply([ga.RandomChoice([x, ga.RandomRotation(20)]), ga.RandomVerticalFlip()], p=0.7),
    "pipeline": lambda x: ga.RandomApply([ga.Compose([ga.RandomVerticalFlip(), x]), ga.RandomRotation(20)], p=0.7),
}


# --- lists ------------------------------------------------------------------------------------------------------------
def test_a_pipeline_is_a_list(batch: Tensor) -> None:  # noqa: F811
    augment = ga.Compose(OPS, seed=3)
    assert len(augment) == 5 and list(augment) == OPS and augment[1] == OPS[1] and augment[-1] == OPS[-1]
    assert ga.RandomCrop(16) in augment and ga.RandomCrop(15) not in augment and ga.Compose([])
    assert augment.append(ga.RandomInvert()) is augment and augment.pop() == ga.RandomInvert() and len(augment) == 5
    augment.insert(0, ga.RandomInvert(1.0)).extend([ga.Identity()])
    assert augment.transforms == [ga.RandomInvert(1.0), *OPS, ga.Identity()]
    del augment[0], augment[-1]
    augment[1] = ga.RandomCrop(16)
    assert augment.transforms == OPS
    for wrong in (
        lambda: augment.append("x"),
        lambda: augment.__setitem__(0, 3),
        lambda: augment.extend([ga.RandomCrop]),
    ):
        with pytest.raises(
            TypeError, match=r"Compose: transforms\[0\] is .*, which is neither a transform nor a callable"
        ):
            wrong()
    with pytest.raises(TypeError, match="Compose: ops are numbered by whole numbers and slices, got 'x'"):
        augment["x"]
    with pytest.raises(IndexError):
        augment[9]
    assert torch.equal(ga.Compose(iter(OPS), seed=3)(batch), augment(batch))


@pytest.mark.parametrize("cut", range(6))
def test_parts_draw_what_they_draw_in_the_whole(cut: int, batch: Tensor) -> None:  # noqa: F811
    augment = ga.Compose(OPS, seed=3, backend="kornia", memory_format=torch.contiguous_format)
    augment.set_epoch(4)
    whole = augment(batch, ids=IDS)
    front, behind = augment[:cut], augment[cut:]
    assert torch.equal(behind(front(batch, ids=IDS), ids=IDS), whole)
    assert (behind.seed, behind.epoch, behind.backend, len(front) + len(behind)) == (3, 4, "kornia", 5)
    again = eval(repr(behind), {name: getattr(ga, name) for name in ga.__all__} | {"torch": torch})  # noqa: S307
    again.set_epoch(4)
    for other in (again, pickle.loads(pickle.dumps(behind)), augment[1:][max(cut - 1, 0) :] if cut else behind):
        assert torch.equal(other(front(batch, ids=IDS), ids=IDS), whole)


def test_sums(batch: Tensor) -> None:  # noqa: F811
    one, two = ga.Compose(OPS[:2], seed=3, same_on_batch=True), ga.Compose(OPS[2:], seed=9)
    whole = ga.Compose(OPS, seed=3, same_on_batch=True)
    for joined in (one + two, one + OPS[2:], one + tuple(OPS[2:])):
        assert joined.transforms == OPS and joined.seed == 3 and joined.same_on_batch
        assert torch.equal(joined(batch, ids=IDS, epoch=1), whole(batch, ids=IDS, epoch=1))
    assert (OPS[:2] + two).transforms == OPS and (OPS[:2] + two).seed == 9
    assert torch.equal((whole[1:] + [])(batch, ids=IDS, epoch=0), whole[1:](batch, ids=IDS, epoch=0))
    with pytest.raises(TypeError):
        one + 3
    assert whole[::2].transforms == OPS[::2]


def test_pipelines_in_a_sequential(batch: Tensor) -> None:  # noqa: F811
    one, two = ga.Compose(OPS[:2], seed=3), ga.Compose([ga.RandomInvert(1.0)], seed=9)
    model = nn.Sequential(one, two)
    expected = 255 - ga.Compose(OPS[:2], seed=3)(batch)
    assert torch.equal(model(batch), expected)
    other = nn.Sequential(ga.Compose(OPS[:2]), ga.Compose([ga.RandomInvert(1.0)]))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(batch), model(batch)) and other[0].seed == 3
    images, labels = nn.Sequential(ga.Compose(OPS[:2], seed=3), two)((tv_tensors.Image(batch), torch.arange(12)))
    assert torch.equal(images, expected) and torch.equal(labels, torch.arange(12))


# --- one draw for a batch ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("backend", ["cpu", "kornia"])
def test_the_draws_of_the_first(backend: str, batch: Tensor) -> None:  # noqa: F811
    same, each = (ga.Compose(OPS, seed=3, backend=backend, same_on_batch=on) for on in (True, False))
    for _ in range(2):
        table, alone = same.sample(batch).table, each.sample(batch).table
        assert torch.equal(table, alone[:1].expand(12, -1)), "the counter moves on as it does without"
    ids = range(5, 17)
    for asked in ({}, {"views": 2}, {"view": 3}):
        table, alone = (p.sample(batch, ids=ids, epoch=1, **asked).table for p in (same, each))
        assert torch.equal(table, alone[..., :1, :].expand_as(alone)) and not torch.equal(table, alone)
    out = same(torch.stack([batch[0]] * 12), ids=ids, epoch=1)
    assert torch.equal(out, out[:1].expand_as(out)) and torch.equal(out[0], each(batch[:1], ids=[5], epoch=1)[0])
    boxes = torch.tensor([[2.0, 3.0, 9.0, 8.0]]).expand(12, 1, 4)
    found = same(batch, boxes=boxes, ids=ids, epoch=1)[1]
    assert torch.equal(found, found[:1].expand_as(found))
    staged = ga.Compose([*OPS[:2], itself, *OPS[2:]], seed=3, backend=backend, same_on_batch=True)
    assert torch.equal(staged(batch, ids=ids, epoch=1)[0], same(batch, ids=ids, epoch=1)[0])
    assert "same_on_batch=True" in repr(same) and same(batch[:0]).shape[0] == 0


def test_partners_stay(batch: Tensor) -> None:  # noqa: F811
    mix = ga.Compose([ga.MixUp(num_classes=12)], seed=1, same_on_batch=True)
    _, soft = mix(batch, torch.arange(12), ids=IDS, epoch=0)
    lam = soft[0, 0]
    expected = lam * torch.eye(12) + (1 - lam) * torch.eye(12).roll(1, 0)
    assert 0 < lam < 1 and torch.allclose(soft, expected)


# --- random choices ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_with_callables_draws_as_one_of_ops(name: str, batch: Tensor) -> None:  # noqa: F811
    def pipeline(x) -> ga.Compose:
        return ga.Compose(
            [ga.RandomHorizontalFlip(), CHOICES[name](x), ga.RandomCrop(16), ga.RandomRotation(10)], seed=5
        )

    plain, staged = pipeline(ga.Identity()), pipeline(itself)
    for _ in range(2):
        assert torch.equal(plain(batch), staged(batch))
    for asked in ({}, {"view": 1}, {"views": 2}):
        one, two = (p(batch, ids=IDS, epoch=1, **asked) for p in (plain, staged))
        assert torch.equal(one, two)
    assert torch.equal(plain(batch[2]), staged(batch[2]))
    labels, masks = torch.arange(12), torch.randint(0, 5, (12, 20, 24))
    structure = {
        "x": tv_tensors.Image(batch),
        "m": tv_tensors.Mask(masks),
        "y": labels,
        "n": [{"k": i} for i in IDS],
        "name": "n",
    }
    (one, two) = (p(structure, ids=IDS, epoch=1) for p in (plain, staged))
    assert type(two["x"]) is tv_tensors.Image and type(two["m"]) is tv_tensors.Mask
    assert torch.equal(one["x"], two["x"]) and torch.equal(one["m"], two["m"]) and torch.equal(two["y"], labels)
    assert two["n"] == structure["n"] and two["name"] == "n"
    samples = [(image, i) for i, image in enumerate(batch)]
    for a, b in zip(*(p(samples, ids=IDS, epoch=1) for p in (plain, staged)), strict=True):
        assert torch.equal(a[0], b[0]) and a[1] == b[1]
    inverting, turned = pipeline(ga.Lambda(inverted)), pipeline(ga.RandomInvert(1.0))
    assert torch.equal(inverting(batch, ids=IDS, epoch=2), turned(batch, ids=IDS, epoch=2)) or name in (
        "order",
        "nested",
        "pipeline",
    )


def test_ways_of_other_sizes_give_a_list(batch: Tensor) -> None:  # noqa: F811
    def small(x):
        return x[..., :10, :10]

    choice = ga.RandomApply([small], p=0.5)
    found = ga.Compose([choice], seed=1)(batch, ids=IDS, epoch=0)
    assert type(found) is list and {tuple(x.shape[1:]) for x in found} == {(10, 10), (20, 24)}
    for image, x in zip(batch, found, strict=True):
        assert torch.equal(image[:, : x.shape[1], : x.shape[2]], x)
    assert ga.Compose([choice, ga.RandomCrop(8)], seed=1)(batch).shape == (12, 3, 8, 8)
    with pytest.raises(ValueError, match="sample: 0.RandomApply holds callables"):
        ga.Compose([choice], seed=1).sample(batch)
    assert "0.RandomApply: a random choice among callables" in ga.Compose([choice], seed=1).explain(batch)


def test_what_a_random_choice_takes(batch: Tensor) -> None:  # noqa: F811
    assert ga.RandomApply(ga.RandomInvert(1.0), p=0.3) == ga.RandomApply([ga.RandomInvert(1.0)], p=0.3)
    modules = ga.RandomApply(nn.ModuleList([v2.RandomInvert(1.0), nn.Identity()]), p=1.0)
    assert torch.equal(modules(batch), 255 - batch)
    holders = [
        v2.RandomApply([ga.RandomInvert(1.0)], p=1.0),
        nn.Sequential(v2.RandomInvert(1.0)),
        ga.Compose([ga.RandomInvert(1.0)]),
    ]
    for holder in [*holders, v2.Compose([ga.RandomInvert(1.0)])]:
        assert torch.equal(ga.RandomOrder([holder])(batch), 255 - batch)
        assert torch.equal(ga.RandomApply(holder, p=1.0)(batch), 255 - batch)


# --- classes of torchvision -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["FiveCrop", "TenCrop"])
def test_crops_are_torchvisions(name: str, batch: Tensor) -> None:  # noqa: F811
    ours, theirs = getattr(ga, name), getattr(v2, name)
    for size in (11, (9, 13), [7], (20, 24)):
        for image in (
            batch,
            batch[0],
            batch[:, None],
            tv_tensors.Image(batch[0]),
            v2.functional.to_pil_image(batch[0]),
        ):
            for mine, other in zip(ours(size)(image), theirs(size)(image), strict=True):
                assert type(mine) is type(other)
                assert torch.equal(
                    v2.functional.pil_to_tensor(mine) if not isinstance(mine, Tensor) else mine,
                    v2.functional.pil_to_tensor(other) if not isinstance(other, Tensor) else other,
                )
    if name == "TenCrop":
        assert all(map(torch.equal, ours(8, vertical_flip=True)(batch), theirs(8, vertical_flip=True)(batch)))
    crops, label = ours(8)((tv_tensors.Image(batch[0]), 7))
    assert type(crops) is tuple and label == 7 and crops[0].data_ptr() == batch.data_ptr(), "a view"
    with pytest.raises(ValueError, match=f"{name}: size 21x8 is larger than an image of 20x24"):
        ours((21, 8))(batch)
    for kind in (
        tv_tensors.Mask(batch[0, 0]),
        tv_tensors.BoundingBoxes([[1, 1, 2, 2]], format="XYXY", canvas_size=(20, 24)),
    ):
        with pytest.raises(TypeError, match=f"{name}: takes images alone, got {type(kind).__name__}"):
            ours(8)(tv_tensors.Image(batch[0]), kind)


def test_what_stands_behind_crops_acts_on_each(batch: Tensor) -> None:  # noqa: F811
    ops = [ga.RandomRotation(30), ga.ToDtype(torch.float32, scale=True), ga.Normalize([0.5], [0.25])]
    augment = ga.Compose([ga.RandomHorizontalFlip(), ga.FiveCrop(12), *ops], seed=2)
    first = ga.Compose([ga.RandomHorizontalFlip()], seed=2)(batch, ids=IDS, epoch=0)
    crops = augment(batch, ids=IDS, epoch=0)
    assert type(crops) is tuple and len(crops) == 5
    for crop, part in zip(crops, v2.FiveCrop(12)(first), strict=True):
        assert torch.equal(crop, augment[2:](part, ids=IDS, epoch=0)), "one draw a sample"
    params = augment.sample(batch, ids=IDS, epoch=0)
    assert all(map(torch.equal, augment.apply(batch, params), crops))
    again, labels = augment(batch, torch.arange(12), ids=IDS, epoch=0)
    assert all(map(torch.equal, again, crops)) and torch.equal(labels, torch.arange(12))
    assert all(map(torch.equal, augment(list(batch), ids=IDS, epoch=0), crops))
    listed = ga.Compose(augment.transforms[1:], seed=2)([(image, 7) for image in batch], ids=IDS, epoch=0)
    whole = ga.Compose(augment.transforms[1:], seed=2)(batch, ids=IDS, epoch=0)
    assert all(torch.equal(x, y[3]) for x, y in zip(listed[3][0], whole, strict=True)) and listed[3][1] == 7
    doubled = augment[:2] + [
        ga.Lambda(inverted),
        lambda x: tuple(2 * y for y in x),
        ga.Identity(),
        ga.RandomInvert(1.0),
    ]
    for x, y in zip(doubled(batch, ids=IDS, epoch=0), v2.FiveCrop(12)(first), strict=True):
        assert torch.equal(x, 255 - 2 * (255 - y))
    stacked = ga.Compose([ga.FiveCrop(12), torch.stack, ga.ToDtype(torch.float32, scale=True)])
    assert torch.allclose(stacked(batch[0]), torch.stack(v2.FiveCrop(12)(batch[0])) / 255)
    chosen = ga.Compose([ga.FiveCrop(12), ga.RandomApply([inverted], p=0.5)], seed=1)(batch, ids=IDS, epoch=0)
    turned = {
        tuple(torch.equal(x, 255 - y) for x, y in zip(c, p, strict=True))
        for c, p in zip(chosen, v2.FiveCrop(12)(batch), strict=True)
    }
    assert len(turned) == 1 and len(set(turned.pop())) == 2


def test_a_matrix_on_the_pixels(batch: Tensor) -> None:  # noqa: F811
    images = batch[..., :4, :5].float() / 255
    matrix, mean = torch.randn(60, 60), torch.randn(60)
    ours, theirs = ga.LinearTransformation(matrix, mean), v2.LinearTransformation(matrix, mean)
    for given in (images, images[0], tv_tensors.Image(images[0]), images[:, None], batch[..., :4, :5]):
        assert torch.equal(ours(given), theirs(given)) and type(ours(given)) is type(theirs(given))
    assert torch.equal(ga.Compose([ours, ga.RandomInvert(1.0)])(images), 1 - theirs(images))
    for wrong, told in (
        (images[..., :3], "for 60 values, and an image is"),
        (v2.functional.to_pil_image(images[0]), "takes tensors"),
    ):
        with pytest.raises((TypeError, ValueError), match=f"LinearTransformation: .*{told}"):
            ours(wrong)
    with pytest.raises(
        ValueError, match=r"LinearTransformation: transformation_matrix is \(60, 60\) and mean_vector \(3,\)"
    ):
        ga.LinearTransformation(matrix, mean[:3])


@pytest.mark.parametrize("backend", ["cpu", "kornia"])
def test_grey_becomes_rgb(backend: str, batch: Tensor) -> None:  # noqa: F811
    grey = batch[:, :1]
    augment = ga.Compose(
        [ga.RandomHorizontalFlip(1.0), ga.RGB(), ga.Normalize([0.1, 0.2, 0.3], [1, 2, 3])], backend=backend
    )
    images = grey.float() / 255
    expected = v2.Compose([v2.RandomHorizontalFlip(1.0), v2.RGB(), v2.Normalize([0.1, 0.2, 0.3], [1, 2, 3])])(images)
    assert torch.allclose(augment(images), expected, atol=1e-6)
    for given in (grey, batch, grey[0], tv_tensors.Image(grey)):
        assert torch.equal(ga.Compose([ga.RGB()], backend=backend)(given), v2.RGB()(given))
    assert augment.sample(images).describe(0)[1] == {"op": "RGB", "call": "grayscale_to_rgb", "kwargs": {}}
    assert "takes one channel as three" in augment.explain(images)
    with pytest.raises(TypeError, match="0.RGB: expects images of 1 or 3 channels but meets 2"):
        ga.RGB()(batch[:, :2])


def test_the_old_name_of_a_dtype(batch: Tensor) -> None:  # noqa: F811
    for dtype in (torch.float32, torch.uint8, torch.float16):
        for given in (batch, batch.float() / 255):
            assert torch.equal(ga.ConvertImageDtype(dtype)(given), v2.ConvertImageDtype(dtype)(given))
    assert ga.ConvertImageDtype() == ga.ConvertImageDtype(torch.float32)
