"""gpuaug evaluate: a run's model on its own data and on others, judged by torchvision, Pillow and scikit-learn."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

for needed in ("accelerate", "matplotlib", "scipy", "sklearn", "timm", "torchvision", "tqdm", "tyro"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

from PIL import Image  # noqa: E402
from sklearn import metrics as judge  # noqa: E402
from torchvision.transforms.v2 import functional as F  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug.cli import main  # noqa: E402
from gpuaug.data import DataError, Parts, Source, digits, folder  # noqa: E402
from gpuaug.finetune import Config, Run, evaluations, finetune, page_comparison, testing  # noqa: E402
from gpuaug.finetune.evaluations import Asked  # noqa: E402
from gpuaug.finetune.metrics import wilson  # noqa: E402

NAMES = ("zero", "one", "two", "three")
QUICK = {"model": "test_resnet", "epochs": 1, "batch_size": 16, "lr": 0.02, "device": "cpu", "workers": 0}
QUICK |= {"quiet": True, "robustness": 0, "size": 16, "resize": 16}


def some() -> Source:
    """Sixty images each of four digits."""
    source = digits(16)
    return source.subset([i for k in range(4) for i in (source.labels == k).nonzero()[:60, 0].tolist()])


def save(root: Path, names: Sequence[str] = NAMES, numbers=range(240)) -> Path:
    """Class folders of PNG files; a digit is in the folder of its name."""
    source = some()
    for i in numbers:
        path = root / names[int(source.labels[i])] / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(source.images[i].permute(1, 2, 0).numpy()).save(path)
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return save(tmp_path_factory.mktemp("data") / "four")


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Run:
    return Run(finetune(Config(data=str(data), val_fraction=0.1, out=tmp_path_factory.mktemp("runs"), **QUICK)).run)


@pytest.fixture
def pages() -> None:
    """Of a test that wants what is drawn of an evaluation."""


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch) -> None:
    """What is drawn takes longer than all else."""
    if "pages" not in request.fixturenames:
        monkeypatch.setattr("gpuaug.finetune.page.write", lambda folder: None)


@pytest.fixture
def run(trained, tmp_path) -> Run:
    """A run of its own, without what others have evaluated."""
    return Run(shutil.copytree(trained.folder, tmp_path / "runs" / trained.folder.name))


def answers(run: Run, files: Sequence[Path], flip: bool = False) -> np.ndarray:
    """Logits [N, K], of Pillow's pixels and torchvision's normalisation."""
    x = torch.stack([torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1) for file in files])
    x = F.normalize(x.float() / 255, [0.5] * 3, [0.5] * 3)
    model = ga.load(run.folder, device="cpu").model
    with torch.inference_mode():
        made = model(x)
        return ((made + model(x.flip(-1))) / 2 if flip else made).numpy()


def evaluate(run: Run, **asked) -> evaluations.Made:
    return evaluations.evaluate(Asked(str(run.folder), device="cpu", workers=0, **asked))


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# The run's own data


def test_the_runs_own_test_part_gives_the_runs_own_numbers(run, pages):
    before = content(run.folder)
    made = evaluate(run)
    assert made.folder == run.folder / "evaluations" / "001-four"
    found = Run(made.folder)
    assert found.evaluation.as_dict() == run.evaluation.as_dict() == made.tested.evaluation.as_dict()
    for name, value in run.predictions.items():
        assert np.array_equal(found.predictions[name], value), name
    assert {p.name for p in made.folder.iterdir()} == {
        "config.json", "evaluation.json", "predictions.npz", "pictures", "report.html"
    }  # fmt: skip
    assert {p.stem for p in (made.folder / "pictures").iterdir()} == {"calibration", "confusion", "mistakes"}
    assert evaluate(run).folder.name == "002-four"
    after = content(run.folder)
    assert {name: value for name, value in after.items() if not name.startswith("evaluations")} == before


def test_a_part_of_the_runs_own_data(run, data):
    made = evaluate(run, part="all")
    assert made.tested.evaluation.n == 240 and made.told == ["all images"]
    files = [path for name in NAMES for path in sorted((data / name).iterdir())]
    by_path = dict(zip(map(str, files), answers(run, files), strict=True))
    stored = Run(made.folder).predictions
    for path, logits in zip(stored["paths"], stored["logits"], strict=True):
        assert logits == pytest.approx(by_path[str(path)], abs=1e-4)
    counts = {part: evaluate(run, part=part).tested.evaluation.n for part in ("train", "val", "test")}
    assert counts == run.resolved["images"]


def test_a_run_of_features_and_of_half_precision(data, tmp_path):
    for options in ({"recipe": "probe", "epochs": 3}, {"precision": "bf16", "tta": "flip"}):
        run = Run(finetune(Config(data=str(data), val_fraction=0.1, out=tmp_path, **QUICK | options)).run)
        made = evaluate(run)
        stored = Run(made.folder).predictions["logits"]
        assert np.allclose(stored, run.predictions["logits"], atol=1e-5), options
        assert made.tested.evaluation.top1 == pytest.approx(run.event("after")["test_accuracy"])
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)


# Other data


def test_class_folders_are_all_used_whatever_their_number(run, tmp_path):
    chosen = [i for i in range(60, 240) if i % 7 == 0 and not 120 <= i < 180]
    made = evaluate(run, data=str(save(tmp_path / "few", numbers=chosen)))
    files = [path for name in ("one", "three") for path in sorted((tmp_path / "few" / name).iterdir())]
    logits, truth = answers(run, files), [sorted(NAMES).index(path.parent.name) for path in files]
    found, guess = made.tested.evaluation, logits.argmax(1)
    assert found.n == len(chosen) and "all images" in made.told
    assert made.told[-1] == "2 of the model's 4 classes are there, one, three; the others are still answers"
    assert found.top1 == pytest.approx(judge.accuracy_score(truth, guess))
    assert found.top1_interval == wilson(int((guess == truth).sum()), len(truth))
    assert np.array_equal(found.confusion, judge.confusion_matrix(truth, guess, labels=range(4)))
    recalls = judge.recall_score(truth, guess, labels=[0, 1], average=None)
    assert found.balanced_accuracy == pytest.approx(recalls.mean())
    probabilities = torch.from_numpy(logits).double().softmax(1).numpy()
    assert found.loss == pytest.approx(judge.log_loss(truth, probabilities, labels=range(4)), rel=1e-4)
    alone = evaluate(run, data=str(save(tmp_path / "alone", numbers=range(5))))
    assert alone.tested.evaluation.n == 5 and alone.told[-1].startswith("1 of the model's 4 classes are there, zero;")


def test_classes_are_found_by_name_in_any_order(run, data):
    model, source = ga.load(run.folder, device="cpu"), folder(data)
    turned = replace(source, labels=3 - source.labels, classes=source.classes[::-1])
    assert model.classes == source.classes == tuple(sorted(NAMES))
    one, other = model.evaluate(source, workers=0), model.evaluate(turned, workers=0)
    assert one.as_dict() == other.as_dict() and one.classes == model.classes
    assert model.evaluate(data, workers=0).as_dict() == one.as_dict()


def test_flipped_images_are_averaged(run, data, tmp_path):
    save(tmp_path / "few", numbers=range(0, 240, 9))
    made = evaluate(run, data=str(tmp_path / "few"), tta="flip")
    stored = Run(made.folder).predictions
    assert stored["logits"] == pytest.approx(answers(run, stored["paths"], flip=True), abs=1e-4)
    assert abs(stored["logits"] - answers(run, stored["paths"])).max() > 0.01


def test_images_of_other_sizes_are_scaled(run, tmp_path):
    save(tmp_path / "large", numbers=range(0, 240, 12))
    for path in (tmp_path / "large").rglob("*.png"):
        image = Image.open(path)
        image.resize((48, 40), Image.Resampling.BICUBIC).save(path)
    assert evaluate(run, data=str(tmp_path / "large")).tested.evaluation.n == 20


def test_classes_that_the_run_does_not_know(run, tmp_path, capsys):
    names = ("zeroo", "one", "two", "seven")
    root = save(tmp_path / "odd", names)
    with pytest.raises(DataError) as told:
        evaluate(run, data=str(root))
    assert str(told.value) == (
        "odd: the model does not know the classes seven, zeroo; it knows one, three, two, zero. Rename what is meant, "
        "or leave the images out: --ignore-unknown"
    )
    assert not (run.folder / "evaluations").exists()
    (root / "seven").rename(tmp_path / "seven")
    with pytest.raises(DataError, match=r"the class zeroo; did you mean 'zero'\?; it knows"):
        evaluate(run, data=str(root))
    made = evaluate(run, data=str(root), ignore_unknown=True)
    assert made.tested.evaluation.n == 120
    assert "left out: 60 images of classes that the model does not know, zeroo" in made.told
    with pytest.raises(DataError, match="sevens: no image is of a class that the model knows: one, three, two, zero"):
        (tmp_path / "sevens").mkdir()
        (tmp_path / "seven").rename(tmp_path / "sevens" / "seven")
        evaluate(run, data=str(tmp_path / "sevens"), ignore_unknown=True)


def test_the_parts_of_folders(run, tmp_path):
    root, every = tmp_path / "parts", range(240)
    save(root / "train", numbers=every[::2])
    save(root / "valid", numbers=every[1::6])
    asked = {
        None: (40, "the folder valid, there is none of tests"), "val": (40, "the folder valid"),
        "train": (120, "the folder train"), "all": (160, "all images: the folders train, valid"),
    }  # fmt: skip
    for part, (n, words) in asked.items():
        made = evaluate(run, data=str(root), part=part)
        assert (made.tested.evaluation.n, made.told[0]) == (n, words)
    save(root / "Testing", numbers=every[3::6])
    made = evaluate(run, data=str(root))
    assert made.told[0] == "the folder Testing"
    assert sorted(Path(path).name for path in Run(made.folder).predictions["paths"]) == [
        f"{i:03d}.png" for i in every[3::6]
    ]
    shutil.rmtree(root / "train")
    assert evaluate(run, data=str(root)).tested.evaluation.n == 40
    save(root / "valid", numbers=every[3::6])  # the same names in both
    assert evaluate(run, data=str(root), part="all").tested.evaluation.n == 120


def test_a_part_of_class_folders_is_what_finetune_sets_aside(run, data):
    made = evaluate(run, data=str(data), part="test")
    assert np.array_equal(Run(made.folder).predictions["ids"], run.predictions["ids"])
    assert made.told == ["the test part, which finetune sets aside: the same ones each time"]


def test_damaged_images_are_told_and_counted(run, pages, tmp_path, capsys):
    root = save(tmp_path / "damaged", numbers=range(0, 240, 12))
    bad = sorted(root.rglob("*.png"))[3]
    bad.write_bytes(bad.read_bytes()[:50])
    args = ["evaluate", str(run.folder), "--data", str(root), "--device", "cpu", "--workers", "0"]
    assert main(args) == 0
    shown = capsys.readouterr().out
    assert re.search(rf"^damaged  1 images are left out: {re.escape(str(bad))}: damaged image file", shown, re.M)
    assert "19 images " in shown
    found = Run(run.folder / "evaluations" / "001-damaged")
    assert len(found.predictions["ids"]) == found.evaluation.n == 19
    assert "1 images cannot be read, and are left out" in (found.folder / "report.html").read_text()
    with pytest.warns(UserWarning, match=r"1 of 20 images were left out: .*damaged image file"):
        assert ga.load(run.folder).evaluate(root, workers=0).n == 19
    for path in root.rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match="none of 20 images can be read; "):
        evaluate(run, data=str(root))


# Several labels


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Run:
    """Each image is of its digit, and of "odd" or "even"; the last class comes first by name."""
    source = some()
    hot = torch.cat([torch.eye(4)[source.labels], torch.stack([source.labels % 2, 1 - source.labels % 2], 1)], 1)
    both = replace(source, labels=hot.float(), classes=(*NAMES, "odd", "even"))
    rest, test = both.split(0.25, seed=0)
    parts = Parts("several", rest, None, test)
    return Run(finetune(Config(out=tmp_path_factory.mktemp("several"), **QUICK), parts=parts).run)


def test_several_labels_of_a_table(several, tmp_path):
    root = save(tmp_path / "images", numbers=range(0, 240, 5))
    files = sorted(root.rglob("*.png"))
    lines = ["path,labels,split"]
    for i, path in enumerate(files):
        k = NAMES.index(path.parent.name)
        lines.append(
            f"images/{path.parent.name}/{path.name},{NAMES[k]};{('even', 'odd')[k % 2]},{'test' * (i % 3 == 0)}"
        )
    (tmp_path / "table.csv").write_text("\n".join(lines))
    made = evaluate(several, data=str(tmp_path / "table.csv"), part="all")
    k = np.array([NAMES.index(path.parent.name) for path in files])
    truth = np.concatenate([np.eye(4)[k], (k % 2)[:, None], 1 - (k % 2)[:, None]], 1)
    logits, found = answers(several, files), made.tested.evaluation
    assert several.resolved["classes"] == [*NAMES, "odd", "even"] and found.n == 48
    assert found.map == pytest.approx(judge.average_precision_score(truth, logits, average="macro"))
    assert found.f1 == pytest.approx(judge.f1_score(truth, logits > 0, average="macro", zero_division=0))
    third = evaluate(several, data=str(tmp_path / "table.csv"))
    assert third.tested.evaluation.n == 16 and third.told[0] == "its test part"


def test_one_label_of_a_model_of_several_and_the_other_way_round(run, several, data):
    made = evaluate(several, data=str(data))
    assert "each image has one class, and counts as none of the others" in made.told
    assert made.told[-1].endswith("zero, one, two, three; the others are absent throughout")
    assert np.array_equal(Run(made.folder).predictions["labels"].sum(1), np.ones(240))
    hot = replace(some(), labels=torch.eye(4)[some().labels], classes=NAMES)
    model = ga.load(run.folder, device="cpu")
    assert model.evaluate(hot).top1 == model.evaluate(replace(some(), classes=NAMES)).top1
    hot.labels[0, 1] = 1.0
    with pytest.raises(DataError, match="images: images with several labels or none, and the model tells one"):
        model.evaluate(hot)


# The screen, JSON, the page


def test_the_screen_and_json_say_the_same(run, pages, data, capsys):
    args = ["evaluate", str(run.folder), "--device", "cpu", "--workers", "0", "--robustness", "12"]
    assert main(args) == 0
    shown = capsys.readouterr().out
    assert main([*args, "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    told, found = json.loads(line), run.evaluation
    assert told["evaluation"] == json.loads(json.dumps(found.as_dict())) and told["left_out"] == []
    low, high = found.top1_interval
    assert re.search(rf"^top-1 accuracy +│ +{found.top1:.1%} │ {100 * low:.1f} to {100 * high:.1f}$", shown, re.M)
    weakest = min(found.per_class, key=lambda line: line["recall"])
    assert re.search(rf"by recall\n +{weakest['class']} +{weakest['recall']:.1%} \(.*\) +of {weakest['n']}\n", shown)
    off = found.confusion - np.diag(found.confusion.diagonal())
    true, answer = np.unravel_index(off.argmax(), off.shape)
    assert re.search(rf"another\n +{found.classes[true]} for {found.classes[answer]} +{off.max()}, ", shown)
    measured = told["robustness"]
    assert measured["n"] == 12 and measured["of"] == len(run.predictions["ids"]) and len(measured["corruptions"]) == 30
    assert f"on 12 clean images, {measured['mean']:.1%} on corrupted ones (mean of 30)" in shown
    first, second = (Run(run.folder / "evaluations" / f"00{i}-four") for i in (1, 2))
    assert first.robustness == second.robustness == measured
    assert {p.stem for p in (first.folder / "pictures").iterdir()} >= {"robustness", "corruptions"}


def test_the_page_is_of_an_evaluation(run, pages, data):
    made = evaluate(run)
    content = (made.folder / "report.html").read_text(encoding="utf-8")
    assert f"An evaluation of the run {run.folder.name}." in content and "test images" not in content
    assert "<h2>Evaluation</h2>" in content and "<h2>Training</h2>" not in content and "<h2>Speed</h2>" not in content
    both = page_comparison.write_comparison([run.folder, made.folder], run.folder / "both.html").read_text(
        encoding="utf-8"
    )
    assert "+0.0 points (+0.0 to +0.0)" in both


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("9 --out {0}", "there is no run '9'"),
        ("{1} --data {0}/nowhere", "nowhere: no such folder"),
        ("{1} --data {0}/nowhere.csv", "nowhere.csv: cannot be read as CSV"),
        ("{1} --robustness -1", "robustness must be at least 0, got -1"),
        ("{1} --batch-size 0", "--batch-size must be at least 1, got 0"),
        ("{1} --device cuda:99", "device 'cuda:99' cannot be used"),
    ],
)
def test_bad_input_gets_one_line(run, tmp_path, capsys, args, words):
    assert main(["evaluate", *args.format(tmp_path, run.folder).split()]) == 2
    told = capsys.readouterr().err
    assert told.startswith("gpuaug: ") and words in told and told.count("\n") == 1


def test_data_that_are_no_longer_those_of_the_run(run, several, tmp_path):
    with pytest.raises(ValueError, match="its data were made in Python; name some: --data"):
        evaluate(several)
    facts = json.loads((run.folder / "config.json").read_text())
    facts["asked"]["data"] = str(save(tmp_path / "less", numbers=range(0, 240, 2)))
    (run.folder / "config.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="has no longer the images that the run began with; evaluate on what"):
        evaluate(Run(run.folder))
    with pytest.raises(
        ValueError, match=r"part must be one of train, val, test, all; got 'tests'; did you mean 'test'"
    ):
        testing.opened("digits", "tests")
    with pytest.raises(DataError, match="images: its images have no labels"):
        ga.load(run.folder).evaluate(replace(some(), labels=None))


def test_weights_that_lie_alone(run, data, tmp_path):
    weights = tmp_path / "alone" / "mine.safetensors"
    weights.parent.mkdir()
    weights.write_bytes((run.folder / "best.safetensors").read_bytes())
    made = evaluations.evaluate(Asked(str(weights), data=str(data), device="cpu", workers=0))
    assert made.folder == weights.parent / "evaluations" / "001-four" and made.name == "mine.safetensors"
    with pytest.raises(ValueError, match="there is no run here that says which data it had; name some: --data"):
        evaluations.evaluate(Asked(str(weights), device="cpu"))
