"""Loader: judged by the same pipeline on the whole images with the same ids and epoch, and by counting samples."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import gpuaug as ga
from gpuaug.data import DataError, Loader, Source, folder, read
from gpuaug.data.feed import Feed
from gpuaug.data.rooms import Room

pytest.importorskip("numba", reason="parts of images are read by the CPU engine")

TO_FLOAT = ga.ToDtype(torch.float32, scale=True)


def crops(seed: int = 0) -> ga.Compose:
    return ga.Compose([ga.RandomResizedCrop(24), ga.RandomHorizontalFlip(), TO_FLOAT], seed=seed)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Forty JPEG and PNG files of many sizes in two classes."""
    rng = np.random.default_rng(0)
    for i in range(40):
        h, w = rng.integers(30, 260, 2)
        waves = np.sin(np.mgrid[:h, :w][:, ..., None] / rng.uniform(4, 30, (2, 1, 1, 3))).sum(0)
        place = tmp_path / "photos" / "ab"[i % 2] / f"{i:02d}.{'png' if i % 5 == 0 else 'jpg'}"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.uint8(128 + 60 * waves)).save(place)
    return tmp_path / "photos"


def damaged(photos: Path, *names: str) -> Path:
    for name in names:
        path = photos / name
        path.write_bytes(path.read_bytes()[:200])
    return photos


def whole(source: Source, ids: torch.Tensor) -> list[torch.Tensor]:
    """The images of these ids, uint8 [3, H, W], decoded whole by Pillow."""
    where = {one: i for i, one in enumerate(source.ids.tolist())}
    paths = [source.items[where[one]] for one in ids.tolist()]
    return [torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1) for path in paths]


def labels_of(source: Source, ids: torch.Tensor) -> torch.Tensor:
    where = {one: i for i, one in enumerate(source.ids.tolist())}
    return source.labels[[where[one] for one in ids.tolist()]]


def by_id(batches) -> dict[int, torch.Tensor]:
    """Every sample's output; none comes twice."""
    found: dict[int, torch.Tensor] = {}
    for images, _, ids in batches:
        for image, one in zip(images, ids.tolist(), strict=True):
            assert one not in found
            found[one] = image
    return found


def assert_same(one: dict[int, torch.Tensor], other: dict[int, torch.Tensor]) -> None:
    assert one.keys() == other.keys() and one
    assert all(torch.equal(one[i], other[i]) for i in one)


def test_batches_are_what_the_pipeline_makes_of_whole_images(photos):
    source, augment = folder(photos), crops()
    loader = Loader(source, 12, augment, shuffle=True, decode="full", workers=3)
    for epoch in (0, 1):
        batches = list(loader)
        assert [len(ids) for *_, ids in batches] == [12, 12, 12, 4] and len(loader) == 4
        assert sorted(i for *_, ids in batches for i in ids.tolist()) == sorted(source.ids.tolist())
        for images, labels, ids in batches:
            assert torch.equal(images, augment(whole(source, ids), ids=ids, epoch=epoch))
            assert torch.equal(labels, labels_of(source, ids))
    assert loader.report.epoch == 1 and loader.report.images == 40 and loader.report.bad == []
    assert loader.report.bytes == sum(path.stat().st_size for path in source.items)
    assert loader.report.pixels < sum(i.shape[1] * i.shape[2] for i in whole(source, source.ids))


def test_scaled_decoding_changes_little(photos):
    source, augment = folder(photos), crops()
    full = by_id(Loader(source, 8, augment, decode="full"))
    scaled = by_id(Loader(source, 8, augment, decode="scaled"))
    far = torch.stack([(full[i] - scaled[i]).abs().mean() for i in full])
    assert far.max() * 255 < 4 and (far == 0).sum() > 8 and (far > 0).sum() > 8


@pytest.mark.parametrize("keywords", [{"workers": 0}, {"workers": 1}, {"workers": 5}, {"resident": True}], ids=str)
def test_workers_and_residence_change_nothing(photos, keywords):
    source = folder(photos)
    found = by_id(Loader(source, 7, crops(), decode="full", shuffle=True, seed=4, **keywords))
    assert_same(found, by_id(Loader(source, 16, crops(), decode="full")))


def test_images_of_one_size_are_read_in_place():
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (30, 3, 20, 20), dtype=np.uint8))
    source, augment = Source(images, torch.arange(100, 130), torch.arange(30)), crops()
    loader = Loader(source, 8, augment, shuffle=True)
    assert loader.resident and loader.keep().images.data_ptr() == images.data_ptr()
    for found, labels, ids in loader:
        assert torch.equal(found, augment(images[ids - 100], ids=ids, epoch=0)) and torch.equal(labels, ids - 100)
    assert_same(by_id(Loader(source, 8, augment, resident=False)), by_id(Loader(source, 8, augment)))


@pytest.mark.parametrize("resident", [False, True])
def test_without_a_pipeline_images_come_as_they_are(photos, resident):
    source = folder(photos)
    for images, labels, ids in Loader(source, 16, resident=resident):
        assert all(torch.equal(a, b) for a, b in zip(images, whole(source, ids), strict=True))
        assert torch.equal(labels, labels_of(source, ids))


def test_labels_are_mixed(photos):
    augment = ga.Compose([ga.RandomResizedCrop(16), TO_FLOAT, ga.MixUp(num_classes=2)], seed=0)
    source = folder(photos)
    for images, labels, ids in Loader(source, 10, augment, decode="full"):
        wanted = augment(whole(source, ids), labels_of(source, ids), ids=ids, epoch=0)
        assert torch.equal(images, wanted[0]) and torch.equal(labels, wanted[1])


def test_a_source_without_labels(photos):
    source = folder(photos)
    source = Source(source.items, source.ids)
    assert all(labels is None for _, labels, _ in Loader(source, 16, crops()))


class Known:
    """Boxes and masks of a sample."""

    def __init__(self, h: int, w: int):
        self.boxes, self.keypoints = np.array([[1, 2, 20, 25], [5, 5, 9, 29]], np.float32), None
        self.masks = (np.arange(h * w).reshape(h, w) // 50 % 7).astype(np.int32)


@pytest.mark.parametrize("resident", [False, True])
def test_boxes_and_masks_move_beside_images(photos, resident):
    source, augment = folder(photos), crops()
    sizes = [image.shape[1:] for image in whole(source, source.ids)]
    known = [Known(*size) for size in sizes]
    source = Source(source.items, source.ids, source.labels, targets=known)
    loader = Loader(source, 16, augment, decode="full", resident=resident)
    where = {one: i for i, one in enumerate(source.ids.tolist())}
    for images, labels, targets, ids in loader:
        own = [known[where[one]] for one in ids.tolist()]
        boxes, masks = ([torch.as_tensor(getattr(one, kind)) for one in own] for kind in ("boxes", "masks"))
        wanted = augment(whole(source, ids), masks=masks, boxes=boxes, ids=ids, epoch=0)
        assert torch.equal(images, wanted[0]) and torch.equal(labels, labels_of(source, ids))
        for kind, values in zip(("masks", "boxes"), wanted[1:], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(targets[kind], values, strict=True))


# Order, epochs, processes, resuming


def ids_of(loader) -> list[int]:
    return [i for *_, ids in loader for i in ids.tolist()]


def test_the_order_depends_on_seed_and_epoch_alone(photos):
    source = folder(photos)

    def passes(seed: int, first: int, n: int, batch: int = 16) -> list:
        loader = Loader(source, batch, shuffle=True, seed=seed)
        loader.set_epoch(first)
        return [ids_of(loader) for _ in range(n)]

    four = passes(0, 0, 4)
    assert len(set(map(tuple, four))) == 4 and passes(0, 2, 2, batch=7) == four[2:] and passes(1, 0, 1) != four[:1]
    assert ids_of(Loader(source, 16)) == source.ids.tolist()


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_an_epoch_and_draw_as_one_does(photos, world):
    source = folder(photos)
    one = by_id(Loader(source, 8, crops(), shuffle=True, decode="full"))
    ranks = [list(Loader(source, 4, crops(), shuffle=True, decode="full", rank=r, world=world)) for r in range(world)]
    assert len({len(batches) for batches in ranks}) == 1
    shared = by_id(batch for batches in ranks for batch in batches)
    assert len(shared) == 40 - 40 % world
    assert all(torch.equal(shared[i], one[i]) for i in shared)
    plain = [i for r in range(world) for i in ids_of(Loader(source, 4, rank=r, world=world))]
    assert sorted(plain) == sorted(source.ids.tolist())


@pytest.mark.parametrize("stop", [1, 2, 4])
@pytest.mark.parametrize("world", [1, 2])
def test_a_pass_goes_on_where_it_was_left(photos, stop, world):
    """In another process, with other workers, another batch size and another number of processes."""
    source = folder(photos)
    wanted = by_id(Loader(source, 8, crops(), shuffle=True, seed=3, decode="full"))
    loaders = [
        Loader(source, 4, crops(), shuffle=True, seed=3, decode="full", rank=r, world=world) for r in range(world)
    ]
    had, states = [], []
    for loader in loaders:
        iterator = iter(loader)
        had += [next(iterator) for _ in range(stop)]
        states.append(loader.state_dict())
        iterator.close()
    assert all(state == states[0] for state in states)
    for other in (1, 2):
        rest = []
        for rank in range(other):
            loader = Loader(source, 6, crops(), shuffle=True, seed=3, decode="full", workers=0, rank=rank, world=other)
            loader.load_state_dict(states[0])
            rest += list(loader)
            assert loader.state_dict() == {"epoch": 1, "position": 0, "seed": 3}
        assert_same(by_id([*had, *rest]), wanted)


def test_one_process_and_two_go_on_for_each_other_anywhere(photos):
    """Ten random places: whoever had the first part, each sample comes once, and with its own pixels."""
    source, rng = folder(photos), np.random.default_rng(1)
    wanted = by_id(Loader(source, 8, crops(), shuffle=True, seed=3, decode="full"))
    for number in range(10):
        before = 1 + number % 2
        size, other = (2 * rng.integers(1, 5, 2)).tolist()
        count, workers = int(rng.integers(0, -(-40 // (size * before)))), int(rng.integers(0, 4))
        keywords = {"shuffle": True, "seed": 3, "decode": "full", "workers": workers}
        had, states = [], []
        for rank in range(before):
            loader = Loader(source, size, crops(), rank=rank, world=before, **keywords)
            had += [batch for _, batch in zip(range(count), loader, strict=False)]
            states.append(loader.state_dict())
        assert all(state == states[0] for state in states)
        for rank in range(3 - before):
            loader = Loader(source, other, crops(), rank=rank, world=3 - before, **keywords)
            loader.load_state_dict(states[0])
            had += list(loader)
        assert_same(by_id(had), wanted)


def test_a_state_of_another_seed_is_refused(photos):
    loader = Loader(folder(photos), 8, seed=1)
    with pytest.raises(ValueError, match="the state is of seed 2, and this loader has 1"):
        loader.load_state_dict({"epoch": 0, "position": 8, "seed": 2})


def test_two_iterators_at_once_each_see_every_sample(photos):
    source, augment = folder(photos), crops()
    loader = Loader(source, 8, augment, shuffle=True, decode="full")
    one, two = iter(loader), iter(loader)
    first, second = [], []
    for a, b in zip(one, two, strict=True):
        first.append(a), second.append(b)
    assert_same(by_id(first), by_id(Loader(source, 8, augment, decode="full")))
    later = Loader(source, 8, augment, decode="full")
    later.set_epoch(1)
    assert_same(by_id(second), by_id(later))


# Damaged files


@pytest.mark.parametrize("keywords", [{}, {"workers": 0}, {"resident": True}], ids=str)
def test_damaged_files_are_left_out_and_named(photos, keywords, recwarn):
    source = folder(damaged(photos, "a/02.jpg", "b/15.png"))
    loader = Loader(source, 8, crops(), decode="full", max_bad=0.05, **keywords)
    found = by_id(loader)
    assert len(found) == 38 and len(loader.report.bad) == 2 and loader.report.images == 38
    assert "02.jpg" in loader.report.bad[0] and "15.png" in loader.report.bad[1]
    assert any("2 files were left out of epoch 0" in str(w.message) for w in recwarn)
    good = [i for i, path in enumerate(source.items) if path.name not in ("02.jpg", "15.png")]
    assert_same(found, by_id(Loader(source.subset(good), 8, crops(), decode="full")))
    assert len(by_id(loader)) == 38 and len(loader.report.bad) == 2


def test_too_many_damaged_files_end_a_pass(photos):
    source = folder(damaged(photos, "a/02.jpg", "b/15.png", "a/20.png"))
    with pytest.raises(DataError, match=r"3 of 40 files cannot be read, more than max_bad=0.06 allows: .*02\.jpg"):
        list(Loader(source, 8, crops(), max_bad=0.06))
    with pytest.raises(DataError, match=r"02\.jpg"):
        list(Loader(source, 8, crops(), strict=True, max_bad=1.0))
    with pytest.raises(DataError, match=r"02\.jpg: damaged"):
        list(Loader(source, 8, crops()))


def test_a_batch_of_damaged_files_alone_is_left_out(photos, recwarn):
    names = [f"{'ab'[i % 2]}/{i:02d}.{'png' if i % 5 == 0 else 'jpg'}" for i in range(0, 40, 2)]
    loader = Loader(folder(damaged(photos, *names)), 5, crops(), max_bad=1.0)
    assert [len(ids) for *_, ids in loader] == [5, 5, 5, 5] and len(loader.report.bad) == 20


# Ends


def feeds() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("gpuaug feed")]


def test_no_thread_outlives_a_pass(photos):
    loader = Loader(folder(photos), 4, crops(), workers=3)
    list(loader)
    assert feeds() == []
    iterator = iter(loader)
    next(iterator)
    assert feeds()
    del iterator
    gc.collect()
    assert feeds() == []
    for _ in loader:
        break
    gc.collect()
    assert feeds() == []
    with pytest.raises(KeyError):
        for _ in loader:
            raise KeyError
    gc.collect()
    assert feeds() == []


def test_an_error_of_ones_own_function_comes_up(photos):
    source = folder(photos)
    items = [*source.items]
    items[9] = lambda: 1 / 0
    with pytest.raises(DataError, match="division by zero"):
        list(Loader(Source(items, source.ids), 4, crops(), strict=True))
    assert feeds() == []


def test_a_feed_makes_no_more_than_it_may_and_hands_out_in_order():
    made, lock = [], threading.Lock()

    def make(n: int, turn) -> int:
        with lock:
            made.append(n)
        time.sleep(0.001 * (n % 3))
        return n

    feed = Feed(make, 40, 3, 4)
    taken = []
    for n in feed:
        taken.append(n)
        assert max(made) <= len(taken) + 4
        time.sleep(0.001)
    assert taken == sorted(made) == list(range(40)) and feeds() == []


def test_a_feed_that_is_closed_stops_what_is_being_made():
    begun = threading.Event()

    def make(n: int, turn) -> None:
        begun.set()
        while True:
            turn.check()
            time.sleep(0.001)

    feed = Feed(make, 3, 2, 2)
    assert begun.wait(10)
    feed.close()
    assert feeds() == [] and list(feed) == []


def test_interrupting_ends_the_program_at_once(photos, tmp_path):
    program = textwrap.dedent(f"""
        import threading
        import gpuaug as ga
        from gpuaug.data import Loader, folder
        loader = Loader(folder({str(photos)!r}), 4, ga.Compose([ga.RandomResizedCrop(8)], seed=0), workers=3)
        iterator = iter(loader)
        next(iterator)
        print("begun", flush=True)
        try:
            while True:
                for _ in loader:
                    pass
        except KeyboardInterrupt:
            del iterator
        for thread in threading.enumerate():
            if "feed" in thread.name:
                thread.join(10)
        print("ended", [t.name for t in threading.enumerate() if "feed" in t.name], flush=True)
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout.readline() == "begun\n"
            time.sleep(0.2)
            child.send_signal(signal.SIGINT)
            said, _ = child.communicate(timeout=60)
        finally:
            child.kill()
    assert said == "ended []\n" and child.returncode == 0


def test_a_program_that_leaves_a_pass_open_ends(photos):
    lines = [
        "from gpuaug.data import Loader, folder",
        f"iterator = iter(Loader(folder({str(photos)!r}), 4, workers=3))",
        "next(iterator)",
        "print('left')",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr, done.returncode) == ("left\n", "", 0)


# Memory


def test_rooms_are_used_again(photos):
    loader = Loader(folder(photos), 4, crops(), workers=2)
    for _ in range(4):
        list(loader)
    rooms = loader._maker.rooms.free
    assert 1 <= len(rooms) <= 5 and len({room.source.data_ptr() for room in rooms}) == len(rooms)
    largest = max(room.size for room in rooms)
    assert largest < 4 * 3 * 260 * 260 * 1.3


def test_the_sides_of_a_room_are_addresses_alone():
    room = Room()
    room.reserve(10_000, 3_000_000_000)
    room.payload(10_000).fill_(7)
    assert len(room.source) >= 6_000_010_000 and int(room.source[-1]) == int(room.source[0]) == 0
    assert room.pixels[room.margin] == 7 and room.pixels[room.margin - 1] == 0
    small = room.source.data_ptr()
    room.reserve(9_000, 5)
    assert room.source.data_ptr() == small


def test_arguments_that_cannot_be(photos):
    source = folder(photos)
    for match, keywords in (
        ("batch_size must be at least 1, got 0", {"batch_size": 0}),
        ("fewer than batch_size 41", {"batch_size": 41, "drop_last": True}),
        ("decode must be one of full, scaled, nvjpeg, got 'half'", {"decode": "half"}),
        ("nvjpeg. needs a CUDA device, got cpu; take .scaled. or .full.", {"decode": "nvjpeg"}),
        ("rank must lie in 0 .. 1, got 2", {"rank": 2, "world": 2}),
        ("workers must be at least 0, got -1", {"workers": -1}),
        ("mode must be one of threads, processes, got 'fork'", {"mode": "fork"}),
        ('mode="processes" needs at least one worker, got workers=0', {"mode": "processes", "workers": 0}),
        ("ahead_bytes must be at least 0, got -1", {"ahead_bytes": -1}),
        ("views=2 takes at least one, and a Compose as augment", {"views": 2}),
        ("max_bad must lie in 0 .. 1, got 2", {"max_bad": 2}),
    ):
        with pytest.raises(ValueError, match=match):
            Loader(source, **{"batch_size": 8, **keywords})
    with pytest.raises(TypeError, match="augment must be a gpuaug.Compose, a gpuaug.MultiCrop or None, got"):
        Loader(source, 8, lambda images: images)
    assert len(Loader(source, 12, drop_last=True)) == 3 == len(list(Loader(source, 12, drop_last=True)))


def test_what_a_device_decodes_is_augmented_whole(photos):
    """With a decoder and a side stream in the place of a GPU's: images or what is wrong with them, upright."""
    source, events = folder(damaged(photos, "a/04.jpg")), []

    def decoded(items: list, check) -> tuple[list, int]:
        found: list = []
        for item in items:
            check()
            try:
                found.append(torch.from_numpy(np.array(read(item))).permute(2, 0, 1))
            except DataError as error:
                found.append(str(error))
        return found, 7 * len(items)

    loader = Loader(source, 8, crops(), decode="full", max_bad=0.5)
    with pytest.warns(UserWarning, match="1 files were left out"):
        wanted = by_id(loader)
    loader = Loader(source, 8, crops(), max_bad=0.5)
    maker = loader._maker
    maker.decoder = SimpleNamespace(decoded=decoded, stream=SimpleNamespace(record_event=lambda: "made"))
    maker.side = SimpleNamespace(
        received=lambda images, made: events.append(made) or images,
        run=lambda act: (act(), "launched"),
        handed=lambda found, made: events.append(made) or found,
    )
    with pytest.warns(UserWarning, match="1 files were left out"):
        assert_same(by_id(loader), wanted)
    assert len(wanted) == 39 and "04.jpg" in loader.report.bad[0] and loader.report.bytes == 280
    assert events.count("made") == events.count("launched") == 5
