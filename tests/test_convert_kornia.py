"""ga.convert on kornia's pipelines, and `DataKeys`."""

from __future__ import annotations

from typing import Any

import judges
import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("kornia", reason="whose pipelines are converted is not installed: kornia")

import kornia.augmentation as K  # noqa: E402
from convert_arguments import varied  # noqa: E402
from convert_kornia import KEYS, MISSING, NO_EFFECT, NOTHING, OTHER, PIPELINES, REQUIRED, SPECIAL  # noqa: E402
from converted import quiet, told  # noqa: E402
from scipy import stats  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug.convert.kornia import OPS  # noqa: E402

SAMPLES = 4000


@pytest.fixture(scope="module")
def batch(photos: list[Tensor]) -> Tensor:
    """float32 [3, 3, 49, 64]."""
    return judges.patches(judges.thumbnails(photos), 3, 49, 64, seed=13).float() / 255


def ops_of(pipeline) -> list[str]:
    return [type(op).__name__ for op in getattr(pipeline, "pipeline", pipeline).transforms]


@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines_of_kornia_become_ours(name: str, batch: Tensor) -> None:
    source, expected = PIPELINES[name]
    made = quiet(source, seed=4, backend="cpu")
    assert ops_of(made) == expected
    again = eval(repr(made), {"__builtins__": {}}, {**vars(ga), "torch": torch})
    assert repr(again) == repr(made)
    pipeline = getattr(made, "pipeline", made)
    assert getattr(again, "pipeline", again).transforms == pipeline.transforms
    images = batch.expand(2, 3, 3, 49, 64).transpose(0, 1) if name == "docs, VideoSequential" else batch
    out = pipeline(images, ids=range(3), epoch=1)
    assert out.dtype == torch.float32 and len(out) == 3
    theirs = source if type(source) is torch.nn.Sequential else K.ImageSequential(*source.children())
    theirs = source if name == "docs, VideoSequential" else theirs
    assert theirs(images).shape == out.shape


@pytest.mark.parametrize("name", MISSING)
def test_what_kornia_has_and_we_do_not_is_named_at_once(name: str) -> None:
    source, expected = MISSING[name]
    with pytest.raises(ValueError, match=f"convert: {len(expected)} thing") as error:
        ga.convert(source)
    text, at = str(error.value), 0
    for part in expected:
        assert f"{part}" in text[at:], part
    assert text.count("; ") >= len(expected) - 1


@pytest.mark.parametrize("name", OPS)
def test_no_argument_of_kornias_ops_is_dropped(name: str) -> None:
    kind = getattr(K, name)
    for argument, base, changed in varied(kind, REQUIRED, {**OTHER, **dict.fromkeys(NOTHING)}, SPECIAL):
        if argument in NOTHING or (name, argument) in NO_EFFECT:
            continue
        if argument == "align_corners":
            changed[argument] = False
        if argument == "resample" and name == "RandomPerspective":
            changed[argument] = "nearest"
        if argument == "side":
            base, changed = {**base, "size": 32}, {**changed, "size": 32}
        if argument == "fill_value":
            base = {**base, "padding_mode": "fill", "fill_value": 0.25}
            changed = {**changed, "padding_mode": "fill"}
        if name == "RandomSolarize" and argument != "additions":
            base, changed = {**base, "additions": 0.0}, {**changed, "additions": 0.0}
        one, other = outcome(kind(**base)), outcome(kind(**changed))
        assert one != other, argument
        if other[0] == "named":
            assert argument in other[1] or argument in ("p_batch",)


def outcome(source: Any) -> tuple:
    """What a conversion makes, and tells."""
    try:
        made = quiet(K.ImageSequential(source))
    except ValueError as error:
        return "named", str(error)
    same = getattr(made, "same_on_batch", None)
    return "made", made.transforms, told(K.ImageSequential(source)), same


SAME = {  # with one value of each parameter: the same pixels, but for rounding, and for what is told
    "flip": (K.RandomHorizontalFlip(p=1.0), 0),
    "affine": (K.RandomAffine((25.0, 25.0), None, (0.8, 0.8), (10.0, 10.0, 5.0, 5.0), p=1.0), 2e-4),
    "affine, align_corners": (K.RandomAffine((25.0, 25.0), scale=(1.2, 1.2), p=1.0, align_corners=True), 2e-4),
    "affine, filled": (
        K.RandomAffine((25.0, 25.0), p=1.0, padding_mode="fill", fill_value=torch.full((3,), 0.5)),
        2e-4,
    ),
    "rotation": (K.RandomRotation((25.0, 25.0), p=1.0), 2e-4),
    "rotation, bicubic": (K.RandomRotation((-70.0, -70.0), resample="bicubic", p=1.0), 2e-4),
    "quarter turn": (K.RandomRotation90((1, 1), p=1.0), 2e-4),
    "shear": (K.RandomShear((10.0, 10.0), p=1.0), 2e-4),
    "resize": (K.Resize((20, 40), align_corners=False), 1e-4),
    "resize, enlarged": (K.Resize((70, 90), align_corners=False), 1e-4),
    "resize, nearest": (K.Resize((20, 40), resample="nearest"), 0),
    "shorter side": (K.SmallestMaxSize(21, align_corners=False), 1e-4),
    "longer side": (K.LongestMaxSize(50, align_corners=False), 1e-4),
    "centre": (K.CenterCrop((25, 32)), 0),
    "crop, padded by four": (K.RandomCrop((49 + 2 + 4, 64 + 1 + 3), padding=(1, 2, 3, 4), fill=0.3), 1e-6),
    "crop, padded by two": (K.RandomCrop((49 + 4, 64 + 2), padding=(1, 2), padding_mode="reflect"), 0),
    "brightness": (K.ColorJitter(brightness=(1.3, 1.3)), 1e-6),
    "contrast": (K.ColorJitter(contrast=(0.5, 0.5)), 1e-4),
    "saturation": (K.ColorJitter(saturation=(1.5, 1.5)), 1e-4),
    "hue": (K.ColorJitter(hue=(-0.3, -0.3)), 1e-4),
    "RandomContrast": (K.RandomContrast((1.4, 1.4), p=1.0), 1e-6),
    "RandomHue": (K.RandomHue((0.1, 0.1), p=1.0), 1e-4),
    "gamma": (K.RandomGamma((0.7, 0.7), (1.5, 1.5)), 1e-5),
    "solarize": (K.RandomSolarize((0.4, 0.4), (0.0, 0.0), p=1.0), 1e-6),
    "posterize": (K.RandomPosterize((3.0, 3.0), p=1.0), 1 / 255),
    "sharpness": (K.RandomSharpness((2.0, 2.0), p=1.0), 1e-5),
    "grey": (K.RandomGrayscale(p=1.0), 2e-4),
    "invert": (K.RandomInvert(p=1.0), 1e-6),
    "autocontrast": (K.RandomAutoContrast(p=1.0), 1e-5),
    "equalize": (K.RandomEqualize(p=1.0), 1e-5),
    "normalize": (K.Normalize(torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.4])), 1e-5),
    "denormalize": (K.Denormalize(torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.4])), 1e-5),
    "blur": (K.RandomGaussianBlur((5, 9), (1.2, 1.2), p=1.0), 1e-5),
}


@pytest.mark.parametrize("name", SAME)
def test_pixels_are_kornias_where_nothing_else_is_told(name: str, batch: Tensor) -> None:
    source, tolerance = SAME[name]
    ours = quiet(source, seed=0, backend="cpu")(batch)
    theirs = source(batch)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance


DRAWN = {  # op, its parameter, and the column that is drawn here
    "affine": (
        K.RandomAffine((-20.0, 40.0), (0.2, 0.1), (0.7, 1.4), (3.0, 9.0), p=1.0),
        {"angle": "angle", "shear_x": "shear_x"},
    ),
    "rotation": (K.RandomRotation((-20.0, 40.0), p=1.0), {"degrees": "angle"}),
    "jitter": (
        K.ColorJitter(0.4, (0.3, 0.8), 0.2, 0.1),
        {f"{name}_factor": f"{name}_factor" for name in ("brightness", "contrast", "saturation", "hue")},
    ),
    "hue": (K.RandomHue((-0.2, 0.3), p=1.0), {"hue_factor": "hue_factor"}),
    "RandomContrast": (K.RandomContrast((0.7, 1.6), p=1.0), {"contrast_factor": "brightness_factor"}),
    "gamma": (K.RandomGamma((0.5, 2.0), (1.0, 1.0)), {"gamma_factor": "gamma"}),
    "blur": (K.RandomGaussianBlur(3, (0.1, 2.0), p=1.0), {"sigma": "sigma"}),
}


@pytest.mark.parametrize("name", DRAWN)
def test_draws_are_distributed_as_kornias(name: str) -> None:
    source, columns = DRAWN[name]
    torch.manual_seed(8)
    theirs = source.forward_parameters(torch.Size((SAMPLES, 3, 24, 32)))
    params = quiet(source, seed=8, backend="cpu").sample(torch.zeros(SAMPLES, 3, 24, 32), ids=range(SAMPLES), epoch=0)
    for parameter, column in columns.items():
        at = next(i for i, found in enumerate(params.columns) if column in str(found))
        assert stats.ks_2samp(theirs[parameter].numpy(), params.table[:, at].numpy()).pvalue > 1e-3, parameter


def test_windows_and_shifts_are_distributed_as_kornias() -> None:
    torch.manual_seed(9)
    images, ids = torch.zeros(SAMPLES, 1, 60, 80), range(SAMPLES)
    source = K.RandomResizedCrop((10, 10), scale=(0.1, 0.7), ratio=(0.5, 1.5), align_corners=False)
    corners = source.forward_parameters(images.shape)["src"]
    theirs = torch.stack([*corners[:, 0].flip(1).unbind(1), *(corners[:, 2] - corners[:, 0] + 1).flip(1).unbind(1)], 1)
    ours = quiet(source, seed=9, backend="cpu").sample(images, ids=ids, epoch=0).table
    for i in range(4):
        assert stats.ks_2samp(theirs[:, i].numpy(), ours[:, i].numpy()).pvalue > 1e-3
    source = K.RandomCrop((33, 41), padding=2)
    theirs = source.forward_parameters(images.shape)["src"][:, 0].flip(1)
    ours = quiet(source, seed=9, backend="cpu").sample(images, ids=ids, epoch=0).table
    for i in range(2):
        assert stats.ks_2samp(theirs[:, i].numpy(), ours[:, i].numpy()).pvalue > 1e-3
    bits = K.RandomPosterize((3.0, 6.0), p=1.0)
    theirs = bits.forward_parameters(images.shape)["bits_factor"].bincount(minlength=7)[3:]
    made = quiet(bits, seed=9, backend="cpu")
    params = made.sample(images[:1500], ids=range(1500), epoch=0)
    found = [params.describe(i)[0]["kwargs"]["bits"] for i in range(1500)]
    ours = np.bincount(found, minlength=7)[3:]
    assert stats.chi2_contingency(np.stack([theirs.numpy(), ours])).pvalue > 1e-3


# --- data keys --------------------------------------------------------------------------------------------------------
def keyed(batch: Tensor) -> list[Any]:
    masks = torch.arange(3 * 2 * 49 * 64).view(3, 2, 49, 64) % 5
    boxes = torch.tensor([[[3.0, 4.0, 30.0, 20.0], [10.0, 12.0, 50.0, 40.0]]]).repeat(3, 1, 1)
    points = torch.tensor([[[3.0, 4.0], [60.0, 1.0], [31.0, 24.0]]]).repeat(3, 1, 1)
    return [batch, masks.float(), boxes, points, torch.arange(3)]


def test_data_keys_come_back_as_kornias_in_the_same_order_and_forms(batch: Tensor) -> None:
    ops = [K.RandomVerticalFlip(p=1.0), K.CenterCrop((25, 32)), K.RandomHorizontalFlip(p=1.0)]
    source = K.AugmentationSequential(*ops, data_keys=["input", "mask", "bbox_xyxy", "keypoints"])
    inputs = keyed(batch)
    theirs = source(*inputs[:4])
    made = quiet(source, seed=1, backend="cpu")
    assert isinstance(made, ga.DataKeys) and made.data_keys == ["input", "mask", "bbox_xyxy", "keypoints"]
    ours = made(*inputs[:4])
    assert type(ours) is type(theirs) is list
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
    assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])
    torch.testing.assert_close(ours[3], theirs[3])
    shift = torch.tensor([1.0, 1.0, 1.0, 1.0])  # x becomes W - x, not W - 1 - x, in both directions
    limits = torch.tensor([32.0, 25.0, 32.0, 25.0])
    torch.testing.assert_close(ours[2], (theirs[2] + shift).clamp(min=0).minimum(limits))
    quads = K.AugmentationSequential(*ops, data_keys=["input", "bbox"])
    corners = inputs[2][..., [0, 1, 2, 1, 2, 3, 0, 3]].unflatten(-1, (4, 2))
    one, other = quiet(quads, backend="cpu")(batch, corners)[1], quads(batch, corners)[1]
    assert one.shape == other.shape == (3, 2, 4, 2)
    ways = one.double() @ torch.tensor([100.0, 1.0]).double(), other.double() @ torch.tensor([100.0, 1.0]).double()
    torch.testing.assert_close(ways[0].sort(-1).values, ways[1].sort(-1).values)  # kornia's begin at another corner


def test_data_keys_may_repeat_and_replay(batch: Tensor) -> None:
    names = ["input", "class", "bbox_xywh", "mask", "bbox", "mask", "keypoints", "bbox_xyxy"]
    made = ga.DataKeys(ga.Compose([ga.RandomAffine(30), ga.RandomHorizontalFlip()], seed=3, backend="cpu"), names)
    _, masks, boxes, points, labels = keyed(batch)
    corners = boxes[..., [0, 1, 2, 1, 2, 3, 0, 3]].unflatten(-1, (4, 2))
    xywh = torch.cat([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], -1)
    inputs = [batch, labels, xywh, masks[:, :1], corners, masks, points, boxes[:, :1]]
    out = made(*inputs, ids=range(3), epoch=1)
    assert [tuple(x.shape) for x in out] == [tuple(x.shape) for x in inputs]
    assert out[1] is labels
    params = made.sample(batch, ids=range(3), epoch=1)
    for one, other in zip(made(*inputs, params=params), out, strict=True):
        assert torch.equal(one, other)
    y, m, b, k = made.pipeline(batch, masks=masks, boxes=boxes, keypoints=points, ids=range(3), epoch=1)
    assert torch.equal(out[0], y) and torch.equal(out[5], m) and torch.equal(out[3], m[:, :1])
    assert torch.equal(out[7], b[:, :1]) and torch.equal(out[6], k)
    torch.testing.assert_close(out[2], torch.cat([b[..., :2], b[..., 2:] - b[..., :2]], -1))
    listed = [
        batch,
        labels,
        list(xywh),
        list(masks[:, :1]),
        list(corners),
        list(masks),
        list(points),
        list(boxes[:, :1]),
    ]
    for one, other in zip(made(*listed, ids=range(3), epoch=1), out, strict=True):
        torch.testing.assert_close(torch.stack(one) if isinstance(one, list) else one, other)


def test_data_keys_of_clips_and_of_the_image_alone(batch: Tensor) -> None:
    made = quiet(PIPELINES["docs, VideoSequential"][0], adapter=True, backend="cpu")
    assert made.data_keys == ["input"]
    clips = batch[:, None].expand(3, 2, 3, 49, 64)
    assert torch.is_tensor(made(clips)) and made(clips).shape == clips.shape
    masked = ga.DataKeys(made.pipeline, ["input", "mask"])
    out = masked(clips, torch.ones(3, 2, 1, 49, 64))
    assert [tuple(x.shape) for x in out] == [(3, 2, 3, 49, 64), (3, 2, 1, 49, 64)]


def test_data_keys_refuse_in_words() -> None:
    pipeline = ga.Compose([ga.RandomInvert()], seed=0)
    with pytest.raises(ValueError, match="DataKeys: data_keys are of input, .* got 'bboxes'"):
        ga.DataKeys(pipeline, ["input", "bboxes"])
    with pytest.raises(ValueError, match="the first key must be 'input'"):
        ga.DataKeys(pipeline, ["mask", "input"])
    with pytest.raises(ValueError, match="takes input, mask, got 1 inputs"):
        ga.DataKeys(pipeline, ["input", "mask"])(torch.zeros(1, 3, 4, 4))
    with pytest.raises(TypeError, match="pipeline must be a gpuaug.Compose"):
        ga.DataKeys([ga.RandomInvert()])
    assert KEYS[0] == "input"
