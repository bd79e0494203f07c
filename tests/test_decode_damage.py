"""Files that are damaged, and threads: an image, or one error that names the file and the mend."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from mutated import mutated, sound

pytest.importorskip("PIL", reason="images are judged by Pillow")

from stored import judged, picture, stored, tagged  # noqa: E402

from gpuaug.data import DataError, header, load, read  # noqa: E402


def test_a_damaged_file_is_named_with_the_mend(tmp_path, decoder):
    whole = {"a.jpg": stored(picture(), "JPEG"), "b.png": stored(picture(), "PNG"), "c.webp": stored(picture(), "WEBP")}
    for name, data in whole.items():
        for part in (data[: len(data) // 2], data[:40]):
            (tmp_path / name).write_bytes(part)
            with pytest.raises(DataError, match=rf"{name}: (damaged image file .*fetch it again|not an image file)"):
                read(tmp_path / name)
            with pytest.raises(DataError, match=name):
                read(tmp_path / name, (0, 0, 4, 4), 2)
    (tmp_path / "empty.jpg").touch()
    for call in (read, header, load):
        with pytest.raises(DataError, match=r"empty\.jpg: not an image file: it is empty"):
            call(tmp_path / "empty.jpg")
        with pytest.raises(DataError, match=r"gone\.jpg: no such file"):
            call(tmp_path / "gone.jpg")
        with pytest.raises(DataError, match="a folder, where an image file is wanted"):
            call(tmp_path)
    with pytest.raises(DataError, match="no image can be read from int; give a path, bytes or a uint8 array"):
        read(7)
    with pytest.raises(DataError, match="pixels are uint8, and this array is float32"):
        read(torch.zeros(3, 4, 4))

    def broken():
        raise RuntimeError("the disk is gone")

    with pytest.raises(DataError, match="the disk is gone"):
        read(broken)


def test_threads_read_the_same(decoder):
    data = [tagged(picture(50 + 3 * k, 70), "JPEG" if k % 2 else "PNG", k % 8 + 1) for k in range(16)]
    truth = [judged(one) for one in data]
    wrong = []

    def work():
        for _ in range(5):
            wrong.extend(k for k, one in enumerate(data) if not np.array_equal(read(one), truth[k]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def fuzz(seeds: range, folder: Path) -> tuple[int, int]:
    """(images, refusals) of mutated files: nothing but an image of the size that the header says, or a DataError."""
    images = refused = 0
    path = folder / "planted.bin"
    for seed in seeds:
        rng = np.random.default_rng(seed)
        format, data = sound(rng)
        read(data)
        path.write_bytes(mutated(data, rng))
        for shrink in (1, 4):
            try:
                about = header(path)
                pixels = read(path, shrink=shrink)
            except DataError as error:
                assert "planted.bin: " in str(error) and "\n" not in str(error)
                refused += 1
            else:
                assert pixels.dtype == np.uint8, (seed, format)
                assert pixels.shape == (-(-about.height // shrink), -(-about.width // shrink), 3), (seed, format)
                images += 1
    return images, refused


@pytest.mark.filterwarnings("ignore")
def test_mutated_files_are_an_image_or_an_error_that_names_them(tmp_path):
    images, refused = fuzz(range(300), tmp_path)
    assert images > 100 and refused > 300


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_many_mutated_files(tmp_path):
    images, refused = fuzz(range(1000, 11_000), tmp_path)
    assert images > 3000 and refused > 10_000
