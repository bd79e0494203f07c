"""What a run has saved, loaded again by gpuaug.load."""

from __future__ import annotations

import re

import pytest
import torch

import gpuaug as ga
from gpuaug.data import Parts, digits

for needed in ("accelerate", "matplotlib", "sklearn", "timm", "torchvision", "tqdm"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

from safetensors.torch import save_file  # noqa: E402
from torch import nn  # noqa: E402

from gpuaug.finetune import Config, Run, finetune, runs  # noqa: E402


@pytest.fixture(scope="module")
def few() -> Parts:
    rest, test = digits(16).subset(range(203)).split(0.25, seed=0)
    train, val = rest.split(1 / 3, seed=0)
    return Parts("few", train, val, test)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def settings(out, **options) -> Config:
    return Config(epochs=1, lr=0.01, device="cpu", quiet=True, workers=0, robustness=0, out=out, **options)


@pytest.fixture(scope="module")
def run(few, out) -> Run:
    return Run(finetune(settings(out), parts=few).run)


def logits_of(run: Run) -> torch.Tensor:
    return torch.from_numpy(run.predictions["logits"])


def test_it_answers_as_the_run_did(run, few):
    model = ga.load(run.folder)
    assert model.classes == few.train.classes and model.size == 16 and not model.training
    with torch.no_grad():
        inside, outside = model(few.test.images), model.model(model.pipeline()(few.test.images))
        floats = model(few.test.images / 255)
    torch.testing.assert_close(outside, logits_of(run), rtol=0, atol=1e-6)
    torch.testing.assert_close(inside, logits_of(run), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(floats, inside, rtol=0, atol=0)
    probabilities = model.probabilities(inside)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(len(few.test)))


def test_a_run_has_a_path_a_name_a_number_and_a_file(run, out):
    number = runs.number_of(run.folder)
    states = [ga.load(name, out=out).state_dict() for name in (run.folder, run.folder.name, number)]
    states.append(ga.load(run.path(runs.WEIGHTS)).state_dict())
    for state in states:
        assert all(torch.equal(value, states[0][name]) for name, value in state.items())


class Own(nn.Module):
    def __init__(self, classes: int = 10):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, classes)

    def forward(self, x):
        return self.head(self.body(x).relu().mean((2, 3)))


def test_a_model_made_in_python_is_handed_over_again(few, out):
    run = Run(finetune(settings(out), parts=few, model=Own(7)).run)
    with pytest.raises(ValueError, match="its model, Own, was made in Python"):
        ga.load(run.folder)
    model = ga.load(run.folder, model=Own(3))
    with torch.no_grad():
        torch.testing.assert_close(model.model(model.pipeline()(few.test.images)), logits_of(run), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="not the weights of this model"):
        ga.load(run.folder, model=nn.Sequential(nn.Flatten(), nn.Linear(768, 10)))


def test_a_function_of_ones_own_is_called_again(few, out, tmp_path, monkeypatch):
    (tmp_path / "own_model.py").write_text(
        "from test_load import Own\n\n\ndef make(num_classes): return Own(num_classes)"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run = Run(finetune(settings(out, model="own_model:make"), parts=few).run)
    model = ga.load(run.folder)
    with torch.no_grad():
        torch.testing.assert_close(model.model(model.pipeline()(few.test.images)), logits_of(run), rtol=0, atol=1e-6)


def test_several_labels_are_probabilities_each(few, out):
    several = [
        ga.data.Source(part.images, part.ids, torch.eye(10)[part.labels], part.classes, size=16)
        for part in (few.train, few.val, few.test)
    ]
    model = ga.load(finetune(settings(out), parts=Parts("several", *several)).run)
    assert model.about.several
    assert torch.equal(model.probabilities(torch.zeros(2, 10)), torch.full((2, 10), 0.5))


def test_what_cannot_be_loaded_is_told(run, out, tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("no")
    folder = tmp_path / "001-begun"
    folder.mkdir()
    (folder / runs.CONFIG).write_text("{}")
    cases = {
        tmp_path / "other.safetensors": "it does not say which model and classes",
        tmp_path / "text.safetensors": "not a safetensors file",
        folder: "there is no best.safetensors in it yet",
        tmp_path / "nothing": "there is no run",
    }
    for path, words in cases.items():
        with pytest.raises(ValueError, match=re.escape(words)):
            ga.load(path, out=out)
    with pytest.raises(ValueError, match="device 'gpu' cannot be used"):
        ga.load(run.folder, device="gpu")
