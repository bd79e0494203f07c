"""Ensembles: the mean of runs' probabilities, as a run that loads, predicts, is evaluated and exported like any."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch

for needed in ("accelerate", "matplotlib", "scipy", "sklearn", "timm", "torchvision", "tqdm", "tyro"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

import finetuning  # noqa: E402
import several  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug.cli import main  # noqa: E402
from gpuaug.finetune import Config, Run, comparing, ensembles, finetune  # noqa: E402
from gpuaug.finetune.metrics import wilson  # noqa: E402
from gpuaug.finetune.saved_ensemble import Ensemble, mean_logits  # noqa: E402

OTHERS = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25)}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return several.save(tmp_path_factory.mktemp("data") / "four")


@pytest.fixture(scope="module")
def three(data, tmp_path_factory):
    """Two seeds, and another model with another normalisation."""
    out = tmp_path_factory.mktemp("runs")
    with several.unreported():
        found = [several.trained(data, out, seed=seed) for seed in (0, 1)]
        return [*found, several.trained(data, out, seed=2, model="test_vit", **OTHERS)]


@pytest.fixture
def runs(three, tmp_path):
    """Of its own for each test."""
    out = tmp_path / "runs"
    return [Run(shutil.copytree(run.folder, out / run.folder.name)) for run in three]


@pytest.fixture
def undrawn(monkeypatch):
    monkeypatch.setattr("gpuaug.finetune.page.write", lambda folder: Run(folder).path("report.html").touch())


def test_the_command_makes_a_run_of_the_mean(runs, capsys):
    names = [str(run.folder) for run in runs]
    out = runs[0].folder.parent
    assert main(["evaluate", *names, "--out", str(out), "--device", "cpu", "--workers", "0"]) == 0
    shown = capsys.readouterr().out
    made = Run(out / "004-ensemble-four-of-3")
    mean = torch.stack([several.probabilities(run) for run in runs]).mean(0)
    assert torch.allclose(several.probabilities(made), mean, atol=1e-6)
    assert [list(run.predictions["ids"]) for run in runs] == [list(made.predictions["ids"])] * 3
    right = int((mean.argmax(1) == torch.from_numpy(made.predictions["labels"])).sum())
    assert made.evaluation.top1_interval == wilson(right, len(mean))
    assert f"│ {100 * wilson(right, len(mean))[0]:.1f} to " in shown and "004-ensemble-four-of-3" in shown
    assert {p.name for p in made.folder.iterdir()} == {
        "config.json", "state.json", "metrics.jsonl", "best.safetensors", "predictions.npz", "evaluation.json",
        "pictures", "report.html",
    }  # fmt: skip
    page = (made.folder / "report.html").read_text(encoding="utf-8")
    assert "<h2>Made of</h2>" in page and all(run.name in page for run in runs) and "<h2>Training</h2>" not in page
    line = comparing.summary(made)
    assert (line.state, line.model, line.recipe, line.epochs) == ("done", "ensemble", "mean of 3", None)
    assert line.score == made.evaluation.top1 == made.event("after")["test_accuracy"]
    assert comparing.best([*runs, made], "accuracy").among == 4
    rows, told = comparing.against(comparing.read([runs[0].folder, made.folder]))
    assert not told and rows[0][-1] == len(mean)


def test_the_same_ensemble_is_found_again(runs, data, undrawn, capsys):
    out = runs[0].folder.parent
    line = ["evaluate", "1", "2", "--out", str(out), "--device", "cpu", "--workers", "0", "--json"]
    first, again, other, turned = [], [*line], [*line, "--data", str(data)], ["evaluate", "2", "1", *line[3:]]
    for args in (line, again, other, turned):
        assert main(args) == 0
        first.append(json.loads(capsys.readouterr().out)["folder"])
    made = out / "004-ensemble-four-of-2"
    assert first == [
        str(made), str(made / "evaluations" / "001-four"), str(made / "evaluations" / "002-four"),
        str(out / "005-ensemble-four-of-2"),
    ]  # fmt: skip
    assert Run(made / "evaluations" / "001-four").evaluation.as_dict() == Run(made).evaluation.as_dict()


def test_it_loads_predicts_and_exports_as_any_run(runs, data, undrawn, tmp_path):
    made = ensembles.ensemble([run.folder for run in runs], runs[0].folder.parent, device="cpu", workers=0)
    for run in runs:
        shutil.rmtree(run.folder)  # it has all that it needs
    model = ga.load(made.folder, device="cpu")
    assert isinstance(model, Ensemble) and len(model.members) == 3
    files = sorted((data / "two").iterdir())[:5]
    found = model.predict(files, workers=0)
    alone = torch.stack([one.predict(files, workers=0).probabilities for one in model.members])
    assert torch.allclose(found.probabilities, alone.mean(0), atol=1e-6) and alone.std(0).max() > 0.01
    x = torch.rand(3, 3, 16, 16)
    for name in ("it.pt2", "it.safetensors"):
        assert model.export(tmp_path / name).logits < 1e-4
    again = ga.load(tmp_path / "it.safetensors", device="cpu")
    with torch.inference_mode():
        assert torch.equal(again(x), model(x))
        means = torch.stack([one.probabilities(one(x)) for one in model.members]).mean(0)
        assert torch.allclose(model.probabilities(model(x)), means, atol=1e-6)


def test_a_list_of_runs_loads_as_their_ensemble(runs, data):
    model = ga.load([run.folder for run in runs], device="cpu")
    assert model.path is None and model.classes == several.NAMES
    assert len(ga.load([model.path or run.folder for run in runs[:2]], device="cpu").members) == 2
    x = torch.rand(4, 3, 16, 16)
    with torch.inference_mode():
        alone = [ga.load(run.folder, device="cpu") for run in runs]
        means = torch.stack([one.probabilities(one(x)) for one in alone]).mean(0)
        assert torch.allclose(model.probabilities(model(x)), means, atol=1e-6)
    assert model.evaluate(data, workers=0).n == 240
    nested = Ensemble.of([model, *alone[:1]])
    assert len(nested.members) == 4  # each counts once
    with pytest.raises(ValueError, match="model= is for one run"):
        ga.load([runs[0].folder], model=torch.nn.Linear(1, 1))


def test_several_labels_have_probabilities_of_their_own():
    logits = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0)) * 4
    assert torch.allclose(mean_logits(logits, True).sigmoid(), logits.sigmoid().mean(0), atol=1e-6)
    assert torch.allclose(mean_logits(logits, False).softmax(1), logits.softmax(2).mean(0), atol=1e-6)
    assert mean_logits(100 * logits, True).isfinite().all()


def test_runs_that_do_not_go_together_are_refused_in_one_line(runs, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("gpuaug.finetune.report.after", lambda job: None)
    out, first = runs[0].folder.parent, runs[0].name
    fewer = several.save(tmp_path / "fewer", 30)
    shutil.rmtree(fewer / "two")
    cases = {
        "its classes are not those of {}: it lacks two (3 and 4 classes)": {"data": fewer},
        "side of the input is not that of {}: 24 and 16": {"size": 24, "resize": 24},
        "its data are not those of {}: other images, or a different split of them": {"val_fraction": 0.1},
        "its data are not those of {}: less and four": {"data": several.save(tmp_path / "less", 40)},
    }
    for words, options in cases.items():
        other = several.trained(options.pop("data", data), out, epochs=1, **options)
        assert main(["evaluate", first, other.name, "--out", str(out), "--device", "cpu"]) == 2
        told = capsys.readouterr().err
        assert told == f"gpuaug: {other.name}: {words.format(first)}\n"
    for args, words in (
        ([first, first], f"{first}: named twice; an ensemble is of different runs"),
        ([], "evaluate: name a run, or several; gpuaug runs lists them"),
    ):
        assert main(["evaluate", *args, "--out", str(out), "--device", "cpu"]) == 2
        assert capsys.readouterr().err == f"gpuaug: {words}\n"
    alone = tmp_path / "alone.safetensors"
    shutil.copy(runs[0].path("best.safetensors"), alone)
    assert main(["evaluate", first, str(alone), "--out", str(out), "--device", "cpu"]) == 2
    assert "there is no config.json beside it; an ensemble is of runs, in their folders" in capsys.readouterr().err
    model = ga.load(runs[0].folder, device="cpu")
    model.about = replace(model.about, task="segment")
    with pytest.raises(ValueError, match="it is of the task segment, and an ensemble is of classify alone"):
        Ensemble.of([ga.load(runs[1].folder, device="cpu"), model])
    model.about = replace(model.about, task="classify", classes=several.NAMES[::-1])
    with pytest.raises(ValueError, match="the same ones in another order, number 0 is zero and one"):
        Ensemble.of([ga.load(runs[1].folder, device="cpu"), model])
    assert not list(out.glob("*ensemble*"))


def test_data_that_were_made_in_python(tmp_path, monkeypatch):
    monkeypatch.setattr("gpuaug.finetune.report.after", lambda job: None)
    parts, options = finetuning.few(), several.QUICK | {"out": tmp_path, "val_fraction": None, "resize": None}
    names = [finetune(Config(**options, seed=seed), parts=parts).run for seed in (0, 1)]
    with pytest.raises(ValueError, match=r"parts= are not those of 001-.*; hand over the same"):
        ensembles.ensemble(names, tmp_path, parts=replace(parts, test=parts.val), device="cpu")
    assert not list(tmp_path.glob("*ensemble*"))
    made = ensembles.ensemble(names, tmp_path, parts=parts, device="cpu", workers=0)
    assert made.tested.evaluation.n == 51 and Run(made.folder).evaluation.n == 51
    untested = ensembles.ensemble(names, tmp_path, device="cpu", workers=0)
    assert untested.tested is None and comparing.summary(Run(untested.folder)).state == "done"
