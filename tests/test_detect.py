"""The task detect: figures against pycocotools and closed forms, strides and anchors from boxes, boxes mapped back, a
run from folder to report, saved models."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import multiprocessing
import shutil
import socket
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

for needed in ("accelerate", "matplotlib", "sklearn", "timm", "torchvision", "tqdm", "pycocotools"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

from detecting import TINY, member  # noqa: E402
from pycocotools.coco import COCO  # noqa: E402
from pycocotools.cocoeval import COCOeval  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug.cli import main  # noqa: E402
from gpuaug.data import DataError, Parts, Source, coco  # noqa: E402
from gpuaug.data.annotated import Annotated  # noqa: E402
from gpuaug.finetune import Config, Run, boxes, corrupted_boxes, detect, detectors, finetune, resume  # noqa: E402
from gpuaug.finetune.boxes import Boxes, DetectEvaluation  # noqa: E402
from gpuaug.finetune.detectors import Geometry  # noqa: E402

CLASSES = ("red", "blue")


# --- planted data -----------------------------------------------------------------------------------------------------
def write_rectangles(folder: Path, n: int, seed: int) -> None:
    """Red and blue rectangles on grey noise that do not touch, images of different sizes, as COCO's JSON."""
    rng, lines, images = np.random.default_rng(seed), [], []
    (folder / "images").mkdir(parents=True)
    for i in range(n):
        height, width = (int(one) for one in rng.integers(48, 80, 2))
        image, taken = rng.normal(90, 10, (height, width, 3)), np.zeros((height, width), bool)
        for _ in range(4):
            w, h = (int(one) for one in rng.integers(12, 28, 2))
            x, y, k = int(rng.integers(width - w)), int(rng.integers(height - h)), int(rng.integers(2))
            if taken[max(y - 2, 0) : y + h + 2, max(x - 2, 0) : x + w + 2].any():
                continue
            image[y : y + h, x : x + w], taken[y : y + h, x : x + w] = ((220, 60, 60), (60, 60, 220))[k], True
            box = {"category_id": k + 1, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
            lines.append({"id": len(lines) + 1, "image_id": i + 1, **box})
        name = f"{i:03d}.png"
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / "images" / name)
        images.append({"id": i + 1, "file_name": name, "width": width, "height": height})
    categories = [{"id": k, "name": name} for k, name in enumerate(CLASSES, start=1)]
    content = {"images": images, "annotations": lines, "categories": categories}
    (folder / "coco.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def rectangles(tmp_path_factory):
    root = tmp_path_factory.mktemp("rectangles")
    write_rectangles(root / "train", 32, 0)
    write_rectangles(root / "test", 8, 1)
    return root


def drawn(n: int, seed: int = 0, crowds: bool = False, ties: bool = True) -> tuple[list[Boxes], list[Boxes]]:
    """Images of a few objects, and answers near most of them, of another class some, and where nothing is."""
    rng, truths, found = np.random.default_rng(seed), [], []
    for _ in range(n):
        many = int(rng.integers(0, 7))
        low = rng.uniform(0, 200, (many, 2))
        there, labels = np.concatenate([low, low + rng.uniform(10, 60, (many, 2))], 1), rng.integers(0, 3, many)
        seen = rng.random(many) < 0.8
        answers = there[seen] + rng.normal(0, 4, (seen.sum(), 4))
        named = np.where(rng.random(seen.sum()) < 0.15, (labels[seen] + 1) % 3, labels[seen])
        low = rng.uniform(0, 200, (3, 2))
        answers = np.concatenate([answers, np.concatenate([low, low + 30], 1)])
        named = np.concatenate([named, rng.integers(0, 3, 3)])
        crowd = rng.random(many) < 0.3 if crowds else None
        truths.append(Boxes.of(there, labels, crowd=crowd))
        found.append(Boxes.of(answers, named, rng.random(len(answers)).round(1 if ties else 9)))
    return truths, found


# --- figures ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("crowds", [False, True])
def test_average_precision_is_that_of_cocos_own_summary(crowds):
    truths, found = drawn(30, crowds=crowds)
    truth = COCO()
    with contextlib.redirect_stdout(io.StringIO()):
        truth.dataset = boxes.as_coco(truths, "abc")
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(boxes.as_coco(found, "abc")["annotations"]), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    made = DetectEvaluation.of(truths, found, "abc")
    assert [made.map, made.map50, made.map75] == pytest.approx(judge.stats[:3].tolist(), abs=1e-12)
    assert boxes.quick(truths, found, "abc") == (made.map, made.map50)


@pytest.mark.parametrize("crowds", [False, True])
def test_resampled_average_precision_is_that_of_the_images_repeated(crowds):
    truths, found = drawn(12, 3, crowds, ties=False)
    judge, rng = boxes.matched(truths, found, "abc"), np.random.default_rng(0)
    weights = np.stack([np.ones(12, int), *rng.multinomial(12, np.full(12, 1 / 12), size=3)])
    for row in weights:
        places = np.repeat(np.arange(12), row)
        table = boxes.precisions(boxes.matched([truths[i] for i in places], [found[i] for i in places], "abc"))
        for k in range(3):
            one = boxes._ranked(judge, k)
            for t in (0, 5):
                value = boxes.of_class(one, t, row[None])[0]
                assert value == pytest.approx(table[t, k], abs=1e-12, nan_ok=True)


def test_average_precision_in_closed_form():
    """Two objects; right, wrong, right by falling score: precision 1 up to recall 1/2, then 2/3."""
    truth = Boxes.of([[0, 0, 10, 10], [20, 20, 30, 30]], [0, 0])
    answers = [[0, 0, 10, 10], [50, 50, 60, 60], [20, 20, 30, 30]]
    made = DetectEvaluation.of([truth], [Boxes.of(answers, [0, 0, 0], [0.9, 0.8, 0.7])], ["a"])
    assert made.map50 == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)
    assert made.threshold == 0.7 and made.recall == 1 and made.precision == pytest.approx(2 / 3)
    perfect = DetectEvaluation.of([truth], [Boxes.of(truth.boxes, truth.labels, [0.9, 0.8])], ["a"])
    assert (perfect.map, perfect.map50) == (pytest.approx(1), pytest.approx(1))
    assert perfect.map_interval == (pytest.approx(1), pytest.approx(1))
    nothing = DetectEvaluation.of([truth], [Boxes.of([], [], [])], ["a"])
    assert nothing.map == 0 and nothing.recall == 0 and nothing.per_class[0]["missed"] == 2
    with pytest.raises(ValueError, match="no image has a box"):
        DetectEvaluation.of([Boxes.of([], [])], [Boxes.of([], [], [])], ["a"])


def test_what_became_of_objects_and_answers():
    truth = Boxes.of([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]], [0, 0, 0, 1])
    answers = [[0, 0, 10, 9], [20, 0, 30, 10], [45, 0, 55, 10], [0, 0, 10, 10], [80, 80, 90, 90]]
    found = Boxes.of(answers, [0, 1, 0, 0, 1], [0.9, 0.8, 0.7, 0.6, 0.5])
    of_object, of_answer = boxes.kinds(truth, found)
    right, confused, misplaced, missed = range(4)
    assert of_object.tolist() == [right, confused, misplaced, missed]
    assert of_answer.tolist() == [right, confused, misplaced, boxes.FALSE, boxes.FALSE]
    made = DetectEvaluation.of([truth], [found], ["a", "b"])
    assert DetectEvaluation.from_dict(json.loads(json.dumps(made.as_dict()))).as_dict() == made.as_dict()
    with pytest.raises(ValueError, match="unknown other"):
        DetectEvaluation.from_dict(made.as_dict() | {"other": 1})


def test_answers_inside_of_a_crowd_are_neither_right_nor_wrong():
    truth = Boxes.of([[0, 0, 10, 10], [50, 50, 100, 100]], [0, 0], crowd=[False, True])
    found = Boxes.of([[0, 0, 10, 10], [60, 60, 70, 70], [20, 20, 30, 30]], [0, 0, 0], [0.9, 0.8, 0.7])
    made = DetectEvaluation.of([truth], [found], ["a"])
    assert made.map50 == pytest.approx(1) and made.objects == 1
    assert len(found.beside(truth)) == 2


# --- what follows from boxes ------------------------------------------------------------------------------------------
def test_strides_and_anchors_follow_from_the_boxes():
    rng = np.random.default_rng(0)
    large, tiny = rng.uniform(90, 110, (500, 2)), rng.uniform(9, 11, (20, 2))
    found = Geometry.of(np.concatenate([large, tiny]), np.repeat([0, 1], [500, 20]))
    assert found.strides == (4, 8, 16, 32)  # a class of small boxes counts as much as one of many
    sizes = [one for level in found.sizes for one in level]
    assert sizes == sorted(sizes) and sizes[0] in (9, 10) and 100 <= sizes[-1] <= 110
    assert Geometry.of(large, np.zeros(500)).strides == (16, 32)
    assert Geometry.of(10 * large, np.zeros(500)).strides == (16, 32, 64, 128)
    flat = Geometry.of(np.stack([rng.uniform(40, 80, 100), rng.uniform(10, 20, 100)], 1), np.zeros(100))
    assert all(ratio < 0.6 for ratio in flat.ratios)
    assert Geometry.from_dict(json.loads(json.dumps(vars(found)))) == found


def test_boxes_come_back_in_the_pixels_of_the_image():
    """What is found in the upper left quarter of a scaled image lies in that of the image."""
    known = detect.Known(Boxes.of([], []), 640, 480, "")
    x, sizes = detect.squares([torch.zeros(3, 48, 64)], 64)
    assert x[0].shape == (3, 64, 64) and sizes == [(64, 48)]
    found = {"boxes": torch.tensor([[0.0, 0, 32, 24], [60, 40, 70, 60]]), "labels": torch.tensor([1, 2])}
    made = detect.mapped(found | {"scores": torch.tensor([0.25, 0.5])}, sizes[0], known)
    assert made.boxes.tolist() == [[600, 400, 640, 480], [0, 0, 320, 240]]  # cut at the border, the surest first
    assert made.labels.tolist() == [1, 0] and made.scores.tolist() == [0.5, 0.25]


@pytest.mark.parametrize("detector", ["fcos", "retinanet", "ssdlite"])
def test_the_surest_candidates_are_what_the_detector_answers(detector):
    """The export's candidates, after a non-maximum suppression, against torchvision's own answers."""
    from torchvision.ops import batched_nms

    torch.manual_seed(0)
    geometry = Geometry((8, 16, 32), ((10, 14), (20, 28), (40, 56)), (0.7, 1.0, 1.4))
    model, _ = detectors.build("test_resnet", 2, detector, geometry, 64)
    for parameter in model.head.classification_head.parameters():
        torch.nn.init.normal_(parameter, std=0.1)  # else all scores are alike
    model.eval()
    model.score_thresh, x = 0.0, torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        raw, answers = detectors.candidates(model, x), model(list(x))
    for one, answer in zip(raw, answers, strict=True):
        scores, labels = one[:, 4:].flatten(), torch.arange(2).repeat(len(one))
        corners = one[:, None, :4].expand(-1, 2, -1).reshape(-1, 4)
        kept = batched_nms(corners, scores, labels, detectors.OVERLAP)
        best = answer["scores"][answer["labels"] > 0].max()
        assert scores[kept].max() == pytest.approx(best.item(), abs=1e-6)
        at = answer["scores"].where(answer["labels"] > 0, answer["scores"].new_tensor(-1.0)).argmax()
        torch.testing.assert_close(corners[kept[scores[kept].argmax()]], answer["boxes"][at], atol=1e-3, rtol=0)


# --- corrupted images ------------------------------------------------------------------------------------------------
def test_boxes_of_turned_images_are_those_about_ellipses():
    """A circle stays one however it is turned; an ellipse of half axes 8 and 4 that is turned by 45 degrees has sides
    of twice the root of (64 + 16) / 2."""
    before = Boxes.of([[10, 10, 30, 30], [4, 12, 20, 20]], [0, 1], crowd=[False, True])
    points = torch.from_numpy(corrupted_boxes.ellipses(before.boxes)).double()
    assert points.shape == (2, corrupted_boxes.POINTS, 2)
    same = corrupted_boxes.about(points, before, 64, 64)
    np.testing.assert_allclose(same.boxes, before.boxes, atol=1e-5)
    assert same.labels.tolist() == [0, 1] and same.crowd.tolist() == [False, True]
    turn, middle = torch.tensor([[1.0, 1.0], [-1.0, 1.0]]).double() / 2**0.5, points.mean(1, keepdim=True)
    turned = corrupted_boxes.about((points - middle) @ turn + middle, before, 64, 64)
    half = 40**0.5
    wanted = [[10, 10, 30, 30], [12 - half, 16 - half, 12 + half, 16 + half]]
    np.testing.assert_allclose(turned.boxes, wanted, atol=0.05)
    cut = corrupted_boxes.about(points - 12, before, 10, 64)
    np.testing.assert_allclose(cut.boxes, [[0, 0, 10, 18], [0, 0, 8, 8]], atol=1e-5)
    assert not len(corrupted_boxes.about(points + 100, before, 64, 64)), "what is outside is not to be found"


def test_what_sees_every_disc_bears_turns_and_scales():
    """Answers read off the pixels: boxes that did not go with their image would not be found."""
    from scipy.ndimage import find_objects, label

    side, radius, places = 160, 15, [(60, 66), (102, 88)]
    rows, columns = np.mgrid[:side, :side] + 0.5
    inside = np.any([(columns - x) ** 2 + (rows - y) ** 2 < radius**2 for x, y in places], 0)
    images = torch.from_numpy(np.where(inside, 230, 20).astype(np.uint8)).expand(4, 3, side, side).contiguous()
    corners = np.array([[x - radius, y - radius, x + radius, y + radius] for x, y in places], np.float32)
    known = [Annotated(Path(f"{i}.png"), corners, [0, 0]) for i in range(4)]
    source = Source(images, torch.arange(4), classes=("disc",), targets=known)

    def found(some: list[torch.Tensor]) -> list[Boxes]:
        made = []
        for image in some:
            slices = find_objects(label(image.mean(0).numpy() > 0)[0])
            there = [[x.start, y.start, x.stop, y.stop] for y, x in slices if y.stop - y.start > 4]
            made.append(Boxes.of(there, [0] * len(there), [1.0] * len(there)))
        return made

    input = detect.Fitted(side, None, (0.5,) * 3, (0.5,) * 3, "bilinear", torch.float32, {"backend": "cpu"})
    truths = detect.truths_of(detect.known_of(source))
    measured, some = corrupted_boxes.measure(found, truths, source, 4, input, 2, 0, torch.device("cpu"))
    assert len(some) == 4 and measured["clean"]["score"] > 0.9
    by = {(line["name"], line["strength"]): line["score"] for line in measured["corruptions"]}
    assert min(by["rotation", strength] for strength in range(1, 6)) > 0.8
    assert min(by["scale", strength] for strength in range(1, 6)) > 0.65  # at half the size a pixel is a lot
    none = replace(source, targets=[Annotated(Path(f"{i}.png")) for i in range(4)])
    with pytest.raises(ValueError, match="robustness=4: none of these images has a box; take more of them"):
        corrupted_boxes.measure(found, {}, none, 4, input, 2, 0, torch.device("cpu"))


# --- runs -------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def run(rectangles, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    return finetune(Config(data=str(rectangles), augment="none", epochs=30, robustness=6, out=out, **TINY))


def test_a_small_detector_finds_planted_rectangles(run):
    assert run.before < 0.05
    assert run.metrics["map50"] > 0.85
    folder = Run(run.run)
    assert folder.resolved["task"] == "detect" and folder.resolved["classes"] == list(CLASSES)
    assert any(words.startswith("fcos on maps of strides") for words in folder.resolved["decisions"])
    found = folder.evaluation
    assert found.map == pytest.approx(run.after) and found.map50_interval[0] <= found.map50 <= found.map50_interval[1]
    for name in ("contact_sheet", "mistakes", "errors", "curves"):
        with Image.open(folder.picture(name)) as picture:
            assert picture.width > 400 and len(picture.convert("L").getcolors() or range(256)) > 20
    page = folder.path("report.html").read_text()
    assert "mAP@50" in page and "What became of the objects" in page
    assert ga.load(run.run).about.details["detector"] == "fcos"


def test_a_run_says_how_its_detector_bears_corrupted_images(run):
    folder = Run(run.run)
    known = folder.robustness
    assert known["metric"] == "mAP" and (known["n"], known["of"]) == (6, 8) and len(known["corruptions"]) == 30
    by = {(line["name"], line["strength"]): line["score"] for line in known["corruptions"]}
    assert by["rotation", 1] > 0.5 * known["clean"]["score"] > 0.1 and by["noise", 5] < known["clean"]["score"]
    assert folder.picture("corruptions").is_file() and folder.picture("robustness").is_file()
    page = folder.path("report.html").read_text()
    assert "mAP " in page and "on the 6 clean images" in page and "60°" in page
    assert main(["evaluate", str(run.run), "--robustness", "6", "--device", "cpu", "--workers", "0"]) == 0
    (made,) = (run.run / "evaluations").iterdir()
    again = Run(made).robustness
    assert again["images"] == known["images"] and again["mean"] == pytest.approx(known["mean"], abs=1e-6)


def test_answers_are_cocos_json(run, rectangles):
    """pycocotools makes the same figures of the two files."""
    stored = Run(run.run).path("predictions.json")
    with contextlib.redirect_stdout(io.StringIO()):
        truth, answers = COCO(str(rectangles / "test" / "coco.json")), COCO(str(stored))
        names = {one["file_name"]: one["id"] for one in truth.dataset["images"]}
        ids = {one["id"]: names[Path(one["file_name"]).name] for one in answers.dataset["images"]}
        lines = [one | {"image_id": ids[one["image_id"]]} for one in answers.dataset["annotations"]]
        judge = COCOeval(truth, truth.loadRes(lines), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    assert judge.stats[0] == pytest.approx(run.after, abs=2e-3)  # boxes are written to a thousandth of a pixel


def test_a_saved_detector_predicts_is_evaluated_and_exported(run, rectangles, tmp_path):
    model = ga.load(run.run)
    found = model.predict(rectangles / "test" / "images", threshold=0.0)
    assert len(found) == 8 and not found.bad and found[0].error == ""
    made = model.evaluate(rectangles)
    assert made.map == pytest.approx(run.after, abs=1e-6)
    truth = coco(rectangles / "test")
    again = [one.boxes(CLASSES) for one in found]
    there = [Boxes.of(known.boxes, known.labels) for known in truth.targets]
    assert boxes.quick(there, again, CLASSES)[0] == pytest.approx(run.after, abs=1e-3)
    for ending in ("json", "csv", "png"):
        assert found.save(tmp_path / f"found.{ending}").stat().st_size > 100
    with contextlib.redirect_stdout(io.StringIO()):
        assert len(COCO(str(tmp_path / "found.json")).getAnnIds()) == sum(map(len, found))
    lines = (tmp_path / "found.csv").read_text().splitlines()
    assert lines[0] == "path,class,score,left,top,right,bottom,error"
    assert len(lines) == 1 + sum(max(len(one), 1) for one in found)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    two = model.predict([tmp_path / "broken.jpg", rectangles / "test/images/000.png"])
    assert two[0].error and not two[1].error and len(two.bad) == 1
    raw = model(torch.rand(2, 3, 64, 64))
    assert raw.shape[0] == 2 and raw.shape[2] == 6
    with pytest.raises(ValueError, match="threshold must be in 0 .. 1"):
        model.predict(rectangles / "test" / "images", threshold=2)
    with pytest.raises(ValueError, match="top has no effect with task=detect"):
        model.asked(top=2)


def test_a_detector_is_exported(run, tmp_path):
    done = ga.load(run.run).export(tmp_path / "detector.pt2", dynamic_batch=False)
    assert done.logits < 1e-2 and done.probabilities < 1e-4
    program = torch.export.load(tmp_path / "detector.pt2").module()
    assert program(torch.rand(1, 3, 64, 64)).shape[2] == 6


def test_classes_go_by_their_names(run, rectangles, tmp_path):
    model = ga.load(run.run)
    shutil.copytree(rectangles / "test" / "images", tmp_path / "images")
    known = json.loads((rectangles / "test" / "coco.json").read_text())
    (tmp_path / "coco.json").write_text(json.dumps(known | {"categories": known["categories"][::-1]}))
    assert model.evaluate(tmp_path).map == pytest.approx(run.after, abs=1e-6)
    known["categories"][1]["name"] = "green"
    (tmp_path / "coco.json").write_text(json.dumps(known))
    with pytest.raises(DataError, match="does not know the class green"):
        model.evaluate(tmp_path)
    one = model.evaluate(tmp_path, ignore_unknown=True)
    assert [line["objects"] > 0 for line in one.per_class] == [True, False]


def test_the_example(rectangles, tmp_path, capsys):
    place = Path(__file__).resolve().parents[1] / "examples" / "detection_finetune.py"
    spec = importlib.util.spec_from_file_location("detection_finetune", place)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    done = example.main(str(rectangles), epochs=1, out=tmp_path, **TINY)
    words = capsys.readouterr().out
    assert "mAP@50" in words and "000.png" in words
    assert (done.run / "found.json").exists() and (done.run / "found.png").exists()


@pytest.mark.parametrize("detector", ["retinanet", "ssdlite", "faster_rcnn"])
def test_every_detector_learns(detector, rectangles, tmp_path):
    done = finetune(Config(data=str(rectangles), augment="none", epochs=2, detector=detector, out=tmp_path, **TINY))
    first, last = (line["train_loss"] for line in done.history)
    assert last < first
    assert np.isfinite(done.metrics["loss"])


def test_a_run_that_was_stopped_ends_as_if_it_had_not(rectangles, tmp_path):
    config = {"data": str(rectangles), "augment": "geometric", "epochs": 3, "keep_done": True, **TINY}
    whole = finetune(Config(out=tmp_path / "whole", **config))

    def stop(line: dict) -> None:
        if line["event"] == "epoch" and line["epoch"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(Config(out=tmp_path / "stopped", checkpoint_steps=2, **config), callbacks=[stop])
    again = resume(1, tmp_path / "stopped")
    assert [line["train_loss"] for line in again.history] == [line["train_loss"] for line in whole.history]
    assert again.metrics == whole.metrics


@pytest.mark.skipif(sys.platform != "linux", reason="it forks processes")
def test_two_processes_come_to_what_one_comes_to(rectangles, tmp_path):
    """Of retinanet, whose losses are means over images; the others count the positives of each process's batch."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["detecting"])
    options = {"data": str(rectangles), "augment": "none", "epochs": 2, "detector": "retinanet", "frozen_bn": True}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = []
    for out, world, batch in (("one", 1, 8), ("two", 2, 4)):
        (tmp_path / out).mkdir()
        for rank in range(world):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
            own = own | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port} if world > 1 else {}
            arguments = (own, str(tmp_path / out), options | {"batch_size": batch})
            started.append(context.Process(target=member, args=arguments))
            started[-1].start()
    for process in started:
        process.join(300)
    assert [process.exitcode for process in started] == [0, 0, 0]
    one, first, second = (
        json.loads((tmp_path / name).read_text()) for name in ("one/0.json", "two/0.json", "two/1.json")
    )
    for a, b in zip(one["history"], first["history"], strict=True):
        assert b["train_loss"] == pytest.approx(a["train_loss"], rel=1e-4)
    assert first["metrics"] == second["metrics"] == pytest.approx(one["metrics"], rel=1e-3, abs=1e-3)


def test_what_cannot_be_is_refused_in_one_line(rectangles, tmp_path, capsys):
    def refused(words: str, **options) -> None:
        with pytest.raises(ValueError, match=words) as told:
            finetune(Config(**({"data": str(rectangles), "epochs": 1, "out": tmp_path} | TINY | options)))
        assert "\n" not in str(told.value)

    refused("no mixup, cutmix, balance or augment=auto", mixup=0.2)
    refused("no mixup, cutmix, balance or augment=auto", cutmix=1.0)
    refused("has the recipes finetune and full", recipe="probe")
    refused("there is no detector 'fcoss'; .*did you mean 'fcos'", detector="fcoss")
    refused("size=70: a detector wants a multiple of 32, such as 96", size=70)
    refused("resize: the task detect scales the longer side", resize=80)
    refused("compile: a detector's steps", compile=True)
    refused("robustness must be at least 0", robustness=-1)
    refused("decoder has no effect with task=detect", decoder="fpn")
    refused("label_smoothing has no effect with task=detect", label_smoothing=0.2)
    refused("cannot be the backbone of a detector", model="vit_tiny_patch16_224")
    with pytest.raises(ValueError, match="augment=: a function moves no boxes"):
        config = Config(data=str(rectangles), epochs=1, out=tmp_path, **TINY)
        finetune(config, augment=lambda images, ids: images)
    source = Source(tuple(["a.png"]), torch.tensor([1]), classes=("a",), targets=[Annotated(Path("a.png"))])
    for boxes_, labels, words in (
        (np.zeros((0, 4)), [], "the train part has no boxes"),
        (np.array([[0, 0, 5, 5.0]]), [3], "a box has the class 3, and there are 1"),
        (np.array([[0, 0, 5, 5.0]]), [0, 0], "1 boxes and 2 labels"),
        (np.array([[0, 0, np.nan, 5.0]]), [0], "a side that is no number"),
    ):
        part = Source(source.items, source.ids, classes=("a",), targets=[Annotated(Path("a.png"), boxes_, labels)])
        with pytest.raises(ValueError, match=words):
            detect.Detect().check_parts(Parts("some", part, None, part), 1)
    assert main(["finetune", "--data", str(rectangles), "--detector", "yolo", "--out", str(tmp_path)]) != 0
    assert "there is no detector 'yolo'" in capsys.readouterr().err
