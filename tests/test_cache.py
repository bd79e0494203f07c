"""The cache of decoded images: what is served is what the files hold, whoever is killed, writes or changes them."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import gpuaug as ga
from gpuaug.data import Loader, Source, folder, hands, read
from gpuaug.data import cache as caches
from gpuaug.data.cache import Cache

pytest.importorskip("numba", reason="images are read where they lie by the CPU engine")


def crops() -> ga.Compose:
    return ga.Compose(
        [ga.RandomResizedCrop(24), ga.RandomHorizontalFlip(), ga.ToDtype(torch.float32, scale=True)], seed=0
    )


def picture(path: Path, seed: int, least: int = 30, most: int = 120) -> Path:
    rng = np.random.default_rng(seed)
    h, w = rng.integers(least, most, 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i in range(24):
        picture(tmp_path / "photos" / "ab"[i % 2] / f"{i:02d}.{'png' if i % 3 == 0 else 'jpg'}", i)
    return tmp_path / "photos"


def by_id(loader) -> dict[int, torch.Tensor]:
    return {i: image for images, _, ids in loader for i, image in zip(ids.tolist(), images, strict=True)}


def assert_same(one: dict[int, torch.Tensor], other: dict[int, torch.Tensor]) -> None:
    assert one.keys() == other.keys() and one
    assert all(torch.equal(one[i], other[i]) for i in one)


def plain(photos: Path, epoch: int = 0) -> dict[int, torch.Tensor]:
    """Without a cache."""
    loader = Loader(folder(photos), 8, crops(), decode="full")
    loader.set_epoch(epoch)
    return by_id(loader)


@pytest.mark.parametrize("workers", [0, 2])
def test_later_epochs_open_no_file_and_give_the_same(photos, tmp_path, monkeypatch, workers):
    loader = Loader(folder(photos), 5, crops(), shuffle=True, workers=workers, cache=tmp_path / "c", cache_size=None)
    assert_same(by_id(loader), plain(photos))
    assert loader.report.bytes == sum(path.stat().st_size for path in loader.source.items)

    def fail(*_):
        raise AssertionError("a file was opened")

    wanted = plain(photos, 1)
    with monkeypatch.context() as patched:
        patched.setattr(hands, "opened", fail)
        assert_same(by_id(loader), wanted)
    assert loader.report.bytes == loader.report.pixels == 0
    loader._maker.cache.close()
    again = Loader(folder(photos), 8, crops(), cache=tmp_path / "c", cache_size=None)
    assert_same(by_id(again), plain(photos))
    resident = Loader(folder(photos), 8, crops(), cache=tmp_path / "c", cache_size=None, resident=True)
    assert_same(by_id(resident), plain(photos))
    for images, _, ids in Loader(folder(photos), 6, cache=tmp_path / "c", cache_size=None):
        assert len(images) == len(ids) == 6 and images[0].shape[0] == 3


def test_images_are_scaled_to_the_size_of_the_cache(photos, tmp_path):
    large = picture(photos / "a" / "large.png", 99, 300, 400)
    loader = Loader(folder(photos), 8, cache=tmp_path / "c", cache_size=64)
    first, second = by_id(loader), by_id(loader)
    assert_same(first, second)
    for i, path in zip(loader.source.ids.tolist(), loader.source.items, strict=True):
        with Image.open(path) as image:
            image = image.convert("RGB")
        if min(image.size) > 64:
            image = image.resize(tuple(round(s * 64 / min(image.size)) for s in image.size), Image.Resampling.BILINEAR)
        assert first[i].shape[1:] == image.size[::-1]
        far = (first[i].permute(1, 2, 0).int() - torch.from_numpy(np.array(image)).int()).abs()
        assert far.max() <= 1 or path.suffix == ".jpg"
    assert large in loader.source.items


def test_all_of_a_batch_are_found_at_once(photos, tmp_path):
    source = folder(photos)
    cache = Loader(source, 8, crops(), cache=tmp_path / "c")._maker.cache
    of, ids = caches.stamps(source.items), source.ids.numpy()
    assert of.tolist() == [list(caches.stamp(item)) for item in source.items]
    assert cache.find_all(ids, of) is None
    for item, id in zip(source.items, ids.tolist(), strict=True):
        cache.add(id, caches.stamp(item), read(item))
    cache.flush()
    assert cache.find_all(ids, of) is None  # until it is looked for
    cache.follow()
    wanted = [cache.find(id, tuple(one)) for id, one in zip(ids.tolist(), of.tolist(), strict=True)]
    assert cache.find_all(ids[::-1], of[::-1]).tolist() == list(map(list, wanted[::-1]))
    for k in range(3):
        changed = of.copy()
        changed[5, k] += 1
        assert cache.find_all(ids, changed) is None and cache.find_all(ids[:5], changed[:5]) is not None
    assert cache.find_all(ids + 1, of) is None
    assert caches.stamps([*source.items, photos / "gone.jpg"]) is caches.stamps([photos.read_bytes]) is None


def test_an_index_is_read_again_only_when_it_has_grown(photos, tmp_path, monkeypatch):
    loader = Loader(folder(photos), 8, crops(), cache=tmp_path / "c")
    cache, count = loader._maker.cache, 0

    def counted(read=cache._read_index):
        nonlocal count
        count += 1
        return read()

    monkeypatch.setattr(cache, "_read_index", counted)
    for wanted in (0, 1, 1):
        by_id(loader)
        assert count == wanted


def test_a_changed_file_is_decoded_again(photos, tmp_path):
    loader = Loader(folder(photos), 8, crops(), cache=tmp_path / "c", cache_size=None)
    by_id(loader)
    path = picture(loader.source.items[7], 1234)
    os.utime(path, ns=(1, 10**18))
    loader.set_epoch(0)
    assert_same(by_id(loader), plain(photos))
    assert loader.report.bytes == path.stat().st_size
    loader.set_epoch(0)
    assert_same(by_id(loader), plain(photos))
    assert loader.report.bytes == 0


def test_a_missing_file_is_named_though_it_is_in_the_cache(photos, tmp_path):
    loader = Loader(folder(photos), 8, crops(), cache=tmp_path / "c", max_bad=0.1)
    by_id(loader)
    loader.source.items[3].unlink()
    with pytest.warns(UserWarning, match="1 files were left out"):
        assert len(by_id(loader)) == 23
    assert loader.source.items[3].name in loader.report.bad[0]


def test_other_settings_have_other_files(photos, tmp_path):
    for size in (None, 40, 64):
        by_id(Loader(folder(photos), 8, crops(), cache=tmp_path / "c", cache_size=size))
    assert len(list((tmp_path / "c").glob("*.pixels"))) == 3


def test_what_is_no_file_is_made_each_time(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    source = Source([image, lambda: image[::-1]], torch.arange(2))
    loader = Loader(source, 2, cache=tmp_path / "c")
    for _ in range(2):
        assert torch.equal(by_id(loader)[1], torch.from_numpy(image[::-1].copy()).permute(2, 0, 1))


def test_one_writes_and_another_reads_what_there_is(photos, tmp_path):
    one, two = Cache(tmp_path / "c", None), Cache(tmp_path / "c", None)
    assert one.writes and not two.writes
    image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    one.add(5, (1, 2, 3), image)
    two.add(6, (1, 2, 3), image)
    two.follow()
    assert two.find(5, (1, 2, 3)) is None
    one.flush()
    for cache in (one, two):
        cache.follow()
        at, h, w = cache.find(5, (1, 2, 3))
        assert np.array_equal(cache.pixels[at : at + 60].reshape(h, w, 3), image)
        assert (
            cache.find(6, (1, 2, 3)) is None and cache.find(5, (1, 9, 3)) is None and cache.find(4, (1, 2, 3)) is None
        )
    one.close()
    assert Cache(tmp_path / "c", None).writes


def test_a_torn_index_is_passed_over_and_written_over(tmp_path):
    image, cache = np.full((4, 5, 3), 7, np.uint8), Cache(tmp_path / "c", None)
    for i in range(3):
        cache.add(i, (1, 1, 1), image + i)
    cache.close()
    whole = cache.index.read_bytes()
    cache.index.write_bytes(whole[:-10])
    again = Cache(tmp_path / "c", None)
    assert [again.find(i, (1, 1, 1)) is not None for i in range(3)] == [True, True, False]
    again.add(9, (1, 1, 1), image + 9)
    again.flush()
    again.follow()
    at, h, w = again.find(9, (1, 1, 1))
    assert (again.pixels[at : at + 60] == 16).all() and again.index.stat().st_size == 3 * caches.ENTRY.itemsize
    again.close()
    damaged = bytearray(again.index.read_bytes())
    damaged[caches.ENTRY.itemsize + 8] ^= 1
    again.index.write_bytes(damaged)
    last = Cache(tmp_path / "c", None)
    assert [last.find(i, (1, 1, 1)) is not None for i in (0, 1, 9)] == [True, False, True]


def test_pixels_that_were_cut_off_are_not_served(tmp_path):
    cache = Cache(tmp_path / "c", None)
    for i in range(3):
        cache.add(i, (1, 1, 1), np.full((40, 50, 3), i, np.uint8))
    cache.close()
    os.truncate(cache.path, 13_000)
    again = Cache(tmp_path / "c", None)
    assert [again.find(i, (1, 1, 1)) is not None for i in range(3)] == [True, True, False]


def test_a_full_disk_ends_the_writing_and_nothing_else(photos, tmp_path, monkeypatch):
    put, calls = caches._put, []

    def full(file, data, offset):
        calls.append(offset)
        if len(calls) > 5:
            raise OSError(28, "No space left on device")
        put(file, data, offset)

    monkeypatch.setattr(caches, "_put", full)
    loader = Loader(folder(photos), 8, crops(), cache=tmp_path / "c", cache_size=None)
    with pytest.warns(UserWarning, match="cannot be written to .No space left on device."):
        assert_same(by_id(loader), plain(photos))
    loader.set_epoch(0)
    assert_same(by_id(loader), plain(photos))
    assert 0 < loader.report.bytes < sum(path.stat().st_size for path in loader.source.items)


PROGRAM = """if True:
    import os, signal, sys
    import gpuaug.data.cache as caches
    from gpuaug.data import Loader, folder
    photos, cache, moment = sys.argv[1], sys.argv[2], int(sys.argv[3])
    caches.FLUSHED, left = 20_000, [moment]
    write, sync = caches._write_at, os.fsync

    def step():
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def in_pieces(file, data, offset):
        step()
        return write(file, data[: len(data) // 2 + 1], offset)

    def synced(file):
        step()
        sync(file)
        step()

    caches._write_at, caches.os.fsync = in_pieces, synced
    loader = Loader(folder(photos), 2, cache=cache, cache_size=None)
    print("begun", flush=True)
    for _ in loader:
        pass
    print("left", left[0], flush=True)
"""


def started(photos: Path, cache: Path, moment: int) -> subprocess.Popen:
    """A first epoch with a cache, which kills itself (-9) at so many steps of writing; 0: never."""
    command = [sys.executable, "-c", PROGRAM, photos, cache, str(moment)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


CHANGES = itertools.count(1000)


def assert_nothing_wrong(photos: Path, path: Path) -> None:
    """What a killed writer has left is right, and so is what the next pass serves, of files changed since, too."""
    source, reader = folder(photos), Cache(path, None)
    assert reader.writes
    found = 0
    for item, id in zip(source.items, source.ids.tolist(), strict=True):
        place = reader.find(id, caches.stamp(item))
        if place is not None:
            at, h, w = place
            with Image.open(item) as image:
                wanted = np.array(image.convert("RGB"))
            assert np.array_equal(reader.pixels[at : at + 3 * h * w].reshape(h, w, 3), wanted)
            found += 1
    reader.close()
    changed, number = source.items[found % 24], next(CHANGES)
    picture(changed, number)
    os.utime(changed, ns=(1, 10**18 + number))
    loader = Loader(source, 8, crops(), cache=path, cache_size=None)
    wanted = plain(photos)
    assert_same(by_id(loader), wanted)
    assert loader._maker.cache.writes and loader.report.bytes > 0
    loader.set_epoch(0)
    assert_same(by_id(loader), wanted)
    assert loader.report.bytes == 0
    loader._maker.cache.close()


@pytest.mark.parametrize("moments", [2, pytest.param(30, marks=pytest.mark.slow)])
def test_a_writer_that_is_killed_at_any_step_leaves_nothing_wrong(photos, tmp_path, moments):
    rng = np.random.default_rng(moments)
    for number in range(moments):
        child = started(photos, tmp_path / f"{number}", int(rng.integers(1, 300)))
        assert child.communicate()[0] == "begun\n" and child.returncode == -signal.SIGKILL
        assert_nothing_wrong(photos, tmp_path / f"{number}")


@pytest.mark.slow
def test_a_writer_that_is_killed_at_any_time_leaves_nothing_wrong(photos, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(30):
        child = started(photos, tmp_path / f"{number // 3}", 0)
        assert child.stdout.readline() == "begun\n"
        time.sleep(float(rng.uniform(0.0, 0.1)))
        child.kill()
        child.communicate()
        assert_nothing_wrong(photos, tmp_path / f"{number // 3}")


def test_a_system_without_pwrite_writes_the_same(photos, tmp_path, monkeypatch):
    monkeypatch.delattr(os, "pwrite", raising=False)
    loader = Loader(folder(photos), 4, crops(), workers=3, cache=tmp_path / "c", cache_size=None)
    for _ in range(2):
        loader.set_epoch(0)
        assert_same(by_id(loader), plain(photos))
    assert loader.report.bytes == 0


def test_a_cache_size_that_cannot_be(photos, tmp_path):
    with pytest.raises(ValueError, match="cache_size must be at least 1, or None, got 0"):
        Loader(folder(photos), 8, cache=tmp_path / "c", cache_size=0)
