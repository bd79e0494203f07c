"""What a run of the task segment leaves as a model: its answers, tests, exports, and how two such are compared."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

for needed in ("accelerate", "matplotlib", "segmentation_models_pytorch", "sklearn", "timm", "torchvision", "tqdm"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

from sklearn.metrics import jaccard_score  # noqa: E402
from test_segment import write_discs  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug.cli import main  # noqa: E402
from gpuaug.data import DataError, Source, masks  # noqa: E402
from gpuaug.finetune import Config, Run, comparing, evaluations, finetune, pixels_paired, runs  # noqa: E402
from gpuaug.finetune.evaluations import Asked  # noqa: E402
from gpuaug.finetune.pictures_pixels import colours  # noqa: E402
from gpuaug.finetune.saved import class_of  # noqa: E402
from gpuaug.finetune.saved_pixels import Segmenter  # noqa: E402
from gpuaug.finetune.segmented import pixel_loss  # noqa: E402
from gpuaug.finetune.segmenters import windowed  # noqa: E402
from gpuaug.finetune.semantic import FOREGROUND  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
QUICK = {"model": "test_efficientnet", "size": 64, "device": "cpu", "workers": 0, "quiet": True, "batch_size": 4}
QUICK |= {"recipe": "full", "optimizer": "adamw", "lr": 0.01, "epochs": 15, "keep": 0}


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "discs"
    write_discs(root / "train", 8, 0)
    write_discs(root / "test", 4, 1)
    return root


@pytest.fixture(scope="module")
def run(discs, tmp_path_factory) -> Run:
    """Mixed, and tested under corruptions."""
    config = Config(data=str(discs), mixup=0.2, robustness=1, out=tmp_path_factory.mktemp("runs"), **QUICK)
    return Run(finetune(config).run)


@pytest.fixture(scope="module")
def model(run) -> Segmenter:
    return ga.load(run.folder, device="cpu")


@pytest.fixture(autouse=True)
def undrawn(monkeypatch) -> None:
    monkeypatch.setattr("gpuaug.finetune.page.write", lambda folder: None)


def stored(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(Image.open(path)) for path in sorted(folder.rglob("*.png"))}


def truth(discs: Path, part: str) -> list[np.ndarray]:
    return [known.masks > 0 for known in masks(discs / part).targets]


# --- loaded -----------------------------------------------------------------------------------------------------------
def test_it_is_loaded_with_its_decoder(run, model):
    assert type(model) is class_of("segment") is Segmenter
    assert model.about.details == {"decoder": "unet", "masks": "objects"} and model.classes == FOREGROUND
    x = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        inside, outside = model(x), model.model((x / 255 - model.mean) / model.std)
    assert inside.shape == (2, 2, 64, 96)
    torch.testing.assert_close(inside, outside, rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="it is of the task sing, and this gpuaug loads classify, .*segment"):
        class_of("sing")


# --- predict ----------------------------------------------------------------------------------------------------------
def test_it_answers_as_the_run_did(run, model, discs):
    found = model.predict(discs / "test" / "images", workers=0)
    wanted = stored(run.path("predictions"))
    assert [Path(one.path).name for one in found] == list(wanted) and not found.bad
    for one, mask in zip(found, wanted.values(), strict=True):
        assert np.array_equal(one.mask, mask) and one.mask.dtype == np.uint8
        assert dict(one.shares)["foreground"] == pytest.approx((mask == 1).mean())


def test_large_images_go_by_windows_and_small_ones_too(model):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((150, 201), (20, 33), (64, 64))]
    found = model.predict(images, workers=0)
    for one, image in zip(found, images, strict=True):
        x = (torch.from_numpy(image).permute(2, 0, 1) / 255 - model.mean) / model.std
        with torch.no_grad():
            logits = windowed(model.model, x, 64)
        assert one.mask.shape == image.shape[:2]
        differ = one.mask != logits.argmax(0).numpy()
        assert not differ[(logits[0] - logits[1]).abs().numpy() > 1e-3].any()
    x = (torch.from_numpy(images[2]).permute(2, 0, 1)[None] / 255 - model.mean) / model.std
    with torch.no_grad():
        sure = model.model(x)[0]
    assert not (found[2].mask != sure.argmax(0).numpy())[(sure[0] - sure[1]).abs().numpy() > 1e-3].any()


def test_masks_a_table_and_a_sheet(run, model, discs, tmp_path, capsys):
    (tmp_path / "bad.png").write_text("no image")
    given = [str(discs / "test" / "images"), str(tmp_path / "bad.png")]
    args = ["predict", str(run.folder), *given, "--device", "cpu", "--workers", "0"]
    assert main(args) == 1
    told = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(told.out)))
    assert list(rows[0]) == ["path", "share background", "share foreground", "error"] and len(rows) == 5
    assert "1 of 5 images could not be read" in told.err and "not an image" in rows[4]["error"]
    wanted = stored(run.path("predictions"))
    shares = [float(row["share foreground"]) for row in rows[:4]]
    assert shares == pytest.approx([mask.mean() for mask in wanted.values()], rel=1e-5)
    assert main([*args, "-o", str(tmp_path / "masks")]) == 1
    table = list(csv.DictReader((tmp_path / "masks" / "masks.csv").open(encoding="utf-8")))
    assert table[4]["mask"] == "" and [row["path"] for row in table] == [row["path"] for row in rows]
    for row, mask in zip(table, wanted.values(), strict=False):
        with Image.open(tmp_path / "masks" / row["mask"]) as picture:
            assert picture.mode == "P" and np.array_equal(np.asarray(picture), mask)
            assert np.array_equal(np.asarray(picture.convert("RGB")), colours()[mask])
    assert main([*args, "-o", str(tmp_path / "sheet.png")]) == 1
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert len(sheet.convert("RGB").resize((300, 300)).getcolors(1 << 20)) > 50
    saved = model.predict(given[0], workers=0)
    saved.save(tmp_path / "again")
    assert all(np.array_equal(a, b) for a, b in zip(stored(tmp_path / "again").values(), wanted.values(), strict=True))
    assert json.loads(saved.save(tmp_path / "a.json").read_text())[0]["shares"].keys() == set(FOREGROUND)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--top", "2"], "top has no effect with task=segment: leave it out"),
        (["--tta", "flip"], "tta has no effect with task=segment: leave it out"),
        (["-o", "x.txt"], "x.txt: no format by this ending; name it .csv, .json or .png, or say format"),
        (["--batch-size", "0"], "--batch-size must be at least 1, got 0"),
    ],
)
def test_wrong_options_get_one_line(run, discs, capsys, args, words):
    assert main(["predict", str(run.folder), str(discs), *args, "--device", "cpu"]) == 2
    told = capsys.readouterr()
    assert words in told.err and told.err.count("\n") == 1 and not told.out


# --- evaluate ---------------------------------------------------------------------------------------------------------
def evaluate(run: Run, **asked) -> evaluations.Made:
    return evaluations.evaluate(Asked(str(run.folder), device="cpu", workers=0, **asked))


def test_the_runs_own_test_part_gives_its_own_numbers(run, capsys):
    made = evaluate(run)
    found = Run(made.folder)
    assert made.tested.evaluation.as_dict() == run.evaluation.as_dict() == found.evaluation.as_dict()
    one, other = (pixels_paired.sides_of(where) for where in (run, found))
    assert one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
    wanted = stored(run.path("predictions"))
    assert all(np.array_equal(mask, wanted[name]) for name, mask in stored(found.path("predictions")).items())
    assert found.picture("mistakes").is_file()
    words = made.model.words(found.evaluation)
    assert f"{100 * found.evaluation.iou:.1f}%" in words and "weakest classes, by IoU" in words
    assert main(["evaluate", str(run.folder), "--tta", "flip", "--device", "cpu"]) == 2
    assert "tta has no effect with task=segment" in capsys.readouterr().err


def test_other_folders(run, model, discs):
    answers = [one.mask for one in model.predict(discs / "train" / "images", workers=0)]
    judged = jaccard_score(np.concatenate([t.ravel() for t in truth(discs, "train")]),
                           np.concatenate([a.ravel() for a in answers]))  # fmt: skip
    for options in ({"data": str(discs), "part": "train"}, {"data": str(discs / "train")}):
        made = evaluate(run, **options)
        assert made.tested.evaluation.n == 8 and made.tested.evaluation.iou == pytest.approx(judged)
    assert model.evaluate(discs, "all", workers=0).n == 12
    assert model.evaluate(masks(discs / "train"), workers=0).iou == pytest.approx(judged)
    with pytest.raises(DataError, match="its images have no masks; gpuaug predict makes some"):
        model.evaluate(Source([discs / "train" / "images" / "000.png"], torch.arange(1)))
    with pytest.raises(DataError, match="no images with masks or boxes"):
        model.evaluate(discs / "train" / "images")
    with pytest.raises(ValueError, match="part must be one of train, val, test, all; got 'tests'"):
        model.evaluate(discs, "tests")


def polygons(folder: Path, name: str) -> Path:
    """An image with one square of a class."""
    folder.mkdir()
    Image.new("RGB", (64, 64), (60, 60, 60)).save(folder / "a.png")
    ring = {"image_id": 1, "category_id": 7, "bbox": [8, 8, 16, 16], "segmentation": [[8, 8, 24, 8, 24, 24, 8, 24]]}
    known = {"images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 64}], "annotations": [ring],
             "categories": [{"id": 7, "name": name}]}  # fmt: skip
    (folder / "coco.json").write_text(json.dumps(known))
    return folder


def test_polygons_go_by_their_names(model, tmp_path):
    folder = polygons(tmp_path / "a", "disc")
    found = model.evaluate(folder, workers=0)  # the run's objects were foreground
    assert found.per_class[1]["pixels"] == pytest.approx(17 * 17, abs=40)
    about = model.about
    try:
        model.about = type(about)(
            **{**vars(about), "classes": ("background", "cell"), "details": {"masks": "polygons"}}
        )
        with pytest.raises(DataError, match="a: the model does not know the class disc; it knows cell"):
            model.evaluate(folder, workers=0)
        assert model.evaluate(folder, workers=0, ignore_unknown=True).per_class[1]["pixels"] == 0
        known = model.evaluate(polygons(tmp_path / "b", "cell"), workers=0)
        assert known.per_class[1]["pixels"] == found.per_class[1]["pixels"]
    finally:
        model.about = about


def test_corruptions_move_masks_too(run, model):
    known = run.robustness
    assert known["metric"] == "IoU" and len(known["corruptions"]) == 30 and known["of"] == 4 and known["n"] == 1
    made = evaluate(run, robustness=1)
    assert made.robustness == known
    by = {line["name"]: line["score"] for line in known["corruptions"] if line["strength"] == 1}
    assert by["rotation"] > 0.5 * known["clean"]["score"]  # were masks left as they are, little would overlap
    assert run.picture("corruptions").is_file()


# --- export -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("format", ["safetensors", "torch-export"])
def test_an_export_answers_as_the_model_does(run, model, tmp_path, capsys, format):
    path = tmp_path / "model"
    assert main(["export", str(run.folder), "--format", format, "-o", str(path)]) == 0
    assert "checked on 4 test images of the run" in capsys.readouterr().out
    x = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    answer = torch.export.load(path).module() if format == "torch-export" else ga.load(path, device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(answer(x), model(x), rtol=1e-4, atol=1e-4)


# --- compared ---------------------------------------------------------------------------------------------------------
def test_two_are_compared_image_by_image():
    rng = np.random.default_rng(0)
    truths = rng.random((12, 900)) < 0.4
    answers = [np.where(rng.random((12, 900)) < wrong, ~truths, truths) for wrong in (0.3, 0.1)]

    def sides(answer: np.ndarray) -> dict[str, np.ndarray]:
        both = [np.stack([(a == k) & (b == k) for k in (False, True)], -1).sum(1) for a, b in ((answer, truths),)]
        counts = [np.stack([(a == k).sum(1) for k in (False, True)], -1) for a in (truths, answer)]
        return {"right": both[0], "truth": counts[0], "answers": counts[1]}

    first, second = map(sides, answers)
    found = pixels_paired.paired(first, second, FOREGROUND)
    judged = [jaccard_score(truths.ravel(), answer.ravel()) for answer in answers]
    assert found["difference"] == pytest.approx(judged[1] - judged[0])
    low, high = found["interval"]
    assert 0 < low < found["difference"] < high and found["p"] < 0.01 and (found["better"], found["worse"]) == (12, 0)
    same = pixels_paired.paired(first, first, FOREGROUND)
    assert same["difference"] == 0 and same["p"] == 1.0 and same["better"] == same["worse"] == 0


def test_runs_are_compared_on_the_same_images(run, tmp_path, capsys):
    other = tmp_path / "002-other"
    other.mkdir()
    for name in (runs.CONFIG, runs.METRICS, runs.EVALUATION, pixels_paired.SIDES):
        (other / name).write_bytes(run.path(name).read_bytes())
    with np.load(run.path(pixels_paired.SIDES)) as known:
        worse = {name: known[name].copy() for name in known.files}
    worse["right"] //= 2
    np.savez(other / pixels_paired.SIDES, **worse)
    rows, told = comparing.against(comparing.read([other, run.folder]))
    assert not told and rows[0][2:4] == (4, 0) and rows[0][1].startswith("+") and rows[0][-1] == 4
    assert main(["runs", "compare", str(other), str(run.folder)]) == 0
    assert "IoU (interval of 95%)" in capsys.readouterr().out
    (other / pixels_paired.SIDES).unlink()
    assert "no pixels.npz" in comparing.against(comparing.read([other, run.folder]))[1][0]


# --- mixed ------------------------------------------------------------------------------------------------------------
def test_the_loss_of_shares_is_that_of_classes():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 5, 6), torch.randint(0, 3, (2, 5, 6))
    target[0, 0] = 255
    counted = (target != 255)[:, None]
    shares = (F.one_hot(target.where(target != 255, 0), 3).permute(0, 3, 1, 2) * counted).float()
    weight = torch.tensor([0.5, 1.0, 1.5])
    for options in ({}, {"weight": weight}, {"smoothing": 0.1}):
        torch.testing.assert_close(pixel_loss(logits, shares, **options), pixel_loss(logits, target, **options))
    half = (shares + shares.flip(0)) / 2
    assert pixel_loss(logits, half).isfinite()


def test_the_example_writes_masks(discs, tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("example", ROOT / "examples" / "segmentation_finetune.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    options = QUICK | {"epochs": 1, "out": tmp_path / "runs"}
    images = discs / "test" / "images"
    result = example.main(str(discs), str(images), str(tmp_path / "masks"), **options)
    said = capsys.readouterr().out
    assert f"{100 * result.after:.1f}% after" in said and f"wrote {tmp_path / 'masks'}" in said
    assert stored(tmp_path / "masks").keys() == {path.name for path in images.iterdir()}


# --- what is wrong with data ------------------------------------------------------------------------------------------
def broken(tmp_path: Path, change) -> dict:
    root = tmp_path / "data"
    write_discs(root / "train", 6, 3, objects=False)
    write_discs(root / "test", 4, 4, objects=False)
    change(root)
    return {"data": str(root), "out": tmp_path / "runs", "val_fraction": 0.0} | QUICK | {"epochs": 1}


def another_size(root: Path) -> None:
    Image.new("L", (5, 7)).save(root / "test" / "masks" / "003.png")


def no_masks_file(root: Path) -> None:
    (root / "test" / "masks" / "003.png").unlink()


def above(root: Path) -> None:
    mask = np.asarray(Image.open(root / "test" / "masks" / "003.png")).copy()
    mask[0, 0] = 40
    Image.fromarray(mask).save(root / "test" / "masks" / "003.png")


def empty(root: Path) -> None:
    for path in (root / "train" / "masks").iterdir():
        Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (another_size, {}, r"003.png: it has \d+ x \d+ pixels and its mask 5 x 7; make them alike"),
        (no_masks_file, {}, r"003.png: it has no mask; add one of the same name, or remove the image"),
        (above, {"masks": "classes"}, r"test.images.003.png: its mask has the number 40, and there are 3 classes"),
        (empty, {}, r"have no number but 0: nothing to be learned"),
    ],
)
def test_what_is_wrong_with_masks_names_the_file(tmp_path, change, options, words):
    with pytest.raises(ValueError, match=words):
        finetune(Config(**broken(tmp_path, change), **options))
    assert not list((tmp_path / "runs").glob("*"))


def test_boxes_are_no_masks(tmp_path):
    write_discs(tmp_path / "train", 6, 4)
    names = [path.name for path in sorted((tmp_path / "train" / "images").iterdir())]
    known = {"images": [{"id": i, "file_name": name} for i, name in enumerate(names)]}
    boxes = [{"image_id": i, "category_id": 1, "bbox": [2, 2, 9, 9]} for i in range(6)]
    (tmp_path / "train" / "coco.json").write_text(
        json.dumps(known | {"annotations": boxes, "categories": [{"id": 1, "name": "disc"}]})
    )
    for path in (tmp_path / "train" / "masks").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="its objects have boxes and no polygons or masks"):
        finetune(Config(data=str(tmp_path), task="segment", out=tmp_path / "runs", **QUICK))
