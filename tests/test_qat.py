"""Classifiers that learn while they are rounded to int8: other weights than without, and an int8 run like any other."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn

for needed in ("accelerate", "matplotlib", "sklearn", "timm", "torchao", "torchvision", "tqdm"):
    pytest.importorskip(needed, reason=f"the extras finetune and quantize are not installed: {needed}")

import finetuning  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug.cli import main  # noqa: E402
from gpuaug.finetune import Config, Run, finetune, programs, quantizing, runs, saved_int8, screen, sizes  # noqa: E402
from gpuaug.finetune.quantizing import quantize  # noqa: E402

SIZE, LR = 16, 0.003


def small(num_classes: int) -> nn.Module:
    """Two convolutions with batch norms, and a shortcut."""
    return Small(num_classes)


class Small(nn.Module):
    def __init__(self, num_classes: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 2, padding=1, bias=False), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.fc = nn.Linear(256, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn1(self.conv1(x)).relu()
        x = (x + self.bn2(self.conv2(x))).relu()
        return self.fc(nn.functional.avg_pool2d(x, 2).flatten(1))


def no_pictures(patch: pytest.MonkeyPatch) -> None:
    for name in ("before", "after"):
        patch.setattr(f"gpuaug.finetune.report.{name}", lambda *arguments: None)


@pytest.fixture(scope="module")
def parent(tmp_path_factory) -> Path:
    """It has learned a hundred digits, with options that its rounded network learns without."""
    config = Config(
        model="test_qat:small", size=SIZE, epochs=8, batch_size=25, augment="none", robustness=0,
        device="cpu", workers=0, quiet=True, recipe="finetune", head_epochs=0, lr=0.01, ema=0.5, patience=5,
        out=tmp_path_factory.mktemp("runs"),
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        no_pictures(patch)
        return finetune(config, parts=finetuning.few()).run


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    """Where temporary folders are."""
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def done(parent, scratch) -> quantizing.Quantized:
    with pytest.MonkeyPatch.context() as patch:
        no_pictures(patch)
        patch.setattr(tempfile, "tempdir", str(scratch))
        return quantize(parent, images=64, qat=2, lr=LR, speed=False, parts=finetuning.few(), out=parent.parent)


@pytest.fixture(scope="module")
def static(parent) -> saved_int8.Int8:
    """The parent in int8, without learning."""
    with torch.no_grad(), screen.hushed():
        return quantizing.converted(ga.load(parent, device="cpu"), finetuning.few().train)


def test_it_is_an_int8_run_with_a_row_of_its_own(parent, done, scratch, tmp_path):
    float32, static, own = done.rows
    assert [row.name for row in done.rows] == ["float32", "int8", "int8 QAT"]
    assert float32.accuracy > 0.4 and min(static.accuracy, own.accuracy) > float32.accuracy - 0.15
    assert static.nbytes == pytest.approx(own.nbytes, rel=0.1)
    model, few, run = ga.load(done.run, device="cpu"), finetuning.few(), Run(done.run)
    assert isinstance(model, saved_int8.Int8) and model.about.details["int8"]["of"] == parent.name
    assert model.evaluate(few.test).top1 == pytest.approx(own.accuracy) == run.event("after")["test_accuracy"]
    stored = run.json(sizes.FILE)
    assert (stored["epochs"], stored["lr"], stored["rows"][2]["accuracy"]) == (2, LR, own.accuracy)
    page = run.path(runs.REPORT).read_text(encoding="utf-8")
    assert "learned for 2 epochs, rounded to int8, at a rate of 0.003" in page
    x = few.test.images[:5]
    with torch.no_grad():
        found = model.predict(x.permute(0, 2, 3, 1).numpy())
        assert torch.allclose(found.probabilities, model(x).softmax(1), atol=1e-4)
        model.export(tmp_path / "model.safetensors")
        assert torch.equal(ga.load(tmp_path / "model.safetensors", device="cpu")(x), model(x))
    assert sorted(one.name for one in parent.parent.iterdir()) == [parent.name, done.run.name]
    assert not list(scratch.iterdir())  # the run that it learned in


def test_its_weights_have_learned_and_batch_norms_are_folded(done, static):
    before, own = static.model.state_dict(), load_file(done.run / runs.WEIGHTS)
    assert before.keys() == own.keys()
    weights = [name for name, value in own.items() if value.dtype == torch.int8]
    assert len(weights) == 3 and sum(own[name].numel() for name in weights) == 3 * 16 * 9 + 16 * 16 * 9 + 2560
    for name in weights:
        steps = (own[name].int() - before[name].int()).abs()
        assert (steps > 0).float().mean() > 0.05 and steps.float().mean() < 20  # moved, and not far
    ops = bytes(own[programs.STEPS].tolist()).decode()
    assert "batch_norm" not in ops and "fake" not in ops and "quantize_per_tensor" in ops


def test_learning_rounded_brings_the_loss_down(done, static):
    train = finetuning.few().train
    assert ga.load(done.run, device="cpu").evaluate(train).loss < static.evaluate(train).loss


def test_what_cannot_be_says_why(parent, capsys, monkeypatch):
    no_pictures(monkeypatch)
    few, there = finetuning.few(), sorted(parent.parent.iterdir())
    for words, given in (
        ("qat must be at least 1, got 0", {"qat": 0}),
        (r"lr has no effect with no qat \(nothing learns\): leave it out", {"lr": 0.1}),
        ("lr must be above 0, got 0", {"qat": 1, "lr": 0}),
        (r"the weights are no longer finite: lower lr \(now 1e\+30\)", {"qat": 1, "lr": 1e30, "speed": False}),
    ):
        with pytest.raises(ValueError, match=f"^{words}") as raised:
            quantize(parent, **{"parts": few, "images": 20} | given)
        assert "\n" not in str(raised.value)
    assert sorted(parent.parent.iterdir()) == there
    assert main(["quantize", str(parent), "--lr", "0.1"]) == 2
    assert capsys.readouterr().err.startswith("gpuaug: --lr has no effect with no ")
