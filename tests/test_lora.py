"""Low-rank adapters: what learns, what is kept, how a run with them goes on, and what is refused."""

from __future__ import annotations

import copy
import csv
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

for needed in ("accelerate", "matplotlib", "peft", "sklearn", "timm", "torchvision", "tqdm"):
    pytest.importorskip(needed, reason=f"the extras finetune and lora are not installed: {needed}")

import finetuning  # noqa: E402
import timm  # noqa: E402
from finetuning import few  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from test_finetune_resume import Stops, same  # noqa: E402
from timm.models import VisionTransformer  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug.cli import main  # noqa: E402
from gpuaug.finetune import Config, Interrupted, Run, finetune, loop, lora, resume, runs  # noqa: E402

SIDE, DIM, DEPTH = 16, 24, 2
BASE = {
    "model": "test_lora:tiny", "size": SIDE, "lora": 4, "epochs": 2, "batch_size": 20, "lr": 0.01, "device": "cpu",
    "workers": 0, "quiet": True, "robustness": 0,
}  # fmt: skip
LAYERS = [f"blocks.{i}.{name}" for i in range(DEPTH) for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")]


@pytest.fixture
def no_pictures(monkeypatch) -> None:
    for name in ("before", "after"):
        monkeypatch.setattr(f"gpuaug.finetune.report.{name}", lambda *arguments: None)


def tiny(num_classes: int = 7, seed: int | None = None) -> nn.Module:
    """A vision transformer of timm's of two blocks."""
    if seed is not None:
        torch.manual_seed(seed)
    shape = {"img_size": SIDE, "patch_size": 8, "embed_dim": DIM, "depth": DEPTH, "num_heads": 2}
    return VisionTransformer(**shape, num_classes=num_classes)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Those of other classes than the digits."""
    path = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    save_file(tiny(seed=1).state_dict(), path)
    return path


def noted(monkeypatch) -> list[nn.Module]:
    """A copy of the model with its adapters, each time that it is kept as the best."""
    found, save = [], loop.Trainer.save_best

    def noting(self) -> None:
        found.append(copy.deepcopy(self.tested).eval())
        save(self)

    monkeypatch.setattr(loop.Trainer, "save_best", noting)
    return found


# --- a run ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "options", [{}, {"ema": 0.8}, {"swa": 0.6}, {"lora_layers": "attention", "lora_alpha": 3.0, "l1": 1e-4}]
)
def test_only_adapters_and_the_classifier_learn_and_are_merged(weights, tmp_path, monkeypatch, no_pictures, options):
    kept = noted(monkeypatch)
    run = finetune(Config(**BASE | options, weights=str(weights), out=tmp_path), parts=few()).run
    start, merged, adapted = load_file(weights), load_file(run / runs.WEIGHTS), kept[-1]
    scale = options.get("lora_alpha", 8) / 4
    layers = [name for name in LAYERS if not options.get("lora_layers") or "attn" in name]
    assert [n for n, one in adapted.named_modules() if hasattr(one, "lora_A")] == layers
    for name, value in merged.items():
        place, _, last = name.rpartition(".")
        if last == "weight" and place in layers:
            one = adapted.get_submodule(place)
            wanted = scale * one.lora_B["default"].weight @ one.lora_A["default"].weight
            assert wanted.abs().max() > 1e-4 and torch.linalg.matrix_rank(value - start[name], rtol=1e-3) <= 4
            torch.testing.assert_close(value - start[name], wanted.detach(), atol=1e-6, rtol=1e-4)
        elif name.startswith("head."):
            assert value.shape[0] == 10 and value.abs().max() > 0
        else:
            assert torch.equal(value, start[name]), name
    x, model = torch.rand(5, 3, SIDE, SIDE), tiny(10).eval()
    model.load_state_dict(merged)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), adapted(x), atol=1e-5, rtol=1e-4)
        assert (adapted(x) - model(x.flip(0))).abs().max() > 1e-3
    learns = sum(4 * (a + b) for a, b in (start[f"{name}.weight"].shape for name in layers)) + 10 * (DIM + 1)
    told = next(line for line in Run(run).resolved["decisions"] if line.startswith("lora: "))
    every = sum(value.numel() for value in merged.values()) + learns - 10 * (DIM + 1)
    said = f"in {len(layers)} linear layers; {learns:,} of {every:,} parameters learn ({learns / every:.1%}), "
    assert told == f"lora: rank 4, alpha {4 * scale:g}, {said}the adapters' and the classifier's"


def test_peft_reads_the_adapters_alone(weights, tmp_path, no_pictures):
    from peft import PeftModel

    run = finetune(Config(**BASE, weights=str(weights), out=tmp_path), parts=few()).run
    base, merged = tiny(10), tiny(10).eval()
    start = {name: value for name, value in load_file(weights).items() if not name.startswith("head.")}
    base.load_state_dict(start, strict=False)
    merged.load_state_dict(load_file(run / runs.WEIGHTS))
    model, x = PeftModel.from_pretrained(base, run / runs.LORA).eval(), torch.rand(5, 3, SIDE, SIDE)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), merged(x), atol=1e-5, rtol=1e-4)


def test_a_run_from_the_command_line_is_an_ordinary_one(weights, tmp_path, capsys):
    data, out = tmp_path / "data", tmp_path / "runs"
    write_images(data)
    options = {**BASE, "data": data, "weights": weights, "out": out, "epochs": 1, "batch_size": 4}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if name != "quiet"]
    assert main(["finetune", *words]) in (0, None)
    said = capsys.readouterr()
    assert "lora: rank 4, alpha 8, in 8 linear layers; 3,122 of " in said.out and "0.02 M parameters" in said.out
    assert "Warning" not in said.out + said.err and "W11" not in said.err
    (run,) = (one.folder for one in runs.every(out))
    page = (run / runs.REPORT).read_text()
    assert f"lora/, {runs.size_of(run / 'lora'):,} bytes, with the classifier; merged in best.safetensors" in page
    image = str(next((data / "test").rglob("*.png")))
    assert main(["predict", "1", image, "--runs", str(out), "--device", "cpu"]) in (0, None)
    row = next(csv.DictReader(capsys.readouterr().out.splitlines()))
    stored = Run(run).predictions
    i = [Path(path).name for path in stored["paths"]].index(Path(image).name)
    wanted = torch.tensor(stored["logits"][i]).softmax(0).max().item()
    assert float(row["probability"]) == pytest.approx(wanted, abs=2e-3)
    model = ga.load(run, device="cpu")
    exported = model.export(tmp_path / "model.pt2", format="torch-export")
    x = torch.rand(2, 3, SIDE, SIDE)
    with torch.inference_mode():
        made = torch.export.load(exported.path).module()(x)
        torch.testing.assert_close(made, model(x), atol=1e-5, rtol=1e-4)


def write_images(data: Path) -> None:
    parts = few()
    for part, source in (("train", parts.train), ("test", parts.test)):
        for i in range(12):
            folder = data / part / "ab"[i % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(source.images[i].permute(1, 2, 0).numpy()).resize((SIDE, SIDE)).save(folder / f"{i}.png")


# --- going on ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("options", [{"ema": 0.9, "accumulate": 2, "batch_size": 10}, {"swa": 0.7}])
def test_a_run_that_was_stopped_goes_on_to_the_bit(weights, tmp_path, no_pictures, options):
    copied = tmp_path / "weights.safetensors"
    copied.write_bytes(weights.read_bytes())
    config = Config(**BASE | {"epochs": 3} | options, weights=str(copied), out=tmp_path / "runs")
    whole = finetune(config, parts=few(), loss=Stops())
    steps, run = int(whole.history[0]["steps"]), None
    for at in (2, steps):  # in the first epoch, in which only the classifier learns, then behind it
        with pytest.raises(Interrupted) as stopped:
            if run is None:
                finetune(config, parts=few(), loss=Stops(at))
            else:
                resume(run, parts=few(), loss=Stops(at))
        run = stopped.value.run
        copied.unlink(missing_ok=True)
    result = resume(run, parts=few(), loss=Stops())
    assert result.run == run and result.best_epoch == whole.best_epoch
    same(whole.run, run)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (run / runs.LORA / name).read_bytes() == (whole.run / runs.LORA / name).read_bytes()


def test_a_run_that_lacks_only_its_report_gets_it(weights, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("gpuaug.finetune.report.after", lambda job: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            finetune(Config(**BASE | {"epochs": 1, "robustness": 20}, weights=str(weights), out=tmp_path), parts=few())
    (run,) = runs.every(tmp_path)
    resume(run.folder, parts=few())
    assert run.path(runs.REPORT).is_file() and run.robustness["n"] == 20


def test_a_model_that_was_given_is_plain_again_whatever_ends_the_run(tmp_path, no_pictures):
    model, options = tiny(seed=1), {**BASE, "model": None, "out": tmp_path}
    names = list(model.state_dict())
    with pytest.raises(Interrupted) as stopped:
        finetune(Config(**options), parts=few(), model=model, loss=Stops(3))
    assert list(model.state_dict()) == names
    run = resume(stopped.value.run, parts=few(), model=model, loss=Stops()).run
    assert list(model.state_dict()) == names and all(p.requires_grad for p in model.parameters())
    kept = load_file(run / runs.WEIGHTS)
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())


def test_adapters_go_with_teachers_and_a_search_and_begin_another_run(weights, tmp_path, no_pictures):
    usual = {**BASE, "epochs": 1, "out": tmp_path}
    first = finetune(Config(**usual, weights=str(weights)), parts=few()).run
    known = Config(**usual, weights=str(first / runs.WEIGHTS), teacher=(str(first),), distill_features=True)
    second = finetune(known, parts=few()).run
    start, end = (load_file(run / runs.WEIGHTS) for run in (first, second))
    changed = {name.rpartition(".")[0] for name in end if not torch.equal(start[name], end[name])}
    assert changed == {*LAYERS, "head"}
    search = {"augment": "auto", "auto_budget": 40.0, "clip": 1.0}
    third = finetune(Config(**usual | search, weights=str(weights)), parts=few()).run
    assert Run(third).resolved["auto"]["chosen"]
    start, end = load_file(weights), load_file(third / runs.WEIGHTS)
    assert {name.rpartition(".")[0] for name in end if not same_tensor(start[name], end[name])} == {*LAYERS, "head"}


def same_tensor(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["two processes", "compiled"])
def test_shared_or_compiled_it_comes_to_the_same(weights, tmp_path, how):
    def run(folder: str, batch_size: int, *launch: str, **options) -> dict:
        known = {"model": "test_lora:tiny", "size": SIDE, "weights": str(weights), "lora": 4, "optimizer": "sgd"}
        known |= {"lr": 0.1, "head_epochs": 0, "frozen_bn": False, "report": False}
        (tmp_path / folder).mkdir()
        words = [*launch, finetuning.__file__, str(tmp_path / folder), str(batch_size)]
        environment = os.environ | {"FINETUNING": json.dumps(known | options)}
        subprocess.run([sys.executable, *words], env=environment, check=True, timeout=1000)
        return json.loads((tmp_path / folder / "0.json").read_text())

    alone = run("alone", 20)
    if how == "compiled":
        other = run("other", 20, compile=True)
    else:
        other = run("other", 10, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    assert other["metrics"] == pytest.approx(alone["metrics"], abs=1e-4)
    for a, b in zip(alone["history"], other["history"], strict=True):
        assert b["train_loss"] == pytest.approx(a["train_loss"], abs=1e-4)
    start, end = (load_file(Path(one["run"]) / runs.WEIGHTS) for one in (alone, other))
    assert any(not torch.equal(start[name], value) for name, value in load_file(weights).items() if "mlp" in name)
    for name, value in start.items():
        torch.testing.assert_close(end[name], value, atol=1e-4, rtol=1e-3)


# --- which layers -----------------------------------------------------------------------------------------------------
class Reads(nn.Module):
    """An attention of which only the weights of one layer are read, as Swin V2's in timm."""

    def __init__(self):
        super().__init__()
        self.qkv, self.proj = nn.Linear(12, 12), nn.Linear(12, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(nn.functional.linear(x, self.qkv.weight))


class ReadsAttention(Reads):
    pass


class Mixed(nn.Module):
    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers, self.head = nn.Sequential(*layers), nn.Linear(12, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(x.mean(1)[:, :12, :12]).mean(1))


def adapted(model: nn.Module, **options) -> list[str]:
    x = torch.zeros(2, 3, SIDE, SIDE)
    return lora.adapted(Config(lora=2, **options), model, "Own", lambda: model.eval()(x)).layers


def test_layers_whose_weights_are_read_elsewhere_get_no_adapters():
    model = Mixed(nn.Linear(12, 12), ReadsAttention(), nn.TransformerEncoderLayer(12, 2, 16, batch_first=True))
    found = lora.adapted(Config(lora=2), model, "Own", lambda: model.eval()(torch.zeros(2, 3, SIDE, SIDE)))
    assert found.layers == ["layers.0", "layers.1.proj"]
    assert found.words[1] == "lora: not in linear1, linear2, out_proj, qkv, whose weights Own reads past the layer"
    found.remove()
    assert adapted(model, lora_layers="attention") == ["layers.1.proj"]


@pytest.mark.parametrize(
    ("name", "options", "own", "attention"),
    [
        ("test_vit", {}, {"qkv", "proj", "fc1", "fc2"}, {"qkv", "proj"}),
        (
            "swin_tiny_patch4_window7_224", {"window_size": 2, "embed_dim": 24, "num_heads": (1, 2, 3, 4)},
            {"qkv", "proj", "fc1", "fc2", "reduction"}, {"qkv", "proj"},
        ),
        ("beit_base_patch16_224", {"embed_dim": 24, "depth": 1, "num_heads": 2}, {"proj", "fc1", "fc2"}, {"proj"}),
        ("convnext_atto", {"dims": (8, 8, 8, 8)}, None, None),
    ],
)  # fmt: skip
def test_layers_of_models_of_timm(name, options, own, attention):
    """BEiT's qkv has a bias of its own, and only its weights are read; ConvNeXt Atto has 1 x 1 convolutions."""
    side = {} if name.startswith("convnext") else {"img_size": SIDE * 2}
    for layers, wanted in (("all", own), ("attention", attention)):
        model = timm.create_model(name, num_classes=10, **side, **options)
        forward = functools.partial(model.eval(), torch.zeros(2, 3, SIDE * 2, SIDE * 2))
        config = Config(lora=2, lora_layers=layers)
        if wanted is None:
            with pytest.raises(
                ValueError, match=f"^lora has no effect with model {name} .*no linear layer but its class"
            ):
                lora.adapted(config, model, name, forward)
            continue
        found = lora.adapted(config, model, name, forward)
        assert {one.rpartition(".")[2] for one in found.layers} == wanted


def test_adapters_are_drawn_by_the_seed_alone():
    x, states = torch.zeros(2, 3, SIDE, SIDE), []
    for seed in (3, 3, 4):
        torch.rand(len(states))
        model, before = tiny(seed=1), torch.random.get_rng_state()
        lora.adapted(Config(lora=2, seed=seed), model, "Own", lambda model=model: model.eval()(x))
        assert torch.equal(torch.random.get_rng_state(), before)
        states.append(model.state_dict()["blocks.1.mlp.fc2.lora_A.default.weight"])
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


# --- refused ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (lambda: Mixed(), {}, r"model Own \(adapters are of linear layers, and it has no linear layer but its class"),
        (lambda: Mixed(nn.Linear(12, 12)), {"lora_layers": "attention"}, r"model Own \(.* and it has no attention\)"),
        (
            lambda: Mixed(nn.TransformerEncoderLayer(12, 2, 16, batch_first=True)), {},
            r"model Own \(.* it calls none of them, as layers.0.self_attn.out_proj, whose weights it reads\)",
        ),
    ],
)  # fmt: skip
def test_a_model_without_such_layers_is_refused(model, options, words):
    with pytest.raises(ValueError, match=rf"^lora has no effect with {words}.*: leave it out$"):
        adapted(model(), **options)


def test_what_cannot_be_is_one_line(weights, tmp_path, capsys, monkeypatch):
    def line(*words: str) -> str:
        given = ["--out", str(tmp_path / "runs"), "--device=cpu", *words]
        assert main(["finetune", *given]) == 2
        return capsys.readouterr().err.strip()

    vit = ["--model=test_lora:tiny", f"--size={SIDE}", f"--weights={weights}"]
    assert line("--lora=4", "--model=test_resnet").startswith("gpuaug: --lora has no effect with random weights (")
    save_file(timm.create_model("test_resnet", num_classes=10).state_dict(), tmp_path / "resnet.safetensors")
    told = line("--lora=4", "--model=test_resnet", f"--weights={tmp_path}/resnet.safetensors")
    assert told.startswith(
        "gpuaug: --lora has no effect with model test_resnet (adapters are of linear layers, and it has no"
    )
    assert line("--lora=99", *vit).startswith(
        "gpuaug: --lora=99: adapters of this rank have more parameters than the 8 layers"
    )
    assert line("--lora=0", *vit) == "gpuaug: --lora must be at least 1, got 0"
    assert line("--lora=4", "--lora-alpha=0", *vit) == "gpuaug: --lora-alpha must be above 0, got 0.0"
    assert line("--lora-alpha=4", *vit).startswith("gpuaug: --lora-alpha has no effect with no lora: leave it out")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert line("--lora=4", *vit) == "gpuaug: lora does not go with FSDP: leave it out, or launch without --use_fsdp"
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    monkeypatch.setattr(lora.importlib.util, "find_spec", lambda name: None)
    assert line("--lora=4", *vit) == "gpuaug: lora needs the package peft: pip install 'gpuaug[lora]'"
    assert not (tmp_path / "runs").exists()
