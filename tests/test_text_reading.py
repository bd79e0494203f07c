"""Texts from files, with their ids, labels and errors that name file and line; and a vocabulary learned from them."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gpuaug.data import DataError
from gpuaug.text.reading import TextParts, open_parts, read

ROWS = [("a cat, sat", "pets"), ('he said "no"', "talk"), ("two\nlines", "pets"), ("a cat, sat", "talk")]


def as_csv(path: Path, head: str = "text,category", delimiter: str = ",") -> Path:
    quoted = [delimiter.join('"' + field.replace('"', '""') + '"' for field in row) for row in ROWS]
    path.write_text("\ufeff" + "\r\n".join([head, *quoted, ""]), encoding="utf-8", newline="")
    return path


def as_jsonl(path: Path) -> Path:
    path.write_text("".join(json.dumps({"label": label, "text": text}) + "\n\n" for text, label in ROWS))
    return path


def as_parquet(path: Path) -> Path:
    parquet = pytest.importorskip("pyarrow.parquet", reason="reading Parquet needs pyarrow")
    from pyarrow import table

    parquet.write_table(table({"Text": [r[0] for r in ROWS], "class": [r[1] for r in ROWS]}), path)
    return path


@pytest.mark.parametrize(
    "make, name",
    [
        (as_csv, "a.csv"),
        (lambda path: as_csv(path, "text\tlabel", "\t"), "a.tsv"),
        (lambda path: as_csv(path, "Sentence;Class", ";"), "a.csv"),
        (as_jsonl, "a.jsonl"),
        (as_parquet, "a.parquet"),
    ],
)
def test_formats(make: Callable[[Path], Path], name: str, tmp_path: Path) -> None:
    found = read(make(tmp_path / name))
    assert list(found.texts) == [text for text, _ in ROWS] and found.classes == ("pets", "talk")
    assert found.labels.tolist() == [0, 1, 0, 1] and len(found) == 4
    assert torch.equal(found.ids, read(as_csv(tmp_path / "other.csv")).ids), "one text, one id, in all formats"
    assert len(set(found.ids.tolist())) == 4, "equal texts have ids of their own"


def test_ids_stay_in_another_order(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\nx\ny\nz\n")
    (tmp_path / "b.csv").write_text("text\nz\nx\n")
    (tmp_path / "c.csv").write_text("id,text\n7,z\n9,x\n")
    first, second, own = (read(tmp_path / f"{name}.csv") for name in "abc")
    assert first.ids[[2, 0]].tolist() == second.ids.tolist() and own.ids.tolist() == [7, 9]
    assert first.labels is None and first.classes == ()


def test_parts_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "Training.csv").write_text("text,class\na,x\nb,y\nc,z\n")
    (tmp_path / "dev.jsonl").write_text('{"text": "d", "class": "z"}\n')
    (tmp_path / "notes.txt").write_text("no data")
    parts = open_parts(tmp_path)
    assert isinstance(parts, TextParts) and parts.test is None
    assert parts.val.labels.tolist() == [2] and parts.val.classes == ("x", "y", "z")
    assert open_parts(tmp_path / "Training.csv").train.texts == ("a", "b", "c")
    (tmp_path / "test.csv").write_text("text,class\na,x\nb,w\n")
    with pytest.raises(DataError, match=r"test\.csv.*'w'"):
        open_parts(tmp_path)


def test_a_few_of_each_class(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"t{i},{i % 3}\n" for i in range(60)) + "rare,3\n")
    found = read(tmp_path / "a.csv")
    few = found.each(5, seed=1)
    assert few.labels.bincount().tolist() == [5, 5, 5, 1] and few.each(99).texts == few.texts
    assert few.texts != found.each(5, seed=2).texts
    places = [found.texts.index(text) for text in few.texts]
    assert places == sorted(places) and torch.equal(found.ids[places], few.ids)


def test_real_data(data_dir: Path) -> None:
    folder = data_dir / "text" / "banking77"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}: set GPUAUG_DATA to the folder of the real data")
    parts = open_parts(folder)
    assert len(parts.train.classes) == 77 and parts.val is None
    for part, name in ((parts.train, "train"), (parts.test, "test")):
        with open(folder / f"{name}.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(part.texts) == [row["text"] for row in rows]
        assert [part.classes[k] for k in part.labels] == [row["category"] for row in rows]
    assert parts.train.classes == parts.test.classes and len(set(parts.train.ids.tolist())) == len(parts.train)


BROKEN = {
    "no such file": (None, {}, ["no such file"]),
    "an unknown ending": ("a.txt", {}, [".csv"]),
    "empty": ("", {}, ["empty"]),
    "no samples": ("text,label\n", {}, ["no samples"]),
    "no text": ("text,label\na,x\n,y\n", {}, ["line 3", "text"]),
    "no label": ("text,label\na,x\nb,\n", {}, ["line 3", "label"]),
    "too few": ("text,label\na,x\n\nb\n", {}, ["line 4", "fewer"]),
    "too many": ("text,label\na,x\nb, c,y\n", {}, ["line 3", "more", "quotes"]),
    "an open quote": ('text,label\na,x\n"b,y\n', {}, ["line 3", "quotes"]),
    "after a text of lines": ('text,label\n"a\nb\nc",x\n,y\n', {}, ["line 5", "text"]),
    "no column": ("phrase,mood\na,x\n", {}, ["phrase, mood", "columns="]),
    "a column that is not there": ("phrase,mood\na,x\n", {"columns": {"text": "words"}}, ["'words'", "phrase"]),
    "a kind that is none": ("text\na\n", {"columns": {"txt": "text"}}, ["'txt'"]),
    "another class": ("text,label\na,x\n", {"classes": ["y"]}, ["'x'"]),
    "an id": ("id,text\n-1,a\n", {}, ["line 2", "'-1'"]),
    "two of one id": ("id,text\n1,a\n1,b\n", {}, ["same id 1"]),
    "no UTF-8": (b"text,label\na,x\nb\xff,y\n", {}, ["line 3", "UTF-8"]),
}
BROKEN_JSON = {
    "no JSON": ('{"text": "a"}\n{text: "b"}\n', ["line 2", "JSON"]),
    "no object": ('{"text": "a"}\n["b"]\n', ["line 2", "object"]),
    "a number": ('{"text": "a"}\n{"text": 5}\n', ["line 2", "text"]),
}


@pytest.mark.parametrize("name", [*BROKEN, *BROKEN_JSON])
def test_broken_files(name: str, tmp_path: Path) -> None:
    content, keywords, told = BROKEN[name] if name in BROKEN else (BROKEN_JSON[name][0], {}, BROKEN_JSON[name][1])
    path = tmp_path / ("a.csv" if name in BROKEN else "a.jsonl")
    if content == "a.txt":
        path = tmp_path / content
    elif content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        read(path, **keywords)
    assert all(word in str(caught.value) for word in [str(path), *told]) and "\n" not in str(caught.value)


def test_broken_folders(tmp_path: Path) -> None:
    for files, told in (([], "no train.csv"), (["train.csv", "train.jsonl"], "both"), (["test.csv"], "no train.csv")):
        folder = tmp_path / "-".join(["of", *files])
        folder.mkdir()
        for name in files:
            (folder / name).write_text("text\na\n")
        with pytest.raises(DataError, match=told):
            open_parts(folder)
    with pytest.raises(DataError, match="no such file or folder"):
        open_parts(tmp_path / "nowhere")


# --- a vocabulary -----------------------------------------------------------------------------------------------------
SENTENCES = ["The cat sat on the mat.", "A cat, a mat and the cat's hat!", "Where is my Café card?"] * 3
LEARN = "import json, sys; from gpuaug.text import BPETokenizer as T; "
LEARN += "print(json.dumps(T.learn(json.loads(sys.argv[1]), 90).get_vocab(), sort_keys=True))"


@pytest.fixture
def tokenizer():
    pytest.importorskip("tokenizers", reason="the extra text is not installed")
    from gpuaug.text import BPETokenizer

    return BPETokenizer.learn(SENTENCES, 90)


def test_vocabulary(tokenizer, tmp_path: Path) -> None:
    assert len(tokenizer) <= 90 and tokenizer.all_special_ids == [0, 1, 2, 3, 4]
    assert "▁cat" in tokenizer.get_vocab() and "▁the" in tokenizer.get_vocab()
    out = tokenizer(["the cat", "zebra € on the mat"])
    assert out["input_ids"].shape == out["attention_mask"].shape and (out["input_ids"][:, 0] == 2).all()
    assert out["input_ids"][0][out["attention_mask"][0] == 1][-1] == 3 and (out["input_ids"] == 1).any()
    assert tokenizer.decode(out["input_ids"][:1]) == ["the cat"]
    pair = tokenizer(["the cat"], ["on the mat"])
    assert pair["token_type_ids"].max() == 1 and (pair["input_ids"] == 3).sum() == 2
    assert tokenizer(["the cat sat on the mat"], max_length=4)["input_ids"].shape == (1, 4)
    assert tokenizer([])["input_ids"].shape == (0, 0)
    tokenizer.save(tmp_path / "tokenizer.json")
    again = type(tokenizer).load(tmp_path / "tokenizer.json")
    assert again.get_vocab() == tokenizer.get_vocab() and again.all_special_ids == tokenizer.all_special_ids
    (tmp_path / "other.json").write_text("{}")
    for name in ("other.json", "missing.json"):
        with pytest.raises(DataError, match=name):
            type(tokenizer).load(tmp_path / name)
    with pytest.raises(TypeError, match="list"):
        tokenizer("the cat")


def test_the_same_texts_give_the_same_vocabulary(tokenizer) -> None:
    """In another process, whose hashes are others."""
    done = subprocess.run(
        [sys.executable, "-c", LEARN, json.dumps(SENTENCES)], capture_output=True, text=True, check=True, timeout=120
    )
    assert json.loads(done.stdout) == tokenizer.get_vocab()
