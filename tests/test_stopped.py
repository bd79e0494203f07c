"""What a run leaves that does not reach its end, and what a resume makes of it."""

from __future__ import annotations

import math
import signal

import pytest
import torch
from torch.nn import functional as F

for needed in ("accelerate", "matplotlib", "sklearn", "timm", "torchvision", "tqdm"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")

from finetuning import few  # noqa: E402
from PIL import Image  # noqa: E402

from gpuaug.finetune import Config, Interrupted, Run, corrupted, finetune, report, resume, runs, state  # noqa: E402
from gpuaug.finetune import page as page_of_runs  # noqa: E402

BASE = {"model": "test_resnet", "epochs": 3, "batch_size": 50, "device": "cpu", "workers": 0, "quiet": True}


class Stops:
    """The cross entropy, and Ctrl-C as it is asked for the n-th time in training, so many times."""

    def __init__(self, at: int, times: int = 1):
        self.at, self.times, self.calls = at, times, 0

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self.calls += logits.requires_grad
        if logits.requires_grad and self.calls == self.at:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)
        return F.cross_entropy(logits, labels)


def picture(run: Run, name: str) -> tuple[int, int]:
    with Image.open(run.picture(name)) as image:
        image.load()
        return image.size


def page(run: Run) -> str:
    return run.path(runs.REPORT).read_text(encoding="utf-8")


@pytest.mark.parametrize("keep", [2, 0])
def test_a_run_that_was_stopped_keeps_its_pictures(tmp_path, keep):
    with pytest.raises(KeyboardInterrupt) as stopped:
        finetune(Config(**BASE, keep=keep, robustness=12, out=tmp_path), parts=few(), loss=Stops(3))
    assert isinstance(stopped.value, Interrupted) == bool(keep)
    run = Run(tmp_path / "001-test_resnet-few-full")
    why = f" (stopped; go on with: gpuaug resume {run.folder})" if keep else ""
    assert f"This run has not reached its end{why}: 1 of 3 epochs are done." in page(run)
    assert picture(run, "contact_sheet")[0] > 500 and picture(run, "curves")[0] > 500
    assert page(run).count("<img ") == 2 and len(run.history) == 1
    if not keep:
        return
    sheet = run.picture("contact_sheet").stat().st_mtime_ns
    resume(run.folder, parts=few(), loss=Stops(0))
    assert "not reached its end" not in page(run) and "Training" in page(run)
    assert run.picture("contact_sheet").stat().st_mtime_ns == sheet and len(run.history) == 3
    assert Run(run.folder).robustness["n"] == 12


def test_a_run_that_fails_says_why(tmp_path):
    def diverges(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        calls.append(logits.requires_grad)
        return F.cross_entropy(logits, labels) * (math.inf if calls[-1] and sum(calls) == 4 else 1)

    calls: list[bool] = []
    with pytest.raises(ValueError, match="the loss is inf in epoch 2"):
        finetune(Config(**BASE, lr=0.01, out=tmp_path), parts=few(), loss=diverges)
    run = Run(tmp_path / "001-test_resnet-few-full")
    assert "its end (the loss is inf in epoch 2: lower lr (now 0.01)): 1 of 3 epochs are done." in page(run)
    assert picture(run, "contact_sheet") and picture(run, "curves")


def test_a_run_that_fails_as_it_begins_leaves_no_folder(tmp_path):
    def wrong(images, ids):
        raise RuntimeError("no such colour")

    with pytest.raises(Exception, match="no such colour"):
        finetune(Config(**BASE, out=tmp_path), parts=few(), augment=wrong)
    assert not list(tmp_path.iterdir())


def test_what_was_wrong_is_told_even_where_no_page_can_be_written(tmp_path, monkeypatch, capsys):
    def full(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr("gpuaug.finetune.page.write", full)
    with pytest.raises(ValueError, match="the loss is"):
        finetune(Config(**BASE | {"quiet": False}, lr=1e18, out=tmp_path), parts=few())
    assert "report   not written: no space left" in capsys.readouterr().out


def test_the_second_stop_writes_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        finetune(Config(**BASE, out=tmp_path), parts=few(), loss=Stops(3, times=2))
    run = Run(tmp_path / "001-test_resnet-few-full")
    assert not run.path(runs.REPORT).exists() and picture(run, "contact_sheet")


def test_a_run_that_was_stopped_while_its_images_were_corrupted(tmp_path, monkeypatch):
    config = Config(**BASE | {"epochs": 1}, robustness=12, out=tmp_path)
    whole = Run(finetune(config, parts=few()).run)

    def stopped(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as at, pytest.raises(KeyboardInterrupt):
        at.setattr(corrupted, "of_run", stopped)
        finetune(config, parts=few())
    run = Run(tmp_path / "002-test_resnet-few-full")
    assert run.events("after") and not run.path(runs.REPORT).exists() and run.robustness is None
    write, said = page_of_runs.write, []
    monkeypatch.setattr(page_of_runs, "write", lambda *one: (said.append(state.of(run).word), write(*one)))
    resume(run.folder, parts=few())
    assert Run(run.folder).robustness == whole.robustness and "Robustness" in page(run)
    assert said == [state.RUNNING] and run.json(runs.STATE)["state"] == state.DONE


def test_the_contact_sheet_is_there_before_the_first_epoch_and_changes_no_draw(tmp_path, monkeypatch):
    def noisy(images, ids):
        return images.float() / 127.5 - 1 + 0.1 * torch.rand(images.shape)

    def seen(line) -> None:
        there.append((line["event"], (tmp_path / name / "pictures" / "contact_sheet.png").exists()))

    there, name, config = [], "001-test_resnet-few-full", Config(**BASE | {"epochs": 1}, robustness=0, out=tmp_path)
    first = finetune(config, parts=few(), augment=noisy, callbacks=[seen])
    assert there == [("before", True), ("epoch", True), ("after", True)]
    monkeypatch.setattr(report, "before", lambda job: None)
    second = finetune(config, parts=few(), augment=noisy)
    assert first.history[0]["train_loss"] == second.history[0]["train_loss"]
