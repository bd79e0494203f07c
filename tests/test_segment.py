"""The task segment: what masks mean, how pixels are judged, whole images by windows, a run from folder to report."""

from __future__ import annotations

import io
import json
import shutil
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

for needed in ("accelerate", "matplotlib", "sklearn", "timm", "torchvision", "tqdm"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

from sklearn.metrics import f1_score, jaccard_score  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug import presets  # noqa: E402
from gpuaug.cli import main  # noqa: E402
from gpuaug.data import DataError, Loader, Source, coco, masks  # noqa: E402
from gpuaug.data.annotated import Annotated  # noqa: E402
from gpuaug.data.annotated_parts import kind_of, open_annotated  # noqa: E402
from gpuaug.finetune import Config, Run, comparing, finetune, models, pictures, recipes, runs, segmenters  # noqa: E402
from gpuaug.finetune.page_comparison import write_comparison  # noqa: E402
from gpuaug.finetune.pixels import SegmentEvaluation, boundaries, confusion, dices, ious, mean_of, shares  # noqa: E402
from gpuaug.finetune.screen import Screen  # noqa: E402
from gpuaug.finetune.segment import Segment  # noqa: E402
from gpuaug.finetune.segmented import Segmented, pixel_loss  # noqa: E402
from gpuaug.finetune.segmenters import starts, windowed  # noqa: E402
from gpuaug.finetune.semantic import FOREGROUND, Meaning, meaning_of, semantic  # noqa: E402


def write_discs(folder, n: int, seed: int, objects: bool = True, side: int | None = None) -> None:
    """Bright discs on a dark ground, and masks with their numbers, or with the classes 1 and 2 of small and large; of
    ``side`` pixels each, else of different sizes."""
    rng = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for i in range(n):
        height, width = (int(one) for one in rng.integers(40, 100, 2)) if side is None else (side, side)
        y, x = np.mgrid[:height, :width]
        image, mask = rng.normal(60, 12, (height, width, 3)), np.zeros((height, width), np.uint16)
        for number in range(1, int(rng.integers(3, 20)) + 1):
            radius = int(rng.integers(4, 12))
            inside = (y - rng.integers(height)) ** 2 + (x - rng.integers(width)) ** 2 < radius**2
            image[inside] = rng.normal(190, 12, (int(inside.sum()), 3))
            mask[inside] = number if objects else 1 + (radius > 7)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{i:03d}.png")
        Image.fromarray(mask if objects else mask.astype(np.uint8)).save(folder / "masks" / f"{i:03d}.png")


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    root = tmp_path_factory.mktemp("discs")
    write_discs(root / "train", 12, 0)
    write_discs(root / "test", 4, 1)
    return root


# --- data -------------------------------------------------------------------------------------------------------------
def test_folders_say_what_they_hold(discs, tmp_path):
    assert kind_of(discs) == kind_of(discs / "train") == "masks"
    assert kind_of(tmp_path) is None and kind_of(tmp_path / "none") is None
    (tmp_path / "images").mkdir()
    (tmp_path / "coco.json").write_text("{}")
    assert kind_of(tmp_path) == "coco"
    parts = open_annotated(discs, 0.25)
    assert [len(part) for part in (parts.train, parts.val, parts.test)] == [9, 3, 4]
    again = open_annotated(discs, 0.25)
    assert torch.equal(parts.val.ids, again.val.ids)
    assert not set(parts.val.ids.tolist()) & set(parts.train.ids.tolist())
    alone = open_annotated(discs / "train", 0.0)
    assert alone.val is None and len(alone.train) + len(alone.test) == 12
    with pytest.raises(DataError, match="no images with masks or boxes"):
        open_annotated(tmp_path / "images", 0.1)


def test_class_folders_that_are_called_like_something_else_are_classes(tmp_path):
    for classes in (("masks", "hats"), ("dev", "val", "prod"), ("bus", "car", "train"), ("images", "drawings")):
        root = tmp_path / classes[0]
        for name in classes:
            (root / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(root / name / "1.png")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert kind_of(root) is None


def test_numbers_are_objects_or_classes(discs, tmp_path):
    source = masks(discs / "train")
    meaning, words = meaning_of(source, None)
    assert meaning.objects and meaning.classes == FOREGROUND and "objects" in words
    known = source.targets[0]
    assert np.array_equal(meaning(known).masks, known.masks > 0) and meaning(known).masks.dtype == np.uint8
    write_discs(tmp_path, 8, 2, objects=False)
    meaning, words = meaning_of(masks(tmp_path), None)
    assert not meaning.objects and meaning.classes == ("0", "1", "2") and "classes" in words
    assert meaning_of(masks(tmp_path), True)[0].objects
    assert len(meaning_of(source, False)[0].classes) == 1 + max(int(t.masks.max()) for t in source.targets)


def test_numbers_without_a_class_and_empty_masks_are_told(tmp_path):
    meaning = Meaning(("0", "1", "2"))
    mask = np.zeros((4, 4), np.int32)
    mask[0], mask[1] = 2, 255
    assert np.array_equal(meaning(Annotated("a.png", masks=mask)).masks, mask)
    mask[2] = 3
    with pytest.raises(DataError, match=r"a.png: its mask has the number 3, and there are 3 classes"):
        meaning(Annotated("a.png", masks=mask))
    with pytest.raises(DataError, match=r"a.png: it has no mask"):
        meaning(Annotated("a.png"))
    write_discs(tmp_path, 3, 3)
    for path in (tmp_path / "masks").iterdir():
        Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    with pytest.raises(DataError, match="no number but 0"):
        meaning_of(masks(tmp_path), None)


def test_polygons_are_painted_small_on_large():
    planes = np.zeros((2, 6, 6), np.uint8)
    planes[0, 1:3, 1:3], planes[1] = 1, 1
    found = Meaning(("background", "small", "large"), painted=True)(Annotated("a", masks=planes, labels=[0, 1])).masks
    assert (found[1:3, 1:3] == 1).all() and (found == 2).sum() == 32


@pytest.mark.parametrize("kind", ["masks", "boxes"])
def test_resident_images_of_one_size_keep_what_is_beside_them(tmp_path, kind):
    write_discs(tmp_path, 11, 4, side=64)
    if kind == "boxes":
        names = [path.name for path in sorted((tmp_path / "images").iterdir())]
        known = {"images": [{"id": i, "file_name": name, "width": 64, "height": 64} for i, name in enumerate(names)]}
        boxes = [{"image_id": i, "category_id": 1, "bbox": [i, 2 * i, 20 + i, 9]} for i in range(11)]
        known |= {"annotations": boxes, "categories": [{"id": 1, "name": "disc"}]}
        (tmp_path / "images" / "coco.json").write_text(json.dumps(known))
    source = coco(tmp_path / "images") if kind == "boxes" else masks(tmp_path)
    augment = presets.get("segmentation_train", size=48) if kind == "masks" else ga.Compose([ga.RandomRotation(30)])
    both = [Loader(source, 4, augment, resident=resident, shuffle=True, device="cpu") for resident in (False, True)]
    for streamed, resident in zip(*both, strict=True):
        for one, other in zip((streamed[0], *streamed[2][kind]), (resident[0], *resident[2][kind]), strict=True):
            same = torch.equal if isinstance(one, torch.Tensor) else lambda a, b: all(map(torch.equal, a, b))
            assert same(one, other)
        assert torch.equal(streamed[-1], resident[-1])


def test_the_preset_makes_images_grey_and_negative_where_asked_to():
    given = dict(scale=(1.0, 1.0), flip=0.0, color_jitter=None, mean=(0.0,) * 3, std=(1.0,) * 3)
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = presets.segmentation_train(8, grayscale=1.0, invert=1.0, **given)(x)
    grey = (x * torch.tensor([0.2989, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    assert torch.allclose(found, (1 - grey).expand(-1, 3, -1, -1), atol=1e-5)
    assert len(presets.segmentation_train(8, **given).transforms) + 2 == len(
        presets.segmentation_train(8, grayscale=0.1, invert=0.1, **given).transforms
    )


# --- figures ----------------------------------------------------------------------------------------------------------
def test_figures_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    truths, answers = rng.integers(0, 3, (5, 8, 9)), rng.integers(0, 3, (5, 8, 9))
    truths[0, :2] = 255
    matrices = np.stack(
        [confusion(torch.from_numpy(a), torch.from_numpy(t), 3).numpy() for a, t in zip(answers, truths, strict=True)]
    )
    edges = np.stack([rng.integers(1, 5, (5, 3)), rng.integers(5, 9, (5, 3))], 1)
    found = SegmentEvaluation.of(matrices, [1.0, 2.0, 3.0, 4.0, 5.0], ("a", "b", "c"), edges)
    counted = truths != 255
    t, a = truths[counted], answers[counted]
    assert found.iou == pytest.approx(jaccard_score(t, a, average="macro"))
    assert found.dice == pytest.approx(f1_score(t, a, average="macro"))
    assert [line["iou"] for line in found.per_class] == pytest.approx(jaccard_score(t, a, average=None).tolist())
    assert found.accuracy == pytest.approx((t == a).mean()) and found.pixels == counted.sum() and found.loss == 3.0
    one = jaccard_score(truths[1].ravel(), answers[1].ravel(), average="macro")
    assert found.per_image[1] == pytest.approx(one)
    assert found.iou_interval[0] < found.iou < found.iou_interval[1]
    both, either = edges.sum(0)
    assert [line["boundary_iou"] for line in found.per_class] == pytest.approx((both / either).tolist())
    assert found.boundary_iou == pytest.approx((both / either).mean())
    assert found.boundary_iou_interval[0] < found.boundary_iou < found.boundary_iou_interval[1]
    again = SegmentEvaluation.from_dict(json.loads(json.dumps(found.as_dict())))
    assert again.as_dict() == found.as_dict()


def test_foreground_counts_alone_and_what_is_nowhere_does_not():
    matrix = np.array([[90, 5], [3, 2]])
    assert mean_of(ious(matrix), FOREGROUND) == pytest.approx(2 / 10)
    assert mean_of(dices(matrix), FOREGROUND) == pytest.approx(4 / 12)
    nowhere = np.zeros((3, 3), int)
    nowhere[:2, :2] = matrix
    assert mean_of(ious(nowhere), ("a", "b", "c")) == pytest.approx((90 / 98 + 2 / 10) / 2)
    with pytest.raises(ValueError, match="nothing to evaluate"):
        SegmentEvaluation.of(np.zeros((1, 2, 2)), [0.0], FOREGROUND, np.zeros((1, 2, 2)))


def test_boundaries_of_a_square_and_its_neighbour():
    """Of 100 x 100 pixels 2% of the diagonal are 3: a square of 40 has a boundary of 40 x 40 - 34 x 34. Moved by one
    pixel both boundaries have in common what lies in both squares, 40 x 39, and inside of neither boundary, 34 x 35."""
    truth = torch.zeros(100, 100, dtype=torch.long)
    truth[30:70, 20:60] = 1
    assert boundaries(truth, truth, 2)[:, 1].tolist() == [444, 444]
    moved = truth.roll(1, 1)
    both = 40 * 39 - 34 * 35
    assert boundaries(moved, truth, 2)[:, 1].tolist() == [both, 2 * 444 - both]
    assert shares(boundaries(moved, truth, 2).numpy())[1] == pytest.approx(both / (888 - both))
    assert shares(boundaries(moved, truth, 2).numpy())[1] < ious(confusion(moved, truth, 2).numpy())[1] - 0.2
    edge = boundaries(torch.zeros_like(truth), torch.zeros_like(truth), 3)
    assert edge[:, 0].tolist() == [100**2 - 94**2] * 2, "the image's own border is one"
    assert edge[:, 1:].sum() == 0 and np.isnan(shares(edge.numpy())[1:]).all()


def test_pixels_of_no_class_make_no_boundary():
    truth = torch.ones(100, 100, dtype=torch.long)
    truth[:, 50:] = 255
    answers = torch.ones_like(truth)
    answers[:, 50:] = 0
    wanted = 100 * 50 - 94 * 47  # above, below, at the left
    assert boundaries(answers, truth, 2).tolist() == [[0, wanted], [0, wanted]]


def test_the_loss_is_cross_entropy_and_dice():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 5, 6), torch.randint(0, 3, (2, 5, 6))
    target[0, 0] = 255
    shares, counted = logits.softmax(1).numpy().astype(float), (target != 255).numpy()
    dice = []
    for k in range(3):
        p, t = shares[:, k][counted], (target.numpy() == k)[counted]
        dice.append((2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1))
    entropy = F.cross_entropy(logits, target, ignore_index=255).item()
    assert pixel_loss(logits, target).item() == pytest.approx(entropy + 1 - np.mean(dice), rel=1e-5)
    sure = F.one_hot(target.where(target != 255, 0), 3).permute(0, 3, 1, 2) * 50.0
    assert pixel_loss(sure, target).item() < 1e-4


# --- windows ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("side, size, expected", [(5, 8, [0]), (8, 8, [0]), (9, 8, [0, 1]), (20, 8, [0, 4, 8, 12])])
def test_windows_reach_from_border_to_border(side, size, expected):
    assert starts(side, size) == expected


@pytest.mark.parametrize("shape", [(70, 45), (16, 16), (7, 90), (1, 33)])
def test_windows_of_a_model_of_single_pixels_are_the_whole(shape):
    torch.manual_seed(0)
    model, image = nn.Conv2d(3, 4, 1), torch.randn(3, *shape)
    with torch.no_grad():
        torch.testing.assert_close(windowed(model, image, 16, 3), model(image[None])[0], rtol=1e-5, atol=1e-6)


# --- runs -------------------------------------------------------------------------------------------------------------
class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU())
        self.head = nn.Conv2d(8, 2, 1)
        self.pretrained_cfg = {"classifier": "head", "input_size": (3, 64, 64), "mean": (0.5,) * 3, "std": (0.5,) * 3,
                               "interpolation": "bilinear", "crop_pct": 1.0}  # fmt: skip

    def forward(self, x):
        return self.head(self.body(x))


@pytest.fixture(scope="module")
def run(discs, tmp_path_factory):
    options = {"data": str(discs), "size": 64, "device": "cpu", "workers": 0, "quiet": True, "batch_size": 4}
    options |= {"recipe": "full", "lr": 0.02, "epochs": 8, "val_fraction": 0.25, "out": tmp_path_factory.mktemp("runs")}
    torch.manual_seed(0)
    result = finetune(Config(optimizer="adamw", **options), model=Tiny())
    return Run(result.run), result


def test_a_run_learns_discs_and_leaves_what_it_found(run, discs):
    run, result = run
    assert result.after > 0.8 and result.history[-1]["val_iou"] > 0.8 and result.history[-1]["train_pixels"] > 0.9
    assert run.resolved["task"] == "segment" and run.resolved["classes"] == list(FOREGROUND)
    assert any("foreground" in line for line in run.resolved["decisions"])
    found, test = run.evaluation, masks(discs / "test")
    assert found.iou == pytest.approx(result.after) and found.n == 4
    truth, answers = [], []
    for known, path in zip(test.targets, test.items, strict=True):
        answer = np.asarray(Image.open(run.path("predictions") / f"{path.stem}.png"))
        assert answer.shape == known.masks.shape
        truth.append((known.masks > 0).ravel())
        answers.append(answer.ravel())
    judged = jaccard_score(np.concatenate(truth), np.concatenate(answers))
    assert judged == pytest.approx(result.after, abs=1e-9)


def test_its_page_shows_the_figures_and_the_mistakes(run):
    run, result = run
    for name in ("contact_sheet", "mistakes", "curves", "confusion"):
        with Image.open(run.picture(name)) as picture:
            assert len(picture.convert("RGB").resize((300, 200)).getcolors(1 << 20)) > 50, name
    page = run.path(runs.REPORT).read_text()
    assert f"{100 * result.after:.1f}%" in page and "IoU" in page and "foreground" in page


def test_runs_of_it_are_listed_and_compared(run, tmp_path, capsys):
    run, result = run
    for name in ("001-a", "002-b"):
        shutil.copytree(run.folder, tmp_path / name)
    after, (low, high) = f"{100 * result.after:.1f}%", (100 * end for end in run.evaluation.iou_interval)
    best = ["runs", "best", "--out", str(tmp_path)]
    for metric in ([], ["--metric", "iou"]):
        main([*best, *metric])
        text = capsys.readouterr().out
        name = "iou" if metric else "IoU"
        assert text.startswith(f"001-a: {name} {after} ({low:.1f} to {high:.1f}), the best of 2\n")
        assert "--metric val_iou" in " ".join(text.split()) and "accuracy  " not in text.splitlines()[0]
    main([*best, "--metric", "val_iou"])
    kept = max(line["val_iou"] for line in run.history)
    assert capsys.readouterr().out.startswith(f"001-a: val_iou {100 * kept:.1f}%, the best of 2\n")
    main([*best, "--metric", "dice"])
    low, high = (100 * end for end in run.evaluation.dice_interval)
    assert f"dice {100 * run.evaluation.dice:.1f}% ({low:.1f} to {high:.1f})" in capsys.readouterr().out
    (tmp_path / "002-b" / "evaluation.json").unlink()
    found = comparing.summary(Run(tmp_path / "002-b"))
    assert (found.metric, found.score) == ("IoU", pytest.approx(result.after))
    page = write_comparison([tmp_path / "001-a", run.folder], tmp_path / "c.html").read_text()
    assert "validation loss and IoU by epoch" in page


def test_a_picture_of_its_runs_has_their_iou():
    drawn = {"a": [{"epoch": 1, "val_loss": 0.4, "val_iou": 0.25, "train_loss": 0.5, "train_pixels": 0.5}]}
    images = []
    for name in ("iou", "accuracy"):
        target = io.BytesIO()
        pictures.write_overlaid(target, drawn, main=name, hit="pixels")
        images.append(np.asarray(Image.open(target)))
    assert images[0].shape == images[1].shape and (images[0] != images[1]).any()


def test_its_bar_counts_pixels():
    shown = []
    bar = Screen(quiet=False, as_json=False, main=True).bar(1, 4, 0, "pixels")
    bar.bar = SimpleNamespace(
        disable=False, update=lambda: None, set_postfix_str=lambda words, refresh: shown.append(words)
    )
    bar.step(lambda: ([2.0, 3.0, 4.0], 2.0, None))
    assert shown == ["loss 0.500  pixels 75.0%  2 images/s"]


def test_a_model_that_was_made_in_python_is_handed_over_again(run, discs):
    with pytest.raises(ValueError, match="its model, Tiny, was made in Python; hand one over"):
        ga.load(run[0].folder)
    model = ga.load(run[0].folder, model=Tiny(), device="cpu")
    assert model.evaluate(discs, workers=0, batch_size=4).iou == pytest.approx(run[1].after, abs=1e-6)
    with pytest.raises(ValueError, match="not the weights of this model, Tiny: "):
        ga.load(run[0].folder, model=Bare(), device="cpu")


def test_what_segmentation_has_not_is_told(discs, tmp_path):
    options = {"data": str(discs), "size": 64, "device": "cpu", "quiet": True, "out": tmp_path}
    for wrong in ({"recipe": "probe"}, {"augment": "auto"}, {"balance": "sampling"}):
        with pytest.raises(ValueError, match="the task segment has the recipes finetune and full"):
            finetune(Config(**options, **wrong), model=Tiny())
    with pytest.raises(ValueError, match=r"it must make logits \[1, 2, 64, 64\]"):
        finetune(Config(**options), model=nn.Sequential(nn.Conv2d(3, 2, 3, 2)))
    with pytest.raises(ValueError, match="there is no decoder 'unett'"):
        finetune(Config(**options, decoder="unett"))


@pytest.mark.parametrize("decoder", ["fpn", "linknet", "deeplabv3plus", "deeplabv3", "fcn"])
def test_decoders_of_both_libraries(decoder):
    pytest.importorskip("segmentation_models_pytorch", reason="the extra gpuaug[segment] is not installed")
    model, words = segmenters.build("test_efficientnet", 3, decoder)
    assert words.startswith("random weights") and models.head_prefixes(model) == ("decoder.", "segmentation_head.")
    with torch.no_grad():
        assert model.eval()(torch.zeros(1, 3, 64, 96)).shape == (1, 3, 64, 96)


@pytest.mark.parametrize(
    "wrong, given, words",
    [
        (
            {"task": "segment", "tta": "flip"},
            {},
            r"tta has no effect with task=segment \(its windows",
        ),
        ({"task": "segment", "drop_path": 0.1}, {}, "drop_path has no effect with task=segment: leave it out"),
        ({"task": "segment", "dropout": 0.1}, {}, "dropout has no effect with task=segment: leave it out"),
        ({"decoder": "fpn"}, {"model": True}, "decoder has no effect with model=: leave it out"),
        ({"best": "mine"}, {"metrics": {"mine": len}}, r"metrics= has no effect with task=segment \(its own are iou"),
        ({"data": "digits", "decoder": "fpn"}, {}, "decoder has no effect with task=classify"),
        ({"data": "digits", "masks": "classes"}, {}, "masks has no effect with task=classify"),
    ],
)
def test_what_would_change_nothing_is_told(discs, tmp_path, wrong, given, words):
    options = {"data": str(discs), "size": 64, "device": "cpu", "quiet": True, "out": tmp_path} | wrong
    with pytest.raises(ValueError, match=words):
        finetune(Config(**options), **(given | {"model": Tiny()} if "model" in given else given))
    assert not list(tmp_path.iterdir())


def test_each_process_writes_its_masks_and_none_lies_on_another(tmp_path):
    paths = [tmp_path / "data" / name for name in ("a/1.png", "b/1.png", "b/1.jpg", "b/2.bmp")]
    source = Source(paths, torch.tensor([7, 3, 5, 9]))
    (tmp_path / "run").mkdir()
    waited, shared = [], {"run": tmp_path / "run", "parts": SimpleNamespace(test=source), "main": False}
    shared["accelerator"] = SimpleNamespace(wait_for_everyone=lambda: waited.append(1))
    for some in ((7, 5), (3, 9)):
        own = {id: np.full((2, 3), id, np.uint8) for id in some}
        empty = torch.zeros(0)
        Segment().write_predictions(SimpleNamespace(**shared), Segmented(empty, empty, empty, empty, own))
    folder = tmp_path / "run" / "predictions"
    found = {str(path.relative_to(folder)): int(np.asarray(Image.open(path))[0, 0]) for path in folder.rglob("*.png")}
    assert found == {"a/1.png": 7, "b/1.png.png": 3, "b/1.jpg.png": 5, "b/2.png": 9} and len(waited) == 2


def test_it_does_not_go_with_fsdp(discs, monkeypatch):
    parts, _ = semantic(open_annotated(discs, 0.0))
    Segment().check_parts(parts, 2)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="task=segment does not go with FSDP: launch without --use_fsdp"):
        Segment().check_parts(parts, 2)


class Bare(nn.Module):
    """A segmenter that says nothing of itself."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.mix = nn.Linear(4, 4)
        self.head = nn.Sequential(nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2))

    def forward(self, x):
        self.autocast = torch.is_autocast_enabled("cpu")
        return self.head(self.mix(self.body(x).movedim(1, -1)).movedim(-1, 1))


def test_the_classifier_of_a_bare_segmenter_is_its_last_layer(discs):
    parts, _ = semantic(open_annotated(discs, 0.0))
    task, model, config = Segment(), Bare(), Config(data=str(discs), size=32)
    card = task.card(config, model)
    task.open_model(config, model, parts, None)
    assert list(models.heads(model)) == ["head.0"] and task.card(config, model) == card
    found = recipes.layers(model)
    assert found["body.0.weight"] < found["mix.weight"] < found["head.0.weight"] == max(found.values())
    bf16 = SimpleNamespace(device="cpu", autocast=lambda: torch.autocast("cpu", torch.bfloat16))
    task.check_model(model, "Bare", parts, SimpleNamespace(size=32), bf16)
    assert model.autocast


def test_weights_say_which_encoder_they_are_of(tmp_path):
    from safetensors.torch import save_file

    def chosen(about: dict, **options) -> Config:
        save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors", {"gpuaug": json.dumps(about)})
        return Segment().chosen(Config(weights=str(tmp_path / "w.safetensors"), **options), None, None)[0]

    found = chosen({"model": "resnet18", "size": 128, "task": "segment"})
    assert (found.model, found.size) == ("resnet18", 128)
    found = chosen({"model": "resnet18", "size": 128, "task": "classify"})
    assert (found.model, found.size) == ("resnet18", None)
    assert chosen({"model": "resnet18", "size": 128, "task": "segment"}, size=64).size == 64
    assert chosen({"model": "resnet18"}, model="resnet34").model == "resnet34"
    assert chosen({}).model == "tf_efficientnet_lite0"


def test_classes_weigh_by_their_pixels(discs):
    from gpuaug.finetune.segment import _weights

    parts, _ = semantic(open_annotated(discs, 0.0))
    pixels = np.concatenate([known.masks.ravel() for known in parts.train.targets])
    foreground = (pixels > 0).mean()
    found = _weights(parts.train)
    assert found.mean().item() == pytest.approx(1.0)
    assert (found[0] / found[1]).item() == pytest.approx(foreground / (1 - foreground), rel=1e-5)
