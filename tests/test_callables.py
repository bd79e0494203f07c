"""Callables in pipelines: they change no draw, get what torchvision would hand them, and give what can be read."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2

import gpuaug as ga

BACKENDS = ("cpu", "kornia")
IDS = range(12)
BESIDE = (tv_tensors.Mask, tv_tensors.BoundingBoxes, tv_tensors.KeyPoints)


@pytest.fixture
def batch() -> Tensor:
    return torch.randint(0, 256, (12, 3, 20, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def itself(x):
    return x


def inverted(x):
    return 255 - x


class Third(v2.Transform):
    """A user's transform, as torchvision's guide has them."""

    def make_params(self, flat_inputs):
        return {"by": 3}

    def transform(self, inpt, params):
        return inpt if isinstance(inpt, BESIDE) else inpt // params["by"]


class OurThird(ga.Transform):
    def __init__(self, by: int):
        super().__init__()
        self.by = by

    def make_params(self, flat_inputs):
        return {"by": self.by}

    def transform(self, inpt, params):
        return inpt if isinstance(inpt, BESIDE) else inpt // params["by"]


class Stacked(ga.Transform):
    def forward(self, sample):
        crops, label = sample
        return torch.stack(crops), torch.full((len(crops),), label)


def around(middle, **keywords) -> ga.Compose:
    ops = [ga.RandomHorizontalFlip(), ga.RandomCrop(16), middle, ga.RandomVerticalFlip(), ga.RandomRotation(30)]
    return ga.Compose(ops, **{"seed": 3, **keywords})


# --- draws ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("middle", [itself, nn.Identity(), v2.Identity(), ga.Lambda(itself), v2.Lambda(itself)])
def test_a_callable_changes_no_draw(middle, backend: str, batch: Tensor) -> None:
    plain, staged = around(ga.Identity(), backend=backend), around(middle, backend=backend)
    for _ in range(2):
        assert torch.equal(plain(batch), staged(batch)), "counted once a call"
    for asked in ({}, {"view": 2}, {"views": 3}):
        one, two = (pipeline(batch, ids=IDS, epoch=4, **asked) for pipeline in (plain, staged))
        assert torch.equal(one, two)
    assert torch.equal(plain(batch[3]), staged(batch[3]))
    listed = [image[:, : 16 + i % 3] for i, image in enumerate(batch)]
    assert torch.equal(plain(listed, ids=IDS, epoch=1), staged(listed, ids=IDS, epoch=1))
    index = torch.tensor([3, 1, 3])
    assert torch.equal(*(p(batch, index=index, ids=[9, 8, 7], epoch=1) for p in (plain, staged)))
    for pipeline in (plain, staged):
        pipeline.set_epoch(7)
    assert torch.equal(plain(batch, ids=IDS), staged(batch, ids=IDS))
    state = plain.state_dict()
    assert torch.equal(staged.state_dict()["_extra_state"], state["_extra_state"])
    staged.load_state_dict({"_extra_state": torch.tensor([9, -1, 100])})
    plain.load_state_dict({"_extra_state": torch.tensor([9, -1, 100])})
    assert torch.equal(plain(batch), staged(batch))


def test_labels_pass_by(batch: Tensor) -> None:
    labels, plain = torch.arange(12), around(ga.Identity())
    one, same = around(ga.Lambda(inverted))(batch, labels, ids=IDS, epoch=0)
    assert same is labels
    assert torch.equal(one, around(lambda x: 255 - x)(batch, ids=IDS, epoch=0))
    two, same = around(inverted)(batch, labels=labels, ids=IDS, epoch=0)
    assert torch.equal(one, two) and same is labels
    three, same = around(lambda x, y: (255 - x, y + 1))(batch, labels, ids=IDS, epoch=0)
    assert torch.equal(three, one) and torch.equal(same, labels + 1)
    views, same = around(lambda x, y: (x, y))(batch, labels, ids=IDS, epoch=0, views=2)
    assert torch.equal(views, plain(batch, ids=IDS, epoch=0, views=2)) and same is labels


def test_two_blends_and_one_in_the_middle(batch: Tensor) -> None:
    mix = ga.MixUp(num_classes=12)
    staged = ga.Compose([ga.RandomHorizontalFlip(), mix, ga.Lambda(itself), ga.RandomRotation(20), ga.CutMix()], seed=1)
    images, soft = staged(batch, torch.arange(12), ids=IDS, epoch=0)
    first, labels = ga.Compose(staged.transforms[:2], seed=1)(batch, torch.arange(12), ids=IDS, epoch=0)
    second, expected = staged[3:](first, labels, ids=IDS, epoch=0)
    assert torch.equal(images, second) and torch.equal(soft, expected) and soft.shape == (12, 12)


# --- what a callable gets ---------------------------------------------------------------------------------------------
def test_a_function_gets_what_torchvision_would_hand_it(batch: Tensor) -> None:
    seen: list = []

    def note(*inputs):
        seen.append(inputs)
        return inputs if len(inputs) > 1 else inputs[0]

    image = tv_tensors.Image(batch[0])
    target = {"mask": tv_tensors.Mask(torch.ones(20, 24)), "id": 7}
    picture = Image.fromarray(batch[0].permute(1, 2, 0).numpy())
    for inputs in (
        (batch,),
        (batch, torch.arange(12)),
        (image, target),
        ((image, target),),
        (picture, 3),
        ({"x": image},),
    ):
        seen.clear()
        ours = ga.Compose([ga.RandomHorizontalFlip(1.0), note], seed=0)(*inputs)
        theirs = v2.Compose([v2.RandomHorizontalFlip(1.0), note])(*inputs)
        (mine, other) = seen
        assert [type(x) for x in torch.utils._pytree.tree_leaves(mine)] == [
            type(x) for x in torch.utils._pytree.tree_leaves(other)
        ]
        for results in ((mine, other), (ours, theirs)):
            for a, b in zip(*map(torch.utils._pytree.tree_leaves, results), strict=True):
                assert torch.equal(a, b) if isinstance(a, Tensor) else np.array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("third", [Third(), OurThird(3), OurThird(by=3)])
def test_a_transform_of_the_users(third, batch: Tensor) -> None:
    staged, plain = (
        ga.Compose([ga.RandomHorizontalFlip(), x, ga.RandomVerticalFlip()], seed=1) for x in (third, ga.Identity())
    )
    expected = plain(batch, ids=IDS, epoch=0) // 3
    assert torch.equal(staged(batch, ids=IDS, epoch=0), expected)
    masks = torch.randint(0, 9, (12, 20, 24))
    boxes = torch.tensor([[2.0, 3.0, 9.0, 8.0]]).expand(12, 1, 4)
    points = torch.tensor([[[2.0, 3.0]]]).expand(12, 1, 2)
    found = staged(batch, masks=masks, boxes=boxes, keypoints=points, ids=IDS, epoch=0)
    others = plain(batch, masks=masks, boxes=boxes, keypoints=points, ids=IDS, epoch=0)
    assert torch.equal(found[0], expected) and torch.equal(found[1], others[1])
    assert torch.equal(found[2], others[2]) and torch.equal(found[3], others[3])
    samples = staged([(image, i) for i, image in enumerate(batch)], ids=IDS, epoch=0)
    assert torch.equal(torch.stack([image for image, _ in samples]), expected) and samples[5][1] == 5
    assert torch.equal(staged(list(batch), ids=IDS, epoch=0), expected), "each image of a list"
    images, targets = staged(list(batch), [{"k": i} for i in IDS], ids=IDS, epoch=0)
    assert torch.equal(torch.stack(list(images)), expected) and targets[4] == {"k": 4}
    alone = third((tv_tensors.Image(batch[0]), tv_tensors.Mask(masks[0]), 7))
    assert torch.equal(alone[0], batch[0] // 3) and torch.equal(alone[1], masks[0]) and alone[2] == 7
    assert type(alone[0]) is type(v2.Identity()(tv_tensors.Image(batch[0]))) or type(alone[0]) is Tensor


class Called(ga.Transform):
    def __call__(self, image, masks=None):
        return 255 - image if masks is None else (255 - image, masks)


def test_transforms_that_are_called_as_a_whole(batch: Tensor) -> None:
    augment = ga.Compose([ga.FiveCrop(12), Stacked(), ga.ToDtype(torch.float32, scale=True)], seed=0)
    images, labels = augment((batch[0], 7))
    assert torch.allclose(images, torch.stack(v2.FiveCrop(12)(batch[0])) / 255) and labels.tolist() == [7] * 5
    crops, labels = Stacked()((ga.FiveCrop(12)(batch[0]), 7))
    assert crops.shape == (5, 3, 12, 12) and len(labels) == 5
    plain = around(inverted)(batch, ids=IDS, epoch=0)
    assert torch.equal(around(Called())(batch, ids=IDS, epoch=0), plain)
    masks = torch.randint(0, 9, (12, 20, 24))
    assert torch.equal(around(Called())(batch, masks=masks, ids=IDS, epoch=0)[0], plain)


def test_lambda_is_torchvisions(batch: Tensor) -> None:
    image, mask = tv_tensors.Image(batch[0]), tv_tensors.Mask(batch[0, 0])
    for types in ((), (tv_tensors.Image,), (tv_tensors.Mask,), (int, tv_tensors.Image), (Tensor,)):
        for inputs in ((image, mask, 3), (batch[0], batch[0, 0], 3), ({"a": image, "b": [mask, 2.0]},)):
            ours, theirs = (kind(lambda x: x * 2, *types)(*inputs) for kind in (ga.Lambda, v2.Lambda))
            for a, b in zip(*map(torch.utils._pytree.tree_leaves, (ours, theirs)), strict=True):
                assert type(a) is type(b) and (torch.equal(a, b) if isinstance(a, Tensor) else a == b)
    assert repr(ga.Lambda(inverted, Tensor)) == "Lambda(inverted, Tensor)"
    assert pickle.loads(pickle.dumps(ga.Lambda(inverted, Tensor))).types == (Tensor,)
    with pytest.raises(TypeError, match="Lambda: lambd must be callable, got 3"):
        ga.Lambda(3)
    with pytest.raises(TypeError, match="Lambda: types must be classes, got 'x'"):
        ga.Lambda(inverted, "x")


def test_masks_by_keyword_need_a_function_that_takes_them(batch: Tensor) -> None:
    masks = torch.randint(0, 9, (12, 20, 24))
    with pytest.raises(TypeError, match=r"inverted: takes no masks=.*return \(images, masks\)"):
        around(inverted)(batch, masks=masks)
    images, found = around(lambda x, masks: (255 - x, masks + 1))(batch, masks=masks, ids=IDS, epoch=0)
    plain, others = around(ga.Identity())(255 - batch, masks=masks + 1, ids=IDS, epoch=0)
    inside = others > 0
    assert torch.equal(images[:, 0][inside], plain[:, 0][inside]) and torch.equal(found, others)


def test_a_function_may_come_first(tmp_path, batch: Tensor) -> None:
    paths = []
    for i, image in enumerate(batch[:2]):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(paths[-1])
    augment = ga.Compose([Image.open, ga.RandomHorizontalFlip(1.0), ga.ToImage()], seed=0)
    assert torch.equal(augment(paths[0]), batch[0].flip(-1)) and augment.sample(batch[:2]).table.shape == (2, 0)
    with pytest.raises(TypeError, match="sample: 0.open stands first"):
        augment.sample(paths[0])
    assert torch.equal(ga.Compose([inverted])(batch, index=[2, 0]), 255 - batch[[2, 0]])


# --- what a callable gives --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda x: None, "2.<lambda> gave None, which 3.RandomVerticalFlip cannot take"),
        (lambda x: x.double(), r"gave Tensor \(12, 3, 16, 16\) of torch.float64, which .* and this is torch.float64"),
        (lambda x: x.repeat(1, 6, 1, 1), r"gave Tensor \(12, 18, 16, 16\) .* 1 to 16 channels, got 18"),
        (lambda x: x[0, 0], r"gave Tensor \(16, 16\)"),
        (lambda x: {"x": 3}, "gave a dict, which .* holds no images"),
        (lambda x: x[:5], "2.<lambda> made 5 samples of 12"),
    ],
)
def test_what_cannot_be_read_is_named(function: Callable, told: str, batch: Tensor) -> None:
    with pytest.raises((TypeError, ValueError), match=told) as caught:
        around(function)(batch)
    assert "\n" not in str(caught.value)


def test_the_last_may_give_anything(batch: Tensor) -> None:
    assert ga.Compose([ga.RandomCrop(8), lambda x: x.shape])(batch) == (12, 3, 8, 8)
    with pytest.raises(TypeError, match="1.<lambda>: must give as many values as it takes"):
        ga.Compose([ga.RandomCrop(8), lambda x, y: x, ga.RandomCrop(4)])(batch, torch.arange(12))


# --- sample, apply, explain -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("asked", [{}, {"views": 2}, {"view": 3}])
def test_params_of_several_passes(asked: dict, batch: Tensor) -> None:
    plain, staged = around(ga.Identity()), around(inverted)
    params, expected = (p.sample(batch, ids=IDS, epoch=2, **asked) for p in (staged, plain))
    assert params.columns == expected.columns and torch.equal(params.table, expected.table) and len(params) == 12
    assert params.sizes == expected.sizes
    assert torch.equal(staged.apply(batch, params), staged(batch, ids=IDS, epoch=2, **asked))
    view = {"view": 1} if "views" in asked else {}
    records = [r for r in params.describe(3, **view) if r.get("callable") is not inverted]
    assert records == expected.describe(3, **view) and len(records) == len(params.describe(3, **view)) - 1
    with pytest.raises(ValueError, match="2.inverted may move pixels"):
        params.matrix  # noqa: B018


def test_params_where_a_callable_changes_what_comes(batch: Tensor) -> None:
    floats = ga.Compose(
        [ga.RandomCrop(16), lambda x: x.float() / 255, ga.Normalize([0.5], [0.5]), ga.RandomErasing(1.0)]
    )
    params = floats.sample(batch, ids=IDS, epoch=0)
    assert torch.equal(floats.apply(batch, params), floats(batch, ids=IDS, epoch=0))
    smaller = ga.Compose([ga.RandomCrop(16), lambda x: x[..., :8, :8], ga.RandomCrop(4)], seed=0)
    with pytest.raises(ValueError, match="1.<lambda> stands in front of 2.RandomCrop.*keep size"):
        smaller.apply(batch, smaller.sample(batch, ids=IDS, epoch=0))
    drawn = ga.Compose([ga.RandomResize(8, 16), inverted, ga.RandomCrop(4)])
    with pytest.raises(ValueError, match="sample: the size of what comes out of .*RandomResize.* is drawn"):
        drawn.sample(batch)
    plain = ga.Compose([ga.RandomCrop(16)])
    with pytest.raises(ValueError, match="drawn by another pipeline"):
        floats.apply(batch, plain.sample(batch))


def test_explain_says_where_passes_end(batch: Tensor) -> None:
    told = around(inverted).explain(batch)
    first, middle, last = (
        told.split("\n\n2.inverted: ")[0],
        "2.inverted: a callable. The pass in front ends",
        "3.RandomV",
    )
    assert first.startswith("0.RandomHorizontalFlip to 1.RandomCrop: uint8 [12, 3, 20, 24]") and middle in told
    assert last in told.split(middle)[1]
    unknown = ga.Compose([ga.RandomResize(8, 16), inverted, ga.RandomCrop(4)]).explain(batch)
    assert "2.RandomCrop: one pass, on what 1.inverted gives" in unknown


# --- the pipeline -----------------------------------------------------------------------------------------------------
def test_copies_and_prints(batch: Tensor) -> None:
    augment = around(inverted, same_on_batch=True)
    augment(batch)
    for other in (copy.deepcopy(augment), pickle.loads(pickle.dumps(augment))):
        assert torch.equal(other(batch, ids=IDS, epoch=0), augment(batch, ids=IDS, epoch=0)) and other.same_on_batch
        assert torch.equal(other.state_dict()["_extra_state"], augment.state_dict()["_extra_state"])
    assert f"    {__name__}.inverted,\n" in repr(augment) and "seed=3, same_on_batch=True" in repr(augment)
    augment.transforms[2] = ga.Identity()
    assert torch.equal(
        augment(batch, ids=IDS, epoch=0), around(ga.Identity(), same_on_batch=True)(batch, ids=IDS, epoch=0)
    )
    augment.seed = 9
    augment.transforms[2] = inverted
    expected = around(inverted, seed=9, same_on_batch=True)(batch, ids=IDS, epoch=0)
    assert torch.equal(augment(batch, ids=IDS, epoch=0), expected)


def test_pipelines_within_pipelines(batch: Tensor) -> None:
    inner = ga.Compose([ga.RandomCrop(16), inverted, ga.RandomVerticalFlip()], seed=77)
    outer = ga.Compose([ga.RandomHorizontalFlip(), inner, ga.RandomRotation(30)], seed=3)
    flat = ga.Compose([ga.RandomHorizontalFlip(), *inner.transforms, ga.RandomRotation(30)], seed=3)
    assert torch.equal(outer(batch, ids=IDS, epoch=0), flat(batch, ids=IDS, epoch=0))
    assert (
        "1.0.RandomCrop.top" in outer.sample(batch).columns
        and "1.2.RandomVerticalFlip.applied" in outer.sample(batch).columns
    )
    for holder in (v2.Compose([ga.RandomCrop(16), v2.Lambda(inverted), ga.RandomVerticalFlip()]), nn.Sequential(inner)):
        wrapped = ga.Compose([ga.RandomHorizontalFlip(), holder, ga.RandomRotation(30)], seed=3)
        assert torch.equal(wrapped(batch, ids=IDS, epoch=0), flat(batch, ids=IDS, epoch=0))
    inner.transforms[1] = ga.Identity()
    assert not torch.equal(outer(batch, ids=IDS, epoch=0), flat(batch, ids=IDS, epoch=0)), "a change inside is seen"


def test_ours_among_theirs(batch: Tensor) -> None:
    image, mask = tv_tensors.Image(batch[0]), tv_tensors.Mask(batch[0, 0])
    theirs = v2.Compose(
        [v2.RandomVerticalFlip(1.0), ga.RandomHorizontalFlip(1.0), v2.RandomApply([ga.RandomInvert(1.0)], p=1.0)]
    )
    found = theirs(image, {"mask": mask})
    assert type(found[0]) is tv_tensors.Image and torch.equal(found[0], 255 - batch[0].flip(-1, -2))
    assert type(found[1]["mask"]) is tv_tensors.Mask and torch.equal(found[1]["mask"], mask.flip(-1, -2))
    picture = v2.RandomChoice([ga.RandomHorizontalFlip(1.0)])(Image.fromarray(batch[0].permute(1, 2, 0).numpy()))
    assert isinstance(picture, Image.Image) and np.array_equal(np.asarray(picture), batch[0].flip(-1).permute(1, 2, 0))
    model = nn.Sequential(
        ga.Compose([ga.RandomInvert(1.0)]), v2.RandomHorizontalFlip(1.0), ga.Compose([ga.RandomCrop(8)], seed=0)
    )
    assert torch.equal(model(batch), ga.Compose([ga.RandomCrop(8)], seed=0)(255 - batch.flip(-1)))


def test_samples_of_an_empty_batch(batch: Tensor) -> None:
    assert around(inverted)(batch[:0]).shape == (0, 3, 16, 16)


def test_views_of_multicrop(batch: Tensor) -> None:
    crops = [ga.MultiCrop([(around(middle), 2), (around(middle, seed=4), 1)]) for middle in (itself, ga.Identity())]
    ours, plain = (crop(batch, ids=IDS, epoch=0) for crop in crops)
    assert len(ours) == 3 and all(map(torch.equal, ours, plain))


def test_in_a_graph_it_breaks(dynamo, batch: Tensor) -> None:
    augment = around(inverted, backend="kornia")
    compiled = torch.compile(lambda x: augment(x, ids=torch.arange(12), epoch=0) + 0, backend="eager")
    assert torch.equal(compiled(batch), augment(batch, ids=IDS, epoch=0))
    with pytest.raises(Exception, match="callable"):
        torch.compile(lambda x: augment(x), backend="eager", fullgraph=True)(batch)


def test_a_description_prints_a_call_a_line() -> None:
    augment = ga.Compose([ga.Pad(2), torch.nn.Identity(), ga.RandomInvert(1.0)], seed=0)
    lines = str(augment.sample(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)).describe(1)).splitlines()
    assert [line.partition("(")[0] for line in lines] == ["pad", "Identity", "invert"]
