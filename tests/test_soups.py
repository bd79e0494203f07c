"""Soups: the mean of runs' weights, with batch norms of its own, as a run like any other."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch

for needed in ("accelerate", "matplotlib", "scipy", "sklearn", "timm", "torchvision", "tqdm", "tyro"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

import finetuning  # noqa: E402
import several  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from torch import nn  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug.cli import main  # noqa: E402
from gpuaug.finetune import Config, Run, averaging, combined, comparing, ensembles, finetune, soups  # noqa: E402
from gpuaug.finetune.saved import About  # noqa: E402

STATISTICS = ("running_mean", "running_var")
GIVEN = {"val_fraction": None, "resize": None}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return several.save(tmp_path_factory.mktemp("data") / "four")


@pytest.fixture(scope="module")
def three(data, tmp_path_factory):
    """One that learned as it should, one whose answers were turned around, and another seed."""
    out = tmp_path_factory.mktemp("runs")
    with several.unreported():
        options = [{"epochs": 5}, {"epochs": 1}, {"epochs": 5, "seed": 1}]
        found = [several.trained(data, out, **{"lr": 0.05} | one) for one in options]
    path = found[1].path("best.safetensors")
    about = About.read(path).dumped()
    turned = {name: -20 * value if name.startswith("fc.") else value for name, value in of(found[0]).items()}
    save_file(turned, path, about)
    return found


@pytest.fixture
def runs(three, tmp_path):
    """Of its own for each test."""
    out = tmp_path / "runs"
    return [Run(shutil.copytree(run.folder, out / run.folder.name)) for run in three]


@pytest.fixture
def undrawn(monkeypatch):
    monkeypatch.setattr("gpuaug.finetune.page.write", lambda folder: Run(folder).path("report.html").touch())


def of(run):
    return load_file(run.path("best.safetensors"))


def test_the_command_averages_weights_and_counts_batch_norms_anew(runs, data, capsys):
    out = runs[0].folder.parent
    assert main(["runs", "soup", "1", "2", "3", "--out", str(out), "--device", "cpu", "--workers", "0"]) == 0
    shown, made = capsys.readouterr().out, Run(out / "004-test_resnet-four-soup")
    assert f"wrote {made.folder}" in shown and all(run.name in shown for run in runs)
    state, states = of(made), [of(run) for run in runs]
    for name, value in state.items():
        if value.is_floating_point() and not name.endswith(STATISTICS):
            mean = torch.stack([one[name].double() for one in states]).mean(0).float()
            assert torch.equal(value, mean), name
    # The first batch norm's statistics, of the training images as validation sees them
    model = ga.load(made.folder, device="cpu")
    x = []
    (bn, name), *_ = [(m, n) for n, m in model.model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    hook = bn.register_forward_pre_hook(lambda module, inputs: x.append(inputs[0]))
    train = model.matched(combined.part_of(runs[0], "train", None))[0]
    model.predict(train, workers=0, batch_size=16)
    hook.remove()
    means = torch.stack([batch.mean((0, 2, 3)) for batch in torch.cat(x).split(16)])
    assert torch.allclose(bn.running_mean, means.mean(0), atol=1e-5), name
    averaged = torch.stack([one[f"{name}.running_mean"] for one in states]).mean(0)
    assert not torch.allclose(bn.running_mean, averaged, atol=1e-3)
    assert [one["run"] for one in made.members] == [run.name for run in runs]
    assert "batch norms: statistics of the" in " ".join(made.resolved["decisions"])
    page = (made.folder / "report.html").read_text(encoding="utf-8")
    assert "<h2>Made of</h2>" in page and "soup of 3" in page
    assert comparing.summary(made).score == made.evaluation.top1 and comparing.summary(made).state == "done"
    assert comparing.figure(made, "val_accuracy")[0] == made.event("after")["val_accuracy"]
    # ... evaluates, predicts and exports as any run
    assert main(["evaluate", "4", "--out", str(out), "--device", "cpu", "--workers", "0"]) == 0
    again = Run(made.folder / "evaluations" / "001-four")
    assert again.evaluation.as_dict() == made.evaluation.as_dict()
    assert len(model.predict(data / "two", workers=0)) == 60
    assert model.export(made.folder / "it.pt2").logits < 1e-4


def test_a_greedy_soup_leaves_out_what_makes_it_worse(runs, undrawn):
    out, calls = runs[0].folder.parent, []
    made = Run(soups.soup([1, 2, 3], out, greedy=True, device="cpu", workers=0).folder)
    alone = {one["run"]: one["val_accuracy"] for one in made.members}
    assert list(alone.values()) == sorted(alone.values(), reverse=True)
    assert made.members[-1]["run"] == runs[1].name and made.members[-1]["taken"] == "no"
    best = -1.0
    for one in made.members:
        calls.append(one["val_accuracy_with_it"] >= best)
        best = max(best, one["val_accuracy_with_it"])
        assert one["taken"] == ("yes" if calls[-1] else "no")
    taken = [one["run"] for one in made.members if one["taken"] == "yes"]
    assert made.resolved["recipe"] == f"greedy soup of {len(taken)}" and made.event("after")["val_accuracy"] == best
    assert made.resolved["weights"] == f"of {', '.join(taken)}"
    states = [of(run) for run in runs if run.name in taken]
    if len(taken) == 1:
        assert all(torch.equal(value, states[0][name]) for name, value in of(made).items())
    else:
        mean = torch.stack([state["fc.weight"].double() for state in states]).mean(0).float()
        assert torch.equal(of(made)["fc.weight"], mean)
    assert alone[runs[0].name] > 0.5
    for run in (runs[0], runs[2]):  # the validation's accuracy of each is that of its own run
        kept = run.history[run.event("after")["best_epoch"] - 1]
        assert alone[run.name] == pytest.approx(kept["val_accuracy"], abs=1e-6)


def test_greedy_never_asks_the_test_part(runs, undrawn, monkeypatch):
    asked, part_of = [], combined.part_of
    monkeypatch.setattr(combined, "part_of", lambda run, part, parts: asked.append(part) or part_of(run, part, parts))
    write = combined.write

    def noted(*arguments, **named):
        asked.append("written")
        return write(*arguments, **named)

    monkeypatch.setattr(combined, "write", noted)
    soups.soup([1, 3], runs[0].folder.parent, greedy=True, device="cpu", workers=0)
    assert asked == ["train", "val", "written", "test"]


def test_runs_that_make_no_soup_are_refused_in_one_line(runs, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("gpuaug.finetune.report.after", lambda job: None)
    out, first = runs[0].folder.parent, runs[0].name
    vit = several.trained(data, out, epochs=1, model="test_vit")
    other = several.trained(data, out, epochs=1, mean=(0.4, 0.4, 0.4))
    bare = several.trained(data, tmp_path / "bare", epochs=1, val_fraction=0.0)
    more = several.trained(data, tmp_path / "bare", epochs=1, val_fraction=0.0, seed=1)
    cases = [
        ([first, vit.name], f"{vit.name}: model is not that of {first}: test_vit and test_resnet"),
        ([first, other.name], f"{other.name}: mean is not that of {first}: (0.4, 0.4, 0.4) and (0.5, 0.5, 0.5)"),
        ([first], "a soup is of two models or more; name another run"),
        ([str(bare.folder), str(more.folder), "--greedy"], "--greedy goes by the held-out part, and 001-"),
        ([first, first], f"{first}: named twice; a soup is of different runs"),
    ]
    for args, words in cases:
        assert main(["runs", "soup", *args, "--out", str(out), "--device", "cpu"]) == 2
        told = capsys.readouterr().err
        assert told.startswith(f"gpuaug: {words.removeprefix('--')}") and told.count("\n") == 1
    assert not list(out.glob("*soup*"))
    members = combined.members([1, 2], out, "cpu", "a soup")
    del members[1].model.model.fc
    with pytest.raises(ValueError, match=r"its weights are not those of the model of .*: 2 tensors differ: fc.bias"):
        soups.check_tensors(members)


def test_a_model_without_batch_norms_and_data_of_python(tmp_path, undrawn, monkeypatch):
    monkeypatch.setattr("gpuaug.finetune.report.after", lambda job: None)
    parts, options = finetuning.few(), several.QUICK | GIVEN | {"model": "test_vit", "epochs": 1, "out": tmp_path}
    names = [finetune(Config(**options, seed=seed), parts=parts).run for seed in (0, 1)]
    made = soups.soup(names, tmp_path, parts=parts, device="cpu", workers=0)
    assert not any("batch norms" in words for words in made.told) and made.tested.evaluation.n == 51
    mean = {k: (v.double() + of(Run(names[1]))[k].double()) / 2 for k, v in of(Run(names[0])).items()}
    assert all(torch.equal(value, mean[name].float()) for name, value in of(Run(made.folder)).items())
    with pytest.raises(ValueError, match="its data were made in Python"):
        soups.soup(names, tmp_path, device="cpu")
    with pytest.raises(ValueError, match=r"parts= are not those of 001-.*; hand over the same"):
        soups.soup(names, tmp_path, parts=replace(parts, test=parts.val), device="cpu")


def test_statistics_of_batch_norms_are_those_of_the_images():
    torch.manual_seed(3)
    model = nn.Sequential(nn.BatchNorm2d(2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, 3), nn.BatchNorm1d(3))
    x, generator = torch.randn(4, 6, 2, 2, 2) * 3 + 1, torch.get_rng_state()
    assert list(averaging.batch_norms(model)) == ["0", "4"]
    averaging.refresh_bn(model, [(one, None) for one in [*x, x[0][:1]]], ["0"])
    assert torch.allclose(model[0].running_mean, x.mean((0, 1, 3, 4)), atol=1e-6)
    variances = torch.stack([one.transpose(0, 1).flatten(1).var(1) for one in x]).mean(0)
    assert torch.allclose(model[0].running_var, variances, atol=1e-5) and model[0].momentum == 0.1
    assert torch.equal(model[4].running_mean, torch.zeros(3))  # it was not named
    assert model.training and model[2].training and torch.equal(torch.get_rng_state(), generator)
    averaging.refresh_bn(model.eval(), [(one, None) for one in x], ["4"])
    with torch.no_grad():
        means = [
            model[3](
                (
                    (one - model[0].running_mean[:, None, None]) / (model[0].running_var[:, None, None] + 1e-5).sqrt()
                ).flatten(1)
            )
            for one in x
        ]
    assert torch.allclose(model[4].running_mean, torch.stack(means).mean((0, 1)), atol=1e-5)  # and dropout is off


def test_batch_norms_that_were_frozen_stay(runs):
    members = combined.members([1, 3], runs[0].folder.parent, "cpu", "a soup")
    every = list(averaging.batch_norms(members[0].model.model))
    assert soups.mixed(members) == every and soups.mixed(members[:1]) == []
    first, second = (one.model.model.get_submodule(every[0]) for one in members)
    second.load_state_dict(first.state_dict())
    assert soups.mixed(members) == every[1:]


def test_an_ensemble_goes_into_no_soup(runs, undrawn):
    out = runs[0].folder.parent
    made = [ensembles.ensemble(names, out, device="cpu", workers=0).folder for names in ((1, 3), (3, 1))]
    with pytest.raises(ValueError, match="004-ensemble-four-of-2: an ensemble, and a soup is of single models"):
        soups.soup(made, out, device="cpu")
