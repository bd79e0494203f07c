"""gpuaug export: what other programs answer with it, and that nothing is written that answers otherwise."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import gpuaug as ga

for needed in ("timm", "PIL", "tyro"):
    pytest.importorskip(needed, reason=f"needs the extra gpuaug[finetune]: {needed}")

from PIL import Image  # noqa: E402
from safetensors import safe_open  # noqa: E402
from torch import nn  # noqa: E402

from gpuaug.cli import main  # noqa: E402
from gpuaug.finetune import exporting, models  # noqa: E402
from gpuaug.finetune.saved import About, Classifier  # noqa: E402

FORMATS = {"torch-export": "pt2", "onnx": "onnx", "safetensors": "safetensors"}
DATA = Path(os.environ.get("GPUAUG_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
LITE = DATA.parent / "weights" / "tf_efficientnet_lite0_imagenet.safetensors"
TOLERANCE = 1e-4
needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="needs the extra gpuaug[export]",
)
FRESH = """
import json, sys
import numpy as np
path, images, out = sys.argv[1:]
x, found = np.load(images), []
sizes = json.loads({sizes!r})
if path.endswith("onnx"):
    import onnxruntime
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    answer = lambda x: session.run(None, {{"images": x}})[0]
    said = session.get_modelmeta().custom_metadata_map
else:
    import torch
    said = {{"classes": "", "mean": "", "std": "", "size": "", "input": ""}}
    program = torch.export.load(path, extra_files=said).module()
    answer = lambda x: program(torch.from_numpy(x)).detach().numpy()
at = 0
for size in sizes:
    found.append(answer(x[at : at + size]))
    at += size
np.save(out, np.concatenate(found))
assert not any(name.startswith(("gpuaug", "timm")) for name in sys.modules)
print(json.dumps(said))
"""


def classifier(name: str, weights: Path | None, size: int, classes: int = 10, **about) -> Classifier:
    """As gpuaug.load gives one; at random, its norms have seen images and its logits spread."""
    torch.manual_seed(0)
    model, _ = models.build(name, classes, None if weights is None else str(weights), size)
    if weights is None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.02 * torch.randn_like(parameter)
            model.train()(torch.randn(16, 3, size, size))
    known = {"several": False, "resize": None, "interpolation": "bilinear", "mean": ga.IMAGENET_MEAN}
    known |= {"std": ga.IMAGENET_STD, "recipe": "full"} | about
    return Classifier(model, About(name, classes=tuple(f"class {k}" for k in range(classes)), size=size, **known))


def images_of(size: int) -> torch.Tensor:
    """100 images float32 of 0 to 1: crops of real photos where they are, else smooth ones."""
    photos = sorted((DATA / "photos").glob("*.jpg"))
    if not photos:
        return nn.functional.interpolate(torch.rand(100, 3, 5, 5), (size, size), mode="bilinear")
    made = []
    for i in range(100):
        with Image.open(photos[i % len(photos)]) as photo:
            shift, side = 4 * (i // len(photos)), min(photo.size) - 8
            box = (shift, shift, shift + side, shift + side)
            made.append(np.array(photo.convert("RGB").resize((size, size), box=box)))
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).float() / 255


def fresh(path: Path, x: torch.Tensor, place: Path, sizes=(1, 2, 33, 64)) -> tuple[torch.Tensor, dict]:
    """What a process that does not know gpuaug makes of images with an exported file, and what the file says."""
    np.save(place / "x.npy", x.numpy())
    command = [
        sys.executable,
        "-c",
        FRESH.format(sizes=json.dumps(list(sizes))),
        path,
        place / "x.npy",
        place / "y.npy",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=place)
    assert done.returncode == 0, done.stderr
    return torch.from_numpy(np.load(place / "y.npy")), json.loads(done.stdout.splitlines()[-1])


@torch.no_grad()
def logits_of(model: Classifier, x: torch.Tensor) -> torch.Tensor:
    """By the plain model of images that are normalised here."""
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (model.about.mean, model.about.std))
    return model.model.eval()((x - mean) / std)


@pytest.mark.parametrize("format", ["torch-export", pytest.param("onnx", marks=needs_onnx)])
@pytest.mark.parametrize(
    "name", ["resnet20", "test_resnet", pytest.param("tf_efficientnet_lite0", marks=pytest.mark.slow)]
)
def test_another_process_answers_as_the_model_does(name, format, tmp_path):
    if name == "tf_efficientnet_lite0" and not LITE.is_file():
        pytest.skip(f"the weights are not there: {LITE}")
    lite = name == "tf_efficientnet_lite0"
    model = classifier(name, LITE if lite else None, 224 if lite else 32, 1000 if lite else 10, mean=(0.5, 0.4, 0.3))
    x = images_of(model.size)
    done = model.export(tmp_path / f"model.{FORMATS[format]}")
    found, said = fresh(done.path, x, tmp_path)
    wanted = logits_of(model, x)
    assert wanted.std() > 0.05 and len(found) == 100
    torch.testing.assert_close(found, wanted, rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(found.softmax(1), wanted.softmax(1), rtol=0, atol=TOLERANCE)
    assert json.loads(said["classes"]) == list(model.classes) and json.loads(said["size"]) == model.size
    assert json.loads(said["mean"]) == [0.5, 0.4, 0.3] and json.loads(said["std"]) == list(ga.IMAGENET_STD)
    assert f"float32 [B, 3, {model.size}, {model.size}], RGB of 0 to 1" in said["input"]
    assert (done.format, done.images, done.real) == (format, 100, False) and done.logits <= TOLERANCE


def test_weights_load_again_and_say_what_they_are(tmp_path):
    model = classifier("test_resnet", None, 32, several=True, resize=40).to(memory_format=torch.channels_last)
    done = model.export(tmp_path / "copy.safetensors")
    again = ga.load(done.path, device="cpu")
    assert again.about == model.about and done.logits == 0
    x = images_of(32)
    torch.testing.assert_close(logits_of(again, x), logits_of(model, x), rtol=0, atol=0)
    with safe_open(done.path, "pt") as file:
        said = file.metadata()
    assert json.loads(said["classes"]) == list(model.classes) and json.loads(said["several"]) is True
    assert "sigmoid of each" in said["output"] and said["model"] == "test_resnet"


class Halves(nn.Module):
    """Cannot do without its batch's size."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 4)

    def forward(self, x):
        return self.head(torch.cat([x.mean((2, 3))[i : i + 1] for i in range(len(x))]))


def test_a_batch_of_one_size(tmp_path):
    model = Classifier(Halves(), classifier("resnet20", None, 32, 4).about)
    with pytest.raises(ValueError, match=re.escape("torch.export cannot follow it")) as refused:
        model.export(tmp_path / "model.pt2")
    assert "--no-dynamic-batch" in str(refused.value) and "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())
    done = model.export(tmp_path / "model.pt2", dynamic_batch=False, batch_size=5)
    x = images_of(32)
    torch.testing.assert_close(fresh(done.path, x, tmp_path, [5] * 20)[0], logits_of(model, x), rtol=0, atol=1e-6)


class Odd(nn.Module):
    """Answers otherwise in an export than before."""

    def __init__(self, by: float):
        super().__init__()
        self.head, self.by = nn.Linear(3, 4), by

    def forward(self, x):
        y = self.head(x.mean((2, 3)))
        return y + self.by if torch.compiler.is_exporting() else y


@pytest.mark.parametrize(("by", "kept"), [(5e-5, True), (2e-4, False), (float("nan"), False)])
def test_what_answers_otherwise_is_refused(by, kept, tmp_path):
    model, path = Classifier(Odd(by), classifier("resnet20", None, 32, 4).about), tmp_path / "model.pt2"
    path.write_bytes(b"before")
    if kept:
        assert model.export(path).logits == pytest.approx(by, rel=0.05) and path.read_bytes() != b"before"
    else:
        with pytest.raises(ValueError, match="answers otherwise than the model itself: logits differ by"):
            model.export(path)
        assert path.read_bytes() == b"before"
    assert [one.name for one in tmp_path.iterdir()] == ["model.pt2"]


def test_large_logits_may_differ_by_their_rounding():
    exporting.check((9e-4, 0.0, 100.0), "x")
    for greatest in ((1.1e-3, 0.0, 100.0), (1.1e-4, 0.0, 9.0), (0.0, 1.1e-4, 100.0)):
        with pytest.raises(ValueError, match="nothing was written"):
            exporting.check(greatest, "x")


# --- the command ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A folder as a run leaves it, its test images among them that are no more."""
    folder = tmp_path_factory.mktemp("runs") / "004-some"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    classifier("test_resnet", None, 32, resize=36).export(folder / "best.safetensors")
    paths = []
    for i in range(6):
        paths.append(folder / f"{i}.png")
        colours = np.random.default_rng(i).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(colours).resize((50 + i, 60), Image.Resampling.BICUBIC).save(paths[-1])
    (folder / "damaged.png").write_bytes(paths[0].read_bytes()[:60])
    stored = [*map(str, paths), str(folder / "gone.png"), str(folder / "damaged.png"), ""]
    np.savez(folder / "predictions.npz", paths=np.array(stored))
    return folder


@needs_onnx
def test_the_command_checks_on_the_runs_own_images(run, capfd):
    for format, ending in FORMATS.items():
        assert main(["export", "4", "--runs", str(run.parent), "--format", format]) == 0
        told = capfd.readouterr()
        first, *rest = told.out.splitlines()
        assert first.startswith(f"wrote {run}/model.{ending}: checked on 6 test images of the run: logits differ by")
        assert told.err == "" and len(rest) == (format != "safetensors")
        if rest:
            words = "input: images, float32 [B, 3, 32, 32], RGB of 0 to 1; the normalisation is inside"
            assert rest == [words]
    ga.load(run / "model.safetensors")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("", "say --format, or give an --out that ends in .pt2, .onnx, .safetensors"),
        ("--out {0}/model.bin", "model.bin: no format by this ending"),
        ("--out {0}/model.pt2 --format onnx", "format onnx was asked for, and the ending says torch-export"),
        ("--format torch-export --no-dynamic-batch --batch-size 0 --out {0}/m.pt2", "--batch-size must be at least 1"),
        ("--format onnx --runs {0}", "there is no run '4'; there are: none"),
    ],
)
def test_bad_input_gets_one_line(run, tmp_path, capsys, args, words):
    args = args.format(tmp_path).split()
    runs = [] if "--runs" in args else ["--runs", str(run.parent)]
    assert main(["export", "4", *args, *runs]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("gpuaug: ") and words in told.err and told.err.count("\n") == 1 and not told.out
    assert not list(tmp_path.iterdir())


def test_a_missing_package_names_the_extra(run, tmp_path, capsys, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "onnxscript" else found(name, *a))
    assert main(["export", str(run), "-o", str(tmp_path / "m.onnx")]) == 2
    assert capsys.readouterr().err == ("gpuaug: format onnx needs onnxscript: pip install 'gpuaug[export]'\n")
    with pytest.raises(ModuleNotFoundError, match=re.escape("gpuaug[export]")):
        ga.load(run).export(tmp_path / "m.onnx")
