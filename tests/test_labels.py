"""What goes with boxes and keypoints: labels_getter, against torchvision's, in several structures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils import _pytree
from torchvision import tv_tensors
from torchvision.transforms import v2

import gpuaug as ga

SIZE = 40, 60
GONE = torch.tensor([True, False, True, False, True])  # those that stay: one box is small, one lies outside


def image() -> Tensor:
    return tv_tensors.Image(torch.arange(3 * 40 * 60, dtype=torch.int64).remainder(256).to(torch.uint8).view(3, *SIZE))


def boxes() -> tv_tensors.BoundingBoxes:
    found = [[1.0, 2, 30, 20], [5, 5, 5.5, 30], [0, 0, 60, 40], [50, 10, 70, 20], [11, 12, 13, 14]]
    return tv_tensors.BoundingBoxes(torch.tensor(found), format="XYXY", canvas_size=SIZE)


def labels() -> Tensor:
    return torch.arange(5) + 10


def rows() -> Tensor:
    return torch.arange(15.0).view(5, 3)


def masks() -> tv_tensors.Mask:
    return tv_tensors.Mask(torch.arange(5, dtype=torch.uint8)[:, None, None].expand(5, *SIZE).contiguous())


STRUCTURES: dict[str, tuple[Any, Any]] = {
    "a dict": ({"image": image(), "boxes": boxes(), "labels": labels(), "area": rows()}, "default"),
    "keys in any case": ({"img": image(), "b": boxes(), "a_label": rows(), "LABELS": labels()}, "default"),
    "a key like it": ({"img": image(), "b": boxes(), "MyLabelS_": rows()}, "default"),
    "a dict in the second place": ((image(), {"boxes": boxes(), "labels": labels(), "masks": masks()}), "default"),
    "a list of three": ([image(), {"label": labels()}, {"boxes": boxes(), "masks": masks()}], "default"),
    "a tensor in the second place": ((image(), labels(), boxes()), "default"),
    "rows as labels": ((image(), {"boxes": boxes(), "labels": rows()}), "default"),
    "a function": ((image(), boxes(), {"deep": [labels(), rows()]}), lambda s: s[2]["deep"][1]),
    "several": (
        (image(), {"boxes": boxes(), "labels": labels(), "area": rows(), "iscrowd": labels() * 2, "id": labels()}),
        lambda s: (s[1]["labels"], s[1]["area"], s[1]["iscrowd"]),
    ),
    "none found": ((image(), {"boxes": boxes(), "labels": labels()}), lambda s: None),
    "none": ((image(), {"boxes": boxes(), "labels": labels(), "masks": masks()}), None),
    "a semantic mask": ((image(), {"boxes": boxes(), "labels": labels(), "mask": masks()[0]}), "default"),
}


def same(ours: Any, theirs: Any) -> None:
    a, b = (_pytree.tree_flatten(x) for x in (ours, theirs))
    assert a[1] == b[1]
    for x, y in zip(a[0], b[0], strict=True):
        assert type(x) is type(y)
        if isinstance(x, Tensor):
            assert x.dtype == y.dtype and torch.equal(x.as_subclass(Tensor), y.as_subclass(Tensor))
        else:
            assert x == y


@pytest.mark.parametrize("name", STRUCTURES)
def test_labels_go_where_torchvisions_go(name: str) -> None:
    structure, getter = STRUCTURES[name]
    ours = ga.Compose([ga.SanitizeBoundingBoxes(labels_getter=getter)], seed=0)(structure)
    theirs = v2.SanitizeBoundingBoxes(labels_getter=getter)(structure)
    same(ours, theirs)
    found = [x for x in _pytree.tree_leaves(ours) if isinstance(x, tv_tensors.BoundingBoxes)]
    assert len(found[0]) == 3


def test_several_inputs_are_one_tuple() -> None:
    op = dict(labels_getter=lambda sample: sample[1]["labels"])
    given = image(), {"boxes": boxes(), "labels": labels(), "masks": masks()}
    same(ga.Compose([ga.SanitizeBoundingBoxes(**op)], seed=0)(*given), v2.SanitizeBoundingBoxes(**op)(*given))


@pytest.mark.parametrize("collated", [False, True])
def test_each_sample_of_a_batch(collated: bool) -> None:
    some = [
        (image(), {"boxes": boxes()[: 5 - i], "labels": labels()[: 5 - i], "area": rows()[: 5 - i]}) for i in (0, 2)
    ]
    some = [(x, t | {"boxes": tv_tensors.wrap(t["boxes"], like=boxes())}) for x, t in some]
    getter = lambda s: (s[1]["labels"], s[1]["area"])  # noqa: E731
    augment = ga.Compose([ga.RandomHorizontalFlip(1.0), ga.SanitizeBoundingBoxes(labels_getter=getter)], seed=0)
    theirs = v2.Compose([v2.RandomHorizontalFlip(1.0), v2.SanitizeBoundingBoxes(labels_getter=getter)])
    if collated:
        images, targets = augment(torch.stack([x for x, _ in some]), [t for _, t in some])
        ours = [*zip(images, targets, strict=True)]
    else:
        ours = augment(some)
    for one, sample in zip(ours, some, strict=True):
        same(one[1], theirs(sample)[1])
        assert torch.equal(one[0].as_subclass(Tensor), theirs(sample)[0].as_subclass(Tensor))


def test_lists_by_name() -> None:
    given = {
        "images": [image()] * 2,
        "boxes": [boxes(), boxes()],
        "labels": [labels(), rows()],
        "n": [rows(), labels()],
    }
    augment = ga.Compose([ga.SanitizeBoundingBoxes(labels_getter=lambda s: (s["labels"], s["n"]))], seed=0)
    found = augment(given)
    for name in ("labels", "n"):
        for one, came in zip(found[name], given[name], strict=True):
            assert torch.equal(one, came[GONE]), name


@pytest.mark.parametrize("op", [ga.SanitizeBoundingBoxes(), ga.SanitizeBoundingBoxes(labels_getter=None)])
def test_by_keyword_labels_go_along(op: ga.SanitizeBoundingBoxes) -> None:
    plain = boxes().as_subclass(Tensor)
    _, names, left = ga.Compose([op], seed=0)([image()], labels=[labels()], boxes=[plain])
    assert torch.equal(names[0], labels()[GONE]) and torch.equal(left[0], plain[GONE])


def test_arrays() -> None:
    given = image(), {"boxes": boxes(), "labels": labels().numpy()}
    found = ga.Compose([ga.SanitizeBoundingBoxes(labels_getter=lambda s: s[1]["labels"])], seed=0)(given)
    assert isinstance(found[1]["labels"], np.ndarray) and found[1]["labels"].tolist() == [10, 12, 14]


def test_keypoints() -> None:
    points = torch.tensor([[3.0, 4], [70, 5], [59, 39], [-1, 0]])
    points = tv_tensors.KeyPoints(points, canvas_size=SIZE)
    for getter in (None, "default", lambda s: (s["labels"], s["seen"])):
        given = {"image": image(), "points": points, "labels": torch.arange(4), "seen": torch.arange(8).view(4, 2)}
        ours = ga.Compose([ga.SanitizeKeyPoints(labels_getter=getter)], seed=0)(given)
        same(ours, v2.SanitizeKeyPoints(labels_getter=getter)(given))


def test_mosaics_gather_what_a_getter_finds() -> None:
    op = ga.SanitizeBoundingBoxes(labels_getter=lambda s: (s["labels"], s["area"]))
    many = [
        {"image": image(), "boxes": boxes(), "labels": labels() + 100 * i, "area": (labels() + 100 * i).float()}
        for i in range(4)
    ]
    found = ga.Compose([ga.Mosaic((60, 90)), op], seed=0)(many, ids=range(4), epoch=0)
    for one in found:
        assert len(one["boxes"]) == len(one["labels"]) and torch.equal(one["labels"].float(), one["area"])
    assert max(len(one["labels"].div(100, rounding_mode="floor").unique()) for one in found) > 1


WRONG = {
    "no labels in a sample of the keys 'image', 'boxes'": ({"image": image(), "boxes": boxes()}, "default"),
    "second place of a sample, which has the keys 'boxes'": ((image(), {"boxes": boxes()}), "default"),
    "second place of a sample, which has a BoundingBoxes": ((image(), boxes(), labels()), "default"),
    r"labels of the shape \(4,\) go with 5 boxes": ((image(), {"boxes": boxes(), "labels": labels()[:4]}), "default"),
    "labels must be tensors, got 'x'": ((image(), {"boxes": boxes(), "label": "x"}), "default"),
    "must give the tensors that the sample holds": ((image(), boxes(), labels()), lambda s: s[2] + 0),
}


@pytest.mark.parametrize("words", WRONG)
def test_errors(words: str) -> None:
    structure, getter = WRONG[words]
    with pytest.raises((ValueError, TypeError), match=f"SanitizeBoundingBoxes: .*{words}") as told:
        ga.Compose([ga.SanitizeBoundingBoxes(labels_getter=getter)], seed=0)(structure)
    assert "\n" not in str(told.value)


def test_copy_paste_has_labels_alone() -> None:
    many = [{"image": image(), "boxes": boxes(), "masks": masks(), "labels": labels(), "area": rows()}] * 2
    op = ga.SanitizeBoundingBoxes(labels_getter=lambda s: (s["labels"], s["area"]))
    with pytest.raises(ValueError, match="CopyPaste: labels_getter may find labels alone"):
        ga.Compose([op, ga.CopyPaste()], seed=0)(many)


# --- what else goes by kind -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("keys", ["types", "names"])
def test_dtypes_by_kind(keys: str) -> None:
    by = {tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, tv_tensors.BoundingBoxes: torch.float64}
    given = {"i": image(), "m": masks(), "b": boxes(), "labels": labels()}
    theirs = v2.ToDtype(by | {"others": None}, scale=True)(given)
    if keys == "names":
        by = {"image": torch.float32, "mask": torch.int64, "boxes": torch.float64}
    op = ga.ToDtype(by, scale=True)
    same(ga.Compose([op], seed=0)(given), theirs)
    assert eval(repr(op), {"ToDtype": ga.ToDtype, "torch": torch}) == op
    others = ga.Compose([ga.ToDtype({"others": torch.int64, "image": None})], seed=0)(given)
    assert others["i"].dtype == torch.uint8 and others["m"].dtype == others["b"].dtype == torch.int64


def test_fill_of_others() -> None:
    from collections import defaultdict

    fill = defaultdict(lambda: (9, 8, 7), {tv_tensors.Mask: 200})
    out, mask = ga.Compose([ga.Pad(2, fill=fill)], seed=0)(image(), masks())
    assert out[:, 0, 0].tolist() == [9, 8, 7] and mask[0, 0, 0] == 200


@pytest.mark.parametrize(
    "dtype", [{}, {"picture": torch.uint8}, {"mask": 3}, {"image": torch.int64}, {"image": 1, "Video": 2}]
)
def test_wrong_dtypes_by_kind(dtype: dict) -> None:
    with pytest.raises(ValueError, match="ToDtype: dtype"):
        ga.ToDtype(dtype)
