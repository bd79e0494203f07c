"""Augmented features of the recipe probe: what is drawn, by what; a run with them goes on as if never stopped."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest
import torch

for needed in ("accelerate", "matplotlib", "sklearn", "timm", "torchvision", "tqdm"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

import finetuning  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from gpuaug.cli import main  # noqa: E402
from gpuaug.data import Parts  # noqa: E402
from gpuaug.finetune import Config, Interrupted, Run, features, finetune, resume, runs  # noqa: E402
from gpuaug.finetune.features import Draws, opened, parse  # noqa: E402

PROBE = {"model": "test_resnet", "recipe": "probe", "batch_size": 20, "device": "cpu", "workers": 0, "quiet": True}
KINDS = ("autoencoder", "mix", "noise")
NAMES = ("a", "b", "c")


def vectors(each: int = 200, d: int = 24) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(x, labels, ids) of three classes that vary along two directions they share, and by little noise."""
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat(each)
    means, shared = 4 * torch.randn(3, d, generator=g), torch.randn(2, d, generator=g)
    codes, noise = torch.randn(len(labels), 2, generator=g), torch.randn(len(labels), d, generator=g)
    return means[labels] + codes @ shared + 0.1 * noise, labels, torch.arange(len(labels)) * 7 + 1


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch) -> None:
    for name in ("before", "after"):
        monkeypatch.setattr(f"gpuaug.finetune.report.{name}", lambda *arguments: None)


# What is drawn


@pytest.mark.parametrize("kind", KINDS)
def test_a_draw_hangs_on_seed_epoch_and_id_alone(kind):
    x, labels, ids = vectors(20)
    one, again, other = (opened(kind, x, labels, NAMES, seed) for seed in (5, 5, 6))
    found, soft = one(x, labels, ids, 3)
    assert found.shape == x.shape and not torch.equal(found, x)
    assert torch.equal(found, again(x, labels, ids, 3)[0])
    assert not torch.equal(found, other(x, labels, ids, 3)[0]) and not torch.equal(found, one(x, labels, ids, 4)[0])
    if kind != "mix":  # whose partner is the one before in the batch
        some = torch.tensor([17, 3, 40])
        assert torch.allclose(one(x[some], labels[some], ids[some], 3)[0], found[some], atol=1e-5)
        assert torch.equal(soft, labels)


def test_normal_numbers_are_normal_and_those_of_samples_differ():
    drawn = Draws.of(1, 0, torch.arange(400)).normal(51)
    assert drawn.shape == (400, 51) and drawn.dtype == torch.float32
    assert abs(drawn.mean()) < 4 / len(drawn.flatten()) ** 0.5 and abs(drawn.std() - 1) < 0.02
    assert abs(torch.corrcoef(drawn.T[:2])[0, 1]) < 0.2 and abs(torch.corrcoef(drawn[:2])[0, 1]) < 0.5


def test_mixing_takes_the_label_along():
    x, labels, ids = vectors(40)
    mixed, soft = opened("mix:alpha=0.4", x, labels, NAMES, 0)(x, labels, ids, 0)
    hot = torch.nn.functional.one_hot(labels, 3).float()
    partner = hot.roll(1, 0)
    share = 1 - (soft * hot).sum(1)  # neighbours are of other classes here
    assert share.min() >= 0 and share.max() <= 1 and share.std() > 0.2
    assert torch.allclose(soft, hot + share[:, None] * (partner - hot), atol=1e-6)
    assert torch.allclose(mixed, x + share[:, None] * (x.roll(1, 0) - x), atol=1e-5)


def test_noise_is_as_large_as_the_class_is_spread():
    x, labels, ids = vectors()
    x = torch.where((labels == 1)[:, None], x.mean(0) + 5 * (x - x.mean(0)), x)
    moved = opened("noise:strength=0.5", x, labels, NAMES, 0)(x, labels, ids, 0)[0] - x
    for k in range(3):
        wanted = 0.5 * x[labels == k].std(0)
        assert torch.allclose(moved[labels == k].std(0), wanted, rtol=0.25)


def test_the_autoencoder_makes_vectors_that_vary_as_those_of_their_class_do():
    x, labels, ids = vectors()
    made = opened("autoencoder:share=1", x, labels, NAMES, 0)
    assert made.model.explained > 0.9  # two directions carry nearly all
    new, _ = made(x, labels, ids, 0)
    assert torch.isfinite(new).all()
    for k in range(3):
        seen, generated = x[labels == k], new[labels == k]
        assert torch.allclose(generated.mean(0), seen.mean(0), atol=0.5)
        ratio = generated.std(0) / seen.std(0)
        assert ratio.min() > 0.6 and ratio.max() < 1.4
        along = torch.linalg.svd(seen - seen.mean(0), full_matrices=False).Vh[:2]
        off = (generated - seen.mean(0)) - (generated - seen.mean(0)) @ along.T @ along
        assert off.square().sum() < 0.35 * (generated - seen.mean(0)).square().sum()  # noise by number would have 11/12
    half, _ = opened("autoencoder", x, labels, NAMES, 0)(x, labels, ids, 0)
    assert 0.4 < (half != x).any(1).float().mean() < 0.6


def test_fitting_leaves_the_global_generator_alone():
    x, labels, _ = vectors(10)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    opened("autoencoder", x, labels, NAMES, 0)
    assert torch.equal(torch.rand(4), expected)


def test_a_class_of_one_sample_or_of_none_has_the_spread_of_all():
    x, labels, ids = vectors(20)
    keep = (labels == 0) | (torch.arange(len(labels)) == 1)
    for kind in ("noise", "autoencoder:share=1"):
        found, _ = opened(kind, x[keep], labels[keep], NAMES, 0)(x[keep], labels[keep], ids[keep], 0)
        assert torch.isfinite(found).all() and (found[labels[keep] == 1] != x[keep][labels[keep] == 1]).any()


# What is refused


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nois", "feature_augment: there is no 'nois'; choose one of none, autoencoder, mix, noise; did you mean"),
        ("mix:alpha=0", r"feature_augment 'mix:alpha=0': alpha must be a number from 0.01 to 1000, got 0"),
        ("mix:beta=1", "feature_augment 'mix:beta=1': it takes alpha, not 'beta'"),
        ("none:share=1", "it takes no arguments, not 'share'"),
        ("autoencoder:share=2", "share must be a number from 0 to 1, got 2"),
        ("noise:strength='a'", "strength must be a number from 0 to 100, got 'a'"),
        ("noise:", "feature_augment 'noise:'"),
    ],
)
def test_what_cannot_be_is_one_line(spec, words):
    with pytest.raises(ValueError, match=words) as raised:
        parse(spec)
    assert "\n" not in str(raised.value)


def test_several_labels_can_only_be_mixed():
    x, labels, ids = vectors(20)
    several = torch.nn.functional.one_hot(labels, 3).float()
    for kind in ("noise", "autoencoder"):
        with pytest.raises(ValueError, match=f"feature_augment={kind} wants one class a sample"):
            opened(kind, x, several, NAMES, 0)
    assert opened("mix", x, several, NAMES, 0)(x, several, ids, 0)[1].shape == (60, 3)
    first = torch.tensor([0, 1, 2])
    with pytest.raises(ValueError, match="feature_augment=noise goes by how samples of a class differ, and each has"):
        opened("noise", x[first], labels[first], NAMES, 0)


def test_the_command_says_what_is_wrong(capsys, tmp_path):
    base = ["finetune", "--recipe", "probe", "--quiet", "--device", "cpu", "--out", str(tmp_path)]
    assert main([*base, "--feature-augment", "autoencoder:share=2"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("gpuaug: --feature-augment 'autoencoder:share=2': share must be") and said.count("\n") == 1
    assert main(["finetune", "--feature-augment", "mix", "--device", "cpu", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("gpuaug: --feature-augment has no effect with another recipe than probe")


# Runs


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, kind):
    config = Config(**PROBE, epochs=4, checkpoint_steps=1, feature_augment=kind, out=tmp_path)
    parts = finetuning.few()

    def stopping(at: int | None):
        calls = []

        def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            calls.append(logits.requires_grad)
            if sum(calls) == at and logits.requires_grad:
                signal.raise_signal(signal.SIGINT)
            return torch.nn.functional.cross_entropy(logits, labels)

        return loss

    whole = finetune(config, parts=parts, loss=stopping(None))
    with pytest.raises(Interrupted) as stopped:
        finetune(config, parts=parts, loss=stopping(8))  # in the second epoch
    run = stopped.value.run
    result = resume(run, parts=parts, loss=stopping(None))
    assert result.metrics == whole.metrics
    one, other = (load_file(place / runs.WEIGHTS) for place in (whole.run, run))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(words.startswith("training features ") for words in Run(run).resolved["decisions"])


def test_features_change_what_is_learned_and_none_changes_nothing(tmp_path):
    config, parts = Config(**PROBE, epochs=3, out=tmp_path), finetuning.few()
    made = {spec: finetune(replace(config, feature_augment=spec), parts=parts) for spec in ("none", *KINDS)}
    plain = finetune(config, parts=parts)
    assert made["none"].history[-1]["train_loss"] == plain.history[-1]["train_loss"]
    losses = {result.history[-1]["train_loss"] for result in made.values()}
    assert len(losses) == 4
    assert made["mix"].history[-1]["train_loss"] > plain.history[-1]["train_loss"]
    assert not any("training features" in words for words in Run(plain.run).resolved["decisions"])


def test_balanced_sampling_draws_each_copy_for_itself(tmp_path, monkeypatch):
    parts = finetuning.few()
    keep = [i for i, label in enumerate(parts.train.labels.tolist()) if label > 2 or i < 20]
    parts = Parts("few", parts.train.subset(keep), parts.val, parts.test)
    seen = []
    call = features.Noise.__call__

    def noted(self, x, labels, ids, epoch):
        seen.append(ids)
        return call(self, x, labels, ids, epoch)

    monkeypatch.setattr(features.Noise, "__call__", noted)
    finetune(Config(**PROBE, epochs=1, balance="sampling", feature_augment="noise", out=tmp_path), parts=parts)
    ids = torch.cat(seen)
    assert len(ids) > len(parts.train) and len(ids.unique()) == len(ids)
