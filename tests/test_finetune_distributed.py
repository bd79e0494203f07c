"""A run that processes share, by DDP and by FSDP: it comes to what one process comes to, stops for all at once, and
goes on. Processes of gloo on the CPU, forked from one that has imported everything."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

for needed in ("accelerate", "matplotlib", "sklearn", "timm", "torchvision", "tqdm"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")
if sys.platform != "linux":
    pytest.skip("it forks processes, and sends them signals", allow_module_level=True)

import finetuning  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from gpuaug.finetune import Config, checkpoint, models, runs, sharing  # noqa: E402

RUN = "001-test_resnet-few-finetune"
WAYS = {"ddp": {}, "fsdp": {"ACCELERATE_USE_FSDP": "true"}}
TIMES = ("seconds", "images_per_second", "shares")
OPTIONS = {
    "agree": 0,
    "report": False,
    "epochs": 3,
    "ema": 0.5,
    "clip": 1.0,
    "accumulate": 2,
    "lr": 0.003,
    "checkpoint_steps": 0,
}


@pytest.fixture(scope="module")
def context() -> multiprocessing.context.ForkServerContext:
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(finetuning.HEAVY)
    return made


class Launched:
    """Processes that run finetuning.py together, as a launcher would start them."""

    def __init__(self, context, out: Path, world: int, batch: int, run: Path | None = None, **options):
        self.out, self.options = out, OPTIONS | options
        out.mkdir(exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        way = self.options.pop("way", {})
        environment = {"FINETUNING": json.dumps(self.options), "OMP_NUM_THREADS": "1", **way}
        arguments = [str(out), str(batch), *([str(run)] if run else [])]
        self.all = []
        for rank in range(world):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
            own = environment | (own | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port} if world > 1 else {})
            process = context.Process(target=finetuning.member, args=(own, arguments))
            self.all.append(process)
            process.start()

    def end(self, code: int = 0) -> dict:
        """What the main process left, once all have ended with this status."""
        for process in self.all:
            process.join(120)
        assert [process.exitcode for process in self.all] == [code] * len(self.all)
        return {} if code else json.loads((self.out / "0.json").read_text())


@pytest.fixture(scope="module")
def alone(context, tmp_path_factory) -> dict:
    return Launched(context, tmp_path_factory.mktemp("alone"), 1, 20).end()


def close(alone: dict, found: dict) -> None:
    assert found["metrics"] == pytest.approx(alone["metrics"], abs=1e-5)
    for a, b in zip(alone["history"], found["history"], strict=True):
        for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr"):
            assert b[name] == pytest.approx(a[name], abs=1e-5), name


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_come_to_what_one_comes_to(context, tmp_path, alone, way):
    two = Launched(context, tmp_path, 2, 10, way=WAYS[way])
    first = two.end()
    second = json.loads((tmp_path / "1.json").read_text())
    assert not first["seen"].keys() & second["seen"].keys() and first["seen"] | second["seen"] == alone["seen"]
    close(alone, first)
    assert first["metrics"] == second["metrics"]
    whole, parts = sum(alone["held"].values()), [sum(one["held"].values()) for one in (first, second)]
    assert parts == [whole, whole] if way == "ddp" else (sum(parts) == whole and max(parts) < 0.51 * whole)
    a, b = (load_file(Path(one["run"]) / runs.WEIGHTS) for one in (alone, first))
    for name in a | b:
        torch.testing.assert_close(
            a[name].float(), b[name].float(), rtol=1e-5, atol=5e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_two_processes_see_the_same_clips(context, tmp_path):
    options = {"clips": True, "model": "resnet20", "pooling": "mean", "epochs": 2, "lr": 0.001}
    alone = Launched(context, tmp_path / "alone", 1, 20, **options).end()
    first = Launched(context, tmp_path / "two", 2, 10, **options).end()
    second = json.loads((tmp_path / "two" / "1.json").read_text())
    assert not first["seen"].keys() & second["seen"].keys() and first["seen"] | second["seen"] == alone["seen"]
    assert len({name.split()[2] for name in alone["seen"]}) == 202, "each clip of the three parts"
    close(alone, first)


@pytest.mark.parametrize("way", WAYS)
def test_one_is_stopped_and_all_stop_after_the_same_step_and_go_on(context, tmp_path, way):
    options = {"way": WAYS[way], "epochs": 2, "frozen_bn": False}
    whole = Launched(context, tmp_path / "whole", 2, 10, **options).end()
    out = tmp_path / "stopped"
    Launched(context, out, 2, 10, stop=[1, 7], **options).end(130)  # of five batches an epoch, two a step
    found = checkpoint.found(out / RUN)[-1]
    assert found.name == "epoch-0001-step-000004.pt", "a step later, when the others have heard of it"
    first = Launched(context, out, 2, 10, out / RUN, **options).end()
    one, other = ([line | dict.fromkeys(TIMES) for line in found["history"]] for found in (first, whole))
    assert one == other
    a, b = (load_file(run / runs.WEIGHTS) for run in (out / RUN, tmp_path / "whole" / RUN))
    assert all(torch.equal(a[name], b[name]) for name in a | b)


def test_what_was_shared_out_goes_on_in_one_process(context, tmp_path, alone):
    Launched(context, tmp_path, 2, 10, way=WAYS["fsdp"], stop=[0, 7]).end(130)
    facts = json.loads((tmp_path / RUN / runs.CONFIG).read_text())
    facts["asked"]["batch_size"] = 20  # as large a step as that of two processes
    (tmp_path / RUN / runs.CONFIG).write_text(json.dumps(facts))
    state = checkpoint.load(checkpoint.found(tmp_path / RUN)[-1])
    assert sum(value.numel() for name, value in state["learner"].items() if name in alone["held"]) == sum(
        alone["held"].values()
    )
    found = Launched(context, tmp_path, 1, 20, tmp_path / RUN).end()
    assert found["metrics"] == pytest.approx(alone["metrics"], abs=1e-4)


def test_weights_that_are_shared_out_are_kept_whole_before_the_first_step(context, tmp_path):
    began = models.build("test_resnet", 10)[0].state_dict()
    save_file(began, tmp_path / "w.safetensors")
    options = {"way": WAYS["fsdp"], "epochs": 1, "head_epochs": 0, "weights": str(tmp_path / "w.safetensors")}
    Launched(context, tmp_path, 2, 10, stop=[0, 3], **options).end(130)
    (run,) = runs.every(tmp_path)
    kept = load_file(run.path(runs.START))
    assert kept.keys() == began.keys() and all(torch.equal(kept[name], began[name]) for name in kept)
    (tmp_path / "w.safetensors").unlink()
    shutil.rmtree(run.path(runs.CHECKPOINTS))
    first = Launched(context, tmp_path, 2, 10, run.folder, **options).end()
    assert len(first["history"]) == 1 and not run.path(runs.START).exists()


def test_processes_ask_about_once_a_second_and_all_know(monkeypatch):
    """Of two processes in one: what the other says is added to each question."""
    now, other = [0.0], [0.0, 0.0]

    class Work:
        def wait(self) -> None: ...

    def all_reduce(told, *arguments, **options):
        told.copy_(torch.maximum(told, torch.tensor(other)))
        return Work()

    monkeypatch.setattr(sharing.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(sharing.dist, "new_group", lambda backend: "hosts")
    monkeypatch.setattr(sharing.dist, "all_reduce", all_reduce)
    agreement, asked = sharing.Agreement(2), []
    ask = agreement._ask
    monkeypatch.setattr(agreement, "_ask", lambda one: (asked.append(now[0]), ask(one)))
    for seconds in (0.1, 0.02):  # a step
        for _ in range(400):
            now[0] += seconds
            assert not agreement.soon(False)
        gaps = [b - a for a, b in zip(asked[-4:], asked[-3:], strict=False)]
        assert gaps == pytest.approx([1.0] * len(gaps), abs=0.11)
    other[:] = 1.0, 0.5  # it was stopped, and takes half a second a step
    answers = []
    while not any(answers):
        now[0] += 0.02
        answers.append(agreement.soon(False))
    assert len(answers) <= 101 and agreement.steps == 2
    assert agreement.now(False) is True and sharing.Agreement(1).soon(True) is True


def test_a_launchers_second_signal_is_the_first_one_again(monkeypatch):
    now = [10.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    with checkpoint.Interrupt("step", quiet=True, launched=True) as interrupt:
        signal.raise_signal(signal.SIGINT)
        now[0] += checkpoint.SAME - 0.1
        signal.raise_signal(signal.SIGTERM)
        assert interrupt.asked
        now[0] += 0.2
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ACCELERATE_USE_DEEPSPEED", "true", "=true: DeepSpeed is not supported: take DDP or --use_fsdp"),
        ("ACCELERATE_USE_MEGATRON_LM", "true", "=true: Megatron-LM is not supported"),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR", "=INDUCTOR: it would have no effect: leave it out and give the run"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "=4: it would have no effect: .* give accumulate"),
        ("ACCELERATE_MIXED_PRECISION", "bf16", "=bf16, but precision=no: give the run the same precision"),
        ("FSDP_OFFLOAD_PARAMS", "true", "=true: offloading is not supported"),
    ],
)
def test_what_a_launcher_asks_for_and_there_is_not_is_refused(monkeypatch, name, value, words):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"{name}{words}"):
        sharing.check(Config())


@pytest.mark.parametrize(
    "options", [{"l1": 1e-4}, {"compile": True}, {"lora": 4}, {"precision": "fp16"}, {"channels_last": True}]
)
def test_options_that_do_not_go_with_shards(monkeypatch, options):
    sharing.check(Config(**options))
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    sharing.check(Config(channels_last=False))
    with pytest.raises(ValueError, match="does not go with FSDP: leave it out, or launch without --use_fsdp"):
        sharing.check(Config(**options))


@pytest.mark.slow
@pytest.mark.parametrize("pressed", ["the launcher alone", "a terminal's Ctrl-C"])
def test_torchrun_is_told_to_stop(tmp_path, pressed):
    script = [str(Path(finetuning.__file__)), str(tmp_path), "2"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *script]
    options = OPTIONS | {"agree": 1, "wait": 0.2, "accumulate": 1, "checkpoint_steps": 4}  # 25 steps an epoch
    environment = os.environ | {"FINETUNING": json.dumps(options)}
    child = subprocess.Popen(launch, env=environment, start_new_session=True, stdout=subprocess.PIPE, text=True)
    until = time.monotonic() + 200
    while not checkpoint.found(tmp_path / RUN) and time.monotonic() < until:
        time.sleep(0.05)
    if pressed == "the launcher alone":
        child.send_signal(signal.SIGTERM)
    else:
        os.killpg(child.pid, signal.SIGINT)
    said, _ = child.communicate(timeout=60)
    assert said.count("stopped; go on with: gpuaug resume") == 2
    assert not runs.Run(tmp_path / RUN).history, "it stopped within the first epoch"
