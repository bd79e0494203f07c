"""Whatever comes of a run is a run: it loads, predicts, is evaluated, exported, listed, compared and reported on."""

from __future__ import annotations

import csv
import importlib.util
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

for needed in ("accelerate", "matplotlib", "scipy", "sklearn", "timm", "torchvision", "tqdm", "tyro"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

import several  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug.cli import main  # noqa: E402
from gpuaug.finetune import Run, ensembles, soups  # noqa: E402
from gpuaug.finetune.pruning import prune  # noqa: E402
from gpuaug.finetune.quantizing import quantize  # noqa: E402

Maker = Callable[[Path, Path, list[Run]], Path]


def tuned(**options: object) -> Maker:
    """A run with such options; "RUN" is the first of those that there are."""

    def make(data: Path, out: Path, there: list[Run]) -> Path:
        known = {"RUN": there[0].folder, "WEIGHTS": there[0].folder / "best.safetensors"}
        own = {name: str(known.get(value, value)) if value in known else value for name, value in options.items()}
        return several.trained(data, out, **own).folder

    return make


def adapted(data: Path, out: Path, there: list[Run]) -> Path:
    """Adapters in a small transformer."""
    with several.unreported():
        begun = several.trained(data, out, model="test_vit", epochs=1)
    return several.trained(data, out, model="test_vit", weights=str(begun.folder / "best.safetensors"), lora=2).folder


MAKERS: dict[str, Maker] = {
    "ema": tuned(ema=0.9),
    "swa": tuned(swa=0.5),
    "distilled": tuned(teacher="RUN"),
    "distilled, features": tuned(teacher="RUN", distill_features=True),
    "features augmented": tuned(weights="WEIGHTS", recipe="probe", feature_augment="mix"),
    "soup": lambda data, out, there: soups.soup([one.folder for one in there], out, device="cpu", workers=0).folder,
    "ensemble": lambda data, out, there: (
        ensembles.ensemble([one.folder for one in there], out, device="cpu", workers=0).folder
    ),
    "pruned": lambda data, out, there: prune(there[0].folder, flops=0.9, epochs=1, out=out).run,
    "int8": lambda data, out, there: quantize(there[0].folder, images=16, speed=False, out=out).run,
    "lora": adapted,
}
NEEDS = {"pruned": "torch_pruning", "int8": "torchao", "lora": "peft"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return several.save(tmp_path_factory.mktemp("data") / "four", each=30)


@pytest.fixture(scope="module")
def there(data, tmp_path_factory):
    """(the folder of all runs, three of them: the second and third began with the first's weights)."""
    out = tmp_path_factory.mktemp("runs")
    with several.unreported():
        first = several.trained(data, out)
        start = str(first.folder / "best.safetensors")
        return out, [first, *(several.trained(data, out, seed=seed, weights=start) for seed in (1, 2))]


@pytest.mark.parametrize("name", MAKERS)
def test_it_is_a_run_like_any_other(name, data, there, tmp_path, capsys):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"the extra with {NEEDS[name]} is not installed")
    out, before = there
    folder = MAKERS[name](data, out, before[1:])
    run, shared = Run(folder), ["--device", "cpu", "--workers", "0"]
    capsys.readouterr()

    # loads, and answers as it did in its test
    model = ga.load(folder, device="cpu")
    assert model.classes == several.NAMES and run.event("after")["test_accuracy"] == pytest.approx(run.evaluation.top1)
    assert main(["evaluate", str(folder), "--out", str(out), *shared]) == 0
    assert f"{run.evaluation.top1:.1%}" in capsys.readouterr().out

    # predicts
    found = model.predict(data, workers=0)
    assert main(["predict", str(folder), str(data), *shared]) == 0
    answers = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    top = [model.classes[int(one)] for one in found.probabilities.argmax(1)]
    assert len(answers) == 120 and [row["answer"] for row in answers] == top

    # is evaluated on other images
    assert main(["evaluate", str(folder), "--data", str(data), "--out", str(out), *shared]) == 0
    right = sum(row["path"].split("/")[-2] == row["answer"] for row in answers)
    assert f"{right / 120:.1%}" in capsys.readouterr().out

    # is exported
    kinds = ["torch-export", "safetensors", *(["onnx"] if importlib.util.find_spec("onnxruntime") else [])]
    for kind in kinds:
        file = tmp_path / {"torch-export": "a.pt2", "safetensors": "a.safetensors", "onnx": "a.onnx"}[kind]
        assert main(["export", str(folder), "--format", kind, "--out", str(file)]) == 0 and file.stat().st_size > 1000
    x = torch.rand(2, *model.shape)
    with torch.no_grad():
        again = ga.load(tmp_path / "a.safetensors", device="cpu")
        assert torch.allclose(again(x), model(x), atol=1e-5)

    # is listed, compared, and reported on
    capsys.readouterr()
    assert main(["runs", "--out", str(out)]) == 0
    assert run.name in capsys.readouterr().out
    assert main(["runs", "compare", before[0].name, run.name, "--out", str(out)]) == 0
    assert main(["runs", "cost", before[0].name, run.name, "--out", str(out), "--no-speed"]) == 0
    assert capsys.readouterr().out.count(run.name) >= 2
    page = run.path("report.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>") and run.name in page
