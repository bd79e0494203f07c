"""Memory of the CPU engine: each thread's work memory, and output buffers that are kept."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from calls import HANG_S, own_helpers, pixels, run_script, torchs_threads  # noqa: F401, fixtures among them
from torch import Tensor

import gpuaug as ga
from gpuaug.backends import cpu, cpu_buffers, cpu_helpers
from gpuaug.kernels.cpu import frame as F

MiB = 1 << 20


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """The bytes of the buffers that are kept, none at first; at most 8 MiB."""
    gc.collect()
    cpu_buffers.forget()
    monkeypatch.setattr(cpu_buffers, "GIVEN", 8 * MiB)
    yield lambda: sum(size * len(free) for size, free in cpu_buffers._free.items())
    cpu_buffers.forget()


# --- work memory ------------------------------------------------------------------------------------------------------
ALLOCATES = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t)


def address(function) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value


@pytest.fixture
def own() -> Iterator[cpu_helpers.Own]:
    """This thread's own, without work memory; afterwards as it was."""
    mine = cpu_helpers.own()
    before = bytes(mine.words)
    mine.words.memory = mine.words.bytes = 0
    yield mine
    cpu_helpers._free(mine.words.memory)
    ctypes.memmove(mine.address, before, len(before))


def test_work_memory_is_each_threads_own_and_freed_with_it(own, monkeypatch) -> None:
    """It grows to the largest row and stays, and every row's begins with a cache line."""
    made, ended = [], []
    malloc = ALLOCATES(own.words.allocate)

    def count(size: int) -> int:
        made.append(size)
        return malloc(size)

    counting = ALLOCATES(count)
    monkeypatch.setitem(cpu_helpers._ADDRESSES, "allocate", address(counting))
    monkeypatch.setattr(cpu_helpers, "_end", ended.append)
    augment = ga.Compose([ga.RandomRotation(30)], seed=1, backend="cpu")

    def work() -> None:
        for size in (20, 10, 200, 40):
            augment(pixels(1, size), ids=[0], epoch=0)
        words.append(cpu_helpers.own().words)

    words: list[F.Own] = []
    for _ in range(2):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(HANG_S)
    assert len(made) == 4 and made[:2] == made[2:] and made[0] < made[1]
    assert words[0].memory != words[1].memory
    assert words[0].bytes >= made[1] - 64
    gc.collect()
    assert [id(w) for w in ended] == [id(w) for w in words]
    monkeypatch.undo()
    for w in ended:
        cpu_helpers._end(w)


def test_work_memory_that_cannot_be_had_is_an_error_of_the_call(own) -> None:
    none = ALLOCATES(lambda size: 0)
    malloc = own.words.allocate
    x, augment = pixels(3, 32), ga.Compose([ga.RandomRotation(30)], seed=1, backend="cpu")
    cpu_buffers.forget()
    own.words.allocate = address(none)
    with pytest.raises(MemoryError, match=r"^images of 32 x 32 into 32 x 32 take \d+ bytes of work memory"):
        augment(x, ids=range(3), epoch=0)
    own.words.allocate = malloc
    y = augment(x, ids=range(3), epoch=0)
    assert torch.equal(y, ga.Compose([ga.RandomRotation(30)], seed=1, backend="cpu")(x, ids=range(3), epoch=0))


def test_work_memory_is_asked_for_again_without_the_kept_buffers(own, kept) -> None:
    x, augment = pixels(3, 32), ga.Compose([ga.RandomRotation(30)], seed=1, backend="cpu")
    malloc = ALLOCATES(own.words.allocate)
    full = ALLOCATES(lambda size: 0 if kept() else malloc(size))
    cpu_buffers._give_back(np.zeros(2 * MiB, np.uint8))
    own.words.allocate = address(full)
    y = augment(x, ids=range(3), epoch=0)
    own.words.allocate = address(malloc)
    assert kept() == 0 and torch.equal(y, augment(x, ids=range(3), epoch=0))


def test_work_memory_that_a_helper_cannot_have_is_an_error_of_the_call(own, threads, helpers, monkeypatch) -> None:
    """The caller holds row 0 until a helper has failed with another."""
    failed, malloc = threading.Event(), ALLOCATES(own.words.allocate)

    def none(size: int) -> int:
        failed.set()
        return 0

    def waits(size: int) -> int:
        assert failed.wait(HANG_S)
        return malloc(size)

    fails, waiting = ALLOCATES(none), ALLOCATES(waits)
    monkeypatch.setattr(cpu, "SMALL_WORK", 0)
    monkeypatch.setitem(cpu_helpers._ADDRESSES, "allocate", address(fails))
    own.words.allocate = address(waiting)
    cpu_buffers.forget()
    x, augment = pixels(8, 32), ga.Compose([ga.RandomRotation(30)], seed=1, backend="cpu")
    threads(2)
    with pytest.raises(MemoryError, match="bytes of work memory"):
        augment(x, ids=range(8), epoch=0)
    assert failed.is_set()
    own.words.allocate = address(malloc)
    monkeypatch.undo()
    cpu_helpers._renew()
    y = augment(x, ids=range(8), epoch=0)
    threads(1)
    assert torch.equal(y, augment(x, ids=range(8), epoch=0))


OUT_OF_MEMORY = """
import resource, torch, gpuaug as ga
torch.set_num_threads(1)
small = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
make = lambda: ga.Compose([ga.RandomRotation(30, interpolation="bilinear")], seed=0, backend="cpu")
expected = make()(small, ids=range(2), epoch=0)
resize, wide = ga.Compose([ga.Resize((9000, 9000))], seed=0, backend="cpu"), ga.Compose(
    [ga.Resize((3000, 3000)), ga.GaussianBlur(3), ga.Resize((8, 8))], seed=0, backend="cpu")
for augment in (resize, wide): augment.recipe(small)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), hard))
for augment in (resize, wide):
    try: augment(small, ids=range(2), epoch=0)
    except MemoryError as error: print(error)
print(torch.equal(make()(small, ids=range(2), epoch=0), expected))
resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
print(tuple(wide(small, ids=range(2), epoch=0).shape))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space by RLIMIT_AS, and reads /proc")
def test_a_process_out_of_memory_says_so_and_goes_on() -> None:
    output, work, right, shape = run_script(OUT_OF_MEMORY).splitlines()
    assert output.startswith("Resize: the output [2, 3, 9000, 9000] of torch.uint8 takes 0.5 GiB; make it smaller")
    assert work.startswith("images of 16 x 16 into 8 x 8 take ") and "bytes of work memory" in work
    assert (right, shape) == ("True", "(2, 3, 8, 8)")


# --- kept buffers -----------------------------------------------------------------------------------------------------
def outputs(n: int, megabytes: int) -> list[Tensor]:
    shape = (megabytes, 1, 1024, 1024)
    return [cpu_buffers.allocate(shape, torch.uint8, torch.device("cpu"), torch.contiguous_format) for _ in range(n)]


def test_kept_buffers_have_a_byte_limit(kept) -> None:
    held = outputs(12, 1)
    assert kept() == 0
    del held
    assert kept() == 8 * MiB
    held = outputs(3, 1)
    assert kept() == 5 * MiB, "a buffer that nobody holds is used again"
    two = outputs(1, 2)
    del two
    assert kept() == 7 * MiB and set(cpu_buffers._free) == {MiB, 2 * MiB}
    del held
    assert kept() <= 8 * MiB
    large = outputs(1, 9)
    before = kept()
    del large
    assert kept() == before, "one that is larger than the limit is not kept, and pushes none out"


def test_sizes_not_used_lately_go_first(kept) -> None:
    for megabytes in (1, 2, 3):
        del [outputs(1, megabytes)][0]
    assert list(cpu_buffers._free) == [MiB, 2 * MiB, 3 * MiB]
    del [outputs(1, 1)][0]
    del [outputs(1, 4)][0]
    assert list(cpu_buffers._free) == [3 * MiB, MiB, 4 * MiB]


def test_no_buffer_is_kept_under_a_limit_of_0(kept, monkeypatch) -> None:
    monkeypatch.setattr(cpu_buffers, "GIVEN", 0)
    del [outputs(2, 1)][0]
    assert kept() == 0


def test_the_limit_is_a_quarter_of_what_was_resident(monkeypatch) -> None:
    monkeypatch.setattr(cpu_buffers, "GIVEN", None)
    assert 0 < cpu_buffers.limit() <= 256 * MiB
    for resident, limit in ((100 * MiB, 25 * MiB), (1 << 40, 256 * MiB)):
        monkeypatch.setattr(cpu_buffers, "_resident", lambda resident=resident: resident)
        assert cpu_buffers.limit() == limit
    assert [cpu_buffers.given_limit(text) for text in (None, "0", "4096")] == [None, 0, 4096]
    for text in ("-1", "8M", ""):
        with pytest.raises(ValueError, match="GPUAUG_KEPT_BYTES must be a whole number of bytes"):
            cpu_buffers.given_limit(text)


def test_an_allocation_that_fails_is_tried_again_without_them(kept, monkeypatch) -> None:
    empty = np.empty

    def full(size, *arguments):
        if kept():
            raise MemoryError
        return empty(size, *arguments)

    held = outputs(4, 1)
    del held
    assert kept() == 4 * MiB
    monkeypatch.setattr(np, "empty", full)
    held = outputs(1, 3)
    assert kept() == 0 and held[0].nbytes == 3 * MiB
    monkeypatch.setattr(np, "empty", lambda size, kind: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(MemoryError, match=r"an output of \(5, 1, 1024, 1024\) torch.uint8: \d+ bytes cannot be had"):
        outputs(1, 5)
    with pytest.raises(MemoryError, match="cannot be had"):
        cpu_buffers.allocate((1 << 40, 1 << 20, 8, 8), torch.float32, torch.device("cpu"), torch.contiguous_format)


def test_buffers_that_end_on_many_threads(kept) -> None:
    """No two callers hold one memory, the limit holds, and nothing is lost from sight."""

    def work(name: int) -> None:
        for i in range(200):
            held = outputs(2, 1 + (i + name) % 2)
            for y in held:
                y[0, 0, 0, :8] = name
            assert all(bool((y[0, 0, 0, :8] == name).all()) for y in held)
            places = {y.data_ptr() for y in held}
            assert len(places) == 2
        del held

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    errors: list[BaseException] = []

    def guarded(name: int) -> None:
        try:
            work(name)
        except BaseException as error:
            errors.append(error)

    try:
        running = [threading.Thread(target=guarded, args=(name,)) for name in range(6)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join(HANG_S)
    finally:
        sys.setswitchinterval(before)
    assert not errors
    del running
    gc.collect()
    held = outputs(1, 1)
    del held
    assert 0 < kept() <= 8 * MiB
