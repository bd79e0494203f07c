"""What went wrong in fine-tuning runs once: whose data they are, weights of other classes, numbers that are none, ends
that were cut off."""

from __future__ import annotations

import json
import math
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

for needed in ("accelerate", "matplotlib", "sklearn", "timm", "torchvision", "tqdm"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

import finetuning  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from gpuaug.data import Parts, open_parts  # noqa: E402
from gpuaug.finetune import Config, Run, finetune, metrics, models, recipes, report, resume, runs  # noqa: E402

OWN = {"epochs": 1, "batch_size": 50, "device": "cpu", "workers": 0, "quiet": True}
QUICK = OWN | {"model": "test_resnet"}


@pytest.fixture(scope="module")
def few() -> Parts:
    return finetuning.few()


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch) -> None:
    for name in ("before", "after"):
        monkeypatch.setattr(f"gpuaug.finetune.report.{name}", lambda *arguments: None)


class Small(nn.Module):
    """One convolution and a classifier."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.last = nn.Linear(4, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.stem(x).mean((2, 3)))


def several(parts: Parts) -> Parts:
    """The same images, of one label each as if there could be more."""
    hot = {name: F.one_hot(getattr(parts, name).labels, 10).float() for name in ("train", "val", "test")}
    return replace(parts, **{name: replace(getattr(parts, name), labels=labels) for name, labels in hot.items()})


# Whose data


def test_parts_that_were_given_are_not_the_digits(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(40):
        path = tmp_path / "pets" / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)
    parts = open_parts(tmp_path / "pets", None, 0.2)
    result = finetune(Config(**QUICK, size=24, out=tmp_path / "runs"), parts=parts)
    known = Run(result.run).facts
    assert known["asked"]["data"] == known["resolved"]["data"]["name"] == "pets"
    assert known["resolved"]["resize"] == 25 and "RandomResizedCrop" in known["resolved"]["augment"]


def test_a_resize_below_the_crop_is_refused(few, tmp_path):
    with pytest.raises(ValueError, match="resize=40 is less than the 64 pixels that are cropped from it; raise resize"):
        finetune(Config(**QUICK, size=64, resize=40, out=tmp_path), parts=few)


# Who learns


def test_a_frozen_classifier_has_no_epochs_alone(few, tmp_path):
    options = {**OWN, "recipe": "finetune", "epochs": 2, "freeze": "^last", "size": 16, "out": tmp_path}
    result = finetune(Config(**options), parts=few, model=Small(7))
    known = Run(result.run).resolved
    assert known["options"]["head_epochs"] == 0
    assert "the classifier is frozen: what is not learns from the first epoch on" in known["decisions"]
    with pytest.raises(ValueError, match=r"head_epochs=1: .* freeze='\^last' freezes it; leave one of both out"):
        finetune(Config(**options, head_epochs=1), parts=few, model=Small(7))


def test_random_weights_are_not_said_to_have_a_classifier_that_is_old(few, tmp_path):
    result = finetune(Config(**{**QUICK, "epochs": 2}, recipe="finetune", out=tmp_path), parts=few)
    told = Run(result.run).resolved["decisions"]
    assert "the weights begin at random: everything learns from the first epoch on" in told
    assert not [words for words in told if "not new" in words]


def test_the_rate_of_an_epoch_is_that_of_its_last_step(few, tmp_path):
    config = Config(**QUICK, recipe="full", schedule="cosine", lr=0.1, out=tmp_path)
    last = 0.01 + 0.99 * (1 + math.cos(math.pi / 2)) / 2  # the second of two steps
    assert finetune(config, parts=few).history[0]["lr"] == pytest.approx(0.1 * last)


def test_balanced_features_of_several_labels_are_refused_before_they_are_computed(few, tmp_path, monkeypatch):
    monkeypatch.setattr("gpuaug.finetune.feeds.predict", lambda *arguments: pytest.fail("features were computed"))
    with pytest.raises(ValueError, match="balance=sampling wants one class a sample"):
        finetune(Config(**QUICK, recipe="probe", balance="sampling", out=tmp_path), parts=several(few))


# Weights and models


def test_weights_of_a_run_follow_the_names_of_its_classes(few, tmp_path):
    made = finetune(Config(**QUICK, out=tmp_path), parts=few).run / runs.WEIGHTS
    state, digits = load_file(made), [str(n) for n in range(10)]
    same, words = models.build("test_resnet", 10, str(made), classes=digits)
    assert torch.equal(same.fc.weight, state["fc.weight"]) and words == "weights of best.safetensors"
    turned, words = models.build("test_resnet", 10, str(made), classes=digits[::-1])
    assert torch.equal(turned.fc.weight, state["fc.weight"].flip(0)) and "into the order of these classes" in words
    assert torch.equal(turned.fc.bias, state["fc.bias"].flip(0)) and models.NEW not in words
    other, words = models.build("test_resnet", 10, str(made), classes=list("abcdefghij"))
    assert not other.fc.weight.any() and f"{models.NEW}: it was for other classes, as many" in words
    named = replace(few, **{p: replace(getattr(few, p), classes=tuple("abcdefghij")) for p in ("train", "val", "test")})
    run = finetune(Config(**QUICK, weights=str(made), out=tmp_path), parts=named).run
    assert models.NEW in Run(run).resolved["weights"], "a run names its classes"
    with pytest.raises(ValueError, match="not the weights of this model, resnet20, but of test_resnet; "):
        models.build("resnet20", 10, str(made))


def test_a_file_that_says_nothing_is_taken_as_it_is(tmp_path):
    old, _ = models.build("test_resnet", 3)
    for metadata in (None, {"gpuaug": "no JSON"}, {"gpuaug": "[]"}):
        save_file(old.state_dict(), tmp_path / "w.safetensors", metadata)
        new, words = models.build("test_resnet", 3, str(tmp_path / "w.safetensors"), classes=("a", "b", "c"))
        assert torch.equal(new.fc.weight, old.fc.weight) and words == "weights of w.safetensors"


def test_a_tag_that_timm_does_not_have_is_refused_with_those_that_it_has():
    with pytest.raises(
        ValueError, match=r"there is no model 'resnet18.a1_in2k': .*resnet18\.a1_in1k.*; resnet18 alone"
    ):
        models.card("resnet18.a1_in2k")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (nn.Conv2d(3, 4, 20), r"model Small: it takes no images of 16 x 16 \(.*[Kk]ernel size.*\); give another size"),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.Unflatten(1, (2, 2)), nn.Flatten(0, 1), nn.Conv2d(2, 4, 1)),
            r"\[2, 10\]",
        ),
    ],
)
def test_a_model_that_the_images_do_not_fit_is_refused_before_there_is_a_run(few, tmp_path, change, words):
    model = Small()
    model.stem = change
    with pytest.raises(ValueError, match=words):
        finetune(Config(**OWN, size=16, out=tmp_path), parts=few, model=model)
    assert not list(tmp_path.iterdir()) and model.training


# What chooses


@pytest.mark.parametrize("labels_of", [lambda parts: parts, several], ids=["one label", "several labels"])
def test_what_chooses_is_what_the_evaluation_says(few, tmp_path, labels_of):
    parts = labels_of(few)
    labels = parts.test.labels
    logits = torch.randn(len(labels), 10, generator=torch.Generator().manual_seed(0))
    kept = ~((labels if labels.ndim > 1 else F.one_hot(labels, 10))[:, 3] > 0)  # a class without samples, but answers
    logits, labels = logits[kept], labels[kept]
    said = metrics.Evaluation.of(logits, labels, parts.train.classes)
    for name, value in metrics.averages(logits, labels).items():
        assert value == pytest.approx(getattr(said, name), abs=1e-12)
    result = finetune(Config(**QUICK, best="f1", out=tmp_path), parts=parts)
    with np.load(result.run / "predictions.npz") as found:
        arrays = [torch.from_numpy(found[name]) for name in ("logits", "labels")]
    assert result.metrics["f1"] == pytest.approx(metrics.Evaluation.of(*arrays, parts.train.classes).f1)


@pytest.mark.parametrize("sign", ["", "-"])
def test_a_metric_that_is_no_number_is_never_the_best(few, tmp_path, sign):
    values = iter((0.5, math.nan, 0.5, math.nan, 0.5))  # before, three epochs, after
    config = Config(**{**QUICK, "epochs": 3}, best=f"{sign}mine", out=tmp_path)
    result = finetune(config, parts=few, metrics={"mine": lambda logits, labels: next(values)})
    assert result.best_epoch == 2
    with pytest.raises(ValueError, match=f"best={sign}mine: it was not a number in any epoch; lower lr"):
        finetune(config, parts=few, metrics={"mine": lambda logits, labels: math.nan})


def test_a_validation_loss_that_is_not_finite_ends_the_run(few, tmp_path):
    def broken(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, labels) + (0.0 if logits.requires_grad else math.inf)

    with pytest.raises(ValueError, match=r"the validation's loss is inf in epoch 1: lower lr \(now 0.1\)"):
        finetune(Config(**QUICK, lr=0.1, out=tmp_path), parts=few, loss=broken)


# Ends and beginnings


def test_a_run_whose_report_was_cut_off_gets_it_by_resume(few, tmp_path, monkeypatch):
    def cut_off(job) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "after", cut_off)
    config = Config(**QUICK, keep=0, out=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        finetune(config, parts=few)
    (run,) = tmp_path.iterdir()
    before = (run / runs.METRICS).read_bytes(), (run / runs.WEIGHTS).read_bytes()
    monkeypatch.setattr(report, "after", lambda job: (job.run / "report.html").write_text(job.parts.name))
    result = resume(run, parts=few)
    assert (run / "report.html").read_text() == "few" and result.best_epoch == 1 and len(result.history) == 1
    assert result.after == Run(run).events("after")[0]["test_accuracy"] == result.metrics["accuracy"]
    assert ((run / runs.METRICS).read_bytes(), (run / runs.WEIGHTS).read_bytes()) == before
    with pytest.raises(ValueError, match="this run is done"):
        resume(run, parts=few)


def test_an_interrupt_while_the_report_is_written_lets_it_end(few, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "after", lambda job: signal.raise_signal(signal.SIGINT))
    assert finetune(Config(**QUICK, out=tmp_path), parts=few).best_epoch == 1


def test_a_run_goes_on_with_the_metrics_that_it_began_with(few, tmp_path):
    mine = {"mine": lambda logits, labels: 1.0}
    run = finetune(Config(**QUICK, out=tmp_path), parts=few).run
    with pytest.raises(ValueError, match="began with the metrics none of its own, and now it gets mine; hand the same"):
        resume(run, parts=few, metrics=mine)
    run = finetune(Config(**QUICK, out=tmp_path), parts=few, metrics=mine).run
    with pytest.raises(
        ValueError, match="began with the metrics mine of its own, and now it gets other; hand the same"
    ):
        resume(run, parts=few, metrics={"other": mine["mine"]})


@pytest.mark.parametrize("lacking", ["asked", "resolved", "metrics", "data"])
def test_a_config_that_lacks_something_is_named(few, tmp_path, lacking):
    run = finetune(Config(**QUICK, out=tmp_path), parts=few).run
    facts = json.loads((run / runs.CONFIG).read_text())
    (facts if lacking in facts else facts["resolved"]).pop(lacking)
    (run / runs.CONFIG).write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=rf"config\.json: it lacks {lacking}: damaged, or of another version"):
        resume(run, parts=few)


def test_the_schedule_tells_the_rate_that_was_used():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = recipes.Schedule(optimizer, replace(recipes.FULL, schedule="cosine"), 4, 2)
    assert schedule.used == 2.0
    optimizer.step()
    schedule.step()
    assert schedule.used == 2.0 > schedule.lr
