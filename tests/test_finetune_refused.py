"""Options that would change nothing are refused, in one form of words; so are data of which too much cannot be read.

A run that fails leaves no half folder."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

for needed in ("accelerate", "matplotlib", "sklearn", "timm", "torchvision", "tqdm"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

import finetuning  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug.data import DataError, Parts  # noqa: E402
from gpuaug.finetune import Config, Run, checkpoint, feeds, finetune, state, unused  # noqa: E402
from gpuaug.finetune.recipes import RECIPES  # noqa: E402

QUICK = {"epochs": 1, "batch_size": 25, "device": "cpu", "workers": 0, "quiet": True}


@pytest.fixture(scope="module")
def few() -> Parts:
    return finetuning.few()


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch) -> None:
    monkeypatch.setattr("gpuaug.finetune.report.after", lambda *arguments: None)


class Plain(nn.Module):
    """A model without batch norms."""

    def __init__(self, num_classes: int = 10):
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 4, 3), nn.Linear(4, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.stem(x).mean((2, 3)))


def photos(folder, many: int, cut: dict[str, int] | None = None):
    """A folder of two classes; ``cut``: bytes that are left of some files."""
    rng = np.random.default_rng(0)
    for i in range(many):
        path = folder / "ab"[i % 2] / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(path)
        if (left := (cut or {}).get(path.stem)) is not None:
            path.write_bytes(path.read_bytes()[:left])
    return folder


# Options without effect

ADAPTED = "all but the adapters and the classifier stays as it was"
ONCE, ALONE = r"features are computed once, of images as they are", "it trains the classifier alone"
CASES = [
    ({"data": "photos"}, {"parts"}, "data has no effect with parts="),
    ({"val_fraction": 0.3}, {"parts"}, "val_fraction has no effect with parts="),
    ({"masks": "classes"}, {"parts"}, r"masks has no effect with parts= \(their masks are classes\)"),
    ({"model": "vgg11"}, {"model"}, "model has no effect with model="),
    ({"weights": "w.safetensors"}, {"model"}, "weights has no effect with model="),
    ({"decoder": "fpn"}, {"model"}, "decoder has no effect with model="),
    ({"dropout": 0.1}, {"model"}, "dropout has no effect with model="),
    ({"drop_path": 0.1}, {"model"}, "drop_path has no effect with model="),
    ({"augment": "geometric"}, {"augment"}, "augment has no effect with augment="),
    ({"label_smoothing": 0.1}, {"loss"}, "label_smoothing has no effect with loss="),
    ({"balance": "weights"}, {"loss"}, "balance=weights has no effect with loss="),
    ({"task": "segment"}, {"metrics"}, r"metrics= has no effect with task=segment \(its own are iou, dice and loss\)"),
    ({"task": "segment", "tta": "flip"}, (), r"tta has no effect with task=segment \(its windows overlap instead\)"),
    ({"task": "segment", "dropout": 0.1}, (), "dropout has no effect with task=segment"),
    ({"task": "segment", "drop_path": 0.1}, (), "drop_path has no effect with task=segment"),
    ({"decoder": "fpn"}, (), r"decoder has no effect with task=classify \(it is of segment\)"),
    ({"masks": "objects"}, (), r"masks has no effect with task=classify \(it is of segment\)"),
    ({"recipe": "probe", "augment": "geometric"}, (), rf"augment has no effect with recipe=probe \({ONCE}\)"),
    ({"recipe": "probe"}, {"augment"}, rf"augment= has no effect with recipe=probe \({ONCE}\)"),
    ({"recipe": "probe", "mixup": 0.2}, (), rf"mixup has no effect with recipe=probe \({ONCE}\)"),
    ({"recipe": "probe", "cutmix": 1.0}, (), rf"cutmix has no effect with recipe=probe \({ONCE}\)"),
    ({"recipe": "probe", "freeze": "2"}, (), rf"freeze has no effect with recipe=probe \({ALONE}\)"),
    ({"recipe": "probe", "head_epochs": 2}, (), rf"head_epochs has no effect with recipe=probe \({ALONE}\)"),
    ({"recipe": "probe", "layer_decay": 0.7}, (), rf"layer_decay has no effect with recipe=probe \({ALONE}\)"),
    ({"recipe": "probe", "frozen_bn": True}, (), rf"frozen_bn has no effect with recipe=probe \({ALONE}\)"),
    ({"recipe": "probe", "dropout": 0.5}, (), rf"dropout has no effect with recipe=probe \({ALONE}\)"),
    ({"recipe": "probe", "drop_path": 0.5}, (), rf"drop_path has no effect with recipe=probe \({ALONE}\)"),
    (
        {"recipe": "probe", "task": "text", "feature_augment": "mix"}, (),
        "feature_augment has no effect with another task than classify",
    ),
    ({"feature_augment": "noise:strength=1"}, (), "feature_augment has no effect with another recipe than probe"),
    ({"freeze": "backbone", "layer_decay": 0.7}, (), "layer_decay has no effect with freeze=backbone"),
    ({"freeze": "backbone", "head_epochs": 2}, (), "head_epochs has no effect with freeze=backbone"),
    ({"freeze": "backbone", "frozen_bn": True}, (), "frozen_bn has no effect with freeze=backbone"),
    ({"recipe": "probe", "lora": 4}, (), rf"lora has no effect with recipe=probe \({ALONE}\)"),
    ({"lora": 4}, {"no weights"}, r"lora has no effect with random weights \(there is nothing to adapt, give w.*\)"),
    ({"lora": 4, "freeze": "2"}, (), rf"freeze has no effect with lora \({ADAPTED}\)"),
    ({"lora": 4, "frozen_bn": True}, (), rf"frozen_bn has no effect with lora \({ADAPTED}\)"),
    ({"recipe": "probe", "teacher": ("1",)}, (), rf"teacher has no effect with recipe=probe \({ONCE}\)"),
    ({"swa": 0.5, "ema": 0.9}, (), r"swa has no effect with ema \(one average is kept\)"),
    ({"schedule": "onecycle", "warmup_epochs": 1.0}, (), "warmup_epochs has no effect with schedule=onecycle"),
    ({"plateau_patience": 5}, (), "plateau_patience has no effect with another schedule than plateau"),
    ({"patience": 20, "epochs": 20}, (), "patience has no effect with as many epochs or fewer"),
    ({"best": "f1"}, {"no validation"}, r"best has no effect with no validation part \(the last weights are kept\)"),
    ({"keep_done": True, "keep": 0}, (), "keep_done has no effect with keep=0"),
]  # fmt: skip


def asked(options: dict, given) -> unused.Asked:
    config = Config(**options)
    name = config.recipe or "full"
    said = {f.name: getattr(config, f.name) for f in fields(RECIPES[name]) if f.name != "name"}
    recipe = replace(RECIPES[name], **{k: v for k, v in said.items() if v is not None})
    whether = {"validated": "no validation" not in given, "learned": "no weights" not in given}
    return unused.Asked(config, tuple(given), recipe, task=config.task or "classify", **whether)


@pytest.mark.parametrize(("options", "given", "words"), CASES, ids=[words.split(" (")[0] for *_, words in CASES])
def test_an_option_without_effect_is_refused(options, given, words):
    with pytest.raises(ValueError, match=f"^{words}.*: leave it out$"):
        unused.check(asked(options, given))


TASKS = ("classify", "detect", "segment", "text", "video")
GIVEN = {  # of each option a value that is not its default
    "tta": "flip", "dropout": 0.1, "drop_path": 0.1, "mixup": 0.2, "cutmix": 1.0, "size": 64, "resize": 64,
    "copy_paste": 0.5, "mean": (0.1,) * 3, "std": (0.1,) * 3, "channels_last": True, "masks": "objects", "workers": 5,
    "decoder": "fpn",
    "detector": "ssdlite", "resident": True, "cache": Path("c"), "max_bad": 0.5, "frozen_bn": True, "stride": 3,
    "label_smoothing": 0.1, "text_column": "t", "label_column": "l", "max_tokens": 64, "vocab_size": 999, "frames": 4,
    "clips_per_video": 2, "pooling": "max", "metrics=": None, "swa": 0.25, "teacher": "3",
    "distill_temperature": 4.0, "distill_weight": 0.9, "distill_features": True, "lora": 8, "lora_alpha": 4.0,
    "lora_layers": "attention",
}  # fmt: skip
TRIED = {(words.split(" has no")[0], words.split(" with ")[1].split(r" \(")[0]) for *_, words in CASES}
REST = [rule for rule in unused.RULES if (rule.option, rule.beside) not in TRIED]


def refusals(rule: unused.Rule) -> list[str]:
    """What is said of a rule's option, given with each task of which it holds."""
    found = []
    for task in TASKS:
        options = {"task": task, "data": "motion" if "motion" in rule.beside else "digits"}
        options |= {"model": "torchvision:r3d_18"} if rule.beside == "a model of clips" else {}
        options |= {} if rule.option == "metrics=" else {rule.option: GIVEN[rule.option]}
        given = [name for name in ("parts", "model") if rule.beside == f"{name}="] + ["metrics"] * ("=" in rule.option)
        if rule.where(asked(options, given)):
            with pytest.raises(ValueError) as raised:
                unused.check(asked(options, given))
            found.append(str(raised.value))
    return found


@pytest.mark.parametrize("rule", REST, ids=[f"{rule.option} {rule.beside}" for rule in REST])
def test_an_option_of_another_task_is_refused(rule):
    told = refusals(rule)
    assert told and all(words.startswith(f"{rule.option} has no effect with ") for words in told)
    assert any(words.startswith(f"{rule.option} has no effect with {rule.beside}") for words in told)


def test_every_rule_is_tried():
    assert len(CASES) + len(REST) == len(unused.RULES)
    assert [words.split(" has no")[0] for *_, words in CASES] == [r.option for r in unused.RULES if r not in REST]


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ({}, {"parts", "model", "augment", "loss"}),
        ({"val_fraction": 0}, {"parts"}),
        ({"label_smoothing": 0.0, "balance": "sampling"}, {"loss"}),
        ({"recipe": "probe", "augment": "none", "mixup": 0, "tta": "flip", "head_epochs": 0}, ()),
        ({"schedule": "plateau", "plateau_patience": 5, "patience": 19, "epochs": 20}, ()),
        ({"freeze": "2", "layer_decay": 0.7, "frozen_bn": True}, ()),
    ],
)
def test_an_option_with_an_effect_is_not(options, given):
    unused.check(asked(options, given))


@pytest.mark.parametrize(
    ("options", "given", "words"),
    [
        ({"model": "vgg11"}, {"model": Plain()}, "model has no effect with model="),
        ({"frozen_bn": True}, {"model": Plain()}, r"frozen_bn has no effect with model Plain \(it has no batch norm\)"),
        ({"cache": "cache"}, {}, r"cache has no effect with resident images \(they are decoded once; resident=False"),
        ({"checkpoint_steps": 4}, {}, "checkpoint_steps has no effect with 4 steps an epoch"),
        ({"checkpoint_steps": 3}, {}, None),
    ],
)
def test_a_run_refuses_before_it_has_a_folder(few, tmp_path, options, given, words):
    out = tmp_path / "runs"
    usual = {} if given else {"model": "test_resnet"}
    config = Config(**QUICK | usual | {k: Path(v) if k == "cache" else v for k, v in options.items()}, size=16, out=out)
    if words is None:
        assert finetune(config, parts=few, **given).best_epoch == 1
        return
    with pytest.raises(ValueError, match=words):
        finetune(config, parts=few, **given)
    assert not out.exists()


def test_a_validation_folder_and_a_fraction(tmp_path):
    for part in ("train", "val", "test"):
        photos(tmp_path / "data" / part, 12)
    config = Config(**QUICK, data=str(tmp_path / "data"), val_fraction=0.2, out=tmp_path / "runs")
    with pytest.raises(ValueError, match=r"val_fraction has no effect with the folder val in the data .*leave it out"):
        finetune(config)


# Unreadable images


def test_few_unreadable_images_are_left_out_and_told(tmp_path):
    data = photos(tmp_path / "data", 60, {"004": 0, "011": 10})
    body = data / "b" / "013.png"
    body.write_bytes(body.read_bytes()[:900])  # its header is whole
    options = {**QUICK, "batch_size": 23, "size": 24, "data": str(data), "out": tmp_path / "runs", "workers": 2}
    names = []
    for resident in (True, False):
        with pytest.warns(UserWarning, match="files were left out"):
            result = finetune(Config(**options, max_bad=0.2, resident=resident))
        told = [words for words in Run(result.run).resolved["decisions"] if "unreadable" in words]
        names.append(" ".join(told))
        assert sum(Run(result.run).resolved["images"].values()) == 58
    assert "004.png" in names[0] and "011.png" in names[0] and "013.png" in names[0], "resident ones are decoded before"
    assert "2 unreadable images left out: " in names[1] and "013.png" not in names[1]


def test_one_unreadable_image_of_few_ends_a_run_before_it_begins(tmp_path):
    data = photos(tmp_path / "data", 40, {"004": 10})
    config = Config(**QUICK, data=str(data), out=tmp_path / "runs")
    words = r"1 of \d+ (train|val|test) images cannot be read, more than max_bad=0.01 allows; .*or raise it: .*004\.png"
    with pytest.raises(DataError, match=words):
        finetune(config)
    assert not (tmp_path / "runs").exists()


def test_a_part_that_is_too_large_is_looked_at_here_and_there(tmp_path, monkeypatch):
    from gpuaug.data import folder

    source = folder(photos(tmp_path / "data", 30, {f"{i:03d}": 0 for i in range(30)}))
    monkeypatch.setattr(feeds, "HEADERS", 10)
    looked = []
    monkeypatch.setattr(feeds, "_unreadable", lambda item: looked.append(item) or "")
    feeds.readable(Parts("some", source, None, source), Config())
    assert len(looked) == 20 and looked[:10] == list(source.items[::3])


# Runs that fail


@pytest.mark.parametrize("keep", [2, 0])
def test_a_run_that_fails_in_its_first_epoch_leaves_no_folder(few, tmp_path, keep):
    def broken(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if logits.requires_grad:
            raise RuntimeError("out of memory")
        return F.cross_entropy(logits, labels)

    with pytest.raises(RuntimeError, match="out of memory"):
        finetune(Config(**QUICK, keep=keep, out=tmp_path), parts=few, loss=broken)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_later_says_so(few, tmp_path):
    calls = iter([0.5, 0.5, 0.5, None])

    def fails(logits: torch.Tensor, labels: torch.Tensor) -> float:
        value = next(calls)
        if value is None:
            raise RuntimeError("the disk is full")
        return value

    config = Config(**{**QUICK, "epochs": 3}, model="test_resnet", out=tmp_path)
    with pytest.raises(RuntimeError, match="the disk is full"):
        finetune(config, parts=few, metrics={"mine": fails})
    (run,) = tmp_path.iterdir()
    assert [line["event"] for line in Run(run).lines()] == ["before", "epoch", "epoch"]
    now = state.of(Run(run))
    assert (now.word, now.reason) == ("failed", "the disk is full") and len(checkpoint.found(run)) == 2


@pytest.mark.parametrize("keep", [False, True])
def test_a_run_that_is_done_keeps_no_checkpoints_unless_asked(few, tmp_path, keep):
    run = finetune(Config(**QUICK, keep_done=keep, out=tmp_path), parts=few, model=Plain(7)).run
    assert len(checkpoint.found(run)) == keep and not (run / "start.safetensors").exists()
    assert json.loads((run / "config.json").read_text())["resolved"]["start"]
    assert (run / "best.safetensors").exists() and ga.load(run, model=Plain(7)).size == 16
