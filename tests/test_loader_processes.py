"""Worker processes of a Loader: they give what threads give, and none outlives who asked for it."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from loading import Closed, Pictures
from PIL import Image

import gpuaug as ga
from gpuaug.data import Loader, Source, dataset
from gpuaug.data.processes import WorkerError
from gpuaug.data.rooms import Room

pytest.importorskip("numba", reason="parts of images are read by the CPU engine")


def crops() -> ga.Compose:
    return ga.Compose(
        [ga.RandomResizedCrop(24), ga.RandomHorizontalFlip(), ga.ToDtype(torch.float32, scale=True)], seed=0
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Source:
    """Forty pictures: arrays, JPEG files, a damaged one, one that is missing, and one whose code fails."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    files = {i: folder / f"{i}.jpg" for i in range(0, 40, 3)}
    for path in files.values():
        h, w = rng.integers(30, 200, 2)
        Image.fromarray(np.uint8(255 * np.mgrid[:h, :w].sum(0)[..., None].repeat(3, 2) / (h + w))).save(path)
    files[6].write_bytes(files[6].read_bytes()[:300])
    files[9].unlink()
    return dataset(Pictures(40, files, {20: "fails"}))


@pytest.fixture(scope="module")
def processes(source):
    """A loader whose two processes others of the source borrow: each takes seconds to begin."""
    loader = Loader(source, 8, crops(), workers=2, mode="processes")
    yield loader
    loader.close()


def alike(source: Source, processes: Loader, augment=None, **keywords) -> tuple[Loader, Loader]:
    """A loader of threads and one of processes."""
    keywords = {"max_bad": 1.0, "shuffle": True, "seed": 5, **keywords}
    one, two = (Loader(source, 7, augment, mode=mode, **keywords) for mode in ("threads", "processes"))
    two._workers = processes._workers
    return one, two


def flat(value) -> list[torch.Tensor]:
    return [x for one in value for x in flat(one)] if isinstance(value, list | tuple) else [value]


def assert_same(one: Loader, two: Loader) -> None:
    """Samples, pixels, order, and what is told of those that are left out."""
    for epoch in range(2):
        batches = [flat(list(loader)) for loader in (one, two)]
        assert len(batches[0]) == len(batches[1]) > 10
        assert all(torch.equal(a, b) for a, b in zip(*batches, strict=True))
        reports = [loader.report for loader in (one, two)]
        assert reports[0].bad == reports[1].bad and len(reports[0].bad) == 3 and reports[1].epoch == epoch
        assert (reports[0].bytes, reports[0].pixels) == (reports[1].bytes, reports[1].pixels)


def children() -> list[str]:
    return [child.name for child in multiprocessing.active_children() if child.name.startswith("gpuaug worker")]


@pytest.mark.filterwarnings("ignore:3 files were left out")
@pytest.mark.parametrize(
    "keywords",
    [
        {"augment": crops(), "decode": "full"},
        {"augment": crops(), "decode": "scaled", "ahead_bytes": 0},
        {},
        {"augment": ga.Compose([ga.Resize((20, 20)), lambda images: images + 1], seed=0)},
        {"augment": ga.MultiCrop([(crops(), 2)]), "decode": "full"},
    ],
    ids=["full", "scaled", "no pipeline", "callable", "multicrop"],
)
def test_processes_give_what_threads_give(source, processes, keywords):
    assert_same(*alike(source, processes, **keywords))
    assert len(children()) == 2


@pytest.mark.filterwarnings("ignore:3 files were left out")
@pytest.mark.parametrize("keywords", [{"cache_size": 48}, {"resident": True}], ids=str)
def test_the_cache_and_residence_are_as_with_threads(source, processes, keywords, tmp_path):
    one, two = alike(source, processes, crops(), **keywords)
    if "cache_size" in keywords:
        one = alike(source, processes, crops(), cache=tmp_path / "of threads", **keywords)[0]
        two = alike(source, processes, crops(), cache=tmp_path / "of processes", **keywords)[1]
    assert_same(one, two)


@pytest.mark.filterwarnings("ignore:3 files were left out")
def test_a_pass_that_is_left_leaves_its_processes_to_the_next(source, processes):
    one, two = alike(source, processes, crops())
    for _ in range(3):
        for _ in two:
            break
        with pytest.raises(KeyError):
            for _ in two:
                raise KeyError
    pids = {child.pid for child in multiprocessing.active_children()}
    two.set_epoch(0)
    assert_same(one, two)
    assert {child.pid for child in multiprocessing.active_children()} == pids and len(children()) == 2


def test_a_damaged_file_ends_a_strict_pass_as_with_threads(source, processes):
    said = []
    for loader in alike(source, processes, crops(), strict=True):
        with pytest.raises(ValueError) as raised:
            list(loader)
        said.append((type(raised.value), str(raised.value)))
    assert said[0] == said[1]


def test_a_process_that_dies_is_named_and_replaced():
    source = dataset(Pictures(12, odd={7: "dies"}))
    with pytest.raises(
        WorkerError, match=r"worker process 0 .*pid \d+. was killed by SIGKILL while it read Pictures.7."
    ):
        list(Loader(source, 4, crops(), mode="processes", workers=1))
    gc.collect()
    assert len(children()) in (0, 2)  # those of other tests
    loader = Loader(source.subset(range(7)), 4, crops(), mode="processes", workers=1)
    for _ in range(2):
        assert sum(len(ids) for *_, ids in loader) == 7
        os.kill(loader._workers._all[0]._process.pid, signal.SIGKILL)
        loader._workers._all[0]._process.join(30)
    loader.close()


def test_items_that_cannot_be_sent_are_named():
    source = Source([lambda: np.zeros((4, 4, 3), np.uint8)], torch.arange(1))
    assert len(list(Loader(source, 1))) == 1
    with pytest.raises(TypeError, match='"processes" needs items that can be pickled, and these, such as .*lambda'):
        list(Loader(source, 1, mode="processes", workers=1))
    loader = Loader(Source(Closed(), torch.arange(4)), 2, mode="processes", workers=1)
    with pytest.raises(WorkerError, match="cannot open the source's items .ModuleNotFoundError: No module named 'else"):
        list(loader)
    loader.close()


PROGRAM = """
    import multiprocessing, sys
    sys.path.insert(0, {tests!r})
    from loading import Pictures
    from gpuaug.data import Loader, dataset

    def main():
        loader = Loader(dataset(Pictures(64)), 4, mode="processes", workers=1)
        try:
            while True:
                for n, _ in enumerate(loader):
                    if n == 8 and loader.report.epoch == 0:
                        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
"""
GUARD = """
    if __name__ == "__main__":
        main()
"""


def started(tmp_path: Path, *, guarded: bool = True) -> subprocess.Popen:
    program = tmp_path / "program.py"
    text = textwrap.dedent(PROGRAM.format(tests=str(Path(__file__).parent)))
    program.write_text(text + (textwrap.dedent(GUARD) if guarded else "main()\n"))
    return subprocess.Popen(
        [sys.executable, program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def running(session: int) -> list[str]:
    """The processes of a session that have not ended."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name, _, rest = (place / "stat").read_text().partition(")")
            state, *_, of = rest.split()[:4]
            found += [f"{name})"] if int(of) == session and state != "Z" else []
    return found


def gone(session: int) -> bool:
    """Whether they end; a minute is far more than they need."""
    until = time.monotonic() + 60
    while running(session) and time.monotonic() < until:
        time.sleep(0.05)
    return not running(session)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="whether a process is there is read from /proc")
@pytest.mark.parametrize("how", ["kill -9 of the program", "Ctrl-C"])
def test_no_process_outlives_its_program(tmp_path, how):
    program = started(tmp_path)
    try:
        pids = [int(pid) for pid in program.stdout.readline().split()]
        assert len(pids) == 1 and len(running(program.pid)) >= 2
        if how == "Ctrl-C":
            os.killpg(program.pid, signal.SIGINT)
        else:
            program.kill()
        said, complained = program.communicate(timeout=60)
    except BaseException:
        os.killpg(program.pid, signal.SIGKILL)
        raise
    assert gone(program.pid)
    assert (said, complained) == ("interrupted\n" if how == "Ctrl-C" else "", "")


def test_a_program_without_its_guard_is_told(tmp_path):
    said, complained = started(tmp_path, guarded=False).communicate(timeout=120)
    assert "WorkerError: worker process 0" in complained and 'behind if __name__ == "__main__":' in complained


@pytest.mark.parametrize("unnamed", ["memfd", "file"])
def test_a_room_is_mapped_by_another_and_ends_with_the_last(unnamed, monkeypatch):
    if unnamed == "file":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    gc.collect()
    before, room = len(os.listdir("/proc/self/fd")), Room(shared=True)
    room.reserve(10_000, 3_000_000)
    one, two = multiprocessing.Pipe()
    room.shared.send(one, os.getpid())
    other = Room.received(two)
    other.pixels[room.margin : room.margin + 5] = 7
    assert room.payload(6).tolist() == [7] * 5 + [0] and len(other.pixels) == len(room.pixels) >= 6_010_000
    room.reserve(20_000, 10)
    assert room.payload(1).tolist() == [0] and other.pixels[other.pixels > 0].tolist() == [7] * 5
    del room, other
    one.close(), two.close()
    gc.collect()
    assert len(os.listdir("/dev/fd")) == before
