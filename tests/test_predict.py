"""gpuaug predict: judged by torchvision's pipeline on Pillow's pixels, and by what csv and json read back."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import gpuaug as ga

for needed in ("timm", "torchvision", "PIL", "tyro"):
    pytest.importorskip(needed, reason=f"needs the extra gpuaug[finetune]: {needed}")

from PIL import Image  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torchvision.transforms import v2  # noqa: E402

from gpuaug.cli import main  # noqa: E402
from gpuaug.finetune import models, predictions  # noqa: E402
from gpuaug.finetune.saved import About  # noqa: E402

CLASSES = tuple(f"class {k}" for k in range(6))
CLOSE = {"rtol": 0, "atol": 2e-4}


def written(path: Path, several: bool = False, resize: int | None = 36) -> Path:
    """A weights file as a run writes it: of a ResNet-20 that begins at random, whose answers differ from image to
    image."""
    torch.manual_seed(0)
    model, _ = models.build("resnet20", len(CLASSES))
    colours = torch.nn.functional.interpolate(2 * torch.randn(64, 3, 4, 4), (32, 32), mode="bicubic")
    with torch.no_grad():
        model(colours)  # norms are about what they are for photos then
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
                module.reset_running_stats()
        model(colours)
        logits = model.eval()(colours)
        model.linear.weight *= 1.5 / logits.std(0)[:, None]
        model.linear.bias -= model(colours).mean(0)
    about = About("resnet20", "full", CLASSES, several, 32, resize, "bilinear", ga.IMAGENET_MEAN, ga.IMAGENET_STD)
    save_file(model.state_dict(), path, about.dumped())
    return path


def painted(path: Path, seed: int, width: int = 70, height: int = 50) -> Path:
    """A photo-like PNG: smooth colours."""
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("predict")


@pytest.fixture(scope="module")
def weights(place) -> Path:
    return written(place / "model.safetensors")


@pytest.fixture(scope="module")
def photos(place) -> list[Path]:
    """In the order in which their folder is walked."""
    names = ("a/0.png", "a/b/1.png", "a/b/2.png", "c/3.png", "z.png")
    return [painted(place / "photos" / name, i, 60 + 5 * i, 50 + i % 2 * 30) for i, name in enumerate(names)]


def judged(weights: Path, paths: list[Path], flip: bool = False) -> torch.Tensor:
    """Logits by torchvision."""
    model = ga.load(weights, device="cpu").model
    resize = [v2.ToImage(), v2.ToDtype(torch.float32), v2.Resize(36, antialias=True), v2.CenterCrop(32)]
    levels = [v2.Lambda(torch.round), v2.Normalize([0.0], [255.0])]  # of an image uint8; its own Resize is less exact
    pipeline = v2.Compose([*resize, *levels, v2.Normalize(ga.IMAGENET_MEAN, ga.IMAGENET_STD)])
    x = torch.stack([pipeline(Image.open(path).convert("RGB")) for path in paths])
    with torch.no_grad():
        return model(x.flip(-1) if flip else x)


def rows_of(capsys) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


# --- answers ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("batch_size", [2, None])
def test_it_answers_as_torchvision_and_the_model_do(weights, photos, batch_size):
    given = [photos[4], photos[0].parents[1], photos[0]]
    order = [photos[4], *photos, photos[0]]
    found = ga.load(weights, device="cpu").predict(given, top=3, batch_size=batch_size)
    wanted = judged(weights, order).softmax(1)
    assert [one.path for one in found] == [str(path) for path in order] and len(found) == 7 and not found.bad
    torch.testing.assert_close(found.probabilities, wanted, **CLOSE)
    assert found.probabilities.max(1).values.std() > 0.01  # not one answer for all
    for one, row in zip(found, found.probabilities, strict=True):
        best = sorted(range(6), key=lambda k: -row[k])[:3]
        assert [name for name, _ in one.answers] == [CLASSES[k] for k in best]
        assert [p for _, p in one.answers] == pytest.approx([row[k].item() for k in best], rel=1e-5)
        assert (one.answer, one.probability) == one.answers[0]


def test_flip_is_the_mean_over_the_mirror_image(weights, photos):
    found = ga.load(weights, device="cpu").predict(photos, tta="flip")
    logits, mirrored = judged(weights, photos), judged(weights, photos, flip=True)
    assert (logits - mirrored).abs().max() > 0.1
    torch.testing.assert_close(found.probabilities, ((logits + mirrored) / 2).softmax(1), **CLOSE)


def test_arrays_are_what_their_files_are(weights, photos):
    model = ga.load(weights, device="cpu")
    wanted = model.predict(photos).probabilities
    pictures = [Image.open(path) for path in photos]
    pixels = [np.array(picture) for picture in pictures]
    tensors = [torch.from_numpy(one).permute(2, 0, 1) for one in pixels]
    for given in (pictures, pixels, tensors, [path.read_bytes() for path in photos]):
        found = model.predict(given, batch_size=2)
        torch.testing.assert_close(found.probabilities, wanted, rtol=0, atol=1e-6)
        assert [one.path for one in found] == [f"image {i}" for i in range(5)]
    same = np.stack([pixels[0], pixels[0][:, ::-1]])
    wanted = model.predict([same[0], same[1]]).probabilities
    together = torch.from_numpy(same.copy()).permute(0, 3, 1, 2)
    for given in (same, together.numpy(), together, ga.data.arrays(same)):
        torch.testing.assert_close(model.predict(given).probabilities, wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(model.predict(tensors[0]).probabilities, wanted[:1], rtol=0, atol=1e-6)


def test_a_run_on_images_of_its_size_takes_others(place, photos):
    model = ga.load(written(place / "digits.safetensors", resize=None), device="cpu")
    exact = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        wanted = model(exact).softmax(1)
    torch.testing.assert_close(model.predict(exact).probabilities, wanted, rtol=0, atol=1e-5)
    assert not model.predict(photos).bad


def test_several_labels_answer_above_the_threshold(place, photos, capsys):
    path = written(place / "several.safetensors", several=True)
    wanted = judged(path, photos).sigmoid()
    for threshold, top in ((None, None), (0.2, None), (0.0, 2), (1.0, None)):
        least = 0.5 if threshold is None else threshold
        found = ga.load(path, device="cpu").predict(photos, threshold=threshold, top=top)
        torch.testing.assert_close(found.probabilities, wanted, **CLOSE)
        for one, row in zip(found, found.probabilities, strict=True):
            there = sorted((k for k in range(6) if row[k] >= least), key=lambda k: -row[k])[:top]
            assert [name for name, _ in one.answers] == [CLASSES[k] for k in there]
    assert {len(one.answers) for one in ga.load(path, device="cpu").predict(photos)} != {1}
    assert main(["predict", str(path), *map(str, photos), "--threshold", "0", "--device", "cpu"]) == 0
    rows = rows_of(capsys)
    assert list(rows[0])[-3:] == ["answer_6", "probability_6", "error"] and len(rows) == 5
    assert main(["predict", str(path), *map(str, photos), "--threshold", "1", "--device", "cpu"]) == 0
    assert [(row["answer"], row["probability"]) for row in rows_of(capsys)] == [("", "")] * 5


# --- what cannot be read ----------------------------------------------------------------------------------------------
def test_what_cannot_be_read_says_so_and_the_rest_is_predicted(weights, photos, tmp_path, capsys):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("no image")
    whole = photos[0].read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    bad = {"gone: x.jpg": "no such file", "empty.jpg": "it is empty", "text.png": "not an image", "cut.png": "damaged"}
    bad = {str(tmp_path / name): words for name, words in bad.items()}
    first, second, third, last = bad
    given = [first, second, str(photos[0]), third, str(photos[1]), last, str(tmp_path / "empty.jpg")]
    status = main(["predict", str(weights), *given, "--batch-size", "2", "--device", "cpu"])
    told = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(told.out)))
    assert status == 1 and told.err == "gpuaug: 5 of 7 images could not be read; the column error says why\n"
    assert [row["path"] for row in rows] == given
    for row in rows:
        assert bad.get(row["path"], "") in row["error"] and bool(row["error"]) == (row["path"] in bad)
        assert bool(row["answer"]) == bool(row["probability"]) == (row["path"] not in bad)
    found = ga.load(weights, device="cpu").predict(given, batch_size=2)
    good = [i for i, path in enumerate(given) if path not in bad]
    torch.testing.assert_close(found.probabilities[good], judged(weights, photos[:2]).softmax(1), **CLOSE)
    assert found.probabilities.isnan().all(1).tolist() == [path in bad for path in given]
    assert [one.path for one in found.bad] == [path for path in given if path in bad]
    alone = ga.load(weights, device="cpu").predict(tmp_path / "gone.png")
    assert alone[0].error == "no such file" and alone[0].probability is None and alone.as_csv().count("\n") == 2


def test_what_is_no_image_in_a_folder_is_left_out_in_a_line(weights, tmp_path, capsys):
    painted(tmp_path / "deep" / "a.png", 1)
    (tmp_path / "deep" / "notes.txt").touch()
    assert main(["predict", str(weights), str(tmp_path), "--device", "cpu"]) == 0
    told = capsys.readouterr()
    assert told.err == f"gpuaug: {tmp_path}: files that are left out, being no images: 1 .txt\n"
    assert [row["path"] for row in csv.DictReader(io.StringIO(told.out))] == [str(tmp_path / "deep" / "a.png")]


# --- formats ----------------------------------------------------------------------------------------------------------
def test_a_run_is_found_by_number_and_csv_and_json_say_the_same(weights, photos, tmp_path, capsys):
    folder = tmp_path / "runs" / "007-some"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "best.safetensors").write_bytes(weights.read_bytes())
    odd = painted(tmp_path / 'comma, "quote"\nüber.png', 3)
    args = ["predict", "7", str(photos[0].parents[1]), str(odd), "--runs", str(folder.parent), "--top", "2"]
    assert main([*args, "--device", "cpu"]) == 0
    rows = rows_of(capsys)
    assert list(rows[0]) == ["path", "answer", "probability", "answer_2", "probability_2", "error"]
    assert [row["path"] for row in rows] == [*map(str, photos), str(odd)]
    assert main([*args, "-o", str(tmp_path / "out.json")]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path}/out.json\n"
    said = json.loads((tmp_path / "out.json").read_text())
    for row, one in zip(rows, said, strict=True):
        answers = [(row[f"answer{n}"], float(row[f"probability{n}"])) for n in ("", "_2")]
        assert one["path"] == row["path"] and one["error"] is None
        assert [(a["answer"], a["probability"]) for a in one["answers"]] == answers
    assert main([*args, "--out", str(tmp_path / "out.csv")]) == 0
    capsys.readouterr()
    assert list(csv.DictReader((tmp_path / "out.csv").open(newline="", encoding="utf-8"))) == rows
    assert main([*args, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == said


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_it_pipes(weights, photos, tmp_path, capsysbinary, monkeypatch):
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")
    Path(odd).write_bytes(photos[0].read_bytes())
    args = ["predict", str(weights), odd, *map(str, photos), "--device", "cpu"]
    assert main(args) == 0
    told = capsysbinary.readouterr()
    assert told.err == b"" and told.out.splitlines()[1].startswith(os.fsencode(odd) + b",class ")
    reads, writes = os.pipe()
    os.close(reads)  # as head does
    with open(writes, "w") as nobody:
        monkeypatch.setattr(sys, "stdout", nobody)
        assert main(args) == 0
    assert capsysbinary.readouterr().err == b""


def test_a_sheet_shows_images_with_their_answers(weights, tmp_path, capsys, monkeypatch):
    (tmp_path / "bad.png").touch()
    large = [painted(tmp_path / f"{i}.png", i, 300, 200) for i in range(2)]
    args = ["predict", str(weights), str(large[0]), str(tmp_path / "bad.png"), str(large[1]), "--device", "cpu"]
    assert main([*args, "--out", str(tmp_path / "sheet.png")]) == 1
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.array(sheet.convert("RGB")).astype(int)
    side, margin, gap = 150, 24, 10
    for column, path in ((0, large[0]), (2, large[1])):
        with Image.open(path) as photo:
            shrunk = np.array(photo.resize((150, 100), Image.Resampling.LANCZOS)).astype(int)
        x = margin + column * (side + gap)
        spots = [abs(pixels[y : y + 100, x : x + side] - shrunk).mean() for y in range(30, 150)]
        assert min(spots) == 0 < np.median(spots)
    monkeypatch.setattr(predictions, "ON_SHEET", 2)
    capsys.readouterr()
    assert main([*args, "--out", str(tmp_path / "few.png")]) == 1
    told = capsys.readouterr().err
    assert "a sheet shows the first 2 of 3 images" in told and "1 of 2 images could not be read" in told


@pytest.fixture
def three_cores(monkeypatch) -> list[int]:
    """A CPU of three, whatever this process may use; the numbers of threads that are asked for."""
    asked: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    return asked


def workers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("predict")]


def test_each_core_has_a_batch_and_answers_keep_their_order(three_cores):
    later = threading.Event()

    def made(n: int) -> tuple[int, int, str]:
        if n == 2:
            later.set()
        return n, threading.get_ident() if n or later.wait(30) else 0, threading.current_thread().name

    found = list(predictions.on_cores(made, ((n,) for n in range(12)), 12))
    assert [n for n, *_ in found] == list(range(12)) and found[0][1], "the first one had to wait for the third"
    assert all(name.startswith("predict") for *_, name in found) and not workers()
    assert three_cores == [1] * (len(three_cores) - 1) + [3] and 2 <= len(three_cores) <= 4


def test_few_batches_have_all_cores(three_cores):
    names = list(predictions.on_cores(lambda n: threading.current_thread().name, ((n,) for n in range(5)), 5))
    assert names == [threading.current_thread().name] * 5 and three_cores == []


def test_an_error_of_a_core_ends_the_others(three_cores):
    def made(n: int) -> int:
        if n == 4:
            raise ValueError("no more")
        return n

    found = predictions.on_cores(made, ((n,) for n in range(12)), 12)
    assert [next(found) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="no more"):
        next(found)
    assert not workers() and three_cores[-1] == 3


def test_who_stops_looking_leaves_no_thread(three_cores):
    found = predictions.on_cores(lambda n: n, ((n,) for n in range(12)), 12)
    assert next(found) == 0
    found.close()
    assert not workers() and three_cores[-1] == 3


def test_on_cores_answers_are_the_same(weights, photos, monkeypatch):
    model = ga.load(weights, device="cpu")
    whole = model.predict(photos, batch_size=1).probabilities
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 2)
        patch.setattr(torch, "set_num_threads", lambda n: None)
        several = model.predict(photos * 3, batch_size=1).probabilities
    assert len(several) == 3 * len(whole) == 15 and whole.isfinite().all()
    torch.testing.assert_close(several, whole.repeat(3, 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("", "there are no images; name files or folders"),
        ("{1}/photos --out x.txt", "x.txt: no format by this ending"),
        ("{1}/photos --format sheet", "stdout: a sheet is a PNG"),
        ("{1}/photos --format json --out x.csv", "format json was asked for, and the ending says csv"),
        ("{1}/photos --top 7", "top must be in 1 .. 6, the classes of resnet20; got 7"),
        ("{1}/photos --threshold 0.5", "threshold is for models of several labels"),
        ("{1}/photos --batch-size 0", "--batch-size must be at least 1, got 0"),
        ("{1}/photos --workers -1", "workers must be at least 0, got -1"),
        ("{1}/photos --device cuda:99", "device 'cuda:99' cannot be used"),
        ("{0}", "no images in this folder"),
        ("{0}/fotos", "fotos: there is no such file or folder; name files, or folders"),
        ("{0}/a.jpg {0}/b.jpg", "a.jpg: there is no such file or folder, and none of the others is there"),
    ],
)
def test_bad_input_gets_one_line(weights, photos, place, tmp_path, capsys, args, words):
    assert main(["predict", str(weights), *args.format(tmp_path, place).split()]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("gpuaug: ") and words in told.err and told.err.count("\n") == 1 and not told.out


def test_floats_and_missing_runs_are_told(weights, tmp_path, capsys):
    with pytest.raises(ValueError, match="images are uint8, and this Tensor is torch.float32"):
        ga.load(weights, device="cpu").predict(torch.rand(2, 3, 32, 32))
    with pytest.raises(ValueError, match="tta must be one of none, flip"):
        ga.load(weights, device="cpu").predict(tmp_path / "x.png", tta="flipp")
    assert main(["predict", "3", str(tmp_path), "--runs", str(tmp_path / "none")]) == 2
    assert "there is no run '3'; there are: none" in capsys.readouterr().err
