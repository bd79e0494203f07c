"""Classifiers in int8: they answer nearly as before, are runs like any other, and what cannot be says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

for needed in ("accelerate", "matplotlib", "sklearn", "timm", "torchao", "torchvision", "tqdm"):
    pytest.importorskip(needed, reason=f"the extras finetune and quantize are not installed: {needed}")

import finetuning  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug.cli import main  # noqa: E402
from gpuaug.finetune import (  # noqa: E402
    Config,
    Run,
    comparing,
    ensembles,
    exporting_int8,
    fast,
    finetune,
    models,
    programs,
    quantizing,
    runs,
    saved,
    saved_int8,
    screen,
    sizes,
    soups,
)  # fmt: skip
from gpuaug.finetune.distilling import head_of  # noqa: E402
from gpuaug.finetune.evaluations import Asked  # noqa: E402
from gpuaug.finetune.pruning import prune  # noqa: E402
from gpuaug.finetune.quantizing import quantize  # noqa: E402


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


@pytest.fixture(scope="module")
def done(parent) -> quantizing.Quantized:
    """Of it, in the same folder."""
    return quantize(parent, images=64, speed=False, parts=finetuning.few(), out=parent.parent)


def test_int8_answers_nearly_as_before_in_a_smaller_file(parent, done):
    few = finetuning.few()
    float32, int8 = done.rows
    assert float32.accuracy > 0.4 and abs(int8.accuracy - float32.accuracy) < 0.1
    assert int8.nbytes < 0.32 * float32.nbytes and (int8.images_per_second, done.slow) == (None, "it was not timed")
    stored = Run(done.run).json(sizes.FILE)
    assert [row["name"] for row in stored["rows"]] == ["float32", "int8"] and stored["images"] == 100
    assert (stored["made_by"], stored["parent"]) == ("quantize", parent.name)
    before, model = ga.load(parent, device="cpu"), ga.load(done.run, device="cpu")
    x = few.test.images[:37]
    with torch.no_grad():
        own, other = before(x), model(x)
        step = 0.02 * other.abs().max()  # a last bit may be on the other side of a step of int8
        assert torch.allclose(model(x[:1]), other[:1], atol=step) and other.shape == own.shape
    assert 0 < (own - other).abs().max() < 0.2 * own.abs().max()
    state = load_file(done.run / runs.WEIGHTS)
    assert sum(v.numel() for v in state.values() if v.dtype == torch.int8) > 0.98 * sizes.parameters_of(before)


def test_it_is_a_run_like_any_other(parent, done, tmp_path, capsys):
    run, model, few = Run(done.run), ga.load(done.run, device="cpu"), finetuning.few()
    assert done.run.name == "002-resnet20-few-int8" and isinstance(model, saved_int8.Int8)
    assert model.evaluate(few.test).top1 == pytest.approx(done.rows[-1].accuracy)
    assert run.event("after")["test_accuracy"] == done.rows[-1].accuracy
    line = comparing.summary(run)
    assert (line.state, line.model, line.recipe, line.score) == ("done", "resnet20", "int8", run.evaluation.top1)
    page = run.path(runs.REPORT).read_text(encoding="utf-8")
    assert "<h2>Made of</h2>" in page and parent.name in page and "activations scaled on 100" in page
    assert main(["runs", "compare", "1", "2", "--out", str(parent.parent)]) == 0
    assert "McNemar" in capsys.readouterr().out
    found = model.predict(few.test.images[:5].permute(0, 2, 3, 1).numpy())
    x = few.test.images[:5]
    with torch.no_grad():
        assert torch.allclose(found.probabilities, model(x).softmax(1), atol=1e-4)
        for ending in (".pt2", ".safetensors"):
            model.export(tmp_path / f"model{ending}")
        again = ga.load(tmp_path / "model.safetensors", device="cpu")
        assert torch.equal(again(x), model(x)) and again.about == model.about
        both = ga.load([parent, done.run], device="cpu")  # an ensemble of both
        assert torch.equal(both.members[1](x), model(x)) and exporting_int8.rounds(both.about)
        made = ensembles.ensemble([parent, done.run], tmp_path, parts=few, device="cpu", workers=0)
        assert torch.equal(ga.load(made.folder, device="cpu")(x), both(x))
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(model(x), model(x.float() / 255)) and model(x).dtype == torch.float32


def test_scales_come_from_the_images_given(parent):
    few = finetuning.few()
    model, source = ga.load(parent, device="cpu"), few.train.subset(range(40))
    dark = ga.data.Source(source.images // 16, source.ids, source.labels, source.classes)
    x = few.test.images[:20]
    with torch.no_grad(), screen.hushed():
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
    monkeypatch.setattr(fast.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"quantize needs torchao: pip install 'gpuaug\[quantize\]'"):
        quantize(parent)


def test_what_int8_cannot_do_says_why(parent, done, tmp_path, capsys):
    few, weights = finetuning.few(), done.run / runs.WEIGHTS
    learn = Config(weights=str(weights), data="digits", device="cpu", out=tmp_path, quiet=True)
    for words, call in (
        ("it is int8 already, and quantize is of floats; take 001-", lambda: quantize(done.run, parts=few)),
        ("it is int8 already, and prune is of floats; take 001-", lambda: prune(done.run, parts=few)),
        ("it is int8, whose weights have no mean", lambda: soups.soup([done.run, parent], parts=few, device="cpu")),
        ("of an int8 run, .* learn nothing; take those of 001-", lambda: finetune(learn, parts=few)),
        ("of an int8 run, .* learn nothing", lambda: models.build("resnet20", 3, str(weights))),
        ("wants a teacher of floats, and this one is int8", lambda: head_of(ga.load(done.run, device="cpu").model)),
        ("an int8 run, which has its network in its file", lambda: ga.load(done.run, model=torch.nn.Identity())),
        ("compile has no effect with a model of full", lambda: saved_int8.compile(ga.load(parent, device="cpu"))),
        ("compile has no effect with several runs", lambda: ensembles.evaluate("ab", Asked("", compile=True))),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words) as raised:
            call()
        assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())
    assert main(["predict", str(parent), str(parent), "--compile", "--device", "cpu"]) == 2
    assert capsys.readouterr().err.startswith("gpuaug: --compile has no effect with a model of full")


def test_a_compiler_that_fails_is_told_in_one_line():
    from torch._inductor.exc import InductorError

    words = r"^compile: the C\+\+ compiler failed \(RuntimeError: broken\); leave it out, or mend it$"
    with pytest.raises(ValueError, match=words), fast.failures_told():
        raise InductorError(RuntimeError("broken\nand more"), None)


def test_an_int8_run_teaches_another(done, tmp_path, monkeypatch):
    for name in ("before", "after"):
        monkeypatch.setattr(f"gpuaug.finetune.report.{name}", lambda *arguments: None)
    config = Config(
        model="resnet20", size=16, epochs=1, batch_size=50, augment="none", robustness=0, device="cpu", workers=0,
        quiet=True, out=tmp_path, teacher=(str(done.run),),
    )  # fmt: skip
    result = finetune(config, parts=finetuning.few())
    assert done.run.name in " ".join(Run(result.run).resolved["decisions"])


def test_a_file_with_other_steps_is_refused(done, tmp_path):
    state, path = load_file(done.run / runs.WEIGHTS), tmp_path / "other.safetensors"
    about = saved.About.read(done.run / runs.WEIGHTS)
    data = json.loads(bytes(state[programs.STEPS].tolist()))
    last = len(data["steps"])

    def with_step(step: dict) -> dict[str, torch.Tensor]:
        text = json.dumps({"steps": [*data["steps"], step], "answer": last})
        return state | {programs.STEPS: torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)}

    for bad in (
        with_step({"op": "aten.from_file.default", "args": ["/etc/passwd"]}),
        with_step({"op": "aten._unsafe_index.Tensor", "args": [{"step": 0}, []]}),
        with_step({"op": "os.system", "args": ["true"]}),
        with_step({"op": "prims.relu.default", "args": []}),
        with_step({"op": "aten.relu.default", "args": [{"step": last + 1}]}),
        with_step({"op": "aten.relu.default", "args": [{"dtype": "load"}]}),
        with_step({"tensor": "graph"}),
        with_step({"op": "aten.relu.default", "args": [{"step": 0}], "named": {"a = print('executed'), b": 1}}),
        with_step({"op": "add", "args": [{"step": 0}, 1], "named": {"x": 1}}),
        with_step({"op": "aten.set_.source_Tensor", "args": [{"step": 0}, {"step": 0}]}),
        with_step({"op": "aten.empty.memory_format", "args": [[3, 3]]}),
        with_step({"op": "aten.linear.default", "args": [{"step": 0}, "text"]}),
        state | {programs.STEPS: torch.full((100_000,), ord("["), dtype=torch.uint8)},
        {"t0": torch.zeros(1)},
        state | {programs.STEPS: torch.zeros(3, dtype=torch.uint8)},
    ):
        save_file(bad, path, about.dumped())
        with pytest.raises(
            ValueError, match=r"other.safetensors: damaged, or not of gpuaug quantize: .*; quantize again"
        ):
            ga.load(path, device="cpu")
    save_file(with_step({"op": "aten.neg.default", "args": [{"step": data["answer"]}]}), path, about.dumped())
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(ga.load(path, device="cpu")(x), -ga.load(done.run, device="cpu")(x))


def test_it_is_exported_as_onnx_that_computes_in_int8(done, tmp_path, monkeypatch):
    for needed in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(needed, reason=f"the extra export is not installed: {needed}")
    import onnx
    import onnxruntime

    model, path = ga.load(done.run, device="cpu"), tmp_path / "model.onnx"
    told = model.export(path)
    assert 0 < told.logits < 0.3 and told.probabilities < 0.1  # a last bit is on the other side of a step of int8
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    kernels = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert kernels.count("QLinearConv") >= 9 and "QGemm" in kernels  # those without an addition behind them
    x = finetuning.few().test.images.float() / 255
    with torch.no_grad():
        own = model(x)
    other = torch.from_numpy(session.run(["logits"], {"images": x.numpy()})[0])
    assert (own - other).abs().mean() < 0.02 * own.abs().max()
    assert path.stat().st_size < 0.5 * done.rows[0].nbytes
    monkeypatch.setattr(exporting_int8, "whole_biases", wrong)
    with pytest.raises(ValueError, match="as onnx it answers otherwise than the model itself.*nothing was written"):
        model.export(tmp_path / "other.onnx")


def wrong(model) -> None:
    """An ONNX model whose weights are twice as large."""
    from onnx import numpy_helper

    scales = {node.input[1] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for one in model.graph.initializer:
        if one.name in scales and one.dims:
            one.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(one), one.name))


def test_without_a_compiler_the_reason_is_one_line(parent, done, monkeypatch):
    from torch._inductor import cpp_builder, exc

    def none() -> str:
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    monkeypatch.setattr(sizes, "SECONDS", 0.05)
    model = ga.load(done.run, device="cpu")
    rates, slow = quantizing.measured(ga.load(parent, device="cpu"), model, print)
    assert rates[0] > 0 and rates[1:] == [None, None]
    assert "needs a C++ compiler" in slow and "\n" not in slow
    with pytest.raises(ValueError, match=r"compile: int8 is fast where .* such as g\+\+: none was found"):
        model.compile()


@pytest.mark.slow
def test_int8_is_compiled_and_timed(parent, done, tmp_path, dynamo):
    if fast.no_compiler():
        pytest.skip("there is no C++ compiler")
    timed = quantize(parent, images=32, parts=finetuning.few(), out=tmp_path)
    assert [row.name for row in timed.rows] == ["float32", "compiled", "int8"]
    assert all(row.images_per_second > 0 for row in timed.rows)
    model, few = ga.load(done.run, device="cpu"), finetuning.few()
    x = few.test.images[:40]
    with torch.no_grad():
        exact = model(x)
        model.compile()
        whole, rest = model(x), model(x[:3])  # filled up to forty
    assert (whole - exact).abs().max() < 0.05 * exact.abs().max()
    assert torch.equal(rest, whole[:3])
    assert abs(model.evaluate(few.test).top1 - done.rows[-1].accuracy) < 0.05
