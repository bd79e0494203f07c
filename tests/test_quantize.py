"""Classifiers in int8: they answer nearly as before, their file is smaller, and what cannot be says so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

for needed in ("accelerate", "matplotlib", "sklearn", "timm", "torchao", "torchvision", "tqdm"):
    pytest.importorskip(needed, reason=f"the extras finetune and quantize are not installed: {needed}")

import finetuning  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug.cli import main  # noqa: E402
from gpuaug.finetune import Config, Run, finetune, quantizing, runs, sizes  # noqa: E402
from gpuaug.finetune.quantizing import quantize  # noqa: E402

FRESH = """
import sys, torch
import torchao.quantization.pt2e.quantize_pt2e
program = torch.export.load(sys.argv[1]).module()
torch.save(program(torch.load(sys.argv[2])), sys.argv[3])
assert not any(name.startswith(("gpuaug", "timm")) for name in sys.modules)
"""


@pytest.fixture(scope="module")
def parent(tmp_path_factory) -> Path:
    """A ResNet-20 that has learned a hundred digits."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("before", "after"):
            patch.setattr(f"gpuaug.finetune.report.{name}", lambda *arguments: None)
        config = Config(
            model="resnet20", size=16, epochs=8, batch_size=25, augment="none", robustness=0, device="cpu", workers=0,
            quiet=True, optimizer="adamw", lr=0.005, out=tmp_path_factory.mktemp("runs"),
        )  # fmt: skip
        return finetune(config, parts=finetuning.few()).run


def test_int8_answers_nearly_as_before_in_a_smaller_file(parent, tmp_path):
    few, said = finetuning.few(), []
    done = quantize(parent, images=64, speed=False, parts=few, say=said.append)
    float32, int8 = done.rows
    assert float32.accuracy > 0.4 and abs(int8.accuracy - float32.accuracy) < 0.1
    assert int8.nbytes < 0.75 * float32.nbytes and done.path == parent / quantizing.PROGRAM  # the graph takes 0.3 MB
    assert (int8.images_per_second, done.slow) == (None, "it was not timed") and len(said) == 2
    stored = Run(parent).json(quantizing.FACTS)
    assert [row["name"] for row in stored["rows"]] == ["float32", "int8"] and stored["images"] == 100
    model, program = ga.load(parent, device="cpu"), quantizing.load(done.path, fast=False)
    x = few.test.images[:37].float() / 255
    with torch.no_grad():
        own, other = model(x), program(x)
        step = 0.02 * other.abs().max()  # a last bit may be on the other side of a step of int8
        assert torch.allclose(program(x[:1]), other[:1], atol=step) and other.shape == own.shape
    assert 0 < (own - other).abs().max() < 0.2 * own.abs().max()
    state = torch.export.load(done.path).state_dict
    assert sum(v.numel() for v in state.values() if v.dtype == torch.int8) > 0.98 * sizes.parameters_of(model)
    torch.save(x, tmp_path / "x.pt")
    subprocess.run([sys.executable, "-c", FRESH, done.path, tmp_path / "x.pt", tmp_path / "y.pt"], check=True)
    assert torch.allclose(torch.load(tmp_path / "y.pt"), other, atol=step)


def test_scales_come_from_the_images_given(parent):
    few = finetuning.few()
    model, source = ga.load(parent, device="cpu"), few.train.subset(range(40))
    dark = ga.data.Source(source.images // 16, source.ids, source.labels, source.classes)
    x = few.test.images[:20].float() / 255
    with torch.no_grad(), quantizing.quiet():
        well, badly = (quantizing.converted(model, one)(x) - model(x) for one in (source, dark))
    assert well.abs().mean() < badly.abs().mean()  # what is brighter than any image seen is cut off


def test_what_cannot_be_quantised_says_why(parent, capsys, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="images must be at least 1, got 0"):
        quantize(parent, images=0)
    with pytest.raises(ValueError, match=r"it was given its parts in Python; hand the same to quantize\(\)"):
        quantize(parent)
    assert main(["quantize", "7", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("gpuaug: ")
    facts = json.loads((parent / runs.CONFIG).read_text())
    facts["resolved"]["task"] = "video"
    (tmp_path / "1-clips").mkdir()
    (tmp_path / "1-clips" / runs.CONFIG).write_text(json.dumps(facts))
    assert main(["quantize", "1", "--out", str(tmp_path)]) == 2
    assert "quantize has no effect with task=video (it is for image classification)" in capsys.readouterr().err
    monkeypatch.setattr(quantizing.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"quantize needs torchao: pip install 'gpuaug\[quantize\]'"):
        quantize(parent)


def test_without_a_compiler_the_reason_is_one_line(parent, monkeypatch):
    from torch._inductor import cpp_builder, exc

    def none() -> str:
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    monkeypatch.setattr(sizes, "SECONDS", 0.05)
    rates, slow = quantizing.measured(ga.load(parent, device="cpu"), torch.nn.Identity(), print)
    assert rates[0] > 0 and rates[1:] == [None, None]
    assert "needs a C++ compiler" in slow and "\n" not in slow


@pytest.mark.slow
def test_int8_is_compiled_and_timed(parent, monkeypatch):
    if quantizing.no_compiler():
        pytest.skip("there is no C++ compiler")
    done = quantize(parent, images=32, parts=finetuning.few())
    assert [row.name for row in done.rows] == ["float32", "compiled", "int8"]
    assert all(row.images_per_second > 0 for row in done.rows)
    x = torch.rand(16, 3, 16, 16)
    fast, exact = quantizing.load(done.path)(x), quantizing.load(done.path, fast=False)(x)
    assert (fast - exact).abs().max() < 0.05 * exact.abs().max()
