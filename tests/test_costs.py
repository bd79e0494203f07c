"""``gpuaug runs cost``: what runs' models cost beside what they are worth, as a table, a file and a picture."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from PIL import Image

for needed in ("accelerate", "matplotlib", "scipy", "sklearn", "timm", "torchvision", "tqdm", "tyro"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

import several  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug.cli import main  # noqa: E402
from gpuaug.finetune import Run, costs, ensembles, runs, sizes  # noqa: E402
from gpuaug.finetune.saved_int8 import Int8  # noqa: E402


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A run, one of a larger input, and the ensemble of the first and another; the folder that they lie in."""
    root = tmp_path_factory.mktemp("costs")
    data, out = several.save(root / "four"), root / "runs"
    with several.unreported():
        found = [
            several.trained(data, out, seed=seed, size=size, resize=size) for seed, size in ((0, 16), (1, 32), (2, 16))
        ]
        made = ensembles.ensemble([found[0].folder, found[2].folder], out, device="cpu", workers=0)
    return [found[0], found[1], Run(made.folder)], out


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(sizes, "SECONDS", 0.01)


def test_what_is_told_is_what_the_runs_have(three):
    some, out = three
    rows = costs.costs([1, 2, some[2].folder], out, speed=False)
    for run, row in zip(some, rows, strict=True):
        model = ga.load(run.folder, device="cpu")
        assert row.name == run.name and row.accuracy == pytest.approx(run.event("after")["test_accuracy"], abs=1e-6)
        assert row.images_per_second is None
        assert row.parameters == sum(p.numel() for p in model.model.parameters())
        assert row.nbytes == run.path(runs.WEIGHTS).stat().st_size
    one, wide, two = rows
    assert 3 < wide.flops / one.flops < 5 and two.flops == pytest.approx(2 * one.flops, rel=0.01)
    assert two.parameters == 2 * one.parameters
    assert (two.n, two.interval) == (some[2].evaluation.n, some[2].evaluation.top1_interval)
    assert one.n is one.interval is None  # it was not reported on


def test_each_is_timed_with_images_of_its_own_size(three, monkeypatch):
    some, out = three
    seen = []
    monkeypatch.setattr(ga.finetune.saved.Saved, "__call__", lambda self, x: seen.append((self.size, x.shape)))
    rows = costs.costs([run.folder for run in some], out)
    assert {(size, tuple(shape)) for size, shape in seen} == {
        (size, (sizes.BATCH, 3, size, size)) for size in (16, 32)
    }  # fmt: skip
    assert all(row.images_per_second > 0 for row in rows)
    assert len(seen) >= 3 * (sizes.LEAST + 1)


def test_int8_is_compiled_first_or_the_reason_is_told(three, monkeypatch):
    some, out = three
    model, done, said = ga.load(some[0].folder, device="cpu"), [], []
    monkeypatch.setattr(costs.saved, "opened", lambda path, device: Int8(model.model, model.about, model.path))
    monkeypatch.setattr(Int8, "compile", lambda self: done.append(self))
    for reason in ("", "there is no compiler"):
        monkeypatch.setattr(costs.fast, "no_compiler", lambda reason=reason: reason)
        (row,) = costs.costs([1], out, say=said.append)
        assert row.images_per_second > 0
    name = some[0].name
    assert len(done) == 1
    assert [one.removeprefix("timing   ") for one in said if name in one] == [
        f"{name} is compiled first", f"{name} in floats: there is no compiler"
    ]  # fmt: skip


def test_the_command_has_a_table_a_file_and_a_picture(three, tmp_path, capsys):
    some, out = three
    files = ["--picture", str(tmp_path / "cost.png"), "--json", str(tmp_path / "cost.json")]
    assert main(["runs", "cost", "1", "2", some[2].name, "--out", str(out), *files]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n{run.name} " in shown for run in some) and "3 models by turns" in shown
    stored = json.loads((tmp_path / "cost.json").read_text())
    assert [row["name"] for row in stored["rows"]] == [run.name for run in some]
    assert stored["threads"] == torch.get_num_threads() and stored["batch"] == sizes.BATCH
    with Image.open(tmp_path / "cost.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 50 and min(picture.size) > 400


def test_what_cannot_be_measured_says_why(three, tmp_path, capsys):
    some, out = three
    begun = shutil.copytree(some[0].folder, tmp_path / "001-begun")
    lines = [line for line in (begun / "metrics.jsonl").read_text().splitlines() if '"after"' not in line]
    (begun / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    other = shutil.copytree(some[0].folder, tmp_path / "002-other")
    facts = json.loads((other / runs.CONFIG).read_text())
    facts["resolved"]["task"] = "detect"
    (other / runs.CONFIG).write_text(json.dumps(facts))
    for words, told in (
        (["1", "--picture", "a.jpg"], "--picture a.jpg: a picture is a file whose name ends in .png"),
        ([str(begun)], f"{begun}: it is not done; gpuaug resume {begun} goes on"),
        ([str(other)], f"{other}: runs cost has no effect with task=detect (it is for image classification)"),
        ([], "runs cost: name at least one run"),
        (["nowhere"], "nowhere"),
    ):
        assert main(["runs", "cost", *words, "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert told in error and error.count("\n") == 1


def test_runs_on_other_images_are_told_of(three, tmp_path, capsys):
    some, out = three
    other = shutil.copytree(some[0].folder, tmp_path / "001-other")
    facts = json.loads((other / runs.CONFIG).read_text())
    facts["resolved"]["data"]["fingerprint"] = "0" * 32
    (other / runs.CONFIG).write_text(json.dumps(facts))
    assert main(["runs", "cost", "1", str(other), "--out", str(out), "--no-speed"]) == 0
    assert "different images" in capsys.readouterr().out
