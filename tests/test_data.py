"""Sources (folders, digits), and decoding with its errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("torchvision", reason="folders are read with torchvision")
pytest.importorskip("sklearn", reason="digits and splits come from scikit-learn")

from PIL import Image  # noqa: E402

from gpuaug.data import (  # noqa: E402
    DataError,
    Loader,
    Source,
    decode,
    digits,
    folder,
    open_parts,
)


def save(path: Path, width: int = 40, height: int = 30, seed: int = 0, **keywords) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **keywords)
    return path


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for k, name in enumerate(("cat", "dog", "emu")):
        for i in range(10):
            save(tmp_path / "pets" / name / f"{i}.png", seed=10 * k + i)
    return tmp_path / "pets"


def places(source: Source, ids: torch.Tensor) -> list[int]:
    """Where these ids are in a source."""
    where = {one: i for i, one in enumerate(source.ids.tolist())}
    return [where[one] for one in ids.tolist()]


# Decoding


def test_decode_keeps_the_pixels_of_an_image_of_the_right_size(tmp_path):
    path = save(tmp_path / "a.png", 24, 24)
    assert torch.equal(decode(path, 24).permute(1, 2, 0), torch.from_numpy(np.array(Image.open(path))))


def test_decode_scales_the_shorter_side_and_crops_the_centre(tmp_path):
    wide = Image.new("RGB", (400, 100), (255, 0, 0))
    wide.paste((0, 255, 0), (150, 0, 250, 100))
    wide.save(tmp_path / "wide.png")
    image = decode(tmp_path / "wide.png", 50)
    assert image.shape == (3, 50, 50) and image.dtype == torch.uint8
    assert (image[1, :, 2:-2] == 255).all() and (image[0, :, 2:-2] == 0).all()


def test_decode_turns_a_photo_as_the_camera_says(tmp_path):
    tag = Image.Exif()
    tag[0x0112] = 6  # the top of the picture is at the right of the stored pixels
    stored = Image.new("RGB", (64, 64), (0, 0, 0))
    stored.paste((255, 255, 255), (48, 0, 64, 64))
    stored.save(tmp_path / "turned.png", exif=tag)
    image = decode(tmp_path / "turned.png", 64)
    assert image[:, :8].min() == 0 and image[:, -16:].min() == 255


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16"])
def test_decode_makes_three_channels_of_any_mode(tmp_path, mode):
    if mode == "I;16":
        image = Image.fromarray(np.full((20, 20), 200 * 256 + 7, np.uint16))
    else:
        image = Image.new("RGB", (20, 20), (200, 200, 200))
        image = image.quantize(4) if mode == "P" else image.convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    assert Image.open(path).mode == mode
    assert (decode(path, 20).int() - 200).abs().max() <= 1


def test_a_truncated_jpeg_is_named(tmp_path):
    path = save(tmp_path / "cut.jpg", 200, 200)
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(DataError, match=r"cut\.jpg: damaged image file"):
        decode(path, 32)


@pytest.mark.parametrize("content", [b"", b"this is a text"])
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    (tmp_path / "note.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"note\.jpg: not an image file"):
        decode(tmp_path / "note.jpg", 32)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.jpg: no such file"):
        decode(tmp_path / "gone.jpg", 32)


def test_pixels_without_a_range_are_refused(tmp_path):
    Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(DataError, match="pixel mode 'F'"):
        decode(tmp_path / "f.tif", 8)


# Sources


def test_a_folder_of_class_folders(pets):
    source = folder(pets, 16).decoded()
    assert source.classes == ("cat", "dog", "emu")
    assert source.images.shape == (30, 3, 16, 16) and source.images.dtype == torch.uint8
    assert source.labels.tolist() == [0] * 10 + [1] * 10 + [2] * 10
    assert len(set(source.ids.tolist())) == 30 and source.ids.min() >= 0
    assert torch.equal(source.images[11], decode(pets / "dog" / "1.png", 16))


def test_folder_errors_name_the_folder_and_the_mend(tmp_path, pets):
    with pytest.raises(DataError, match="nowhere: no such folder"):
        folder(tmp_path / "nowhere", 16)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no class folders and no images"):
        folder(tmp_path / "empty", 16)
    save(tmp_path / "flat" / "a.png")
    with pytest.raises(DataError, match="1 images but no class folders; put the images of each class"):
        folder(tmp_path / "flat", 16)
    save(tmp_path / "one" / "cat" / "a.png")
    with pytest.raises(DataError, match="only one class, 'cat'"):
        folder(tmp_path / "one", 16)
    (pets / "yak").mkdir()
    with pytest.raises(DataError, match="no images .* in the class folder yak"):
        folder(pets, 16)


def test_a_damaged_file_in_a_folder_is_named_by_both_paths(pets):
    bad = pets / "dog" / "3.png"
    bad.write_bytes(bad.read_bytes()[:300])
    with pytest.raises(DataError, match=r"dog.3\.png"):
        folder(pets, 16).decoded()
    for workers in (0, 1):
        with pytest.raises(DataError, match=r"dog.3\.png: damaged") as error:
            list(Loader(folder(pets, 16), 8, workers=workers, strict=True))
        assert "Traceback" not in str(error.value)


def test_split_is_stratified_disjoint_and_repeatable(pets):
    source = folder(pets, 16)
    rest, part = source.split(0.2, seed=3)
    assert len(part) == 6 and torch.bincount(part.labels).tolist() == [2, 2, 2]
    assert sorted(rest.ids.tolist() + part.ids.tolist()) == sorted(source.ids.tolist())
    assert part.ids.tolist() == source.split(0.2, seed=3)[1].ids.tolist() != source.split(0.2, seed=4)[1].ids.tolist()
    assert part.items[0] == source.items[places(source, part.ids)[0]]


def test_a_class_of_one_image_cannot_be_split(tmp_path):
    save(tmp_path / "a" / "0.png"), save(tmp_path / "b" / "0.png"), save(tmp_path / "b" / "1.png")
    with pytest.raises(DataError, match=r"class 'a' has 1 image\(s\): too few to split off a test part"):
        open_parts(tmp_path, 16, 0.1)


def test_parts_of_a_plain_folder(pets):
    parts = open_parts(pets, 16, val_fraction=0.25)
    assert (len(parts.train), len(parts.val), len(parts.test)) == (18, 6, 6)
    ids = [i for part in (parts.train, parts.val, parts.test) for i in part.ids.tolist()]
    assert sorted(ids) == sorted(folder(pets).ids.tolist()) and parts.name == "pets"
    assert open_parts(pets, 16, val_fraction=0).val is None


@pytest.mark.parametrize("names", [("test",), ("val",), ("val", "test"), ("valid", "test")])
def test_parts_that_lie_in_folders_of_their_own(tmp_path, names):
    for part, n in (("train", 10), ("test", 3), (names[0] if len(names) > 1 else "", 2)):
        if part == "test":
            part = names[-1]
        for c in ("a", "b") * bool(part):
            for i in range(n):
                save(tmp_path / part / c / f"{i}.png")
    parts = open_parts(tmp_path, 16, val_fraction=0.1)
    held = 0 if len(names) > 1 else 2  # a part of train, where there is no validation folder
    assert (len(parts.train), len(parts.val), len(parts.test)) == (20 - held, 4 if len(names) > 1 else held, 6)
    assert all(path.parts[-3] == names[-1] for path in parts.test.items)


def test_parts_with_other_classes_are_refused(tmp_path):
    for part, c in (("train", "a"), ("train", "b"), ("test", "a"), ("test", "c")):
        save(tmp_path / part / c / "0.png")
    with pytest.raises(DataError, match="train and test differ in the class folders b, c"):
        open_parts(tmp_path, 16, 0.1)


def test_a_class_may_be_called_train(tmp_path):
    for c in ("bus", "car", "train"):
        for i in range(5):
            save(tmp_path / c / f"{i}.png")
    parts = open_parts(tmp_path, 16, 0)
    assert parts.train.classes == ("bus", "car", "train")


def test_digits_are_the_real_ones():
    source = digits(32)
    assert source.images.shape == (1797, 3, 32, 32) and source.images.dtype == torch.uint8
    assert torch.bincount(source.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert source.images[:, :, :4].max() == 0 and source.images.max() > 240
    # scaled down again by averaging, they are scikit-learn's
    from sklearn.datasets import load_digits

    inner = source.images[:, :1, 4:28, 4:28].float() * (16 / 255)
    small = torch.nn.functional.avg_pool2d(inner, 3)[:, 0].flatten()
    truth = torch.from_numpy(load_digits().images).float().flatten()
    assert torch.corrcoef(torch.stack([small, truth]))[0, 1] > 0.99


def test_the_real_image_folder(data_dir):
    parts = open_parts(data_dir / "cifar10", 32, val_fraction=0.1)
    assert (len(parts.train), len(parts.val), len(parts.test)) == (3600, 400, 1000)
    assert len(parts.train.classes) == 10 and parts.train.classes[0] == "airplane"
    image = parts.test.subset([0]).decoded().images[0]
    truth = np.array(Image.open(parts.test.items[0]).convert("RGB"))
    assert torch.equal(image.permute(1, 2, 0), torch.from_numpy(truth))
