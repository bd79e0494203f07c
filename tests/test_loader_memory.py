"""What a Loader takes of memory: batches ahead by their bytes, rooms that are used again, and nothing that grows."""

from __future__ import annotations

import gc
import itertools
import subprocess
import sys
import textwrap
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

import gpuaug as ga
from gpuaug.data import Loader, Source
from gpuaug.data.feed import Feed, Stopped
from gpuaug.data.hands import Hands
from gpuaug.data.rooms import Rooms

pytest.importorskip("numba", reason="parts of images are read by the CPU engine")

MiB = 1 << 20


class Counted:
    """Bytes that are reserved at a time, as those who make count them."""

    def __init__(self, size):
        self.size, self.now, self.most, self.lock = size, 0, 0, threading.Lock()

    def make(self, n: int, turn) -> int:
        turn.reserve(self.size(n))
        with self.lock:
            self.now += self.size(n)
            self.most = max(self.most, self.now)
        return n

    def taken(self, feed: Feed) -> list[int]:
        found = []
        for n in feed:
            with self.lock:
                self.now -= self.size(n)
            feed.let_go()
            found.append(n)
        return found


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_what_is_ahead_fits(workers):
    for size, most in ((lambda n: 10, 25), (lambda n: 10 + 30 * (n % 5 == 0), 45), (lambda n: 100, 30)):
        counted = Counted(size)
        feed = Feed(counted.make, 60, workers, 9, most)
        assert counted.taken(feed) == list(range(60))
        # beside what fits, the next in order, and the one that was taken and is not counted off here yet
        assert counted.most <= max(most, 0) + 2 * max(size(n) for n in range(5))


def test_what_is_released_makes_room():
    waiting, most = 0, 0

    def make(n: int, turn) -> int:
        nonlocal waiting, most
        turn.reserve(20)
        waiting += 1
        most = max(most, waiting)
        turn.release(15)
        third.set() if n == 2 else None
        return n

    third = threading.Event()
    feed = Feed(make, 8, 1, 8, 30)
    assert third.wait(60)  # 20 beside twice 5 fit, and beside three times 5 they do not
    for _ in feed:
        waiting -= 1
    assert most <= 5


def test_a_feed_that_is_closed_ends_those_that_wait_for_bytes():
    feed = Feed(lambda n, turn: turn.reserve(10), 5, 3, 5, 10)
    feed.close()
    assert not any(thread.is_alive() for thread in feed._threads)


def test_rooms_beyond_what_they_may_take_are_let_go():
    rooms = Rooms(130_000)
    one, two, three = taken = [rooms.take(size, 7) for size in (20_000, 50_000, 20_000)]
    for room in taken:
        rooms.append(room)
    assert len(rooms.free) == 3 and rooms.take(30_000, 7) is two and rooms.take(10_000, 7) in (one, three)
    grown = rooms.take(22_000, 7)
    assert grown in (one, three) and grown.size >= 22_000 and rooms.free == []
    for room in taken:
        rooms.append(room)
    del one, two, three, taken, room, grown
    large = rooms.take(90_000, 7)
    assert len(rooms.free) == 0 and rooms.bytes == large.size <= 130_000
    other = rooms.take(90_000, 7)
    rooms.append(large), rooms.append(other)
    del large, other
    assert len(rooms.free) == 1 and rooms.bytes <= 130_000


def large(n: int, side: int) -> Source:
    """Pictures that are made when they are asked for."""
    return Source([lambda i=i: np.full((side, side, 3), i, np.uint8) for i in range(n)], torch.arange(n))


CROP = ga.Compose([ga.RandomCrop(900, pad_if_needed=True), ga.Resize(8)], seed=0)


@pytest.mark.parametrize("augment", [None, CROP], ids=["none", "crop"])
def test_large_images_are_not_decoded_far_ahead(augment):
    source, most = large(32, 1000), []
    loader = Loader(source, 4, augment, workers=3, decode="full", ahead_bytes=0)
    for *_, ids in loader:
        assert len(ids) == 4
        most.append(loader._maker.rooms.bytes)
    batch = 4 * 3 * 1000 * 1000
    assert max(most) <= 2 * 1.2 * batch  # the next, and the one that was just handed out
    ahead = Loader(source, 4, augment, workers=3, decode="full", ahead_bytes=1 << 30)
    loader.set_epoch(0)
    plain, limited = ([x for images, *_ in one for x in images] for one in (ahead, loader))
    assert len(plain) == len(limited) == 32
    assert all(torch.equal(a, b) for a, b in zip(plain, limited, strict=True))


def test_the_room_of_a_batch_that_is_given_up_is_never_used_again():
    """A process may not have noticed yet, and write there."""

    class GivenUp(Hands):
        def read(self, wanted, room, check, shorter=None):
            given_up.append(weakref.ref(room))
            raise Stopped

    given_up, maker = [], Loader(large(4, 40), 4, CROP)._maker
    with pytest.raises(Stopped):
        maker.make(np.arange(4), 0, None, GivenUp(maker.source.items))
    gc.collect()
    assert maker.rooms.free == [] and maker.rooms.bytes == 0 and given_up[0]() is None


MEASURED = """
    import gc, sys
    from pathlib import Path
    import torch

    def taken():
        words = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return sum(int(words[name].split()[0]) for name in ("RssAnon", "RssShmem")) * 1024

    torch.randn(64, 64) @ torch.randn(64, 64)
    before = taken()
    import gpuaug as ga
    from gpuaug.data import Loader, folder

    ops = [ga.RandomResizedCrop(224), ga.RandomHorizontalFlip(), ga.ColorJitter(0.4, 0.4, 0.4, 0.1)]
    augment = ga.Compose([*ops, ga.ToDtype(torch.float32, scale=True)], seed=0)
    loader = Loader(folder(sys.argv[1]), 64, augment, shuffle=True, workers=2)
    for _ in range(20):
        for images, labels, ids in loader:
            pass
        del images
        gc.collect()
        print(taken() - before, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_stays_as_it_is_after_the_first_epoch(data_dir, tmp_path):
    """20 epochs of 4,000 photos."""
    photos = sorted((data_dir / "photos").glob("*.jpg"))
    for i, photo in zip(range(4000), itertools.cycle(photos), strict=False):
        place = tmp_path / "photos" / f"class{i % 8}" / f"{i:06d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(photo.resolve())
    command = [sys.executable, "-c", textwrap.dedent(MEASURED), str(tmp_path / "photos")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    first, *others = (int(line) / MiB for line in done.stdout.split())
    assert len(others) == 19 and max(first, *others) <= 600
    assert max(others[9:]) <= max(first, *others[:9]) + 64  # rooms for the largest batch yet
