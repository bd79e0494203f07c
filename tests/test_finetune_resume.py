"""A run that was stopped, killed, or shared by two processes ends as one that was not."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

for needed in ("accelerate", "matplotlib", "sklearn", "timm", "torchvision", "tqdm"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

from finetuning import few  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from gpuaug.finetune import Config, Interrupted, checkpoint, finetune, resume, runs  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = [sys.executable, str(ROOT / "tests" / "finetuning.py")]
BASE = {"model": "test_resnet", "epochs": 3, "batch_size": 20, "device": "cpu", "workers": 0, "quiet": True}
TIMES = ("seconds", "images_per_second", "shares")

OPTIONS = {
    "full, mixed": {"mixup": 0.2, "cutmix": 1.0},
    "finetune, averaged, accumulated, with dropout": {
        "recipe": "finetune", "head_epochs": 1, "ema": 0.9, "accumulate": 2, "dropout": 0.3, "drop_path": 0.1,
        "l1": 1e-5, "batch_size": 10,
    },
    "plateau, balanced, streamed": {
        "schedule": "plateau", "plateau_patience": 1, "lr": 0.01, "balance": "sampling", "resident": False, "workers": 2
    },
    "probe": {"recipe": "probe", "epochs": 6, "optimizer": "lion", "lr": 1e-3},
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch) -> None:
    for name in ("before", "after"):
        monkeypatch.setattr(f"gpuaug.finetune.report.{name}", lambda *arguments: None)


class Stops:
    """The cross entropy, and Ctrl-C as it is asked for the n-th time in training."""

    def __init__(self, at: int | None = None):
        self.at, self.calls = at, 0

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self.calls += logits.requires_grad
        if logits.requires_grad and self.calls == self.at:
            signal.raise_signal(signal.SIGINT)
        return F.cross_entropy(logits, labels)


def same(one: Path, other: Path) -> None:
    """Two runs came to the same, to the bit."""
    a, b = load_file(one / runs.WEIGHTS), load_file(other / runs.WEIGHTS)
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    first, second = (runs.Run(run).lines() for run in (one, other))
    assert [{k: v for k, v in line.items() if k not in TIMES} for line in first] == [
        {k: v for k, v in line.items() if k not in TIMES} for line in second
    ]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path, options):
    config, parts = Config(**{**BASE, **options}, out=tmp_path), few()
    whole = finetune(config, parts=parts, loss=Stops())
    steps = int(whole.history[0]["steps"])
    run = None
    for at in (steps + steps // 2, steps):  # in the second epoch, then behind its last step or in the third
        with pytest.raises(Interrupted, match=r"go on with: gpuaug resume .*-few-") as stopped:
            if run is None:
                finetune(config, parts=parts, loss=Stops(at))
            else:
                resume(run, parts=parts, loss=Stops(at))
        run = stopped.value.run
    assert len(checkpoint.found(run)) == 2
    result = resume(run, parts=parts, loss=Stops())
    assert result.run == run and result.best_epoch == whole.best_epoch
    same(whole.run, run)


def test_a_run_without_checkpoints_only_stops(tmp_path):
    with pytest.raises(KeyboardInterrupt) as stopped:
        finetune(Config(**BASE, keep=0, out=tmp_path), parts=few(), loss=Stops(3))
    assert (
        not isinstance(stopped.value, Interrupted) and not (tmp_path / "001-test_resnet-few-full/checkpoints").exists()
    )


def test_the_second_stop_quits_at_once():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), checkpoint.Interrupt("step", quiet=True) as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.asked
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is before


def test_what_cannot_go_on_says_why(tmp_path):
    parts, config = few(), Config(**BASE | {"epochs": 1}, out=tmp_path)
    done = finetune(config, parts=parts, loss=Stops())
    (done.run / "report.html").touch()
    with pytest.raises(ValueError, match="this run is done; start a new one with weights=.*best.safetensors"):
        resume(done.run, parts=parts, loss=Stops())
    with pytest.raises(Interrupted) as stopped:
        finetune(config, parts=parts, loss=Stops(2))
    with pytest.raises(ValueError, match="it was given its parts, loss in Python; hand the same to resume"):
        resume("2", tmp_path)
    with pytest.raises(ValueError, match="the data are no longer those that it began with"):
        resume("2", tmp_path, parts=replace(parts, test=parts.val), loss=Stops())
    with pytest.raises(ValueError, match=r"there is no run '7'; there are: 001-test_resnet-few-full, 002-"):
        resume("7", tmp_path)
    (tmp_path / "009-x").mkdir()
    with pytest.raises(ValueError, match="not a run, there is no config.json in it"):
        resume("009-x", tmp_path)
    last = checkpoint.found(stopped.value.run)[-1]
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"epoch-0000-step-000002.pt: cannot be read .*remove it, "):
        resume(stopped.value.run, parts=parts, loss=Stops())
    last.unlink()
    same(resume(stopped.value.run, parts=parts, loss=Stops()).run, done.run)


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    runs.write(path, b"old")
    monkeypatch.setattr("os.fsync", lambda file: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space left"):
        runs.write(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_what_a_crash_left_half_written_is_removed(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    monkeypatch.setattr("os.replace", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(Path, "unlink", lambda *arguments, **options: None)  # a killed process removes nothing
        runs.write(path, b"new")
    assert len(list(tmp_path.iterdir())) == 1
    runs.clean(tmp_path)
    assert list(tmp_path.iterdir()) == []


def readable(run: Path) -> None:
    """Every file in a run's folder, but for what is half written under a hidden name."""
    for path in run.rglob("*"):
        if path.suffix == ".safetensors" and not path.name.startswith("."):
            load_file(path)
        elif path.suffix == ".pt" and not path.name.startswith("."):
            checkpoint.load(path)
        elif path.suffix == ".json" and not path.name.startswith("."):
            json.loads(path.read_text())
        elif path.suffix == ".jsonl" and not path.name.startswith("."):
            [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(tmp_path):
    subprocess.run([*SCRIPT, str(tmp_path), "10"], check=True, timeout=300)
    whole, rng, out = tmp_path / "001-test_resnet-few-finetune", random.Random(0), tmp_path / "killed"
    out.mkdir()
    run = out / "001-test_resnet-few-finetune"
    for _ in range(20):
        known = [str(run)] if (run / runs.CONFIG).exists() else []
        child = subprocess.Popen([*SCRIPT, str(out), "10", *known])
        before = stamp(run)
        while child.poll() is None and stamp(run) == before:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.3))  # whatever it does by then
        child.kill()
        child.wait()
        if run.exists():
            readable(run)
        if runs.Run(run).events("after"):
            break
    if not runs.Run(run).events("after"):
        subprocess.run([*SCRIPT, str(out), "10", str(run)], check=True, timeout=300)
    same(whole, run)
    assert not [path for path in run.rglob(".*")], "what was half written is gone"


def stamp(run: Path) -> list:
    """Changes as soon as a run writes."""
    return sorted((path.name, path.stat().st_mtime_ns) for path in run.glob("checkpoints/*.pt"))


@pytest.mark.slow
def test_two_processes_train_like_one(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    subprocess.run([*SCRIPT, str(one), "20"], check=True, timeout=300)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *SCRIPT[1:]]
    subprocess.run([*launch, str(two), "10"], check=True, timeout=300)
    alone = json.loads((one / "0.json").read_text())
    first, second = (json.loads((two / f"{rank}.json").read_text()) for rank in (0, 1))
    assert not first["seen"].keys() & second["seen"].keys() and first["seen"] | second["seen"] == alone["seen"]
    assert first["metrics"] == second["metrics"] == pytest.approx(alone["metrics"], abs=1e-5)
    for a, b in zip(alone["history"], first["history"], strict=True):
        for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr"):
            assert b[name] == pytest.approx(a[name], abs=1e-5), name
    facts = runs.Run(two / "001-test_resnet-few-finetune").facts
    assert facts["environment"]["processes"] == 2 and len(list(two.glob("00*"))) == 1
