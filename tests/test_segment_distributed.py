"""A segmentation that two processes share by DDP comes to what one process comes to: the same pixels, the same losses,
the same masks. Processes of gloo on the CPU, forked from one that has imported everything."""

from __future__ import annotations

import json
import multiprocessing
import socket
import sys
from pathlib import Path

import numpy as np
import pytest

for needed in ("accelerate", "matplotlib", "segmentation_models_pytorch", "sklearn", "timm", "torchvision", "tqdm"):
    pytest.importorskip(needed, reason=f"the fine-tuning extra is not installed: {needed}")
if sys.platform != "linux":
    pytest.skip("it forks processes", allow_module_level=True)

import segmenting  # noqa: E402
from finetuning import HEAVY  # noqa: E402
from test_segment import write_discs  # noqa: E402


def launched(context, data: Path, out: Path, world: int, batch_size: int) -> list[dict]:
    """What each of ``world`` processes left."""
    out.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = []
    for rank in range(world):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
        own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = {"OMP_NUM_THREADS": "1"} | (own if world > 1 else {})
        arguments = (environment, str(data), str(out), batch_size)
        processes.append(context.Process(target=segmenting.member, args=arguments))
        processes[-1].start()
    for process in processes:
        process.join(200)
    assert [process.exitcode for process in processes] == [0] * world
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(world)]


def test_two_processes_come_to_what_one_comes_to(tmp_path):
    write_discs(tmp_path / "data" / "train", 8, 0)
    write_discs(tmp_path / "data" / "test", 5, 1)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*HEAVY, "segmenting"])
    (alone,) = launched(context, tmp_path / "data", tmp_path / "one", 1, 4)
    first, second = launched(context, tmp_path / "data", tmp_path / "two", 2, 2)
    assert not first["seen"].keys() & second["seen"].keys() and first["seen"] | second["seen"] == alone["seen"]
    for a, b in zip(alone["history"], first["history"], strict=True):
        for name in ("train_loss", "train_pixels", "lr"):
            assert b[name] == pytest.approx(a[name], abs=1e-5), name
    assert first["metrics"] == second["metrics"]
    assert first["metrics"]["loss"] == pytest.approx(alone["metrics"]["loss"], abs=1e-5)
    one, two = ({Path(name).name: np.array(mask) for name, mask in found["masks"].items()} for found in (alone, first))
    assert list(one) == list(two) and len(one) == 5
    for name in one:
        assert (one[name] == two[name]).mean() > 0.999, name
