"""Sources of every form: the same ids, labels and pixels; errors that name the mend."""

from __future__ import annotations

import csv as csv_of_python
import hashlib
import io
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("PIL", reason="images are judged by Pillow")

from pets import NAMES  # noqa: E402
from PIL import Image  # noqa: E402

import gpuaug.data.tables as tables  # noqa: E402
from gpuaug.data import (  # noqa: E402
    DataError,
    Source,
    arrays,
    coco,
    csv,
    dataset,
    folder,
    jsonl,
    masks,
    parquet,
    read,
    tar,
    voc,
)
from gpuaug.data.sources import id_of  # noqa: E402


def told(source: Source) -> dict[int, tuple]:
    """What a source says, by id: label, class, pixels."""
    labels = [None] * len(source) if source.labels is None else source.labels.tolist()
    return {
        one: (label, source.classes, read(item).tobytes())
        for one, label, item in zip(source.ids.tolist(), labels, source.items, strict=True)
    }


# --- the same from everywhere -----------------------------------------------------------------------------------------
def as_csv(pets: Path) -> Source:
    with open(pets / "all.csv", "w", newline="") as file:
        writer = csv_of_python.writer(file)
        writer.writerows([("label", "path"), *((name.split("/")[0], name) for name in reversed(NAMES))])
    return csv(pets / "all.csv")


def as_jsonl(pets: Path) -> Source:
    lines = [json.dumps({"path": f"./{name}", "label": name.split("/")[0]}) for name in NAMES]
    (pets.parent / "all.jsonl").write_text("\n".join(lines) + "\n\n")
    return jsonl(pets.parent / "all.jsonl", root=pets)


def as_tar(pets: Path) -> Source:
    for k in (0, 1):
        with tarfile.open(pets.parent / f"shard-{k}.tar", "w") as file:
            for name in NAMES[k::2]:
                file.add(pets / name, name)
    return tar(pets.parent)


def table(pets: Path, names=NAMES, **extra):
    pa = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    images = [{"bytes": (pets / name).read_bytes(), "path": name} for name in names]
    return pa, pa.table({"image": images, "label": [name.split("/")[0] for name in names], **extra})


def as_parquet(pets: Path) -> Source:
    table(pets)
    import pyarrow.parquet as pq

    for k in (0, 1):
        pq.write_table(table(pets, NAMES[k::2])[1], pets.parent / f"{k}.parquet")
    return parquet([pets.parent / "0.parquet", pets.parent / "1.parquet"])


def as_spilled(pets: Path, monkeypatch) -> Source:
    monkeypatch.setattr(tables, "IN_MEMORY", 0)
    return as_parquet(pets)


def as_arrow(pets: Path) -> Source:
    pa, one = table(pets)
    with pa.OSFile(str(pets.parent / "a.arrow"), "wb") as sink, pa.ipc.new_stream(sink, one.schema) as writer:
        writer.write_table(one, max_chunksize=3)
    return parquet(pets.parent / "a.arrow")


def as_feather(pets: Path) -> Source:
    pa, one = table(pets)
    with pa.OSFile(str(pets.parent / "b.arrow"), "wb") as sink, pa.ipc.new_file(sink, one.schema) as writer:
        writer.write_table(one)
    return parquet(pets.parent / "b.arrow")


def as_torchvision(pets: Path) -> Source:
    datasets = pytest.importorskip("torchvision.datasets", reason="one of its data sets")
    endings = (".jpg", ".png", ".jfif", ".webp")
    return dataset(datasets.ImageFolder(pets, is_valid_file=lambda path: path.lower().endswith(endings)))


FORMS = [as_csv, as_jsonl, as_tar, as_parquet, as_spilled, as_arrow, as_feather, as_torchvision]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_ids_labels_and_pixels_are_the_same_from_everywhere(pets, form, monkeypatch):
    truth = told(folder(pets))
    assert len(truth) == 8
    source = form(pets, monkeypatch) if form is as_spilled else form(pets)
    assert told(source) == truth
    some = source.subset([5, 0, 3])
    assert told(some).items() <= truth.items() and some.ids.tolist() == source.ids[[5, 0, 3]].tolist()
    assert told(some.subset([2])).items() <= told(some).items()


def test_an_id_is_a_hash_of_the_path(pets):
    digest = hashlib.blake2b(b"cat/0.jpg", digest_size=8).digest()
    assert id_of("cat/0.jpg") == int.from_bytes(digest, "big") >> 1 == id_of("./cat//0.jpg") == id_of("cat/x/../0.jpg")
    assert id_of("caf\u00e9.jpg") == id_of("cafe\u0301.jpg")
    source = folder(pets)
    assert source.ids.tolist() == [id_of(name) for name in sorted(NAMES, key=lambda name: Path(name).parts)]
    cwd = Path.cwd()
    try:
        os.chdir(pets)
        assert torch.equal(folder(".").ids, source.ids)
    finally:
        os.chdir(cwd)


def test_two_samples_of_one_id_are_refused(tmp_path, pets, monkeypatch):
    (tmp_path / "a.csv").write_text("path,id\npets/cat/0.jpg,7\npets/cat/1.png,7\n")
    with pytest.raises(DataError, match=r"a\.csv: pets/cat/0\.jpg and pets/cat/1\.png have the same id 7; remove one"):
        csv(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("path\npets/cat/0.jpg\npets/cat/0.jpg\n")
    with pytest.raises(DataError, match="have the same id"):
        csv(tmp_path / "a.csv")
    monkeypatch.setattr("gpuaug.data.sources.id_of", lambda path: 5)
    with pytest.raises(DataError, match="have the same id 5"):
        folder(pets)


def test_a_column_of_ids_wins(pets, tmp_path):
    (pets / "a.csv").write_text("file;id;class\ncat/0.jpg;41;b\ndog/0.jpg;9223372036854775807;a\n")
    source = csv(pets / "a.csv")
    assert source.ids.tolist() == [41, 2**63 - 1] and source.classes == ("a", "b") and source.labels.tolist() == [1, 0]
    for odd in ("-1", "9223372036854775808", "x", ""):
        (pets / "a.csv").write_text(f"file,id\ncat/0.jpg,{odd}\n")
        with pytest.raises(DataError, match="an id is a whole number in 0"):
            csv(pets / "a.csv")


# --- labels -----------------------------------------------------------------------------------------------------------
def test_labels_several_and_none(pets):
    (pets / "a.csv").write_text("path,labels\ncat/0.jpg,fur;tail\ncat/1.png,\ndog/0.jpg,tail\n")
    source = csv(pets / "a.csv")
    assert source.classes == ("fur", "tail") and source.labels.dtype == torch.float32
    assert source.labels.tolist() == [[1, 1], [0, 0], [0, 1]]
    rest, part = source.split(0.4, seed=0)
    assert len(rest) == 2 and len(part) == 1 and sorted([*rest.ids.tolist(), *part.ids.tolist()]) == sorted(source.ids)
    (pets / "a.jsonl").write_text('{"image": "cat/0.jpg", "labels": [2, 10]}\n{"image": "dog/0.jpg", "labels": [2]}')
    assert jsonl(pets / "a.jsonl").labels.tolist() == [[1, 1], [1, 0]]
    assert jsonl(pets / "a.jsonl").classes == ("2", "10")
    (pets / "b.csv").write_text("path\ncat/0.jpg\n")
    assert csv(pets / "b.csv").labels is None
    with pytest.warns(UserWarning, match="2 .csv, 1 .jsonl"):
        plain = folder(pets, labelled=False)
    assert plain.labels is None and len(plain) == 8 and set(plain.ids.tolist()) == set(folder(pets).ids.tolist())


def test_numbers_label_themselves_and_parts_share_classes(pets):
    (pets / "a.csv").write_text(
        "path,label,split\ncat/0.jpg,0,Training\ncat/1.png,10,train\ndog/0.jpg,2,VAL\ndog/1.png,1,testing\n"
    )
    train, val = (csv(pets / "a.csv", split=part) for part in ("train", "valid"))
    assert train.classes == val.classes == ("0", "1", "2", "10")
    assert train.labels.tolist() == [0, 3] and val.labels.tolist() == [2]
    assert csv(pets / "a.csv", split="test").labels.tolist() == [1]
    named = csv(
        pets / "a.csv", split="test", columns={"label": "split"}, classes=["train", "Training", "VAL", "testing"]
    )
    assert named.labels.tolist() == [3]
    with pytest.raises(DataError, match="the label '10' is not among the classes 0, 1, 2"):
        csv(pets / "a.csv", classes=["0", "1", "2"])
    with pytest.raises(DataError, match="no samples of the part 'extra'; its parts are Training, VAL, testing, train"):
        csv(pets / "a.csv", split="extra")


def test_tables_that_are_wrong(pets, tmp_path):
    def wrong(text: str, match: str, **keywords) -> None:
        (pets / "a.csv").write_text(text)
        with pytest.raises(DataError, match=match):
            csv(pets / "a.csv", **keywords)

    wrong("photo,label\nx,1\n", "no column of paths among photo, label; name it: columns=")
    wrong("path,label\ncat/0.jpg,1\ncat/1.png\n", "line 3 has fewer columns than the head line")
    wrong("path,label\ncat/0.jpg,1\ncat/1.png,\n", "sample 1 has no label, and others have")
    wrong("path,label\n", "no samples")
    wrong("path\nhorse/0.jpg\n", r"the first image, .*0\.jpg, is not there; name the folder of the images: root=")
    wrong("path\ncat/0.jpg\n", "no column split, so there is no 'train' in it", split="train")
    wrong("path\ncat/0.jpg\n", "no column 'klass' among path", columns={"label": "klass"})
    with pytest.raises(DataError, match=r"gone\.csv: cannot be read as CSV"):
        csv(pets / "gone.csv")
    (pets / "a.jsonl").write_text('{"path": "cat/0.jpg"}\n{"path": \n')
    with pytest.raises(DataError, match=r"a\.jsonl: line 2 is no JSON"):
        jsonl(pets / "a.jsonl")
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    (pets / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"a\.parquet: cannot be read as Parquet or Arrow"):
        parquet(pets / "a.parquet")
    with pytest.raises(DataError, match=r"gone\.parquet: no such file"):
        parquet(pets / "gone.parquet")


def test_a_table_without_paths_counts_rows(pets):
    pa, one = table(pets, part=["a"] * 4 + ["b"] * 4)
    import pyarrow.parquet as pq

    plain = pa.table({"img": one["image"].combine_chunks().field("bytes"), "split": ["train"] * 5 + ["dev"] * 3})
    pq.write_table(plain, pets.parent / "plain.parquet")
    source = parquet(pets.parent / "plain.parquet", split="val")
    assert source.ids.tolist() == [5, 6, 7] and source.labels is None
    assert np.array_equal(read(source.items[0]), read(pets / NAMES[5]))
    names = {
        "huggingface": json.dumps({"info": {"features": {"label": {"_type": "ClassLabel", "names": ["no", "yes"]}}}})
    }
    marked = pa.table({"image": plain["img"], "label": [1, 1, 0, 1, 1, 1, 1, 1]}).replace_schema_metadata(names)
    pq.write_table(marked, pets.parent / "marked.parquet")
    assert parquet(pets.parent / "marked.parquet").classes == ("no", "yes")


# --- tars -------------------------------------------------------------------------------------------------------------
def pack(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as file:
        for name, data in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            file.addfile(about, io.BytesIO(data))
    return path


def test_a_tar_with_classes_and_json(pets, tmp_path):
    image = (pets / NAMES[0]).read_bytes()
    pack(tmp_path / "a.tar", {"0.jpg": image, "0.cls": b"1", "1.jpg": image, "1.cls": b"0", "._1.jpg": b"x"})
    source = tar(tmp_path / "a.tar")
    assert source.labels.tolist() == [1, 0] and source.ids.tolist() == [id_of("0.jpg"), id_of("1.jpg")]
    pack(
        tmp_path / "b.tar",
        {"x.json": b'{"id": 12, "labels": ["a", "b"]}', "x.jpg": image, "y.jpg": image, "y.json": b'{"id": 3}'},
    )
    source = tar(tmp_path / "b.tar")
    assert (
        source.ids.tolist() == [12, 3] and source.labels.tolist() == [[1, 1], [0, 0]] and source.classes == ("a", "b")
    )
    pack(tmp_path / "c.tar", {"x.jpg": image, "x.txt": b"a cat", "y.mp3": b""})
    with pytest.warns(UserWarning, match="left out, being no images: 1 .txt, 1 .mp3"):
        assert tar(tmp_path / "c.tar").left_out == {".txt": 1, ".mp3": 1}


def test_tars_that_are_wrong(pets, tmp_path):
    image = (pets / NAMES[0]).read_bytes()
    whole = pack(tmp_path / "a.tar", {"0.jpg": image, "1.jpg": image}).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(image) + 700])
    with pytest.raises(DataError, match=r"cut\.tar: (damaged tar|no tar)"):
        tar(tmp_path / "cut.tar")
    pack(tmp_path / "a.tgz", {"0.jpg": image}, "w:gz")
    with pytest.raises(DataError, match=r"a\.tgz: no tar, or a compressed one .*unpack it to \.tar"):
        tar(tmp_path / "a.tgz")
    with pytest.raises(DataError, match="0.jpg and 0.jpg have the same id|second image of one name"):
        tar([tmp_path / "a.tar", tmp_path / "a.tar"])
    pack(tmp_path / "none.tar", {"0.cls": b"1"})
    with pytest.raises(DataError, match=r"none\.tar: no images in this tar"):
        tar(tmp_path / "none.tar")
    with pytest.raises(DataError, match=r"gone\.tar: no such file"):
        tar(tmp_path / "gone.tar")
    source = tar(tmp_path / "a.tar")
    (tmp_path / "a.tar").write_bytes(whole[: len(image)])
    with pytest.raises(DataError, match=r"a\.tar: 1\.jpg: "):
        read(source.items[1])


# --- arrays and datasets ----------------------------------------------------------------------------------------------
def test_arrays_of_any_layout(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 9, 3), dtype=np.uint8)
    labels = np.array([[3], [1], [0], [2], [3]])
    np.save(tmp_path / "a.npy", pixels)
    np.savez(
        tmp_path / "a.npz", train_images=pixels, train_labels=labels, test_images=pixels[:2], test_labels=labels[:2]
    )
    for source in (
        arrays(pixels, labels),
        arrays(pixels.transpose(0, 3, 1, 2), labels),
        arrays(torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(labels[:, 0])),
        arrays(tmp_path / "a.npy", labels),
        arrays(tmp_path / "a.npz", split="train"),
    ):
        assert all(np.array_equal(read(item), one) for item, one in zip(source.items, pixels, strict=True))
        assert source.labels.tolist() == [3, 1, 0, 2, 3] and source.ids.tolist() == list(range(5))
        assert source.classes == ("0", "1", "2", "3")
    grey = arrays(pixels[..., 0], ids=[4, 3, 2, 1, 0])
    assert np.array_equal(read(grey.items[1]), pixels[1, ..., :1].repeat(3, 2)) and grey.ids.tolist() == [4, 3, 2, 1, 0]
    several = arrays(pixels, np.eye(5, 2))
    assert several.labels.dtype == torch.float32 and several.classes == ("0", "1")
    with pytest.raises(DataError, match='both axes could be channels; say layout="NHWC" or layout="NCHW"'):
        arrays(pixels[:, :3])
    assert read(arrays(pixels[:, :3], layout="NHWC").items[0]).shape == (3, 9, 3)
    with pytest.raises(DataError, match="float32"):
        arrays(pixels.astype(np.float32))
    with pytest.raises(DataError, match=r"a\.npz: no images among train_images"):
        arrays(tmp_path / "a.npz")
    with pytest.raises(DataError, match="5 items, and 3 labels"):
        arrays(pixels, [0, 1, 1])


class Own(torch.utils.data.Dataset):
    def __init__(self, paths: list[Path], form) -> None:
        self.paths, self.form, self.asked = paths, form, 0

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int):
        self.asked += 1
        return self.form(self.paths[i])


def test_any_map_style_dataset(pets):
    paths = [pets / name for name in NAMES]
    labels = [0, 0, 0, 0, 1, 1, 1, 1]
    forms = (
        lambda path: (Image.open(path), 3),
        lambda path: {"image": torch.from_numpy(read(path).copy()).permute(2, 0, 1)},
        lambda path: read(path),
        lambda path: (path.read_bytes(), "label"),
        lambda path: (str(path), "label"),
    )
    for form in forms:
        own = Own(paths, form)
        source = dataset(own, labels=labels, classes=("cat", "dog"))
        assert own.asked == 0 and source.ids.tolist() == list(range(8)) and source.labels.tolist() == labels
        assert all(np.array_equal(read(item), read(path)) for item, path in zip(source.items, paths, strict=True))
    part = dataset(torch.utils.data.Subset(own, [6, 2]), labels=labels)
    assert part.ids.tolist() == [6, 2] and part.labels.tolist() == [1, 0]
    assert np.array_equal(read(part.items[0]), read(paths[6]))
    with pytest.raises(DataError, match=r"Own tells no labels \(targets\); give them"):
        dataset(own)
    assert dataset(own, labels=False).labels is None

    def broken(path):
        raise KeyError("no such key")

    with pytest.raises(DataError, match=r"Own\[1\]: .*no such key"):
        read(dataset(Own(paths, broken), labels=labels).items[1])


def test_hugging_faces_datasets(pets):
    datasets = pytest.importorskip("datasets", reason="Hugging Face's datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    rows = {"image": [str(pets / name) for name in NAMES], "label": [0] * 4 + [1] * 4}
    source = dataset(datasets.Dataset.from_dict(rows, features))
    assert source.classes == ("cat", "dog") and source.labels.tolist() == rows["label"]
    assert all(np.array_equal(read(item), read(pets / name)) for item, name in zip(source.items, NAMES, strict=True))


# --- boxes and masks --------------------------------------------------------------------------------------------------
def test_coco_voc_and_masks(data_dir):
    cells = data_dir / "blood_cells" / "train"
    boxes, xmls = coco(cells), voc(cells)
    assert len(boxes) == len(xmls) == len(boxes.targets) == 220
    assert set(boxes.ids.tolist()) == set(xmls.ids.tolist()) and set(boxes.classes) == set(xmls.classes)
    by_id = dict(zip(boxes.ids.tolist(), boxes.targets, strict=True))
    for one, target in zip(xmls.ids.tolist(), xmls.targets, strict=True):
        other = by_id[one]
        if len(target.boxes) > len(other.boxes):  # one pixel in the XML, no area in the JSON
            kept = (target.boxes[:, 2:] - target.boxes[:, :2] > 1).all(1)
            target = replace(
                target,
                boxes=target.boxes[kept],
                labels=[k for k, keep in zip(target.labels, kept, strict=True) if keep],
            )
        assert target.path.name == other.path.name and len(target.boxes) == len(other.boxes)
        names = sorted(target.classes[k] for k in target.labels)
        assert names == sorted(other.classes[k] for k in other.labels)
        if len(target.boxes):
            assert np.abs(np.sort(target.boxes, 0) - np.sort(other.boxes, 0)).max() <= 1
    nuclei = masks(data_dir / "nuclei" / "train").subset([3, 1])
    target = nuclei.targets[0]
    assert target.path == nuclei.items[0] and target.masks.max() > 255 or target.masks.max() > 3
    assert target.masks.shape == read(nuclei.items[0]).shape[:2]


def test_what_is_known_of_turned_images_is_turned(tmp_path):
    tag = Image.Exif()
    tag[0x0112] = 6
    (tmp_path / "images").mkdir(), (tmp_path / "masks").mkdir(), (tmp_path / "annotations").mkdir()
    Image.new("RGB", (30, 20)).save(tmp_path / "images" / "a.jpg", exif=tag)
    mask = np.arange(600, dtype=np.uint8).reshape(20, 30)
    Image.fromarray(mask).save(tmp_path / "masks" / "a.png", exif=tag)
    assert np.array_equal(masks(tmp_path).targets[0].masks, np.rot90(mask, -1))
    (tmp_path / "annotations" / "a.xml").write_text(
        "<annotation><object><name>x</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>5</xmax><ymax>9</ymax></bndbox>"
        "</object></annotation>"
    )
    assert voc(tmp_path).targets[0].boxes.tolist() == [[0, 1, 5, 9]]
    (tmp_path / "annotations" / "a.xml").write_text("<annotation><object></object></annotation>")
    with pytest.raises(DataError, match=r"a\.xml: not VOC's format"):
        voc(tmp_path)
    with pytest.raises(DataError, match="no folder Annotations or annotations in it"):
        voc(tmp_path / "images", images=".")
