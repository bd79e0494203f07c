"""What draws are keyed by: seeds, epochs and ids of any integer type; epochs that workers follow; forked processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import re
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import gpuaug as ga
from gpuaug.keys import Keys, as_ids

IMAGE = torch.zeros(3, 8, 8, dtype=torch.uint8)
STARTS = pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])


def pipeline(seed: int = 0) -> ga.Compose:
    return ga.Compose([ga.RandomRotation(90)], seed=seed, backend="kornia")


def angles(augment: ga.Compose, n: int = 4, **keywords) -> list[float]:
    return augment.sample(IMAGE.expand(n, -1, -1, -1), **keywords).table[:, 0].tolist()


# --- whole numbers ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", [int, np.int64, np.uint8, np.int32, lambda v: torch.tensor(v)])
def test_any_integer_type_is_a_seed_and_an_epoch(kind) -> None:
    augment = pipeline(kind(7))
    assert augment.seed == 7 and angles(augment, ids=range(4), epoch=kind(3)) == angles(
        pipeline(7), ids=range(4), epoch=3
    )
    augment.set_epoch(kind(5))
    assert augment.epoch == 5


@pytest.mark.parametrize("end", [2**64, -1, 2**65])
def test_seeds_that_could_not_be_kept_apart_are_refused(end: int) -> None:
    with pytest.raises(ValueError, match=re.escape(f"seed must lie in 0 .. 2^64 - 1, got {end}")):
        pipeline(end)
    top = pipeline(2**64 - 1)
    assert top.seed == 2**64 - 1 and angles(top, ids=range(4), epoch=0) != angles(pipeline(0), ids=range(4), epoch=0)


@pytest.mark.parametrize("bad", [1.0, 1.5, "1", None, (1,)])
def test_what_is_no_whole_number_is_refused(bad) -> None:
    augment = pipeline()
    if bad is not None:  # a seed from the operating system, an epoch that is not known
        with pytest.raises(TypeError, match="seed must be a whole number"):
            pipeline(bad)
        with pytest.raises(TypeError, match="epoch must be a whole number"):
            augment(IMAGE, ids=[0], epoch=bad)
    with pytest.raises(TypeError, match="epoch must be a whole number"):
        augment.set_epoch(bad)


@pytest.mark.parametrize("bad", [-1, 2**32])
def test_epochs_lie_in_32_bits(bad: int) -> None:
    with pytest.raises(ValueError, match="epoch must lie in"):
        pipeline().set_epoch(bad)
    with pytest.raises(ValueError, match="epoch must lie in"):
        angles(pipeline(), ids=range(4), epoch=bad)


@pytest.mark.parametrize(
    "ids",
    [
        [5, 6, 7, 8],
        (5, 6, 7, 8),
        range(5, 9),
        np.arange(5, 9),
        np.arange(8, 4, -1)[::-1],
        np.arange(5, 9, dtype=np.uint8),
        torch.arange(5, 9, dtype=torch.int32),
        torch.arange(5, 9).view(2, 2),
        torch.arange(5, 13)[::2] // 2 + 3 - torch.tensor([0, 0, 0, 0]),
    ],
    ids=str,
)
def test_ids_of_any_integer_type(ids) -> None:
    expected = [5, 6, 7, 8]
    found = as_ids(ids, torch.device("cpu"), 4)
    assert found.dtype == torch.int64 and found.is_contiguous()
    if not isinstance(ids, torch.Tensor) or ids.dtype == torch.int32 or ids.dim() == 2:
        assert found.tolist() == expected and angles(pipeline(), ids=ids, epoch=0) == angles(
            pipeline(), ids=expected, epoch=0
        )


@pytest.mark.parametrize(
    "bad",
    [["a", "b"], [1.0, 2.0], torch.tensor([1.0, 2.0]), torch.tensor([True, False]), [[1], [2, 3]], [2**64, 1], {1, 2}],
)
def test_ids_that_are_no_whole_numbers_get_one_line(bad) -> None:
    with pytest.raises(TypeError, match="^ids must be whole numbers, int64 \\[B\\], got .{1,80}$"):
        angles(pipeline(), 2, ids=bad, epoch=0)


def test_large_ids_keep_all_their_bits() -> None:
    ids = [1, 2**33 + 1, 2**62 + 1, -1]
    drawn = angles(pipeline(), ids=ids, epoch=0)
    assert len(set(drawn)) == 4
    unsigned = torch.tensor([2**64 - 1], dtype=torch.uint64)
    assert angles(pipeline(), 1, ids=unsigned, epoch=0) == drawn[3:]


def test_equal_ids_in_a_batch_warn_once() -> None:
    augment = pipeline()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            angles(augment, ids=[1, 2, 3, 1], epoch=0)
    assert [str(w.message) for w in caught] == ["ids repeat within a batch: equal ids get equal draws"]
    assert caught[0].filename == __file__, "the warning points at the user's line"


def test_ids_without_an_epoch_warn_once_at_the_users_line() -> None:
    augment = pipeline()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        augment(IMAGE, ids=[1])
        augment(IMAGE, ids=[1])
    assert len(caught) == 1 and "epoch" in str(caught[0].message) and caught[0].filename == __file__


# --- epochs and workers -----------------------------------------------------------------------------------------------
class Keyed(Dataset):
    """Samples drawn in a worker; with an `own` epoch the worker sets that one first."""

    def __init__(self, augment: ga.Compose, own: int | None = None):
        self.augment, self.own = augment, own

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> torch.Tensor:
        if self.own is not None:
            self.augment.set_epoch(self.own)
        return self.augment.sample(IMAGE, ids=[i]).table[0, 0]


def drawn_by(loader: DataLoader) -> list[float]:
    return torch.cat(list(loader)).tolist()


@STARTS
def test_persistent_workers_follow_set_epoch(start: str) -> None:
    augment = pipeline()
    keywords = dict(batch_size=4, num_workers=1, persistent_workers=True, multiprocessing_context=start)
    loader = DataLoader(Keyed(augment), **keywords)
    for epoch in (0, 1, 7):
        augment.set_epoch(epoch)
        assert drawn_by(loader) == angles(pipeline(), ids=range(4), epoch=epoch)


def test_a_process_that_sets_an_epoch_of_its_own_no_longer_follows() -> None:
    augment = pipeline()
    augment.set_epoch(1)
    loader = DataLoader(Keyed(augment, own=9), batch_size=4, num_workers=1, multiprocessing_context="fork")
    assert drawn_by(loader) == angles(pipeline(), ids=range(4), epoch=9)
    assert augment.epoch == 1, "the maker's epoch is its own"


def test_copies_have_epochs_of_their_own() -> None:
    augment = pipeline()
    augment.set_epoch(3)
    other = pickle.loads(pickle.dumps(augment))
    other.set_epoch(4)
    assert (augment.epoch, other.epoch) == (3, 4)


# --- processes without ids --------------------------------------------------------------------------------------------
def put_angles(queue, augment: ga.Compose) -> None:
    torch.set_num_threads(1)  # a fork has none of the threads that torch has started
    queue.put(angles(augment))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_processes_without_ids_draw_apart_and_the_same_in_each_run(start: str, tmp_path: Path) -> None:
    """A process's number is counted on over a parent's life: two runs are two new parents."""
    code = f"""
        import multiprocessing, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        import test_keys
        if __name__ == "__main__":
            context, augment = multiprocessing.get_context({start!r}), test_keys.pipeline()
            queue = context.Queue()
            for _ in range(2):
                process = context.Process(target=test_keys.put_angles, args=(queue, augment))
                process.start()
                print(queue.get())
                process.join()
            print(test_keys.angles(augment))
    """
    script, runs = tmp_path / "main.py", []
    script.write_text(textwrap.dedent(code))
    for _ in range(2):
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
        runs.append(done.stdout)
    lines = runs[0].splitlines()
    assert runs[0] == runs[1] and len(set(lines)) == len(lines) == 3, done.stderr


def test_a_plain_fork_draws_apart() -> None:
    augment = pipeline()
    first = angles(augment)
    augment.set_extra_state(torch.tensor([0, -1, 0]))
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            torch.set_num_threads(1)
            os.write(writer, repr(angles(augment)).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    forked = os.read(reader, 10_000).decode()
    os.close(reader), os.close(writer)
    assert forked.startswith("[") and forked != repr(first)
    assert angles(augment) == first, "the maker goes on as before"


class Counted(Dataset):
    def __init__(self, augment: ga.Compose):
        self.augment = augment

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> torch.Tensor:
        return self.augment.sample(IMAGE).table[0, 0]


def test_workers_without_ids_draw_apart_and_the_same_in_each_run() -> None:
    """By the loader's seed and the worker's number; not by how many processes there were before."""
    runs = []
    for _ in range(2):
        generator = torch.Generator().manual_seed(5)
        loader = DataLoader(Counted(pipeline()), batch_size=2, num_workers=2, generator=generator)
        runs.append(drawn_by(loader))
    assert runs[0] == runs[1] and len(set(runs[0])) == 4


def test_a_process_number_is_not_taken_for_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = Keys(3)
    plain = keys.of_counted(torch.device("cpu")).clone()
    monkeypatch.setattr(multiprocessing.current_process(), "_identity", (1,))
    keys._pid = 0
    assert not torch.equal(keys.of_counted(torch.device("cpu")), plain)


# --- streams ----------------------------------------------------------------------------------------------------------
class Stream:
    """Stands for a CUDA stream; notes whom it waited for."""

    def __init__(self, capturing: bool = False):
        self.capturing, self.waited = capturing, []

    def wait_stream(self, other: Stream) -> None:
        self.waited.append(other)


def test_the_counter_moves_in_the_order_of_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, device = Keys(0), torch.device("cuda:0")
    one, two, graph = Stream(), Stream(), Stream(capturing=True)
    monkeypatch.setattr("gpuaug.keys._capturing", lambda stream: stream.capturing)
    for stream in (one, one, two, two, one, graph, graph, two):
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device, stream=stream: stream)
        keys._in_stream_order(device)
    assert one.waited == [two] and two.waited == [one] and graph.waited == [], "a capture waits for nothing outside"
