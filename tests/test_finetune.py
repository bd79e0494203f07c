"""Fine-tuning: the given weights, models, presets, a whole run and what it leaves, the demonstration, the examples."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

for needed in ("accelerate", "matplotlib", "sklearn", "timm", "torchvision", "tqdm"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

from PIL import Image  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torchvision.transforms import v2  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug import presets  # noqa: E402
from gpuaug.data import Parts, Source, digits, open_parts  # noqa: E402
from gpuaug.finetune import Config, finetune, models, runs  # noqa: E402
from gpuaug.finetune import demo as demonstration  # noqa: E402
from gpuaug.finetune.clock import Glance, StepClock  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
CPU = {"device": "cpu", "workers": 0, "quiet": True, "robustness": 0}


@pytest.fixture(scope="session")
def few() -> Parts:
    """A hundred digits to learn from, fifty each to validate and to test."""
    source = digits(16).subset(range(200))
    rest, test = source.split(0.25, seed=0)
    train, val = rest.split(1 / 3, seed=0)
    return Parts("few", train, val, test)


@pytest.fixture(scope="session")
def resnet20(weights_dir) -> models.ResNet20:
    return models.build("resnet20", 10, str(weights_dir / "resnet20_cifar10.safetensors"))[0].eval()


@pytest.fixture(scope="session")
def cifar_test(data_dir) -> Source:
    return open_parts(data_dir / "cifar10", 32, val_fraction=0).test.decoded()


def accuracy(model, images: torch.Tensor, labels: torch.Tensor) -> float:
    x = v2.functional.normalize(images.float() / 255, ga.IMAGENET_MEAN, ga.IMAGENET_STD)
    with torch.inference_mode():
        hits = [model(a).argmax(1) == b for a, b in zip(x.split(200), labels.split(200), strict=True)]
    return torch.cat(hits).float().mean().item()


# Models and weights


def test_the_given_weights_have_the_accuracy_they_are_said_to_have(resnet20, cifar_test):
    assert accuracy(resnet20, cifar_test.images, cifar_test.labels) == pytest.approx(0.804, abs=0.001)


def test_the_given_weights_on_rotated_images(resnet20, cifar_test):
    angles = (torch.rand(1000, generator=torch.Generator().manual_seed(0)) * 90 - 45).tolist()
    bilinear = v2.InterpolationMode.BILINEAR
    pairs = zip(cifar_test.images, angles, strict=True)
    turned = torch.stack([v2.functional.rotate(x, angle, bilinear) for x, angle in pairs])
    assert accuracy(resnet20, turned, cifar_test.labels) == pytest.approx(0.526, abs=0.03)  # 2 standard errors


def test_pretrained_weights_that_cannot_be_had(monkeypatch):
    def offline(*args, pretrained, **keywords):
        raise OSError("no connection")

    monkeypatch.setattr("timm.create_model", offline)
    with pytest.raises(ValueError, match=r"resnet18: no pretrained weights to be had from timm.*no connection"):
        models.build("resnet18", 10, "pretrained")


def test_resnet20_has_the_published_size():
    model = models.ResNet20()
    assert sum(p.numel() for p in model.parameters()) == 269_722
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_a_timm_model_says_what_input_it_wants():
    assert models.card("resnet18").size == 224 and models.card("resnet18").mean == ga.IMAGENET_MEAN
    assert models.card("test_resnet").std == (0.5, 0.5, 0.5)


def test_a_vision_transformer_is_built_for_the_size_of_the_images():
    model, _ = models.build("test_vit", 3, size=32)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


def test_an_unknown_model_is_refused_with_those_like_it():
    with pytest.raises(ValueError, match=r"no model 'resnet19': .*resnet1[08]"):
        models.card("resnet19")


def test_weights_for_other_classes_get_a_new_classifier(tmp_path):
    for name, head in (("resnet20", "linear"), ("test_resnet", "fc")):
        old, _ = models.build(name, 10)
        save_file(old.state_dict(), tmp_path / "w.safetensors")
        new, words = models.build(name, 4, str(tmp_path / "w.safetensors"))
        assert "new classifier" in words and getattr(new, head).out_features == 4
        assert not getattr(new, head).weight.any() and not getattr(new, head).bias.any()
        assert all(torch.equal(v, old.state_dict()[k]) for k, v in new.state_dict().items() if not k.startswith(head))


def test_wrong_weights_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.safetensors: no such weights file"):
        models.build("resnet20", 10, str(tmp_path / "gone.safetensors"))
    (tmp_path / "text.safetensors").write_text("no weights at all in here")
    with pytest.raises(ValueError, match="not a safetensors file"):
        models.build("resnet20", 10, str(tmp_path / "text.safetensors"))
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="not the weights of this model, .* tensors differ: bn1.bias"):
        models.build("resnet20", 10, str(tmp_path / "w.safetensors"))
    with pytest.raises(ValueError, match="resnet20 has no published weights"):
        models.build("resnet20", 10, "pretrained")


# Presets


@pytest.mark.parametrize("name", presets.PRESETS)
def test_a_preset_gives_the_model_what_it_wants(name):
    images = torch.randint(0, 256, (3, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    size = 32 if name in ("cifar_train", "imagenet_train", "imagenet_eval") else 40
    given = {"boxes": torch.tensor([[[8.0, 8.0, 30.0, 36.0]]] * 3)} if name == "detection_ssd" else {}
    y = presets.get(name, size=size, seed=0, mean=[0.5] * 3, std=[0.25] * 3)(images, **given)
    y = y[0] if given else y
    assert y.shape == (3, 3, size, size) and y.dtype == torch.float32
    assert y.amin() >= -2 and y.amax() <= 2 and y.std() > (0.4 if given else 0.5)  # a canvas of one colour


def test_the_preset_none_changes_nothing_but_the_scale():
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    y = presets.none(mean=[0.0] * 3, std=[1.0] * 3)(images)
    assert torch.allclose(y, images / 255, atol=1e-6)


def test_preset_arguments_from_a_string():
    assert presets.parse("geometric:degrees=30,scale=(1, 2)") == ("geometric", {"degrees": 30, "scale": (1, 2)})
    assert "30" in repr(presets.get("rotate_shift:degrees=30"))
    assert "Flip" not in repr(presets.get("geometric:flip=0")) and "Flip" in repr(presets.get("geometric"))


def test_preset_errors():
    with pytest.raises(ValueError, match="no preset 'geometrical'; choose one of none, rotate_shift, geometric"):
        presets.get("geometrical")
    for spec in ("geometric:degrees", "geometric:degrees=", "geometric:degrees=open", "geometric:45"):
        with pytest.raises(ValueError, match="cannot read the arguments of preset 'geometric:"):
            presets.get(spec)
    with pytest.raises(ValueError, match="preset 'geometric:angle=3'.*angle"):
        presets.get("geometric:angle=3")


# A run


@pytest.fixture(scope="session")
def run(few, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    options = {"model": "test_resnet", "epochs": 10, "batch_size": 20, "lr": 0.1, "out": out}
    config = Config(augment="rotate_shift:degrees=5", **options, **CPU)
    return config, finetune(config, parts=few)


def test_a_run_learns(run):
    _, result = run
    losses = [h["train_loss"] for h in result.history]
    assert losses[-1] < 0.7 * losses[0]
    assert result.before < 0.3 < 0.5 < result.after
    assert sum(result.shares.values()) == pytest.approx(1, abs=1e-3) and 0 < result.shares["augment"] < 1


def test_a_run_leaves_its_folder(run, few):
    config, result = run
    assert {p.name for p in result.run.iterdir()} == {
        "config.json", "metrics.jsonl", "best.safetensors", "predictions.npz", "pictures",
        "evaluation.json", "report.html", "state.json"
    }  # fmt: skip
    found = runs.find(config.out, "1")
    assert found.folder == result.run and found.config == replace(config, data="few")
    assert found.resolved["recipe"] == "full"
    assert found.resolved["images"] == {"train": 100, "val": 50, "test": 50} and found.resolved["given"] == ["parts"]
    assert "RandomAffine" in found.resolved["augment"] and found.resolved["classes"] == list("0123456789")
    assert found.facts["environment"]["torch"] == torch.__version__ and found.history == result.history
    lines = [json.loads(line) for line in (result.run / "metrics.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["before", *["epoch"] * 10, "after"]
    assert lines[1:-1] == result.history and lines[-1]["test_accuracy"] == result.after
    assert all(line["steps"] == 5 and line["images_per_second"] > 0 for line in result.history)


def test_the_best_weights_are_those_of_the_best_validation(run, few):
    _, result = run
    best = max(result.history, key=lambda h: (h["val_accuracy"], -h["val_loss"]))
    assert result.best_epoch == best["epoch"]
    model, _ = models.build("test_resnet", 10, str(result.run / "best.safetensors"))
    model.eval()
    for part, said in ((few.val, best["val_accuracy"]), (few.test, result.after)):
        with torch.inference_mode():
            hits = model(part.images.float() / 127.5 - 1).argmax(1) == part.labels
        assert hits.float().mean().item() == pytest.approx(said, abs=1e-6)


def test_the_best_weights_say_what_they_are(run):
    _, result = run
    with safe_open(result.run / "best.safetensors", "pt") as file:
        said = json.loads(file.metadata()["gpuaug"])
    assert said == {
        "model": "test_resnet", "recipe": "full", "classes": list("0123456789"), "several": False, "size": 16,
        "resize": None, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3, "format": 2,
        "task": "classify", "details": {},
    }  # fmt: skip


def test_the_predictions_are_those_of_the_test(run, few):
    _, result = run
    made = np.load(result.run / "predictions.npz")
    assert made["ids"].tolist() == few.test.ids.tolist() and made["logits"].shape == (50, 10)
    assert (made["logits"].argmax(1) == made["labels"]).mean() == pytest.approx(result.after, abs=1e-6)
    loss = F.cross_entropy(torch.from_numpy(made["logits"]), few.test.labels).item()
    assert loss == pytest.approx(result.metrics["loss"], rel=1e-5)


def test_the_pictures_are_pictures(run):
    _, result = run
    pictures = result.run / "pictures"
    with Image.open(pictures / "contact_sheet.png") as sheet, Image.open(pictures / "curves.png") as curves:
        assert sheet.width > 1000 and sheet.height > 1000 and curves.width > 1000
        assert len(sheet.convert("L").getcolors(256)) > 50 and len(curves.convert("RGB").getcolors(1 << 20)) > 50


def test_a_run_is_repeatable_and_never_overwrites(run, few):
    config, result = run
    again = finetune(config, parts=few)
    assert again.run != result.run and again.run.parent == result.run.parent
    first, second = (int(r.run.name.partition("-")[0]) for r in (result, again))
    assert second > first == 1, "the next number, however many runs other tests have made"
    assert [h["train_loss"] for h in again.history] == [h["train_loss"] for h in result.history]


def test_streaming_trains_like_resident(run, few):
    config, result = run
    streamed = finetune(replace(config, resident=False, epochs=1), parts=few)
    resident = finetune(replace(config, resident=True, epochs=1), parts=few)
    assert streamed.history[0]["train_loss"] == pytest.approx(resident.history[0]["train_loss"], rel=1e-6)


def test_a_callable_takes_the_place_of_the_preset(few, tmp_path):
    class Mine:
        calls = 0

        def __call__(self, images, ids):
            self.calls += 1
            assert len(ids) == len(images)
            return images.float() / 127.5 - 1

    mine = Mine()
    config = Config(model="test_resnet", epochs=1, batch_size=50, val_fraction=0, out=tmp_path, **CPU)
    result = finetune(config, parts=replace(few, val=None), augment=mine)
    assert mine.calls >= 2 and result.history[0]["val_accuracy"] is None and result.best_epoch == 1


def test_files_of_any_size_go_through_the_pipeline_as_they_are(tmp_path, few):
    for i in range(40):
        path = tmp_path / "data" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(few.train.images[i].permute(1, 2, 0).numpy()).resize((60 + i, 50)).save(path)
    options = {"data": str(tmp_path / "data"), "size": 28, "epochs": 1, "batch_size": 8, "out": tmp_path / "runs"}
    for augment in ("imagenet_train", "geometric"):
        result = finetune(Config(augment=augment, val_fraction=0.1, **options, **CPU))
        facts = json.loads((result.run / "config.json").read_text())["resolved"]
        assert facts["size"] == facts["resize"] == 28 and facts["images"] == {"train": 29, "val": 3, "test": 8}
        assert any("resident in memory" in line for line in facts["decisions"])
        assert any("a last batch of 5 is left out" in line for line in facts["decisions"])


def test_a_diverging_loss_ends_the_run_with_a_word(few, tmp_path):
    config = Config(model="test_resnet", epochs=3, batch_size=25, lr=1e18, out=tmp_path, **CPU)
    with pytest.raises(ValueError, match=r"the loss is (nan|inf) in epoch \d: lower lr \(now 1e\+18\)"):
        finetune(config, parts=few)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("epochs", 0, "epochs must be at least 1, got 0"),
        ("batch_size", 0, "batch_size must be at least 1, got 0"),
        ("lr", 0.0, "lr must be above 0, got 0"),
        ("val_fraction", 1.0, r"val_fraction must be in \[0, 1\), got 1"),
        ("label_smoothing", -0.1, "label_smoothing must be in"),
        ("size", 0, "size must be at least 1, got 0"),
        ("weight_decay", -1.0, "weight_decay must not be negative"),
    ],
)
def test_config_errors(field, value, words):
    with pytest.raises(ValueError, match=words):
        Config(**{field: value})


def test_half_precision_is_not_for_the_cpu(few, tmp_path):
    with pytest.raises(ValueError, match="precision fp16 needs a GPU"):
        finetune(Config(precision="fp16", out=tmp_path, **CPU), parts=few)


def test_a_device_that_is_not_there(few, tmp_path):
    with pytest.raises(ValueError, match="device 'cuda:99' cannot be used"):
        finetune(Config(device="cuda:99", out=tmp_path), parts=few)
    with pytest.raises(ValueError, match="device 'gpu' cannot be used"):
        finetune(Config(device="gpu", out=tmp_path), parts=few)


def test_a_new_folder_counts_on(tmp_path):
    first = runs.new(tmp_path / "runs", "a b/c")
    (tmp_path / "runs" / "041-x").mkdir()
    assert first.name == "001-a-b-c" and runs.new(tmp_path / "runs", "a").name == "042-a"


def test_the_clock_measures_what_it_is_said_to(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    clock = StepClock(torch.device("cpu"))

    def batches():
        for i in range(3):
            now[0] += 2.0
            yield i

    for _ in clock.timed(batches()):
        now[0] += 6.0
    assert clock.finish(waited=3.0) == (24.0, {"waiting": 0.125, "augment": 0.125, "model": 0.75})
    assert Glance(torch.tensor([1.0, 2.0])).take() == [1.0, 2.0]


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_an_epoch_does_not_wait_for_the_device(few, tmp_path, precision):
    """In a process of its own, as accelerate keeps the first precision."""
    script = f"""
import torch
from gpuaug.data import Parts, digits
from gpuaug.finetune import Config, finetune, loop
rest, test = digits(32).split(0.2, seed=0)
def strict(trainer, *args, train=loop.Trainer.train):
    reduce = trainer.job.accelerator.reduce
    def relaxed(*a, **k):
        torch.cuda.set_sync_debug_mode("default")
        return reduce(*a, **k)
    torch.cuda.set_sync_debug_mode("error" if strict.warm else "default")
    strict.warm, trainer.job.accelerator.reduce = True, relaxed
    return train(trainer, *args)
strict.warm = False
loop.Trainer.train = strict
options = {{"epochs": 3, "lr": 0.02, "precision": {precision!r}, "out": {str(tmp_path)!r}}}
result = finetune(Config(quiet=True, device="cuda", **options), parts=Parts("digits", rest, None, test))
assert 0 < result.shares["model"] < 1, result
assert result.history[-1]["train_loss"] < result.history[0]["train_loss"] - 0.3, result
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]


# The demonstration and the examples


def test_the_demo_digits_are_moved_once_and_labelled_evenly():
    pool = digits(32).subset(range(300))
    moved = demonstration.moved(pool, seed=1)
    assert torch.equal(moved.images, demonstration.moved(pool, seed=1).images)
    changed = (moved.images != pool.images).flatten(1).any(1)
    assert changed.float().mean() > 0.95 and torch.equal(moved.labels, pool.labels)
    picks = [demonstration.labelled(moved, seed) for seed in (0, 0, 1)]
    assert torch.bincount(picks[0].labels).tolist() == [10] * 10
    assert picks[0].ids.tolist() == picks[1].ids.tolist() != picks[2].ids.tolist()


def test_the_demo_shows_what_augmentation_did(tmp_path, capsys):
    result = demonstration.demo(tmp_path, seeds=1)
    assert result["upright_test_accuracy"] > 0.95
    assert result["with_augmentation"][0] > result["without_augmentation"][0] + 0.08 > result["before"] + 0.08
    folder = tmp_path / "001-demo"
    assert json.loads((folder / "result.json").read_text()) == result
    assert {"curves.png", "contact_sheet.png", "upright", "moved"} <= {p.name for p in folder.iterdir()}
    shown = capsys.readouterr().out
    assert re.search(rf"seed 0 +│ +[\d.]+% │ +{result['without_augmentation'][0]:.1%} │", shown)


def example(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_of_an_own_loop():
    assert example("own_loop").main(epochs=2) > 0.8


def test_the_example_of_a_folder(data_dir, weights_dir, tmp_path):
    small = tmp_path / "small"
    for part, n in (("train", 12), ("test", 5)):
        for c in ("cat", "frog", "ship"):
            (small / part / c).mkdir(parents=True)
            for path in sorted((data_dir / "cifar10" / part / c).iterdir())[:n]:
                (small / part / c / path.name).symlink_to(path)
    weights = str(weights_dir / "resnet20_cifar10.safetensors")
    result = example("finetune_folder").main(
        str(small), weights, epochs=2, batch_size=16, lr=0.01, out=tmp_path / "runs", **CPU
    )
    assert json.loads((result.run / "config.json").read_text())["resolved"]["images"] == {"train": 36, "test": 15}
    assert result.history[-1]["train_loss"] < F.cross_entropy(torch.zeros(1, 3), torch.zeros(1).long()).item() * 1.5
