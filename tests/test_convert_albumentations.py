"""ga.convert on albumentations' pipelines, and `Targets`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("albumentations", reason="whose pipelines are converted is not installed: albumentations")

import albumentations as A  # noqa: E402, N812
import cv2  # noqa: E402
from convert_albumentations import BASE, MISSING, NO_EFFECT, OTHER, PIPELINES, REQUIRED, SPECIAL  # noqa: E402
from convert_arguments import varied  # noqa: E402
from converted import quiet, told  # noqa: E402
from scipy import stats  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug.convert.albumentations import OPS  # noqa: E402

SAMPLES = 2000


@pytest.fixture(scope="module")
def image(photos: list[Tensor]) -> np.ndarray:
    """uint8 [80, 96, 3], of a real photo."""
    photo = next(photo for photo in photos if photo.shape[0] == 3)
    photo = torch.nn.functional.interpolate(photo[None].float(), (80, 96), mode="bilinear", antialias=True)[0]
    return np.ascontiguousarray(photo.round().to(torch.uint8).permute(1, 2, 0).numpy())


def fixed(transforms: list, **keywords) -> A.Compose:
    return A.Compose(transforms, seed=1, **keywords)


@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines_of_albumentations_become_ours(name: str, image: np.ndarray) -> None:
    source, expected = PIPELINES[name]
    made = quiet(source, seed=4, backend="cpu")
    pipeline = getattr(made, "pipeline", made)
    assert [type(op).__name__ for op in pipeline.transforms] == expected
    again = eval(repr(made), {"__builtins__": {}}, {**vars(ga), "torch": torch})
    assert repr(again) == repr(made)
    assert getattr(again, "pipeline", again).transforms == pipeline.transforms
    out = pipeline(image, ids=3, epoch=1)
    theirs = A.Compose([source], seed=1) if not isinstance(source, A.Compose) else A.Compose(source.transforms, seed=1)
    if name not in ("replay", "nested", "heavy", "heavy, cut out", "boxes and keypoints"):  # whose sizes are drawn
        result = theirs(image=image)["image"]
        assert type(result) is type(out) and result.shape == out.shape
        assert str(result.dtype).removeprefix("torch.") == str(out.dtype).removeprefix("torch.")


@pytest.mark.parametrize("name", MISSING)
def test_what_albumentations_has_and_we_do_not_is_named_at_once(name: str) -> None:
    source, expected = MISSING[name]
    with pytest.raises(ValueError, match=r"convert: \d+ things have no counterpart: ") as error:
        ga.convert(source)
    text, at = str(error.value), 0
    for part in expected:
        assert part in text[at:], part
        at = text.index(part, at)


@pytest.mark.parametrize("name", [name for name in OPS if name != "Lambda"])
def test_no_argument_of_albumentations_ops_is_dropped(name: str) -> None:
    kind = getattr(A, name)
    for argument, base, changed in varied(kind, REQUIRED, {**dict.fromkeys(dict(NO_EFFECT_NAMES)), **OTHER}, SPECIAL):
        if (name, argument) in NO_EFFECT:
            continue
        base, changed = {**BASE.get(name, {}), **base}, {**BASE.get(name, {}), **changed}
        if argument.endswith("_divisor"):
            changed[argument.replace("pad_", "min_").removesuffix("_divisor")] = None
        if argument == "max_size_hw":
            changed["max_size"] = None
        if argument == "fill_mask" and name in ("PadIfNeeded", "Pad", "Rotate", "Affine"):
            base, changed = {**base, "fill": 1}, {**changed, "fill": 1}
        one, other = outcome(kind(**base)), outcome(kind(**changed))
        assert one[0] == "made", one
        assert one != other, argument
        if other[0] == "named":
            assert argument in other[1] or argument in NAMED_OTHERWISE


NO_EFFECT_NAMES = [(argument, None) for _, argument in NO_EFFECT]
NAMED_OTHERWISE = ("p", "shift_limit")


def outcome(source: Any) -> tuple:
    try:
        made = quiet(A.Compose([source]))
    except ValueError as error:
        return "named", str(error)
    return "made", made.transforms, told(A.Compose([source]))


ON = {"p": 1}
SAME = {  # with one value of each parameter: (the op, the most that a level is off, the share that is off by more)
    "flip": (A.HorizontalFlip(**ON), 0),
    "rotation": (A.Rotate((25, 25), **ON), 1),
    "rotation, bicubic": (A.Rotate((-65, -65), interpolation=cv2.INTER_CUBIC, **ON), 1),
    "rotation, filled": (A.Rotate((25, 25), fill=(10, 20, 30), **ON), 1),
    "affine": (A.Affine(scale=(0.8, 0.8), rotate=(25, 25), **ON), 1),
    "affine, shear x": (A.Affine(shear={"x": (10, 10), "y": (0, 0)}, **ON), 1),
    "affine, shear y": (A.Affine(shear={"x": (0, 0), "y": (10, 10)}, **ON), 1),
    "resize": (A.Resize(33, 50), 1),
    "resize, enlarged": (A.Resize(101, 130), 1),
    "resize, nearest": (A.Resize(33, 50, interpolation=cv2.INTER_NEAREST), 0),
    "resize, bicubic": (A.Resize(33, 50, interpolation=cv2.INTER_CUBIC), 1),
    "crop of all": (A.RandomResizedCrop((33, 50), scale=(1, 1), ratio=(1.2, 1.2)), 1),
    "centre": (A.CenterCrop(40, 50), 0),
    "shorter side": (A.SmallestMaxSize(40), 1),
    "longer side": (A.LongestMaxSize(48), 1),
    "padded": (A.Pad((1, 2, 3, 4), fill=9), 0),
    "padded, mirrored": (A.Pad((5, 7), border_mode=cv2.BORDER_REFLECT_101), 0),
    "padded, repeated": (A.Pad(6, border_mode=cv2.BORDER_REFLECT), 0),
    "padded to": (A.PadIfNeeded(101, 120, fill=5), 0),
    "transposed": (A.Transpose(**ON), 0),
    "brightness": (A.ColorJitter((1.3, 1.3), (1, 1), (1, 1), (0, 0), **ON), 1),
    "contrast": (A.ColorJitter((1, 1), (1.3, 1.3), (1, 1), (0, 0), **ON), 1),
    "saturation": (A.ColorJitter((1, 1), (1, 1), (1.5, 1.5), (0, 0), **ON), 1),
    "gamma": (A.RandomGamma((70, 70), **ON), 1),
    "grey": (A.ToGray(**ON), 1),
    "solarize": (A.Solarize((0.4, 0.4), **ON), 0),
    "posterize": (A.Posterize(3, **ON), 0),
    "autocontrast": (A.AutoContrast(method="pil", **ON), 1),
    "invert": (A.InvertImg(**ON), 0),
    "blur": (A.GaussianBlur((5, 5), (1.2, 1.2), **ON), 1),
    "blur, by sigma": (A.GaussianBlur(0, (1.2, 1.2), **ON), 1),
    "normalize": (A.Normalize(), 1e-5),
    "normalize, of half": (A.Normalize((0.5,) * 3, (0.25,) * 3, max_pixel_value=127.0), 1e-5),
    "to floats": (A.ToFloat(), 1e-6),
    "to a tensor": (A.ToTensorV2(), 0),
}


@pytest.mark.parametrize("name", SAME)
def test_pixels_are_albumentations_where_nothing_else_is_told(name: str, image: np.ndarray) -> None:
    op, most = SAME[name]
    theirs = np.asarray(fixed([op])(image=image)["image"], dtype=np.float64)
    out = quiet(fixed([op]), seed=0, backend="cpu")(image)
    assert type(out) is type(fixed([op])(image=image)["image"])
    ours = np.asarray(out, dtype=np.float64)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= most


DRAWN = {  # op, its parameter, and the column that is drawn here
    "affine": (
        A.Affine(scale=(0.7, 1.4), rotate=(-20, 40), keep_ratio=True, p=1),
        [("scale", "scale", 1), ("rotate", "angle", -1)],
    ),
    "gamma": (A.RandomGamma((50, 190), p=1), [("gamma", "gamma", 1)]),
    "jitter": (
        A.ColorJitter(0.4, (0.3, 0.8), 0.2, 0.1, p=1),
        [(name, f"{name}_factor", 1) for name in ("brightness", "contrast", "saturation", "hue")],
    ),
    "JPEG": (A.ImageCompression(quality_range=(20, 70), p=1), [("quality", "quality", 1)]),
}


@pytest.mark.parametrize("name", DRAWN)
def test_draws_are_distributed_as_albumentations(name: str) -> None:
    op, columns = DRAWN[name]
    op.set_random_seed(7)
    data = {"image": np.zeros((24, 32, 3), np.uint8)}
    made = [
        {**op.get_params(), **op.get_params_dependent_on_data({"shape": (24, 32, 3)}, data)} for _ in range(SAMPLES)
    ]
    params = quiet(op, seed=8, backend="cpu").sample(
        torch.zeros(SAMPLES, 3, 24, 32, dtype=torch.uint8), ids=range(SAMPLES), epoch=0
    )
    for parameter, column, sign in columns:
        theirs = np.array([one[parameter]["x"] if isinstance(one[parameter], dict) else one[parameter] for one in made])
        at = next(i for i, found in enumerate(params.columns) if column in str(found))
        ours = params.table[:, at].numpy() * sign
        if name == "JPEG":
            theirs, ours = (values + np.linspace(0, 0.999, SAMPLES) for values in (theirs, ours))
        assert stats.ks_2samp(theirs, ours).pvalue > 1e-3, parameter


def test_windows_are_distributed_as_albumentations() -> None:
    op = A.RandomResizedCrop((10, 10), scale=(0.1, 0.7), ratio=(0.5, 1.5))
    op.set_random_seed(7)
    shape = {"shape": (60, 80, 3)}
    made = [op.get_params_dependent_on_data(shape, {})["crop_coords"] for _ in range(SAMPLES)]
    x1, y1, x2, y2 = np.array(made).T
    images = torch.zeros(SAMPLES, 3, 60, 80, dtype=torch.uint8)
    ours = quiet(op, seed=8, backend="cpu").sample(images, ids=range(SAMPLES), epoch=0).table.numpy()
    for i, theirs in enumerate((y1, x1, y2 - y1, x2 - x1)):
        assert stats.ks_2samp(theirs, ours[:, i]).pvalue > 1e-3


def test_choices_have_albumentations_probabilities(image: np.ndarray) -> None:
    ops = [A.OneOf([A.HorizontalFlip(p=0.3), A.VerticalFlip(p=0.6), A.InvertImg(p=0.1)], p=0.5)]
    made = quiet(A.Compose(ops), seed=2, backend="cpu")
    assert made.transforms == [
        ga.RandomApply(
            [
                ga.RandomChoice(
                    [ga.RandomHorizontalFlip(1.0), ga.RandomVerticalFlip(1.0), ga.RandomInvert(1.0)], p=[0.3, 0.6, 0.1]
                )
            ],
            p=0.5,
        )
    ]
    batch = torch.from_numpy(image).permute(2, 0, 1).expand(SAMPLES, 3, 80, 96)[:, :, ::8, ::8]
    params = made.sample(batch, ids=range(SAMPLES), epoch=0)
    calls = [tuple(record["op"] for record in params.describe(i)) for i in range(SAMPLES)]
    for op, p in (("RandomHorizontalFlip", 0.15), ("RandomVerticalFlip", 0.3), ("RandomInvert", 0.05)):
        assert stats.binomtest(calls.count((op,)), SAMPLES, p).pvalue > 1e-3
    some = A.SomeOf([A.HorizontalFlip(p=0.9), A.VerticalFlip(p=1), A.InvertImg(p=1)], n=2)
    choice = quiet(A.Compose([some]), seed=2).transforms[0]
    flips, invert = [ga.RandomHorizontalFlip(0.9), ga.RandomVerticalFlip(1.0)], ga.RandomInvert(1.0)
    pairs = [flips, [flips[0], invert], [flips[1], invert]]
    assert choice == ga.RandomChoice([ga.RandomApply(pair, p=1.0) for pair in pairs])


# --- targets ----------------------------------------------------------------------------------------------------------
BOXES = {  # the same four boxes
    "coco": [[10.0, 12.0, 40.0, 40.0], [50.0, 4.0, 44.0, 25.0], [0.0, 0.0, 12.0, 12.0], [40.0, 40.0, 20.0, 24.0]],
}
BOXES["pascal_voc"] = [[x, y, x + w, y + h] for x, y, w, h in BOXES["coco"]]
BOXES["albumentations"] = [[x / 96, y / 80, z / 96, t / 80] for x, y, z, t in BOXES["pascal_voc"]]
BOXES["yolo"] = [[(x + w / 2) / 96, (y + h / 2) / 80, w / 96, h / 80] for x, y, w, h in BOXES["coco"]]
POINTS = [(10.0, 12.0), (50.5, 40.25), (90.0, 70.0), (0.0, 0.0)]
MOVES = {
    "flip": [A.HorizontalFlip(p=1)],
    "crop": [A.CenterCrop(40, 48)],
    "resize, flip, crop": [A.Resize(60, 60), A.VerticalFlip(p=1), A.CenterCrop(40, 48)],
    "padded": [A.PadIfNeeded(100, 120, fill=7)],
}
FILTERS: list[dict[str, Any]] = [
    {},
    {"min_visibility": 0.5},
    {"min_area": 300.0},
    {"min_width": 18.0, "min_height": 20.0},
    {"max_accept_ratio": 1.5},
    {"clip": True, "filter_invalid_bboxes": True},
]


@pytest.mark.parametrize("format", BOXES)
@pytest.mark.parametrize("name", MOVES)
def test_targets_come_back_as_albumentations(name: str, format: str, image: np.ndarray) -> None:
    mask = (np.arange(80 * 96).reshape(80, 96) % 7).astype(np.int32)
    for limits in FILTERS:
        source = A.Compose(
            MOVES[name],
            bbox_params=A.BboxParams(format, label_fields=["labels"], **limits),
            keypoint_params=A.KeypointParams("xy", label_fields=["names"]),
        )
        given = {"image": image, "mask": mask, "masks": np.stack([mask, mask[::-1]]), "bboxes": BOXES[format]}
        given |= {"labels": ["a", "b", "c", "d"], "keypoints": POINTS, "names": [1, 2, 3, 4], "note": "kept"}
        if limits.get("clip"):
            given["bboxes"] = [
                *given["bboxes"][:3],
                [v - 0.3 if format in ("yolo",) else v for v in given["bboxes"][3]],
            ]
        theirs, ours = source(**given), quiet(source, seed=0, backend="cpu")(**given)
        assert set(ours) == set(theirs)
        assert np.abs(ours["image"].astype(int) - theirs["image"].astype(int)).max() <= 1
        for key in ("mask", "masks"):
            assert ours[key].dtype == theirs[key].dtype and np.array_equal(ours[key], theirs[key])
        assert ours["labels"] == theirs["labels"] and ours["names"] == [int(n) for n in theirs["names"]]
        for key in ("bboxes", "keypoints"):
            assert type(ours[key]) is type(theirs[key]) and len(ours[key]) == len(theirs[key])
            np.testing.assert_allclose(np.array(ours[key]), np.array(theirs[key]), atol=2e-3)
        assert ours["note"] == "kept"


def test_turned_boxes_are_upright_around_their_corners(image: np.ndarray) -> None:
    source = fixed([A.Affine(scale=(0.8, 0.8), rotate=(20, 20), p=1)], bbox_params=A.BboxParams("coco"))
    boxes = [[*box, n] for n, box in enumerate(BOXES["coco"])]  # a label behind the numbers
    theirs = source(image=image, bboxes=boxes)["bboxes"]
    ours = quiet(source, backend="cpu")(image=image, bboxes=boxes)["bboxes"]
    np.testing.assert_allclose(np.array(ours), np.array(theirs), atol=0.02)


def test_classes_of_boxes_labels_and_images_are_kept(image: np.ndarray) -> None:
    made = ga.Targets(
        ga.Compose([ga.SetClampingMode(None), ga.CenterCrop((40, 48))], seed=0, backend="cpu"),
        bbox_params={"format": "pascal_voc", "label_fields": ["labels"], "min_visibility": 0.5},
        keypoint_params={"format": "yx"},
    )
    boxes = np.array(BOXES["pascal_voc"], np.float32)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    for kind in (list, np.asarray, torch.as_tensor):
        found = made(image=tensor, bboxes=kind(boxes), labels=kind([1, 2, 3, 4]), mask=image[..., 0])
        assert torch.is_tensor(found["image"]) and torch.is_tensor(found["mask"])
        assert type(found["labels"]) is type(kind([1]))
        assert [int(v) for v in found["labels"]] == [1, 4]
        assert len(found["bboxes"]) == 2
    points = made(image=image, keypoints=[(40.0, 30.0), (0.0, 0.0)])["keypoints"]
    assert points == [(20.0, 6.0)]
    empty = made(image=image, bboxes=[], labels=[])
    assert list(empty["bboxes"]) == [] and empty["labels"] == []


def test_replay_and_further_images(image: np.ndarray) -> None:
    made = quiet(PIPELINES["replay"][0], seed=5, backend="cpu")
    found = made(image=image, mask=image[..., 0], ids=3, epoch=1)
    assert isinstance(found["replay"], ga.Params)
    again = made.replay(found["replay"], image=image, mask=image[..., 0])
    assert np.array_equal(again["image"], found["image"]) and np.array_equal(again["mask"], found["mask"])
    assert np.array_equal(made.pipeline(image, ids=3, epoch=1), found["image"])
    twice = quiet(PIPELINES["two images"][0], seed=5, backend="cpu")
    found = twice(image=image, image2=image[..., ::-1].copy(), mask2=image[..., 0], ids=3, epoch=1)
    assert np.array_equal(found["image"], found["image2"][..., ::-1])
    assert np.array_equal(found["mask2"], found["image"][..., 0])


def test_targets_refuse_in_words(image: np.ndarray) -> None:
    pipeline = ga.Compose([ga.RandomInvert()], seed=0)
    with pytest.raises(ValueError, match="Targets: image= must be given, got img"):
        ga.Targets(pipeline)(img=image)
    with pytest.raises(ValueError, match="bboxes needs bbox_params, which say their format"):
        ga.Targets(pipeline)(image=image, bboxes=[])
    with pytest.raises(ValueError, match="format of bbox_params must be one of coco, .*, got 'voc'"):
        ga.Targets(pipeline, bbox_params={"format": "voc"})
    with pytest.raises(TypeError, match="Targets: bbox_params: takes no argument 'min_visibilty'; did you mean"):
        ga.Targets(pipeline, bbox_params={"format": "coco", "min_visibilty": 0.1})
    targets = ga.Targets(pipeline, bbox_params={"format": "coco", "label_fields": ["labels"]})
    with pytest.raises(ValueError, match="the label field 'labels' must be given beside bboxes"):
        targets(image=image, bboxes=[])
    with pytest.raises(ValueError, match=r"bboxes\[0\] leaves the image of 80x96, or has no area; give clip=True"):
        targets(image=image, bboxes=[[90.0, 0.0, 20.0, 20.0]], labels=[1])
    with pytest.raises(ValueError, match="Targets: images is not taken"):
        targets(image=image, images=[image])
    with pytest.raises(ValueError, match=r"additional_targets\['x'\] must be one of image, mask"):
        ga.Targets(pipeline, additional_targets={"x": "volume"})
    with pytest.raises(ValueError, match="format of keypoint_params must be one of xy, yx, got 'xyas'"):
        quiet(A.Compose([A.InvertImg()], keypoint_params=A.KeypointParams("xyas")))
