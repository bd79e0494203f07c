"""Distillation: soft targets and features of teachers, on the images as the student sees them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

for needed in ("accelerate", "matplotlib", "sklearn", "timm", "torchvision", "tqdm"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

from finetuning import few  # noqa: E402
from test_finetune_resume import Stops, same  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug.cli import main  # noqa: E402
from gpuaug.finetune import Config, Interrupted, Run, distilling, ensembles, finetune, models, resume  # noqa: E402
from gpuaug.finetune.distilling import One, Teacher, soft_loss  # noqa: E402

BASE = {"model": "test_resnet", "epochs": 2, "batch_size": 20, "device": "cpu", "workers": 0, "quiet": True}
INPUT = {"mean": (0.3, 0.4, 0.5), "std": (0.2, 0.25, 0.3)}


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch) -> None:
    for name in ("before", "after"):
        monkeypatch.setattr(f"gpuaug.finetune.report.{name}", lambda *arguments: None)


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """Two: of one kind with the student, and a larger input's with another normalisation."""
    out = tmp_path_factory.mktemp("teachers")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("before", "after"):
            patch.setattr(f"gpuaug.finetune.report.{name}", lambda *arguments: None)
        first = finetune(Config(**BASE, lr=0.05, out=out), parts=few()).run
        return first, finetune(Config(**BASE | {"model": "test_vit", "seed": 1}, **INPUT, out=out), parts=few()).run


def seen(monkeypatch) -> list:
    """Of each batch (images, the student's outputs, its own loss, the whole)."""
    batches, added = [], Teacher.added

    def noted(self, x, outputs, loss):
        whole = added(self, x, outputs, loss)
        batches.append((x.clone(), outputs.detach().clone(), loss.item(), whole.item()))
        return whole

    monkeypatch.setattr(Teacher, "added", noted)
    return batches


def divergence(student, wanted, t):
    """By hand."""
    p, q = wanted.double(), (student.double() / t).softmax(1)
    return float((t * t * (p * (p.log() - q.log())).sum(1)).mean())


def test_the_loss_is_that_of_hinton_on_the_images_that_the_student_sees(teachers, tmp_path, monkeypatch):
    batches, (first, second) = seen(monkeypatch), teachers
    options = {"teacher": (first, second), "distill_temperature": 3.0, "distill_weight": 0.7, "mixup": 0.5}
    done = finetune(Config(**BASE, **options, out=tmp_path), parts=few())
    assert len(batches) == 2 * done.history[0]["steps"]
    student = Run(done.run).resolved
    mean, std = (torch.tensor(student[name]).view(3, 1, 1) for name in ("mean", "std"))
    known = [ga.load(run, device="cpu") for run in teachers]
    for x, outputs, own, whole in batches[::3]:
        pixels = x * std + mean
        with torch.inference_mode():
            wanted = torch.stack([(one(pixels) / 3).softmax(1) for one in known]).mean(0)
        assert whole == pytest.approx(0.3 * own + 0.7 * divergence(outputs, wanted, 3), rel=1e-4)
    assert {run["run"] for run in student["teacher"]} == {first.name, second.name}
    assert (
        f"teacher the mean of {first.name}, {second.name}: soft targets at temperature 3, 0.7 of the loss"
        in (student["decisions"])
    )


def test_compiled_teachers_answer_as_they_are(teachers, tmp_path, monkeypatch):
    compiled, compile = [], torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self: compiled.append(self) or compile(self, backend="eager")
    )
    batches = seen(monkeypatch)
    for own in ({}, {"compile": True}):
        finetune(Config(**BASE | {"epochs": 1}, teacher=teachers, out=tmp_path, **own), parts=few())
    assert len(compiled) == 1 + len(teachers)  # and the student
    half = len(batches) // 2
    assert [whole for *_, whole in batches[:half]] == pytest.approx([whole for *_, whole in batches[half:]], rel=1e-4)


def test_an_ensembles_run_is_its_members(teachers, tmp_path, monkeypatch):
    batches = seen(monkeypatch)
    made = ensembles.ensemble(teachers, tmp_path / "ensemble", parts=few(), device="cpu", workers=0)
    for teacher in (tuple(teachers), made.folder):
        finetune(Config(**BASE | {"epochs": 1}, teacher=teacher, out=tmp_path), parts=few())
    half = len(batches) // 2
    losses = [whole for *_, whole in batches]
    assert half and losses[:half] == pytest.approx(losses[half:], rel=1e-6)


def test_features_come_close_to_the_teachers(teachers, tmp_path, monkeypatch):
    made, begin = [], Teacher.begin
    monkeypatch.setattr(Teacher, "begin", lambda self, *arguments: made.append(self) or begin(self, *arguments))
    batches = seen(monkeypatch)
    options = {"teacher": teachers, "distill_features": True, "distill_weight": 1.0, "lr": 0.01, "ema": 0.5}
    done = finetune(Config(**BASE | {"epochs": 3}, **options, out=tmp_path), parts=few())
    (teacher,) = made
    known = [ga.load(run, device="cpu").model for run in teachers]
    assert teacher.map.out_features == sum(models_head(one).in_features for one in known)
    x = batches[0][0]
    (answer, features) = teacher.members[0](x, True)
    hooked = []
    models_head(known[0]).register_forward_pre_hook(lambda module, inputs: hooked.append(inputs[0]))
    assert torch.allclose(answer, known[0](x)) and torch.allclose(features, hooked[0])
    assert not features.requires_grad or not any(p.requires_grad for p in teacher.members.parameters())
    assert not teacher.members.training and not teacher.kept
    losses = [line["train_loss"] for line in done.history]
    assert losses[2] < losses[0]
    kept = ga.load(done.run, device="cpu").model.state_dict()
    assert kept.keys() == models.build("test_resnet", 10)[0].state_dict().keys()  # nothing of the map is left in it


def models_head(model: nn.Module) -> nn.Linear:
    return distilling.head_of(model)


def test_a_teacher_of_another_size_gets_the_same_pixels_at_its_own():
    class Mean(nn.Module):
        def forward(self, x):
            assert x.shape[2:] == (48, 48)
            return x.mean((2, 3))

    x = torch.rand(2, 3, 32, 32)
    one = One(Mean(), 48, ((0.5,) * 3, (0.25,) * 3), ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7)))
    made, _ = one((x - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([0.5, 0.6, 0.7]).view(3, 1, 1))
    scaled = F.interpolate(x, (48, 48), mode="bilinear", antialias=True)
    assert torch.allclose(made, ((scaled - 0.5) / 0.25).mean((2, 3)), atol=1e-5)


def test_the_soft_loss_is_zero_at_the_teachers_answers_and_nowhere_below():
    generator = torch.Generator().manual_seed(0)
    logits, others = torch.randn(2, 6, 5, generator=generator).unbind()
    for several in (False, True):
        wanted = (logits / 4).sigmoid() if several else (logits / 4).softmax(1)
        assert soft_loss(logits, wanted, 4.0, several) == pytest.approx(0, abs=1e-5)
        assert soft_loss(others, wanted, 4.0, several) > 0.05


OPTIONS = {
    "soft, mixed, averaged at the end": {"mixup": 0.2, "swa": 0.5, "distill_temperature": 4.0},
    "features": {"distill_features": True, "optimizer": "adamw", "lr": 0.01, "ema": 0.9},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_run_that_was_stopped_goes_on_to_the_bit(teachers, tmp_path, options):
    config, parts = Config(**BASE, **options, teacher=teachers[0], out=tmp_path), few()
    whole = finetune(config, parts=parts, loss=Stops())
    steps = int(whole.history[0]["steps"])
    with pytest.raises(Interrupted) as stopped:
        finetune(config, parts=parts, loss=Stops(steps + steps // 2))
    same(whole.run, resume(stopped.value.run, parts=parts, loss=Stops()).run)


def test_a_teacher_that_has_changed_since_is_told(teachers, tmp_path):
    teacher = shutil.copytree(teachers[0], tmp_path / "teacher")
    config, parts = Config(**BASE | {"epochs": 1}, teacher=str(teacher), out=tmp_path), few()
    with pytest.raises(Interrupted) as stopped:
        finetune(config, parts=parts, loss=Stops(2))
    shutil.copy(teachers[1] / "best.safetensors", teacher / "best.safetensors")
    with pytest.raises(ValueError, match=r"teacher .*: no longer as it was when .* began; restore it, or start"):
        resume(stopped.value.run, parts=parts, loss=Stops())


def test_a_teacher_of_timms_has_features_alone(tmp_path, monkeypatch):
    build = models.build

    def local(name, num_classes, weights=None, *size, **named):
        return build(name, num_classes, None if weights == "pretrained" else weights, *size, **named)

    monkeypatch.setattr(models, "build", local)
    with pytest.raises(ValueError, match="timm's weights are for other classes than those of the data: fine-tune it"):
        finetune(Config(**BASE, teacher="test_vit", out=tmp_path), parts=few())
    batches = seen(monkeypatch)
    config = Config(**BASE | {"epochs": 1}, teacher="test_vit", distill_features=True, out=tmp_path)
    known = Run(finetune(config, parts=few()).run).resolved
    assert known["teacher"][0]["model"] == "test_vit" and known["teacher"][0]["weights"] is None
    assert "teacher test_vit: features, 0.5 of the loss" in known["decisions"]
    assert all(whole != pytest.approx(own) for *_, own, whole in batches)


def test_teachers_that_cannot_teach_are_refused(teachers, tmp_path, monkeypatch, capsys):
    parts, about = few(), ga.load(teachers[0], device="cpu").about
    turned = replace(parts.train, classes=tuple(parts.train.classes)[::-1])
    with pytest.raises(ValueError, match=r"teacher .*: its classes are not those of the data: the same ones in ano"):
        finetune(Config(**BASE, teacher=teachers[0], out=tmp_path), parts=replace(parts, train=turned))
    with monkeypatch.context() as patch:
        clips = SimpleNamespace(about=replace(about, task="video"))
        patch.setattr(distilling, "opened", lambda path, device: clips)
        with pytest.raises(ValueError, match="it is of the task video, and teachers are of classify alone"):
            finetune(Config(**BASE, teacher=teachers[0], out=tmp_path), parts=parts)
    for args, words in (
        (["--teacher", "99"], f"{tmp_path}: there is no run '99'"),
        (["--distill-weight", "1.5"], "--distill-weight must be in (0, 1], got 1.5"),
        (["--distill-temperature", "3"], "--distill-temperature has no effect with no teacher: leave it out"),
        (["--teacher", "9", "--recipe", "probe"], "--teacher has no effect with --recipe=probe (features are"),
        (["--teacher", "9", "--data", "motion"], "--teacher has no effect with --task=video (it is of classify)"),
    ):
        assert main(["finetune", *args, "--device", "cpu", "--out", str(tmp_path), "--quiet"]) == 2
        told = capsys.readouterr().err
        assert words in told and told.count("\n") == 1
    assert not list(tmp_path.glob("0*"))
    two = nn.ModuleDict({"first": nn.Linear(2, 2), "second": nn.Linear(2, 2)})
    two.pretrained_cfg = {"classifier": ("first", "second")}
    with pytest.raises(ValueError, match="one linear classifier, and ModuleDict has first, second; leave it out"):
        distilling.head_of(two)
