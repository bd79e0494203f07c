"""What a Loader hands out belongs to who gets it: no memory that is used again, no image that comes again."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import gpuaug as ga
from gpuaug.data import Loader, Source, folder
from gpuaug.data.cache import Cache
from gpuaug.data.items import Made

pytest.importorskip("numba", reason="parts of images are read by the CPU engine")


def itself(x):
    return x


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twenty images of many sizes in two classes, none of which is 7 everywhere."""
    rng = np.random.default_rng(0)
    for i in range(20):
        place = tmp_path / "photos" / "ab"[i % 2] / f"{i:02d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(30, 256, (20 + i, 30, 3), dtype=np.uint8)).save(place)
    return tmp_path / "photos"


def listed(loader: Loader) -> list[torch.Tensor]:
    return [image for images, *_ in loader for image in images]


@pytest.mark.parametrize("workers", [0, 2])
def test_images_that_a_callable_hands_on_stay_as_they_are(photos, workers):
    loader = Loader(folder(photos), 4, ga.Compose([itself]), workers=workers)
    wanted = [image.clone() for images, *_ in loader for image in images]
    loader.set_epoch(0)
    kept = listed(loader)
    assert all(torch.equal(one, two) for one, two in zip(kept, wanted, strict=True))


@pytest.mark.parametrize("keywords", [{"cache": True}, {"resident": True}], ids=["cache", "resident"])
@pytest.mark.parametrize("where", ["loop", "callable"])
def test_what_is_kept_is_not_written_to(photos, tmp_path, keywords, where):
    keywords, seen = {"cache": tmp_path / "cache"} if "cache" in keywords else keywords, []

    def blackened(image: torch.Tensor) -> torch.Tensor:
        seen.append(image.float().mean().item())
        return image.fill_(7)

    augment = ga.Compose([lambda images: [blackened(image) for image in images]]) if where == "callable" else None
    loader, epochs = Loader(folder(photos), 4, augment, workers=0, **keywords), []
    for _ in range(3):
        seen.clear()
        for image in listed(loader):
            if where == "loop":
                blackened(image)
        epochs.append(list(seen))
    assert epochs[0] == epochs[1] == epochs[2] and len(epochs[0]) == 20 and 7.0 not in epochs[0]


def test_loaders_of_a_process_fill_one_cache(photos, tmp_path):
    source = folder(photos)
    one, two = (
        Loader(source.subset(part), 4, cache=tmp_path / "c", workers=0) for part in (range(0, 10), range(10, 20))
    )
    for loader in (one, two):
        list(loader)
        list(loader)
        assert loader.report.pixels == 0, "the second pass decodes nothing"
    path, state = tmp_path / "c", one._maker.cache
    assert state is two._maker.cache is Cache.at(path, 512) and state.writes


def test_threads_end_where_keeping_fails(photos, monkeypatch):
    loader = Loader(folder(photos), 4, workers=2, resident=True)

    def full(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("gpuaug.data.resident.moved", full)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(loader)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("gpuaug feed")]


@pytest.mark.parametrize("workers", [0, 1])
def test_what_ends_a_thread_comes_up_in_the_loop(workers):
    def leave(i):
        raise SystemExit(f"image {i}")

    source = Source([Made(leave, i) for i in range(4)], torch.arange(4))
    with pytest.raises(SystemExit, match="image 0"):
        list(Loader(source, 4, workers=workers))
