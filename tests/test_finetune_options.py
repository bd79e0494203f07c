"""What recipes and options mean: who learns and how fast, what the model is fed with, what chooses, what is shown."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

for needed in ("accelerate", "matplotlib", "PIL", "safetensors", "sklearn", "timm", "torchvision", "tqdm"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

import finetuning  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug.data import Loader, Parts, Source  # noqa: E402
from gpuaug.finetune import Config, Run, feed, finetune, models, recipes  # noqa: E402
from gpuaug.finetune.classify import hits  # noqa: E402
from gpuaug.finetune.recipes import FINETUNE, FULL, PROBE  # noqa: E402

OWN = {"epochs": 1, "batch_size": 25, "device": "cpu", "workers": 0, "quiet": True}
QUICK = OWN | {"model": "test_resnet"}


@pytest.fixture(scope="module")
def few() -> Parts:
    return finetuning.few()


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch) -> None:
    for name in ("before", "after"):
        monkeypatch.setattr(f"gpuaug.finetune.report.{name}", lambda *arguments: None)


class Plain(nn.Module):
    """A model that knows nothing of timm."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Conv2d(8, 8, 3, bias=False)
        self.last = nn.Linear(8, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.body(self.stem(x)).mean((2, 3)))


# Who learns, and how fast


def test_the_recipe_follows_from_the_weights_and_from_what_is_said():
    assert recipes.resolve(Config(), False, 10_000)[0] == FULL
    assert recipes.resolve(Config(), True, 10_000)[0] == FINETUNE
    made, told = recipes.resolve(Config(recipe="probe", lr=0.5, epochs=7), False, 100)
    assert made == replace(PROBE, lr=0.5, epochs=7, batch_size=12)
    assert told[:2] == ["recipe probe", "batches of 12: 100 images make 8 steps an epoch then"]
    assert len(told) == 3 and told[2].startswith("features of random weights say little")
    assert recipes.resolve(Config(recipe="probe"), True, 10_000)[1] == ["recipe probe"]
    assert recipes.resolve(Config(batch_size=64), True, 100)[0].batch_size == 64


def test_few_images_get_smaller_batches_and_more_epochs():
    made, told = recipes.resolve(Config(), True, 100)
    assert (made.batch_size, made.epochs) == (12, 30)
    assert told[1:] == [
        "batches of 12: 100 images make 8 steps an epoch then", "30 epochs: 240 steps, as one of 100 images has 8"
    ]  # fmt: skip
    made, _ = recipes.resolve(Config(), False, 900)
    assert (made.batch_size, made.epochs) == (56, 63)
    assert recipes.resolve(Config(), True, 1)[0].epochs == 80, "not without end"
    assert recipes.resolve(Config(accumulate=2), True, 100)[0].epochs == 60, "steps are of the optimiser"
    assert recipes.resolve(Config(epochs=3, batch_size=50), True, 100)[0].epochs == 3


@pytest.mark.parametrize("epochs", (1, 2))
def test_a_short_run_is_not_all_warm_up(epochs):
    made, _ = recipes.resolve(Config(epochs=epochs), True, 2_000)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], made.lr)
    schedule, used = recipes.Schedule(optimizer, made, 30 * epochs, 30), []
    for _ in range(30 * epochs):
        optimizer.step()
        schedule.step()
        used.append(schedule.used)
    assert np.argmax(used) == 6 * epochs and max(used) == pytest.approx(made.lr)
    assert recipes.resolve(Config(epochs=1, warmup_epochs=1.0), True, 2_000)[0].warmup_epochs == 1.0, "as it is said"


# What is held out, which model


def test_too_few_images_are_not_split():
    assert recipes.held_out(Config(), 999) == (0.0, True) and recipes.held_out(Config(), 1000) == (0.1, False)
    assert recipes.held_out(Config(val_fraction=0.2), 50) == (0.2, False)
    assert recipes.held_out(Config(val_fraction=0.0), 5000) == (0.0, False)
    for asked in ({"patience": 2}, {"schedule": "plateau"}, {"best": "loss"}, {"best": "accuracy"}):
        assert recipes.held_out(Config(**asked), 50) == (0.1, False)


def test_the_model_follows_from_the_weights_and_the_images(tmp_path):
    made, told = models.chosen(Config(), None, 100)
    assert (made.model, made.size) == ("resnet20", 64)
    assert told[1].startswith("input of 64 x 64: images of 100 pixels") and "--weights pretrained" in told[2]
    for given, side in ((None, 32), (28, 28), (100, 100), (None, None)):
        assert models.chosen(Config(), given, side)[0] == Config(model="resnet20")
    assert models.chosen(Config(size=96), None, 500)[0].size == 96
    asked = Config(model="resnet18")
    assert models.chosen(asked, None, 500) == (asked, [])
    assert models.chosen(Config(weights="pretrained"), None, 500)[0].model == "tf_efficientnet_lite0"
    bare, known = tmp_path / "bare.safetensors", tmp_path / "known.safetensors"
    save_file({}, bare)
    save_file({}, known, {"gpuaug": json.dumps({"model": "test_vit", "size": 40})})
    assert models.chosen(Config(weights=str(bare)), None, 500)[0] == Config(weights=str(bare), model="resnet20")
    made, told = models.chosen(Config(weights=str(known)), None, 500)
    assert (made.model, made.size) == ("test_vit", 40) and told == ["model test_vit: that of the weights"]


def images_of(folder, each, side) -> None:
    """Two classes of noise."""
    rng = np.random.default_rng(0)
    for name in ("left", "right"):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            Image.fromarray(rng.integers(0, 256, (side, side + 9, 3), np.uint8)).save(folder / name / f"{i}.png")


@pytest.mark.parametrize(("side", "size"), ((40, 32), (56, 64)))
def test_a_folder_and_nothing_else(tmp_path, side, size):
    images_of(tmp_path / "data", 10, side)
    quick = {"epochs": 1, "device": "cpu", "workers": 0, "quiet": True, "out": tmp_path / "runs"}
    result = finetune(Config(data=str(tmp_path / "data"), **quick))
    known = Run(result.run).resolved
    assert (known["model"], known["size"]) == ("resnet20", size)
    assert known["images"] == {"train": 16, "test": 4} and result.history[0]["val_accuracy"] is None
    words = "no validation, too few images to set some aside and choose by them: the last weights are kept"
    assert words in known["decisions"]
    again = finetune(Config(weights=str(result.run / "best.safetensors"), data=str(tmp_path / "data"), **quick))
    assert Run(again.run).resolved["size"] == size and again.before == result.after


def test_layers_are_those_that_the_model_says():
    found = recipes.layers(models.ResNet20())
    assert found["conv1.weight"] == found["bn1.bias"] == 0 and found["layer1.0.conv1.weight"] == 1
    assert found["layer3.2.bn2.weight"] == 9 and found["linear.weight"] == found["linear.bias"] == 10
    timm = recipes.layers(models.build("test_vit", 5, size=32)[0])
    assert timm["head.weight"] == max(timm.values()) > timm["blocks.0.mlp.fc1.weight"] > timm["patch_embed.proj.weight"]
    plain = recipes.layers(Plain())
    assert [plain[n] for n in ("stem.0.weight", "stem.1.weight", "body.weight", "last.bias")] == [0, 1, 2, 3]


def test_rates_fall_by_layer_and_norms_and_biases_do_not_decay():
    model = Plain()
    recipe = replace(FINETUNE, lr=1.0, layer_decay=0.5, head_lr=3.0, weight_decay=0.1)
    of = {id(p): group for group in recipes.groups(model, recipe, {"body.weight"}) for p in group["params"]}
    named = {name: of.get(id(p)) for name, p in model.named_parameters()}
    assert named.pop("body.weight") is None
    assert {name: (g["lr"], g["weight_decay"]) for name, g in named.items()} == {
        "stem.0.weight": (0.25, 0.1), "stem.0.bias": (0.25, 0.0), "stem.1.weight": (0.5, 0.0),
        "stem.1.bias": (0.5, 0.0), "last.weight": (3.0, 0.1), "last.bias": (3.0, 0.0),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("backbone", "stem.0.weight stem.0.bias stem.1.weight stem.1.bias body.weight"),
        ("2", "stem.0.weight stem.0.bias stem.1.weight stem.1.bias"),
        ("^body|bias$", "body.weight stem.0.bias stem.1.bias last.bias"),
    ],
)
def test_what_is_frozen(spec, names):
    assert recipes.frozen(Plain(), spec) == set(names.split())


@pytest.mark.parametrize(("spec", "words"), [("head", "nothing"), ("9", "everything"), ("(", "no regular expression")])
def test_a_freeze_that_cannot_be(spec, words):
    with pytest.raises(ValueError, match=f"freeze='.*' (freezes|is) {words}"):
        recipes.frozen(Plain(), spec)


def test_batch_norms_of_frozen_layers_keep_their_statistics():
    model = Plain()
    recipes.let_learn(model, set(), head_only=False)
    recipes.train_mode(model, frozen_bn=False)
    assert model.stem[1].training
    recipes.let_learn(model, set(), head_only=True)
    recipes.train_mode(model, frozen_bn=False)
    assert model.training and not model.stem[1].training
    assert [n for n, p in model.named_parameters() if p.requires_grad] == ["last.weight", "last.bias"]
    recipes.let_learn(model, set(), head_only=False)
    recipes.train_mode(model, frozen_bn=True)
    assert not model.stem[1].training


def rates(schedule: str, values: tuple = (), **keywords) -> list[float]:
    """Of 10 epochs of 10 steps."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    made = recipes.Schedule(optimizer, replace(FULL, schedule=schedule, **keywords), 100, 10, patience=1)
    found = []
    for step in range(100):
        found.append(made.lr)
        optimizer.step()
        made.step()
        if step % 10 == 9:
            made.epoch(values[step // 10] if values else None)
    return found


def test_schedules():
    cosine = rates("cosine", warmup_epochs=2.0)
    assert cosine[0] == pytest.approx(0.02) and cosine[10] == pytest.approx(2 * 0.505) and cosine[20] == 2.0
    assert cosine[60] == pytest.approx(2 * 0.505) and cosine[99] == pytest.approx(0.02, rel=0.05)
    assert rates("constant", warmup_epochs=1.0)[10:] == [2.0] * 90
    cycle = rates("onecycle")
    assert max(cycle) == pytest.approx(2.0) and cycle.index(max(cycle)) == 29 and cycle[99] < 1e-4
    flat = rates("plateau", (0.1, 0.2, 0.2, 0.2, 0.3, 0.3, 0.3, 0.3, 0.4, 0.4), warmup_epochs=1.0)
    assert flat[10:40] == pytest.approx([2.0] * 30) and flat[40:70] == pytest.approx([0.2] * 30)
    assert flat[70:] == pytest.approx([0.02] * 30)


def test_only_the_classifier_learns_at_first(few, tmp_path):
    model = Plain(10)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    options = {**OWN, "recipe": "finetune", "head_epochs": 1, "val_fraction": 0, "out": tmp_path, "size": 16}
    finetune(Config(**options), parts=replace(few, val=None), model=model)
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, start[name])]
    assert changed == ["last.weight", "last.bias"]


def test_a_classifier_that_is_not_new_does_not_learn_alone(few, tmp_path):
    options = {**OWN, "epochs": 2, "recipe": "finetune", "out": tmp_path, "size": 16}
    for model, epochs in ((Plain(10), 0), (Plain(7), 1)):
        result = finetune(Config(**options), parts=few, model=model)
        assert Run(result.run).resolved["options"]["head_epochs"] == epochs


# What the model is fed with


def test_balanced_classes_come_equally_often_and_copies_have_their_own_draws():
    labels = torch.tensor([0] * 7 + [1] * 2 + [2] * 3)
    source = Source(torch.zeros(12, 3, 8, 8, dtype=torch.uint8), torch.arange(12) * 5, labels, ("a", "b", "c"))
    many = feed.balanced(source, seed=0)
    assert torch.bincount(many.labels).tolist() == [7, 7, 7] and len(set(many.ids.tolist())) == 21
    assert many.ids.min() >= 0 and set(source.ids.tolist()) <= set(many.ids.tolist())
    with pytest.raises(ValueError, match="the training part has no image of class 'd'; add some"):
        feed.balanced(replace(source, classes=("a", "b", "c", "d")), seed=0)


@pytest.mark.parametrize(
    ("ops", "words"),
    [
        ([], r"augment gives uint8, the model wants float \[B, 3, 16, 16\]; end it with ToDtype"),
        (
            [ga.Resize(8), ga.ToDtype(torch.float32, scale=True)],
            r"gives \[25, 3, 8, 8\].*crop to that size, or set size=8",
        ),
    ],
)
def test_a_pipeline_that_does_not_end_in_what_the_model_wants(few, ops, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        finetune(Config(**QUICK, out=tmp_path), parts=few, augment=ga.Compose(ops, seed=0))


def test_features_come_in_the_loaders_order():
    source = Source(torch.zeros(11, 3, 4, 4, dtype=torch.uint8), torch.arange(11) + 100, torch.arange(11), ("a",) * 11)
    loader = Loader(source, 3, shuffle=True, seed=5)
    ready = feed.Features(torch.arange(11.0)[:, None], source.labels, source.ids, 3, shuffle=True, seed=5)
    assert len(ready) == len(loader) == 4
    for _ in range(2):
        assert [ids.tolist() for _, _, ids in ready] == [ids.tolist() for _, _, ids in loader]
    passes = iter(ready)
    next(passes)
    other = feed.Features(torch.arange(11.0)[:, None], source.labels, source.ids, 3, shuffle=True, seed=5)
    other.load_state_dict(ready.state_dict())
    assert [ids.tolist() for _, _, ids in other] == [ids.tolist() for _, _, ids in passes]


def test_a_backbone_gives_what_the_classifier_gets():
    model = models.build("test_resnet", 4)[0].eval()
    x = torch.randn(2, 3, 32, 32)
    with models.backbone(model) as features:
        assert torch.equal(model.fc(features(x)), model(x))
    assert not model.fc._forward_pre_hooks


# Models of one's own


def test_a_model_of_ones_own_gets_a_classifier(few, tmp_path):
    model = Plain(7)
    result = finetune(Config(**OWN, out=tmp_path, size=16), parts=few, model=model)
    assert model.last.out_features == 10 and "Plain" in result.run.name
    assert (
        "as it was given, new classifier last for 10"
        in json.loads((result.run / "config.json").read_text())["resolved"]["weights"]
    )


def test_a_function_that_makes_the_model(monkeypatch):
    monkeypatch.setattr("gpuaug.finetune.models.own", Plain, raising=False)
    model, _ = models.build("gpuaug.finetune.models:own", 6)
    assert model.last.out_features == 6
    with pytest.raises(ValueError, match="model gpuaug.finetune.models:none: AttributeError"):
        models.build("gpuaug.finetune.models:none", 6)
    with pytest.raises(ValueError, match="resnet20 has no dropout"):
        models.build("resnet20", 6, dropout=0.1)


def test_several_labels_a_sample(few, tmp_path):
    hot = {part: F.one_hot(getattr(few, part).labels, 10).float() for part in ("train", "val", "test")}
    for labels in hot.values():
        labels[:, 0] = 1
    several = replace(few, **{part: replace(getattr(few, part), labels=labels) for part, labels in hot.items()})
    result = finetune(Config(**QUICK, best="f1", out=tmp_path), parts=several)
    assert 0.3 < result.after <= 1 and 0 <= result.metrics["f1"] <= 1
    logits, labels = torch.tensor([[2.0, -1.0, 3.0]]), torch.tensor([[1.0, 1.0, 1.0]])
    assert hits(logits, labels, several=True).tolist() == pytest.approx([2 / 3])
    assert hits(logits, torch.tensor([[0.3, 0.1, 0.6]]), several=False).tolist() == [1.0]


# What chooses, what is shown


def test_metrics_and_callbacks_of_ones_own(few, tmp_path):
    seen = []
    worst = {"worst": lambda logits, labels: float((logits.argmax(1) != labels).float().mean())}
    config = Config(**{**QUICK, "epochs": 3}, best="-worst", patience=1, out=tmp_path, lr=1e-9, freeze="backbone")
    result = finetune(config, parts=few, metrics=worst, callbacks=[seen.append])
    assert result.metrics["worst"] == pytest.approx(1 - result.after)
    assert [line["event"] for line in seen] == ["before", "epoch", "epoch", "after"], "nothing got better: it stops"
    assert seen[1]["val_worst"] == pytest.approx(1 - seen[1]["val_accuracy"])
    with pytest.raises(ValueError, match="there is no metric 'acuracy'; choose one of .*; did you mean 'accuracy'"):
        finetune(Config(**QUICK, best="acuracy", out=tmp_path), parts=few)


def test_the_screen_and_json(few, tmp_path, capsys):
    config = Config(**{**QUICK, "quiet": False}, recipe="probe", tta="flip", out=tmp_path)
    result = finetune(config, parts=few)
    shown = capsys.readouterr().out
    for words in ("recipe probe", "features of 96 numbers", "epoch  1/1", "waiting", "before │    after │", "wrote "):
        assert words in shown
    finetune(replace(config, json=True), parts=few)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["before", "epoch", "after"]
    assert lines[-1]["test_accuracy"] == result.after
    finetune(replace(config, quiet=True), parts=few)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layer_decay": 1.5}, r"layer_decay must be in \(0, 1\], got 1.5"),
        ({"ema": 1.0}, r"ema must be in \[0, 1\), got 1"),
        ({"swa": 1.0}, r"swa must be in \[0, 1\), got 1"),
        ({"mixup": math.nan}, "mixup must be finite"),
        ({"clip": 0.0}, "clip must be above 0"),
        ({"quiet": True, "json": True}, "quiet and json cannot be asked for together"),
        ({"keep": 0, "checkpoint_steps": 3}, "checkpoint_steps writes checkpoints and keep=0 keeps none"),
    ],
)
def test_options_that_cannot_be(options, words):
    with pytest.raises(ValueError, match=words):
        Config(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizer": "adamv"}, "there is no optimizer 'adamv'; did you mean 'adam"),
        ({"drop_path": 0.1, "model": "vgg11"}, "vgg11 has no drop_path; leave drop_path out"),
    ],
)
def test_options_that_do_not_go_together(few, options, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        finetune(Config(**{**QUICK, **options}, out=tmp_path), parts=few)
    assert not list(tmp_path.iterdir())


def test_a_config_is_read_back():
    config = Config(mean=(0.1, 0.2, 0.3), patience=3, lr=1e-3)
    assert Config.from_dict(config.as_dict()) == config
    with pytest.raises(ValueError, match="config: there is no option 'epoch'; did you mean 'epochs'"):
        Config.from_dict({"epoch": 3})
