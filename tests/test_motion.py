"""Camera motions: judged by crops, by torchvision's affine, and by what flips and turns make of clips; their models."""

from __future__ import annotations

import copy
import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import gpuaug as ga
from gpuaug.data import DataError, Loader, clips, motion
from gpuaug.data.motion import CLASSES, FLIPPED, FLIPPED_VERTICALLY, REVERSED, Move

pytest.importorskip("numba", reason="motions are sampled by the CPU engine")
pytest.importorskip("sklearn", reason="its two photos are what is moved over")
pytest.importorskip("torchvision", reason="the judge of an affine map")

SIZE, AMOUNTS = 32, {"pan": 6.0, "zoom": 1.4, "turn": 30.0}


@pytest.fixture(scope="module")
def picture() -> Tensor:
    """Smooth waves of colour, uint8 [3, 64, 64], nowhere flat."""
    y, x = np.mgrid[:64, :64]
    waves = [np.sin(x / a + y / b) + np.cos(y / a - x / b) for a, b in ((7, 9), (11, 6), (8, 13))]
    return torch.from_numpy(np.uint8(128 + 55 * np.stack(waves)))


def moved(name: str, picture: Tensor, frames: int = 5) -> Tensor:
    return Move.of(name, frames, AMOUNTS[name.split("_")[0]]).over(picture, SIZE)


def off(one: Tensor, other: Tensor) -> int:
    assert one.shape == other.shape
    return int((one.int() - other.int()).abs().max())


# --- which motion is which --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name, x, y", [("left", -1, 0), ("right", 1, 0), ("up", 0, -1), ("down", 0, 1)])
def test_a_pan_is_a_window_that_moves(picture: Tensor, name: str, x: int, y: int) -> None:
    clip = Move.of(f"pan_{name}", 3, 8.0).over(picture, SIZE)
    for t, step in enumerate((-4, 0, 4)):
        top, left = 16 + y * step, 16 + x * step
        assert torch.equal(clip[t], picture[:, top : top + SIZE, left : left + SIZE])


def test_a_zoom_makes_larger_and_a_turn_to_the_left_turns_what_is_seen_clockwise() -> None:
    spot = torch.zeros(3, 64, 64, dtype=torch.uint8)
    spot[:, 21:24, 31:33] = 255  # above the middle
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    for name, sign in {"turn_left": 1, "turn_right": -1}.items():
        clip = moved(name, spot)[:, 0].double()
        across = (clip * (x - 15.5)).sum((1, 2)) / clip.sum((1, 2))
        assert (across.diff() * sign > 0.5).all() and abs(across[2]) < 0.1
    for name, sign in {"zoom_in": 1, "zoom_out": -1}.items():
        clip = moved(name, spot)[:, 0].double()
        height = 15.5 - (clip * y).sum((1, 2)) / clip.sum((1, 2))
        assert (height.diff() * sign > 0.3).all()
        assert height.max() / height.min() == pytest.approx(AMOUNTS["zoom"], rel=0.02)


@pytest.mark.parametrize("name", CLASSES)
def test_frames_are_torchvisions_affine(picture: Tensor, name: str) -> None:
    from torchvision.transforms.v2 import functional as TF

    move = Move.of(name, 4, AMOUNTS[name.split("_")[0]], lean=7.0, scale=1.1)
    clip = move.over(picture, SIZE)
    for t in range(4):
        angle, shift, scale = float(move.angle[t]), move.translate[t].tolist(), float(move.scale[t])
        wanted = TF.affine(picture.float(), angle, shift, scale, [0.0, 0.0], TF.InterpolationMode.BILINEAR)
        assert (clip[t].float() - TF.center_crop(wanted, [SIZE])).abs().max() < 1.01


@pytest.mark.parametrize("name", CLASSES)
def test_what_flips_make_of_a_motion(picture: Tensor, name: str) -> None:
    clip = moved(name, picture)
    assert off(clip.flip(3), moved(FLIPPED.get(name, name), picture.flip(2))) <= 1
    assert off(clip.flip(2), moved(FLIPPED_VERTICALLY.get(name, name), picture.flip(1))) <= 1
    assert off(clip.flip(0), moved(REVERSED[name], picture)) <= 1
    wrong = [other for other in CLASSES if other != FLIPPED.get(name, name)]
    assert min(off(clip.flip(3), moved(other, picture.flip(2))) for other in wrong) > 20


# --- labels that follow -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("h, v, t", list(itertools.product((0.0, 1.0), repeat=3)))
def test_labels_follow_flips(picture: Tensor, h: float, v: float, t: float) -> None:
    augment = ga.Compose([ga.RandomHorizontalFlip(h), ga.RandomVerticalFlip(v), ga.RandomTemporalFlip(t)], seed=0)
    batch = torch.stack([moved(name, picture) for name in CLASSES])
    params = augment.sample(batch, ids=range(8), epoch=0)
    found = motion.relabel(torch.arange(8), params)
    flipped = picture.flip([1] * (v > 0) + [2] * (h > 0))
    for clip, label in zip(augment.apply(batch, params), found.tolist(), strict=True):
        assert off(clip, moved(CLASSES[label], flipped)) <= 1


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_labels_follow_turns(picture: Tensor, degrees: int) -> None:
    augment = ga.Compose([ga.RandomRotation((degrees, degrees))], seed=0)
    batch = torch.stack([moved(name, picture) for name in CLASSES])
    params = augment.sample(batch, ids=range(8), epoch=0)
    found, turned = motion.relabel(torch.arange(8), params), picture.rot90(degrees // 90, (1, 2))
    for clip, label in zip(augment.apply(batch, params), found.tolist(), strict=True):
        assert off(clip, moved(CLASSES[label], turned)) <= 1


def test_labels_follow_each_clips_own_draw(picture: Tensor) -> None:
    ops = [
        ga.RandomHorizontalFlip(),
        ga.RandomTemporalFlip(),
        ga.RandomAffine(10, (0.1, 0.1), (0.8, 1.2)),
        ga.RandomCrop(24),
    ]
    augment, batch = ga.Compose(ops, seed=3), moved("pan_left", picture).expand(40, -1, -1, -1, -1)
    params = augment.sample(batch, ids=range(40), epoch=1)
    left, right = CLASSES.index("pan_left"), CLASSES.index("pan_right")
    found = motion.relabel(torch.full((40,), left), params).tolist()
    for i, label in enumerate(found):
        calls = params.describe(i)
        mirrored = any(call.get("call") == "horizontal_flip" for call in calls)
        backwards = next(call["frames"] for call in calls if "frames" in call)[0] != 0
        assert label == (right if mirrored != backwards else left)
    assert {left, right} == set(found)


# --- the data set -----------------------------------------------------------------------------------------------------
def test_a_data_set_in_memory_hangs_on_its_seed() -> None:
    options = {"size": 16, "frames": 4, "train": 3, "test": 2, "val": 1}
    parts, same, other = motion.make(**options), motion.make(**options), motion.make(**options, seed=1)
    for part, count in (("train", 3), ("test", 2), ("val", 1)):
        source = getattr(parts, part)
        assert source.items.shape == (8 * count, 4, 3, 16, 16) and source.classes == CLASSES
        assert torch.bincount(source.labels).tolist() == [count] * 8
        assert torch.equal(source.items, getattr(same, part).items)
        assert not torch.equal(source.items, getattr(other, part).items)
        assert all((clip[0] != clip[-1]).any() for clip in source.items)
    augment = ga.Compose([ga.RandomResizedCrop(12), ga.ColorJitter(0.4), ga.ToDtype(torch.float32, scale=True)], seed=0)
    for images, labels, ids in Loader(parts.train, 5, augment, shuffle=True):
        where = [parts.train.ids.tolist().index(one) for one in ids.tolist()]
        assert torch.equal(labels, parts.train.labels[where])
        assert torch.equal(images, augment(parts.train.items[where], ids=ids, epoch=0))


def columns(folder: Path, count: int) -> Path:
    """Photos whose red says which, and whose green says in which column."""
    folder.mkdir()
    y, x = np.mgrid[:90, :240]
    for k in range(count):
        Image.fromarray(np.stack([x * 0 + 25 * k, x, y], -1).astype(np.uint8)).save(folder / f"{k}.png")
    return folder


def test_what_is_tested_was_never_seen(tmp_path: Path) -> None:
    options = {"size": 16, "train": 8, "test": 8}
    one = motion.make(columns(tmp_path / "one", 1), **options)
    assert one.train.items[:, :, 1].max() <= 161 <= one.test.items[:, :, 1].min() + 2
    several = motion.make(columns(tmp_path / "several", 6), **options)
    seen = [set((part.items[:, 0, 0, 8, 8] / 25).round().int().tolist()) for part in (several.train, several.test)]
    assert not seen[0] & seen[1] and [len(one) for one in seen] == [4, 2]


def test_a_folder_of_clips_is_the_same_data_set(tmp_path: Path) -> None:
    options = {"size": 24, "frames": 3, "train": 2, "test": 1}
    assert motion.main([str(tmp_path / "out"), *sum(([f"--{k}", str(v)] for k, v in options.items()), [])]) == 0
    parts = motion.make(**options)
    assert not (tmp_path / "out" / "val").exists()
    for part in ("train", "test"):
        made, written = getattr(parts, part), clips(tmp_path / "out" / part, 3, size=24)
        assert written.classes == made.classes and torch.equal(written.labels, made.labels)
        assert torch.equal(written.ids, made.ids)
        ((found, _, _),) = Loader(written, len(written))
        assert (found.float() - made.items).abs().mean() < 6  # JPEG


def test_what_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("")
    assert motion.main([str(tmp_path / "there")]) == 2
    assert motion.main([str(tmp_path / "new"), "--frames", "1"]) == 2
    assert motion.main([str(tmp_path / "new"), "--photos", str(tmp_path / "none")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 3 and all(line.startswith("gpuaug.data.motion: ") for line in told)
    assert "not empty" in told[0] and "frames must be at least 2, got 1" in told[1] and "none" in told[2]
    with pytest.raises(DataError, match="no images"):
        motion.make(tmp_path / "there")


# --- models -----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def models():
    return pytest.importorskip("gpuaug.finetune.video_model", reason="the fine-tuning extra is not installed")


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_frames_are_pooled(models, pooling: str) -> None:
    from gpuaug.finetune.models import backbone, build

    torch.manual_seed(0)
    plain = build("resnet20", 5)[0].eval()
    model, batch = models.TemporalPool(copy.deepcopy(plain), 5, pooling).eval(), torch.randn(2, 3, 3, 32, 32)
    with torch.no_grad(), backbone(plain) as features:
        each = torch.stack([torch.stack([features(frame[None])[0] for frame in clip]) for clip in batch])
        wanted = plain.linear(each.mean(1) if pooling == "mean" else each.max(1).values)
        torch.testing.assert_close(model(batch), wanted)
        torch.testing.assert_close(model(batch.flip(1)), wanted)


def test_correlation_finds_where_each_place_has_gone(models) -> None:
    """A map that is rolled by (y, x) is alike to itself there; read in place of the convolutions."""
    layer = models.Correlation(radius=2, gap=1).eval()
    layer.body, layer.scale.data = nn.Identity(), torch.tensor(100.0)
    maps = torch.randn(1, 1, 32, 9, 9)
    for y, x in ((0, 0), (1, -2), (-2, 2)):
        found = layer(torch.cat([maps, maps.roll((y, x), (3, 4))], 1))[0]
        inner = found[:, 2:-2, 2:-2]
        assert (inner.argmax(0) == (y + 2) * 5 + x + 2).all() and inner.max(0).values.min() > 0.9
    assert layer(maps.expand(-1, 4, -1, -1, -1)).shape == (1, 25, 9, 9)
    with pytest.raises(ValueError, match="at least two frames, got 1"):
        layer(maps)


@pytest.mark.parametrize("name", ["resnet20", "tf_efficientnet_lite0", "resnet18"])
def test_a_network_of_images_tells_motion(models, name: str) -> None:
    model, _ = models.video_model(name, 8)
    model.backbone.requires_grad_(False)
    kept = copy.deepcopy(model.backbone.state_dict())
    model.train()
    assert model.over_time.training and not any(m.training for m in model.backbone.modules())
    batch = torch.randn(2, 5, 3, 64, 64)
    out = model(batch)
    out.sum().backward()
    assert out.shape == (2, 8) and all(p.grad is not None for p in model.over_time.parameters())
    assert all(torch.equal(kept[key], value) for key, value in model.backbone.state_dict().items())
    model.eval()
    assert not torch.allclose(model(batch), model(batch.flip(1)), atol=1e-4)


def test_models_that_cannot_be(models) -> None:
    with pytest.raises(ValueError, match="pooling must be one of correlation, mean, max, got 'lstm'"):
        models.video_model("resnet20", 8, pooling="lstm")
    with pytest.raises(ValueError, match="VisionTransformer: it has no feature maps of 1/4"):
        models.video_model("vit_tiny_patch16_224", 8)
    with pytest.raises(ValueError, match="no model 'torchvision:resnet18': torchvision:.*r3d_18"):
        models.video_model("torchvision:resnet18", 8)
    with pytest.raises(ValueError, match=r"takes clips \[B, T, 3, H, W\], got \[2, 3, 64, 64\]"):
        models.video_model("resnet20", 8)[0](torch.zeros(2, 3, 64, 64))


def test_torchvisions_models_of_clips(models) -> None:
    model, sentence = models.video_model("torchvision:r3d_18", 8)
    batch = torch.randn(1, 4, 3, 32, 32)
    with torch.no_grad():
        wanted = model.eval().model(batch.transpose(1, 2))
        assert torch.equal(model(batch), wanted) and wanted.shape == (1, 8) and sentence == "random weights"


@pytest.mark.slow
def test_the_right_recipe_and_a_wrong_flip(data_dir: Path) -> None:
    """At most three of four clips can be right behind a flip whose label stays: pans to left and right, turns."""
    weights = data_dir.parent / "weights" / "tf_efficientnet_lite0_imagenet.safetensors"
    if not weights.is_file():
        pytest.skip(f"no weights {weights}: set GPUAUG_DATA to the folder of the real data")
    place = Path(__file__).resolve().parents[1] / "examples" / "video_clips.py"
    spec = importlib.util.spec_from_file_location("video_clips", place)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    options = {"model": "tf_efficientnet_lite0", "weights": str(weights)}
    right, wrong = example.main(**options), example.main(**options, flip=True)
    assert right >= 0.9 and wrong <= 0.85
