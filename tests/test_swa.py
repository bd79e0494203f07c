"""Stochastic weight averaging in a run: the mean of the last epochs' weights, with batch norms of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

for needed in ("accelerate", "matplotlib", "sklearn", "timm", "torchvision", "tqdm"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

from finetuning import few  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from gpuaug.finetune import Config, Run, averaging, checkpoint, finetune  # noqa: E402
from gpuaug.finetune.recipes import RECIPES  # noqa: E402

BASE = {"model": "test_resnet", "epochs": 4, "batch_size": 20, "device": "cpu", "workers": 0, "quiet": True}
STATISTICS = ("running_mean", "running_var")


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch) -> None:
    for name in ("before", "after"):
        monkeypatch.setattr(f"gpuaug.finetune.report.{name}", lambda *arguments: None)


def run(tmp_path, **options):
    """(its result, the learner's state after each epoch, the weights that were kept)."""
    done = finetune(Config(**BASE | options, keep=9, keep_done=True, best="loss", out=tmp_path), parts=few())
    states = [checkpoint.load(path) for path in checkpoint.found(done.run)]
    return done, states, load_file(done.run / "best.safetensors")


def test_the_mean_of_the_last_epochs_is_kept(tmp_path):
    done, states, _ = run(tmp_path, swa=0.5, schedule="cosine", warmup_epochs=0.0, lr=0.01)
    first, second = states[2]["learner"], states[3]["learner"]
    kept = states[3]["ema"]
    for name, value in kept.items():
        if value.is_floating_point() and not name.endswith(STATISTICS):
            assert torch.allclose(value, (first[name] + second[name]) / 2, atol=1e-6), name
            assert torch.equal(states[2]["ema"][name], first[name]), name  # of one epoch
    name = next(name for name in kept if name.endswith("running_mean"))
    assert not torch.allclose(kept[name], (first[name] + second[name]) / 2, atol=1e-4)
    rates = [line["lr"] for line in done.history]
    held = pytest.approx(0.01 * (0.01 + 0.99 / 2))
    assert rates[2] == held and rates[3] == held and rates[0] > rates[1] > rates[2]
    words = "the weights after epochs 3 to 4 are averaged, and the rate stays where it was then"
    assert words in Run(done.run).resolved["decisions"]


def test_what_is_tested_is_the_learner_at_first_and_then_the_average(tmp_path):
    plain, states, _ = run(tmp_path, schedule="constant", lr=0.01)
    averaged, others, kept = run(tmp_path, schedule="constant", lr=0.01, swa=0.5)
    for one, other in zip(states, others, strict=True):  # the learner does not know of it
        assert all(torch.equal(value, other["learner"][name]) for name, value in one["learner"].items())
    losses = [[line["val_loss"] for line in one.history] for one in (plain, averaged)]
    assert losses[0][:2] == losses[1][:2] and losses[0][2:] != losses[1][2:]
    best = averaged.best_epoch
    state = others[best - 1]["ema"] if best > 2 else others[best - 1]["learner"]
    assert all(torch.equal(value, state[name]) for name, value in kept.items())


def test_batch_norms_that_are_frozen_keep_their_statistics(tmp_path):
    _, states, _ = run(tmp_path, swa=0.3, frozen_bn=True, epochs=2)
    for name, value in states[1]["ema"].items():
        if name.endswith(STATISTICS):
            assert torch.equal(value, states[0]["learner"][name]), name


@pytest.mark.parametrize(("share", "epochs", "first"), [(0.25, 20, 16), (0.1, 3, 3), (0.5, 1, 1), (0.9, 10, 2)])
def test_the_share_is_of_whole_epochs(share, epochs, first):
    assert averaging.first_epoch(Config(swa=share), replace(RECIPES["full"], epochs=epochs)) == first
