"""gpuaug runs: what it lists, compares, finds best and deletes."""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch

for needed in ("accelerate", "matplotlib", "scipy", "sklearn", "timm", "tyro"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

from finetuning import few  # noqa: E402
from ledger import OPTIONS, copied, told  # noqa: E402

from gpuaug.cli import main  # noqa: E402
from gpuaug.commands import runs as command  # noqa: E402
from gpuaug.commands import terminal  # noqa: E402
from gpuaug.finetune import Config, comparing, finetune, page_comparison, runs  # noqa: E402


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch) -> None:
    """Workers of pytest-xdist are told how wide one is."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A run of two epochs, as it leaves its folder."""
    out = tmp_path_factory.mktemp("made")
    return finetune(Config(**OPTIONS, epochs=2, quiet=True, out=out), parts=few()).run


@pytest.fixture(scope="module")
def three(made, tmp_path_factory) -> Path:
    """Runs with 30, 40 and 35 of 51 right, the last one on other data."""
    out = tmp_path_factory.mktemp("three")
    copied(made, out, "001-first", 30)
    copied(made, out, "002-second", 40)
    copied(made, out, "010-third", 35, name="others", fingerprint="ffff")
    return out


@pytest.fixture
def out(three, tmp_path) -> Path:
    return shutil.copytree(three, tmp_path / "runs")


def wilson(right: int, n: int) -> tuple[float, float]:
    """In closed form."""
    z, p = 1.959963984540054, right / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


# List


def test_a_list_has_each_run_by_number_with_its_interval(out, capsys):
    lines = told(capsys, "--out", str(out)).splitlines()
    assert lines[0].split("  ")[0] == " #" and "test accuracy" in lines[0] and "images/s" in lines[0]
    assert [line.split()[:2] for line in lines[1:]] == [["1", "001-first"], ["2", "002-second"], ["10", "010-third"]]
    for line, right in zip(lines[1:], (30, 40, 35), strict=True):
        low, high = wilson(right, 51)
        assert f"done   {right / 51:.1%} ({100 * low:.1f} to {100 * high:.1f})" in line
        assert " 2/2 " in line and " full " in line and " test_resnet " in line
    assert told(capsys, "list", "--out", str(out)).splitlines() == lines
    sorted_ = told(capsys, "list", "--sort", "accuracy", "--out", str(out)).splitlines()[1:]
    assert [line.split()[0] for line in sorted_] == ["2", "10", "1"]


def test_a_list_calls_samples_by_their_name(out, capsys):
    def tasked(name: str, task: str) -> None:
        path = out / name / "config.json"
        facts = json.loads(path.read_text())
        facts["resolved"]["task"] = task
        path.write_text(json.dumps(facts))

    tasked("001-first", "text")
    assert "samples/s" in told(capsys, "--out", str(out)).splitlines()[0]
    tasked("002-second", "text")
    assert "on the same texts" in (words := told(capsys, "compare", "1", "2", "--out", str(out))) and " texts" in words
    shutil.rmtree(out / "010-third")
    assert "texts/s" in told(capsys, "--out", str(out)).splitlines()[0]
    assert {line["noun"] for line in json.loads(told(capsys, "--json", "--out", str(out)))} == {"text"}


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_a_list_fits_the_terminal(made, tmp_path, capsys, monkeypatch, width):
    for i in (1, 12):
        copied(made, tmp_path, f"{i:03d}-tf_efficientnet_lite0-photographs-of-flowers-finetune")
    monkeypatch.setenv("COLUMNS", str(width))
    lines = told(capsys, "--out", str(tmp_path)).splitlines()
    assert max(map(len, lines)) <= width
    assert [re.search(r"\d{3}-tf", line)[0] for line in lines[1:]] == ["001-tf", "012-tf"]
    assert all("done" in line and " to " in line for line in lines[1:])
    assert ("…" in lines[1]) == (width <= 100) and ("began" in lines[0]) == (width > 60)
    assert ("model" in lines[0]) == (width == 160)


def test_a_list_for_machines(out, capsys):
    found = json.loads(told(capsys, "list", "--json", "--out", str(out)))
    assert [line["name"] for line in found] == ["001-first", "002-second", "010-third"]
    one, folder = found[1], out / "002-second"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    speeds = [line["images_per_second"] for line in lines if line["event"] == "epoch"]
    facts = json.loads((folder / "config.json").read_text())["resolved"]
    assert one["number"] == 2 and one["folder"] == str(folder) and one["state"] == "done" and one["recipe"] == "full"
    assert one["score"] == 40 / 51 and one["metric"] == "accuracy" and one["interval"] == pytest.approx(wilson(40, 51))
    assert one["images_per_second"] == pytest.approx(np.mean(speeds))
    assert one["epochs"] == one["epochs_asked"] == 2 and one["fingerprint"] == facts["data"]["fingerprint"]
    began = json.loads((folder / "state.json").read_text())["began"]
    assert datetime.fromisoformat(one["began"]).timestamp() == int(began)
    assert re.search(r"[+-]\d\d:\d\d$", one["began"])


def test_a_list_of_some_data(out, capsys):
    assert [line.split()[1] for line in told(capsys, "--data", "others", "--out", str(out)).splitlines()[1:]] == [
        "010-third"
    ]
    err = told(capsys, "--data", "other", "--out", str(out), status=2)
    assert "no run has the data 'other'; they have few, others; did you mean 'others'?" in err


def test_no_runs(tmp_path, capsys):
    assert told(capsys, "--out", str(tmp_path)) == f"no runs in {tmp_path} yet; gpuaug finetune makes one\n"
    assert "no such folder; --out says where runs lie" in told(capsys, "--out", str(tmp_path / "x"), status=2)
    assert "no runs here to compare" in told(capsys, "--html", "--out", str(tmp_path), status=2)
    assert "there is no run that is done" in told(capsys, "best", "--out", str(tmp_path), status=2)


DAMAGE = {
    "config.json": ["{", "[]", "{}", '{"asked": 3}', '{"asked": {"data": "x"}, "resolved": {"model": 7}}'],
    "metrics.jsonl": ["{\n{}\n", "3\n3\n", '{"event": "epoch", "images_per_second": "fast"}\n'],
    "evaluation.json": ["{", "[]", '{"n": 3}'],
    "state.json": ["{", "[3]", '{"began": "today"}'],
}


@pytest.mark.parametrize(("name", "content"), [(name, text) for name, texts in DAMAGE.items() for text in texts])
def test_a_damaged_run_does_not_stop_a_list(out, capsys, name, content):
    (out / "002-second" / name).write_text(content)
    lines = told(capsys, "--out", str(out)).splitlines()
    assert lines[1].split()[1] == "001-first" and "done" in lines[1] and lines[3].split()[1] == "010-third"
    assert "002-second" in lines[2] and "damaged" in lines[2]
    assert lines[-1].startswith("002-second: damaged, ") and str(out / "002-second") in lines[-1]
    assert [line["state"] for line in json.loads(told(capsys, "--json", "--out", str(out)))] == [
        "done", "damaged", "done"
    ]  # fmt: skip
    assert "set aside 002-second: damaged" in told(capsys, "best", "--out", str(out))


def test_an_evaluation_of_words_is_damaged(out, capsys):
    path = out / "002-second" / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"top1": "much"}))
    assert "002-second: damaged" in told(capsys, "--out", str(out))


# Names


HOSTILE = "003-a\x1b[31m\x07\nb\u202ec; rm -rf $HOME `id` 'q' \"d\" \u200b"


def test_names_do_nothing_to_a_terminal(made, out, capsys):
    folder = copied(made, out, HOSTILE, 45, name="a\x1b]0;title\x07")
    (out / "001-first" / "report.html").unlink()  # so that something is said of it
    escaped = "003-a\\x1b[31m\\x07\\nb\\u202ec; rm -rf $HOME `id` 'q' \"d\" \\u200b"
    printed = [
        told(capsys, "--out", str(out)),
        told(capsys, "compare", "2", "3", "--out", str(out)),
        told(capsys, "best", "--out", str(out), "--metric", "accuracy"),
        told(capsys, "delete", "3", "--yes", "--out", str(out)),
    ]
    for text in printed:
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e]", text)
        assert escaped in text
    assert not folder.exists() and (out / "002-second").is_dir()


def test_a_path_for_scripts_is_as_it_is(made, out, capsys):
    folder = copied(made, out, HOSTILE, 45)
    assert main(["runs", "best", "--path", "--data", "few", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{folder / 'best.safetensors'}\n" and "chosen by the test images" in captured.err


def test_a_path_of_bytes_reaches_a_script(made, out, monkeypatch):
    copied(made, out, os.fsdecode(b"004-caf\xe9"), 50)
    screen = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", screen)
    assert main(["runs", "best", "--path", "--data", "few", "--out", str(out)]) == 0
    assert screen.buffer.getvalue() == os.fsencode(out) + b"/004-caf\xe9/best.safetensors\n"


def test_what_to_type_is_quoted_for_a_shell(made, tmp_path, capsys):
    folder = copied(made, tmp_path, "001-two words; $x")
    (folder / "report.html").unlink()
    said = told(capsys, "--out", str(tmp_path)).splitlines()[-1]
    words = said.partition("go on with: ")[2]
    script = f'gpuaug() {{ printf "%s|" "$@"; }}; {words}'
    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True).stdout == f"resume|{folder}|"


def test_letters_of_two_cells_keep_columns_straight():
    rows = [("数字データ", "x"), ("e\u0301tude", "x"), ("plain", "x")]
    text = terminal.table(("name", "b"), rows).splitlines()
    assert [line.index("x") for line in text[1:]] == [5 + 2, 10 + 2 + 1, 10 + 2]  # 5 letters of 2 cells; 1 of none
    assert terminal.short("数字データ", 6) == "数…タ" and terminal.width(terminal.short("ab数字データ", 7)) <= 7


# Compare


def test_a_comparison_says_what_the_page_says(made, out, capsys, tmp_path):
    facts = json.loads((out / "002-second" / "config.json").read_text())
    facts["resolved"]["options"]["lr"] = 0.125
    (out / "002-second" / "config.json").write_text(json.dumps(facts))
    text = told(capsys, "compare", "1", "002-second", "--out", str(out))
    assert text.startswith("A  001-first\nB  002-second\n")
    assert re.search(r"^lr +0\.02 +0\.125$", text, re.M) and "seed" not in text
    n, only_second, only_first = 51, 10, 0
    p = 2 * sum(math.comb(10, i) for i in range(only_first + 1)) / 2**10
    row = re.search(r"^B +(\S+) points \((\S+) to (\S+)\) +(\d+) +(\d+) +(\S+) +(\d+)$", text, re.M).groups()
    assert row[0] == f"{100 * (only_second - only_first) / n:+.1f}"
    assert "only A" in text and row[3:] == (str(only_second), str(only_first), f"{p:.2g}", str(n))
    share = only_second / n
    half = 196 * math.sqrt(share * (1 - share) / n)
    assert float(row[1]) == pytest.approx(100 * share - half, abs=1.5)
    assert float(row[2]) == pytest.approx(100 * share + half, abs=1.5)

    told(capsys, "compare", "1", "2", "--out", str(out), "--html", str(tmp_path / "c.html"))
    shown = re.sub(r"<[^>]+>", " ", (tmp_path / "c.html").read_text())
    for words in (*re.findall(r"[-+\d.]+% \([-\d. to]+\)", text), f"{row[0]} points ({row[1]} to {row[2]})", "0.125"):
        assert words in shown, words


def test_runs_of_other_images_are_told_apart(out, capsys):
    with np.load(out / "010-third" / "predictions.npz") as stored:
        arrays = dict(stored)
    np.savez(out / "010-third" / "predictions.npz", **(arrays | {"ids": arrays["ids"] + 10_000}))
    text = told(capsys, "compare", "1", "2", "10", "--out", str(out))
    assert "These runs had different images, or a different split of them: compare with care." in text
    assert "010-third: not tested with the images of the first" in text and re.search(r"^B +\+", text, re.M)
    (out / "002-second" / "predictions.npz").unlink()
    assert "002-second: no predictions.npz" in told(capsys, "compare", "1", "2", "--out", str(out))


def test_a_comparison_has_robustness(out, capsys):
    measured = {"metric": "accuracy", "n": 51, "clean": {"score": 30 / 51, "interval": [0.4, 0.7]}, "mean": 0.25}
    strengths = [{"name": "noise", "strength": s, "score": 0.5 - 0.1 * s, "interval": [0, 1]} for s in (2, 1)]
    (out / "001-first" / "robustness.json").write_text(json.dumps(measured | {"corruptions": strengths}))
    text = told(capsys, "compare", "1", "2", "--out", str(out))
    assert re.search(r"^noise +40\.0% 30\.0% +–$", text, re.M) and "25.0%" in text
    assert re.search(r"^clean, accuracy +58\.8% +–$", text, re.M)


@pytest.mark.parametrize("width", [80, 160])
def test_a_comparison_of_many_fits_the_terminal(out, capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    text = told(capsys, "compare", "1", "2", "10", "--out", str(out))
    assert max(map(len, text.splitlines())) <= width, text
    for right in (30, 40, 35):
        assert f"{right / 51:.1%} (" in text


def test_a_page_of_all_and_of_the_newest(made, out, capsys, monkeypatch):
    pages = []
    monkeypatch.setattr(
        page_comparison, "write_comparison", lambda folders, path: pages.append((folders, path)) or path
    )
    assert told(capsys, "--html", "--out", str(out)) == f"wrote {out / 'comparison.html'}\n"
    assert [folder.name for folder in pages[0][0]] == ["001-first", "002-second", "010-third"]
    for i in range(20, 31):
        folder = copied(made, out, f"{i:03d}-more")
        (folder / "state.json").write_text(json.dumps({"state": "done", "began": time.time() + i}))
    text = told(capsys, "--html", "all.html", "--out", str(out))
    assert text.startswith("the newest 12 of 14 runs; ") and pages[1][1] == Path("all.html")
    assert len(pages[1][0]) == 12 and {f"{i:03d}-more" for i in range(20, 31)} < {f.name for f in pages[1][0]}
    assert "a page is a file whose name ends in .html" in told(
        capsys, "compare", "1", "2", "--html=x.txt", "--out", str(out), status=2
    )


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ([], ["list"]),
        (["--json"], ["list", "--json"]),
        (["--html"], ["list", "--html="]),
        (["--html", "--out", "x"], ["list", "--html=", "--out", "x"]),
        (["compare", "--html", "1", "2"], ["compare", "--html=", "1", "2"]),
        (["compare", "1", "2", "--html", "A.HTML"], ["compare", "1", "2", "--html", "A.HTML"]),
        (["-h"], ["-h"]),
    ],
)
def test_what_may_be_left_out(words, meant):
    assert command.spelt(words) == meant


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["lst"],
            "there is no command 'lst'; choose one of list, compare, cost, best, soup, delete; did you mean 'list'?",
        ),
        (["compare", "1"], "name at least two runs"),
        (["compare", "1", "001-first"], "name at least two runs"),
        (["compare", "1", "7"], "there is no run '7'; there are: 001-first, 002-second, 010-third"),
        (["best", "--metric", "accurcy"], "has the metric 'accurcy'; choose one of accuracy, "),
        (["delete"], "name at least one run"),
        (["delete", "1"], "no terminal to ask on; confirm with --yes"),
    ],
)
def test_what_cannot_be_is_one_line(out, capsys, words, said):
    assert said in told(
        capsys, *words, *(["--out", str(out)] if len(words) > 1 or words == ["delete"] else []), status=2
    )
    assert len(runs.every(out)) == 3


# The best


def test_the_best_of_the_newest_ones_data(out, capsys):
    (out / "010-third" / "state.json").write_text(json.dumps({"began": 1e9}))
    text = told(capsys, "best", "--out", str(out))
    low, high = (100 * end for end in wilson(40, 51))
    assert text.startswith(f"002-second: accuracy {40 / 51:.1%} ({low:.1f} to {high:.1f}), the best of 2\n")
    assert "set aside 010-third: other images, or a different split of them" in text
    assert "chosen by the test images" in text and str(out / "002-second" / "best.safetensors") in text
    assert told(capsys, "best", "--metric", "loss", "--out", str(out)).startswith("002-second: loss ")
    assert told(capsys, "best", "--metric=-accuracy", "--out", str(out)).startswith("001-first: accuracy ")
    text = told(capsys, "best", "--metric", "val_accuracy", "--out", str(out))
    assert "as good: 002-second" in text and "chosen by the test" not in text
    assert told(capsys, "best", "--data", "others", "--out", str(out)).startswith("010-third: accuracy 68.6%")


def test_only_runs_that_are_done_and_have_weights_can_be_best(out):
    (out / "010-third" / "state.json").write_text(json.dumps({"began": 1e9}))
    (out / "002-second" / "best.safetensors").unlink()
    found = comparing.best(runs.every(out))
    assert found.run.name == "001-first" and found.aside["002-second"] == "no best.safetensors"
    (out / "001-first" / "report.html").unlink()
    with pytest.raises(ValueError, match="no run with the data of 002-second has the metric"):
        comparing.best(runs.every(out)[:2])


def test_a_metric_of_ones_own(out):
    for name, value in (("001-first", 0.9), ("002-second", None)):
        path = out / name / "metrics.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        lines[-1]["test_mine"] = value
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = comparing.best(runs.every(out)[:2], "mine")
    assert (found.run.name, found.value, found.aside) == ("001-first", 0.9, {"002-second": "no mine"})


# Delete


def test_deleting_asks_first(out, capsys, monkeypatch):
    size = sum(path.stat().st_size for path in (out / "002-second").rglob("*") if path.is_file())
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    asked = []
    monkeypatch.setattr("builtins.input", lambda words: asked.append(words) or "n")
    assert told(capsys, "delete", "2", "--out", str(out)) == "nothing is deleted\n" and (out / "002-second").is_dir()
    assert asked == [f"delete all of 002-second (done): {size / 1e6:,.1f} MB? [y/N] "]
    monkeypatch.setattr("builtins.input", lambda words: "y")
    text = told(capsys, "delete", "2", "002-second", "--out", str(out))
    assert text == f"deleted all of 002-second (done): {size / 1e6:,.1f} MB freed\n"
    assert [run.name for run in runs.every(out)] == ["001-first", "010-third"]


def test_only_what_a_run_made_is_deleted(made, out, tmp_path, capsys):
    foreign = tmp_path / "model"
    foreign.mkdir()
    (foreign / "config.json").write_text('{"architectures": ["ViT"]}')
    (tmp_path / "plain").mkdir()
    link = out / "011-link"
    link.symlink_to(made)
    for name, words in (
        (str(foreign), "does not say that gpuaug finetune made this folder"),
        (str(tmp_path / "plain"), "not a run, there is no config.json in it"),
        ("11", "a link, whose target is left alone"),
    ):
        assert words in told(capsys, "delete", "1", name, "--yes", "--out", str(out), status=2)
    assert foreign.is_dir() and made.is_dir() and (out / "001-first").is_dir(), "one of them is deleted all the same"
    target = tmp_path / "kept.txt"
    target.write_text("mine")
    (out / "001-first" / "link.txt").symlink_to(target)
    (out / "001-first" / "pictures" / "folder").symlink_to(foreign)
    told(capsys, "delete", "1", "--yes", "--out", str(out))
    assert not (out / "001-first").exists() and target.read_text() == "mine" and (foreign / "config.json").is_file()


def test_the_number_of_a_run_that_is_gone_is_not_given_again(out):
    assert runs.new(out, "a").name == "011-a"
    (out / "011-a" / runs.CONFIG).write_text('{"asked": {}, "resolved": {}}')
    for number in (11, 10):
        runs.remove(runs.find(out, number))
    assert runs.new(out, "b").name == "012-b" and [run.name for run in runs.every(out)] == ["001-first", "002-second"]


def test_a_deletion_that_is_cut_short_can_be_done_again(out, monkeypatch):
    def full(path, *arguments):
        raise OSError(5, "Input/output error", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", full)
        with pytest.raises(OSError, match="Input/output"):
            runs.remove(runs.find(out, 1))
    runs.remove(runs.find(out, 1))
    assert not (out / "001-first").exists()


def test_deleting_checkpoints_alone(out, capsys):
    (out / "010-third" / "report.html").unlink()  # it still needs its checkpoints
    size = sum(p.stat().st_size for n in ("001-first", "002-second") for p in (out / n / "checkpoints").iterdir())
    assert "goes on from its checkpoints" in told(
        capsys, "delete", "10", "--checkpoints", "--yes", "--out", str(out), status=2
    )
    text = told(capsys, "delete", "--checkpoints", "--yes", "--out", str(out))
    assert f"{size / 1e6:,.1f} MB freed" in text and "010-third" not in text
    left = {
        run.name: (run.path("checkpoints").exists(), run.path("best.safetensors").exists()) for run in runs.every(out)
    }
    assert left == {"001-first": (False, True), "002-second": (False, True), "010-third": (True, True)}
    assert "nothing to delete" in told(capsys, "delete", "--checkpoints", "--yes", "--out", str(out))


# In Python


def test_deleting_what_a_run_began_with(out, capsys):
    start = out / "002-second" / runs.START
    start.write_bytes(bytes(2_000_000))
    shutil.rmtree(out / "002-second" / runs.CHECKPOINTS, ignore_errors=True)
    text = told(capsys, "delete", "2", "--checkpoints", "--yes", "--out", str(out))
    assert text == "deleted the checkpoints of 002-second (done): 2.0 MB freed\n" and not start.exists()


def test_every_run_in_python(out):
    assert [(run.name, runs.number_of(run.folder)) for run in runs.every(out)] == [
        ("001-first", 1), ("002-second", 2), ("010-third", 10)
    ]  # fmt: skip
    run = runs.find(out, "010")
    assert run.evaluation.top1 == 35 / 51
    logits, labels = (torch.from_numpy(run.predictions[name]) for name in ("logits", "labels"))
    assert (logits.argmax(1) == labels).sum() == 35
