"""Loader on a real GPU: the same samples and pixels as on the CPU, nobody waiting, and nvJPEG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import gpuaug as ga
from gpuaug.data import DataError, Loader, Source, folder
from gpuaug.data.feed import Feed

pytestmark = pytest.mark.gpu

TO_FLOAT = ga.ToDtype(torch.float32, scale=True)
N = 60


def crops(*more: ga.Transform) -> ga.Compose:
    return ga.Compose([ga.RandomResizedCrop(48), ga.RandomHorizontalFlip(), *more, TO_FLOAT], seed=5)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Sixty smooth images of many sizes in two classes: JPEG of every orientation, grey ones, PNG."""
    rng = np.random.default_rng(0)
    for i in range(N):
        h, w = rng.integers(60, 400, 2)
        waves = np.sin(np.mgrid[:h, :w][:, ..., None] / rng.uniform(20, 60, (2, 1, 1, 3))).sum(0)
        image = Image.fromarray(np.uint8(128 + 60 * waves))
        exif = Image.Exif()
        exif[0x0112] = i % 9
        place = tmp_path / "photos" / "ab"[i % 2] / f"{i:02d}.{'png' if i % 5 == 4 else 'jpg'}"
        place.parent.mkdir(parents=True, exist_ok=True)
        (image.convert("L") if i % 7 == 3 else image).save(place, exif=exif, quality=95)
    return tmp_path / "photos"


def by_id(batches) -> dict[int, torch.Tensor]:
    return {one: image for images, *_, ids in batches for image, one in zip(images, ids.tolist(), strict=True)}


def assert_like(found: dict, wanted: dict) -> None:
    """Equal, but for values between two levels of uint8, which may fall to either."""
    assert found.keys() == wanted.keys() and wanted and all(image.is_cuda for image in found.values())
    off = torch.stack([(found[one].cpu() - wanted[one]).abs() for one in wanted])
    assert off.max() <= 1 / 255 + 1e-3 and (off > 1e-3).float().mean() < 1e-3


@pytest.mark.parametrize("keywords", [{"decode": "full"}, {"decode": "scaled"}, {"resident": True}], ids=str)
def test_batches_are_those_of_the_cpu(photos, keywords):
    source = folder(photos)
    wanted = by_id(Loader(source, 8, crops(), **{**keywords, "resident": None}))
    loader = Loader(source, 8, crops(), device="cuda", workers=4, **keywords)
    if "resident" in keywords:
        wanted = by_id(Loader(source, 8, crops(), decode="full"))
    assert_like(by_id(loader), wanted)


def test_batches_from_the_cache(photos, tmp_path):
    source = folder(photos)
    wanted = by_id(Loader(source, 8, crops(), decode="full"))
    loader = Loader(source, 8, crops(), device="cuda", cache=tmp_path / "cache", cache_size=None)
    for _ in range(2):
        loader.set_epoch(0)
        assert_like(by_id(loader), wanted)


def test_labels_are_mixed_and_targets_move_along(photos):
    found = {}
    for device in ("cpu", "cuda"):
        loader = Loader(folder(photos), 12, crops(ga.MixUp(num_classes=2)), device=device, decode="full")
        found[device] = {one: y for _, labels, ids in loader for y, one in zip(labels.cpu(), ids.tolist(), strict=True)}
    assert found["cpu"].keys() == found["cuda"].keys()
    assert all((found["cpu"][one] - found["cuda"][one]).abs().max() < 1e-6 for one in found["cpu"])


def test_batches_that_are_kept_stay_as_they_are(photos):
    """Rooms and the buffer on the device are used again and again: what was handed out is not theirs."""
    wanted = by_id(Loader(folder(photos), 4, crops()))
    kept = list(Loader(folder(photos), 4, crops(), device="cuda", workers=4))
    torch.cuda.synchronize()
    assert_like(by_id(kept), wanted)


def test_a_loop_on_a_stream_of_its_own(photos):
    wanted = by_id(Loader(folder(photos), 4, crops()))
    stream, sums = torch.cuda.Stream(), {}
    with torch.cuda.stream(stream):
        busy = torch.randn(2000, 2000, device="cuda")
        for images, _, ids in Loader(folder(photos), 4, crops(), device="cuda"):
            for _ in range(5):
                busy = (busy @ busy).tanh()
            sums |= zip(ids.tolist(), images.sum((1, 2, 3)), strict=True)
            del images
    torch.cuda.synchronize()
    assert all(abs(sums[one].item() - wanted[one].sum().item()) < 1.0 for one in wanted)


def test_a_pass_does_not_wait_for_the_device(photos):
    loader = Loader(folder(photos), 8, crops(ga.MixUp(num_classes=2)), device="cuda", shuffle=True)
    list(loader)
    torch.cuda.set_sync_debug_mode("error")
    try:
        n = sum(len(ids) for _, _, ids in loader)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert n == N


def test_the_next_batch_is_under_way_while_the_loop_works(photos, monkeypatch):
    def decoded(feed: Feed) -> bool:
        work = feed._work
        with work.changed:
            work.changed.wait_for(lambda: work.taken in work.done or work.taken == work.total)
        return work.taken in work.done

    monkeypatch.setattr(Feed, "is_ready", decoded)
    loader, launched = Loader(folder(photos), 8, crops(), device="cuda"), []
    launch = loader._maker.launch
    loader._maker.launch = lambda batch: launched.append(batch) or launch(batch)
    total = -(-N // 8)
    assert [len(launched) for _ in loader] == [min(i + 2, total) for i in range(total)]


def test_images_in_memory_stay_there():
    images = torch.randint(0, 256, (30, 3, 16, 16), dtype=torch.uint8)
    augment = ga.Compose([ga.RandomCrop(12), TO_FLOAT], seed=1)
    loader = Loader(Source(images, torch.arange(30), torch.arange(30)), 8, augment, device="cuda", shuffle=True)
    list(loader)
    torch.cuda.set_sync_debug_mode("error")
    try:
        batches = list(loader)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(x.is_cuda for batch in batches for x in batch)


# --- nvJPEG -----------------------------------------------------------------------------------------------------------
def test_nvjpeg_is_near_and_upright(photos):
    pytest.importorskip("torchvision")
    wanted = by_id(Loader(folder(photos), 8, crops(), decode="full"))
    loader = Loader(folder(photos), 8, crops(), decode="nvjpeg", device="cuda", workers=2)
    found = by_id(loader)
    assert found.keys() == wanted.keys()
    off = torch.stack([(found[one].cpu() - wanted[one]).abs().mean() for one in wanted])
    assert off.max() < 0.02, off
    assert loader.report.pixels == sum(h * w for h, w in map(size_of, folder(photos).items)) and loader.report.bytes
    whole = by_id(Loader(folder(photos), 8, None, decode="nvjpeg", device="cuda"))
    plain = by_id(Loader(folder(photos), 8, None))
    assert all(whole[one].shape == plain[one].shape for one in plain)


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_nvjpeg_names_damaged_files(photos):
    pytest.importorskip("torchvision")
    for name in ("a/00.jpg", "b/09.png"):
        (photos / name).write_bytes((photos / name).read_bytes()[:300])
    loader = Loader(folder(photos), 8, crops(), decode="nvjpeg", device="cuda", max_bad=0.5)
    with pytest.warns(UserWarning, match="2 files were left out"):
        found = by_id(loader)
    assert len(found) == N - 2
    assert sorted(Path(told.split(":")[0]).name for told in loader.report.bad) == ["00.jpg", "09.png"]
    with pytest.raises(DataError, match=r"\.(jpg|png)"):
        list(Loader(folder(photos), 8, crops(), decode="nvjpeg", device="cuda", strict=True))
