"""A run that was stopped, killed, or shared by two processes ends as one that was not."""

from __future__ import annotations

import json
import multiprocessing
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

for needed in ("accelerate", "matplotlib", "sklearn", "timm", "torchvision", "tqdm"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

import finetuning  # noqa: E402
from finetuning import few  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from gpuaug.finetune import Config, Interrupted, checkpoint, finetune, models, resume, runs  # noqa: E402

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
    "averaged at its end": {"swa": 0.7, "dropout": 0.3},
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


def stopped(config: Config, at: int, **given) -> Path:
    with pytest.raises(Interrupted) as found:
        finetune(config, parts=few(), loss=Stops(at), **given)
    return found.value.run


def weights(path: Path, seed: int = 1) -> Path:
    """A file of weights of the model, for as many classes."""
    torch.manual_seed(seed)
    model, _ = models.build("test_resnet", 10)
    save_file(model.state_dict(), path)
    return path


@pytest.mark.parametrize("recipe", ["probe", "finetune"])
@pytest.mark.parametrize("becomes", ["gone", "another"])
def test_a_run_goes_on_without_the_file_of_its_weights(tmp_path, recipe, becomes, capsys):
    file = weights(tmp_path / "w.safetensors")
    config = Config(**BASE | {"epochs": 2, "quiet": False}, recipe=recipe, weights=str(file), out=tmp_path / "runs")
    whole = finetune(config, parts=few(), loss=Stops())
    run = stopped(config, 6)
    assert (run / runs.START).exists() and "has changed" not in capsys.readouterr().out
    if becomes == "gone":
        file.unlink()
    else:
        weights(file, seed=2)
    result = resume(run, parts=few(), loss=Stops())
    said = "is gone" if becomes == "gone" else "has changed"
    assert f"{file} {said} since the run began: its own copy of the weights is taken" in capsys.readouterr().out
    same(whole.run, result.run)


def test_a_run_goes_on_from_its_beginning_without_the_file(tmp_path):
    file = weights(tmp_path / "w.safetensors")
    config = Config(**BASE | {"epochs": 1}, recipe="finetune", weights=str(file), out=tmp_path / "runs")
    whole = finetune(config, parts=few(), loss=Stops())
    run = stopped(config, 2)
    file.unlink()
    for path in checkpoint.found(run):
        path.unlink()
    same(whole.run, resume(run, parts=few(), loss=Stops()).run)


@pytest.mark.parametrize("becomes", ["gone", "another model's"])
def test_the_model_and_the_size_of_a_runs_weights_stay_those_that_it_began_with(tmp_path, becomes):
    options = {"epochs": 1, "batch_size": 200, "device": "cpu", "workers": 0, "quiet": True, "recipe": "finetune"}
    first = finetune(Config(**options, model="test_resnet", size=40, out=tmp_path / "first"))
    file = shutil.copy(first.run / runs.WEIGHTS, tmp_path / "w.safetensors")
    config = Config(**options, weights=str(file), robustness=0, out=tmp_path / "runs")
    whole = finetune(config, loss=Stops())
    known = runs.Run(whole.run).resolved
    assert (known["model"], known["size"]) == ("test_resnet", 40)
    with pytest.raises(Interrupted) as found:
        finetune(config, loss=Stops(2))
    file.unlink()
    if becomes != "gone":
        save_file({}, file, {"gpuaug": json.dumps({"model": "test_vit", "size": 48})})
    assert resume(found.value.run, loss=Stops()).run == found.value.run
    same(whole.run, found.value.run)
    for name in (runs.REPORT, runs.START):  # as if it was killed with the report just written
        runs.write(whole.run / name, b"")
    with pytest.raises(ValueError, match="this run is done"):
        resume(whole.run, loss=Stops())
    assert not (whole.run / runs.START).exists()


def test_kept_weights_that_are_damaged_are_not_taken(tmp_path):
    config = Config(**BASE, weights=str(weights(tmp_path / "w.safetensors")), out=tmp_path / "runs")
    run = stopped(config, 2)
    kept = run / runs.START
    content = bytearray(kept.read_bytes())
    content[-1] ^= 1
    kept.write_bytes(content)
    with pytest.raises(ValueError, match=r"start\.safetensors: damaged, or removed, .*; start the run again"):
        resume(run, parts=few(), loss=Stops())


def test_a_model_that_has_changed_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(tmp_path)
    source = tmp_path / "changing_model.py"
    text = "from gpuaug.finetune import models\n\n\ndef make(num_classes): return models.ResNet20(num_classes)"
    source.write_text(text)
    options = BASE | {"model": "changing_model:make", "epochs": 1, "quiet": False}
    run = stopped(Config(**options, out=tmp_path / "runs"), 2)
    source.write_text(f"{text}  # now")
    resume(run, parts=few(), loss=Stops())
    assert f"{source} has changed since the run began: the model may compute otherwise" in capsys.readouterr().out


def test_another_model_in_place_of_the_given_one_is_refused(tmp_path):
    given = {name: value for name, value in BASE.items() if name != "model"}
    run = stopped(Config(**given, out=tmp_path), 2, model=models.ResNet20())
    wider = models.ResNet20()
    wider.conv1 = torch.nn.Conv2d(3, 16, 5, padding=2, bias=False)
    words = (
        r"model ResNet20: no longer the one that .* began with; 1 tensors differ: conv1\.weight; restore it, or start"
    )
    with pytest.raises(ValueError, match=words):
        resume(run, parts=few(), loss=Stops(), model=wider)
    assert resume(run, parts=few(), loss=Stops(), model=models.ResNet20()).best_epoch


ALL = {"ema": 0.9, "mixup": 0.2, "accumulate": 2, "resident": False, "workers": 3, "batch_size": 10, "frozen_bn": False}
KILLED = {"everything at once": ALL, "probe": {"recipe": "probe", "head_epochs": None, "frozen_bn": False, "ema": 0.9}}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it forks processes, and reads /proc")
@pytest.mark.parametrize("options", KILLED.values(), ids=KILLED)
def test_killed_at_any_moment_it_goes_on(tmp_path, options):
    """Twenty times: at a moment of its own that is drawn, or from outside after a time that is drawn."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(finetuning.HEAVY)
    rng, whole, out = random.Random(0), tmp_path / "whole", tmp_path / "killed"

    def begin(out: Path, **more) -> multiprocessing.Process:
        for path in out.glob("00?-*"):
            if not (path / runs.CONFIG).exists():  # killed as it was made: not a run yet
                shutil.rmtree(path)
        known = [str(path) for path in out.glob("00?-*")]
        environment = {"FINETUNING": json.dumps(options | more), "OMP_NUM_THREADS": "1"}
        child = context.Process(target=finetuning.member, args=(environment, [str(out), "10", *known]))
        child.start()
        return child

    whole.mkdir()
    child = begin(whole)
    child.join(300)
    out.mkdir()
    kills, ends = 0, []
    while kills < 20:
        run = next(out.glob("00?-*"), None)
        if run is not None and (run / runs.REPORT).exists():  # done before it was killed often enough: once more
            ends.append(run)
            same(next(whole.glob("001-*")), run)
            shutil.move(run, tmp_path / f"done-{len(ends)}")
        by_itself, before = rng.random() < 0.8, stamp(out)
        child = begin(out, **({"kill": rng.randint(4, 40)} if by_itself else {}))
        while not by_itself and child.exitcode is None and stamp(out) == before:
            child.join(0.01)
        child.join(None if by_itself else rng.uniform(0, 1))
        if child.exitcode is None:
            child.kill()
            child.join()
            (out / "moments").open("a").write("from outside\n")
        kills += child.exitcode == -signal.SIGKILL
        assert child.exitcode in (0, -signal.SIGKILL)
        for run in out.glob("00?-*"):
            readable(run)
    if not all((run / runs.REPORT).exists() for run in out.glob("00?-*")):
        begin(out).join(300)
    run = next(out.glob("00?-*"))
    same(next(whole.glob("001-*")), run)
    assert (run / runs.REPORT).exists() and not [*run.rglob(".*")], "what was half written is gone"
    print((out / "moments").read_text(), f"{kills} kills, {len(ends) + 1} runs")


def stamp(out: Path) -> list:
    """Changes as soon as a run writes a checkpoint, or its report."""
    return sorted((path.name, path.stat().st_mtime_ns) for path in [*out.glob("*/checkpoints/*.pt"), *out.glob("*/*")])


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
