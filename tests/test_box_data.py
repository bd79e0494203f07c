"""From annotation files to what a detector is fed with: COCO's JSON, VOC's XML, Loader, BoxFeed, presets."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from replayed import replayed
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

import gpuaug as ga
from gpuaug import presets
from gpuaug.data import DataError, Loader, Source, coco, voc
from gpuaug.data.annotated import annotated
from gpuaug.data.annotated_parts import first_annotated, held_annotated, kind_of, open_annotated
from gpuaug.finetune.feed_boxes import BoxFeed
from gpuaug.preview import preview

pytest.importorskip("numba", reason="parts of images are read by the CPU engine")

SIZES = [(60, 80), (64, 48), (50, 90), (40, 40), (72, 72), (48, 100), (80, 56)]  # (height, width)
CLASSES = ("disc", "bar", "dot")
DETECTION = ("detection_train", "detection_lsj", "detection_ssd", "detection_mosaic")


def planted() -> list[list[tuple[int, list[int], bool]]]:
    """Of each image its objects: class, [left, top, width, height], and whether it is a crowd."""
    rng, found = np.random.default_rng(0), []
    for i, (h, w) in enumerate(SIZES):
        objects = []
        for _ in range((4, 7, 0, 2, 5, 3, 6)[i]):
            bw, bh = rng.integers(6, 20, 2)
            box = [int(rng.integers(0, w - bw)), int(rng.integers(0, h - bh)), int(bw), int(bh)]
            objects.append((int(rng.integers(3)), box, bool(rng.random() < 0.25)))
        found.append(objects)
    return found


def write_images(folder: Path) -> None:
    rng = np.random.default_rng(1)
    (folder / "images").mkdir(parents=True)
    for i, (h, w) in enumerate(SIZES):
        pixels = rng.integers(0, 90, (h, w, 3), dtype=np.uint8)
        for k, (left, top, bw, bh), _ in planted()[i]:
            pixels[top : top + bh, left : left + bw, k] = 250
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")


def write_coco(folder: Path, change: Callable[[dict], object] = lambda facts: None) -> Path:
    """A folder with a COCO file, whose category ids are 10, 20 and 30; `change` works on what it holds."""
    if not (folder / "images").is_dir():
        write_images(folder)
    images = [{"id": 5 + i, "file_name": f"{i}.png", "width": w, "height": h} for i, (h, w) in enumerate(SIZES)]
    facts = {"images": images, "categories": [{"id": 10 * (k + 1), "name": name} for k, name in enumerate(CLASSES)]}
    facts["annotations"] = [
        {"id": 100 * i + n, "image_id": 5 + i, "category_id": 10 * (k + 1), "bbox": box, "iscrowd": int(crowd)}
        for i, objects in enumerate(planted())
        for n, (k, box, crowd) in enumerate(objects)
    ]
    change(facts)
    (folder / "coco.json").write_text(json.dumps(facts))
    return folder


def write_voc(folder: Path, objects: list | None = None, sizes: bool = True) -> Path:
    """A folder with an XML file for each image, crowds as difficult ones; an image without objects has none."""
    if not (folder / "images").is_dir():
        write_images(folder)
    (folder / "annotations").mkdir(exist_ok=True)
    for i, (h, w) in enumerate(SIZES):
        parts = [f"<size><width>{w}</width><height>{h}</height><depth>3</depth></size>"] * sizes
        for k, (left, top, bw, bh), crowd in (planted() if objects is None else objects)[i]:
            sides = {"xmin": left + 1, "ymin": top + 1, "xmax": left + bw, "ymax": top + bh}
            inner = "".join(f"<{side}>{value}</{side}>" for side, value in sides.items())
            name = f"<name>{CLASSES[k]}</name>" if k is not None else ""
            parts.append(f"<object>{name}<difficult>{int(crowd)}</difficult><bndbox>{inner}</bndbox></object>")
        if len(parts) > 1 or i != 2:
            (folder / "annotations" / f"{i}.xml").write_text(f"<annotation>{''.join(parts)}</annotation>")
    return folder


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    return write_coco(tmp_path / "cells")


def rows(objects: list) -> np.ndarray:
    found = np.array([[x, y, x + w, y + h] for _, (x, y, w, h), _ in objects], np.float32)
    return found.reshape(-1, 4)


# --- annotations ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("sized", [True, False])
def test_what_is_planted_is_read(tmp_path: Path, sized: bool) -> None:
    """By both formats, whether or not they tell the images' sizes."""

    def without(facts: dict) -> None:
        for image in facts["images"]:
            del image["width"]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        boxes = coco(write_coco(tmp_path, (lambda facts: None) if sized else without))
        xmls = voc(write_voc(tmp_path, sizes=sized))
    assert boxes.classes == CLASSES and xmls.classes == tuple(sorted(CLASSES)) and kind_of(tmp_path) == "coco"
    for one, other, objects in zip(boxes.targets, xmls.targets, planted(), strict=True):
        assert np.array_equal(one.boxes, rows(objects)) and np.array_equal(other.boxes, rows(objects))
        assert one.boxes.dtype == np.float32 and one.objects["labels"].dtype == np.int64
        assert [CLASSES[k] for k in one.labels] == [xmls.classes[k] for k in other.labels]
        assert one.objects["labels"].tolist() == [k for k, _, _ in objects]
        assert (
            one.objects["crowd"].tolist() == other.objects["difficult"].tolist() == [crowd for _, _, crowd in objects]
        )


def test_boxes_are_cut_at_the_border_and_told_of(tmp_path: Path) -> None:
    def reach(facts: dict) -> None:
        h, w = SIZES[0]
        some = facts["annotations"][:4]
        for one, box in zip(some, ([-5, 3, 20, 9], [w - 4, 2, 9, 9], [8, 8, 0, 5], [w + 3, 4, 9, 9]), strict=True):
            one["bbox"] = box
        facts["annotations"][4]["bbox"] = [-0.6, 0.0, 10.2, 9.0]

    with pytest.warns(UserWarning) as told:
        source = coco(write_coco(tmp_path, reach))
    n = sum(map(len, planted()))
    assert str(told[0].message) == (
        f"{tmp_path / 'coco.json'}: 1 of {n} boxes without area left out (annotation 2 of 0.png); 1 of {n} boxes "
        f"outside of the image left out (annotation 3 of 0.png); 2 of {n} boxes that reach out of the image cut at its "
        "border (annotation 0 of 0.png)"
    )
    first, second = source.targets[0], source.targets[1]
    assert first.boxes.tolist() == [[0, 3, 15, 12], [76, 2, 80, 11]] and len(first.labels) == 2
    assert first.objects["labels"].tolist() == [k for k, _, _ in planted()[0][:2]] and len(first.further["crowd"]) == 2
    assert np.allclose(second.boxes[0], [0, 0, 9.6, 9])
    objects = planted()
    objects[3][0] = (1, [-6, 3, 16, 9], False)  # whose xmin is -5
    with pytest.warns(UserWarning, match=rf"annotations: 1 of {n} boxes that .* \(object 1 \(bar\) of 3.xml\)"):
        assert voc(write_voc(tmp_path, objects)).targets[3].boxes[0].tolist() == [0, 3, 10, 12]


def change(at: int, **values: object) -> Callable[[dict], None]:
    return lambda facts: facts["annotations"][at].update(values)


BAD = {
    r"coco.json: annotation 1 of 0.png: its box goes from \(5, 6\) to \(2, 9\); width and height are not neg": change(
        1, bbox=[5, 6, -3, 3]
    ),
    r"annotation 100 of 1.png: its box goes from \(nan, 6\) .*; these are finite numbers of pixels": change(
        4, bbox=[float("nan"), 6, 3, 3]
    ),
    r"annotation 2 of 0.png: its bbox is \[1, 2, 3\], and \[left, top, width, height\] is wanted": change(
        2, bbox=[1, 2, 3]
    ),
    "annotation 2 of 0.png: its bbox is 'wide', and": change(2, bbox="wide"),
    r"annotation 0 of 0.png has category_id 4, which is none of the categories 10, 20, 30": change(0, category_id=4),
    r"annotation 0 is of image_id 99, and no image has that id; remove it": change(0, image_id=99),
    r"its image gone.png is neither in": lambda facts: facts["images"][0].update(file_name="gone.png"),
    r"0.png and 1.png have the same id 6; give each its own": lambda facts: facts["images"][0].update(id=6),
    r"coco.json: no images in this file": lambda facts: facts.update(images=[], annotations=[]),
    r"not COCO's format \(KeyError: 'images'\)": lambda facts: facts.pop("images"),
}


@pytest.mark.parametrize("told", BAD)
def test_a_bad_coco_file_is_refused_where_it_is_opened(tmp_path: Path, told: str) -> None:
    with pytest.raises(DataError, match=told) as caught:
        coco(write_coco(tmp_path, BAD[told]))
    assert "\n" not in str(caught.value)


def test_a_bad_xml_file_is_refused(tmp_path: Path) -> None:
    objects = planted()
    objects[1][2] = (None, [1, 1, 5, 5], False)
    with pytest.raises(DataError, match=r"1.xml: object 3 has no name"):
        voc(write_voc(tmp_path, objects))
    objects[1][2] = (0, [9, 9, -5, 5], False)
    with pytest.raises(
        DataError, match=r"annotations: object 3 \(disc\) of 1.xml: its box goes from \(9, 9\) to \(4, 14"
    ):
        voc(write_voc(tmp_path, objects))
    write_voc(tmp_path)
    with pytest.raises(DataError, match=r"xml: an object is of the class '.*', and known are disc$"):
        voc(tmp_path, classes=["disc"])
    (tmp_path / "images" / "0.png").unlink()
    with pytest.warns(UserWarning, match=r"annotations: 1 not used, as no image has their name, such as 0.xml"):
        voc(tmp_path)
    (tmp_path / "annotations" / "0.xml").unlink()
    (tmp_path / "annotations" / "1.xml").write_text("<annotation>")
    with pytest.raises(DataError, match=r"1.xml: not VOC's format \(ParseError"):
        voc(tmp_path)


def test_an_image_of_another_size_than_its_boxes_is_refused(tmp_path: Path, cells: Path) -> None:
    Image.new("RGB", (SIZES[0][0], SIZES[0][1])).save(cells / "images" / "0.png")
    source = coco(cells)
    with pytest.raises(
        DataError, match=r"0.png: 60 x 80 pixels .*, and coco.json has boxes for 80 x 60; give the image"
    ):
        source.targets[0]
    with pytest.raises(DataError, match="0.png: 60 x 80"):
        list(Loader(source, 4))
    write_voc(tmp_path / "xml")
    Image.new("RGB", (30, 20)).save(tmp_path / "xml" / "images" / "1.png")
    with pytest.raises(DataError, match=r"1.png: 30 x 20 pixels, and 1.xml has boxes for 48 x 64"):
        voc(tmp_path / "xml").targets[1]


def test_parts_of_xml_files_share_their_classes(tmp_path: Path) -> None:
    """A small part may lack a class."""
    write_voc(tmp_path / "train")
    few = [[one for one in objects if one[0] != 1] for objects in planted()]
    write_voc(tmp_path / "test", few)
    parts = open_annotated(tmp_path, 0.0)
    assert parts.test.classes == parts.train.classes == tuple(sorted(CLASSES))
    for one, objects in zip(parts.test.targets, few, strict=True):
        assert [parts.test.classes[k] for k in one.labels] == [CLASSES[k] for k, _, _ in objects]


@pytest.mark.parametrize("inner", [".", "images"])
def test_coco_as_it_is_published(tmp_path: Path, inner: str) -> None:
    (tmp_path / "annotations").mkdir()
    for name in ("train2017", "val2017"):
        write_coco(tmp_path / "made")
        (tmp_path / inner).mkdir(exist_ok=True)
        (tmp_path / "made" / "images").rename(tmp_path / inner / name)
        (tmp_path / "made" / "coco.json").rename(tmp_path / "annotations" / f"instances_{name}.json")
    (tmp_path / "annotations" / "captions_val2017.json").write_text("{}")
    assert kind_of(tmp_path) == "coco"
    parts = open_annotated(tmp_path, 0.0)
    assert parts.val is None and len(parts.train) == len(parts.test) == len(SIZES)
    assert parts.train.items[0].parent.name == "train2017" and parts.test.items[0].parent.name == "val2017"
    assert all(len(one.boxes) == len(objects) for one, objects in zip(parts.test.targets, planted(), strict=True))
    assert len(first_annotated(tmp_path, 3)) == 3 and list(held_annotated(tmp_path)) == ["train", "val"]


def test_voc_as_it_is_published(tmp_path: Path) -> None:
    """With masks of some images, and lists of those of each part."""
    write_voc(tmp_path)
    (tmp_path / "images").rename(tmp_path / "JPEGImages"), (tmp_path / "annotations").rename(tmp_path / "Annotations")
    (tmp_path / "SegmentationClass").mkdir(), (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    Image.new("L", (80, 60)).save(tmp_path / "SegmentationClass" / "0.png")
    lists = {"train": "5\n0\n4\n", "val": "1\n\n", "disc_train": "5 -1\n0 1\n"}
    for part, text in lists.items():
        (tmp_path / "ImageSets" / "Main" / f"{part}.txt").write_text(text)
    assert kind_of(tmp_path) == "voc"
    parts = open_annotated(tmp_path, 0.0)
    assert [path.stem for path in parts.train.items] == ["5", "0", "4"] and [p.stem for p in parts.test.items] == ["1"]
    assert [len(one.boxes) for one in parts.train.targets] == [len(planted()[i]) for i in (5, 0, 4)]
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("1\n99\n")
    with pytest.raises(DataError, match="no image of the name 99, which a list of images has"):
        open_annotated(tmp_path, 0.0)


def test_real_cells(data_dir: Path) -> None:
    if not (data_dir / "blood_cells").is_dir():
        pytest.skip(f"no folder {data_dir / 'blood_cells'}: set GPUAUG_DATA to the folder of the real data")
    with pytest.warns(
        UserWarning, match=r"1 of 2,923 boxes without area left out \(annotation 719 of BloodImage_00338"
    ):
        source = coco(data_dir / "blood_cells" / "train")
    assert sum(len(one.boxes) for one in source.targets) == 2922


# --- Loader -----------------------------------------------------------------------------------------------------------
def square(size: int = 32) -> ga.Compose:
    ops = [ga.RandomHorizontalFlip(), ga.ScaleJitter((size, size), (0.6, 2.0)), ga.RandomCrop(size, pad_if_needed=True)]
    return ga.Compose([*ops, ga.ToDtype(torch.float32, scale=True), ga.SanitizeBoundingBoxes(3.0)], seed=4)


@pytest.mark.parametrize(
    "options", [{}, {"resident": True}, {"mode": "processes"}], ids=["files", "memory", "processes"]
)
def test_labels_go_with_boxes_as_torchvisions_would(cells: Path, options: dict) -> None:
    """Each image by what was drawn for its id, in whatever batch."""
    source, augment, seen = coco(cells), square(), []
    loader = Loader(source, 3, augment, decode="full", shuffle=True, workers=1, **options)
    where = {id: i for i, id in enumerate(source.ids.tolist())}
    for _, labels, targets, ids in loader:
        assert labels is None and list(targets) == ["boxes", "labels", "crowd"]
        for k, id in enumerate(ids.tolist()):
            i = where[id]
            h, w = SIZES[i]
            params = augment.sample(torch.zeros(1, 3, h, w, dtype=torch.uint8), ids=[id], epoch=0)
            theirs = tv_tensors.BoundingBoxes(torch.from_numpy(rows(planted()[i])), format="XYXY", canvas_size=(h, w))
            kept, valid = F.sanitize_bounding_boxes(replayed(theirs, params.describe(0)), min_size=3.0)
            assert torch.allclose(targets["boxes"][k], kept.as_subclass(Tensor), atol=1e-3)
            mine = [one for one, keep in zip(planted()[i], valid.tolist(), strict=True) if keep]
            assert targets["labels"][k].tolist() == [one[0] for one in mine]
            assert targets["crowd"][k].tolist() == [one[2] for one in mine]
            seen.append((i, len(mine)))
    loader.close()
    assert sorted(i for i, _ in seen) == list(range(len(SIZES))) and sum(n for _, n in seen) < sum(map(len, planted()))


def test_two_processes_draw_what_one_does(cells: Path) -> None:
    source, found = coco(cells).subset(range(6)), []
    for world in (1, 2):
        each = {}
        for rank in range(world):
            for images, _, targets, ids in Loader(source, 2, square(), shuffle=True, rank=rank, world=world):
                values = zip(ids.tolist(), images, targets["boxes"], targets["labels"], targets["crowd"], strict=True)
                each |= {id: rest for id, *rest in values}
        found.append(each)
    assert len(found[0]) == 6 and found[0].keys() == found[1].keys()
    assert all(torch.equal(a, b) for id in found[0] for a, b in zip(found[0][id], found[1][id], strict=True))


def test_views_have_boxes_and_labels_of_their_own(cells: Path) -> None:
    source = coco(cells)
    for images, _, targets, ids in Loader(source, 3, square(), views=2):
        for v in range(2):
            places = [source.ids.tolist().index(id) for id in ids.tolist()]
            known = [source.targets[i] for i in places]
            raw = [torch.from_numpy(np.array(Image.open(one.path))).permute(2, 0, 1) for one in known]
            boxes = [torch.from_numpy(one.boxes) for one in known]
            labels = [torch.from_numpy(one.objects["labels"]) for one in known]
            asked = {"ids": ids, "epoch": 0, "view": v}
            again, moved, found = square()(raw, boxes=boxes, objects={"labels": labels}, **asked)
            assert torch.equal(images[v], again)
            assert all(torch.equal(a, b) for a, b in zip(targets["boxes"][v], moved, strict=True))
            assert all(torch.equal(a, b) for a, b in zip(targets["labels"][v], found["labels"], strict=True))


def test_without_a_pipeline_targets_are_as_they_are(cells: Path) -> None:
    for images, _, targets, ids in Loader(coco(cells), 4):
        assert [tuple(image.shape[1:]) for image in images] == SIZES[:4] if len(ids) == 4 else len(ids) == 3
        at = 0 if len(ids) == 4 else 4
        for k, boxes in enumerate(targets["boxes"]):
            assert np.array_equal(boxes, rows(planted()[at + k]))
            assert targets["labels"][k].tolist() == [one[0] for one in planted()[at + k]]


# --- presets and the feed ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", DETECTION)
def test_every_recipe_keeps_what_is_in_a_box(cells: Path, name: str) -> None:
    """Objects are full of the colour of their class, which no recipe here changes: so are boxes that come out."""
    source, told = coco(cells), {"detection_ssd": "zoom=0.3"}.get(name, "scale=(0.8, 2.0)")
    augment = presets.get(f"{name}:{told}", size=64, seed=1, mean=[0.0] * 3, std=[1.0] * 3)
    ops = [op for op in augment.transforms if not isinstance(op, ga.ColorJitter | ga.RandomPhotometricDistort)]
    feed, judged = BoxFeed(Loader(source, 7, ga.Compose(ops, seed=1), shuffle=True, decode="full"), 64), 0
    for _ in range(3):
        for images, targets, _ in feed:
            assert images.shape == (7, 3, 64, 64) and images.dtype == torch.float32
            for image, target in zip(images, targets, strict=True):
                assert list(target) == ["boxes", "labels"] and len(target["boxes"]) == len(target["labels"])
                boxes, labels = target["boxes"], target["labels"]
                assert boxes.dtype == torch.float32 and labels.dtype == torch.int64
                assert (boxes >= 0).all() and (boxes <= 64).all() and (boxes[:, 2:] - boxes[:, :2] >= 1).all()
                for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels.tolist(), strict=True):
                    inner = image[label, round(y1) + 2 : round(y2) - 2, round(x1) + 2 : round(x2) - 2]
                    if inner.numel():
                        judged += 1
                        assert inner.min() > 0.75, (label, inner)
    assert judged > 20


def test_crowds_are_learned_by_nobody_and_tested_on(cells: Path) -> None:
    source = coco(cells)
    crowds = sum(crowd for objects in planted() for _, _, crowd in objects)
    plain = ga.Compose([ga.Resize(None, max_size=64), ga.ToDtype(torch.float32, scale=True)], seed=0)
    tested = {}
    for images, targets, ids in BoxFeed(Loader(source, 3, plain), 64):
        assert isinstance(images, list) and all(max(image.shape) == 64 for image in images)
        for image, target, id in zip(images, targets, ids.tolist(), strict=True):
            tested[id] = target
            assert list(target) == ["boxes", "labels", "crowd"]
            i = source.ids.tolist().index(id)
            scale = torch.tensor([image.shape[2] / SIZES[i][1], image.shape[1] / SIZES[i][0]] * 2)
            assert torch.allclose(target["boxes"] / scale, torch.from_numpy(rows(planted()[i])), atol=1e-3)
    assert sum(int(target["crowd"].sum()) for target in tested.values()) == crowds > 2
    whole = ga.Compose([ga.Resize((64, 64)), ga.ToDtype(torch.float32, scale=True)], seed=0)
    learned = [target for _, targets, _ in BoxFeed(Loader(source, 3, whole, shuffle=True), 64) for target in targets]
    assert sum(len(target["boxes"]) for target in learned) == sum(map(len, planted())) - crowds


def test_boxes_that_a_crop_leaves_without_area_are_not_fed(cells: Path) -> None:
    augment = ga.Compose([ga.RandomCrop(24), ga.ToDtype(torch.float32, scale=True)], seed=0)
    source = coco(cells)
    raw = [boxes for _, _, targets, _ in Loader(source, 7, augment, shuffle=True) for boxes in targets["boxes"]]
    fed = [target for _, targets, _ in BoxFeed(Loader(source, 7, augment, shuffle=True), 24) for target in targets]
    flat = sum(int((boxes[:, 2:] <= boxes[:, :2]).any(1).sum()) for boxes in raw)
    assert flat > 0 and sum(len(target["boxes"]) for target in fed) <= sum(map(len, raw)) - flat
    assert all((target["boxes"][:, 2:] > target["boxes"][:, :2]).all() for target in fed)


def test_the_eval_preset_says_the_way_back() -> None:
    images = [torch.zeros(3, h, w, dtype=torch.uint8) for h, w in SIZES]
    augment = presets.get("detection_eval", size=96, seed=0)
    given = [torch.from_numpy(rows(objects)) for objects in planted()]
    y, moved = augment(images, boxes=given)
    assert y.shape == (len(SIZES), 3, 96, 96)
    back = augment.sample(images).matrix.inverse()
    for (h, w), boxes, wanted, way in zip(SIZES, moved, given, back, strict=True):
        corners = torch.cat((boxes.view(-1, 2) - 0.5, torch.ones(2 * len(boxes), 1)), 1)  # of pixels' indices
        assert torch.allclose((corners @ way.T)[:, :2].reshape(-1, 4) + 0.5, wanted, atol=1e-3)
        assert max(h, w) * (boxes[:, 2] - boxes[:, 0]).sum() == pytest.approx(
            float(96 * (wanted[:, 2] - wanted[:, 0]).sum()), rel=0.05
        )


@pytest.mark.parametrize("spec", ["detection_eval", "detection_ssd:zoom=0.0,flip=0.0"])
def test_boxes_that_end_with_their_image_stay(spec: str) -> None:
    """A resize rounds the sides of some of them to a place outside of the output, where SanitizeBoundingBoxes alone
    removes them."""
    sizes = [(w * 3 // 4, w) for w in range(205, 420, 3)]
    images = [torch.zeros(3, h, w, dtype=torch.uint8) for h, w in sizes]
    boxes = [torch.tensor([[0.0, 0.0, w, h], [w - 30.0, h - 20.0, w, h]]) for h, w in sizes]
    augment = presets.get(spec, size=200, seed=0)
    if "ssd" in spec:
        augment = ga.Compose([op for op in augment.transforms if not isinstance(op, ga.RandomIoUCrop)], seed=0)
    less = ga.Compose([op for op in augment.transforms if not isinstance(op, ga.ClampBoundingBoxes)], seed=0)
    assert all(len(one) == 2 for one in augment(images, boxes=boxes)[1])
    assert any(len(one) < 2 for one in less(images, boxes=boxes)[1])


# --- the sheet --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["coco", "voc"])
def test_the_sheet_shows_boxes_of_both_formats(tmp_path: Path, kind: str) -> None:
    folder = (write_coco if kind == "coco" else write_voc)(tmp_path / "data" / "train")
    (write_coco if kind == "coco" else write_voc)(tmp_path / "data" / "test")
    assert [len(one.boxes) for one in annotated(folder, 3)] == [len(objects) for objects in planted()[:3]]
    out = preview(
        [tmp_path / "data"], "detection_mosaic:mosaic=1.0", tmp_path / "s.png", draws=2, most=3, size=96, side=96
    )
    with Image.open(out) as sheet:
        assert sheet.width > 3 * 96 and sheet.height > 3 * 96


def test_a_source_of_ones_own_has_what_it_says() -> None:
    """Any targets with boxes and a dict ``objects``."""

    class Known:
        masks = keypoints = None

        def __init__(self, i: int):
            self.boxes = np.array([[2, 3, 12, 14]] * i, np.float32).reshape(-1, 4)
            self.objects = {"weight": np.arange(i, dtype=np.float32)}

    images = torch.zeros(4, 3, 20, 20, dtype=torch.uint8)
    source = Source(images, torch.arange(4), targets=[Known(i) for i in range(4)])
    for _, _, targets, ids in Loader(source, 2, ga.Compose([ga.RandomHorizontalFlip()], seed=0)):
        assert [len(one) for one in targets["weight"]] == ids.tolist() == [len(one) for one in targets["boxes"]]
