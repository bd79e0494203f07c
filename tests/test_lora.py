"""Low-rank adapters: what learns, what is kept, how a run with them goes on, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from torch import nn

for needed in ("accelerate", "matplotlib", "peft", "sklearn", "timm", "torchvision", "tqdm"):
    pytest.importorskip(needed, reason=f"the extras finetune and lora are not installed: {needed}")

import timm  # noqa: E402
from finetuning import few  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from test_finetune_resume import Stops, same  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug.cli import main  # noqa: E402
from gpuaug.finetune import Config, Interrupted, Run, finetune, loop, lora, resume, runs, sharing  # noqa: E402

SIDE = 32
BASE = {
    "model": "test_vit", "size": SIDE, "lora": 4, "epochs": 2, "batch_size": 20, "lr": 0.01, "device": "cpu",
    "workers": 0, "quiet": True, "robustness": 0,
}  # fmt: skip
DIM, DEPTH = 64, 6  # of test_vit
LAYERS = [f"blocks.{i}.{name}" for i in range(DEPTH) for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")]


@pytest.fixture
def no_pictures(monkeypatch) -> None:
    for name in ("before", "after"):
        monkeypatch.setattr(f"gpuaug.finetune.report.{name}", lambda *arguments: None)


def network(name: str = "test_vit", classes: int = 7, side: int | None = SIDE, **options) -> nn.Module:
    torch.manual_seed(1)
    return timm.create_model(name, num_classes=classes, **({} if side is None else {"img_size": side}), **options)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Those of other classes than the digits."""
    path = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    save_file(network().state_dict(), path)
    return path


def noted(monkeypatch) -> list[tuple[dict, nn.Module]]:
    """What is kept as best, and a copy of the model with its adapters, each time."""
    import copy

    found, save = [], loop.Trainer.save_best

    def noting(self) -> None:
        found.append((self.weights(), copy.deepcopy(self.tested).eval()))
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
    start, merged, (state, adapted) = load_file(weights), load_file(run / runs.WEIGHTS), kept[-1]
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
    x, model = torch.rand(5, 3, SIDE, SIDE), network(classes=10).eval()
    model.load_state_dict(merged)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), adapted(x), atol=1e-5, rtol=1e-4)
        assert (adapted(x) - model(x.flip(0))).abs().max() > 1e-3
    learns = sum(4 * (a + b) for a, b in (start[f"{name}.weight"].shape for name in layers)) + 10 * (DIM + 1)
    told = next(line for line in Run(run).resolved["decisions"] if line.startswith("lora: "))
    every = sum(value.numel() for value in merged.values()) + learns - 10 * (DIM + 1)
    assert told.startswith(f"lora: rank 4, alpha {4 * scale:g}, in {len(layers)} linear layers; {learns:,} of {every:,} ")


def test_peft_reads_the_adapters_alone(weights, tmp_path, no_pictures):
    from peft import PeftModel

    run = finetune(Config(**BASE, weights=str(weights), out=tmp_path), parts=few()).run
    base, merged = network(classes=10), network(classes=10).eval()
    start = {name: value for name, value in load_file(weights).items() if not name.startswith("head.")}
    base.load_state_dict(start, strict=False)
    merged.load_state_dict(load_file(run / runs.WEIGHTS))
    model, x = PeftModel.from_pretrained(base, run / runs.LORA).eval(), torch.rand(5, 3, SIDE, SIDE)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), merged(x), atol=1e-5, rtol=1e-4)
    assert 5 * runs.size_of(run / runs.LORA) < (run / runs.WEIGHTS).stat().st_size


def test_a_run_from_the_command_line_is_an_ordinary_one(weights, tmp_path, capsys):
    data, out = tmp_path / "data", tmp_path / "runs"
    write_images(data)
    options = {**BASE, "data": data, "weights": weights, "out": out, "epochs": 1, "batch_size": 4}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if name != "quiet"]
    assert main(["finetune", *words]) in (0, None)
    said = capsys.readouterr()
    assert "lora: rank 4, alpha 8, in 24 linear layers; 21,634 of " in said.out and "0.30 M parameters" in said.out
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
    from PIL import Image

    parts = few()
    for part, source in (("train", parts.train), ("test", parts.test)):
        for i in range(12):
            folder = data / part / "ab"[i % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(source.images[i].permute(1, 2, 0).numpy()).resize((SIDE, SIDE)).save(folder / f"{i}.png")
