"""Pruned networks: as small as was asked for, and runs like any other; and what cannot be pruned says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

for needed in ("accelerate", "matplotlib", "sklearn", "timm", "torch_pruning", "torchvision", "tqdm"):
    pytest.importorskip(needed, reason=f"the extras finetune and prune are not installed: {needed}")

import finetuning  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug.cli import main  # noqa: E402
from gpuaug.finetune import Config, Interrupted, Run, finetune, models, pruning, resume, runs, shapes, sizes  # noqa: E402
from gpuaug.finetune.pruning import prune  # noqa: E402

BASE = {"batch_size": 25, "device": "cpu", "workers": 0, "quiet": True, "robustness": 0, "augment": "none"}


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr(sizes, "SECONDS", 0.05)
    for name in ("before", "after"):
        monkeypatch.setattr(f"gpuaug.finetune.report.{name}", lambda *arguments: None)


@pytest.fixture(scope="module")
def parent(tmp_path_factory) -> Path:
    """A ResNet-20 that has seen a hundred digits."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("before", "after"):
            patch.setattr(f"gpuaug.finetune.report.{name}", lambda *arguments: None)
        config = Config(**BASE, model="resnet20", size=16, epochs=2, out=tmp_path_factory.mktemp("runs"))
        return finetune(config, parts=finetuning.few()).run


def flops(run: Path) -> int:
    model = ga.load(run, device="cpu")
    return sizes.flops_of(model.model, model.shape)


def test_a_pruned_run_has_the_share_and_is_a_run_like_any_other(parent, tmp_path, capsys):
    said = []
    done = prune(parent, flops=0.6, steps=2, epochs=1, out=tmp_path, parts=finetuning.few(), say=said.append)
    assert [words.split(":")[0] for words in said] == ["step 1 of 2", "step 2 of 2"]
    assert 0.4 < flops(done.run) / flops(parent) <= 0.6
    assert done.after.flops == flops(done.run) and done.before.flops == flops(parent)
    assert done.after.parameters < done.before.parameters and done.after.nbytes < done.before.nbytes
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [done.run.name]  # no step between is left
    model = ga.load(done.run, device="cpu")
    assert any(one.out_channels not in (16, 32, 64) for one in model.modules() if isinstance(one, torch.nn.Conv2d))
    few = finetuning.few()
    evaluation = model.evaluate(few.test)
    assert evaluation.top1 == pytest.approx(done.result.after)
    stored = Run(done.run).json(sizes.FILE)
    assert stored["made_by"] == "prune" and stored["parent"] == parent.name and len(stored["rows"]) == 2
    with torch.no_grad():
        x = torch.rand(3, *model.shape)
        for ending in (".safetensors", ".pt2"):
            model.export(tmp_path / f"model{ending}")
        again = ga.load(tmp_path / "model.safetensors", device="cpu")
        assert torch.allclose(again(x), model(x), atol=1e-5)
        program = torch.export.load(tmp_path / "model.pt2").module()
        assert torch.allclose(program(x), model(x), atol=1e-4)
    assert "a pruned network" in Run(done.run).resolved["weights"]


def test_a_pruned_run_is_fine_tuned_pruned_and_resumed_again(parent, tmp_path):
    few = finetuning.few()
    once = prune(parent, parameters=0.7, epochs=1, out=tmp_path, parts=few)
    assert 0.5 < once.after.parameters / once.before.parameters <= 0.7
    twice = prune(once.run, parameters=0.7, epochs=1, out=tmp_path, parts=few)
    assert twice.before.parameters == once.after.parameters and twice.after.parameters <= 0.7 * once.after.parameters
    config = Config(**BASE, weights=str(once.run / runs.WEIGHTS), epochs=2, checkpoint_steps=1, out=tmp_path)
    calls = []

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        calls.append(logits.requires_grad)
        if sum(calls) == 3 and logits.requires_grad and "stop" in stop:
            import signal

            stop.clear()
            signal.raise_signal(signal.SIGINT)
        return torch.nn.functional.cross_entropy(logits, labels)

    stop: set[str] = set()
    whole = finetune(config, parts=few, loss=loss)
    calls.clear()
    stop.add("stop")
    with pytest.raises(Interrupted) as stopped:
        finetune(config, parts=few, loss=loss)
    other = resume(stopped.value.run, parts=few, loss=loss)
    one, two = load_file(whole.run / runs.WEIGHTS), load_file(other.run / runs.WEIGHTS)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert flops(whole.run) == once.after.flops


def test_a_pruned_network_learns_from_its_parent_too(parent, tmp_path):
    done = prune(parent, flops=0.6, steps=2, epochs=1, distill=True, out=tmp_path, parts=finetuning.few())
    known = Run(done.run).resolved
    assert [one["run"] for one in known["teacher"]] == [parent.name]
    assert any(words.startswith(f"teacher {parent.name}: soft targets") for words in known["decisions"])


def test_a_pruned_network_learns_other_classes(parent, tmp_path):
    done = prune(parent, flops=0.6, epochs=1, out=tmp_path, parts=finetuning.few())
    model, origin = models.build("resnet20", 3, str(done.run / runs.WEIGHTS), 16, classes=("a", "b", "c"))
    assert model(torch.zeros(2, 3, 16, 16)).shape == (2, 3) and "new classifier" in origin
    assert sizes.parameters_of(model.layer1) == sizes.parameters_of(ga.load(done.run, device="cpu").model.layer1)


@pytest.mark.parametrize(("name", "size"), [("test_efficientnet", 32), ("test_resnet", 32)])
def test_networks_of_timm_are_told_and_made_again(name, size):
    torch.manual_seed(0)
    model, _ = models.build(name, 4, None, size)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    about = pruning.saved.About(name, "full", tuple("abcd"), False, size, None, "bilinear", (0.5,) * 3, (0.5,) * 3)
    parent = pruning.saved.Classifier(model, about)
    few = finetuning.few().train.subset(range(40))
    few = ga.data.Source(few.images, few.ids, few.labels % 4, tuple("abcd"))
    whole = sizes.flops_of(model, parent.shape)
    pruning.cut(pruning._library(), model, parent, few, "flops", 0.5 * whole)
    assert 0.3 < sizes.flops_of(model, parent.shape) / whole <= 0.5
    told = json.loads(json.dumps(shapes.difference(model, pruning.fresh(about))))
    again = pruning.fresh(about)
    models.reshape(again, told)
    again.load_state_dict(model.state_dict())
    x = torch.rand(2, *parent.shape)
    assert torch.equal(again.eval()(x), model.eval()(x))


def test_what_cannot_be_pruned_says_why(parent, tmp_path, capsys):
    few = finetuning.few()
    for options, words in (
        ({"flops": 1.5}, r"flops must be in \(0, 1\), the share that is left; got 1.5"),
        ({"flops": 0.5, "parameters": 0.5}, "flops and parameters cannot be asked for together: leave one out"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"flops": 0.01, "parts": few}, "are the least, .* were wanted; ask for a larger share"),
        ({}, "it was given its parts in Python; hand the same to prune"),
        ({"model": few, "parts": few}, "prune: model cannot be given; it takes parts, augment, loss and metrics"),
    ):
        with pytest.raises(ValueError, match=words) as raised:
            prune(parent, out=tmp_path, **options)
        assert "\n" not in str(raised.value)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    assert main(["prune", str(parent), "--flops", "2"]) == 2
    assert capsys.readouterr().err == "gpuaug: --flops must be in (0, 1), the share that is left; got 2\n"
    facts = json.loads((parent / runs.CONFIG).read_text())
    facts["resolved"]["task"] = "text"
    (tmp_path / "1-text").mkdir()
    (tmp_path / "1-text" / runs.CONFIG).write_text(json.dumps(facts))
    assert main(["prune", "1", "--out", str(tmp_path)]) == 2
    assert "prune has no effect with task=text (it is for image classification)" in capsys.readouterr().err


def test_a_description_of_another_network_is_refused(parent, tmp_path):
    told = {"numbers": {"layer9.0.conv1": {"out_channels": 3}}, "tensors": {}}
    state, about = load_file(parent / runs.WEIGHTS), pruning.saved.About.read(parent / runs.WEIGHTS)
    path = tmp_path / "other.safetensors"
    save_file(state, path, pruning.replace(about, details={shapes.TOLD: told}).dumped())
    with pytest.raises(ValueError, match="of a pruned network that has layer9.0.conv1 otherwise"):
        ga.load(path, device="cpu")
    for attribute, value in (("stride", 2), ("forward", 3), ("out_channels", "x"), ("nothing", 1)):
        with pytest.raises(ValueError, match="of a pruned network"):
            shapes.reshape(models.ResNet20(), {"numbers": {"layer1.0.conv1": {attribute: value}}, "tensors": {}})


def test_a_vision_transformer_is_refused_in_one_line():
    model, _ = models.build("test_vit", 4, None, 160)
    about = pruning.saved.About("test_vit", "full", tuple("abcd"), False, 160, None, "bilinear", (0.5,) * 3, (0.5,) * 3)
    source = ga.data.Source(
        torch.zeros(4, 3, 160, 160, dtype=torch.uint8), torch.arange(4), torch.arange(4), tuple("abcd")
    )
    with pytest.raises(
        ValueError, match="test_vit: torch-pruning cannot follow it .*; it is for convolutions"
    ) as raised:
        pruning.cut(pruning._library(), model, pruning.saved.Classifier(model, about), source, "flops", 1.0)
    assert "\n" not in str(raised.value)
