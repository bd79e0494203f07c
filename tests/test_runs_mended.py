"""What a run leaves, where an image is damaged, a number is not finite, a disk is full; and what a Config refuses."""

from __future__ import annotations

import contextlib
import io
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

for needed in ("accelerate", "matplotlib", "scipy", "sklearn", "timm"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

import gpuaug as ga  # noqa: E402
from gpuaug.cli import main  # noqa: E402
from gpuaug.data import Source  # noqa: E402
from gpuaug.data.items import Made, Slice  # noqa: E402
from gpuaug.finetune import Config, evaluating, page, page_comparison, pictures, report, robustness, runs, screen  # noqa: E402

PLAIN = ga.Compose([ga.Resize((16, 16)), ga.ToDtype(torch.float32, scale=True), ga.Normalize((0.5,) * 3, (0.5,) * 3)])
CLASSES = ("cat", "dog")


def photos(folder: Path, damaged: int, whole: int) -> Source:
    """Image files of two classes, the first ones damaged."""
    paths = [folder / f"{i}.png" for i in range(damaged + whole)]
    for i, path in enumerate(paths):
        Image.new("RGB", (20, 18), (10 * i, 0, 0)).save(path)
        if i < damaged:
            path.write_bytes(path.read_bytes()[:40])
    labels = torch.arange(len(paths)) % 2
    return Source(tuple(paths), torch.arange(len(paths)) + 100, labels, CLASSES)


def sheet(path: Path, source: Source) -> None:
    report.write_contact_sheet(
        path, PLAIN, source, torch.device("cpu"), mean=(0.5,) * 3, std=(0.5,) * 3, name="photos", epochs=2
    )


def predicted(folder: Path, source: Source) -> runs.Run:
    """A run whose model says "cat" of everything; its test part is ``source``."""
    run = runs.Run(folder)
    run.write_json(runs.CONFIG, {"asked": {"data": "photos"}, "resolved": {"classes": CLASSES}})
    logits = torch.tensor([[2.0, 0.0]]).repeat(len(source), 1)
    order = torch.arange(len(source)).flip(0)  # ids need not be in the source's order
    job = SimpleNamespace(run=folder, parts=SimpleNamespace(test=source))
    report.write_predictions(job, source.ids[order], source.labels[order], logits)
    return run


# Damaged images, and images that are no files


def test_a_contact_sheet_goes_on_without_damaged_images(tmp_path):
    with pytest.warns(UserWarning, match="were left out"):
        sheet(tmp_path / "sheet.png", photos(tmp_path, 2, 6))
    some = Image.open(tmp_path / "sheet.png").size
    sheet(tmp_path / "whole.png", photos(tmp_path, 0, 8))
    assert some[1] < Image.open(tmp_path / "whole.png").size[1]


def test_a_contact_sheet_of_damaged_images_alone_is_left_out(tmp_path):
    with pytest.warns(UserWarning, match="were left out"):
        sheet(tmp_path / "sheet.png", photos(tmp_path, 3, 0))
    assert not (tmp_path / "sheet.png").exists()


def test_predictions_have_the_paths_of_what_lies_in_files_alone(tmp_path):
    pixels = np.zeros((4, 4, 3), np.uint8)
    items = ("a.png", Path("b.png"), Slice(Path("c.tar"), 0, 9, "c.png"), Made(lambda i: pixels, 3, "d"), b"xx", pixels)
    run = predicted(tmp_path, Source(items, torch.arange(6), torch.zeros(6, dtype=torch.int64), CLASSES))
    assert run.predictions["paths"].tolist()[::-1] == ["a.png", "b.png", "c.tar: c.png", "d", "", ""]


@pytest.mark.parametrize("memory", [True, False])
def test_mistakes_are_found_by_their_ids(tmp_path, monkeypatch, memory):
    source = photos(tmp_path, 0, 6)
    if memory:
        source = source.decoded(size=18)
    else:  # of any kind
        source = Source([p.read_bytes() for p in source.items], source.ids, source.labels, CLASSES)
    run, drawn = predicted(tmp_path / "run", source), []
    monkeypatch.setattr(pictures, "write_mistakes", lambda path, lines, images: drawn.append((lines, images)))
    evaluating.write_mistakes(run.picture("mistakes"), run, CLASSES, source)
    ((lines, images),) = drawn
    assert [line["name"] for line in lines] == ["#105", "#103", "#101"]
    assert [int(image[0, 0, 0]) for image in images] == [50, 30, 10]


# JSON and what is half written


def test_numbers_that_are_not_finite_are_null(tmp_path, capsys):
    line = {"event": "epoch", "train_loss": math.nan, "shares": {"model": math.inf}, "list": [1.5, -math.inf]}
    screen.Screen(False, True, True).event(line)
    run = runs.Run(tmp_path)
    run.write_lines([line])
    run.write_json("facts.json", line)

    def refused(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    expected = {"event": "epoch", "train_loss": None, "shares": {"model": None}, "list": [1.5, None]}
    for text in (capsys.readouterr().out, run.path(runs.METRICS).read_text(), run.path("facts.json").read_text()):
        assert json.loads(text, parse_constant=refused) == expected


def test_a_closing_table_of_what_was_not_finite():
    assert "–" in screen.closing_table({"loss": None, "accuracy": 0.5}, {"loss": 1.0, "accuracy": 0.5})


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        runs.write(tmp_path / "a.json", b"{}")
    assert list(tmp_path.iterdir()) == []


def test_a_half_written_picture_is_done_again(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    run = runs.Run(tmp_path)
    run.write_lines([{"event": "epoch", "epoch": 1, "train_loss": 1.0}])
    save = Figure.savefig

    def half(self: Figure, target: object, **options: object) -> None:
        with contextlib.ExitStack() as stack:
            file = target if isinstance(target, io.BytesIO) else stack.enter_context(open(target, "wb"))
            file.write(b"half")
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(OSError, match="No space left"):
        evaluating.complete(tmp_path)
    monkeypatch.setattr(Figure, "savefig", save)
    assert evaluating.complete(tmp_path) == [run.picture("curves")]
    Image.open(run.picture("curves")).verify()


@pytest.mark.parametrize("what", ["page", "comparison", "evaluation"])
def test_pages_and_evaluations_are_written_whole(tmp_path, monkeypatch, what):
    run, written = predicted(tmp_path / "run", photos(tmp_path, 0, 4)), []
    write = runs.write
    for module, name in ((runs, "write"), (page, "write_file"), (page_comparison, "write_file")):
        monkeypatch.setattr(module, name, lambda path, content: (written.append(path.name), write(path, content)))
    if what == "page":
        page.write(run.folder)
    elif what == "comparison":
        page_comparison.write_comparison([run.folder], tmp_path / "new" / "both.html")
    else:
        evaluating.complete(run.folder)
    wanted = {"page": "report.html", "comparison": "both.html", "evaluation": "evaluation.json"}[what]
    assert wanted in written


# What a run's folder says


@pytest.mark.parametrize(
    ("asked", "resolved", "augmented"),
    [
        ({"augment": None}, {"recipe": "full"}, True),
        ({"augment": None}, {"recipe": "probe"}, False),
        ({"augment": "none"}, {"recipe": "full", "given": []}, False),
        ({"augment": "none"}, {"recipe": "full", "given": ["augment"]}, True),
    ],
)
def test_curves_say_whether_training_was_augmented(tmp_path, monkeypatch, asked, resolved, augmented):
    run, told = runs.Run(tmp_path), []
    run.write_json(runs.CONFIG, {"asked": asked, "resolved": resolved})
    run.write_lines([{"event": "epoch", "epoch": 1, "train_loss": 1.0}])
    monkeypatch.setattr(pictures, "write_curves", lambda *arguments, **options: told.append(options["augmented"]))
    evaluating.complete(tmp_path)
    assert told == [augmented]


def test_a_run_bears_missing_files_and_a_line_that_was_cut_off(tmp_path):
    run = runs.Run(tmp_path)
    assert (run.facts, run.lines(), run.event("after"), run.predictions, run.evaluation) == ({}, [], {}, None, None)
    with pytest.raises(ValueError, match=r"config\.json: there is no such file"):
        _ = run.config
    run.path(runs.METRICS).write_text('{"event": "before"}\n{"event": "ep')
    assert run.lines() == [{"event": "before"}]


def test_robustness_is_written_and_shown(tmp_path):
    clean = {"score": 0.75, "interval": [0.5, 0.9]}
    one = {"name": "jpeg", "strength": 1, "value": 50, "words": "quality 50", "unit": "quality", **clean}
    measured = {"metric": "accuracy", "n": 8, "clean": clean, "mean": 0.75, "corruptions": [one]}
    assert robustness.write(tmp_path, measured) == tmp_path / "robustness.json"
    assert runs.Run(tmp_path).robustness == measured
    assert "on the 8 clean images" in page.write(tmp_path).read_text(encoding="utf-8")


# Config, and errors in one line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"recipe": "probes"}, "recipe must be one of probe, finetune, full; got 'probes'; did you mean 'probe'"),
        ({"schedule": "linear"}, "schedule must be one of cosine, onecycle, plateau, constant; got 'linear'"),
        ({"balance": "foo"}, "balance must be one of no, weights, sampling; got 'foo'"),
        ({"balance": None}, "balance must be one of no, weights, sampling; got None"),
        ({"epochs": 1.5}, "epochs must be a whole number, got 1.5"),
        ({"workers": True}, "workers must be a whole number, got True"),
        ({"lr": "0.1"}, "lr must be a number, got '0.1'"),
        ({"compile": "no"}, "compile must be True or False, got 'no'"),
        ({"mixup": -1.0}, "mixup must not be negative"),
    ],
)
def test_a_config_refuses_what_it_does_not_know(options, said):
    with pytest.raises(ValueError, match=said):
        Config(**options)


def test_no_mixing_is_zero():
    config = Config(mixup=0.0, cutmix=0)
    assert Config.from_dict(config.as_dict()) == config


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied", "runs/x"), "gpuaug: runs/x: Permission denied\n"),
        (OSError(28, "No space left on device"), "gpuaug: [Errno 28] No space left on device\n"),
        (OSError("the weights are not to be had"), "gpuaug: the weights are not to be had\n"),
    ],
)
def test_an_error_of_the_system_is_one_line(monkeypatch, capsys, error, said):
    def fails(command: object) -> int:
        raise error

    monkeypatch.delenv("GPUAUG_DEBUG", raising=False)
    monkeypatch.setattr("gpuaug.cli.run", fails)
    assert main(["demo"]) == 2
    assert capsys.readouterr().err == said


def test_what_a_run_began_with_goes_with_its_checkpoints(tmp_path):
    run = runs.Run(tmp_path / "001-a")
    run.write_json(runs.CONFIG, {"asked": {}, "resolved": {}})
    runs.write(run.path(runs.START), bytes(100))
    runs.write(run.path(runs.CHECKPOINTS) / "epoch-0001.pt", bytes(10))
    assert runs.remove_checkpoints(run) == 110
    assert [path.name for path in run.folder.iterdir()] == [runs.CONFIG] and runs.remove_checkpoints(run) == 0
