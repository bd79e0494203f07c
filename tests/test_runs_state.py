"""How it stands with a run: under way, stopped, failed, killed, done."""

from __future__ import annotations

import json
import math
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

for needed in ("accelerate", "matplotlib", "psutil", "scipy", "sklearn", "timm", "tyro"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

import psutil  # noqa: E402
from finetuning import few  # noqa: E402
from ledger import OPTIONS, copied, told  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from gpuaug.finetune import Config, Interrupted, finetune, resume, runs, state  # noqa: E402


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A run of two epochs, as it leaves its folder."""
    out = tmp_path_factory.mktemp("made")
    return finetune(Config(**OPTIONS, epochs=2, quiet=True, out=out), parts=few()).run


def open_run(made: Path, out: Path, **said: object) -> runs.Run:
    """A run that is not done, and what its state.json says."""
    folder = copied(made, out, "005-open")
    (folder / "report.html").unlink()
    (folder / "state.json").write_text(json.dumps(said))
    return runs.Run(folder)


def running(folder: Path, process: psutil.Process) -> dict:
    return {
        "state": "running", "began": 1.0, "pid": process.pid, "since": process.create_time(),
        "host": socket.gethostname(), "folder": str(folder.resolve()),
    }  # fmt: skip


def test_a_run_is_under_way_while_its_process_lives(made, tmp_path, capsys):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    said = running(tmp_path / "005-open", psutil.Process(child.pid))
    run = open_run(made, tmp_path, **said)
    try:
        assert state.of(run).word == "running"
        with pytest.raises(ValueError, match=rf"under way, process {child.pid} on .*; wait for its end, or stop it"):
            resume(run.folder, parts=few())
        for more in ([], ["--checkpoints"]):
            assert "under way" in told(capsys, "delete", "5", "--yes", *more, "--out", str(tmp_path), status=2)
        run.write_json("state.json", said | {"since": said["since"] - 100})  # another process has its number now
        assert state.of(run).word == "stopped"
        run.write_json("state.json", said | {"host": "elsewhere"})
        assert state.of(run) == state.State("running?", f"process {child.pid} on elsewhere", 1.0)
        assert "if it is not, remove" in told(capsys, "delete", "5", "--yes", "--out", str(tmp_path), status=2)
        run.write_json("state.json", said)
        other = runs.Run(shutil.copytree(run.folder, tmp_path / "006-copy"))
        assert state.of(other).word == "stopped"
    finally:
        child.communicate(b"\n")
    assert state.of(run).word == "stopped" and "its process was killed" in told(capsys, "--out", str(tmp_path))


@pytest.fixture
def no_report(monkeypatch) -> None:
    monkeypatch.setattr("gpuaug.finetune.report.after", lambda job: None)


def test_a_run_says_itself_how_it_stands(tmp_path, capsys, no_report):
    """Under way; failed; gone on with and stopped; done."""
    seen, config = [], Config(**OPTIONS, epochs=3, quiet=True, out=tmp_path)

    def look(line: dict) -> None:
        seen.append(state.of(runs.find(tmp_path, 1)).word)

    def broken(logits, labels):
        return F.cross_entropy(logits, labels) * (math.nan if seen.count("running") > 1 else 1)

    with pytest.raises(ValueError, match="the loss is nan in epoch 2"):
        finetune(config, parts=few(), loss=broken, callbacks=[look])
    assert seen == ["running"] * 2
    assert "failed, the loss is nan in epoch 2: lower lr" in told(capsys, "--out", str(tmp_path))
    began = state.of(runs.find(tmp_path, 1)).began

    def stop(line: dict) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        resume(1, tmp_path, parts=few(), loss=F.cross_entropy, callbacks=[stop])
    now = state.of(runs.find(tmp_path, 1))
    assert now.word == "stopped" and now.began == began
    resume(1, tmp_path, parts=few(), loss=F.cross_entropy)
    (tmp_path / "001-test_resnet-few-full" / "report.html").write_text("")
    assert state.of(runs.find(tmp_path, 1)) == state.State("done", "", began)
    said = json.loads((tmp_path / "001-test_resnet-few-full" / "state.json").read_text())
    assert said["state"] == "done" and said["began"] == began and isinstance(said["ended"], float)


def test_a_run_of_before_has_a_state_too(made, tmp_path):
    run = runs.Run(copied(made, tmp_path, "001-old"))
    run.path("state.json").unlink()
    assert state.of(run) == state.State("done", "", run.path("config.json").stat().st_mtime)
